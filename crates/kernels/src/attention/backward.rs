//! The backward pass: each task owns a stretch of one segment's keys and one key/value head.

use std::ops::Range;

use super::key_blocks::{Columns, KeyBlock, KeyBlocks, Rows};
use super::{Heads, KEYS_PER_BLOCK, cap_scores, gather_rows, query_indices};
use crate::Level;
use crate::buffer::first;
use crate::disjoint::Disjoint;
use crate::lanes::dot;
use crate::math::exp_of_difference;
use crate::parallel::{rows_per_task, run, run_with};
use crate::product::{
    Compute, Element, Engine, Left, Matrix, Micro, Output, PackScratch, Right, WithLoop, transpose, with_loop,
};
use crate::simd::simd_kernel;
use crate::sum::add_to;

/// Rows that are multiplied with a block of keys at a time: enough to make the products for dk and dv, which sum over
/// them, efficient.
const ROWS_PER_BLOCK: usize = 64;
/// Keys of a stretch, at least.
const MIN_KEYS_PER_STRETCH: usize = 256;
/// Stretches of a segment, at most: each further one than the first costs memory of the size of dq.
const MAX_STRETCHES: usize = 8;

/// All three gradients; they are cheap together and of little use apart.
#[derive(Debug)]
pub struct Gradients<'a> {
    /// dq [N, H, D]
    pub q: &'a mut [f32],
    /// dk [N, K, D]
    pub k: &'a mut [f32],
    /// dv [N, K, D]
    pub v: &'a mut [f32],
}

/// Fills the gradients from dy [N, H, D] and what [`super::forward`] computed.
pub fn backward(
    level: Level,
    compute: Compute,
    heads: Heads,
    offsets: &[usize],
    q: &[f32],
    k: &[f32],
    v: &[f32],
    y: &[f32],
    log_sums: &[f32],
    dy: &[f32],
    gradients: Gradients,
) {
    heads.check();
    let n_tokens = offsets.last().copied().unwrap_or(0);
    let (n_queries, n_keys) = (n_tokens * heads.query_width(), n_tokens * heads.key_width());
    assert_eq!(
        (q.len(), y.len(), dy.len()),
        (n_queries, n_queries, n_queries),
        "attention: lengths of q, y, dy"
    );
    assert_eq!((k.len(), v.len()), (n_keys, n_keys), "attention: lengths of k, v");
    let outputs = (gradients.q.len(), gradients.k.len(), gradients.v.len());
    assert_eq!(outputs, (n_queries, n_keys, n_keys), "attention: lengths of the gradients");
    assert_eq!(log_sums.len(), n_tokens * heads.n_heads, "attention: length of the log sums");

    let mut e = vec![0.0; log_sums.len()];
    let rows = rows_per_task(heads.width);
    let tasks =
        dy.chunks(rows * heads.width).zip(y.chunks(rows * heads.width)).zip(e.chunks_mut(rows)).collect();
    run(tasks, |((dy, y), e)| dot_rows(level, heads.width, dy, y, e));

    let (tasks, n_partial) = plan(heads, offsets);
    gradients.q.fill(0.0);
    let mut partials = vec![0.0; n_partial];
    let inputs = Inputs { q, k, v, log_sums, dy, e: &e };
    let outputs = Outputs {
        q: Disjoint::new(gradients.q),
        partials: Disjoint::new(&mut partials),
        k: Disjoint::new(gradients.k),
        v: Disjoint::new(gradients.v),
    };
    with_loop(level, compute, Backward { heads, offsets, tasks, inputs, outputs });
    add_partials(level, heads, offsets, &partials, gradients.q);
}

struct Backward<'a> {
    heads: Heads,
    offsets: &'a [usize],
    tasks: Vec<Task>,
    inputs: Inputs<'a>,
    outputs: Outputs<'a>,
}

/// A stretch of keys of one segment, for one key/value head.
struct Task {
    segment_idx: usize,
    /// Token of the segment's start.
    start: usize,
    stretch: Stretch,
    kv_head: usize,
    /// Where dq goes: the first stretch of a segment writes to dq itself, each further one to its own partial sum that
    /// starts here. So no two tasks write to the same place and the sums are taken in a fixed order.
    partial: Option<usize>,
}

#[derive(Clone)]
struct Stretch {
    /// Positions in the segment.
    keys: Range<usize>,
    /// Positions in the segment of the queries that see any of the keys.
    queries: Range<usize>,
}

struct Inputs<'a> {
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    log_sums: &'a [f32],
    dy: &'a [f32],
    e: &'a [f32],
}

struct Outputs<'a> {
    q: Disjoint<'a>,
    partials: Disjoint<'a>,
    k: Disjoint<'a>,
    v: Disjoint<'a>,
}

/// The stretches of a segment in order.
fn stretches(heads: Heads, n_tokens: usize) -> impl Iterator<Item = Stretch> {
    let length = n_tokens.div_ceil(MAX_STRETCHES).next_multiple_of(KEYS_PER_BLOCK).max(MIN_KEYS_PER_STRETCH);
    (0..n_tokens).step_by(length).map(move |first| {
        let keys = first..n_tokens.min(first + length);
        let queries = first..n_tokens.min((keys.end - 1).saturating_add(heads.window));
        Stretch { keys, queries }
    })
}

/// The tasks, and the number of elements of all partial sums.
fn plan(heads: Heads, offsets: &[usize]) -> (Vec<Task>, usize) {
    let mut tasks = Vec::new();
    let mut n_partial = 0;
    for (segment_idx, pair) in offsets.windows(2).enumerate() {
        for stretch in stretches(heads, pair[1] - pair[0]) {
            let partial = (stretch.keys.start != 0).then_some(n_partial);
            if partial.is_some() {
                n_partial += stretch.queries.len() * heads.query_width();
            }
            tasks.extend((0..heads.n_kv_heads).map(|kv_head| Task {
                segment_idx,
                start: pair[0],
                stretch: stretch.clone(),
                kv_head,
                partial,
            }));
        }
    }
    // The stretches with most work first, so that no thread is left with one at the end.
    tasks.sort_by_key(|task| std::cmp::Reverse(task.stretch.queries.len()));
    (tasks, n_partial)
}

/// dq += the partial sums, in the order of [`plan`].
fn add_partials(level: Level, heads: Heads, offsets: &[usize], mut partials: &[f32], dq: &mut [f32]) {
    for segment in offsets.windows(2).map(|pair| pair[0]..pair[1]) {
        for Stretch { queries, .. } in stretches(heads, segment.len()).skip(1) {
            let (partial, rest) = partials.split_at(queries.len() * heads.query_width());
            partials = rest;
            let start = (segment.start + queries.start) * heads.query_width();
            add_to(level, partial, &mut dq[start..start + partial.len()]);
        }
    }
}

impl WithLoop for Backward<'_> {
    fn run<M: Micro>(mut self, engine: Engine<M>) {
        let blocks = KeyBlocks::new::<M>(self.offsets);
        let shared = Shared {
            keys: Rows::new(engine, self.heads, &blocks, self.inputs.k),
            keys_turned: Columns::new(engine, self.heads, &blocks, self.inputs.k),
            values: Rows::new(engine, self.heads, &blocks, self.inputs.v),
            blocks,
        };
        let tasks = std::mem::take(&mut self.tasks);
        run_with(tasks, Scratch::default, |scratch, task| scratch.work(engine, &self, &shared, &task));
    }
}

/// Keys and values as products want them.
struct Shared<V> {
    blocks: KeyBlocks,
    keys: Rows<V>,
    keys_turned: Columns<V>,
    values: Rows<V>,
}

/// A factor that has a value for each row (of a block) and element of a head, in the forms that products want.
#[derive(Default)]
struct RowFactor {
    /// [rows, D]
    values: Vec<f32>,
    /// [panel of rows][D][row of the panel]
    turned_lanes: Vec<u32>,
    /// [panel of D][rows][element of the panel]
    lanes: Vec<u32>,
}

/// One worker's buffers; C are the columns of a panel, R the rows of a block.
#[derive(Default)]
struct Scratch<V> {
    packing: PackScratch<V>,
    /// Scaled.
    q: RowFactor,
    dy: RowFactor,
    /// [panel][D, C]
    dq: Vec<f32>,
    /// [C, D]
    dq_turned: Vec<f32>,
    /// [keys, C]: scores, then probabilities
    p: Vec<f32>,
    /// [keys, C]: dy·v, then the gradient of the scores
    dz: Vec<f32>,
    dz_lanes: Vec<u32>,
    /// [keys, C]: with a cap, the derivative of the capped scores
    slopes: Vec<f32>,
    /// [keys, R]
    p_rows: Vec<V>,
    /// [keys, R]
    dz_rows: Vec<V>,
    /// Logarithm of each row's denominator [R]
    log_sums: Vec<f32>,
    /// dy·y of each row [R]
    e: Vec<f32>,
    /// [keys of the stretch, D]
    dk: Vec<f32>,
    /// [keys of the stretch, D]
    dv: Vec<f32>,
}

impl<V: Element> Scratch<V> {
    fn work<M: Micro<Value = V>>(
        &mut self,
        engine: Engine<M>,
        job: &Backward,
        shared: &Shared<V>,
        task: &Task,
    ) {
        let (heads, Stretch { keys, queries }) = (job.heads, task.stretch.clone());
        let width = heads.width;
        for buffer in [&mut self.dk, &mut self.dv] {
            buffer.clear();
            buffer.resize(keys.len() * width, 0.0);
        }
        let rows = queries.start * heads.group()..queries.end * heads.group();
        for first in rows.clone().step_by(ROWS_PER_BLOCK) {
            let rows = first..rows.end.min(first + ROWS_PER_BLOCK);
            // Of the task's keys, those that any row of the block sees.
            let seen = heads.visible_to(rows.clone());
            let seen = seen.start.max(keys.start)..seen.end.min(keys.end);
            if !seen.is_empty() {
                self.load_rows(engine, job, task, rows.clone());
                for (block, part) in shared.blocks.parts::<M>(task.segment_idx, seen) {
                    self.block(engine, heads, shared, task, block, rows.clone(), part);
                }
                self.write_dq(engine, job, task, rows);
            }
        }
        for (position, (dk, dv)) in keys.zip(self.dk.chunks_exact(width).zip(self.dv.chunks_exact(width))) {
            let at = (task.start + position) * heads.key_width() + task.kv_head * width;
            // SAFETY: every (key, key/value head) belongs to one task, which visits it once.
            let (k, v) = unsafe { (job.outputs.k.part(at..at + width), job.outputs.v.part(at..at + width)) };
            k.copy_from_slice(dk);
            v.copy_from_slice(dv);
        }
    }

    /// Brings what belongs to a block of rows into form, whole panels of it, and sets its dq to 0.
    fn load_rows<M: Micro<Value = V>>(
        &mut self,
        engine: Engine<M>,
        job: &Backward,
        task: &Task,
        rows: Range<usize>,
    ) {
        let (heads, inputs) = (job.heads, &job.inputs);
        let n_rows = rows.len().next_multiple_of(M::COLUMNS);
        for (factor, source, scale) in [(&mut self.q, inputs.q, heads.scale), (&mut self.dy, inputs.dy, 1.0)]
        {
            let values = first(&mut factor.values, n_rows * heads.width);
            gather_rows(engine.level(), heads, source, task.start, task.kv_head, rows.clone(), scale, values);
            let values = Matrix::new(values, n_rows, heads.width);
            let (turned, across) = (Right::Matrix(values.t()), Right::Matrix(values));
            engine.pack(turned, 0..heads.width, 0..n_rows, &mut self.packing, &mut factor.turned_lanes);
            engine.pack(across, 0..n_rows, 0..heads.width, &mut self.packing, &mut factor.lanes);
        }
        for (of_rows, of_all) in [(&mut self.log_sums, inputs.log_sums), (&mut self.e, inputs.e)] {
            let of_rows = first(of_rows, n_rows);
            of_rows.fill(0.0);
            let queries = query_indices(heads, task.start, task.kv_head, rows.clone());
            queries.zip(of_rows).for_each(|(query, value)| *value = of_all[query]);
        }
        first(&mut self.dq, n_rows * heads.width).fill(0.0);
    }

    /// Adds what a block of rows and positions `part` of a block of keys give to dk, dv and the rows' dq.
    fn block<M: Micro<Value = V>>(
        &mut self,
        engine: Engine<M>,
        heads: Heads,
        shared: &Shared<V>,
        task: &Task,
        block: &KeyBlock,
        rows: Range<usize>,
        part: Range<usize>,
    ) {
        let width = heads.width;
        let n_panels = rows.len().div_ceil(M::COLUMNS);
        let n_rows = n_panels * M::COLUMNS;
        let d_steps = Engine::<M>::n_steps(width);
        let p_rows = first(&mut self.p_rows, part.len() * n_rows);
        let dz_rows = first(&mut self.dz_rows, part.len() * n_rows);
        for panel_idx in 0..n_panels {
            let first_row = rows.start + panel_idx * M::COLUMNS;
            let last_key = heads.visible_to(first_row..rows.end.min(first_row + M::COLUMNS)).end;
            let seen = part.start..last_key.clamp(part.start, part.end);
            let p = first(&mut self.p, seen.len() * M::COLUMNS);
            let dz = first(&mut self.dz, seen.len() * M::COLUMNS);
            for (left, factor, out) in [
                (shared.keys.left(block, task.kv_head, &seen), &self.q, &mut *p),
                (shared.values.left(block, task.kv_head, &seen), &self.dy, &mut *dz),
            ] {
                let lanes = &factor.turned_lanes[panel_idx * d_steps * M::COLUMNS..];
                engine.multiply(left, lanes, d_steps, out, M::COLUMNS, M::COLUMNS, Output::Overwrite);
            }
            let columns = panel_idx * M::COLUMNS..(panel_idx + 1) * M::COLUMNS;
            let (log_sums, e) = (&self.log_sums[columns.clone()], &self.e[columns.clone()]);
            let level = engine.level();
            let slopes =
                first(&mut self.slopes, if heads.cap.is_some() { seen.len() * M::COLUMNS } else { 0 });
            if let Some(cap) = heads.cap {
                cap_scores(level, cap, p);
                slopes_of(level, cap, p, slopes);
            }
            match M::COLUMNS {
                32 => probabilities::<32>(level, heads, first_row, seen.clone(), log_sums, e, p, dz),
                16 => probabilities::<16>(level, heads, first_row, seen.clone(), log_sums, e, p, dz),
                _ => probabilities::<8>(level, heads, first_row, seen.clone(), log_sums, e, p, dz),
            }
            if heads.cap.is_some() {
                multiply(level, slopes, dz);
            }
            for (values, of_rows) in [(&*p, &mut *p_rows), (&*dz, &mut *dz_rows)] {
                engine.convert_rows(values, M::COLUMNS, &mut of_rows[columns.start..], n_rows);
                for unseen in of_rows.chunks_exact_mut(n_rows).skip(seen.len()) {
                    unseen[columns.clone()].fill(V::default());
                }
            }
            if !seen.is_empty() {
                let keys = shared.keys_turned.left::<M>(block, task.kv_head, &seen);
                let lanes = engine.lanes(dz, &mut self.dz_lanes);
                let dq = &mut self.dq[panel_idx * width * M::COLUMNS..];
                let n_steps = Engine::<M>::n_steps(seen.len());
                engine.multiply(keys, lanes, n_steps, dq, M::COLUMNS, M::COLUMNS, Output::Add);
            }
        }
        let row_steps = Engine::<M>::n_steps(n_rows);
        let owned = (part.start - task.stretch.keys.start) * width;
        for (of_rows, factor, out) in [(&*p_rows, &self.dy, &mut self.dv), (&*dz_rows, &self.q, &mut self.dk)]
        {
            let left = Left { values: of_rows, stride: n_rows, n_rows: part.len() };
            for (panel_idx, column) in (0..width).step_by(M::COLUMNS).enumerate() {
                let lanes = &factor.lanes[panel_idx * row_steps * M::COLUMNS..];
                let n_columns = M::COLUMNS.min(width - column);
                let out = &mut out[owned + column..];
                engine.multiply(left, lanes, row_steps, out, width, n_columns, Output::Add);
            }
        }
    }

    /// Adds the dq of a block of rows to where it belongs.
    fn write_dq<M: Micro>(&mut self, engine: Engine<M>, job: &Backward, task: &Task, rows: Range<usize>) {
        let heads = job.heads;
        let width = heads.width;
        let turned = first(&mut self.dq_turned, M::COLUMNS * width);
        for (panel_idx, first_row) in rows.clone().step_by(M::COLUMNS).enumerate() {
            let dq = &self.dq[panel_idx * width * M::COLUMNS..(panel_idx + 1) * width * M::COLUMNS];
            transpose(engine.level(), dq, M::COLUMNS, width, M::COLUMNS, turned, width);
            let of_panel = first_row..rows.end.min(first_row + M::COLUMNS);
            let queries = query_indices(heads, task.start, task.kv_head, of_panel);
            for (query, dq) in queries.zip(turned.chunks_exact(width)) {
                let (target, at) = match task.partial {
                    None => (&job.outputs.q, query * width),
                    Some(start) => {
                        let first_query = (task.start + task.stretch.queries.start) * heads.n_heads;
                        (&job.outputs.partials, start + (query - first_query) * width)
                    }
                };
                // SAFETY: dq belongs to the tasks of first stretches, of which each (query, key/value head) has one, and
                // each other stretch has its own range of the partial sums.
                let target = unsafe { target.part(at..at + width) };
                target.iter_mut().zip(dq).for_each(|(target, dq)| *target = heads.scale * dq);
            }
        }
    }
}

simd_kernel! {
    /// From scores in p and dy·v in dz, both [keys, C]: probabilities in p and the gradient of the scores in dz, 0 where a
    /// row does not see a key.
    fn probabilities<S, const C: usize>(
        heads: Heads,
        first_row: usize,
        keys: Range<usize>,
        log_sums: &[f32],
        e: &[f32],
        p: &mut [f32],
        dz: &mut [f32],
    ) {
        let ((p, _), (dz, _)) = (p.as_chunks_mut::<C>(), dz.as_chunks_mut::<C>());
        let (Some(log_sums), Some(e)) = (log_sums.first_chunk::<C>(), e.first_chunk::<C>()) else { return };
        for (key, (p, dz)) in keys.zip(p.iter_mut().zip(dz)) {
            for i in 0..C {
                p[i] = exp_of_difference::<S>(p[i] - log_sums[i]);
                dz[i] = p[i] * (dz[i] - e[i]);
            }
            let seen = heads.rows_that_see(key, first_row, C);
            if seen.len() < C {
                for of_rows in [p, dz] {
                    of_rows[..seen.start].fill(0.0);
                    of_rows[seen.end..].fill(0.0);
                }
            }
        }
    }
}

simd_kernel! {
    /// From scores z = cap·tanh(x/cap) the derivative dz/dx = 1 − (z/cap)².
    fn slopes_of<S>(cap: f32, scores: &[f32], slopes: &mut [f32]) {
        let inverse = 1.0 / cap;
        for (score, slope) in scores.iter().zip(slopes) {
            let tanh = score * inverse;
            *slope = S::mul_add(-tanh, tanh, 1.0);
        }
    }
}

simd_kernel! {
    /// values *= factors
    fn multiply<S>(factors: &[f32], values: &mut [f32]) {
        for (value, factor) in values.iter_mut().zip(factors) {
            *value *= factor;
        }
    }
}

simd_kernel! {
    /// out[row] = a[row]·b[row]
    fn dot_rows<S>(width: usize, a: &[f32], b: &[f32], out: &mut [f32]) {
        for ((a, b), out) in a.chunks_exact(width).zip(b.chunks_exact(width)).zip(out) {
            *out = dot::<S>(a, b);
        }
    }
}
