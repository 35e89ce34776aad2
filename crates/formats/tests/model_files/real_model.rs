//! A real model, SmolLM2-135M-Instruct, against the same weights as `transformers` and the gguf package see
//! them. Runs where the file is: `TUNESMITH_TEST_GGUF`, or the model cache of the program.

use std::env;
use std::path::{Path, PathBuf};

use tunesmith_formats::{ModelConfig, ModelSource, RopeScaling};

const FILE: &str = "models/SmolLM2-135M-Instruct.Q4_1.gguf";

fn cached() -> Option<PathBuf> {
    let cache = match (env::var_os("TUNESMITH_CACHE"), env::var_os("XDG_CACHE_HOME"), env::var_os("HOME")) {
        (Some(cache), _, _) => PathBuf::from(cache),
        (None, Some(cache), _) => Path::new(&cache).join("tunesmith"),
        (None, None, Some(home)) => Path::new(&home).join(".cache/tunesmith"),
        _ => return None,
    };
    Some(cache.join(FILE)).filter(|file| file.is_file())
}

#[test]
fn smollm2_from_gguf_is_the_model_of_the_hub() {
    let Some(gguf) = env::var_os("TUNESMITH_TEST_GGUF").map(PathBuf::from).or_else(cached) else {
        println!(
            "skipped: set TUNESMITH_TEST_GGUF to SmolLM2-135M-Instruct.Q4_1.gguf or put it at {FILE} in the cache"
        );
        return;
    };
    let source = ModelSource::open(&gguf).unwrap();
    let config = source.config();
    assert_eq!((config.vocab_size, config.hidden_size, config.intermediate_size), (49_152, 576, 1536));
    assert_eq!((config.n_layers, config.n_heads, config.n_kv_heads, config.head_dim), (30, 9, 3, 64));
    assert_eq!((config.max_positions, config.norm_eps, config.rope_theta), (8192, 1e-5, 100_000.0));
    assert_eq!((&config.rope_scaling, config.layers[0].window), (&RopeScaling::None, None));
    assert!(config.tie_word_embeddings && !config.attention_bias && !config.mlp_bias);
    assert_eq!((config.bos_id, &config.eos_ids[..], config.pad_id), (Some(1), &[2][..], Some(2)));
    assert_eq!(source.tensors().len(), 272);

    let Some(folder) = env::var_os("TUNESMITH_TEST_HF").map(PathBuf::from) else {
        println!("only the configuration was compared: TUNESMITH_TEST_HF does not name the model's folder");
        return;
    };
    let hub = ModelSource::open(&folder).unwrap();
    let ours = ModelConfig { raw: serde_json::Value::Null, ..config.clone() };
    assert_eq!(ours, ModelConfig { raw: serde_json::Value::Null, ..hub.config().clone() });
    for (key, value) in hub.config().raw.as_object().unwrap() {
        if !matches!(key.as_str(), "transformers_version" | "pretraining_tp" | "rope_parameters") {
            assert_eq!(config.raw.get(key), Some(value), "{key}");
        }
    }
    let names =
        |source: &ModelSource| source.tensors().iter().map(|info| info.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&source), names(&hub));
    for info in hub.tensors() {
        let (shape, theirs) = hub.read_f32(&info.name).unwrap();
        let (our_shape, ours) = source.read_f32(&info.name).unwrap();
        assert_eq!(our_shape, shape, "{}", info.name);
        let different = ours.iter().zip(&theirs).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
        assert_eq!(different, 0, "{} of {} values of {} differ", different, ours.len(), info.name);
    }
}
