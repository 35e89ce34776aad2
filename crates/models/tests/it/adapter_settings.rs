//! The settings of PEFT adapters against what PEFT makes of them (`tests/golden/make_adapter_settings.py`).

use std::collections::BTreeMap;

use serde_json::Value;
use tunesmith_formats::peft::AdapterConfig;
use tunesmith_formats::safetensors_io::NamedTensor;
use tunesmith_models::LoraSpec;

use crate::support::*;

fn golden() -> Value {
    read_json(&golden_dir().join("adapter-settings.json"))
}

/// The settings as a file has them: their text was written by PEFT.
fn config_of(case: &Value) -> AdapterConfig {
    serde_json::from_value(case["config"].clone()).unwrap()
}

/// The tensors of a case: value i of tensor k in order of the names is 0.2 sin(1.3 (i + 1) + 0.7 k).
fn tensors_of(case: &Value) -> Vec<NamedTensor> {
    let shapes: BTreeMap<String, Vec<usize>> = serde_json::from_value(case["shapes"].clone()).unwrap();
    let tensor = |(k, (name, shape)): (usize, (String, Vec<usize>))| {
        let value = |i: usize| (0.2 * (1.3 * (i + 1) as f64 + 0.7 * k as f64).sin()) as f32;
        let data = (0..shape.iter().product()).map(value).collect();
        NamedTensor { name, shape, data }
    };
    shapes.into_iter().enumerate().map(tensor).collect()
}

fn case_called<'a>(golden: &'a Value, name: &str) -> &'a Value {
    golden["patterns"].as_array().unwrap().iter().find(|case| case["name"] == name).unwrap()
}

#[test]
fn patterns_give_the_modules_ranks_scales_and_logits_of_peft() {
    let golden = golden();
    let ids: Vec<u32> = serde_json::from_value(golden["ids"].clone()).unwrap();
    let packed = Packed::new(&[(ids.clone(), vec![-100; ids.len()])]);
    let cases = golden["patterns"].as_array().unwrap();
    assert!(cases.len() > 14);
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let expected: BTreeMap<String, (usize, f64)> =
            serde_json::from_value(case["modules"].clone()).unwrap();
        let config = config_of(case);
        for (path, (rank, scale)) in &expected {
            let (found_rank, found_scale) = config.rank_and_scale(path).unwrap();
            assert_eq!(found_rank, *rank, "{name} {path}");
            assert!((found_scale / scale - 1.0).abs() < 1e-12, "{name} {path}: {found_scale} {scale}");
        }
        let mut model = load("llama-mha");
        let rule = config.target_rule().unwrap();
        let mut meant: Vec<String> =
            model.linear_modules().into_iter().filter(|path| rule.means(path).unwrap()).collect();
        meant.sort();
        assert_eq!(meant, expected.keys().cloned().collect::<Vec<_>>(), "{name}");

        let attached = model.load_adapter(&config, tensors_of(case)).unwrap();
        let mut modules = attached.modules;
        modules.sort();
        assert_eq!(modules, meant, "{name}");
        let all = logits(&model, &packed);
        let last = &all[all.len() - model.config().vocab_size..];
        let logits: Vec<f32> = serde_json::from_value(case["logits"].clone()).unwrap();
        let difference = worst_difference(last, &logits);
        println!("{name}: logits differ by {difference:.1e}");
        assert!(difference < 2e-5, "{name}: {difference}");
        assert_eq!(attached.notes.is_empty(), name != "alpha-nowhere", "{name}: {:?}", attached.notes);
    }
}

#[test]
fn keys_that_give_no_module_its_value_are_told() {
    let golden = golden();
    let case = case_called(&golden, "alpha-nowhere");
    let attached = load("llama-mha").load_adapter(&config_of(case), tensors_of(case)).unwrap();
    assert_eq!(
        attached.notes,
        ["adapter_config.json: the key \"self_attn\" of alpha_pattern gives no module its value"]
    );
    let mut other = case["config"].clone();
    other["use_tomorrow"] = Value::from(3);
    let config: AdapterConfig = serde_json::from_value(other).unwrap();
    let attached = load("llama-mha").load_adapter(&config, tensors_of(case)).unwrap();
    assert!(attached.notes.iter().any(|note| note.contains("use_tomorrow")), "{:?}", attached.notes);
}

#[test]
fn weights_beside_the_target_modules_are_refused() {
    let golden = golden();
    let case = case_called(&golden, "plain");
    for (key, value) in [
        ("target_modules", Value::from(vec!["v_proj"])),
        ("target_modules", Value::from(r".*v_proj")),
        ("exclude_modules", Value::from(vec!["layers.1.self_attn.q_proj"])),
        ("layers_to_transform", Value::from(0)),
    ] {
        let mut changed = case["config"].clone();
        changed[key] = value.clone();
        let config: AdapterConfig = serde_json::from_value(changed).unwrap();
        let refusal = load("llama-mha").load_adapter(&config, tensors_of(case)).unwrap_err().to_string();
        assert!(refusal.contains("q_proj") && refusal.contains("target_modules"), "{key} {value}: {refusal}");
    }
}

/// PEFT makes the base anew for some starts when it loads the adapter; beside the base as it is, they are something else.
#[test]
fn starts_that_change_the_base_are_refused() {
    let golden = golden();
    let (mut n_taken, mut n_refused) = (0, 0);
    for case in golden["starts"].as_array().unwrap() {
        let start = &case["start"];
        let off = case["loaded_to_beside_base"].as_f64().unwrap();
        match config_of(case).check() {
            Ok(notes) => {
                n_taken += 1;
                assert!(off == 0.0 && notes.is_empty(), "{start}: PEFT computes something else, {off}");
            }
            Err(reason) => {
                n_refused += 1;
                // PEFT takes these for the base as it is, but they were trained on another one.
                assert!(off > 1.0 || start == "lora_ga", "{start} is the same beside the base");
                assert!(reason.contains(&format!("init_lora_weights is {start}")), "{reason}");
            }
        }
    }
    assert_eq!((n_taken, n_refused), (5, 4));
}

#[test]
fn all_linear_means_the_layers_of_the_blocks() {
    for name in ["llama-mha", "llama3-rope", "gpt2", "phi3", "gpt-neox"] {
        let attach = |targets: &[&str]| {
            let target_modules = targets.iter().map(|name| (*name).to_owned()).collect();
            let mut model = load(name);
            let attached = model.attach_lora(&LoraSpec { target_modules, ..LoraSpec::default() })?;
            Ok::<_, tunesmith_models::ModelError>((attached, model.adapter_config().unwrap()))
        };
        let (attached, config) = attach(&["all-linear"]).unwrap();
        assert_eq!(attached.modules, load(name).linear_modules(), "{name}");
        assert_eq!(config, attach(&[]).unwrap().1, "{name}: written out as PEFT writes it");
        assert_eq!(attach(&["All-Linear", "nothing"]).unwrap().0.unmatched_targets, ["nothing"]);
        // Tied or not.
        let head = if name == "gpt-neox" { "embed_out" } else { "lm_head" };
        let refusal = attach(&["all-linear", head]).unwrap_err().to_string();
        assert!(refusal.starts_with(&format!("{head} cannot carry a LoRA adapter")), "{name}: {refusal}");
    }
}
