//! LoRA: targets, initial values, exchange with PEFT, merging.

use std::collections::BTreeMap;

use tunesmith_formats::model_source::ModelSource;
use tunesmith_formats::peft::{AdapterConfig, TargetModules, read_adapter, write_adapter};
use tunesmith_formats::safetensors_io::{NamedTensor, write_safetensors};
use tunesmith_models::{CausalLm, LoraInit, LoraSpec, ModelError};
use tunesmith_ops::Rule;

use crate::golden::train;
use crate::support::*;

fn spec(target_modules: &[&str]) -> LoraSpec {
    LoraSpec {
        r: 4,
        alpha: 16.0,
        target_modules: target_modules.iter().map(|name| (*name).to_owned()).collect(),
        seed: 3,
        ..LoraSpec::default()
    }
}

#[test]
fn no_target_means_every_linear_layer_but_the_head() {
    let n_per_block = |name| match name {
        "gpt2" | "phi3" | "gpt-neox" | "qwen3-moe" => 4,
        _ => 7,
    };
    for adapter in ADAPTERS {
        let name = adapter.strip_suffix("-lora").unwrap();
        let mut model = load(name);
        assert_eq!(model.linear_modules().len(), 2 * n_per_block(name), "{name}");
        assert!(model.linear_modules().iter().all(|path| !path.contains("head")));
        let attached = model.attach_lora(&spec(&[])).unwrap();
        assert_eq!(attached.modules, model.linear_modules());
        let mut expected: Vec<String> =
            serde_json::from_value(golden_json(adapter)["targets"].clone()).unwrap();
        let TargetModules::Names(mut found) = model.adapter_config().unwrap().target_modules else {
            panic!()
        };
        expected.sort();
        found.sort();
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn targets_are_full_paths_or_their_ends_after_a_dot() {
    let attached = |targets: &[&str]| load("llama-mha").attach_lora(&spec(targets));
    let modules = |targets: &[&str]| attached(targets).unwrap().modules;
    assert_eq!(modules(&["q_proj"]), ["model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.q_proj"]);
    assert_eq!(modules(&["mlp.up_proj"]).len(), 2);
    assert_eq!(modules(&["model.layers.1.self_attn.v_proj"]), ["model.layers.1.self_attn.v_proj"]);
    assert_eq!(modules(&["0.mlp.down_proj", "o_proj"]).len(), 3);
    // `proj` ends every name, but not after a dot.
    let missing = attached(&["proj"]).unwrap_err();
    assert!(matches!(missing, ModelError::NoLoraTarget { .. }), "{missing}");
    assert!(missing.to_string().contains("q_proj, k_proj, v_proj"), "{missing}");
    assert_eq!(attached(&["q_proj", "c_attn"]).unwrap().unmatched_targets, ["c_attn"]);
    for unsupported in ["lm_head", "embed_tokens"] {
        let error = attached(&["q_proj", unsupported]).unwrap_err();
        assert!(matches!(error, ModelError::LoraTargetUnsupported { .. }), "{error}");
    }
}

#[test]
fn a_fresh_adapter_changes_nothing_and_alone_is_trained() {
    for name in FAMILIES {
        let packed = Packed::of_golden(&golden_json(name));
        let mut model = load(name);
        let before = logits(&model, &packed);
        let n_base = model.parameters().n_values();
        model.attach_lora(&spec(&[])).unwrap();
        assert_eq!(worst_difference(&logits(&model, &packed), &before), 0.0);
        let store = model.parameters();
        assert_eq!(store.n_trainable(), store.n_values() - n_base);
        for parameter in store.iter() {
            assert_eq!(parameter.trainable, parameter.name.contains(".lora_"));
        }
        assert!(matches!(model.attach_lora(&spec(&[])), Err(ModelError::AdapterPresent)));
    }
}

#[test]
fn initial_values_are_uniform_and_depend_on_the_seed() {
    let values = |seed| {
        let mut model = load("llama-mha");
        model.attach_lora(&LoraSpec { r: 32, seed, ..spec(&[]) }).unwrap();
        let store = model.parameters();
        let a = store.by_name("model.layers.1.mlp.down_proj.lora_A.weight").unwrap();
        assert_eq!(a.shape, [32, 48]);
        a.to_vec().unwrap()
    };
    let a = values(1);
    let bound = 1.0 / 48f32.sqrt();
    assert!(a.iter().all(|v| v.abs() <= bound));
    let largest = a.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    assert!(largest > 0.98 * bound);
    // A uniform value's variance is bound²/3; 1536 of them stray by 2.3 %.
    let variance = a.iter().map(|v| v * v).sum::<f32>() / a.len() as f32;
    assert!((variance / (bound * bound / 3.0) - 1.0).abs() < 0.1, "{variance}");
    assert_eq!(a, values(1));
    assert_ne!(a, values(2));
}

#[test]
fn rank_stabilised_scale_differs_by_the_root_of_the_rank() {
    let packed = Packed::of_golden(&golden_json("llama-mha"));
    let (config, tensors) = read_adapter(&golden_dir().join("llama-mha-lora")).unwrap();
    let logits_with = |change: &dyn Fn(&mut AdapterConfig)| {
        let mut config = config.clone();
        change(&mut config);
        let mut model = load("llama-mha");
        model.load_adapter(&config, tensors.clone()).unwrap();
        logits(&model, &packed)
    };
    // α/√4 with α = 16 is what α/4 is with α = 32.
    let stabilised = logits_with(&|c| c.use_rslora = true);
    let doubled = logits_with(&|c| c.lora_alpha = 32.0);
    assert_eq!(stabilised, doubled);
    assert_ne!(stabilised, logits_with(&|_| ()));
}

#[test]
fn adapters_are_written_as_peft_writes_them() {
    for name in ADAPTERS.into_iter().chain(DORA_ADAPTERS) {
        let (config, tensors) = read_adapter(&golden_dir().join(name)).unwrap();
        let loaded = load(name);
        let by_name = |tensors: Vec<NamedTensor>| -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
            tensors.into_iter().map(|t| (t.name, (t.shape, t.data))).collect()
        };
        assert_eq!(by_name(loaded.adapter_tensors().unwrap()), by_name(tensors.clone()));
        assert_eq!(loaded.adapter_config().unwrap(), config);

        // A fresh one of the same settings has the same names, shapes and settings.
        let mut fresh = load(&name[..name.len() - "-lora".len()]);
        let TargetModules::Names(target_modules) = config.target_modules.clone() else { panic!() };
        let (use_rslora, use_dora) = (config.use_rslora, config.use_dora);
        fresh.attach_lora(&LoraSpec { use_rslora, use_dora, target_modules, ..spec(&[]) }).unwrap();
        let folder = tempfile::tempdir().unwrap();
        write_adapter(folder.path(), &fresh.adapter_config().unwrap(), &fresh.adapter_tensors().unwrap())
            .unwrap();
        let (config_again, tensors_again) = read_adapter(folder.path()).unwrap();
        let names_and_shapes = |tensors: Vec<NamedTensor>| -> BTreeMap<String, Vec<usize>> {
            tensors.into_iter().map(|t| (t.name, t.shape)).collect()
        };
        assert_eq!(names_and_shapes(tensors_again), names_and_shapes(tensors));
        let base_model_name_or_path = config.base_model_name_or_path.clone();
        let other = config.other.clone();
        assert_eq!(AdapterConfig { base_model_name_or_path, other, ..config_again }, config);
    }
}

#[test]
fn adapters_that_do_not_fit_are_refused() {
    let (config, tensors) = read_adapter(&golden_dir().join("llama-mha-lora")).unwrap();
    let refusal = |change: &dyn Fn(&mut AdapterConfig, &mut Vec<NamedTensor>)| {
        let (mut config, mut tensors) = (config.clone(), tensors.clone());
        change(&mut config, &mut tensors);
        load("llama-mha").load_adapter(&config, tensors).unwrap_err().to_string()
    };
    assert!(refusal(&|c, _| c.use_dora = true).contains("has no lora_magnitude_vector"));
    assert!(refusal(&|c, _| c.bias = "all".into()).contains("bias is \"all\""));
    assert!(refusal(&|c, _| c.modules_to_save = Some(vec!["lm_head".into()])).contains("lm_head"));
    assert!(refusal(&|c, _| c.r = 8).contains("has shape [4, 32], this model needs [8, 32]"));
    assert!(refusal(&|_, t| drop(t.remove(0))).contains("has no lora_A"));
    assert!(refusal(&|_, t| t.clear()).contains("no LoRA weights"));
    let strange = "base_model.model.model.layers.7.mlp.up_proj.lora_A.weight";
    let moved = refusal(&|_, t| t[0].name = strange.into());
    assert!(moved.contains("has no lora_A"), "{moved}");
    let extra = refusal(&|_, t| t.push(NamedTensor { name: strange.into(), ..t[0].clone() }));
    assert!(
        extra.contains("1 tensor(s) belong to no linear layer in this model's blocks: model.layers.7"),
        "{extra}"
    );
}

#[test]
fn a_merged_model_gives_what_the_adapter_gives() {
    for name in ADAPTERS.into_iter().chain(DORA_ADAPTERS) {
        let packed = Packed::of_golden(&golden_json(name));
        let model = load(name);
        let merged = reload_merged(&name[..name.len() - "-lora".len()], &model);
        let found = logits(&merged, &packed);
        let to_adapter = worst_difference(&found, &logits(&model, &packed));
        let expected = tensors(&golden_dir().join(name).join("golden.safetensors"));
        let expected: Vec<f32> =
            (0..3).flat_map(|i| expected[&format!("merged.logits.{i}")].data.clone()).collect();
        let to_peft = worst_difference(&found, &expected);
        println!(
            "{name}: merged differs by {to_adapter:.1e} from the adapter, {to_peft:.1e} from peft's merge"
        );
        assert!(to_adapter < 3e-5 && to_peft < 3e-5, "{name}: {to_adapter}, {to_peft}");
    }
}

#[test]
fn merging_without_an_adapter_gives_the_weights_back() {
    for name in FAMILIES {
        let model = load(name);
        let source = ModelSource::open(&golden_dir().join(name)).unwrap();
        let tensors: Vec<NamedTensor> = model.merged_tensors().collect::<Result<_, _>>().unwrap();
        assert_eq!(tensors.len(), source.tensors().len());
        for tensor in tensors {
            assert_eq!(
                source.read_f32(&tensor.name).unwrap(),
                (tensor.shape, tensor.data),
                "{}",
                tensor.name
            );
        }
    }
}

#[test]
fn fresh_lengths_are_those_of_the_weights() {
    for name in ["llama-bias", "gpt2"] {
        let packed = Packed::of_golden(&golden_json(name));
        let mut model = load(name);
        let before = logits(&model, &packed);
        model.attach_lora(&LoraSpec { use_dora: true, ..spec(&[]) }).unwrap();
        let difference = worst_difference(&logits(&model, &packed), &before);
        println!("{name}: fresh lengths change the logits by {difference:.1e}");
        assert!(difference < 2e-5, "{name}: {difference}");
    }
}

#[test]
fn lengths_follow_a_weight_that_is_trained_itself() {
    let packed = Packed::of_golden(&golden_json("llama-bias-dora"));
    let mut model = load("llama-bias-dora");
    // Twice the weight has rows of twice the length, which the division takes out again where the branch is 0.
    model.set_trainable(|name| name.contains("lora_") || name.ends_with("mlp.up_proj.weight"));
    for path in ["model.layers.0.mlp.up_proj", "model.layers.1.mlp.up_proj"] {
        for (name, factor) in [(format!("{path}.lora_B.weight"), 0.0), (format!("{path}.weight"), 1.0)] {
            let idx = model.parameters().index_of(&name).unwrap();
            model.parameters_mut().update_value(idx, |value| value * factor).unwrap();
        }
    }
    let before = logits(&model, &packed);
    for path in ["model.layers.0.mlp.up_proj", "model.layers.1.mlp.up_proj"] {
        let idx = model.parameters().index_of(&format!("{path}.weight")).unwrap();
        model.parameters_mut().update_value(idx, |value| value * 2.0).unwrap();
    }
    assert!(worst_difference(&logits(&model, &packed), &before) < 1e-5);
}

#[test]
fn principal_components_start_and_train_as_in_peft() {
    let golden = read_json(&golden_dir().join("pissa.json"));
    for case in golden["cases"].as_array().unwrap() {
        let name = case["model"].as_str().unwrap();
        let is_set = |field: &str| case["settings"][field] == true;
        let packed = Packed::of_golden(&golden);
        let mut model = load(name);
        let before = logits(&model, &packed);
        let (use_rslora, use_dora) = (is_set("use_rslora"), is_set("use_dora"));
        let spec = LoraSpec { use_rslora, use_dora, init: LoraInit::Principal, ..spec(&[]) };
        model.attach_lora(&spec).unwrap();
        let unchanged = worst_difference(&logits(&model, &packed), &before);
        let mut of_norms = 0.0f64;
        for parameter in model.parameters().iter().filter(|parameter| parameter.trainable) {
            let expected = case["norms"][format!("base_model.model.{}", parameter.name)].as_f64().unwrap();
            let norm = parameter.to_vec().unwrap().iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
            // PEFT's lengths are those of what is left of the weight and the branch, which is the weight again.
            of_norms = of_norms.max((norm / expected - 1.0).abs());
        }
        let rule = Rule::AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0 };
        let expected: Vec<f64> = serde_json::from_value(case["train_losses"].clone()).unwrap();
        let losses =
            train(&mut model, &packed, &rule, case["train_lr"].as_f64().unwrap() as f32, expected.len());
        let of_losses = losses.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        println!(
            "{name}: start changes logits by {unchanged:.1e}, norms differ by {of_norms:.1e}, losses by {of_losses:.1e}"
        );
        assert!(unchanged < 2e-5 && of_norms < 1e-4 && of_losses < 2e-5, "{name}");

        // What is written is a plain adapter of twice the rank for the unchanged model.
        let (config, tensors) = (model.adapter_config().unwrap(), model.adapter_tensors().unwrap());
        assert_eq!(config.r, 8);
        let mut again = load(name);
        again.load_adapter(&config, tensors).unwrap();
        let trained = logits(&model, &packed);
        let of_loaded = worst_difference(&logits(&again, &packed), &trained);
        let of_merged = worst_difference(&logits(&reload_merged(name, &model), &packed), &trained);
        println!("{name}: loaded differs by {of_loaded:.1e}, merged by {of_merged:.1e}");
        assert!(of_loaded < 2e-5 && of_merged < 3e-5, "{name}: {of_loaded}, {of_merged}");
    }
    let error = load("gpt2").attach_lora(&LoraSpec { dropout: 0.1, init: LoraInit::Principal, ..spec(&[]) });
    assert!(error.unwrap_err().to_string().contains("dropout"));
}

fn reload_merged(base: &str, model: &CausalLm) -> CausalLm {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(golden_dir().join(base).join("config.json"), folder.path().join("config.json")).unwrap();
    let tensors: Vec<NamedTensor> = model.merged_tensors().collect::<Result<_, _>>().unwrap();
    let path = folder.path().join("model.safetensors");
    write_safetensors(&path, &tensors, &[], tunesmith_formats::StoreDtype::F32).unwrap();
    load_path(folder.path())
}
