//! A matrix of weights that is read and never written, in the number format it is stored in.
//!
//! Blocks of the 8- and 4-bit formats are GGUF's, byte for byte, so that a file's tensors are used as they are: 32
//! neighbouring values of a row share a scale d (float16) and, in Q4_1, a minimum m.
//!
//! | format | bytes of 32 values | value i of a block |
//! |---|---|---|
//! | Q8_0 | d, 32 × int8 | d · q[i] |
//! | Q4_0 | d, 16 bytes  | d · (q[i] − 8), q[i] the low half of byte i, q[i + 16] the high half |
//! | Q4_1 | d, m, 16 bytes | d · q[i] + m |
//! | NF4 | a (float32), 16 bytes | a · CODE[q[i]] |
//!
//! NF4 is bitsandbytes' (Dettmers et al. 2023, arXiv:2305.14314, without double quantisation): the codes are quantiles of the
//! normal distribution, and a is the largest magnitude of 64 neighbours, kept here with each half of them.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use crate::buffer::Plain;
use crate::simd::simd_kernel;
use crate::{Level, bf16};

/// Values that share a scale in the block formats.
pub const BLOCK: usize = 32;

/// How the values of a [`Weight`] are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// 32 bits, exact.
    F32,
    /// 16 bits: 8 significant ones over float32's range.
    Bf16,
    /// 16 bits: 11 significant ones, up to 65504.
    F16,
    /// 8.5 bits a value.
    Q8_0,
    /// 4.5 bits a value.
    Q4_0,
    /// 5 bits a value.
    Q4_1,
    /// 5 bits a value, for values that are distributed normally.
    Nf4,
}

impl Format {
    /// Values that are stored together: rows must be a multiple of it.
    pub fn block_values(self) -> usize {
        match self {
            Self::F32 | Self::Bf16 | Self::F16 => 1,
            Self::Q8_0 | Self::Q4_0 | Self::Q4_1 | Self::Nf4 => BLOCK,
        }
    }

    /// Bytes of [`Self::block_values`] values.
    pub fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 | Self::F16 => 2,
            Self::Q8_0 => 2 + BLOCK,
            Self::Q4_0 => 2 + BLOCK / 2,
            Self::Q4_1 | Self::Nf4 => 4 + BLOCK / 2,
        }
    }
}

/// The bytes behind a weight: owned, or a part of a file mapped into memory.
pub type Bytes = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// A matrix [O, I] that is read and never written; cloning shares it.
#[derive(Clone)]
pub struct Weight {
    bytes: Bytes,
    format: Format,
    n_rows: usize,
    n_columns: usize,
}

impl fmt::Debug for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Weight {:?} [{}, {}]", self.format, self.n_rows, self.n_columns)
    }
}

impl Weight {
    /// A weight over bytes in `format`, little-endian, row by row; `None` when their number does not fit the shape or
    /// rows do not end with a block.
    pub fn new(bytes: Bytes, format: Format, n_rows: usize, n_columns: usize) -> Option<Self> {
        let fits = n_columns.is_multiple_of(format.block_values())
            && n_rows.checked_mul(n_columns / format.block_values())?.checked_mul(format.block_bytes())?
                == (*bytes).as_ref().len();
        fits.then_some(Self { bytes, format, n_rows, n_columns })
    }

    /// The values in another format, each rounded to the nearest that it can hold; `None` when rows do not end with a
    /// block of the format.
    pub fn convert(
        level: Level,
        values: &[f32],
        n_rows: usize,
        n_columns: usize,
        format: Format,
    ) -> Option<Self> {
        let mut bytes = Vec::with_capacity(values.len() / format.block_values() * format.block_bytes());
        match format {
            Format::F32 => bytes.extend(values.iter().flat_map(|value| value.to_le_bytes())),
            Format::Bf16 => {
                let mut rounded = vec![0; values.len()];
                bf16::round_to_bits(level, values, &mut rounded);
                bytes.extend(rounded.into_iter().flat_map(u16::to_le_bytes));
            }
            Format::F16 => {
                bytes.extend(values.iter().flat_map(|value| half::f16::from_f32(*value).to_le_bytes()))
            }
            Format::Q8_0 | Format::Q4_0 | Format::Q4_1 => {
                for block in values.as_chunks::<BLOCK>().0 {
                    quantize_block(block, format, &mut bytes);
                }
            }
            // The last group may have one half only.
            Format::Nf4 => values.chunks(2 * BLOCK).for_each(|group| quantize_nf4(group, &mut bytes)),
        }
        Self::new(Arc::new(bytes), format, n_rows, n_columns)
    }

    /// How the values are stored.
    pub fn format(&self) -> Format {
        self.format
    }

    /// [O, I]
    pub fn dims(&self) -> [usize; 2] {
        [self.n_rows, self.n_columns]
    }

    /// Bytes of all values.
    pub fn n_bytes(&self) -> usize {
        self.as_bytes().len()
    }

    /// All values, row by row.
    pub fn to_vec(&self, level: Level) -> Vec<f32> {
        let mut values = vec![0.0; self.n_rows * self.n_columns];
        if self.n_columns != 0 {
            for (row, values) in values.chunks_exact_mut(self.n_columns).enumerate() {
                self.read(level, row, 0..self.n_columns, values);
            }
        }
        values
    }

    /// Fills `out` with columns `columns` of a row; the range begins with a block.
    ///
    /// # Panics
    /// When row or columns lie outside the matrix or the range begins within a block.
    pub fn read(&self, level: Level, row: usize, columns: Range<usize>, out: &mut [f32]) {
        let bytes = self.row_bytes(row, columns);
        match self.format {
            Format::F32 => read_f32(level, bytes, out),
            Format::Bf16 => read_bf16(level, bytes, out),
            Format::F16 => read_f16(level, bytes, out),
            Format::Q8_0 => read_q8_0(level, bytes, out),
            Format::Q4_0 => read_q4_0(level, bytes, out),
            Format::Q4_1 => read_q4_1(level, bytes, out),
            Format::Nf4 => read_nf4(level, bytes, out),
        }
    }

    /// As [`Self::read`], rounded to bfloat16.
    pub(crate) fn read_bf16(
        &self,
        level: Level,
        row: usize,
        columns: Range<usize>,
        scratch: &mut Vec<f32>,
        out: &mut [u16],
    ) {
        if self.format == Format::Bf16 {
            copy_u16(level, self.row_bytes(row, columns), out);
        } else {
            scratch.resize(out.len(), 0.0);
            self.read(level, row, columns, scratch);
            bf16::round_to_bits(level, scratch, out);
        }
    }

    /// The values themselves, when they are stored as float32 at a suitable address.
    pub(crate) fn as_f32(&self) -> Option<&[f32]> {
        (self.format == Format::F32).then(|| native(self.as_bytes()))?
    }

    /// The values themselves, when they are stored as bfloat16 at a suitable address.
    pub(crate) fn as_bf16(&self) -> Option<&[u16]> {
        (self.format == Format::Bf16).then(|| native(self.as_bytes()))?
    }

    fn row_bytes(&self, row: usize, columns: Range<usize>) -> &[u8] {
        let (values, size) = (self.format.block_values(), self.format.block_bytes());
        assert!(
            row < self.n_rows && columns.end <= self.n_columns && columns.start.is_multiple_of(values),
            "{self:?} has no row {row}, columns {columns:?}"
        );
        let start = (row * self.n_columns + columns.start) / values * size;
        let end = start + columns.len().div_ceil(values) * size;
        &self.as_bytes()[start..end]
    }

    /// The bytes of all values, row by row.
    pub fn as_bytes(&self) -> &[u8] {
        (*self.bytes).as_ref()
    }
}

/// Little-endian numbers as the CPU's own, when the CPU is so and they lie at a multiple of their size.
fn native<T: Plain>(bytes: &[u8]) -> Option<&[T]> {
    // SAFETY: every bit pattern of a `Plain` is a number.
    let (before, numbers, after) = unsafe { bytes.align_to() };
    (cfg!(target_endian = "little") && before.is_empty() && after.is_empty()).then_some(numbers)
}

simd_kernel! {
    fn read_f32<S>(bytes: &[u8], out: &mut [f32]) {
        for (out, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
            *out = f32::from_le_bytes(*bytes);
        }
    }
}

simd_kernel! {
    fn read_bf16<S>(bytes: &[u8], out: &mut [f32]) {
        for (out, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
            *out = bf16::to_f32(u16::from_le_bytes(*bytes));
        }
    }
}

simd_kernel! {
    fn read_f16<S>(bytes: &[u8], out: &mut [f32]) {
        for (out, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
            *out = half_to_f32(*bytes);
        }
    }
}

simd_kernel! {
    fn copy_u16<S>(bytes: &[u8], out: &mut [u16]) {
        for (out, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
            *out = u16::from_le_bytes(*bytes);
        }
    }
}

simd_kernel! {
    fn read_q8_0<S>(bytes: &[u8], out: &mut [f32]) {
        for (block, out) in bytes.as_chunks::<{ 2 + BLOCK }>().0.iter().zip(out.chunks_mut(BLOCK)) {
            let d = half_to_f32([block[0], block[1]]);
            let mut values = [0.0; BLOCK];
            for i in 0..BLOCK {
                values[i] = d * f32::from(block[2 + i] as i8);
            }
            out.copy_from_slice(&values[..out.len()]);
        }
    }
}

simd_kernel! {
    fn read_q4_0<S>(bytes: &[u8], out: &mut [f32]) {
        for (block, out) in bytes.as_chunks::<{ 2 + BLOCK / 2 }>().0.iter().zip(out.chunks_mut(BLOCK)) {
            let d = half_to_f32([block[0], block[1]]);
            let mut values = [0.0; BLOCK];
            for i in 0..BLOCK / 2 {
                values[i] = d * (f32::from(block[2 + i] & 15) - 8.0);
                values[i + BLOCK / 2] = d * (f32::from(block[2 + i] >> 4) - 8.0);
            }
            out.copy_from_slice(&values[..out.len()]);
        }
    }
}

simd_kernel! {
    fn read_q4_1<S>(bytes: &[u8], out: &mut [f32]) {
        for (block, out) in bytes.as_chunks::<{ 4 + BLOCK / 2 }>().0.iter().zip(out.chunks_mut(BLOCK)) {
            let (d, m) = (half_to_f32([block[0], block[1]]), half_to_f32([block[2], block[3]]));
            let mut values = [0.0; BLOCK];
            for i in 0..BLOCK / 2 {
                // Not fused, so that every instruction set gives the file's own values.
                values[i] = d * f32::from(block[4 + i] & 15) + m;
                values[i + BLOCK / 2] = d * f32::from(block[4 + i] >> 4) + m;
            }
            out.copy_from_slice(&values[..out.len()]);
        }
    }
}

simd_kernel! {
    fn read_nf4<S>(bytes: &[u8], out: &mut [f32]) {
        for (block, out) in bytes.as_chunks::<{ 4 + BLOCK / 2 }>().0.iter().zip(out.chunks_mut(BLOCK)) {
            let a = f32::from_le_bytes([block[0], block[1], block[2], block[3]]);
            let mut values = [0.0; BLOCK];
            for i in 0..BLOCK / 2 {
                values[i] = a * NF4_CODE[usize::from(block[4 + i] & 15)];
                values[i + BLOCK / 2] = a * NF4_CODE[usize::from(block[4 + i] >> 4)];
            }
            out.copy_from_slice(&values[..out.len()]);
        }
    }
}

/// What the codes of NF4 stand for.
const NF4_CODE: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// Appends a group of values that share their largest magnitude, each as the nearest code.
fn quantize_nf4(group: &[f32], bytes: &mut Vec<u8>) {
    let largest = group.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
    let factor = if largest == 0.0 { 0.0 } else { 1.0 / largest };
    let code = |x: f32| {
        let x = x * factor;
        NF4_CODE.windows(2).filter(|pair| x > (pair[0] + pair[1]) / 2.0).count() as u8
    };
    for block in group.as_chunks::<BLOCK>().0 {
        bytes.extend(largest.to_le_bytes());
        bytes.extend((0..BLOCK / 2).map(|i| code(block[i]) | code(block[i + BLOCK / 2]) << 4));
    }
}

/// The value of a float16.
#[inline(always)]
fn half_to_f32(bytes: [u8; 2]) -> f32 {
    let half = u32::from(u16::from_le_bytes(bytes));
    let (sign, rest) = ((half & 0x8000) << 16, (half & 0x7fff) << 13);
    // The exponents' biases differ by 112; the product also turns subnormal halves into normal numbers.
    let magnitude = if half & 0x7c00 == 0x7c00 {
        f32::from_bits(rest | 0x7f80_0000)
    } else {
        f32::from_bits(rest) * f32::from_bits((127 + 112) << 23)
    };
    f32::from_bits(magnitude.to_bits() | sign)
}

/// Appends one block. Q8_0: d = max |x| / 127; Q4_0: d from the value of largest magnitude, which becomes −8 · d; Q4_1: m
/// the smallest, d a fifteenth of the span. Scales are rounded to float16 before the values are counted in them.
fn quantize_block(block: &[f32; BLOCK], format: Format, bytes: &mut Vec<u8>) {
    let extreme = block.iter().copied().fold(0.0_f32, |a, b| if a.abs() < b.abs() { b } else { a });
    let inverse = |d: f32| if d == 0.0 { 0.0 } else { 1.0 / d };
    if format == Format::Q8_0 {
        let d = nearest_half(extreme.abs() / 127.0);
        let factor = inverse(half_to_f32(d));
        bytes.extend(d);
        bytes.extend(block.map(|x| (x * factor).round_ties_even().clamp(-127.0, 127.0) as i8 as u8));
        return;
    }
    let (d, shift) = if format == Format::Q4_0 {
        let d = nearest_half(extreme / -8.0);
        bytes.extend(d);
        (half_to_f32(d), -8.0 * half_to_f32(d))
    } else {
        let (low, high) = block
            .iter()
            .fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), x| (low.min(*x), high.max(*x)));
        let (d, m) = (nearest_half((high - low) / 15.0), nearest_half(low));
        bytes.extend(d);
        bytes.extend(m);
        (half_to_f32(d), half_to_f32(m))
    };
    let factor = inverse(d);
    let code = |x: f32| ((x - shift) * factor).round_ties_even().clamp(0.0, 15.0) as u8;
    bytes.extend((0..BLOCK / 2).map(|i| code(block[i]) | code(block[i + BLOCK / 2]) << 4));
}

/// The nearest float16, which for a scale must be finite.
fn nearest_half(x: f32) -> [u8; 2] {
    half::f16::from_f32(x.clamp(-65504.0, 65504.0)).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::random;

    #[test]
    fn every_half_is_read_exactly() {
        for bits in 0..=u16::MAX {
            let (got, want) = (half_to_f32(bits.to_le_bytes()), half::f16::from_bits(bits).to_f32());
            assert!(got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan(), "{bits:x}");
        }
    }

    #[test]
    fn all_levels_read_the_same_values() {
        for format in
            [Format::F32, Format::Bf16, Format::F16, Format::Q8_0, Format::Q4_0, Format::Q4_1, Format::Nf4]
        {
            let values = random(5 * 96, 7);
            let weight = Weight::convert(Level::best(), &values, 5, 96, format).unwrap();
            let want = weight.to_vec(Level::available()[0]);
            for level in Level::available() {
                assert_eq!(weight.to_vec(level), want);
                let mut part = vec![0.0; 40];
                weight.read(level, 3, 32..72, &mut part);
                assert_eq!(part, want[3 * 96 + 32..3 * 96 + 72]);
                let mut rounded = vec![0; 40];
                weight.read_bf16(level, 3, 32..72, &mut Vec::new(), &mut rounded);
                assert!(rounded.iter().zip(&part).all(|(got, want)| *got == bf16::from_f32(*want)));
            }
        }
    }

    #[test]
    fn conversion_errs_by_half_a_unit_at_most() {
        let values = random(64 * 32, 3);
        // Half a unit of values within ±1, and the rounding of the scales themselves.
        for (format, bound) in [
            (Format::F32, 0.0),
            (Format::Bf16, 0.002),
            (Format::F16, 0.00025),
            (Format::Q8_0, 0.0045),
            (Format::Q4_0, 0.13),
            (Format::Q4_1, 0.068),
            (Format::Nf4, 0.153),
        ] {
            let weight = Weight::convert(Level::best(), &values, 32, 64, format).unwrap();
            assert_eq!(weight.n_bytes(), values.len() / format.block_values() * format.block_bytes());
            let got = weight.to_vec(Level::best());
            let worst = got.iter().zip(&values).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            println!("{format:?}: worst error {worst:.4} for values within ±1");
            assert!(worst <= bound);
            let again = Weight::convert(Level::best(), &got, 32, 64, format).unwrap();
            let drift =
                again.to_vec(Level::best()).iter().zip(&got).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(drift <= bound / 50.0, "{format:?} drifts by {drift} when converted again");
        }
        let zeros = Weight::convert(Level::best(), &[0.0; 32], 1, 32, Format::Q4_0).unwrap();
        assert_eq!(zeros.to_vec(Level::best()), [0.0; 32]);
    }

    /// Codes and largest numbers are those that `tests/golden/make_nf4.py` prints.
    #[test]
    fn nf4_is_that_of_bitsandbytes() {
        let codes = "04c16e29f3b05d17e29f3c05d18e2af4c16e18e3b05d17e29f3b05d18e2af4c16d18e3b04c17e29f3b05d17e2af4c06d18e2a04c16e29f3b05d17e29f3c05d18e2af4c16e18e3b05d17e29f3b05d18e2af4c16d18e3b04c17e29f3b05d17e2af";
        let largest = [1.612_903_2_f32, 3.225_806_5, 4.838_71];
        let values: Vec<f32> = (0..192_i32)
            .map(|i| ((i * 37 % 101 - 50) as f64 / 31.0 * f64::from(1 + i / 64)) as f32)
            .collect();
        let weight = Weight::convert(Level::best(), &values, 2, 96, Format::Nf4).unwrap();
        let found = weight.to_vec(Level::best());
        for (i, (digit, found)) in codes.chars().zip(found).enumerate() {
            let want = largest[i / 64] * NF4_CODE[digit.to_digit(16).unwrap() as usize];
            assert_eq!(found, want, "value {i}, {}", values[i]);
        }
    }

    #[test]
    fn bytes_that_do_not_fit_are_refused() {
        assert!(Weight::new(Arc::new(vec![0_u8; 33]), Format::Q8_0, 1, 32).is_none());
        assert!(Weight::new(Arc::new(vec![0_u8; 34]), Format::Q8_0, 1, 16).is_none());
        assert!(Weight::new(Arc::new(vec![0_u8; 34]), Format::Q8_0, 1, 32).is_some());
        assert!(Weight::convert(Level::best(), &[0.0; 40], 1, 40, Format::Q4_1).is_none());
        assert!(Weight::new(Arc::new(vec![0_u8; 8]), Format::F32, usize::MAX, 2).is_none());
    }
}
