//! How much memory training takes, before anything is loaded: to plan with, and to warn.

use serde::Serialize;
use tunesmith_config::{BackboneDtype, ExperimentConfig, Packing};
use tunesmith_formats::model_source::ModelSource;
use tunesmith_models::{SLICE_TOKENS, slice_activation_bytes};
use tunesmith_ops::Device;
use tunesmith_train::MemoryForecast;

/// Bytes that training takes, all numbers in float32.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct MemoryEstimate {
    /// Weights, gradients and moments when adapters are trained.
    pub(crate) lora_bytes: u64,
    /// Weights, gradients and moments when the whole model is trained.
    pub(crate) full_bytes: u64,
    /// For each token computed at a time.
    pub(crate) activation_bytes_per_token: u64,
    /// For each token computed at a time, with recomputation (`architecture.gradient_checkpointing`).
    pub(crate) recomputed_bytes_per_token: u64,
}

impl MemoryEstimate {
    /// The estimate for a model and adapters of rank `lora_r` on every linear layer of its blocks.
    pub(crate) fn of(source: &ModelSource, lora_r: usize) -> Self {
        let bytes = |lora: bool| {
            let mut config = ExperimentConfig::default();
            config.training.lora = lora;
            config.training.lora_r = lora_r;
            config.architecture.backbone_dtype = BackboneDtype::Float32;
            let forecast = MemoryForecast::of(source, &config, 1, &Device::flex());
            forecast.weight_bytes + forecast.training_bytes
        };
        let config = source.config();
        Self {
            lora_bytes: bytes(true),
            full_bytes: bytes(false),
            activation_bytes_per_token: slice_activation_bytes(config, 1, SLICE_TOKENS, 0),
            recomputed_bytes_per_token: slice_activation_bytes(config, 1, SLICE_TOKENS, config.n_layers),
        }
    }
}

/// The least that an experiment takes, before its data are read: a run that does not store all activations for want of
/// memory computes them again, whether it is asked to or not.
pub(crate) fn least_bytes(source: &ModelSource, config: &ExperimentConfig, device: &Device) -> u64 {
    // Samples are usually much shorter than the longest allowed; rows are as long.
    let longest_sample = match config.training.packing {
        Packing::Samples => config.tokenizer.max_length / 4,
        Packing::Rows | Packing::Wrapped => config.tokenizer.max_length,
    };
    MemoryForecast::least_bytes(source, config, longest_sample, device)
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
    if config.training.lora && !config.architecture.backbone_dtype.is_4_bit() {
        less.push("architecture.backbone_dtype=int4".to_owned());
    }
    less.push(format!("a tokenizer.max_length below {}", config.tokenizer.max_length));
    format!("less memory is taken by {}", less.join(", "))
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
    fn gv_11_2_sizes_read_well() {
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
