//! Takes what a chat template writes apart into prompts and answers.
//!
//! For each assistant turn the conversation up to its user message is rendered with the opening of an answer
//! (what generation starts from) and the conversation including it without. The second text must begin with the
//! first; what it has more is the answer, end of turn included. The next turn's prompt must in turn begin with
//! that text, so that all parts together are the whole rendering.

use tunesmith_formats::chat_template::ChatMessage;

use crate::conversation::Conversation;
use crate::error::{DataError, Result};

/// Texts of prompt and answer, turn by turn.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Turns {
    pub(crate) texts: Vec<(String, String)>,
    /// The template writes earlier turns differently once later ones follow (it drops an assistant's thoughts,
    /// for instance). Then there is one entry: everything before the last answer, and that answer.
    pub(crate) last_turn_only: bool,
}

/// Renders `conversation` turn by turn with `render(messages, add_generation_prompt)`.
pub(crate) fn turns(
    conversation: &Conversation,
    render: &dyn Fn(&[ChatMessage], bool) -> Result<String>,
) -> Result<Turns> {
    let mut messages = Vec::with_capacity(2 * conversation.rounds.len() + 1);
    let system = conversation.system();
    if !system.is_empty() {
        messages.push(ChatMessage::new("system", system));
    }
    let mut texts = Vec::new();
    let mut is_chain = true;
    let mut so_far = String::new();
    for (round_idx, round) in conversation.rounds.iter().enumerate() {
        let is_last = round_idx + 1 == conversation.rounds.len();
        messages.push(ChatMessage::new("user", round.prompt.as_str()));
        let before = if is_chain || is_last { render(&messages, true)? } else { String::new() };
        messages.push(ChatMessage::new("assistant", round.answer.as_str()));
        if !is_chain && !is_last {
            continue;
        }
        let with = render(&messages, false)?;
        match (before.strip_prefix(so_far.as_str()), with.strip_prefix(before.as_str())) {
            (Some(prompt), Some(answer)) if is_chain => texts.push((prompt.to_owned(), answer.to_owned())),
            (_, Some(answer)) if is_last => {
                return Ok(Turns { texts: vec![(before.clone(), answer.to_owned())], last_turn_only: true });
            }
            (_, None) if is_last => return Err(cannot_separate(conversation, &before, &with)),
            _ => is_chain = false,
        }
        so_far = with;
    }
    Ok(Turns { texts, last_turn_only: false })
}

fn cannot_separate(conversation: &Conversation, before: &str, with: &str) -> DataError {
    let n_same = before.bytes().zip(with.bytes()).take_while(|(a, b)| a == b).count();
    let tail = |text: &str| -> String {
        let start = (0..=n_same).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.get(start..).unwrap_or("").chars().take(40).collect()
    };
    DataError::Sample {
        row: conversation.row,
        reason: format!(
            "the chat template does not let the answer be told from the prompt: the prompt for generation goes on \
             with {:?} where the conversation with the answer has {:?}; use dataset.text_format: markers, or put \
             what is missing into the answers",
            tail(before),
            tail(with)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conversation::Round;

    fn conversation(system: &str, rounds: &[(&str, &str)]) -> Conversation {
        let rounds = rounds.iter().enumerate().map(|(row, (prompt, answer))| Round {
            system: if row == 0 { system.into() } else { "later ones do not count".into() },
            prompt: (*prompt).into(),
            answer: (*answer).into(),
            row,
            ..Round::default()
        });
        Conversation::new(rounds.collect()).unwrap()
    }

    fn pairs(turns: &Turns) -> Vec<(&str, &str)> {
        turns.texts.iter().map(|(prompt, answer)| (prompt.as_str(), answer.as_str())).collect()
    }

    fn chatml(messages: &[ChatMessage], open: bool) -> String {
        let turns = messages.iter().map(|message| format!("<{}>{};", message.role, message.content));
        turns.chain(open.then(|| "<assistant>".to_owned())).collect()
    }

    #[test]
    fn every_answer_is_found() {
        let found = turns(&conversation("s", &[("a", "b"), ("c", "d")]), &|messages, open| {
            Ok(chatml(messages, open))
        })
        .unwrap();
        assert_eq!(pairs(&found), [("<system>s;<user>a;<assistant>", "b;"), ("<user>c;<assistant>", "d;")]);
        assert!(!found.last_turn_only);
    }

    #[test]
    fn a_template_without_opening_trains_the_opening() {
        let render = |messages: &[ChatMessage], _| Ok(chatml(messages, false));
        let found = turns(&conversation("", &[("a", "b")]), &render).unwrap();
        assert_eq!(pairs(&found), [("<user>a;", "<assistant>b;")]);
    }

    #[test]
    fn a_template_that_rewrites_history_leaves_the_last_answer() {
        // Earlier answers are shortened as soon as another turn follows.
        let render = |messages: &[ChatMessage], open: bool| {
            let last = messages.len() - 1;
            let short = messages.iter().enumerate().map(|(idx, message)| match message.role.as_str() {
                "assistant" if idx < last => ChatMessage::new("assistant", "…"),
                _ => message.clone(),
            });
            Ok(chatml(&short.collect::<Vec<_>>(), open))
        };
        let found = turns(&conversation("", &[("a", "long"), ("b", "longer"), ("c", "d")]), &render).unwrap();
        assert!(found.last_turn_only);
        let prompt = "<user>a;<assistant>…;<user>b;<assistant>…;<user>c;<assistant>";
        assert_eq!(pairs(&found), [(prompt, "d;")]);
        // A single turn has no history to rewrite.
        assert!(!turns(&conversation("", &[("a", "long")]), &render).unwrap().last_turn_only);
    }

    #[test]
    fn an_answer_that_cannot_be_told_apart_is_an_error() {
        let render = |messages: &[ChatMessage], open: bool| {
            Ok(chatml(messages, open) + if open { "<think>é" } else { "" })
        };
        let error = turns(&conversation("", &[("a", "b")]), &render).unwrap_err().to_string();
        assert!(error.contains("\"<think>é\"") && error.contains("\"b;\""), "{error}");
    }
}
