//! Sums, maxima and dot products in a fixed order that the compiler can vectorise.
//!
//! A plain floating-point sum may not be reordered by the compiler; here element i goes to lane i mod 32, and the lanes
//! are added in a fixed tree at the end.

use crate::simd::Isa;

const LANES: usize = 32;

/// Σ a[i]·b[i]
#[inline(always)]
pub(crate) fn dot<S: Isa>(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0; LANES];
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for lane in 0..LANES {
            lanes[lane] = S::mul_add(a[lane], b[lane], lanes[lane]);
        }
    }
    for (lane, (a, b)) in a_rest.iter().zip(b_rest).enumerate() {
        lanes[lane] = S::mul_add(*a, *b, lanes[lane]);
    }
    add_lanes(lanes)
}

/// The dot products of `a` with four rows of its length that lie one after the other.
#[inline(always)]
pub(crate) fn dot_4<S: Isa>(a: &[f32], rows: &[f32]) -> [f32; 4] {
    const WIDE: usize = 16;
    let n = a.len();
    let (b0, rest) = rows.split_at(n);
    let (b1, rest) = rest.split_at(n);
    let (b2, b3) = rest.split_at(n);
    // Four arrays, not an array of four: the compiler keeps these in registers.
    let (mut s0, mut s1, mut s2, mut s3) = ([0.0; WIDE], [0.0; WIDE], [0.0; WIDE], [0.0; WIDE]);
    let chunks = |x: &'_ [f32]| x.len() / WIDE * WIDE;
    let end = chunks(a);
    for start in (0..end).step_by(WIDE) {
        let range = start..start + WIDE;
        let (a, b0, b1, b2, b3) =
            (&a[range.clone()], &b0[range.clone()], &b1[range.clone()], &b2[range.clone()], &b3[range]);
        for lane in 0..WIDE {
            s0[lane] = S::mul_add(a[lane], b0[lane], s0[lane]);
            s1[lane] = S::mul_add(a[lane], b1[lane], s1[lane]);
            s2[lane] = S::mul_add(a[lane], b2[lane], s2[lane]);
            s3[lane] = S::mul_add(a[lane], b3[lane], s3[lane]);
        }
    }
    let finish = |mut sums: [f32; WIDE], b: &[f32]| {
        for (lane, (a, b)) in a[end..].iter().zip(&b[end..n]).enumerate() {
            sums[lane] = S::mul_add(*a, *b, sums[lane]);
        }
        let mut half = WIDE / 2;
        while 0 < half {
            for lane in 0..half {
                sums[lane] += sums[lane + half];
            }
            half /= 2;
        }
        sums[0]
    };
    [finish(s0, b0), finish(s1, b1), finish(s2, b2), finish(s3, b3)]
}

/// Σ a[i]·b[i]·c[i]
#[inline(always)]
pub(crate) fn dot3<S: Isa>(a: &[f32], b: &[f32], c: &[f32]) -> f32 {
    let mut lanes = [0.0; LANES];
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    let (c_chunks, c_rest) = c.as_chunks::<LANES>();
    for ((a, b), c) in a_chunks.iter().zip(b_chunks).zip(c_chunks) {
        for lane in 0..LANES {
            lanes[lane] = S::mul_add(a[lane] * b[lane], c[lane], lanes[lane]);
        }
    }
    for (lane, ((a, b), c)) in a_rest.iter().zip(b_rest).zip(c_rest).enumerate() {
        lanes[lane] = S::mul_add(*a * *b, *c, lanes[lane]);
    }
    add_lanes(lanes)
}

/// Σ f(a[i])
#[inline(always)]
pub(crate) fn sum_of(a: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let (chunks, rest) = a.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] += f(chunk[lane]);
        }
    }
    for (lane, value) in rest.iter().enumerate() {
        lanes[lane] += f(*value);
    }
    add_lanes(lanes)
}

/// Replaces each a[i] by f(a[i]) and returns the sum of the new values.
#[inline(always)]
pub(crate) fn map_and_sum(a: &mut [f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let (chunks, rest) = a.as_chunks_mut::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            chunk[lane] = f(chunk[lane]);
            lanes[lane] += chunk[lane];
        }
    }
    for (lane, value) in rest.iter_mut().enumerate() {
        *value = f(*value);
        lanes[lane] += *value;
    }
    add_lanes(lanes)
}

/// The largest value, or −∞ for none; NaN is passed over.
#[inline(always)]
pub(crate) fn maximum(a: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if a > b { a } else { b };
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = a.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] = larger(chunk[lane], lanes[lane]);
        }
    }
    for (lane, value) in rest.iter().enumerate() {
        lanes[lane] = larger(*value, lanes[lane]);
    }
    lanes.into_iter().fold(f32::NEG_INFINITY, |a, b| larger(b, a))
}

#[inline(always)]
fn add_lanes(mut lanes: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while 0 < half {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
        half /= 2;
    }
    lanes[0]
}
