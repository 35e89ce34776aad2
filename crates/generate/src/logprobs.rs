//! Log-probabilities of chosen tokens and of the likeliest beside them, by the model's own logits: before penalties, biases,
//! grammars and temperature.

use crate::processors::{largest, weight};

/// What a token that cannot come at all is given instead of −∞, which JSON has no number for.
const LEAST: f32 = -9999.0;

/// A token and its log-probability.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenLogprob {
    /// The token.
    pub id: u32,
    /// Natural logarithm of its probability.
    pub logprob: f32,
}

/// A token of a text, and what else could have stood there.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenLogprobs {
    /// The token that stands there.
    pub token: TokenLogprob,
    /// The likeliest tokens, the likeliest first; of equal ones the smaller id first.
    pub top: Vec<TokenLogprob>,
}

impl TokenLogprobs {
    /// Of token `id` by `logits` [V], with the `n_top` likeliest.
    pub(crate) fn new(logits: &[f32], id: u32, n_top: usize) -> Self {
        let largest = largest(logits);
        let sum: f64 = logits.iter().map(|&logit| weight(logit, largest)).sum();
        let log_sum = f64::from(largest) + sum.ln();
        let of = |id: u32| {
            let logit = logits.get(id as usize).copied().unwrap_or(f32::NEG_INFINITY);
            TokenLogprob { id, logprob: ((f64::from(logit) - log_sum) as f32).max(LEAST) }
        };
        let by_size = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
        let mut candidates: Vec<(u32, f32)> = (0..).zip(logits.iter().copied()).collect();
        if n_top < candidates.len() {
            if 0 < n_top {
                candidates.select_nth_unstable_by(n_top - 1, by_size);
            }
            candidates.truncate(n_top);
        }
        candidates.sort_by(by_size);
        Self { token: of(id), top: candidates.into_iter().map(|(id, _)| of(id)).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_the_logarithm_of_the_softmax() {
        // Probabilities 0.5, 0.3, 0.15, 0.05, shifted by a constant that the softmax does not see.
        let logits = [0.15f32, 0.5, 0.05, 0.3].map(|p| p.ln() + 7.0);
        let found = TokenLogprobs::new(&logits, 2, 3);
        assert!((found.token.logprob - 0.05f32.ln()).abs() < 1e-6);
        let top: Vec<(u32, f32)> = found.top.iter().map(|top| (top.id, top.logprob)).collect();
        for ((id, logprob), expected) in top.into_iter().zip([(1, 0.5f32), (3, 0.3), (0, 0.15)]) {
            assert_eq!(id, expected.0);
            assert!((logprob - expected.1.ln()).abs() < 1e-6);
        }
        assert!(TokenLogprobs::new(&logits, 2, 0).top.is_empty());
        assert_eq!(TokenLogprobs::new(&logits, 2, 9).top.len(), 4);
        let impossible = TokenLogprobs::new(&[0.0, f32::NEG_INFINITY], 1, 2);
        assert_eq!((impossible.token.logprob, impossible.top[0].logprob), (LEAST, 0.0));
    }
}
