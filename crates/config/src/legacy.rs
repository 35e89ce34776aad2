//! Keys and values that H2O LLM Studio wrote once and does not know any more: what they mean here.
//!
//! Its own reader drops them. Here each is in one of four classes, so that an old file never learns something else than
//! it says without a word.

use crate::node::Node;
use crate::sections::ExperimentConfig;

/// What becomes of an outdated key or value.
#[derive(Debug, PartialEq)]
pub(crate) enum Fate {
    /// It asks for what happens anyway.
    Neutral,
    /// It is not used, for this reason; the run learns the same, or nearly.
    Noted(String),
    /// The run would learn something else; the end of "expected …".
    Refused(&'static str),
    /// It means these values of today's fields, where the file does not name those itself.
    Becomes(&'static [(&'static str, &'static str)]),
}

/// A key that is gone, or a value of a field that is still there.
struct Outdated {
    path: &'static str,
    /// Decides by the value as text; `None` where the field of today reads the value itself.
    fate: fn(&str, &ExperimentConfig) -> Option<Fate>,
}

const OUTDATED: &[Outdated] = &[
    Outdated {
        path: "architecture.force_embedding_gradients",
        fate: |value, _| {
            let expected = "false: set training.lora_unfreeze_layers to [embed] to train the embeddings";
            Some(if is_off(value) { Fate::Neutral } else { Fate::Refused(expected) })
        },
    },
    Outdated {
        path: "dataset.add_prompt_answer_tokens",
        fate: |value, _| {
            unless_off(value, "it never had an effect there; tokenizer.add_prompt_answer_tokens has one")
        },
    },
    Outdated { path: "environment.use_fsdp", fate: |value, _| unless_off(value, ONE_PROCESS) },
    Outdated {
        path: "environment.use_deepspeed",
        fate: |value, _| match value {
            "NA" => Some(Fate::Becomes(&[("environment.use_deepspeed", "false")])),
            "ZeRO2" => Some(Fate::Becomes(&[
                ("environment.use_deepspeed", "true"),
                ("environment.deepspeed_method", "ZeRO2"),
            ])),
            "ZeRO3" => Some(Fate::Becomes(&[
                ("environment.use_deepspeed", "true"),
                ("environment.deepspeed_method", "ZeRO3"),
            ])),
            _ => None,
        },
    },
    Outdated {
        path: "environment.deepspeed_offload_optimizer",
        fate: |value, _| unless_off(value, ONE_PROCESS),
    },
    Outdated {
        path: "environment.deepspeed_stage3_max_live_parameters",
        fate: |_, _| Some(Fate::Noted(ONE_PROCESS.to_owned())),
    },
    Outdated {
        path: "environment.deepspeed_stage3_max_reuse_distance",
        fate: |_, _| Some(Fate::Noted(ONE_PROCESS.to_owned())),
    },
    Outdated {
        path: "logging.number_of_texts",
        fate: |_, _| Some(Fate::Noted("all validation samples are in validation_predictions.csv".to_owned())),
    },
    Outdated {
        path: "tokenizer.max_length_prompt",
        fate: |value, config| shorter_than_all(value, "prompt", config),
    },
    Outdated {
        path: "tokenizer.max_length_answer",
        fate: |value, config| shorter_than_all(value, "answer", config),
    },
    Outdated {
        path: "tokenizer.use_fast",
        fate: |value, _| {
            let why = "the model's tokenizer.json is used, which is the fast tokenizer";
            Some(if is_on(value) { Fate::Neutral } else { Fate::Noted(why.to_owned()) })
        },
    },
    Outdated {
        path: "tokenizer.add_prefix_space",
        fate: |value, _| {
            let options = &[("tokenizer.tokenizer_kwargs", WITH_PREFIX_SPACE)];
            Some(if is_off(value) { Fate::Neutral } else { Fate::Becomes(options) })
        },
    },
    Outdated {
        path: "training.save_best_checkpoint",
        fate: |value, _| {
            Some(Fate::Becomes(match is_off(value) {
                true => &[("training.save_checkpoint", "last")],
                false => &[("training.save_checkpoint", "best")],
            }))
        },
    },
    Outdated {
        path: "training.use_flash_attention_2",
        fate: |value, _| {
            let attention = &[("training.attention_implementation", "flash_attention_2")];
            Some(if is_off(value) { Fate::Neutral } else { Fate::Becomes(attention) })
        },
    },
];

const ONE_PROCESS: &str = "one process trains the whole model; the numbers are the same";
const WITH_PREFIX_SPACE: &str = r#"{"use_fast": true, "add_prefix_space": true}"#;

/// What an outdated key at `section.name`, or an outdated value of a field, means; `config` is the file as read without it.
/// `None` for everything of today.
pub(crate) fn fate(path: &str, node: &Node, config: &ExperimentConfig) -> Option<Fate> {
    let outdated = OUTDATED.iter().find(|outdated| outdated.path == path)?;
    (outdated.fate)(&node.to_string(), config)
}

/// Why a problem type that existed once cannot be learned.
pub(crate) fn problem_type_note(name: &str) -> Option<&'static str> {
    name.starts_with("text_rlhf").then_some(
        "reinforcement learning with a reward model is not built; text_dpo_modeling learns from pairs of answers",
    )
}

fn is_off(value: &str) -> bool {
    matches!(value, "false" | "False" | "FALSE" | "no" | "off" | "empty" | "null" | "~")
}

fn is_on(value: &str) -> bool {
    matches!(value, "true" | "True" | "TRUE" | "yes" | "on")
}

fn unless_off(value: &str, why: &str) -> Option<Fate> {
    Some(if is_off(value) { Fate::Neutral } else { Fate::Noted(why.to_owned()) })
}

/// Prompts and answers had limits of their own once.
fn shorter_than_all(value: &str, what: &str, config: &ExperimentConfig) -> Option<Fate> {
    let max_length = config.tokenizer.max_length;
    if value.parse::<f64>().is_ok_and(|length| max_length as f64 <= length) {
        return Some(Fate::Neutral);
    }
    Some(Fate::Noted(format!(
        "each {what} may have as many tokens as the whole sample, tokenizer.max_length ({max_length})"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outdated_key_has_a_fate_and_is_no_field_unless_its_values_are_told_apart() {
        let config = ExperimentConfig::default();
        for outdated in OUTDATED {
            let of_new_value = (outdated.fate)("true", &config);
            let is_field = crate::schema().iter().any(|spec| spec.path() == outdated.path);
            assert_eq!(of_new_value.is_none(), is_field, "{}", outdated.path);
        }
    }

    #[test]
    fn what_it_becomes_can_be_set() {
        for (path, value) in [
            ("environment.use_deepspeed", "NA"),
            ("environment.use_deepspeed", "ZeRO3"),
            ("tokenizer.add_prefix_space", "true"),
            ("training.save_best_checkpoint", "true"),
            ("training.save_best_checkpoint", "false"),
            ("training.use_flash_attention_2", "true"),
        ] {
            let mut config = ExperimentConfig::default();
            let Some(Fate::Becomes(fields)) = fate(path, &Node::plain(value), &config) else {
                panic!("{path}: {value}");
            };
            for (field, value) in fields {
                config.set(field, value).unwrap();
            }
        }
    }
}
