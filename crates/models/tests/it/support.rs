//! Reading the goldens, running models, comparing numbers.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use tunesmith_formats::model_source::ModelSource;
use tunesmith_formats::peft::read_adapter;
use tunesmith_formats::safetensors_io::{NamedTensor, read_safetensors_f32};
use tunesmith_models::{CausalLm, TokenBatch, read_back};
use tunesmith_ops::{KvCache, Segments, open_device};

/// A golden model of each family and variation.
pub(crate) const FAMILIES: [&str; 20] = [
    "llama-mha",
    "llama3-rope",
    "llama-linear-rope",
    "llama-bias",
    "llama-yarn",
    "mistral-window",
    "qwen2",
    "qwen2-window",
    "qwen3",
    "qwen3-moe",
    "qwen3-moe-mixed",
    "smollm3",
    "olmo2",
    "phi3",
    "phi3-longrope",
    "gemma2",
    "gemma3",
    "gpt-neox",
    "gpt-neox-serial",
    "gpt2",
];

/// A golden adapter of each family.
pub(crate) const ADAPTERS: [&str; 12] = [
    "llama-mha-lora",
    "llama3-rope-lora",
    "gpt2-lora",
    "qwen2-lora",
    "qwen3-lora",
    "qwen3-moe-lora",
    "smollm3-lora",
    "olmo2-lora",
    "phi3-lora",
    "gemma2-lora",
    "gemma3-lora",
    "gpt-neox-lora",
];
/// The golden models of encoder and decoder.
pub(crate) const ENCODER_DECODERS: [&str; 2] = ["t5", "t5-gated"];
pub(crate) const DORA_ADAPTERS: [&str; 2] = ["llama-bias-dora", "gpt2-dora"];

pub(crate) fn golden_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden")
}

pub(crate) fn device() -> Device {
    open_device("cpu").unwrap()
}

/// A golden model, with its adapter where it is one of those that have one.
pub(crate) fn load(name: &str) -> CausalLm {
    load_on(name, &device())
}

/// As [`load`] on another device.
pub(crate) fn load_on(name: &str, device: &Device) -> CausalLm {
    let base = name.strip_suffix("-lora").or(name.strip_suffix("-dora"));
    let source = ModelSource::open(&golden_dir().join(base.unwrap_or(name))).unwrap();
    let mut model = CausalLm::load(&source, device).unwrap();
    if base.is_some() {
        let (config, tensors) = read_adapter(&golden_dir().join(name)).unwrap();
        model.load_adapter(&config, tensors).unwrap();
    }
    model
}

pub(crate) fn load_path(path: &Path) -> CausalLm {
    CausalLm::load(&ModelSource::open(path).unwrap(), &device()).unwrap()
}

pub(crate) fn golden_json(name: &str) -> serde_json::Value {
    read_json(&golden_dir().join(name).join("golden.json"))
}

pub(crate) fn read_json(path: &Path) -> serde_json::Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

pub(crate) fn tensors(path: &Path) -> BTreeMap<String, NamedTensor> {
    read_safetensors_f32(path).unwrap().into_iter().map(|t| (t.name.clone(), t)).collect()
}

/// Several sequences as one batch.
#[derive(Clone)]
pub(crate) struct Packed {
    pub(crate) ids: Vec<u32>,
    pub(crate) positions: Vec<u32>,
    /// Shifted: the label at t is the id to come after t.
    pub(crate) labels: Vec<i64>,
    pub(crate) segments: Segments,
}

impl Packed {
    /// `labels` stand at their own tokens' places.
    pub(crate) fn new(sequences: &[(Vec<u32>, Vec<i64>)]) -> Self {
        let mut packed =
            Self { ids: vec![], positions: vec![], labels: vec![], segments: Segments::new(&[]) };
        for (ids, labels) in sequences {
            packed.ids.extend(ids);
            packed.positions.extend(0..ids.len() as u32);
            packed.labels.extend(&labels[1..]);
            packed.labels.push(-100);
        }
        packed.segments = Segments::new(&sequences.iter().map(|(ids, _)| ids.len()).collect::<Vec<_>>());
        packed
    }

    /// The three sequences of a golden, as one batch.
    pub(crate) fn of_golden(golden: &serde_json::Value) -> Self {
        Self::new(&sequences(golden))
    }

    pub(crate) fn batch(&self) -> TokenBatch<'_> {
        TokenBatch { ids: &self.ids, positions: &self.positions, segments: &self.segments }
    }

    /// The mean over all labelled tokens.
    pub(crate) fn token_average(&self) -> Vec<f32> {
        let n_labelled = self.labels.iter().filter(|label| **label >= 0).count();
        self.labels.iter().map(|&label| if label >= 0 { 1.0 / n_labelled as f32 } else { 0.0 }).collect()
    }

    /// The mean over the own means of the sequences with labels.
    pub(crate) fn sample_average(&self) -> Vec<f32> {
        let labelled =
            |range: Range<usize>| -> Vec<usize> { range.filter(|&t| self.labels[t] >= 0).collect() };
        let of_sequences: Vec<_> =
            self.segments.ranges().map(labelled).filter(|places| !places.is_empty()).collect();
        let mut weights = vec![0.0; self.labels.len()];
        for places in &of_sequences {
            for &t in places {
                weights[t] = 1.0 / (places.len() * of_sequences.len()) as f32;
            }
        }
        weights
    }
}

/// Ids and labels of each sequence; a source stands before its own, without labels.
pub(crate) fn sequences(golden: &serde_json::Value) -> Vec<(Vec<u32>, Vec<i64>)> {
    let mut all = Vec::new();
    for s in golden["sequences"].as_array().unwrap() {
        let numbers = |key: &str| s[key].as_array().unwrap().iter().map(|v| v.as_i64().unwrap());
        let ids = |key: &str| -> Vec<u32> { numbers(key).map(|v| v as u32).collect() };
        if s.get("source").is_some() {
            let source = ids("source");
            let none = vec![-100; source.len()];
            all.push((source, none));
        }
        all.push((ids("ids"), numbers("labels").collect()));
    }
    all
}

/// Of [`logits`] those of the decoder's texts.
pub(crate) fn logits_of_texts(model: &CausalLm, packed: &Packed) -> Vec<f32> {
    let all = logits(model, packed);
    if !model.has_encoder() {
        return all;
    }
    let vocab_size = model.config().vocab_size;
    let texts = packed.segments.ranges().skip(1).step_by(2);
    texts.flat_map(|text| all[text.start * vocab_size..text.end * vocab_size].to_vec()).collect()
}

/// [N·V] scores without a graph.
pub(crate) fn logits(model: &CausalLm, packed: &Packed) -> Vec<f32> {
    let hidden = model.hidden(&packed.batch(), None).unwrap();
    read_back(model.logits(hidden), "logits").unwrap()
}

/// The scores of all tokens when they are fed to a cache in portions; `portions[i][s]` is the number of tokens of
/// sequence s in pass i. In the order of [`logits`].
pub(crate) fn logits_cached(model: &CausalLm, packed: &Packed, portions: &[Vec<usize>]) -> Vec<f32> {
    let n_sequences = packed.segments.len();
    let mut cache = KvCache::new(model.n_layers(), n_sequences);
    let mut rows: Vec<Vec<f32>> = vec![vec![]; n_sequences];
    for portion in portions {
        let (mut ids, mut positions) = (vec![], vec![]);
        for ((range, &n_taken), known) in packed.segments.ranges().zip(portion).zip(cache.lengths()) {
            let places = range.start + known..range.start + known + n_taken;
            assert!(places.end <= range.end);
            ids.extend(&packed.ids[places.clone()]);
            positions.extend(&packed.positions[places]);
        }
        let segments = Segments::new(portion);
        let tokens = TokenBatch { ids: &ids, positions: &positions, segments: &segments };
        let hidden = model.hidden_cached(&tokens, &mut cache).unwrap();
        let values = read_back(model.logits(hidden), "logits").unwrap();
        let mut values = values.chunks(model.config().vocab_size);
        for (row, n_taken) in rows.iter_mut().zip(portion) {
            (0..*n_taken).for_each(|_| row.extend(values.next().unwrap()));
        }
    }
    rows.concat()
}

#[track_caller]
pub(crate) fn worst_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// ‖a − b‖ / ‖b‖
#[track_caller]
pub(crate) fn relative_difference(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let difference = norm(&mut a.iter().zip(b).map(|(a, b)| f64::from(*a) - f64::from(*b)));
    difference / norm(&mut b.iter().map(|b| f64::from(*b))).max(1e-30)
}
