//! The whole interface below `/api/v1`, put together, and its description.

use utoipa::openapi::{InfoBuilder, OpenApi, OpenApiBuilder};
use utoipa_axum::router::OpenApiRouter;

use crate::state::AppState;
use crate::{chat, events, jobs, runs};

/// All routes below `/api/v1` with their description.
pub(crate) fn api() -> OpenApiRouter<AppState> {
    OpenApiRouter::with_openapi(description())
        .merge(events::router())
        .merge(jobs::router())
        .merge(runs::router())
        .merge(chat::router())
}

/// The description as JSON text, for tools that make clients from it.
pub fn openapi_json() -> String {
    let (_, description) = api().split_for_parts();
    // Maps and texts only: this cannot fail.
    description.to_pretty_json().unwrap_or_default()
}

fn description() -> OpenApi {
    let info = InfoBuilder::new().title("Tunesmith studio").version("1").build();
    OpenApiBuilder::new().info(info).build()
}
