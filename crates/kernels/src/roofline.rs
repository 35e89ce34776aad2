//! The two loops that show what the machine can do at most: multiply-adds that never leave the registers, and a sum of
//! long vectors that fit in no cache. The speed of an operation is read against these.
//!
//! Only the loops are here; whoever calls them holds the clock.

use std::hint::black_box;

use crate::Compute;
use crate::simd::{Baseline, Isa, Kind, Level, simd_kernel};

/// Independent chains of multiply-adds: more than a CPU works on at a time, and few enough for the sixteen vector
/// registers of AVX2.
const N_CHAINS: usize = 12;
/// Every value moves from 0 to `TERM / (1 − FACTOR)` and stays there, a normal number.
const FACTOR: f32 = 0.5;
const TERM: f32 = 1.0;

/// Runs `n_rounds` rounds of multiply-adds on the calling thread, with factors in the format `compute` where the CPU has
/// instructions for it, else in float32. Returns the number of operations, a multiplication and an addition counted as
/// two, and the mean of the values, which tends to 2; sums of bfloat16 products grow without bound.
pub fn multiply_adds(level: Level, compute: Compute, n_rounds: usize) -> (u64, f32) {
    let (width, sum) = match level.kind() {
        #[cfg(target_arch = "x86_64")]
        Kind::Avx512Bf16 if compute == Compute::Bf16 => {
            // SAFETY: a level of this kind exists only after detecting these instructions.
            (2 * 16, unsafe { x86::avx512_bf16(n_rounds) })
        }
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a level of this kind exists only after detecting these instructions.
        Kind::Avx512 | Kind::Avx512Bf16 => (16, unsafe { x86::avx512(n_rounds) }),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a level of this kind exists only after detecting these instructions.
        Kind::Avx2 => (8, unsafe { x86::avx2(n_rounds) }),
        Kind::Baseline => (4, baseline::<Baseline>(n_rounds)),
    };
    let n_values = N_CHAINS * width;
    (2 * (n_values * n_rounds) as u64, sum / n_values as f32)
}

/// Four values make a vector of SSE2 and NEON.
fn baseline<S: Isa>(n_rounds: usize) -> f32 {
    let (factor, term) = (black_box(FACTOR), black_box(TERM));
    // Hidden from the compiler, which would compute equal chains once.
    let mut chains = black_box([[0.0; 4]; N_CHAINS]);
    for _ in 0..n_rounds {
        for chain in &mut chains {
            *chain = chain.map(|value| S::mul_add(value, factor, term));
        }
    }
    chains.as_flattened().iter().sum()
}

/// Written in the CPU's own instructions, so that the vectors stay in registers whatever the compiler makes of loops.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m512, _mm256_fmadd_ps, _mm256_set1_ps, _mm256_setzero_ps, _mm256_storeu_ps, _mm512_cvtne2ps_pbh,
        _mm512_dpbf16_ps, _mm512_fmadd_ps, _mm512_reduce_add_ps, _mm512_set1_ps, _mm512_setzero_ps,
    };
    use std::hint::black_box;

    use super::{FACTOR, N_CHAINS, TERM};

    #[target_feature(enable = "avx512f")]
    pub(super) fn avx512(n_rounds: usize) -> f32 {
        let (factor, term) = (_mm512_set1_ps(black_box(FACTOR)), _mm512_set1_ps(black_box(TERM)));
        let mut chains = black_box([_mm512_setzero_ps(); N_CHAINS]);
        for _ in 0..n_rounds {
            for chain in &mut chains {
                *chain = _mm512_fmadd_ps(*chain, factor, term);
            }
        }
        sum_of(chains)
    }

    /// Each sum grows by the products of a pair, together `TERM`, a round; half a value of the width counts one sum.
    #[target_feature(enable = "avx512f,avx512bf16")]
    pub(super) fn avx512_bf16(n_rounds: usize) -> f32 {
        let of = |value: f32| {
            let values = _mm512_set1_ps(black_box(value));
            _mm512_cvtne2ps_pbh(values, values)
        };
        let (factor, term) = (of(FACTOR), of(TERM));
        let mut chains = black_box([_mm512_setzero_ps(); N_CHAINS]);
        for _ in 0..n_rounds {
            for chain in &mut chains {
                *chain = _mm512_dpbf16_ps(*chain, factor, term);
            }
        }
        sum_of(chains)
    }

    #[target_feature(enable = "avx512f")]
    fn sum_of(chains: [__m512; N_CHAINS]) -> f32 {
        let mut sum = 0.0;
        for chain in chains {
            sum += _mm512_reduce_add_ps(chain);
        }
        sum
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn avx2(n_rounds: usize) -> f32 {
        let (factor, term) = (_mm256_set1_ps(black_box(FACTOR)), _mm256_set1_ps(black_box(TERM)));
        let mut chains = black_box([_mm256_setzero_ps(); N_CHAINS]);
        for _ in 0..n_rounds {
            for chain in &mut chains {
                *chain = _mm256_fmadd_ps(*chain, factor, term);
            }
        }
        let mut sum = 0.0;
        for chain in chains {
            let mut lanes = [0.0_f32; 8];
            // SAFETY: the eight values of the vector have room in the array.
            unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), chain) };
            sum += lanes.iter().sum::<f32>();
        }
        sum
    }
}

simd_kernel! {
    /// y[i] = a[i] + scale·b[i] on the calling thread: two values read and one written for each.
    pub fn triad<S>(a: &[f32], b: &[f32], scale: f32, y: &mut [f32]) {
        for ((y, a), b) in y.iter_mut().zip(a).zip(b) {
            *y = S::mul_add(scale, *b, *a);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{random, worst_difference};

    #[test]
    fn every_level_runs_all_its_multiply_adds() {
        let mut n_values_before = 0;
        for level in Level::available() {
            let run = |n_rounds| multiply_adds(level, Compute::F32, n_rounds);
            assert_eq!(run(0), (0, 0.0));
            let (n_of_one_round, mean) = run(1);
            assert_eq!(mean, 1.0, "{}", level.name());
            assert!(n_values_before <= n_of_one_round, "wider levels do more in a round");
            n_values_before = n_of_one_round;
            assert_eq!(run(3), (3 * n_of_one_round, 1.75), "{}", level.name());
            assert_eq!(run(1000).1, 2.0);
            let (n_of_one_bf16_round, mean) = multiply_adds(level, Compute::Bf16, 1);
            assert!(n_of_one_round <= n_of_one_bf16_round && 0.0 < mean, "{}", level.name());
        }
    }

    #[test]
    fn triad_is_the_naive_sum() {
        for n in [0, 1, 7, 33, 1000] {
            let (a, b) = (random(n, 1), random(n, 2));
            let naive: Vec<f32> = a.iter().zip(&b).map(|(a, b)| a + 3.0 * b).collect();
            for level in Level::available() {
                let mut y = vec![0.0; n];
                triad(level, &a, &b, 3.0, &mut y);
                let worst = worst_difference(&y, &naive);
                assert!(worst <= 3e-7, "{} of {n}: {worst:e}", level.name());
            }
        }
    }
}
