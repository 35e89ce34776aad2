//! How a list of messages becomes rounds: all that stands before an answer, and the answer.

use serde_json::Value as Json;

use crate::conversation::{Round, RoundDetails};
use crate::messages::{Message, Role};

/// What was unusual about conversations; each number counts conversations.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Oddities {
    pub(crate) n_merged: usize,
    pub(crate) n_late_systems: usize,
    pub(crate) n_opening_answers: usize,
    pub(crate) n_unanswered_ends: usize,
    pub(crate) n_without_answer: usize,
}

impl Oddities {
    /// One sentence for each kind that occurred. With marker texts there is no place for a late system text.
    pub(crate) fn notes(&self, has_markers: bool) -> Vec<String> {
        let late = match has_markers {
            true => "have system messages after the first round; with marker texts they are not used",
            false => {
                "have system messages after the first round; they are given to the chat template where they stand"
            }
        };
        let sentences = [
            (self.n_merged, "have answers in a row; they were joined by an empty line"),
            (self.n_late_systems, late),
            (self.n_opening_answers, "start with an answer; its prompt is empty"),
            (self.n_unanswered_ends, "end with a prompt that nobody answers; it was left out"),
            (self.n_without_answer, "have no answer at all; they were left out"),
        ];
        let occurring = sentences.iter().filter(|(n, _)| *n > 0);
        occurring.map(|(n, what)| format!("{n} conversations {what}")).collect()
    }
}

/// Groups messages into rounds of all that stands before an answer, and one answer.
///
/// Leading system messages belong to the first round. Answers in a row that are texts and nothing else are joined; an
/// answer without a prompt gets an empty one; a prompt at the end that nobody answers is left out. No answer, no rounds.
pub(crate) fn rounds_of(messages: &[Message], row: usize, oddities: &mut Oddities) -> Vec<Round> {
    let mut rounds: Vec<Round> = Vec::new();
    let mut systems: Vec<String> = Vec::new();
    let mut before: Vec<&Message> = Vec::new();
    let mut last: Option<&Message> = None;
    let (mut is_merged, mut has_late_system, mut opens_with_answer) = (false, false, false);
    for message in messages {
        let follows_answer = last.is_some_and(|last| last.role == Role::Assistant);
        match message.role {
            Role::System => {
                let is_late = last.is_some_and(|last| last.role != Role::System);
                has_late_system |= is_late;
                systems.push(message.text());
                if is_late {
                    before.push(message);
                }
            }
            Role::User | Role::Tool => before.push(message),
            Role::Assistant => {
                let is_plain = |message: &Message| message.is_plain();
                if follows_answer
                    && is_plain(message)
                    && last.is_some_and(is_plain)
                    && let Some(round) = rounds.last_mut()
                {
                    is_merged = true;
                    round.answer.push_str("\n\n");
                    round.answer.push_str(&message.text());
                } else {
                    opens_with_answer |= rounds.is_empty() && before.is_empty();
                    let is_first = rounds.is_empty();
                    rounds.push(round(std::mem::take(&mut systems), &before, message, row, is_first));
                    before.clear();
                }
            }
        }
        last = Some(message);
    }
    let has_answer = !rounds.is_empty();
    oddities.n_merged += usize::from(is_merged);
    oddities.n_late_systems += usize::from(has_late_system);
    oddities.n_opening_answers += usize::from(opens_with_answer);
    oddities.n_unanswered_ends += usize::from(has_answer && before.iter().any(|m| m.role != Role::System));
    oddities.n_without_answer += usize::from(!has_answer);
    rounds
}

fn round(systems: Vec<String>, before: &[&Message], answer: &Message, row: usize, is_first: bool) -> Round {
    let is_one_text = matches!(before, [one] if one.role == Role::User && one.is_plain());
    let is_plain = (is_one_text || (before.is_empty() && is_first)) && answer.is_plain();
    let details = (!is_plain).then(|| {
        Box::new(RoundDetails {
            before: before.iter().map(|message| message.to_json()).collect(),
            answer_content: unspoken_content(answer),
            answer_keys: answer.keys.clone(),
            is_context: !answer.is_learned,
            ..RoundDetails::default()
        })
    });
    let spoken = before.iter().filter(|message| message.role != Role::System);
    Round {
        system: systems.join("\n\n"),
        prompt: spoken.map(|message| message.text()).collect::<Vec<_>>().join("\n\n"),
        answer: spoken_text(answer),
        row,
        details,
        ..Round::default()
    }
}

/// What an answer says, as people read it: its text, or the calls it makes.
pub(crate) fn spoken_text(answer: &Message) -> String {
    let text = answer.text();
    match answer.keys.get("tool_calls") {
        Some(Json::Array(calls)) if text.is_empty() => {
            let call = |call: &Json| call.get("function").unwrap_or(call).to_string();
            calls.iter().map(call).collect::<Vec<_>>().join("\n")
        }
        _ => text,
    }
}

/// The content of an answer's message where it is not [`spoken_text`].
pub(crate) fn unspoken_content(answer: &Message) -> Option<Json> {
    (Json::String(spoken_text(answer)) != answer.content).then(|| answer.content.clone())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::messages::{UnusedKeys, messages_of};
    use crate::table::Cell;

    fn read(list: Json) -> (Vec<Round>, Oddities) {
        let mut oddities = Oddities::default();
        let messages = messages_of(&Cell::Json(list), &mut UnusedKeys::default()).unwrap();
        (rounds_of(&messages, 0, &mut oddities), oddities)
    }

    fn rounds(list: Json) -> (Vec<[String; 3]>, Oddities) {
        let (rounds, oddities) = read(list);
        (rounds.into_iter().map(|round| [round.system, round.prompt, round.answer]).collect(), oddities)
    }

    #[test]
    fn both_spellings_give_rounds() {
        let (found, oddities) = read(json!([
            {"role": "system", "content": "s"},
            {"role": "user", "content": [{"type": "text", "text": "p"}, {"type": "text", "text": "1"}]},
            {"role": "assistant", "content": "a1"},
            {"from": "human", "value": "p2"},
            {"from": "gpt", "value": "a2"},
        ]));
        assert!(found.iter().all(|round| round.details.is_none()));
        let texts: Vec<_> = found.iter().map(|r| [r.system.as_str(), &r.prompt, &r.answer]).collect();
        assert_eq!(texts, [["s", "p1", "a1"], ["", "p2", "a2"]]);
        assert_eq!(oddities, Oddities::default());
        assert!(oddities.notes(true).is_empty());
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
        assert_eq!(oddities.notes(true).len(), 4);

        let (found, oddities) = rounds(json!([message("user", "p")]));
        assert!(found.is_empty());
        assert_eq!(oddities, Oddities { n_without_answer: 1, ..Oddities::default() });
        // A system text in the middle of the list goes with the round it precedes.
        let late =
            [message("user", "p"), message("assistant", "a"), message("system", "s"), message("user", "q")];
        let list = json!([late[0], late[1], late[2], late[3], message("assistant", "b")]);
        assert_eq!(rounds(list.clone()).0, [["", "p", "a"], ["s", "q", "b"]]);
        let (found, _) = read(list);
        let before = &found[1].details.as_ref().unwrap().before;
        assert_eq!(before.as_slice(), [message("system", "s"), message("user", "q")]);
    }

    #[test]
    fn a_call_and_its_result_are_rounds() {
        let call =
            json!({"type": "function", "id": "c", "function": {"name": "f", "arguments": "{\"a\": 1}"}});
        let (found, _) = read(json!([
            {"role": "user", "content": "p"},
            {"role": "assistant", "content": null, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c", "content": "7"},
            {"role": "assistant", "content": "seven", "weight": 0},
        ]));
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].answer, r#"{"name":"f","arguments":{"a":1}}"#);
        let second = found[1].details.as_ref().unwrap();
        assert!(second.is_context && !found[0].details.as_ref().unwrap().is_context);
        assert_eq!(second.before, [json!({"role": "tool", "content": "7", "tool_call_id": "c"})]);
        assert_eq!([found[1].prompt.as_str(), &found[1].answer], ["7", "seven"]);
    }
}
