//! One question to the judge: a chat completion, with patience.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tunesmith_http::{HttpError, JsonService};

use super::endpoint::JudgeEndpoint;
use crate::error::TrainError;

/// What the judge is told to be.
const ROLE: &str =
    "You are a careful and impartial grader of answers. You keep to the format that you are asked for.";
const MAX_TOKENS: u32 = 1024;
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(20);

/// A judge at an endpoint.
#[derive(Debug)]
pub(super) struct Chat {
    service: JsonService,
    path: String,
    model: String,
    n_attempts: usize,
    /// The server has refused the limit of tokens or the temperature as they are usually given.
    is_newer: AtomicBool,
}

impl Chat {
    /// # Errors
    /// No model is named.
    pub(super) fn new(endpoint: &JudgeEndpoint, model: &str) -> Result<Self, TrainError> {
        if model.trim().is_empty() {
            return Err(TrainError::Judge { reason: "prediction.metric_gpt_model is empty".to_owned() });
        }
        Ok(Self {
            service: endpoint.service.clone(),
            path: endpoint.path.clone(),
            model: model.trim().to_owned(),
            n_attempts: endpoint.n_attempts,
            is_newer: AtomicBool::new(false),
        })
    }

    /// Model and host.
    pub(super) fn describe(&self) -> String {
        format!("{} at {}", self.model, self.service.shown())
    }

    /// What the judge says to `prompt`. Failures that may pass are tried again after a while; `wait` does the waiting and says
    /// whether it is still wanted.
    ///
    /// # Errors
    /// Of the last attempt.
    pub(super) fn ask(&self, prompt: &str, wait: &dyn Fn(Duration) -> bool) -> Result<String, HttpError> {
        let mut pause = FIRST_WAIT;
        for attempt in 1.. {
            match self.once(prompt) {
                Err(error) if error.is_passing() && attempt < self.n_attempts => {
                    let asked = match &error {
                        HttpError::Status { retry_after, .. } => *retry_after,
                        _ => None,
                    };
                    if !wait(asked.unwrap_or(pause).min(LONGEST_WAIT)) {
                        return Err(error);
                    }
                    pause *= 2;
                }
                outcome => return outcome,
            }
        }
        Err(HttpError::Answer {
            address: self.service.shown().to_owned(),
            reason: "it was not asked".to_owned(),
        })
    }

    fn once(&self, prompt: &str) -> Result<String, HttpError> {
        let was_newer = self.is_newer.load(Ordering::Relaxed);
        let outcome = self.service.post(&self.path, &self.body(prompt, was_newer));
        let answer = match outcome {
            Err(HttpError::Status { status: 400, message, .. })
                if !was_newer && (message.contains("max_tokens") || message.contains("temperature")) =>
            {
                self.is_newer.store(true, Ordering::Relaxed);
                self.service.post(&self.path, &self.body(prompt, true))?
            }
            outcome => outcome?,
        };
        let text = answer.pointer("/choices/0/message/content").and_then(Value::as_str);
        text.map(str::to_owned).ok_or_else(|| HttpError::Answer {
            address: self.service.shown().to_owned(),
            reason: "the answer has no choices[0].message.content".to_owned(),
        })
    }

    /// Newer models of OpenAI call the limit otherwise and have no temperature.
    fn body(&self, prompt: &str, is_newer: bool) -> Value {
        let messages = json!([{"role": "system", "content": ROLE}, {"role": "user", "content": prompt}]);
        match is_newer {
            false => {
                json!({"model": self.model, "messages": messages, "temperature": 0, "max_tokens": MAX_TOKENS})
            }
            true => json!({"model": self.model, "messages": messages, "max_completion_tokens": MAX_TOKENS}),
        }
    }
}
