//! Beam search as transformers does it with its defaults: several texts are followed side by side, and the answer is the
//! one of those that ended whose log-probability per generated token is largest (length penalty 1, no early stop).
//!
//! In each step the candidates are the likeliest continuations of all beams together: as many that at least one for each
//! beam does not end. Those among the first that end become answers, the first that do not end are the next beams. The
//! search is over when `num_beams` answers are better than the best beam can still become by its present length, or when
//! nothing can go on. Of equal candidates the one of the earlier beam and smaller id comes first.

use std::cmp::Ordering;
use std::ops::ControlFlow;
use std::time::Instant;

use tunesmith_formats::tokenizer::Tokenizer;
use tunesmith_models::CausalLm;
use tunesmith_ops::KvCache;

use crate::batch::{FinishReason, N_PASS_TOKENS, Portion, last_scores};
use crate::error::{GenerateError, Result};
use crate::processors::{Seen, largest, process, weight};
use crate::settings::GenerationSettings;
use crate::stopping::StopTexts;

/// What a search needs to know.
pub(crate) struct BeamSearch<'a> {
    pub(crate) model: &'a CausalLm,
    pub(crate) tokenizer: &'a Tokenizer,
    pub(crate) settings: &'a GenerationSettings,
    pub(crate) stops: &'a StopTexts,
    pub(crate) end_ids: &'a [u32],
    pub(crate) start: Instant,
}

/// The answer of a search.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) ids: Vec<u32>,
    /// `None` when the caller broke off.
    pub(crate) finish: Option<FinishReason>,
    pub(crate) secs: f64,
    pub(crate) first_token_secs: f64,
}

/// A text that goes on.
#[derive(Debug, Clone)]
struct Beam {
    new_ids: Vec<u32>,
    /// Sum of the processed log-probabilities of its tokens.
    score: f32,
    seen: Seen,
}

/// A text that has ended.
#[derive(Debug)]
struct Ended {
    new_ids: Vec<u32>,
    /// Its score per token.
    score: f32,
    finish: FinishReason,
}

/// A beam and one more token.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    beam_idx: usize,
    id: u32,
    score: f32,
}

impl BeamSearch<'_> {
    /// Continues `prompt`, which fits the context. `cache` holds one sequence, and may know the beginning of the prompt;
    /// afterwards it knows all but its last token at least. `on_token` gets each token as soon as all texts agree on it.
    pub(crate) fn run(
        &self,
        prompt_idx: usize,
        prompt: &[u32],
        cache: &mut KvCache,
        on_token: &mut dyn FnMut(u32) -> ControlFlow<()>,
    ) -> Result<Found> {
        let n_beams = self.settings.num_beams;
        let n_candidates = n_beams * (1 + self.end_ids.len()).max(2);
        let seen = Seen::new(self.settings, prompt, self.model.config().vocab_size);
        // The others would begin as copies of the first.
        let mut beams = vec![Beam { new_ids: Vec::new(), score: 0.0, seen }];
        let mut ended: Vec<Ended> = Vec::new();
        let mut scores = self.prompt_scores(prompt, cache)?;
        let mut found = Found::default();
        for n_new in 0.. {
            let candidates = self.candidates(&beams, &mut scores, n_new, n_candidates);
            if candidates.is_empty() {
                return Err(GenerateError::NotFinite { prompt_idx, n_new });
            }
            let is_late = 0.0 < self.settings.max_time_secs
                && self.settings.max_time_secs <= self.start.elapsed().as_secs_f64();
            let mut next = Vec::with_capacity(n_beams);
            let mut parents = Vec::with_capacity(n_beams);
            for (rank, candidate) in candidates.into_iter().enumerate() {
                let Some(beam) = beams.get(candidate.beam_idx) else { continue };
                let mut new_ids = beam.new_ids.clone();
                new_ids.push(candidate.id);
                match self.finish_reason(&new_ids, prompt.len(), is_late)? {
                    Some(finish) if rank < n_beams => {
                        let score = candidate.score / (n_new + 1) as f32;
                        ended.push(Ended { new_ids, score, finish });
                    }
                    // The lower ranks are there to go on.
                    Some(_) => {}
                    None if next.len() < n_beams => {
                        let mut seen = beam.seen.clone();
                        seen.see(candidate.id);
                        next.push(Beam { new_ids, score: candidate.score, seen });
                        parents.push(candidate.beam_idx);
                    }
                    None => {}
                }
            }
            // Stable: of equal answers the earlier one stays.
            ended.sort_by(|a, b| b.score.total_cmp(&a.score));
            ended.truncate(n_beams);
            beams = next;
            if self.is_over(&beams, &ended) {
                break;
            }
            for &id in certain(&beams, &ended).get(found.ids.len()..).unwrap_or_default() {
                self.tell(&mut found, id);
                if on_token(id).is_break() {
                    keep_prompt(cache, prompt);
                    return Ok(found);
                }
            }
            cache.keep(&parents);
            let pieces: Vec<&[u32]> = beams.iter().map(|beam| last(&beam.new_ids)).collect();
            scores = last_scores(self.model, cache, &portions(&pieces, cache))?;
        }
        keep_prompt(cache, prompt);
        if let Some(best) = ended.into_iter().next() {
            found.finish = Some(best.finish);
            for &id in best.new_ids.get(found.ids.len()..).unwrap_or_default() {
                self.tell(&mut found, id);
                if on_token(id).is_break() {
                    break;
                }
            }
            found.ids = best.new_ids;
        }
        found.secs = self.start.elapsed().as_secs_f64();
        Ok(found)
    }

    /// The scores of the token after the prompt.
    fn prompt_scores(&self, prompt: &[u32], cache: &mut KvCache) -> Result<Vec<Vec<f32>>> {
        let n_known = cache.lengths().first().copied().unwrap_or(0);
        let mut scores = Vec::new();
        for piece in prompt.get(n_known..).unwrap_or_default().chunks(N_PASS_TOKENS) {
            scores = last_scores(self.model, cache, &portions(&[piece], cache))?;
        }
        Ok(scores)
    }

    /// The likeliest continuations of all beams, best first.
    fn candidates(
        &self,
        beams: &[Beam],
        scores: &mut [Vec<f32>],
        n_new: usize,
        n_candidates: usize,
    ) -> Vec<Candidate> {
        let mut all = Vec::new();
        for (beam_idx, (beam, logits)) in beams.iter().zip(scores).enumerate() {
            to_log_probabilities(logits);
            process(self.settings, logits, &beam.seen, n_new, self.end_ids);
            let candidates = (0..).zip(logits.iter()).map(|(id, logit)| Candidate {
                beam_idx,
                id,
                score: beam.score + logit,
            });
            all.extend(candidates.filter(|candidate| candidate.score.is_finite()));
        }
        let order = |a: &Candidate, b: &Candidate| -> Ordering {
            b.score.total_cmp(&a.score).then(a.beam_idx.cmp(&b.beam_idx)).then(a.id.cmp(&b.id))
        };
        if n_candidates < all.len() {
            all.select_nth_unstable_by(n_candidates, order);
            all.truncate(n_candidates);
        }
        all.sort_by(order);
        all
    }

    /// Why a text has ended with its last token.
    fn finish_reason(&self, new_ids: &[u32], n_prompt: usize, is_late: bool) -> Result<Option<FinishReason>> {
        let is_end = new_ids.last().is_some_and(|id| self.end_ids.contains(id));
        Ok(if is_end {
            Some(FinishReason::EndOfText)
        } else if self.stops.are_in(new_ids, self.tokenizer)? {
            Some(FinishReason::StopText)
        } else if self.settings.max_new_tokens <= new_ids.len() {
            Some(FinishReason::MaxNewTokens)
        } else if self.model.context_length() < n_prompt + new_ids.len() {
            Some(FinishReason::ContextFull)
        } else {
            is_late.then_some(FinishReason::MaxTime)
        })
    }

    /// Whether no beam can become better than the answers there are.
    fn is_over(&self, beams: &[Beam], ended: &[Ended]) -> bool {
        let Some(best) = beams.first() else { return true };
        let possible = best.score / best.new_ids.len() as f32;
        ended.len() == self.settings.num_beams && ended.last().is_some_and(|worst| possible <= worst.score)
    }

    fn tell(&self, found: &mut Found, id: u32) {
        found.ids.push(id);
        found.secs = self.start.elapsed().as_secs_f64();
        if found.ids.len() == 1 {
            found.first_token_secs = found.secs;
        }
    }
}

/// What each sequence of the cache is given in the next pass.
fn portions<'p>(pieces: &[&'p [u32]], cache: &KvCache) -> Vec<Portion<'p>> {
    let known = cache.lengths();
    pieces.iter().zip(known).map(|(&ids, n_known)| Portion { ids, n_known, is_last: true }).collect()
}

fn last(ids: &[u32]) -> &[u32] {
    ids.get(ids.len().saturating_sub(1)..).unwrap_or_default()
}

/// The tokens that all texts begin with.
fn certain<'t>(beams: &'t [Beam], ended: &'t [Ended]) -> &'t [u32] {
    let mut texts =
        beams.iter().map(|b| b.new_ids.as_slice()).chain(ended.iter().map(|e| e.new_ids.as_slice()));
    let first = texts.next().unwrap_or_default();
    let n_shared = |text: &[u32]| first.iter().zip(text).take_while(|(a, b)| a == b).count();
    let n = texts.map(n_shared).fold(first.len(), usize::min);
    first.get(..n).unwrap_or_default()
}

/// Leaves the cache with one sequence: the prompt, which all beams share.
fn keep_prompt(cache: &mut KvCache, prompt: &[u32]) {
    cache.keep(&[0]);
    cache.truncate(0, prompt.len());
}

/// ln softmax; not finite where the scores are none.
fn to_log_probabilities(logits: &mut [f32]) {
    let largest = largest(logits);
    let sum: f64 = logits.iter().map(|&logit| weight(logit, largest)).sum();
    let log_sum = f64::from(largest) + sum.ln();
    logits.iter_mut().for_each(|logit| *logit = (f64::from(*logit) - log_sum) as f32);
}
