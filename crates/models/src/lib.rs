//! Language models, written once against [`tunesmith_ops`]: architectures, LoRA adapters, weight loading, one
//! training step, and merging.
//!
//! A model is a table of named weights ([`ParameterStore`]) and a family that says how they are applied. A family
//! writes its block once; whether the pass is for training, for evaluation or for decoding with a cache is decided by
//! the pass it is given. A new family costs one file and one line in the registry.
//!
//! Weights are kept without a graph. A training step makes tracked leaves of the trainable ones for as long as it
//! needs their gradients, so evaluation and generation cannot build a graph by accident, and an optimizer may update
//! the weights in place. A step goes through its batch in slices of whole segments and through the model block by block,
//! so that it holds the activations of one slice and no gradient twice. Nothing here loops over data, chooses tokens, or writes files.
//!
//! Symbols: N tokens of a batch laid end to end, C model width, H query heads, K key/value heads, D head width,
//! V vocabulary, R low rank, I/O input/output features.

mod backward;
mod causal_lm;
pub mod counter;
mod dora;
mod embedding_noise;
mod error;
mod family;
mod gpt2;
mod gpt_neox;
mod gradient_sums;
mod layer_norm;
mod linear;
mod llama;
mod loading;
mod lora;
mod merge;
mod objective;
mod on_disk;
mod parameters;
mod pass;
mod pissa;
mod projections;
mod recompute;
mod rope;
mod score_head;
mod score_loss;
mod scoring;
mod slices;
mod sparse_mlp;
mod step;
mod structure;
mod t5;

pub use causal_lm::CausalLm;
pub use embedding_noise::EmbeddingNoise;
pub use error::{ModelError, Result};
pub use gradient_sums::GradientSums;
pub use loading::{LoadOptions, format_as_in_file, kept_format};
pub use lora::{LoraAttached, LoraInit, LoraSpec};
pub use parameters::{Parameter, ParameterStore, read_back};
pub use pass::TokenBatch;
pub use recompute::{Recompute, block_activation_bytes, slice_activation_bytes};
pub use score_head::{ScoreHead, ScoreHeadKind, ScoreHeadSpec};
pub use score_loss::ScoreLoss;
pub use scoring::{ScoreLosses, ScoreStepResult};
pub use slices::SLICE_TOKENS;
pub use step::{LossPass, StepLosses, StepOptions, StepResult};
