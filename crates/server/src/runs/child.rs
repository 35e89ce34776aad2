//! The program itself as a child process: short questions, which need a tokenizer or a model's header, and jobs.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use axum::http::StatusCode;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::error::{ApiError, ApiResult};
use crate::jobs::JobContext;
use crate::state::AppState;

/// The program's exit codes that mean something here.
const EXIT_NETWORK: i32 = 5;
/// How often it is looked whether a job's process has ended, or its job was cancelled.
const PERIOD: Duration = Duration::from_millis(50);

/// Runs the program with these arguments and reads what it prints as JSON. The network is not touched: a model that is not on
/// this machine is an error with the code `model_missing`. The process ends with the request.
///
/// # Errors
/// What the program says when it fails, and when it takes too long.
pub(crate) async fn run_json(state: &AppState, args: &[String], patience: Duration) -> ApiResult<Value> {
    let mut command = Command::new(&state.program);
    command
        .args(args)
        .envs(super::environment(state))
        .envs([("HF_HUB_OFFLINE", "1"), ("PIP_NO_INDEX", "1"), ("NO_COLOR", "1")])
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(patience, command.output())
        .await
        .map_err(|_| {
            let message = format!("there was no answer within {} s", patience.as_secs());
            ApiError::new(StatusCode::GATEWAY_TIMEOUT, "timeout", message)
        })?
        .map_err(|error| ApiError::io(&state.program, "start", &error))?;
    if output.status.success() {
        let text = String::from_utf8_lossy(&output.stdout);
        return serde_json::from_str(&text)
            .map_err(|error| ApiError::internal(format!("the program's answer is no JSON: {error}")));
    }
    Err(refusal(output.status.code(), &String::from_utf8_lossy(&output.stderr)))
}

/// How the program ended, and what it printed.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs the program to its end, or ends it when the job is cancelled.
///
/// # Errors
/// It cannot be started, or was cancelled.
pub(crate) fn run_to_end(state: &AppState, args: &[&str], context: &JobContext) -> ApiResult<Ended> {
    let failed = |action: &'static str| move |error: io::Error| ApiError::io(&state.program, action, &error);
    // Into files: a pipe that nobody reads would stop a program that says much.
    let [stdout, stderr] = [tempfile::tempfile(), tempfile::tempfile()];
    let (mut stdout, mut stderr) = (stdout.map_err(failed("start"))?, stderr.map_err(failed("start"))?);
    let mut child = std::process::Command::new(&state.program)
        .args(args)
        .envs(super::environment(state))
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .stdout(stdout.try_clone().map_err(failed("start"))?)
        .stderr(stderr.try_clone().map_err(failed("start"))?)
        .spawn()
        .map_err(failed("start"))?;
    let status = loop {
        if context.is_cancelled() {
            child.kill().ok();
            child.wait().ok();
            return Err(ApiError::cancelled());
        }
        match child.try_wait().map_err(failed("wait for"))? {
            Some(status) => break status,
            None => std::thread::sleep(PERIOD),
        }
    };
    Ok(Ended { status, stdout: text_of(&mut stdout), stderr: text_of(&mut stderr) })
}

fn text_of(file: &mut File) -> String {
    let mut bytes = Vec::new();
    if file.seek(SeekFrom::Start(0)).and_then(|_| file.read_to_end(&mut bytes)).is_err() {
        return String::new();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The program's refusal, from how it ended and what it said.
pub(crate) fn refusal(exit_code: Option<i32>, stderr: &str) -> ApiError {
    let (message, hint) = last_words(stderr).unwrap_or_else(|| (first_line(stderr), None));
    let message = if message.is_empty() { "the program ended without a word".to_owned() } else { message };
    let error = match exit_code {
        Some(EXIT_NETWORK) => ApiError::new(StatusCode::CONFLICT, "model_missing", message),
        _ => ApiError::invalid(message),
    };
    error.details(json!({"exit_code": exit_code})).hint_if(hint)
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

/// What the program said last when it failed: its line of error, and the hint after it.
pub(crate) fn last_words(stderr: &str) -> Option<(String, Option<String>)> {
    let (_, after) = stderr.rsplit_once("error: ")?;
    let hint = after.lines().find_map(|line| line.strip_prefix("hint: ")).map(str::to_owned);
    Some((first_line(after), hint))
}
