//! Short training curves against PyTorch's: model, loss, optimizer and groups together.

use std::path::Path;

use tunesmith_config::ExperimentConfig;
use tunesmith_formats::model_source::ModelSource;
use tunesmith_formats::peft::read_adapter;
use tunesmith_models::{CausalLm, Recompute, StepOptions, TokenBatch};
use tunesmith_ops::{Segments, open_device};
use tunesmith_train::{Optimizer, Trainability};

use crate::support::golden;

const IGNORED_LABEL: i64 = -100;

/// The sequences of a reference, laid end to end, with one weight per token for the token-averaged loss.
struct Batch {
    ids: Vec<u32>,
    positions: Vec<u32>,
    lengths: Vec<usize>,
    labels: Vec<i64>,
    weights: Vec<f32>,
}

impl Batch {
    fn of(reference: &serde_json::Value) -> Self {
        let mut batch =
            Self { ids: vec![], positions: vec![], lengths: vec![], labels: vec![], weights: vec![] };
        for sequence in reference["sequences"].as_array().unwrap() {
            let ids: Vec<u32> = serde_json::from_value(sequence["ids"].clone()).unwrap();
            let labels: Vec<i64> = serde_json::from_value(sequence["labels"].clone()).unwrap();
            batch.positions.extend(0..ids.len() as u32);
            batch.lengths.push(ids.len());
            batch.ids.extend(ids);
            batch.labels.extend(&labels[1..]);
            batch.labels.push(IGNORED_LABEL);
        }
        let n_labelled = batch.labels.iter().filter(|label| **label != IGNORED_LABEL).count();
        let weight = |label: &i64| if *label == IGNORED_LABEL { 0.0 } else { 1.0 / n_labelled as f32 };
        batch.weights = batch.labels.iter().map(weight).collect();
        batch
    }
}

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Trains `model` as the reference did, comparing the loss before each step.
fn check(name: &str, mut model: CausalLm, reference: &serde_json::Value, is_lora: bool) {
    let batch = Batch::of(reference);
    let mut config = ExperimentConfig::default();
    config.training.learning_rate = reference["train_lr"].as_f64().unwrap();
    config.training.weight_decay = reference["weight_decay"].as_f64().unwrap();
    config.training.weight_decay_norms = true;
    config.training.lora = is_lora;
    let trainability = Trainability::of(&config.training);
    model.set_trainable(|name| trainability.trains(name));
    let mut optimizer = Optimizer::new(&config.training, model.parameters());
    let segments = Segments::new(&batch.lengths);
    let tokens = TokenBatch { ids: &batch.ids, positions: &batch.positions, segments: &segments };
    let options = StepOptions { recompute: Recompute::EveryBlock, ..StepOptions::default() };
    let mut worst: f64 = 0.0;
    for expected in reference["train_losses"].as_array().unwrap() {
        let result = model.loss_and_gradients(&tokens, &batch.labels, &batch.weights, &options).unwrap();
        worst = worst.max((result.loss - expected.as_f64().unwrap()).abs());
        optimizer.step(model.parameters_mut(), result.gradients, 1.0, 1.0).unwrap();
    }
    println!("{name}: worst difference of losses {worst:e}");
    assert!(worst < 2e-5, "{name}: {worst:e}");
}

#[test]
fn full_training_follows_the_reference() {
    // The reference decays every parameter; models with biases are left out because biases do not decay here.
    for name in ["llama-mha", "llama3-rope", "llama-linear-rope", "mistral-window"] {
        let source = ModelSource::open(&golden(name)).unwrap();
        let model = CausalLm::load(&source, &open_device("cpu").unwrap()).unwrap();
        check(name, model, &json(&golden(name).join("golden.json")), false);
    }
}

#[test]
fn adapter_training_follows_the_reference() {
    for name in ["llama-mha-lora", "llama3-rope-lora", "gpt2-lora"] {
        let reference = json(&golden(name).join("golden.json"));
        let base = reference["base"].as_str().unwrap();
        let source = ModelSource::open(&golden(base)).unwrap();
        let mut model = CausalLm::load(&source, &open_device("cpu").unwrap()).unwrap();
        let (mut adapter, tensors) = read_adapter(&golden(name)).unwrap();
        // The reference trained without dropout.
        adapter.lora_dropout = 0.0;
        model.load_adapter(&adapter, tensors).unwrap();
        check(name, model, &reference, true);
    }
}
