//! One message of a conversation as data sets write it: OpenAI's `{role, content}` or ShareGPT's `{from, value}`, with the
//! keys that may stand beside them.
//!
//! Nothing of a message passes without a word: [`MESSAGE_KEYS`] says for each known key whether it is read here, given to
//! the chat template, or not used and counted. Unknown keys are given to the template, as transformers does.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};

use crate::table::Cell;

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    System,
    User,
    Assistant,
    /// What a tool gives back.
    Tool,
}

/// A message in the form that chat templates know.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Message {
    pub(crate) role: Role,
    /// A text, null where the message has none, or what a tool gave back as JSON.
    pub(crate) content: Json,
    /// What the template gets besides role and content: `tool_calls`, `reasoning_content`, `name` and so on.
    pub(crate) keys: Map<String, Json>,
    /// Whether an answer is to be learned; otherwise it is context for what follows.
    pub(crate) is_learned: bool,
}

/// What becomes of a key of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyUse {
    /// Read here; it decides something.
    Read,
    /// Given to the chat template under this name.
    Template(&'static str),
    /// Has a known meaning that training on texts has no use for; counted in a note.
    Noted,
}

use KeyUse::{Noted, Read, Template};

/// The keys with a known meaning.
pub(crate) const MESSAGE_KEYS: &[(&str, KeyUse)] = &[
    ("role", Read),
    ("from", Read),
    ("content", Read),
    ("value", Read),
    // Whether an answer is learned: OpenAI, axolotl (two), LLaMA-Factory.
    ("weight", Read),
    ("train", Read),
    ("training", Read),
    ("loss", Read),
    ("function_call", Read),
    ("tool_calls", Template("tool_calls")),
    ("tool_call_id", Template("tool_call_id")),
    ("name", Template("name")),
    ("reasoning_content", Template(THOUGHT)),
    ("thinking", Template(THOUGHT)),
    ("reasoning", Template(THOUGHT)),
    ("thought", Template(THOUGHT)),
    ("images", Noted),
    ("image", Noted),
    ("image_url", Noted),
    ("videos", Noted),
    ("audio", Noted),
    ("audios", Noted),
    ("refusal", Noted),
    ("annotations", Noted),
    ("train_detail", Noted),
];

/// The key under which a message carries what was thought before the answer, until the template's own name is known.
pub(crate) const THOUGHT: &str = "reasoning_content";

/// Keys that no message uses, and how many messages have them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct UnusedKeys(BTreeMap<String, usize>);

impl UnusedKeys {
    pub(crate) fn count(&mut self, what: impl Into<String>) {
        *self.0.entry(what.into()).or_default() += 1;
    }

    /// A sentence for each.
    pub(crate) fn notes(&self) -> Vec<String> {
        self.0.iter().map(|(what, n)| format!("{n} messages have {what}, which is not used")).collect()
    }
}

impl Role {
    /// By any of the names data sets use.
    pub(crate) fn of(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "system" | "developer" => Some(Self::System),
            "user" | "human" | "prompter" => Some(Self::User),
            "assistant" | "gpt" | "model" | "bot" | "chatgpt" | "bard" | "bing" | "ai" | "function_call" => {
                Some(Self::Assistant)
            }
            "tool" | "function" | "observation" | "tool_response" | "ipython" => Some(Self::Tool),
            _ => None,
        }
    }

    /// The name that chat templates know.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }
}

impl Message {
    /// A message that is a text and nothing else.
    pub(crate) fn new(role: Role, text: impl Into<String>) -> Self {
        Self { role, content: Json::String(text.into()), keys: Map::new(), is_learned: true }
    }

    /// The content as text.
    pub(crate) fn text(&self) -> String {
        match &self.content {
            Json::String(text) => text.clone(),
            Json::Null => String::new(),
            other => other.to_string(),
        }
    }

    /// Whether it is a text and nothing else.
    pub(crate) fn is_plain(&self) -> bool {
        self.keys.is_empty() && self.content.is_string() && self.is_learned
    }

    /// What a chat template is given.
    pub(crate) fn to_json(&self) -> Json {
        message_json(self.role.name(), &self.content, &self.keys)
    }
}

/// What a chat template is given: role, content, then the further keys.
pub(crate) fn message_json(role: &str, content: &Json, keys: &Map<String, Json>) -> Json {
    let mut message = Map::new();
    message.insert("role".to_owned(), json!(role));
    message.insert("content".to_owned(), content.clone());
    message.extend(keys.iter().map(|(key, value)| (key.clone(), value.clone())));
    Json::Object(message)
}

/// Whether a value is a list of messages, as far as its first entry tells.
pub(crate) fn looks_like_messages(value: &Json) -> bool {
    let is_message = |entry: &Json| {
        let has = |key: &str| entry.get(key).is_some();
        (has("role") && (has("content") || has("tool_calls"))) || (has("from") && has("value"))
    };
    value.as_array().and_then(|list| list.first()).is_some_and(is_message)
}

/// The list of messages that a cell holds, also as JSON text or as a single message; `None` for other cells.
pub(crate) fn message_list(cell: &Cell) -> Option<Vec<Json>> {
    let list = match cell {
        Cell::Json(Json::Array(list)) => list.clone(),
        Cell::Json(message @ Json::Object(_)) => vec![message.clone()],
        Cell::Text(text) if text.trim_start().starts_with(['[', '{']) => {
            match serde_json::from_str::<Json>(text).ok()? {
                Json::Array(list) => list,
                message @ Json::Object(_) => vec![message],
                _ => return None,
            }
        }
        _ => return None,
    };
    let is_empty_list = list.is_empty() && matches!(cell, Cell::Json(_));
    (is_empty_list || looks_like_messages(&Json::Array(list.clone()))).then_some(list)
}

/// The messages of a cell that holds such a list, also as JSON text.
#[cfg(test)]
pub(crate) fn messages_of(cell: &Cell, unused: &mut UnusedKeys) -> Result<Vec<Message>, String> {
    let parsed;
    let list = match cell {
        Cell::Json(Json::Array(list)) => list,
        Cell::Text(text) => {
            parsed = serde_json::from_str::<Vec<Json>>(text)
                .map_err(|_| "expected a list of messages, found a text that is no such list".to_owned())?;
            &parsed
        }
        Cell::Missing => return Err("the list of messages is missing".to_owned()),
        _ => return Err("expected a list of messages".to_owned()),
    };
    messages_of_list(list, unused)
}

/// The messages of a list `[{role, content}]` or `[{from, value}]`, or the reason why there are none.
pub(crate) fn messages_of_list(list: &[Json], unused: &mut UnusedKeys) -> Result<Vec<Message>, String> {
    let mut number =
        |(i, entry)| message_of(entry, unused).map_err(|reason| format!("message {}: {reason}", i + 1));
    list.iter().enumerate().map(&mut number).collect()
}

fn message_of(entry: &Json, unused: &mut UnusedKeys) -> Result<Message, String> {
    let Json::Object(entry) = entry else { return Err(format!("expected an object, found {entry}")) };
    let Some(name) = entry.get("role").or_else(|| entry.get("from")).and_then(Json::as_str) else {
        return Err("has no role (or from)".to_owned());
    };
    let Some(role) = Role::of(name) else {
        return Err(format!("the role {name:?} is none of system, user, assistant, tool"));
    };
    let mut message = Message { role, content: Json::Null, keys: Map::new(), is_learned: true };
    if name.eq_ignore_ascii_case("function_call") {
        let call = entry.get("value").or_else(|| entry.get("content")).unwrap_or(&Json::Null);
        message.keys.insert("tool_calls".to_owned(), tool_calls(call)?);
    } else {
        message.content = content_of(entry, role, &mut message.keys)?;
    }
    for (key, value) in entry {
        let known = MESSAGE_KEYS.iter().find(|(name, _)| name == key).map(|(_, key_use)| *key_use);
        match known {
            _ if is_nothing(value) => {}
            Some(Read) => read_key(&mut message, key, value, unused)?,
            Some(Template("tool_calls")) => {
                message.keys.insert(key.clone(), tool_calls(value)?);
            }
            Some(Template(name)) => {
                message.keys.insert(name.to_owned(), value.clone());
            }
            Some(Noted) => unused.count(format!("the key {key}")),
            None => {
                if looks_like_messages(value) {
                    unused.count(format!("a list of messages in the key {key}"));
                }
                message.keys.insert(key.clone(), value.clone());
            }
        }
    }
    if message.content.is_null() && !message.keys.contains_key("tool_calls") {
        return Err("has no content (or value)".to_owned());
    }
    Ok(message)
}

/// Tables give every message of a column the same keys, null where it has none.
fn is_nothing(value: &Json) -> bool {
    match value {
        Json::Null => true,
        Json::Array(list) => list.is_empty(),
        _ => false,
    }
}

/// Keys that decide something here; those of the content have been read.
fn read_key(message: &mut Message, key: &str, value: &Json, unused: &mut UnusedKeys) -> Result<(), String> {
    match key {
        "weight" | "train" | "training" | "loss" => {
            let is_learned = match value {
                Json::Bool(is_learned) => *is_learned,
                Json::Number(number) => match number.as_f64() {
                    Some(0.0) => false,
                    Some(1.0) => true,
                    _ => {
                        unused.count(format!("a {key} other than 0 and 1 (they are learned as all others)"));
                        true
                    }
                },
                other => return Err(format!("{key} is {other} instead of true, false, 0 or 1")),
            };
            match message.role {
                Role::Assistant => message.is_learned &= is_learned,
                Role::System | Role::User | Role::Tool if is_learned && key != "weight" => {
                    unused.count(format!("{key}: true and are no answers (only answers are learned)"));
                }
                Role::System | Role::User | Role::Tool => {}
            }
        }
        "function_call" => {
            message.keys.insert("tool_calls".to_owned(), tool_calls(value)?);
        }
        _ => {}
    }
    Ok(())
}

/// Calls as chat templates know them, `[{type, function: {name, arguments}}]` with the arguments as an object, out of
/// such a list, of bare calls `{name, arguments}`, or of either as JSON text.
fn tool_calls(value: &Json) -> Result<Json, String> {
    let calls = match value {
        Json::String(text) => {
            return tool_calls(&parsed(text).ok_or("calls a tool by a text that is no JSON")?);
        }
        Json::Array(calls) => calls.iter().map(tool_call).collect::<Result<Vec<_>, _>>()?,
        call @ Json::Object(_) => vec![tool_call(call)?],
        other => return Err(format!("calls a tool by {other} instead of an object")),
    };
    Ok(Json::Array(calls))
}

fn tool_call(call: &Json) -> Result<Json, String> {
    let Json::Object(call) = call else {
        return Err(format!("calls a tool by {call} instead of an object"));
    };
    let mut function = match call.get("function") {
        Some(Json::Object(function)) => function.clone(),
        _ => ["name", "arguments", "parameters"]
            .iter()
            .filter_map(|key| Some(((*key).to_owned(), call.get(*key)?.clone())))
            .collect(),
    };
    if let Some(parameters) = function.remove("parameters") {
        function.entry("arguments").or_insert(parameters);
    }
    if !function.get("name").is_some_and(Json::is_string) {
        return Err("calls a tool without a name".to_owned());
    }
    // OpenAI writes them as JSON text, which a template would quote a second time.
    let arguments = match function.get("arguments") {
        Some(Json::String(text)) if text.trim().is_empty() => json!({}),
        Some(Json::String(text)) => parsed(text).unwrap_or_else(|| json!(text)),
        Some(Json::Null) | None => json!({}),
        Some(other) => other.clone(),
    };
    function.insert("arguments".to_owned(), arguments);
    let mut out = Map::new();
    out.insert("type".to_owned(), json!("function"));
    out.extend(call.get("id").filter(|id| !id.is_null()).map(|id| ("id".to_owned(), id.clone())));
    out.insert("function".to_owned(), Json::Object(function));
    Ok(Json::Object(out))
}

/// Descriptions of tools as chat templates know them, `[{type, function}]`, out of such a list, of bare functions, or of
/// either as JSON text. `None` where there are none.
pub(crate) fn tools_of(cell: &Cell) -> Result<Option<Json>, String> {
    let list = match cell {
        Cell::Missing => return Ok(None),
        Cell::Text(text) if text.trim().is_empty() => return Ok(None),
        Cell::Text(text) => parsed(text).ok_or("the tools are a text that is no JSON")?,
        Cell::Json(list) => list.clone(),
        other => return Err(format!("the tools are {} instead of a list", other.text())),
    };
    let tools = match list {
        Json::Null => return Ok(None),
        Json::Array(tools) if tools.is_empty() => return Ok(None),
        Json::Array(tools) => tools,
        tool @ Json::Object(_) => vec![tool],
        other => return Err(format!("the tools are {other} instead of a list")),
    };
    let wrapped = |tool: Json| match tool {
        Json::String(text) => parsed(&text).filter(Json::is_object).ok_or("a tool is a text that is no JSON"),
        tool => Ok(tool),
    };
    let with_type = |tool: Json| match tool.get("function").is_none() && tool.get("name").is_some() {
        true => json!({"type": "function", "function": tool}),
        false => tool,
    };
    let tools: Vec<Json> =
        tools.into_iter().map(|tool| wrapped(tool).map(with_type)).collect::<Result<_, _>>()?;
    Ok(Some(Json::Array(tools)))
}

fn parsed(text: &str) -> Option<Json> {
    serde_json::from_str(text).ok()
}

/// A text, or a list of parts of which all are text; thoughts among them become a key. Tools may give any JSON back.
fn content_of(entry: &Map<String, Json>, role: Role, keys: &mut Map<String, Json>) -> Result<Json, String> {
    match entry.get("content").or_else(|| entry.get("value")) {
        Some(Json::String(text)) => Ok(json!(text)),
        Some(Json::Null) | None => Ok(Json::Null),
        Some(Json::Array(parts)) if role != Role::Tool || parts.iter().all(is_part) => {
            let mut text = String::new();
            for part in parts {
                match part_of(part)? {
                    Part::Text(part) => text.push_str(part),
                    Part::Thought(thought) => {
                        keys.insert(THOUGHT.to_owned(), json!(thought));
                    }
                }
            }
            Ok(json!(text))
        }
        Some(result) if role == Role::Tool => Ok(result.clone()),
        Some(other) => Err(format!("the content is {other} instead of a text")),
    }
}

enum Part<'a> {
    Text(&'a str),
    Thought(&'a str),
}

fn is_part(part: &Json) -> bool {
    part.is_string() || part.get("type").is_some()
}

fn part_of(part: &Json) -> Result<Part<'_>, String> {
    let kind = match part {
        Json::String(text) => return Ok(Part::Text(text)),
        Json::Object(part) => part.get("type").and_then(Json::as_str),
        other => return Err(format!("has a part {other} instead of a text")),
    };
    let text = |keys: &[&str]| keys.iter().find_map(|key| part.get(*key).and_then(Json::as_str));
    let found = match kind {
        Some("text" | "input_text" | "output_text") | None => {
            text(&["text", "content", "value"]).map(Part::Text)
        }
        Some("thinking" | "reasoning") => {
            text(&["thinking", "reasoning", "text", "content"]).map(Part::Thought)
        }
        Some(kind) => return Err(format!("has a part of type {kind:?}; only text can be learned from")),
    };
    found.ok_or_else(|| format!("has a part without a text: {part}"))
}

#[cfg(test)]
#[path = "messages_tests.rs"]
mod tests;
