//! Takes what a chat template writes apart into prompts and answers, for any template.
//!
//! For each answer the messages before it are rendered with the opening of an answer: that is the prompt, because
//! generation starts from exactly this text. The answer is what the rendering of the messages including it has more.
//! Templates do not always agree with themselves, so that
//!
//! - what is written only at the end of a conversation (`<|endoftext|>` after the last turn) belongs to no answer, unless
//!   nothing else ends one;
//! - where the generation prompt opens a thought that the rendering with the answer has not, the thought is written and
//!   closed in the answer;
//! - where what stands before the answer is written in another way once it is there (a system text moves, thoughts go),
//!   the answer is what follows the last message;
//! - where the template refuses or leaves out the system text, it is put in front of the first message of the user.
//!
//! Whether an answer's prompt goes on where the answer before ends is found out later: it decides only how many samples a
//! conversation becomes.

mod messages;
mod shape;

use std::ops::Range;

use serde_json::{Map, Value as Json, json};
use tunesmith_formats::chat_template::{ChatTemplate, Rendered};

use crate::conversation::{Conversation, Round};
use crate::messages::THOUGHT;
use crate::token_sample::SampleNotes;
use messages::{set, text_of};
use shape::Shape;

/// An answer and all that stands before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Turn {
    /// What generation starts from.
    pub(crate) prompt: String,
    /// What is to be generated, the end of the turn included.
    pub(crate) answer: String,
    /// The parts of the answer that are learned, as byte ranges: all of it unless the template marks less.
    pub(crate) learned: Vec<Range<usize>>,
    /// Where the text of the last message before the answer begins in the prompt: what stands before it is never cut.
    pub(crate) content_at: usize,
}

/// A chat template with what is known of its ways.
#[derive(Debug, Clone)]
pub(crate) struct TemplateReader {
    template: ChatTemplate,
    variables: Map<String, Json>,
    /// Contents are lists of parts: templates of models that see images want them.
    has_parts: bool,
    shape: Shape,
}

impl TemplateReader {
    /// Learns the template's ways from a few made-up conversations. `special` says whether a text is that of a special token.
    pub(crate) fn new(template: ChatTemplate, bos: &str, eos: &str, special: &[String]) -> Self {
        let mut variables = Map::new();
        variables.insert("bos_token".to_owned(), json!(bos));
        variables.insert("eos_token".to_owned(), json!(eos));
        let mut reader = Self { template, variables, has_parts: false, shape: Shape::default() };
        reader.has_parts =
            !reader.writes_texts() && Self { has_parts: true, ..reader.clone() }.writes_texts();
        reader.shape = reader.find_shape(special).unwrap_or_default();
        reader.shape.thought = reader.find_thought_key();
        reader
    }

    pub(crate) fn template(&self) -> &ChatTemplate {
        &self.template
    }

    pub(crate) fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The turns of the rounds at `round_idxs`, which ascend, each in its own context.
    ///
    /// # Errors
    /// Why the template cannot write the conversation, in words.
    pub(crate) fn turns(
        &self,
        conversation: &Conversation,
        round_idxs: &[usize],
    ) -> Result<(Vec<Turn>, SampleNotes), String> {
        let (messages, mut notes) = self.messages(conversation)?;
        let mut turns = Vec::with_capacity(round_idxs.len());
        for round_idx in round_idxs {
            let Some((answer_at, round)) =
                messages.answers.get(*round_idx).copied().zip(conversation.rounds.get(*round_idx))
            else {
                continue;
            };
            turns.push(self.turn(&messages.list, answer_at, round, conversation, &mut notes)?);
        }
        Ok((turns, notes))
    }

    fn turn(
        &self,
        messages: &[Json],
        answer_at: usize,
        round: &Round,
        conversation: &Conversation,
        notes: &mut SampleNotes,
    ) -> Result<Turn, String> {
        let (before, with) = (messages.get(..answer_at), messages.get(..=answer_at));
        let (before, with) = (before.unwrap_or_default(), with.unwrap_or_default());
        let prompt = self.render(before, true, conversation)?.text;
        let rendered = self.render(with, false, conversation)?;
        let content_at = content_at(&prompt, before).unwrap_or(0);
        let (answer, learned) = match self.rest(&prompt, &rendered) {
            Some(found) => found,
            None => {
                let answer = self
                    .with_thought(&prompt, &rendered.text, round, notes)
                    .or_else(|| self.after_last_message(&prompt, &rendered.text, content_at))
                    .ok_or_else(|| cannot_separate(&prompt, &rendered.text))?;
                let whole = 0..answer.len();
                (answer, vec![whole])
            }
        };
        self.check_answer(&answer, round, notes)?;
        Ok(Turn { prompt, answer, learned, content_at })
    }

    /// What the rendering has more than the prompt, and what of it the template marks as the assistant's.
    fn rest(&self, prompt: &str, rendered: &Rendered) -> Option<(String, Vec<Range<usize>>)> {
        let answer = rendered.text.strip_prefix(prompt)?;
        let answer = self.without_conversation_end(answer);
        let whole = 0..answer.len();
        let learned = match &rendered.generated {
            None => vec![whole],
            Some(spans) => {
                let shifted = |span: &Range<usize>| {
                    let start = span.start.saturating_sub(prompt.len());
                    start..span.end.saturating_sub(prompt.len()).min(answer.len())
                };
                spans.iter().map(shifted).filter(|span| span.start < span.end).collect()
            }
        };
        Some((answer.to_owned(), learned))
    }

    /// The answer where the prompt ends in a thought that the rendering with the answer writes in another way: open, and
    /// the rendering has it elsewhere or not at all; or closed at once, which leaves no room for one.
    fn with_thought(
        &self,
        prompt: &str,
        rendered: &str,
        round: &Round,
        notes: &mut SampleNotes,
    ) -> Option<String> {
        const CLOSE: &str = "</think>";
        const OPEN: &str = "<think>";
        let (base, tail) = prompt.rsplit_once(OPEN)?;
        let rest = rendered.strip_prefix(base)?;
        let key = round.details.as_ref().and_then(|details| details.answer_keys.get(THOUGHT)?.as_str());
        let in_content = round.answer.split_once(OPEN).and_then(|(_, rest)| Some(rest.split_once(CLOSE)?.0));
        let thought = key.or(in_content).unwrap_or("").trim();
        match tail.trim() {
            "" => {
                notes.has_empty_thought |= thought.is_empty();
                // A thought that the rendering has, less the white space that the prompt has already.
                let written = rest.strip_prefix(OPEN).filter(|written| holds(written, thought));
                Some(match written {
                    Some(written) => self.without_conversation_end(written.trim_start()).to_owned(),
                    None => format!("{thought}\n{CLOSE}\n\n{}", self.without_conversation_end(rest)),
                })
            }
            CLOSE => {
                notes.has_unread_thought |= !thought.is_empty();
                let spoken = rest.split_once(CLOSE).map_or(rest, |(_, spoken)| spoken.trim_start());
                Some(self.without_conversation_end(spoken).to_owned())
            }
            _ => None,
        }
    }

    /// The answer where the template writes what stands before it in another way once it is there (a system text moves,
    /// earlier thoughts go): what follows the last message and the opening of the answer.
    fn after_last_message(&self, prompt: &str, rendered: &str, content_at: usize) -> Option<String> {
        let anchor = prompt.get(content_at..).filter(|anchor| !anchor.trim().is_empty())?;
        let (_, answer) = rendered.rsplit_once(anchor)?;
        Some(self.without_conversation_end(answer).to_owned())
    }

    fn without_conversation_end<'a>(&self, answer: &'a str) -> &'a str {
        match self.shape.conversation_end.as_str() {
            "" => answer,
            end => answer.strip_suffix(end).unwrap_or(answer),
        }
    }

    /// Whether the template wrote what the answer says.
    fn check_answer(&self, answer: &str, round: &Round, notes: &mut SampleNotes) -> Result<(), String> {
        let Some(details) = &round.details else {
            notes.is_rewritten |= !holds(answer, spoken_part(&round.answer));
            return Ok(());
        };
        if let Some(Json::Array(calls)) = details.answer_keys.get("tool_calls") {
            let name = |call: &Json| call.get("function")?.get("name")?.as_str().map(str::to_owned);
            if let Some(lost) = calls.iter().filter_map(name).find(|name| !holds(answer, name)) {
                return Err(format!("the chat template does not write the call of the tool {lost}"));
            }
        } else {
            notes.is_rewritten |= !holds(answer, spoken_part(&round.answer));
        }
        let thought = details.answer_keys.get(THOUGHT).and_then(Json::as_str).unwrap_or("");
        notes.has_unread_thought |= !holds(answer, thought.trim());
        Ok(())
    }

    fn render(
        &self,
        messages: &[Json],
        add_generation_prompt: bool,
        conversation: &Conversation,
    ) -> Result<Rendered, String> {
        let mut variables = self.variables.clone();
        variables.extend(conversation.variables.clone());
        self.template
            .render_spans(&self.in_its_form(messages), add_generation_prompt, &variables)
            .map_err(|error| error.to_string())
    }

    pub(super) fn in_its_form(&self, messages: &[Json]) -> Json {
        match self.has_parts {
            true => messages.iter().cloned().map(as_parts).collect(),
            false => Json::Array(messages.to_vec()),
        }
    }
}

/// A message whose content is a list of one part.
fn as_parts(mut message: Json) -> Json {
    if let Some(Json::String(text)) = message.get("content") {
        let parts = json!([{"type": "text", "text": text}]);
        set(&mut message, "content", parts);
    }
    message
}

/// Whether a text is written in a rendering, as it is or as a JSON string.
fn holds(rendered: &str, text: &str) -> bool {
    let text = text.trim();
    if text.is_empty() || rendered.contains(text) {
        return true;
    }
    let quoted = json!(text).to_string();
    quoted.get(1..quoted.len() - 1).is_some_and(|escaped| rendered.contains(escaped))
}

/// An answer without a thought in tags, with which templates do as they like.
fn spoken_part(answer: &str) -> &str {
    answer.rsplit_once("</think>").map_or(answer, |(_, spoken)| spoken)
}

/// Where the text of the last message begins in the prompt.
fn content_at(prompt: &str, before: &[Json]) -> Option<usize> {
    let text = text_of(before.last()?)?;
    if text.is_empty() { None } else { prompt.rfind(text) }
}

/// Bytes that two texts have in common at their beginning, whole characters only.
fn common_prefix(a: &str, b: &str) -> usize {
    let same = a.chars().zip(b.chars()).take_while(|(a, b)| a == b);
    same.map(|(c, _)| c.len_utf8()).sum()
}

fn cannot_separate(before: &str, with: &str) -> String {
    let n_same = common_prefix(before, with);
    let tail = |text: &str| -> String { text.get(n_same..).unwrap_or("").chars().take(40).collect() };
    format!(
        "the chat template does not let the answer be told from the prompt: the prompt for generation goes on with {:?} \
         where the conversation with the answer has {:?}; use dataset.text_format: markers, or a template of your own \
         (tokenizer.chat_template)",
        tail(before),
        tail(with)
    )
}

#[cfg(test)]
#[path = "sample_template_tests.rs"]
mod tests;
