//! The space that some tokenizers put before a text, so that a word is the same piece at the start and within.

use std::sync::{Arc, OnceLock};

use serde_json::{Value, json};
use tokenizers::{NormalizerWrapper, PreTokenizerWrapper};

use super::Tokenizer;
use super::pieces::PieceKind;
use crate::error::Result;

/// Where a tokenizer puts a space that the text does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PrefixSpace {
    /// Nowhere.
    Never,
    /// Before the text, unless it starts with a special token.
    FirstSegment,
    /// Before the text and after every special token in it.
    EverySegment,
}

impl PrefixSpace {
    /// Found in the normaliser and pre-tokeniser of `inner`.
    pub(super) fn of(inner: &tokenizers::Tokenizer) -> Self {
        let normalizer = to_json(inner.get_normalizer());
        if steps(&normalizer, "normalizers").any(|step| kind(step) == "Prepend") {
            return Self::EverySegment;
        }
        let pre_tokenizer = to_json(inner.get_pre_tokenizer());
        let found = steps(&pre_tokenizer, "pretokenizers").find_map(|step| {
            let scheme = step.get("prepend_scheme").and_then(Value::as_str);
            match (kind(step), scheme) {
                ("Metaspace", Some("first")) => Some(Self::FirstSegment),
                ("Metaspace", Some("always")) => Some(Self::EverySegment),
                ("ByteLevel", _) if step.get("add_prefix_space") == Some(&Value::Bool(true)) => {
                    Some(Self::EverySegment)
                }
                _ => None,
            }
        });
        found.unwrap_or(Self::Never)
    }
}

/// A copy of `inner` that puts a space nowhere; its decoder is the same.
pub(super) fn rules_without(
    inner: &tokenizers::Tokenizer,
) -> std::result::Result<tokenizers::Tokenizer, String> {
    let mut plain = inner.clone();
    set_encoding_rules(&mut plain, false)?;
    Ok(plain)
}

/// Switches the space on or off, in encoding and decoding, and notes it in the configuration.
pub(super) fn set(mut tokenizer: Tokenizer, add_prefix_space: bool) -> Result<Tokenizer> {
    let has_space = tokenizer.prefix_space != PrefixSpace::Never;
    if has_space == add_prefix_space {
        return Ok(tokenizer);
    }
    let inner = Arc::make_mut(&mut tokenizer.inner);
    set_encoding_rules(inner, add_prefix_space)
        .and_then(|()| set_decoder(inner, add_prefix_space))
        .map_err(|reason| tokenizer.error(format!("add_prefix_space={add_prefix_space}: {reason}")))?;
    tokenizer.prefix_space = PrefixSpace::of(&tokenizer.inner);
    tokenizer.config.insert("add_prefix_space".into(), json!(add_prefix_space));
    // The family's own class would rebuild these rules from its defaults; the plain class reads tokenizer.json.
    tokenizer.config.insert("tokenizer_class".into(), json!("PreTrainedTokenizerFast"));
    tokenizer.without_prefix = OnceLock::new();
    tokenizer.fingerprint = OnceLock::new();
    Ok(tokenizer)
}

fn set_encoding_rules(inner: &mut tokenizers::Tokenizer, add: bool) -> std::result::Result<(), String> {
    let mut pre_tokenizer = to_json(inner.get_pre_tokenizer());
    let loses_spaces = !add && drop_whitespace_split(&mut pre_tokenizer);
    let normalizer = to_json(inner.get_normalizer());
    // "first" is the first character of the text as it was given, which is gone where leading spaces are stripped.
    let strips_left =
        steps(&normalizer, "normalizers").any(|step| step.get("strip_left") == Some(&json!(true)));
    let scheme = match (add, strips_left) {
        (false, _) => "never",
        (true, false) => "first",
        (true, true) => "always",
    };
    let mut settled = false;
    for step in steps_mut(&mut pre_tokenizer, "pretokenizers") {
        match kind(step) {
            "Metaspace" => {
                set_metaspace(step, scheme);
                settled = true;
            }
            "ByteLevel" => {
                step["add_prefix_space"] = json!(add);
                settled = true;
            }
            _ => {}
        }
    }
    let mut normalizers: Vec<Value> =
        steps(&normalizer, "normalizers").filter(|step| kind(step) != "Prepend").cloned().collect();
    if loses_spaces {
        // What splitting at white space did besides.
        normalizers.push(json!({"type": "Strip", "strip_left": true, "strip_right": true}));
        normalizers.push(json!({"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "}));
    }
    if add && !settled {
        if PieceKind::of(inner) != PieceKind::SentencePiece {
            return Err("the tokenizer knows no space before a text".into());
        }
        normalizers.insert(0, json!({"type": "Prepend", "prepend": "▁"}));
    }
    let normalizer = match normalizers.len() {
        0 => None,
        _ => Some(from_json::<NormalizerWrapper>(json!({"type": "Sequence", "normalizers": normalizers}))?),
    };
    inner.with_normalizer(normalizer).map_err(|error| error.to_string())?;
    let pre_tokenizer = match pre_tokenizer {
        Value::Null => None,
        rules => Some(from_json::<PreTokenizerWrapper>(rules)?),
    };
    inner.with_pre_tokenizer(pre_tokenizer);
    Ok(())
}

/// Takes splitting at white space off a sequence that marks spaces after it, as T5's does: every word would be a text of its
/// own, so that without the space before a text no word had one. Whether there was such a step.
fn drop_whitespace_split(pre_tokenizer: &mut Value) -> bool {
    if !steps(pre_tokenizer, "pretokenizers").any(|step| kind(step) == "Metaspace") {
        return false;
    }
    let Some(parts) = pre_tokenizer.get_mut("pretokenizers").and_then(Value::as_array_mut) else {
        return false;
    };
    let n_before = parts.len();
    parts.retain(|step| kind(step) != "WhitespaceSplit");
    parts.len() < n_before
}

fn set_decoder(inner: &mut tokenizers::Tokenizer, add: bool) -> std::result::Result<(), String> {
    let decoder = to_json(inner.get_decoder());
    if decoder.is_null() {
        return Ok(());
    }
    let mut decoders: Vec<Value> =
        steps(&decoder, "decoders").filter(|step| !strips_space(step)).cloned().collect();
    let mut has_metaspace = false;
    for step in decoders.iter_mut().filter(|step| kind(step) == "Metaspace") {
        set_metaspace(step, if add { "first" } else { "never" });
        has_metaspace = true;
    }
    if add && !has_metaspace && PieceKind::of(inner) == PieceKind::SentencePiece {
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    let rules = match decoders.as_slice() {
        [only] => only.clone(),
        _ => json!({"type": "Sequence", "decoders": decoders}),
    };
    inner.with_decoder(Some(from_json::<tokenizers::DecoderWrapper>(rules)?));
    Ok(())
}

fn set_metaspace(step: &mut Value, scheme: &str) {
    step["prepend_scheme"] = json!(scheme);
    if let Some(object) = step.as_object_mut() {
        // The older spelling of the same setting would contradict the new one.
        object.remove("add_prefix_space");
    }
}

fn strips_space(step: &Value) -> bool {
    kind(step) == "Strip" && step.get("content").is_some_and(|text| text == " ")
}

/// The steps of a rule that may be a sequence of rules, named `key` there.
fn steps<'a>(rule: &'a Value, key: &str) -> Box<dyn Iterator<Item = &'a Value> + 'a> {
    match rule.get(key).and_then(Value::as_array) {
        Some(parts) => Box::new(parts.iter()),
        None => Box::new((!rule.is_null()).then_some(rule).into_iter()),
    }
}

fn steps_mut<'a>(rule: &'a mut Value, key: &str) -> Vec<&'a mut Value> {
    if rule.get(key).is_some_and(Value::is_array) {
        rule.get_mut(key)
            .and_then(Value::as_array_mut)
            .map_or_else(Vec::new, |parts| parts.iter_mut().collect())
    } else {
        vec![rule]
    }
}

fn kind(step: &Value) -> &str {
    step.get("type").and_then(Value::as_str).unwrap_or("")
}

fn to_json(rule: Option<&impl serde::Serialize>) -> Value {
    rule.and_then(|rule| serde_json::to_value(rule).ok()).unwrap_or(Value::Null)
}

fn from_json<T: serde::de::DeserializeOwned>(rules: Value) -> std::result::Result<T, String> {
    serde_json::from_value(rules).map_err(|error| error.to_string())
}
