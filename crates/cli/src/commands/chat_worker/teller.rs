//! The lines of an answer to a question of the programming interface: its parts, calls and log-probabilities.

use serde_json::{Map, Value, json};
use tunesmith_formats::tokenizer::Tokenizer;
use tunesmith_generate::{Piece, ReplyPart, ReplySplitter, TokenLogprob, TokenLogprobs, ToolFormat};

use super::random_bytes;

/// Makes the lines of an answer.
pub(super) struct Teller<'a> {
    pub(super) id: &'a str,
    pub(super) first_choice: usize,
    pub(super) tokenizer: &'a Tokenizer,
    pub(super) format: Option<ToolFormat>,
    pub(super) has_logprobs: bool,
    pub(super) n_calls: Vec<usize>,
    pub(super) n_reasoning: usize,
    pub(super) splitters: Option<Vec<ReplySplitter>>,
}

impl Teller<'_> {
    pub(super) fn line(&mut self, piece: &Piece<'_>) -> Option<Value> {
        let parts = match &mut self.splitters {
            None => vec![ReplyPart::Content(piece.text.to_owned())],
            Some(splitters) => {
                let splitter = splitters.get_mut(piece.choice_idx)?;
                let was_reasoning = splitter.is_reasoning();
                let parts = splitter.push(piece.text);
                if was_reasoning || splitter.is_reasoning() {
                    self.n_reasoning += piece.n_tokens;
                }
                parts
            }
        };
        self.of_parts(piece.choice_idx, parts, piece.logprobs)
    }

    pub(super) fn last_lines(&mut self) -> Vec<Value> {
        let rests: Vec<Vec<ReplyPart>> =
            self.splitters.iter_mut().flatten().map(ReplySplitter::finish).collect();
        rests.into_iter().enumerate().filter_map(|(idx, parts)| self.of_parts(idx, parts, &[])).collect()
    }

    fn of_parts(
        &mut self,
        choice_idx: usize,
        parts: Vec<ReplyPart>,
        logprobs: &[TokenLogprobs],
    ) -> Option<Value> {
        let (mut content, mut reasoning, mut calls) = (String::new(), String::new(), Vec::new());
        for part in parts {
            match part {
                ReplyPart::Content(text) => content.push_str(&text),
                ReplyPart::Reasoning(text) => reasoning.push_str(&text),
                ReplyPart::Call(call) => {
                    let n_calls = self.n_calls.get_mut(choice_idx)?;
                    let call_id = self.format.map(|format| format.call_id(random_bytes()));
                    calls.push(json!({"index": *n_calls, "id": call_id, "name": call.name, "arguments": call.arguments}));
                    *n_calls += 1;
                }
            }
        }
        let mut line = Map::new();
        line.insert("id".to_owned(), json!(self.id));
        line.insert("choice".to_owned(), json!(self.first_choice + choice_idx));
        let n_before = line.len();
        let mut put = |name: &str, value: Value, is_there: bool| {
            if is_there {
                line.insert(name.to_owned(), value);
            }
        };
        put("reasoning", json!(reasoning), !reasoning.is_empty());
        put("text", json!(content), !content.is_empty());
        put("tool_calls", json!(calls), !calls.is_empty());
        if self.has_logprobs {
            let logprobs: Vec<Value> =
                logprobs.iter().map(|token| logprobs_json(self.tokenizer, token)).collect();
            put("logprobs", json!(logprobs), !logprobs.is_empty());
        }
        (n_before < line.len()).then_some(Value::Object(line))
    }
}

/// A token of an answer in OpenAI's form.
pub(super) fn logprobs_json(tokenizer: &Tokenizer, token: &TokenLogprobs) -> Value {
    let one = |token: &TokenLogprob| json!({"token": tokenizer.token_text(token.id), "logprob": token.logprob, "bytes": tokenizer.token_bytes(token.id)});
    let mut line = one(&token.token);
    line["top_logprobs"] = token.top.iter().map(one).collect();
    line
}
