//! Large tables in the studio: read by a process of their own, with the same answers.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::harness::Sandbox;
use crate::studio_client::Studio;

/// Rows of about a kilobyte.
fn table(n_rows: usize) -> String {
    let filler = "word ".repeat(200);
    (0..n_rows).fold(String::new(), |mut text, row| {
        let line = json!({"prompt": format!("What is {row}?"), "answer": format!("{row}: {filler}")});
        writeln!(text, "{line}").unwrap();
        text
    })
}

fn import(studio: &Studio, sandbox: &Sandbox, name: &str) -> Value {
    let source = json!({"kind": "local", "path": sandbox.path(name).display().to_string()});
    let job = studio.send("POST", "/imports", &json!({"source": source}), 202);
    let id = studio.wait_for_job(&job)["import_id"].as_str().unwrap().to_owned();
    studio.get(&format!("/imports/{id}"))
}

/// Largest memory of the server so far.
#[cfg(target_os = "linux")]
fn peak_bytes(studio: &Studio) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", studio.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[test]
fn a_large_table_is_told_like_a_small_one_and_does_not_grow_the_server() {
    const N_ROWS: usize = 60_000;
    let sandbox = Sandbox::new();
    sandbox.write("small.jsonl", table(100));
    sandbox.write("large.jsonl", table(N_ROWS));
    let studio = Studio::start(&sandbox);
    let small = import(&studio, &sandbox, "small.jsonl");
    #[cfg(target_os = "linux")]
    let before = peak_bytes(&studio);

    let large = import(&studio, &sandbox, "large.jsonl");
    assert_eq!(large["tables"][0]["n_rows"], N_ROWS);
    assert_eq!(large["tables"][0]["rows"], small["tables"][0]["rows"]);
    let mut guess = large["guess"].clone();
    for by_size in ["train_table", "validation_size"] {
        guess[by_size] = small["guess"][by_size].clone();
    }
    assert_eq!(guess, small["guess"]);
    let check = |import: &Value| {
        let path = format!("/imports/{}/check", import["id"].as_str().unwrap());
        studio.send("POST", &path, &json!({"settings": import["guess"]}), 200)
    };
    assert_eq!(check(&large), check(&small));
    // What is wrong comes back as it does from the server itself.
    let mut wrong = large["guess"].clone();
    wrong["train_table"] = json!("gone.jsonl");
    let path = format!("/imports/{}/check", large["id"].as_str().unwrap());
    let mut wrong_small = small["guess"].clone();
    wrong_small["train_table"] = json!("gone.jsonl");
    let small_path = format!("/imports/{}/check", small["id"].as_str().unwrap());
    assert_eq!(
        studio.ask("POST", &path, Some(&json!({"settings": wrong}))),
        studio.ask("POST", &small_path, Some(&json!({"settings": wrong_small})))
    );

    let new = json!({"import_id": large["id"], "name": "Large", "settings": large["guess"]});
    let made = studio.send("POST", "/datasets", &new, 201);
    assert_eq!(made["n_rows"], N_ROWS);
    let path = format!("/datasets/{}", made["id"].as_str().unwrap());
    let rows = studio.get(&format!("{path}/rows?offset=59990&limit=50"));
    assert_eq!((&rows["n_rows"], rows["rows"].as_array().unwrap().len()), (&json!(N_ROWS), 10));
    assert_eq!(rows["rows"][9][0], "What is 59999?");
    let chats = studio.get(&format!("{path}/conversations?offset=7&limit=1"));
    assert_eq!(chats["n"], N_ROWS);
    assert_eq!(chats["conversations"][0]["turns"][0]["content"], "What is 7?");
    let statistics = studio.get(&format!("{path}/statistics"));
    assert_eq!(statistics["n_conversations"], N_ROWS);
    assert_eq!(statistics["prompt_words"]["max"], 3);

    #[cfg(target_os = "linux")]
    {
        let grown = peak_bytes(&studio) - before;
        let n_bytes = made["n_bytes"].as_u64().unwrap();
        assert!(n_bytes > 60_000_000 && grown < n_bytes / 2, "{grown} of {n_bytes} bytes");
    }
}

#[test]
fn a_broken_large_table_is_told_with_its_line() {
    let sandbox = Sandbox::new();
    sandbox.write("broken.jsonl", format!("{}{{\"prompt\": \n", table(20_000)));
    let studio = Studio::start(&sandbox);
    let source = json!({"kind": "local", "path": sandbox.path("broken.jsonl").display().to_string()});
    let job = studio.send("POST", "/imports", &json!({"source": source}), 202);
    let failed = studio.wait_for_end(&job);
    assert_eq!(failed["state"], "failed");
    assert!(failed["error"]["message"].as_str().unwrap().contains("broken.jsonl:20001:"), "{failed}");
    assert_eq!(failed["error"]["details"]["problems"][0]["rows"], json!([20_001]));
}
