//! How much memory a run will take at its peak, from the shapes of the model, the settings and the length of the samples.
//!
//! Measured on the CPU it is within a tenth for a model of 135 million weights (`docs/performance.md` has the runs). Loading,
//! exporting and reading back convert large matrices some rows at a time, so what they take for a moment is within the
//! program's share.

use serde::Serialize;
use tunesmith_config::{ExperimentConfig, LoraInit};
use tunesmith_formats::model_source::{ModelSource, TensorInfo};
use tunesmith_models::{Recompute, kept_format, slice_activation_bytes};
use tunesmith_ops::Device;

use crate::activations::largest_slice;
use crate::number_formats::NumberFormats;
use crate::optimizer::state_bytes;
use crate::trainability::Trainability;

const F32_BYTES: u64 = 4;
/// The program itself, its tokenizer, the samples, and what operations use for a moment.
const PROGRAM_BYTES: u64 = 170_000_000;

/// Bytes by what they are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct MemoryForecast {
    /// The model's weights and those of adapters.
    pub weight_bytes: u64,
    /// Gradients, and what the optimizer keeps of them.
    pub training_bytes: u64,
    /// What the forward pass keeps for the backward pass.
    pub activation_bytes: u64,
    /// Everything else.
    pub program_bytes: u64,
}

impl MemoryForecast {
    /// The forecast for a run on `device` whose longest sample has `longest_sample` tokens.
    pub fn of(
        source: &ModelSource,
        config: &ExperimentConfig,
        longest_sample: usize,
        device: &Device,
    ) -> Self {
        let trainability = Trainability::of(&config.training);
        let frozen = NumberFormats::of(config, device).frozen;
        let tensors = source.tensors();
        let mut trained: Vec<u64> =
            tensors.iter().filter(|tensor| trainability.trains(&tensor.name)).map(n_values).collect();
        let mut adapter_values = 0;
        if config.training.lora {
            for tensor in tensors.iter().filter(|tensor| is_in_block(tensor) && takes_adapter(source, tensor))
            {
                let own = adapter_parts(tensor, config);
                adapter_values += own.iter().sum::<u64>();
                trained.extend(own);
            }
        }
        // What a branch started with is kept beside what it is.
        let n_kept = if config.training.lora_init == LoraInit::Pissa { 2 } else { 1 };
        let weights: u64 = tensors
            .iter()
            .map(|tensor| {
                let TensorInfo { name, shape, dtype, .. } = tensor;
                let format = kept_format(name, shape, *dtype, frozen, trainability.trains(name));
                n_values(tensor) * format.block_bytes() as u64 / format.block_values() as u64
            })
            .sum();
        let state = |n_values: &u64| state_bytes(config.training.optimizer, *n_values);
        let state_bytes: u64 = trained.iter().map(state).sum();
        let n_trained: u64 = trained.iter().sum();
        // Gradients of embedding and head are dense, and exist for a slice besides their sum.
        let dense: u64 = tensors
            .iter()
            .filter(|tensor| {
                !is_in_block(tensor) && tensor.shape.len() == 2 && trainability.trains(&tensor.name)
            })
            .map(|tensor| 3 * n_values(tensor))
            .sum();
        let n_tokens = largest_slice(config, longest_sample);
        let recompute =
            if config.architecture.gradient_checkpointing { Recompute::EveryBlock } else { Recompute::Off };
        let n_recomputed = recompute.n_blocks(source.config(), n_tokens, longest_sample);
        Self {
            weight_bytes: weights + F32_BYTES * n_kept * adapter_values,
            training_bytes: F32_BYTES * (n_trained + dense) + state_bytes,
            activation_bytes: slice_activation_bytes(source.config(), n_tokens, longest_sample, n_recomputed),
            program_bytes: PROGRAM_BYTES,
        }
    }

    /// All of it.
    pub fn total_bytes(&self) -> u64 {
        self.weight_bytes + self.training_bytes + self.activation_bytes + self.program_bytes
    }

    /// The forecast in a sentence, besides what is free now.
    pub(crate) fn describe(&self, available_bytes: Option<u64>) -> String {
        let gigabytes = |n_bytes: u64| n_bytes as f64 / 1e9;
        let free = available_bytes.map_or_else(String::new, |n| format!("; {:.1} GB are free", gigabytes(n)));
        format!(
            "memory at the peak about {:.2} GB: weights {:.2}, gradients and optimizer {:.2}, activations {:.2}, the \
             program {:.2}{free}",
            gigabytes(self.total_bytes()),
            gigabytes(self.weight_bytes),
            gigabytes(self.training_bytes),
            gigabytes(self.activation_bytes),
            gigabytes(self.program_bytes)
        )
    }

    /// What the run takes at least: every block is run again instead of keeping its activations, which a run does by itself
    /// where memory is short.
    pub fn least_bytes(
        source: &ModelSource,
        config: &ExperimentConfig,
        longest_sample: usize,
        device: &Device,
    ) -> u64 {
        let forecast = Self::of(source, config, longest_sample, device);
        let n_tokens = largest_slice(config, longest_sample);
        let recomputed =
            slice_activation_bytes(source.config(), n_tokens, longest_sample, source.config().n_layers);
        forecast.total_bytes() - forecast.activation_bytes + recomputed.min(forecast.activation_bytes)
    }
}

fn n_values(tensor: &TensorInfo) -> u64 {
    tensor.shape.iter().map(|n| *n as u64).product()
}

/// The blocks' weights have the block's number in their names; embedding and head have none.
fn is_in_block(tensor: &TensorInfo) -> bool {
    tensor.name.split('.').any(|part| part.parse::<usize>().is_ok())
}

/// Adapters go on every matrix of a block that multiplies, but in models with experts on attention only.
fn takes_adapter(source: &ModelSource, tensor: &TensorInfo) -> bool {
    let is_looked_up = tensor.name.contains("relative_attention_bias");
    !is_looked_up && (source.config().experts.is_none() || !tensor.name.contains(".mlp."))
}

/// Values of the parts of an adapter on this tensor, if it is a matrix.
fn adapter_parts(tensor: &TensorInfo, config: &ExperimentConfig) -> Vec<u64> {
    let rank = config.training.lora_r as u64;
    match tensor.shape.as_slice() {
        [n_rows, n_columns] => {
            let (n_rows, n_columns) = (*n_rows as u64, *n_columns as u64);
            let lengths = config.training.use_dora.then_some(n_rows);
            [rank * n_rows, rank * n_columns].into_iter().chain(lengths).collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tunesmith_config::Optimizer;

    use super::*;

    fn forecast(changes: &[(&str, &str)]) -> MemoryForecast {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/llama-mha");
        let mut config = ExperimentConfig::default();
        for (field, value) in [("architecture.backbone_dtype", "float32")].iter().chain(changes) {
            config.set(field, value).unwrap();
        }
        MemoryForecast::of(&ModelSource::open(&path).unwrap(), &config, 100, &Device::flex())
    }

    /// Embedding and head in 16 bits, blocks of a file as they are: what is foretold is what the loaded weights take.
    #[test]
    fn weights_take_what_is_foretold_to_the_byte() {
        let device = Device::flex();
        for name in
            ["llama-mha", "llama3-rope", "gpt2", "t5-gated", "gguf/llama-blocks.gguf", "gguf/llama-five.gguf"]
        {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(name);
            let source = ModelSource::open(&path).unwrap();
            for dtype in ["float32", "bfloat16", "float16", "int8", "int4", "nf4"] {
                let mut config = ExperimentConfig::default();
                config.set("training.lora", "true").unwrap();
                config.set("architecture.backbone_dtype", dtype).unwrap();
                let trainability = Trainability::of(&config.training);
                let is_trained = |name: &str| trainability.trains(name);
                let options = NumberFormats::of(&config, &device).load_options(&is_trained);
                let mut model = tunesmith_models::CausalLm::load_with(&source, &device, &options).unwrap();
                let r = config.training.lora_r;
                model.attach_lora(&tunesmith_models::LoraSpec { r, ..Default::default() }).unwrap();
                let of_parameter = |parameter: &tunesmith_models::Parameter| match parameter.stored() {
                    Some(stored) => stored.n_bytes() as u64,
                    None => F32_BYTES * parameter.n_values() as u64,
                };
                let taken: u64 = model.parameters().iter().map(of_parameter).sum();
                let foretold = MemoryForecast::of(&source, &config, 100, &device).weight_bytes;
                assert_eq!(foretold, taken, "{name} {dtype}");
            }
        }
    }

    #[test]
    fn every_choice_takes_what_it_should() {
        let lora = forecast(&[("training.lora", "true"), ("architecture.gradient_checkpointing", "false")]);
        let int8 = forecast(&[
            ("training.lora", "true"),
            ("architecture.gradient_checkpointing", "false"),
            ("architecture.backbone_dtype", "int8"),
        ]);
        assert!(int8.weight_bytes < lora.weight_bytes && int8.training_bytes == lora.training_bytes);
        let full = forecast(&[("training.lora", "false"), ("architecture.gradient_checkpointing", "false")]);
        assert!(2 * full.weight_bytes < full.training_bytes, "gradients and two moments: {full:?}");
        let sgd = forecast(&[
            ("training.lora", "false"),
            ("training.optimizer", "SGD"),
            ("architecture.gradient_checkpointing", "false"),
        ]);
        assert_eq!(full.training_bytes - sgd.training_bytes, full.weight_bytes, "one state less");
        let small = forecast(&[
            ("training.lora", "false"),
            ("training.optimizer", "AdamW8bit"),
            ("architecture.gradient_checkpointing", "false"),
        ]);
        // All matrices of this model have fewer than 4096 values and keep whole moments.
        assert_eq!(small.training_bytes, full.training_bytes);
        assert_eq!(state_bytes(Optimizer::AdamW8bit, 8192), 2 * (8192 + 4 * 32));
        assert_eq!(state_bytes(Optimizer::AdamW8bit, 4095), 2 * 4 * 4095);
        let twofold = forecast(&[
            ("training.lora", "true"),
            ("training.lora_init", "pissa"),
            ("training.use_dora", "true"),
            ("architecture.gradient_checkpointing", "false"),
        ]);
        assert!(twofold.weight_bytes > lora.weight_bytes && twofold.training_bytes > lora.training_bytes);
        let again = forecast(&[("training.lora", "true"), ("architecture.gradient_checkpointing", "true")]);
        assert!(again.activation_bytes < lora.activation_bytes);
        assert_eq!(
            lora.total_bytes(),
            lora.weight_bytes + lora.training_bytes + lora.activation_bytes + lora.program_bytes
        );
    }
}
