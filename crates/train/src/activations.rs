//! How much memory a run gives to activations: whether blocks store theirs or are run again in the backward pass.
//!
//! Both ways compute the same bits, so the choice may follow the machine, and a run may be resumed on another one.

use tunesmith_config::{ExperimentConfig, Packing};
use tunesmith_models::{CausalLm, Recompute, SLICE_TOKENS, slice_activation_bytes};

/// What is done with the activations of a run.
#[derive(Debug)]
pub(crate) struct ActivationPlan {
    pub(crate) recompute: Recompute,
    /// What the user should know about it.
    pub(crate) note: Option<String>,
}

impl ActivationPlan {
    /// The plan for a model that is loaded, its optimizer made, and samples of at most `longest_sample` tokens:
    /// `architecture.gradient_checkpointing` if it is on, else as much as fits into the memory that is free on the device.
    pub(crate) fn of(
        config: &ExperimentConfig,
        model: &CausalLm,
        longest_sample: usize,
        free_bytes: Option<u64>,
    ) -> Self {
        if config.architecture.gradient_checkpointing {
            return Self { recompute: Recompute::EveryBlock, note: None };
        }
        match free_bytes {
            Some(available) => {
                let n_tokens = largest_slice(config, longest_sample);
                let budget = budget_bytes(available, model.parameters().n_trainable());
                Self::to_fit(budget, model, n_tokens, longest_sample)
            }
            None => Self { recompute: Recompute::Off, note: None },
        }
    }

    fn to_fit(activation_bytes: u64, model: &CausalLm, n_tokens: usize, longest: usize) -> Self {
        let recompute = Recompute::ToFit { activation_bytes };
        let n_recomputed = recompute.n_blocks(model.config(), n_tokens, longest);
        let note = (n_recomputed > 0).then(|| {
            format!(
                "{n_recomputed} of {} blocks run a second time in the backward pass, to save memory: storing the \
                 activations of {n_tokens} tokens takes about {} MB and {} MB are left for them; the results are the \
                 same",
                model.n_layers(),
                megabytes(slice_activation_bytes(model.config(), n_tokens, longest, 0)),
                megabytes(activation_bytes)
            )
        });
        Self { recompute, note }
    }
}

/// What activations may take of the `available` bytes: a part, since other programs and the buffers inside of operations
/// need some, of what the gradients and two moments of the trained numbers leave. The moments may be there already, but
/// zeros take no memory before they are first written.
fn budget_bytes(available: u64, n_trainable: usize) -> u64 {
    const BYTES_PER_TRAINED: u64 = 4 * 3;
    available.saturating_sub(BYTES_PER_TRAINED * n_trainable as u64) / 100 * 60
}

/// Upper bound of the tokens that are computed together.
pub(crate) fn largest_slice(config: &ExperimentConfig, longest_sample: usize) -> usize {
    let max_length = config.tokenizer.max_length;
    let (segment, row) = match config.training.packing {
        Packing::Samples => (longest_sample, longest_sample),
        Packing::Rows => (longest_sample, max_length.max(longest_sample)),
        Packing::Wrapped => (max_length, max_length),
    };
    let micro_batch = row.saturating_mul(config.training.batch_size.max(1));
    SLICE_TOKENS.max(segment).min(micro_batch)
}

fn megabytes(n_bytes: u64) -> u64 {
    n_bytes.div_ceil(1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_is_no_larger_than_its_batch() {
        let mut config = ExperimentConfig::default();
        config.training.batch_size = 2;
        config.tokenizer.max_length = 1024;
        assert_eq!(largest_slice(&config, 100), 200);
        assert_eq!(largest_slice(&config, 300), SLICE_TOKENS);
        assert_eq!(largest_slice(&config, 900), 900);
        config.training.packing = Packing::Rows;
        assert_eq!(largest_slice(&config, 100), SLICE_TOKENS);
        config.training.packing = Packing::Wrapped;
        assert_eq!(largest_slice(&config, 100), 1024);
    }

    #[test]
    fn the_optimizer_comes_first() {
        assert_eq!(budget_bytes(1000, 0), 600);
        assert_eq!(budget_bytes(2200, 100), 600);
        assert_eq!(budget_bytes(1000, 100), 0);
    }

    #[test]
    fn blocks_that_run_again_are_told() {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/llama-mha");
        let source = tunesmith_formats::model_source::ModelSource::open(source.as_ref()).unwrap();
        let model = CausalLm::load(&source, &tunesmith_ops::open_device("cpu").unwrap()).unwrap();
        let roomy = ActivationPlan::to_fit(1 << 40, &model, 512, 512);
        assert!(roomy.note.is_none());
        let all = slice_activation_bytes(model.config(), 512, 512, 0);
        let tight = ActivationPlan::to_fit(all - 1, &model, 512, 512);
        assert_eq!(tight.recompute.n_blocks(model.config(), 512, 512), 1);
        assert!(tight.note.unwrap().starts_with("1 of 2 blocks run a second time in the backward pass"));
    }
}
