//! Row lookup: y[n] = weight[ids[n]]; weight [V, C], y [N, C]. The gradient of a row is the sum over its uses.

use burn::tensor::Tensor;

use crate::check::{require, upload_rows};

/// The rows `ids` of weight [V, C], as [N, C].
pub fn embedding(weight: Tensor<2>, ids: &[u32]) -> Tensor<2> {
    let [n_rows, _] = weight.dims();
    let largest = ids.iter().copied().max().unwrap_or(0) as usize;
    require(ids.is_empty() || largest < n_rows, "embedding", || {
        format!("id {largest} lies beyond the {n_rows} rows of the table")
    });
    embedding_composed(weight, ids)
}

/// [`embedding`] from Burn's operations.
pub fn embedding_composed(weight: Tensor<2>, ids: &[u32]) -> Tensor<2> {
    let rows = upload_rows(ids.iter().map(|&id| id as usize), &weight.device());
    weight.select(0, rows)
}
