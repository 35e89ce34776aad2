//! From a model file to parameters: every weight the family declares, and nothing else, in the declared shape.

use std::collections::BTreeMap;

use burn::tensor::Device;
use serde_json::Value;
use tunesmith_formats::model_source::ModelSource;

use crate::error::{ModelError, Result};
use crate::family::ParameterSpec;
use crate::parameters::{Parameter, ParameterStore, to_device};

/// Reads the declared parameters, one tensor at a time. All of them are trainable at first.
pub(crate) fn load_parameters(
    source: &ModelSource,
    specs: &[ParameterSpec],
    device: &Device,
) -> Result<ParameterStore> {
    let path = source.path();
    let shapes: BTreeMap<&str, &[usize]> =
        source.tensors().iter().map(|t| (t.name.as_str(), t.shape.as_slice())).collect();
    let mut store = ParameterStore::default();
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
        let (shape, values) = source.read_f32(&spec.name)?;
        store.push(Parameter {
            name: spec.name.clone(),
            shape,
            value: to_device(values, device),
            trainable: true,
        });
    }

    // A tied head may be stored as well; the embedding is what counts, as in transformers.
    let is_passed_over = |name: &str| name == HEAD && store.index_of(HEAD).is_none();
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

const HEAD: &str = "lm_head.weight";
