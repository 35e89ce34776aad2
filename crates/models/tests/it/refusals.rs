//! Models and batches that do not fit together, and what is said about it.

use std::path::Path;

use tunesmith_formats::model_source::ModelSource;
use tunesmith_formats::safetensors_io::{NamedTensor, read_safetensors_f32, write_safetensors};
use tunesmith_models::{CausalLm, ModelError, StepOptions, TokenBatch};
use tunesmith_ops::{KvCache, Segments};

use crate::support::*;

/// Loads a golden model after a change of its configuration and tensors.
fn load_changed(
    name: &str,
    change_config: impl FnOnce(&mut serde_json::Value),
    change_tensors: impl FnOnce(&mut Vec<NamedTensor>),
) -> Result<CausalLm, ModelError> {
    let folder = tempfile::tempdir().unwrap();
    let from = golden_dir().join(name);
    let text = std::fs::read_to_string(from.join("config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
    change_config(&mut config);
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    let mut tensors = read_safetensors_f32(&from.join("model.safetensors")).unwrap();
    change_tensors(&mut tensors);
    write(&folder.path().join("model.safetensors"), &tensors);
    let source = ModelSource::open(folder.path())?;
    CausalLm::load(&source, &device())
}

fn write(path: &Path, tensors: &[NamedTensor]) {
    write_safetensors(path, tensors, &[], tunesmith_formats::StoreDtype::F32).unwrap();
}

#[track_caller]
fn error_of(result: Result<CausalLm, ModelError>) -> ModelError {
    match result {
        Ok(_) => panic!("the model was loaded"),
        Err(error) => error,
    }
}

#[test]
fn a_missing_tensor_is_named_with_its_shape() {
    let error = error_of(load_changed("llama-mha", |_| (), |t| t.retain(|t| t.name != "model.norm.weight")));
    assert!(matches!(error, ModelError::MissingTensor { .. }), "{error}");
    assert!(error.to_string().contains("model.norm.weight is missing (expected shape [32])"), "{error}");
    assert!(error.hint().is_some());
}

#[test]
fn a_wrong_shape_is_shown_with_the_right_one() {
    let error = error_of(load_changed("llama-mha", |c| c["intermediate_size"] = 40.into(), |_| ()));
    assert!(matches!(error, ModelError::TensorShape { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("model.layers.0.mlp.gate_proj.weight has shape [48, 32]"), "{text}");
    assert!(text.contains("needs [40, 32]"), "{text}");
}

#[test]
fn tensors_without_a_place_are_refused() {
    let name = "model.layers.0.self_attn.q_norm.weight";
    let extra = NamedTensor { name: name.into(), shape: vec![8], data: vec![1.0; 8] };
    let error = error_of(load_changed("llama-mha", |_| (), |t| t.push(extra)));
    assert!(matches!(&error, ModelError::UnexpectedTensors { names, .. } if names == &[name]), "{error}");
    // Fewer layers than the file has: the rest has no place.
    let error = error_of(load_changed("llama-mha", |c| c["num_hidden_layers"] = 1.into(), |_| ()));
    assert!(error.to_string().contains("9 tensor(s) have no place"), "{error}");
    assert!(error.to_string().contains("and 1 more"), "{error}");
}

#[test]
fn derived_tensors_and_a_copy_of_a_tied_embedding_are_passed_over() {
    let push = |name: &str, shape: &[usize]| {
        let name = name.to_owned();
        let shape = shape.to_vec();
        move |tensors: &mut Vec<NamedTensor>| {
            let is_embedding = |tensor: &&NamedTensor| {
                name == "lm_head.weight"
                    && ["transformer.wte.weight", "model.embed_tokens.weight"].contains(&tensor.name.as_str())
            };
            let embedding = tensors.iter().find(is_embedding).map(|tensor| tensor.data.clone());
            let data = embedding.unwrap_or_else(|| vec![9.0; shape.iter().product()]);
            tensors.push(NamedTensor { name, shape, data });
        }
    };
    for (model, name, shape) in [
        ("gpt2", "transformer.h.0.attn.bias", vec![1, 1, 64, 64]),
        ("gpt2", "transformer.h.1.attn.masked_bias", vec![1]),
        ("gpt2", "lm_head.weight", vec![96, 32]),
        ("llama3-rope", "model.layers.0.self_attn.rotary_emb.inv_freq", vec![8]),
        ("llama3-rope", "lm_head.weight", vec![96, 32]),
    ] {
        let packed = Packed::of_golden(&golden_json(model));
        let changed = load_changed(model, |_| (), push(name, &shape)).unwrap();
        assert_eq!(logits(&changed, &packed), logits(&load(model), &packed), "{model} {name}");
    }
}

/// As in transformers 5: a stored head counts, whatever the configuration says.
#[test]
fn a_head_that_is_not_the_embedding_counts_though_the_model_calls_itself_tied() {
    let packed = Packed::of_golden(&golden_json("llama-mha"));
    let expected = logits(&load("llama-mha"), &packed);
    let tied_by_name =
        load_changed("llama-mha", |config| config["tie_word_embeddings"] = true.into(), |_| ());
    let tied_by_name = tied_by_name.unwrap();
    assert_eq!(logits(&tied_by_name, &packed), expected);
    assert!(!tied_by_name.config().tie_word_embeddings);
    let error = error_of(load_changed("llama-mha", |_| (), |t| t.retain(|t| t.name != "lm_head.weight")));
    assert!(error.to_string().contains("lm_head.weight is not stored"), "{error}");
}

#[test]
fn names_with_and_without_the_prefix_are_read() {
    for (model, prefix) in [("gpt2", "transformer."), ("llama-mha", "model.")] {
        let packed = Packed::of_golden(&golden_json(model));
        let expected = logits(&load(model), &packed);
        let without = load_changed(
            model,
            |_| (),
            |tensors| {
                for tensor in tensors {
                    tensor.name = tensor.name.replacen(prefix, "", 1);
                }
            },
        );
        assert_eq!(logits(&without.unwrap(), &packed), expected, "{model}");
    }
}

#[test]
fn head_counts_have_to_divide() {
    let error = error_of(load_changed("llama-mha", |c| c["num_key_value_heads"] = 3.into(), |_| ()));
    assert!(error.to_string().contains('3'), "{error}");
}

#[test]
fn dynamic_rotary_scaling_is_exact_up_to_its_first_context_and_ends_there() {
    let scaling = serde_json::json!({ "rope_type": "dynamic", "factor": 4.0, "rope_theta": 10000.0,
        "original_max_position_embeddings": 48 });
    let model = load_changed("llama-mha", |c| c["rope_parameters"] = scaling, |_| ()).unwrap();
    assert_eq!(model.context_length(), 48);
    let packed = Packed::of_golden(&golden_json("llama-mha"));
    assert_eq!(logits(&model, &packed), logits(&load("llama-mha"), &packed));
    let segments = Segments::new(&[1]);
    let batch = TokenBatch { ids: &[1], positions: &[48], segments: &segments };
    let error = model.hidden(&batch, None).unwrap_err();
    assert_eq!(error.to_string(), "a sequence of 49 tokens is longer than the context of 48");
}

#[test]
fn end_ids_come_from_both_configurations() {
    let folder = tempfile::tempdir().unwrap();
    let from = golden_dir().join("llama-mha");
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(from.join(file), folder.path().join(file)).unwrap();
    }
    assert_eq!(load_path(folder.path()).end_ids(), [2]);
    let write = |text: &str| std::fs::write(folder.path().join("generation_config.json"), text).unwrap();
    write(r#"{"eos_token_id": [7, 2, 5]}"#);
    assert_eq!(load_path(folder.path()).end_ids(), [2, 5, 7]);
    write(r#"{"eos_token_id": 9}"#);
    assert_eq!(load_path(folder.path()).end_ids(), [2, 9]);
}

#[test]
fn batches_are_checked() {
    let model = load("llama-mha");
    let check = |ids: &[u32], positions: &[u32], lengths: &[usize]| {
        let segments = Segments::new(lengths);
        model.hidden(&TokenBatch { ids, positions, segments: &segments }, None).unwrap_err()
    };
    assert!(matches!(check(&[], &[], &[]), ModelError::Batch { .. }));
    assert!(matches!(check(&[1, 2], &[0], &[2]), ModelError::Batch { .. }));
    assert!(matches!(check(&[1, 2], &[0, 1], &[3]), ModelError::Batch { .. }));
    let error = check(&[1, 96], &[0, 1], &[2]);
    assert_eq!(error.to_string(), "token id 96 at place 1 is not below the model's vocabulary size 96");
    let error = check(&[1, 2], &[127, 128], &[2]);
    assert_eq!(error.to_string(), "a sequence of 129 tokens is longer than the context of 128");

    let segments = Segments::new(&[2]);
    let batch = TokenBatch { ids: &[1, 2], positions: &[0, 1], segments: &segments };
    let step = |labels: &[i64], weights: &[f32]| {
        model.loss_and_gradients(&batch, labels, weights, &StepOptions::default()).unwrap_err().to_string()
    };
    assert!(step(&[1], &[1.0, 1.0]).contains("2 ids, 1 labels and 2 weights"));
    assert!(step(&[1, 96], &[1.0, 1.0]).contains("label 96 at place 1"));
    assert!(step(&[1, -1], &[1.0, 1.0]).contains("label -1 at place 1"));

    let mut cache = KvCache::new(model.n_layers(), 2);
    let error = model.hidden_cached(&batch, &mut cache).unwrap_err();
    assert!(error.to_string().contains("1 segments for a cache of 2 sequences"), "{error}");
}

#[test]
fn new_values_have_to_fit() {
    let mut model = load("llama-mha");
    let store = model.parameters_mut();
    let norm = store.index_of("model.norm.weight").unwrap();
    let error = store.update_value(norm, |value| value.narrow(0, 0, 5)).unwrap_err();
    assert_eq!(error.to_string(), "parameter model.norm.weight has shape [32], the new value has 5 elements");
    let value = store.get(0).unwrap().tensor();
    assert!(matches!(store.set_value(999, value), Err(ModelError::NoSuchParameter { .. })));
}
