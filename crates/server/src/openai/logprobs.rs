//! Log-probabilities in the two forms of the interface: by token in conversations, as columns in completions.

use serde_json::{Map, Value, json};

/// Of a conversation.
pub(super) fn chat_logprobs(tokens: &[Value]) -> Value {
    json!({"content": tokens, "refusal": null})
}

/// Of a completion: where in its text each token begins is counted from its beginning, also where it comes in pieces.
#[derive(Clone, Debug, Default)]
pub(super) struct TextLogprobs {
    /// Characters of the pieces before.
    n_chars: usize,
}

impl TextLogprobs {
    /// Of the next piece: its text and the tokens that it was made of.
    pub(super) fn next(&mut self, text: &str, tokens: &[Value]) -> Value {
        let (mut names, mut logprobs, mut top, mut offsets) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut rest = text;
        let mut n_chars = self.n_chars;
        for token in tokens {
            names.push(token.get("token").cloned().unwrap_or_default());
            logprobs.push(token.get("logprob").cloned().unwrap_or_default());
            let beside =
                token.get("top_logprobs").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            let is_first_of_prompt = token.get("logprob").is_none_or(Value::is_null);
            top.push(if is_first_of_prompt { Value::Null } else { by_name(token, beside) });
            offsets.push(n_chars);
            // Special tokens have no text, and those of a character's single bytes none alone.
            let after = bytes(token).and_then(|own| {
                // Where a text begins, vocabularies leave out the space before its first word.
                let bare = own.strip_prefix(' ').filter(|bare| n_chars == 0 && !bare.is_empty());
                rest.strip_prefix(own.as_str()).or_else(|| rest.strip_prefix(bare?))
            });
            if let Some(after) = after {
                n_chars += rest.chars().count() - after.chars().count();
                rest = after;
            }
        }
        self.n_chars += text.chars().count();
        json!({"tokens": names, "token_logprobs": logprobs, "top_logprobs": top, "text_offset": offsets})
    }
}

/// The likeliest tokens with their log-probabilities, the chosen one among them.
fn by_name(token: &Value, beside: &[Value]) -> Value {
    let mut all = Map::new();
    for one in beside.iter().chain([token]) {
        if let (Some(name), Some(logprob)) = (one.get("token").and_then(Value::as_str), one.get("logprob")) {
            all.entry(name.to_owned()).or_insert_with(|| logprob.clone());
        }
    }
    Value::Object(all)
}

fn bytes(token: &Value) -> Option<String> {
    let bytes: Option<Vec<u8>> =
        token.get("bytes")?.as_array()?.iter().map(|byte| u8::try_from(byte.as_u64()?).ok()).collect();
    String::from_utf8(bytes?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(text: &str, logprob: Value) -> Value {
        json!({"token": text, "logprob": logprob, "bytes": text.as_bytes(),
            "top_logprobs": [{"token": "x", "logprob": -0.5, "bytes": [120]}]})
    }

    #[test]
    fn offsets_go_on_from_piece_to_piece() {
        let mut texts = TextLogprobs::default();
        let first =
            texts.next("hé", &[token("<s>", Value::Null), token("h", json!(-1.0)), token("é", json!(-2.0))]);
        assert_eq!(first["text_offset"], json!([0, 0, 1]));
        assert_eq!(first["token_logprobs"], json!([null, -1.0, -2.0]));
        assert_eq!(first["top_logprobs"], json!([null, {"x": -0.5, "h": -1.0}, {"x": -0.5, "é": -2.0}]));
        assert_eq!(texts.next(" a", &[token(" a", json!(-1.0))])["text_offset"], json!([2]));
        assert_eq!(texts.next("", &[])["tokens"], json!([]));
        let begins =
            TextLogprobs::default().next("say it", &[token(" say", json!(-1.0)), token(" it", json!(-1.0))]);
        assert_eq!(begins["text_offset"], json!([0, 3]));
    }
}
