//! Labels as people write them, from a table to predictions and exported folders, through the real program.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::harness::{Sandbox, tiny_model};

const INTENTS: [&str; 3] = ["card_arrival", "exchange, charge", "lost_card"];

fn experiment(answer_column: &str, loss: &str, more: &str) -> String {
    format!(
        "experiment_name: intents
problem_type: text_causal_classification_modeling
llm_backbone: {model}
output_directory: run
dataset:
    train_dataframe: rows.jsonl
    validation_size: 0.25
    prompt_column: text
    answer_column: {answer_column}
tokenizer:
    max_length: 32
architecture:
    backbone_dtype: float32
    score_head: hidden
environment:
    mixed_precision: false
    seed: 3
prediction:
    metric: Accuracy
training:
    loss_function: {loss}
    learning_rate: 0.01
    differential_learning_rate: 0.01
    batch_size: 4
    epochs: 4
    lora_r: 4
{more}",
        model = tiny_model().display()
    )
}

/// Texts whose first word says what they are about: `intent` by name, `stars` from 1, `tags` as a list.
fn rows() -> String {
    let mut rows = String::new();
    for idx in 0..24 {
        let (word, kind) = (["where", "fee", "gone"][idx % 3], idx % 3);
        let tags: &[&str] = [&["card"] as &[&str], &["money", "card"], &[]][kind];
        let row = json!({"text": format!("{word} {idx}"), "intent": INTENTS[kind], "stars": kind + 1, "tags": tags});
        writeln!(rows, "{row}").unwrap();
    }
    rows
}

fn sandbox(answer_column: &str, loss: &str, more: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("rows.jsonl", rows());
    sandbox.write("cfg.yaml", experiment(answer_column, loss, more));
    sandbox
}

fn json_of(sandbox: &Sandbox, name: &str) -> Value {
    serde_json::from_str(&sandbox.read(name)).unwrap()
}

#[test]
fn intents_in_words_come_back_as_words() {
    let sandbox = sandbox("intent", "CrossEntropyLoss", "    checkpoint_every_steps: 4\n");
    let told = sandbox.run(&["train", "-Y", "cfg.yaml", "--output", "run"]).success();
    assert!(
        told.stderr.contains("0 = card_arrival (8 rows)")
            || sandbox.read("run/logs.log").contains("0 = card_arrival (8 rows)"),
        "{told:?}"
    );
    assert!(told.stdout.contains("intent: rows by true class (down)"), "{told:?}");
    assert!(told.stdout.lines().any(|line| line.trim_start().starts_with("exchange, charge  ")), "{told:?}");
    // The mapping stands in the run, both ways, and in its settings.
    let id2label = json!({"0": INTENTS[0], "1": INTENTS[1], "2": INTENTS[2]});
    let label2id = json!({INTENTS[0]: 0, INTENTS[1]: 1, INTENTS[2]: 2});
    let record = json_of(&sandbox, "run/run.json");
    assert_eq!((&record["id2label"], &record["label2id"]), (&id2label, &label2id));
    assert!(
        sandbox
            .read("run/cfg.yaml")
            .contains("class_names:\n    - card_arrival\n    - exchange, charge\n    - lost_card")
    );
    assert_eq!(json_of(&sandbox, "run/adapter_model/labels.json")["id2label"], id2label);
    // What was predicted of the validation rows, in words.
    let about = json_of(&sandbox, "run/validation_predictions.json");
    assert_eq!(about["confusion"][0]["labels"], json!(INTENTS));
    let table = sandbox.read("run/validation_predictions.csv");
    let head = "row,prompt,answer,prediction,probability_card_arrival,\"probability_exchange, charge\",probability_lost_card,loss\n";
    assert!(table.starts_with(head), "{table}");
    let is_named = |line: &str| INTENTS.iter().filter(|name| line.contains(*name)).count() >= 1;
    assert!(table.lines().skip(1).all(is_named), "{table}");

    // A finished run goes on with the same mapping, and one with another order is another run.
    sandbox.run(&["train", "-Y", "cfg.yaml", "--output", "run", "--resume"]).success();
    sandbox.run(&["export", "run", "--output", "merged", "--format", "merged"]).success();
    let config = json_of(&sandbox, "merged/config.json");
    assert_eq!(
        (&config["id2label"], &config["label2id"], &config["num_labels"]),
        (&id2label, &label2id, &json!(3))
    );
    assert_eq!(config["problem_type"], "single_label_classification");
    sandbox.run(&["export", "run", "--output", "adapter"]).success();
    assert_eq!(json_of(&sandbox, "adapter/labels.json")["label2id"], label2id);

    sandbox.write("new.csv", "text\nwhere 100\nfee 101\ngone 102\n");
    sandbox.run(&["predict", "run", "--data", "new.csv", "--output", "answers.csv"]).success();
    let answers = sandbox.read("answers.csv");
    assert!(answers.starts_with("text,prediction,probability_card_arrival,"), "{answers}");
    assert!(answers.lines().skip(1).all(is_named), "{answers}");
    sandbox
        .run(&["chat", "run", "--prompt", "where"])
        .failure(2, &["scores of card_arrival, exchange, charge, lost_card", "tunesmith predict"]);

    // A new run that starts from this one has the order of its scores.
    let changed =
        ["train", "-Y", "cfg.yaml", "--output", "again", "--set", "architecture.pretrained_weights=run"];
    sandbox.write("rows.jsonl", rows().replace("card_arrival", "zero"));
    sandbox.run(&changed).success();
    assert!(sandbox.read("again/logs.log").contains("stand for card_arrival, exchange, charge, lost_card, and are trained to stand for exchange, charge, lost_card, zero"));
}

#[test]
fn a_resumed_run_keeps_its_labels() {
    let more = "    checkpoint_every_steps: 1\n    evaluation_epochs: 1\n";
    let sandbox = sandbox("intent", "CrossEntropyLoss", more);
    sandbox.run(&["train", "-Y", "cfg.yaml", "--output", "whole"]).success();
    // As a process that was killed after a step leaves it.
    sandbox.run(&["train", "-Y", "cfg.yaml", "--output", "run"]).success();
    std::fs::remove_dir_all(sandbox.path("run/adapter_model")).unwrap();
    let status = sandbox.read("run/flags.json").replace("finished", "running");
    sandbox.write("run/flags.json", status);
    sandbox
        .run(&[
            "train",
            "--resume",
            "run",
            "--set",
            "dataset.class_names=[lost_card, card_arrival, 'exchange, charge']",
        ])
        .failure(2, &["dataset.class_names"]);
    sandbox.run(&["train", "--resume", "run"]).success();
    sandbox.run(&["train", "-Y", "cfg.yaml", "--output", "run", "--resume"]).success();
    assert_eq!(
        json_of(&sandbox, "run/run.json")["id2label"],
        json_of(&sandbox, "whole/run.json")["id2label"]
    );
    assert_eq!(
        json_of(&sandbox, "run/adapter_model/labels.json"),
        json_of(&sandbox, "whole/adapter_model/labels.json")
    );
    assert_eq!(
        sandbox.read("run/validation_predictions.csv"),
        sandbox.read("whole/validation_predictions.csv")
    );
}

#[test]
fn a_run_that_starts_from_another_keeps_the_order_of_its_scores() {
    let sandbox = sandbox("intent", "CrossEntropyLoss", "");
    let given = "dataset.class_names=[lost_card, card_arrival, 'exchange, charge']";
    sandbox.run(&["train", "-Y", "cfg.yaml", "--output", "first", "--set", given]).success();
    let first = json_of(&sandbox, "first/run.json")["id2label"].clone();
    assert_eq!(first["0"], "lost_card");
    let start = "architecture.pretrained_weights=first";
    sandbox.run(&["train", "-Y", "cfg.yaml", "--output", "second", "--set", start]).success();
    assert_eq!(json_of(&sandbox, "second/run.json")["id2label"], first);
    assert!(
        sandbox.read("second/logs.log").contains("the labels have the order of the starting weights' scores")
    );
    // Another number of scores is another head.
    sandbox.write("rows.jsonl", rows().replace("lost_card", "card_arrival"));
    sandbox
        .run(&["train", "-Y", "cfg.yaml", "--output", "third", "--set", start])
        .failure(4, &["its head gives 3 scores, but the experiment has 2 classes"]);
}

#[test]
fn stars_and_lists_are_labels() {
    let sandbox = sandbox("stars", "CrossEntropyLoss", "");
    sandbox.run(&["train", "-Y", "cfg.yaml", "--output", "stars"]).success();
    assert_eq!(json_of(&sandbox, "stars/run.json")["id2label"], json!({"0": "1", "1": "2", "2": "3"}));
    let table = sandbox.read("stars/validation_predictions.csv");
    assert!(table.contains(",prediction,probability_1,probability_2,probability_3,loss\n"), "{table}");

    sandbox.write("cfg.yaml", experiment("tags", "BinaryCrossEntropyLoss", ""));
    sandbox
        .run(&["train", "-Y", "cfg.yaml", "--output", "tags", "--set", "architecture.score_head=logits"])
        .success();
    let labels = json_of(&sandbox, "tags/adapter_model/labels.json");
    assert_eq!(labels["id2label"], json!({"0": "card", "1": "money"}));
    assert!(sandbox.path("tags/adapter_model/classification_head.safetensors").is_file());
    let about = json_of(&sandbox, "tags/validation_predictions.json");
    assert_eq!(
        (&about["confusion"][0]["column"], &about["confusion"][1]["column"]),
        (&json!("card"), &json!("money"))
    );
    // Weights to start from bring such a head along.
    let start = ["--set", "architecture.pretrained_weights=tags", "--set", "training.epochs=0"];
    let args = ["train", "-Y", "cfg.yaml", "--output", "again", "--set", "architecture.score_head=logits"];
    sandbox.run(&[&args[..], &start].concat()).success();
    let table = "validation_predictions.csv";
    assert_eq!(sandbox.read(&format!("again/{table}")), sandbox.read(&format!("tags/{table}")));
    sandbox.run(&["export", "tags", "--output", "merged", "--format", "merged"]).success();
    assert_eq!(json_of(&sandbox, "merged/config.json")["id2label"], labels["id2label"]);
    assert_eq!(json_of(&sandbox, "merged/labels.json"), labels);
    sandbox.write("new.csv", "text\nfee 101\n");
    sandbox.run(&["predict", "tags", "--data", "new.csv", "--output", "answers.csv"]).success();
    let answers = sandbox.read("answers.csv");
    assert!(answers.starts_with("text,prediction,probability_card,probability_money\nfee 101,"), "{answers}");
    assert!(answers.contains('['), "{answers}");
}

#[test]
fn the_preview_shows_what_is_predicted() {
    let sandbox = sandbox("intent", "CrossEntropyLoss", "");
    let preview =
        |more: &[&str]| sandbox.run(&[&["data", "preview", "rows.jsonl", "-Y", "cfg.yaml"], more].concat());
    let text = preview(&["--samples", "2"]).success().stdout;
    assert!(text.contains("target: ⟦card_arrival⟧ (class 0)\n"), "{text}");
    assert!(text.contains("target: ⟦exchange, charge⟧ (class 1)\n"), "{text}");
    assert!(text.contains("· the column intent has 3 labels: 0 = card_arrival (8 rows)"), "{text}");
    assert!(!text.contains("nothing to train on") && !text.contains("learned: left out"), "{text}");
    let parsed: Value =
        serde_json::from_str(&preview(&["--samples", "1", "--json"]).success().stdout).unwrap();
    let target = json!({"text": "card_arrival", "class": 0, "values": [0.0]});
    assert_eq!((&parsed["samples"][0]["target"], &parsed["warnings"]), (&target, &json!([])));
    assert!(
        parsed["notes"].as_array().unwrap().iter().any(|note| note.as_str().unwrap().contains("3 labels"))
    );

    let numbers =
        ["--set", "problem_type=text_causal_regression_modeling", "--set", "training.loss_function=MSELoss"];
    let more = ["--samples", "2", "--set", "dataset.answer_column=stars"];
    let text = preview(&[&numbers[..], &more].concat()).success().stdout;
    assert!(text.contains("target: ⟦2⟧\n") && !text.contains("nothing to train on"), "{text}");
    sandbox.write("missing.csv", "text,intent\na,x\nb,\nc,y\n");
    sandbox
        .run(&["data", "preview", "missing.csv", "-Y", "cfg.yaml"])
        .failure(3, &["column intent: 1 of 3 cells are not a label", "nothing in line 3", "hint: "]);
}
