//! How much memory training takes, from the shapes of a model and the settings alone: a rough figure to plan with.
//!
//! Everything is float32, 4 bytes a number. Full training keeps each weight, its gradient and two moments of AdamW; LoRA
//! keeps the weights once and four numbers for each of its own. A token of a micro-batch costs the inner values of a
//! block, about twelve rows of the model's width and four of the inner width; for every block, or, with recomputation, for
//! one of them and a row of the model's width for each other. On SmolLM2-135M the figure is within a tenth of the peak
//! that the program measures.

use serde::Serialize;
use tunesmith_config::{ExperimentConfig, Packing};
use tunesmith_formats::model_source::{ModelSource, TensorInfo};

const N_BYTES: u64 = 4;
const N_COPIES_WHEN_TRAINED: u64 = 4;

/// Bytes that training takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct MemoryEstimate {
    /// Weights, gradients and moments when adapters are trained.
    pub(crate) lora_bytes: u64,
    /// Weights, gradients and moments when the whole model is trained.
    pub(crate) full_bytes: u64,
    /// For each token of a micro-batch.
    pub(crate) activation_bytes_per_token: u64,
    /// For each token of a micro-batch, with recomputation (`architecture.gradient_checkpointing`).
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
        let (n_blocks, width) = (config.n_layers as u64, config.hidden_size as u64);
        let block = 12 * width + 4 * config.intermediate_size as u64;
        Self {
            lora_bytes: N_BYTES * (n_parameters + N_COPIES_WHEN_TRAINED * n_adapter),
            full_bytes: N_BYTES * N_COPIES_WHEN_TRAINED * n_parameters,
            activation_bytes_per_token: N_BYTES * n_blocks * block,
            recomputed_bytes_per_token: N_BYTES * (n_blocks * width + block),
        }
    }

    /// The estimate for an experiment, its micro-batches as large as they can be.
    pub(crate) fn of_experiment(source: &ModelSource, config: &ExperimentConfig) -> u64 {
        let estimate = Self::of(source, config.training.lora_r);
        let weights = if config.training.lora { estimate.lora_bytes } else { estimate.full_bytes };
        let per_token = if config.architecture.gradient_checkpointing {
            estimate.recomputed_bytes_per_token
        } else {
            estimate.activation_bytes_per_token
        };
        // Samples are usually much shorter than the longest allowed; rows are as long.
        let n_tokens_of_a_sample = match config.training.packing {
            Packing::Samples => config.tokenizer.max_length / 4,
            Packing::Rows | Packing::Wrapped => config.tokenizer.max_length,
        };
        weights + per_token * (config.training.batch_size * n_tokens_of_a_sample) as u64
    }
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
