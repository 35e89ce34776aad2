//! `tunesmith chat`: talk to a model, or to the result of a run.

use std::ops::ControlFlow;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use tunesmith_generate::{ChatReply, ChatSession, FinishReason, GenerationSettings};

use crate::failure::{Exit, Failure};
use crate::interrupt::AnswerBreak;
use crate::talker::{self, Source, Talker};
use crate::terminal::{Style, Terminal, read_line};

/// Talk to a model or to the result of a run
///
/// A run folder means its base model with the trained adapter (or the trained model), prompted exactly as in training, with
/// the training data's system text if all rows share one.
/// Without `--prompt` a conversation begins: /reset forgets it, /system TEXT sets the system text, /exit leaves, Ctrl-C
/// breaks off an answer.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  tunesmith chat runs/first
  tunesmith chat runs/first --prompt 'turn off the kitchen light'
  tunesmith chat demo --temperature 0.7 --seed 1
  tunesmith chat model.gguf --adapter adapter_model --json --prompt 'Hello'
  echo 'Hello' | tunesmith chat demo")]
pub(crate) struct ChatArgs {
    /// Run folder, model folder, GGUF file, hub id, or `demo`
    #[arg(value_name = "MODEL_OR_RUN")]
    model: String,

    /// Ask this one question, print the answer and leave
    #[arg(long, short = 'p', value_name = "TEXT")]
    prompt: Option<String>,

    /// System text that goes before the conversation; an empty one for none
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,

    /// PEFT adapter to put on the model
    #[arg(long, value_name = "DIR")]
    adapter: Option<PathBuf>,

    /// Checkpoint of a run instead of its result: last, best, step_N
    #[arg(long, value_name = "NAME")]
    checkpoint: Option<String>,

    /// No chat template: the model continues the text as it stands
    #[arg(long)]
    plain: bool,

    /// Compute on this device: auto, cpu, cuda, cuda:1, metal, vulkan, …
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: String,

    /// Threads to compute with; 0 means all. The answer does not depend on it
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: usize,

    /// Print each answer as one JSON object
    #[arg(long)]
    json: bool,

    // Last, because its heading holds for all that follows.
    #[command(flatten)]
    sampling: SamplingArgs,
}

/// How tokens are chosen. Without these the settings of the run count; without a run the most likely token is taken.
#[derive(Debug, Args)]
#[command(next_help_heading = "How tokens are chosen")]
struct SamplingArgs {
    /// Draw at this temperature instead of taking the most likely token; 0 takes the most likely one
    #[arg(long, value_name = "T")]
    temperature: Option<f32>,

    /// Draw among the K most likely tokens; 0 means all
    #[arg(long, value_name = "K")]
    top_k: Option<usize>,

    /// Draw among the fewest tokens that together have this probability
    #[arg(long, value_name = "P")]
    top_p: Option<f32>,

    /// Draw among the tokens at least so probable as the most likely one times this; 0 means all
    #[arg(long, value_name = "P")]
    min_p: Option<f32>,

    /// Follow so many texts side by side and take the likeliest (beam search)
    #[arg(long, value_name = "N")]
    num_beams: Option<usize>,

    /// Make tokens that occurred already less likely; 1 changes nothing
    #[arg(long, value_name = "X")]
    repetition_penalty: Option<f32>,

    /// Longest answer, in tokens
    #[arg(long, value_name = "N")]
    max_new_tokens: Option<usize>,

    /// End the answer where this text appears; may be repeated
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,

    /// Seed of the draws
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

impl SamplingArgs {
    fn apply(&self, settings: &mut GenerationSettings) {
        if let Some(temperature) = self.temperature {
            settings.do_sample = 0.0 < temperature;
            if settings.do_sample {
                settings.temperature = temperature;
            }
        } else if self.top_k.is_some() || self.top_p.is_some() || self.min_p.is_some() {
            settings.do_sample = true;
        }
        settings.top_k = self.top_k.unwrap_or(settings.top_k);
        settings.top_p = self.top_p.unwrap_or(settings.top_p);
        settings.min_p = self.min_p.unwrap_or(settings.min_p);
        // Beams of the run make way for drawing, which goes without them.
        let of_run = if settings.do_sample { 1 } else { settings.num_beams };
        settings.num_beams = self.num_beams.unwrap_or(of_run);
        settings.repetition_penalty = self.repetition_penalty.unwrap_or(settings.repetition_penalty);
        settings.max_new_tokens = self.max_new_tokens.unwrap_or(settings.max_new_tokens);
        settings.seed = self.seed.unwrap_or(settings.seed);
        settings.stop_texts.extend(self.stop.iter().cloned());
    }
}

/// Talks.
pub(crate) fn run(args: &ChatArgs, terminal: &Terminal) -> Result<(), Failure> {
    let source = Source {
        name: &args.model,
        adapter: args.adapter.as_deref(),
        checkpoint: args.checkpoint.as_deref(),
        device: &args.device,
        n_threads: args.threads,
    };
    let Talker { model, tokenizer, layout, mut settings, system, n_history_rounds, .. } =
        talker::load(&source, terminal)?;
    args.sampling.apply(&mut settings);
    let layout = if args.plain { Some(talker::plain_layout()) } else { layout };
    let layout = layout.ok_or_else(|| {
        Failure::new(
            Exit::Model,
            format!("{} has no chat template: it was not tuned for conversations", args.model),
        )
        .hint("continue a text as it stands with --plain, or use a model that was tuned for chat")
    })?;
    let mut session = ChatSession::new(&model, &tokenizer, layout, settings)?;
    session.set_history_rounds(n_history_rounds);
    // A text that is continued as it stands has no place for the training data's system text.
    let system = if args.plain { None } else { system };
    if let Some(system) = args.system.as_ref().or(system.as_ref()) {
        session.set_system(system);
        if args.system.is_none() && args.prompt.is_none() && !args.json {
            terminal.note(format_args!("system text of the training data: {system}"));
        }
    }
    match &args.prompt {
        Some(prompt) => {
            let answer_break = AnswerBreak::install()?;
            let reply = answer(&mut session, prompt, args.json, &answer_break, terminal)?;
            if reply.finish == FinishReason::Cancelled {
                return Err(Failure::new(Exit::Interrupted, "the answer was broken off"));
            }
            Ok(())
        }
        None => converse(&mut session, args.json, terminal),
    }
}

fn converse(session: &mut ChatSession<'_>, is_json: bool, terminal: &Terminal) -> Result<(), Failure> {
    let answer_break = AnswerBreak::install()?;
    if terminal.is_interactive() && !is_json {
        terminal.note("/reset forgets the conversation, /system TEXT sets the system text, /exit leaves, Ctrl-C breaks off an answer");
    }
    loop {
        let line = read_line("> ")
            .map_err(|error| Failure::new(Exit::Usage, format!("cannot read the question: {error}")))?;
        let Some(line) = line else { return Ok(()) };
        let line = line.trim();
        match line.split_once(char::is_whitespace).unwrap_or((line, "")) {
            ("", _) => {}
            ("/exit" | "/quit", "") => return Ok(()),
            ("/reset", "") => session.clear(),
            ("/system", text) => {
                session.set_system(text.trim());
                session.clear();
            }
            (word, _) if word.starts_with('/') && !word[1..].contains('/') => {
                terminal.warning(format_args!(
                    "{word} is not a command; there are /reset, /system TEXT and /exit"
                ));
            }
            _ => match answer(session, line, is_json, &answer_break, terminal) {
                Ok(_) => {}
                // Too long a conversation, say: the user can go on after /reset.
                Err(failure) if terminal.is_interactive() => terminal.failure(&failure),
                Err(failure) => return Err(failure),
            },
        }
    }
}

/// Asks one question and shows the answer as it comes.
fn answer(
    session: &mut ChatSession<'_>,
    question: &str,
    is_json: bool,
    answer_break: &AnswerBreak,
    terminal: &Terminal,
) -> Result<ChatReply, Failure> {
    answer_break.begin();
    let mut on_text = |text: &str| {
        if !is_json {
            terminal.stream(text);
        }
        if answer_break.is_wanted() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let reply = session.say(question, &mut on_text);
    answer_break.end();
    if is_json {
        let reply = reply?;
        terminal.json(&json!({
            "text": reply.text,
            "finish": finish_name(reply.finish),
            "n_prompt_tokens": reply.n_prompt,
            "n_new_tokens": reply.ids.len(),
            "secs": reply.secs,
            "first_token_secs": reply.first_token_secs,
        }))?;
        return Ok(reply);
    }
    terminal.line("");
    let reply = reply?;
    if terminal.is_interactive() {
        terminal.note(terminal.paint_note(Style::Dim, &speed(&reply)));
    }
    Ok(reply)
}

fn speed(reply: &ChatReply) -> String {
    let n_new = reply.ids.len();
    let secs = reply.secs - reply.first_token_secs;
    let rate = if 1 < n_new && 0.0 < secs {
        format!(", {:.1} tok/s", (n_new - 1) as f64 / secs)
    } else {
        String::new()
    };
    let why = match reply.finish {
        FinishReason::EndOfText | FinishReason::StopText => "",
        FinishReason::MaxNewTokens => ", cut at --max-new-tokens",
        FinishReason::ContextFull => ", cut because the model's context is full",
        FinishReason::MaxTime => ", cut at the time limit",
        FinishReason::Cancelled => ", broken off",
    };
    format!("[{} + {n_new} tokens{rate}{why}]", reply.n_prompt)
}

const fn finish_name(finish: FinishReason) -> &'static str {
    match finish {
        FinishReason::EndOfText => "end_of_text",
        FinishReason::StopText => "stop_text",
        FinishReason::MaxNewTokens => "max_new_tokens",
        FinishReason::ContextFull => "context_full",
        FinishReason::MaxTime => "max_time",
        FinishReason::Cancelled => "cancelled",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampling() -> SamplingArgs {
        SamplingArgs {
            temperature: None,
            top_k: None,
            top_p: None,
            min_p: None,
            num_beams: None,
            repetition_penalty: None,
            max_new_tokens: None,
            stop: Vec::new(),
            seed: None,
        }
    }

    #[test]
    fn what_is_not_said_stays_as_it_was() {
        let before = GenerationSettings {
            max_new_tokens: 17,
            do_sample: true,
            temperature: 0.3,
            ..Default::default()
        };
        let mut settings = before.clone();
        sampling().apply(&mut settings);
        assert_eq!(settings, before);
    }

    #[test]
    fn a_temperature_switches_drawing_on_and_zero_switches_it_off() {
        let mut settings = GenerationSettings::default();
        SamplingArgs { temperature: Some(0.7), ..sampling() }.apply(&mut settings);
        assert!(settings.do_sample && settings.temperature == 0.7);
        SamplingArgs { temperature: Some(0.0), ..sampling() }.apply(&mut settings);
        assert!(!settings.do_sample);
        settings.num_beams = 3;
        SamplingArgs { top_k: Some(5), ..sampling() }.apply(&mut settings);
        assert_eq!(settings.num_beams, 1);
        assert!(settings.do_sample && settings.top_k == 5);
    }
}
