//! `tunesmith chat-worker`: a model that answers over pipes, for programs that want to talk to one: the studio.
//!
//! JSON lines in, JSON lines out; `docs/studio.md` shows them. Questions are answered one at a time, in order; a cancellation
//! is looked at while an answer is being made. The worker leaves when its input ends, so it never outlives who started it.

mod api;
mod prompts;
mod questions;
mod teller;

use std::collections::BTreeSet;
use std::io::{BufRead, stdin};
use std::ops::ControlFlow;
use std::process;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use clap::Args;
use serde_json::{Value, json};
use tunesmith_formats::tokenizer::Tokenizer;
use tunesmith_generate::{
    ChatLayout, ChatReply, ChatSession, Completer, FinishReason, GenerateError, GenerationSettings,
    ToolFormat, ToolProblem,
};
use tunesmith_models::CausalLm;
use tunesmith_ops::choose_device;

use self::questions::{Asked, Completion, Conversation, Line, split_system};
use crate::failure::{Exit, Failure};
use crate::talker::{self, Source, Talker};
use crate::terminal::Terminal;

/// Answer questions that come as JSON lines
#[derive(Debug, Args)]
pub(crate) struct ChatWorkerArgs {
    /// Run folder, model folder, GGUF file, hub id, or `demo`
    #[arg(long, value_name = "MODEL_OR_RUN")]
    model: String,

    /// Checkpoint of a run instead of its result: last, best, step_N
    #[arg(long, value_name = "NAME")]
    checkpoint: Option<String>,

    /// Compute on this device: auto, cpu, cuda, cuda:1, metal, vulkan, …
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: String,

    /// Threads to compute with; 0 means all
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: usize,
}

/// Ids of answers to break off, written by the reader of the input and read between tokens.
type Cancelled = Arc<Mutex<BTreeSet<String>>>;

/// Loads the model, says so, and answers until the input ends.
pub(crate) fn run(args: &ChatWorkerArgs, terminal: &Terminal) -> Result<(), Failure> {
    let loaded = load(args, terminal);
    let (device, talker) = loaded.or_else(|failure| {
        terminal.json(&json!({"event": "failed", "message": failure.what, "hint": failure.hint}))?;
        Err(failure)
    })?;
    let Talker { model, tokenizer, layout, settings, system, n_history_rounds, is_single_turn, .. } = talker;
    terminal.json(&json!({
        "event": "ready",
        "model": args.model,
        "device": device,
        // Without an end where positions are relative.
        "context": (!model.has_encoder()).then(|| model.context_length()),
        "has_chat_template": layout.is_some(),
        "system": system,
    }))?;
    let mut chat =
        layout.map(|layout| ChatSession::new(&model, &tokenizer, layout, settings.clone())).transpose()?;
    if let Some(chat) = &mut chat {
        chat.set_history_rounds(n_history_rounds);
    }
    let tools = match chat.as_ref().map(ChatSession::layout) {
        Some(ChatLayout::Template(template)) => ToolFormat::from_template(template, &tokenizer),
        _ => Err(ToolProblem::NoTools),
    };
    let mut worker = Worker {
        // Markers of the layout have become stop texts.
        chat_settings: chat.as_mut().map(|chat| chat.settings_mut().clone()).unwrap_or_default(),
        chat,
        plain: ChatSession::new(&model, &tokenizer, talker::plain_layout(), settings.clone())?,
        plain_settings: settings,
        completer: Completer::new(&model, &tokenizer),
        model: &model,
        tokenizer: &tokenizer,
        tools,
        system,
        n_history_rounds,
        is_single_turn,
        cancelled: Cancelled::default(),
        terminal,
    };
    let (sender, questions) = channel();
    let cancelled = Arc::clone(&worker.cancelled);
    thread::spawn(move || read_lines(&sender, &cancelled));
    worker.answer_all(&questions)
}

fn load(args: &ChatWorkerArgs, terminal: &Terminal) -> Result<(String, Talker), Failure> {
    let device = choose_device(&args.device, None)?.to_string();
    let source = Source {
        name: &args.model,
        adapter: None,
        checkpoint: args.checkpoint.as_deref(),
        device: &args.device,
        n_threads: args.threads,
    };
    Ok((device, talker::load(&source, terminal)?))
}

/// Passes questions on and notes cancellations at once. The end of the input ends the process, in the middle of an answer
/// too: nobody is left to hear it.
fn read_lines(questions: &Sender<Line>, cancelled: &Cancelled) {
    for line in stdin().lock().lines() {
        let Ok(line) = line else { break };
        if line.trim().is_empty() {
            continue;
        }
        let line = Line::read(&line);
        if let Ok(Asked::Cancel(id)) = &line.asked {
            cancelled.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone());
            continue;
        }
        if questions.send(line).is_err() {
            break;
        }
    }
    process::exit(0);
}

struct Worker<'a> {
    /// `None` when the model has no chat template.
    chat: Option<ChatSession<'a>>,
    chat_settings: GenerationSettings,
    /// Continues texts as they stand.
    plain: ChatSession<'a>,
    plain_settings: GenerationSettings,
    /// Answers questions of the programming interface.
    completer: Completer<'a>,
    model: &'a CausalLm,
    tokenizer: &'a Tokenizer,
    /// How the model writes calls of tools.
    tools: std::result::Result<ToolFormat, ToolProblem>,
    system: Option<String>,
    n_history_rounds: Option<usize>,
    /// Whatever a question asks for, no earlier round is shown to the model.
    is_single_turn: bool,
    cancelled: Cancelled,
    terminal: &'a Terminal,
}

impl Worker<'_> {
    fn answer_all(&mut self, questions: &Receiver<Line>) -> Result<(), Failure> {
        for question in questions {
            self.answer(question)?;
        }
        Ok(())
    }

    fn answer(&mut self, line: Line) -> Result<(), Failure> {
        let id = line.id;
        let key = id.as_str().unwrap_or_default();
        let done = if self.is_cancelled(key) {
            Ok(
                json!({"finish": "cancelled", "n_prompt_tokens": 0, "n_new_tokens": 0, "secs": 0.0, "tokens_per_sec": null}),
            )
        } else {
            match line.asked {
                Ok(Asked::Chat(conversation)) => match conversation.api {
                    Some(_) => self.converse_by_api(key, conversation),
                    None => self.converse(key, conversation).map(|reply| figures(&reply)).map_err(Into::into),
                },
                Ok(Asked::Complete(completion)) => match completion.api {
                    Some(_) => self.complete_by_api(key, &completion),
                    None => self.complete(key, &completion).map(|reply| figures(&reply)).map_err(Into::into),
                },
                // Noted as it came in.
                Ok(Asked::Cancel(_)) => return Ok(()),
                Err(message) => Err(Refusal::new(message)),
            }
        };
        self.cancelled.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        match done {
            Ok(done) => self.say(json!({"id": id, "done": done})),
            Err(refusal) => self.say(json!({"id": id, "error": refusal.to_json()})),
        }
    }

    fn converse(&mut self, id: &str, conversation: Conversation) -> Result<ChatReply, Failure> {
        let messages = conversation.plain_messages().map_err(|what| Failure::new(Exit::Usage, what))?;
        let (system, mut messages) = split_system(messages);
        let Some(chat) = &mut self.chat else {
            return Err(Failure::new(
                Exit::Model,
                "the model has no chat template: it was not tuned for conversations",
            )
            .hint("let it continue a text as it stands, or use a model that was tuned for chat"));
        };
        let question = match messages.pop() {
            Some(last) if last.role == "user" => last.content,
            _ => return Err(Failure::new(Exit::Usage, "the last message must be the user's")),
        };
        let mut settings = self.chat_settings.clone();
        conversation.wishes.apply(&mut settings);
        *chat.settings_mut() = settings;
        let wished = conversation.wishes.num_history.filter(|_| !self.is_single_turn);
        chat.set_history_rounds(wished.map_or(self.n_history_rounds, |n| Some(n.div_ceil(2))));
        chat.set_system(system.as_deref().or(self.system.as_deref()).unwrap_or_default());
        chat.restore(&messages);
        Ok(chat.say(&question, &mut teller(self.terminal, &self.cancelled, id))?)
    }

    fn complete(&mut self, id: &str, completion: &Completion) -> Result<ChatReply, Failure> {
        let mut settings = self.plain_settings.clone();
        completion.wishes.apply(&mut settings);
        *self.plain.settings_mut() = settings;
        self.plain.clear();
        let prompt = completion.plain_prompt().map_err(|what| Failure::new(Exit::Usage, what))?;
        Ok(self.plain.say(prompt, &mut teller(self.terminal, &self.cancelled, id))?)
    }

    fn is_cancelled(&self, id: &str) -> bool {
        self.cancelled.lock().unwrap_or_else(PoisonError::into_inner).contains(id)
    }

    fn say(&self, line: Value) -> Result<(), Failure> {
        self.terminal.json(&line)
    }
}

/// Passes pieces of the answer on until it is cancelled.
fn teller<'a>(
    terminal: &'a Terminal,
    cancelled: &'a Cancelled,
    id: &'a str,
) -> impl FnMut(&str) -> ControlFlow<()> + 'a {
    move |text| {
        // A line that cannot be written: the reader is gone, and so is the reason to go on.
        let is_heard = terminal.json(&json!({"id": id, "text": text})).is_ok();
        let is_cancelled = cancelled.lock().unwrap_or_else(PoisonError::into_inner).contains(id);
        if is_heard && !is_cancelled { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }
}

/// Why a question has no answer.
#[derive(Debug)]
struct Refusal {
    message: String,
    hint: Option<String>,
    /// The part of the request that is at fault, by its name in the programming interface.
    param: Option<String>,
    /// A word for programs.
    code: Option<&'static str>,
}

impl Refusal {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, param: None, code: None }
    }

    fn param(self, param: impl Into<String>) -> Self {
        Self { param: Some(param.into()), ..self }
    }

    fn to_json(&self) -> Value {
        json!({"message": self.message, "hint": self.hint, "param": self.param, "code": self.code})
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self { message: failure.what, hint: failure.hint, param: None, code: None }
    }
}

impl From<GenerateError> for Refusal {
    fn from(error: GenerateError) -> Self {
        let code = matches!(error, GenerateError::PromptTooLong { .. }).then_some("context_length_exceeded");
        Self { code, ..Failure::from(error).into() }
    }
}

fn figures(reply: &ChatReply) -> Value {
    let n_new = reply.ids.len();
    let secs_after_first = reply.secs - reply.first_token_secs;
    let rate = (1 < n_new && 0.0 < secs_after_first).then(|| (n_new - 1) as f64 / secs_after_first);
    json!({
        "finish": finish_name(reply.finish),
        "n_prompt_tokens": reply.n_prompt,
        "n_new_tokens": n_new,
        "secs": reply.secs,
        "tokens_per_sec": rate,
    })
}

fn finish_name(finish: FinishReason) -> &'static str {
    match finish {
        FinishReason::EndOfText => "end_of_text",
        FinishReason::StopText => "stop_text",
        // The context is full or the limit is reached: either way the answer is cut for its length.
        FinishReason::MaxNewTokens | FinishReason::ContextFull => "max_new_tokens",
        FinishReason::MaxTime => "time_limit",
        FinishReason::Cancelled => "cancelled",
    }
}

/// Without a source of randomness they are all the same, which is no harm where one answer has one call.
fn random_bytes() -> [u8; 12] {
    let mut bytes = [0; 12];
    let _ = getrandom::fill(&mut bytes);
    bytes
}
