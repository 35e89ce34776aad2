//! Reader of safetensors files: an 8-byte length, a JSON header, then the tensors' bytes end to end.
//!
//! Entry types come from the `safetensors` crate; the checks are our own so that an error names the tensor
//! and the bytes expected and found, and so that no sum of sizes from the file can overflow.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use safetensors::tensor::{Dtype, TensorInfo as HeaderEntry};
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};

use crate::dtype::StoredDtype;
use crate::error::{FormatError, Result};
use crate::mmap::MappedFile;

pub use crate::safetensors_write::{TensorPieces, write_safetensors, write_sharded};

/// The header's own length at the start of the file.
pub(crate) const LENGTH_BYTES: usize = 8;
/// The limit of the reference implementation.
pub(crate) const MAX_HEADER_BYTES: u64 = 100_000_000;

/// A tensor in memory with its name.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedTensor {
    /// Its name, e.g. "model.layers.0.self_attn.q_proj.weight".
    pub name: String,
    /// Row-major shape.
    pub shape: Vec<usize>,
    /// The values; as many as the product of the shape.
    pub data: Vec<f32>,
}

/// What is known of a stored tensor without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name.
    pub name: String,
    /// Row-major shape.
    pub shape: Vec<usize>,
    /// How the values are stored.
    pub dtype: StoredDtype,
    /// Size of the stored data in bytes.
    pub n_bytes: usize,
}

/// All tensors of the file at `path` in float32, sorted by name.
///
/// # Errors
/// As [`SafetensorsFile::open`] and [`SafetensorsFile::read_f32`].
pub fn read_safetensors_f32(path: &Path) -> Result<Vec<NamedTensor>> {
    let file = SafetensorsFile::open(path)?;
    file.tensors()
        .map(|info| {
            let data = file.read_f32(&info.name)?;
            Ok(NamedTensor { name: info.name.clone(), shape: info.shape.clone(), data })
        })
        .collect()
}

/// An open safetensors file.
#[derive(Debug)]
pub struct SafetensorsFile {
    map: MappedFile,
    metadata: BTreeMap<String, String>,
    // With the start of the tensor's bytes in the file.
    tensors: BTreeMap<String, (TensorInfo, usize)>,
}

impl SafetensorsFile {
    /// Opens and checks the file at `path`; tensor data is not read yet.
    ///
    /// # Errors
    /// [`FormatError::Impostor`] for what is only named like weights, [`FormatError::Truncated`] with the bytes expected and
    /// found, [`FormatError::Malformed`] for a header that contradicts itself or the file.
    pub fn open(path: &Path) -> Result<Self> {
        let map = MappedFile::open(path)?;
        FormatError::refuse_impostor(path, &map)?;
        let (metadata, tensors) = parse(path, &map)?;
        Ok(Self { map, metadata, tensors })
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        self.map.path()
    }

    /// Lets the system take back the memory of what has been read; see [`MappedFile::let_go`].
    pub fn let_go(&self) {
        self.map.let_go();
    }

    /// Size of the whole file in bytes.
    pub fn n_bytes(&self) -> usize {
        self.map.len()
    }

    /// The free-form texts of the header.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// The tensors, sorted by name.
    pub fn tensors(&self) -> impl Iterator<Item = &TensorInfo> {
        self.tensors.values().map(|(info, _)| info)
    }

    /// What is known of the tensor called `name`.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name).map(|(info, _)| info)
    }

    /// The stored bytes of the tensor called `name`.
    pub fn bytes(&self, name: &str) -> Option<&[u8]> {
        let (info, start) = self.tensors.get(name)?;
        self.map.get(*start..start + info.n_bytes)
    }

    /// The values of the tensor called `name`.
    ///
    /// # Errors
    /// [`FormatError::NoSuchTensor`]; [`FormatError::UnsupportedDtype`] for anything but 16-, 32- and
    /// 64-bit floats.
    pub fn read_f32(&self, name: &str) -> Result<Vec<f32>> {
        let (info, start) = self.tensors.get(name).ok_or_else(|| FormatError::NoSuchTensor {
            path: self.path().to_owned(),
            name: name.to_owned(),
        })?;
        self.map.get(*start..start + info.n_bytes).and_then(|bytes| info.dtype.decode(bytes)).ok_or_else(
            || FormatError::UnsupportedDtype {
                path: self.path().to_owned(),
                name: name.to_owned(),
                dtype: info.dtype.name().to_owned(),
            },
        )
    }
}

type Tensors = BTreeMap<String, (TensorInfo, usize)>;

fn parse(path: &Path, bytes: &[u8]) -> Result<(BTreeMap<String, String>, Tensors)> {
    let malformed =
        |reason: String| FormatError::Malformed { path: path.to_owned(), format: "safetensors", reason };
    let truncated = |what: &str, expected_bytes: u64| FormatError::Truncated {
        path: path.to_owned(),
        what: what.to_owned(),
        expected_bytes,
        actual_bytes: bytes.len() as u64,
    };
    let (length, rest) =
        bytes.split_first_chunk::<LENGTH_BYTES>().ok_or_else(|| truncated("header", LENGTH_BYTES as u64))?;
    let header_bytes = u64::from_le_bytes(*length);
    if header_bytes > MAX_HEADER_BYTES {
        return Err(malformed(format!(
            "the header claims {header_bytes} bytes, more than the {MAX_HEADER_BYTES} allowed"
        )));
    }
    // At most MAX_HEADER_BYTES: neither the cast nor the sum can overflow.
    let data_start = LENGTH_BYTES + header_bytes as usize;
    let (header, data) =
        rest.split_at_checked(header_bytes as usize).ok_or_else(|| truncated("header", data_start as u64))?;
    let header: Header =
        serde_json::from_slice(header).map_err(|error| malformed(format!("header: {error}")))?;

    let mut entries = header.entries;
    entries.sort_by_key(|(_, entry)| entry.data_offsets);
    let mut tensors = Tensors::new();
    let mut end_of_previous = 0;
    for (name, entry) in entries {
        let (start, end) = entry.data_offsets;
        let size = byte_size(&entry).ok_or_else(|| {
            malformed(format!(
                "tensor {name:?} has a shape that overflows or ends within a byte: {:?}",
                entry.shape
            ))
        })?;
        if end.checked_sub(start) != Some(size) {
            return Err(malformed(format!(
                "tensor {name:?} of shape {:?} in {:?} takes {size} bytes, its offsets {start}..{end} say otherwise",
                entry.shape, entry.dtype
            )));
        }
        if start != end_of_previous {
            let what =
                if start < end_of_previous { "overlaps the one before" } else { "leaves a gap before it" };
            return Err(malformed(format!(
                "tensor {name:?} starts at offset {start} and {what}, which ends at {end_of_previous}"
            )));
        }
        end_of_previous = end;
        let info =
            TensorInfo { name: name.clone(), shape: entry.shape, dtype: stored(entry.dtype), n_bytes: size };
        if tensors.insert(name.clone(), (info, data_start.saturating_add(start))).is_some() {
            return Err(malformed(format!("tensor {name:?} occurs twice")));
        }
    }
    if end_of_previous > data.len() {
        return Err(truncated("tensor data", (data_start as u64).saturating_add(end_of_previous as u64)));
    }
    if end_of_previous < data.len() {
        return Err(malformed(format!(
            "{} bytes follow the last tensor: expected a file of {} bytes, it has {}",
            data.len() - end_of_previous,
            data_start + end_of_previous,
            bytes.len()
        )));
    }
    Ok((header.metadata, tensors))
}

fn byte_size(entry: &HeaderEntry) -> Option<usize> {
    let n_values = entry.shape.iter().try_fold(1usize, |product, n| product.checked_mul(*n))?;
    let n_bits = n_values.checked_mul(entry.dtype.bitsize())?;
    n_bits.is_multiple_of(8).then_some(n_bits / 8)
}

fn stored(dtype: Dtype) -> StoredDtype {
    match dtype {
        Dtype::F64 => StoredDtype::F64,
        Dtype::F32 => StoredDtype::F32,
        Dtype::F16 => StoredDtype::F16,
        Dtype::BF16 => StoredDtype::BF16,
        Dtype::BOOL => StoredDtype::Other("BOOL"),
        Dtype::U8 => StoredDtype::Other("U8"),
        Dtype::I8 => StoredDtype::Other("I8"),
        Dtype::U16 => StoredDtype::Other("U16"),
        Dtype::I16 => StoredDtype::Other("I16"),
        Dtype::U32 => StoredDtype::Other("U32"),
        Dtype::I32 => StoredDtype::Other("I32"),
        Dtype::U64 => StoredDtype::Other("U64"),
        Dtype::I64 => StoredDtype::Other("I64"),
        Dtype::C64 => StoredDtype::Other("C64"),
        Dtype::F8_E4M3 => StoredDtype::Other("F8_E4M3"),
        Dtype::F8_E5M2 => StoredDtype::Other("F8_E5M2"),
        Dtype::F8_E8M0 => StoredDtype::Other("F8_E8M0"),
        _ => StoredDtype::Other("a narrow float"),
    }
}

/// The JSON header in the order of the file, duplicates included.
struct Header {
    metadata: BTreeMap<String, String>,
    entries: Vec<(String, HeaderEntry)>,
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct HeaderVisitor;
        impl<'de> Visitor<'de> for HeaderVisitor {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Header, A::Error> {
                let mut header = Header { metadata: BTreeMap::new(), entries: Vec::new() };
                while let Some(key) = map.next_key::<String>()? {
                    if key == "__metadata__" {
                        header.metadata = map.next_value()?;
                    } else {
                        let entry = map
                            .next_value()
                            .map_err(|error| de::Error::custom(format!("tensor {key:?}: {error}")))?;
                        header.entries.push((key, entry));
                    }
                }
                Ok(header)
            }
        }
        deserializer.deserialize_map(HeaderVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of the given header and `n_data` bytes of data.
    fn file(header: &str, n_data: usize) -> Vec<u8> {
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &vec![0; n_data]].concat()
    }

    fn refusal(bytes: &[u8]) -> String {
        let error = parse(Path::new("m.safetensors"), bytes).map(|_| ()).unwrap_err().to_string();
        error.strip_prefix("m.safetensors: ").expect("the path comes first").to_owned()
    }

    #[test]
    fn every_contradiction_gives_one_sentence_with_the_numbers() {
        let good = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
        assert!(parse(Path::new("m"), &file(good, 8)).is_ok());

        let expect = |bytes: &[u8], text: &str| assert_eq!(refusal(bytes), text);
        let invalid = "not a valid safetensors file: ";
        expect(&[1, 2], "truncated header: expected 8 bytes, the file has 2");
        expect(&file(good, 8)[..20], "truncated header: expected 62 bytes, the file has 20");
        expect(&file(good, 7), "truncated tensor data: expected 70 bytes, the file has 69");
        expect(
            &file(good, 9),
            &format!("{invalid}1 bytes follow the last tensor: expected a file of 70 bytes, it has 71"),
        );
        expect(
            &u64::MAX.to_le_bytes(),
            &format!(
                "{invalid}the header claims 18446744073709551615 bytes, more than the 100000000 allowed"
            ),
        );
        expect(
            &file(r#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#, 8),
            &format!(
                "{invalid}tensor \"a\" of shape [3] in F32 takes 12 bytes, its offsets 0..8 say otherwise"
            ),
        );
        let two = |a: &str, b: &str| {
            file(
                &format!(
                    r#"{{"a":{{"dtype":"U8","shape":[4],"data_offsets":{a}}},"b":{{"dtype":"U8","shape":[4],"data_offsets":{b}}}}}"#
                ),
                8,
            )
        };
        expect(
            &two("[0,4]", "[3,7]"),
            &format!("{invalid}tensor \"b\" starts at offset 3 and overlaps the one before, which ends at 4"),
        );
        expect(
            &two("[0,4]", "[5,9]"),
            &format!("{invalid}tensor \"b\" starts at offset 5 and leaves a gap before it, which ends at 4"),
        );
        assert!(refusal(&two("[4,0]", "[4,8]")).contains("its offsets 4..0 say otherwise"));
        assert!(refusal(&file("{", 0)).starts_with("not a valid safetensors file: header: EOF"));
        assert!(refusal(&file(r#"{"a":{"dtype":"Q9"}}"#, 0)).contains("tensor \"a\": unknown variant `Q9`"));
        let overflow = r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}}"#;
        assert!(refusal(&file(overflow, 8)).contains("overflows"));
        let huge =
            r#"{"a":{"dtype":"U8","shape":[1152921504606846976],"data_offsets":[0,1152921504606846976]}}"#;
        expect(&file(huge, 8), "truncated tensor data: expected 1152921504606847073 bytes, the file has 105");
        let twice = r#"{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#;
        assert!(refusal(&file(twice, 0)).contains("occurs twice"));
    }

    #[test]
    fn integers_are_listed_but_not_read_as_weights() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.safetensors");
        std::fs::write(&path, file(r#"{"mask":{"dtype":"BOOL","shape":[4],"data_offsets":[0,4]}}"#, 4))
            .unwrap();
        let opened = SafetensorsFile::open(&path).unwrap();
        assert_eq!(opened.tensor("mask").unwrap().dtype.name(), "BOOL");
        let error = opened.read_f32("mask").unwrap_err();
        assert!(error.to_string().contains("tensor \"mask\" is stored as BOOL"), "{error}");
        assert!(error.hint().is_some());
        assert!(matches!(opened.read_f32("other"), Err(FormatError::NoSuchTensor { .. })));
    }
}
