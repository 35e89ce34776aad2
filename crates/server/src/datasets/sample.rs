//! The data set to begin with, and the model that goes with it: written and fetched by the program's own commands.

use std::fs;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::json;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::imports::make;
use super::record::free_name;
use super::settings::DataSettings;
use crate::error::{ApiError, ApiResult};
use crate::jobs::{Job, JobContext, JobKind};
use crate::runs::{last_words, run_to_end};
use crate::secrets::{HUGGING_FACE_TOKEN, random_hex};
use crate::state::AppState;

const NAME: &str = "Spoken commands (sample)";

/// The routes of this file.
pub(super) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(sample))
}

/// Write the sample data set and fetch the sample model
#[utoipa::path(post, path = "/datasets/sample", operation_id = "create_sample_dataset", tag = "datasets",
    responses((status = 202, description = "its result is {dataset_id, model}", body = Job)))]
async fn sample(State(state): State<AppState>) -> (StatusCode, Json<Job>) {
    let of_job = state.clone();
    let job = state.jobs.start(JobKind::Sample, "Sample data and model", move |context| {
        let dataset_id = match existing(&of_job)? {
            Some(id) => id,
            None => write(&of_job, context)?,
        };
        context.share(0.2);
        context.say("fetching the sample model, once");
        let text = run_program(&of_job, &["model", "pull", "demo", "--json"], context)?;
        let answer: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        Ok(json!({"dataset_id": dataset_id, "model": answer.get("model"), "model_path": answer.get("path")}))
    });
    (StatusCode::ACCEPTED, Json(job))
}

/// The sample of an earlier time.
fn existing(state: &AppState) -> ApiResult<Option<String>> {
    let mut records = state.store.datasets()?.into_iter();
    Ok(records.find(|record| record.source == SOURCE).map(|record| record.id))
}

const SOURCE: &str = "sample";

fn write(state: &AppState, context: &JobContext) -> ApiResult<String> {
    context.say("writing the sample data");
    let folder = state.workdir.uploads().join(format!("sample-{}", random_hex(12)?));
    let output = folder.display().to_string();
    let outcome = run_program(state, &["demo", "--data-only", "--output", &output], context).and_then(|_| {
        let settings = DataSettings {
            validation_table: None,
            validation_size: 0.05,
            layout: "columns".to_owned(),
            system_column: Some("system".to_owned()),
            prompt_columns: vec!["prompt".to_owned()],
            answer_column: Some("answer".to_owned()),
            ..DataSettings::of_table("train.jsonl")
        };
        make(state, &folder.join("data"), &free_name(state, NAME)?, settings, SOURCE)
    });
    fs::remove_dir_all(&folder).ok();
    Ok(outcome?.id)
}

/// Runs the program itself until it ends or the job is cancelled; the answer is what it prints.
///
/// # Errors
/// What it says when it fails.
pub(crate) fn run_program(state: &AppState, args: &[&str], context: &JobContext) -> ApiResult<String> {
    // A secret that cannot be read is told before anything is fetched without it.
    state.secrets.get(HUGGING_FACE_TOKEN)?;
    let ended = run_to_end(state, args, context)?;
    if ended.status.success() {
        return Ok(ended.stdout);
    }
    let last_line = || ended.stderr.lines().last().unwrap_or("the program broke off").to_owned();
    let (message, hint) = last_words(&ended.stderr).unwrap_or_else(|| (last_line(), None));
    Err(ApiError::invalid(message).hint_if(hint))
}
