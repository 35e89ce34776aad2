//! A language model as judge: what it is asked, what its answers say, what all of them say together.
//!
//! Only texts and numbers; who sends them over the network is not decided here.

mod answer;
mod template;

pub use answer::Verdict;
pub use template::{JudgeTemplate, PREDICTED_TEXT, PROMPT, TARGET_TEXT};

use std::collections::BTreeMap;

use crate::error::{MetricError, not_empty};
use crate::score::{Direction, Scores, mean};

/// The name in experiment files and tables.
pub const JUDGE: &str = "GPT";

/// Higher is better, on all scales.
pub const JUDGE_DIRECTION: Direction = Direction::HigherIsBetter;

/// Categories of mt-bench whose questions have a right answer.
const CATEGORIES_WITH_REFERENCE: [&str; 3] = ["math", "reasoning", "coding"];

/// The text of a template that comes with the program, by its name in experiment files: `general` and `rag` (scores from 0 to
/// 1; `rag` asks for the columns `context_truncated` and `question`), `mt-bench` and `mt-bench-reference` (1 to 10). `None`
/// for any other name.
pub fn shipped_template(name: &str) -> Option<&'static str> {
    match name {
        "general" => Some(include_str!("general.txt")),
        "rag" => Some(include_str!("rag.txt")),
        "mt-bench" => Some(include_str!("mt_bench.txt")),
        "mt-bench-reference" => Some(include_str!("mt_bench_reference.txt")),
        _ => None,
    }
}

/// The name of the template for a question of mt-bench: where a result is right or wrong, the one that shows the reference.
pub fn mt_bench_template(category: &str) -> &'static str {
    if CATEGORIES_WITH_REFERENCE.contains(&category) { "mt-bench-reference" } else { "mt-bench" }
}

/// What a sample counts that the judge gave no score for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unjudged {
    /// 0, as in H2O LLM Studio: each failed request lowers the mean.
    CountsZero,
    /// Nothing: the mean is over the others.
    IsLeftOut,
}

/// The scores of all samples, `None` where a request failed or its answer had no score; the aggregate is the mean.
pub fn judge_scores(scores: &[Option<f64>], unjudged: Unjudged) -> Result<Scores, MetricError> {
    not_empty(JUDGE, scores.len())?;
    if let Some((sample, value)) =
        scores.iter().enumerate().find_map(|(idx, score)| score.filter(|s| !s.is_finite()).map(|s| (idx, s)))
    {
        return Err(MetricError::NotFinite { sample, what: "score", value });
    }
    let counted = |score: &Option<f64>| match unjudged {
        Unjudged::CountsZero => Some(score.unwrap_or(0.0)),
        Unjudged::IsLeftOut => *score,
    };
    Scores::mean_of_some(JUDGE, scores.iter().map(counted).collect())
}

/// The mean score of each category of samples, for those that have a score.
pub fn means_by_category<'a>(
    samples: impl IntoIterator<Item = (&'a str, Option<f64>)>,
) -> BTreeMap<&'a str, f64> {
    let mut scores: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for (category, score) in samples {
        if let Some(score) = score {
            scores.entry(category).or_default().push(score);
        }
    }
    scores.into_iter().map(|(category, scores)| (category, mean(&scores))).collect()
}
