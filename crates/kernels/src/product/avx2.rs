//! The innermost loop with AVX2: tiles of 6 rows and two vectors of columns, all sums in registers.

use std::arch::x86_64::*;

use super::{Micro, Output};

const ROWS: usize = 6;
const COLUMNS: usize = 16;
const WIDTH: usize = 8;

/// Fused multiply-add of float32.
#[derive(Clone, Copy)]
pub(super) struct FusedF32;

impl Micro for FusedF32 {
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
        let mut sums = [0.0; ROWS * COLUMNS];
        // SAFETY: passed on from this function's contract.
        unsafe {
            match n_rows {
                1 => tile::<1>(n_steps, left, left_stride, right.cast(), &mut sums),
                2 => tile::<2>(n_steps, left, left_stride, right.cast(), &mut sums),
                3 => tile::<3>(n_steps, left, left_stride, right.cast(), &mut sums),
                4 => tile::<4>(n_steps, left, left_stride, right.cast(), &mut sums),
                5 => tile::<5>(n_steps, left, left_stride, right.cast(), &mut sums),
                _ => tile::<ROWS>(n_steps, left, left_stride, right.cast(), &mut sums),
            }
            super::portable::store::<COLUMNS>(&sums, n_rows, n_columns, out, out_stride, mode);
        }
    }
}

/// # Safety
/// As [`Micro::tile`], with `M` rows.
#[target_feature(enable = "avx2,fma")]
unsafe fn tile<const M: usize>(
    n_steps: usize,
    left: *const f32,
    left_stride: usize,
    right: *const f32,
    out: &mut [f32; ROWS * COLUMNS],
) {
    let mut sums = [[_mm256_setzero_ps(); 2]; M];
    for step in 0..n_steps {
        // SAFETY: step < n_steps, so both lie within what the contract promises.
        unsafe {
            let low = _mm256_loadu_ps(right.add(step * COLUMNS));
            let high = _mm256_loadu_ps(right.add(step * COLUMNS + WIDTH));
            for row in 0..M {
                let value = _mm256_set1_ps(*left.add(row * left_stride + step));
                sums[row][0] = _mm256_fmadd_ps(value, low, sums[row][0]);
                sums[row][1] = _mm256_fmadd_ps(value, high, sums[row][1]);
            }
        }
    }
    for (sums, out) in sums.iter().zip(out.chunks_exact_mut(COLUMNS)) {
        // SAFETY: each chunk has room for two vectors.
        unsafe {
            _mm256_storeu_ps(out.as_mut_ptr(), sums[0]);
            _mm256_storeu_ps(out.as_mut_ptr().add(WIDTH), sums[1]);
        }
    }
}
