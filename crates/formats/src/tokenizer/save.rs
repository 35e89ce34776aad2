//! Writes a tokenizer as a folder that transformers (4 and 5) loads.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::Tokenizer;
use super::special::NAMED_KEYS;
use crate::atomic::write_file;
use crate::error::{FormatError, Result};

/// Writes the three files into `dir`.
pub(super) fn write(tokenizer: &Tokenizer, dir: &Path) -> Result<()> {
    let rules = tokenizer.inner.to_string(true).map_err(|error| FormatError::Tokenizer {
        path: dir.join("tokenizer.json"),
        reason: format!("cannot be written: {error}"),
    })?;
    write_file(&dir.join("tokenizer.json"), rules.as_bytes())?;

    let mut config = tokenizer.config.clone();
    config.entry("tokenizer_class").or_insert_with(|| json!("PreTrainedTokenizerFast"));
    // Tokens that came from the class's defaults or a fall-back are written out: another class may be used.
    let special = &tokenizer.special;
    let settled = [
        ("eos_token", Some(&special.eos)),
        ("bos_token", special.bos.as_ref()),
        ("unk_token", special.unk.as_ref()),
        ("pad_token", special.pad.as_ref()),
    ];
    for (key, token) in settled {
        if let Some(token) = token
            && config.get(key).is_none_or(Value::is_null)
        {
            config.insert(key.to_owned(), json!(token.text));
        }
    }
    if let Some(templates) = tokenizer.templates.to_value() {
        config.insert("chat_template".into(), templates);
    }
    let named: Map<String, Value> = NAMED_KEYS
        .into_iter()
        .chain(["additional_special_tokens"])
        .filter_map(|key| Some((key.to_owned(), config.get(key).filter(|value| !value.is_null())?.clone())))
        .collect();
    write_json(&dir.join("tokenizer_config.json"), &config)?;
    write_json(&dir.join("special_tokens_map.json"), &named)
}

fn write_json(path: &Path, object: &Map<String, Value>) -> Result<()> {
    let mut text = serde_json::to_string_pretty(object).map_err(FormatError::json(path))?;
    text.push('\n');
    write_file(path, text.as_bytes())
}
