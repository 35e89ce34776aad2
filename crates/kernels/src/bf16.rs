//! The number format bfloat16: the upper half of a float32, so 8 significant bits over the same range.

use crate::simd::simd_kernel;

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

simd_kernel! {
    /// out[i] = bfloat16(x[i])
    pub(crate) fn round_to_bits<S>(x: &[f32], out: &mut [u16]) {
        for (out, x) in out.iter_mut().zip(x) {
            *out = from_f32(*x);
        }
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
    use crate::Level;

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
    fn every_bfloat16_survives_the_way_through_float32() {
        for level in Level::available() {
            let all: Vec<u16> = (0..=u16::MAX).filter(|x| !to_f32(*x).is_nan()).collect();
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
