//! Every key of `adapter_config.json` that PEFT's `LoraConfig` knows, and what is made of it here.
//!
//! The list is that of PEFT 0.21 and of older versions. What changes the stored adapter's effect and is not built is refused
//! by name unless it is switched off; what only says how the adapter was made is passed over.

use serde_json::{Map, Value};

/// What is made of a key.
#[derive(Debug, Clone, Copy)]
pub enum Treatment {
    /// It is read and acts.
    Used,
    /// It does not change what a stored adapter computes.
    Ignored,
    /// It would change that, and is not built: refused unless the value is one of these neutral ones.
    Refused {
        /// Whether the value changes nothing.
        is_neutral: fn(&Value) -> bool,
        /// What it would do, and what can be done about it.
        reason: &'static str,
    },
}

/// A key and its treatment.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// The name in the file.
    pub key: &'static str,
    /// What is made of it.
    pub treatment: Treatment,
}

const fn used(key: &'static str) -> Setting {
    Setting { key, treatment: Treatment::Used }
}

const fn ignored(key: &'static str) -> Setting {
    Setting { key, treatment: Treatment::Ignored }
}

const fn refused(key: &'static str, is_neutral: fn(&Value) -> bool, reason: &'static str) -> Setting {
    Setting { key, treatment: Treatment::Refused { is_neutral, reason } }
}

/// All known keys.
pub const SETTINGS: &[Setting] = &[
    used("peft_type"),
    used("r"),
    used("target_modules"),
    used("exclude_modules"),
    used("lora_alpha"),
    used("lora_dropout"),
    used("use_rslora"),
    used("use_dora"),
    used("layers_to_transform"),
    used("layers_pattern"),
    used("rank_pattern"),
    used("alpha_pattern"),
    // Where it comes from. The layers of the model say how their weights lie, as in PEFT.
    ignored("base_model_name_or_path"),
    ignored("fan_in_fan_out"),
    ignored("inference_mode"),
    ignored("task_type"),
    ignored("auto_mapping"),
    ignored("peft_version"),
    ignored("revision"),
    // Read by initialisations alone, which `init_lora_weights` names.
    ignored("loftq_config"),
    ignored("eva_config"),
    ignored("corda_config"),
    ignored("lora_ga_config"),
    // Of no effect without what is refused below.
    ignored("megatron_core"),
    ignored("qalora_group_size"),
    ignored("ensure_weight_tying"),
    // Where weights lie while PEFT computes.
    ignored("runtime_config"),
    // Whether a PEFT before 0.3 had merged the weights when it stored them apart.
    ignored("merge_weights"),
    refused(
        "init_lora_weights",
        keeps_the_base,
        "the adapter was trained beside a base whose weights this start had changed, and beside the base as it is it computes \
         something else; store it with PEFT's save_pretrained(..., path_initial_model_for_weight_conversion=...), or \
         merge it there",
    ),
    refused(
        "bias",
        is_none_bias,
        "trained biases are not loaded; merge the adapter with PEFT (merge_and_unload)",
    ),
    refused(
        "modules_to_save",
        is_score_head,
        "modules stored whole are not loaded, but for the score head of a classifier; merge the adapter with PEFT \
         (merge_and_unload) and use the merged model",
    ),
    refused(
        "lora_bias",
        is_off,
        "biases of the branches are not built; merge the adapter with PEFT (merge_and_unload)",
    ),
    refused(
        "trainable_token_indices",
        is_off,
        "trained rows of the embedding are not loaded; merge the adapter with PEFT (merge_and_unload)",
    ),
    refused(
        "target_parameters",
        is_off,
        "adapters on parameters that are no linear layer are not built; merge the adapter with PEFT (merge_and_unload)",
    ),
    refused(
        "alora_invocation_tokens",
        is_off,
        "an activated LoRA acts only behind these tokens, which is not built and cannot be merged",
    ),
    refused(
        "layer_replication",
        is_off,
        "the adapter belongs to a model with repeated layers, which is not built",
    ),
    refused(
        "megatron_config",
        is_off,
        "the adapter belongs to a model of Megatron's parallel layers, which is not built",
    ),
    refused("use_qalora", is_off, "QALoRA pools the inputs of the branch, which is not built"),
    refused("use_bdlora", is_off, "block-diagonal branches are not built"),
    refused("arrow_config", is_off, "routing among several adapters is not built"),
    refused("velora_config", is_off, "VeLoRA stores more than the branches, which is not built"),
    refused("kasa_config", is_off, "KaSA scales the branches and changes the base, which is not built"),
    refused("monteclora_config", is_off, "MonteCLoRA samples its branches, which is not built"),
    refused(
        "enable_lora",
        is_off,
        "adapters on a part of a fused layer are not built; merge the adapter with PEFT",
    ),
];

/// Refuses what is not built, and gives a sentence for each key that is not known.
///
/// # Errors
/// The first setting that cannot be followed, as a sentence with its name, value and a remedy.
pub(crate) fn check(config: &Map<String, Value>) -> Result<Vec<String>, String> {
    let mut notes = Vec::new();
    for (key, value) in config {
        match SETTINGS.iter().find(|setting| setting.key == key).map(|setting| setting.treatment) {
            Some(Treatment::Used | Treatment::Ignored) => {}
            Some(Treatment::Refused { is_neutral, .. }) if is_neutral(value) => {}
            Some(Treatment::Refused { reason, .. }) => return Err(format!("{key} is {value}: {reason}")),
            None if is_off(value) => {}
            None => notes.push(format!(
                "adapter_config.json: {key} is not known here and is passed over; its value is {value}"
            )),
        }
    }
    Ok(notes)
}

/// Nothing is switched on.
fn is_off(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(object) => object.is_empty(),
        Value::Bool(true) | Value::Number(_) | Value::String(_) => false,
    }
}

/// Starts after which the base weights are still those of the base model. PEFT compares some names without regard to case.
fn keeps_the_base(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) => true,
        Value::String(name) => {
            ["gaussian", "mica", "eva", "orthogonal"].contains(&name.to_lowercase().as_str())
        }
        _ => false,
    }
}

fn is_none_bias(value: &Value) -> bool {
    value.is_null() || value == "none"
}

/// Nothing, or the names under which PEFT looks for the heads of all sequence classifiers.
fn is_score_head(value: &Value) -> bool {
    let is_head = |module: &Value| module == "classifier" || module == "score";
    is_off(value) || value.as_array().is_some_and(|modules| modules.iter().all(is_head))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    /// The fields of `LoraConfig` in PEFT 0.21.2.
    const OF_PEFT: &str = "task_type peft_type auto_mapping peft_version base_model_name_or_path revision inference_mode r \
        target_modules exclude_modules lora_alpha lora_dropout fan_in_fan_out bias use_rslora modules_to_save \
        init_lora_weights layers_to_transform layers_pattern rank_pattern alpha_pattern megatron_config megatron_core \
        trainable_token_indices loftq_config eva_config corda_config lora_ga_config use_dora velora_config \
        alora_invocation_tokens use_qalora qalora_group_size monteclora_config layer_replication runtime_config lora_bias \
        target_parameters use_bdlora arrow_config kasa_config ensure_weight_tying";

    fn checked(key: &str, value: Value) -> Result<Vec<String>, String> {
        check(&Map::from_iter([(key.to_owned(), value)]))
    }

    #[test]
    fn every_field_of_peft_is_in_the_table_once() {
        for field in OF_PEFT.split_whitespace() {
            assert_eq!(SETTINGS.iter().filter(|setting| setting.key == field).count(), 1, "{field}");
        }
    }

    #[test]
    fn starts_that_change_the_base_are_refused_by_name() {
        for name in ["gaussian", "Gaussian", "mica", "eva", "orthogonal"] {
            assert_eq!(checked("init_lora_weights", json!(name)), Ok(Vec::new()), "{name}");
        }
        for value in [json!(true), json!(false), Value::Null] {
            assert_eq!(checked("init_lora_weights", value), Ok(Vec::new()));
        }
        for name in ["pissa", "pissa_niter_4", "olora", "OLoRA", "corda", "loftq", "lora_ga", "tomorrow"] {
            let refusal = checked("init_lora_weights", json!(name)).unwrap_err();
            assert!(refusal.starts_with(&format!("init_lora_weights is {name:?}")), "{refusal}");
            assert!(refusal.contains("path_initial_model_for_weight_conversion"), "{refusal}");
        }
    }

    #[test]
    fn modules_stored_whole_are_named() {
        for value in [json!(null), json!([]), json!(["classifier", "score"]), json!(["score"])] {
            assert_eq!(checked("modules_to_save", value), Ok(Vec::new()));
        }
        let refusal = checked("modules_to_save", json!(["embed_tokens", "lm_head"])).unwrap_err();
        assert!(refusal.contains("embed_tokens") && refusal.contains("merge_and_unload"), "{refusal}");
        assert!(checked("bias", json!("lora_only")).unwrap_err().contains("bias is \"lora_only\""));
    }

    #[test]
    fn unknown_keys_are_told_unless_they_are_off() {
        assert_eq!(checked("use_tomorrow", json!(false)), Ok(Vec::new()));
        let notes = checked("use_tomorrow", json!({"rate": 2})).unwrap();
        assert!(
            notes.len() == 1 && notes[0].contains("use_tomorrow") && notes[0].contains("rate"),
            "{notes:?}"
        );
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (1i64..9).prop_map(Value::from),
            "[a-z_]{1,8}".prop_map(Value::from),
        ];
        prop_oneof![
            leaf.clone(),
            prop::collection::vec(leaf.clone(), 0..3).prop_map(Value::from),
            prop::collection::vec(("[a-z]{1,4}", leaf), 0..3)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    }

    proptest! {
        /// No value of any key is passed over without a word: it acts, is known to be without effect, is neutral, or is
        /// refused with key and value in the sentence.
        #[test]
        fn no_value_of_any_key_goes_by_in_silence(
            setting in 0..SETTINGS.len(),
            value in any_value(),
        ) {
            let Setting { key, treatment } = SETTINGS[setting];
            let found = checked(key, value.clone());
            match treatment {
                Treatment::Used | Treatment::Ignored => prop_assert_eq!(found, Ok(Vec::new())),
                Treatment::Refused { is_neutral, reason } => match found {
                    Ok(notes) => prop_assert!(is_neutral(&value) && notes.is_empty()),
                    Err(text) => {
                        prop_assert!(!is_neutral(&value));
                        let beginning = format!("{key} is {value}: ");
                        prop_assert!(text.starts_with(&beginning) && text.ends_with(reason), "{}", text);
                    }
                },
            }
        }

        /// The same of keys that are not known.
        #[test]
        fn unknown_keys_are_off_or_told(key in "new_[a-z]{3,6}", value in any_value()) {
            let notes = checked(&key, value.clone()).unwrap();
            prop_assert_eq!(notes.is_empty(), is_off(&value));
        }
    }
}
