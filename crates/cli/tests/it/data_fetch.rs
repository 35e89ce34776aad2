//! `tunesmith data fetch`, from servers of the test's own.

use std::fs;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Sandbox, outcome, rows};
use crate::stub::{Reply, Stub};

#[test]
fn tables_arrive_with_progress_and_their_paths_are_the_result() {
    let stub = Stub::start(|request| Reply::file(request, rows(100).as_bytes(), "\"1\""));
    let sandbox = Sandbox::new();
    let url = format!("{}/rows.jsonl?sig=topsecret", stub.endpoint);
    let fetched = sandbox.run(&["data", "fetch", &url, "-o", "data"]).success();
    assert_eq!(fetched.stdout, "data/rows.jsonl\n");
    assert!(fetched.stderr.contains("fetching rows.jsonl\nfetching MB 1/1\n"), "{}", fetched.stderr);
    assert!(!fetched.stderr.contains("topsecret"), "{}", fetched.stderr);
    assert_eq!(sandbox.read("data/rows.jsonl"), rows(100));
    assert_eq!(sandbox.list(), ["data", "data/rows.jsonl"]);

    let again =
        sandbox.run(&["data", "fetch", &url, "-o", "data"]).failure(6, &["rows.jsonl", "is there already"]);
    assert!(!again.stderr.contains("topsecret"));
    let json = sandbox.run(&["data", "fetch", "--json", &url, "-o", "more"]).success().stdout;
    let source = format!("{}/rows.jsonl", stub.endpoint);
    let expected = json!({"name": "rows", "source": source, "tables": ["more/rows.jsonl"]});
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap(), expected);
}

#[test]
fn a_data_set_of_the_hub_is_asked_for_by_split_with_the_token() {
    let stub = Stub::start(|request| match &*request.path {
        path if path.ends_with("/parquet") => {
            let host = request.header("host");
            Reply::ok(json!({"main": {"test": [format!("http://{host}/files/0.jsonl")]}}).to_string())
        }
        "/files/0.jsonl" => Reply::file(request, rows(3).as_bytes(), "\"1\""),
        _ => Reply::ok(json!({"sha": "abc"}).to_string()),
    });
    let sandbox = Sandbox::new();
    let run = |args: &[&str]| {
        let mut command = sandbox.command(&["data", "fetch", "hf://datasets/owner/name", "-o", "data"]);
        command.args(args).env("HF_ENDPOINT", &stub.endpoint).env("HF_TOKEN", "topsecret");
        outcome(command)
    };
    let missing = run(&[]).failure(2, &["there is no split \"train\"", "there are: test"]);
    assert!(!missing.stderr.contains("topsecret"));
    assert_eq!(run(&["--split", "test"]).success().stdout, "data/test.jsonl\n");
    assert_eq!(sandbox.read("data/test.jsonl"), rows(3));
    assert!(stub.requests().iter().all(|request| request.header("authorization") == "Bearer topsecret"));
}

#[test]
fn wrong_addresses_places_and_limits_have_their_exit_codes() {
    let stub = Stub::start(|request| match &*request.path {
        "/rows.csv" => Reply::ok(vec![b'x'; 1_000_001]),
        _ => Reply::new("404 Not Found", ""),
    });
    let sandbox = Sandbox::new();
    let url = |name: &str| format!("{}/{name}", stub.endpoint);
    for (args, code, words) in [
        (&["ftp://host/rows.csv", "-o", "data"][..], 2, "ftp://host/rows.csv"),
        (&["s3://", "-o", "data"], 2, "name of a bucket"),
        (&["rows.csv", "-o", "data", "--split", "test"], 2, "--split"),
        (&["https://host/rows.csv", "--list"], 2, "only buckets"),
        (&["nowhere.csv", "-o", "data"], 3, "nowhere.csv"),
        (&[&url("rows.exe"), "-o", "data"], 3, "neither a table"),
        (&[&url("rows.csv"), "-o", "data", "--max-gb", "0"], 3, "larger than 0 bytes"),
        (&[&url("no.csv"), "-o", "data"], 5, "nothing at"),
    ] {
        let args: Vec<&str> = ["data", "fetch"].iter().chain(args).copied().collect();
        sandbox.run(&args).failure(code, &[words]);
    }
}

/// The server sends a kilobyte an answer until the first program is gone.
#[test]
fn ctrl_c_leaves_a_part_that_the_same_command_goes_on_with() {
    let content = rows(100_000);
    let (whole, is_patient) = (content.clone(), Arc::new(AtomicBool::new(false)));
    let sends_all = Arc::clone(&is_patient);
    let stub = Stub::start(move |request| {
        let reply = Reply::file(request, whole.as_bytes(), "\"1\"");
        if sends_all.load(Ordering::SeqCst) {
            return reply;
        }
        thread::sleep(Duration::from_millis(20));
        reply.cut_after(1_000)
    });
    let sandbox = Sandbox::new();
    let args = ["data", "fetch", &format!("{}/rows.jsonl", stub.endpoint), "-o", "data"];
    let part = sandbox.path("data/.rows.jsonl.part");
    let child = sandbox.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while fs::metadata(&part).map_or(0, |file| file.len()) < 3_000 {
        thread::sleep(Duration::from_millis(5));
    }
    let status = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(status.success());
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    assert!(stderr.contains("stopping; what has arrived stays"), "{stderr}");
    assert!(stderr.contains("hint: the same command goes on where it was"), "{stderr}");

    let n_here = fs::metadata(&part).unwrap().len();
    assert!(3_000 <= n_here && n_here < content.len() as u64);
    is_patient.store(true, Ordering::SeqCst);
    stub.requests();
    sandbox.run(&args).success();
    assert_eq!(sandbox.read("data/rows.jsonl"), content);
    let ranges: Vec<String> =
        stub.requests().iter().map(|request| request.header("range").to_owned()).collect();
    assert_eq!(ranges, [format!("bytes={n_here}-")]);
    assert_eq!(sandbox.list(), ["data", "data/rows.jsonl"]);
}
