//! The innermost loop in plain Rust, for instruction sets without one of their own: the compiler makes vector
//! instructions of it, NEON's on ARM64.

use super::{Micro, Output};
use crate::simd::{Baseline, Isa};

const ROWS: usize = 4;
const COLUMNS: usize = 8;

/// Multiply-add of float32, fused where every CPU of the target has it.
#[derive(Clone, Copy)]
pub(super) struct Portable;

impl Micro for Portable {
    type Value = f32;
    const ROWS: usize = ROWS;
    const COLUMNS: usize = COLUMNS;
    const PER_STEP: usize = 1;
    const BLOCK: usize = 384;

    unsafe fn tile(
        n_rows: usize,
        n_columns: usize,
        n_steps: usize,
        left: *const f32,
        left_stride: usize,
        right: *const u32,
        out: *mut f32,
        out_stride: usize,
        mode: Output,
    ) {
        let right: *const f32 = right.cast();
        let mut sums = [0.0; ROWS * COLUMNS];
        for step in 0..n_steps {
            // SAFETY: step < n_steps, so the lanes lie within what the contract promises; lanes are 32 bits.
            let lanes: &[f32; COLUMNS] = unsafe { &*right.add(step * COLUMNS).cast() };
            for (row, sums) in sums.chunks_exact_mut(COLUMNS).enumerate() {
                // Rows beyond the last repeat it; their sums are not stored.
                // SAFETY: a row below n_rows, a step below n_steps.
                let value = unsafe { *left.add(row.min(n_rows - 1) * left_stride + step) };
                for (sum, lane) in sums.iter_mut().zip(lanes) {
                    *sum = Baseline::mul_add(value, *lane, *sum);
                }
            }
        }
        // SAFETY: passed on from this function's contract.
        unsafe { store::<COLUMNS>(&sums, n_rows, n_columns, out, out_stride, mode) }
    }
}

/// Writes the valid part of a tile of sums, [rows, `W`].
///
/// # Safety
/// `out` points to a writable tile of `n_rows` rows, `out_stride` apart, and `n_columns` ≤ `W` columns.
pub(super) unsafe fn store<const W: usize>(
    sums: &[f32],
    n_rows: usize,
    n_columns: usize,
    out: *mut f32,
    out_stride: usize,
    mode: Output,
) {
    for (row, sums) in sums.chunks_exact(W).take(n_rows).enumerate() {
        // SAFETY: a row of the tile; nobody else uses it, by contract.
        let out = unsafe { std::slice::from_raw_parts_mut(out.add(row * out_stride), n_columns) };
        match mode {
            Output::Overwrite => out.copy_from_slice(&sums[..n_columns]),
            Output::Add => out.iter_mut().zip(sums).for_each(|(out, sum)| *out += sum),
        }
    }
}
