//! One loaded model: a `chat-worker` process, its questions and answers.

use std::collections::HashMap;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::{mpsc, watch};
use utoipa::ToSchema;

use crate::error::{ApiError, ApiResult};

/// What is asked of a model.
#[derive(Clone, Debug)]
pub(crate) enum Question {
    /// To answer a conversation of messages, in the form of [`Message`] or, with `api`, OpenAI's.
    Chat {
        messages: Vec<Value>,
        settings: Map<String, Value>,
        /// What only the programming interface asks.
        api: Option<Map<String, Value>>,
    },
    /// To go on with a text, or with several: texts and lists of tokens.
    Complete { prompt: Value, settings: Map<String, Value>, api: Option<Map<String, Value>> },
}

/// One message of a conversation.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = ChatMessage)]
pub(crate) struct Message {
    /// `system`, `user` or `assistant`.
    pub(crate) role: String,
    pub(crate) content: String,
}

/// A piece of what a model answers.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// More of it.
    Part(Part),
    /// The end.
    Done(Done),
    /// The model could not, or its process ended.
    Failed(Failed),
}

/// More of one of the choices of an answer.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Part {
    /// The choice.
    pub(crate) choice: usize,
    /// What the model says.
    pub(crate) text: Option<String>,
    /// What it thinks before.
    pub(crate) reasoning: Option<String>,
    /// What it wants called.
    pub(crate) tool_calls: Vec<ToolCall>,
    /// The tokens of all these with their log-probabilities, in OpenAI's form, where they were asked for.
    pub(crate) logprobs: Option<Vec<Value>>,
}

/// A call of a tool.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct ToolCall {
    pub(crate) index: usize,
    pub(crate) id: String,
    pub(crate) name: String,
    /// A JSON object.
    pub(crate) arguments: String,
}

/// How one choice ended.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct ChoiceDone {
    /// As in [`Done`].
    pub(crate) finish: String,
}

/// How an answer ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = ChatDone)]
pub(crate) struct Done {
    /// `end_of_text`, `stop_text`, `max_new_tokens`, `time_limit` or `cancelled`.
    pub(crate) finish: String,
    pub(crate) n_prompt_tokens: u64,
    pub(crate) n_new_tokens: u64,
    pub(crate) secs: f64,
    #[schema(required)]
    pub(crate) tokens_per_sec: Option<f64>,
    /// Of the prompt, those that were known from the question before.
    #[serde(default, skip_serializing)]
    #[schema(ignore)]
    pub(crate) n_cached_tokens: u64,
    /// Of the new tokens, those of thoughts.
    #[serde(default, skip_serializing)]
    #[schema(ignore)]
    pub(crate) n_reasoning_tokens: u64,
    /// Each choice, where the programming interface asked.
    #[serde(default, skip_serializing)]
    #[schema(ignore)]
    pub(crate) choices: Vec<ChoiceDone>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = ChatFailed)]
pub(crate) struct Failed {
    pub(crate) message: String,
    #[schema(required)]
    pub(crate) hint: Option<String>,
    /// The field of the request that is at fault.
    #[serde(default, skip_serializing)]
    #[schema(ignore)]
    pub(crate) param: Option<String>,
    /// A word for programs.
    #[serde(default, skip_serializing)]
    #[schema(ignore)]
    pub(crate) code: Option<String>,
}

impl Failed {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, param: None, code: None }
    }
}

/// What a worker says once its model is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
pub(crate) struct Ready {
    /// Tokens that the model takes; `None` for a model without such a limit.
    pub(crate) context: Option<u64>,
}

/// How far a worker is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Stage {
    Loading,
    Ready(Ready),
    Ended(Failed),
}

type Pending = Arc<Mutex<HashMap<String, mpsc::UnboundedSender<Answer>>>>;

/// A process with a model. Dropping the last handle closes its input, at which it leaves.
#[derive(Debug)]
pub(crate) struct Worker {
    input: mpsc::UnboundedSender<String>,
    stage: watch::Receiver<Stage>,
    pending: Pending,
    counter: AtomicU64,
    used: Mutex<Instant>,
}

impl Worker {
    /// Starts a process with these arguments after `chat-worker`.
    pub(crate) fn start(
        program: &Path,
        args: &[String],
        environment: &[(String, String)],
    ) -> ApiResult<Arc<Self>> {
        let mut command = Command::new(program);
        command
            .arg("chat-worker")
            .args(args)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .env("NO_COLOR", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        // Ctrl-C in the server's terminal is the server's to handle.
        #[cfg(unix)]
        command.process_group(0);
        let mut child = command.spawn().map_err(|error| ApiError::io(program, "start", &error))?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(ApiError::internal("a chat process has no pipes"));
        };
        let (input, lines) = mpsc::unbounded_channel();
        let (stage_sender, stage) = watch::channel(Stage::Loading);
        let pending = Pending::default();
        tokio::spawn(write_lines(stdin, lines));
        tokio::spawn(read_lines(child, stdout, stage_sender, Arc::clone(&pending)));
        Ok(Arc::new(Self {
            input,
            stage,
            pending,
            counter: AtomicU64::new(0),
            used: Mutex::new(Instant::now()),
        }))
    }

    /// How far it is.
    pub(crate) fn stage(&self) -> Stage {
        self.stage.borrow().clone()
    }

    /// Waits until the model is loaded.
    pub(crate) async fn ready(&self) -> Result<Ready, Failed> {
        let mut stage = self.stage.clone();
        let reached = stage.wait_for(|stage| *stage != Stage::Loading).await.map(|stage| stage.clone());
        match reached {
            Ok(Stage::Ready(ready)) => Ok(ready),
            Ok(Stage::Ended(failed)) => Err(failed),
            Ok(Stage::Loading) | Err(_) => Err(ended()),
        }
    }

    /// Whether somebody waits for an answer.
    pub(crate) fn is_busy(&self) -> bool {
        !lock(&self.pending).is_empty()
    }

    /// When it was last asked or answered.
    pub(crate) fn used(&self) -> Instant {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks. Dropping the answers breaks them off.
    pub(crate) fn ask(self: Arc<Self>, question: Question) -> Answers {
        let id = format!("q{}", self.counter.fetch_add(1, Ordering::Relaxed));
        let (sender, receiver) = mpsc::unbounded_channel();
        let (kind, asked) = match question {
            Question::Chat { messages, settings, api } => {
                ("chat", json!({"messages": messages, "settings": settings, "api": api}))
            }
            Question::Complete { prompt, settings, api } => {
                ("complete", json!({"prompt": prompt, "settings": settings, "api": api}))
            }
        };
        let line = json!({"id": id, kind: asked});
        self.touch();
        let fallback = sender.clone();
        lock(&self.pending).insert(id.clone(), sender);
        let is_ended = matches!(self.stage(), Stage::Ended(_));
        if is_ended || self.input.send(line.to_string()).is_err() {
            lock(&self.pending).remove(&id);
            // The receiver is here.
            let _ = fallback.send(Answer::Failed(ended()));
        }
        Answers { worker: self, id, receiver, is_over: false }
    }

    fn touch(&self) {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

/// The pieces of one answer.
#[derive(Debug)]
pub(crate) struct Answers {
    worker: Arc<Worker>,
    id: String,
    receiver: mpsc::UnboundedReceiver<Answer>,
    is_over: bool,
}

impl Answers {
    /// The next piece; `None` after the last.
    pub(crate) async fn next(&mut self) -> Option<Answer> {
        if self.is_over {
            return None;
        }
        let answer = self.receiver.recv().await.unwrap_or_else(|| Answer::Failed(ended()));
        self.is_over = !matches!(answer, Answer::Part(_));
        Some(answer)
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        self.worker.touch();
        if !self.is_over {
            // The entry stays until the worker has said that it stopped: so long it is busy.
            let _ = self.worker.input.send(json!({"cancel": self.id}).to_string());
        }
    }
}

fn ended() -> Failed {
    Failed {
        hint: Some("ask again; if it happens again, the machine may be short of memory".to_owned()),
        ..Failed::new("the model's process has ended")
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends, and with it the process's input, when nobody can ask any more.
async fn write_lines(mut stdin: ChildStdin, mut lines: mpsc::UnboundedReceiver<String>) {
    while let Some(line) = lines.recv().await {
        if stdin.write_all(format!("{line}\n").as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Hands answers to those who asked, until the process ends.
async fn read_lines(mut child: Child, stdout: ChildStdout, stage: watch::Sender<Stage>, pending: Pending) {
    let mut lines = BufReader::new(stdout).lines();
    let mut reason = ended();
    while let Ok(Some(line)) = lines.next_line().await {
        let Ok(value) = serde_json::from_str::<Value>(&line) else { continue };
        match value.get("event").and_then(Value::as_str) {
            Some("ready") => {
                let ready = serde_json::from_value(value).unwrap_or(Ready { context: None });
                stage.send_replace(Stage::Ready(ready));
            }
            Some("failed") => reason = serde_json::from_value(value).unwrap_or(reason),
            _ => pass_on(&value, &pending),
        }
    }
    stage.send_replace(Stage::Ended(reason.clone()));
    for (_, sender) in lock(&pending).drain() {
        // Who asked may be gone.
        let _ = sender.send(Answer::Failed(reason.clone()));
    }
    let _ = child.wait().await;
}

/// Every question gets its last answer, whatever the worker writes: nobody would wait for another one.
fn pass_on(line: &Value, pending: &Pending) {
    let Some(id) = line.get("id").and_then(Value::as_str) else {
        if let Some(error) = line.get("error") {
            // The worker could not tell whose question it was.
            for (_, sender) in lock(pending).drain() {
                // Who asked may be gone.
                let _ = sender.send(Answer::Failed(failed(error)));
            }
        }
        return;
    };
    let not_understood =
        || Answer::Failed(Failed::new(format!("an answer of the model's process is not understood: {line}")));
    let answer = if let Some(done) = line.get("done") {
        serde_json::from_value(done.clone()).map_or_else(|_| not_understood(), Answer::Done)
    } else if let Some(error) = line.get("error") {
        Answer::Failed(failed(error))
    } else {
        serde_json::from_value(line.clone()).map_or_else(|_| not_understood(), Answer::Part)
    };
    let mut pending = lock(pending);
    let is_last = !matches!(answer, Answer::Part(_));
    let sender = if is_last { pending.remove(id) } else { pending.get(id).cloned() };
    if let Some(sender) = sender {
        // Who asked may be gone; the worker was told then.
        let _ = sender.send(answer);
    }
}

fn failed(error: &Value) -> Failed {
    serde_json::from_value(error.clone()).unwrap_or_else(|_| Failed::new(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(ids: &[&str]) -> (Pending, Vec<mpsc::UnboundedReceiver<Answer>>) {
        let pending = Pending::default();
        let receivers = ids.iter().map(|id| {
            let (sender, receiver) = mpsc::unbounded_channel();
            lock(&pending).insert((*id).to_owned(), sender);
            receiver
        });
        let receivers = receivers.collect();
        (pending, receivers)
    }

    fn message(receiver: &mut mpsc::UnboundedReceiver<Answer>) -> Option<String> {
        match receiver.try_recv() {
            Ok(Answer::Failed(failed)) => Some(failed.message),
            _ => None,
        }
    }

    #[test]
    fn whatever_a_worker_writes_no_question_waits_for_ever() {
        let (pending, mut receivers) = asked(&["q0", "q1"]);
        pass_on(
            &json!({"id": null, "error": {"message": "a line is not a question", "hint": null}}),
            &pending,
        );
        for receiver in &mut receivers {
            assert_eq!(message(receiver).as_deref(), Some("a line is not a question"));
        }
        for odd in [
            json!({"id": "q0", "done": 3}),
            json!({"id": "q0", "text": 3}),
            json!({"id": "q0", "error": "no"}),
        ] {
            let (pending, mut receivers) = asked(&["q0", "q1"]);
            pass_on(&odd, &pending);
            assert!(message(&mut receivers[0]).is_some(), "{odd}");
            assert!(message(&mut receivers[1]).is_none() && !lock(&pending).contains_key("q0"));
        }
    }
}
