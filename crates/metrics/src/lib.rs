//! What validation is judged by: metrics of generated texts, classes and numbers, and the judge's templates and answers.
//!
//! Every metric gives a value for each sample where it has one, for tables of predictions, and one for all of them, by which
//! the best checkpoint is chosen ([`Scores`]); it knows whether more is better ([`Direction`]) and its name in experiment files.
//! Samples at fault are named ([`MetricError`]). Pure functions: no files, no network, no threads.
//!
//! The numbers are those of sacrebleu, rouge_score and scikit-learn, which reports are compared by, down to rounding. The code
//! is our own because no crate gives them: `bleuscore` smooths otherwise and knows no effective order, `rust-stemmers` has Snowball's
//! stemmer where rouge_score uses NLTK's, and for what is left the formulas are a few lines each.

mod classification;
mod error;
mod judge;
mod label_text;
mod perplexity;
mod regression;
mod score;
mod text;

pub use classification::{
    Average, ClassCounts, ClassMetric, ClassOutputs, ClassScores, ClassTask, Confusion, Labels, Link,
    accuracy, auc_per_output, subset_accuracy,
};
pub use error::MetricError;
pub use judge::{
    JUDGE, JUDGE_DIRECTION, JudgeTemplate, PREDICTED_TEXT, PROMPT, TARGET_TEXT, Unjudged, Verdict,
    judge_scores, means_by_category, mt_bench_template, shipped_template,
};
pub use label_text::{parse_labels, parse_numbers};
pub use perplexity::{PERPLEXITY, PERPLEXITY_DIRECTION, perplexity};
pub use regression::{RegressionMetric, Values};
pub use score::{Direction, Scores};
pub use text::{
    CorpusBleu, ExactMatch, Rouge, RougeKind, RougeScore, TextMetric, TextPrediction, corpus_bleu,
};
