//! A model of encoder and decoder through the real program: train, resume, chat, export, inspect, forecast.

use serde_json::Value;

use crate::harness::Sandbox;
use crate::tiny_t5;

/// A tiny T5, a table and an experiment that learns a little of it.
pub(crate) fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    tiny_t5::write_model(&sandbox.path("base"), true);
    sandbox.write("rows.csv", tiny_t5::table());
    sandbox.write(
        "cfg.yaml",
        "problem_type: text_sequence_to_sequence_modeling\nllm_backbone: base\narchitecture:\n  backbone_dtype: float32\n\
         dataset:\n  train_dataframe: rows.csv\n  prompt_column: [prompt]\n  answer_column: answer\n  system_column: None\n  \
         validation_size: 0.2\nenvironment:\n  device: cpu\n  seed: 3\nprediction:\n  metric: BLEU\n  min_length_inference: 0\n  max_length_inference: 8\n\
         tokenizer:\n  max_length: 32\n  tokenizer_kwargs: '{\"add_prefix_space\": true}'\ntraining:\n  lora: true\n  \
         learning_rate: 0.02\n  batch_size: 4\n  epochs: 6\n  evaluation_epochs: 3\n",
    );
    sandbox
}

fn losses(sandbox: &Sandbox, run: &str) -> Vec<f64> {
    let events = sandbox.read(&format!("{run}/events.jsonl"));
    let events = events.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    events.filter(|event| event["event"] == "step").map(|event| event["loss"].as_f64().unwrap()).collect()
}

#[test]
fn from_rows_to_answers() {
    let sandbox = sandbox();
    // Long enough that it knows the answers.
    let train = "train -Y cfg.yaml --output run --set training.epochs=60 --set training.evaluation_epochs=60 \
                 --set training.learning_rate=0.005 --set training.lora_r=16";
    sandbox.run(&train.split_whitespace().collect::<Vec<_>>()).success();
    let losses = losses(&sandbox, "run");
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    let n = losses.len();
    assert!(mean(&losses[n - 8..]) < 0.8 * mean(&losses[..8]), "the loss falls: {losses:?}");

    let ask = |args: &[&str]| -> Value {
        let tail = ["--json", "--max-new-tokens", "8", "--prompt", "over the sea"];
        let args: Vec<&str> = ["chat"].iter().chain(args).chain(&tail).copied().collect();
        serde_json::from_str(&sandbox.run(&args).success().stdout).unwrap()
    };
    let of_run = ask(&["run"]);
    assert_eq!(of_run["text"], "a fox");
    // The prompt and the end-of-text token that training puts after it.
    let inspected =
        sandbox.run(&["data", "preview", "rows.csv", "-Y", "cfg.yaml", "--model", "base", "--json"]);
    let preview: Value = serde_json::from_str(&inspected.success().stdout).unwrap();
    let tokens = preview["samples"][0]["tokens"].as_array().unwrap();
    let trained: Vec<bool> = tokens.iter().map(|token| token["trained"].as_bool().unwrap()).collect();
    let start = tokens.iter().position(|token| token["text"] == "<pad>").unwrap();
    assert_eq!(tokens[start - 1]["text"], "</s>");
    assert!(trained[..=start].iter().all(|is| !is) && trained[start + 1..].iter().all(|is| *is));

    // The same of base model and adapter, and of the merged model.
    assert_eq!(ask(&["base", "--adapter", "run/adapter_model"])["text"], of_run["text"]);
    sandbox.run(&["export", "run", "--output", "merged", "--format", "merged"]).success();
    assert_eq!(ask(&["merged"])["text"], of_run["text"]);
    let config: Value = serde_json::from_str(&sandbox.read("merged/config.json")).unwrap();
    assert_eq!(
        (&config["architectures"][0], &config["scale_decoder_outputs"]),
        (&Value::from("T5ForConditionalGeneration"), &Value::from(false))
    );
    sandbox.run(&["export", "run", "--output", "adapter"]).success();
    let adapter: Value = serde_json::from_str(&sandbox.read("adapter/adapter_config.json")).unwrap();
    assert_eq!(adapter["task_type"], "SEQ_2_SEQ_LM");
    // The same seed draws the same.
    let drawn = |seed| ask(&["run", "--temperature", "2", "--seed", seed])["text"].clone();
    assert_eq!(drawn("1"), drawn("1"));
    ask(&["run", "--num-beams", "3"]);

    let inspected = sandbox.run(&["model", "inspect", "base"]).success().stdout;
    assert!(inspected.contains("unlimited") && inspected.contains("T5"), "{inspected}");
}

#[test]
fn a_resumed_run_is_the_run_that_never_stopped() {
    let sandbox = sandbox();
    let whole =
        ["train", "-Y", "cfg.yaml", "--output", "whole", "--set", "training.checkpoint_every_steps=5"];
    sandbox.run(&whole).success();
    // As if it had been killed after its first checkpoint: what came after is gone.
    let parts =
        ["train", "-Y", "cfg.yaml", "--output", "parts", "--set", "training.checkpoint_every_steps=5"];
    let mut command = sandbox.command(&parts);
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let mut child = command.spawn().unwrap();
    while !sandbox.path("parts/checkpoints/last").is_dir() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    sandbox.run(&["train", "--resume", "parts"]).success();
    assert_eq!(losses(&sandbox, "parts"), losses(&sandbox, "whole"));
    let adapter = |run: &str| {
        std::fs::read(sandbox.path(&format!("{run}/adapter_model/adapter_model.safetensors"))).unwrap()
    };
    assert!(adapter("parts") == adapter("whole"));
}

#[test]
fn other_models_are_refused_with_the_way_out() {
    let sandbox = sandbox();
    let model = crate::harness::tiny_model();
    let model = model.to_str().unwrap();
    sandbox
        .run(&["train", "-Y", "cfg.yaml", "--output", "run", "--model", model])
        .failure(4, &["no encoder", "T5"]);
}
