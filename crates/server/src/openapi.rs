//! The whole interface below `/api/v1`, put together, and its description.

use utoipa::openapi::{InfoBuilder, OpenApi, OpenApiBuilder};
use utoipa_axum::router::OpenApiRouter;

use crate::state::AppState;
use crate::{
    access, chat, datasets, events, files, jobs, machine, models, runs, schema, secrets, settings, storage,
};

/// All routes below `/api/v1` with their description.
pub(crate) fn api() -> OpenApiRouter<AppState> {
    OpenApiRouter::with_openapi(description())
        .merge(access::router())
        .merge(machine::router())
        .merge(events::router())
        .merge(jobs::router())
        .merge(files::router())
        .merge(datasets::router())
        .merge(schema::router())
        .merge(models::router())
        .merge(runs::router())
        .merge(chat::router())
        .merge(settings::router())
        .merge(secrets::router())
        .merge(storage::router())
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
