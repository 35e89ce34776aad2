//! Differentiable operations for training language models, as functions over Burn tensors.
//!
//! Every operation works on any Burn device, tracked by autodiff or not. Each file holds one operation: the formula
//! with its shapes, the public function, its derivative and a `…_composed` version written only with Burn's own
//! operations, which is what devices without an own kernel run and what the tests compare with.
//!
//! Symbols: N tokens of a batch (all samples laid end to end, no padding, no batch dimension), C model width,
//! H query heads, K key/value heads, D head width, V vocabulary, R low rank, I/O in/out features.

mod accumulate;
mod activation;
mod attention;
mod biased_attention;
mod check;
mod cpu;
mod cross_entropy;
mod device;
mod dropout;
mod embedding;
mod error;
mod kv_cache;
mod layer_norm;
mod linear;
mod norm;
mod optimizer;
mod optimizer_8bit;
pub mod profile;
mod roofline;
mod rotary;
mod routing;
mod scale;
mod seed;
mod segments;
mod self_test;
mod weight;

pub use accumulate::{accumulate, accumulate_composed};
pub use activation::{Activation, activation, activation_composed, gated, gated_composed};
pub use attention::{AttentionOptions, attention, attention_composed, capped};
pub use biased_attention::{
    BiasOf, BiasedAttention, attention_biased, attention_biased_cached, attention_to_sources,
};
pub use cross_entropy::{
    CrossEntropy, CrossEntropyOptions, cross_entropy_from_hidden, cross_entropy_from_hidden_composed,
    cross_entropy_from_hidden_with, cross_entropy_from_hidden_with_composed,
};
pub use device::{
    COMPILED_BACKENDS, DeviceInfo, choose_device, describe, frozen_format, is_cpu, multiplies_bf16,
    open_chosen, open_device, open_device_preferring, set_threads,
};
pub use dropout::{Dropout, dropout, dropout_composed};
pub use embedding::{embedding, embedding_composed};
pub use error::OpsError;
pub use kv_cache::{KvCache, attention_cached};
pub use layer_norm::{layer_norm, layer_norm_composed};
pub use linear::{LowRank, linear, linear_composed, linear_low_rank, linear_low_rank_composed};
pub use norm::{rms_norm, rms_norm_composed};
pub use optimizer::{Rule, State, sum_of_squares, update, update_composed};
pub use optimizer_8bit::{Moments8, update_8bit};
pub use roofline::{Peaks, measure_peaks};
pub use rotary::{RotaryTable, rotary, rotary_composed};
pub use routing::{add_to_rows, chosen_columns, largest_per_row, row_softmax, select_rows};
pub use scale::{scale_columns, scale_columns_composed};
pub use seed::{seed_gradient, seed_gradient_composed};
pub use segments::Segments;
pub use self_test::SelfTest;
pub use weight::{Bytes, Format, Orientation, StoredWeight, Weight, stored_weight, unpacked, unpacked_rows};

pub use tunesmith_kernels::Compute;
pub use tunesmith_platform::gpu::Chosen as ChosenDevice;

pub use burn::tensor::{Device, Tensor, TensorData};
