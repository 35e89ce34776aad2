//! Experiment trackers at the side of a run, through the real program; what they have is read back by their own packages.
//!
//! Those are installed by `scripts/tracker-servers`; without `TUNESMITH_TRACKER_SERVERS`, which names their folder, the tests
//! that need them skip, and with `TUNESMITH_REQUIRE_TRACKER_SERVERS=1` they fail.

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{QUICK_TRAINING, Sandbox, experiment, outcome, repository, rows};
use crate::stub::{Reply, Request, Stub};

const PATIENCE: Duration = Duration::from_secs(180);

/// Steps and values of each series.
type Series = BTreeMap<String, Vec<(u64, f64)>>;

fn sandbox(logging: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("rows.jsonl", rows(20));
    sandbox.write("cfg.yaml", experiment(&format!("{QUICK_TRAINING}logging:\n{logging}")));
    sandbox
}

/// What a tracker should have, from the run's own events.
fn expected(sandbox: &Sandbox) -> Series {
    let mut series = Series::new();
    let mut n_samples = 0;
    for line in sandbox.read("run/events.jsonl").lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        let numbers = match event["event"].as_str().unwrap() {
            "step" => {
                n_samples = event["n_samples_seen"].as_u64().unwrap();
                let norm = ("train/gradient_norm", &event["gradient_norm"]);
                vec![("train/loss", &event["loss"]), norm, ("meta/lr", &event["learning_rate"])]
            }
            "evaluation" => {
                let perplexity = ("validation/Perplexity", &event["metrics"]["Perplexity"]);
                vec![("validation/loss", &event["loss"]), perplexity]
            }
            _ => Vec::new(),
        };
        for (name, value) in numbers {
            series.entry(name.to_owned()).or_default().push((n_samples, value.as_f64().unwrap()));
        }
    }
    series
}

/// What the tracker has, by its own package.
fn read(servers: &Path, args: &[&str]) -> Value {
    let read = Command::new(servers.join("venv/bin/python"))
        .arg(repository().join("tests/trackers/read.py"))
        .args(args)
        .env("WANDB_MODE", "offline")
        .output()
        .unwrap();
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    serde_json::from_slice(&read.stdout).unwrap()
}

/// Fails unless the tracker has every number of the run once, up to a share of rounding.
#[track_caller]
fn assert_complete(answer: &Value, expected: &Series, rounding: f64) {
    let found = answer["series"].as_object().unwrap();
    let names: BTreeSet<&String> = found.keys().collect();
    assert_eq!(names, expected.keys().collect());
    let (mut n_points, mut worst) = (0, 0.0_f64);
    for (name, points) in expected {
        let found: Vec<(u64, f64)> = serde_json::from_value(found[name].clone()).unwrap();
        let steps = |points: &[(u64, f64)]| points.iter().map(|point| point.0).collect::<Vec<_>>();
        assert_eq!(steps(&found), steps(points), "{name}");
        for ((step, found), (_, expected)) in found.iter().zip(points) {
            let difference = (found - expected).abs() / expected.abs().max(f64::MIN_POSITIVE);
            assert!(difference <= rounding, "{name} at {step}: {found} for {expected}");
            worst = worst.max(difference);
        }
        n_points += points.len();
    }
    println!("{n_points} numbers of {} series, worst relative difference {worst:e}", expected.len());
}

/// Trains, is killed once the tracker has some of it, and is resumed to the end.
fn train_with_a_kill(sandbox: &Sandbox, variables: &[(&str, &str)]) {
    let settings =
        ["training.epochs=300", "training.evaluation_epochs=10", "training.checkpoint_every_steps=50"];
    let settings = settings.iter().flat_map(|setting| ["--set", setting]);
    let args: Vec<&str> = ["train", "-Y", "cfg.yaml", "--resume"].into_iter().chain(settings).collect();
    let command = || {
        let mut command = sandbox.command(&args);
        command.envs(variables.iter().copied());
        command
    };
    let mut first = command().stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let n_sent = || {
        let memory = std::fs::read(sandbox.path("run/tracker.json")).unwrap_or_default();
        serde_json::from_slice::<Value>(&memory).unwrap_or_default()["n_events"].as_u64().unwrap_or(0)
    };
    let started = Instant::now();
    let is_far_enough = || n_sent() >= 20 && sandbox.path("run/checkpoints/last").is_dir();
    while !is_far_enough() && started.elapsed() < PATIENCE {
        thread::sleep(Duration::from_millis(20));
    }
    first.kill().unwrap();
    assert!(!first.wait().unwrap().success(), "the run was over before it could be killed");
    assert!(is_far_enough());
    let resumed = outcome(command()).success();
    assert!(resumed.stderr.contains("resumed at step"), "{}", resumed.stderr);
    assert!(!resumed.stderr.contains("warning"), "{}", resumed.stderr);
}

/// The folder of the real trackers, or why there is none.
fn servers() -> Option<PathBuf> {
    let folder = std::env::var_os("TUNESMITH_TRACKER_SERVERS").map(PathBuf::from);
    let found = folder.filter(|folder| folder.join("installed").is_file());
    if found.is_none() {
        let reason = "the trackers are not installed: scripts/tracker-servers does it, TUNESMITH_TRACKER_SERVERS says where";
        assert!(std::env::var_os("TUNESMITH_REQUIRE_TRACKER_SERVERS").is_none(), "{reason}");
        println!("skipped: {reason}");
    }
    found
}

/// A real tracking server; its processes end with the value.
struct MlflowServer {
    child: Child,
    address: String,
}

impl MlflowServer {
    fn start(servers: &Path, folder: &Path) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new(servers.join("venv/bin/mlflow"));
        command
            .args(["server", "--host", "127.0.0.1", "--workers", "1", "--port", &port.to_string()])
            .arg("--backend-store-uri")
            .arg(format!("sqlite:///{}", folder.join("mlflow.db").display()))
            .arg("--artifacts-destination")
            .arg(folder.join("artifacts"))
            .env("MLFLOW_DISABLE_TELEMETRY", "true")
            .current_dir(folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let server = Self { child: command.spawn().unwrap(), address: format!("http://127.0.0.1:{port}") };
        let started = Instant::now();
        while ureq::get(format!("{}/health", server.address)).call().is_err() {
            assert!(started.elapsed() < PATIENCE, "mlflow server does not answer");
            thread::sleep(Duration::from_millis(200));
        }
        server
    }
}

impl Drop for MlflowServer {
    fn drop(&mut self) {
        let group = format!("-{}", self.child.id());
        Command::new("kill").args(["-TERM", "--", &group]).status().ok();
        self.child.wait().ok();
    }
}

#[test]
fn mlflow_has_every_number_of_a_killed_and_resumed_run_once() {
    let Some(servers) = servers() else { return };
    let sandbox = sandbox("    logger: MLflow\n    mlflow_experiment: tiny runs\n");
    let server = MlflowServer::start(&servers, &sandbox.path("."));
    train_with_a_kill(&sandbox, &[("MLFLOW_TRACKING_URI", &server.address)]);
    let answer = read(&servers, &["mlflow", &server.address, "tiny runs"]);
    assert_eq!(
        (&answer["n_runs"], &answer["name"], &answer["status"]),
        (&json!(1), &json!("tiny"), &json!("FINISHED"))
    );
    assert_eq!(
        (&answer["params"]["training.lora_r"], &answer["params"]["logging.logger"]),
        (&json!("4"), &json!("MLflow"))
    );
    assert!(answer["params"]["training.kto_desirable_weight"].is_null(), "what has no meaning is not shown");
    // Numbers that are read from JSON may be off by one in the last place.
    assert_complete(&answer, &expected(&sandbox), 1e-15);
    let run =
        sandbox.list().into_iter().filter(|name| name.starts_with("run/") && sandbox.path(name).is_file());
    for name in run {
        let bytes = std::fs::read(sandbox.path(&name)).unwrap();
        // The log says where the numbers go; nothing else holds the address.
        let holds_address =
            bytes.windows(server.address.len()).any(|window| window == server.address.as_bytes());
        assert!(!holds_address || name == "run/logs.log", "{name}");
    }
}

#[test]
fn tensorboard_has_every_number_of_a_killed_and_resumed_run_once() {
    let Some(servers) = servers() else { return };
    let sandbox = sandbox("    logger: TensorBoard\n");
    train_with_a_kill(&sandbox, &[]);
    let folder = sandbox.path("run/tensorboard");
    let answer = read(&servers, &["tensorboard", folder.to_str().unwrap()]);
    // 32-bit floats.
    assert_complete(&answer, &expected(&sandbox), 6e-8);
    assert!(
        answer["params"]["text"].as_str().unwrap().contains("| training.lora_r | 4 |"),
        "{}",
        answer["params"]
    );
    assert!(!answer["plugins"].is_null());
}

#[test]
fn weights_and_biases_has_every_number_of_a_killed_and_resumed_run_once() {
    let Some(servers) = servers() else { return };
    let sandbox = sandbox("    logger: W&B\n    wandb_project: tiny-project\n");
    train_with_a_kill(&sandbox, &[]);
    let mut folders = std::fs::read_dir(sandbox.path("run/wandb")).unwrap();
    let folder = folders.next().unwrap().unwrap().path();
    assert!(folders.next().is_none(), "one run");
    let files = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let file =
        files.into_iter().find(|path| path.extension().is_some_and(|ending| ending == "wandb")).unwrap();
    assert!(std::fs::metadata(&file).unwrap().len() > 2 * 32_768, "records are cut at blocks");
    let answer = read(&servers, &["wandb", file.to_str().unwrap()]);
    let head = ["n_runs", "name", "project", "status"].map(|key| answer[key].clone());
    assert_eq!(head, [json!(1), json!("tiny"), json!("tiny-project"), json!(0)]);
    assert_eq!(answer["params"]["training.lora_r"], "4");
    let numbers: Vec<u64> = serde_json::from_value(answer["numbers"].clone()).unwrap();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    assert_complete(&answer, &expected(&sandbox), 1e-15);

    // Its own program uploads all of it, to a stand-in for the service.
    let service = Stub::start(|request| Reply::ok(service_answer(request).to_string()));
    let synced = Command::new(servers.join("venv/bin/wandb"))
        .args(["sync", "."])
        .current_dir(&folder)
        .env("WANDB_API_KEY", "0".repeat(40))
        .env("WANDB_BASE_URL", &service.endpoint)
        .env("WANDB_ERROR_REPORTING", "false")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&synced.stdout);
    assert!(
        synced.status.success() && said.contains("done"),
        "{said} {}",
        String::from_utf8_lossy(&synced.stderr)
    );
    assert_complete(&json!({"series": uploaded(&service.requests())}), &expected(&sandbox), 1e-15);
}

/// What the service of Weights & Biases says, as far as an upload has to know.
fn service_answer(request: &Request) -> Value {
    let query = String::from_utf8_lossy(&request.body).to_lowercase();
    if !query.contains("upsertbucket") {
        return json!({"data": {}});
    }
    let project = json!({"id": "p", "name": "tiny-project", "entity": {"id": "e", "name": "me"}});
    let bucket = json!({"id": "aWQ=", "name": "run", "displayName": "tiny", "config": "{}", "historyLineCount": 0, "project": project});
    json!({"data": {"upsertBucket": {"bucket": bucket, "inserted": true}}})
}

/// The series in the uploaded rows.
fn uploaded(requests: &[Request]) -> Series {
    let mut series = Series::new();
    for request in requests.iter().filter(|request| request.path.ends_with("/file_stream")) {
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        let lines = body["files"]["wandb-history.jsonl"]["content"].as_array().cloned().unwrap_or_default();
        for line in lines {
            let row: Value = serde_json::from_str(line.as_str().unwrap()).unwrap();
            let numbers = row.as_object().unwrap().iter().filter(|(name, _)| !name.starts_with('_'));
            for (name, value) in numbers {
                let point = (row["_step"].as_u64().unwrap(), value.as_f64().unwrap());
                series.entry(name.clone()).or_default().push(point);
            }
        }
    }
    series
}

#[test]
fn files_of_trackers_are_written_and_a_finished_run_is_not_written_again() {
    for (logger, name) in [("TensorBoard", "run/tensorboard"), ("W&B", "run/wandb")] {
        let sandbox = sandbox(&format!("    logger: {logger}\n"));
        let trained = sandbox.run(&["train", "-Y", "cfg.yaml"]).success();
        assert!(trained.stderr.contains("numbers also go to"), "{}", trained.stderr);
        let memory: Value = serde_json::from_str(&sandbox.read("run/tracker.json")).unwrap();
        // The start, 16 steps, two evaluations.
        assert_eq!((&memory["tracker"], &memory["n_events"]), (&json!(logger), &json!(19)));
        let content = || {
            let files = sandbox.list().into_iter().filter(|file| file.starts_with(name));
            let files: Vec<PathBuf> =
                files.map(|file| sandbox.path(&file)).filter(|path| path.is_file()).collect();
            files.into_iter().map(|file| std::fs::read(&file).unwrap()).collect::<Vec<_>>()
        };
        let before = content();
        assert_eq!(before.len(), 1);
        sandbox.run(&["train", "--resume", "run"]).success();
        assert!(content() == before, "{logger}");
    }
}

#[test]
fn a_server_that_is_not_there_costs_a_warning_and_no_address_is_an_error() {
    let sandbox = sandbox("    logger: MLflow\n");
    sandbox.run(&["train", "-Y", "cfg.yaml"]).failure(2, &["MLFLOW_TRACKING_URI", "hint: "]);
    let mut command = sandbox.command(&["train", "-Y", "cfg.yaml"]);
    command.env("MLFLOW_TRACKING_URI", "http://me:topsecret@127.0.0.1:9");
    let started = Instant::now();
    let trained = outcome(command).success();
    assert!(trained.stderr.contains("warning: MLflow is out of reach"), "{}", trained.stderr);
    assert!(trained.stderr.contains("resuming it sends what is missing"), "{}", trained.stderr);
    assert!(started.elapsed() < Duration::from_secs(60));
    assert!(!trained.stderr.contains("topsecret"));
    assert!(sandbox.path("run/adapter_model/adapter_model.safetensors").is_file());

    let relative = ["--set", "logging.log_step_size=relative"];
    let args = [&["train", "-Y", "cfg.yaml", "--output", "other"], relative.as_slice()].concat();
    sandbox.run(&args).failure(2, &["logging.log_step_size", "whole numbers"]);
    let neptune = ["train", "-Y", "cfg.yaml", "--output", "other", "--set", "logging.logger=Neptune"];
    let trained = sandbox.run(&neptune).success();
    assert!(trained.stderr.contains("nothing is sent to Neptune"), "{}", trained.stderr);
}
