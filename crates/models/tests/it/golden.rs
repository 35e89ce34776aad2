//! Logits, losses, gradients and five optimizer steps of tiny models, as transformers and peft compute them.

use tunesmith_models::{CausalLm, Recompute, StepOptions, read_back};
use tunesmith_ops::{Device, Rule, sum_of_squares, update};

use crate::on_device::on_each_device;
use crate::support::*;

/// The largest differences that were seen, with some room for other machines: see the printed ones.
struct Tolerance {
    logits: f32,
    loss: f64,
    gradient: f64,
    train_loss: f64,
}

const CPU: Tolerance = Tolerance { logits: 2e-5, loss: 2e-6, gradient: 1e-5, train_loss: 5e-6 };
/// Drivers fuse and approximate.
const GPU: Tolerance = Tolerance { logits: 1e-4, loss: 1e-5, gradient: 5e-5, train_loss: 5e-5 };

#[track_caller]
fn check(name: &str) {
    check_model(name, load(name), &CPU);
}

on_each_device!(models_are_those_of_the_reference);

/// A family each, with and without an adapter: shaders are slow to compile.
fn models_are_those_of_the_reference(_: &str, device: &Device) {
    for name in ["llama3-rope-lora", "llama-bias", "mistral-window", "gpt2", "gpt2-lora", "llama-bias-dora"] {
        check_model(name, load_on(name, device), &GPU);
    }
}

#[track_caller]
fn check_model(name: &str, mut model: CausalLm, tolerance: &Tolerance) {
    let golden = golden_json(name);
    let expected = tensors(&golden_dir().join(name).join("golden.safetensors"));
    let packed = Packed::of_golden(&golden);

    let expected_logits = (0..3).flat_map(|i| expected[&format!("logits.{i}")].data.clone());
    let logits_difference =
        worst_difference(&logits_of_texts(&model, &packed), &expected_logits.collect::<Vec<_>>());
    println!("{name}: logits {logits_difference:.1e}");
    assert!(logits_difference < tolerance.logits, "{name}: logits differ by {logits_difference}");
    if golden["loss"].is_null() {
        return;
    }

    let loss_of = |model: &CausalLm, weights: &[f32]| {
        model.losses(&packed.batch(), &packed.labels, weights).unwrap().loss
    };
    let by_token = (loss_of(&model, &packed.token_average()) - golden["loss"].as_f64().unwrap()).abs();
    let by_sample = golden["loss_sample_average"].as_f64().unwrap();
    let by_sample = (loss_of(&model, &packed.sample_average()) - by_sample).abs();
    assert!(
        by_token < tolerance.loss && by_sample < tolerance.loss,
        "{name}: losses differ by {by_token} and {by_sample}"
    );

    let (mut worst, mut worst_name) = (0.0, String::new());
    let step = step(&model, &packed, StepOptions::default());
    let trainable = model.parameters().iter().filter(|p| p.trainable).count();
    assert_eq!(step.gradients.len(), trainable);
    assert_eq!(expected.keys().filter(|key| key.starts_with("grad.")).count(), trainable);
    for (parameter_idx, gradient) in step.gradients {
        let parameter = model.parameters().get(parameter_idx).unwrap();
        let prefix = if model.has_adapter() { "base_model.model." } else { "" };
        let expected = &expected[&format!("grad.{prefix}{}", parameter.name)];
        assert_eq!(expected.shape, parameter.shape, "{name}: {}", parameter.name);
        let difference = relative_difference(&read_back(gradient, "").unwrap(), &expected.data);
        if difference > worst {
            (worst, worst_name) = (difference, parameter.name.clone());
        }
    }
    println!(
        "{name}: loss {by_token:.1e}, sample average {by_sample:.1e}, gradients {worst:.1e} ({worst_name})"
    );
    assert!(worst < tolerance.gradient, "{name}: gradient of {worst_name} differs by {worst}");

    check_training(name, &mut model, &packed, &golden, tolerance);
}

/// Five steps of AdamW.
#[track_caller]
fn check_training(
    name: &str,
    model: &mut CausalLm,
    packed: &Packed,
    golden: &serde_json::Value,
    tolerance: &Tolerance,
) {
    let rule = Rule::AdamW {
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weight_decay: golden["weight_decay"].as_f64().unwrap(),
    };
    let lr = golden["train_lr"].as_f64().unwrap() as f32;
    let expected: Vec<f64> = serde_json::from_value(golden["train_losses"].clone()).unwrap();
    let losses = train(model, packed, &rule, lr, expected.len());
    let worst = losses.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    let trained = model.parameters().iter().filter(|p| p.trainable);
    let l2 = trained.map(|p| sum_of_squares(&p.tensor())).sum::<f64>().sqrt();
    let expected_l2 = golden["params_l2_after"].as_f64().unwrap();
    println!("{name}: training losses {worst:.1e}, L2 norm after {:.1e}", (l2 - expected_l2).abs());
    assert!(worst < tolerance.train_loss, "{name}: training losses differ by {worst}");
    // Relative: some gradients of GPT-2 are rounding noise that AdamW turns into moves of the learning rate.
    assert!((l2 / expected_l2 - 1.0).abs() < 1e-4, "{name}: norm {l2}, expected {expected_l2}");
}

/// Takes `n_steps` steps; the loss before each.
pub(crate) fn train(model: &mut CausalLm, packed: &Packed, rule: &Rule, lr: f32, n_steps: usize) -> Vec<f64> {
    let mut states: Vec<_> = model.parameters().iter().map(|p| rule.initial_state(&p.tensor())).collect();
    let mut losses = Vec::new();
    for step_idx in 0..n_steps {
        let recompute = if step_idx % 2 == 1 { Recompute::EveryBlock } else { Recompute::Off };
        let result = step(model, packed, StepOptions { recompute, dropout_key: 0, ..StepOptions::default() });
        losses.push(result.loss);
        for (parameter_idx, gradient) in result.gradients {
            let state = std::mem::take(&mut states[parameter_idx]);
            let mut new_state = vec![];
            model
                .parameters_mut()
                .update_value(parameter_idx, |value| {
                    let (value, state) = update(rule, lr, step_idx as u64 + 1, value, gradient, state);
                    new_state = state;
                    value
                })
                .unwrap();
            states[parameter_idx] = new_state;
        }
    }
    losses
}

pub(crate) fn step(model: &CausalLm, packed: &Packed, options: StepOptions) -> tunesmith_models::StepResult {
    model.loss_and_gradients(&packed.batch(), &packed.labels, &packed.token_average(), &options).unwrap()
}

#[test]
fn llama_with_all_heads() {
    check("llama-mha");
}

#[test]
fn llama_with_llama3_rotary_scaling() {
    check("llama3-rope");
}

#[test]
fn llama_with_linear_rotary_scaling() {
    check("llama-linear-rope");
}

#[test]
fn llama_with_yarn() {
    check("llama-yarn");
}

#[test]
fn llama_with_biases() {
    check("llama-bias");
}

#[test]
fn mistral_with_a_window() {
    check("mistral-window");
}

#[test]
fn gpt2() {
    check("gpt2");
}

#[test]
fn qwen2_with_a_tied_head() {
    check("qwen2");
}

#[test]
fn qwen2_with_a_window_from_the_second_block_on() {
    check("qwen2-window");
}

#[test]
fn qwen3_with_norms_of_queries_and_keys() {
    check("qwen3");
}

#[test]
fn smollm3_with_a_block_that_rotates_nothing() {
    check("smollm3");
}

#[test]
fn olmo2_with_norms_after_attention_and_mlp() {
    check("olmo2");
}

#[test]
fn gemma3_with_norms_around_and_two_kinds_of_positions() {
    check("gemma3");
}

#[test]
fn qwen3_with_experts() {
    check("qwen3-moe");
}

#[test]
fn qwen3_with_experts_in_one_block_and_none_in_the_other() {
    check("qwen3-moe-mixed");
}

#[test]
fn gemma2_with_capped_scores() {
    check("gemma2");
}

#[test]
fn gpt_neox_with_parallel_blocks_and_a_part_of_each_head_rotated() {
    check("gpt-neox");
}

#[test]
fn gpt_neox_with_one_part_of_a_block_after_the_other() {
    check("gpt-neox-serial");
}

#[test]
fn phi3_with_fused_matrices_and_a_window() {
    check("phi3");
}

#[test]
fn phi3_with_longrope_over_a_part_of_each_head() {
    check("phi3-longrope");
}

#[test]
fn t5_with_a_tied_head() {
    check("t5");
}

#[test]
fn t5_with_a_gate_and_a_head_of_its_own() {
    check("t5-gated");
}

#[test]
fn llama_in_shards() {
    check("llama-sharded");
}

#[test]
fn lora_on_every_linear_layer() {
    ADAPTERS.iter().chain(&["t5-lora", "t5-gated-lora"]).for_each(|name| check(name));
}

#[test]
fn llama_with_dora() {
    check("llama-bias-dora");
}

#[test]
fn gpt2_with_dora() {
    check("gpt2-dora");
}

#[test]
fn configurations_in_the_older_spelling_mean_the_same() {
    for name in FAMILIES {
        let folder = tempfile::tempdir().unwrap();
        let from = golden_dir().join(name);
        std::fs::copy(from.join("config.v4.json"), folder.path().join("config.json")).unwrap();
        std::fs::copy(from.join("model.safetensors"), folder.path().join("model.safetensors")).unwrap();
        let packed = Packed::of_golden(&golden_json(name));
        assert_eq!(logits(&load_path(folder.path()), &packed), logits(&load(name), &packed), "{name}");
    }
}

#[test]
fn gguf_files() {
    for name in [
        "llama-tiny",
        "llama-five",
        "llama3-tiny",
        "gpt2-tiny",
        "qwen2-tiny",
        "qwen3-tiny",
        "smollm3-tiny",
        "olmo2-tiny",
        "phi3-tiny",
    ] {
        let file = |ending: &str| golden_dir().join("gguf").join(format!("{name}.{ending}"));
        let json: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(file("json")).unwrap()).unwrap();
        let ids: Vec<u32> =
            json["ids"].as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as u32).collect();
        let labels = vec![-100; ids.len()];
        let packed = Packed::new(&[(ids, labels)]);
        let found = logits(&load_path(&file("gguf")), &packed);
        let difference = worst_difference(&found, &tensors(&file("safetensors"))["logits"].data);
        println!("{name}: logits {difference:.1e}");
        assert!(difference < CPU.logits, "{name}: logits differ by {difference}");
    }
}
