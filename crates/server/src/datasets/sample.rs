//! The data set to begin with, and the model that goes with it: written and fetched by the program's own commands.

use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

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
use crate::secrets::{HUGGING_FACE_TOKEN, random_hex};
use crate::state::AppState;

const NAME: &str = "Spoken commands (sample)";
const PERIOD: Duration = Duration::from_millis(100);

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
    let mut command = Command::new(&state.program);
    command
        .args(args)
        .envs(crate::runs::environment(state))
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if let Some(token) = state.secrets.get(HUGGING_FACE_TOKEN)? {
        command.env("HF_TOKEN", token);
    }
    let mut child = command.spawn().map_err(|error| ApiError::io(&state.program, "start", &error))?;
    let read = |pipe: Option<Box<dyn Read + Send>>| {
        thread::spawn(move || {
            let mut text = Vec::new();
            if let Some(mut pipe) = pipe {
                pipe.read_to_end(&mut text).ok();
            }
            String::from_utf8_lossy(&text).into_owned()
        })
    };
    let stdout = read(child.stdout.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>));
    let stderr = read(child.stderr.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>));
    let status = loop {
        if context.is_cancelled() {
            child.kill().ok();
            child.wait().ok();
            return Err(ApiError::cancelled());
        }
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) => thread::sleep(PERIOD),
            Err(error) => return Err(ApiError::io(&state.program, "wait for", &error)),
        }
    };
    let (stdout, stderr) = (stdout.join().unwrap_or_default(), stderr.join().unwrap_or_default());
    if status.success() {
        return Ok(stdout);
    }
    let line = |mark: &str| stderr.lines().rev().find_map(|line| line.split_once(mark)).map(|(_, text)| text);
    let message = line("error: ").or_else(|| stderr.lines().last()).unwrap_or("the program broke off");
    let error = ApiError::invalid(message);
    Err(match line("hint: ") {
        Some(hint) => error.hint(hint),
        None => error,
    })
}
