//! `environment`: devices, threads, seeds.

use super::SEQUENCE_TO_SEQUENCE;
use crate::choices::{DeepspeedMethod, MixedPrecisionDtype};
use crate::declare::fields;
use crate::field::{facets, is};

const BUCKET_SIZE: usize = 1_000_000;

fields! {
    /// Devices, threads, seeds.
    pub struct Environment in "environment" {
        /// Numbers of the GPUs to train on, as texts. Where `device` does not give a number itself, the first of the list is
        /// the one that is used; on the CPU the list means nothing. A file that lists none and has no `device` means the CPU,
        /// as H2O LLM Studio writes an experiment of a machine without a GPU.
        gpus: Vec<String> = Vec::new();
        /// Computes matrix products in a 16-bit format, which is faster, while weights keep their format and sums are
        /// float32.
        mixed_precision: bool = true => facets().default_for(&[(SEQUENCE_TO_SEQUENCE, "false")]);
        /// The 16-bit format of mixed precision.
        mixed_precision_dtype: MixedPrecisionDtype = MixedPrecisionDtype::Bfloat16
            => facets().when(&[is("mixed_precision", "true")]);
        /// Translates the model ahead of training. There is nothing to translate in a native program.
        compile_model: bool = false;
        /// Spreads optimizer state and weights over several GPUs.
        use_deepspeed: bool = false;
        /// What is spread: optimizer state and gradients (ZeRO2), or the weights as well (ZeRO3).
        deepspeed_method: DeepspeedMethod = DeepspeedMethod::Zero2
            => facets().when(&[is("use_deepspeed", "true")]);
        /// Numbers gathered at once.
        deepspeed_allgather_bucket_size: usize = BUCKET_SIZE
            => facets().at_least(0.0).spin(1e6, 1e6).when(&[is("use_deepspeed", "true"), is("deepspeed_method", "ZeRO2")]);
        /// Gradient numbers summed over the GPUs at once.
        deepspeed_reduce_bucket_size: usize = BUCKET_SIZE
            => facets().at_least(0.0).spin(1e6, 1e6).when(&[is("use_deepspeed", "true")]);
        /// Weights fetched ahead of their use, in numbers.
        deepspeed_stage3_prefetch_bucket_size: usize = BUCKET_SIZE
            => facets().at_least(0.0).spin(1e6, 1e6).when(&[is("use_deepspeed", "true"), is("deepspeed_method", "ZeRO3")]);
        /// Weights smaller than this many numbers are not spread.
        deepspeed_stage3_param_persistence_threshold: usize = BUCKET_SIZE
            => facets().at_least(0.0).spin(1e6, 1e6).when(&[is("use_deepspeed", "true"), is("deepspeed_method", "ZeRO3")]);
        /// Tolerates weights without gradients when several GPUs train.
        find_unused_parameters: bool = false;
        /// Lets a model folder bring Python code. No code of a model is ever executed here, whatever is set.
        trust_remote_code: bool = true;
        /// Branch, tag or commit of the model on Hugging Face.
        huggingface_branch: String = "main".to_owned();
        /// Processes that prepare batches. Batches are prepared by threads of the program here; `threads` sets
        /// their number.
        number_of_workers: usize = 4 => facets().at_least(0.0).spin(1.0, 1.0);
        /// Start of all random numbers of the run: order of samples, dropout, new adapter weights. The same seed
        /// gives the same run. -1 draws one and writes it down. The validation split does not depend on it.
        seed: i64 = -1 => facets().at_least(-1.0).spin(-1.0, 1.0);
        /// What computes: `cpu`, `cuda` (`cuda:1` for the second of several), `metal`, `vulkan`, or `auto` for the first of
        /// CUDA, Metal, a hardware Vulkan device and the CPU that is there and in this build. A device that is missing is an
        /// error, never silently replaced.
        device: String = "auto".to_owned() => facets().suggest(&["auto", "cpu", "cuda", "metal", "vulkan"]);
        /// Threads that compute. 0: one for each core.
        threads: usize = 0 => facets().at_least(0.0).spin(0.0, 1.0);
    }
}

impl Environment {
    /// The GPU to use where `device` leaves the number open: the first of the list.
    pub fn first_gpu(&self) -> Option<usize> {
        self.gpus.first()?.parse().ok()
    }
}
