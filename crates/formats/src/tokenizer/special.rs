//! Which tokens begin, end, pad and replace: as named in the configuration, else as the model family's class
//! in transformers defaults, else by fall-back.

use serde_json::{Map, Value};

use super::assemble::added_token;

/// A token with a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) text: String,
    pub(super) id: u32,
}

/// The tokens with a role. Only the end of text is indispensable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SpecialTokens {
    pub(super) eos: Named,
    pub(super) bos: Option<Named>,
    pub(super) unk: Option<Named>,
    pub(super) pad: Option<Named>,
}

/// Keys of `tokenizer_config.json` and `special_tokens_map.json` that name one token each.
pub(super) const NAMED_KEYS: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

impl SpecialTokens {
    /// Reads the named tokens from `config` and makes each of them special in `inner`, as transformers does.
    pub(super) fn settle(
        inner: &mut tokenizers::Tokenizer,
        config: &Map<String, Value>,
        model_type: Option<&str>,
    ) -> Result<Self, String> {
        let class = config.get("tokenizer_class").and_then(Value::as_str);
        let mut wanted = Vec::new();
        for key in NAMED_KEYS {
            if let Some(token) = config.get(key).and_then(|value| added_token(value, true)) {
                wanted.push((key, token));
            } else if !config.contains_key(key) {
                let text =
                    class_default(class, model_type, key).filter(|text| inner.token_to_id(text).is_some());
                wanted.extend(text.and_then(|text| Some((key, added_token(&Value::from(text), true)?))));
            }
        }
        let has_eos = wanted.iter().any(|(key, _)| *key == "eos_token");
        if !has_eos && inner.token_to_id("</s>").is_some() {
            wanted.extend(added_token(&Value::from("</s>"), true).map(|token| ("eos_token", token)));
        }
        let further = config.get("additional_special_tokens").or_else(|| config.get("extra_special_tokens"));
        let further: Vec<&Value> = match further {
            Some(Value::Array(tokens)) => tokens.iter().collect(),
            // transformers 5 names them.
            Some(Value::Object(named)) => named.values().collect(),
            _ => Vec::new(),
        };
        let further: Vec<_> = further.into_iter().filter_map(|value| added_token(value, true)).collect();

        let known = inner.get_added_vocabulary();
        let missing: Vec<_> = wanted
            .iter()
            .map(|(_, token)| token)
            .chain(&further)
            .filter(|token| !known.is_special_token(&token.content))
            .map(|token| token.clone().special(true))
            .collect();
        inner.add_special_tokens(missing).map_err(|error| format!("special tokens: {error}"))?;

        let named = |key: &str| {
            let (_, token) = wanted.iter().find(|(name, _)| *name == key)?;
            Some(Named { text: token.content.clone(), id: inner.token_to_id(&token.content)? })
        };
        let eos = named("eos_token").ok_or(
            "no end-of-text token: tokenizer_config.json has no \"eos_token\" and the vocabulary no \"</s>\"",
        )?;
        Ok(Self { eos, bos: named("bos_token"), unk: named("unk_token"), pad: named("pad_token") })
    }

    /// The padding token; without one the unknown token, without that the end of text.
    pub(super) fn pad_or_fallback(&self) -> &Named {
        self.pad.as_ref().or(self.unk.as_ref()).unwrap_or(&self.eos)
    }
}

/// What transformers' class of the family takes when its files name no token; old GPT-2 folders name none.
fn class_default(class: Option<&str>, model_type: Option<&str>, key: &str) -> Option<&'static str> {
    let family = class.map(|class| class.trim_end_matches("Fast")).or(model_type)?;
    Some(match (family, key) {
        (
            "GPT2Tokenizer" | "gpt2" | "GPTNeoXTokenizer" | "gpt_neox",
            "bos_token" | "eos_token" | "unk_token",
        )
        | ("Qwen2Tokenizer" | "qwen2", "eos_token" | "pad_token" | "unk_token") => "<|endoftext|>",
        ("LlamaTokenizer" | "CodeLlamaTokenizer" | "llama" | "mistral", "bos_token") => "<s>",
        ("LlamaTokenizer" | "CodeLlamaTokenizer" | "llama" | "mistral" | "T5Tokenizer", "eos_token") => {
            "</s>"
        }
        ("LlamaTokenizer" | "CodeLlamaTokenizer" | "llama" | "mistral" | "T5Tokenizer", "unk_token") => {
            "<unk>"
        }
        _ => return None,
    })
}
