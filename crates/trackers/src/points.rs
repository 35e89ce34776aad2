//! What a line of `events.jsonl` means to a tracker: points of series, by the names that H2O LLM Studio gives them.
//!
//! | series | from |
//! |---|---|
//! | `train/loss`, `train/gradient_norm` | `step` |
//! | `train/chosen_rewards`, `train/rejected_rewards`, `train/reward_margin`, `train/reward_accuracy` | `step`, of preferences |
//! | `meta/lr`, `meta/lr_diff` | `step` |
//! | `validation/loss`, `validation/NAME` | `evaluation`, each of its metrics |
//!
//! The step of a point is the number of samples seen so far, as there.

use serde_json::Value;

/// One number of a series.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// `part/name`.
    pub series: String,
    /// Samples seen so far.
    pub step: u64,
    /// Finite.
    pub value: f64,
    /// When the event was written: seconds since 1970-01-01 UTC.
    pub unix_secs: u64,
}

/// How a run ended, as far as its events tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    Finished,
    Stopped,
    Failed,
}

/// What one event says.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Entry {
    /// Position among the events that a resumed run repeats, from 1; 0 for others.
    pub(crate) position: u64,
    pub(crate) points: Vec<Point>,
    pub(crate) ending: Option<Ending>,
    pub(crate) unix_secs: u64,
}

/// Reads events in their order.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Interpreter {
    n_repeatable: u64,
    n_samples_seen: u64,
}

impl Interpreter {
    /// What the next event says; one that is not known says nothing.
    pub(crate) fn entry(&mut self, event: &Value) -> Entry {
        let unix_secs = event["timing"]["unix_secs"].as_u64().unwrap_or(0);
        let mut entry = Entry { unix_secs, ..Entry::default() };
        let kind = event["event"].as_str().unwrap_or_default();
        if matches!(kind, "run_started" | "step" | "evaluation") {
            self.n_repeatable += 1;
            entry.position = self.n_repeatable;
        }
        let mut numbers: Vec<(String, &Value)> = Vec::new();
        match kind {
            "step" => {
                self.n_samples_seen = event["n_samples_seen"].as_u64().unwrap_or(self.n_samples_seen);
                let rewards = &event["rewards"];
                let named = [
                    ("train/loss", &event["loss"]),
                    ("meta/lr", &event["learning_rate"]),
                    ("meta/lr_diff", &event["differential_learning_rate"]),
                    ("train/gradient_norm", &event["gradient_norm"]),
                    ("train/chosen_rewards", &rewards["chosen"]),
                    ("train/rejected_rewards", &rewards["rejected"]),
                    ("train/reward_margin", &rewards["margin"]),
                    ("train/reward_accuracy", &rewards["accuracy"]),
                ];
                numbers.extend(named.map(|(series, value)| (series.to_owned(), value)));
            }
            "evaluation" => {
                numbers.push(("validation/loss".to_owned(), &event["loss"]));
                let metrics = event["metrics"].as_object().into_iter().flatten();
                numbers.extend(metrics.map(|(name, value)| (format!("validation/{name}"), value)));
            }
            "run_finished" => entry.ending = Some(Ending::Finished),
            "run_stopped" => entry.ending = Some(Ending::Stopped),
            "run_failed" => entry.ending = Some(Ending::Failed),
            _ => {}
        }
        let step = self.n_samples_seen;
        let point = |(series, value): (String, &Value)| {
            // What is missing or not finite is null in JSON.
            let value = value.as_f64()?;
            Some(Point { series, step, value, unix_secs })
        };
        entry.points = numbers.into_iter().filter_map(point).collect();
        entry
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn events_become_points_at_the_samples_seen() {
        let mut interpreter = Interpreter::default();
        let started = interpreter.entry(&json!({"event": "run_started", "timing": {"unix_secs": 4}}));
        assert_eq!((started.position, started.points.len()), (1, 0));
        let step = json!({"event": "step", "step": 3, "loss": 1.5, "learning_rate": 0.01, "gradient_norm": null,
            "rewards": {"chosen": 0.5, "rejected": -0.5, "margin": 1.0, "accuracy": 1.0}, "n_samples_seen": 24,
            "timing": {"unix_secs": 5}});
        let entry = interpreter.entry(&step);
        let names: Vec<&str> = entry.points.iter().map(|point| point.series.as_str()).collect();
        let rewards = [
            "train/chosen_rewards",
            "train/rejected_rewards",
            "train/reward_margin",
            "train/reward_accuracy",
        ];
        assert_eq!(names, [["train/loss", "meta/lr"].as_slice(), &rewards].concat());
        let expected = Point { series: "train/loss".to_owned(), step: 24, value: 1.5, unix_secs: 5 };
        assert_eq!((entry.position, &entry.points[0]), (2, &expected));
        let checkpoint = interpreter.entry(&json!({"event": "checkpoint", "n_bytes": 7}));
        assert_eq!((checkpoint.position, checkpoint.points.len()), (0, 0));
        let evaluation = json!({"event": "evaluation", "loss": 2.0, "metrics": {"BLEU": 3.0, "GPT": null}});
        let entry = interpreter.entry(&evaluation);
        let found: Vec<_> = entry.points.iter().map(|point| (point.series.as_str(), point.step)).collect();
        assert_eq!((entry.position, found), (3, vec![("validation/loss", 24), ("validation/BLEU", 24)]));
        assert_eq!(interpreter.entry(&json!({"event": "run_failed"})).ending, Some(Ending::Failed));
    }
}
