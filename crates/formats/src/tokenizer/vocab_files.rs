//! The rules of a `tokenizer.json` from `vocab.json` and `merges.txt`, which folders from before that file have.
//!
//! The two files do not say how a text is cut into words: only the tokenizer's class tells, so only classes that always do it the
//! same way are read.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::assemble::tokenizer_error;
use super::folder::{read_file, read_object};
use super::pretokenizers;
use crate::error::Result;

/// The rules, if `dir` has both files, the tokenizer is of a class (or, without one, the model of a type) that is known, and its
/// configuration `config` asks for nothing beside.
pub(super) fn rules(
    dir: &Path,
    config: &Map<String, Value>,
    model_type: Option<&str>,
) -> Result<Option<Value>> {
    let is_set = |key: &str| config.get(key) == Some(&Value::Bool(true));
    if ["add_prefix_space", "add_bos_token", "add_eos_token"].into_iter().any(is_set) {
        return Ok(None);
    }
    let class = config.get("tokenizer_class").and_then(Value::as_str);
    let family = class.map(|class| class.trim_end_matches("Fast")).or(model_type);
    let name = match family {
        Some("GPT2Tokenizer" | "gpt2") => "gpt-2",
        Some("Qwen2Tokenizer" | "qwen2") => "qwen2",
        _ => return Ok(None),
    };
    let merges_path = dir.join("merges.txt");
    let (Some(vocab), Some(merges), Some(pre_tokenizer)) =
        (read_object(&dir.join("vocab.json"))?, read_file(&merges_path)?, pretokenizers::by_name(name))
    else {
        return Ok(None);
    };
    let merges = String::from_utf8(merges).map_err(|_| tokenizer_error(&merges_path, "it is not UTF-8"))?;
    let merges: Vec<Value> = merges
        .lines()
        .enumerate()
        .filter(|(line_idx, line)| {
            !(line.trim().is_empty() || *line_idx == 0 && line.starts_with("#version"))
        })
        .map(|(line_idx, line)| match line.split(' ').collect::<Vec<_>>()[..] {
            [left, right] => Ok(json!([left, right])),
            _ => Err(tokenizer_error(&merges_path, format!("line {} is not a pair of pieces", line_idx + 1))),
        })
        .collect::<Result<_>>()?;
    let added: Map<String, Value> = read_object(&dir.join("added_tokens.json"))?.unwrap_or_default();
    let added: Vec<Value> = added
        .iter()
        .map(|(text, id)| {
            json!({"id": id, "content": text, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": false})
        })
        .collect();
    Ok(Some(json!({
        "version": "1.0", "added_tokens": added, "normalizer": pre_tokenizer.normalizer,
        "pre_tokenizer": pre_tokenizer.rules, "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocab, "merges": merges},
    })))
}
