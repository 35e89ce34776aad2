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

use std::ops::Range;

use serde_json::{Map, Value as Json, json};
use tunesmith_formats::chat_template::{ChatTemplate, Rendered};

use crate::conversation::{Conversation, Round};
use crate::messages::THOUGHT;
use crate::token_sample::SampleNotes;

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

/// What a template writes around an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Between the generation prompt and a plain answer: an empty thought, a channel.
    pub(crate) lead: String,
    /// What the generation prompt has more than the text before an answer: the opening of a thought.
    pub(crate) opening: String,
    /// After an answer that others follow.
    pub(crate) end: String,
    /// After `end`, at the end of the conversation only.
    pub(crate) conversation_end: String,
    /// How an answer's thought is given to the template; `None` when it writes none.
    thought: Option<ThoughtKey>,
}

/// Where a template looks for what was thought before an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ThoughtKey {
    /// In this key of the message.
    Key(&'static str),
    /// In the content, between tags.
    Content,
}

/// Changes to the messages with which a template writes what it would refuse or leave out as they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Adjustment {
    fills_nulls: bool,
    folds_system: bool,
    merges_roles: bool,
    /// Arguments of calls as JSON text, as OpenAI writes them.
    quotes_arguments: bool,
}

/// The gentlest first.
const ADJUSTMENTS: [Adjustment; 8] = {
    const AS_IS: Adjustment =
        Adjustment { fills_nulls: false, folds_system: false, merges_roles: false, quotes_arguments: false };
    [
        AS_IS,
        Adjustment { fills_nulls: true, ..AS_IS },
        Adjustment { folds_system: true, ..AS_IS },
        Adjustment { fills_nulls: true, folds_system: true, ..AS_IS },
        Adjustment { quotes_arguments: true, ..AS_IS },
        Adjustment { fills_nulls: true, quotes_arguments: true, ..AS_IS },
        Adjustment { fills_nulls: true, merges_roles: true, ..AS_IS },
        Adjustment { fills_nulls: true, folds_system: true, merges_roles: true, quotes_arguments: false },
    ]
};

/// Texts that no template writes by itself.
const PROBES: [&str; 3] = ["Zq7xprobeuser", "Zq7xprobeanswer", "Zq7xprobethought"];

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

    /// The conversation as messages that the template writes whole.
    fn messages(&self, conversation: &Conversation) -> Result<(Messages, SampleNotes), String> {
        let mut refusal = None;
        let mut tried = Vec::new();
        for adjustment in ADJUSTMENTS {
            let messages = self.adjusted(conversation, adjustment);
            let changes = messages.changes;
            if tried.contains(&changes) {
                continue;
            }
            tried.push(changes);
            match self.check_prompt(&messages, conversation) {
                Ok(()) => {
                    let notes = SampleNotes {
                        folds_system: changes.folds_system,
                        merges_roles: changes.merges_roles,
                        ..SampleNotes::default()
                    };
                    return Ok((messages, notes));
                }
                Err(reason) => {
                    refusal.get_or_insert(reason);
                }
            }
        }
        Err(refusal.unwrap_or_else(|| "there is no answer".to_owned()))
    }

    fn adjusted(&self, conversation: &Conversation, adjustment: Adjustment) -> Messages {
        let mut list = Vec::new();
        let mut answers = Vec::new();
        let system = conversation.system();
        let mut system = if system.trim().is_empty() { None } else { Some(system.to_owned()) };
        let mut changes = Adjustment::default();
        if !adjustment.folds_system
            && let Some(system) = system.take()
        {
            list.push(json!({"role": "system", "content": system}));
        }
        for round in &conversation.rounds {
            for mut message in round.messages_before() {
                let is_user = role_of(&message) == "user";
                if is_user && let Some(system) = system.take() {
                    changes.folds_system = true;
                    let text = message.get("content").and_then(Json::as_str).unwrap_or_default();
                    let both = if text.is_empty() { system } else { format!("{system}\n\n{text}") };
                    set(&mut message, "content", json!(both));
                }
                if adjustment.merges_roles && role_of(&message) == "system" {
                    changes.merges_roles = true;
                    set(&mut message, "role", json!("user"));
                }
                match list.last_mut() {
                    Some(last) if adjustment.merges_roles && are_joined(last, &message) => {
                        changes.merges_roles = true;
                        let text = |message: &Json| {
                            message.get("content").and_then(Json::as_str).unwrap_or_default().to_owned()
                        };
                        let both = format!("{}\n\n{}", text(last), text(&message));
                        set(last, "content", json!(both));
                    }
                    _ => list.push(message),
                }
            }
            let mut answer = round.answer_message();
            if adjustment.fills_nulls && answer.get("content").is_some_and(Json::is_null) {
                changes.fills_nulls = true;
                set(&mut answer, "content", json!(""));
            }
            if adjustment.quotes_arguments {
                changes.quotes_arguments |= quote_arguments(&mut answer);
            }
            self.place_thought(&mut answer);
            answers.push(list.len());
            list.push(answer);
        }
        Messages { list, answers, changes }
    }

    /// Puts the thought where the template looks for it.
    fn place_thought(&self, answer: &mut Json) {
        let Json::Object(message) = answer else { return };
        let Some(thought) = message.get(THOUGHT).cloned() else { return };
        match self.shape.thought {
            Some(ThoughtKey::Key(key)) => {
                message.shift_remove(THOUGHT);
                message.insert(key.to_owned(), thought);
            }
            Some(ThoughtKey::Content) => {
                message.shift_remove(THOUGHT);
                let content = message.get("content").and_then(Json::as_str).unwrap_or_default();
                let thought = thought.as_str().unwrap_or_default();
                let both = format!("<think>\n{}\n</think>\n\n{content}", thought.trim());
                message.insert("content".to_owned(), json!(both));
            }
            None => {}
        }
    }

    /// Whether the template writes all that stands before the last answer.
    fn check_prompt(&self, messages: &Messages, conversation: &Conversation) -> Result<(), String> {
        let Some(last) = messages.answers.last() else { return Err("there is no answer".to_owned()) };
        let before = messages.list.get(..*last).unwrap_or_default();
        let prompt = self.render(before, true, conversation)?.text;
        self.render(&messages.list, false, conversation)?;
        if let Some(Json::Array(tools)) = conversation.variables.get("tools") {
            let name =
                |tool: &Json| tool.get("function").unwrap_or(tool).get("name")?.as_str().map(str::to_owned);
            if let Some(lost) = tools.iter().filter_map(name).find(|name| !holds(&prompt, name)) {
                return Err(format!(
                    "the chat template does not write the tool {lost}; use a template that writes tools, or leave the \
                     column of the tools out"
                ));
            }
        }
        for message in before {
            let role = role_of(message);
            let Some(text) = text_of(message) else { continue };
            if role != "assistant" && !holds(&prompt, text) {
                let start: String = text.chars().take(40).collect();
                return Err(format!("the chat template does not write the message of the {role} {start:?}"));
            }
        }
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

    /// A made-up conversation as text, if the template takes it.
    fn probe(&self, messages: &[Json], add_generation_prompt: bool) -> Option<String> {
        self.template.render_json(&self.in_its_form(messages), add_generation_prompt, &self.variables).ok()
    }

    fn in_its_form(&self, messages: &[Json]) -> Json {
        match self.has_parts {
            true => messages.iter().cloned().map(as_parts).collect(),
            false => Json::Array(messages.to_vec()),
        }
    }

    fn writes_texts(&self) -> bool {
        let [user, ..] = PROBES;
        let prompt = self.probe(&[json!({"role": "user", "content": user})], true);
        prompt.is_some_and(|prompt| prompt.contains(user) && !prompt.contains(r#""type""#))
    }

    /// What follows answers and calls of tools, as far as the template writes them.
    pub(crate) fn ends(&self) -> Vec<String> {
        let [user, answer, _] = PROBES;
        let mut ends = vec![self.shape.end.clone()];
        let call =
            json!({"type": "function", "id": "Zq7xprobe", "function": {"name": answer, "arguments": {}}});
        for content in [Json::Null, json!("")] {
            let messages = [
                json!({"role": "user", "content": user}),
                json!({"role": "assistant", "content": content, "tool_calls": [call]}),
            ];
            if let Some(text) = self.probe(&messages, false)
                && let Some((_, rest)) = text.rsplit_once(answer)
            {
                ends.push(self.without_conversation_end(rest).to_owned());
            }
        }
        ends
    }

    fn find_shape(&self, special: &[String]) -> Option<Shape> {
        let [user, answer, _] = PROBES;
        let message = |role: &str, content: &str| json!({"role": role, "content": content});
        let turns = [message("user", user), message("assistant", answer), message("user", "Zq7xprobenext")];
        let prompt = self.probe(turns.get(..1)?, true)?;
        let with = self.probe(turns.get(..2)?, false)?;
        let header = prompt.rsplit_once(user)?.1;
        let (before, tail) = with.rsplit_once(answer)?;
        let before = before.rsplit_once(user)?.1;
        let n_same = common_prefix(header, before);
        let (opening, lead) = (header.get(n_same..)?, before.get(n_same..)?);
        let later = self.probe(&turns, true);
        // Where earlier answers disappear, nothing tells what ends a conversation from what ends an answer.
        let later =
            later.as_deref().and_then(|text| text.rsplit_once(answer)).map_or(tail, |(_, later)| later);
        let n_end = whole_tokens(tail, common_prefix(tail, later), special);
        let (end, conversation_end) = tail.split_at(n_end);
        // What ends nothing but the conversation is all that can end an answer.
        let ends_turns = special.iter().any(|token| end.contains(token.as_str()))
            || !special.iter().any(|token| conversation_end.contains(token.as_str()));
        let (end, conversation_end) = if ends_turns { (end, conversation_end) } else { (tail, "") };
        Some(Shape {
            lead: lead.to_owned(),
            opening: opening.to_owned(),
            end: end.to_owned(),
            conversation_end: conversation_end.to_owned(),
            thought: None,
        })
    }

    fn find_thought_key(&self) -> Option<ThoughtKey> {
        let [user, answer, thought] = PROBES;
        let is_written = |message: Json| {
            let text = self.probe(&[json!({"role": "user", "content": user}), message], false);
            text.is_some_and(|text| text.contains(thought))
        };
        for key in [THOUGHT, "thinking", "reasoning", "thought"] {
            let mut message = json!({"role": "assistant", "content": answer});
            set(&mut message, key, json!(thought));
            if is_written(message) {
                return Some(ThoughtKey::Key(key));
            }
        }
        // A template that takes thoughts out of earlier answers, or opens one, was made for answers that hold them.
        let knows_tags =
            self.template.source().contains("</think>") || self.shape.opening.contains("<think>");
        let content = format!("<think>\n{thought}\n</think>\n\n{answer}");
        (knows_tags && is_written(json!({"role": "assistant", "content": content})))
            .then_some(ThoughtKey::Content)
    }
}

/// Messages with the places of the answers among them, and what was changed about them.
struct Messages {
    list: Vec<Json>,
    answers: Vec<usize>,
    changes: Adjustment,
}

fn role_of(message: &Json) -> &str {
    message.get("role").and_then(Json::as_str).unwrap_or_default()
}

/// The content of a message, if it is a text.
fn text_of(message: &Json) -> Option<&str> {
    message.get("content")?.as_str().map(str::trim)
}

/// Writes the arguments of calls as JSON text; whether there were any.
fn quote_arguments(answer: &mut Json) -> bool {
    let Some(Json::Array(calls)) = answer.get_mut("tool_calls") else { return false };
    for call in calls {
        if let Some(arguments) = call.get_mut("function").and_then(|function| function.get_mut("arguments"))
            && !arguments.is_string()
        {
            *arguments = json!(arguments.to_string());
        }
    }
    true
}

/// A message whose content is a list of one part.
fn as_parts(mut message: Json) -> Json {
    if let Some(Json::String(text)) = message.get("content") {
        let parts = json!([{"type": "text", "text": text}]);
        set(&mut message, "content", parts);
    }
    message
}

fn set(message: &mut Json, key: &str, value: Json) {
    if let Json::Object(message) = message {
        message.insert(key.to_owned(), value);
    }
}

/// Whether two messages are one of the same user.
fn are_joined(last: &Json, next: &Json) -> bool {
    role_of(last) == "user" && role_of(next) == "user"
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

/// Moves a cut at `n` to the beginning of the special token that it would part.
fn whole_tokens(text: &str, n: usize, special: &[String]) -> usize {
    let parts = |token: &String| {
        let mut places = text.match_indices(token.as_str()).map(|(at, _)| at);
        places.find(|at| *at < n && n < at + token.len())
    };
    special.iter().filter_map(parts).min().unwrap_or(n)
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
