//! LoRA adapters as PEFT stores them: `adapter_config.json` and `adapter_model.safetensors`.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::atomic::write_file;
use crate::dtype::StoreDtype;
use crate::error::{FormatError, Result};
use crate::safetensors_io::{NamedTensor, read_safetensors_f32, write_safetensors};

mod patterns;
mod settings;
mod targets;

pub use patterns::Patterns;
pub use settings::{SETTINGS, Setting, Treatment};
pub use targets::{TargetModules, TargetRule, is_end_of_path};

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
    /// Ranks of modules that differ from `r`.
    #[serde(default)]
    pub rank_pattern: Patterns<usize>,
    /// Alphas of modules that differ from `lora_alpha`.
    #[serde(default)]
    pub alpha_pattern: Patterns<f64>,
    /// Modules that were trained whole and are stored whole.
    #[serde(default)]
    pub modules_to_save: Option<Vec<String>>,
    /// All other keys.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl AdapterConfig {
    /// Rank and scale s of the update s·B·A of the module at `module_path`: s = alpha/R, or alpha/√R with
    /// `use_rslora`.
    ///
    /// # Errors
    /// A pattern that cannot be tried on the path, as a sentence.
    pub fn rank_and_scale(&self, module_path: &str) -> std::result::Result<(usize, f64), String> {
        let rank = self.rank_pattern.get(module_path)?.copied().unwrap_or(self.r);
        let alpha = self.alpha_pattern.get(module_path)?.copied().unwrap_or(self.lora_alpha);
        let divisor = if self.use_rslora { (rank as f64).sqrt() } else { rank as f64 };
        Ok((rank, alpha / divisor))
    }

    /// Refuses what would change the update and is not built, and gives sentences about keys that are not known.
    ///
    /// # Errors
    /// The setting with its value and a remedy, as a sentence.
    pub fn check(&self) -> std::result::Result<Vec<String>, String> {
        if self.peft_type != "LORA" {
            return Err(format!("its kind is {:?}, only \"LORA\" can be read", self.peft_type));
        }
        if self.r == 0 || self.rank_pattern.values().any(|rank| *rank == 0) {
            return Err("its rank is 0".to_owned());
        }
        match serde_json::to_value(self) {
            Ok(Value::Object(settings)) => settings::check(&settings),
            Ok(_) => Ok(Vec::new()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Sentences about keys of `rank_pattern` and `alpha_pattern` by which none of the adapted `modules` gets its value.
    ///
    /// # Errors
    /// A pattern that cannot be tried, as a sentence.
    pub fn idle_patterns(&self, modules: &[String]) -> std::result::Result<Vec<String>, String> {
        let paths = || modules.iter().map(String::as_str);
        let told = |setting: &str, keys: Vec<&str>| -> Vec<String> {
            let told =
                |key| format!("adapter_config.json: the key {key:?} of {setting} gives no module its value");
            keys.into_iter().map(told).collect()
        };
        let ranks = told("rank_pattern", self.rank_pattern.idle_keys(paths())?);
        Ok(ranks.into_iter().chain(told("alpha_pattern", self.alpha_pattern.idle_keys(paths())?)).collect())
    }
}

/// Reads the adapter in the folder `dir`. Tensors have PEFT's names, sorted, e.g.
/// `base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight`.
///
/// # Errors
/// [`FormatError::Missing`] for a missing file, [`FormatError::Adapter`] for what [`AdapterConfig::check`] refuses, and
/// what the JSON and safetensors readers refuse.
pub fn read_adapter(dir: &Path) -> Result<(AdapterConfig, Vec<NamedTensor>)> {
    let missing = |what: &str| FormatError::Missing { path: dir.to_owned(), what: what.to_owned() };
    let refused = |reason: String| FormatError::Adapter { path: dir.to_owned(), reason };
    let config_path = dir.join(CONFIG_FILE);
    if !config_path.is_file() {
        return Err(missing(CONFIG_FILE));
    }
    let text = fs::read(&config_path).map_err(FormatError::io(&config_path, "read"))?;
    let config: AdapterConfig = serde_json::from_slice(&text).map_err(FormatError::json(&config_path))?;
    config.check().map_err(refused)?;
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
        config.rank_pattern =
            Patterns::new([("k_proj".into(), 16), (r"layers\.[1-3]\.q_proj".into(), 2)]).unwrap();
        config.alpha_pattern = Patterns::new([("k_proj".into(), 8.0)]).unwrap();
        let of = |config: &AdapterConfig, path| config.rank_and_scale(path).unwrap();
        assert_eq!(of(&config, "model.layers.0.q_proj"), (4, 4.0));
        assert_eq!(of(&config, "model.layers.1.q_proj"), (2, 8.0));
        assert_eq!(of(&config, "model.layers.0.k_proj"), (16, 0.5));
        assert_eq!(of(&config, "model.layers.0.xk_proj"), (4, 4.0));
        config.use_rslora = true;
        assert_eq!(of(&config, "model.layers.0.q_proj"), (4, 8.0));
        let idle = config.idle_patterns(&["model.layers.1.q_proj".to_owned()]).unwrap();
        assert!(idle.len() == 2 && idle[0].contains("\"k_proj\" of rank_pattern"), "{idle:?}");
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
        set(r#"{"peft_type":"LORA","alpha_pattern":{"q_proj(":1}}"#);
        assert!(refusal().contains("\"q_proj(\" is no regular expression"));
        set(r#"{"peft_type":"LORA","init_lora_weights":"pissa"}"#);
        assert!(refusal().contains("adapter: init_lora_weights is \"pissa\""));
        set(MINIMAL);
        assert!(refusal().ends_with("adapter_model.safetensors is missing"));
        fs::write(folder.path().join("adapter_model.bin"), b"").unwrap();
        assert!(refusal().contains("pickled"));
    }
}
