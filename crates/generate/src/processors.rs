//! What is done to the scores of the next token before one is chosen, in transformers' order: repetition penalty, minimum
//! of new tokens, then, for drawing only, temperature, top-k, top-p, min-p. A token that must not come has −∞.

use crate::settings::GenerationSettings;

/// The tokens of a text, each once; kept only if there is a penalty on them.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    ids: Vec<u32>,
    is_seen: Vec<bool>,
}

impl Seen {
    pub(crate) fn new(settings: &GenerationSettings, prompt: &[u32], vocab_size: usize) -> Self {
        let has_penalty = settings.repetition_penalty != 1.0;
        let is_seen = if has_penalty { vec![false; vocab_size] } else { Vec::new() };
        let mut seen = Self { ids: Vec::new(), is_seen };
        prompt.iter().for_each(|&id| seen.see(id));
        seen
    }

    pub(crate) fn see(&mut self, id: u32) {
        if let Some(is_seen) = self.is_seen.get_mut(id as usize)
            && !*is_seen
        {
            *is_seen = true;
            self.ids.push(id);
        }
    }
}

/// Changes the scores [V] of the token after `n_new` generated ones as every choice wants it.
pub(crate) fn process(
    settings: &GenerationSettings,
    logits: &mut [f32],
    seen: &Seen,
    n_new: usize,
    end_ids: &[u32],
) {
    let mut change = |ids: &[u32], to: &dyn Fn(f32) -> f32| {
        for &id in ids {
            if let Some(logit) = logits.get_mut(id as usize) {
                *logit = to(*logit);
            }
        }
    };
    let penalty = settings.repetition_penalty;
    change(&seen.ids, &|logit| if logit > 0.0 { logit / penalty } else { logit * penalty });
    if n_new < settings.min_new_tokens {
        change(end_ids, &|_| f32::NEG_INFINITY);
    }
}

/// Changes the scores [V] to those of the distribution to draw from. The largest stays in.
pub(crate) fn warp(settings: &GenerationSettings, logits: &mut [f32]) {
    if settings.temperature != 1.0 {
        logits.iter_mut().for_each(|logit| *logit /= settings.temperature);
    }
    if 0 < settings.top_k && settings.top_k < logits.len() {
        let mut sorted = logits.to_vec();
        let (_, &mut least, _) = sorted.select_nth_unstable_by(settings.top_k - 1, |a, b| b.total_cmp(a));
        // Ties with the k-th stay in.
        exclude(logits, |logit| logit < least);
    }
    if settings.top_p < 1.0 {
        top_p(logits, f64::from(settings.top_p));
    }
    if 0.0 < settings.min_p {
        let largest = largest(logits);
        exclude(logits, |logit| weight(logit, largest) < f64::from(settings.min_p));
    }
}

/// Leaves the fewest most likely tokens that together reach the probability; of equal ones those of smaller id.
fn top_p(logits: &mut [f32], probability: f64) {
    let largest = largest(logits);
    let mut candidates: Vec<(usize, f32)> =
        logits.iter().copied().enumerate().filter(|(_, logit)| logit.is_finite()).collect();
    candidates.sort_by(|a, b| b.1.total_cmp(&a.1));
    let total: f64 = candidates.iter().map(|&(_, logit)| weight(logit, largest)).sum();
    let mut before = 0.0;
    for (id, logit) in candidates {
        if before >= probability * total
            && let Some(excluded) = logits.get_mut(id)
        {
            *excluded = f32::NEG_INFINITY;
        }
        before += weight(logit, largest);
    }
}

fn exclude(logits: &mut [f32], is_out: impl Fn(f32) -> bool) {
    logits.iter_mut().filter(|logit| is_out(**logit)).for_each(|logit| *logit = f32::NEG_INFINITY);
}

/// The largest score; −∞ without any.
pub(crate) fn largest(logits: &[f32]) -> f32 {
    logits.iter().copied().fold(f32::NEG_INFINITY, f32::max)
}

/// What a token weighs in the softmax, where the likeliest weighs 1.
pub(crate) fn weight(logit: f32, largest: f32) -> f64 {
    f64::from(logit - largest).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scores as transformers' processors leave them.
    #[test]
    fn scores_are_those_of_the_reference() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/generation.json");
        let golden: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let mut worst = 0.0f32;
        for case in golden["processors"].as_array().unwrap() {
            let settings: GenerationSettings = serde_json::from_value(case["settings"].clone()).unwrap();
            let ids = |name: &str| -> Vec<u32> { serde_json::from_value(case[name].clone()).unwrap() };
            let (prompt, new_ids) = (ids("prompt"), ids("new_ids"));
            let mut logits: Vec<f32> = serde_json::from_value(case["logits"].clone()).unwrap();
            let mut seen = Seen::new(&settings, &prompt, logits.len());
            new_ids.iter().for_each(|id| seen.see(*id));
            process(&settings, &mut logits, &seen, new_ids.len(), &[2, 5, 11]);
            warp(&settings, &mut logits);
            let expected: Vec<Option<f32>> = serde_json::from_value(case["processed"].clone()).unwrap();
            assert_eq!(logits.len(), expected.len());
            for (found, expected) in logits.iter().zip(expected) {
                match expected {
                    Some(expected) => worst = worst.max((found - expected).abs()),
                    None => assert_eq!(*found, f32::NEG_INFINITY, "{}", case["settings"]),
                }
            }
            assert!(worst < 1e-5, "{}: {worst}", case["settings"]);
        }
        println!("processed scores differ by at most {worst:e}");
    }
}
