//! How far a run is, from its events: read on from where the last look ended.

use std::io;
use std::path::Path;

use serde_json::Value;

use super::event_file::{Found, Place, lines_after};

/// The newest figures of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Progress {
    place: Place,
    pub(crate) step: u64,
    pub(crate) n_steps: u64,
    pub(crate) eta_secs: Option<f64>,
    pub(crate) run_secs: Option<f64>,
    /// What the run is judged by, and whether more of it is better.
    pub(crate) metric_name: Option<String>,
    pub(crate) higher_is_better: bool,
    pub(crate) metric: Option<f64>,
    pub(crate) train_loss: Option<f64>,
    pub(crate) validation_loss: Option<f64>,
    pub(crate) tokens_per_sec: Option<f64>,
    pub(crate) peak_memory_bytes: Option<u64>,
    /// When the first and the last line were written.
    pub(crate) first_unix_secs: Option<f64>,
    pub(crate) last_unix_secs: Option<f64>,
}

impl Progress {
    /// Takes in what was written since the last look. Returns whether there was anything.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(crate) fn update(&mut self, path: &Path) -> io::Result<bool> {
        let before = self.place;
        let mut was_cut = false;
        loop {
            match lines_after(path, self.place)? {
                Found::Cut => {
                    *self = Self::default();
                    was_cut = true;
                }
                Found::Lines(lines) if lines.is_empty() => return Ok(was_cut || self.place != before),
                Found::Lines(lines) => {
                    for (place, line) in lines {
                        self.place = place;
                        // A line that is no JSON is of another program's making and not counted.
                        if let Ok(event) = serde_json::from_str(&line) {
                            self.take(&event);
                        }
                    }
                }
            }
        }
    }

    fn take(&mut self, event: &Value) {
        let number = |name: &str| event.get(name).and_then(Value::as_f64);
        let whole = |name: &str| event.get(name).and_then(Value::as_u64);
        let timing = |name: &str| event.get("timing")?.get(name)?.as_f64();
        match event.get("event").and_then(Value::as_str).unwrap_or_default() {
            "run_started" | "run_extended" => self.n_steps = whole("n_steps").unwrap_or(0),
            "step" => {
                self.train_loss = number("loss").or(self.train_loss);
                self.eta_secs = timing("eta_secs");
                self.tokens_per_sec = timing("tokens_per_sec").or(self.tokens_per_sec);
            }
            "evaluation" => {
                self.metric = number("metric_value").or_else(|| number("perplexity"));
                self.metric_name = event.get("metric").and_then(Value::as_str).map(str::to_owned);
                self.higher_is_better =
                    event.get("higher_is_better").and_then(Value::as_bool).unwrap_or_default();
                self.validation_loss = number("loss");
            }
            "run_finished" | "run_stopped" | "run_failed" => self.eta_secs = None,
            _ => {}
        }
        self.step = whole("step").unwrap_or(self.step);
        self.run_secs = timing("run_secs").or(self.run_secs);
        self.last_unix_secs = timing("unix_secs").or(self.last_unix_secs);
        self.first_unix_secs = self.first_unix_secs.or(self.last_unix_secs);
        if let Some(peak) = timing("peak_memory_bytes") {
            self.peak_memory_bytes = Some(self.peak_memory_bytes.unwrap_or(0).max(peak as u64));
        }
    }

    /// Share of the steps that are taken, 0 to 1.
    pub(crate) fn share(&self) -> f64 {
        if self.n_steps == 0 { 0.0 } else { (self.step as f64 / self.n_steps as f64).clamp(0.0, 1.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STARTED: &str = r#"{"event":"run_started","n_steps":4,"timing":{"unix_secs":10,"run_secs":1.0}}"#;

    fn step(step: u64, loss: f64) -> String {
        format!(
            r#"{{"event":"step","step":{step},"loss":{loss},"timing":{{"unix_secs":{},"run_secs":{step}.5,"eta_secs":2,"tokens_per_sec":9,"peak_memory_bytes":{}}}}}"#,
            10 + step,
            1000 * step
        )
    }

    #[test]
    fn figures_follow_the_file_through_a_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        let mut progress = Progress::default();
        assert!(!progress.update(&path).unwrap());
        std::fs::write(&path, format!("{STARTED}\n{}\n{}", step(1, 3.0), step(2, 2.0))).unwrap();
        assert!(progress.update(&path).unwrap());
        assert_eq!((progress.step, progress.train_loss, progress.share()), (1, Some(3.0), 0.25));
        assert!(!progress.update(&path).unwrap(), "half a line is none");
        std::fs::write(&path, format!("{STARTED}\n{}\n{}\n", step(1, 3.0), step(2, 2.0))).unwrap();
        progress.update(&path).unwrap();
        assert_eq!((progress.step, progress.peak_memory_bytes), (2, Some(2000)));
        // Resumed from the first step.
        std::fs::write(&path, format!("{STARTED}\n{}\n", step(1, 3.0))).unwrap();
        assert!(progress.update(&path).unwrap());
        assert_eq!(
            (progress.step, progress.train_loss, progress.first_unix_secs),
            (1, Some(3.0), Some(10.0))
        );
    }
}
