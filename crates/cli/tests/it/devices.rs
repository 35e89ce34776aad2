//! Devices, and what is said when one is missing or memory runs out.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use tunesmith_ops::Device;

use crate::harness::{QUICK_TRAINING, Sandbox, experiment, outcome, repository, rows, tiny_model};
use crate::on_device::on_each_device;

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("rows.jsonl", rows(20));
    sandbox.write("cfg.yaml", experiment(QUICK_TRAINING));
    sandbox
}

#[test]
fn the_doctor_examines_the_processor_and_says_why_nothing_else_computes() {
    let sandbox = Sandbox::new();
    let told = sandbox.run(&["doctor", "--json"]).success();
    let report: Value = serde_json::from_str(&told.stdout).unwrap();
    assert_eq!(report["machine"]["arch"], std::env::consts::ARCH);
    assert!(report["detection"]["compiled"].as_array().unwrap().contains(&Value::from("cpu")), "{report}");
    let n_passed_over = report["detection"]["passed_over"].as_array().unwrap().len();
    let is_cpu = report["detection"]["backend"] == "cpu";
    assert_eq!(n_passed_over, if is_cpu { 3 } else { 2 }, "{report}");
    let test = report["tests"].as_array().unwrap().iter().find(|test| test["device"] == "cpu").unwrap();
    assert_eq!(test["is_right"], true, "{test}");
    assert_eq!(report["hub"]["is_reachable"], false, "nobody listens there: {report}");
    assert_eq!(report["cache"]["is_writable"], true, "{report}");
    assert!(sandbox.list().is_empty(), "nothing is left behind");

    let text = sandbox.run(&["doctor", "--device", "cpu"]).success().stdout;
    assert!(text.contains("cpu: computes right") && text.contains("passed over"), "{text}");
}

#[test]
fn the_doctor_refuses_what_is_not_there() {
    let sandbox = Sandbox::new();
    // Metal is on a Mac only, CUDA never.
    let foreign = if cfg!(target_os = "macos") { "cuda" } else { "metal" };
    let refused = sandbox.run(&["doctor", "--device", foreign]);
    let line = if foreign == "metal" { "MPS available: False" } else { "CUDA available: False" };
    assert!(refused.stdout.contains(line), "{}", refused.stdout);
    refused.failure(7, &[foreign, "hint: "]);
    sandbox.run(&["doctor", "--device", "abacus"]).failure(2, &["unknown device `abacus`", "hint: "]);
}

#[test]
fn a_run_on_an_absent_device_is_refused_before_anything_is_read_or_written() {
    let sandbox = sandbox();
    let foreign = if cfg!(target_os = "macos") { "cuda" } else { "metal" };
    let before = sandbox.list();
    for args in [
        ["train", "-Y", "cfg.yaml", "--data", "nowhere.csv", "--device", foreign],
        [
            "train",
            "-Y",
            "cfg.yaml",
            "--data",
            "nowhere.csv",
            "--set",
            &format!("environment.device={foreign}"),
        ],
    ] {
        sandbox.run(&args).failure(7, &[foreign, "hint: "]);
    }
    assert_eq!(sandbox.list(), before);
}

#[test]
fn lists_of_gpus_as_h2o_llm_studio_writes_them_mean_nothing_on_the_cpu() {
    let sandbox = sandbox();
    let args = ["train", "-Y", "cfg.yaml", "--device", "cpu", "--set", "environment.gpus=[0]"];
    sandbox.run(&args).success();
}

#[test]
#[cfg(target_os = "linux")]
fn a_lack_of_memory_ends_in_a_message_and_its_own_exit_code() {
    let sandbox = sandbox();
    // Adapters of this rank, their gradients and moments are far more than the process may have.
    let program = sandbox.command(&[
        "train",
        "-Y",
        "cfg.yaml",
        "--set",
        "training.lora=true",
        "--set",
        "training.lora_r=100000",
        "--set",
        "environment.threads=1",
    ]);
    let mut capped = Command::new("sh");
    capped
        .args(["-c", "ulimit -v 600000; exec \"$0\" \"$@\""])
        .arg(program.get_program())
        .args(program.get_args());
    capped.current_dir(sandbox.path("."));
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => capped.env(name, value),
            None => capped.env_remove(name),
        };
    }
    outcome(capped)
        .failure(8, &["OOM error", "has no memory left for another", "hint: less memory is taken by"]);
}

#[test]
fn the_smoke_test_generates_and_trains() {
    let sandbox = Sandbox::new();
    let model = tiny_model();
    let args = ["smoke", "--model", model.to_str().unwrap(), "--steps", "3", "--device", "cpu", "--json"];
    let report: Value = serde_json::from_str(&sandbox.run(&args).success().stdout).unwrap();
    assert_eq!(report["device"], "cpu");
    assert_eq!(report["new_tokens"].as_array().unwrap().len(), 10, "{report}");
    assert_eq!(report["losses"].as_array().unwrap().len(), 3, "{report}");
    assert_eq!(report["utilization"]["gpu"], Value::Null);
    assert!(sandbox.list().is_empty(), "nothing is left behind");
    assert_eq!(sandbox.run(&["smoke", "--model", "x", "--random"]).code, 2, "one or the other");
}

/// The model of the demo, if this machine has it, and a table for it.
fn real_model() -> Option<(String, String)> {
    let shared =
        std::env::var_os("TUNESMITH_SHARED").map_or_else(|| repository().join("../shared"), PathBuf::from);
    let table = shared.join("data/gsm8k/train.jsonl");
    let cached = || {
        let home = std::env::var_os("HOME")?;
        Some(PathBuf::from(home).join(".cache/tunesmith/models/SmolLM2-135M-Instruct.Q4_1.gguf"))
    };
    let model = std::env::var_os("TUNESMITH_SMOLLM2").map(PathBuf::from).or_else(cached)?;
    (table.is_file() && model.exists()).then(|| (model.display().to_string(), table.display().to_string()))
}

#[test]
fn the_memory_forecast_is_near_the_peak() {
    let Some((model, table)) = real_model() else {
        println!("skipped: the model or the shared data are not on this machine");
        return;
    };
    for (lora, dtype) in [("true", "float32"), ("true", "int4"), ("false", "float32")] {
        let sandbox = Sandbox::new();
        sandbox.write("cfg.yaml", experiment(""));
        let settings = [
            "dataset.prompt_column=question",
            "dataset.answer_column=answer",
            "dataset.layout=columns",
            "dataset.max_rows=12",
            "dataset.validation_size=0.1",
            "tokenizer.max_length=512",
            "training.packing=wrapped",
            "training.batch_size=2",
            "training.epochs=1",
            "training.save_checkpoint=disable",
            "architecture.gradient_checkpointing=false",
            &format!("training.lora={lora}"),
            &format!("architecture.backbone_dtype={dtype}"),
        ];
        let mut args =
            vec!["train", "-Y", "cfg.yaml", "--model", &model, "--data", &table, "--output", "run"];
        args.extend(settings.iter().flat_map(|setting| ["--set", setting]));
        let told = sandbox.run(&args).success().stderr;
        let (_, rest) = told.split_once("memory at the peak about ").unwrap();
        let forecast: f64 = rest.split(' ').next().unwrap().parse().unwrap();
        let events = sandbox.read("run/events.jsonl");
        let last = events.lines().filter_map(|line| {
            serde_json::from_str::<Value>(line).unwrap()["timing"]["peak_memory_bytes"].as_f64()
        });
        let peak = last.fold(0.0, f64::max) / 1e9;
        println!("lora {lora}, {dtype}: forecast {forecast:.2} GB, peak {peak:.2} GB");
        assert!(
            (forecast / peak - 1.0).abs() < 0.2,
            "lora {lora}, {dtype}: {forecast:.2} GB, peak {peak:.2} GB"
        );
    }
}

/// What the loader of Vulkan is told to look for drivers in; the second name is the older one.
const VULKAN_DRIVERS: [&str; 2] = ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"];

on_each_device!(a_device_trains_and_is_missed_when_it_is_not_there);

fn a_device_trains_and_is_missed_when_it_is_not_there(name: &str, _: &Device) {
    let sandbox = sandbox();
    let told = sandbox.run(&["doctor", "--device", name]).success().stdout;
    assert!(told.contains("available: True") && told.contains("computes right"), "{told}");
    let train = |device: &str, output: &str| {
        sandbox.command(&["train", "-Y", "cfg.yaml", "--device", device, "--output", output])
    };
    outcome(train(name, "run")).success();
    let record: Value = serde_json::from_str(&sandbox.read("run/run.json")).unwrap();
    assert_eq!(record["machine"]["device"], format!("{name}:0"), "{record}");
    if name == "metal" {
        return;
    }
    let beyond = format!("{name}:99");
    let words = [format!("there is no device `{beyond}`"), format!("hint: there is: {name}:0")];
    outcome(train(&beyond, "other")).failure(7, &[&words[0], &words[1]]);
    if name != "vulkan" {
        return;
    }
    let without_driver = |device: &str| {
        let mut command = train(device, device);
        command.envs(VULKAN_DRIVERS.map(|variable| (variable, "/nonexistent.json")));
        outcome(command)
    };
    without_driver("vulkan").failure(7, &["device `vulkan` is not there: ", "hint: install a Vulkan driver"]);
    assert!(!sandbox.path("vulkan").exists());
    without_driver("auto").success();
    let record: Value = serde_json::from_str(&sandbox.read("auto/run.json")).unwrap();
    assert_eq!(record["machine"]["device"], "cpu", "the processor is there still: {record}");
}
