//! Element types that weights are stored in, and their conversion to and from float32.

use std::fmt;

use half::{bf16, f16};

use crate::gguf_quants::BlockLayout;

/// The element type of a stored tensor, of safetensors and GGUF files alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoredDtype {
    /// IEEE double precision; narrowed when read.
    F64,
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of a float32.
    BF16,
    /// GGUF blocks of 32 or 256 values that share scales.
    Quantised(BlockLayout),
    /// Known but not a weight format that can be read here (integers, 8-bit floats, …), by its usual name.
    Other(&'static str),
}

impl StoredDtype {
    /// The name used by the file format: "F32", "BF16", "Q4_K".
    pub fn name(self) -> &'static str {
        match self {
            Self::F64 => "F64",
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::BF16 => "BF16",
            Self::Quantised(layout) => layout.name(),
            Self::Other(name) => name,
        }
    }

    /// Whether tensors of this type can be read as float32.
    pub fn is_readable(self) -> bool {
        !matches!(self, Self::Other(_))
    }

    /// Decodes little-endian `bytes` into float32; `None` when the type is not readable or the length is
    /// not a whole number of elements or blocks.
    pub(crate) fn decode(self, bytes: &[u8]) -> Option<Vec<f32>> {
        match self {
            Self::F64 => decode_with(bytes, |b: [u8; 8]| f64::from_le_bytes(b) as f32),
            Self::F32 => decode_with(bytes, f32::from_le_bytes),
            Self::F16 => decode_with(bytes, |b| f16::from_le_bytes(b).to_f32()),
            Self::BF16 => decode_with(bytes, |b| bf16::from_le_bytes(b).to_f32()),
            Self::Quantised(layout) => layout.dequantise(bytes),
            Self::Other(_) => None,
        }
    }
}

impl fmt::Display for StoredDtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The element type to write weights in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum StoreDtype {
    /// IEEE single precision: exact.
    #[default]
    F32,
    /// IEEE half precision, rounded to nearest even; values above 65504 become infinite.
    F16,
    /// bfloat16, rounded to nearest even.
    BF16,
}

impl StoreDtype {
    /// The name in a safetensors header: "F32", "F16", "BF16".
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::BF16 => "BF16",
        }
    }

    /// The name in a `config.json`: "float32", "float16", "bfloat16".
    pub fn torch_name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::BF16 => "bfloat16",
        }
    }

    /// Bytes of one element.
    pub fn n_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
        }
    }

    /// Appends `values` to `out` as little-endian bytes of this type.
    pub(crate) fn encode(self, values: &[f32], out: &mut Vec<u8>) {
        out.reserve(values.len() * self.n_bytes());
        match self {
            Self::F32 => values.iter().for_each(|v| out.extend_from_slice(&v.to_le_bytes())),
            Self::F16 => values.iter().for_each(|v| out.extend_from_slice(&f16::from_f32(*v).to_le_bytes())),
            Self::BF16 => {
                values.iter().for_each(|v| out.extend_from_slice(&bf16::from_f32(*v).to_le_bytes()))
            }
        }
    }
}

fn decode_with<const BYTES: usize>(bytes: &[u8], convert: impl Fn([u8; BYTES]) -> f32) -> Option<Vec<f32>> {
    let (elements, rest) = bytes.as_chunks::<BYTES>();
    rest.is_empty().then(|| elements.iter().map(|element| convert(*element)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_decodes_to_the_same_rounded_values() {
        let values = [0.0, -0.0, 1.0, -2.5, 65504.0, 3.140_625, f32::MIN_POSITIVE, f32::INFINITY];
        for (store, stored, tolerance) in [
            (StoreDtype::F32, StoredDtype::F32, 0.0),
            (StoreDtype::F16, StoredDtype::F16, 1e-3),
            (StoreDtype::BF16, StoredDtype::BF16, 4e-3),
        ] {
            let mut bytes = Vec::new();
            store.encode(&values, &mut bytes);
            assert_eq!(bytes.len(), values.len() * store.n_bytes());
            let back = stored.decode(&bytes).unwrap();
            for (value, read) in values.iter().zip(&back) {
                let fits = value == read || (value - read).abs() <= tolerance * value.abs() + 1e-7;
                assert!(fits, "{}: {value} became {read}", store.name());
            }
            assert_eq!(stored.decode(&bytes[1..]), None, "a cut element must be refused");
        }
        assert_eq!(StoredDtype::F64.decode(&0.1f64.to_le_bytes()), Some(vec![0.1f32]));
    }

    #[test]
    fn bfloat16_rounds_to_nearest_even() {
        let mut bytes = Vec::new();
        // 1 + 2^-8 lies halfway between 1 and 1 + 2^-7; 1 + 3·2^-8 halfway between 1 + 2^-7 and 1 + 2^-6.
        StoreDtype::BF16.encode(&[1.0 + 1.0 / 256.0, 1.0 + 3.0 / 256.0], &mut bytes);
        assert_eq!(StoredDtype::BF16.decode(&bytes), Some(vec![1.0, 1.015_625]));
    }
}
