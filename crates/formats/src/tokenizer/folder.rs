//! Reads the tokenizer files of a folder in Hugging Face layout.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serde_json::{Map, Value};

use super::Tokenizer;
use super::assemble::{Parts, assemble};
use super::special::NAMED_KEYS;
use super::templates::Templates;
use super::vocab_files;
use crate::error::{FormatError, Result};

/// Reads and combines the files of `dir`.
pub(super) fn read(dir: &Path) -> Result<Tokenizer> {
    let rules = read_json(&dir.join("tokenizer.json"))?;
    let mut config = read_object(&dir.join("tokenizer_config.json"))?.unwrap_or_default();
    let named = read_object(&dir.join("special_tokens_map.json"))?.unwrap_or_default();
    let model_type = read_object(&dir.join("config.json"))?
        .and_then(|config| config.get("model_type").and_then(Value::as_str).map(str::to_owned));
    let rules = match rules {
        Some(rules) => rules,
        None => vocab_files::rules(dir, &config, model_type.as_deref())?.ok_or_else(|| missing_rules(dir))?,
    };

    // transformers lets the separate map win only over configurations from before `added_tokens_decoder`.
    let config_wins = config.contains_key("added_tokens_decoder");
    for key in NAMED_KEYS.into_iter().chain(["additional_special_tokens"]) {
        if let Some(value) = named.get(key).filter(|value| !value.is_null())
            && !(config_wins && config.contains_key(key))
        {
            config.insert(key.to_owned(), value.clone());
        }
    }
    let templates = Templates::of_folder(dir, config.remove("chat_template").as_ref())?;
    assemble(Parts { origin: dir.to_owned(), rules, config, model_type, templates })
}

fn missing_rules(dir: &Path) -> FormatError {
    const OLDER: [&str; 8] = [
        "tokenizer.model",
        "spiece.model",
        "sentencepiece.bpe.model",
        "vocab.json",
        "vocab.txt",
        "tekken.json",
        "tiktoken.model",
        "qwen.tiktoken",
    ];
    match OLDER.into_iter().find(|name| dir.join(name).exists()) {
        Some(name) => FormatError::Tokenizer {
            path: dir.to_owned(),
            reason: format!(
                "it has {name} but no tokenizer.json; write one with Python: python -c \"from transformers import \
                 AutoTokenizer as T; T.from_pretrained('{0}').save_pretrained('{0}')\"",
                dir.display()
            ),
        },
        None => FormatError::Missing { path: dir.to_owned(), what: "tokenizer.json".into() },
    }
}

pub(super) fn read_object(path: &Path) -> Result<Option<Map<String, Value>>> {
    match read_json(path)? {
        None => Ok(None),
        Some(Value::Object(object)) => Ok(Some(object)),
        Some(_) => Err(FormatError::Json { path: path.to_owned(), reason: "expected an object".into() }),
    }
}

fn read_json(path: &Path) -> Result<Option<Value>> {
    let Some(bytes) = read_file(path)? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(FormatError::json(path))
}

pub(super) fn read_file(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => FormatError::refuse_impostor(path, &bytes).map(|()| Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(FormatError::io(path, "read")(error)),
    }
}
