//! The training step that stores only the inputs of the blocks.
//!
//! Forward without a graph, keeping x_i, the input of block i, for all i. Backward from the last block to the first:
//! with g = ∂loss/∂x_{i+1}, run y = block_i(x_i) again from a tracked leaf x_i and differentiate Σ y·g, whose gradients
//! are those of the loss. Memory: one block's activations and n_blocks·N·C values instead of all activations. Dropout
//! masks depend on their key alone, so the second run sees the same ones.

use std::collections::BTreeMap;

use burn::tensor::Tensor;
use tunesmith_ops::CrossEntropy;

use crate::causal_lm::CausalLm;
use crate::pass::{Pass, TokenBatch};
use crate::step::losses_of;

/// The losses, and the gradients by parameter index.
pub(crate) fn losses_and_gradients(
    model: &CausalLm,
    tokens: TokenBatch<'_>,
    labels: &[i64],
    weights: &[f32],
    dropout_key: u64,
) -> (CrossEntropy, BTreeMap<usize, Tensor<1>>) {
    let family = model.family();
    let mut pass = Pass::plain(model.parameters(), tokens, Some(dropout_key));
    let mut x = family.embed(&mut pass);
    let mut inputs = Vec::with_capacity(family.n_blocks());
    for block_idx in 0..family.n_blocks() {
        inputs.push(BlockInput { x: x.clone(), has_gradient: pass.has_used_trainable() });
        x = family.block(block_idx, x, &mut pass);
    }
    let last = BlockInput { x, has_gradient: pass.has_used_trainable() };

    let tracked = || Pass::tracked(model.parameters(), tokens, Some(dropout_key));
    let mut sums = BTreeMap::new();

    let mut pass = tracked();
    let leaf = last.leaf();
    let losses = losses_of(model, leaf.clone(), &mut pass, labels, weights);
    if !losses.weighted_sum.is_tracked() {
        return (losses, sums);
    }
    let mut gradients = losses.weighted_sum.backward();
    pass.collect_gradients(&mut gradients, &mut sums);
    let mut flow = leaf.grad_remove(&mut gradients);

    // `flow` runs dry at the first block below which nothing is trained.
    for (block_idx, input) in inputs.into_iter().enumerate().rev() {
        let Some(gradient) = flow else { break };
        let mut pass = tracked();
        let leaf = input.leaf();
        let y = family.block(block_idx, leaf.clone(), &mut pass);
        let mut gradients = (y * gradient).sum().backward();
        pass.collect_gradients(&mut gradients, &mut sums);
        flow = leaf.grad_remove(&mut gradients);
    }
    if let Some(gradient) = flow {
        let mut pass = tracked();
        let y = family.embed(&mut pass);
        let mut gradients = (y * gradient).sum().backward();
        pass.collect_gradients(&mut gradients, &mut sums);
    }
    (losses, sums)
}

/// What a block was given, and whether anything trainable lies below it.
struct BlockInput {
    x: Tensor<2>,
    has_gradient: bool,
}

impl BlockInput {
    /// The start of a new graph; its gradient is kept only if it is of use.
    fn leaf(self) -> Tensor<2> {
        let leaf = self.x.autodiff();
        if self.has_gradient { leaf.require_grad() } else { leaf }
    }
}
