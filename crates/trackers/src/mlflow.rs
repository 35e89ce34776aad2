//! MLflow: the REST interface of a tracking server.
//!
//! An experiment there is a folder of runs; a run has parameters, which can be given once, and series of numbers. The server
//! keeps a number that is sent twice (same name, step, time and value) only once, so that nothing is doubled when this process
//! is killed between the server's answer and its own memory of it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tunesmith_http::{Authorization, HttpError, JsonService, Secret};

use crate::error::TrackerError;
use crate::points::{Ending, Point};
use crate::tracker::{Opened, RunInfo, Tracker};

/// For a whole request.
const TIMEOUT: Duration = Duration::from_secs(20);
/// What the server takes at once.
const MAX_PARAMS: usize = 100;
/// Longer values are cut: older servers refuse them.
const MAX_PARAM_CHARS: usize = 500;
/// The experiment that every server has.
const DEFAULT_EXPERIMENT: &str = "Default";

/// A tracking server and the experiment on it.
#[derive(Debug, Clone)]
pub struct MlflowServer {
    service: JsonService,
    experiment: String,
}

/// A run on a server.
pub(crate) struct Mlflow {
    server: MlflowServer,
    run_id: String,
}

impl MlflowServer {
    /// The server that `MLFLOW_TRACKING_URI` names, with `MLFLOW_TRACKING_TOKEN`, or `MLFLOW_TRACKING_USERNAME` and
    /// `MLFLOW_TRACKING_PASSWORD`, read through `variable`. An empty `experiment` means `MLFLOW_EXPERIMENT_NAME`, or `Default`.
    ///
    /// # Errors
    /// There is no address, or it is none of a server.
    pub fn from_variables(
        experiment: &str,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, TrackerError> {
        let text = |name: &str| {
            variable(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
        };
        let hint = "set it to the address of a tracking server, such as http://localhost:5000, in the environment of the \
                    run; or set logging.logger to None";
        let wrong = |reason: String| TrackerError::Setting { reason, hint: hint.to_owned() };
        let address = text("MLFLOW_TRACKING_URI").ok_or_else(|| {
            wrong("logging.logger is MLflow, but MLFLOW_TRACKING_URI is not set".to_owned())
        })?;
        let authorization = match (text("MLFLOW_TRACKING_TOKEN"), text("MLFLOW_TRACKING_USERNAME")) {
            (Some(token), _) => Authorization::Bearer(token.into()),
            (None, Some(username)) => {
                let password = text("MLFLOW_TRACKING_PASSWORD").map(Secret::from).unwrap_or_default();
                Authorization::Basic { username, password }
            }
            (None, None) => Authorization::None,
        };
        let service = JsonService::new(&address, authorization, TIMEOUT);
        // What is said ends in the log of the run, where addresses have no place.
        let service = service.map(|service| service.called("the server")).map_err(|error| {
            wrong(format!("MLFLOW_TRACKING_URI: {error}; folders and databases are MLflow's own affair"))
        })?;
        let named = Some(experiment.trim().to_owned()).filter(|name| !name.is_empty());
        let experiment = named.or_else(|| text("MLFLOW_EXPERIMENT_NAME"));
        Ok(Self { service, experiment: experiment.unwrap_or_else(|| DEFAULT_EXPERIMENT.to_owned()) })
    }

    fn post(&self, what: &str, body: &Value) -> Result<Value, TrackerError> {
        Ok(self.service.post(&format!("/api/2.0/mlflow/{what}"), body)?)
    }

    fn get(&self, what: &str, query: &[(&str, &str)]) -> Result<Value, TrackerError> {
        let query: Vec<String> =
            query.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        Ok(self.service.get(&format!("/api/2.0/mlflow/{what}?{}", query.join("&")))?)
    }

    fn text(&self, answer: &Value, pointer: &str, what: &'static str) -> Result<String, TrackerError> {
        let text = answer.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        text.ok_or_else(|| TrackerError::Answer { address: self.service.shown().to_owned(), what })
    }

    /// The experiment's id; it is made if it is missing.
    fn experiment_id(&self) -> Result<String, TrackerError> {
        let found = || {
            let answer = self.get("experiments/get-by-name", &[("experiment_name", &self.experiment)])?;
            self.text(&answer, "/experiment/experiment_id", "experiment_id")
        };
        match found() {
            Err(TrackerError::Http(HttpError::Status { status: 404, .. })) => {}
            outcome => return outcome,
        }
        match self.post("experiments/create", &json!({"name": self.experiment})) {
            // Another run was quicker.
            Err(TrackerError::Http(HttpError::Status { status: 400, .. })) => found(),
            made => self.text(&made?, "/experiment_id", "experiment_id"),
        }
    }
}

impl Mlflow {
    pub(crate) fn new(server: MlflowServer) -> Self {
        Self { server, run_id: String::new() }
    }

    /// Whether the server still has the run that is remembered; it is then marked as running.
    fn reopen(&self, run_id: &str) -> Result<bool, TrackerError> {
        let body = json!({"run_id": run_id, "status": "RUNNING"});
        match self.server.post("runs/update", &body) {
            Ok(_) => Ok(true),
            Err(TrackerError::Http(HttpError::Status { status: 400 | 404, .. })) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn create(&self, run: &RunInfo) -> Result<String, TrackerError> {
        let experiment_id = self.server.experiment_id()?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let body = json!({
            "experiment_id": experiment_id, "run_name": run.name, "start_time": now.as_millis() as u64,
            "tags": [{"key": "mlflow.source.name", "value": "tunesmith"},
                     {"key": "tunesmith.version", "value": env!("CARGO_PKG_VERSION")}],
        });
        let made = self.server.post("runs/create", &body)?;
        self.server.text(&made, "/run/info/run_id", "run_id")
    }

    /// Settings of the run; an error text where the server does not take them, which costs no numbers.
    fn log_params(&self, run_id: &str, run: &RunInfo) -> Result<Option<String>, TrackerError> {
        for params in run.params.chunks(MAX_PARAMS) {
            let param = |(name, value): &(String, String)| {
                let value: String = value.chars().take(MAX_PARAM_CHARS).collect();
                json!({"key": name, "value": value})
            };
            let params: Vec<Value> = params.iter().map(param).collect();
            match self.server.post("runs/log-batch", &json!({"run_id": run_id, "params": params})) {
                Ok(_) => {}
                Err(error) if error.is_passing() => return Err(error),
                Err(error) => {
                    return Ok(Some(format!("MLflow does not take the settings of this run: {error}")));
                }
            }
        }
        Ok(None)
    }
}

impl Tracker for Mlflow {
    fn name(&self) -> &'static str {
        "MLflow"
    }

    fn open(&mut self, run: &RunInfo, known: &Value) -> Result<Opened, TrackerError> {
        // A try that broke off after the run was made goes on with it, too.
        let known_id = match known["run_id"].as_str() {
            Some(id) => id.to_owned(),
            None => self.run_id.clone(),
        };
        let is_known = !known_id.is_empty() && self.reopen(&known_id)?;
        let mut warning = None;
        self.run_id = if is_known { known_id } else { self.create(run)? };
        if !is_known || known["run_id"].is_null() {
            warning = self.log_params(&self.run_id, run)?;
        }
        let place = format!("MLflow, experiment {}, run {}", self.server.experiment, self.run_id);
        Ok(Opened { is_continued: is_known, place, warning })
    }

    fn log(&mut self, points: &[Point]) -> Result<(), TrackerError> {
        let metric = |point: &Point| json!({"key": point.series, "value": point.value, "step": point.step, "timestamp": point.unix_secs * 1000});
        let metrics: Vec<Value> = points.iter().map(metric).collect();
        self.server.post("runs/log-batch", &json!({"run_id": self.run_id, "metrics": metrics}))?;
        Ok(())
    }

    fn end(&mut self, ending: Ending, unix_secs: u64) -> Result<(), TrackerError> {
        let status = match ending {
            Ending::Finished => "FINISHED",
            Ending::Stopped => "KILLED",
            Ending::Failed => "FAILED",
        };
        let body = json!({"run_id": self.run_id, "status": status, "end_time": unix_secs * 1000});
        self.server.post("runs/update", &body)?;
        Ok(())
    }

    fn memory(&self) -> Value {
        json!({"run_id": self.run_id})
    }
}

/// A value of a query.
fn encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(variables: &[(&str, &str)]) -> Result<MlflowServer, String> {
        let variable = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        MlflowServer::from_variables("", variable).map_err(|error| error.to_string())
    }

    #[test]
    fn the_usual_variables_name_the_server() {
        assert!(server(&[]).unwrap_err().contains("MLFLOW_TRACKING_URI is not set"));
        assert!(server(&[("MLFLOW_TRACKING_URI", "sqlite:///a.db")]).unwrap_err().contains("sqlite"));
        let found =
            server(&[("MLFLOW_TRACKING_URI", "http://h:5000/"), ("MLFLOW_TRACKING_TOKEN", "topsecret")])
                .unwrap();
        assert_eq!((found.service.shown(), found.experiment.as_str()), ("the server", "Default"));
        assert!(!format!("{found:?}").contains("topsecret"));
        assert_eq!(encoded("a b/ü"), "a%20b%2F%C3%BC");
    }
}
