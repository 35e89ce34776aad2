//! A language model: its weights, its family, and everything one can ask of it.
//!
//! A model of encoder and decoder is one, too: it makes the next token of a text, with a source in view. Where it differs is
//! in what a batch holds ([`TokenBatch::segments`]) and in how decoding begins ([`CausalLm::encode`]).

use std::sync::Arc;

use burn::tensor::{Device, Tensor};
use tunesmith_formats::model_config::ModelConfig;
use tunesmith_formats::model_source::ModelSource;
use tunesmith_formats::peft::AdapterConfig;
use tunesmith_formats::safetensors_io::{NamedTensor, TensorPieces};
use tunesmith_ops::{Compute, Format, KvCache, Segments, capped, linear};

use crate::error::{ModelError, Result};
use crate::family::Family;
use crate::gradient_sums::GradientSums;
use crate::loading::LoadOptions;
use crate::lora::{self, LoraAttached, LoraSpec};
use crate::parameters::ParameterStore;
use crate::pass::{Pass, TokenBatch};
use crate::score_head::{ScoreHead, ScoreHeadKind};
use crate::slices::{Slice, slices};
use crate::step::{self, LossPass, StepLosses, StepOptions, StepResult};
use crate::{loading, merge, rope};

/// A causal language model on one device, alone or as the decoder behind an encoder.
pub struct CausalLm {
    config: ModelConfig,
    family: Box<dyn Family>,
    parameters: ParameterStore,
    /// The attached adapter's settings.
    adapter: Option<AdapterConfig>,
    pub(crate) score_head: Option<ScoreHead>,
    /// What each score is called, where that is known.
    pub(crate) score_labels: Vec<String>,
    /// Whether the weights have an output matrix over the vocabulary; a sequence classifier's have not.
    has_language_head: bool,
    end_ids: Vec<u32>,
    device: Device,
    frozen: Format,
}

impl CausalLm {
    /// Reads a model's weights onto a device; a sequence classifier's with its score head. Every weight of the architecture
    /// has to be there in the shape that the configuration says, and no other. All parameters are trainable at first.
    pub fn load(source: &ModelSource, device: &Device) -> Result<Self> {
        Self::load_with(source, device, &LoadOptions::default())
    }

    /// As [`Self::load`], with the weights kept and multiplied as `options` say; those stored in another format than
    /// float32 are not trainable.
    pub fn load_with(source: &ModelSource, device: &Device, options: &LoadOptions<'_>) -> Result<Self> {
        let device = device.clone().inner();
        let (family, specs) = loading::declared(source.config())?;
        let parameters = loading::load_parameters(source, &specs, &device, options)?;
        Self::assembled(source, family, parameters, device, options.frozen)
    }

    /// A model whose weights stay on the disk: each is read when it is used and dropped again, frozen matrices into the format
    /// `frozen` or, without one, exactly as they are stored. For a look at its outputs in the memory of its largest tensor;
    /// nothing is trainable but a score head. What it gives counts when [`Self::check_reads`] says so.
    pub fn on_disk(source: &Arc<ModelSource>, device: &Device, frozen: Option<Format>) -> Result<Self> {
        let device = device.clone().inner();
        let (family, specs) = loading::declared(source.config())?;
        let mut parameters = loading::parameters_on_disk(source, &specs, &device, frozen)?;
        parameters.set_trainable(|_| false);
        Self::assembled(source, family, parameters, device, frozen.unwrap_or(Format::F32))
    }

    /// A model of these parameters, without an adapter.
    fn assembled(
        source: &ModelSource,
        family: Box<dyn Family>,
        parameters: ParameterStore,
        device: Device,
        frozen: Format,
    ) -> Result<Self> {
        let score_head = ScoreHead::among(&parameters);
        Ok(Self {
            config: source.config().clone(),
            family,
            parameters,
            adapter: None,
            has_language_head: score_head.is_none(),
            score_head,
            score_labels: Vec::new(),
            end_ids: loading::end_ids(source)?,
            device,
            frozen,
        })
    }

    /// The first failure to read a weight of a model made by [`Self::on_disk`] since the last call.
    pub fn check_reads(&self) -> Result<()> {
        self.parameters.failure.check()
    }

    /// Changes the number format of the matrix products.
    pub fn compute_in(&mut self, compute: Compute) {
        self.parameters.compute = compute;
    }

    /// The format that frozen matrices were asked to be kept in.
    pub fn frozen_format(&self) -> Format {
        self.frozen
    }

    /// The model's configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Where the weights are; tensors are made there without a graph.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Number of blocks, which is the number of layers of a [`KvCache`] for this model; with an encoder [`Self::encode`] makes
    /// the cache.
    pub fn n_layers(&self) -> usize {
        self.family.n_blocks()
    }

    /// Whether there is an encoder before the decoder.
    pub fn has_encoder(&self) -> bool {
        self.family.has_encoder()
    }

    /// The token that a text of the decoder begins with, where there is an encoder.
    pub fn start_id(&self) -> Option<u32> {
        self.config.encoder_decoder.as_ref().map(|parts| parts.start_id)
    }

    /// Longest sequence in tokens.
    pub fn context_length(&self) -> usize {
        rope::context_length(&self.config)
    }

    /// Tokens that end a text, ascending: those of `config.json` and those of `generation_config.json`, where chat models
    /// often list more. The tokenizer may name another one.
    pub fn end_ids(&self) -> &[u32] {
        &self.end_ids
    }

    /// The weights.
    pub fn parameters(&self) -> &ParameterStore {
        &self.parameters
    }

    /// The weights, to update them.
    pub fn parameters_mut(&mut self) -> &mut ParameterStore {
        &mut self.parameters
    }

    /// Sets which parameters are trained, by name. A score head always is, and a head over the vocabulary beside one on the
    /// hidden state never, as it takes no part.
    pub fn set_trainable(&mut self, is_trainable: impl Fn(&str) -> bool) {
        let is_classifier = self.is_sequence_classifier();
        let head = self.config().architecture.head_name();
        self.parameters.set_trainable(|name| is_trainable(name) && !(is_classifier && name == head));
    }

    /// Full paths of the modules that LoRA adapts when no target is named: every linear layer (GPT-2: Conv1D) whose
    /// path does not contain `head`.
    pub fn linear_modules(&self) -> Vec<String> {
        self.family.linears().iter().map(|l| l.path.clone()).filter(|path| !path.contains("head")).collect()
    }

    /// Adds a fresh low-rank branch to the target modules and freezes all other weights. The model's outputs do not change.
    pub fn attach_lora(&mut self, spec: &LoraSpec) -> Result<LoraAttached> {
        self.require_no_adapter()?;
        let (config, attached) = lora::attach(
            self.family.as_mut(),
            &mut self.parameters,
            spec,
            self.config.architecture,
            &self.device,
        )?;
        self.adapter = Some(config);
        Ok(attached)
    }

    /// Adds the low-rank branches of a PEFT adapter, and the score head if it holds one, and freezes all other weights.
    pub fn load_adapter(
        &mut self,
        config: &AdapterConfig,
        tensors: Vec<NamedTensor>,
    ) -> Result<LoraAttached> {
        self.require_no_adapter()?;
        let (head, tensors) = lora::without_score_head(tensors);
        if let Some(head) = &head {
            self.stored_score_head(head)?;
        }
        let attached =
            lora::attach_loaded(self.family.as_mut(), &mut self.parameters, config, tensors, &self.device)?;
        self.adapter = Some(AdapterConfig { inference_mode: true, ..config.clone() });
        if let Some(head) = head {
            self.load_score_head(head)?;
        }
        Ok(attached)
    }

    /// Whether an adapter is attached.
    pub fn has_adapter(&self) -> bool {
        self.adapter.is_some()
    }

    /// The attached adapter's settings as PEFT writes them, with a score head on the hidden state as a module stored
    /// whole. A fresh adapter does not know `base_model_name_or_path`; the caller sets it.
    pub fn adapter_config(&self) -> Result<AdapterConfig> {
        let config = self.adapter.clone().ok_or(ModelError::AdapterAbsent)?;
        let config = lora::settings_of_tensors(config, self.family.as_ref());
        Ok(if self.is_sequence_classifier() { lora::with_score_head(config) } else { config })
    }

    /// The attached adapter's weights under PEFT's names, and those of a score head on the hidden state.
    pub fn adapter_tensors(&self) -> Result<Vec<NamedTensor>> {
        if self.adapter.is_none() {
            return Err(ModelError::AdapterAbsent);
        }
        let mut tensors = lora::adapter_tensors(self.family.as_ref(), &self.parameters)?;
        if self.is_sequence_classifier() {
            tensors.push(lora::in_peft_form(self.score_head_tensor()?));
        }
        Ok(tensors)
    }

    /// The base model's weights in hub names and layouts with the adapter folded in (W + s·B·A, and the rows' own
    /// lengths), one at a time. With a
    /// score head on the hidden state they are those of transformers' sequence classifier; one on logits is not among
    /// them, see [`Self::score_head_tensor`].
    pub fn merged_tensors(&self) -> impl Iterator<Item = Result<NamedTensor>> + '_ {
        self.merged_pieces().map(|TensorPieces { name, shape, pieces }| {
            let data = pieces.collect::<Result<Vec<_>>>()?.concat();
            Ok(NamedTensor { name, shape, data })
        })
    }

    /// The same with the values of large weights in pieces.
    pub fn merged_pieces(&self) -> impl Iterator<Item = TensorPieces<'_, ModelError>> + '_ {
        let is_classifier = self.is_sequence_classifier();
        merge::merged_pieces(self.family.as_ref(), &self.parameters, move |name| {
            match ScoreHeadKind::of_weight(name) {
                Some(_) => is_classifier,
                None => !(is_classifier && name == self.config().architecture.head_name()),
            }
        })
    }

    /// Output of the last normalisation, [N,C], without a graph. A `dropout_key` applies the adapter's dropout as a
    /// training step of that key does.
    pub fn hidden(&self, tokens: &TokenBatch<'_>, dropout_key: Option<u64>) -> Result<Tensor<2>> {
        self.check(tokens)?;
        let hidden = self.slices(tokens.segments).into_iter().map(|slice| {
            let dropout_key = dropout_key.map(|key| slice.dropout_key(key));
            let mut pass = Pass::plain(&self.parameters, slice.tokens(*tokens), dropout_key);
            let x = self.run_blocks(&mut pass);
            self.family.final_norm(x, &mut pass)
        });
        Ok(Tensor::cat(hidden.collect(), 0))
    }

    /// The same for tokens that continue the sequences of a cache (one segment for each), which is extended by them.
    /// Positions count on from the cache's lengths.
    pub fn hidden_cached(&self, tokens: &TokenBatch<'_>, cache: &mut KvCache) -> Result<Tensor<2>> {
        self.require_language_head()?;
        self.check_tokens(tokens)?;
        let n_sequences = cache.lengths().len();
        if tokens.segments.len() != n_sequences {
            return Err(ModelError::Batch {
                reason: format!("{} segments for a cache of {n_sequences} sequences", tokens.segments.len()),
            });
        }
        let mut pass = Pass::cached(&self.parameters, *tokens, cache);
        let x = self.run_blocks(&mut pass);
        Ok(self.family.final_norm(x, &mut pass))
    }

    /// Encodes sources for a cache whose sequences are the texts that the decoder is to make of them. The first token of each
    /// is [`Self::start_id`].
    ///
    /// # Errors
    /// [`ModelError::EncoderAbsent`]; [`ModelError::Batch`] for a source without tokens.
    pub fn encode(&self, sources: &TokenBatch<'_>) -> Result<KvCache> {
        if !self.has_encoder() {
            return Err(ModelError::EncoderAbsent);
        }
        self.check_tokens(sources)?;
        if sources.segments.ranges().any(|source| source.is_empty()) {
            return Err(ModelError::Batch { reason: "a source has no tokens".to_owned() });
        }
        let mut of_slices: Vec<Vec<(Tensor<3>, Tensor<3>)>> = Vec::new();
        for slice in slices(sources.segments, 1) {
            let mut pass = Pass::plain(&self.parameters, slice.tokens(*sources), None);
            of_slices.push(self.family.sources(&mut pass));
        }
        let n_layers = of_slices.first().map_or(0, Vec::len);
        let of_layer = |layer_idx: usize| {
            let (keys, values) = of_slices.iter().filter_map(|layers| layers.get(layer_idx).cloned()).unzip();
            (Tensor::cat(keys, 0), Tensor::cat(values, 0))
        };
        Ok(KvCache::with_sources(sources.segments, (0..n_layers).map(of_layer).collect()))
    }

    /// Scores of the next token, [N,V], from the output of [`Self::hidden`], without a graph.
    pub fn logits(&self, hidden: Tensor<2>) -> Tensor<2> {
        let nothing = tunesmith_ops::Segments::new(&[]);
        let tokens = TokenBatch { ids: &[], positions: &[], segments: &nothing };
        let mut pass = Pass::plain(&self.parameters, tokens, None);
        self.logits_in(hidden, &mut pass)
    }

    /// The same within a pass, in its graph if it has one.
    pub(crate) fn logits_in(&self, hidden: Tensor<2>, pass: &mut Pass<'_>) -> Tensor<2> {
        capped(linear(hidden, self.family.head(pass), None), self.family.logit_cap())
    }

    /// Cross-entropy of the labels (at t the id that should come after token t, or -100), without a graph or dropout.
    pub fn losses(&self, tokens: &TokenBatch<'_>, labels: &[i64], weights: &[f32]) -> Result<StepLosses> {
        self.losses_in(tokens, labels, weights, LossPass::Evaluation)
    }

    /// The same in the pass that `which` names. What is used of the losses as log-probabilities, −cross-entropy, is then
    /// trained by [`Self::add_gradients`] with the derivatives of a loss over them as weights.
    pub fn losses_in(
        &self,
        tokens: &TokenBatch<'_>,
        labels: &[i64],
        weights: &[f32],
        which: LossPass<'_>,
    ) -> Result<StepLosses> {
        self.check_labelled(tokens, labels, weights)?;
        which.check(tokens.segments)?;
        step::losses(self, *tokens, labels, weights, which)
    }

    /// The loss Σ weight·cross-entropy and its gradients with respect to all trainable parameters.
    pub fn loss_and_gradients(
        &self,
        tokens: &TokenBatch<'_>,
        labels: &[i64],
        weights: &[f32],
        options: &StepOptions<'_>,
    ) -> Result<StepResult> {
        let mut sums = GradientSums::default();
        let StepLosses { loss, per_token } =
            self.add_gradients(tokens, labels, weights, options, &mut sums)?;
        Ok(StepResult { loss, per_token, gradients: sums.into_gradients(&self.parameters) })
    }

    /// The same, with the gradients added to `sums`: those of several batches take no more memory than those of one.
    pub fn add_gradients(
        &self,
        tokens: &TokenBatch<'_>,
        labels: &[i64],
        weights: &[f32],
        options: &StepOptions<'_>,
        sums: &mut GradientSums,
    ) -> Result<StepLosses> {
        self.check_labelled(tokens, labels, weights)?;
        options.check(tokens.segments)?;
        step::add_gradients(self, *tokens, labels, weights, options, sums)
    }

    pub(crate) fn family(&self) -> &dyn Family {
        self.family.as_ref()
    }

    fn require_no_adapter(&self) -> Result<()> {
        if self.adapter.is_some() { Err(ModelError::AdapterPresent) } else { Ok(()) }
    }

    fn is_sequence_classifier(&self) -> bool {
        self.score_head.is_some_and(|head| !head.kind.is_on_logits())
    }

    pub(crate) fn require_language_head(&self) -> Result<()> {
        if self.has_language_head { Ok(()) } else { Err(ModelError::LanguageHeadAbsent) }
    }

    /// The slices of a batch of this model.
    pub(crate) fn slices(&self, segments: &Segments) -> Vec<Slice> {
        slices(segments, if self.has_encoder() { 2 } else { 1 })
    }

    pub(crate) fn check(&self, tokens: &TokenBatch<'_>) -> Result<()> {
        self.check_tokens(tokens)?;
        match self.start_id() {
            Some(start_id) => tokens.check_pairs(start_id),
            None => Ok(()),
        }
    }

    fn check_tokens(&self, tokens: &TokenBatch<'_>) -> Result<()> {
        tokens.check(self.config.vocab_size, self.context_length())
    }

    fn check_labelled(&self, tokens: &TokenBatch<'_>, labels: &[i64], weights: &[f32]) -> Result<()> {
        self.require_language_head()?;
        self.check(tokens)?;
        step::check_labels(tokens.ids.len(), labels, weights, self.config.vocab_size)
    }

    pub(crate) fn run_blocks(&self, pass: &mut Pass<'_>) -> Tensor<2> {
        let x = self.family.embed(pass);
        let x = pass.noised(x);
        (0..self.family.n_blocks()).fold(x, |x, block_idx| self.family.block(block_idx, x, pass))
    }
}
