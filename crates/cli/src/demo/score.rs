//! How well a model does on held-out commands: exact answers and perplexity.

use std::time::Instant;

use serde::Serialize;
use tunesmith_config::ExperimentConfig;
use tunesmith_data::{Assembler, Conversation, Round};
use tunesmith_formats::tokenizer::Tokenizer;
use tunesmith_models::{CausalLm, LossPass};
use tunesmith_train::{EvaluateOptions, SingleProcess, StopFlag, answer_all, evaluate};

use super::dataset::SYSTEM;
use super::grammar::Spoken;
use crate::failure::{Exit, Failure};
use crate::terminal::{Terminal, human_secs};

/// Commands asked at once. More would not be faster on a CPU and would need more memory.
const N_AT_ONCE: usize = 20;

/// What a model made of the held-out commands.
#[derive(Debug, Serialize)]
pub(crate) struct Score {
    /// Answers that are the right action, character by character.
    pub(crate) n_exact: usize,
    /// Commands asked.
    pub(crate) n_rows: usize,
    /// Mean over the commands of exp(mean cross-entropy of the right answer's tokens).
    pub(crate) perplexity: f64,
    /// What the model answered, in the order of the rows.
    pub(crate) answers: Vec<String>,
    /// Seconds of both parts together.
    pub(crate) secs: f64,
}

impl Score {
    /// Share of exact answers.
    pub(crate) fn percent(&self) -> f64 {
        100.0 * self.n_exact as f64 / self.n_rows.max(1) as f64
    }
}

/// Asks all commands and compares.
///
/// # Errors
/// Whatever model and tokenizer refuse, and the user's wish to stop.
pub(crate) fn score(
    model: &CausalLm,
    tokenizer: &Tokenizer,
    config: &ExperimentConfig,
    rows: &[Spoken],
    stop: &StopFlag,
    terminal: &Terminal,
) -> Result<Score, Failure> {
    let started = Instant::now();
    let assembler = Assembler::new(config, tokenizer)?;
    let conversations: Vec<Conversation> =
        rows.iter().enumerate().map(|(idx, row)| conversation(idx, row)).collect();
    let mut bar = terminal.bar("asking", rows.len() as u64);
    let asked: Vec<&Conversation> = conversations.iter().collect();
    let answers = answer_all(model, config, &assembler, &asked, 0, N_AT_ONCE, stop, &mut |n_done| {
        bar.update(n_done as u64, "");
    })?;
    let Some(answers) = answers else { return Err(stopped()) };

    let samples = conversations.iter().map(|one| assembler.sample(one)).collect::<Result<Vec<_>, _>>()?;
    let options = EvaluateOptions {
        max_batch_tokens: 1024,
        loss_function: config.training.loss_function,
        pass: LossPass::Evaluation,
    };
    let evaluated = evaluate(model, &samples, options, &SingleProcess, stop, &mut |_| {})?;
    let Some(evaluated) = evaluated else { return Err(stopped()) };

    let n_exact = rows.iter().zip(&answers).filter(|(row, answer)| row.answer == **answer).count();
    let secs = started.elapsed().as_secs_f64();
    bar.update(rows.len() as u64, &human_secs(secs));
    bar.finish();
    Ok(Score { n_exact, n_rows: rows.len(), perplexity: evaluated.figures.perplexity, answers, secs })
}

fn conversation(row_idx: usize, row: &Spoken) -> Conversation {
    let round = Round {
        system: SYSTEM.to_owned(),
        prompt: row.prompt.clone(),
        answer: row.answer.clone(),
        row: row_idx,
        ..Round::default()
    };
    Conversation { rounds: vec![round], row: row_idx, variables: serde_json::Map::new() }
}

fn stopped() -> Failure {
    Failure::new(Exit::Interrupted, "the demo was stopped")
}
