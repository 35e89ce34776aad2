//! Models whose weights stay on the disk.

use std::sync::Arc;

use tunesmith_formats::model_source::ModelSource;
use tunesmith_formats::peft::read_adapter;
use tunesmith_models::{CausalLm, LoadOptions};
use tunesmith_ops::{Compute, Format};

use crate::support::*;

fn open(name: &str) -> Arc<ModelSource> {
    Arc::new(ModelSource::open(&golden_dir().join(name)).unwrap())
}

#[test]
fn they_compute_what_models_in_memory_compute_to_the_bit() {
    for name in FAMILIES {
        let packed = Packed::of_golden(&golden_json(name));
        let on_disk = CausalLm::on_disk(&open(name), &device(), None).unwrap();
        assert_eq!(logits(&on_disk, &packed), logits(&load(name), &packed), "{name}");
        on_disk.check_reads().unwrap();
        assert_eq!(on_disk.parameters().n_trainable(), 0);
    }
}

#[test]
fn formats_and_adapters_are_those_of_models_in_memory() {
    for (adapter, format) in
        [("llama-mha-lora", Format::Nf4), ("gpt2-dora", Format::Q4_1), ("phi3-lora", Format::Q8_0)]
    {
        let packed = Packed::of_golden(&golden_json(adapter));
        let source = open(&adapter[..adapter.len() - "-lora".len()]);
        let (config, tensors) = read_adapter(&golden_dir().join(adapter)).unwrap();
        let options = LoadOptions { compute: Compute::F32, frozen: format, is_trained: &|_| false };
        let mut in_memory = CausalLm::load_with(&source, &device(), &options).unwrap();
        in_memory.load_adapter(&config, tensors.clone()).unwrap();
        let mut on_disk = CausalLm::on_disk(&source, &device(), Some(format)).unwrap();
        on_disk.load_adapter(&config, tensors).unwrap();
        assert_eq!(logits(&on_disk, &packed), logits(&in_memory, &packed), "{adapter}");
        on_disk.check_reads().unwrap();
    }
}

/// A weight in integers has the right name and shape, and is found out only when it is read.
#[test]
fn a_weight_that_cannot_be_read_is_told_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let from = golden_dir().join("llama-mha");
    std::fs::copy(from.join("config.json"), folder.path().join("config.json")).unwrap();
    let bytes = std::fs::read(from.join("model.safetensors")).unwrap();
    let n_header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + n_header]).unwrap();
    header["model.layers.1.mlp.up_proj.weight"]["dtype"] = "U32".into();
    let header = header.to_string().into_bytes();
    let whole = [&(header.len() as u64).to_le_bytes()[..], &header, &bytes[8 + n_header..]].concat();
    std::fs::write(folder.path().join("model.safetensors"), whole).unwrap();

    let packed = Packed::of_golden(&golden_json("llama-mha"));
    let model =
        CausalLm::on_disk(&Arc::new(ModelSource::open(folder.path()).unwrap()), &device(), None).unwrap();
    model.check_reads().unwrap();
    assert!(logits(&model, &packed).iter().all(|logit| logit.is_finite()));
    let failure = model.check_reads().unwrap_err().to_string();
    assert!(failure.contains("model.layers.1.mlp.up_proj.weight") && failure.contains("U32"), "{failure}");
}
