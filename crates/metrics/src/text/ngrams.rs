//! Counting the n-grams that two texts share.
//!
//! Tokens become numbers once for a pair of texts. What is shared, each n-gram as often as it occurs in both, is found by
//! walking two sorted lists; no table of n-grams is built.

use std::collections::HashMap;

/// The tokens of a pair of texts as numbers; equal tokens have equal numbers.
pub(crate) struct TokenPair {
    /// Tokens of the predicted text.
    pub(crate) predicted: Vec<u32>,
    /// Tokens of the target.
    pub(crate) target: Vec<u32>,
}

impl TokenPair {
    /// Numbers the tokens of both texts.
    pub(crate) fn new<T: std::hash::Hash + Eq>(
        predicted: impl Iterator<Item = T>,
        target: impl Iterator<Item = T>,
    ) -> Self {
        let mut numbers = HashMap::new();
        let mut number = |token| {
            let next = numbers.len() as u32;
            *numbers.entry(token).or_insert(next)
        };
        Self { target: target.map(&mut number).collect(), predicted: predicted.map(&mut number).collect() }
    }

    /// How many n-grams the texts share, each counted as often as it occurs in both. `n` is 1 or more.
    pub(crate) fn n_shared(&self, n: usize) -> usize {
        let sorted = |tokens: &'_ [u32]| -> Vec<u128> {
            let mut grams: Vec<u128> = tokens.windows(n).map(packed).collect();
            grams.sort_unstable();
            grams
        };
        let (predicted, target) = (sorted(&self.predicted), sorted(&self.target));
        let mut others = target.iter().peekable();
        predicted
            .iter()
            .filter(|gram| {
                while others.next_if(|other| other < gram).is_some() {}
                others.next_if_eq(gram).is_some()
            })
            .count()
    }
}

/// The longest n-gram that fits into the number it is compared as.
pub(crate) const MAX_ORDER: usize = 4;

/// An n-gram of up to four tokens as one number; different ones of the same length have different numbers.
fn packed(gram: &[u32]) -> u128 {
    debug_assert!(gram.len() <= MAX_ORDER);
    gram.iter().fold(0, |number, token| number << 32 | u128::from(*token))
}

/// How many n-grams a text of that many tokens has.
pub(crate) fn n_grams(n_tokens: usize, n: usize) -> usize {
    (n_tokens + 1).saturating_sub(n)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(predicted: &str, target: &str) -> TokenPair {
        TokenPair::new(predicted.split(' '), target.split(' '))
    }

    #[test]
    fn shared_grams_are_counted_as_often_as_in_both() {
        assert_eq!(pair("a a a b", "a a c b b").n_shared(1), 3);
        assert_eq!(pair("a a a b", "a a c b b").n_shared(2), 1);
        assert_eq!(pair("a b", "a b c").n_shared(4), 0);
    }

    #[test]
    fn a_text_shorter_than_n_has_no_grams() {
        assert_eq!([0, 1, 2, 3, 4].map(|n_tokens| n_grams(n_tokens, 3)), [0, 0, 0, 1, 2]);
    }
}
