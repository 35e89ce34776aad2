//! The innermost loops with AVX-512: tiles of 14 rows and two vectors of columns, all sums in registers.

use std::arch::x86_64::*;

use super::{Micro, Output};

const ROWS: usize = 14;
const COLUMNS: usize = 32;
const WIDTH: usize = 16;

/// Calls the function made for this number of rows, so that its sums can live in registers.
macro_rules! for_rows {
    ($n_rows:expr, $tile:ident($($arg:expr),*)) => {
        match $n_rows {
            1 => $tile::<1>($($arg),*),
            2 => $tile::<2>($($arg),*),
            3 => $tile::<3>($($arg),*),
            4 => $tile::<4>($($arg),*),
            5 => $tile::<5>($($arg),*),
            6 => $tile::<6>($($arg),*),
            7 => $tile::<7>($($arg),*),
            8 => $tile::<8>($($arg),*),
            9 => $tile::<9>($($arg),*),
            10 => $tile::<10>($($arg),*),
            11 => $tile::<11>($($arg),*),
            12 => $tile::<12>($($arg),*),
            13 => $tile::<13>($($arg),*),
            _ => $tile::<ROWS>($($arg),*),
        }
    };
}

/// Fused multiply-add of float32.
#[derive(Clone, Copy)]
pub(super) struct FusedF32;

impl Micro for FusedF32 {
    type Value = f32;
    const ROWS: usize = ROWS;
    const COLUMNS: usize = COLUMNS;
    const PER_STEP: usize = 1;
    const BLOCK: usize = 320;

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
        let target = Target { out, out_stride, n_columns, mode };
        // SAFETY: passed on from this function's contract.
        unsafe { for_rows!(n_rows, tile_f32(n_steps, left, left_stride, right.cast(), target)) }
    }
}

/// Dot products of bfloat16 pairs, added up in float32.
#[derive(Clone, Copy)]
pub(super) struct DotBf16;

impl Micro for DotBf16 {
    type Value = u16;
    const ROWS: usize = ROWS;
    const COLUMNS: usize = COLUMNS;
    const PER_STEP: usize = 2;
    const BLOCK: usize = 640;

    unsafe fn tile(
        n_rows: usize,
        n_columns: usize,
        n_steps: usize,
        left: *const u16,
        left_stride: usize,
        right: *const u32,
        out: *mut f32,
        out_stride: usize,
        mode: Output,
    ) {
        let target = Target { out, out_stride, n_columns, mode };
        // SAFETY: passed on from this function's contract.
        unsafe { for_rows!(n_rows, tile_bf16(n_steps, left, left_stride, right.cast(), target)) }
    }
}

/// Where a tile goes.
#[derive(Clone, Copy)]
struct Target {
    out: *mut f32,
    out_stride: usize,
    n_columns: usize,
    mode: Output,
}

/// # Safety
/// As [`Micro::tile`], with `M` rows.
#[target_feature(enable = "avx512f")]
unsafe fn tile_f32<const M: usize>(
    n_steps: usize,
    left: *const f32,
    left_stride: usize,
    right: *const f32,
    target: Target,
) {
    let mut sums = [[_mm512_setzero_ps(); 2]; M];
    for step in 0..n_steps {
        // SAFETY: step < n_steps, so both lie within what the contract promises.
        unsafe {
            let low = _mm512_loadu_ps(right.add(step * COLUMNS));
            let high = _mm512_loadu_ps(right.add(step * COLUMNS + WIDTH));
            for row in 0..M {
                let value = _mm512_set1_ps(*left.add(row * left_stride + step));
                sums[row][0] = _mm512_fmadd_ps(value, low, sums[row][0]);
                sums[row][1] = _mm512_fmadd_ps(value, high, sums[row][1]);
            }
        }
    }
    // SAFETY: the target is the contract's.
    unsafe { store(sums, target) }
}

/// # Safety
/// As [`Micro::tile`], with `M` rows.
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn tile_bf16<const M: usize>(
    n_steps: usize,
    left: *const u16,
    left_stride: usize,
    right: *const i32,
    target: Target,
) {
    // SAFETY: both types are 512 bits without an invalid value.
    let pairs = |words: __m512i| -> __m512bh { unsafe { std::mem::transmute(words) } };
    let mut sums = [[_mm512_setzero_ps(); 2]; M];
    for step in 0..n_steps {
        // SAFETY: step < n_steps, so both lie within what the contract promises.
        unsafe {
            let low = pairs(_mm512_loadu_si512(right.add(step * COLUMNS).cast()));
            let high = pairs(_mm512_loadu_si512(right.add(step * COLUMNS + WIDTH).cast()));
            for row in 0..M {
                let pair = left.add(row * left_stride + 2 * step).cast::<i32>().read_unaligned();
                let pair = pairs(_mm512_set1_epi32(pair));
                sums[row][0] = _mm512_dpbf16_ps(sums[row][0], pair, low);
                sums[row][1] = _mm512_dpbf16_ps(sums[row][1], pair, high);
            }
        }
    }
    // SAFETY: the target is the contract's.
    unsafe { store(sums, target) }
}

/// # Safety
/// `target` is a writable tile of `M` rows.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn store<const M: usize>(sums: [[__m512; 2]; M], target: Target) {
    let Target { out, out_stride, n_columns, mode } = target;
    for (half, first) in [0, WIDTH].into_iter().enumerate() {
        let n = n_columns.saturating_sub(first).min(WIDTH);
        let mask = ((1_u32 << n) - 1) as __mmask16;
        for row in 0..M {
            let sum = sums[row][half];
            // SAFETY: the mask leaves out the columns beyond the tile; masked-out lanes are not accessed.
            unsafe {
                let at = out.wrapping_add(row * out_stride + first);
                let sum = match mode {
                    Output::Overwrite => sum,
                    Output::Add => _mm512_add_ps(sum, _mm512_maskz_loadu_ps(mask, at)),
                };
                _mm512_mask_storeu_ps(at, mask, sum);
            }
        }
    }
}

/// Transposes a block of 16×16 words: out[j, i] = source[i, j]; lines start `stride` and `out_stride` words apart.
///
/// # Safety
/// The CPU has AVX-512; all words of both blocks can be read and written.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn transpose_16(source: *const u32, stride: usize, out: *mut u32, out_stride: usize) {
    let mut a = [_mm512_setzero_si512(); 16];
    for i in 0..16 {
        // SAFETY: line i of the source block.
        a[i] = unsafe { _mm512_loadu_si512(source.add(i * stride).cast()) };
    }
    // Pairs of lines, then fours: within each quarter of 128 bits, columns come to lie side by side.
    let mut b = a;
    for i in 0..8 {
        b[2 * i] = _mm512_unpacklo_epi32(a[2 * i], a[2 * i + 1]);
        b[2 * i + 1] = _mm512_unpackhi_epi32(a[2 * i], a[2 * i + 1]);
    }
    for i in 0..4 {
        a[4 * i] = _mm512_unpacklo_epi64(b[4 * i], b[4 * i + 2]);
        a[4 * i + 1] = _mm512_unpackhi_epi64(b[4 * i], b[4 * i + 2]);
        a[4 * i + 2] = _mm512_unpacklo_epi64(b[4 * i + 1], b[4 * i + 3]);
        a[4 * i + 3] = _mm512_unpackhi_epi64(b[4 * i + 1], b[4 * i + 3]);
    }
    // Then the quarters are exchanged: a[4g + c], quarter q holds lines 4g..4g+4 of column 4q + c.
    for c in 0..4 {
        let even_low = _mm512_shuffle_i32x4::<0x88>(a[c], a[4 + c]);
        let odd_low = _mm512_shuffle_i32x4::<0xdd>(a[c], a[4 + c]);
        let even_high = _mm512_shuffle_i32x4::<0x88>(a[8 + c], a[12 + c]);
        let odd_high = _mm512_shuffle_i32x4::<0xdd>(a[8 + c], a[12 + c]);
        b[c] = _mm512_shuffle_i32x4::<0x88>(even_low, even_high);
        b[8 + c] = _mm512_shuffle_i32x4::<0xdd>(even_low, even_high);
        b[4 + c] = _mm512_shuffle_i32x4::<0x88>(odd_low, odd_high);
        b[12 + c] = _mm512_shuffle_i32x4::<0xdd>(odd_low, odd_high);
    }
    for (j, line) in b.into_iter().enumerate() {
        // SAFETY: line j of the output block.
        unsafe { _mm512_storeu_si512(out.add(j * out_stride).cast(), line) };
    }
}
