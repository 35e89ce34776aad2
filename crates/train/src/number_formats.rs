//! Which number formats a run keeps and multiplies its weights in, from the configuration's words.

use tunesmith_config::{Architecture, BackboneDtype, Environment, ExperimentConfig};
use tunesmith_models::LoadOptions;
use tunesmith_ops::{Compute, Format};

use crate::record::Dtypes;
use crate::trainability::Trainability;

/// The number formats of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NumberFormats {
    /// What the factors of matrix products are rounded to.
    pub(crate) compute: Compute,
    /// How frozen matrices are kept.
    pub(crate) frozen: Format,
}

impl NumberFormats {
    /// The formats that `config` asks for.
    pub(crate) fn of(config: &ExperimentConfig) -> Self {
        Self { compute: compute_of(&config.environment), frozen: frozen_of(&config.architecture) }
    }

    /// How to load a model that is trained as `is_trained` says.
    pub(crate) fn load_options<'a>(self, is_trained: &'a dyn Fn(&str) -> bool) -> LoadOptions<'a> {
        LoadOptions { compute: self.compute, frozen: self.frozen, is_trained }
    }

    /// What the run's record says about them.
    pub(crate) fn describe(self, config: &ExperimentConfig) -> Dtypes {
        let is_all_trained = matches!(
            Trainability::of(&config.training),
            Trainability::Full { freeze_layers } if freeze_layers.is_empty()
        );
        let storage = if is_all_trained || self.frozen == Format::F32 {
            "float32".to_owned()
        } else {
            format!("{} (frozen matrices), float32 (all else)", config.architecture.backbone_dtype)
        };
        let compute = match self.compute {
            Compute::F32 => "float32",
            Compute::Bf16 => "bfloat16 (matrix products), float32 (all else)",
        };
        Dtypes { storage, compute: compute.to_owned(), accumulation: "float32".to_owned() }
    }
}

fn compute_of(environment: &Environment) -> Compute {
    // The check of the configuration says that float16 is computed as bfloat16.
    if environment.mixed_precision { Compute::Bf16 } else { Compute::F32 }
}

fn frozen_of(architecture: &Architecture) -> Format {
    match architecture.backbone_dtype {
        BackboneDtype::Float32 => Format::F32,
        BackboneDtype::Bfloat16 => Format::Bf16,
        BackboneDtype::Float16 => Format::F16,
        BackboneDtype::Int8 => Format::Q8_0,
        // The 4-bit format with a minimum in each block: half the error of the one without for an eighth more memory.
        BackboneDtype::Int4 => Format::Q4_1,
    }
}
