//! Dequantisation of GGUF's block formats into float32.
//!
//! Layouts are those of ggml (`ggml-common.h`); all scales are float16, everything little-endian. In each
//! formula `d`, `m`, `dmin` are the block's scales and `q` its integer codes. Results are bit-equal to the
//! reference decoders because the operations and their order are theirs: products and sums in float32,
//! never fused.

use half::f16;

/// Values that share the 6-bit scales of a "K" block.
const K_BLOCK: usize = 256;

/// A block format: a fixed number of values in a fixed number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(non_camel_case_types, reason = "these are the names everybody knows the formats by")]
pub enum BlockLayout {
    /// 32 values: d, 32 × int8; x = d·q.
    Q8_0,
    /// 32 values: d, 32 × 4 bit; x = d·(q − 8).
    Q4_0,
    /// 32 values: d, m, 32 × 4 bit; x = d·q + m.
    Q4_1,
    /// 32 values: d, 32 × 5 bit; x = d·(q − 16).
    Q5_0,
    /// 32 values: d, m, 32 × 5 bit; x = d·q + m.
    Q5_1,
    /// 256 values in 8 groups: d, dmin, 8 × (6-bit s, 6-bit t), 4-bit q; x = (d·s)·q − dmin·t.
    Q4_K,
    /// As Q4_K with 5-bit q.
    Q5_K,
    /// 256 values in 16 groups: 6-bit q, 16 × int8 s, d; x = (d·s)·(q − 32).
    Q6_K,
}

impl BlockLayout {
    /// The format's name in ggml.
    pub fn name(self) -> &'static str {
        match self {
            Self::Q8_0 => "Q8_0",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
            Self::Q4_K => "Q4_K",
            Self::Q5_K => "Q5_K",
            Self::Q6_K => "Q6_K",
        }
    }

    /// Values in a block.
    pub fn n_values(self) -> usize {
        match self {
            Self::Q8_0 | Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 => 32,
            Self::Q4_K | Self::Q5_K | Self::Q6_K => K_BLOCK,
        }
    }

    /// Bytes of a block.
    pub fn n_bytes(self) -> usize {
        match self {
            Self::Q8_0 => 34,
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q4_K => 144,
            Self::Q5_K => 176,
            Self::Q6_K => 210,
        }
    }

    /// Decodes whole blocks; `None` when `bytes` is not a whole number of blocks.
    pub fn dequantise(self, bytes: &[u8]) -> Option<Vec<f32>> {
        match self {
            Self::Q8_0 => blocks(bytes, q8_0),
            Self::Q4_0 => blocks(bytes, q4_0),
            Self::Q4_1 => blocks(bytes, q4_1),
            Self::Q5_0 => blocks(bytes, q5_0),
            Self::Q5_1 => blocks(bytes, q5_1),
            Self::Q4_K => blocks(bytes, q4_k),
            Self::Q5_K => blocks(bytes, q5_k),
            Self::Q6_K => blocks(bytes, q6_k),
        }
    }
}

/// Applies `decode` to each block of `BYTES` bytes, giving `VALUES` values each.
fn blocks<const BYTES: usize, const VALUES: usize>(
    bytes: &[u8],
    decode: fn(&[u8; BYTES], &mut [f32; VALUES]),
) -> Option<Vec<f32>> {
    let (encoded, rest) = bytes.as_chunks::<BYTES>();
    if !rest.is_empty() {
        return None;
    }
    let mut values = vec![0.0; encoded.len().checked_mul(VALUES)?];
    for (block, out) in encoded.iter().zip(values.as_chunks_mut::<VALUES>().0) {
        decode(block, out);
    }
    Some(values)
}

fn scale(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

fn q8_0(block: &[u8; 34], out: &mut [f32; 32]) {
    let d = scale(block, 0);
    for (x, q) in out.iter_mut().zip(&block[2..]) {
        *x = f32::from(q.cast_signed()) * d;
    }
}

// In the four formats below byte j holds value j in its low and value j + 16 in its high half.

fn q4_0(block: &[u8; 18], out: &mut [f32; 32]) {
    let d = scale(block, 0);
    for j in 0..16 {
        let q = block[2 + j];
        out[j] = d * (f32::from(q & 15) - 8.0);
        out[j + 16] = d * (f32::from(q >> 4) - 8.0);
    }
}

fn q4_1(block: &[u8; 20], out: &mut [f32; 32]) {
    let (d, m) = (scale(block, 0), scale(block, 2));
    for j in 0..16 {
        let q = block[4 + j];
        out[j] = d * f32::from(q & 15) + m;
        out[j + 16] = d * f32::from(q >> 4) + m;
    }
}

fn q5_0(block: &[u8; 22], out: &mut [f32; 32]) {
    let d = scale(block, 0);
    let high = u32::from_le_bytes([block[2], block[3], block[4], block[5]]);
    for j in 0..16 {
        let q = block[6 + j];
        out[j] = d * (f32::from((q & 15) | fifth_bit(high, j)) - 16.0);
        out[j + 16] = d * (f32::from((q >> 4) | fifth_bit(high, j + 16)) - 16.0);
    }
}

fn q5_1(block: &[u8; 24], out: &mut [f32; 32]) {
    let (d, m) = (scale(block, 0), scale(block, 2));
    let high = u32::from_le_bytes([block[4], block[5], block[6], block[7]]);
    for j in 0..16 {
        let q = block[8 + j];
        out[j] = d * f32::from((q & 15) | fifth_bit(high, j)) + m;
        out[j + 16] = d * f32::from((q >> 4) | fifth_bit(high, j + 16)) + m;
    }
}

/// Bit `value_idx` of `high`, moved to where it is worth 16.
fn fifth_bit(high: u32, value_idx: usize) -> u8 {
    (((high >> value_idx) & 1) << 4) as u8
}

/// The 6-bit scale and minimum of group `group_idx` (0..8) out of the 12 bytes they are packed in: groups
/// 0–3 lie in the low six bits of bytes 0–3 and 4–7; groups 4–7 have their low four bits in bytes 8–11 and
/// their high two bits on top of the others.
fn scale_and_min(packed: &[u8], group_idx: usize) -> (f32, f32) {
    let (s, t) = if group_idx < 4 {
        (packed[group_idx] & 63, packed[group_idx + 4] & 63)
    } else {
        let low = packed[group_idx + 4];
        ((low & 15) | ((packed[group_idx - 4] >> 6) << 4), (low >> 4) | ((packed[group_idx] >> 6) << 4))
    };
    (f32::from(s), f32::from(t))
}

fn q4_k(block: &[u8; 144], out: &mut [f32; K_BLOCK]) {
    let (d, dmin) = (scale(block, 0), scale(block, 2));
    // 32 bytes carry two groups of 32 values: the low halves, then the high halves.
    for (group_idx, group) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (s, t) = scale_and_min(&block[4..16], group_idx);
        let (d, m) = (d * s, dmin * t);
        let (start, shift) = (16 + group_idx / 2 * 32, group_idx % 2 * 4);
        for (x, q) in group.iter_mut().zip(&block[start..start + 32]) {
            *x = d * f32::from((q >> shift) & 15) - m;
        }
    }
}

fn q5_k(block: &[u8; 176], out: &mut [f32; K_BLOCK]) {
    let (d, dmin) = (scale(block, 0), scale(block, 2));
    // As Q4_K; the fifth bit of value l of group g is bit g of byte 16 + l.
    for (group_idx, group) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (s, t) = scale_and_min(&block[4..16], group_idx);
        let (d, m) = (d * s, dmin * t);
        let (start, shift) = (48 + group_idx / 2 * 32, group_idx % 2 * 4);
        for l in 0..32 {
            let q = ((block[start + l] >> shift) & 15) | (((block[16 + l] >> group_idx) & 1) << 4);
            group[l] = d * f32::from(q) - m;
        }
    }
}

fn q6_k(block: &[u8; 210], out: &mut [f32; K_BLOCK]) {
    let (low, high, scales) = (&block[..128], &block[128..192], &block[192..208]);
    let d = scale(block, 208);
    // Runs of 32 values. In each half of 128, runs 0 and 1 have their low four bits in the low, runs 2 and 3
    // in the high halves of 64 bytes; the upper two bits of run r are bits 2r and 2r + 1 of 32 bytes.
    for (run_idx, run) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (half_idx, r) = (run_idx / 4, run_idx % 4);
        let (low_start, low_shift) = (half_idx * 64 + r % 2 * 32, r / 2 * 4);
        for l in 0..32 {
            let q =
                ((low[low_start + l] >> low_shift) & 15) | (((high[half_idx * 32 + l] >> (2 * r)) & 3) << 4);
            let s = scales[run_idx * 2 + l / 16].cast_signed();
            run[l] = d * f32::from(s) * (f32::from(q) - 32.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [BlockLayout; 8] = [
        BlockLayout::Q8_0,
        BlockLayout::Q4_0,
        BlockLayout::Q4_1,
        BlockLayout::Q5_0,
        BlockLayout::Q5_1,
        BlockLayout::Q4_K,
        BlockLayout::Q5_K,
        BlockLayout::Q6_K,
    ];

    #[test]
    fn a_cut_block_is_refused_and_no_block_is_no_value() {
        for layout in ALL {
            assert_eq!(layout.dequantise(&[]), Some(vec![]));
            assert_eq!(layout.dequantise(&vec![0; layout.n_bytes() - 1]), None, "{}", layout.name());
            let two = layout.dequantise(&vec![0; layout.n_bytes() * 2]).unwrap();
            assert_eq!(two.len(), layout.n_values() * 2);
        }
    }

    #[test]
    fn simple_blocks_decode_to_their_formula() {
        let one = f16::from_f32(1.0).to_le_bytes();
        let half = f16::from_f32(0.5).to_le_bytes();
        let codes: Vec<u8> = (0..16u8).map(|j| j | ((15 - j) << 4)).collect();

        let values = BlockLayout::Q4_0.dequantise(&[&half[..], &codes].concat()).unwrap();
        assert_eq!((values[0], values[15], values[16], values[31]), (-4.0, 3.5, 3.5, -4.0));

        let values = BlockLayout::Q4_1.dequantise(&[&half[..], &one, &codes].concat()).unwrap();
        assert_eq!((values[0], values[15], values[16], values[31]), (1.0, 8.5, 8.5, 1.0));

        // The fifth bit is set for values 0 and 31 only.
        let high = [1, 0, 0, 0x80];
        let values = BlockLayout::Q5_0.dequantise(&[&one[..], &high, &codes].concat()).unwrap();
        assert_eq!((values[0], values[15], values[16], values[31]), (0.0, -1.0, -1.0, 0.0));

        let values = BlockLayout::Q5_1.dequantise(&[&one[..], &half, &high, &codes].concat()).unwrap();
        assert_eq!((values[0], values[15], values[16], values[31]), (16.5, 15.5, 15.5, 16.5));

        let codes: Vec<u8> = (-16i8..16).map(i8::cast_unsigned).collect();
        let values = BlockLayout::Q8_0.dequantise(&[&half[..], &codes].concat()).unwrap();
        assert_eq!((values[0], values[16], values[31]), (-8.0, 0.0, 7.5));
    }

    #[test]
    fn six_bit_scales_unpack_from_their_twelve_bytes() {
        // Scales 1..=8 and minima 56..=63, packed by the rule in the other direction.
        let (scales, minima) = ([1u8, 2, 3, 4, 53, 6, 7, 8], [56u8, 57, 58, 59, 60, 61, 62, 63]);
        let mut packed = [0u8; 12];
        for group_idx in 0..4 {
            packed[group_idx] = scales[group_idx] | ((scales[group_idx + 4] >> 4) << 6);
            packed[group_idx + 4] = minima[group_idx] | ((minima[group_idx + 4] >> 4) << 6);
            packed[group_idx + 8] = (scales[group_idx + 4] & 15) | ((minima[group_idx + 4] & 15) << 4);
        }
        for group_idx in 0..8 {
            let expected = (f32::from(scales[group_idx]), f32::from(minima[group_idx]));
            assert_eq!(scale_and_min(&packed, group_idx), expected, "group {group_idx}");
        }
    }
}
