//! From scores to a token: the largest, or one drawn from the distribution that the processors leave.

use tunesmith_models::counter::{mix, unit};

use crate::processors::{Seen, largest, process, warp, weight};
use crate::settings::GenerationSettings;

/// Chooses the tokens of one sequence.
#[derive(Debug)]
pub(crate) struct Sampler {
    key: u64,
    seen: Seen,
}

impl Sampler {
    /// For the answer to `prompt`, which continues `text`: the prompt itself, or where an encoder reads that what the decoder
    /// starts with. What is drawn depends on the prompt, and repetition is counted in the text. `occurrence` tells apart equal
    /// prompts of one call.
    pub(crate) fn new(
        settings: &GenerationSettings,
        prompt: &[u32],
        text: &[u32],
        occurrence: u64,
        vocab_size: usize,
    ) -> Self {
        let start = mix(settings.seed, occurrence);
        let key = prompt.iter().fold(start, |key, &id| mix(key, u64::from(id)));
        Self { key, seen: Seen::new(settings, text, vocab_size) }
    }

    /// The token after `n_new` generated ones, or `None` when no score is a finite number. Changes `logits` [V].
    pub(crate) fn choose(
        &mut self,
        settings: &GenerationSettings,
        logits: &mut [f32],
        n_new: usize,
        end_ids: &[u32],
    ) -> Option<u32> {
        process(settings, logits, &self.seen, n_new, end_ids);
        let mut id = most_likely(logits)?;
        if settings.do_sample {
            warp(settings, logits);
            // Rounding may leave a last crumb.
            id = draw(logits, unit(mix(self.key, n_new as u64))).unwrap_or(id);
        }
        self.seen.see(id);
        Some(id)
    }
}

/// The first of the largest scores.
fn most_likely(logits: &[f32]) -> Option<u32> {
    let mut best: Option<(usize, f32)> = None;
    for (id, &logit) in logits.iter().enumerate() {
        if logit.is_nan() {
            return None;
        }
        if best.is_none_or(|(_, largest)| logit > largest) {
            best = Some((id, logit));
        }
    }
    best.filter(|(_, logit)| logit.is_finite()).map(|(id, _)| id as u32)
}

/// The token at place `u` in [0, 1) of the softmax.
fn draw(logits: &[f32], u: f64) -> Option<u32> {
    let largest = largest(logits);
    let total: f64 = logits.iter().map(|&logit| weight(logit, largest)).sum();
    let mut left = u * total;
    for (id, &logit) in (0..).zip(logits) {
        left -= weight(logit, largest);
        if left < 0.0 {
            return Some(id);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(change: impl FnOnce(&mut GenerationSettings)) -> GenerationSettings {
        let mut settings = GenerationSettings::default();
        change(&mut settings);
        settings
    }

    /// How often each of four tokens is drawn in `N` steps.
    fn frequencies(settings: &GenerationSettings, logits: [f32; 4]) -> [f64; 4] {
        const N: usize = 20_000;
        let mut sampler = Sampler::new(settings, &[9, 8], &[9, 8], 0, 4);
        let mut counts = [0.0; 4];
        for step in 0..N {
            let id = sampler.choose(settings, &mut logits.clone(), step, &[]).unwrap();
            counts[id as usize] += 1.0 / N as f64;
        }
        counts
    }

    #[track_caller]
    fn check_frequencies(settings: &GenerationSettings, logits: [f32; 4], expected: [f64; 4]) {
        for (found, expected) in frequencies(settings, logits).into_iter().zip(expected) {
            // Three standard deviations of 20000 draws are at most 0.011.
            assert!((found - expected).abs() < 0.012, "found {found}, expected {expected}");
            assert_eq!(found == 0.0, expected == 0.0);
        }
    }

    #[test]
    fn greedy_takes_the_first_of_the_largest() {
        let settings = GenerationSettings::default();
        let mut sampler = Sampler::new(&settings, &[1], &[1], 0, 4);
        assert_eq!(sampler.choose(&settings, &mut [1.0, 3.0, 3.0, 2.0], 0, &[]), Some(1));
    }

    #[test]
    fn scores_that_are_no_numbers_are_refused() {
        for do_sample in [false, true] {
            let settings = settings(|s| s.do_sample = do_sample);
            let mut sampler = Sampler::new(&settings, &[1], &[1], 0, 3);
            assert_eq!(sampler.choose(&settings, &mut [1.0, f32::NAN, 2.0], 0, &[]), None);
            assert_eq!(sampler.choose(&settings, &mut [f32::NEG_INFINITY; 3], 0, &[]), None);
        }
    }

    #[test]
    fn draws_follow_the_softmax_at_the_temperature() {
        let logits = [0.0, 1.0, 2.0, -1.0];
        for temperature in [1.0, 0.5, 2.0] {
            let weights = logits.map(|l: f32| f64::from(l / temperature).exp());
            let total: f64 = weights.iter().sum();
            let settings = settings(|s| {
                s.do_sample = true;
                s.temperature = temperature;
            });
            check_frequencies(&settings, logits, weights.map(|w| w / total));
        }
    }

    #[test]
    fn top_k_keeps_ties_with_the_last() {
        let settings = settings(|s| {
            s.do_sample = true;
            s.top_k = 2;
        });
        check_frequencies(&settings, [1.0, 1.0, 0.0, -1.0], [0.5, 0.5, 0.0, 0.0]);
        let third = 1.0 / 3.0;
        check_frequencies(&settings, [1.0, 1.0, 1.0, 0.0], [third, third, third, 0.0]);
    }

    #[test]
    fn top_p_keeps_the_fewest_that_reach_it() {
        // Probabilities 0.5, 0.3, 0.15, 0.05.
        let logits = [0.5f32, 0.3, 0.15, 0.05].map(f32::ln);
        let with_top_p = |top_p| {
            settings(|s| {
                s.do_sample = true;
                s.top_p = top_p;
            })
        };
        check_frequencies(&with_top_p(0.6), logits, [0.625, 0.375, 0.0, 0.0]);
        check_frequencies(&with_top_p(0.4), logits, [1.0, 0.0, 0.0, 0.0]);
        check_frequencies(&with_top_p(0.9), logits, [0.5 / 0.95, 0.3 / 0.95, 0.15 / 0.95, 0.0]);
    }

    #[test]
    fn min_p_keeps_what_is_near_the_most_likely() {
        let logits = [0.5f32, 0.3, 0.15, 0.05].map(f32::ln);
        let with_min_p = |min_p| {
            settings(|s| {
                s.do_sample = true;
                s.min_p = min_p;
            })
        };
        check_frequencies(&with_min_p(0.5), logits, [0.625, 0.375, 0.0, 0.0]);
        check_frequencies(&with_min_p(0.2), logits, [0.5 / 0.95, 0.3 / 0.95, 0.15 / 0.95, 0.0]);
        check_frequencies(&with_min_p(1.0), logits, [1.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn repetition_penalty_divides_positive_and_multiplies_negative_scores_once() {
        let settings = settings(|s| s.repetition_penalty = 2.0);
        let mut sampler = Sampler::new(&settings, &[0, 0, 2], &[0, 0, 2], 0, 4);
        let mut logits = [4.0, 1.5, -1.0, 1.0];
        // 4/2 is still the largest; -1 becomes -2.
        assert_eq!(sampler.choose(&settings, &mut logits, 0, &[]), Some(0));
        assert_eq!(logits, [2.0, 1.5, -2.0, 1.0]);
        // A generated token counts as seen, too.
        let mut sampler = Sampler::new(&settings, &[3], &[3], 0, 4);
        assert_eq!(sampler.choose(&settings, &mut [2.0, 1.5, 0.0, 0.0], 0, &[]), Some(0));
        assert_eq!(sampler.choose(&settings, &mut [2.0, 1.5, 0.0, 0.0], 1, &[]), Some(1));
    }

    #[test]
    fn the_end_is_not_chosen_before_the_minimum() {
        let settings = settings(|s| s.min_new_tokens = 2);
        let mut sampler = Sampler::new(&settings, &[1], &[1], 0, 3);
        let scores = [5.0, 1.0, 2.0];
        let mut chosen = |n_new| sampler.choose(&settings, &mut scores.clone(), n_new, &[0]);
        assert_eq!([chosen(0), chosen(1), chosen(2)], [Some(2), Some(2), Some(0)]);
    }

    #[test]
    fn draws_depend_on_seed_prompt_and_occurrence() {
        let path = |seed, prompt: &[u32], occurrence| -> Vec<u32> {
            let settings = settings(|s| {
                s.do_sample = true;
                s.seed = seed;
            });
            let mut sampler = Sampler::new(&settings, prompt, prompt, occurrence, 50);
            (0..20).filter_map(|n| sampler.choose(&settings, &mut [0.0; 50], n, &[])).collect()
        };
        let base = path(1, &[4, 5], 0);
        assert_eq!(base, path(1, &[4, 5], 0));
        for other in [path(2, &[4, 5], 0), path(1, &[5, 4], 0), path(1, &[4, 5], 1)] {
            assert_ne!(base, other);
        }
    }
}
