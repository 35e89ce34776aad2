//! An answer in its parts: thoughts, content, calls of tools, told apart while the text comes in.
//!
//! Held back is only what may still turn out to be a marker, white space that may be the last of its part, and calls until
//! they are complete. What looks like a call but cannot be read as one is content.

use crate::prompt::{THINK_CLOSE, THINK_OPEN};
use crate::tool_calls::{HERMES_CLOSE, HERMES_OPEN, LLAMA_TAG, MISTRAL_CALLS, ToolCall, ToolFormat};

/// A part of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplyPart {
    /// More of the thoughts between `<think>` and `</think>`.
    Reasoning(String),
    /// More of what is said.
    Content(String),
    /// A call.
    Call(ToolCall),
}

/// Where the text stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing but white space was seen; thoughts may begin.
    Start,
    /// In thoughts, of which nothing but white space was seen.
    ReasoningStart,
    Reasoning,
    /// Nothing of the content was seen but white space.
    ContentStart,
    Content,
    /// Between Hermes' tags.
    HermesCall,
    /// In calls that last to the end.
    Calls,
}

/// Takes the text of an answer and gives its parts.
#[derive(Debug)]
pub struct ReplySplitter {
    tools: Option<ToolFormat>,
    state: State,
    /// What was not given yet.
    pending: String,
}

impl ReplySplitter {
    /// For an answer that begins inside of its thoughts or not, and may have calls in this form or none.
    pub fn new(is_reasoning: bool, tools: Option<ToolFormat>) -> Self {
        let state = if is_reasoning { State::ReasoningStart } else { State::Start };
        Self { tools, state, pending: String::new() }
    }

    /// Whether the next text belongs to the thoughts, as far as is known.
    pub fn is_reasoning(&self) -> bool {
        matches!(self.state, State::ReasoningStart | State::Reasoning)
    }

    /// The parts that one more piece of the text makes certain.
    pub fn push(&mut self, text: &str) -> Vec<ReplyPart> {
        self.pending.push_str(text);
        let mut parts = Vec::new();
        while self.step(&mut parts) {}
        parts
    }

    /// What is left when no more text comes.
    pub fn finish(&mut self) -> Vec<ReplyPart> {
        let mut parts = Vec::new();
        let rest = std::mem::take(&mut self.pending);
        let text = rest.trim_end();
        match self.state {
            State::Start | State::ContentStart | State::Content => give(&mut parts, ReplyPart::Content, text),
            State::ReasoningStart | State::Reasoning => give(&mut parts, ReplyPart::Reasoning, text),
            State::HermesCall => {
                // The end of the text closes the last tag, too.
                let calls = ToolFormat::Hermes.parse(text);
                give_calls(&mut parts, calls, &format!("{HERMES_OPEN}{text}"));
            }
            State::Calls => {
                let calls = self.tools.and_then(|format| format.parse(text));
                give_calls(&mut parts, calls, text);
            }
        }
        self.state = State::Content;
        parts
    }

    /// Takes one part off the pending text if that is certain; says whether to look again.
    fn step(&mut self, parts: &mut Vec<ReplyPart>) -> bool {
        match self.state {
            State::Start => self.start(),
            State::ReasoningStart => {
                self.pending = self.pending.trim_start().to_owned();
                self.state = if self.pending.is_empty() { self.state } else { State::Reasoning };
                self.state == State::Reasoning
            }
            State::Reasoning => {
                self.up_to_marker(THINK_CLOSE, State::ContentStart, ReplyPart::Reasoning, parts)
            }
            State::ContentStart => self.content_start(),
            State::Content => match self.tools {
                Some(ToolFormat::Hermes) => {
                    self.up_to_marker(HERMES_OPEN, State::HermesCall, ReplyPart::Content, parts)
                }
                Some(ToolFormat::MistralList | ToolFormat::MistralArgs) => {
                    self.up_to_marker(MISTRAL_CALLS, State::Calls, ReplyPart::Content, parts)
                }
                Some(ToolFormat::Llama) | None => {
                    give(parts, ReplyPart::Content, &std::mem::take(&mut self.pending));
                    false
                }
            },
            State::HermesCall => {
                let Some((inner, rest)) = self.pending.split_once(HERMES_CLOSE) else { return false };
                let calls = ToolFormat::Hermes.parse(inner);
                self.state = if calls.is_some() { State::ContentStart } else { State::Content };
                give_calls(parts, calls, &format!("{HERMES_OPEN}{inner}{HERMES_CLOSE}"));
                self.pending = rest.to_owned();
                true
            }
            State::Calls => false,
        }
    }

    fn start(&mut self) -> bool {
        let text = self.pending.trim_start();
        if text.is_empty() || (text.len() < THINK_OPEN.len() && THINK_OPEN.starts_with(text)) {
            return false;
        }
        if let Some(rest) = text.strip_prefix(THINK_OPEN) {
            self.pending = rest.to_owned();
            self.state = State::ReasoningStart;
        } else {
            self.state = State::ContentStart;
        }
        true
    }

    fn content_start(&mut self) -> bool {
        let text = self.pending.trim_start();
        if text.is_empty() {
            self.pending.clear();
            return false;
        }
        self.state = State::Content;
        if self.tools == Some(ToolFormat::Llama) {
            if text.len() < LLAMA_TAG.len() && LLAMA_TAG.starts_with(text) {
                self.state = State::ContentStart;
                return false;
            }
            if text.starts_with('{') || text.starts_with(LLAMA_TAG) {
                self.state = State::Calls;
            }
        }
        self.pending = text.to_owned();
        true
    }

    /// Gives the text up to the marker, or without one up to where a marker or last white space may have begun.
    fn up_to_marker(
        &mut self,
        marker: &str,
        next: State,
        part: fn(String) -> ReplyPart,
        parts: &mut Vec<ReplyPart>,
    ) -> bool {
        if let Some((before, rest)) = self.pending.split_once(marker) {
            give(parts, part, before.trim_end());
            // Mistral's calls are read with their markers.
            self.pending = if next == State::Calls { format!("{marker}{rest}") } else { rest.to_owned() };
            self.state = next;
            return true;
        }
        let begins_marker = |at: &usize| marker.starts_with(self.pending.get(*at..).unwrap_or_default());
        let starts = self.pending.char_indices().map(|(at, _)| at);
        let certain = starts.filter(|at| self.pending.len() - at < marker.len()).find(begins_marker);
        let certain =
            self.pending.get(..certain.unwrap_or(self.pending.len())).unwrap_or_default().trim_end();
        let n_bytes = certain.len();
        give(parts, part, certain);
        self.pending.drain(..n_bytes);
        false
    }
}

fn give(parts: &mut Vec<ReplyPart>, part: fn(String) -> ReplyPart, text: &str) {
    if !text.is_empty() {
        parts.push(part(text.to_owned()));
    }
}

fn give_calls(parts: &mut Vec<ReplyPart>, calls: Option<Vec<ToolCall>>, text: &str) {
    match calls {
        Some(calls) => parts.extend(calls.into_iter().map(ReplyPart::Call)),
        None => give(parts, ReplyPart::Content, text),
    }
}

#[cfg(test)]
mod tests;
