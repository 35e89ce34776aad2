//! Models and tokenizers of the goldens.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use tunesmith_formats::model_source::ModelSource;
use tunesmith_formats::tokenizer::Tokenizer;
use tunesmith_generate::{Generated, GenerationSettings, generate};
use tunesmith_models::CausalLm;
use tunesmith_ops::{Device, open_device};

pub(crate) fn golden_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden")
}

pub(crate) fn cpu() -> Device {
    open_device("cpu").unwrap()
}

pub(crate) fn load_golden(name: &str) -> CausalLm {
    load_golden_on(name, &cpu())
}

pub(crate) fn load_golden_on(name: &str, device: &Device) -> CausalLm {
    CausalLm::load(&ModelSource::open(&golden_dir().join(name)).unwrap(), device).unwrap()
}

/// For models of the goldens that have none: its end of text is beyond their vocabulary of 96.
pub(crate) fn any_tokenizer() -> Tokenizer {
    let tokenizer = Tokenizer::from_folder(&golden_dir().join("tokenizers/bpe-llama3")).unwrap();
    assert!(tokenizer.eos_id() > 96);
    tokenizer
}

/// A model with its own tokenizer.
pub(crate) fn load_gguf(name: &str) -> (CausalLm, Tokenizer) {
    let source = ModelSource::open(&golden_dir().join("gguf").join(name)).unwrap();
    (CausalLm::load(&source, &cpu()).unwrap(), source.tokenizer().unwrap())
}

pub(crate) fn golden_json(name: &str) -> serde_json::Value {
    read_json(&golden_dir().join(name).join("golden.json"))
}

pub(crate) fn read_json(path: &Path) -> serde_json::Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

pub(crate) fn ids(value: &serde_json::Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

pub(crate) fn run(
    model: &CausalLm,
    tokenizer: &Tokenizer,
    prompts: &[Vec<u32>],
    settings: &GenerationSettings,
) -> Vec<Generated> {
    generate(model, tokenizer, prompts, settings, &mut |_, _| ControlFlow::Continue(())).unwrap()
}

/// Prompts of `lengths` tokens from a fixed pattern.
pub(crate) fn prompts(lengths: &[usize]) -> Vec<Vec<u32>> {
    let prompt =
        |(i, &n): (usize, &usize)| (0..n).map(|t| 3 + ((7 * t + 31 * i + t * t) % 93) as u32).collect();
    lengths.iter().enumerate().map(prompt).collect()
}
