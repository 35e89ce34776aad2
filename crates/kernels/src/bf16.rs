//! The number format bfloat16: the upper half of a float32, so 8 significant bits over the same range.

use std::ops::Range;

use crate::Level;
use crate::simd::{Kind, simd_kernel};

/// The nearest bfloat16, ties to the even one; NaN stays NaN.
#[inline(always)]
pub fn from_f32(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    // Rounding could carry a NaN's mantissa over into the sign.
    let nan = (bits >> 16) | 0x40;
    (if bits & 0x7fff_ffff > 0x7f80_0000 { nan } else { rounded }) as u16
}

/// The same value as a float32.
#[inline(always)]
pub fn to_f32(x: u16) -> f32 {
    f32::from_bits(u32::from(x) << 16)
}

/// out[i] = bfloat16(x[i]). CPUs with an instruction for it take subnormal numbers for 0, as their dot products do.
pub(crate) fn round_to_bits(level: Level, x: &[f32], out: &mut [u16]) {
    match level.kind() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a level of this kind exists only after detecting these instructions.
        Kind::Avx512Bf16 => unsafe { avx512(x, out) },
        _ => portable(level, x, out),
    }
}

simd_kernel! {
    fn portable<S>(x: &[f32], out: &mut [u16]) {
        for (out, x) in out.iter_mut().zip(x) {
            *out = from_f32(*x);
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bf16")]
fn avx512(x: &[f32], out: &mut [u16]) {
    use std::arch::x86_64::{__m512bh, __m512i, _mm512_cvtne2ps_pbh, _mm512_loadu_ps, _mm512_storeu_si512};
    let (chunks, rest) = x.as_chunks::<32>();
    let (out_chunks, out_rest) = out.as_chunks_mut::<32>();
    for (x, out) in chunks.iter().zip(out_chunks) {
        // SAFETY: each array holds two vectors of 16 and one of 32 values; the result is 512 bits of any content.
        unsafe {
            let (low, high) = (_mm512_loadu_ps(x.as_ptr()), _mm512_loadu_ps(x.as_ptr().add(16)));
            let rounded = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low));
            _mm512_storeu_si512(out.as_mut_ptr().cast(), rounded);
        }
    }
    for (out, x) in out_rest.iter_mut().zip(rest) {
        *out = from_f32(if x.is_subnormal() { 0.0_f32.copysign(*x) } else { *x });
    }
}

/// lanes[k/2, j] = the rounded values of rows k and k + 1 in column j, the first in the lower half; rows of 0 follow the
/// last.
pub(crate) fn pair_rows(level: Level, rows: &[f32], n_columns: usize, lanes: &mut [u32]) {
    let pairs = rows.chunks(2 * n_columns).zip(lanes.chunks_exact_mut(n_columns));
    match level.kind() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a level of this kind exists only after detecting these instructions.
        Kind::Avx512Bf16 => pairs.for_each(|(rows, lanes)| unsafe {
            let (low, high) = rows.split_at(n_columns);
            avx512_pair(low, high, lanes);
        }),
        _ => {
            for (rows, lanes) in pairs {
                let (low, high) = rows.split_at(n_columns);
                for (column, (lane, low)) in lanes.iter_mut().zip(low).enumerate() {
                    let high = high.get(column).copied().unwrap_or(0.0);
                    *lane = u32::from(from_f32(*low)) | u32::from(from_f32(high)) << 16;
                }
            }
        }
    }
}

/// One pair of rows; an empty `high` is 0.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn avx512_pair(low: &[f32], high: &[f32], lanes: &mut [u32]) {
    use std::arch::x86_64::{
        __m256bh, __m256i, _mm512_cvtepu16_epi32, _mm512_cvtneps_pbh, _mm512_mask_storeu_epi32,
        _mm512_maskz_loadu_ps, _mm512_or_si512, _mm512_slli_epi32,
    };
    let widened = |values: &[f32]| {
        let mask = ((1_u32 << values.len().min(16)) - 1) as u16;
        // SAFETY: the mask leaves out what is behind the values; the cast keeps 256 bits of any content.
        unsafe {
            let values = _mm512_maskz_loadu_ps(mask, values.as_ptr());
            _mm512_cvtepu16_epi32(std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(values)))
        }
    };
    for (chunk_idx, lanes) in lanes.chunks_mut(16).enumerate() {
        let part = |row: &'_ [f32]| -> Range<usize> {
            (16 * chunk_idx).min(row.len())..(16 * chunk_idx + lanes.len()).min(row.len())
        };
        let pair =
            _mm512_or_si512(widened(&low[part(low)]), _mm512_slli_epi32::<16>(widened(&high[part(high)])));
        let mask = ((1_u32 << lanes.len()) - 1) as u16;
        // SAFETY: the mask leaves out what is behind the lanes.
        unsafe { _mm512_mask_storeu_epi32(lanes.as_mut_ptr().cast(), mask, pair) };
    }
}

simd_kernel! {
    /// out[i] = x[i], rounded to what bfloat16 can hold
    pub(crate) fn round<S>(x: &[f32], out: &mut [f32]) {
        for (out, x) in out.iter_mut().zip(x) {
            *out = to_f32(from_f32(*x));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_goes_to_the_nearest_even() {
        for (x, want) in [
            (1.0, 0x3f80),
            (f32::from_bits(0x3f80_8000), 0x3f80),
            (f32::from_bits(0x3f80_8001), 0x3f81),
            (f32::from_bits(0x3f81_8000), 0x3f82),
            (-0.0, 0x8000),
            (f32::MAX, 0x7f80),
            (f32::INFINITY, 0x7f80),
            (f32::from_bits(1), 0),
        ] {
            assert_eq!(from_f32(x), want, "{x:e}");
        }
        for bits in [0x7fc0_0000, 0x7f80_0001, 0xffff_ffff] {
            assert!(to_f32(from_f32(f32::from_bits(bits))).is_nan(), "{bits:x}");
        }
    }

    #[test]
    fn all_levels_round_alike() {
        let x: Vec<f32> = crate::testing::random(1003, 5).iter().map(|x| x * x * x * 1e6).collect();
        let x = [x, vec![f32::NAN, f32::INFINITY, f32::MAX, -0.0, 1e-45, 3.0]].concat();
        for level in Level::available() {
            let mut got = vec![0; x.len()];
            round_to_bits(level, &x, &mut got);
            for (got, x) in got.iter().zip(&x) {
                let want = from_f32(if x.is_subnormal() { 0.0 } else { *x });
                let is_same = *got == want || x.is_nan() && to_f32(*got).is_nan();
                assert!(is_same || x.is_subnormal(), "{}: {x:e} becomes {got:x}", level.name());
            }
        }
    }

    #[test]
    fn rows_are_paired_in_order_and_the_last_with_zeros() {
        for (n_rows, n_columns) in [(1, 1), (2, 7), (5, 16), (4, 32), (7, 40)] {
            let rows = crate::testing::random(n_rows * n_columns, 3);
            for level in Level::available() {
                let mut lanes = vec![7; n_rows.div_ceil(2) * n_columns];
                pair_rows(level, &rows, n_columns, &mut lanes);
                for (lane_idx, lane) in lanes.iter().enumerate() {
                    let (pair, column) = (lane_idx / n_columns, lane_idx % n_columns);
                    let value = |row: usize| rows.get(row * n_columns + column).copied().unwrap_or(0.0);
                    let want =
                        u32::from(from_f32(value(2 * pair))) | u32::from(from_f32(value(2 * pair + 1))) << 16;
                    assert_eq!(*lane, want, "{}: {n_rows}×{n_columns}", level.name());
                }
            }
        }
    }

    #[test]
    fn every_bfloat16_survives_the_way_through_float32() {
        for level in Level::available() {
            let is_kept = |x: f32| !x.is_nan() && !x.is_subnormal();
            let all: Vec<u16> = (0..=u16::MAX).filter(|x| is_kept(to_f32(*x))).collect();
            let wide: Vec<f32> = all.iter().copied().map(to_f32).collect();
            let mut back = vec![0; all.len()];
            round_to_bits(level, &wide, &mut back);
            assert_eq!(back, all);
            let mut rounded = vec![0.0; all.len()];
            round(level, &wide, &mut rounded);
            assert_eq!(rounded, wide);
        }
    }
}
