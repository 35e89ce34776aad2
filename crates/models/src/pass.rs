//! One run through a model: the tokens, the weights as this run sees them, and where attention finds its keys.

use std::collections::BTreeMap;

use burn::tensor::{Gradients, Tensor};
use tunesmith_ops::{
    AttentionOptions, BiasOf, Compute, Dropout, KvCache, Segments, Weight, attention,
    attention_biased_cached, attention_cached, attention_to_sources,
};

use crate::counter::mix;
use crate::embedding_noise::EmbeddingNoise;
use crate::error::{ModelError, Result};
use crate::gradient_sums::GradientSums;
use crate::parameters::{Parameter, ParameterStore};

/// N tokens laid end to end: no padding, no batch dimension.
#[derive(Debug, Clone, Copy)]
pub struct TokenBatch<'a> {
    /// [N] token ids, each below V.
    pub ids: &'a [u32],
    /// [N] position of each token in its own sequence, counted from 0.
    pub positions: &'a [u32],
    /// Where each sequence begins and ends; attention never crosses a border. For a model with an encoder they are by turns a
    /// source and the decoder's text for it, which begins with the model's start token.
    pub segments: &'a Segments,
}

impl TokenBatch<'_> {
    /// Checks the lengths against each other and the values against the model's limits.
    pub(crate) fn check(&self, vocab_size: usize, context: usize) -> Result<()> {
        let n_tokens = self.ids.len();
        if n_tokens == 0 {
            return Err(ModelError::Batch { reason: "it has no tokens".to_owned() });
        }
        if self.positions.len() != n_tokens || self.segments.n_tokens() != n_tokens {
            return Err(ModelError::Batch {
                reason: format!(
                    "{n_tokens} ids, {} positions and segments of {} tokens",
                    self.positions.len(),
                    self.segments.n_tokens()
                ),
            });
        }
        if let Some((place, &id)) = self.ids.iter().enumerate().find(|&(_, &id)| id as usize >= vocab_size) {
            return Err(ModelError::TokenId { id, place, vocab_size });
        }
        match self.positions.iter().max() {
            Some(&last) if last as usize >= context => {
                Err(ModelError::TooLong { n_tokens: last as usize + 1, context })
            }
            _ => Ok(()),
        }
    }
}

impl TokenBatch<'_> {
    /// Checks that the segments are by turns a source and a text that begins with `start_id`, none of them empty.
    pub(crate) fn check_pairs(&self, start_id: u32) -> Result<()> {
        let wrong = |reason: String| Err(ModelError::Batch { reason });
        if !self.segments.len().is_multiple_of(2) {
            return wrong(format!("{} segments are no pairs of source and text", self.segments.len()));
        }
        for (segment_idx, range) in self.segments.ranges().enumerate() {
            match self.ids.get(range.start).filter(|_| !range.is_empty()) {
                None => return wrong(format!("segment {segment_idx}, a source or a text, has no tokens")),
                Some(&id) if segment_idx % 2 == 1 && id != start_id => {
                    return wrong(format!(
                        "a text begins with token {id}, not with the decoder's {start_id}"
                    ));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }
}

/// What the layers of a family ask for while they run.
pub(crate) struct Pass<'a> {
    pub(crate) tokens: TokenBatch<'a>,
    parameters: &'a ParameterStore,
    /// With gradients: the tracked leaf of every trainable parameter used so far.
    leaves: Option<BTreeMap<usize, Tensor<1>>>,
    /// `None` switches dropout off.
    dropout_key: Option<u64>,
    cache: Option<&'a mut KvCache>,
    has_used_trainable: bool,
    compute: Compute,
    noise: Option<EmbeddingNoise<'a>>,
}

impl<'a> Pass<'a> {
    /// A pass without a graph.
    pub(crate) fn plain(
        parameters: &'a ParameterStore,
        tokens: TokenBatch<'a>,
        dropout_key: Option<u64>,
    ) -> Self {
        Self {
            tokens,
            parameters,
            leaves: None,
            dropout_key,
            cache: None,
            has_used_trainable: false,
            compute: parameters.compute(),
            noise: None,
        }
    }

    /// A pass that can be differentiated with respect to the trainable parameters.
    pub(crate) fn tracked(
        parameters: &'a ParameterStore,
        tokens: TokenBatch<'a>,
        dropout_key: Option<u64>,
    ) -> Self {
        Self { leaves: Some(BTreeMap::new()), ..Self::plain(parameters, tokens, dropout_key) }
    }

    /// A pass without a graph whose tokens continue the sequences of a cache.
    pub(crate) fn cached(
        parameters: &'a ParameterStore,
        tokens: TokenBatch<'a>,
        cache: &'a mut KvCache,
    ) -> Self {
        Self { cache: Some(cache), ..Self::plain(parameters, tokens, None) }
    }

    /// The same pass with noise on the embeddings.
    pub(crate) fn with_noise(self, noise: Option<EmbeddingNoise<'a>>) -> Self {
        Self { noise, ..self }
    }

    /// The embedded tokens x [N,C] with this pass's noise, if it has some.
    pub(crate) fn noised(&self, x: Tensor<2>) -> Tensor<2> {
        match &self.noise {
            Some(noise) => noise.added_to(x, self.tokens.segments),
            None => x,
        }
    }

    /// A parameter as a flat tensor. Indices are those the family declared, so they are in the store.
    pub(crate) fn vector(&mut self, parameter_idx: usize) -> Tensor<1> {
        self.value_and_shape(parameter_idx).0
    }

    /// A two-dimensional parameter in its stored layout.
    pub(crate) fn matrix(&mut self, parameter_idx: usize) -> Tensor<2> {
        let (value, shape) = self.value_and_shape(parameter_idx);
        value.reshape([shape[0], shape[1]])
    }

    /// A matrix to multiply with, in the number format of the model's products.
    pub(crate) fn weight(&mut self, parameter_idx: usize) -> Weight {
        let parameter = self.parameter(parameter_idx);
        let weight = if parameter.trainable { self.matrix(parameter_idx).into() } else { parameter.weight() };
        weight.computed_in(self.compute)
    }

    /// A matrix outside of any graph and multiplied in float32, and whether it is trained.
    pub(crate) fn detached_weight(&self, parameter_idx: usize) -> (Weight, bool) {
        let parameter = self.parameter(parameter_idx);
        (parameter.weight(), parameter.trainable)
    }

    /// Causal attention of q [N,H,D] over k and v [N,K,D] within each segment, or over the cache and them.
    pub(crate) fn attention(
        &mut self,
        block_idx: usize,
        q: Tensor<3>,
        k: Tensor<3>,
        v: Tensor<3>,
        options: AttentionOptions,
    ) -> Tensor<3> {
        let options = AttentionOptions { compute: self.compute, ..options };
        match self.cache.as_deref_mut() {
            None => attention(q, k, v, self.tokens.segments, options),
            Some(cache) => attention_cached(q, k, v, self.tokens.segments, cache, block_idx, options),
        }
    }

    /// Whether the tokens continue the sequences of a cache.
    pub(crate) fn is_cached(&self) -> bool {
        self.cache.is_some()
    }

    /// The number format of products.
    pub(crate) fn compute(&self) -> Compute {
        self.compute
    }

    /// Attention with a bias over the cache of a layer and the new tokens [q, k, v]. Only for a pass with a cache.
    pub(crate) fn attention_biased_cached(
        &mut self,
        layer_idx: usize,
        qkv: [Tensor<3>; 3],
        bias: &mut BiasOf<'_>,
    ) -> Tensor<3> {
        let Some(cache) = self.cache.as_deref_mut() else { unreachable!("the caller has a cache") };
        attention_biased_cached(qkv, self.tokens.segments, cache, layer_idx, bias, self.compute)
    }

    /// Attention over the sources in the cache of a layer. Only for a pass with a cache.
    pub(crate) fn attention_to_sources(&self, layer_idx: usize, q: Tensor<3>) -> Tensor<3> {
        let Some(cache) = self.cache.as_deref() else { unreachable!("the caller has a cache") };
        attention_to_sources(q, self.tokens.segments, cache, layer_idx, self.compute)
    }

    /// Dropout at a place of a block, the same every time this pass is repeated.
    pub(crate) fn dropout_at(&self, probability: f32, block_idx: usize, place: usize) -> Option<Dropout> {
        // Beyond the numbers of modules.
        const FIRST: usize = 1 << 24;
        const PLACES_OF_A_BLOCK: usize = 16;
        self.dropout(probability, FIRST + PLACES_OF_A_BLOCK * block_idx + place)
    }

    /// Dropout for the low-rank branch of a module, the same every time this pass is repeated.
    pub(crate) fn dropout(&self, probability: f32, module_idx: usize) -> Option<Dropout> {
        let key = self.dropout_key.filter(|_| probability > 0.0)?;
        Some(Dropout { probability, key: mix(key, module_idx as u64) })
    }

    /// Whether anything computed so far depends on a trainable parameter.
    pub(crate) fn has_used_trainable(&self) -> bool {
        self.has_used_trainable
    }

    /// Adds the gradients of the parameters used in this pass to `sums`.
    pub(crate) fn collect_gradients(self, gradients: &mut Gradients, sums: &mut GradientSums) {
        for (parameter_idx, leaf) in self.leaves.unwrap_or_default() {
            if let Some(gradient) = leaf.grad_remove(gradients) {
                sums.add(parameter_idx, gradient);
            }
        }
    }

    fn parameter(&self, parameter_idx: usize) -> &'a Parameter {
        let parameters = self.parameters;
        match parameters.get(parameter_idx) {
            Some(parameter) => parameter,
            None => unreachable!("a family uses only parameters it has declared"),
        }
    }

    fn value_and_shape(&mut self, parameter_idx: usize) -> (Tensor<1>, &'a [usize]) {
        let parameter = self.parameter(parameter_idx);
        self.has_used_trainable |= parameter.trainable;
        let value = match &mut self.leaves {
            Some(leaves) if parameter.trainable => leaves
                .entry(parameter_idx)
                .or_insert_with(|| parameter.tensor().autodiff().require_grad())
                .clone(),
            _ => parameter.tensor(),
        };
        (value, &parameter.shape)
    }
}
