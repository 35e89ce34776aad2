//! Generated answers graded by another model, for the metric GPT: which rows, with which words, and what came back.
//!
//! A judge is somebody else's server. It may be slow, wrong, or gone, and none of that may stop a run: every request has a
//! time-out, a server that does not answer at all is given up for this evaluation, and what could not be graded is counted
//! and told. Only what is wrong before the first step (no such template, no such column) ends a run.

mod chat;
mod endpoint;
mod questions;
mod table;
mod templates;
mod workers;

use std::collections::BTreeMap;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use tunesmith_config::{ExperimentConfig, JudgeFailures};
use tunesmith_data::{Conversation, RowTexts};
use tunesmith_metrics::{
    JUDGE, JudgeTemplate, PREDICTED_TEXT, PROMPT, TARGET_TEXT, Unjudged, Verdict, judge_scores,
    means_by_category,
};

pub use endpoint::JudgeEndpoint;

use self::chat::Chat;
use self::questions::Questions;
use self::templates::{Template, find_template};
use self::workers::{Gave, ask_all};
use crate::error::TrainError;
use crate::events::Grading;
use crate::stop::StopFlag;

pub(crate) use self::table::add;

/// The name of the template that brings questions of its own.
const MT_BENCH: &str = "mt-bench";

/// A judge who has been told what to look for.
pub(crate) struct Grader {
    chat: Arc<Chat>,
    /// Rows of one evaluation at most.
    max_rows: usize,
    templates: Templates,
    row_texts: RowTexts,
    unjudged: Unjudged,
}

/// Which words a row is graded by.
enum Templates {
    /// The same for all.
    One(Template),
    /// By the category of a question.
    ByCategory { questions: Questions, plain: Template, with_reference: Template },
}

/// What the judge said in one evaluation.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Graded {
    /// By row; rows that were not asked about or could not be graded are missing.
    pub(crate) verdicts: BTreeMap<usize, Verdict>,
    /// The mean, and those of categories, by name; none where nothing was graded.
    pub(crate) metrics: BTreeMap<String, f64>,
    pub(crate) summary: Grading,
}

impl Grader {
    /// Gets everything ready that the configuration asks for. With `mt-bench` the questions take the place of the validation
    /// conversations.
    ///
    /// # Errors
    /// A template or its questions that are not there or are malformed, a column that the data has not got, an address that
    /// is none.
    pub(crate) fn new(
        endpoint: &JudgeEndpoint,
        config: &ExperimentConfig,
        validation: &mut Vec<Conversation>,
    ) -> Result<Self, TrainError> {
        let name = config.prediction.metric_gpt_template.as_str();
        let find = |name: &str| find_template(&endpoint.prompts, name);
        let templates = if name == MT_BENCH {
            let questions = Questions::read(&endpoint.prompts, config)?;
            *validation = questions.conversations();
            Templates::ByCategory {
                questions,
                plain: find(MT_BENCH)?,
                with_reference: find("mt-bench-reference")?,
            }
        } else {
            Templates::One(find(name)?)
        };
        let row_texts = match &templates {
            Templates::One(template) => RowTexts::of_validation(config, &template.columns())?,
            // Their placeholders were checked against the questions.
            Templates::ByCategory { plain, with_reference, .. } => {
                for template in [plain, with_reference] {
                    if let Some(column) = template.columns().first() {
                        return Err(template
                            .wrong(format!("asks for column {column:?}, which questions have not got")));
                    }
                }
                RowTexts::default()
            }
        };
        let unjudged = match config.prediction.metric_gpt_failures {
            JudgeFailures::LeftOut => Unjudged::IsLeftOut,
            JudgeFailures::Zero => Unjudged::CountsZero,
        };
        let chat = Arc::new(Chat::new(endpoint, &config.prediction.metric_gpt_model)?);
        Ok(Self { chat, max_rows: endpoint.max_rows, templates, row_texts, unjudged })
    }

    /// Who grades and by what, in a sentence: the answers leave this machine, and the user should see where to.
    pub(crate) fn describe(&self, n_validation: usize) -> String {
        let template = match &self.templates {
            Templates::One(template) => template.shown.clone(),
            Templates::ByCategory { questions, .. } => questions.shown(),
        };
        let portion = match n_validation > self.max_rows {
            true => format!("{} of {n_validation} validation answers", self.max_rows),
            false => "validation answers".to_owned(),
        };
        format!("{portion} are graded by {} with the template {template}", self.chat.describe())
    }

    /// A hash of the words that answers are graded by.
    pub(crate) fn fingerprint(&self) -> String {
        let texts = match &self.templates {
            Templates::One(template) => vec![template.text.as_str()],
            Templates::ByCategory { plain, with_reference, .. } => {
                vec![plain.text.as_str(), &with_reference.text]
            }
        };
        let hash = Sha256::digest(texts.join("\0").as_bytes());
        hash.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// How many of `n` answers are graded.
    pub(crate) fn n_asked(&self, n: usize) -> usize {
        n.min(self.max_rows)
    }

    /// Has the answers to conversations graded. `progress` is told how many are done; `None` when `stop` was raised meanwhile.
    ///
    /// # Errors
    /// None of a server's making.
    pub(crate) fn grade(
        &self,
        conversations: &BTreeMap<usize, &Conversation>,
        answers: &BTreeMap<usize, String>,
        stop: &StopFlag,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Option<Graded>, TrainError> {
        let (n, n_asked) = (conversations.len(), self.n_asked(conversations.len()));
        // Spread evenly, and the same at every evaluation.
        let chosen: Vec<&Conversation> =
            (0..n_asked).filter_map(|idx| conversations.values().nth(idx * n / n_asked)).copied().collect();
        let prompts = chosen.iter().map(|conversation| {
            let answer = answers.get(&conversation.row).map_or("", String::as_str);
            self.prompt(conversation, answer)
        });
        let prompts = prompts.collect::<Result<Vec<_>, TrainError>>()?;
        let Some(given) = ask_all(&self.chat, prompts, stop, progress) else { return Ok(None) };
        self.graded(&chosen, given).map(Some)
    }

    fn prompt(&self, conversation: &Conversation, answer: &str) -> Result<String, TrainError> {
        let round = conversation.rounds.last();
        let column = |name: &str| match name {
            PROMPT => round.map(|round| round.prompt.as_str()),
            TARGET_TEXT => round.map(|round| round.answer.as_str()),
            PREDICTED_TEXT => Some(answer),
            name => self.row_texts.text(name, conversation.row),
        };
        Ok(self.template_of(conversation.row).fill(column)?)
    }

    fn template_of(&self, row: usize) -> &JudgeTemplate {
        match &self.templates {
            Templates::One(template) => &template.parsed,
            Templates::ByCategory { questions, plain, with_reference } => {
                if questions.needs_reference(row) {
                    &with_reference.parsed
                } else {
                    &plain.parsed
                }
            }
        }
    }

    fn graded(&self, chosen: &[&Conversation], given: Vec<Gave>) -> Result<Graded, TrainError> {
        let mut failure = None;
        let mut verdicts = BTreeMap::new();
        let mut scores = Vec::with_capacity(chosen.len());
        for (conversation, gave) in chosen.iter().zip(given) {
            let read = gave.and_then(|text| Verdict::parse(&text).map_err(|error| error.to_string()));
            scores.push(read.as_ref().ok().map(|verdict| verdict.score));
            match read {
                Ok(verdict) => {
                    verdicts.insert(conversation.row, verdict);
                }
                // What the first one says is usually the reason of all.
                Err(reason) => {
                    failure.get_or_insert(reason);
                }
            }
        }
        let mut metrics = BTreeMap::new();
        let is_counted = self.unjudged == Unjudged::CountsZero || !verdicts.is_empty();
        if is_counted && !scores.is_empty() {
            metrics.insert(JUDGE.to_owned(), judge_scores(&scores, self.unjudged)?.aggregate);
            if let Templates::ByCategory { questions, .. } = &self.templates {
                let of_row =
                    chosen.iter().map(|conversation| questions.category(conversation.row)).zip(scores);
                let means = means_by_category(of_row);
                metrics.extend(means.into_iter().map(|(name, mean)| (format!("{JUDGE}-{name}"), mean)));
            }
        }
        let summary = Grading { n_asked: chosen.len(), n_failed: chosen.len() - verdicts.len(), failure };
        Ok(Graded { verdicts, metrics, summary })
    }
}

/// What a user should know of answers that were not graded; `None` where all were.
pub(crate) fn warning(grading: &Grading, config: &ExperimentConfig) -> Option<String> {
    let Grading { n_asked, n_failed, failure } = grading;
    let reason = failure.as_deref()?;
    let counted = match config.prediction.metric_gpt_failures {
        JudgeFailures::LeftOut => "left out",
        JudgeFailures::Zero => "counted as 0",
    };
    Some(format!(
        "the judge did not grade {n_failed} of {n_asked} answers, which are {counted}; the first reason: {reason}"
    ))
}
