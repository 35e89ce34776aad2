//! Reference files written by PyTorch, transformers, PEFT and the gguf package.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;
use tunesmith_formats::gguf::GgufFile;
use tunesmith_formats::peft::{read_adapter, write_adapter};
use tunesmith_formats::safetensors_io::{SafetensorsFile, read_safetensors_f32, write_sharded};
use tunesmith_formats::{
    Activation, Architecture, FormatError, ModelConfig, ModelSource, NamedTensor, RopeScaling, StoreDtype,
};

use crate::golden_path;

const MODELS: [&str; 20] = [
    "gemma2",
    "gemma3",
    "gpt-neox",
    "gpt-neox-serial",
    "llama-mha",
    "llama-bias",
    "llama-yarn",
    "llama-linear-rope",
    "llama3-rope",
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
    "gpt2",
];

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn every_quantisation_decodes_to_the_bits_of_the_reference() {
    let file = GgufFile::open(&golden_path("gguf/quants.gguf")).unwrap();
    let truth = SafetensorsFile::open(&golden_path("gguf/quants.safetensors")).unwrap();
    let names: Vec<&str> = file.tensors().map(|tensor| tensor.name.as_str()).collect();
    assert_eq!(names.len(), 11, "{names:?}");
    for tensor in file.tensors() {
        assert_eq!(tensor.dtype.name(), tensor.name);
        let (shape, values) = file.read_f32(&tensor.name).unwrap();
        assert_eq!(shape, truth.tensor(&tensor.name).unwrap().shape, "{}", tensor.name);
        assert_eq!(bits(&values), bits(&truth.read_f32(&tensor.name).unwrap()), "{}", tensor.name);
    }
}

#[test]
fn both_generations_of_transformers_configurations_mean_the_same() {
    for model in MODELS {
        let five = ModelConfig::read(&golden_path(model).join("config.json")).unwrap();
        let four = ModelConfig::read(&golden_path(model).join("config.v4.json")).unwrap();
        assert_ne!(five.raw, four.raw);
        assert_eq!(
            ModelConfig { raw: Value::Null, ..five.clone() },
            ModelConfig { raw: Value::Null, ..four.clone() },
            "{model}"
        );
        // What we write for either is read back as the same model.
        for config in [five, four] {
            let path = Path::new("written");
            let back = ModelConfig::from_json(path, config.to_json(StoreDtype::F32)).unwrap();
            assert_eq!(ModelConfig { raw: Value::Null, ..back }, ModelConfig { raw: Value::Null, ..config });
        }
    }
}

#[test]
fn configurations_hold_the_numbers_of_the_files() {
    let read = |model: &str| ModelConfig::read(&golden_path(model).join("config.json")).unwrap();
    let llama3 = read("llama3-rope");
    assert_eq!(llama3.architecture, Architecture::Llama);
    assert_eq!((llama3.n_heads, llama3.n_kv_heads, llama3.head_dim, llama3.hidden_size), (4, 2, 16, 32));
    assert_eq!((llama3.rope_theta, llama3.norm_eps, llama3.tie_word_embeddings), (500_000.0, 1e-5, true));
    let scaling = RopeScaling::Llama3 {
        factor: 8.0,
        low_freq_factor: 0.5,
        high_freq_factor: 4.0,
        original_max_positions: 32,
    };
    assert_eq!(llama3.rope_scaling, scaling);
    assert_eq!((llama3.bos_id, llama3.eos_ids, llama3.pad_id), (Some(1), vec![2], None));

    assert!(matches!(read("llama-linear-rope").rope_scaling, RopeScaling::Linear { .. }));
    let mistral = read("mistral-window");
    assert_eq!(mistral.architecture, Architecture::Mistral);
    assert!(mistral.layers.iter().all(|layer| layer.window.is_some()));
    let biased = read("llama-bias");
    assert!(biased.attention_bias && biased.mlp_bias);
    let gpt2 = read("gpt2");
    assert_eq!((gpt2.architecture, gpt2.activation), (Architecture::Gpt2, Activation::GeluTanh));
    assert_eq!((gpt2.intermediate_size, gpt2.max_positions), (128, 64));
}

#[test]
fn folders_open_with_all_weights_under_their_names() {
    for model in MODELS {
        let folder = golden_path(model);
        let source = ModelSource::open(&folder).unwrap();
        assert!(!source.is_gguf());
        let stored = read_safetensors_f32(&folder.join("model.safetensors")).unwrap();
        assert_eq!(source.tensors().len(), stored.len());
        for tensor in &stored {
            assert!(source.contains(&tensor.name));
            assert_eq!(source.read_f32(&tensor.name).unwrap(), (tensor.shape.clone(), tensor.data.clone()));
        }
        assert!(matches!(source.read_f32("nothing"), Err(FormatError::NoSuchTensor { .. })));
        assert_eq!(source.generation_config().unwrap()["eos_token_id"], 2);
    }
}

#[test]
fn shards_are_read_as_one_model_and_written_as_they_were_read() {
    let source = ModelSource::open(&golden_path("llama-sharded")).unwrap();
    let stored: BTreeMap<String, NamedTensor> = (1..=3)
        .flat_map(|i| {
            read_safetensors_f32(&golden_path(&format!("llama-sharded/model-0000{i}-of-00003.safetensors")))
        })
        .flatten()
        .map(|tensor| (tensor.name.clone(), tensor))
        .collect();
    assert_eq!(source.tensors().len(), stored.len());
    let tensors: Vec<NamedTensor> = source
        .tensors()
        .iter()
        .map(|info| {
            let (shape, data) = source.read_f32(&info.name).unwrap();
            NamedTensor { name: info.name.clone(), shape, data }
        })
        .collect();
    for tensor in &tensors {
        assert_eq!(Some(tensor), stored.get(&tensor.name));
    }

    let copy = tempfile::tempdir().unwrap();
    source.config().save(copy.path(), StoreDtype::F32).unwrap();
    let stream = tensors.iter().cloned().map(Ok::<_, FormatError>);
    assert_eq!(write_sharded(copy.path(), stream, StoreDtype::F32, 40_000).unwrap().len(), 4);
    let again = ModelSource::open(copy.path()).unwrap();
    assert_eq!(again.tensors(), source.tensors());
    for tensor in &tensors {
        assert_eq!(again.read_f32(&tensor.name).unwrap().1, tensor.data);
    }

    // A shard that is gone, one that lacks a tensor, and one outside the folder.
    let refusal = |index: &str| {
        fs::write(copy.path().join("model.safetensors.index.json"), index).unwrap();
        ModelSource::open(copy.path()).unwrap_err().to_string()
    };
    assert!(
        refusal(r#"{"weight_map":{"a":"model-9.safetensors"}}"#).contains(
            "model-9.safetensors: this shard, which model.safetensors.index.json names, is missing"
        )
    );
    let lacking = refusal(r#"{"weight_map":{"a":"model-00001-of-00003.safetensors"}}"#);
    assert!(lacking.contains("which does not hold it"), "{lacking}");
    for outside in ["../model.safetensors", "/etc/passwd", "a\\\\b", ".."] {
        let reason = refusal(&format!(r#"{{"weight_map":{{"a":"{outside}"}}}}"#));
        assert!(reason.contains("not the name of a file beside it"), "{reason}");
    }
}

#[test]
fn gguf_models_get_hub_names_and_a_configuration_that_loads() {
    for (name, architecture, n_tensors) in [
        ("llama-tiny", Architecture::Llama, 20),
        ("llama3-tiny", Architecture::Llama, 21),
        ("gpt2-tiny", Architecture::Gpt2, 28),
        ("qwen2-tiny", Architecture::Qwen2, 26),
        ("qwen3-tiny", Architecture::Qwen3, 25),
        ("smollm3-tiny", Architecture::SmolLm3, 38),
        ("olmo2-tiny", Architecture::Olmo2, 25),
        ("phi3-tiny", Architecture::Phi3, 15),
    ] {
        let source = ModelSource::open(&golden_path(&format!("gguf/{name}.gguf"))).unwrap();
        assert!(source.is_gguf());
        let config = source.config();
        assert_eq!(config.architecture, architecture);
        assert_eq!(source.tensors().len(), n_tensors, "{name}");
        let (width, n_layers) = match architecture {
            Architecture::Phi3 => (64, 2),
            Architecture::SmolLm3 => (32, 4),
            _ => (32, 2),
        };
        assert_eq!((config.hidden_size, config.n_layers, config.n_heads), (width, n_layers, 4));
        let (embedding, prefix) = match architecture {
            Architecture::Gpt2 => ("transformer.wte.weight", "transformer."),
            _ => ("model.embed_tokens.weight", "model."),
        };
        assert!(source.tensors().iter().all(|t| t.name.starts_with(prefix) || t.name == "lm_head.weight"));
        assert_eq!(source.read_f32(embedding).unwrap().0, [config.vocab_size, width]);
        for info in source.tensors() {
            let (shape, values) = source.read_f32(&info.name).unwrap();
            assert_eq!(shape, info.shape, "{}", info.name);
            assert_eq!(values.len(), shape.iter().product::<usize>());
        }
    }
    let tied = ModelSource::open(&golden_path("gguf/llama-tiny.gguf")).unwrap();
    assert!(tied.config().tie_word_embeddings && !tied.contains("lm_head.weight"));
    assert_eq!(tied.config().head_dim, 8);

    let own_head = ModelSource::open(&golden_path("gguf/llama3-tiny.gguf")).unwrap();
    assert!(!own_head.config().tie_word_embeddings && own_head.contains("lm_head.weight"));
    assert_eq!((own_head.config().head_dim, own_head.config().rope_theta), (16, 500_000.0));
    assert!(matches!(own_head.config().rope_scaling, RopeScaling::Llama3 { factor: 8.0, .. }));

    // Its head is a copy of the embedding, its matrices are stored transposed.
    let gpt2 = ModelSource::open(&golden_path("gguf/gpt2-tiny.gguf")).unwrap();
    assert!(gpt2.config().tie_word_embeddings && !gpt2.contains("lm_head.weight"));
    assert_eq!(gpt2.read_f32("transformer.h.1.attn.c_attn.weight").unwrap().0, [32, 96]);
    assert_eq!((gpt2.config().max_positions, gpt2.config().intermediate_size), (64, 128));
}

#[test]
fn a_folder_with_one_gguf_file_is_that_model() {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(golden_path("gguf/llama-tiny.gguf"), folder.path().join("a.gguf")).unwrap();
    let source = ModelSource::open(folder.path()).unwrap();
    assert!(source.is_gguf());
    fs::copy(golden_path("gguf/llama-tiny.gguf"), folder.path().join("b.gguf")).unwrap();
    let error = ModelSource::open(folder.path()).unwrap_err();
    assert!(error.to_string().contains("several .gguf files (a.gguf, b.gguf"), "{error}");
}

#[test]
fn what_is_not_a_model_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let refusal = || ModelSource::open(folder.path()).unwrap_err().to_string();
    let put = |name: &str| fs::write(folder.path().join(name), "").unwrap();
    assert!(refusal().contains("holds neither model.safetensors nor a .gguf file"));
    put("weights.safetensors");
    assert!(refusal().contains("(weights.safetensors) are not called model.safetensors"));
    put("pytorch_model.bin");
    assert!(refusal().contains("pickled"));
    put("adapter_config.json");
    assert!(refusal().contains("PEFT adapter"));
    put("model.safetensors");
    assert!(refusal().ends_with("config.json is missing"));
    let error = ModelSource::open(&folder.path().join("nowhere")).unwrap_err();
    assert!(error.to_string().contains("no such file") && error.hint().is_some());
    let error = ModelSource::open(&folder.path().join("weights.safetensors")).unwrap_err();
    assert!(error.to_string().contains("neither a folder nor a .gguf file"));
}

#[test]
fn checkpoints_without_a_head_and_with_old_buffers_open_as_the_whole_model() {
    let folder = tempfile::tempdir().unwrap();
    let source = ModelSource::open(&golden_path("gpt2")).unwrap();
    let mut tensors: Vec<NamedTensor> = source
        .tensors()
        .iter()
        .map(|info| {
            let (shape, data) = source.read_f32(&info.name).unwrap();
            NamedTensor { name: info.name.strip_prefix("transformer.").unwrap().to_owned(), shape, data }
        })
        .collect();
    tensors.push(NamedTensor { name: "h.0.attn.bias".into(), shape: vec![1, 1], data: vec![1.0] });
    tensors.push(NamedTensor { name: "h.0.attn.masked_bias".into(), shape: vec![], data: vec![-1e4] });
    source.config().save(folder.path(), StoreDtype::F32).unwrap();
    write_sharded(folder.path(), tensors.into_iter().map(Ok::<_, FormatError>), StoreDtype::F32, 1 << 30)
        .unwrap();
    let bare = ModelSource::open(folder.path()).unwrap();
    assert_eq!(bare.tensors(), source.tensors());
    let name = "transformer.h.0.attn.c_attn.bias";
    assert_eq!(bare.read_f32(name).unwrap(), source.read_f32(name).unwrap());
}

#[test]
fn fingerprints_tell_models_of_one_shape_apart() {
    let folder = tempfile::tempdir().unwrap();
    let source = ModelSource::open(&golden_path("llama-mha")).unwrap();
    let export = |change: f32| {
        source.config().save(folder.path(), StoreDtype::F32).unwrap();
        let stream = source.tensors().iter().map(|info| {
            let (shape, mut data) = source.read_f32(&info.name)?;
            data[0] += change;
            Ok::<_, FormatError>(NamedTensor { name: info.name.clone(), shape, data })
        });
        write_sharded(folder.path(), stream, StoreDtype::F32, 1 << 30).unwrap();
        ModelSource::open(folder.path()).unwrap().fingerprint().unwrap()
    };
    let (first, again, changed) = (export(0.0), export(0.0), export(1.0));
    assert_eq!(first.len(), 64);
    assert_eq!(first, again);
    assert_ne!(first, changed);
}

#[test]
fn adapters_of_peft_are_read_and_written_unchanged() {
    for (adapter, rank_stabilised) in
        [("llama-mha-lora", None), ("llama3-rope-lora", Some(true)), ("gpt2-lora", Some(false))]
    {
        let folder = golden_path(adapter);
        let (config, tensors) = read_adapter(&folder).unwrap();
        assert_eq!((config.peft_type.as_str(), config.r, config.lora_alpha), ("LORA", 4, 16.0));
        if let Some(expected) = rank_stabilised {
            assert_eq!(config.use_rslora, expected);
        }
        assert_eq!(config.fan_in_fan_out, adapter == "gpt2-lora");
        assert!(tensors.iter().all(|tensor| tensor.name.starts_with("base_model.model.")));

        let copy = tempfile::tempdir().unwrap();
        write_adapter(copy.path(), &config, &tensors).unwrap();
        assert_eq!(read_adapter(copy.path()).unwrap(), (config, tensors));
        // Every key of PEFT's file is still there with its value.
        let json = |path: &Path| -> Value {
            serde_json::from_slice(&fs::read(path.join("adapter_config.json")).unwrap()).unwrap()
        };
        let (theirs, ours) = (json(&folder), json(copy.path()));
        for (key, value) in theirs.as_object().unwrap() {
            assert!(same(value, &ours[key]), "{adapter}: {key} was {value}, is {}", ours[key]);
        }
    }
}

/// Equal, where 0 and 0.0 are the same number.
fn same(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}
