//! Which number formats a run keeps and multiplies its weights in, from the configuration's words.

use std::collections::BTreeSet;

use tunesmith_config::{Architecture, BackboneDtype, Environment, ExperimentConfig};
use tunesmith_formats::StoredDtype;
use tunesmith_formats::model_source::{ModelSource, TensorInfo};
use tunesmith_models::{LoadOptions, format_as_in_file, kept_format};
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

    /// That blocks of the model's file are of a kind that products cannot use, and are rounded once more; `None` where none is.
    pub(crate) fn rounded_blocks(self, config: &ExperimentConfig, source: &ModelSource) -> Option<String> {
        let trainability = Trainability::of(&config.training);
        let is_rounded = |tensor: &&TensorInfo| match tensor.dtype {
            StoredDtype::Quantised(layout) => {
                let is_trained = trainability.trains(&tensor.name);
                let kept = kept_format(&tensor.name, &tensor.shape, tensor.dtype, self.frozen, is_trained);
                kept.block_values() > 1 && format_as_in_file(layout, self.frozen).is_none()
            }
            _ => false,
        };
        let rounded: Vec<&str> =
            source.tensors().iter().filter(is_rounded).map(|tensor| tensor.dtype.name()).collect();
        let kinds: BTreeSet<&str> = rounded.iter().copied().collect();
        (!rounded.is_empty()).then(|| {
            format!(
                "architecture.backbone_dtype: {} matrices of the file are in {}, with which no products are computed, and are \
                 rounded to {}: adapters fit the rounded values, and a merged model holds them; float16 and bfloat16 \
                 keep the file's own",
                rounded.len(),
                kinds.into_iter().collect::<Vec<_>>().join(" and "),
                config.architecture.backbone_dtype
            )
        })
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn blocks_that_are_rounded_once_more_are_told() {
        let told = |name: &str, dtype: &str| {
            let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/gguf");
            let source = ModelSource::open(&golden.join(name)).unwrap();
            let mut config = ExperimentConfig::default();
            config.set("architecture.backbone_dtype", dtype).unwrap();
            NumberFormats::of(&config, &tunesmith_ops::open_device("cpu").unwrap())
                .rounded_blocks(&config, &source)
        };
        let text = told("llama-five.gguf", "int4").unwrap();
        assert!(text.contains("in Q5_0 and Q5_1") && text.contains("rounded to int4"), "{text}");
        assert!(told("llama-five.gguf", "int8").is_some());
        for (name, dtype) in
            [("llama-five.gguf", "float16"), ("llama-blocks.gguf", "int4"), ("llama-tiny.gguf", "nf4")]
        {
            assert_eq!(told(name, dtype), None, "{name} {dtype}");
        }
    }
}
