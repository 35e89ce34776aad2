//! Reader of GGUF, the single-file format of llama.cpp: metadata, tensor table, memory-mapped data.
//!
//! Versions 2 and 3, little-endian. The file is taken as hostile: every count is compared with the bytes
//! that are left before anything is reserved for it, every offset is checked against the file's end, and
//! tensors may not overlap. A model in several files is read as one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::dtype::StoredDtype;
use crate::error::{FormatError, Result};
use crate::gguf_metadata::{Array, Metadata, Value};
use crate::gguf_split::{self, Split};
use crate::gguf_types::element_type;
use crate::mmap::MappedFile;

/// Where data starts and each tensor begins, unless the file says otherwise.
const DEFAULT_ALIGNMENT: u64 = 32;
/// ggml's own limit.
const MAX_DIMENSIONS: u32 = 4;
/// Deeper nesting of arrays than any writer makes; keeps the recursion shallow.
const MAX_ARRAY_DEPTH: u32 = 4;
/// Smallest encoding of a metadata pair: empty key, type, one byte of value.
const MIN_PAIR_BYTES: u64 = 8 + 4 + 1;
/// Smallest encoding of a tensor's entry: empty name, dimension count, one dimension, type, offset.
const MIN_TENSOR_BYTES: u64 = 8 + 4 + 8 + 4 + 8;

/// A tensor of a GGUF file, under the name it has there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GgufTensor {
    /// Name, e.g. "blk.0.attn_q.weight".
    pub name: String,
    /// Row-major shape, slowest dimension first: the reverse of the order in the file.
    pub shape: Vec<usize>,
    /// How the values are stored.
    pub dtype: StoredDtype,
    /// Size of the data in bytes.
    pub n_bytes: usize,
    /// Where the data starts, in bytes from the beginning of the file.
    pub start: usize,
    /// Which of the model's files has it; 0 for a model in one file.
    pub part_idx: usize,
}

/// An open GGUF file, or the files of a model that is split into several.
#[derive(Debug)]
pub struct GgufFile {
    maps: Vec<MappedFile>,
    metadata: Metadata,
    tensors: BTreeMap<String, GgufTensor>,
}

impl GgufFile {
    /// Opens and checks the file at `path`, and with any part of a model that is split into several files all of them;
    /// tensor data is not read yet.
    ///
    /// # Errors
    /// [`FormatError::Missing`] naming a part that is not there, [`FormatError::Impostor`] for what is only named like a GGUF
    /// file, [`FormatError::Truncated`] when the file ends before what its header promises,
    /// [`FormatError::UnsupportedDtype`] naming the first tensor of a type number unknown here,
    /// [`FormatError::Malformed`] for everything else that contradicts the format.
    pub fn open(path: &Path) -> Result<Self> {
        let (map, metadata, tensors) = open_one(path)?;
        match Split::read(&metadata)? {
            None => Ok(Self { maps: vec![map], metadata, tensors }),
            Some(split) => Self::open_parts(&split.paths(path)?, split),
        }
    }

    fn open_parts(paths: &[PathBuf], split: Split) -> Result<Self> {
        let n_parts = split.n_parts;
        if let Some((part_idx, path)) = paths.iter().enumerate().find(|(_, path)| !path.is_file()) {
            return Err(gguf_split::missing(path, part_idx + 1, n_parts));
        }
        let mut maps = Vec::new();
        let mut first_metadata = None;
        let mut all = BTreeMap::new();
        for (part_idx, path) in paths.iter().enumerate() {
            let malformed =
                |reason: String| FormatError::Malformed { path: path.clone(), format: "GGUF", reason };
            let (map, metadata, tensors) = open_one(path)?;
            if Split::read(&metadata)?
                .is_none_or(|found| (found.part_idx, found.n_parts) != (part_idx, n_parts))
            {
                return Err(malformed(format!(
                    "it should be part {} of {n_parts} of the model, and says otherwise (split.no, split.count)",
                    part_idx + 1
                )));
            }
            for (name, tensor) in tensors {
                if all.contains_key(&name) {
                    return Err(malformed(format!("tensor {name:?} is in another part of the model, too")));
                }
                all.insert(name, GgufTensor { part_idx, ..tensor });
            }
            first_metadata.get_or_insert(metadata);
            maps.push(map);
        }
        match first_metadata {
            Some(metadata) if split.n_tensors.is_none_or(|expected| expected == all.len()) => {
                Ok(Self { maps, metadata, tensors: all })
            }
            _ => Err(FormatError::Malformed {
                path: paths.first().cloned().unwrap_or_default(),
                format: "GGUF",
                reason: format!(
                    "the {n_parts} parts of the model have {} tensors, not the {} promised (split.tensors.count)",
                    all.len(),
                    split.n_tensors.unwrap_or_default()
                ),
            }),
        }
    }

    /// Where the file is, or the first one of several.
    pub fn path(&self) -> &Path {
        self.metadata.path()
    }

    /// Lets the system take back the memory of what has been read; see [`MappedFile::let_go`].
    pub fn let_go(&self) {
        self.maps.iter().for_each(MappedFile::let_go);
    }

    /// The key–value pairs.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The tensors, sorted by name.
    pub fn tensors(&self) -> impl Iterator<Item = &GgufTensor> {
        self.tensors.values()
    }

    /// The tensor called `name` in the file.
    pub fn tensor(&self, name: &str) -> Option<&GgufTensor> {
        self.tensors.get(name)
    }

    /// The stored bytes of `tensor`, which must be one of this file's.
    pub fn bytes(&self, tensor: &GgufTensor) -> &[u8] {
        self.maps
            .get(tensor.part_idx)
            .and_then(|map| map.get(tensor.start..tensor.start.saturating_add(tensor.n_bytes)))
            .unwrap_or_default()
    }

    /// Shape and dequantised values of the tensor called `name` in the file.
    ///
    /// # Errors
    /// [`FormatError::NoSuchTensor`]; [`FormatError::UnsupportedDtype`] for formats that are known but not
    /// decoded here.
    pub fn read_f32(&self, name: &str) -> Result<(Vec<usize>, Vec<f32>)> {
        let tensor = self.tensors.get(name).ok_or_else(|| FormatError::NoSuchTensor {
            path: self.path().to_owned(),
            name: name.to_owned(),
        })?;
        let values =
            tensor.dtype.decode(self.bytes(tensor)).ok_or_else(|| FormatError::UnsupportedDtype {
                path: self.path().to_owned(),
                name: name.to_owned(),
                dtype: tensor.dtype.name().to_owned(),
            })?;
        Ok((tensor.shape.clone(), values))
    }
}

/// A tensor's entry as it stands in the file, its offset still relative to the data section.
struct Entry {
    name: String,
    shape: Vec<usize>,
    dtype: StoredDtype,
    n_bytes: u64,
    offset: u64,
}

fn open_one(path: &Path) -> Result<(MappedFile, Metadata, BTreeMap<String, GgufTensor>)> {
    let map = MappedFile::open(path)?;
    FormatError::refuse_impostor(path, &map)?;
    let (metadata, tensors) = parse(path, &map)?;
    Ok((map, metadata, tensors))
}

fn parse(path: &Path, bytes: &[u8]) -> Result<(Metadata, BTreeMap<String, GgufTensor>)> {
    let mut cursor = Cursor { path, bytes, at: 0 };
    let magic = cursor.take::<4>("the magic number")?;
    if &magic != b"GGUF" {
        return Err(cursor.malformed(format!(
            "it starts with {:?} instead of \"GGUF\"",
            magic.escape_ascii().to_string()
        )));
    }
    let version = cursor.u32("the version")?;
    match version {
        2 | 3 => {}
        _ if version.swap_bytes() <= 3 => {
            return Err(cursor.malformed("it is big-endian; only little-endian files can be read".into()));
        }
        _ => return Err(cursor.malformed(format!("version {version} is not supported, only 2 and 3 are"))),
    }
    let n_tensors = cursor.u64("the tensor count")?;
    let n_pairs = cursor.u64("the metadata count")?;

    cursor.check_room(n_pairs, MIN_PAIR_BYTES, "metadata pairs")?;
    let mut pairs = BTreeMap::new();
    for _ in 0..n_pairs {
        let key = cursor.string("a metadata key")?;
        let kind = cursor.u32("a metadata type")?;
        let value = cursor.value(kind, &key)?;
        if pairs.insert(key.clone(), value).is_some() {
            return Err(cursor.malformed(format!("metadata key {key:?} occurs twice")));
        }
    }
    let metadata = Metadata::new(path, pairs);
    let alignment = match metadata.u32("general.alignment")? {
        None => DEFAULT_ALIGNMENT,
        Some(alignment) if alignment.is_power_of_two() => u64::from(alignment),
        Some(alignment) => {
            return Err(cursor.malformed(format!("alignment {alignment} is not a power of two")));
        }
    };

    cursor.check_room(n_tensors, MIN_TENSOR_BYTES, "tensor entries")?;
    let mut entries = Vec::new();
    for _ in 0..n_tensors {
        entries.push(cursor.tensor_entry(alignment)?);
    }
    let data_start = (cursor.at as u64).next_multiple_of(alignment);
    let tensors = place(&cursor, entries, data_start)?;
    Ok((metadata, tensors))
}

/// Checks that the tensors' data lies within the file and does not overlap.
fn place(cursor: &Cursor, mut entries: Vec<Entry>, data_start: u64) -> Result<BTreeMap<String, GgufTensor>> {
    entries.sort_by_key(|entry| (entry.offset, entry.n_bytes));
    let file_bytes = cursor.bytes.len() as u64;
    let mut previous: Option<(String, u64)> = None;
    let mut tensors = BTreeMap::new();
    for entry in entries {
        let Entry { name, shape, dtype, n_bytes, offset } = entry;
        let start = data_start.checked_add(offset);
        let end = start.and_then(|start| start.checked_add(n_bytes));
        let (Some(start), Some(end)) = (start, end) else {
            return Err(cursor.malformed(format!("tensor {name:?} lies beyond any file, at offset {offset}")));
        };
        if end > file_bytes {
            return Err(FormatError::Truncated {
                path: cursor.path.to_owned(),
                what: format!("tensor {name}"),
                expected_bytes: end,
                actual_bytes: file_bytes,
            });
        }
        if let Some((other, other_end)) = previous
            && start < other_end
        {
            return Err(cursor.malformed(format!("tensors {other:?} and {name:?} overlap")));
        }
        previous = Some((name.clone(), end));
        // Both fit usize: they are within the mapped file.
        let (n_bytes, start) = (n_bytes as usize, start as usize);
        let tensor = GgufTensor { name: name.clone(), shape, dtype, n_bytes, start, part_idx: 0 };
        if tensors.insert(name.clone(), tensor).is_some() {
            return Err(cursor.malformed(format!("tensor {name:?} occurs twice")));
        }
    }
    Ok(tensors)
}

/// A position in the file; every read is checked against its end.
struct Cursor<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn malformed(&self, reason: String) -> FormatError {
        FormatError::Malformed { path: self.path.to_owned(), format: "GGUF", reason }
    }

    fn truncated(&self, what: &str, needed: u64) -> FormatError {
        FormatError::Truncated {
            path: self.path.to_owned(),
            what: what.to_owned(),
            expected_bytes: (self.at as u64).saturating_add(needed),
            actual_bytes: self.bytes.len() as u64,
        }
    }

    fn n_left(&self) -> u64 {
        (self.bytes.len() - self.at) as u64
    }

    /// Refuses a count of things of which each takes at least `min_bytes` when that many cannot follow.
    fn check_room(&self, count: u64, min_bytes: u64, what: &str) -> Result<()> {
        match count.checked_mul(min_bytes) {
            Some(needed) if needed <= self.n_left() => Ok(()),
            needed => Err(self.truncated(&format!("list of {count} {what}"), needed.unwrap_or(u64::MAX))),
        }
    }

    fn slice(&mut self, n_bytes: u64, what: &str) -> Result<&'a [u8]> {
        let slice = usize::try_from(n_bytes)
            .ok()
            .and_then(|n_bytes| self.at.checked_add(n_bytes))
            .and_then(|end| self.bytes.get(self.at..end))
            .ok_or_else(|| self.truncated(what, n_bytes))?;
        self.at += slice.len();
        Ok(slice)
    }

    fn take<const BYTES: usize>(&mut self, what: &str) -> Result<[u8; BYTES]> {
        let (array, _) = self
            .bytes
            .get(self.at..)
            .and_then(|rest| rest.split_first_chunk::<BYTES>())
            .ok_or_else(|| self.truncated(what, BYTES as u64))?;
        self.at += BYTES;
        Ok(*array)
    }

    fn u32(&mut self, what: &str) -> Result<u32> {
        self.take(what).map(u32::from_le_bytes)
    }

    fn u64(&mut self, what: &str) -> Result<u64> {
        self.take(what).map(u64::from_le_bytes)
    }

    fn string(&mut self, what: &str) -> Result<String> {
        let n_bytes = self.u64(what)?;
        let bytes = self.slice(n_bytes, what)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(self.malformed(format!("{what} is not UTF-8"))),
        }
    }

    fn bool(&mut self, what: &str) -> Result<bool> {
        match self.take(what)? {
            [0] => Ok(false),
            [1] => Ok(true),
            [byte] => Err(self.malformed(format!("{what} is the truth value {byte}"))),
        }
    }

    fn value(&mut self, kind: u32, key: &str) -> Result<Value> {
        Ok(match kind {
            0 => Value::Int(self.take(key).map(u8::from_le_bytes)?.into()),
            1 => Value::Int(self.take(key).map(i8::from_le_bytes)?.into()),
            2 => Value::Int(self.take(key).map(u16::from_le_bytes)?.into()),
            3 => Value::Int(self.take(key).map(i16::from_le_bytes)?.into()),
            4 => Value::Int(self.take(key).map(u32::from_le_bytes)?.into()),
            5 => Value::Int(self.take(key).map(i32::from_le_bytes)?.into()),
            6 => Value::Float(self.take(key).map(f32::from_le_bytes)?.into()),
            7 => Value::Bool(self.bool(key)?),
            8 => Value::String(self.string(key)?),
            9 => Value::Array(self.array(key, 0)?),
            10 => Value::Int(self.take(key).map(u64::from_le_bytes)?.into()),
            11 => Value::Int(self.take(key).map(i64::from_le_bytes)?.into()),
            12 => Value::Float(self.take(key).map(f64::from_le_bytes)?),
            _ => return Err(self.malformed(format!("metadata key {key:?} has the unknown type {kind}"))),
        })
    }

    fn array(&mut self, key: &str, depth: u32) -> Result<Array> {
        let kind = self.u32(key)?;
        let count = self.u64(key)?;
        Ok(match kind {
            0 => Array::U8(self.numbers(count, key, u8::from_le_bytes)?),
            1 => Array::I8(self.numbers(count, key, i8::from_le_bytes)?),
            2 => Array::U16(self.numbers(count, key, u16::from_le_bytes)?),
            3 => Array::I16(self.numbers(count, key, i16::from_le_bytes)?),
            4 => Array::U32(self.numbers(count, key, u32::from_le_bytes)?),
            5 => Array::I32(self.numbers(count, key, i32::from_le_bytes)?),
            6 => Array::F32(self.numbers(count, key, f32::from_le_bytes)?),
            7 => Array::Bool(self.elements(count, 1, key, |cursor| cursor.bool(key))?),
            8 => Array::String(self.elements(count, 8, key, |cursor| cursor.string(key))?),
            9 if depth < MAX_ARRAY_DEPTH => {
                Array::Array(self.elements(count, 12, key, |cursor| cursor.array(key, depth + 1))?)
            }
            9 => return Err(self.malformed(format!("metadata key {key:?} nests arrays too deeply"))),
            10 => Array::U64(self.numbers(count, key, u64::from_le_bytes)?),
            11 => Array::I64(self.numbers(count, key, i64::from_le_bytes)?),
            12 => Array::F64(self.numbers(count, key, f64::from_le_bytes)?),
            _ => {
                return Err(
                    self.malformed(format!("metadata key {key:?} is an array of the unknown type {kind}"))
                );
            }
        })
    }

    fn numbers<const BYTES: usize, T>(
        &mut self,
        count: u64,
        key: &str,
        convert: fn([u8; BYTES]) -> T,
    ) -> Result<Vec<T>> {
        self.check_room(count, BYTES as u64, &format!("values of {key}"))?;
        let bytes = self.slice(count * BYTES as u64, key)?;
        Ok(bytes.as_chunks::<BYTES>().0.iter().map(|element| convert(*element)).collect())
    }

    fn elements<T>(
        &mut self,
        count: u64,
        min_bytes: u64,
        key: &str,
        mut read: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<Vec<T>> {
        self.check_room(count, min_bytes, &format!("values of {key}"))?;
        (0..count).map(|_| read(self)).collect()
    }

    fn tensor_entry(&mut self, alignment: u64) -> Result<Entry> {
        let name = self.string("a tensor name")?;
        let n_dimensions = self.u32(&name)?;
        if n_dimensions == 0 || n_dimensions > MAX_DIMENSIONS {
            return Err(self.malformed(format!("tensor {name:?} has {n_dimensions} dimensions, not 1 to 4")));
        }
        let mut shape = Vec::new();
        for _ in 0..n_dimensions {
            let n = self.u64(&name)?;
            let n = usize::try_from(n)
                .map_err(|_| self.malformed(format!("tensor {name:?} has a dimension of {n} elements")))?;
            shape.push(n);
        }
        let number = self.u32(&name)?;
        let (dtype, block_values, block_bytes) =
            element_type(number).ok_or_else(|| FormatError::UnsupportedDtype {
                path: self.path.to_owned(),
                name: name.clone(),
                dtype: format!("the unknown type number {number}"),
            })?;
        let row_len = shape.first().copied().unwrap_or_default();
        if !row_len.is_multiple_of(block_values) {
            return Err(self.malformed(format!(
                "tensor {name:?} has rows of {row_len} values, not a multiple of the {block_values} of {dtype}"
            )));
        }
        let n_bytes = shape
            .iter()
            .try_fold(1usize, |product, n| product.checked_mul(*n))
            .and_then(|n_values| (n_values / block_values).checked_mul(block_bytes))
            .ok_or_else(|| {
                self.malformed(format!("tensor {name:?} has more elements than can be counted: {shape:?}"))
            })?;
        let offset = self.u64(&name)?;
        if !offset.is_multiple_of(alignment) {
            return Err(self
                .malformed(format!("tensor {name:?} is at offset {offset}, not a multiple of {alignment}")));
        }
        shape.reverse();
        Ok(Entry { name, shape, dtype, n_bytes: n_bytes as u64, offset })
    }
}
