//! Writer of safetensors files, whole or in shards, as `transformers` loads them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::atomic::{AtomicFile, write_file};
use crate::dtype::StoreDtype;
use crate::error::{FormatError, Result};
use crate::safetensors_io::{LENGTH_BYTES, NamedTensor};

/// Values converted at a time: keeps the bytes of a large tensor from being a second copy of it.
const CHUNK_VALUES: usize = 1 << 16;

/// Writes `tensors` in the given order to the file at `path`, replacing it in one step.
///
/// `metadata` are free-form texts for the header; `format: pt` is added, without which `transformers`
/// refuses the file.
///
/// # Errors
/// [`FormatError::Shape`] when a tensor's data does not fit its shape, [`FormatError::Malformed`] when a
/// name occurs twice, [`FormatError::Io`].
pub fn write_safetensors(
    path: &Path,
    tensors: &[NamedTensor],
    metadata: &[(&str, &str)],
    dtype: StoreDtype,
) -> Result<()> {
    let mut table = Table::new(path, dtype);
    for tensor in tensors {
        table.push(&tensor.name, &tensor.shape, tensor.data.len())?;
    }
    let mut file = AtomicFile::create(path)?;
    let mut out = BufWriter::new(&mut file);
    let write = (|| {
        out.write_all(&table.header(metadata))?;
        for tensor in tensors {
            write_values(&mut out, &tensor.data, dtype)?;
        }
        out.flush()
    })();
    drop(out);
    write.map_err(FormatError::io(path, "write"))?;
    file.commit()
}

/// A tensor whose values come in pieces, so that a large one need not be in memory whole.
pub struct TensorPieces<'a, E> {
    /// Its name.
    pub name: String,
    /// Row-major shape.
    pub shape: Vec<usize>,
    /// The values in order; together as many as the product of the shape.
    pub pieces: Box<dyn Iterator<Item = std::result::Result<Vec<f32>, E>> + 'a>,
}

impl<'a, E: 'a> From<NamedTensor> for TensorPieces<'a, E> {
    fn from(NamedTensor { name, shape, data }: NamedTensor) -> Self {
        Self { name, shape, pieces: Box::new(std::iter::once(Ok(data))) }
    }
}

/// Writes a model's tensors into the folder `dir`: as `model.safetensors` when they fit `max_shard_bytes`,
/// else as `model-00001-of-0000n.safetensors` … with `model.safetensors.index.json`. Returns the files.
///
/// Tensors are taken one by one, and those that come in pieces piece by piece, so a model need not be in memory twice; a
/// tensor that is larger than `max_shard_bytes` gets a shard of its own. `dir` must not hold weights yet (use
/// [`AtomicDir`](crate::atomic::AtomicDir)): a stale index would be taken for this model's.
///
/// # Errors
/// As [`write_safetensors`], and the iterator's own.
pub fn write_sharded<'a, T: Into<TensorPieces<'a, E>>, E: From<FormatError> + 'a>(
    dir: &Path,
    tensors: impl IntoIterator<Item = std::result::Result<T, E>>,
    dtype: StoreDtype,
    max_shard_bytes: u64,
) -> std::result::Result<Vec<PathBuf>, E> {
    let mut names = BTreeSet::new();
    let mut shards: Vec<Shard> = Vec::new();
    for tensor in tensors {
        let tensor: TensorPieces<'a, E> = tensor?.into();
        if !names.insert(tensor.name.clone()) {
            return Err(occurs_twice(dir, &tensor.name).into());
        }
        let n_bytes = (tensor.shape.iter().product::<usize>() * dtype.n_bytes()) as u64;
        match shards.last_mut() {
            Some(shard) if shard.table.n_bytes + n_bytes <= max_shard_bytes => shard.push(tensor)?,
            _ => {
                if let Some(full) = shards.last_mut() {
                    full.flush()?;
                }
                let mut shard = Shard::create(dir, shards.len(), dtype)?;
                shard.push(tensor)?;
                shards.push(shard);
            }
        }
    }
    if shards.is_empty() {
        shards.push(Shard::create(dir, 0, dtype)?);
    }

    let n_shards = shards.len();
    let (mut files, mut weight_map) = (Vec::new(), BTreeMap::new());
    let (mut total_bytes, mut total_parameters) = (0, 0);
    for (shard_idx, shard) in shards.into_iter().enumerate() {
        let file = match n_shards {
            1 => "model.safetensors".to_owned(),
            _ => format!("model-{:05}-of-{n_shards:05}.safetensors", shard_idx + 1),
        };
        for entry in &shard.table.entries {
            weight_map.insert(entry.name.clone(), file.clone());
        }
        total_bytes += shard.table.n_bytes;
        total_parameters += shard.table.n_bytes / dtype.n_bytes() as u64;
        let path = dir.join(&file);
        shard.finish(&path)?;
        files.push(path);
    }
    if n_shards > 1 {
        let index = json!({
            "metadata": { "total_parameters": total_parameters, "total_size": total_bytes },
            "weight_map": weight_map,
        });
        let path = dir.join("model.safetensors.index.json");
        let text = serde_json::to_string_pretty(&index).map_err(FormatError::json(&path))?;
        write_file(&path, text.as_bytes())?;
        files.push(path);
    }
    Ok(files)
}

/// A line of the header.
struct Entry {
    name: String,
    shape: Vec<usize>,
    start: u64,
    end: u64,
}

/// The header being made.
struct Table {
    path: PathBuf,
    dtype: StoreDtype,
    entries: Vec<Entry>,
    names: BTreeSet<String>,
    n_bytes: u64,
}

impl Table {
    fn new(path: &Path, dtype: StoreDtype) -> Self {
        Self { path: path.to_owned(), dtype, entries: Vec::new(), names: BTreeSet::new(), n_bytes: 0 }
    }

    fn push(&mut self, name: &str, shape: &[usize], n_values: usize) -> Result<()> {
        if shape.iter().product::<usize>() != n_values {
            return Err(FormatError::Shape {
                path: self.path.clone(),
                name: name.to_owned(),
                expected: shape.to_vec(),
                actual: vec![n_values],
            });
        }
        if !self.names.insert(name.to_owned()) {
            return Err(occurs_twice(&self.path, name));
        }
        let (start, n_bytes) = (self.n_bytes, (n_values * self.dtype.n_bytes()) as u64);
        self.n_bytes += n_bytes;
        self.entries.push(Entry { name: name.to_owned(), shape: shape.to_vec(), start, end: self.n_bytes });
        Ok(())
    }

    /// Length and JSON, padded with blanks so that the data starts at a multiple of eight bytes.
    fn header(&self, metadata: &[(&str, &str)]) -> Vec<u8> {
        let mut header = serde_json::Map::new();
        let mut texts = serde_json::Map::new();
        texts.insert("format".into(), json!("pt"));
        texts.extend(metadata.iter().map(|(key, text)| ((*key).to_owned(), json!(text))));
        header.insert("__metadata__".into(), texts.into());
        for Entry { name, shape, start, end } in &self.entries {
            let entry = json!({ "dtype": self.dtype.name(), "shape": shape, "data_offsets": [start, end] });
            header.insert(name.clone(), entry);
        }
        let mut json = serde_json::Value::Object(header).to_string().into_bytes();
        json.resize(json.len().next_multiple_of(LENGTH_BYTES), b' ');
        [&(json.len() as u64).to_le_bytes()[..], &json].concat()
    }
}

/// A shard whose tensors are on the disk already; the header, which comes first in the file, is known only
/// when the last one has arrived, so the data waits in a file of its own.
struct Shard {
    table: Table,
    data: BufWriter<AtomicFile>,
}

impl Shard {
    fn create(dir: &Path, shard_idx: usize, dtype: StoreDtype) -> Result<Self> {
        let path = dir.join(format!("shard-{shard_idx}.data"));
        Ok(Self { table: Table::new(dir, dtype), data: BufWriter::new(AtomicFile::create(&path)?) })
    }

    fn push<E: From<FormatError>>(&mut self, tensor: TensorPieces<'_, E>) -> std::result::Result<(), E> {
        let mut n_values = 0;
        for piece in tensor.pieces {
            let piece = piece?;
            n_values += piece.len();
            write_values(&mut self.data, &piece, self.table.dtype)
                .map_err(FormatError::io(&self.table.path, "write a shard to"))?;
        }
        Ok(self.table.push(&tensor.name, &tensor.shape, n_values)?)
    }

    /// Gives the buffer back; called when the next shard starts.
    fn flush(&mut self) -> Result<()> {
        self.data.flush().map_err(FormatError::io(&self.table.path, "write a shard to"))
    }

    fn finish(self, path: &Path) -> Result<()> {
        let mut file = AtomicFile::create(path)?;
        let Self { table, data } = self;
        let copy = (|| {
            // Dropped at the end of this block, which removes the data's own file.
            let mut data = data.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.write_all(&table.header(&[]))?;
            let data = data.file()?;
            data.seek(SeekFrom::Start(0))?;
            io::copy(data, file.file()?)
        })();
        copy.map_err(FormatError::io(path, "write"))?;
        file.commit()
    }
}

fn write_values(out: &mut impl Write, values: &[f32], dtype: StoreDtype) -> io::Result<()> {
    let mut bytes = Vec::new();
    for chunk in values.chunks(CHUNK_VALUES) {
        bytes.clear();
        dtype.encode(chunk, &mut bytes);
        out.write_all(&bytes)?;
    }
    Ok(())
}

fn occurs_twice(path: &Path, name: &str) -> FormatError {
    FormatError::Malformed {
        path: path.to_owned(),
        format: "safetensors",
        reason: format!("tensor {name:?} occurs twice"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::safetensors_io::{SafetensorsFile, read_safetensors_f32};

    fn tensor(name: &str, shape: &[usize], first: f32) -> NamedTensor {
        let n: usize = shape.iter().product();
        let data = (0..n).map(|i| first + i as f32).collect();
        NamedTensor { name: name.into(), shape: shape.to_vec(), data }
    }

    #[test]
    fn files_read_back_here_and_in_the_reference_reader() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        // An empty tensor, a scalar and one longer than a chunk.
        let tensors = [
            tensor("b", &[3, 2], 1.0),
            tensor("a", &[0, 4], 0.0),
            tensor("s", &[], 7.0),
            tensor("c", &[70_001], 0.0),
        ];
        write_safetensors(&path, &tensors, &[("step", "12")], StoreDtype::F32).unwrap();

        let mut sorted = tensors.to_vec();
        sorted.sort_by(|a, b| a.name.cmp(&b.name));
        assert_eq!(read_safetensors_f32(&path).unwrap(), sorted);
        let metadata = SafetensorsFile::open(&path).unwrap().metadata().clone();
        assert_eq!(metadata["format"], "pt");
        assert_eq!(metadata["step"], "12");

        let bytes = std::fs::read(&path).unwrap();
        let reference = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(reference.tensor("b").unwrap().shape(), [3, 2]);
        assert_eq!(reference.tensor("b").unwrap().data()[4..8], 2f32.to_le_bytes());
        assert_eq!(bytes.len() % 4, 0);
    }

    #[test]
    fn half_precision_halves_the_file_and_rounds() {
        let folder = tempfile::tempdir().unwrap();
        for (dtype, expected) in [(StoreDtype::F16, 0.333_251_95), (StoreDtype::BF16, 0.333_984_38)] {
            let path = folder.path().join(dtype.name());
            let third = NamedTensor { name: "w".into(), shape: vec![2], data: vec![1.0 / 3.0, -1.0] };
            write_safetensors(&path, &[third], &[], dtype).unwrap();
            assert_eq!(read_safetensors_f32(&path).unwrap()[0].data, [expected, -1.0]);
            assert_eq!(SafetensorsFile::open(&path).unwrap().tensor("w").unwrap().n_bytes, 4);
        }
    }

    #[test]
    fn wrong_shapes_and_repeated_names_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let mut short = tensor("w", &[4], 0.0);
        short.data.pop();
        let error = write_safetensors(&path, &[short], &[], StoreDtype::F32).unwrap_err();
        assert!(matches!(error, FormatError::Shape { .. }), "{error}");
        let twice = [tensor("w", &[1], 0.0), tensor("w", &[1], 0.0)];
        assert!(write_safetensors(&path, &twice, &[], StoreDtype::F32).is_err());
        let twice = twice.into_iter().map(Ok::<_, FormatError>);
        assert!(write_sharded(folder.path(), twice, StoreDtype::F32, 1).is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
    }

    #[test]
    fn shards_hold_at_most_the_given_bytes_and_the_index_finds_every_tensor() {
        let folder = tempfile::tempdir().unwrap();
        let tensors =
            [tensor("a", &[4], 0.0), tensor("b", &[2], 4.0), tensor("c", &[9], 9.0), tensor("d", &[1], 3.0)];
        let stream = tensors.iter().cloned().map(Ok::<_, FormatError>);
        let files = write_sharded(folder.path(), stream, StoreDtype::F32, 24).unwrap();
        let names: Vec<_> = files.iter().map(|file| file.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(
            names,
            [
                "model-00001-of-00003.safetensors",
                "model-00002-of-00003.safetensors",
                "model-00003-of-00003.safetensors",
                "model.safetensors.index.json"
            ]
        );
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 4, "temporary files are gone");
        let index: serde_json::Value = serde_json::from_slice(&std::fs::read(&files[3]).unwrap()).unwrap();
        assert_eq!(index["metadata"], json!({ "total_size": 64, "total_parameters": 16 }));
        for tensor in &tensors {
            let file = folder.path().join(index["weight_map"][&tensor.name].as_str().unwrap());
            assert_eq!(SafetensorsFile::open(&file).unwrap().read_f32(&tensor.name).unwrap(), tensor.data);
        }

        // Piece by piece, the same bytes.
        let pieces = tempfile::tempdir().unwrap();
        let in_pieces = tensors.iter().map(|tensor| {
            let values: Vec<Result<Vec<f32>>> =
                tensor.data.chunks(2).map(|piece| Ok(piece.to_vec())).collect();
            let (name, shape) = (tensor.name.clone(), tensor.shape.clone());
            Ok(TensorPieces { name, shape, pieces: Box::new(values.into_iter()) })
        });
        let again = write_sharded(pieces.path(), in_pieces, StoreDtype::F32, 24).unwrap();
        for (whole, again) in files.iter().zip(&again) {
            assert_eq!(std::fs::read(whole).unwrap(), std::fs::read(again).unwrap());
        }
        let short =
            TensorPieces { name: "w".into(), shape: vec![3], pieces: Box::new([Ok(vec![1.0])].into_iter()) };
        let folder = tempfile::tempdir().unwrap();
        let error = write_sharded(folder.path(), [Ok::<_, FormatError>(short)], StoreDtype::F32, 24);
        assert!(matches!(error, Err(FormatError::Shape { .. })));

        let one = tempfile::tempdir().unwrap();
        let stream = tensors.into_iter().map(Ok::<_, FormatError>);
        let files = write_sharded(one.path(), stream, StoreDtype::BF16, 1 << 30).unwrap();
        assert_eq!(files, [one.path().join("model.safetensors")]);
    }
}
