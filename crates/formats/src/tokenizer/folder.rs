//! Reads the tokenizer files of a folder in Hugging Face layout.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serde_json::{Map, Value};

use super::Tokenizer;
use super::assemble::{Parts, assemble};
use super::special::NAMED_KEYS;
use crate::chat_template::ChatTemplate;
use crate::error::{FormatError, Result};

/// Reads and combines the files of `dir`.
pub(super) fn read(dir: &Path) -> Result<Tokenizer> {
    let rules = read_json(&dir.join("tokenizer.json"))?.ok_or_else(|| missing_rules(dir))?;
    let mut config = read_object(&dir.join("tokenizer_config.json"))?.unwrap_or_default();
    let named = read_object(&dir.join("special_tokens_map.json"))?.unwrap_or_default();
    let model_type = read_object(&dir.join("config.json"))?
        .and_then(|config| config.get("model_type").and_then(Value::as_str).map(str::to_owned));

    // transformers lets the separate map win only over configurations from before `added_tokens_decoder`.
    let config_wins = config.contains_key("added_tokens_decoder");
    for key in NAMED_KEYS.into_iter().chain(["additional_special_tokens"]) {
        if let Some(value) = named.get(key).filter(|value| !value.is_null())
            && !(config_wins && config.contains_key(key))
        {
            config.insert(key.to_owned(), value.clone());
        }
    }
    let configured = config.remove("chat_template");
    let chat_template = chat_template(dir, configured)?;
    assemble(Parts { origin: dir.to_owned(), rules, config, model_type, chat_template })
}

/// The template from its own file, else from the configuration.
fn chat_template(dir: &Path, configured: Option<Value>) -> Result<Option<ChatTemplate>> {
    let path = dir.join("chat_template.jinja");
    if let Some(bytes) = read_file(&path)? {
        let source = String::from_utf8(bytes).map_err(|error| FormatError::Template {
            path: path.clone(),
            reason: format!("not UTF-8: {error}"),
        })?;
        return Ok(Some(ChatTemplate::new(source).with_origin(&path)));
    }
    let path = dir.join("chat_template.json");
    if let Some(object) = read_object(&path)?
        && let Some(source) = object.get("chat_template").and_then(pick_template)
    {
        return Ok(Some(ChatTemplate::new(source).with_origin(&path)));
    }
    let source = configured.as_ref().and_then(pick_template);
    Ok(source.map(|source| ChatTemplate::new(source).with_origin(&dir.join("tokenizer_config.json"))))
}

/// A template given as text, or the one named "default" of a list, or the only one of a list.
fn pick_template(value: &Value) -> Option<String> {
    match value {
        Value::String(source) => Some(source.clone()),
        Value::Array(named) => {
            let default = named.iter().find(|entry| entry.get("name").is_some_and(|name| name == "default"));
            let entry = default.or(if named.len() == 1 { named.first() } else { None })?;
            entry.get("template")?.as_str().map(str::to_owned)
        }
        _ => None,
    }
}

fn missing_rules(dir: &Path) -> FormatError {
    let older = ["tokenizer.model", "vocab.json"].into_iter().find(|name| dir.join(name).exists());
    match older {
        Some(name) => FormatError::Tokenizer {
            path: dir.to_owned(),
            reason: format!(
                "has {name} but no tokenizer.json; write one with Python: \
                 AutoTokenizer.from_pretrained(folder).save_pretrained(folder)"
            ),
        },
        None => FormatError::Missing { path: dir.to_owned(), what: "tokenizer.json".into() },
    }
}

fn read_object(path: &Path) -> Result<Option<Map<String, Value>>> {
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

fn read_file(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(FormatError::io(path, "read")(error)),
    }
}
