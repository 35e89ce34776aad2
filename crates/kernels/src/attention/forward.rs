//! The forward pass: scores block by block, with a softmax that is corrected as larger scores turn up.

use std::ops::Range;

use super::{Heads, KEYS_PER_BLOCK, gather_rows};
use crate::Level;
use crate::disjoint::Disjoint;
use crate::lanes::{map_and_sum, maximum};
use crate::math::exp;
use crate::parallel::run_with;
use crate::product::{Compute, Matrix, MatrixMut, Output, Term, Threads, product};
use crate::simd::simd_kernel;

/// Fills y [N, H, D] and, per query and head, the logarithm of the softmax's denominator [N, H].
///
/// `offsets` has the position where each segment starts, followed by N.
pub fn forward(
    level: Level,
    compute: Compute,
    heads: Heads,
    offsets: &[usize],
    q: &[f32],
    k: &[f32],
    v: &[f32],
    y: &mut [f32],
    log_sums: &mut [f32],
) {
    heads.check();
    let n_tokens = offsets.last().copied().unwrap_or(0);
    let (n_queries, n_keys) = (n_tokens * heads.query_width(), n_tokens * heads.key_width());
    assert_eq!((q.len(), k.len(), v.len()), (n_queries, n_keys, n_keys), "attention: lengths of q, k, v");
    assert_eq!((y.len(), log_sums.len()), (n_queries, n_tokens * heads.n_heads), "attention: output lengths");
    let outputs = Outputs { y: Disjoint::new(y), log_sums: Disjoint::new(log_sums) };
    let mut tasks = Vec::new();
    for segment in offsets.windows(2).map(|pair| pair[0]..pair[1]) {
        for first in segment.clone().step_by(heads.queries_per_block()) {
            let queries = first..segment.end.min(first + heads.queries_per_block());
            tasks.extend((0..heads.n_kv_heads).map(|kv_head| Task {
                segment: segment.clone(),
                queries: queries.clone(),
                kv_head,
            }));
        }
    }
    run_with(tasks, Scratch::default, |scratch, task| {
        scratch.attend(level, compute, heads, &task, q, k, v);
        scratch.write(heads, &task, &outputs);
    });
}

struct Task {
    /// Tokens of the segment.
    segment: Range<usize>,
    /// Tokens of this block of queries.
    queries: Range<usize>,
    kv_head: usize,
}

struct Outputs<'a> {
    y: Disjoint<'a>,
    log_sums: Disjoint<'a>,
}

/// One worker's buffers; a row is a (query, head of the group) pair.
#[derive(Default)]
struct Scratch {
    /// [rows, D], scaled
    q: Vec<f32>,
    /// [rows, keys of a block]
    scores: Vec<f32>,
    /// Σ p v so far, [rows, D]
    sums: Vec<f32>,
    /// Largest score so far [rows]
    largest: Vec<f32>,
    /// Σ exp(score − largest) so far [rows]
    denominators: Vec<f32>,
}

impl Scratch {
    fn attend(
        &mut self,
        level: Level,
        compute: Compute,
        heads: Heads,
        task: &Task,
        q: &[f32],
        k: &[f32],
        v: &[f32],
    ) {
        let Heads { width, .. } = heads;
        let n_rows = task.queries.len() * heads.group();
        self.q.resize(n_rows * width, 0.0);
        self.sums.resize(n_rows * width, 0.0);
        gather_rows(heads, q, task.queries.clone(), task.kv_head, heads.scale, &mut self.q);
        self.sums.fill(0.0);
        self.largest.clear();
        self.largest.resize(n_rows, f32::NEG_INFINITY);
        self.denominators.clear();
        self.denominators.resize(n_rows, 0.0);

        // Positions count from the segment's start.
        let start = task.segment.start;
        let queries = task.queries.start - start..task.queries.end - start;
        let seen = heads.visible(queries.start).start..queries.end;
        for first in seen.clone().step_by(KEYS_PER_BLOCK) {
            let keys = first..seen.end.min(first + KEYS_PER_BLOCK);
            self.scores.resize(n_rows * keys.len(), 0.0);
            let at = (start + keys.start) * heads.key_width() + task.kv_head * width;
            let block = |of: &'_ [f32]| -> Range<usize> {
                at..of.len().min(at + (keys.len() - 1) * heads.key_width() + width)
            };
            let keys_block = Matrix::with_stride(&k[block(k)], keys.len(), width, heads.key_width());
            let values_block = Matrix::with_stride(&v[block(v)], keys.len(), width, heads.key_width());
            let scores = MatrixMut::new(&mut self.scores, n_rows, keys.len());
            let q = Matrix::new(&self.q, n_rows, width);
            product(level, compute, scores, Output::Overwrite, &[Term::new(q, keys_block.t())], Threads::One);
            let rows = Rows { first_query: queries.start, group: heads.group(), keys: keys.clone() };
            let state = State {
                sums: &mut self.sums,
                largest: &mut self.largest,
                denominators: &mut self.denominators,
            };
            absorb_block(level, heads, rows, &mut self.scores, state);
            let p = Matrix::new(&self.scores, n_rows, keys.len());
            let sums = MatrixMut::new(&mut self.sums, n_rows, width);
            product(level, compute, sums, Output::Add, &[Term::new(p, values_block)], Threads::One);
        }
    }

    fn write(&self, heads: Heads, task: &Task, outputs: &Outputs) {
        let (group, width) = (heads.group(), heads.width);
        let mut rows = self.sums.chunks_exact(width).zip(self.largest.iter().zip(&self.denominators));
        for token in task.queries.clone() {
            for head in task.kv_head * group..(task.kv_head + 1) * group {
                let Some((sums, (largest, denominator))) = rows.next() else { return };
                let at = token * heads.n_heads + head;
                // SAFETY: every (token, head) belongs to one task, which visits it once.
                let (y, log_sum) = unsafe {
                    (outputs.y.part(at * width..(at + 1) * width), outputs.log_sums.part(at..at + 1))
                };
                let factor = 1.0 / denominator;
                y.iter_mut().zip(sums).for_each(|(y, sum)| *y = sum * factor);
                log_sum.fill(largest + denominator.ln());
            }
        }
    }
}

/// Which rows and keys a block of scores holds, as positions in the segment.
struct Rows {
    first_query: usize,
    group: usize,
    keys: Range<usize>,
}

struct State<'a> {
    sums: &'a mut [f32],
    largest: &'a mut [f32],
    denominators: &'a mut [f32],
}

simd_kernel! {
    /// Turns scores into exp(score − largest), 0 where a query does not see a key, and brings the rows' state up to date.
    fn absorb_block<S>(heads: Heads, rows: Rows, scores: &mut [f32], state: State) {
        let n_keys = rows.keys.len();
        let per_row = state.largest.iter_mut().zip(state.denominators).zip(state.sums.chunks_exact_mut(heads.width));
        for (row, (scores, ((largest, denominator), sums))) in
            scores.chunks_exact_mut(n_keys).zip(per_row).enumerate()
        {
            let visible = heads.visible(rows.first_query + row / rows.group);
            let start = visible.start.clamp(rows.keys.start, rows.keys.end) - rows.keys.start;
            let end = visible.end.clamp(rows.keys.start, rows.keys.end) - rows.keys.start;
            scores[..start].fill(0.0);
            scores[end.max(start)..].fill(0.0);
            if end <= start {
                continue;
            }
            let scores = &mut scores[start..end];
            let block_largest = maximum(scores);
            if *largest < block_largest {
                // exp(−∞) = 0 on the first block.
                let factor = exp::<S>(*largest - block_largest);
                *denominator *= factor;
                for sum in sums.iter_mut() {
                    *sum *= factor;
                }
                *largest = block_largest;
            }
            let shift = *largest;
            *denominator += map_and_sum(scores, |score| exp::<S>(score - shift));
        }
    }
}
