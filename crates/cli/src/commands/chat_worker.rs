//! `tunesmith chat-worker`: a model that answers over pipes, for programs that want to talk to one: the studio.
//!
//! JSON lines in, JSON lines out; `docs/studio.md` shows them. Questions are answered one at a time, in order; a cancellation
//! is looked at while an answer is being made. The worker leaves when its input ends, so it never outlives who started it.

use std::collections::BTreeSet;
use std::io::{BufRead, stdin};
use std::ops::ControlFlow;
use std::process;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use clap::Args;
use serde::Deserialize;
use serde_json::{Value, json};
use tunesmith_formats::chat_template::ChatMessage;
use tunesmith_generate::{ChatReply, ChatSession, FinishReason, GenerationSettings};
use tunesmith_ops::choose_device;

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

/// One line of input: a question with its id, or the id of one to break off.
#[derive(Debug, Deserialize)]
struct Line {
    id: Option<String>,
    chat: Option<Conversation>,
    complete: Option<Completion>,
    cancel: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Conversation {
    messages: Vec<Message>,
    #[serde(default)]
    settings: Wishes,
}

#[derive(Debug, Deserialize)]
struct Message {
    role: String,
    content: String,
}

#[derive(Debug, Deserialize)]
struct Completion {
    prompt: String,
    #[serde(default)]
    settings: Wishes,
}

/// What a question may ask of its answer, by the names of the `prediction` section; what it leaves out stays as the run or
/// model has it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Wishes {
    do_sample: Option<bool>,
    temperature: Option<f32>,
    top_k: Option<usize>,
    top_p: Option<f32>,
    min_p: Option<f32>,
    num_beams: Option<usize>,
    repetition_penalty: Option<f32>,
    min_length_inference: Option<usize>,
    max_length_inference: Option<usize>,
    max_time: Option<f64>,
    num_history: Option<usize>,
    seed: Option<u64>,
    stop: Vec<String>,
}

impl Wishes {
    /// A temperature of 0 takes the most likely token, as on the command line; another one draws unless the question says
    /// that it must not.
    fn apply(&self, settings: &mut GenerationSettings) {
        if let Some(temperature) = self.temperature {
            settings.do_sample = 0.0 < temperature;
            if settings.do_sample {
                settings.temperature = temperature;
            }
        }
        settings.do_sample = match self.do_sample {
            Some(false) => false,
            Some(true) => self.temperature != Some(0.0),
            None => settings.do_sample,
        };
        settings.top_k = self.top_k.unwrap_or(settings.top_k);
        settings.top_p = self.top_p.unwrap_or(settings.top_p);
        settings.min_p = self.min_p.unwrap_or(settings.min_p);
        // Beams of the run make way for drawing, which goes without them.
        let of_run = if settings.do_sample { 1 } else { settings.num_beams };
        settings.num_beams = self.num_beams.unwrap_or(of_run);
        settings.repetition_penalty = self.repetition_penalty.unwrap_or(settings.repetition_penalty);
        settings.min_new_tokens = self.min_length_inference.unwrap_or(settings.min_new_tokens);
        settings.max_new_tokens = self.max_length_inference.unwrap_or(settings.max_new_tokens);
        settings.max_time_secs = self.max_time.unwrap_or(settings.max_time_secs);
        settings.seed = self.seed.unwrap_or(settings.seed);
        settings.stop_texts.extend(self.stop.iter().filter(|text| !text.is_empty()).cloned());
    }
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
    let mut worker = Worker {
        // Markers of the layout have become stop texts.
        chat_settings: chat.as_mut().map(|chat| chat.settings_mut().clone()).unwrap_or_default(),
        chat,
        plain: ChatSession::new(&model, &tokenizer, talker::plain_layout(), settings.clone())?,
        plain_settings: settings,
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
fn read_lines(questions: &Sender<std::result::Result<Line, String>>, cancelled: &Cancelled) {
    for line in stdin().lock().lines() {
        let Ok(line) = line else { break };
        if line.trim().is_empty() {
            continue;
        }
        let parsed = serde_json::from_str::<Line>(&line).map_err(|error| error.to_string());
        if let Ok(Line { cancel: Some(id), .. }) = &parsed {
            cancelled.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone());
            continue;
        }
        if questions.send(parsed).is_err() {
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
    system: Option<String>,
    n_history_rounds: Option<usize>,
    /// Whatever a question asks for, no earlier round is shown to the model.
    is_single_turn: bool,
    cancelled: Cancelled,
    terminal: &'a Terminal,
}

impl Worker<'_> {
    fn answer_all(&mut self, questions: &Receiver<std::result::Result<Line, String>>) -> Result<(), Failure> {
        for question in questions {
            match question {
                Ok(line) => self.answer(line)?,
                Err(message) => self.say(json!({"id": null, "error": {
                    "message": format!("a line is not a question: {message}"), "hint": null}}))?,
            }
        }
        Ok(())
    }

    fn answer(&mut self, line: Line) -> Result<(), Failure> {
        let id = line.id.unwrap_or_default();
        let done = if self.is_cancelled(&id) {
            Ok(
                json!({"finish": "cancelled", "n_prompt_tokens": 0, "n_new_tokens": 0, "secs": 0.0, "tokens_per_sec": null}),
            )
        } else if let Some(conversation) = line.chat {
            self.converse(&id, conversation).map(|reply| figures(&reply))
        } else if let Some(completion) = line.complete {
            self.complete(&id, &completion).map(|reply| figures(&reply))
        } else {
            Err(Failure::new(Exit::Usage, "a question needs `chat` or `complete`"))
        };
        self.cancelled.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        match done {
            Ok(done) => self.say(json!({"id": id, "done": done})),
            Err(failure) => {
                self.say(json!({"id": id, "error": {"message": failure.what, "hint": failure.hint}}))
            }
        }
    }

    fn converse(&mut self, id: &str, conversation: Conversation) -> Result<ChatReply, Failure> {
        let (system, mut messages) = split_system(conversation.messages);
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
        conversation.settings.apply(&mut settings);
        *chat.settings_mut() = settings;
        let wished = conversation.settings.num_history.filter(|_| !self.is_single_turn);
        chat.set_history_rounds(wished.map_or(self.n_history_rounds, |n| Some(n.div_ceil(2))));
        chat.set_system(system.as_deref().or(self.system.as_deref()).unwrap_or_default());
        chat.restore(&messages);
        Ok(chat.say(&question, &mut teller(self.terminal, &self.cancelled, id))?)
    }

    fn complete(&mut self, id: &str, completion: &Completion) -> Result<ChatReply, Failure> {
        let mut settings = self.plain_settings.clone();
        completion.settings.apply(&mut settings);
        *self.plain.settings_mut() = settings;
        self.plain.clear();
        Ok(self.plain.say(&completion.prompt, &mut teller(self.terminal, &self.cancelled, id))?)
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

/// The system text if the conversation begins with one, and the other messages. An empty system text means none, and
/// overrides that of the training data.
fn split_system(messages: Vec<Message>) -> (Option<String>, Vec<ChatMessage>) {
    let mut messages = messages.into_iter().peekable();
    let system = messages
        .next_if(|message| matches!(message.role.as_str(), "system" | "developer"))
        .map(|message| message.content);
    let messages = messages.map(|Message { role, content }| ChatMessage { role, content }).collect();
    (system, messages)
}

fn figures(reply: &ChatReply) -> Value {
    let n_new = reply.ids.len();
    let secs_after_first = reply.secs - reply.first_token_secs;
    let rate = (1 < n_new && 0.0 < secs_after_first).then(|| (n_new - 1) as f64 / secs_after_first);
    let finish = match reply.finish {
        FinishReason::EndOfText => "end_of_text",
        FinishReason::StopText => "stop_text",
        // The context is full or the limit is reached: either way the answer is cut for its length.
        FinishReason::MaxNewTokens | FinishReason::ContextFull => "max_new_tokens",
        FinishReason::MaxTime => "time_limit",
        FinishReason::Cancelled => "cancelled",
    };
    json!({
        "finish": finish,
        "n_prompt_tokens": reply.n_prompt,
        "n_new_tokens": n_new,
        "secs": reply.secs,
        "tokens_per_sec": rate,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_change_only_what_they_name() {
        let before = GenerationSettings { do_sample: true, temperature: 0.3, ..Default::default() };
        let apply = |wishes: &str| {
            let mut settings = before.clone();
            serde_json::from_str::<Wishes>(wishes).unwrap().apply(&mut settings);
            settings
        };
        assert_eq!(apply("{}"), before);
        assert!(!apply(r#"{"temperature": 0}"#).do_sample);
        assert!(!apply(r#"{"temperature": 0, "do_sample": true}"#).do_sample);
        assert!(!apply(r#"{"temperature": 0.7, "do_sample": false}"#).do_sample);
        let drawn = apply(r#"{"temperature": 0.7, "max_length_inference": 5, "stop": ["", "a"]}"#);
        assert_eq!(
            (drawn.temperature, drawn.max_new_tokens, drawn.stop_texts),
            (0.7, 5, vec!["a".to_owned()])
        );
    }

    #[test]
    fn the_system_text_is_the_first_message_or_none() {
        let message =
            |role: &str, content: &str| Message { role: role.to_owned(), content: content.to_owned() };
        let (system, rest) = split_system(vec![message("system", "Be brief."), message("user", "a")]);
        assert_eq!((system.as_deref(), rest.len()), (Some("Be brief."), 1));
        let (system, rest) = split_system(vec![message("user", "a"), message("system", "b")]);
        assert_eq!((system, rest.len()), (None, 2));
    }
}
