//! Exponential, logistic, hyperbolic tangent and error functions that the compiler can vectorise.
//!
//! No branches, no table look-ups and no float-to-integer casts (Rust's saturate, which costs several instructions):
//! rounding is done by adding 1.5·2²³, whose low mantissa bits then hold the integer. NaN goes in, NaN comes out.

use crate::simd::Isa;

/// eˣ within 2 units in the last place; 0 below −104, +∞ above 88.73.
#[inline(always)]
pub(crate) fn exp<S: Isa>(x: f32) -> f32 {
    // Comparisons, not min and max, so that NaN stays.
    let x = if x < -104.0 { -104.0 } else { x };
    let x = if x > 89.0 { 89.0 } else { x };
    let (e, n) = reduced_exp::<S>(x);
    // Two factors, because 2ⁿ itself leaves the normal numbers near both ends.
    let first = n >> 1;
    e * power_of_two(first) * power_of_two(n - first)
}

/// eˣ within 2 units in the last place for −86 ≤ x ≤ 0 (and up to 88), e⁻⁸⁶ = 4.5e-38 below: what a softmax needs, and less
/// than [`exp`] does.
#[inline(always)]
pub(crate) fn exp_of_difference<S: Isa>(x: f32) -> f32 {
    let x = if x < -86.0 { -86.0 } else { x };
    let (e, n) = reduced_exp::<S>(x);
    e * power_of_two(n)
}

/// (e, n) with eˣ = e · 2ⁿ and e near 1, for |x| ≤ 104.
#[inline(always)]
fn reduced_exp<S: Isa>(x: f32) -> (f32, i32) {
    const ROUND: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let shifted = S::mul_add(x, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = S::mul_add(n, -LN2_HIGH, x);
    let r = S::mul_add(n, -LN2_LOW, r);
    // Minimax polynomial of (eʳ − 1 − r) / r² on |r| ≤ ln 2 / 2 (Cephes' expf).
    let p = S::mul_add(1.987_569_1e-4, r, 1.398_199_9e-3);
    let p = S::mul_add(p, r, 8.333_452e-3);
    let p = S::mul_add(p, r, 4.166_579_6e-2);
    let p = S::mul_add(p, r, 1.666_666_5e-1);
    let p = S::mul_add(p, r, 0.5);
    let e = S::mul_add(p, r * r, r) + 1.0;
    (e, shifted.to_bits().wrapping_sub(ROUND.to_bits()) as i32)
}

/// 1 / (1 + e⁻ˣ)
#[inline(always)]
pub(crate) fn sigmoid<S: Isa>(x: f32) -> f32 {
    1.0 / (1.0 + exp::<S>(-x))
}

/// Hyperbolic tangent, within 4 units in the last place.
#[inline(always)]
pub(crate) fn tanh<S: Isa>(x: f32) -> f32 {
    // Near 0 the exponential form cancels, so an odd polynomial takes over (Cephes' tanhf).
    let z = x * x;
    let p = S::mul_add(-5.704_988_7e-3, z, 2.063_909e-2);
    let p = S::mul_add(p, z, -5.373_971_5e-2);
    let p = S::mul_add(p, z, 1.333_144_2e-1);
    let p = S::mul_add(p, z, -3.333_328e-1);
    let near = S::mul_add(p * z, x, x);
    let magnitude = x.abs();
    let far = 1.0 - 2.0 / (exp::<S>(magnitude + magnitude) + 1.0);
    if magnitude < 0.625 { near } else { far.copysign(x) }
}

/// Error function, within 5e-7.
#[inline(always)]
pub(crate) fn erf<S: Isa>(x: f32) -> f32 {
    // Rational minimax approximation on |x| ≤ 4 (Eigen's); beyond, erf rounds to ±1.
    let x = if x < -4.0 { -4.0 } else { x };
    let x = if x > 4.0 { 4.0 } else { x };
    let z = x * x;
    let p = S::mul_add(-2.726_142_3e-10, z, 2.770_681_5e-8);
    let p = S::mul_add(p, z, -2.101_024e-6);
    let p = S::mul_add(p, z, -5.692_506_4e-5);
    let p = S::mul_add(p, z, -7.349_906_3e-4);
    let p = S::mul_add(p, z, -2.954_6e-3);
    let p = S::mul_add(p, z, -1.609_603_3e-2);
    let q = S::mul_add(-1.456_607_2e-5, z, -2.133_740_5e-4);
    let q = S::mul_add(q, z, -1.682_827e-3);
    let q = S::mul_add(q, z, -7.373_329e-3);
    let q = S::mul_add(q, z, -1.426_474e-2);
    x * p / q
}

/// 2ⁿ for −126 ≤ n ≤ 127
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits(((n + 127) as u32) << 23)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Level;
    use crate::simd::simd_kernel;

    simd_kernel! {
        fn map_exp<S>(values: &mut [f32]) {
            for value in values.iter_mut() {
                *value = exp::<S>(*value);
            }
        }
    }
    simd_kernel! {
        fn map_exp_of_difference<S>(values: &mut [f32]) {
            for value in values.iter_mut() {
                *value = exp_of_difference::<S>(*value);
            }
        }
    }
    simd_kernel! {
        fn map_tanh<S>(values: &mut [f32]) {
            for value in values.iter_mut() {
                *value = tanh::<S>(*value);
            }
        }
    }
    simd_kernel! {
        fn map_erf<S>(values: &mut [f32]) {
            for value in values.iter_mut() {
                *value = erf::<S>(*value);
            }
        }
    }

    /// The largest error of `f` over `inputs` as `measure(got, want)`.
    fn worst(
        f: impl Fn(Level, &mut [f32]),
        inputs: &[f32],
        reference: impl Fn(f64) -> f64,
        measure: impl Fn(f32, f64) -> f64,
    ) -> f64 {
        let mut worst = 0.0_f64;
        for level in Level::available() {
            let mut outputs = inputs.to_vec();
            f(level, &mut outputs);
            for (x, y) in inputs.iter().zip(&outputs) {
                let error = measure(*y, reference(f64::from(*x)));
                assert!(error.is_finite(), "{}: f({x}) = {y}", level.name());
                worst = worst.max(error);
            }
        }
        worst
    }

    fn units_in_last_place(got: f32, want: f64) -> f64 {
        let unit =
            f64::from(f32::from_bits((want as f32).abs().to_bits() + 1)) - f64::from((want as f32).abs());
        (f64::from(got) - want).abs() / unit
    }

    fn grid(low: f32, high: f32, n: usize) -> Vec<f32> {
        (0..=n).map(|i| low + (high - low) * (i as f32 / n as f32)).collect()
    }

    #[test]
    fn exp_is_accurate_over_its_whole_range() {
        let normal = worst(map_exp, &grid(-87.0, 88.72, 400_001), f64::exp, units_in_last_place);
        println!("exp: worst error {normal:.2} units in the last place");
        assert!(normal < 2.0);
        let tiny =
            worst(map_exp, &grid(-104.0, -87.0, 10_001), f64::exp, |got, want| (f64::from(got) - want).abs());
        println!("exp among subnormals: worst error {tiny:.2e}");
        assert!(tiny < 3e-45);
    }

    #[test]
    fn exp_of_a_difference_is_accurate_and_never_below_its_floor() {
        let worst_error =
            worst(map_exp_of_difference, &grid(-86.0, 1.0, 400_001), f64::exp, units_in_last_place);
        println!("exp of a difference: worst error {worst_error:.2} units in the last place");
        assert!(worst_error < 2.0);
        for level in Level::available() {
            let mut values = [f32::NEG_INFINITY, -1e30, -86.5, 0.0, f32::NAN];
            map_exp_of_difference(level, &mut values);
            assert!(values[..3].iter().all(|value| (0.0..5e-38).contains(value)), "{values:?}");
            assert!(values[3] == 1.0 && values[4].is_nan());
        }
    }

    #[test]
    fn exp_keeps_special_values() {
        for level in Level::available() {
            let mut values =
                [f32::NEG_INFINITY, -1e30, -105.0, 0.0, 90.0, f32::INFINITY, f32::NAN, f32::MIN, f32::MAX];
            map_exp(level, &mut values);
            assert_eq!(&values[..6], &[0.0, 0.0, 0.0, 1.0, f32::INFINITY, f32::INFINITY]);
            assert!(values[6].is_nan());
            assert_eq!(&values[7..], &[0.0, f32::INFINITY]);
        }
    }

    #[test]
    fn tanh_is_accurate() {
        let worst = worst(map_tanh, &grid(-12.0, 12.0, 300_001), f64::tanh, units_in_last_place);
        println!("tanh: worst error {worst:.2} units in the last place");
        assert!(worst < 4.0);
    }

    #[test]
    fn erf_is_accurate() {
        let difference = |got: f32, want: f64| (f64::from(got) - want).abs();
        let worst = worst(map_erf, &grid(-6.0, 6.0, 100_001), erf_reference, difference);
        println!("erf: worst error {worst:.2e}");
        assert!(worst < 5e-7);
    }

    /// Maclaurin series near 0, continued fraction far away.
    fn erf_reference(x: f64) -> f64 {
        let z = x.abs();
        let value = if z < 2.5 {
            let (mut term, mut sum) = (z, z);
            for n in 1..200 {
                term *= -z * z / n as f64;
                sum += term / (2 * n + 1) as f64;
            }
            sum * 2.0 / std::f64::consts::PI.sqrt()
        } else {
            let mut fraction = 0.0;
            for n in (1..200).rev() {
                fraction = n as f64 / 2.0 / (z + fraction);
            }
            1.0 - (-z * z).exp() / std::f64::consts::PI.sqrt() / (z + fraction)
        };
        value.copysign(x)
    }
}
