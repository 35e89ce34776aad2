//! The chat templates of a tokenizer: the one for ordinary conversations, and those with a name for tools or retrieval.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serde_json::{Value, json};

use super::folder::{read_file, read_object};
use crate::chat_template::ChatTemplate;
use crate::error::{FormatError, Result};
use crate::gguf_metadata::Metadata;

/// Name of the template for ordinary conversations where there are several.
const DEFAULT: &str = "default";
/// Folder of the others, beside `chat_template.jinja`.
const FOLDER: &str = "additional_chat_templates";
const FILE: &str = "chat_template.jinja";

/// The templates of one tokenizer.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Templates {
    /// For ordinary conversations.
    pub(super) default: Option<ChatTemplate>,
    /// The others, by name.
    pub(super) named: BTreeMap<String, ChatTemplate>,
}

impl Templates {
    /// Those of the folder `dir`: from files of their own, else from `configured`, the entry of `tokenizer_config.json`.
    pub(super) fn of_folder(dir: &Path, configured: Option<&Value>) -> Result<Self> {
        let from_files =
            Self { default: read_template(&dir.join(FILE))?, named: read_named(&dir.join(FOLDER))? };
        if from_files != Self::default() {
            return Ok(from_files);
        }
        let path = dir.join("chat_template.json");
        if let Some(value) = read_object(&path)?.as_ref().and_then(|object| object.get("chat_template")) {
            return Ok(Self::of_value(value, &path));
        }
        Ok(configured
            .map_or_else(Self::default, |value| Self::of_value(value, &dir.join("tokenizer_config.json"))))
    }

    /// Those of a GGUF file.
    pub(super) fn of_gguf(metadata: &Metadata) -> Result<Self> {
        let template = |key: &str| -> Result<Option<ChatTemplate>> {
            Ok(metadata.string(key)?.map(|source| new(source, metadata.path())))
        };
        let mut named = BTreeMap::new();
        for name in metadata.strings("tokenizer.chat_templates")?.unwrap_or_default() {
            if let Some(found) = template(&format!("tokenizer.chat_template.{name}"))? {
                named.insert(name.clone(), found);
            }
        }
        Ok(Self { default: template("tokenizer.chat_template")?, named })
    }

    /// A template given as text, or several as a list of `{"name": …, "template": …}` or as an object.
    fn of_value(value: &Value, origin: &Path) -> Self {
        let entries: Vec<(&str, &str)> = match value {
            Value::String(source) => vec![(DEFAULT, source)],
            Value::Array(list) => list
                .iter()
                .filter_map(|entry| Some((entry.get("name")?.as_str()?, entry.get("template")?.as_str()?)))
                .collect(),
            Value::Object(map) => {
                map.iter().filter_map(|(name, source)| Some((name.as_str(), source.as_str()?))).collect()
            }
            _ => Vec::new(),
        };
        let mut named: BTreeMap<String, ChatTemplate> =
            entries.iter().map(|(name, source)| ((*name).to_owned(), new(source, origin))).collect();
        let default = named.remove(DEFAULT);
        match (default, entries.as_slice()) {
            // The only one of a list serves for everything.
            (None, [(_, source)]) => Self { default: Some(new(source, origin)), named },
            (default, _) => Self { default, named },
        }
    }

    /// The template called `name`.
    pub(super) fn get(&self, name: &str) -> Option<&ChatTemplate> {
        if name == DEFAULT { self.default.as_ref() } else { self.named.get(name) }
    }

    /// The entry of `tokenizer_config.json`, which every version of transformers reads; `None` without templates.
    pub(super) fn to_value(&self) -> Option<Value> {
        if self.named.is_empty() {
            return self.default.as_ref().map(|template| json!(template.source()));
        }
        let entry =
            |name: &str, template: &ChatTemplate| json!({"name": name, "template": template.source()});
        let default = self.default.iter().map(|template| entry(DEFAULT, template));
        Some(default.chain(self.named.iter().map(|(name, template)| entry(name, template))).collect())
    }
}

/// Jinja takes every kind of line end for a plain one, before it looks at anything else.
fn new(source: &str, origin: &Path) -> ChatTemplate {
    ChatTemplate::new(source.replace("\r\n", "\n").replace('\r', "\n")).with_origin(origin)
}

fn read_template(path: &Path) -> Result<Option<ChatTemplate>> {
    let Some(bytes) = read_file(path)? else { return Ok(None) };
    let source = String::from_utf8(bytes).map_err(|error| FormatError::Template {
        path: path.to_owned(),
        reason: format!("not UTF-8: {error}"),
    })?;
    Ok(Some(new(&source, path)))
}

fn read_named(folder: &Path) -> Result<BTreeMap<String, ChatTemplate>> {
    let entries = match fs::read_dir(folder).and_then(Iterator::collect::<std::io::Result<Vec<_>>>) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Vec::new(),
        Err(error) => return Err(FormatError::io(folder, "list")(error)),
    };
    let mut named = BTreeMap::new();
    for path in entries
        .iter()
        .map(fs::DirEntry::path)
        .filter(|path| path.extension().is_some_and(|end| end == "jinja"))
    {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if let Some(template) = read_template(&path)? {
            named.insert(name, template);
        }
    }
    Ok(named)
}
