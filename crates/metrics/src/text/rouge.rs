//! ROUGE-1, ROUGE-2 and ROUGE-L as Google's package rouge_score computes them.
//!
//! Tokens are runs of the letters a to z and of digits in the lower-cased text; everything else separates, so that texts in
//! other scripts have no tokens and score 0. With m tokens or n-grams shared, p = m / those of the prediction,
//! r = m / those of the target and F = 2pr / (p + r), 0 where there is nothing to divide. For ROUGE-N, m counts n-grams as
//! often as both texts have them; for ROUGE-L it is the length of the longest common subsequence of the two texts, line
//! breaks being blanks as any other.

use super::TextPrediction;
use super::longest_common::longest_common_subsequence;
use super::ngrams::{TokenPair, n_grams};
use super::porter::stem;
use crate::score::ratio;

/// What counts as shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RougeKind {
    /// Words.
    One,
    /// Pairs of neighbouring words.
    Two,
    /// Words in the same order, not necessarily neighbours.
    L,
}

/// One of the ROUGE metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rouge {
    /// What counts as shared.
    pub kind: RougeKind,
    /// Whether words of more than three characters are reduced to their stems first, for English only.
    pub use_stemmer: bool,
}

/// How much two texts share, each 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RougeScore {
    /// Part of the prediction that the target has too.
    pub precision: f64,
    /// Part of the target that the prediction has too.
    pub recall: f64,
    /// The harmonic mean of both.
    pub f_measure: f64,
}

impl Rouge {
    /// Compares one prediction with its target.
    pub fn compare(self, prediction: &TextPrediction<'_>) -> RougeScore {
        let tokens = |text| tokens(text, self.use_stemmer);
        let pair =
            TokenPair::new(tokens(prediction.predicted).into_iter(), tokens(prediction.target).into_iter());
        let (n_shared, n) = match self.kind {
            RougeKind::One => (pair.n_shared(1), 1),
            RougeKind::Two => (pair.n_shared(2), 2),
            RougeKind::L => (longest_common_subsequence(&pair.predicted, &pair.target), 1),
        };
        let precision = ratio(n_shared, n_grams(pair.predicted.len(), n));
        let recall = ratio(n_shared, n_grams(pair.target.len(), n));
        let sum = precision + recall;
        let f_measure = if 0.0 < sum { 2.0 * precision * recall / sum } else { 0.0 };
        RougeScore { precision, recall, f_measure }
    }
}

/// Words longer than this are stemmed.
const MAX_UNSTEMMED: usize = 3;

/// The tokens of a text, lower-cased and at wish stemmed.
fn tokens(text: &str, use_stemmer: bool) -> Vec<String> {
    // Lower-casing first: a few letters outside of ASCII, as the Kelvin sign, have their lower case inside.
    text.to_lowercase()
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|token| !token.is_empty())
        .map(|token| if use_stemmer && MAX_UNSTEMMED < token.len() { stem(token) } else { token.to_owned() })
        .collect()
}
