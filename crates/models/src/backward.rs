//! Forward and backward pass of one slice for any [`Objective`], with a graph of its own for each block.
//!
//! Forward: block i begins at a new leaf with the values of x_i, the output of the block below, and its graph ends at
//! y_i. A stored block keeps that graph, one to be run again only x_i; a block at or below which nothing is trained keeps
//! neither. Backward, from the loss down: with g = ∂loss/∂y_i, the graph of block i alone is differentiated and gone,
//! its parameters' gradients are in the sums, and the gradient of its leaf is the g of the block below. So the gradients
//! of all blocks never exist beside their sums, and a block that is run again does exactly what a stored one did:
//! dropout masks depend on their key alone. The pass ends at the lowest block with something trainable at or below it.

use burn::tensor::Tensor;
use tunesmith_ops::seed_gradient;

use crate::causal_lm::CausalLm;
use crate::embedding_noise::EmbeddingNoise;
use crate::error::Result;
use crate::gradient_sums::GradientSums;
use crate::objective::Objective;
use crate::pass::{Pass, TokenBatch};
use crate::slices::Slice;
use crate::step::StepOptions;

/// How a slice is computed.
#[derive(Clone, Copy)]
pub(crate) struct Task<'a> {
    model: &'a CausalLm,
    tokens: TokenBatch<'a>,
    dropout_key: u64,
    noise: Option<EmbeddingNoise<'a>>,
    /// Blocks, counted from the first, that are run again in the backward pass.
    n_recomputed: usize,
}

/// The values of the objective; the gradients of its number are added to `sums`.
pub(crate) fn add_gradients<O: Objective>(
    task: Task<'_>,
    objective: &O,
    sums: &mut GradientSums,
) -> Result<O::Values> {
    let family = task.model.family();
    let embedded = Graph::of_embedding(task);
    // A constant is added, so the gradient is that of the embedding alone.
    let mut x = embedded.pass.noised(embedded.value());
    let mut is_trained = embedded.is_tracked();

    let mut blocks = Vec::with_capacity(family.n_blocks());
    for block_idx in 0..family.n_blocks() {
        let input = Input { values: x, is_trained };
        let block = if block_idx < task.n_recomputed {
            Block::forgotten(block_idx, input, task)
        } else {
            Block::stored(block_idx, input, task)
        };
        x = block.y;
        is_trained = block.is_trained;
        blocks.push(block.kept);
    }

    let (values, mut flow) = task.differentiate_loss(objective, Input { values: x, is_trained }, sums)?;
    for (block_idx, kept) in blocks.into_iter().enumerate().rev() {
        let Some(gradient) = flow else { return Ok(values) };
        flow = kept.graph(block_idx, task).and_then(|graph| graph.differentiate(gradient, sums));
    }
    if let Some(gradient) = flow {
        embedded.differentiate(gradient, sums);
    }
    Ok(values)
}

impl<'a> Task<'a> {
    /// The task of a slice of `batch`.
    pub(crate) fn of(
        model: &'a CausalLm,
        slice: &'a Slice,
        batch: TokenBatch<'a>,
        options: &StepOptions<'a>,
    ) -> Self {
        Self {
            model,
            tokens: slice.tokens(batch),
            dropout_key: slice.dropout_key(options.dropout_key),
            noise: options.noise.map(|noise| slice.noise(noise)),
            n_recomputed: options.recompute.n_blocks(model.config(), slice.range.len(), slice.longest()),
        }
    }

    fn tracked(&self) -> Pass<'a> {
        Pass::tracked(self.model.parameters(), self.tokens, Some(self.dropout_key))
    }

    fn plain(&self) -> Pass<'a> {
        Pass::plain(self.model.parameters(), self.tokens, Some(self.dropout_key))
    }

    /// The values of the objective, and the gradient of its number with respect to the last block's output if it is of
    /// use.
    fn differentiate_loss<O: Objective>(
        &self,
        objective: &O,
        input: Input,
        sums: &mut GradientSums,
    ) -> Result<(O::Values, Option<Tensor<2>>)> {
        let mut pass = self.tracked();
        let leaf = input.leaf();
        let (loss, values) = objective.evaluate(self.model, leaf.clone(), &mut pass)?;
        if !loss.is_tracked() {
            return Ok((values, None));
        }
        let mut gradients = loss.backward();
        pass.collect_gradients(&mut gradients, sums);
        Ok((values, leaf.grad_remove(&mut gradients)))
    }
}

/// What a block is given, and whether anything below it is trained.
struct Input {
    values: Tensor<2>,
    is_trained: bool,
}

impl Input {
    /// The start of a new graph; its gradient is kept only if it is of use.
    fn leaf(self) -> Tensor<2> {
        let leaf = self.values.autodiff();
        if self.is_trained { leaf.require_grad() } else { leaf }
    }
}

/// A block after its forward pass.
struct Block<'a> {
    y: Tensor<2>,
    /// Whether anything in it or below is trained.
    is_trained: bool,
    kept: Kept<'a>,
}

/// What is kept of a block for its backward pass.
enum Kept<'a> {
    Nothing,
    Input(Box<Input>),
    Graph(Box<Graph<'a>>),
}

impl<'a> Block<'a> {
    fn stored(block_idx: usize, input: Input, task: Task<'a>) -> Self {
        let graph = Graph::of_block(block_idx, input, task);
        let (y, is_trained) = (graph.value(), graph.is_tracked());
        Self { y, is_trained, kept: if is_trained { Kept::Graph(Box::new(graph)) } else { Kept::Nothing } }
    }

    fn forgotten(block_idx: usize, input: Input, task: Task<'a>) -> Self {
        let mut pass = task.plain();
        let y = task.model.family().block(block_idx, input.values.clone(), &mut pass);
        let is_trained = input.is_trained || pass.has_used_trainable();
        Self { y, is_trained, kept: if is_trained { Kept::Input(Box::new(input)) } else { Kept::Nothing } }
    }
}

impl<'a> Kept<'a> {
    /// The block's graph, made again if it was not stored.
    fn graph(self, block_idx: usize, task: Task<'a>) -> Option<Graph<'a>> {
        match self {
            Self::Nothing => None,
            Self::Input(input) => Some(Graph::of_block(block_idx, *input, task)),
            Self::Graph(graph) => Some(*graph),
        }
    }
}

/// A part of the model as a graph from its leaf, if it has one, and its parameters to its output.
struct Graph<'a> {
    leaf: Option<Tensor<2>>,
    y: Tensor<2>,
    pass: Pass<'a>,
}

impl<'a> Graph<'a> {
    fn of_block(block_idx: usize, input: Input, task: Task<'a>) -> Self {
        let leaf = input.leaf();
        let mut pass = task.tracked();
        let y = task.model.family().block(block_idx, leaf.clone(), &mut pass);
        Self { leaf: Some(leaf), y, pass }
    }

    fn of_embedding(task: Task<'a>) -> Self {
        let mut pass = task.tracked().with_noise(task.noise);
        let y = task.model.family().embed(&mut pass);
        Self { leaf: None, y, pass }
    }

    fn is_tracked(&self) -> bool {
        self.y.is_tracked()
    }

    /// The output without the graph.
    fn value(&self) -> Tensor<2> {
        self.y.clone().inner()
    }

    /// Adds the parameters' gradients to `sums` and gives the leaf's, for the output's `gradient`.
    fn differentiate(self, gradient: Tensor<2>, sums: &mut GradientSums) -> Option<Tensor<2>> {
        let Self { leaf, y, pass } = self;
        let mut gradients = seed_gradient(y, gradient).backward();
        pass.collect_gradients(&mut gradients, sums);
        leaf?.grad_remove(&mut gradients)
    }
}
