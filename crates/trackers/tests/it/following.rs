//! From lines of `events.jsonl` to MLflow's requests.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tunesmith_trackers::{Destination, MEMORY_FILE, Message, MlflowServer, RunInfo, Tracking};

use crate::stub::{Reply, Request, Stub};

const PATIENCE: Duration = Duration::from_secs(10);

/// A run as the server has it.
#[derive(Debug, Default, Clone)]
struct ServerRun {
    name: String,
    params: BTreeMap<String, String>,
    /// Series, step, value.
    metrics: Vec<(String, u64, f64)>,
    statuses: Vec<String>,
}

/// As much of MLflow's server as a run needs.
#[derive(Debug, Default)]
struct Server {
    runs: Mutex<Vec<ServerRun>>,
    is_gone: AtomicBool,
}

impl Server {
    fn answer(&self, request: &Request) -> Reply {
        if self.is_gone.load(Ordering::SeqCst) {
            return Reply::new("503 Service Unavailable", "later");
        }
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let mut runs = self.runs.lock().unwrap();
        let idx = body["run_id"].as_str().and_then(|id| id.strip_prefix("run-")?.parse::<usize>().ok());
        let path = request.path.strip_prefix("/api/2.0/mlflow/").unwrap_or_default();
        match (path.split('?').next().unwrap_or_default(), idx.and_then(|idx| runs.get_mut(idx))) {
            ("experiments/get-by-name", _) => Reply::new("404 Not Found", "{}"),
            ("experiments/create", _) => Reply::ok(json!({"experiment_id": "7"}).to_string()),
            ("runs/create", _) => {
                assert_eq!(body["experiment_id"], "7");
                let name = body["run_name"].as_str().unwrap_or_default().to_owned();
                runs.push(ServerRun { name, ..ServerRun::default() });
                Reply::ok(json!({"run": {"info": {"run_id": format!("run-{}", runs.len() - 1)}}}).to_string())
            }
            ("runs/log-batch", Some(run)) => {
                let list = |name: &str| body[name].as_array().cloned().unwrap_or_default();
                let (params, metrics) = (list("params"), list("metrics"));
                assert!(params.len() <= 100 && metrics.len() <= 1000);
                let text = |value: &Value| value.as_str().unwrap().to_owned();
                run.params.extend(params.iter().map(|param| (text(&param["key"]), text(&param["value"]))));
                run.metrics.extend(metrics.iter().map(|metric| {
                    assert_eq!(metric["timestamp"], 5000);
                    (
                        text(&metric["key"]),
                        metric["step"].as_u64().unwrap(),
                        metric["value"].as_f64().unwrap(),
                    )
                }));
                Reply::ok("{}")
            }
            ("runs/update", Some(run)) => {
                run.statuses.push(body["status"].as_str().unwrap_or_default().to_owned());
                Reply::ok("{}")
            }
            _ => Reply::new("404 Not Found", json!({"error_code": "RESOURCE_DOES_NOT_EXIST"}).to_string()),
        }
    }

    fn runs(&self) -> Vec<ServerRun> {
        self.runs.lock().unwrap().clone()
    }
}

/// A run folder and a server for it.
struct Bench {
    folder: TempDir,
    server: Arc<Server>,
    stub: Stub,
}

impl Bench {
    fn new() -> Self {
        let server = Arc::new(Server::default());
        let answers = Arc::clone(&server);
        let stub = Stub::start(move |request| answers.answer(request));
        Self { folder: tempfile::tempdir().unwrap(), server, stub }
    }

    fn events(&self) -> PathBuf {
        self.folder.path().join("events.jsonl")
    }

    fn follow(&self) -> Tracking {
        let endpoint = self.stub.endpoint.clone();
        let variable = move |name: &str| match name {
            "MLFLOW_TRACKING_URI" => Some(endpoint.clone()),
            "MLFLOW_TRACKING_USERNAME" => Some("me".to_owned()),
            "MLFLOW_TRACKING_PASSWORD" => Some("topsecret".to_owned()),
            _ => None,
        };
        let destination = Destination::Mlflow(MlflowServer::from_variables("tests", variable).unwrap());
        let params = (0..150).map(|idx| (format!("section.field_{idx}"), "ü".repeat(idx * 10)));
        let run = RunInfo { name: "tiny".to_owned(), params: params.collect() };
        let mut tracking = Tracking::new(destination, self.folder.path(), run);
        tracking.begin();
        tracking
    }
}

fn step(n: u64) -> String {
    let event = json!({"event": "step", "step": n, "loss": 1.0 / n as f64, "learning_rate": 0.1, "n_samples_seen": 2 * n,
        "timing": {"unix_secs": 5}});
    format!("{event}\n")
}

fn lines(steps: std::ops::Range<u64>, end: &str) -> String {
    let started = "{\"event\":\"run_started\"}\n";
    let end = if end.is_empty() {
        String::new()
    } else {
        format!("{{\"event\":\"{end}\",\"timing\":{{\"unix_secs\":9}}}}\n")
    };
    [started.to_owned(), steps.map(step).collect(), end].concat()
}

/// What the server should have of steps.
fn metrics(steps: std::ops::Range<u64>) -> Vec<(String, u64, f64)> {
    let of_step = |n| [("train/loss".to_owned(), 2 * n, 1.0 / n as f64), ("meta/lr".to_owned(), 2 * n, 0.1)];
    steps.flat_map(of_step).collect()
}

/// Fails unless the server has these. A number read from JSON may be one in the last place off.
#[track_caller]
fn assert_has(run: &ServerRun, expected: &[(String, u64, f64)]) {
    assert_eq!(run.metrics.len(), expected.len());
    for (found, expected) in run.metrics.iter().zip(expected) {
        assert_eq!((&found.0, found.1), (&expected.0, expected.1));
        assert!((found.2 - expected.2).abs() <= 1e-15 * expected.2, "{found:?} {expected:?}");
    }
}

fn warnings(messages: &[Message]) -> Vec<&str> {
    messages.iter().filter(|message| message.is_warning).map(|message| message.text.as_str()).collect()
}

#[test]
fn a_resumed_run_goes_on_without_gaps_and_without_a_number_twice() {
    let bench = Bench::new();
    fs::write(bench.events(), lines(1..1200, "run_stopped")).unwrap();
    let messages = bench.follow().finish(PATIENCE);
    assert_eq!(warnings(&messages), [""; 0]);
    let run = &bench.server.runs()[0];
    assert_has(run, &metrics(1..1200));
    assert_eq!((run.name.as_str(), &run.statuses), ("tiny", &vec!["KILLED".to_owned()]));
    assert_eq!(run.params.len(), 150);
    assert_eq!(run.params["section.field_149"].chars().count(), 500);

    // The run goes on from an older checkpoint, and its lines have other lengths.
    let longer = |lines: String| lines.replace("\"unix_secs\":5", "\"unix_secs\":5,\"secs\":0.25");
    fs::write(bench.events(), longer(lines(1..1100, ""))).unwrap();
    let tracking = bench.follow();
    fs::write(bench.events(), longer(lines(1..1300, "run_finished"))).unwrap();
    let messages = tracking.finish(PATIENCE);
    assert_eq!(warnings(&messages), [""; 0]);
    let runs = bench.server.runs();
    assert_eq!(runs.len(), 1);
    assert_has(&runs[0], &metrics(1..1300));
    assert_eq!(runs[0].statuses, ["KILLED", "RUNNING", "FINISHED"]);

    let requests = bench.stub.requests();
    assert!(requests.iter().all(|request| request.header("authorization") == "Basic bWU6dG9wc2VjcmV0"));
    let memory = fs::read_to_string(bench.folder.path().join(MEMORY_FILE)).unwrap();
    assert!(!memory.contains("topsecret") && !memory.contains("127.0.0.1"), "{memory}");

    // A server that has not got the run any more gets all of it.
    bench.server.runs.lock().unwrap().clear();
    bench.follow().finish(PATIENCE);
    assert_has(&bench.server.runs()[0], &metrics(1..1300));
}

#[test]
fn a_server_that_is_gone_for_a_while_misses_nothing() {
    let bench = Bench::new();
    bench.server.is_gone.store(true, Ordering::SeqCst);
    fs::write(bench.events(), lines(1..3, "")).unwrap();
    let tracking = bench.follow();
    let started = Instant::now();
    let mut messages = Vec::new();
    while warnings(&messages).is_empty() && started.elapsed() < PATIENCE {
        messages.extend(tracking.messages());
        thread::sleep(Duration::from_millis(20));
    }
    assert!(warnings(&messages)[0].contains("503"), "{messages:?}");
    fs::write(bench.events(), lines(1..6, "run_finished")).unwrap();
    bench.server.is_gone.store(false, Ordering::SeqCst);
    let messages = tracking.finish(PATIENCE);
    assert!(messages.iter().any(|message| message.text.contains("takes numbers again")), "{messages:?}");
    assert_has(&bench.server.runs()[0], &metrics(1..6));
}

#[test]
fn a_server_that_never_answers_does_not_hold_up_the_end() {
    let bench = Bench::new();
    let silent = Stub::start(|_| {
        thread::sleep(Duration::from_secs(60));
        Reply::ok("{}")
    });
    fs::write(bench.events(), lines(1..3, "run_finished")).unwrap();
    let bench = Bench { stub: silent, ..bench };
    let started = Instant::now();
    let tracking = bench.follow();
    assert!(started.elapsed() < Duration::from_secs(1));
    let messages = tracking.finish(Duration::from_secs(1));
    assert!(warnings(&messages)[0].contains("resuming it sends what is missing"), "{messages:?}");
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());

    // Once the server is there, the same run is sent after all.
    let bench = Bench { stub: Bench::new().stub, ..bench };
    assert_eq!(warnings(&bench.follow().finish(PATIENCE)), [""; 0]);
}

#[test]
fn a_server_that_refuses_is_left_alone() {
    let bench = Bench::new();
    let stub = Stub::start(|_| Reply::new("401 Unauthorized", "{\"message\": \"who is topsecret?\"}"));
    fs::write(bench.events(), lines(1..3, "")).unwrap();
    let bench = Bench { stub, ..bench };
    let tracking = bench.follow();
    let started = Instant::now();
    let messages = tracking.finish(PATIENCE);
    assert!(started.elapsed() < PATIENCE / 2);
    let warnings = warnings(&messages);
    assert!(
        warnings.len() == 1 && warnings[0].contains("401") && !warnings[0].contains("topsecret"),
        "{warnings:?}"
    );
    assert_eq!(bench.stub.requests().len(), 1);
}
