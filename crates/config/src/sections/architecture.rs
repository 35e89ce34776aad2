//! `architecture`: model weights and their number formats.

use super::{NOT_CLASSIFICATION_OR_REGRESSION, SEQUENCE_TO_SEQUENCE};
use crate::choices::{BackboneDtype, ScoreHead};
use crate::declare::fields;
use crate::field::facets;

fields! {
    /// Model weights and their number formats.
    pub struct Architecture in "architecture" {
        /// Starts from the backbone's trained weights; off, from random ones.
        pretrained: bool = true => facets().hidden();
        /// Number format of the backbone's weights. Training all weights wants `float32` or `bfloat16`; `int8`
        /// and `int4` save memory when only adapters are trained; `nf4` has the values of H2O LLM Studio's int4.
        /// With these three the embedding and the output head keep 16 bits.
        backbone_dtype: BackboneDtype = BackboneDtype::Int4
            => facets().default_for(&[(SEQUENCE_TO_SEQUENCE, "bfloat16")]);
        /// Forgets activations after the forward pass and computes them again in the backward pass: much less
        /// memory for about a third more time. Off, only as many are forgotten as the free memory demands. The
        /// results are the same.
        gradient_checkpointing: bool = true;
        /// Dropout probability inside the backbone while training. Llama-like models have no place for it.
        intermediate_dropout: f64 = 0.0
            => facets().at_least_below(0.0, 1.0).slider(0.0, 0.5, 0.05).open_grid(&[0.0, 0.05, 0.1, 0.15]);
        /// Weights to start from instead of the backbone's own: a PEFT adapter folder or a model folder, for
        /// example of an earlier experiment. Empty: the backbone's own.
        pretrained_weights: String = String::new();
        /// What classes and numbers are computed from. `hidden`: the model's last state at the last token, as
        /// transformers' sequence classifiers do; the result loads there. `logits`: the scores of all tokens of the
        /// vocabulary, as H2O LLM Studio does; a file without this field means that one.
        score_head: ScoreHead = ScoreHead::Hidden => facets().not_for(NOT_CLASSIFICATION_OR_REGRESSION);
    }
}
