//! Work on whole tables, away from the server when they are large.
//!
//! A table is read whole, into several times the size of its file. A process of its own does that for large ones: its memory
//! goes back to the system when it ends, and a machine that runs out of memory loses that process and not the studio.

use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use std::{fs, thread};

use axum::http::StatusCode;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::check::{Checked, check};
use super::imports::look;
use super::record::{Counted, count};
use super::settings::DataSettings;
use super::statistics::{Statistics, statistics};
use super::tables::{ImportTable, Problem};
use super::{Conversations, Page, Rows, conversations_page, rows_page};
use crate::error::{ApiError, ApiResult, ErrorContent};
use crate::state::AppState;

/// Tables of a folder that are together larger than this are left to a process of their own. Smaller ones are read before
/// a process has started.
const LARGE_BYTES: u64 = 16 << 20;
/// How often it is looked whether the process has ended, or should.
const TICK: Duration = Duration::from_millis(20);

/// Something to find out about the tables of a folder.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Task {
    /// Where the tables are.
    pub(super) folder: PathBuf,
    /// What is asked.
    pub(super) question: Question,
}

/// What can be found out.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Question {
    /// Which tables there are, and what is in them.
    Look,
    /// What would become of them.
    Check(DataSettings),
    /// How many rows and classes they have.
    Count(DataSettings),
    /// Some rows of one.
    Rows { table: String, page: Page },
    /// Some conversations.
    Conversations { settings: DataSettings, page: Page },
    /// Lengths and columns.
    Statistics(DataSettings),
}

/// As [`look`], in the right place; `is_wanted` is asked now and then, and its error ends the work.
pub(super) fn look_apart(
    state: &AppState,
    folder: &Path,
    is_wanted: &dyn Fn() -> ApiResult<()>,
) -> ApiResult<(Vec<ImportTable>, Vec<Problem>)> {
    ask(state, folder, Question::Look, is_wanted)
}

/// As [`check`], in the right place.
pub(super) fn check_apart(state: &AppState, settings: &DataSettings, folder: &Path) -> ApiResult<Checked> {
    ask(state, folder, Question::Check(settings.clone()), &always)
}

/// As [`count`], in the right place.
pub(super) fn count_apart(state: &AppState, settings: &DataSettings, folder: &Path) -> ApiResult<Counted> {
    ask(state, folder, Question::Count(settings.clone()), &always)
}

/// As [`rows_page`], in the right place.
pub(super) fn rows_apart(state: &AppState, folder: &Path, table: &str, page: Page) -> ApiResult<Rows> {
    ask(state, folder, Question::Rows { table: table.to_owned(), page }, &always)
}

/// As [`conversations_page`], in the right place.
pub(super) fn conversations_apart(
    state: &AppState,
    folder: &Path,
    settings: &DataSettings,
    page: Page,
) -> ApiResult<Conversations> {
    ask(state, folder, Question::Conversations { settings: settings.clone(), page }, &always)
}

/// As [`statistics`], in the right place.
pub(super) fn statistics_apart(
    state: &AppState,
    folder: &Path,
    settings: &DataSettings,
) -> ApiResult<Statistics> {
    ask(state, folder, Question::Statistics(settings.clone()), &always)
}

/// What the process of its own does: reads one task and writes its answer, both as JSON. Errors of the task are answers.
///
/// # Errors
/// The input is no task, or an end of the pipes is closed.
pub fn work(mut input: impl Read, mut output: impl Write) -> std::io::Result<()> {
    let mut text = String::new();
    input.read_to_string(&mut text)?;
    let task: Task = serde_json::from_str(&text)?;
    let answer = match answer(&task) {
        Ok(value) => Answer::Done(value),
        Err(error) => Answer::Failed { status: error.status.as_u16(), error: error.content() },
    };
    serde_json::to_writer(&mut output, &answer)?;
    output.flush()
}

/// How a process ends its work.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Done(Value),
    Failed { status: u16, error: ErrorContent },
}

fn always() -> ApiResult<()> {
    Ok(())
}

fn answer(task: &Task) -> ApiResult<Value> {
    let Task { folder, question } = task;
    Ok(match question {
        Question::Look => json!(look(folder)?),
        Question::Check(settings) => json!(check(settings, folder)?),
        Question::Count(settings) => json!(count(settings, folder)?),
        Question::Rows { table, page } => json!(rows_page(folder, table, *page)?),
        Question::Conversations { settings, page } => json!(conversations_page(settings, folder, *page)?),
        Question::Statistics(settings) => json!(statistics(settings, folder)?),
    })
}

fn ask<T: DeserializeOwned>(
    state: &AppState,
    folder: &Path,
    question: Question,
    is_wanted: &dyn Fn() -> ApiResult<()>,
) -> ApiResult<T> {
    let task = Task { folder: folder.to_owned(), question };
    let value = if is_large(folder) { answer_of_process(state, &task, is_wanted)? } else { answer(&task)? };
    serde_json::from_value(value)
        .map_err(|error| ApiError::internal(format!("an answer about tables: {error}")))
}

fn is_large(folder: &Path) -> bool {
    let Ok(entries) = fs::read_dir(folder) else { return false };
    let sizes = entries.flatten().filter_map(|entry| entry.metadata().ok()).map(|file| file.len());
    sizes.sum::<u64>() > LARGE_BYTES
}

fn answer_of_process(
    state: &AppState,
    task: &Task,
    is_wanted: &dyn Fn() -> ApiResult<()>,
) -> ApiResult<Value> {
    let failed = |error: std::io::Error| ApiError::io(&state.program, "start", &error);
    // A file takes an answer of any length, while a pipe that nobody empties stops who writes.
    let mut output = tempfile::tempfile_in(state.workdir.uploads()).map_err(failed)?;
    let mut command = Command::new(&state.program);
    command
        .arg("table-worker")
        .stdin(Stdio::piped())
        .stdout(output.try_clone().map_err(failed)?)
        .stderr(Stdio::null());
    // Ctrl-C in the server's terminal is the server's to handle.
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let mut child = Ended(command.spawn().map_err(failed)?);
    let text = serde_json::to_vec(task).map_err(|error| ApiError::internal(error.to_string()))?;
    // A process that is gone already is told below.
    child.0.stdin.take().map(|mut stdin| stdin.write_all(&text)).transpose().ok();
    let status = loop {
        if let Some(status) = child.0.try_wait().map_err(failed)? {
            break status;
        }
        is_wanted()?;
        if state.shutdown.is_triggered() {
            return Err(ApiError::cancelled());
        }
        thread::sleep(TICK);
    };
    let mut answer = Vec::new();
    output.seek(SeekFrom::Start(0)).and_then(|_| output.read_to_end(&mut answer)).map_err(failed)?;
    match serde_json::from_slice(&answer) {
        Ok(Answer::Done(value)) => Ok(value),
        Ok(Answer::Failed { status, error }) => Err(ApiError {
            status: StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            code: error.code.into(),
            message: error.message,
            hint: error.hint,
            details: error.details.map(Box::new),
        }),
        Err(_) => Err(ApiError::internal(format!(
            "the process that reads the tables ended early ({status})"
        ))
        .hint(
            "the machine may have run out of memory: a table takes several times its size while it is read",
        )),
    }
}

/// A process that does not outlive the wish for its answer.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}
