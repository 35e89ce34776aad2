//! From a model file to parameters: every weight the family declares, and nothing else, in the declared shape.

use std::collections::BTreeSet;
use std::sync::Arc;

use burn::tensor::{DType, Device};
use serde_json::Value;
use tunesmith_formats::StoredDtype;
use tunesmith_formats::gguf_quants::BlockLayout;
use tunesmith_formats::model_config::Experts;
use tunesmith_formats::model_config::ModelConfig;
use tunesmith_formats::model_source::ModelSource;
use tunesmith_formats::sequence_classifier::SequenceClassifier;
use tunesmith_ops::{Compute, Format, StoredWeight, frozen_format, is_cpu};

use crate::error::{ModelError, Result};
use crate::family::{self, Family, ParameterSpec};
use crate::on_disk::OnDisk;
use crate::parameters::{Parameter, ParameterStore, converted, to_device};
use crate::score_head::ScoreHeadKind;

/// How weights are kept and multiplied.
#[derive(Clone, Copy)]
pub struct LoadOptions<'a> {
    /// Number format of the products; sums are always float32.
    pub compute: Compute,
    /// Format of the matrices that are not trained. Those that a GGUF file has in Q8_0, Q4_0 or Q4_1 are used as they are
    /// when any of these is asked for ([`format_as_in_file`]). Where 8 or 4 bits are asked for, embedding and head, and
    /// matrices whose rows are no whole number of blocks, are kept in 16 ([`kept_format`]). On a device other than the CPU
    /// it is what [`tunesmith_ops::frozen_format`] makes of this.
    pub frozen: Format,
    /// Whether the parameter of this name will be trained: it is kept in float32.
    pub is_trained: &'a dyn Fn(&str) -> bool,
}

impl Default for LoadOptions<'_> {
    /// Everything in float32.
    fn default() -> Self {
        Self { compute: Compute::F32, frozen: Format::F32, is_trained: &|_| true }
    }
}

/// The family of a model and its parameters. A sequence classifier has its score head in place of the head over the
/// vocabulary, which takes a tied one to declare.
pub(crate) fn declared(config: &ModelConfig) -> Result<(Box<dyn Family>, Vec<ParameterSpec>)> {
    let Some(classifier) = SequenceClassifier::of(config) else { return family::build(config) };
    let (family, mut specs) = family::build(&ModelConfig { tie_word_embeddings: true, ..config.clone() })?;
    let shape = vec![classifier.labels.len(), config.hidden_size];
    specs.push(ParameterSpec { name: ScoreHeadKind::OnHidden.weight_name().to_owned(), shape });
    Ok((family, specs))
}

/// Reads the declared parameters, one tensor at a time. Those that are not stored are trainable at first.
pub(crate) fn load_parameters(
    source: &ModelSource,
    specs: &[ParameterSpec],
    device: &Device,
    options: &LoadOptions<'_>,
) -> Result<ParameterStore> {
    check_tensors(source, specs)?;
    let mut store = ParameterStore::new(options.compute);
    for spec in specs {
        store.push(load_parameter(source, spec, device, options)?);
        source.let_go();
    }
    Ok(store)
}

/// The declared parameters, each to be read when it is used, frozen matrices into the format `frozen` or as they are stored.
pub(crate) fn parameters_on_disk(
    source: &Arc<ModelSource>,
    specs: &[ParameterSpec],
    device: &Device,
    frozen: Option<Format>,
) -> Result<ParameterStore> {
    check_tensors(source, specs)?;
    let mut store = ParameterStore::new(Compute::F32);
    for spec in specs {
        store.push(Parameter::on_disk(OnDisk {
            source: Arc::clone(source),
            spec: spec.clone(),
            frozen,
            device: device.clone(),
            failure: store.failure.clone(),
        }));
    }
    Ok(store)
}

/// Checks that the declared tensors are stored in the declared shapes, and no others.
fn check_tensors(source: &ModelSource, specs: &[ParameterSpec]) -> Result<()> {
    let path = source.path();
    let declared: BTreeSet<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
    for spec in specs {
        let Some(found) = source.tensor(&spec.name) else {
            return Err(ModelError::MissingTensor {
                path: path.to_owned(),
                name: spec.name.clone(),
                expected: spec.shape.clone(),
            });
        };
        if found.shape != spec.shape {
            return Err(ModelError::TensorShape {
                path: path.to_owned(),
                name: spec.name.clone(),
                expected: spec.shape.clone(),
                found: found.shape.clone(),
            });
        }
    }
    // A classifier has no use for a head over the vocabulary, which may be stored as well.
    let head = source.config().architecture.head_name();
    let names = source.tensors().iter().map(|tensor| tensor.name.as_str());
    let names: Vec<String> =
        names.filter(|name| !declared.contains(name) && *name != head).map(str::to_owned).collect();
    match names.is_empty() {
        true => Ok(()),
        false => Err(ModelError::UnexpectedTensors { path: path.to_owned(), names }),
    }
}

/// Values that are converted at a time: what is not yet in its format takes little memory beside the result.
const PIECE_VALUES: usize = 1 << 22;

/// Reads one parameter.
pub(crate) fn load_parameter(
    source: &ModelSource,
    spec: &ParameterSpec,
    device: &Device,
    options: &LoadOptions<'_>,
) -> Result<Parameter> {
    let name = spec.name.clone();
    let stored = source.tensor(&name).map_or(StoredDtype::F32, |tensor| tensor.dtype);
    let is_trained = (options.is_trained)(&name);
    let format = kept_format(&name, &spec.shape, stored, options.frozen, is_trained);
    if let (true, true, [n_rows, n_columns]) = (format != Format::F32, is_cpu(device), spec.shape.as_slice())
    {
        let as_in_file = source.read_blocks(&name)?.and_then(|(layout, bytes)| {
            let format = format_as_in_file(layout, options.frozen)?;
            StoredWeight::new(Arc::new(bytes), format, *n_rows, *n_columns)
        });
        if let Some(weight) = as_in_file {
            return Ok(Parameter::from_stored(name, weight));
        }
        // A GGUF matrix that the hub has transposed is not used as it lies in the file.
        let format = match n_columns.is_multiple_of(format.block_values()) {
            true => format,
            false => Format::Bf16,
        };
        let mut bytes = Vec::with_capacity(n_rows * n_columns / format.block_values() * format.block_bytes());
        source.read_pieces(&name, PIECE_VALUES, |values| {
            let n_rows = values.len().checked_div(*n_columns).unwrap_or_default();
            bytes.extend_from_slice(converted(values, n_rows, *n_columns, format, &name)?.as_bytes());
            Ok::<(), ModelError>(())
        })?;
        let n_bytes = bytes.len();
        let weight = StoredWeight::new(Arc::new(bytes), format, *n_rows, *n_columns);
        let weight = weight.ok_or_else(|| ModelError::ParameterShape {
            name: name.clone(),
            expected: vec![*n_rows, *n_columns],
            found: n_bytes * format.block_values() / format.block_bytes(),
        })?;
        return Ok(Parameter::from_stored(name, weight));
    }
    let dtype = match frozen_format(device, format) {
        Format::Bf16 => DType::BF16,
        Format::F16 => DType::F16,
        _ => DType::F32,
    };
    let (shape, values) = source.read_f32(&name)?;
    Ok(Parameter::new(name, shape, to_device(values, device, dtype), format == Format::F32))
}

/// The format in which the CPU keeps the tensor `name` of this shape, stored as `stored`, where frozen matrices are asked for
/// in `frozen`. Only matrices that products are computed with inside the blocks take 8 or 4 bits: embedding and head keep 16,
/// as bitsandbytes keeps them, since rounding them costs more than rounding all the rest ([`format_as_in_file`] rounds nothing).
pub fn kept_format(
    name: &str,
    shape: &[usize],
    stored: StoredDtype,
    frozen: Format,
    is_trained: bool,
) -> Format {
    // What chooses among experts is small, and a choice is all or nothing.
    let is_exact = is_trained || ScoreHeadKind::of_weight(name).is_some() || Experts::is_router(name);
    let n_columns = match shape {
        [_, n_columns] if !is_exact => *n_columns,
        _ => return Format::F32,
    };
    let as_in_file = match stored {
        StoredDtype::Quantised(layout) => format_as_in_file(layout, frozen),
        _ => None,
    };
    if let Some(format) = as_in_file {
        return format;
    }
    if frozen.block_values() > 1 && !(is_in_block(name) && n_columns.is_multiple_of(frozen.block_values())) {
        return if stored == StoredDtype::F16 { Format::F16 } else { Format::Bf16 };
    }
    frozen
}

/// Whether a weight is a block's matrix: those have the block's number in their names. T5 keeps its numbers for distances,
/// which are looked up, in its first block.
fn is_in_block(name: &str) -> bool {
    name.split('.').any(|part| part.parse::<usize>().is_ok()) && !name.contains("relative_attention_bias")
}

/// The format in which blocks of a GGUF file are used as they are where `wanted` is asked for: any that products are computed
/// with, if 8 or 4 bits are wanted. Rounding them anew, to fewer bits or more, would train on another model than the file's.
pub fn format_as_in_file(layout: BlockLayout, wanted: Format) -> Option<Format> {
    let has_blocks = wanted.block_values() > 1;
    let format = match layout {
        BlockLayout::Q8_0 => Format::Q8_0,
        BlockLayout::Q4_0 => Format::Q4_0,
        BlockLayout::Q4_1 => Format::Q4_1,
        _ => return None,
    };
    has_blocks.then_some(format)
}

/// The ids of `eos_token_id`, a number or a list of numbers, in both of a model's configurations.
pub(crate) fn end_ids(source: &ModelSource) -> Result<Vec<u32>> {
    let generation_config = source.generation_config()?;
    let named = generation_config.get("eos_token_id");
    let listed: Vec<&Value> = match named {
        Some(Value::Array(ids)) => ids.iter().collect(),
        one => one.into_iter().collect(),
    };
    let mut ids = source.config().eos_ids.clone();
    ids.extend(listed.into_iter().filter_map(|id| u32::try_from(id.as_u64()?).ok()));
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}
