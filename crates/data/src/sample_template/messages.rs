//! A conversation as messages that a template writes whole: as they are, or with the gentlest change that it needs.

use serde_json::{Value as Json, json};

use super::shape::ThoughtKey;
use super::{TemplateReader, holds};
use crate::conversation::Conversation;
use crate::messages::THOUGHT;
use crate::token_sample::SampleNotes;

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

/// How the reasons begin that name what a template leaves out.
const LEFT_OUT: &str = "the chat template does not write";

/// Messages with the places of the answers among them, and what was changed about them.
pub(super) struct Messages {
    pub(super) list: Vec<Json>,
    pub(super) answers: Vec<usize>,
    changes: Adjustment,
}

impl TemplateReader {
    /// The conversation as messages that the template writes whole.
    pub(super) fn messages(&self, conversation: &Conversation) -> Result<(Messages, SampleNotes), String> {
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
                // What the template leaves out says more than how it failed on the messages before they were changed.
                Err(reason) if reason.starts_with(LEFT_OUT) => {
                    refusal = refusal.filter(|first: &String| first.starts_with(LEFT_OUT)).or(Some(reason));
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
}

pub(super) fn role_of(message: &Json) -> &str {
    message.get("role").and_then(Json::as_str).unwrap_or_default()
}

/// The content of a message, if it is a text.
pub(super) fn text_of(message: &Json) -> Option<&str> {
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

pub(super) fn set(message: &mut Json, key: &str, value: Json) {
    if let Json::Object(message) = message {
        message.insert(key.to_owned(), value);
    }
}

/// Whether two messages are one of the same user.
fn are_joined(last: &Json, next: &Json) -> bool {
    role_of(last) == "user" && role_of(next) == "user"
}
