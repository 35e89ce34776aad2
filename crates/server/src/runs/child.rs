//! Short questions to the program itself, which need a tokenizer or a model's header: a child process that prints JSON.

use std::process::Stdio;
use std::time::Duration;

use axum::http::StatusCode;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::error::{ApiError, ApiResult};
use crate::state::AppState;

/// The program's exit codes that mean something here.
const EXIT_NETWORK: i32 = 5;

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

/// What the program said when it failed: its line of error, and the hint after it.
pub(crate) fn refusal(exit_code: Option<i32>, stderr: &str) -> ApiError {
    let after = stderr.rsplit_once("error: ").map_or(stderr, |(_, after)| after);
    let message =
        after.lines().next().filter(|line| !line.is_empty()).unwrap_or("the program ended without a word");
    let hint = after.lines().find_map(|line| line.strip_prefix("hint: "));
    let error = match exit_code {
        Some(EXIT_NETWORK) => ApiError::new(StatusCode::CONFLICT, "model_missing", message),
        _ => ApiError::invalid(message),
    };
    let error = error.details(json!({"exit_code": exit_code}));
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}
