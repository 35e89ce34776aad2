//! Tokenizers and conversations for this crate's tests.

use std::path::{Path, PathBuf};

use serde_json::json;
use tunesmith_config::ExperimentConfig;
use tunesmith_formats::tokenizer::Tokenizer;

use crate::conversation::{Conversation, Round};

/// A tokenizer of this repository's goldens.
pub(crate) fn golden_tokenizer(name: &str) -> Tokenizer {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/tokenizers").join(name);
    Tokenizer::from_folder(&dir).unwrap()
}

/// A tokenizer of whole words between spaces: the word "7" has id 7, up to 30; then `</s>` and `<unk>`.
pub(crate) fn number_tokenizer() -> Tokenizer {
    let mut vocab: serde_json::Map<_, _> = (0..=30).map(|id: u32| (id.to_string(), json!(id))).collect();
    vocab.insert("</s>".into(), json!(31));
    vocab.insert("<unk>".into(), json!(32));
    let rules = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "<unk>"},
    });
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("tokenizer.json"), rules.to_string()).unwrap();
    std::fs::write(dir.path().join("tokenizer_config.json"), r#"{"unk_token": "<unk>"}"#).unwrap();
    Tokenizer::from_folder(dir.path()).unwrap()
}

/// Default settings with these changes.
pub(crate) fn config(changes: &[(&str, &str)]) -> ExperimentConfig {
    let mut config = ExperimentConfig::default();
    for (field, value) in changes {
        config.set(field, value).unwrap();
    }
    config
}

/// Settings without markers and end-of-text tokens.
pub(crate) fn bare_config(changes: &[(&str, &str)]) -> ExperimentConfig {
    let mut config = ExperimentConfig::default();
    let dataset = &mut config.dataset;
    for marker in
        [&mut dataset.text_system_start, &mut dataset.text_prompt_start, &mut dataset.text_answer_separator]
    {
        marker.clear();
    }
    dataset.add_eos_token_to_system = false;
    dataset.add_eos_token_to_prompt = false;
    dataset.add_eos_token_to_answer = false;
    // As H2O LLM Studio cuts, whose known answers these settings are for.
    dataset.truncate = tunesmith_config::Truncate::Left;
    for (field, value) in changes {
        config.set(field, value).unwrap();
    }
    config
}

/// A conversation of rounds (system, prompt, answer); its row is that of the last one.
pub(crate) fn conversation(rounds: &[(&str, &str, &str)]) -> Conversation {
    let rounds = rounds.iter().enumerate().map(|(row, (system, prompt, answer))| Round {
        system: (*system).into(),
        prompt: (*prompt).into(),
        answer: (*answer).into(),
        row,
        ..Round::default()
    });
    Conversation::new(rounds.collect()).unwrap()
}

/// Data sets that are not part of this repository.
pub(crate) fn shared_data(name: &str) -> PathBuf {
    let shared = std::env::var_os("TUNESMITH_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"), PathBuf::from);
    shared.join("data").join(name)
}
