//! Which number formats a run keeps and multiplies its weights in, from the configuration's words.

use tunesmith_config::{Architecture, BackboneDtype, Environment, ExperimentConfig};
use tunesmith_models::LoadOptions;
use tunesmith_ops::{Compute, Device, Format, frozen_format, multiplies_bf16};

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
    /// The formats that `config` asks for, or what `device` has in their place.
    pub(crate) fn of(config: &ExperimentConfig, device: &Device) -> Self {
        let compute = match compute_of(&config.environment) {
            Compute::Bf16 if !multiplies_bf16(device) => Compute::F32,
            wanted => wanted,
        };
        Self { compute, frozen: frozen_format(device, frozen_of(&config.architecture)) }
    }

    /// What is otherwise than `config` asks for, in sentences.
    pub(crate) fn substitutions(self, config: &ExperimentConfig) -> Vec<String> {
        let mut sentences = Vec::new();
        if compute_of(&config.environment) != self.compute {
            sentences.push(format!(
                "environment.mixed_precision: this device does not multiply bfloat16; products are computed in {}",
                name_of_compute(self.compute)
            ));
        }
        if frozen_of(&config.architecture) != self.frozen {
            sentences.push(format!(
                "architecture.backbone_dtype: on this device frozen matrices are kept as {}, not as {}",
                self.frozen_name(config),
                config.architecture.backbone_dtype
            ));
        }
        sentences
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
            format!("{} (frozen matrices), float32 (all else)", self.frozen_name(config))
        };
        let compute = match self.compute {
            Compute::F32 => "float32".to_owned(),
            narrow => format!("{} (matrix products), float32 (all else)", name_of_compute(narrow)),
        };
        Dtypes { storage, compute, accumulation: "float32".to_owned() }
    }

    /// In the configuration's words.
    fn frozen_name(self, config: &ExperimentConfig) -> String {
        let dtype = match self.frozen {
            Format::F32 => BackboneDtype::Float32,
            Format::Bf16 => BackboneDtype::Bfloat16,
            Format::F16 => BackboneDtype::Float16,
            Format::Q8_0 | Format::Q4_0 | Format::Q4_1 | Format::Nf4 => config.architecture.backbone_dtype,
        };
        dtype.to_string()
    }
}

fn name_of_compute(compute: Compute) -> &'static str {
    match compute {
        Compute::F32 => "float32",
        Compute::Bf16 => "bfloat16",
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
        BackboneDtype::Nf4 => Format::Nf4,
    }
}
