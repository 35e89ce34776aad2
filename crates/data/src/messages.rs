//! Lists of messages with roles, and how they become rounds.

use serde_json::{Map, Value as Json};

use crate::conversation::Round;
use crate::table::Cell;

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    System,
    User,
    Assistant,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) role: Role,
    pub(crate) text: String,
}

/// What was unusual about conversations; each number counts conversations.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Oddities {
    pub(crate) n_merged: usize,
    pub(crate) n_late_systems: usize,
    pub(crate) n_opening_answers: usize,
    pub(crate) n_unanswered_ends: usize,
    pub(crate) n_without_answer: usize,
}

impl Role {
    /// By any of the names data sets use.
    pub(crate) fn of(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "system" | "developer" => Some(Self::System),
            "user" | "human" | "prompter" => Some(Self::User),
            "assistant" | "gpt" | "model" | "bot" | "chatgpt" | "bard" | "bing" => Some(Self::Assistant),
            _ => None,
        }
    }
}

impl Oddities {
    /// One sentence for each kind that occurred.
    pub(crate) fn notes(&self) -> Vec<String> {
        let sentences = [
            (self.n_merged, "have messages of the same side in a row; they were joined by an empty line"),
            (self.n_late_systems, "have system messages after the first round; they are not used"),
            (self.n_opening_answers, "start with an answer; its prompt is empty"),
            (self.n_unanswered_ends, "end with a prompt that nobody answers; it was left out"),
            (self.n_without_answer, "have no answer at all; they were left out"),
        ];
        let occurring = sentences.iter().filter(|(n, _)| *n > 0);
        occurring.map(|(n, what)| format!("{n} conversations {what}")).collect()
    }
}

/// The messages of a list `[{role, content}]` or `[{from, value}]`; text cells may hold such a list as JSON.
/// Otherwise the reason why not.
pub(crate) fn messages_of(cell: &Cell) -> Result<Vec<Message>, String> {
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
    let number = |(i, entry)| message_of(entry).map_err(|reason| format!("message {}: {reason}", i + 1));
    list.iter().enumerate().map(number).collect()
}

fn message_of(entry: &Json) -> Result<Message, String> {
    let Json::Object(entry) = entry else { return Err(format!("expected an object, found {entry}")) };
    let Some(name) = entry.get("role").or_else(|| entry.get("from")).and_then(Json::as_str) else {
        return Err("has no role (or from)".to_owned());
    };
    let Some(role) = Role::of(name) else {
        return Err(format!("the role {name:?} is none of system, user, assistant"));
    };
    if entry.get("tool_calls").is_some_and(|calls| calls.as_array().is_some_and(|calls| !calls.is_empty())) {
        return Err("calls a tool; conversations with tools cannot be learned from".to_owned());
    }
    Ok(Message { role, text: content_of(entry)? })
}

/// A text, or a list of parts of which all are text.
fn content_of(entry: &Map<String, Json>) -> Result<String, String> {
    match entry.get("content").or_else(|| entry.get("value")) {
        Some(Json::String(text)) => Ok(text.clone()),
        Some(Json::Array(parts)) => parts.iter().map(part_text).collect(),
        Some(Json::Null) | None => Err("has no content (or value)".to_owned()),
        Some(other) => Err(format!("the content is {other} instead of a text")),
    }
}

fn part_text(part: &Json) -> Result<&str, String> {
    match part {
        Json::String(text) => Ok(text),
        Json::Object(part) => match (part.get("type").and_then(Json::as_str), part.get("text")) {
            (Some("text") | None, Some(Json::String(text))) => Ok(text),
            (kind, _) => {
                Err(format!("has a part of type {:?}; only text can be learned from", kind.unwrap_or("?")))
            }
        },
        other => Err(format!("has a part {other} instead of a text")),
    }
}

/// Groups messages into rounds of one prompt and one answer.
///
/// Leading system messages belong to the first round. Neighbouring messages of one side are joined; an answer
/// without a prompt gets an empty one; a prompt at the end that nobody answers is left out. No answer, no rounds.
pub(crate) fn rounds_of(messages: &[Message], row: usize, oddities: &mut Oddities) -> Vec<Round> {
    let mut rounds: Vec<Round> = Vec::new();
    let mut system: Vec<&str> = Vec::new();
    let mut prompt: Vec<&str> = Vec::new();
    let mut last_role = None;
    let (mut is_merged, mut has_late_system, mut opens_with_answer) = (false, false, false);
    for Message { role, text } in messages {
        is_merged |= last_role == Some(*role) && *role != Role::System;
        match role {
            Role::System => {
                has_late_system |= last_role.is_some_and(|role| role != Role::System);
                system.push(text);
            }
            Role::User => prompt.push(text),
            Role::Assistant if last_role == Some(Role::Assistant) => {
                if let Some(round) = rounds.last_mut() {
                    round.answer.push_str("\n\n");
                    round.answer.push_str(text);
                }
            }
            Role::Assistant => {
                opens_with_answer |= rounds.is_empty() && prompt.is_empty();
                rounds.push(Round {
                    system: std::mem::take(&mut system).join("\n\n"),
                    prompt: std::mem::take(&mut prompt).join("\n\n"),
                    answer: text.clone(),
                    row,
                    ..Round::default()
                });
            }
        }
        last_role = Some(*role);
    }
    let has_answer = !rounds.is_empty();
    oddities.n_merged += usize::from(is_merged);
    oddities.n_late_systems += usize::from(has_late_system);
    oddities.n_opening_answers += usize::from(opens_with_answer);
    oddities.n_unanswered_ends += usize::from(has_answer && !prompt.is_empty());
    oddities.n_without_answer += usize::from(!has_answer);
    rounds
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rounds(list: Json) -> (Vec<[String; 3]>, Oddities) {
        let mut oddities = Oddities::default();
        let messages = messages_of(&Cell::Json(list)).unwrap();
        let rounds = rounds_of(&messages, 0, &mut oddities);
        (rounds.into_iter().map(|round| [round.system, round.prompt, round.answer]).collect(), oddities)
    }

    #[test]
    fn both_spellings_give_rounds() {
        let (found, oddities) = rounds(json!([
            {"role": "system", "content": "s"},
            {"role": "user", "content": [{"type": "text", "text": "p"}, {"type": "text", "text": "1"}]},
            {"role": "assistant", "content": "a1"},
            {"from": "human", "value": "p2"},
            {"from": "gpt", "value": "a2"},
        ]));
        assert_eq!(found, [["s", "p1", "a1"], ["", "p2", "a2"]]);
        assert_eq!(oddities, Oddities::default());
        assert!(oddities.notes().is_empty());
    }

    #[test]
    fn unusual_orders_are_handled_and_counted() {
        let message = |role: &str, content: &str| json!({"role": role, "content": content});
        let (found, oddities) = rounds(json!([
            message("system", "s1"),
            message("developer", "s2"),
            message("assistant", "hello"),
            message("user", "p1"),
            message("user", "p2"),
            message("assistant", "a1"),
            message("assistant", "a2"),
            message("system", "s3"),
            message("user", "p3"),
        ]));
        assert_eq!(found, [["s1\n\ns2", "", "hello"], ["", "p1\n\np2", "a1\n\na2"]]);
        let expected = Oddities {
            n_merged: 1,
            n_late_systems: 1,
            n_opening_answers: 1,
            n_unanswered_ends: 1,
            n_without_answer: 0,
        };
        assert_eq!(oddities, expected);
        assert_eq!(oddities.notes().len(), 4);

        let (found, oddities) = rounds(json!([message("user", "p")]));
        assert!(found.is_empty());
        assert_eq!(oddities, Oddities { n_without_answer: 1, ..Oddities::default() });
        // A system text in the middle of the list goes with the round it precedes.
        let late =
            [message("user", "p"), message("assistant", "a"), message("system", "s"), message("user", "q")];
        let (found, _) = rounds(json!([late[0], late[1], late[2], late[3], message("assistant", "b")]));
        assert_eq!(found, [["", "p", "a"], ["s", "q", "b"]]);
    }

    #[test]
    fn lists_in_text_cells_are_read() {
        let text = r#"[{"role": "user", "content": "p"}, {"role": "assistant", "content": "a"}]"#;
        assert_eq!(messages_of(&Cell::Text(text.to_owned())).unwrap().len(), 2);
    }

    #[test]
    fn what_is_no_message_is_explained() {
        let reason = |list: Json| messages_of(&Cell::Json(list)).unwrap_err();
        assert!(reason(json!([{"role": "tool", "content": "x"}])).contains("message 1: the role \"tool\""));
        assert!(reason(json!([{"role": "user", "content": null}])).contains("no content"));
        assert!(reason(json!([{"content": "x"}])).contains("no role"));
        assert!(reason(json!(["x"])).contains("expected an object"));
        let image = json!([{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]);
        assert!(reason(image).contains("\"image_url\"; only text"));
        let call = json!([{"role": "assistant", "content": "", "tool_calls": [{"id": "1"}]}]);
        assert!(reason(call).contains("calls a tool"));
        assert!(messages_of(&Cell::Text("hello".to_owned())).unwrap_err().contains("no such list"));
        assert!(messages_of(&Cell::Missing).unwrap_err().contains("missing"));
    }
}
