//! Which rows validate and which are sampled: the same rows that scikit-learn, NumPy and pandas choose.

use std::collections::HashSet;

use crate::legacy_random::permutation;

const SPLIT_SEED: u32 = 1337;
const SAMPLE_SEED: u32 = 7331;
/// Sampling rows keeps at least so many.
const MIN_SAMPLED_ROWS: usize = 10;

/// Positions of training and of validation data.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Split {
    pub(crate) train: Vec<usize>,
    pub(crate) validation: Vec<usize>,
}

/// A share of `n` rows, rounded up, drawn for validation; both parts in the order of the draw.
pub(crate) fn split_rows(n: usize, validation_size: f64) -> Split {
    let mut validation = permutation(n, SPLIT_SEED);
    let train = validation.split_off(share_rounded_up(n, validation_size));
    Split { train, validation }
}

/// A share of the groups, rounded up, drawn for validation. `group_sizes` are the groups in order, lying end to
/// end; the answers are positions in that line, ascending.
pub(crate) fn split_groups(group_sizes: &[usize], validation_size: f64) -> Split {
    let order = permutation(group_sizes.len(), SPLIT_SEED);
    let n_validation = share_rounded_up(group_sizes.len(), validation_size);
    let chosen: HashSet<usize> = order.into_iter().take(n_validation).collect();
    let mut split = Split { train: Vec::new(), validation: Vec::new() };
    let mut start = 0;
    for (group_idx, size) in group_sizes.iter().enumerate() {
        let part = if chosen.contains(&group_idx) { &mut split.validation } else { &mut split.train };
        part.extend(start..start + size);
        start += size;
    }
    split
}

/// A share of `n` rows, rounded down, at least ten, in the order of the draw.
pub(crate) fn sample_rows(n: usize, fraction: f64) -> Vec<usize> {
    let n_kept = share_rounded_down(n, fraction).max(MIN_SAMPLED_ROWS).min(n);
    let mut rows = permutation(n, SAMPLE_SEED);
    rows.truncate(n_kept);
    rows
}

/// All rows of a share of the conversations, rounded down but at least one; in table order. `roots` tells for each
/// row which conversation it belongs to.
pub(crate) fn sample_conversations(roots: &[usize], fraction: f64) -> Vec<usize> {
    let mut seen = HashSet::new();
    let distinct: Vec<usize> = roots.iter().copied().filter(|root| seen.insert(*root)).collect();
    let n_kept = share_rounded_down(distinct.len(), fraction).max(1);
    let order = permutation(distinct.len(), SAMPLE_SEED);
    let chosen: HashSet<usize> =
        order.into_iter().take(n_kept).filter_map(|i| distinct.get(i).copied()).collect();
    (0..roots.len()).filter(|row_idx| roots.get(*row_idx).is_some_and(|root| chosen.contains(root))).collect()
}

fn share_rounded_up(n: usize, share: f64) -> usize {
    ((share * n as f64).ceil() as usize).min(n)
}

fn share_rounded_down(n: usize, share: f64) -> usize {
    (n as f64 * share) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gv_3_6_rows_are_split_as_scikit_learn_splits_them() {
        let split = split_rows(10, 0.2);
        assert_eq!(split.validation, [6, 3]);
        assert_eq!(split.train, [0, 4, 5, 2, 1, 9, 8, 7]);
        assert_eq!(split_rows(20, 0.1).validation, [5, 3]);
        let split = split_rows(7, 0.3);
        assert_eq!((split.validation, split.train), (vec![6, 2, 1], vec![3, 0, 4, 5]));
        assert_eq!(split_rows(100, 0.01).validation, [2]);
        assert!(split_rows(1, 0.5).train.is_empty());
    }

    #[test]
    fn gv_3_6_groups_are_split_as_scikit_learn_splits_them() {
        // Group labels 0, 0, 1, 2, 2, 2, 3, 4, 4, 5.
        let sizes = [2, 1, 3, 1, 2, 1];
        assert_eq!(split_groups(&sizes, 0.4).validation, [2, 3, 4, 5, 6]);
        assert_eq!(split_groups(&sizes, 0.2).validation, [3, 4, 5, 6]);
        assert_eq!(split_groups(&sizes, 0.2).train, [0, 1, 2, 7, 8, 9]);
    }

    #[test]
    fn gv_11_2_groups_are_kept_together_and_nothing_is_lost() {
        // 100 rows in 13 groups of mixed sizes.
        let sizes = [1, 15, 3, 8, 20, 2, 9, 11, 4, 6, 13, 7, 1];
        let split = split_groups(&sizes, 0.2);
        let mut all: Vec<usize> = split.train.iter().chain(&split.validation).copied().collect();
        all.sort_unstable();
        assert_eq!(all, (0..100).collect::<Vec<_>>());
        let mut start = 0;
        for size in sizes {
            let n_validation = (start..start + size).filter(|row| split.validation.contains(row)).count();
            assert!(n_validation == 0 || n_validation == size);
            start += size;
        }
    }

    #[test]
    fn gv_3_7_rows_are_sampled_as_pandas_samples_them() {
        assert_eq!(sample_rows(30, 0.4), [20, 14, 6, 19, 5, 24, 16, 28, 8, 0, 26, 11]);
        assert_eq!(sample_rows(30, 0.01).len(), 10, "at least ten");
        assert_eq!(sample_rows(4, 0.5).len(), 4, "but not more than there are");
    }

    #[test]
    fn gv_11_3_whole_conversations_are_sampled() {
        // Ten conversations a to j of two rows; the draw of three is h, i, a.
        let roots: Vec<usize> = (0..10).flat_map(|conversation| [conversation * 2; 2]).collect();
        assert_eq!(sample_conversations(&roots, 0.3), [0, 1, 14, 15, 16, 17]);
        assert_eq!(sample_conversations(&roots, 0.05).len(), 2, "at least one conversation");
    }
}
