//! Folding an adapter into the weights it adapts.

use burn::tensor::Tensor;
use tunesmith_formats::safetensors_io::NamedTensor;
use tunesmith_ops::Orientation;

use crate::error::Result;
use crate::family::Family;
use crate::linear::{Adapter, Linear};
use crate::parameters::{Parameter, ParameterStore, read_back};

/// Every weight of the base model that `is_part` names, W + s·B·A where it is adapted, in the model's order.
pub(crate) fn merged_tensors<'a>(
    family: &'a dyn Family,
    parameters: &'a ParameterStore,
    is_part: impl Fn(&str) -> bool + 'a,
) -> impl Iterator<Item = Result<NamedTensor>> + 'a {
    let linears = family.linears();
    let is_adapters = move |parameter_idx: usize, linears: &[&Linear]| {
        linears.iter().any(|l| l.adapter.is_some_and(|a| a.a == parameter_idx || a.b == parameter_idx))
    };
    parameters.iter().enumerate().filter_map(move |(parameter_idx, parameter)| {
        if is_adapters(parameter_idx, &linears) || !is_part(&parameter.name) {
            return None;
        }
        let adapted = linears.iter().find(|l| l.weight == parameter_idx);
        let values = match adapted.and_then(|l| Some((l, l.adapter?))) {
            Some((linear, adapter)) => merged(parameter, linear, adapter, parameters),
            None => parameter.to_vec(),
        };
        let named = |data| NamedTensor { name: parameter.name.clone(), shape: parameter.shape.clone(), data };
        Some(values.map(named))
    })
}

fn merged(
    weight: &Parameter,
    linear: &Linear,
    adapter: Adapter,
    parameters: &ParameterStore,
) -> Result<Vec<f32>> {
    let (Some(a), Some(b)) = (parameters.get(adapter.a), parameters.get(adapter.b)) else {
        unreachable!("an adapter's parameters are pushed before it is attached")
    };
    let rank = a.n_values() / linear.in_features;
    let a: Tensor<2> = a.tensor().reshape([rank, linear.in_features]);
    let b: Tensor<2> = b.tensor().reshape([linear.out_features, rank]);
    let change = b.matmul(a) * adapter.scale;
    let change = match linear.orientation {
        Orientation::OutIn => change,
        Orientation::InOut => change.transpose(),
    };
    let value: Tensor<2> = weight.tensor().reshape(change.dims());
    read_back(value + change, &weight.name)
}
