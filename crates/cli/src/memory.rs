//! How much memory training takes, from the shapes of a model and the settings alone: a rough figure to plan with.
//!
//! Everything is float32, 4 bytes a number. Full training keeps each weight, its gradient and two moments of AdamW; LoRA
//! keeps the weights once and four numbers for each of its own. A micro-batch is computed in slices; a token of a slice
//! costs the inner values of every block, or, with recomputation, those of one and a row of the model's width for each
//! (`tunesmith_models` has the formula).

use serde::Serialize;
use tunesmith_config::{BackboneDtype, ExperimentConfig, Packing};
use tunesmith_formats::model_source::{ModelSource, TensorInfo};
use tunesmith_models::{SLICE_TOKENS, slice_activation_bytes};

const N_BYTES: u64 = 4;
const N_COPIES_WHEN_TRAINED: u64 = 4;

/// Bytes that training takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct MemoryEstimate {
    /// Weights, gradients and moments when adapters are trained.
    pub(crate) lora_bytes: u64,
    /// Weights, gradients and moments when the whole model is trained.
    pub(crate) full_bytes: u64,
    /// For each token of a slice.
    pub(crate) activation_bytes_per_token: u64,
    /// For each token of a slice, with recomputation (`architecture.gradient_checkpointing`).
    pub(crate) recomputed_bytes_per_token: u64,
}

impl MemoryEstimate {
    /// The estimate for a model and adapters of rank `lora_r` on every linear layer of its blocks.
    pub(crate) fn of(source: &ModelSource, lora_r: usize) -> Self {
        let tensors = source.tensors();
        let n_parameters: u64 = tensors.iter().map(n_values).sum();
        // The blocks' weights have the block's number in their names; embedding and head have none.
        let is_in_block =
            |tensor: &&TensorInfo| tensor.name.split('.').any(|part| part.parse::<usize>().is_ok());
        let adapter_of = |tensor: &TensorInfo| match tensor.shape.as_slice() {
            [n_rows, n_columns] => lora_r as u64 * (*n_rows as u64 + *n_columns as u64),
            _ => 0,
        };
        let n_adapter: u64 = tensors.iter().filter(is_in_block).map(adapter_of).sum();
        let config = source.config();
        Self {
            lora_bytes: N_BYTES * (n_parameters + N_COPIES_WHEN_TRAINED * n_adapter),
            full_bytes: N_BYTES * N_COPIES_WHEN_TRAINED * n_parameters,
            activation_bytes_per_token: slice_activation_bytes(config, 1, 0),
            recomputed_bytes_per_token: slice_activation_bytes(config, 1, config.n_layers),
        }
    }

    /// The least that an experiment takes: a run that does not store all activations for want of memory computes them
    /// again, whether it is asked to or not.
    pub(crate) fn of_experiment(source: &ModelSource, config: &ExperimentConfig) -> u64 {
        let estimate = Self::of(source, config.training.lora_r);
        let weights = if config.training.lora { estimate.lora_bytes } else { estimate.full_bytes };
        // Samples are usually much shorter than the longest allowed; rows are as long.
        let n_tokens_of_a_sample = match config.training.packing {
            Packing::Samples => config.tokenizer.max_length / 4,
            Packing::Rows | Packing::Wrapped => config.tokenizer.max_length,
        };
        let n_tokens_of_a_slice =
            SLICE_TOKENS.max(n_tokens_of_a_sample).min(config.training.batch_size * n_tokens_of_a_sample);
        weights + estimate.recomputed_bytes_per_token * n_tokens_of_a_slice as u64
    }
}

/// What would take less memory than this experiment, in the words of its settings.
pub(crate) fn remedy(source: &ModelSource, config: &ExperimentConfig) -> String {
    let estimate = MemoryEstimate::of(source, config.training.lora_r);
    let mut less = Vec::new();
    if !config.training.lora {
        less.push(format!(
            "training.lora=true (weights and optimizer about {} instead of {})",
            human_bytes(estimate.lora_bytes),
            human_bytes(estimate.full_bytes)
        ));
    }
    if !config.architecture.gradient_checkpointing {
        less.push(format!(
            "architecture.gradient_checkpointing=true (about {} for each token computed at a time instead of {})",
            human_bytes(estimate.recomputed_bytes_per_token),
            human_bytes(estimate.activation_bytes_per_token)
        ));
    }
    if config.training.lora && config.architecture.backbone_dtype != BackboneDtype::Int4 {
        less.push("architecture.backbone_dtype=int4".to_owned());
    }
    less.push(format!("a tokenizer.max_length below {}", config.tokenizer.max_length));
    format!("less memory is taken by {}", less.join(", "))
}

fn n_values(tensor: &TensorInfo) -> u64 {
    tensor.shape.iter().map(|n| *n as u64).product()
}

/// Bytes in decimal units, as disks and memory are sold: `538 MB`.
pub(crate) fn human_bytes(n_bytes: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if n_bytes < 1000 {
        return format!("{n_bytes} bytes");
    }
    let mut value = n_bytes as f64 / 1000.0;
    let mut unit = "kB";
    for next in UNITS {
        unit = next;
        if value < 999.5 || next == "TB" {
            break;
        }
        value /= 1000.0;
    }
    let n_decimals = usize::from(value < 9.95);
    format!("{value:.n_decimals$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_read_well() {
        assert_eq!(human_bytes(0), "0 bytes");
        assert_eq!(human_bytes(999), "999 bytes");
        assert_eq!(human_bytes(1_500), "1.5 kB");
        assert_eq!(human_bytes(9_990), "10 kB");
        assert_eq!(human_bytes(999_600), "1.0 MB");
        assert_eq!(human_bytes(538_000_000), "538 MB");
        assert_eq!(human_bytes(2_150_000_000), "2.1 GB");
        assert_eq!(human_bytes(5_000_000_000_000_000), "5000 TB");
    }
}
