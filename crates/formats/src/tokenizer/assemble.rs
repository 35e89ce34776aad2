//! One [`Tokenizer`] from the content of a `tokenizer.json` and a `tokenizer_config.json`, wherever they came
//! from. The content is hostile until it is checked here.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use serde_json::{Map, Value};
use tokenizers::AddedToken;

use super::oniguruma;
use super::pieces::PieceKind;
use super::prefix_space::PrefixSpace;
use super::special::SpecialTokens;
use super::step_limit::StepLimit;
use super::templates::Templates;
use super::{Tokenizer, head};
use crate::error::{FormatError, Result};

/// What a tokenizer is made of.
pub(super) struct Parts {
    /// The folder or file that errors name.
    pub(super) origin: PathBuf,
    /// Content of `tokenizer.json`.
    pub(super) rules: Value,
    /// Content of `tokenizer_config.json` without the chat template, special tokens merged in.
    pub(super) config: Map<String, Value>,
    /// The model family, for special tokens that old files leave to the class: `model_type` of `config.json`.
    pub(super) model_type: Option<String>,
    /// The chat templates.
    pub(super) templates: Templates,
}

/// Builds the tokenizer and settles its special tokens.
pub(super) fn assemble(parts: Parts) -> Result<Tokenizer> {
    let Parts { origin, mut rules, config, model_type, templates } = parts;
    let error = |reason: String| FormatError::Tokenizer { path: origin.clone(), reason };
    check_merges(&rules).map_err(error)?;
    // Those of the decoder are for single pieces, which are short.
    let (mut patterns, mut of_pieces) = (Vec::new(), Vec::new());
    for part in ["normalizer", "pre_tokenizer", "decoder"] {
        let found = if part == "decoder" { &mut of_pieces } else { &mut patterns };
        if let Some(rules) = rules.get_mut(part) {
            translate_patterns(rules, found).map_err(error)?;
        }
    }
    let expected_ids = added_ids(&rules);
    // The library panics on some malformed files that the check above does not know about.
    let built = catch_unwind(AssertUnwindSafe(|| serde_json::from_value::<tokenizers::Tokenizer>(rules)));
    let mut inner = built
        .map_err(|_| error("tokenizer.json is malformed: the tokenizer library gave up on it".into()))?
        .map_err(|cause| error(format!("tokenizer.json: {cause}")))?;
    for (text, id) in expected_ids {
        let actual = inner.token_to_id(&text);
        if actual != Some(id) {
            let text = head(&text);
            return Err(error(format!("added token {text:?} should have id {id} but would get {actual:?}")));
        }
    }
    inner.with_padding(None);
    inner.with_truncation(None).map_err(|cause| error(cause.to_string()))?;

    add_configured_tokens(&mut inner, &config).map_err(error)?;
    let special = SpecialTokens::settle(&mut inner, &config, model_type.as_deref()).map_err(error)?;
    let mut special_ids: BTreeSet<u32> = inner
        .get_added_vocabulary()
        .get_added_tokens_decoder()
        .iter()
        .filter_map(|(id, token)| token.special.then_some(*id))
        .collect();
    special_ids.insert(special.eos.id);
    Ok(Tokenizer {
        piece_kind: PieceKind::of(&inner),
        prefix_space: PrefixSpace::of(&inner),
        vocab_size: vocab_size(&inner),
        inner: Arc::new(inner),
        origin,
        config,
        special,
        special_ids,
        templates,
        leaves_out_start: false,
        step_limit: Arc::new(StepLimit::new(&patterns)),
        without_prefix: OnceLock::new(),
        fingerprint: OnceLock::new(),
    })
}

/// One more than the largest id.
pub(super) fn vocab_size(inner: &tokenizers::Tokenizer) -> usize {
    let largest = inner.get_vocab(true).into_values().max();
    largest.map_or(0, |id| usize::try_from(id).unwrap_or(usize::MAX).saturating_add(1))
}

/// Reads an added token from a `tokenizer_config.json`: its text, or an object with text and matching rules.
pub(super) fn added_token(value: &Value, special: bool) -> Option<AddedToken> {
    let object = match value {
        Value::String(text) => return Some(AddedToken::from(text.as_str(), special)),
        Value::Object(object) => object,
        _ => return None,
    };
    let flag = |key: &str, default: bool| object.get(key).and_then(Value::as_bool).unwrap_or(default);
    let special = flag("special", special);
    Some(AddedToken {
        content: object.get("content")?.as_str()?.to_owned(),
        single_word: flag("single_word", false),
        lstrip: flag("lstrip", false),
        rstrip: flag("rstrip", false),
        normalized: flag("normalized", !special),
        special,
    })
}

/// Writes every regular expression within `rules` the way this build reads it, and adds it to `patterns`.
fn translate_patterns(rules: &mut Value, patterns: &mut Vec<String>) -> std::result::Result<(), String> {
    match rules {
        Value::Array(parts) => parts.iter_mut().try_for_each(|part| translate_patterns(part, patterns)),
        Value::Object(parts) => {
            if let Some(Value::String(pattern)) =
                parts.get_mut("pattern").and_then(|pattern| pattern.get_mut("Regex"))
            {
                *pattern = oniguruma::translate(pattern).map_err(|what| {
                    format!(
                        "the pattern {pattern:?} has {what}, which is not known to mean the same here as in the Python package"
                    )
                })?;
                patterns.push(pattern.clone());
            }
            parts.values_mut().try_for_each(|part| translate_patterns(part, patterns))
        }
        _ => Ok(()),
    }
}

/// Every merge must join two pieces of the vocabulary to a third one: the library indexes without looking.
fn check_merges(rules: &Value) -> std::result::Result<(), String> {
    let model = rules.get("model");
    let part = |key: &str| model.and_then(|model| model.get(key));
    let (Some(Value::Array(merges)), Some(Value::Object(vocab))) = (part("merges"), part("vocab")) else {
        return Ok(());
    };
    let prefix = part("continuing_subword_prefix").and_then(Value::as_str).unwrap_or("");
    let mut joined = String::new();
    for (rank, merge) in merges.iter().enumerate() {
        let pair = match merge {
            Value::String(text) => text.split_once(' '),
            Value::Array(pair) => match pair.as_slice() {
                [Value::String(left), Value::String(right)] => Some((left.as_str(), right.as_str())),
                _ => None,
            },
            _ => None,
        };
        let (left, right) = pair.ok_or_else(|| format!("merge {rank} is not a pair of pieces"))?;
        let tail = right.get(prefix.len()..).ok_or_else(|| {
            format!("merge {rank}: {:?} is shorter than the prefix {prefix:?}", head(right))
        })?;
        joined.clear();
        joined.push_str(left);
        joined.push_str(tail);
        for piece in [left, right, joined.as_str()] {
            if !vocab.contains_key(piece) {
                return Err(format!(
                    "merge {rank} needs the piece {:?}, which the vocabulary lacks",
                    head(piece)
                ));
            }
        }
    }
    Ok(())
}

/// The ids that `tokenizer.json` gives its added tokens.
fn added_ids(rules: &Value) -> Vec<(String, u32)> {
    let Some(Value::Array(tokens)) = rules.get("added_tokens") else { return Vec::new() };
    tokens
        .iter()
        .filter_map(|token| {
            let id = token.get("id")?.as_u64().and_then(|id| u32::try_from(id).ok())?;
            Some((token.get("content")?.as_str()?.to_owned(), id))
        })
        .collect()
}

/// Adds what only `added_tokens_decoder` of the configuration knows, in the order of its ids.
fn add_configured_tokens(
    inner: &mut tokenizers::Tokenizer,
    config: &Map<String, Value>,
) -> std::result::Result<(), String> {
    let Some(Value::Object(tokens)) = config.get("added_tokens_decoder") else { return Ok(()) };
    let mut tokens: Vec<(u32, AddedToken)> = tokens
        .iter()
        .filter_map(|(id, token)| Some((id.parse().ok()?, added_token(token, false)?)))
        .collect();
    tokens.sort_by_key(|(id, _)| *id);
    let known = inner.get_added_vocabulary().get_added_tokens_decoder();
    let missing: Vec<AddedToken> = tokens
        .into_iter()
        .filter_map(|(id, token)| (known.get(&id).is_none_or(|known| known != &token)).then_some(token))
        .collect();
    inner.add_tokens(missing).map(|_| ()).map_err(|error| format!("added_tokens_decoder: {error}"))
}

/// For error messages of readers that have no [`Tokenizer`] yet.
pub(super) fn tokenizer_error(path: &Path, reason: impl Into<String>) -> FormatError {
    FormatError::Tokenizer { path: path.to_owned(), reason: reason.into() }
}
