//! Which parameters are trained: all, all but frozen layers, or low-rank adapters and chosen layers.

use tunesmith_config::Training;

/// The rule by which parameters are trained, from the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trainability {
    /// Every parameter whose name contains none of the given texts.
    Full {
        /// `training.freeze_layers`.
        freeze_layers: Vec<String>,
    },
    /// The adapters, and the base parameters whose names contain one of the given texts.
    LowRank {
        /// `training.lora_unfreeze_layers`.
        unfreeze_layers: Vec<String>,
    },
}

impl Trainability {
    /// The rule that `training` asks for.
    pub fn of(training: &Training) -> Self {
        if training.lora {
            Self::LowRank { unfreeze_layers: training.lora_unfreeze_layers.clone() }
        } else {
            Self::Full { freeze_layers: training.freeze_layers.clone() }
        }
    }

    /// Whether the parameter called `name` is trained.
    pub fn trains(&self, name: &str) -> bool {
        match self {
            Self::Full { freeze_layers } => !name_contains_any(name, freeze_layers),
            Self::LowRank { unfreeze_layers } => is_adapter(name) || name_contains_any(name, unfreeze_layers),
        }
    }

    /// Whether the adapters alone hold everything that training changes.
    pub fn is_adapter_only(&self) -> bool {
        matches!(self, Self::LowRank { unfreeze_layers } if unfreeze_layers.is_empty())
    }

    /// The texts that occur in none of `names`: probably misspelt.
    pub fn unmatched<'a>(&'a self, names: &[&str]) -> Vec<&'a str> {
        let (Self::Full { freeze_layers: texts } | Self::LowRank { unfreeze_layers: texts }) = self;
        unmatched_texts(texts, names)
    }
}

/// The members of `texts` that no name contains.
pub(crate) fn unmatched_texts<'a>(texts: &'a [String], names: &[&str]) -> Vec<&'a str> {
    let occurs = |text: &String| names.iter().any(|name| name_contains_any(name, std::slice::from_ref(text)));
    texts.iter().filter(|text| !occurs(text)).map(String::as_str).collect()
}

/// Whether `name`, prefixed as in H2O LLM Studio (`backbone.`), contains one of `texts`.
pub(crate) fn name_contains_any(name: &str, texts: &[String]) -> bool {
    let full_name = format!("backbone.{name}");
    texts.iter().any(|text| full_name.contains(text.as_str()))
}

/// The names in a comma-separated list such as `training.lora_target_modules`, trimmed, without empty ones.
pub(crate) fn comma_list(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn is_adapter(name: &str) -> bool {
    [".lora_A.", ".lora_B.", ".lora_magnitude_vector"].iter().any(|part| name.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 5] = [
        "model.layers.0.self_attn.q_proj.lora_magnitude_vector",
        "model.embed_tokens.weight",
        "model.layers.0.self_attn.q_proj.weight",
        "model.layers.0.self_attn.q_proj.lora_A.weight",
        "lm_head.weight",
    ];

    fn trained(rule: &Trainability) -> Vec<bool> {
        NAMES.iter().map(|name| rule.trains(name)).collect()
    }

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn full_training_freezes_by_substring() {
        let rule = Trainability::Full { freeze_layers: texts(&["embed", "layer"]) };
        assert_eq!(trained(&rule), [false, false, false, false, true]);
        assert!(!rule.is_adapter_only());
        let everything = Trainability::Full { freeze_layers: texts(&["backbone"]) };
        assert_eq!(trained(&everything), [false; 5]);
    }

    #[test]
    fn low_rank_training_unfreezes_by_substring() {
        let rule = Trainability::LowRank { unfreeze_layers: texts(&["head"]) };
        assert_eq!(trained(&rule), [true, false, false, true, true]);
        assert!(!rule.is_adapter_only());
        let adapters = Trainability::LowRank { unfreeze_layers: Vec::new() };
        assert_eq!(trained(&adapters), [true, false, false, true, false]);
        assert!(adapters.is_adapter_only());
    }

    #[test]
    fn misspelt_layers_are_found() {
        let rule = Trainability::Full { freeze_layers: texts(&["embed", "haed"]) };
        assert_eq!(rule.unmatched(&NAMES), ["haed"]);
    }

    #[test]
    fn comma_lists() {
        assert_eq!(comma_list(" q_proj, v_proj,,"), ["q_proj", "v_proj"]);
        assert!(comma_list("").is_empty());
    }
}
