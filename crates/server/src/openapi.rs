//! The whole interface below `/api/v1`, put together, and its description.
//!
//! The description is also the file `docs/openapi.json`, from which the web app's types are made.

use utoipa::openapi::{ComponentsBuilder, InfoBuilder, OpenApi, OpenApiBuilder};
use utoipa_axum::router::OpenApiRouter;

use crate::chat::{Done, Failed};
use crate::events::{Change, DatasetChange};
use crate::state::AppState;
use crate::{
    access, chat, datasets, events, files, jobs, machine, models, runs, schema, secrets, settings, storage,
};

/// All routes below `/api/v1` with their description.
pub(crate) fn api() -> OpenApiRouter<AppState> {
    parts().into_iter().fold(OpenApiRouter::with_openapi(description()), OpenApiRouter::merge)
}

fn parts() -> [OpenApiRouter<AppState>; 13] {
    [
        access::router(),
        machine::router(),
        events::router(),
        jobs::router(),
        files::router(),
        datasets::router(),
        schema::router(),
        models::router(),
        runs::router(),
        chat::router(),
        settings::router(),
        secrets::router(),
        storage::router(),
    ]
}

/// The description as JSON text, for tools that make clients from it.
pub fn openapi_json() -> String {
    let (_, description) = api().split_for_parts();
    // Maps and texts only: this cannot fail.
    description.to_pretty_json().unwrap_or_default()
}

/// What belongs to no route: title, and what event streams send.
fn description() -> OpenApi {
    let info = InfoBuilder::new().title("Tunesmith studio").version("1").build();
    let messages = ComponentsBuilder::new()
        .schema_from::<Change>()
        .schema_from::<DatasetChange>()
        .schema_from::<Done>()
        .schema_from::<Failed>();
    OpenApiBuilder::new().info(info).components(Some(messages.build())).build()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::Value;

    use super::*;

    fn operations() -> Vec<(String, Value)> {
        let description: Value = serde_json::from_str(&openapi_json()).unwrap();
        let paths = description["paths"].as_object().unwrap().clone();
        paths
            .into_iter()
            .flat_map(|(path, methods)| {
                let methods = methods.as_object().unwrap().clone();
                methods.into_iter().map(move |(_, operation)| (path.clone(), operation))
            })
            .collect()
    }

    /// Tools that make clients from the description name their functions by these.
    #[test]
    fn operation_ids_are_unique() {
        let mut known = BTreeMap::new();
        for (path, operation) in operations() {
            let id = operation["operationId"].as_str().unwrap().to_owned();
            if let Some(other) = known.insert(id.clone(), path.clone()) {
                panic!("{id} is at {other} and at {path}");
            }
        }
    }

    #[test]
    fn every_variable_part_of_an_address_is_described() {
        for (path, operation) in operations() {
            let described: Vec<&str> = operation["parameters"]
                .as_array()
                .into_iter()
                .flatten()
                .filter(|parameter| parameter["in"] == "path")
                .filter_map(|parameter| parameter["name"].as_str())
                .collect();
            let named: Vec<&str> =
                path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
            assert_eq!(described, named, "{path}");
        }
    }

    /// Of two types with one name, the description would keep only one.
    #[test]
    fn no_two_types_have_one_name() {
        let mut known: BTreeMap<String, Value> = BTreeMap::new();
        for part in parts() {
            let components = part.get_openapi().components.clone().unwrap_or_default();
            for (name, shape) in components.schemas {
                let shape = serde_json::to_value(shape).unwrap();
                let other = known.entry(name.clone()).or_insert_with(|| shape.clone());
                assert_eq!(*other, shape, "{name}");
            }
        }
    }

    /// With `TUNESMITH_BLESS=1` it writes the file instead.
    #[test]
    fn the_committed_description_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");
        let current = openapi_json() + "\n";
        if std::env::var_os("TUNESMITH_BLESS").is_some() {
            std::fs::write(path, &current).unwrap();
        }
        let committed = std::fs::read_to_string(path).unwrap_or_default().replace("\r\n", "\n");
        assert!(
            committed == current,
            "docs/openapi.json is not what the server describes. Write it anew with\n\
             TUNESMITH_BLESS=1 cargo test -p tunesmith-server --lib openapi; (cd web && npm run api)"
        );
    }
}
