//! What this program accepts in a file but does otherwise, or not at all: the one list of such gaps.
//!
//! A gap is a warning when the run still learns the same thing (more memory, another rounding, one chart less) and
//! an error when its result would differ in kind. Nothing is passed over in silence.

use crate::check::{Finding, Level};
use crate::choices::{
    AttentionImplementation, BackboneDtype, LogStepSize, Logger, MixedPrecisionDtype, ProblemType,
};
use crate::sections::ExperimentConfig;

/// A setting that is not (wholly) built.
struct Gap {
    field: &'static str,
    level: Level,
    /// Whether the settings fall into the gap.
    is_hit: fn(&ExperimentConfig) -> bool,
    /// What happens instead.
    message: &'static str,
    /// What the user can set instead.
    hint: Option<&'static str>,
}

const GAPS: &[Gap] = &[
    Gap {
        field: "dataset.mask_prompt_labels",
        level: Level::Warning,
        is_hit: |c| is_encoder_decoder(c) && !c.dataset.mask_prompt_labels,
        message: "off has no effect in sequence to sequence modeling: the encoder reads the prompt, and the decoder learns the answer alone",
        hint: Some("set dataset.mask_prompt_labels to true to silence this"),
    },
    Gap {
        field: "architecture.backbone_dtype",
        level: Level::Warning,
        is_hit: |c| !c.training.lora && c.architecture.backbone_dtype != BackboneDtype::Float32,
        message: "weights that are trained are kept in float32 here: more memory, no rounding loss",
        hint: Some("set architecture.backbone_dtype to float32 to silence this"),
    },
    Gap {
        field: "architecture.pretrained",
        level: Level::Error,
        is_hit: |c| !c.architecture.pretrained,
        message: "training from random weights is not built",
        hint: Some("set architecture.pretrained to true"),
    },
    Gap {
        field: "architecture.intermediate_dropout",
        level: Level::Warning,
        is_hit: |c| !is_encoder_decoder(c) && c.architecture.intermediate_dropout > 0.0,
        message: "dropout inside the backbone is not applied; Llama-like models have no place for it anyway",
        hint: Some("use training.lora_dropout, or set this to 0"),
    },
    Gap {
        field: "architecture.intermediate_dropout",
        level: Level::Warning,
        is_hit: |c| is_encoder_decoder(c) && c.architecture.intermediate_dropout > 0.0,
        message: "is not applied: T5 has its own dropout, of the probability that its config.json gives as dropout_rate",
        hint: Some("set this to 0"),
    },
    Gap {
        field: "environment.mixed_precision_dtype",
        level: Level::Warning,
        is_hit: |c| {
            c.environment.mixed_precision
                && c.environment.mixed_precision_dtype == MixedPrecisionDtype::Float16
        },
        message: "matrix products are computed in bfloat16 here: the same memory, a wider range",
        hint: Some("set environment.mixed_precision_dtype to bfloat16 to silence this"),
    },
    Gap {
        field: "environment.gpus",
        level: Level::Warning,
        is_hit: |c| 1 < c.environment.gpus.len(),
        message: "a run computes on one GPU: the first of the list",
        hint: Some("leave one number in environment.gpus to silence this"),
    },
    Gap {
        field: "environment.compile_model",
        level: Level::Warning,
        is_hit: |c| c.environment.compile_model,
        message: "has no effect: the program is compiled already",
        hint: None,
    },
    Gap {
        field: "environment.use_deepspeed",
        level: Level::Warning,
        is_hit: |c| c.environment.use_deepspeed,
        message: "DeepSpeed is not used: one process trains the whole model; the numbers are the same",
        hint: None,
    },
    Gap {
        field: "environment.find_unused_parameters",
        level: Level::Warning,
        is_hit: |c| c.environment.find_unused_parameters,
        message: "has no effect: one process trains, and weights without gradient are always fine",
        hint: None,
    },
    Gap {
        field: "environment.number_of_workers",
        level: Level::Warning,
        // 4 and 8 are what files contain whose author chose nothing.
        is_hit: |c| !matches!(c.environment.number_of_workers, 4 | 8),
        message: "has no effect: batches are prepared by the program's own threads",
        hint: Some("environment.threads sets their number"),
    },
    Gap {
        field: "tokenizer.add_prompt_answer_tokens",
        level: Level::Error,
        is_hit: |c| c.tokenizer.add_prompt_answer_tokens,
        message: "adding the marker texts to the vocabulary is not built",
        hint: Some(
            "set it to false; the markers are then ordinary text, or use dataset.text_format: chat_template",
        ),
    },
    Gap {
        field: "tokenizer.padding_quantile",
        level: Level::Warning,
        is_hit: |c| c.tokenizer.padding_quantile > 0.0 && c.tokenizer.padding_quantile < 1.0,
        message: "has no effect: samples lie end to end without padding, so none is cut to save some",
        hint: Some("tokenizer.max_length bounds long samples"),
    },
    Gap {
        field: "tokenizer.tokenizer_kwargs",
        level: Level::Warning,
        is_hit: has_other_tokenizer_options,
        message: "of these options only add_prefix_space is used: the model's tokenizer.json decides the rest",
        hint: None,
    },
    Gap {
        field: "training.attention_implementation",
        level: Level::Warning,
        is_hit: |c| c.training.attention_implementation != AttentionImplementation::Auto,
        message: "there is one implementation here, which never holds a whole score matrix; same numbers",
        hint: None,
    },
    Gap {
        field: "logging.log_step_size",
        level: Level::Warning,
        is_hit: |c| {
            c.logging.log_step_size == LogStepSize::Relative
                && matches!(c.logging.logger, Logger::None | Logger::Neptune)
        },
        message: "numbers are written with the absolute step; it is the viewer that draws the axis",
        hint: None,
    },
    Gap {
        field: "logging.log_all_ranks",
        level: Level::Warning,
        is_hit: |c| c.logging.log_all_ranks,
        message: "has no effect: there is one process",
        hint: None,
    },
    Gap {
        field: "logging.logger",
        level: Level::Warning,
        is_hit: |c| c.logging.logger == Logger::Neptune,
        message: "nothing is sent to Neptune, whose service ended on 5 March 2026; all numbers are in the run folder",
        hint: Some("set logging.logger to MLflow, TensorBoard, W&B or None"),
    },
];

/// The gaps these settings fall into.
pub(crate) fn findings(config: &ExperimentConfig) -> impl Iterator<Item = Finding> {
    GAPS.iter().filter(|gap| (gap.is_hit)(config)).map(|gap| Finding {
        level: gap.level,
        field: gap.field.to_owned(),
        message: gap.message.to_owned(),
        hint: gap.hint.map(str::to_owned),
    })
}

/// What is said about a field whose behaviour is not wholly built.
pub fn not_built_note(field: &str) -> Option<&'static str> {
    GAPS.iter().find(|gap| gap.field == field).map(|gap| gap.message)
}

fn is_encoder_decoder(config: &ExperimentConfig) -> bool {
    config.problem_type == ProblemType::SequenceToSequenceModeling
}

fn has_other_tokenizer_options(config: &ExperimentConfig) -> bool {
    let text = &config.tokenizer.tokenizer_kwargs;
    match serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text) {
        // A fast tokenizer is what everybody gets here.
        Ok(options) => options.iter().any(|(name, value)| match name.as_str() {
            "use_fast" => value.as_bool() != Some(true),
            "add_prefix_space" => !value.is_boolean(),
            _ => true,
        }),
        // Not an object: an error of its own in `check`.
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_gap_names_a_field() {
        for gap in GAPS {
            let spec = crate::find_field(gap.field);
            assert_eq!(spec.map(|spec| spec.path()).as_deref(), Some(gap.field));
        }
    }
}
