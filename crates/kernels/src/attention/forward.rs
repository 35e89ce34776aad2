//! The forward pass: scores block by block, with a softmax that is corrected as larger scores turn up.

use std::ops::Range;

use super::key_blocks::{Columns, KeyBlocks, Rows};
use super::{Heads, cap_scores, gather_rows, query_indices};
use crate::Level;
use crate::buffer::first;
use crate::disjoint::Disjoint;
use crate::math::exp_of_difference;
use crate::parallel::run_with;
use crate::product::{
    Compute, Element, Engine, Matrix, Micro, Output, PackScratch, Right, WithLoop, transpose, with_loop,
};
use crate::simd::simd_kernel;

/// Rows that one task does, a few panels.
const ROWS_PER_TASK: usize = 192;

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
    let (y, log_sums) = (Disjoint::new(y), Disjoint::new(log_sums));
    with_loop(level, compute, Forward { heads, offsets, q, k, v, y, log_sums });
}

struct Forward<'a> {
    heads: Heads,
    offsets: &'a [usize],
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    y: Disjoint<'a>,
    log_sums: Disjoint<'a>,
}

/// Some rows of a segment, with one key/value head.
struct Task {
    segment_idx: usize,
    kv_head: usize,
    rows: Range<usize>,
}

impl WithLoop for Forward<'_> {
    fn run<M: Micro>(self, engine: Engine<M>) {
        let blocks = KeyBlocks::new::<M>(self.offsets);
        let keys = Rows::new(engine, self.heads, &blocks, self.k);
        let values = Columns::new(engine, self.heads, &blocks, self.v);
        let mut tasks = Vec::new();
        for (segment_idx, pair) in self.offsets.windows(2).enumerate() {
            let n_rows = (pair[1] - pair[0]) * self.heads.group();
            // The rows that see most first, so that no thread is left with them at the end.
            for first in (0..n_rows).step_by(ROWS_PER_TASK).rev() {
                let rows = first..n_rows.min(first + ROWS_PER_TASK);
                tasks.extend((0..self.heads.n_kv_heads).map(|kv_head| Task {
                    segment_idx,
                    kv_head,
                    rows: rows.clone(),
                }));
            }
        }
        run_with(tasks, Scratch::default, |scratch, task| {
            for first in task.rows.clone().step_by(M::COLUMNS) {
                let rows = first..task.rows.end.min(first + M::COLUMNS);
                scratch.attend(engine, &self, &blocks, &keys, &values, &task, rows.clone());
                scratch.write(engine.level(), &self, &task, rows);
            }
        });
    }
}

/// One worker's buffers; C are the columns of a panel.
#[derive(Default)]
struct Scratch<V> {
    /// [rows, D], scaled
    q: Vec<f32>,
    packing: PackScratch<V>,
    /// The panel's queries as lanes.
    q_lanes: Vec<u32>,
    /// [keys of a block, C]: scores, then exp(score − largest)
    scores: Vec<f32>,
    /// The same as lanes.
    p_lanes: Vec<u32>,
    /// Σ p v so far, [D, C]
    sums: Vec<f32>,
    /// The same, [C, D]
    turned: Vec<f32>,
    /// Largest score so far [C]
    largest: Vec<f32>,
    /// Σ exp(score − largest) so far [C]
    denominators: Vec<f32>,
    /// [C]
    factors: Vec<f32>,
}

impl<V: Element> Scratch<V> {
    /// Computes sums and denominators of one panel of rows.
    fn attend<M: Micro<Value = V>>(
        &mut self,
        engine: Engine<M>,
        job: &Forward,
        blocks: &KeyBlocks,
        keys: &Rows<V>,
        values: &Columns<V>,
        task: &Task,
        rows: Range<usize>,
    ) {
        let Heads { width, scale, .. } = job.heads;
        let start = job.offsets[task.segment_idx];
        self.q.resize(M::COLUMNS * width, 0.0);
        gather_rows(engine.level(), job.heads, job.q, start, task.kv_head, rows.clone(), scale, &mut self.q);
        let q = Right::Matrix(Matrix::new(&self.q, M::COLUMNS, width).t());
        let q_lanes = engine.pack(q, 0..width, 0..M::COLUMNS, &mut self.packing, &mut self.q_lanes);
        let sums = first(&mut self.sums, width * M::COLUMNS);
        sums.fill(0.0);
        let largest = first(&mut self.largest, M::COLUMNS);
        largest.fill(f32::NEG_INFINITY);
        let denominators = first(&mut self.denominators, M::COLUMNS);
        denominators.fill(0.0);
        let factors = first(&mut self.factors, M::COLUMNS);
        let seen = job.heads.visible_to(rows.clone());
        for (block, part) in blocks.parts::<M>(task.segment_idx, seen) {
            let scores = first(&mut self.scores, part.len() * M::COLUMNS);
            let left = keys.left(block, task.kv_head, &part);
            let n_steps = Engine::<M>::n_steps(width);
            engine.multiply(left, q_lanes, n_steps, scores, M::COLUMNS, M::COLUMNS, Output::Overwrite);
            if let Some(cap) = job.heads.cap {
                cap_scores(engine.level(), cap, scores);
            }
            let n_keys = part.len();
            let left = values.left::<M>(block, task.kv_head, &part);
            let state = State { largest, denominators, factors };
            match M::COLUMNS {
                32 => absorb::<32>(engine.level(), job.heads, rows.start, part, scores, state),
                16 => absorb::<16>(engine.level(), job.heads, rows.start, part, scores, state),
                _ => absorb::<8>(engine.level(), job.heads, rows.start, part, scores, state),
            }
            if factors.iter().any(|factor| *factor != 1.0) {
                scale_rows(engine.level(), factors, sums);
            }
            let p = engine.lanes(scores, &mut self.p_lanes);
            let n_steps = Engine::<M>::n_steps(n_keys);
            engine.multiply(left, p, n_steps, sums, M::COLUMNS, M::COLUMNS, Output::Add);
        }
    }

    fn write(&mut self, level: Level, job: &Forward, task: &Task, rows: Range<usize>) {
        let heads = job.heads;
        let n_columns = self.denominators.len();
        self.turned.resize(n_columns * heads.width, 0.0);
        transpose(level, &self.sums, n_columns, heads.width, n_columns, &mut self.turned, heads.width);
        let rows_sums = self.turned.chunks_exact(heads.width);
        let queries = query_indices(heads, job.offsets[task.segment_idx], task.kv_head, rows);
        for ((query, sums), (largest, denominator)) in
            queries.zip(rows_sums).zip(self.largest.iter().zip(&self.denominators))
        {
            let at = query * heads.width;
            // SAFETY: every row belongs to one task, which visits it once.
            let (y, log_sum) =
                unsafe { (job.y.part(at..at + heads.width), job.log_sums.part(query..query + 1)) };
            let factor = 1.0 / denominator;
            y.iter_mut().zip(sums).for_each(|(y, sum)| *y = sum * factor);
            log_sum.fill(largest + denominator.ln());
        }
    }
}

struct State<'a> {
    largest: &'a mut [f32],
    denominators: &'a mut [f32],
    /// Filled with what sums shrink by because of larger scores.
    factors: &'a mut [f32],
}

simd_kernel! {
    /// Turns scores [keys, C] into exp(score − largest), 0 where a row does not see a key, and brings the rows' state up
    /// to date.
    fn absorb<S, const C: usize>(heads: Heads, first_row: usize, keys: Range<usize>, scores: &mut [f32], state: State) {
        let (scores, _) = scores.as_chunks_mut::<C>();
        let State { largest, denominators, factors } = state;
        let (Some(largest), Some(denominators), Some(factors)) =
            (largest.first_chunk_mut::<C>(), denominators.first_chunk_mut::<C>(), factors.first_chunk_mut::<C>())
        else {
            return;
        };
        let mut top = *largest;
        for (key, scores) in keys.clone().zip(&mut *scores) {
            let seen = heads.rows_that_see(key, first_row, C);
            if seen.len() < C {
                scores[..seen.start].fill(f32::NEG_INFINITY);
                scores[seen.end..].fill(f32::NEG_INFINITY);
            }
            for i in 0..C {
                top[i] = if scores[i] > top[i] { scores[i] } else { top[i] };
            }
        }
        let mut total = *denominators;
        for i in 0..C {
            // A row that has seen no key yet: any number will do for its largest score, since its sums are 0.
            let shift = if top[i] == f32::NEG_INFINITY { 0.0 } else { top[i] };
            factors[i] = exp_of_difference::<S>(largest[i] - shift);
            total[i] *= factors[i];
            largest[i] = top[i];
            top[i] = shift;
        }
        for (key, scores) in keys.zip(scores) {
            for i in 0..C {
                scores[i] = exp_of_difference::<S>(scores[i] - top[i]);
            }
            let seen = heads.rows_that_see(key, first_row, C);
            if seen.len() < C {
                scores[..seen.start].fill(0.0);
                scores[seen.end..].fill(0.0);
            }
            for i in 0..C {
                total[i] += scores[i];
            }
        }
        *denominators = total;
    }
}

simd_kernel! {
    /// sums[d, row] *= factors[row]
    fn scale_rows<S>(factors: &[f32], sums: &mut [f32]) {
        for sums in sums.chunks_exact_mut(factors.len()) {
            for (sum, factor) in sums.iter_mut().zip(factors) {
                *sum *= *factor;
            }
        }
    }
}
