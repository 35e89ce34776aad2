//! Matrix products: out = Σ over terms of left · right, or added to what is there.
//!
//! The left factor [M, K] is float32, the right one [K, N] float32 or a stored [`Weight`], used as it is or transposed:
//! its values are unpacked strip by strip into a buffer that stays in a core's cache, so that a compact weight is never
//! expanded in memory and needs no second copy for the backward pass. A low-rank branch is one more term, of a small K.
//!
//! The work is cut into tiles of `out`. Each is computed by one thread, over the blocks of K in their order, so the result
//! does not depend on the number of threads, and a row's result not on the rows beside it.
//!
//! [`Compute::Bf16`] rounds both factors to bfloat16; products are exact and sums float32. CPUs with bfloat16 dot
//! products do this at twice the float32 rate. On others the rounded values go through the float32 kernel: the same
//! numbers but for the order of summation, without the speed.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod element;
mod engine;
mod matrix;
mod panel;
mod portable;
#[cfg(test)]
mod tests;

use std::ops::Range;

pub(crate) use element::Element;
pub(crate) use engine::{Engine, Left, PackScratch, WithLoop, with_loop};
pub use matrix::{Matrix, MatrixMut};
pub(crate) use panel::transpose;

use crate::Level;
use crate::buffer::{first, unfilled};
use crate::disjoint::Disjoint;
use crate::parallel::{run, run_with};
use crate::weight::Weight;

/// The number format that the factors of a product are rounded to; sums are always float32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Compute {
    /// No rounding.
    #[default]
    F32,
    /// bfloat16.
    Bf16,
}

/// The right factor of a product, [K, N].
#[derive(Clone, Copy, Debug)]
pub enum Right<'a> {
    /// A float32 matrix.
    Matrix(Matrix<'a>),
    /// A stored weight [K, N].
    Weight(&'a Weight),
    /// The transpose of a stored weight [N, K].
    Transposed(&'a Weight),
}

impl Right<'_> {
    fn dims(&self) -> [usize; 2] {
        match self {
            Self::Matrix(matrix) => matrix.dims(),
            Self::Weight(weight) => weight.dims(),
            Self::Transposed(weight) => {
                let [n_columns, n_rows] = weight.dims();
                [n_rows, n_columns]
            }
        }
    }
}

/// One summand, left [M, K] · right [K, N].
#[derive(Clone, Copy, Debug)]
pub struct Term<'a> {
    /// [M, K]
    pub left: Matrix<'a>,
    /// [K, N]
    pub right: Right<'a>,
}

impl<'a> Term<'a> {
    /// left · right of two float32 matrices.
    pub fn new(left: Matrix<'a>, right: Matrix<'a>) -> Self {
        Self { left, right: Right::Matrix(right) }
    }
}

/// What happens to the values that are in the output already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// They are overwritten and not read.
    Overwrite,
    /// The product is added to them.
    Add,
}

/// Who computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threads {
    /// The calling thread alone.
    One,
    /// All threads of the calling thread's rayon pool.
    Pool,
}

/// out [M, N] = Σ left · right, or += with [`Output::Add`].
///
/// # Panics
/// When the shapes do not fit.
pub fn product(
    level: Level,
    compute: Compute,
    out: MatrixMut,
    mode: Output,
    terms: &[Term],
    threads: Threads,
) {
    let [n_rows, n_columns] = out.dims();
    for Term { left, right } in terms {
        let ([left_rows, inner], [right_rows, right_columns]) = (left.dims(), right.dims());
        assert!(
            left_rows == n_rows && right_columns == n_columns && inner == right_rows,
            "product: out is {n_rows}×{n_columns}, left {left_rows}×{inner}, right {right_rows}×{right_columns}"
        );
    }
    if n_rows == 0 || n_columns == 0 {
        return;
    }
    with_loop(level, compute, Product { out, mode, terms, threads });
}

struct Product<'a> {
    out: MatrixMut<'a>,
    mode: Output,
    terms: &'a [Term<'a>],
    threads: Threads,
}

impl WithLoop for Product<'_> {
    fn run<M: Micro>(self, engine: Engine<M>) {
        let Self { out, mode, terms, threads } = self;
        Job::<M>::run(engine.level(), engine.is_rounded(), out, mode, terms, threads);
    }
}

/// The innermost loop of a product for one instruction set.
pub(crate) trait Micro: Copy + Send + Sync {
    /// A value of a factor as the loop reads it.
    type Value: Element;
    /// Rows of a tile.
    const ROWS: usize;
    /// Columns of a tile, and of a panel of the right factor.
    const COLUMNS: usize;
    /// Values along K that one step takes: as many as fit in 32 bits.
    const PER_STEP: usize;
    /// Values along K of a block: a tile's rows of the left factor then stay in the first-level cache.
    const BLOCK: usize;

    /// Computes one tile: out[m, n] (+)= Σ over steps and the values p of a step of left[m, p] · right[p, n].
    ///
    /// # Safety
    /// The CPU has the instruction set; 1 ≤ `n_rows` ≤ ROWS and 1 ≤ `n_columns` ≤ COLUMNS; `left` points to `n_rows`
    /// rows of `n_steps` steps that start `left_stride` values apart, `right` to [n_steps, COLUMNS] lanes, `out` to a
    /// writable tile whose rows start `out_stride` apart, and nobody else uses that tile.
    unsafe fn tile(
        n_rows: usize,
        n_columns: usize,
        n_steps: usize,
        left: *const Self::Value,
        left_stride: usize,
        right: *const u32,
        out: *mut f32,
        out_stride: usize,
        mode: Output,
    );
}

/// Columns that a strip of the right factor is counted in: a multiple of every tile's and of every weight's block.
const STRIP_UNIT: usize = 32;
/// Units of the widest strip, whose block of K then takes a part of the second-level cache.
const MAX_STRIP_UNITS: usize = 9;
/// Values between rows of the left factor from which on a block of it is copied before it is used: rows on many pages, or
/// at the same places of a cache, are read once in long stretches instead of a few values at a time.
const MAX_STRIDE_IN_PLACE: usize = 2000;
/// Blocks of K begin at multiples of this, which no weight's block straddles.
const K_UNIT: usize = 64;

/// The left factor of a term as the innermost loop reads it: rows of whole steps, `stride` values apart.
struct LeftRows<'a, V: Clone> {
    values: std::borrow::Cow<'a, [V]>,
    stride: usize,
}

/// A stretch of one term's K.
struct KBlock {
    term_idx: usize,
    inner: Range<usize>,
}

/// One product on one instruction set.
struct Job<'a, M: Micro> {
    level: Level,
    is_rounded: bool,
    terms: &'a [Term<'a>],
    lefts: Vec<LeftRows<'a, M::Value>>,
    blocks: Vec<KBlock>,
}

/// Buffers of one worker.
struct Scratch<V> {
    /// A strip of the right factor in panels: [panel][step][column of the panel], 32 bits each.
    lanes: Vec<u32>,
    rows: panel::Rows<V>,
    /// A block of the left factor, when it is copied.
    left: Vec<V>,
}

impl<'a, M: Micro> Job<'a, M> {
    fn run(
        level: Level,
        is_rounded: bool,
        out: MatrixMut,
        mode: Output,
        terms: &'a [Term<'a>],
        threads: Threads,
    ) {
        let [n_rows, n_columns] = out.dims();
        let lefts = terms.iter().map(|term| left_rows::<M>(level, is_rounded, term.left, threads)).collect();
        let blocks = terms.iter().enumerate().flat_map(|(term_idx, term)| {
            let [_, inner] = term.left.dims();
            let n_blocks = inner.div_ceil(M::BLOCK).max(1);
            let size = inner.div_ceil(n_blocks).next_multiple_of(K_UNIT);
            (0..n_blocks).map(move |block_idx| KBlock {
                term_idx,
                inner: (block_idx * size).min(inner)..((block_idx + 1) * size).min(inner),
            })
        });
        let blocks: Vec<KBlock> = blocks.filter(|block| !block.inner.is_empty()).collect();
        if blocks.is_empty() {
            if mode == Output::Overwrite {
                out.fill(0.0);
            }
            return;
        }
        let job = Self { level, is_rounded, terms, lefts, blocks };
        let n_threads = if threads == Threads::One { 1 } else { rayon::current_num_threads() };
        let strips = strips(n_columns, n_threads);
        // With fewer strips than threads the rows are divided as well.
        let n_parts = n_threads.div_ceil(strips.len()).min(n_rows.div_ceil(M::ROWS));
        let part = n_rows.div_ceil(n_parts).next_multiple_of(M::ROWS);
        let tasks: Vec<(Range<usize>, Range<usize>)> = strips
            .into_iter()
            .flat_map(|columns| {
                (0..n_rows).step_by(part).map(move |first| (first..n_rows.min(first + part), columns.clone()))
            })
            .collect();
        let stride = out.row_stride();
        let out = Disjoint::new(out.into_slice());
        let scratch = || Scratch { lanes: Vec::new(), rows: panel::Rows::default(), left: Vec::new() };
        let work = |scratch: &mut Scratch<M::Value>, (rows, columns): (Range<usize>, Range<usize>)| {
            job.strip(scratch, rows, columns, &out, stride, mode);
        };
        if threads == Threads::One {
            let mut scratch = scratch();
            tasks.into_iter().for_each(|task| work(&mut scratch, task));
        } else {
            run_with(tasks, scratch, work);
        }
    }

    /// Computes the given rows and columns of the output.
    fn strip(
        &self,
        scratch: &mut Scratch<M::Value>,
        rows: Range<usize>,
        columns: Range<usize>,
        out: &Disjoint,
        out_stride: usize,
        mode: Output,
    ) {
        for (block_idx, block) in self.blocks.iter().enumerate() {
            let n_steps = block.inner.len().div_ceil(M::PER_STEP);
            let n_panels = columns.len().div_ceil(M::COLUMNS);
            let lanes = first(&mut scratch.lanes, n_panels * n_steps * M::COLUMNS);
            let right = self.terms[block.term_idx].right;
            panel::pack::<M>(
                self.level,
                self.is_rounded,
                right,
                block.inner.clone(),
                columns.clone(),
                &mut scratch.rows,
                lanes,
            );
            let left = &self.lefts[block.term_idx];
            let width = n_steps * M::PER_STEP;
            let (left, stride) = if MAX_STRIDE_IN_PLACE < left.stride {
                scratch.left.clear();
                for row in rows.clone() {
                    let at = row * left.stride + block.inner.start;
                    scratch.left.extend_from_slice(&left.values[at..at + width]);
                }
                (scratch.left.as_slice(), width)
            } else {
                (&left.values[rows.start * left.stride + block.inner.start..], left.stride)
            };
            let mode = if block_idx == 0 { mode } else { Output::Add };
            for row in rows.clone().step_by(M::ROWS) {
                let n_rows = M::ROWS.min(rows.end - row);
                let at = (row - rows.start) * stride;
                let left_part = &left[at..at + (n_rows - 1) * stride + width];
                for (panel_idx, lanes) in lanes.chunks_exact(n_steps * M::COLUMNS).enumerate() {
                    let column = columns.start + panel_idx * M::COLUMNS;
                    let n_columns = M::COLUMNS.min(columns.end - column);
                    let from = row * out_stride + column;
                    let to = from + (n_rows - 1) * out_stride + n_columns;
                    // SAFETY: a level of this kind exists only after detection; the slices above have just the lengths
                    // that the contract asks for; no other task has this tile, and this thread holds no other part.
                    unsafe {
                        M::tile(
                            n_rows,
                            n_columns,
                            n_steps,
                            left_part.as_ptr(),
                            stride,
                            lanes.as_ptr(),
                            out.pointer(from..to),
                            out_stride,
                            mode,
                        );
                    }
                }
            }
        }
    }
}

/// The rows of the left factor: where they are if the loop can read them there, else converted.
fn left_rows<'a, M: Micro>(
    level: Level,
    is_rounded: bool,
    left: Matrix<'a>,
    threads: Threads,
) -> LeftRows<'a, M::Value> {
    /// Values that one task converts.
    const VALUES_PER_TASK: usize = 1 << 15;
    if let Some((values, stride)) = left.rows_in_place()
        && let Some(values) = M::Value::in_place(values, is_rounded)
    {
        return LeftRows { values: values.into(), stride };
    }
    let [n_rows, inner] = left.dims();
    let stride = inner.next_multiple_of(M::PER_STEP).max(1);
    let mut values = unfilled(n_rows * stride);
    // Whole cache lines of a matrix that lies the other way.
    let rows_per_task = (VALUES_PER_TASK / stride).max(1).next_multiple_of(16);
    let tasks = values.chunks_mut(rows_per_task * stride).enumerate().collect();
    let convert = |(task_idx, rows): (usize, &mut [M::Value])| {
        let mut scratch = Vec::new();
        let first = task_idx * rows_per_task;
        left.for_rows(level, first..n_rows.min(first + rows_per_task), &mut scratch, |row, values| {
            let at = (row - first) * stride;
            M::Value::convert(level, is_rounded, values, &mut rows[at..at + inner]);
            rows[at + inner..at + stride].fill(M::Value::default());
        });
    };
    match threads {
        Threads::One => Vec::into_iter(tasks).for_each(convert),
        Threads::Pool => run(tasks, convert),
    }
    LeftRows { values: values.into(), stride }
}

/// The strips of columns that tasks take: as wide as possible while all threads end at about the same time.
fn strips(n_columns: usize, n_threads: usize) -> Vec<Range<usize>> {
    let n_units = n_columns.div_ceil(STRIP_UNIT);
    // Units that the busiest thread has to do; packing makes narrow strips a little dearer.
    let cost = |units: usize| {
        n_units.div_ceil(units).div_ceil(n_threads) * (2 * MAX_STRIP_UNITS * units + MAX_STRIP_UNITS)
    };
    let units = (1..=MAX_STRIP_UNITS).rev().min_by_key(|units| cost(*units)).unwrap_or(1);
    let width = units * STRIP_UNIT;
    (0..n_columns).step_by(width).map(|first| first..n_columns.min(first + width)).collect()
}
