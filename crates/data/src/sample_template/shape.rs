//! What a template writes around an answer, learned from a few made-up conversations.

use serde_json::{Value as Json, json};

use super::messages::set;
use super::{TemplateReader, common_prefix};
use crate::messages::THOUGHT;

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
    pub(super) thought: Option<ThoughtKey>,
}

/// Where a template looks for what was thought before an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ThoughtKey {
    /// In this key of the message.
    Key(&'static str),
    /// In the content, between tags.
    Content,
}

/// Texts that no template writes by itself.
const PROBES: [&str; 3] = ["Zq7xprobeuser", "Zq7xprobeanswer", "Zq7xprobethought"];

impl TemplateReader {
    /// A made-up conversation as text, if the template takes it.
    pub(super) fn probe(&self, messages: &[Json], add_generation_prompt: bool) -> Option<String> {
        self.template.render_json(&self.in_its_form(messages), add_generation_prompt, &self.variables).ok()
    }

    pub(super) fn writes_texts(&self) -> bool {
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

    pub(super) fn find_shape(&self, special: &[String]) -> Option<Shape> {
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

    pub(super) fn find_thought_key(&self) -> Option<ThoughtKey> {
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

/// Moves a cut at `n` to the beginning of the special token that it would part.
fn whole_tokens(text: &str, n: usize, special: &[String]) -> usize {
    let parts = |token: &String| {
        let mut places = text.match_indices(token.as_str()).map(|(at, _)| at);
        places.find(|at| *at < n && n < at + token.len())
    };
    special.iter().filter_map(parts).min().unwrap_or(n)
}
