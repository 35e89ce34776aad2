//! Folding an adapter into the weights it adapts.

use std::iter;

use burn::tensor::Tensor;
use tunesmith_formats::safetensors_io::TensorPieces;
use tunesmith_ops::{LowRank, Orientation};

use crate::dora::row_norms;
use crate::error::{ModelError, Result};
use crate::family::Family;
use crate::linear::{Adapter, Linear};
use crate::lora::{matrix, own};
use crate::parameters::{Parameter, ParameterStore, read_back};

/// Values of a weight that are unpacked at a time, where no adapter is on it.
const PIECE_VALUES: usize = 1 << 22;

/// Every weight of the base model that `is_part` names, W + s·B·A where it is adapted, with the rows' own lengths where they
/// have some, in the model's order. A weight without an adapter comes some rows at a time.
pub(crate) fn merged_pieces<'a>(
    family: &'a dyn Family,
    parameters: &'a ParameterStore,
    is_part: impl Fn(&str) -> bool + 'a,
) -> impl Iterator<Item = TensorPieces<'a, ModelError>> + 'a {
    let linears = family.linears();
    let is_adapters = move |parameter_idx: usize, linears: &[&Linear]| {
        let belongs = |adapter: &Adapter| {
            let magnitude = adapter.lengths.as_ref().map(|lengths| lengths.magnitude);
            [Some(adapter.a), Some(adapter.b), magnitude].contains(&Some(parameter_idx))
        };
        linears.iter().any(|linear| linear.adapter.as_ref().is_some_and(belongs))
    };
    parameters.iter().enumerate().filter_map(move |(parameter_idx, parameter)| {
        if is_adapters(parameter_idx, &linears) || !is_part(&parameter.name) {
            return None;
        }
        let adapted = linears.iter().find(|l| l.weight == parameter_idx);
        let pieces: Box<dyn Iterator<Item = Result<Vec<f32>>> + 'a> =
            match adapted.and_then(|l| Some((*l, l.adapter.as_ref()?))) {
                Some((linear, adapter)) => {
                    Box::new(iter::once_with(move || merged(parameter, linear, adapter, parameters)))
                }
                None => Box::new(parameter.pieces(PIECE_VALUES)),
            };
        Some(TensorPieces { name: parameter.name.clone(), shape: parameter.shape.clone(), pieces })
    })
}

fn merged(
    weight: &Parameter,
    linear: &Linear,
    adapter: &Adapter,
    parameters: &ParameterStore,
) -> Result<Vec<f32>> {
    let scale = adapter.scale;
    let [a, b] = adapter.matrices(matrix(own(parameters, adapter.a)), matrix(own(parameters, adapter.b)));
    // Everything is done on [O,I] and laid back at the end.
    let turned = |tensor: Tensor<2>| match linear.orientation {
        Orientation::OutIn => tensor,
        Orientation::InOut => tensor.transpose(),
    };
    let mut value = turned(matrix(weight)) + b.clone().matmul(a.clone()) * scale;
    if let Some(lengths) = &adapter.lengths {
        let low_rank = LowRank { a, b, scale, dropout: None };
        let squared = turned(matrix(weight)).square().sum_dim(1).flatten(0, 1);
        let norms = row_norms(weight.weight().lying(linear.orientation), squared, &low_rank);
        let factors = own(parameters, lengths.magnitude).tensor() / norms;
        value = value * factors.unsqueeze_dim::<2>(1);
    }
    read_back(turned(value), &weight.name)
}
