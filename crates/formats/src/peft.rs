//! LoRA adapters as PEFT stores them: `adapter_config.json` and `adapter_model.safetensors`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::atomic::write_file;
use crate::dtype::StoreDtype;
use crate::error::{FormatError, Result};
use crate::safetensors_io::{NamedTensor, read_safetensors_f32, write_safetensors};

const CONFIG_FILE: &str = "adapter_config.json";
const WEIGHTS_FILE: &str = "adapter_model.safetensors";
/// What PEFT calls an adapter that was given no name; left out of the names in the file.
const DEFAULT_ADAPTER: &str = ".default.";

/// The content of `adapter_config.json`. Keys that are not listed here are kept in `other`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AdapterConfig {
    /// Kind of adapter; only "LORA" is read.
    pub peft_type: String,
    /// Kind of model, e.g. "CAUSAL_LM".
    #[serde(default)]
    pub task_type: Option<String>,
    /// The model the adapter belongs to: a model id or a path.
    #[serde(default)]
    pub base_model_name_or_path: Option<String>,
    /// Rank R of the update.
    #[serde(default = "default_rank")]
    pub r: usize,
    /// Numerator of the update's scale.
    #[serde(default = "default_alpha", serialize_with = "whole_if_possible")]
    pub lora_alpha: f64,
    /// Probability of dropping an input of the update while training.
    #[serde(default)]
    pub lora_dropout: f64,
    /// The modules that have an update.
    #[serde(default)]
    pub target_modules: TargetModules,
    /// Which biases were trained: "none", "all" or "lora_only".
    #[serde(default = "default_bias")]
    pub bias: String,
    /// The update is decomposed into magnitude and direction.
    #[serde(default)]
    pub use_dora: bool,
    /// The scale is alpha / √R instead of alpha / R.
    #[serde(default)]
    pub use_rslora: bool,
    /// The base weights are stored [in, out] (GPT-2's `Conv1D`).
    #[serde(default)]
    pub fan_in_fan_out: bool,
    /// PEFT loads the adapter frozen.
    #[serde(default)]
    pub inference_mode: bool,
    /// Ranks of modules that differ from `r`, by the end of the module path.
    #[serde(default)]
    pub rank_pattern: BTreeMap<String, usize>,
    /// Alphas of modules that differ from `lora_alpha`, by the end of the module path.
    #[serde(default)]
    pub alpha_pattern: BTreeMap<String, f64>,
    /// Modules that were trained whole and are stored whole.
    #[serde(default)]
    pub modules_to_save: Option<Vec<String>>,
    /// All other keys.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// Which modules have an update.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(untagged)]
pub enum TargetModules {
    /// Left to PEFT's table of architectures.
    #[default]
    Unset,
    /// Ends of module paths: "q_proj".
    Names(Vec<String>),
    /// "all-linear" or a regular expression for whole module paths.
    Pattern(String),
}

impl AdapterConfig {
    /// Rank and scale s of the update s·B·A of the module at `module_path`: s = alpha/R, or alpha/√R with
    /// `use_rslora`.
    pub fn rank_and_scale(&self, module_path: &str) -> (usize, f64) {
        let rank = self.lookup(&self.rank_pattern, module_path).unwrap_or(self.r);
        let alpha = self.lookup(&self.alpha_pattern, module_path).unwrap_or(self.lora_alpha);
        let divisor = if self.use_rslora { (rank as f64).sqrt() } else { rank as f64 };
        (rank, alpha / divisor)
    }

    fn lookup<T: Copy>(&self, patterns: &BTreeMap<String, T>, module_path: &str) -> Option<T> {
        let matches = |end: &str| {
            module_path.strip_suffix(end).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        patterns.iter().find(|(end, _)| matches(end.as_str())).map(|(_, value)| *value)
    }
}

/// Reads the adapter in the folder `dir`. Tensors have PEFT's names, sorted, e.g.
/// `base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight`.
///
/// # Errors
/// [`FormatError::Missing`] for a missing file, [`FormatError::Adapter`] for another kind than LoRA or a
/// rank of 0, and what the JSON and safetensors readers refuse.
pub fn read_adapter(dir: &Path) -> Result<(AdapterConfig, Vec<NamedTensor>)> {
    let missing = |what: &str| FormatError::Missing { path: dir.to_owned(), what: what.to_owned() };
    let refused = |reason: String| FormatError::Adapter { path: dir.to_owned(), reason };
    let config_path = dir.join(CONFIG_FILE);
    if !config_path.is_file() {
        return Err(missing(CONFIG_FILE));
    }
    let text = fs::read(&config_path).map_err(FormatError::io(&config_path, "read"))?;
    let config: AdapterConfig = serde_json::from_slice(&text).map_err(FormatError::json(&config_path))?;
    if config.peft_type != "LORA" {
        return Err(refused(format!("its kind is {:?}, only \"LORA\" can be read", config.peft_type)));
    }
    if config.r == 0 || config.rank_pattern.values().any(|rank| *rank == 0) {
        return Err(refused("its rank is 0".into()));
    }
    let weights_path = dir.join(WEIGHTS_FILE);
    if !weights_path.is_file() {
        if dir.join("adapter_model.bin").is_file() {
            return Err(refused(
                "its weights are pickled (adapter_model.bin), a format that can run code when opened; save the \
                 adapter again with a current PEFT"
                    .into(),
            ));
        }
        return Err(missing(WEIGHTS_FILE));
    }
    let mut tensors = read_safetensors_f32(&weights_path)?;
    for tensor in &mut tensors {
        tensor.name = tensor.name.replace(DEFAULT_ADAPTER, ".");
    }
    Ok((config, tensors))
}

/// Writes an adapter into the existing folder `dir` so that PEFT loads it; weights in float32.
///
/// # Errors
/// [`FormatError::Adapter`] for a tensor name that PEFT would not find; as
/// [`write_safetensors`].
pub fn write_adapter(dir: &Path, config: &AdapterConfig, tensors: &[NamedTensor]) -> Result<()> {
    if let Some(stray) = tensors.iter().find(|tensor| !tensor.name.starts_with("base_model.model.")) {
        let reason =
            format!("tensor {:?} must be called base_model.model.….lora_A.weight or the like", stray.name);
        return Err(FormatError::Adapter { path: dir.to_owned(), reason });
    }
    write_safetensors(&dir.join(WEIGHTS_FILE), tensors, &[], StoreDtype::F32)?;
    let config_path = dir.join(CONFIG_FILE);
    let text = serde_json::to_string_pretty(config).map_err(FormatError::json(&config_path))?;
    write_file(&config_path, text.as_bytes())
}

fn default_rank() -> usize {
    8
}

fn default_alpha() -> f64 {
    8.0
}

fn default_bias() -> String {
    "none".to_owned()
}

/// PEFT declares alpha an integer; keep it one where it is.
fn whole_if_possible<S: Serializer>(alpha: &f64, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    if alpha.fract() == 0.0 && alpha.abs() < 1e15 {
        serializer.serialize_i64(*alpha as i64)
    } else {
        serializer.serialize_f64(*alpha)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str =
        r#"{"peft_type":"LORA","r":4,"lora_alpha":16,"target_modules":["q_proj"],"new_key":[1]}"#;

    fn tensor(name: &str) -> NamedTensor {
        NamedTensor { name: name.into(), shape: vec![4, 2], data: (0..8).map(|i| i as f32).collect() }
    }

    #[test]
    fn adapters_survive_writing_and_reading() {
        let folder = tempfile::tempdir().unwrap();
        let config: AdapterConfig = serde_json::from_str(MINIMAL).unwrap();
        let tensors = [tensor("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight")];
        write_adapter(folder.path(), &config, &tensors).unwrap();
        assert_eq!(read_adapter(folder.path()).unwrap(), (config, tensors.to_vec()));
        let text = fs::read_to_string(folder.path().join(CONFIG_FILE)).unwrap();
        for expected in
            ["\"lora_alpha\": 16,", "\"new_key\"", "\"inference_mode\": false", "\"bias\": \"none\""]
        {
            assert!(text.contains(expected), "{expected} is not in {text}");
        }
        let stray =
            write_adapter(folder.path(), &serde_json::from_str(MINIMAL).unwrap(), &[tensor("lora_A")]);
        assert!(stray.is_err());
    }

    #[test]
    fn scales_follow_patterns_and_the_rank_stabilised_rule() {
        let mut config: AdapterConfig = serde_json::from_str(MINIMAL).unwrap();
        config.rank_pattern = BTreeMap::from([("k_proj".into(), 16), ("layers.1.q_proj".into(), 2)]);
        config.alpha_pattern = BTreeMap::from([("k_proj".into(), 8.0)]);
        assert_eq!(config.rank_and_scale("model.layers.0.q_proj"), (4, 4.0));
        assert_eq!(config.rank_and_scale("model.layers.1.q_proj"), (2, 8.0));
        assert_eq!(config.rank_and_scale("model.layers.0.k_proj"), (16, 0.5));
        assert_eq!(config.rank_and_scale("model.layers.0.xk_proj"), (4, 4.0));
        config.use_rslora = true;
        assert_eq!(config.rank_and_scale("model.layers.0.q_proj"), (4, 8.0));
    }

    #[test]
    fn unusable_adapters_are_refused_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let refusal = || read_adapter(folder.path()).unwrap_err().to_string();
        assert!(refusal().ends_with("adapter_config.json is missing"));
        let set = |text: &str| fs::write(folder.path().join(CONFIG_FILE), text).unwrap();
        set(r#"{"peft_type":"IA3"}"#);
        assert!(refusal().contains("its kind is \"IA3\""));
        set(r#"{"peft_type":"LORA","r":0}"#);
        assert!(refusal().contains("its rank is 0"));
        set(MINIMAL);
        assert!(refusal().ends_with("adapter_model.safetensors is missing"));
        fs::write(folder.path().join("adapter_model.bin"), b"").unwrap();
        assert!(refusal().contains("pickled"));
    }

    #[test]
    fn every_form_of_target_modules_is_read() {
        let read = |value: &str| {
            let text = format!(r#"{{"peft_type":"LORA","target_modules":{value}}}"#);
            serde_json::from_str::<AdapterConfig>(&text).unwrap().target_modules
        };
        assert_eq!(read("null"), TargetModules::Unset);
        assert_eq!(read(r#"["a"]"#), TargetModules::Names(vec!["a".into()]));
        assert_eq!(read(r#""all-linear""#), TargetModules::Pattern("all-linear".into()));
    }
}
