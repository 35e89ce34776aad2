//! What a model family has to say about itself, and the list of families.
//!
//! To add one: write its file (declare the weights, apply them), add it to `Architecture` in
//! `tunesmith_formats::model_config` and to [`build`], and add a golden model to `tests/golden/make_models.py`.

use burn::tensor::Tensor;
use tunesmith_formats::model_config::{Activation, Architecture, ModelConfig};
use tunesmith_ops::{Orientation, Weight};

use crate::error::Result;
use crate::gpt_neox::GptNeoX;
use crate::gpt2::Gpt2;
use crate::linear::Linear;
use crate::llama::Llama;
use crate::pass::Pass;
use crate::t5::T5;

/// A decoder, with or without an encoder before it: embedding, blocks, last normalisation, head. Training, evaluation and cached decoding all run these
/// same functions; the [`Pass`] makes the difference.
pub(crate) trait Family: Send + Sync {
    /// Number of blocks.
    fn n_blocks(&self) -> usize;

    /// Whether the blocks are those of an encoder and then those of a decoder: the segments of a pass without a cache are by
    /// turns a source and the decoder's text for it, and one with a cache has only texts.
    fn has_encoder(&self) -> bool {
        false
    }

    /// The embedded tokens of the pass, [N,C].
    fn embed(&self, pass: &mut Pass<'_>) -> Tensor<2>;

    /// One block, [N,C] to [N,C].
    fn block(&self, block_idx: usize, x: Tensor<2>, pass: &mut Pass<'_>) -> Tensor<2>;

    /// With an encoder: keys and values [N,H,D] of each block of the decoder for a pass of sources alone.
    fn sources(&self, _: &mut Pass<'_>) -> Vec<(Tensor<3>, Tensor<3>)> {
        Vec::new()
    }

    /// The normalisation after the last block, [N,C] to [N,C].
    fn final_norm(&self, x: Tensor<2>, pass: &mut Pass<'_>) -> Tensor<2>;

    /// The output matrix, [V,C].
    fn head(&self, pass: &mut Pass<'_>) -> Weight;

    /// Bound c of the scores z of the next token, as c·tanh(z/c).
    fn logit_cap(&self) -> Option<f32> {
        None
    }

    /// The linear layers inside the blocks, in order.
    fn linears(&self) -> Vec<&Linear>;

    /// The same, to attach adapters to.
    fn linears_mut(&mut self) -> Vec<&mut Linear>;
}

/// A parameter that a family declares: name and shape on the hub.
#[derive(Debug, Clone)]
pub(crate) struct ParameterSpec {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
}

/// The parameters declared so far; an index is given for each.
#[derive(Debug, Default)]
pub(crate) struct Declarations {
    pub(crate) specs: Vec<ParameterSpec>,
    n_linears: usize,
}

impl Declarations {
    /// Declares one tensor.
    pub(crate) fn tensor(&mut self, name: impl Into<String>, shape: &[usize]) -> usize {
        self.specs.push(ParameterSpec { name: name.into(), shape: shape.to_vec() });
        self.specs.len() - 1
    }

    /// Declares the weight and perhaps the bias of a linear layer.
    pub(crate) fn linear(
        &mut self,
        path: String,
        in_features: usize,
        out_features: usize,
        has_bias: bool,
        orientation: Orientation,
    ) -> Linear {
        let shape = match orientation {
            Orientation::OutIn => [out_features, in_features],
            Orientation::InOut => [in_features, out_features],
        };
        let weight = self.tensor(format!("{path}.weight"), &shape);
        let bias = has_bias.then(|| self.tensor(format!("{path}.bias"), &[out_features]));
        let module_idx = self.n_linears;
        self.n_linears += 1;
        Linear { path, in_features, out_features, orientation, weight, bias, module_idx, adapter: None }
    }
}

/// The family of a configuration, whose reader has checked that its sizes fit together, and the parameters in order.
pub(crate) fn build(config: &ModelConfig) -> Result<(Box<dyn Family>, Vec<ParameterSpec>)> {
    let mut declarations = Declarations::default();
    let family: Box<dyn Family> = match config.architecture {
        Architecture::T5 => match &config.encoder_decoder {
            Some(parts) => Box::new(T5::new(config, parts, &mut declarations)),
            None => unreachable!("the reader of T5's configuration gives its encoder and decoder"),
        },
        Architecture::Gpt2 => Box::new(Gpt2::new(config, &mut declarations)),
        Architecture::GptNeoX => Box::new(GptNeoX::new(config, &mut declarations)?),
        _ => Box::new(Llama::new(config, &mut declarations)?),
    };
    Ok((family, declarations.specs))
}

/// The activation as the operations call it.
pub(crate) fn activation(activation: Activation) -> tunesmith_ops::Activation {
    match activation {
        Activation::Silu => tunesmith_ops::Activation::Silu,
        Activation::GeluTanh => tunesmith_ops::Activation::GeluTanh,
        Activation::Gelu => tunesmith_ops::Activation::Gelu,
        Activation::Relu => tunesmith_ops::Activation::Relu,
    }
}
