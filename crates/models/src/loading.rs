//! From a model file to parameters: every weight the family declares, and nothing else, in the declared shape.

use std::collections::BTreeMap;
use std::sync::Arc;

use burn::tensor::{DType, Device};
use serde_json::Value;
use tunesmith_formats::gguf_quants::BlockLayout;
use tunesmith_formats::model_config::Experts;
use tunesmith_formats::model_config::ModelConfig;
use tunesmith_formats::model_source::ModelSource;
use tunesmith_formats::sequence_classifier::SequenceClassifier;
use tunesmith_ops::{Compute, Format, StoredWeight, frozen_format, is_cpu};

use crate::error::{ModelError, Result};
use crate::family::{self, Family, ParameterSpec};
use crate::parameters::{Parameter, ParameterStore, converted, to_device};
use crate::score_head::ScoreHeadKind;

/// How weights are kept and multiplied.
#[derive(Clone, Copy)]
pub struct LoadOptions<'a> {
    /// Number format of the products; sums are always float32.
    pub compute: Compute,
    /// Format of the matrices that are not trained. Those that a GGUF file has in Q8_0, Q4_0 or Q4_1 are used as they are
    /// when any of these is asked for ([`format_as_in_file`]); a matrix whose rows are no whole number of blocks is kept in bfloat16 instead. On a device other
    /// than the CPU it is what [`tunesmith_ops::frozen_format`] makes of this.
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
    let path = source.path();
    let shapes: BTreeMap<&str, &[usize]> =
        source.tensors().iter().map(|t| (t.name.as_str(), t.shape.as_slice())).collect();
    let mut store = ParameterStore::new(options.compute);
    for spec in specs {
        let Some(&found) = shapes.get(spec.name.as_str()) else {
            return Err(ModelError::MissingTensor {
                path: path.to_owned(),
                name: spec.name.clone(),
                expected: spec.shape.clone(),
            });
        };
        if found != spec.shape {
            return Err(ModelError::TensorShape {
                path: path.to_owned(),
                name: spec.name.clone(),
                expected: spec.shape.clone(),
                found: found.to_vec(),
            });
        }
        store.push(load_parameter(source, spec, device, options)?);
        source.let_go();
    }

    // A tied head may be stored as well; the embedding is what counts, as in transformers.
    let head = source.config().architecture.head_name();
    let is_passed_over = |name: &str| name == head && store.index_of(head).is_none();
    let names: Vec<String> = shapes
        .into_keys()
        .filter(|name| store.index_of(name).is_none() && !is_passed_over(name))
        .map(str::to_owned)
        .collect();
    if !names.is_empty() {
        return Err(ModelError::UnexpectedTensors { path: path.to_owned(), names });
    }
    Ok(store)
}

fn load_parameter(
    source: &ModelSource,
    spec: &ParameterSpec,
    device: &Device,
    options: &LoadOptions<'_>,
) -> Result<Parameter> {
    let name = spec.name.clone();
    let is_trained = (options.is_trained)(&name) || ScoreHeadKind::of_weight(&name).is_some();
    // What chooses among experts is small, and a choice is all or nothing.
    let is_router = Experts::is_router(&name);
    let is_kept = options.frozen == Format::F32 || is_trained || is_router || spec.shape.len() != 2;
    if let (false, true, [n_rows, n_columns]) = (is_kept, is_cpu(device), spec.shape.as_slice()) {
        let as_in_file = source.read_blocks(&name)?.and_then(|(layout, bytes)| {
            let format = format_as_in_file(layout, options.frozen)?;
            StoredWeight::new(Arc::new(bytes), format, *n_rows, *n_columns)
        });
        if let Some(weight) = as_in_file {
            return Ok(Parameter::from_stored(name, weight));
        }
        let (_, values) = source.read_f32(&name)?;
        let has_blocks = n_columns.is_multiple_of(options.frozen.block_values());
        let format = if has_blocks { options.frozen } else { Format::Bf16 };
        let weight = converted(&values, *n_rows, *n_columns, format, &name)?;
        return Ok(Parameter::from_stored(name, weight));
    }
    let dtype = match frozen_format(device, options.frozen) {
        Format::Bf16 if !is_kept => DType::BF16,
        Format::F16 if !is_kept => DType::F16,
        _ => DType::F32,
    };
    let (shape, values) = source.read_f32(&name)?;
    Ok(Parameter::new(name, shape, to_device(values, device, dtype), is_kept))
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
