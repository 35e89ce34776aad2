//! Random changes: their frequencies, what stays, and what they depend on.

use super::*;
use crate::test_support::{bare_config, conversation, number_tokenizer};
use crate::{TrainingSet, tokenize};

fn augmenter(changes: &[(&str, &str)], seed: u64) -> Augmenter {
    Augmenter::of(&bare_config(changes), seed)
}

/// Conversations of three rounds "system", "prompt ROW", "answer ROW".
fn chains(n: usize) -> Vec<Conversation> {
    let chain = |idx: usize| {
        let mut made = conversation(&[("s", "a", "b"), ("t", "c", "d"), ("", "e", "f")]);
        for (place, round) in made.rounds.iter_mut().enumerate() {
            round.row = 3 * idx + place;
            round.prompt = format!("prompt {}", round.row);
        }
        made.row = 3 * idx + 2;
        made
    };
    (0..n).map(chain).collect()
}

fn rows(conversation: &Conversation) -> Vec<usize> {
    conversation.rounds.iter().map(|round| round.row).collect()
}

#[test]
fn earlier_rounds_are_left_out_with_their_probability() {
    let chains = chains(4000);
    let skipping = augmenter(&[("augmentation.skip_parent_probability", "0.3")], 1);
    let changed = skipping.conversations(&chains, 0);
    let n_left: usize = changed.iter().map(|c| c.rounds.len() - 1).sum();
    // Of 8000 rounds 5600 are expected to be left, with a standard deviation of 41.
    assert!(n_left.abs_diff(5600) < 130, "{n_left}");
    for (before, after) in chains.iter().zip(&changed) {
        let last =
            |of: &Conversation| (of.row, of.rounds.last().map(|round| (round.row, round.prompt.clone())));
        assert_eq!(last(before), last(after));
        let system = match rows(after)[0] % 3 {
            0 => "s",
            1 => "t",
            // The last round has no system text of its own.
            _ => "s",
        };
        assert_eq!(after.system(), system);
    }
    let never = augmenter(&[("augmentation.skip_parent_probability", "0")], 1);
    assert_eq!(never.conversations(&chains, 0), chains);
    let always = augmenter(&[("augmentation.skip_parent_probability", "1")], 1).conversations(&chains, 0);
    assert!(always.iter().all(|c| c.rounds.len() == 1 && c.system() == "s"));
}

#[test]
fn a_round_of_another_conversation_is_put_in_front() {
    let chains = chains(1000);
    let random = augmenter(&[("augmentation.random_parent_probability", "0.5")], 4);
    let changed = random.conversations(&chains, 0);
    let mut n_changed = 0;
    for (idx, (before, after)) in chains.iter().zip(&changed).enumerate() {
        // The first of the two earlier rounds is replaced, everything else stays, the system text included.
        assert_eq!(before.rounds[1..], after.rounds[1..]);
        assert_eq!(after.system(), "s");
        let row = rows(after)[0];
        n_changed += usize::from(row != rows(before)[0]);
        assert!(row == 3 * idx || row / 3 != idx);
    }
    assert!((450..550).contains(&n_changed), "{n_changed}");

    let single: Vec<Conversation> = (0..3)
        .map(|row| {
            let mut made = conversation(&[("own", "a", "b")]);
            (made.row, made.rounds[0].row) = (row, row);
            made
        })
        .collect();
    let always = augmenter(&[("augmentation.random_parent_probability", "1")], 4);
    for (idx, after) in always.conversations(&single, 0).iter().enumerate() {
        assert_eq!((after.rounds.len(), after.rounds[1].row, after.system()), (2, idx, "own"));
        assert_ne!(after.rounds[0].row, idx);
    }
    // There is no other.
    assert_eq!(always.conversations(&single[..1], 0), single[..1]);
}

#[test]
fn changes_are_functions_of_seed_epoch_and_index() {
    let chains = chains(50);
    let changes =
        [("augmentation.skip_parent_probability", "0.4"), ("augmentation.random_parent_probability", "0.4")];
    let changed = |seed, epoch| augmenter(&changes, seed).conversations(&chains, epoch);
    assert_eq!(changed(1, 0), changed(1, 0));
    assert_ne!(changed(1, 0), changed(2, 0));
    assert_ne!(changed(1, 0), changed(1, 1));
    // What is left out does not depend on the conversations that follow; what is put in front is drawn from them all.
    let skipping = augmenter(&changes[..1], 1);
    let of_all = skipping.conversations(&chains, 3);
    assert_eq!(of_all[..10], skipping.conversations(&chains[..10], 3));
}

#[test]
fn gv_11_2_tokens_are_masked_with_their_probability_and_not_learned() {
    let sample = TokenSample { ids: vec![5; 2000], trained: vec![true; 2000], ..TokenSample::default() };
    let before = vec![sample; 3];
    let masking = augmenter(&[("augmentation.token_mask_probability", "0.25")], 9);
    let masked = |epoch| {
        let mut samples = before.clone();
        masking.mask_tokens(&mut samples, 7, epoch);
        samples
    };
    let samples = masked(0);
    for sample in &samples {
        let n_masked = sample.ids.iter().filter(|id| **id == 7).count();
        // 500 expected, with a standard deviation of 19.
        assert!(n_masked.abs_diff(500) < 60, "{n_masked}");
        assert!(sample.ids.iter().zip(&sample.trained).all(|(id, trained)| (*id == 5) == *trained));
    }
    assert_ne!(samples[0], samples[1]);
    assert_eq!(samples, masked(0));
    assert_ne!(samples, masked(1));
    let mut first = before[..1].to_vec();
    masking.mask_tokens(&mut first, 7, 0);
    assert_eq!(first, samples[..1]);
}

fn training_set(changes: &[(&str, &str)], conversations: &[Conversation]) -> crate::Result<TrainingSet> {
    let config = bare_config(changes);
    let tokenizer = number_tokenizer();
    let (samples, _) = tokenize(&config, &tokenizer, conversations, None)?;
    TrainingSet::new(&config, &tokenizer, conversations.to_vec(), samples, 3)
}

#[test]
fn an_epoch_has_the_tokens_of_its_conversations() {
    let conversations =
        [conversation(&[("", "1 2", "3"), ("", "4", "5 6")]), conversation(&[("", "7", "8 9")])];
    let unchanged = training_set(&[], &conversations).unwrap();
    assert!(matches!(unchanged.epoch(1).unwrap(), std::borrow::Cow::Borrowed(_)));

    let skipped = training_set(&[("augmentation.skip_parent_probability", "1")], &conversations).unwrap();
    assert!(skipped.changes_rounds());
    let epoch = skipped.epoch(0).unwrap();
    assert_eq!(epoch.samples[0].ids, [4, 5, 6]);
    assert_eq!(epoch.samples[0].trained, [false, true, true]);
    assert_eq!(epoch.samples[1], skipped.unchanged().samples[1]);
    assert_eq!(skipped.unchanged().samples[0].ids, [1, 2, 3, 4, 5, 6]);

    let masked = training_set(&[("augmentation.token_mask_probability", "1")], &conversations).unwrap();
    assert!(!masked.changes_rounds());
    // The token for the unknown.
    assert_eq!(masked.epoch(0).unwrap().samples[1].ids, [32, 32, 32]);
}

#[test]
fn leaving_out_rounds_needs_rounds() {
    let single = [conversation(&[("", "7", "8 9")])];
    let error = training_set(&[("augmentation.skip_parent_probability", "0.1")], &single).unwrap_err();
    assert!(error.to_string().contains("augmentation.skip_parent_probability"), "{error}");
}
