//! Which files a model has on the hub, and which of them are wanted.

use serde::Deserialize;

use crate::error::{FormatError, Result};
use crate::gguf_split::{PartName, only_model};

/// Everything beside the weights that a model folder may need.
const SIDE_FILES: [&str; 11] = [
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "config.json",
    "generation_config.json",
    "merges.txt",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
];

/// The hub's answer about a model at a revision.
#[derive(Debug, Deserialize)]
pub(super) struct Listing {
    /// The commit that the revision stands for.
    #[serde(rename = "sha", default)]
    pub(super) commit: String,
    #[serde(rename = "siblings", default)]
    pub(super) files: Vec<RemoteFile>,
}

/// A file on the hub.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct RemoteFile {
    #[serde(rename = "rfilename")]
    pub(super) name: String,
    #[serde(rename = "size", default)]
    pub(super) n_bytes: Option<u64>,
    #[serde(rename = "blobId", default)]
    blob_id: Option<String>,
    #[serde(default)]
    lfs: Option<Lfs>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Lfs {
    #[serde(default)]
    sha256: Option<String>,
}

impl RemoteFile {
    /// A file that is on this machine; `hash` is what the hub calls its content.
    pub(super) fn known(name: String, n_bytes: u64, hash: Option<String>) -> Self {
        let sha256 = hash.as_deref().and_then(sha256_hex);
        let blob_id = hash.filter(|_| sha256.is_none());
        let lfs = sha256.map(|sha256| Lfs { sha256: Some(sha256) });
        Self { name, n_bytes: Some(n_bytes), blob_id, lfs }
    }

    /// The announced SHA-256 in lower-case hexadecimal; large files have one.
    pub(super) fn sha256(&self) -> Option<String> {
        self.lfs.as_ref()?.sha256.as_deref().and_then(sha256_hex)
    }

    /// A text that changes when the content does: its hash where the hub tells, else the commit.
    pub(super) fn identity(&self, commit: &str) -> String {
        self.sha256().or(self.blob_id.clone()).unwrap_or_else(|| commit.to_owned())
    }
}

/// The files to fetch.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Selection {
    pub(super) files: Vec<RemoteFile>,
}

/// Picks from the `files` of the model called `model` those that can be read here.
pub(super) fn select(model: &str, files: Vec<RemoteFile>, gguf_filter: Option<&str>) -> Result<Selection> {
    let refused = |reason: String| FormatError::NotAModel { path: model.into(), reason };
    let nested_gguf = files
        .iter()
        .find(|file| file.name.contains('/') && file.name.to_lowercase().ends_with(".gguf"))
        .map(|file| file.name.clone());
    // Sub-folders hold other formats or training states; names that are not plain are an attack.
    let files: Vec<RemoteFile> = files.into_iter().filter(|file| is_plain_name(&file.name)).collect();
    let has = |name: &str| files.iter().any(|file| file.name == name);
    let ends = |file: &RemoteFile, end: &str| file.name.to_lowercase().ends_with(end);

    let is_weights: fn(&str) -> bool = if has("model.safetensors") {
        |name| name == "model.safetensors"
    } else if has("model.safetensors.index.json") {
        |name| name == "model.safetensors.index.json" || is_shard(name)
    } else {
        |name| matches!(name, "adapter_config.json" | "adapter_model.safetensors")
    };
    if gguf_filter.is_none() && files.iter().any(|file| is_weights(&file.name) && ends(file, ".safetensors"))
    {
        let is_wanted =
            |file: &RemoteFile| is_weights(&file.name) || SIDE_FILES.contains(&file.name.as_str());
        return Ok(Selection { files: files.into_iter().filter(is_wanted).collect() });
    }

    let filter = gguf_filter.unwrap_or_default().to_lowercase();
    let all: Vec<&RemoteFile> = files.iter().filter(|file| ends(file, ".gguf")).collect();
    let named = |file: &&RemoteFile| file.name.to_lowercase().contains(&filter);
    let matching: Vec<&RemoteFile> = all.iter().copied().filter(named).collect();
    let names =
        |files: &[&RemoteFile]| files.iter().map(|file| file.name.as_str()).collect::<Vec<_>>().join(", ");
    let part = matching.first().and_then(|file| PartName::parse(&file.name));
    let matching_names: Vec<&str> = matching.iter().map(|file| file.name.as_str()).collect();
    if let (Some(part), Some(_)) = (part, only_model(&matching_names)) {
        let missing = (1..=part.n_parts)
            .map(|part_no| part.of_part(part_no))
            .find(|name| !matching_names.contains(&name.as_str()));
        return match missing {
            Some(name) => Err(refused(format!("its GGUF file is split, and {name} is missing"))),
            None => Ok(Selection { files: matching.into_iter().cloned().collect() }),
        };
    }
    match matching[..] {
        [file] => Ok(Selection { files: vec![file.clone()] }),
        [] if !all.is_empty() => {
            Err(refused(format!("no .gguf file has {filter:?} in its name; there are: {}", names(&all))))
        }
        [] if files.iter().any(|file| ends(file, ".bin") || ends(file, ".pth") || ends(file, ".pt")) => Err(refused(
            "it has only pickled weights (.bin, .pth), a format that can run code when opened; look for a \
             safetensors revision (often refs/pr/1)"
                .into(),
        )),
        [] => match nested_gguf {
            Some(name) => Err(refused(format!(
                "its .gguf files are in folders ({name}), which are not fetched; download the wanted ones and give their path"
            ))),
            None => Err(refused("it has neither safetensors nor GGUF weights".into())),
        },
        _ => Err(refused(format!(
            "it has several .gguf files; add a part of the wanted name after a colon, as in owner/name:Q8_0. There \
             are: {}",
            names(&matching)
        ))),
    }
}

/// A visible file name without any folder.
pub(super) fn is_plain_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', ':', '\0'])
}

/// `model-00001-of-00003.safetensors`
fn is_shard(name: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    name.strip_prefix("model-")
        .and_then(|rest| rest.strip_suffix(".safetensors"))
        .and_then(|rest| rest.split_once("-of-"))
        .is_some_and(|(number, count)| is_number(number) && is_number(count))
}

/// `text` in lower case if it is a SHA-256 in hexadecimal, with or without quotes.
pub(super) fn sha256_hex(text: &str) -> Option<String> {
    let hex = text.trim_start_matches("W/").trim_matches('"');
    (hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| hex.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected(names: &[&str], filter: Option<&str>) -> std::result::Result<Vec<String>, String> {
        let file =
            |name: &&str| RemoteFile { name: (*name).to_owned(), n_bytes: None, blob_id: None, lfs: None };
        match select("a/b", names.iter().map(file).collect(), filter) {
            Ok(selection) => Ok(selection.files.into_iter().map(|file| file.name).collect()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn safetensors_come_with_configuration_and_tokenizer_and_nothing_else() {
        let names = [
            ".gitattributes",
            "README.md",
            "config.json",
            "model.safetensors",
            "model-00001-of-00001.safetensors",
            "pytorch_model.bin",
            "tokenizer.json",
            "onnx/model.onnx",
            "x.gguf",
            "../evil.safetensors",
        ];
        assert_eq!(selected(&names, None).unwrap(), ["config.json", "model.safetensors", "tokenizer.json"]);
        let names = [
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
            "consolidated.safetensors",
            "model-x-of-y.safetensors",
            "config.json",
        ];
        assert_eq!(
            selected(&names, None).unwrap(),
            [
                "model-00001-of-00002.safetensors",
                "model-00002-of-00002.safetensors",
                "model.safetensors.index.json",
                "config.json"
            ]
        );
        let names = ["adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"];
        assert_eq!(selected(&names, None).unwrap(), ["adapter_config.json", "adapter_model.safetensors"]);
    }

    #[test]
    fn gguf_is_taken_when_there_is_no_doubt() {
        assert_eq!(selected(&["README.md", "m.Q8_0.gguf", "config.json"], None).unwrap(), ["m.Q8_0.gguf"]);
        let many = ["m.Q8_0.gguf", "m.Q4_0.gguf", "model.safetensors"];
        assert_eq!(selected(&many, Some("q4_0")).unwrap(), ["m.Q4_0.gguf"]);
        assert!(selected(&many[..2], None).unwrap_err().contains("several .gguf files"));
        assert!(selected(&many, Some("q5")).unwrap_err().contains("there are: m.Q8_0.gguf, m.Q4_0.gguf"));
        let parts = ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"];
        assert_eq!(selected(&parts, None).unwrap(), parts);
        assert!(selected(&parts[1..], None).unwrap_err().contains("m-00001-of-00002.gguf is missing"));
        let sizes = ["m-Q8-00001-of-00002.gguf", "m-Q8-00002-of-00002.gguf", "m-Q4.gguf"];
        assert_eq!(selected(&sizes, Some("q8")).unwrap(), sizes[..2]);
        assert_eq!(selected(&sizes, Some("q4")).unwrap(), ["m-Q4.gguf"]);
        assert!(selected(&sizes, None).unwrap_err().contains("several .gguf files"));
        assert!(selected(&["Q8/m.gguf"], None).unwrap_err().contains("in folders (Q8/m.gguf)"));
    }

    #[test]
    fn nothing_readable_is_refused_with_the_reason() {
        assert!(selected(&["config.json", "pytorch_model.bin"], None).unwrap_err().contains("pickled"));
        assert!(selected(&["config.json"], None).unwrap_err().contains("neither safetensors nor GGUF"));
    }

    #[test]
    fn only_whole_hashes_count() {
        let hex = "AB".repeat(32);
        assert_eq!(sha256_hex(&format!("W/\"{hex}\"")), Some(hex.to_lowercase()));
        assert_eq!(sha256_hex("\"d41d8cd98f00b204e9800998ecf8427e\""), None);
    }
}
