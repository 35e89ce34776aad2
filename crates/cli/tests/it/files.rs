//! Wrong files: every one gives one paragraph, the right exit code, and leaves nothing half written.

use std::fs;
use std::path::Path;

use crate::harness::{QUICK_TRAINING, Sandbox, experiment, repository, rows, tiny_model};

/// A sandbox with a good experiment on good rows.
fn good() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("rows.jsonl", rows(10));
    sandbox.write("cfg.yaml", experiment(QUICK_TRAINING));
    sandbox
}

/// After a failed start there is no run that looks like one: nothing to resume, nothing to chat with.
#[track_caller]
fn assert_no_run(sandbox: &Sandbox) {
    for name in ["run/run.json", "run/events.jsonl", "run/checkpoints", "run/adapter_model", "run/model"] {
        assert!(!sandbox.path(name).exists(), "{name} was left behind: {:?}", sandbox.list());
    }
    let strays: Vec<String> =
        sandbox.list().into_iter().filter(|name| name.contains("partial") || name.contains("tmp")).collect();
    assert_eq!(strays, [""; 0]);
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

#[test]
fn a_cut_off_safetensors_file() {
    let sandbox = good();
    let model = sandbox.path("model");
    copy_folder(&repository().join("tests/golden/llama-mha"), &model);
    let weights = model.join("model.safetensors");
    let bytes = fs::read(&weights).unwrap();
    for n_kept in [bytes.len() - 1, bytes.len() / 2, 100, 8, 3, 0] {
        fs::write(&weights, &bytes[..n_kept]).unwrap();
        let args = ["train", "-Y", "cfg.yaml", "--model", "model"];
        sandbox.run(&args).failure(4, &["model.safetensors"]);
        sandbox.run(&["model", "inspect", "model"]).failure(4, &["model.safetensors"]);
        sandbox.run(&["chat", "model", "--prompt", "hello"]).failure(4, &["model.safetensors"]);
        assert_no_run(&sandbox);
    }
}

#[test]
fn a_gguf_file_that_lies_about_lengths() {
    let sandbox = good();
    let bytes = fs::read(tiny_model()).unwrap();
    // Bytes 8..16 are the number of tensors, 16..24 that of metadata entries, 24..32 the length of the first key.
    for (place, value) in [(8, u64::MAX), (16, u64::MAX / 2), (24, 1 << 40), (8, 100_000)] {
        let mut lying = bytes.clone();
        lying[place..place + 8].copy_from_slice(&value.to_le_bytes());
        sandbox.write("lying.gguf", lying);
        sandbox.run(&["model", "inspect", "lying.gguf"]).failure(4, &["lying.gguf"]);
        sandbox.run(&["train", "-Y", "cfg.yaml", "--model", "lying.gguf"]).failure(4, &["lying.gguf"]);
        assert_no_run(&sandbox);
    }
    sandbox.write("cut.gguf", &bytes[..bytes.len() - 10]);
    sandbox.run(&["chat", "cut.gguf", "--prompt", "hello"]).failure(4, &["cut.gguf"]);
}

#[test]
fn what_is_no_model_at_all() {
    let sandbox = good();
    sandbox.write("text.gguf", "this is a text");
    sandbox.run(&["model", "inspect", "text.gguf"]).failure(4, &["text.gguf"]);
    fs::create_dir(sandbox.path("empty")).unwrap();
    sandbox.run(&["train", "-Y", "cfg.yaml", "--model", "empty"]).failure(4, &["empty", "hint: "]);
    sandbox
        .run(&["chat", tiny_model().to_str().unwrap(), "--adapter", "empty", "--prompt", "x"])
        .failure(4, &["empty"]);
    assert_no_run(&sandbox);
}

#[test]
fn a_table_without_the_column() {
    let sandbox = good();
    sandbox.write("rows.csv", "prompt,anwser\na,b\nc,d\n");
    sandbox
        .run(&["train", "-Y", "cfg.yaml", "--data", "rows.csv"])
        .failure(3, &["rows.csv", "answer", "anwser", "hint: "]);
    sandbox
        .run(&["data", "preview", "rows.csv", "-Y", "cfg.yaml"])
        .failure(3, &["rows.csv", "answer", "anwser"]);
    assert_no_run(&sandbox);
}

#[test]
fn an_empty_data_set() {
    let sandbox = good();
    for (name, content) in [("a.jsonl", ""), ("b.csv", "prompt,answer\n"), ("c.json", "[]")] {
        sandbox.write(name, content);
        sandbox.run(&["train", "-Y", "cfg.yaml", "--data", name]).failure(3, &[name]);
        assert_no_run(&sandbox);
    }
}

#[test]
fn a_data_file_that_is_not_there_or_not_what_its_name_says() {
    let sandbox = good();
    sandbox.run(&["train", "-Y", "cfg.yaml", "--data", "nowhere.csv"]).failure(3, &["nowhere.csv", "hint: "]);
    sandbox.write("broken.jsonl", "{\"prompt\": \"a\", \"answer\": \"b\"}\n{\"prompt\": \"a\"\n");
    sandbox.run(&["train", "-Y", "cfg.yaml", "--data", "broken.jsonl"]).failure(3, &["broken.jsonl:2"]);
    sandbox.write("rows.parquet", "no parquet");
    sandbox.run(&["train", "-Y", "cfg.yaml", "--data", "rows.parquet"]).failure(3, &["rows.parquet"]);
    sandbox.write("rows.docx", "no table");
    sandbox
        .run(&["train", "-Y", "cfg.yaml", "--data", "rows.docx"])
        .failure(3, &["rows.docx", "docx", "hint: "]);
    assert_no_run(&sandbox);
}

#[test]
fn an_experiment_file_with_a_value_out_of_range() {
    let sandbox = good();
    sandbox.write("bad.yaml", experiment("training:\n    lora_r: 0\n"));
    for args in [&["train", "-Y", "bad.yaml"][..], &["config", "check", "bad.yaml"]] {
        sandbox.run(args).failure(2, &["bad.yaml:", "training.lora_r is 0", "at least 1", "hint: "]);
    }
    sandbox
        .run(&["train", "-Y", "cfg.yaml", "--set", "training.epochs=-1"])
        .failure(2, &["training.epochs", "-1"]);
    sandbox.run(&["train", "-Y", "cfg.yaml", "--set", "training.epoch=1"]).failure(2, &["epoch", "hint: "]);
    sandbox.run(&["train", "-Y", "cfg.yaml", "--set", "epochs"]).failure(2, &["epochs", "="]);
    assert_eq!(sandbox.list(), ["bad.yaml", "cfg.yaml", "rows.jsonl"]);
}

#[test]
fn an_experiment_file_that_is_not_one() {
    let sandbox = good();
    sandbox.run(&["train", "-Y", "nowhere.yaml"]).failure(2, &["nowhere.yaml", "hint: "]);
    sandbox.write("broken.yaml", "training: [unclosed\n");
    sandbox.run(&["train", "-Y", "broken.yaml"]).failure(2, &["broken.yaml"]);
    sandbox.write("list.yaml", "- 1\n- 2\n");
    sandbox.run(&["config", "check", "list.yaml"]).failure(2, &["list.yaml"]);
    sandbox.write("untyped.yaml", "experiment_name: x\n");
    sandbox.run(&["config", "check", "untyped.yaml"]).failure(2, &["problem_type", "hint: "]);
    assert_eq!(sandbox.list(), ["broken.yaml", "cfg.yaml", "list.yaml", "rows.jsonl", "untyped.yaml"]);
}

#[test]
fn settings_that_are_not_built_are_refused_before_anything_is_read() {
    let sandbox = good();
    for setting in [
        "tokenizer.add_prompt_answer_tokens=true",
        "environment.device=abacus",
        "architecture.pretrained=false",
    ] {
        let field = setting.split('=').next().unwrap();
        sandbox
            .run(&["train", "-Y", "cfg.yaml", "--data", "nowhere.csv", "--set", setting])
            .failure(2, &[field, "hint: "]);
    }
    assert_no_run(&sandbox);
}

#[test]
fn a_prompt_longer_than_the_context() {
    let sandbox = good();
    let model = tiny_model();
    let prompt = "word ".repeat(2000);
    sandbox
        .run(&["chat", model.to_str().unwrap(), "--prompt", &prompt])
        .failure(2, &["longer than the context", "hint: "]);
}

#[test]
fn samples_longer_than_the_context() {
    let sandbox = good();
    let long = format!("{{\"prompt\": \"{}\", \"answer\": \"b\"}}\n", "word ".repeat(2000));
    sandbox.write("long.jsonl", long.repeat(4));
    let args = ["train", "-Y", "cfg.yaml", "--data", "long.jsonl", "--set", "tokenizer.max_length=4096"];
    sandbox.run(&args).failure(2, &["context", "hint: "]);
    assert_no_run(&sandbox);
}

#[test]
fn a_model_that_is_neither_here_nor_on_a_hub() {
    let sandbox = good();
    sandbox
        .run(&["train", "-Y", "cfg.yaml", "--model", "no-such-folder"])
        .failure(5, &["no-such-folder", "hint: "]);
    sandbox
        .run(&["chat", "./no/such/folder/at/all", "--prompt", "x"])
        .failure(4, &["no/such/folder", "hint: "]);
}

#[test]
fn a_folder_that_cannot_be_written() {
    let sandbox = good();
    sandbox.write("in-the-way", "a file");
    sandbox.run(&["train", "-Y", "cfg.yaml", "--output", "in-the-way/run"]).failure(6, &["in-the-way"]);
    sandbox.run(&["demo", "--data-only", "--output", "in-the-way/demo"]).failure(6, &["in-the-way"]);
}
