//! `labels.json` beside an adapter or a score head: which label each score is, as `id2label` and `label2id` of transformers'
//! `config.json` say it, for which PEFT's files have no place.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::atomic::write_file;
use crate::error::{FormatError, Result};

const FILE: &str = "labels.json";

/// `id2label` and `label2id` of labels in the order of their scores. Keys of the former are texts, as JSON has no others.
fn label_maps(labels: &[String]) -> [Value; 2] {
    let numbered = || labels.iter().enumerate();
    let id_to_label: Map<String, Value> =
        numbered().map(|(id, label)| (id.to_string(), json!(label))).collect();
    let label_to_id: Map<String, Value> = numbered().map(|(id, label)| (label.clone(), json!(id))).collect();
    [id_to_label.into(), label_to_id.into()]
}

/// Adds `id2label` and `label2id` to the configuration of a model.
pub fn add_label_names(config: &mut Value, labels: &[String]) {
    let [id_to_label, label_to_id] = label_maps(labels);
    config["id2label"] = id_to_label;
    config["label2id"] = label_to_id;
}

/// The labels of an `id2label`, in the order of their numbers; `None` unless these are 0, 1, 2, ….
pub(crate) fn labels_of(id_to_label: &Map<String, Value>) -> Option<Vec<String>> {
    let label = |id: usize| Some(id_to_label.get(&id.to_string())?.as_str()?.to_owned());
    (0..id_to_label.len()).map(label).collect()
}

/// Writes `labels.json` into the existing folder `dir`.
///
/// # Errors
/// [`FormatError::Io`].
pub fn write_label_names(dir: &Path, labels: &[String]) -> Result<()> {
    let path = dir.join(FILE);
    let mut maps = json!({});
    add_label_names(&mut maps, labels);
    let text = serde_json::to_string_pretty(&maps).map_err(FormatError::json(&path))?;
    write_file(&path, text.as_bytes())
}

/// Reads `labels.json` in the folder `dir`; `None` when there is none.
///
/// # Errors
/// [`FormatError::Malformed`] when it is something else; [`FormatError::Io`].
pub fn read_label_names(dir: &Path) -> Result<Option<Vec<String>>> {
    let path = dir.join(FILE);
    if !path.is_file() {
        return Ok(None);
    }
    let text = std::fs::read(&path).map_err(FormatError::io(&path, "read"))?;
    let maps: Value = serde_json::from_slice(&text).map_err(FormatError::json(&path))?;
    let labels = maps.get("id2label").and_then(Value::as_object).and_then(labels_of);
    labels.map(Some).ok_or_else(|| FormatError::Malformed {
        path,
        format: "labels",
        reason: "it should hold id2label, a label for each number from 0 on".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_survive_writing_and_reading() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read_label_names(folder.path()).unwrap(), None);
        let labels: Vec<String> = (0..12).map(|n| format!("label, {}", 11 - n)).collect();
        write_label_names(folder.path(), &labels).unwrap();
        assert_eq!(read_label_names(folder.path()).unwrap(), Some(labels));
        let text = std::fs::read_to_string(folder.path().join(FILE)).unwrap();
        let maps: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&maps["id2label"]["11"], &maps["label2id"]["label, 0"]),
            (&json!("label, 0"), &json!(11))
        );
    }

    #[test]
    fn what_is_no_mapping_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["[]", r#"{"id2label": {"1": "a"}}"#, r#"{"id2label": {"0": 5}}"#] {
            std::fs::write(folder.path().join(FILE), text).unwrap();
            let error = read_label_names(folder.path()).unwrap_err().to_string();
            assert!(error.contains("id2label"), "{error}");
        }
    }
}
