//! Plans, labels and weights.

use proptest::prelude::*;

use super::*;

fn sample(row: usize, ids: &[u32], trained: &[u8]) -> TokenSample {
    let trained = trained.iter().map(|flag| *flag == 1).collect();
    TokenSample { row, ids: ids.to_vec(), trained, ..TokenSample::default() }
}

/// Samples of these lengths; row and ids tell which token is which, every second token is trained.
fn set(lengths: &[usize]) -> SampleSet {
    let samples = lengths.iter().enumerate().map(|(idx, length)| {
        let ids: Vec<u32> = (0..*length).map(|at| (1000 * idx + at) as u32).collect();
        let trained: Vec<u8> = (0..*length).map(|at| (at % 2) as u8).collect();
        sample(100 + idx, &ids, &trained)
    });
    SampleSet { samples: samples.collect() }
}

const OPTIONS: BatchOptions = BatchOptions {
    batch_size: 2,
    max_length: 8,
    packing: Packing::Samples,
    shuffle: false,
    drop_last: false,
    seed: 1,
    epoch: 0,
};

fn batches(samples: &SampleSet, options: &BatchOptions) -> Vec<MicroBatch> {
    let plan = plan_epoch(samples, options);
    (0..plan.n_micro_batches()).map(|idx| plan.micro_batch(samples, idx)).collect()
}

#[test]
fn gv_3_12_samples_lie_end_to_end() {
    let samples = SampleSet {
        samples: vec![sample(7, &[1, 2, 3], &[0, 1, 1]), sample(9, &[4, 5], &[1, 1]), sample(8, &[6], &[1])],
    };
    let found = batches(&samples, &OPTIONS);
    assert_eq!(
        found[0],
        MicroBatch {
            ids: vec![1, 2, 3, 4, 5],
            positions: vec![0, 1, 2, 0, 1],
            segment_lengths: vec![3, 2],
            segment_origins: vec![(0, 0), (1, 0)],
            labels: vec![2, 3, -100, 5, -100],
            sample_of_token: vec![0, 0, 0, 1, 1],
            sample_rows: vec![7, 9],
            values: vec![vec![], vec![]],
        }
    );
    assert_eq!((found[1].ids.as_slice(), found[1].labels.as_slice()), (&[6][..], &[-100][..]));
    assert_eq!(found.len(), 2);
    assert_eq!(plan_epoch(&samples, &OPTIONS).micro_batch(&samples, 2), MicroBatch::default());
}

#[test]
fn rows_hold_whole_samples() {
    // In order: 5 opens a row, 4 another, 3 fits the first exactly, 4 fits the second exactly, 2 opens a third.
    let samples = set(&[5, 4, 3, 4, 2]);
    let found = batches(&samples, &BatchOptions { packing: Packing::Rows, ..OPTIONS });
    assert_eq!(found.len(), 2);
    assert_eq!(found[0].segment_lengths, [5, 3, 4, 4]);
    assert_eq!(found[0].sample_rows, [100, 102, 101, 103]);
    assert_eq!(found[1].segment_lengths, [2]);
    // A sample that is longer than a row is not lost.
    let found = batches(&set(&[9, 1]), &BatchOptions { packing: Packing::Rows, batch_size: 1, ..OPTIONS });
    assert_eq!(found.iter().map(|batch| batch.ids.len()).collect::<Vec<_>>(), [9, 1]);
}

#[test]
fn the_texts_of_a_preference_are_segments_side_by_side() {
    let pair = TokenSample { n_contrast: 2, ..sample(3, &[1, 2, 3, 4, 5], &[0, 1, 1, 1, 1]) };
    assert_eq!(pair.texts().collect::<Vec<_>>(), [0..3, 3..5]);
    assert_eq!(pair.n_labels(), 3);
    let samples = SampleSet { samples: vec![pair, sample(4, &[6], &[0])] };
    for packing in [Packing::Samples, Packing::Rows] {
        let found = batches(&samples, &BatchOptions { packing, ..OPTIONS });
        assert_eq!(found[0].segment_lengths, [3, 2, 1]);
        assert_eq!(found[0].positions, [0, 1, 2, 0, 1, 0]);
        // The first token of the second text is not predicted from the last of the first.
        assert_eq!(found[0].labels, [2, 3, -100, 5, -100, -100]);
        assert_eq!(found[0].sample_of_token, [0, 0, 0, 0, 0, 1]);
    }
}

#[test]
fn wrapped_rows_run_across_samples() {
    let samples = SampleSet {
        samples: vec![
            sample(5, &[1, 2, 3], &[0, 0, 1]),
            sample(6, &[4, 5, 6, 7], &[1, 0, 1, 1]),
            sample(7, &[8, 9], &[0, 1]),
        ],
    };
    let options = BatchOptions { packing: Packing::Wrapped, max_length: 4, ..OPTIONS };
    let found = batches(&samples, &options);
    assert_eq!(
        found[0],
        MicroBatch {
            ids: vec![1, 2, 3, 4, 5, 6, 7, 8],
            positions: vec![0, 1, 2, 3, 0, 1, 2, 3],
            segment_lengths: vec![4, 4],
            segment_origins: vec![(0, 0), (1, 1)],
            labels: vec![-100, 3, 4, -100, 6, 7, -100, -100],
            sample_of_token: vec![0, 0, 0, 1, 1, 1, 1, 2],
            sample_rows: vec![5, 6, 7],
            values: vec![vec![]; 3],
        }
    );
    // The tail is a shorter row, and goes first when the last is to be dropped.
    assert_eq!((found.len(), found[1].ids.as_slice()), (2, &[9][..]));
    let found = batches(&samples, &BatchOptions { drop_last: true, ..options });
    assert_eq!(found.iter().map(|batch| batch.ids.len()).collect::<Vec<_>>(), [8]);
    let found = batches(&samples, &BatchOptions { drop_last: true, batch_size: 1, ..options });
    assert_eq!(found.iter().map(|batch| batch.ids.len()).collect::<Vec<_>>(), [4, 4]);
    // Nothing but a tail stays.
    let found = batches(&samples, &BatchOptions { drop_last: true, max_length: 100, ..options });
    assert_eq!(found[0].ids.len(), 9);
}

#[test]
fn the_last_micro_batch_is_dropped_unless_it_is_the_only_one() {
    let n = |lengths: &[usize], drop_last| {
        plan_epoch(&set(lengths), &BatchOptions { drop_last, ..OPTIONS }).n_micro_batches()
    };
    assert_eq!(
        [n(&[2; 5], false), n(&[2; 5], true), n(&[2; 4], true), n(&[2], true), n(&[], true)],
        [3, 2, 2, 1, 0]
    );
}

/// Published numbers: two samples, three classes, both averages.
#[test]
fn gv_11_3_weights_make_the_losses() {
    let logits: [[f64; 3]; 8] = [
        [0.1, 0.2, 0.3],
        [1.0, 0.0, -1.0],
        [0.5, 0.5, 0.0],
        [2.0, 1.0, 0.0],
        [0.0, 1.0, 0.0],
        [0.3, -0.3, 0.9],
        [-1.0, 2.0, 0.5],
        [0.0, 0.0, 0.0],
    ];
    let samples = SampleSet {
        samples: vec![sample(0, &[0, 0, 2, 1], &[0, 0, 1, 1]), sample(1, &[0, 0, 1, 2], &[0, 1, 1, 1])],
    };
    let loss_of = |batches: &[MicroBatch], loss| -> f64 {
        let mut at = 0;
        let mut sum = 0.0;
        for (batch, weights) in batches.iter().zip(token_weights(batches, loss)) {
            assert_eq!(weights.len(), batch.ids.len());
            for (label, weight) in batch.labels.iter().zip(weights) {
                let row = logits[at];
                at += 1;
                if let Ok(label) = usize::try_from(*label) {
                    let log_sum = row.iter().map(|logit| logit.exp()).sum::<f64>().ln();
                    sum += f64::from(weight) * (log_sum - row[label]);
                } else {
                    assert_eq!(weight, 0.0);
                }
            }
        }
        sum
    };
    // In one micro-batch or accumulated over two: the same.
    for batch_size in [1, 2] {
        let found = batches(&samples, &BatchOptions { batch_size, ..OPTIONS });
        let by_token = loss_of(&found, LossFunction::TokenAveragedCrossEntropy);
        let by_sample = loss_of(&found, LossFunction::SampleAveragedCrossEntropy);
        assert!((by_token - 1.694_714_172_6).abs() < 1e-7, "{by_token}");
        assert!((by_sample - 1.692_730_648_2).abs() < 1e-7, "{by_sample}");
    }
}

#[test]
fn samples_without_labels_do_not_weigh() {
    let samples = SampleSet {
        samples: vec![
            sample(0, &[1, 2], &[0, 1]),
            sample(1, &[3, 4], &[1, 0]),
            sample(2, &[5, 6, 7], &[0, 1, 1]),
        ],
    };
    let found = batches(&samples, &BatchOptions { batch_size: 3, ..OPTIONS });
    let weights = token_weights(&found, LossFunction::SampleAveragedCrossEntropy);
    assert_eq!(weights, [[0.5, 0.0, 0.0, 0.0, 0.25, 0.25, 0.0]]);
    let nothing = MicroBatch {
        labels: vec![IGNORED_LABEL],
        ids: vec![1],
        sample_of_token: vec![0],
        ..MicroBatch::default()
    };
    for loss in [LossFunction::TokenAveragedCrossEntropy, LossFunction::SampleAveragedCrossEntropy] {
        assert_eq!(token_weights(std::slice::from_ref(&nothing), loss), [[0.0]]);
        assert!(token_weights(&[], loss).is_empty());
    }
}

#[test]
fn epochs_differ_and_repeat() {
    let samples = set(&[3; 20]);
    let rows = |epoch, seed| -> Vec<usize> {
        let options = BatchOptions { shuffle: true, epoch, seed, ..OPTIONS };
        batches(&samples, &options).into_iter().flat_map(|batch| batch.sample_rows).collect()
    };
    assert_eq!(rows(0, 1), rows(0, 1));
    assert_ne!(rows(0, 1), rows(1, 1));
    assert_ne!(rows(0, 1), rows(0, 2));
    let mut sorted = rows(3, 5);
    sorted.sort_unstable();
    assert_eq!(sorted, (100..120).collect::<Vec<_>>());
}

#[test]
fn pieces_of_a_conversation_stay_together() {
    let samples: Vec<TokenSample> =
        (0..30u32).map(|idx| sample(idx as usize / 3, &[idx, 100 + idx], &[1, 1])).collect();
    let samples = SampleSet { samples };
    let options = BatchOptions { packing: Packing::Wrapped, shuffle: true, max_length: 7, ..OPTIONS };
    let ids: Vec<u32> = batches(&samples, &options).into_iter().flat_map(|batch| batch.ids).collect();
    let in_order: Vec<u32> = samples.samples.iter().flat_map(|sample| sample.ids.clone()).collect();
    assert_ne!(ids, in_order);
    let conversations: std::collections::BTreeSet<&[u32]> = in_order.chunks(6).collect();
    assert!(ids.chunks(6).all(|chunk| conversations.contains(chunk)), "{ids:?}");
}

proptest! {
    /// Whatever the packing: each token once, in order within its sample; segments, positions and labels agree.
    #[test]
    fn every_token_is_used_once(
        lengths in prop::collection::vec(1usize..12, 0..40),
        batch_size in 1usize..5,
        max_length in 12usize..20,
        packing in prop::sample::select(vec![Packing::Samples, Packing::Rows, Packing::Wrapped]),
        shuffle: bool,
        seed: u64,
    ) {
        let samples = set(&lengths);
        let options = BatchOptions { batch_size, max_length, packing, shuffle, seed, ..OPTIONS };
        let found = batches(&samples, &options);
        let mut seen: Vec<u32> = found.iter().flat_map(|batch| batch.ids.iter().copied()).collect();
        let mut expected: Vec<u32> = samples.samples.iter().flat_map(|sample| sample.ids.iter().copied()).collect();
        seen.sort_unstable();
        expected.sort_unstable();
        prop_assert_eq!(seen, expected);
        for batch in &found {
            let n = batch.ids.len();
            prop_assert_eq!(batch.segment_lengths.iter().sum::<usize>(), n);
            prop_assert!(batch.positions.len() == n && batch.labels.len() == n && batch.sample_of_token.len() == n);
            let mut start = 0;
            for length in &batch.segment_lengths {
                for at in 0..*length {
                    let here = start + at;
                    prop_assert_eq!(batch.positions[here] as usize, at);
                    let sample = batch.sample_of_token[here] as usize;
                    prop_assert_eq!(batch.sample_rows[sample], 100 + batch.ids[here] as usize / 1000);
                    let next = (at + 1 < *length).then(|| batch.ids[here + 1]);
                    let label = next.filter(|id| id % 1000 % 2 == 1).map_or(IGNORED_LABEL, i64::from);
                    prop_assert_eq!(batch.labels[here], label);
                }
                start += length;
            }
            if packing != Packing::Samples {
                prop_assert!(n <= batch_size * max_length);
            }
        }
        if packing != Packing::Wrapped {
            let n_segments: usize = found.iter().map(|batch| batch.segment_lengths.len()).sum();
            prop_assert_eq!(n_segments, lengths.len());
        }
        for loss in [LossFunction::TokenAveragedCrossEntropy, LossFunction::SampleAveragedCrossEntropy] {
            let total: f64 = token_weights(&found, loss).iter().flatten().map(|weight| f64::from(*weight)).sum();
            let has_labels = found.iter().any(|batch| batch.labels.iter().any(|label| *label != IGNORED_LABEL));
            prop_assert!((total - f64::from(u8::from(has_labels))).abs() < 1e-5, "weights sum to {}", total);
        }
    }
}
