//! BLEU as sacrebleu computes it: for one sentence with effective order, and for a corpus.
//!
//! With p_n the share of the prediction's n-grams that the target has too, each counted at most as often as there, and c
//! and r the numbers of tokens of prediction and target,
//!
//!   BLEU = 100 · min(1, exp(1 - r/c)) · exp(Σ ln p_n / N),   n = 1..N, N = 4.
//!
//! A p_n of 0 is replaced by 1/(2^k · number of n-grams) where it is the k-th of them (exponential smoothing). For a
//! sentence N is the longest n-gram it has (effective order); a corpus without any 4-gram scores 0. Tokens come from the
//! tokeniser 13a, and case matters.

use super::TextPrediction;
use super::ngrams::{MAX_ORDER, TokenPair, n_grams};
use super::tokens_13a::Tokenized;
use crate::error::{MetricError, not_empty};

/// What BLEU is computed from; may be added up over sentences.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    /// Tokens of the prediction.
    n_predicted: usize,
    /// Tokens of the target.
    n_target: usize,
    /// n-grams of the prediction that the target has too, and all of them, for n from 1.
    orders: [(usize, usize); MAX_ORDER],
}

impl Counts {
    fn of(prediction: &TextPrediction<'_>) -> Self {
        let (predicted, target) = (Tokenized::new(prediction.predicted), Tokenized::new(prediction.target));
        let pair = TokenPair::new(predicted.tokens(), target.tokens());
        let n_predicted = pair.predicted.len();
        let orders = std::array::from_fn(|idx| (pair.n_shared(idx + 1), n_grams(n_predicted, idx + 1)));
        Self { n_predicted, n_target: pair.target.len(), orders }
    }

    fn add(&mut self, other: &Self) {
        self.n_predicted += other.n_predicted;
        self.n_target += other.n_target;
        for (sum, order) in self.orders.iter_mut().zip(other.orders) {
            *sum = (sum.0 + order.0, sum.1 + order.1);
        }
    }

    fn brevity_penalty(&self) -> f64 {
        match self.n_predicted {
            0 if self.n_target == 0 => 1.0,
            0 => 0.0,
            n if n < self.n_target => (1.0 - self.n_target as f64 / n as f64).exp(),
            _ => 1.0,
        }
    }

    /// Smoothed shares in percent for each n; 0 where there are no n-grams or where nothing is shared at all.
    fn precisions(&self) -> [f64; MAX_ORDER] {
        if self.orders.iter().all(|(shared, _)| *shared == 0) {
            return [0.0; MAX_ORDER];
        }
        let mut smoothing = 1.0;
        self.orders.map(|(shared, all)| match (shared, all) {
            (_, 0) => 0.0,
            (0, all) => {
                smoothing *= 2.0;
                100.0 / (smoothing * all as f64)
            }
            (shared, all) => 100.0 * shared as f64 / all as f64,
        })
    }

    /// The score from the first `order` shares.
    fn score(&self, order: usize) -> f64 {
        let precisions = self.precisions();
        // No 4-gram at all, or nothing shared: the geometric mean with a zero is zero.
        if order == 0 || precisions.iter().take(order).any(|share| *share == 0.0) {
            return 0.0;
        }
        let sum: f64 = precisions.iter().take(order).map(|share| share.ln()).sum();
        self.brevity_penalty() * (sum / order as f64).exp()
    }

    /// The length of the longest n-gram that the prediction has.
    fn effective_order(&self) -> usize {
        self.orders.iter().take_while(|(_, all)| 0 < *all).count()
    }
}

/// BLEU of one sentence, 0 to 100. A text scored against itself gives 100 but for the last bit of rounding.
pub(crate) fn sentence(prediction: &TextPrediction<'_>) -> f64 {
    let counts = Counts::of(prediction);
    counts.score(counts.effective_order())
}

/// BLEU of a corpus and what it is made of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CorpusBleu {
    /// 0 to 100.
    pub score: f64,
    /// Shares of 1-grams to 4-grams in percent, smoothed.
    pub precisions: [f64; MAX_ORDER],
    /// The factor for predictions shorter than their targets, 0 to 1.
    pub brevity_penalty: f64,
    /// Tokens of all predictions.
    pub n_predicted: usize,
    /// Tokens of all targets.
    pub n_target: usize,
}

/// BLEU of all samples as one text: n-grams are counted over all of them before shares are taken. This, not the mean over
/// sentences, is the number that papers report.
pub fn corpus_bleu(predictions: &[TextPrediction<'_>]) -> Result<CorpusBleu, MetricError> {
    not_empty("BLEU", predictions.len())?;
    let mut counts = Counts::default();
    for prediction in predictions {
        counts.add(&Counts::of(prediction));
    }
    Ok(CorpusBleu {
        score: counts.score(MAX_ORDER),
        precisions: counts.precisions(),
        brevity_penalty: counts.brevity_penalty(),
        n_predicted: counts.n_predicted,
        n_target: counts.n_target,
    })
}
