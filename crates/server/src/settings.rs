//! Settings of the studio: a few of its own, and changed defaults of experiment fields.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use serde_json::{Map, Value, json};
use tunesmith_config::ExperimentConfig;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::error::{ApiError, ApiResult};
use crate::schema::text_of;
use crate::state::AppState;

const MAX_UPLOAD_BYTES: u64 = 10_000_000_000;
/// Before the path of a field whose default is another here.
const DEFAULT: &str = "default.";

/// A setting and what it takes.
struct Setting {
    name: &'static str,
    default: fn() -> Value,
    is_valid: fn(&Value) -> bool,
    expected: &'static str,
}

const SETTINGS: &[Setting] = &[
    Setting {
        name: "max_upload_bytes",
        default: || json!(MAX_UPLOAD_BYTES),
        is_valid: |value| is_within(value, 1_000, 1 << 50),
        expected: "a number of bytes",
    },
    Setting {
        name: "runs_per_device",
        default: || json!(1),
        is_valid: |value| is_within(value, 1, 64),
        expected: "a whole number from 1 to 64",
    },
    Setting {
        name: "queue_paused",
        default: || json!(false),
        is_valid: Value::is_boolean,
        expected: "true or false",
    },
    Setting {
        name: "theme",
        default: || json!("system"),
        is_valid: |value| matches!(value.as_str(), Some("system" | "light" | "dark")),
        expected: "system, light or dark",
    },
    Setting {
        name: "chat_device",
        default: || json!("auto"),
        is_valid: |value| value.as_str().is_some_and(is_device),
        expected: "auto, cpu, cuda, metal or vulkan; cuda:1 is the second of several",
    },
    Setting {
        name: "max_chart_points",
        default: || json!(1_000),
        is_valid: |value| is_within(value, 10, 10_000),
        expected: "a whole number from 10 to 10000",
    },
    Setting {
        name: "confirm_deletes",
        default: || json!(true),
        is_valid: Value::is_boolean,
        expected: "true or false",
    },
];

/// All settings.
#[derive(Debug, Serialize, ToSchema)]
struct SettingsAnswer {
    /// By name; `cache_dir` is only shown, `default.<field>` only there when changed.
    values: Map<String, Value>,
    /// The file they are kept in.
    #[serde(rename = "where")]
    place: String,
}

/// The routes of this module.
pub(crate) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(show, change))
}

/// All settings
#[utoipa::path(get, path = "/settings",
    operation_id = "show_settings", tag = "settings", responses((status = 200, body = SettingsAnswer)))]
async fn show(State(state): State<AppState>) -> ApiResult<Json<SettingsAnswer>> {
    Ok(Json(answer(&state)?))
}

/// Change some; `null` takes one back to its default
#[utoipa::path(patch, path = "/settings",
    operation_id = "change_settings", tag = "settings", request_body = BTreeMap<String, Value>,
    responses((status = 200, body = SettingsAnswer)))]
async fn change(
    State(state): State<AppState>,
    Json(changes): Json<Map<String, Value>>,
) -> ApiResult<Json<SettingsAnswer>> {
    let mut accepted = BTreeMap::new();
    for (name, value) in changes {
        if !value.is_null() {
            check(&name, &value)?;
        }
        accepted.insert(name, (!value.is_null()).then_some(value));
    }
    state.store.change_settings(&accepted)?;
    Ok(Json(answer(&state)?))
}

fn check(name: &str, value: &Value) -> ApiResult<()> {
    let refused = |message: String| ApiError::invalid(message).details(json!({"field": name}));
    if let Some(path) = name.strip_prefix(DEFAULT) {
        return ExperimentConfig::default()
            .set(path, &text_of(value))
            .map_err(|error| refused(error.to_string()));
    }
    if name == "cache_dir" {
        return Err(refused("the folder of models is chosen when the studio starts".to_owned())
            .hint("set TUNESMITH_CACHE and start the studio again"));
    }
    match SETTINGS.iter().find(|setting| setting.name == name) {
        Some(setting) if (setting.is_valid)(value) => Ok(()),
        Some(setting) => Err(refused(format!("{name} is {}", setting.expected))),
        None => Err(refused(format!("there is no setting {name}"))),
    }
}

fn answer(state: &AppState) -> ApiResult<SettingsAnswer> {
    let mut values: Map<String, Value> =
        SETTINGS.iter().map(|setting| (setting.name.to_owned(), (setting.default)())).collect();
    values.insert("cache_dir".to_owned(), json!(state.cache_dir.display().to_string()));
    values.extend(state.store.settings()?);
    Ok(SettingsAnswer { values, place: state.workdir.database().display().to_string() })
}

/// Largest upload.
pub(crate) fn max_upload_bytes(state: &AppState) -> ApiResult<u64> {
    let stored = state.store.settings()?.get("max_upload_bytes").and_then(Value::as_u64);
    Ok(stored.unwrap_or(MAX_UPLOAD_BYTES))
}

fn is_within(value: &Value, min: u64, max: u64) -> bool {
    value.as_u64().is_some_and(|number| (min..=max).contains(&number))
}

fn is_device(name: &str) -> bool {
    match name.split_once(':') {
        None => matches!(name, "auto" | "cpu" | "cuda" | "metal" | "mps" | "vulkan"),
        Some((kind, number)) => matches!(kind, "cuda" | "vulkan") && number.parse::<u16>().is_ok(),
    }
}
