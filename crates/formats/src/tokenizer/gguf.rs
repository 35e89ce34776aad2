//! Builds a tokenizer from the `tokenizer.*` metadata of a GGUF file, by making the `tokenizer.json` and
//! `tokenizer_config.json` that the original model had (or could have had).

use std::collections::HashMap;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::Tokenizer;
use super::assemble::{Parts, assemble, tokenizer_error};
use super::head;
use super::pretokenizers::{self, PreTokenizer};
use super::sentencepiece::{Pieces, piece_type, rules as sentencepiece_rules};
use super::templates::Templates;
use crate::error::Result;
use crate::gguf_metadata::Metadata;

/// Builds the tokenizer of `metadata`.
pub(super) fn build(metadata: &Metadata) -> Result<Tokenizer> {
    let path = metadata.path();
    let kind = metadata
        .string("tokenizer.ggml.model")?
        .ok_or_else(|| tokenizer_error(path, "the file has no tokenizer (no tokenizer.ggml.model)"))?;
    let vocabulary = Vocabulary::read(metadata)?;
    let (rules, adds_bos) = match kind {
        "gpt2" => byte_level(metadata, &vocabulary)?,
        "llama" => (sentencepiece(metadata, &vocabulary)?, true),
        other => {
            let reason = format!("vocabulary of kind {other:?} is not supported; known are gpt2 and llama");
            return Err(tokenizer_error(path, reason));
        }
    };
    let defaults = (kind == "llama").then_some([("bos", 1), ("eos", 2), ("unknown", 0)]);
    let named =
        named_tokens(metadata, &vocabulary, defaults.as_ref().map_or(&[], |defaults| defaults.as_slice()))?;

    let mut rules: Map<String, Value> =
        rules.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    rules.insert("version".into(), json!("1.0"));
    let swallows_space = kind == "llama" && is_phi3(metadata)?;
    rules.insert("added_tokens".into(), vocabulary.added_tokens(swallows_space));
    let adds_bos = metadata.bool("tokenizer.ggml.add_bos_token")?.unwrap_or(adds_bos);
    let adds_eos = metadata.bool("tokenizer.ggml.add_eos_token")?.unwrap_or(false);
    let before = adds_bos.then(|| named.get("bos_token")).flatten();
    let after = adds_eos.then(|| named.get("eos_token")).flatten();
    rules.insert("post_processor".into(), post_processor(before, after));

    let mut config: Map<String, Value> =
        named.iter().map(|(key, (text, _))| ((*key).to_owned(), json!(text))).collect();
    config.insert("tokenizer_class".into(), json!("PreTrainedTokenizerFast"));
    config.insert("clean_up_tokenization_spaces".into(), json!(false));
    if let Some(architecture) = metadata.string("general.architecture")?
        && let Some(length) = metadata.usize(&format!("{architecture}.context_length"))?
    {
        config.insert("model_max_length".into(), json!(length));
    }
    assemble(Parts {
        origin: path.to_owned(),
        rules: Value::Object(rules),
        config,
        model_type: None,
        templates: Templates::of_gguf(metadata)?,
    })
}

/// Whether the file is one of Phi 3 (not 4, whose vocabulary is of another kind). Its tokens take the white space after them
/// along, which GGUF cannot say. The name covers files that hold a tokenizer alone.
fn is_phi3(metadata: &Metadata) -> Result<bool> {
    let name = metadata.string("general.name")?.unwrap_or_default().to_lowercase();
    Ok(metadata.string("general.architecture")? == Some("phi3")
        || ["phi-3", "phi3", "phi 3"].iter().any(|part| name.contains(part)))
}

type Rules = Vec<(&'static str, Value)>;

/// Tokens and their kinds, one entry for each id.
struct Vocabulary {
    texts: Vec<String>,
    types: Vec<i64>,
}

impl Vocabulary {
    fn read(metadata: &Metadata) -> Result<Self> {
        let path = metadata.path();
        let texts = metadata
            .strings("tokenizer.ggml.tokens")?
            .filter(|texts| !texts.is_empty())
            .ok_or_else(|| tokenizer_error(path, "the vocabulary is empty (tokenizer.ggml.tokens)"))?;
        let types = metadata.ints("tokenizer.ggml.token_type")?.unwrap_or_else(|| vec![1; texts.len()]);
        check_length(path, "token_type", types.len(), texts.len())?;
        Ok(Self { texts: unique(texts), types })
    }

    fn text(&self, id: u32) -> Option<&str> {
        usize::try_from(id).ok().and_then(|id| self.texts.get(id)).map(String::as_str)
    }

    fn to_json(&self) -> Value {
        self.texts
            .iter()
            .enumerate()
            .map(|(id, text)| (text.clone(), json!(id)))
            .collect::<Map<_, _>>()
            .into()
    }

    /// What is matched before merging: control tokens as special ones, user-defined tokens as plain ones. With
    /// `swallows_space` all but those around a text take the white space after them along.
    fn added_tokens(&self, swallows_space: bool) -> Value {
        const AROUND_A_TEXT: [&str; 3] = ["<unk>", "<s>", "<|endoftext|>"];
        let added = self.texts.iter().zip(&self.types).enumerate().filter_map(|(id, (text, kind))| {
            let special = matches!(*kind, piece_type::UNKNOWN | piece_type::CONTROL);
            let rstrip = swallows_space && !AROUND_A_TEXT.contains(&text.as_str());
            (special || *kind == piece_type::USER_DEFINED).then(|| {
                json!({
                    "id": id, "content": text, "single_word": false, "lstrip": false, "rstrip": rstrip,
                    "normalized": false, "special": special,
                })
            })
        });
        added.collect()
    }
}

/// Texts with empty and repeated ones renamed: the last of equal ones keeps its name, as in llama.cpp.
fn unique(texts: &[String]) -> Vec<String> {
    let last: HashMap<&str, usize> = texts.iter().enumerate().map(|(id, text)| (text.as_str(), id)).collect();
    texts
        .iter()
        .enumerate()
        .map(|(id, text)| match last.get(text.as_str()) {
            Some(keeper) if *keeper == id && !text.is_empty() => text.clone(),
            _ => {
                let mut name = format!("[UNUSED_{id}]");
                while last.contains_key(name.as_str()) {
                    name.push('_');
                }
                name
            }
        })
        .collect()
}

/// Byte-level BPE as GPT-2 has it; also whether the family starts texts with the beginning-of-text token.
fn byte_level(metadata: &Metadata, vocabulary: &Vocabulary) -> Result<(Rules, bool)> {
    let path = metadata.path();
    let pre_tokenizer = pre_tokenizer(metadata)?;
    let merges = metadata
        .strings("tokenizer.ggml.merges")?
        .ok_or_else(|| tokenizer_error(path, "the vocabulary has no merges (tokenizer.ggml.merges)"))?;
    let merges: Vec<Value> = merges
        .iter()
        .enumerate()
        .map(|(rank, merge)| match merge.split_once(' ') {
            Some((left, right)) => Ok(json!([left, right])),
            None => Err(tokenizer_error(path, format!("merge {rank} is not a pair: {:?}", head(merge)))),
        })
        .collect::<Result<_>>()?;
    let decoder =
        json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true});
    let model = json!({
        "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
        "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
        "ignore_merges": pre_tokenizer.ignore_merges, "vocab": vocabulary.to_json(), "merges": merges,
    });
    let rules = vec![
        ("normalizer", pre_tokenizer.normalizer),
        ("pre_tokenizer", pre_tokenizer.rules),
        ("decoder", decoder),
        ("model", model),
    ];
    Ok((rules, pre_tokenizer.adds_bos))
}

/// The rules that `tokenizer.ggml.pre` names. Files from before May 2024 have no such key, and converters that did not know the
/// tokenizer wrote "default": only an architecture that never had another tokenizer tells what is right then.
fn pre_tokenizer(metadata: &Metadata) -> Result<PreTokenizer> {
    let path = metadata.path();
    let known = pretokenizers::known;
    match metadata.string("tokenizer.ggml.pre")? {
        None | Some("" | "default") if metadata.string("general.architecture")? == Some("gpt2") => {
            pretokenizers::by_name("gpt-2")
                .ok_or_else(|| tokenizer_error(path, format!("known pre-tokenizers are {}", known())))
        }
        None | Some("" | "default") => Err(tokenizer_error(
            path,
            format!(
                "the file does not say how a text is cut into words (tokenizer.ggml.pre is missing or \"default\"), and \
                 guessing would give wrong ids; take a newer GGUF file of the model, or set the key with \
                 gguf-new-metadata --pre-tokenizer NAME; known are {}",
                known()
            ),
        )),
        Some(name) => pretokenizers::by_name(name).ok_or_else(|| {
            tokenizer_error(path, format!("pre-tokenizer {name:?} is not supported; known are {}", known()))
        }),
    }
}

/// SentencePiece BPE as Llama 2 has it.
fn sentencepiece(metadata: &Metadata, vocabulary: &Vocabulary) -> Result<Rules> {
    let path = metadata.path();
    let scores = metadata
        .floats("tokenizer.ggml.scores")?
        .ok_or_else(|| tokenizer_error(path, "the vocabulary has no scores (tokenizer.ggml.scores)"))?;
    check_length(path, "scores", scores.len(), vocabulary.texts.len())?;
    let pieces = Pieces {
        texts: &vocabulary.texts,
        scores: &scores,
        types: &vocabulary.types,
        unknown_id: metadata.u32("tokenizer.ggml.unknown_token_id")?.unwrap_or(0),
        add_space_prefix: metadata.bool("tokenizer.ggml.add_space_prefix")?.unwrap_or(true),
    };
    Ok(sentencepiece_rules(&pieces, &vocabulary.to_json()))
}

/// The tokens with a role: key of `tokenizer_config.json` to text and id.
fn named_tokens(
    metadata: &Metadata,
    vocabulary: &Vocabulary,
    defaults: &[(&str, u32)],
) -> Result<HashMap<&'static str, (String, u32)>> {
    let roles = [
        ("bos", "bos_token"),
        ("eos", "eos_token"),
        ("unknown", "unk_token"),
        ("padding", "pad_token"),
        ("seperator", "sep_token"),
        ("mask", "mask_token"),
    ];
    let mut named = HashMap::new();
    for (role, config_key) in roles {
        let key = format!("tokenizer.ggml.{role}_token_id");
        let declared = metadata.u32(&key)?;
        let default = defaults.iter().find(|(name, _)| *name == role).map(|(_, id)| *id);
        let Some(id) = declared.or(default) else { continue };
        match (vocabulary.text(id), declared) {
            (Some(text), _) => {
                named.insert(config_key, (text.to_owned(), id));
            }
            (None, Some(_)) => {
                let n_tokens = vocabulary.texts.len();
                return Err(tokenizer_error(
                    metadata.path(),
                    format!("{key} is {id}, but the vocabulary has {n_tokens} tokens"),
                ));
            }
            (None, None) => {}
        }
    }
    Ok(named)
}

/// What other programs do around a text; encoding here never adds these tokens.
fn post_processor(before: Option<&(String, u32)>, after: Option<&(String, u32)>) -> Value {
    if before.is_none() && after.is_none() {
        return Value::Null;
    }
    let special = |token: Option<&(String, u32)>, type_id: u32| {
        token.map(|(text, _)| json!({"SpecialToken": {"id": text, "type_id": type_id}}))
    };
    let sequence = |name: &str, type_id: u32| {
        let content = json!({"Sequence": {"id": name, "type_id": type_id}});
        special(before, type_id).into_iter().chain([content]).chain(special(after, type_id))
    };
    let tokens: Map<String, Value> = [before, after]
        .into_iter()
        .flatten()
        .map(|(text, id)| (text.clone(), json!({"id": text, "ids": [id], "tokens": [text]})))
        .collect();
    json!({
        "type": "TemplateProcessing",
        "single": sequence("A", 0).collect::<Vec<_>>(),
        "pair": sequence("A", 0).chain(sequence("B", 1)).collect::<Vec<_>>(),
        "special_tokens": tokens,
    })
}

fn check_length(path: &Path, key: &str, actual: usize, n_tokens: usize) -> Result<()> {
    if actual == n_tokens {
        return Ok(());
    }
    let reason = format!("tokenizer.ggml.{key} has {actual} entries for {n_tokens} tokens");
    Err(tokenizer_error(path, reason))
}
