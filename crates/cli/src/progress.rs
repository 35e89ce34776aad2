//! Shows a training run while it goes: a bar for people, plain lines for files, events for programs.

use tunesmith_train::{Evaluation, Event, EventBody, NoteLevel, Observer, RunStarted, Step, Timing};

use crate::terminal::{Bar, Terminal, human_secs};

/// Watches a run for a person.
pub(crate) struct TrainProgress<'a> {
    terminal: &'a Terminal,
    bar: Option<Bar>,
    n_steps: u64,
    step: u64,
    /// The latest step in words; stays while an evaluation is counted behind it.
    status: String,
    /// The end of the run is told by whoever started it.
    is_over: bool,
}

impl<'a> TrainProgress<'a> {
    /// Nothing is shown before the first event.
    pub(crate) fn new(terminal: &'a Terminal) -> Self {
        Self { terminal, bar: None, n_steps: 0, step: 0, status: String::new(), is_over: false }
    }

    fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.say(text),
            None => self.terminal.note(text),
        }
    }

    fn show(&mut self, message: &str) {
        if let Some(bar) = &mut self.bar {
            bar.update(self.step, message);
        }
    }

    fn started(&mut self, run: &RunStarted) {
        let RunStarted { n_parameters, n_trainable_parameters, n_train_samples, n_train_tokens, .. } = run;
        let share = 100.0 * *n_trainable_parameters as f64 / (*n_parameters).max(1) as f64;
        self.say(&format!(
            "training {} of {} parameters ({share:.2} %) on {} samples ({} tokens), {} for validation, {} steps, seed {}",
            grouped(*n_trainable_parameters),
            grouped(*n_parameters),
            grouped(*n_train_samples as u64),
            grouped(*n_train_tokens),
            grouped(run.n_validation_samples as u64),
            grouped(run.n_steps),
            run.seed,
        ));
        self.n_steps = run.n_steps;
    }

    fn stepped(&mut self, step: &Step, timing: &Timing) {
        self.step = step.step;
        self.status = status(step, timing);
        if self.bar.is_none() {
            self.bar = Some(self.terminal.bar("step", self.n_steps));
        }
        let status = self.status.clone();
        self.show(&status);
    }

    fn say_evaluation(&mut self, evaluation: &Evaluation) {
        let status = self.status.clone();
        self.show(&status);
        let best = if evaluation.is_best && 0 < evaluation.step { ", the best so far" } else { "" };
        self.say(&format!(
            "validation after step {}: loss {:.4}, {} {} over {} samples{best}",
            evaluation.step,
            evaluation.loss,
            evaluation.metric,
            evaluation.metric_value.map_or("undefined".to_owned(), |value| format!("{value:.3}")),
            grouped(evaluation.n_samples as u64),
        ));
    }
}

impl Observer for TrainProgress<'_> {
    fn event(&mut self, event: &Event) {
        match &event.body {
            EventBody::RunStarted(run) => self.started(run),
            EventBody::Step(step) => self.stepped(step, &event.timing),
            EventBody::Evaluation(evaluation) => self.say_evaluation(evaluation),
            EventBody::RunFinished(_) | EventBody::RunStopped(_) | EventBody::RunFailed(_) => {
                self.is_over = true;
                if let Some(bar) = self.bar.take() {
                    bar.finish();
                }
            }
            EventBody::RunExtended(run) => self.n_steps = run.n_steps,
            // A warning says what became of a step that was left out.
            EventBody::StepSkipped(_) | EventBody::Checkpoint(_) | EventBody::Export(_) => {}
        }
    }

    fn resumed(&mut self, run: &RunStarted, step: u64) {
        self.started(run);
        self.step = step;
    }

    fn stage(&mut self, stage: &str) {
        self.say(stage);
    }

    fn evaluated(&mut self, n_done: usize, n_total: usize) {
        let message = format!("{}  validation {n_done}/{n_total}", self.status);
        self.show(&message);
    }

    fn note(&mut self, level: NoteLevel, text: &str) {
        match level {
            NoteLevel::Info if self.is_over => {}
            NoteLevel::Info => self.say(text),
            NoteLevel::Warning => self.say(&format!("warning: {text}")),
            // The error that ends the run is reported once, by the end of the program.
            NoteLevel::Error => {}
        }
    }
}

/// Passes the events on as JSON lines, for programs.
pub(crate) struct JsonEvents<'a> {
    terminal: &'a Terminal,
}

impl<'a> JsonEvents<'a> {
    /// Writes to the terminal's standard output.
    pub(crate) const fn new(terminal: &'a Terminal) -> Self {
        Self { terminal }
    }
}

impl Observer for JsonEvents<'_> {
    fn event(&mut self, event: &Event) {
        // An event is plain data and always has a JSON form; the run folder holds the same line in any case.
        let _ = self.terminal.json(event);
    }

    fn note(&mut self, level: NoteLevel, text: &str) {
        if level == NoteLevel::Warning {
            self.terminal.warning(text);
        }
    }
}

fn status(step: &Step, timing: &Timing) -> String {
    let loss = step.loss.map_or_else(|| "-".to_owned(), |loss| format!("{loss:.4}"));
    let speed = timing.tokens_per_sec.map_or_else(String::new, |speed| format!("  {speed:.0} tok/s"));
    let left = timing.eta_secs.map_or_else(String::new, |secs| format!("  {} left", human_secs(secs)));
    format!("loss {loss}  lr {:.2e}{speed}{left}", step.learning_rate)
}

/// A number with thin groups of three digits: `1 234 567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let n_digits = digits.len();
    let mut text = String::with_capacity(n_digits + n_digits / 3);
    for (idx, digit) in digits.chars().enumerate() {
        if 0 < idx && (n_digits - idx).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_numbers_are_grouped() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_000), "1 000");
        assert_eq!(grouped(134_515_008), "134 515 008");
    }

    #[test]
    fn a_step_reads_loss_rate_speed_and_time_left() {
        let step = Step {
            epoch: 1,
            step: 3,
            micro_batch: 3,
            loss: Some(1.25),
            learning_rate: 1e-3,
            differential_learning_rate: None,
            gradient_norm: None,
            rewards: None,
            n_skipped_steps: 0,
            n_tokens: 10,
            n_labelled_tokens: 5,
            n_samples_seen: 3,
            n_tokens_seen: 30,
        };
        let timing = Timing { tokens_per_sec: Some(211.6), eta_secs: Some(65.0), ..Timing::default() };
        assert_eq!(status(&step, &timing), "loss 1.2500  lr 1.00e-3  212 tok/s  1m05s left");
        let unknown = Step { loss: None, ..step };
        assert_eq!(status(&unknown, &Timing::default()), "loss -  lr 1.00e-3");
    }
}
