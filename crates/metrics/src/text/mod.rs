//! Metrics of generated texts.

mod bleu;
mod exact_match;
mod final_number;
mod longest_common;
mod ngrams;
mod porter;
mod python;
mod rouge;
mod tokens_13a;

pub use bleu::{CorpusBleu, corpus_bleu};
pub use exact_match::ExactMatch;
pub use rouge::{Rouge, RougeKind, RougeScore};

use crate::error::{MetricError, not_empty, same_length};
use crate::score::{Direction, Scores};

/// What the model wrote and what it should have written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextPrediction<'a> {
    /// The generated text.
    pub predicted: &'a str,
    /// The expected text.
    pub target: &'a str,
}

impl<'a> TextPrediction<'a> {
    /// Joins predictions and targets that stand in the same order; an error if there are more of one than of the other.
    pub fn pairs<P: AsRef<str>, T: AsRef<str>>(
        predicted: &'a [P],
        targets: &'a [T],
    ) -> Result<Vec<Self>, MetricError> {
        same_length("predictions", targets.len(), predicted.len())?;
        let pair = |(predicted, target): (&'a P, &'a T)| Self {
            predicted: predicted.as_ref(),
            target: target.as_ref(),
        };
        Ok(predicted.iter().zip(targets).map(pair).collect())
    }
}

/// A metric that compares texts, without a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TextMetric {
    /// Sentence BLEU, 0 to 100; the aggregate is the mean over sentences. [`corpus_bleu`] is the other aggregate.
    Bleu,
    /// The F-measure of one of the ROUGE metrics, 0 to 1.
    Rouge(Rouge),
    /// 1 where the texts match, else 0; the aggregate is the share of matches.
    ExactMatch(ExactMatch),
}

impl TextMetric {
    /// The name in experiment files and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bleu => "BLEU",
            Self::Rouge(Rouge { kind: RougeKind::One, .. }) => "ROUGE-1",
            Self::Rouge(Rouge { kind: RougeKind::Two, .. }) => "ROUGE-2",
            Self::Rouge(Rouge { kind: RougeKind::L, .. }) => "ROUGE-L",
            Self::ExactMatch(_) => "ExactMatch",
        }
    }

    /// More is better in all of them.
    pub fn direction(self) -> Direction {
        Direction::HigherIsBetter
    }

    /// Scores every prediction; the aggregate is the mean.
    pub fn score(self, predictions: &[TextPrediction<'_>]) -> Result<Scores, MetricError> {
        not_empty(self.name(), predictions.len())?;
        let score = |prediction: &TextPrediction<'_>| match self {
            Self::Bleu => bleu::sentence(prediction),
            Self::Rouge(rouge) => rouge.compare(prediction).f_measure,
            Self::ExactMatch(rule) => f64::from(u8::from(rule.matches(prediction))),
        };
        Ok(Scores::mean_of(predictions.iter().map(score).collect()))
    }
}

/// A part of the golden numbers of texts: `tests/golden/make_metrics.py`.
#[cfg(test)]
fn golden<T: for<'a> serde::Deserialize<'a>>(name: &str) -> T {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/metrics.json");
    let all: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    serde_json::from_value(all["text"][name].clone()).unwrap()
}
