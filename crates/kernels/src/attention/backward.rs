//! The backward pass: each task owns a stretch of one segment's keys and one key/value head.
//!
//! As in the forward pass, what has a value for each row and key lies as [keys, rows].

use std::ops::Range;

use super::{Heads, KEYS_PER_BLOCK, gather_rows};
use crate::Level;
use crate::disjoint::Disjoint;
use crate::lanes::dot;
use crate::math::exp;
use crate::parallel::{rows_per_task, run, run_with};
use crate::product::{Compute, Matrix, MatrixMut, Output, Term, Threads, product, transpose};
use crate::simd::simd_kernel;
use crate::sum::add_to;

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

    let (mut tasks, n_partial) = plan(heads, offsets);
    gradients.q.fill(0.0);
    let mut partials = vec![0.0; n_partial];
    let inputs = Inputs { q, k, v, log_sums, dy, e: &e };
    let outputs = Outputs {
        q: Disjoint::new(gradients.q),
        partials: Disjoint::new(&mut partials),
        k: Disjoint::new(gradients.k),
        v: Disjoint::new(gradients.v),
    };
    // The stretches with most work first, so that no thread is left with one at the end.
    tasks.sort_by_key(|task| std::cmp::Reverse(task.queries.len()));
    run_with(tasks, Scratch::default, |scratch, task| {
        scratch.work(level, compute, heads, &task, &inputs, &outputs)
    });
    add_partials(level, heads, offsets, &partials, gradients.q);
}

/// A stretch of keys of one segment, for one key/value head.
struct Task {
    /// Tokens of the segment.
    segment: Range<usize>,
    /// Positions in the segment.
    keys: Range<usize>,
    /// Positions in the segment of the queries that see any of the keys.
    queries: Range<usize>,
    kv_head: usize,
    /// Where dq goes: the first stretch of a segment writes to dq itself, each further one to its own partial sum that
    /// starts here. So no two tasks write to the same place and the sums are taken in a fixed order.
    partial: Option<usize>,
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

/// The stretches of keys of a segment with the queries that see them, in order.
fn stretches(heads: Heads, n_tokens: usize) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
    (0..n_tokens).step_by(KEYS_PER_BLOCK).map(move |first| {
        let keys = first..n_tokens.min(first + KEYS_PER_BLOCK);
        let queries = first..n_tokens.min((keys.end - 1).saturating_add(heads.window));
        (keys, queries)
    })
}

/// The tasks, and the number of elements of all partial sums.
fn plan(heads: Heads, offsets: &[usize]) -> (Vec<Task>, usize) {
    let mut tasks = Vec::new();
    let mut n_partial = 0;
    for segment in offsets.windows(2).map(|pair| pair[0]..pair[1]) {
        for (keys, queries) in stretches(heads, segment.len()) {
            let partial = (keys.start != 0).then_some(n_partial);
            if partial.is_some() {
                n_partial += queries.len() * heads.query_width();
            }
            tasks.extend((0..heads.n_kv_heads).map(|kv_head| Task {
                segment: segment.clone(),
                keys: keys.clone(),
                queries: queries.clone(),
                kv_head,
                partial,
            }));
        }
    }
    (tasks, n_partial)
}

/// dq += the partial sums, in the order of [`plan`].
fn add_partials(level: Level, heads: Heads, offsets: &[usize], mut partials: &[f32], dq: &mut [f32]) {
    for segment in offsets.windows(2).map(|pair| pair[0]..pair[1]) {
        for (_, queries) in stretches(heads, segment.len()).skip(1) {
            let (partial, rest) = partials.split_at(queries.len() * heads.query_width());
            partials = rest;
            let start = (segment.start + queries.start) * heads.query_width();
            add_to(level, partial, &mut dq[start..start + partial.len()]);
        }
    }
}

/// One worker's buffers; a row is a (query, head of the group) pair.
#[derive(Default)]
struct Scratch {
    /// [rows, D], scaled
    q: Vec<f32>,
    /// [rows, D]
    dy: Vec<f32>,
    /// [D, rows]
    dq: Vec<f32>,
    /// [rows, D]
    dq_turned: Vec<f32>,
    /// [keys, rows]: scores, then probabilities
    p: Vec<f32>,
    /// [keys, rows]: dy·v, then the gradient of the scores
    dz: Vec<f32>,
    /// Logarithm of each row's denominator [rows]
    log_sums: Vec<f32>,
    /// dy·y of each row [rows]
    e: Vec<f32>,
    /// [keys, D]
    dk: Vec<f32>,
    /// [keys, D]
    dv: Vec<f32>,
}

impl Scratch {
    fn work(
        &mut self,
        level: Level,
        compute: Compute,
        heads: Heads,
        task: &Task,
        inputs: &Inputs,
        outputs: &Outputs,
    ) {
        let width = heads.width;
        for (buffer, n_rows) in [(&mut self.dk, task.keys.len()), (&mut self.dv, task.keys.len())] {
            buffer.clear();
            buffer.resize(n_rows * width, 0.0);
        }
        for first in task.queries.clone().step_by(heads.queries_per_block()) {
            let queries = first..task.queries.end.min(first + heads.queries_per_block());
            // Of the task's keys, those that any query of the block sees.
            let start = heads.visible(queries.start).start.max(task.keys.start);
            let keys = start..queries.end.min(task.keys.end);
            if !keys.is_empty() {
                self.block(level, compute, heads, task, queries, keys, inputs, outputs);
            }
        }
        for (position, (dk, dv)) in
            task.keys.clone().zip(self.dk.chunks_exact(width).zip(self.dv.chunks_exact(width)))
        {
            let at = (task.segment.start + position) * heads.key_width() + task.kv_head * width;
            // SAFETY: every (key, key/value head) belongs to one task, which visits it once.
            let (k, v) = unsafe { (outputs.k.part(at..at + width), outputs.v.part(at..at + width)) };
            k.copy_from_slice(dk);
            v.copy_from_slice(dv);
        }
    }

    fn block(
        &mut self,
        level: Level,
        compute: Compute,
        heads: Heads,
        task: &Task,
        queries: Range<usize>,
        keys: Range<usize>,
        inputs: &Inputs,
        outputs: &Outputs,
    ) {
        let (width, group) = (heads.width, heads.group());
        let n_rows = queries.len() * group;
        let tokens = task.segment.start + queries.start..task.segment.start + queries.end;
        for buffer in [&mut self.q, &mut self.dy, &mut self.dq, &mut self.dq_turned] {
            buffer.resize(n_rows * width, 0.0);
        }
        for buffer in [&mut self.p, &mut self.dz] {
            buffer.resize(n_rows * keys.len(), 0.0);
        }
        gather_rows(heads, inputs.q, tokens.clone(), task.kv_head, heads.scale, &mut self.q);
        gather_rows(heads, inputs.dy, tokens.clone(), task.kv_head, 1.0, &mut self.dy);

        let at = (task.segment.start + keys.start) * heads.key_width() + task.kv_head * width;
        let end = at + (keys.len() - 1) * heads.key_width() + width;
        let k = Matrix::with_stride(&inputs.k[at..end], keys.len(), width, heads.key_width());
        let v = Matrix::with_stride(&inputs.v[at..end], keys.len(), width, heads.key_width());
        let q = Matrix::new(&self.q, n_rows, width);
        let dy = Matrix::new(&self.dy, n_rows, width);
        let multiply = |out: MatrixMut, mode: Output, left: Matrix, right: Matrix| {
            product(level, compute, out, mode, &[Term::new(left, right)], Threads::One);
        };
        multiply(MatrixMut::new(&mut self.p, keys.len(), n_rows), Output::Overwrite, k, q.t());
        multiply(MatrixMut::new(&mut self.dz, keys.len(), n_rows), Output::Overwrite, v, dy.t());
        for (of_rows, of_all) in [(&mut self.log_sums, inputs.log_sums), (&mut self.e, inputs.e)] {
            of_rows.clear();
            for token in tokens.clone() {
                let at = token * heads.n_heads + task.kv_head * group;
                of_rows.extend_from_slice(&of_all[at..at + group]);
            }
        }
        let rows = Rows { first_query: queries.start, keys: keys.clone() };
        probabilities(level, heads, rows, &self.log_sums, &self.e, &mut self.p, &mut self.dz);

        let owned = (keys.start - task.keys.start) * width..(keys.end - task.keys.start) * width;
        let p = Matrix::new(&self.p, keys.len(), n_rows);
        let dz = Matrix::new(&self.dz, keys.len(), n_rows);
        multiply(MatrixMut::new(&mut self.dv[owned.clone()], keys.len(), width), Output::Add, p, dy);
        // q is scaled already, which is dk's factor.
        multiply(MatrixMut::new(&mut self.dk[owned], keys.len(), width), Output::Add, dz, q);
        multiply(MatrixMut::new(&mut self.dq, width, n_rows), Output::Overwrite, k.t(), dz);
        transpose(level, &self.dq, n_rows, width, n_rows, &mut self.dq_turned, width);

        for (position, rows) in queries.zip(self.dq_turned.chunks_exact(group * width)) {
            let in_token = task.kv_head * group * width;
            let (target, at) = match task.partial {
                None => (&outputs.q, (task.segment.start + position) * heads.query_width() + in_token),
                Some(start) => {
                    let row = position - task.queries.start;
                    (&outputs.partials, start + row * heads.query_width() + in_token)
                }
            };
            // SAFETY: dq belongs to the tasks of first stretches, of which each (query, key/value head) has one, and
            // each other stretch has its own range of the partial sums.
            let target = unsafe { target.part(at..at + group * width) };
            target.iter_mut().zip(rows).for_each(|(target, row)| *target += heads.scale * row);
        }
    }
}

/// Which rows and keys a block holds, as positions in the segment.
struct Rows {
    first_query: usize,
    keys: Range<usize>,
}

simd_kernel! {
    /// From scores in p and dy·v in dz: probabilities in p and the gradient of the scores in dz, 0 where a query does
    /// not see a key.
    fn probabilities<S>(heads: Heads, rows: Rows, log_sums: &[f32], e: &[f32], p: &mut [f32], dz: &mut [f32]) {
        let n_rows = log_sums.len();
        for (key, (p, dz)) in rows.keys.zip(p.chunks_exact_mut(n_rows).zip(dz.chunks_exact_mut(n_rows))) {
            for (((p, dz), log_sum), e) in p.iter_mut().zip(&mut *dz).zip(log_sums).zip(e) {
                *p = exp::<S>(*p - *log_sum);
                *dz = *p * (*dz - *e);
            }
            let seen = heads.rows_that_see(key, rows.first_query, n_rows);
            for of_rows in [p, dz] {
                of_rows[..seen.start].fill(0.0);
                of_rows[seen.end..].fill(0.0);
            }
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
