//! The studio as a process, and a small client for it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use ureq::http::Response;
use ureq::{Agent, Body};

use crate::harness::{Sandbox, rows, tiny_model};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running studio; killed when it is dropped.
pub(crate) struct Studio {
    child: Child,
    url: String,
    agent: Agent,
}

impl Drop for Studio {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One message of an event stream.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Message {
    pub(crate) id: String,
    pub(crate) event: String,
    pub(crate) data: String,
}

impl Message {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap()
    }
}

impl Studio {
    /// A studio on the work folder `work` of the sandbox, in whose cache the tiny model is.
    pub(crate) fn start(sandbox: &Sandbox) -> Self {
        let cached = sandbox.path("cache/models/tiny.gguf");
        if !cached.exists() {
            std::fs::create_dir_all(cached.parent().unwrap()).unwrap();
            std::fs::copy(tiny_model(), cached).unwrap();
            sandbox.write("rows.jsonl", rows(20));
        }
        let mut command = sandbox.command(&["studio", "--port", "0", "--no-open", "--workdir", "work"]);
        command.stdout(Stdio::piped()).stderr(Stdio::inherit()).env_remove("TUNESMITH_PASSWORD");
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("studio: ").unwrap().to_owned();
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            .build()
            .new_agent();
        Self { child, url, agent }
    }

    /// As a power cut would.
    pub(crate) fn kill_hard(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// The server's own process.
    #[cfg(target_os = "linux")]
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn response(&self, method: &str, path: &str, body: Option<&Value>) -> Response<Body> {
        let url = if path.starts_with("/v1") {
            format!("{}{path}", self.url)
        } else {
            format!("{}/api/v1{path}", self.url)
        };
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(url)
            .header("X-Tunesmith", "1")
            .header("Content-Type", "application/json");
        match body {
            Some(body) => self.agent.run(request.body(body.to_string()).unwrap()).unwrap(),
            None => self.agent.run(request.body(()).unwrap()).unwrap(),
        }
    }

    /// Status and body.
    pub(crate) fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        let mut response = self.response(method, path, body);
        let text = response.body_mut().read_to_string().unwrap();
        let value =
            if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap_or(json!(text)) };
        (response.status().as_u16(), value)
    }

    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Value {
        let (status, body) = self.ask("GET", path, None);
        assert_eq!(status, 200, "GET {path}: {body}");
        body
    }

    #[track_caller]
    pub(crate) fn send(&self, method: &str, path: &str, body: &Value, expected: u16) -> Value {
        let (status, answer) = self.ask(method, path, Some(body));
        assert_eq!(status, expected, "{method} {path}: {answer}");
        answer
    }

    /// An answer that is a file.
    pub(crate) fn download(&self, path: &str) -> Vec<u8> {
        let mut response = self.response("GET", path, None);
        assert_eq!(response.status().as_u16(), 200, "{path}");
        response.body_mut().read_to_vec().unwrap()
    }

    /// Makes an experiment of the sandbox's rows and returns its id.
    pub(crate) fn create(&self, sandbox: &Sandbox, name: &str, more: &Value) -> String {
        let mut values = values(&sandbox.path("rows.jsonl"));
        values.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let made = self.send("POST", "/experiments", &json!({"name": name, "values": values}), 201);
        made[0]["id"].as_str().unwrap().to_owned()
    }

    /// Waits until the experiment is as it should be, and returns it.
    #[track_caller]
    pub(crate) fn wait(&self, id: &str, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let started = Instant::now();
        loop {
            let experiment = self.get(&format!("/experiments/{id}"));
            if is_so(&experiment) {
                return experiment;
            }
            assert!(started.elapsed() < PATIENCE, "not {what}: {experiment}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    #[track_caller]
    pub(crate) fn wait_for_status(&self, id: &str, status: &str) -> Value {
        self.wait(id, status, |experiment| experiment["status"] == status)
    }

    /// Waits until a job has ended well, and returns its result.
    pub(crate) fn wait_for_job(&self, job: &Value) -> Value {
        let ended = self.wait_for_end(job);
        assert_eq!(ended["state"], "done", "{ended}");
        ended["result"].clone()
    }

    /// Waits until a job has ended, well or not, and returns it.
    pub(crate) fn wait_for_end(&self, job: &Value) -> Value {
        let started = Instant::now();
        loop {
            let job = self.get(&format!("/jobs/{}", job["id"].as_str().unwrap()));
            if job["state"] != "running" {
                return job;
            }
            assert!(started.elapsed() < PATIENCE, "{job}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Messages of an event stream, in order, while `is_wanted` says that more are wanted.
    pub(crate) fn listen(
        &self,
        path: &str,
        last_id: Option<&str>,
        mut is_wanted: impl FnMut(&Message) -> bool,
    ) -> Vec<Message> {
        let mut request =
            ureq::http::Request::builder().method("GET").uri(format!("{}/api/v1{path}", self.url));
        if let Some(id) = last_id {
            request = request.header("Last-Event-ID", id);
        }
        let response = self.agent.run(request.body(()).unwrap()).unwrap();
        messages(response, &mut is_wanted)
    }

    /// The same for a question.
    pub(crate) fn stream(&self, path: &str, body: &Value) -> Vec<Message> {
        messages(self.response("POST", path, Some(body)), &mut |_| true)
    }
}

fn messages(response: Response<Body>, is_wanted: &mut dyn FnMut(&Message) -> bool) -> Vec<Message> {
    let status = response.status().as_u16();
    let reader = BufReader::new(response.into_body().into_reader());
    assert_eq!(status, 200);
    let (mut found, mut message) = (Vec::new(), Message::default());
    for line in reader.lines() {
        let line = line.unwrap();
        if line.is_empty() {
            if message != Message::default() {
                let is_last = !is_wanted(&message);
                found.push(std::mem::take(&mut message));
                if is_last {
                    break;
                }
            }
        } else if let Some((field, value)) = line.split_once(':') {
            let value = value.strip_prefix(' ').unwrap_or(value).to_owned();
            match field {
                "id" => message.id = value,
                "event" => message.event = value,
                "data" => message.data.push_str(&value),
                _ => {}
            }
        }
    }
    found
}

/// Fields of an experiment that trains the tiny model in a moment.
pub(crate) fn values(table: &Path) -> Value {
    json!({
        "llm_backbone": tiny_model().display().to_string(),
        "dataset.train_dataframe": table.display().to_string(),
        "dataset.validation_size": 0.2,
        "dataset.system_column": null,
        "dataset.prompt_column": ["prompt"],
        "dataset.answer_column": "answer",
        "dataset.parent_id_column": null,
        "dataset.text_format": "chat_template",
        "tokenizer.max_length": 64,
        "architecture.backbone_dtype": "float32",
        "environment.mixed_precision": false,
        "environment.seed": 3,
        "environment.device": "cpu",
        "prediction.metric": "Perplexity",
        "prediction.max_length_inference": 8,
        "training.learning_rate": 0.01,
        "training.batch_size": 2,
        "training.epochs": 2,
        "training.lora_r": 4,
    })
}

/// Ends a process as the system's memory killer would.
pub(crate) fn kill_process(pid: u64) {
    let status = Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap();
    assert!(status.success());
}
