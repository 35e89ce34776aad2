//! Random changes of training data, drawn anew in each epoch (section `augmentation`).
//!
//! What happens to a conversation or a sample is a function of the seed, the epoch and its index, so that neither threads
//! nor packing nor resuming a run make a difference. Noise on embeddings, the fourth augmentation, is added by the model.

use std::collections::BTreeSet;

use tunesmith_config::{Augmentation, ExperimentConfig};

use crate::conversation::{Conversation, Round, Target};
use crate::counter_random::CounterRandom;
use crate::token_sample::TokenSample;

/// The changes that an experiment asks for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Augmenter {
    token_mask_probability: f64,
    skip_parent_probability: f64,
    random_parent_probability: f64,
    seed: u64,
}

/// Keeps the random numbers of the two changes apart.
#[derive(Debug, Clone, Copy)]
enum Use {
    Rounds = 1,
    Tokens = 2,
}

impl Augmenter {
    /// Takes the probabilities of the section `augmentation`.
    pub(crate) fn of(config: &ExperimentConfig, seed: u64) -> Self {
        let Augmentation {
            token_mask_probability,
            skip_parent_probability,
            random_parent_probability,
            neftune_noise_alpha: _,
        } = config.augmentation;
        Self { token_mask_probability, skip_parent_probability, random_parent_probability, seed }
    }

    /// Whether conversations gain or lose rounds.
    pub(crate) fn changes_rounds(&self) -> bool {
        self.skip_parent_probability > 0.0 || self.random_parent_probability > 0.0
    }

    /// Whether tokens are masked.
    pub(crate) fn masks_tokens(&self) -> bool {
        self.token_mask_probability > 0.0
    }

    /// The conversations of an epoch: each earlier round is left out with one probability, and with the other a round of
    /// another conversation takes the place of the first that is left, or is put in front of the last where none is.
    ///
    /// The system text stays that of the first round left, or the conversation's where that round has none. Unlike H2O LLM
    /// Studio's, a round put in front brings no system text of its own, and its answer ends as any other.
    pub(crate) fn conversations(
        &self,
        conversations: &[Conversation],
        epoch_idx: usize,
    ) -> Vec<Conversation> {
        let pool = rounds(conversations);
        let key = self.key(Use::Rounds, epoch_idx);
        let changed = |(idx, conversation): (usize, &Conversation)| {
            self.changed(conversation, &pool, &mut CounterRandom::new(key, idx as u64))
        };
        conversations.iter().enumerate().map(changed).collect()
    }

    fn changed(
        &self,
        conversation: &Conversation,
        pool: &[(RoundId, &Round)],
        random: &mut CounterRandom,
    ) -> Conversation {
        let Some((last, earlier)) = conversation.rounds.split_last() else { return conversation.clone() };
        let is_kept = |_: &&Round| random.unit() >= self.skip_parent_probability;
        let mut rounds: Vec<Round> = earlier.iter().filter(is_kept).cloned().collect();
        rounds.push(last.clone());
        let own = rounds.first().map_or("", |round| round.system.as_str());
        let system = if own.is_empty() { conversation.system() } else { own }.to_owned();
        if random.unit() < self.random_parent_probability
            && let Some(other) = another(pool, conversation, random)
        {
            let n_replaced = usize::from(rounds.len() > 1);
            rounds.splice(..n_replaced, [Round { target: Target::Answer, ..other.clone() }]);
        }
        if let Some(first) = rounds.first_mut() {
            first.system = system;
        }
        Conversation { rounds, row: conversation.row, variables: conversation.variables.clone() }
    }

    /// Replaces each token with `mask_id` with the probability of that; such a token is not learned. It keeps its place in
    /// the sample, so that what is learned after it has to do without it but not without knowing that it is there. The token
    /// that a decoder behind an encoder starts with is no part of the data, and stays.
    pub(crate) fn mask_tokens(&self, samples: &mut [TokenSample], mask_id: u32, epoch_idx: usize) {
        let key = self.key(Use::Tokens, epoch_idx);
        for (idx, sample) in samples.iter_mut().enumerate() {
            let mut random = CounterRandom::new(key, idx as u64);
            let start_idx = Some(sample.n_source).filter(|n_source| *n_source > 0);
            for (token_idx, (id, trained)) in sample.ids.iter_mut().zip(&mut sample.trained).enumerate() {
                if random.unit() < self.token_mask_probability && Some(token_idx) != start_idx {
                    (*id, *trained) = (mask_id, false);
                }
            }
        }
    }

    fn key(&self, use_of: Use, epoch_idx: usize) -> u64 {
        let seed = CounterRandom::new(self.seed, use_of as u64).next();
        CounterRandom::new(seed, epoch_idx as u64).next()
    }
}

/// A round's row and place in its conversation, which it has in every conversation that it is part of.
type RoundId = (usize, usize);

/// Every round of the conversations once, in order.
fn rounds(conversations: &[Conversation]) -> Vec<(RoundId, &Round)> {
    let mut seen = BTreeSet::new();
    let all = conversations.iter().flat_map(ids_and_rounds);
    all.filter(|(id, _)| seen.insert(*id)).collect()
}

fn ids_and_rounds(conversation: &Conversation) -> impl Iterator<Item = (RoundId, &Round)> {
    conversation.rounds.iter().enumerate().map(|(place, round)| ((round.row, place), round))
}

/// A round drawn from the pool, or the first after it that is not the conversation's own.
fn another<'a>(
    pool: &[(RoundId, &'a Round)],
    conversation: &Conversation,
    random: &mut CounterRandom,
) -> Option<&'a Round> {
    let own: BTreeSet<RoundId> = ids_and_rounds(conversation).map(|(id, _)| id).collect();
    let drawn = if pool.is_empty() { 0 } else { random.below(pool.len()) };
    let mut from_drawn = pool.iter().cycle().skip(drawn).take(pool.len());
    from_drawn.find(|(id, _)| !own.contains(id)).map(|(_, round)| *round)
}

#[cfg(test)]
#[path = "augment_tests.rs"]
mod tests;
