//! Validation answers graded by another model, through the real program.

use serde_json::{Value, json};

use crate::harness::{QUICK_TRAINING, Sandbox, experiment, outcome, rows};
use crate::stub::{Reply, Stub};

const KEY: &str = "sk-nobody-may-see-this";

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("rows.jsonl", rows(20));
    let metric = "metric: GPT\n    metric_gpt_model: judge-1\n    metric_gpt_template: mine";
    sandbox.write("cfg.yaml", experiment(QUICK_TRAINING).replace("metric: Perplexity", metric));
    sandbox.write("prompts/mine.txt", "Grade {_PREDICTED_TEXT} for {_PROMPT} against {answer}.");
    sandbox
}

/// The evaluations in the run folder `run`.
fn evaluations(sandbox: &Sandbox) -> Vec<Value> {
    let events = sandbox.read("run/events.jsonl");
    let events = events.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    events.filter(|event| event["event"] == "evaluation").collect()
}

#[test]
fn the_metric_is_in_the_events_and_in_the_predictions_and_the_key_nowhere() {
    let stub = Stub::start(|_| {
        let text = "EXPLANATION: close enough\nSCORE: 7/10";
        Reply::ok(json!({"choices": [{"message": {"content": text}}]}).to_string())
    });
    let sandbox = sandbox();
    let mut command = sandbox.command(&["train", "-Y", "cfg.yaml"]);
    command.env("OPENAI_API_BASE", format!("{}/v1", stub.endpoint)).env("OPENAI_API_KEY", KEY);
    let trained = outcome(command).success();
    assert!(trained.stdout.contains("validation GPT 7.000"), "{}", trained.stdout);
    assert!(trained.stderr.contains("graded by judge-1 at http://127.0.0.1"), "{}", trained.stderr);
    assert!(!trained.stderr.contains(KEY) && !trained.stdout.contains(KEY));

    let last = evaluations(&sandbox).pop().unwrap();
    assert_eq!((&last["metric"], &last["metric_value"]), (&json!("GPT"), &json!(7.0)));
    assert_eq!((&last["metrics"]["GPT"], &last["grading"]["n_failed"]), (&json!(7.0), &json!(0)));
    let table = sandbox.read("run/validation_predictions.csv");
    assert!(table.lines().next().unwrap().ends_with("GPT,explanation"), "{table}");
    assert!(table.lines().skip(1).all(|line| line.ends_with("7,close enough")), "{table}");
    for name in sandbox.list() {
        let path = sandbox.path(&name);
        let holds_key =
            path.is_file() && std::fs::read(&path).unwrap().windows(KEY.len()).any(|w| w == KEY.as_bytes());
        assert!(!holds_key, "{name}");
    }

    let requests = stub.requests();
    assert!(
        !requests.is_empty()
            && requests.iter().all(|request| request.header("authorization") == format!("Bearer {KEY}"))
    );
    let body: Value = serde_json::from_slice(&requests[0].body).unwrap();
    let text = body["messages"][1]["content"].as_str().unwrap();
    assert!(
        text.starts_with("Grade ") && text.contains(" for say ") && text.contains("against it is "),
        "{text}"
    );
}

#[test]
fn a_judge_that_is_gone_leaves_a_warning_and_a_trained_model() {
    let sandbox = sandbox();
    let mut command = sandbox.command(&["train", "-Y", "cfg.yaml"]);
    command.env("OPENAI_API_BASE", "http://127.0.0.1:9/v1").env("LLM_RETRY_ATTEMPTS", "1");
    let trained = outcome(command).success();
    assert!(trained.stderr.contains("the judge did not grade 4 of 4 answers"), "{}", trained.stderr);
    assert_eq!(evaluations(&sandbox).pop().unwrap()["metric_value"], Value::Null);
    assert!(sandbox.path("run/adapter_model/adapter_model.safetensors").is_file());
}

#[test]
fn without_a_judge_perplexity_takes_its_place_and_mistakes_are_told_first() {
    let sandbox = sandbox();
    let trained = sandbox.run(&["train", "-Y", "cfg.yaml"]).success();
    assert!(trained.stderr.contains("judged by Perplexity instead of GPT"), "{}", trained.stderr);
    assert_eq!(evaluations(&sandbox).pop().unwrap()["metric"], "Perplexity");

    let run = |name: &str, value: &str| {
        let mut command = sandbox.command(&["train", "-Y", "cfg.yaml", "--output", "other"]);
        command.env("OPENAI_API_BASE", "http://127.0.0.1:9/v1").env(name, value);
        outcome(command)
    };
    run("LLM_TIMEOUT", "soon").failure(2, &["LLM_TIMEOUT", "hint: "]);
    run("TUNESMITH_PROMPTS", "nowhere").failure(2, &["\"mine\"", "general, mt-bench, rag"]);
}
