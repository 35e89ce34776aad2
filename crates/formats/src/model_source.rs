//! A base model on the disk, whatever its format: configuration, tensors under hub names, tokenizer.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::dtype::StoredDtype;
use crate::error::{FormatError, Result};
use crate::gguf::GgufFile;
use crate::gguf_config::{CONFIGURING, is_tied, model_config};
use crate::gguf_names::{Layout, block_idx, hub_name, rows_to_hub_layout, to_hub_layout};
use crate::gguf_quants::BlockLayout;
use crate::gguf_split::only_model;
use crate::model_config::{Architecture, ModelConfig};
use crate::safetensors_io::SafetensorsFile;
pub use crate::safetensors_io::TensorInfo;
use crate::tied_weights;
use crate::tokenizer::Tokenizer;

/// Bytes of a tensor that go into the fingerprint, at its start, middle and end.
const SAMPLE_BYTES: usize = 64;

/// An open model: a folder in Hugging Face layout or a GGUF file. Weights stay on the disk until read.
#[derive(Debug)]
pub struct ModelSource {
    path: PathBuf,
    config: ModelConfig,
    tensors: Vec<TensorInfo>,
    notes: Vec<String>,
    store: Store,
}

/// Where the tensors are, by hub name.
#[derive(Debug)]
enum Store {
    Folder { files: Vec<SafetensorsFile>, places: BTreeMap<String, (usize, String)> },
    Gguf { file: Box<GgufFile>, places: BTreeMap<String, (String, Layout)> },
}

impl ModelSource {
    /// Opens the model at `path`: a `.gguf` file, or a folder with `config.json` and `model.safetensors` or
    /// shards with `model.safetensors.index.json`, or a folder with a single `.gguf` file or the parts of one.
    ///
    /// # Errors
    /// [`FormatError::NotAModel`] saying what is missing; whatever the configuration's and the weights'
    /// readers refuse; [`FormatError::UnknownTensor`] for a GGUF tensor without a place in the model.
    pub fn open(path: &Path) -> Result<Self> {
        let not_a_model = |reason: String| FormatError::NotAModel { path: path.to_owned(), reason };
        if path.is_file() {
            return match path.extension() {
                Some(extension) if extension.eq_ignore_ascii_case("gguf") => Self::open_gguf(path, path),
                _ => Err(not_a_model("it is neither a folder nor a .gguf file".into())),
            };
        }
        if !path.is_dir() {
            return Err(not_a_model("there is no such file or folder".into()));
        }
        let has = |name: &str| path.join(name).is_file();
        if has("model.safetensors") || has("model.safetensors.index.json") {
            return Self::open_folder(path);
        }
        let names = file_names(path)?;
        let with = |extension: &str| -> Vec<&String> {
            names.iter().filter(|name| name.to_lowercase().ends_with(extension)).collect()
        };
        let ggufs: Vec<&str> = with(".gguf").into_iter().map(String::as_str).collect();
        if let Some(name) = only_model(&ggufs) {
            return Self::open_gguf(path, &path.join(name));
        }
        if let [first, second, ..] = ggufs[..] {
            let reason = format!("it holds several .gguf files ({first}, {second}, …); give the path of one");
            return Err(not_a_model(reason));
        }
        let foreign = [".bin", ".pth", ".pt", ".ckpt", ".h5", ".msgpack", ".onnx"];
        Err(not_a_model(if has("adapter_config.json") {
            "it holds a PEFT adapter, not a whole model".into()
        } else if let Some(name) = foreign.into_iter().find_map(|end| with(end).into_iter().next()) {
            not_readable(path, name)
        } else if let [name, ..] = with(".safetensors")[..] {
            format!("its weights ({name}) are not called model.safetensors, and there is no index of shards")
        } else {
            "it holds neither model.safetensors nor a .gguf file".into()
        }))
    }

    /// What was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the weights are in a GGUF file.
    pub fn is_gguf(&self) -> bool {
        matches!(self.store, Store::Gguf { .. })
    }

    /// The model's configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// What the user should know about the files: where they contradict themselves, and what was made of it.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// All weights under their hub names, sorted. Buffers that old files hold beside the weights (GPT-2's
    /// attention masks, Llama's rotary frequencies) are left out.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// Whether there is a tensor of this hub name.
    pub fn contains(&self, name: &str) -> bool {
        self.tensor(name).is_some()
    }

    /// What is known of the tensor of this hub name.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        let found = self.tensors.binary_search_by(|info| info.name.as_str().cmp(name)).ok()?;
        self.tensors.get(found)
    }

    /// Shape and values of a tensor by hub name, in the hub's layout: linear layers [out, in], GPT-2's
    /// `Conv1D` [in, out].
    ///
    /// # Errors
    /// [`FormatError::NoSuchTensor`], [`FormatError::UnsupportedDtype`], [`FormatError::Shape`].
    pub fn read_f32(&self, name: &str) -> Result<(Vec<usize>, Vec<f32>)> {
        let missing = || FormatError::NoSuchTensor { path: self.path.clone(), name: name.to_owned() };
        match &self.store {
            Store::Folder { files, places } => {
                let (file_idx, stored_name) = places.get(name).ok_or_else(missing)?;
                let file = files.get(*file_idx).ok_or_else(missing)?;
                let shape = file.tensor(stored_name).ok_or_else(missing)?.shape.clone();
                Ok((shape, file.read_f32(stored_name)?))
            }
            Store::Gguf { file, places } => {
                let (stored_name, layout) = places.get(name).ok_or_else(missing)?;
                let (mut shape, values) = file.read_f32(stored_name)?;
                let values =
                    to_hub_layout(*layout, &mut shape, values).ok_or_else(|| FormatError::Shape {
                        path: self.path.clone(),
                        name: name.to_owned(),
                        expected: vec![self.config.n_heads * self.config.head_dim, self.config.hidden_size],
                        actual: shape.clone(),
                    })?;
                Ok((shape, values))
            }
        }
    }

    /// Gives the values of a tensor to `take` piece by piece, as [`Self::read_f32`] has them in row-major order: whole rows,
    /// about `max_values` values at a time, and an even number of rows but for the last piece, so that groups of values that
    /// are rounded together are those of the whole. A tensor that a GGUF file has in another layout comes in one piece.
    ///
    /// # Errors
    /// As [`Self::read_f32`], and what `take` returns.
    pub fn read_pieces<E: From<FormatError>>(
        &self,
        name: &str,
        max_values: usize,
        mut take: impl FnMut(&[f32]) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let missing = || FormatError::NoSuchTensor { path: self.path.clone(), name: name.to_owned() };
        let info = self.tensor(name).ok_or_else(missing)?;
        let is_as_stored = match &self.store {
            Store::Folder { .. } => true,
            Store::Gguf { places, .. } => places.get(name).is_some_and(|(_, layout)| *layout == Layout::Same),
        };
        let n_rows = info.shape.first().copied().unwrap_or(1);
        let n_values: usize = info.shape.iter().product();
        if !is_as_stored || n_rows == 0 || n_values <= max_values {
            return take(&self.read_f32(name)?.1);
        }
        let row_bytes = info.n_bytes / n_rows;
        let n_rows_at_once = (max_values / (n_values / n_rows).max(1)).next_multiple_of(2).max(2);
        for piece in self.stored_bytes(name).chunks((n_rows_at_once * row_bytes).max(1)) {
            let values = info.dtype.decode(piece).ok_or_else(|| FormatError::UnsupportedDtype {
                path: self.path.clone(),
                name: name.to_owned(),
                dtype: info.dtype.name().to_owned(),
            })?;
            take(&values)?;
            self.let_go();
        }
        Ok(())
    }

    /// Lets the system take back the memory of what has been read of the weights; they can still be read again.
    pub fn let_go(&self) {
        match &self.store {
            Store::Folder { files, .. } => files.iter().for_each(SafetensorsFile::let_go),
            Store::Gguf { file, .. } => file.let_go(),
        }
    }

    /// The blocks of a matrix that the file holds in one of GGUF's block formats, row by row in the hub's order of rows;
    /// `None` for other tensors and for those that the hub stores transposed.
    ///
    /// # Errors
    /// [`FormatError::NoSuchTensor`].
    pub fn read_blocks(&self, name: &str) -> Result<Option<(BlockLayout, Vec<u8>)>> {
        let Store::Gguf { file, places } = &self.store else { return Ok(None) };
        let missing = || FormatError::NoSuchTensor { path: self.path.clone(), name: name.to_owned() };
        let (stored_name, layout) = places.get(name).ok_or_else(missing)?;
        let tensor = file.tensor(stored_name).ok_or_else(missing)?;
        let StoredDtype::Quantised(blocks) = tensor.dtype else { return Ok(None) };
        let [n_rows, _] = tensor.shape[..] else { return Ok(None) };
        Ok(rows_to_hub_layout(*layout, n_rows, file.bytes(tensor)).map(|bytes| (blocks, bytes)))
    }

    /// The model's own tokenizer.
    ///
    /// # Errors
    /// [`FormatError::Tokenizer`], [`FormatError::Missing`].
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        match &self.store {
            Store::Folder { .. } => Tokenizer::from_folder(&self.path),
            Store::Gguf { file, .. } => Tokenizer::from_gguf(file.metadata()),
        }
    }

    /// The content of `generation_config.json`; without that file, one with the special tokens.
    ///
    /// # Errors
    /// [`FormatError::Json`] or [`FormatError::Io`] when the file is there and cannot be read.
    pub fn generation_config(&self) -> Result<Value> {
        let path = self.path.join("generation_config.json");
        if path.is_file() {
            let text = fs::read(&path).map_err(FormatError::io(&path, "read"))?;
            return serde_json::from_slice(&text).map_err(FormatError::json(&path));
        }
        let eos = match self.config.eos_ids[..] {
            [] => Value::Null,
            [id] => json!(id),
            _ => json!(self.config.eos_ids),
        };
        let mut ids = json!({ "bos_token_id": self.config.bos_id, "eos_token_id": eos });
        if let Some(pad_id) = self.config.pad_id {
            ids["pad_token_id"] = json!(pad_id);
        }
        if let Some(parts) = &self.config.encoder_decoder {
            ids["decoder_start_token_id"] = json!(parts.start_id);
        }
        Ok(ids)
    }

    /// SHA-256 in hexadecimal of configuration, tensor table, file sizes and a few bytes of every tensor:
    /// tells models of the same shape apart without reading them whole.
    ///
    /// # Errors
    /// None at present; reading lazily may fail in other stores.
    pub fn fingerprint(&self) -> Result<String> {
        let mut hash = Sha256::new();
        hash.update(self.config.raw.to_string());
        for tensor in &self.tensors {
            hash.update(format!("\n{} {:?} {} {} ", tensor.name, tensor.shape, tensor.dtype, tensor.n_bytes));
            let bytes = self.stored_bytes(&tensor.name);
            let last = bytes.len().saturating_sub(SAMPLE_BYTES);
            for start in [0, last / 2, last] {
                hash.update(bytes.get(start..(start + SAMPLE_BYTES).min(bytes.len())).unwrap_or_default());
            }
        }
        if let Store::Folder { files, .. } = &self.store {
            files.iter().for_each(|file| hash.update(format!("\n{}", file.n_bytes())));
        }
        Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }

    fn stored_bytes(&self, name: &str) -> &[u8] {
        match &self.store {
            Store::Folder { files, places } => places
                .get(name)
                .and_then(|(file_idx, stored_name)| files.get(*file_idx)?.bytes(stored_name))
                .unwrap_or_default(),
            Store::Gguf { file, places } => places
                .get(name)
                .and_then(|(stored_name, _)| file.tensor(stored_name))
                .map(|tensor| file.bytes(tensor))
                .unwrap_or_default(),
        }
    }

    fn open_folder(path: &Path) -> Result<Self> {
        let mut config = ModelConfig::read(&path.join("config.json"))?;
        let files = match path.join("model.safetensors") {
            file if file.is_file() => vec![SafetensorsFile::open(&file)?],
            _ => open_shards(&path.join("model.safetensors.index.json"))?,
        };
        // A checkpoint of the model without its head has names without the model's own prefix.
        let prefix = config.architecture.base_prefix();
        let is_bare =
            !files.iter().flat_map(SafetensorsFile::tensors).any(|info| info.name.starts_with(prefix));
        let head_name = config.architecture.head_name();
        let stored = |name: &str| {
            let name = match is_bare && name != head_name {
                true => name.strip_prefix(prefix).unwrap_or(name),
                false => name,
            };
            files.iter().find_map(|file| file.tensor(name).zip(file.bytes(name)))
        };
        let tied_weights::Settled { copies, notes } = tied_weights::settle(path, &mut config, stored)?;
        let (mut places, mut tensors) = (BTreeMap::new(), Vec::new());
        for (file_idx, file) in files.iter().enumerate() {
            let is_weight = |name: &str| !is_buffer(config.architecture, name) && !copies.contains(&name);
            for info in file.tensors().filter(|info| is_weight(&info.name)) {
                let name = match is_bare && info.name != config.architecture.head_name() {
                    true => format!("{prefix}{}", info.name),
                    false => info.name.clone(),
                };
                if places.insert(name.clone(), (file_idx, info.name.clone())).is_some() {
                    return Err(FormatError::Malformed {
                        path: file.path().to_owned(),
                        format: "safetensors",
                        reason: format!("tensor {name:?} is in another shard, too"),
                    });
                }
                tensors.push(TensorInfo { name, ..info.clone() });
            }
        }
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        let store = Store::Folder { files, places };
        Ok(Self { path: path.to_owned(), config, tensors, notes, store })
    }

    fn open_gguf(path: &Path, file_path: &Path) -> Result<Self> {
        let file = GgufFile::open(file_path)?;
        let config = model_config(&file)?;
        let drops_head = is_tied(&file);
        let (mut places, mut tensors) = (BTreeMap::new(), Vec::new());
        for tensor in file.tensors() {
            if CONFIGURING.contains(&tensor.name.as_str()) || (drops_head && tensor.name == "output.weight") {
                continue;
            }
            let (name, layout) =
                hub_name(config.architecture, config.n_heads, config.n_kv_heads, &tensor.name)
                    .filter(|_| block_idx(&tensor.name).is_none_or(|idx| idx < config.n_layers))
                    .ok_or_else(|| FormatError::UnknownTensor {
                        path: file_path.to_owned(),
                        name: tensor.name.clone(),
                        architecture: config.architecture.model_type().to_owned(),
                    })?;
            let mut shape = tensor.shape.clone();
            if layout == Layout::Transposed {
                shape.reverse();
            }
            places.insert(name.clone(), (tensor.name.clone(), layout));
            tensors.push(TensorInfo { name, shape, dtype: tensor.dtype, n_bytes: tensor.n_bytes });
        }
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        let store = Store::Gguf { file: Box::new(file), places };
        Ok(Self { path: path.to_owned(), config, tensors, notes: Vec::new(), store })
    }
}

/// Why the weights called `name` cannot be read, and how to make some that can.
fn not_readable(folder: &Path, name: &str) -> String {
    let format = match name.rsplit('.').next() {
        Some("h5") => "weights of TensorFlow",
        Some("msgpack") => "weights of Flax",
        Some("onnx") => "an ONNX graph",
        _ => "pickled weights, a format that can run code when opened",
    };
    format!(
        "{name} holds {format}; write model.safetensors beside it with Python: python -c \"from transformers import \
         AutoModelForCausalLM as M; M.from_pretrained('{0}').save_pretrained('{0}')\"",
        folder.display()
    )
}

/// Opens the shards that the index at `path` names and checks that they hold what it promises.
fn open_shards(path: &Path) -> Result<Vec<SafetensorsFile>> {
    let text = fs::read(path).map_err(FormatError::io(path, "read"))?;
    let index: Value = serde_json::from_slice(&text).map_err(FormatError::json(path))?;
    let malformed =
        |reason: String| FormatError::Malformed { path: path.to_owned(), format: "index", reason };
    let weight_map = index
        .get("weight_map")
        .and_then(Value::as_object)
        .ok_or_else(|| malformed("there is no object called weight_map".into()))?;
    let mut shards: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (tensor, shard) in weight_map {
        let shard = shard.as_str().filter(|shard| is_plain_name(shard)).ok_or_else(|| {
            malformed(format!(
                "weight_map places {tensor:?} in {shard}, which is not the name of a file beside it"
            ))
        })?;
        shards.entry(shard).or_default().push(tensor);
    }
    let mut files = Vec::new();
    for (shard, tensors) in shards {
        let shard_path = path.with_file_name(shard);
        if !shard_path.is_file() {
            let what = format!("this shard, which {} names,", file_name(path));
            return Err(FormatError::Missing { path: shard_path, what });
        }
        let file = SafetensorsFile::open(&shard_path)?;
        if let Some(missing) = tensors.iter().find(|name| file.tensor(name).is_none()) {
            return Err(malformed(format!(
                "weight_map places {missing:?} in {shard}, which does not hold it"
            )));
        }
        files.push(file);
    }
    Ok(files)
}

/// A file name without any folder: an index must not reach outside its own.
fn is_plain_name(name: &str) -> bool {
    let mut components = Path::new(name).components();
    matches!((components.next(), components.next()), (Some(Component::Normal(_)), None))
        && !name.contains('\\')
}

/// Constants that old versions of `transformers` stored beside the weights.
fn is_buffer(architecture: Architecture, name: &str) -> bool {
    match architecture {
        Architecture::Gpt2 => name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias"),
        // Once declared, never used.
        Architecture::T5 => name.ends_with(".EncDecAttention.relative_attention_bias.weight"),
        Architecture::GptNeoX => [".attention.bias", ".attention.masked_bias", ".rotary_emb.inv_freq"]
            .iter()
            .any(|buffer| name.ends_with(buffer)),
        _ => name.ends_with(".rotary_emb.inv_freq"),
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn file_names(folder: &Path) -> Result<Vec<String>> {
    let failed = FormatError::io(folder, "list");
    let entries =
        fs::read_dir(folder).and_then(Iterator::collect::<std::io::Result<Vec<_>>>).map_err(failed)?;
    let mut names: Vec<String> =
        entries.iter().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    Ok(names)
}
