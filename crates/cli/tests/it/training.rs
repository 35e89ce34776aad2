//! The main job through the real program: train, stop, resume, chat, export, look at the data.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{QUICK_TRAINING, Sandbox, experiment, outcome, rows, tiny_model};

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("rows.jsonl", rows(20));
    sandbox.write("cfg.yaml", experiment(QUICK_TRAINING));
    sandbox
}

/// The events of a run that have this name.
fn events(sandbox: &Sandbox, run: &str, name: &str) -> Vec<Value> {
    let events = sandbox.read(&format!("{run}/events.jsonl"));
    let events = events.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    events.filter(|event| event["event"] == name).collect()
}

/// The loss of each step.
fn losses(sandbox: &Sandbox, run: &str) -> Vec<Value> {
    events(sandbox, run, "step").into_iter().map(|event| event["loss"].clone()).collect()
}

#[test]
fn from_rows_to_a_model_one_can_chat_with() {
    let sandbox = sandbox();
    let trained = sandbox.run(&["train", "-Y", "cfg.yaml", "--output", "run"]).success();
    assert!(trained.stdout.contains("finished: 16 steps"), "{}", trained.stdout);
    assert!(trained.stdout.contains("tunesmith chat run"), "{}", trained.stdout);
    assert!(trained.stderr.contains("loss ") && trained.stderr.contains("tok/s"), "{}", trained.stderr);
    let losses = losses(&sandbox, "run");
    let (first, last) = (losses[0].as_f64().unwrap(), losses[losses.len() - 1].as_f64().unwrap());
    assert!(last < 0.9 * first, "the loss falls: {losses:?}");

    let answered = sandbox.run(&["chat", "run", "--prompt", "say 3", "--json"]).success();
    let reply: Value = serde_json::from_str(&answered.stdout).unwrap();
    assert!(reply["n_new_tokens"].as_u64().unwrap() <= 8, "max_length_inference of the run counts: {reply}");

    // The same question to base model and adapter gives the same answer, and so does the merged model.
    let base = tiny_model();
    let adapted = sandbox.run(&[
        "chat",
        base.to_str().unwrap(),
        "--adapter",
        "run/adapter_model",
        "--max-new-tokens",
        "8",
        "--prompt",
        "say 3",
    ]);
    assert_eq!(adapted.success().stdout.trim(), reply["text"].as_str().unwrap());
    let exported = sandbox.run(&["export", "run", "--output", "merged", "--format", "merged"]).success();
    assert!(exported.stdout.contains("bound"), "{}", exported.stdout);
    let merged = sandbox.run(&["chat", "merged", "--max-new-tokens", "8", "--prompt", "say 3"]);
    assert_eq!(merged.success().stdout.trim(), reply["text"].as_str().unwrap());
    let exported = sandbox.run(&["export", "run", "--output", "adapter", "--json"]).success();
    let report: Value = serde_json::from_str(&exported.stdout).unwrap();
    assert!(
        report["worst_logit_difference"].as_f64().unwrap()
            <= report["logit_difference_bound"].as_f64().unwrap()
    );
    for name in [
        "adapter/adapter_config.json",
        "adapter/adapter_model.safetensors",
        "merged/config.json",
        "merged/tokenizer.json",
    ] {
        assert!(sandbox.path(name).is_file(), "{name}");
    }

    sandbox.run(&["export", "run", "--output", "merged"]).failure(6, &["merged", "hint: "]);
    sandbox.run(&["export", "run", "--output", "x", "--dtype", "f16"]).failure(2, &["hint: "]);
    sandbox.run(&["export", "run", "--output", "x", "--checkpoint", "step_7"]).failure(4, &["step_7"]);
    sandbox.run(&["train", "-Y", "cfg.yaml", "--output", "run"]).failure(6, &["run", "--resume"]);
}

#[test]
fn a_run_answers_the_rows_of_a_table() {
    let sandbox = sandbox();
    sandbox.run(&["train", "-Y", "cfg.yaml", "--output", "run"]).success();
    sandbox.write("new.csv", "more,prompt\n1,say 3\n2,say 5\n");
    let predict = |more: &[&str]| {
        sandbox.run(&[&["predict", "run", "--data", "new.csv", "--output", "answers.csv"], more].concat())
    };
    predict(&["--set", "training.epochs=2"]).failure(2, &["training.epochs", "hint: "]);
    predict(&["--checkpoint", "step_7"]).failure(4, &["step_7"]);
    assert!(!sandbox.path("answers.csv").exists());
    let told = predict(&["--json"]).success();
    let told: Value = serde_json::from_str(&told.stdout).unwrap();
    assert_eq!((told["rows"].as_u64(), told["predicted"].as_u64()), (Some(2), Some(2)));
    let answers = sandbox.read("answers.csv");
    assert!(answers.starts_with("more,prompt,prediction\n1,say 3,"), "{answers}");
    // The answers are those of a conversation, and a file is never written over.
    let said = sandbox.run(&["chat", "run", "--prompt", "say 3", "--json"]).success();
    let said: Value = serde_json::from_str(&said.stdout).unwrap();
    assert!(answers.contains(said["text"].as_str().unwrap()), "{answers} {said}");
    predict(&[]).failure(6, &["exists already", "hint: "]);
    sandbox.write("other.csv", "question\nwhat\n");
    sandbox
        .run(&["predict", "run", "--data", "other.csv", "--output", "x.csv"])
        .failure(3, &["no column \"prompt\"", "hint: "]);
}

#[test]
fn a_seed_fixes_the_run_and_json_gives_the_events() {
    let sandbox = sandbox();
    sandbox.run(&["train", "-Y", "cfg.yaml", "--output", "a"]).success();
    let json = sandbox.run(&["train", "-Y", "cfg.yaml", "--output", "b", "--json"]).success();
    assert_eq!(losses(&sandbox, "a"), losses(&sandbox, "b"));

    let lines: Vec<Value> = json.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let names: Vec<&str> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
    assert_eq!((names[0], names[names.len() - 1]), ("run_started", "result"));
    assert_eq!(names.iter().filter(|name| **name == "step").count(), 16);
    assert_eq!(lines[lines.len() - 1]["summary"]["n_steps"], 16);
}

#[test]
fn the_number_of_threads_does_not_change_the_losses() {
    let sandbox = sandbox();
    sandbox.run(&["train", "-Y", "cfg.yaml", "--output", "one", "--set", "environment.threads=1"]).success();
    sandbox.run(&["train", "-Y", "cfg.yaml", "--output", "two", "--set", "environment.threads=2"]).success();
    assert_eq!(losses(&sandbox, "one"), losses(&sandbox, "two"));
    let weights = |run: &str| {
        fs::read(sandbox.path(&format!("{run}/adapter_model/adapter_model.safetensors"))).unwrap()
    };
    assert!(weights("one") == weights("two"));
}

#[test]
fn ctrl_c_writes_a_checkpoint_and_the_resumed_run_equals_one_never_stopped() {
    let sandbox = sandbox();
    let many = ["--set", "training.epochs=40", "--set", "training.evaluation_epochs=1"];
    let train = |more: &[&str]| -> Vec<String> {
        ["train", "-Y", "cfg.yaml"].iter().chain(&many).chain(more).map(|arg| (*arg).to_owned()).collect()
    };
    let args = train(&["--output", "stopped"]);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut command = sandbox.command(&args);
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::piped());
    let child = command.spawn().unwrap();
    wait_for_steps(&sandbox, "stopped", 5);
    interrupt(child.id());
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    assert!(stderr.contains("train --resume stopped"), "{stderr}");
    assert!(sandbox.path("stopped/checkpoints/last").is_dir());

    let changed = ["train", "--resume", "stopped", "--set", "training.learning_rate=0.5"];
    sandbox.run(&changed).failure(2, &["training.learning_rate", "hint: "]);
    sandbox.run(&["train", "--resume", "stopped"]).success();
    let args = train(&["--output", "whole"]);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    sandbox.run(&args).success();
    assert_eq!(losses(&sandbox, "stopped"), losses(&sandbox, "whole"));
    let weights = |run: &str| {
        fs::read(sandbox.path(&format!("{run}/adapter_model/adapter_model.safetensors"))).unwrap()
    };
    assert!(weights("stopped") == weights("whole"));
}

/// Waits until the run has logged so many steps; a run that never gets there fails the test after a minute.
fn wait_for_steps(sandbox: &Sandbox, run: &str, n_steps: usize) {
    let started = Instant::now();
    loop {
        let events = fs::read_to_string(sandbox.path(&format!("{run}/events.jsonl"))).unwrap_or_default();
        if n_steps <= events.lines().filter(|line| line.contains("\"event\":\"step\"")).count() {
            return;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "no {n_steps} steps:\n{events}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What Ctrl-C sends.
fn interrupt(process_id: u32) {
    let status = std::process::Command::new("kill").args(["-INT", &process_id.to_string()]).status().unwrap();
    assert!(status.success());
}

#[test]
fn resuming_says_what_it_needs() {
    let sandbox = sandbox();
    sandbox.run(&["train", "--resume", "nowhere"]).failure(2, &["nowhere", "hint: "]);
    sandbox.run(&["train", "--resume"]).failure(2, &["hint: "]);
    sandbox.run(&["train", "-Y", "cfg.yaml", "--resume", "nowhere"]).failure(2, &["hint: "]);
    assert_eq!(sandbox.list(), ["cfg.yaml", "rows.jsonl"]);
}

#[test]
fn a_finished_run_goes_on_with_more_epochs_and_says_why_it_ended_early() {
    let sandbox = sandbox();
    let once = ["train", "-Y", "cfg.yaml", "--output", "run", "--set", "training.epochs=1"];
    let first = sandbox.run(&once).success();
    assert!(first.stdout.contains("finished: 8 steps"), "{}", first.stdout);
    let again = sandbox.run(&["train", "--resume", "run"]).success();
    assert!(again.stderr.contains("training.epochs=…` with more than before"), "{}", again.stderr);
    let longer = sandbox.run(&["train", "--resume", "run", "--set", "training.epochs=2"]).success();
    assert!(longer.stdout.contains("finished: 16 steps"), "{}", longer.stdout);
    assert_eq!(events(&sandbox, "run", "run_extended")[0]["n_steps"], 16);
    sandbox
        .run(&["train", "--resume", "run", "--set", "training.epochs=1"])
        .failure(2, &["the number of steps (was 16, is 8)", "hint: "]);
    sandbox
        .run(&["train", "--resume", "run", "--set", "training.max_steps=16"])
        .failure(2, &["has taken all of its 16 steps", "hint: "]);
    // Nothing was lost by the refusals.
    let again = sandbox.run(&["train", "--resume", "run"]).success();
    assert!(again.stdout.contains("finished: 16 steps"), "{}", again.stdout);

    let stalled = ["--set", "training.learning_rate=0", "--set", "training.early_stopping_patience=1"];
    let args = ["train", "-Y", "cfg.yaml", "--output", "stalled", "--set", "training.evaluation_epochs=0.25"];
    let ended = sandbox.run(&[&args[..], &stalled].concat()).success();
    assert!(
        ended.stdout.contains("ended before step 16: evaluations brought nothing better"),
        "{}",
        ended.stdout
    );
    assert_eq!(events(&sandbox, "stalled", "run_finished")[0]["reason"], "early_stopping");
}

#[test]
fn one_command_line_starts_a_run_and_continues_it() {
    let sandbox = sandbox();
    let args = ["train", "-Y", "cfg.yaml", "--output", "run", "--resume"];
    let started = sandbox.run(&args).success();
    let again = sandbox.run(&args).success();
    assert_eq!(started.stdout, again.stdout, "a finished run is not trained again");
    assert!(again.stderr.contains("run is finished") && !again.stderr.contains("tok/s"), "{}", again.stderr);
    sandbox.run(&["train", "-Y", "cfg.yaml", "--output", "run"]).failure(6, &["run", "--resume"]);
}

#[test]
#[cfg(target_os = "linux")]
fn a_step_finds_the_memory_of_the_step_before() {
    const N_STEPS: usize = 16;
    let sandbox = sandbox();
    // One step is one epoch, so all steps are equally large: some ten thousand tokens with 100 MB of activations.
    sandbox.write("rows.jsonl", rows(640));
    let changes = ["--set", "training.batch_size=512", "--set", &format!("training.epochs={N_STEPS}")]
        .map(str::to_owned);
    let args: Vec<&str> = ["train", "-Y", "cfg.yaml", "--output", "run"]
        .into_iter()
        .chain(changes.iter().map(String::as_str))
        .collect();
    sandbox.run(&args).success();

    let steps: Vec<Value> = events(&sandbox, "run", "step");
    let faults: Vec<u64> =
        steps.iter().map(|step| step["timing"]["n_page_faults"].as_u64().unwrap()).collect();
    println!("page faults of the steps: {faults:?}");
    assert_eq!(faults.len(), N_STEPS);
    // Threads may still touch something of their own for the first time.
    let settled: u64 = faults[N_STEPS / 2..].iter().sum();
    assert!(settled <= 8 * N_STEPS as u64, "steps still get new memory: {faults:?}");
}

#[test]
fn a_profile_accounts_for_the_steps_and_changes_nothing() {
    let sandbox = sandbox();
    let plain = sandbox.run(&["train", "-Y", "cfg.yaml", "--output", "plain"]).success();
    assert!(!plain.stdout.contains("GFLOP/s") && !sandbox.path("plain/profile.json").exists());
    let profiled = sandbox.run(&["train", "-Y", "cfg.yaml", "--output", "run", "--profile"]).success();
    assert_eq!(losses(&sandbox, "plain"), losses(&sandbox, "run"));
    for words in
        ["time of 16 training steps", "linear_low_rank backward", "everything else", "this machine at most"]
    {
        assert!(profiled.stdout.contains(words), "{words} is missing:\n{}", profiled.stdout);
    }
    let account: Value = serde_json::from_str(&sandbox.read("run/profile.json")).unwrap();
    assert_eq!(account["n_steps"], 16);
    assert!(account["peak_flops_per_sec"].as_f64().unwrap() > 1e8, "{account}");
    let shares: f64 =
        account["operations"].as_array().unwrap().iter().map(|row| row["secs"].as_f64().unwrap()).sum();
    let secs = account["secs"].as_f64().unwrap();
    assert!((shares - secs).abs() < 1e-6 * secs, "{shares} of {secs}");
    // A finished run is not trained again and has nothing to account for.
    let again = sandbox.run(&["train", "--resume", "run", "--profile"]).success();
    assert!(!again.stdout.contains("GFLOP/s"), "{}", again.stdout);
}

#[test]
fn full_fine_tuning_gives_a_whole_model() {
    let sandbox = sandbox();
    let args = [
        "train",
        "-Y",
        "cfg.yaml",
        "--output",
        "run",
        "--set",
        "training.lora=false",
        "--set",
        "training.epochs=1",
    ];
    let trained = sandbox.run(&args).success();
    assert!(trained.stdout.contains("run/model"), "{}", trained.stdout);
    sandbox.run(&["chat", "run", "--prompt", "say 3"]).success();
    sandbox.run(&["model", "inspect", "run/model"]).success();
    sandbox.run(&["export", "run", "--output", "x"]).failure(4, &["export the model"]);
}

/// Tokens of the prompt that a `chat --json` command gave to the model.
fn n_prompt_tokens(sandbox: &Sandbox, args: &[&str]) -> u64 {
    let args: Vec<&str> = args.iter().copied().chain(["--json", "--prompt", "say 3"]).collect();
    let answered = sandbox.run(&args).success();
    serde_json::from_str::<Value>(&answered.stdout).unwrap()["n_prompt_tokens"].as_u64().unwrap()
}

#[test]
fn a_run_trained_with_markers_is_prompted_with_markers() {
    let sandbox = sandbox();
    let markers = ["--set", "dataset.text_format=markers", "--set", "training.epochs=1"];
    let args: Vec<&str> = ["train", "-Y", "cfg.yaml", "--output", "run"].into_iter().chain(markers).collect();
    sandbox.run(&args).success();
    let base = tiny_model();
    let plain =
        n_prompt_tokens(&sandbox, &["chat", base.to_str().unwrap(), "--plain", "--max-new-tokens", "2"]);
    let marked = n_prompt_tokens(&sandbox, &["chat", "run"]);
    assert!(plain < marked, "{plain} < {marked}");
}

#[test]
fn a_run_is_prompted_with_the_system_text_of_its_data() {
    let sandbox = sandbox();
    let with_system = rows(20).replace("{\"prompt\"", "{\"system\": \"Be brief and kind.\", \"prompt\"");
    sandbox.write("rows.jsonl", with_system);
    let settings = ["--set", "dataset.system_column=system", "--set", "training.epochs=1"];
    let args: Vec<&str> =
        ["train", "-Y", "cfg.yaml", "--output", "run"].into_iter().chain(settings).collect();
    sandbox.run(&args).success();
    let base = tiny_model();
    let of_data = n_prompt_tokens(&sandbox, &["chat", "run"]);
    assert_eq!(of_data, n_prompt_tokens(&sandbox, &["chat", "run", "--system", "Be brief and kind."]));
    assert!(n_prompt_tokens(&sandbox, &["chat", "run", "--system", ""]) < of_data);
    assert_eq!(
        n_prompt_tokens(&sandbox, &["chat", "run", "--plain"]),
        n_prompt_tokens(&sandbox, &["chat", base.to_str().unwrap(), "--plain", "--max-new-tokens", "2"]),
        "a text that is continued as it stands has no system text"
    );
}

#[test]
fn a_conversation_takes_commands_and_ends_with_its_input() {
    let sandbox = Sandbox::new();
    let model = tiny_model();
    let args = ["chat", model.to_str().unwrap(), "--max-new-tokens", "4", "--json"];
    let talked = sandbox
        .run_with_input(&args, "hello\n\n/system be brief\n/reset\n/nonsense\nagain\n/exit\nnever\n")
        .success();
    assert_eq!(talked.stdout.lines().count(), 2, "{}", talked.stdout);
    assert!(talked.stderr.contains("/nonsense is not a command"), "{}", talked.stderr);
    let ended = sandbox.run_with_input(&args, "hello").success();
    assert_eq!(ended.stdout.lines().count(), 1);
}

#[test]
fn sampling_is_fixed_by_its_seed() {
    let sandbox = Sandbox::new();
    let model = tiny_model();
    let draw = |seed: &str| {
        let args = [
            "chat",
            model.to_str().unwrap(),
            "--temperature",
            "5",
            "--max-new-tokens",
            "12",
            "--seed",
            seed,
            "--prompt",
            "hello",
        ];
        sandbox.run(&args).success().stdout
    };
    assert_eq!(draw("1"), draw("1"));
    assert_ne!(draw("1"), draw("2"));
}

#[test]
fn a_model_is_inspected() {
    let sandbox = Sandbox::new();
    let model = tiny_model();
    let text = sandbox.run(&["model", "inspect", model.to_str().unwrap()]).success().stdout;
    for word in ["Llama", "parameters", "context", "tokenizer", "training memory"] {
        assert!(text.contains(word), "{word} is missing:\n{text}");
    }
    let json =
        sandbox.run(&["model", "inspect", model.to_str().unwrap(), "--json", "--tensors"]).success().stdout;
    let report: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(report["format"], "gguf");
    let n_values: u64 = report["tensors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tensor| {
            tensor["shape"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).product::<u64>()
        })
        .sum();
    assert_eq!(report["n_parameters"].as_u64().unwrap(), n_values);
}

#[test]
fn the_data_is_shown_as_the_model_will_see_it() {
    let sandbox = sandbox();
    let text =
        sandbox.run(&["data", "preview", "rows.jsonl", "-Y", "cfg.yaml", "--samples", "2"]).success().stdout;
    assert!(text.contains("say"), "{text}");
    let json = sandbox
        .run(&["data", "preview", "rows.jsonl", "-Y", "cfg.yaml", "--samples", "2", "--json"])
        .success()
        .stdout;
    let value: Value = serde_json::from_str(&json).unwrap();
    assert!(value.is_object());
}

#[test]
fn a_command_line_from_elsewhere_finds_its_files() {
    let sandbox = sandbox();
    sandbox.run(&["train", "-Y", "cfg.yaml", "--output", "run", "--set", "training.epochs=1"]).success();
    fs::create_dir(sandbox.path("other")).unwrap();
    let mut command = sandbox.command(&["train", "--resume", "../run"]);
    command.current_dir(sandbox.path("other"));
    outcome(command).success();
}
