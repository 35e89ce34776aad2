//! Products in which one dimension is the rank R of an adapter: too small to fill a tile of [`crate::product`], and
//! bound by the reading of the other factor.
//!
//! Shapes: x [N, K], a [R, K], h [N, R].

use crate::lanes::{dot, dot_4};
use crate::parallel::run_with;
use crate::product::{Compute, Matrix, MatrixMut, Output, Term, Threads, product};
use crate::simd::simd_kernel;
use crate::{Level, dropout};

/// Ranks above this fill a tile well enough.
const MAX_RANK: usize = 16;
/// Rows that one task of [`dots`] and [`add_masked_product`] takes.
const ROWS_PER_TASK: usize = 32;
/// Columns that one task of [`outer`] owns: whole vectors, and few enough that small layers make several tasks.
const COLUMNS_PER_TASK: usize = 96;
/// Rows whose masked values exist at the same time.
const MASKED_ROWS: usize = 256;

/// A dropout mask; see [`crate::dropout`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mask {
    /// Probability that an element becomes 0.
    pub probability: f32,
    /// Names the mask.
    pub key: u64,
}

impl Mask {
    fn apply(self, level: Level, x: &[f32], first_index: usize, y: &mut [f32]) {
        dropout::mask(level, x, y, first_index as u64, self.key, self.probability);
    }
}

/// h[n, r] = dropout(x)[n] · a[r]; `width` is K.
pub(crate) fn dots(level: Level, width: usize, x: &[f32], a: &[f32], mask: Option<Mask>, h: &mut [f32]) {
    if h.is_empty() {
        return;
    }
    if width == 0 {
        return h.fill(0.0);
    }
    let rank = a.len() / width;
    let rows_per_task = if mask.is_some() && MAX_RANK < rank { MASKED_ROWS } else { ROWS_PER_TASK };
    if mask.is_none() && MAX_RANK < rank {
        return times_transposed(level, x, a, width, h, Threads::Pool);
    }
    let tasks = x.chunks(rows_per_task * width).zip(h.chunks_mut(rows_per_task * rank)).enumerate().collect();
    run_with(tasks, Vec::new, |masked: &mut Vec<f32>, (task_idx, (x, h)): (usize, (&[f32], &mut [f32]))| {
        let x = match mask {
            None => x,
            Some(mask) => {
                masked.resize(x.len(), 0.0);
                mask.apply(level, x, task_idx * rows_per_task * width, masked);
                masked
            }
        };
        if MAX_RANK < rank {
            times_transposed(level, x, a, width, h, Threads::One);
        } else {
            dot_rows(level, width, x, a, h);
        }
    });
}

/// out[r, k] = Σ over n of h[n, r] · dropout(x)[n, k]; `width` is K, `rank` is R.
pub(crate) fn outer(
    level: Level,
    width: usize,
    x: &[f32],
    h: &[f32],
    rank: usize,
    mask: Option<Mask>,
    out: &mut [f32],
) {
    out.fill(0.0);
    let n_rows = h.len() / rank;
    if out.is_empty() || n_rows == 0 {
        return;
    }
    if mask.is_none() && MAX_RANK < rank {
        return transposed_times(level, h, rank, x, width, out, Threads::Pool);
    }
    // A task's columns of all rows, gathered at the end: parts of a row-major matrix are no slices.
    let mut parts = vec![0.0; out.len()];
    let mut rest = parts.as_mut_slice();
    let mut tasks = Vec::new();
    for first in (0..width).step_by(COLUMNS_PER_TASK) {
        let columns = first..width.min(first + COLUMNS_PER_TASK);
        let (part, after) = rest.split_at_mut(rank * columns.len());
        rest = after;
        tasks.push((columns, part));
    }
    run_with(tasks, Vec::new, |block: &mut Vec<f32>, (columns, part)| {
        let n_columns = columns.len();
        let Some(mask) = mask else {
            return add_outer(level, n_columns, &x[columns.start..], width, h, part);
        };
        for (block_idx, h) in h.chunks(MASKED_ROWS * rank).enumerate() {
            let first = block_idx * MASKED_ROWS;
            block.resize(h.len() / rank * n_columns, 0.0);
            for (row, block) in block.chunks_exact_mut(n_columns).enumerate() {
                let at = (first + row) * width + columns.start;
                mask.apply(level, &x[at..at + n_columns], at, block);
            }
            if MAX_RANK < rank {
                transposed_times(level, h, rank, block, n_columns, part, Threads::One);
            } else {
                add_outer(level, n_columns, block, n_columns, h, part);
            }
        }
    });
    let mut rest = parts.as_slice();
    for first in (0..width).step_by(COLUMNS_PER_TASK) {
        let columns = first..width.min(first + COLUMNS_PER_TASK);
        let (part, after) = rest.split_at(rank * columns.len());
        rest = after;
        for (out, part) in out.chunks_exact_mut(width).zip(part.chunks_exact(columns.len())) {
            out[columns.clone()].copy_from_slice(part);
        }
    }
}

/// out += dropout′(h a), whose mask is that of an input of out's shape; `width` is K.
pub(crate) fn add_masked_product(
    level: Level,
    width: usize,
    h: &[f32],
    a: &[f32],
    mask: Mask,
    out: &mut [f32],
) {
    if out.is_empty() || width == 0 {
        return;
    }
    let rank = a.len() / width;
    let tasks =
        out.chunks_mut(ROWS_PER_TASK * width).zip(h.chunks(ROWS_PER_TASK * rank)).enumerate().collect();
    let scratch = || (Vec::new(), Vec::new());
    run_with(tasks, scratch, |(change, masked), (task_idx, (out, h)): (usize, (&mut [f32], &[f32]))| {
        change.resize(out.len(), 0.0);
        masked.resize(out.len(), 0.0);
        let n_rows = h.len() / rank;
        let term = Term::new(Matrix::new(h, n_rows, rank), Matrix::new(a, rank, width));
        let target = MatrixMut::new(change, n_rows, width);
        product(level, Compute::F32, target, Output::Overwrite, &[term], Threads::One);
        mask.apply(level, change, task_idx * ROWS_PER_TASK * width, masked);
        crate::sum::add(level, masked, out);
    });
}

/// h = x aᵀ
fn times_transposed(level: Level, x: &[f32], a: &[f32], width: usize, h: &mut [f32], threads: Threads) {
    let (n_rows, rank) = (x.len() / width, a.len() / width);
    let term = Term::new(Matrix::new(x, n_rows, width), Matrix::new(a, rank, width).t());
    product(level, Compute::F32, MatrixMut::new(h, n_rows, rank), Output::Overwrite, &[term], threads);
}

/// out += hᵀ x
fn transposed_times(
    level: Level,
    h: &[f32],
    rank: usize,
    x: &[f32],
    width: usize,
    out: &mut [f32],
    threads: Threads,
) {
    let n_rows = h.len() / rank;
    let term = Term::new(Matrix::new(h, n_rows, rank).t(), Matrix::new(x, n_rows, width));
    product(level, Compute::F32, MatrixMut::new(out, rank, width), Output::Add, &[term], threads);
}

simd_kernel! {
    /// h[n, r] = x[n] · a[r]
    fn dot_rows<S>(width: usize, x: &[f32], a: &[f32], h: &mut [f32]) {
        let rank = a.len() / width;
        for (x, h) in x.chunks_exact(width).zip(h.chunks_exact_mut(rank)) {
            let (fours, rest) = h.as_chunks_mut::<4>();
            let mut rows = a.chunks_exact(4 * width);
            for (h, a) in fours.iter_mut().zip(rows.by_ref()) {
                *h = dot_4::<S>(x, a);
            }
            for (h, a) in rest.iter_mut().zip(rows.remainder().chunks_exact(width)) {
                *h = dot::<S>(x, a);
            }
        }
    }
}

simd_kernel! {
    /// out[r, k] += Σ over n of h[n, r] · x[n, k] for k < `width`, four n at a time so that out is read and written less
    /// often; rows of x start `stride` apart.
    fn add_outer<S>(width: usize, x: &[f32], stride: usize, h: &[f32], out: &mut [f32]) {
        let rank = out.len() / width;
        for (four, h) in h.chunks_exact(4 * rank).enumerate() {
            let row = |n: usize| &x[(4 * four + n) * stride..][..width];
            let (x0, x1, x2, x3) = (row(0), row(1), row(2), row(3));
            for (r, out) in out.chunks_exact_mut(width).enumerate() {
                let (h0, h1, h2, h3) = (h[r], h[rank + r], h[2 * rank + r], h[3 * rank + r]);
                for k in 0..width {
                    let low = S::mul_add(h0, x0[k], S::mul_add(h1, x1[k], out[k]));
                    out[k] = S::mul_add(h2, x2[k], S::mul_add(h3, x3[k], low));
                }
            }
        }
        let n_rows = h.len() / rank;
        for (n, h) in h.chunks_exact(rank).enumerate().skip(n_rows / 4 * 4) {
            let x = &x[n * stride..][..width];
            for (h, out) in h.iter().zip(out.chunks_exact_mut(width)) {
                for (out, x) in out.iter_mut().zip(x) {
                    *out = S::mul_add(*h, *x, *out);
                }
            }
        }
    }
}
