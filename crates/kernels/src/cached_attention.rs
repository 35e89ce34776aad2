//! Attention of a few new tokens over the cached keys and values of their sequence (no gradient).
//!
//! The formula is that of [`crate::attention`]; the T new queries are the last T of the sequence's positions.

use crate::Level;
use crate::attention::{Heads, cap_scores};
use crate::disjoint::Disjoint;
use crate::lanes::{dot, map_and_sum, maximum};
use crate::math::exp;
use crate::parallel::run_with;
use crate::simd::simd_kernel;

/// One sequence: its new queries and all its keys and values.
#[derive(Clone, Copy, Debug)]
pub struct Sequence<'a> {
    /// The first of its rows in q and y.
    pub first_row: usize,
    /// T, the number of its rows in q and y; they are the last T positions.
    pub n_queries: usize,
    /// [n_keys, K, D], the new ones included.
    pub keys: &'a [f32],
    /// [n_keys, K, D], the new ones included.
    pub values: &'a [f32],
}

/// Fills y [N, H, D] from q [N, H, D], where N counts the new tokens of all sequences.
///
/// The order of summation depends only on the position of the query: a sequence gives the same bits alone as in a batch,
/// and a token the same bits as a single step or as part of a longer one.
pub fn forward(level: Level, heads: Heads, sequences: &[Sequence], q: &[f32], y: &mut [f32]) {
    heads.check();
    assert_eq!(q.len(), y.len(), "cached attention: lengths of q and y");
    let mut tasks = Vec::new();
    let mut next_row = 0;
    for sequence in sequences {
        let n_keys = sequence.keys.len() / heads.key_width();
        assert_eq!(
            sequence.values.len(),
            sequence.keys.len(),
            "cached attention: lengths of keys and values"
        );
        assert!(sequence.n_queries <= n_keys, "cached attention: more queries than keys");
        assert!(next_row <= sequence.first_row, "cached attention: sequences share rows");
        next_row = sequence.first_row + sequence.n_queries;
        for query in 0..sequence.n_queries {
            let position = n_keys - sequence.n_queries + query;
            let row = sequence.first_row + query;
            tasks.extend((0..heads.n_kv_heads).map(|kv_head| Task { sequence, position, row, kv_head }));
        }
    }
    assert!(next_row * heads.query_width() <= q.len(), "cached attention: rows of the sequences beyond q");
    let out = Disjoint::new(y);
    let group_width = heads.group() * heads.width;
    run_with(tasks, Vec::new, |scores: &mut Vec<f32>, task| {
        let at = task.row * heads.query_width() + task.kv_head * group_width;
        // SAFETY: every (row, key/value head) belongs to one task, since the sequences' rows do not overlap (asserted).
        let y = unsafe { out.part(at..at + group_width) };
        let seen = heads.visible(task.position);
        scores.resize(seen.len() * heads.group(), 0.0);
        let from = seen.start * heads.key_width() + task.kv_head * heads.width;
        let rows = (&task.sequence.keys[from..], &task.sequence.values[from..]);
        attend(level, heads, rows.0, rows.1, &q[at..at + group_width], scores, y);
    });
}

struct Task<'a> {
    sequence: &'a Sequence<'a>,
    position: usize,
    row: usize,
    kv_head: usize,
}

/// All heads of one group for one query; `keys` and `values` start at the first key it sees.
fn attend(
    level: Level,
    heads: Heads,
    keys: &[f32],
    values: &[f32],
    q: &[f32],
    scores: &mut [f32],
    y: &mut [f32],
) {
    let n_keys = scores.len() / heads.group();
    score(level, heads, keys, q, scores);
    if let Some(cap) = heads.cap {
        cap_scores(level, cap, scores);
    }
    for scores in scores.chunks_exact_mut(n_keys) {
        softmax(level, scores);
    }
    blend(level, heads, values, scores, y);
}

simd_kernel! {
    /// scores[h, s] = scale · q[h]·keys[s]: keys are read where they lie, once
    fn score<S>(heads: Heads, keys: &[f32], q: &[f32], scores: &mut [f32]) {
        let n_keys = scores.len() / heads.group();
        for (s, key) in keys.chunks(heads.key_width()).take(n_keys).enumerate() {
            for (h, q) in q.chunks_exact(heads.width).enumerate() {
                scores[h * n_keys + s] = heads.scale * dot::<S>(q, &key[..heads.width]);
            }
        }
    }
}

simd_kernel! {
    /// y[h] = Σ over s of p[h, s] values[s]
    fn blend<S>(heads: Heads, values: &[f32], p: &[f32], y: &mut [f32]) {
        let n_keys = p.len() / heads.group();
        y.fill(0.0);
        for (s, value) in values.chunks(heads.key_width()).take(n_keys).enumerate() {
            for (h, y) in y.chunks_exact_mut(heads.width).enumerate() {
                let p = p[h * n_keys + s];
                for (y, value) in y.iter_mut().zip(value) {
                    *y = S::mul_add(p, *value, *y);
                }
            }
        }
    }
}

simd_kernel! {
    fn softmax<S>(scores: &mut [f32]) {
        let largest = maximum(scores);
        let factor = 1.0 / map_and_sum(scores, |score| exp::<S>(score - largest));
        for score in scores.iter_mut() {
            *score *= factor;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attention;
    use crate::testing::{random, same_for_any_number_of_threads, worst_difference};

    fn heads(window: usize) -> Heads {
        Heads { n_heads: 6, n_kv_heads: 2, width: 20, scale: 0.3, cap: None, window }
    }

    /// y by the kernel of whole segments.
    fn whole(heads: Heads, n: usize, q: &[f32], k: &[f32], v: &[f32]) -> Vec<f32> {
        let (mut y, mut log_sums) = (vec![0.0; q.len()], vec![0.0; n * heads.n_heads]);
        attention::forward(
            Level::best(),
            crate::Compute::F32,
            heads,
            &[0, n],
            q,
            k,
            v,
            &mut y,
            &mut log_sums,
        );
        y
    }

    #[test]
    fn steps_of_any_size_match_whole_segments() {
        let mut worst = 0.0_f32;
        for window in [usize::MAX, 1, 7] {
            let heads = heads(window);
            let n = 40;
            let (queries, keys) = (heads.query_width(), heads.key_width());
            let (q, k, v) = (random(n * queries, 1), random(n * keys, 2), random(n * keys, 3));
            let want = whole(heads, n, &q, &k, &v);
            for level in Level::available() {
                for steps in [vec![40], vec![1; 40], vec![17, 1, 1, 20, 1]] {
                    let mut got = vec![9.0; q.len()];
                    let mut known = 0;
                    for n_queries in steps {
                        let rows = known * queries..(known + n_queries) * queries;
                        known += n_queries;
                        let (keys, values) = (&k[..known * keys], &v[..known * keys]);
                        let sequence = Sequence { first_row: 0, n_queries, keys, values };
                        forward(level, heads, &[sequence], &q[rows.clone()], &mut got[rows]);
                    }
                    worst = worst.max(worst_difference(&got, &want));
                }
            }
        }
        println!("cached attention: worst difference {worst:.2e}");
        assert!(worst < 2e-6);
    }

    #[test]
    fn neither_threads_nor_neighbours_change_a_bit() {
        let heads = heads(usize::MAX);
        let (queries, keys) = (heads.query_width(), heads.key_width());
        let (q, k, v) = (random(5 * queries, 1), random(90 * keys, 2), random(90 * keys, 3));
        let sequence = |first_row, n_queries, n_keys: usize| Sequence {
            first_row,
            n_queries,
            keys: &k[..n_keys * keys],
            values: &v[..n_keys * keys],
        };
        let batch = [sequence(0, 1, 90), sequence(1, 0, 3), sequence(1, 3, 50), sequence(4, 1, 1)];
        same_for_any_number_of_threads(|| {
            let mut y = vec![0.0; q.len()];
            forward(Level::best(), heads, &batch, &q, &mut y);
            for Sequence { first_row, n_queries, keys, values } in batch {
                let rows = first_row * queries..(first_row + n_queries) * queries;
                let mut alone = vec![0.0; rows.len()];
                let sequence = Sequence { first_row: 0, n_queries, keys, values };
                forward(Level::best(), heads, &[sequence], &q[rows.clone()], &mut alone);
                assert_eq!(alone, y[rows]);
            }
            vec![y]
        });
    }
}
