//! The forward pass: scores block by block, with a softmax that is corrected as larger scores turn up.
//!
//! Scores lie as [keys, rows]: keys and values are then read where they are, a row's softmax runs along its column, and
//! whatever is done for each row is done for a vector of rows at once.

use std::ops::Range;

use super::{Heads, KEYS_PER_BLOCK, gather_rows};
use crate::Level;
use crate::disjoint::Disjoint;
use crate::math::exp;
use crate::parallel::run_with;
use crate::product::{Compute, Matrix, MatrixMut, Output, Term, Threads, product, transpose};
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
    /// [keys of a block, rows]
    scores: Vec<f32>,
    /// Σ p v so far, [D, rows]
    sums: Vec<f32>,
    /// The same, [rows, D]
    turned: Vec<f32>,
    /// Largest score so far [rows]
    largest: Vec<f32>,
    /// Σ exp(score − largest) so far [rows]
    denominators: Vec<f32>,
    /// What the sums shrink by when a larger score turns up [rows]
    factors: Vec<f32>,
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
        self.factors.resize(n_rows, 0.0);

        // Positions count from the segment's start.
        let start = task.segment.start;
        let queries = task.queries.start - start..task.queries.end - start;
        let seen = heads.visible(queries.start).start..queries.end;
        for first in seen.clone().step_by(KEYS_PER_BLOCK) {
            let keys = first..seen.end.min(first + KEYS_PER_BLOCK);
            self.scores.resize(keys.len() * n_rows, 0.0);
            let at = (start + keys.start) * heads.key_width() + task.kv_head * width;
            let block = |of: &'_ [f32]| -> Range<usize> {
                at..of.len().min(at + (keys.len() - 1) * heads.key_width() + width)
            };
            let keys_block = Matrix::with_stride(&k[block(k)], keys.len(), width, heads.key_width());
            let values_block = Matrix::with_stride(&v[block(v)], keys.len(), width, heads.key_width());
            let q = Matrix::new(&self.q, n_rows, width);
            let scores = MatrixMut::new(&mut self.scores, keys.len(), n_rows);
            let term = Term::new(keys_block, q.t());
            product(level, compute, scores, Output::Overwrite, &[term], Threads::One);
            let rows = Rows { first_query: queries.start, keys: keys.clone() };
            let state = State {
                sums: &mut self.sums,
                largest: &mut self.largest,
                denominators: &mut self.denominators,
                factors: &mut self.factors,
            };
            absorb_block(level, heads, rows, &mut self.scores, state);
            let p = Matrix::new(&self.scores, keys.len(), n_rows);
            let sums = MatrixMut::new(&mut self.sums, width, n_rows);
            let term = Term::new(values_block.t(), p);
            product(level, compute, sums, Output::Add, &[term], Threads::One);
        }
        self.turned.resize(n_rows * width, 0.0);
        transpose(level, &self.sums, n_rows, width, n_rows, &mut self.turned, width);
    }

    fn write(&self, heads: Heads, task: &Task, outputs: &Outputs) {
        let (group, width) = (heads.group(), heads.width);
        let mut rows = self.turned.chunks_exact(width).zip(self.largest.iter().zip(&self.denominators));
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
    keys: Range<usize>,
}

struct State<'a> {
    sums: &'a mut [f32],
    largest: &'a mut [f32],
    denominators: &'a mut [f32],
    factors: &'a mut [f32],
}

simd_kernel! {
    /// Turns scores into exp(score − largest), 0 where a query does not see a key, and brings the rows' state up to date.
    fn absorb_block<S>(heads: Heads, rows: Rows, scores: &mut [f32], state: State) {
        let State { sums, largest, denominators, factors } = state;
        let n_rows = largest.len();
        factors.copy_from_slice(largest);
        for (key, scores) in rows.keys.zip(scores.chunks_exact_mut(n_rows)) {
            let seen = heads.rows_that_see(key, rows.first_query, n_rows);
            scores[..seen.start].fill(f32::NEG_INFINITY);
            scores[seen.end..].fill(f32::NEG_INFINITY);
            for (largest, score) in largest.iter_mut().zip(&*scores) {
                *largest = if *score > *largest { *score } else { *largest };
            }
        }
        for (factor, largest) in factors.iter_mut().zip(&mut *largest) {
            // A row that has seen no key yet: any number will do for its largest score, since its sums are 0.
            let shift = if *largest == f32::NEG_INFINITY { 0.0 } else { *largest };
            *factor = exp::<S>(*factor - shift);
        }
        for (denominator, factor) in denominators.iter_mut().zip(&*factors) {
            *denominator *= *factor;
        }
        for sums in sums.chunks_exact_mut(n_rows) {
            for (sum, factor) in sums.iter_mut().zip(&*factors) {
                *sum *= *factor;
            }
        }
        for scores in scores.chunks_exact_mut(n_rows) {
            for ((score, largest), denominator) in scores.iter_mut().zip(&*largest).zip(&mut *denominators) {
                let shift = if *largest == f32::NEG_INFINITY { 0.0 } else { *largest };
                *score = exp::<S>(*score - shift);
                *denominator += *score;
            }
        }
    }
}
