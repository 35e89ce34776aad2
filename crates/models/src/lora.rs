//! Low-rank adapters (LoRA): y = x Wᵀ + s·(dropout(x) Aᵀ) Bᵀ with s = α/R, or α/√R for rank-stabilised LoRA.
//!
//! Names, target rules and initial values are PEFT's, so that adapters can be exchanged with it in both directions.

use std::collections::{BTreeMap, BTreeSet};

use burn::tensor::{DType, Device};
use tunesmith_formats::peft::{AdapterConfig, TargetModules};
use tunesmith_formats::safetensors_io::NamedTensor;
use tunesmith_ops::Orientation;

use crate::counter::{mix, unit};
use crate::error::{ModelError, Result};
use crate::family::Family;
use crate::linear::{Adapter, Linear};
use crate::parameters::{Parameter, ParameterStore, to_device};
use crate::score_head::ScoreHeadKind;

/// What a fresh adapter looks like.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraSpec {
    /// R, at least 1.
    pub r: usize,
    /// α, the numerator of the scale.
    pub alpha: f32,
    /// Probability that an input of the branch is dropped in training, below 1.
    pub dropout: f32,
    /// Scale by α/√R instead of α/R.
    pub use_rslora: bool,
    /// Modules to adapt: each name is a module's full path or the end of it after a dot (`q_proj`,
    /// `self_attn.q_proj`). Empty: every linear layer whose path does not contain `head`.
    pub target_modules: Vec<String>,
    /// Seed of A's initial values.
    pub seed: u64,
}

impl LoraSpec {
    fn check(&self) -> Result<()> {
        let fail = |setting, reason| Err(ModelError::LoraSetting { setting, reason });
        if self.r == 0 {
            return fail("r", "must be at least 1, is 0".to_owned());
        }
        if !self.alpha.is_finite() {
            return fail("alpha", format!("must be a finite number, is {}", self.alpha));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return fail("dropout", format!("must be at least 0 and below 1, is {}", self.dropout));
        }
        Ok(())
    }
}

/// What attaching an adapter did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoraAttached {
    /// Paths of the adapted modules.
    pub modules: Vec<String>,
    /// Target names that fit no module although others did. PEFT ignores such names; a caller should mention them.
    pub unmatched_targets: Vec<String>,
}

/// Adds a fresh branch to the target modules: A uniform within ±1/√I (Kaiming with a = √5), B zero.
pub(crate) fn attach(
    family: &mut dyn Family,
    parameters: &mut ParameterStore,
    spec: &LoraSpec,
    device: &Device,
) -> Result<(AdapterConfig, LoraAttached)> {
    spec.check()?;
    let attached = targets(family, parameters, &spec.target_modules)?;
    let config = config_of(family, spec, &attached);
    let chosen: BTreeSet<&str> = attached.modules.iter().map(String::as_str).collect();
    parameters.set_trainable(|_| false);
    for linear in family.linears_mut().into_iter().filter(|l| chosen.contains(l.path.as_str())) {
        let a = initial_a(spec, linear);
        let b = vec![0.0; linear.out_features * spec.r];
        push_branch(linear, parameters, &config, a, b, device);
    }
    Ok((config, attached))
}

/// Adds the branches that an adapter of PEFT holds.
pub(crate) fn attach_loaded(
    family: &mut dyn Family,
    parameters: &mut ParameterStore,
    config: &AdapterConfig,
    tensors: Vec<NamedTensor>,
    device: &Device,
) -> Result<LoraAttached> {
    check_config(config)?;
    let mut by_name: BTreeMap<String, NamedTensor> = BTreeMap::new();
    for tensor in tensors {
        let name = tensor.name.strip_prefix(PEFT_PREFIX).unwrap_or(&tensor.name);
        by_name.insert(name.to_owned(), tensor);
    }

    // The weights say which modules are adapted: the target names were resolved when the adapter was made.
    let mut branches = Vec::new();
    for linear in family.linears() {
        let mut part = |side: &str| by_name.remove(&format!("{}.lora_{side}.weight", linear.path));
        match (part("A"), part("B")) {
            (None, None) => branches.push(None),
            (Some(a), Some(b)) => {
                let (rank, _) = config.rank_and_scale(&linear.path);
                check_shape(&a, &[rank, linear.in_features])?;
                check_shape(&b, &[linear.out_features, rank])?;
                branches.push(Some((a.data, b.data)));
            }
            (a, _) => {
                let missing = if a.is_some() { "lora_B" } else { "lora_A" };
                return adapter_error(format!("{} has no {missing}", linear.path));
            }
        }
    }
    if !by_name.is_empty() {
        let names: Vec<&str> = by_name.keys().take(5).map(String::as_str).collect();
        return adapter_error(format!(
            "{} tensor(s) belong to no linear layer of this model: {}",
            by_name.len(),
            names.join(", ")
        ));
    }
    let modules: Vec<String> = family
        .linears()
        .iter()
        .zip(&branches)
        .filter_map(|(linear, branch)| branch.as_ref().map(|_| linear.path.clone()))
        .collect();
    if modules.is_empty() {
        return adapter_error("it holds no LoRA weights".to_owned());
    }

    parameters.set_trainable(|_| false);
    for (linear, branch) in family.linears_mut().into_iter().zip(branches) {
        if let Some((a, b)) = branch {
            push_branch(linear, parameters, config, a, b, device);
        }
    }
    Ok(LoraAttached { modules, unmatched_targets: Vec::new() })
}

/// A and B of every adapted module under PEFT's names.
pub(crate) fn adapter_tensors(family: &dyn Family, parameters: &ParameterStore) -> Result<Vec<NamedTensor>> {
    let sides = family.linears().into_iter().filter_map(|l| l.adapter).flat_map(|a| [a.a, a.b]);
    sides
        .filter_map(|parameter_idx| parameters.get(parameter_idx))
        .map(|p| {
            let (name, shape) = (p.name.clone(), p.shape.clone());
            Ok(in_peft_form(NamedTensor { name, shape, data: p.to_vec()? }))
        })
        .collect()
}

/// The settings with a score head as a module that is stored whole.
pub(crate) fn with_score_head(config: AdapterConfig) -> AdapterConfig {
    AdapterConfig {
        task_type: Some("SEQ_CLS".to_owned()),
        modules_to_save: Some(vec![SCORE.to_owned()]),
        ..config
    }
}

/// A tensor with its name as PEFT has it.
pub(crate) fn in_peft_form(tensor: NamedTensor) -> NamedTensor {
    NamedTensor { name: format!("{PEFT_PREFIX}{}", tensor.name), ..tensor }
}

/// A score head among an adapter's tensors under its own name, and the rest.
pub(crate) fn without_score_head(mut tensors: Vec<NamedTensor>) -> (Option<NamedTensor>, Vec<NamedTensor>) {
    let name = ScoreHeadKind::OnHidden.weight_name();
    let place = tensors.iter().position(|t| t.name.strip_prefix(PEFT_PREFIX) == Some(name));
    let head = place.map(|place| NamedTensor { name: name.to_owned(), ..tensors.remove(place) });
    (head, tensors)
}

/// What PEFT writes before a module's path.
const PEFT_PREFIX: &str = "base_model.model.";
const LORA: &str = "LORA";
/// The module of a score head in transformers, and the names that PEFT lists for all sequence classifiers.
const SCORE: &str = "score";
const CLASSIFIERS: [&str; 2] = ["classifier", SCORE];

/// The modules that the target names mean. The rule for names is PEFT's, the rule for none H2O LLM Studio's.
fn targets(family: &dyn Family, parameters: &ParameterStore, names: &[String]) -> Result<LoraAttached> {
    let paths: Vec<String> = family.linears().iter().map(|l| l.path.clone()).collect();
    if names.is_empty() {
        let modules = paths.into_iter().filter(|path| !path.contains("head")).collect();
        return Ok(LoraAttached { modules, unmatched_targets: Vec::new() });
    }
    let is_meant = |path: &str, name: &str| {
        path.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    for parameter in parameters.iter() {
        let module = parameter.name.strip_suffix(".weight").unwrap_or(&parameter.name);
        let is_elsewhere = !paths.iter().any(|path| path == module) && parameter.name.ends_with(".weight");
        if is_elsewhere && names.iter().any(|name| is_meant(module, name)) {
            return Err(ModelError::LoraTargetUnsupported { module: module.to_owned() });
        }
    }
    let unmatched_targets: Vec<String> =
        names.iter().filter(|name| !paths.iter().any(|path| is_meant(path, name))).cloned().collect();
    if unmatched_targets.len() == names.len() {
        let available = last_components(paths.iter().map(String::as_str));
        return Err(ModelError::NoLoraTarget { targets: names.to_vec(), available });
    }
    let modules = paths.into_iter().filter(|path| names.iter().any(|name| is_meant(path, name))).collect();
    Ok(LoraAttached { modules, unmatched_targets })
}

fn push_branch(
    linear: &mut Linear,
    parameters: &mut ParameterStore,
    config: &AdapterConfig,
    a: Vec<f32>,
    b: Vec<f32>,
    device: &Device,
) {
    let (rank, scale) = config.rank_and_scale(&linear.path);
    let mut push = |side: &str, shape: [usize; 2], values| {
        let name = format!("{}.lora_{side}.weight", linear.path);
        parameters.push(Parameter::new(name, shape.to_vec(), to_device(values, device, DType::F32), true))
    };
    let a = push("A", [rank, linear.in_features], a);
    let b = push("B", [linear.out_features, rank], b);
    linear.adapter = Some(Adapter { a, b, scale: scale as f32, dropout: config.lora_dropout as f32 });
}

/// Uniform within ±1/√I, each value a function of seed, module and place alone.
fn initial_a(spec: &LoraSpec, linear: &Linear) -> Vec<f32> {
    let bound = 1.0 / (linear.in_features as f32).sqrt();
    let key = mix(spec.seed, linear.module_idx as u64);
    (0..spec.r * linear.in_features)
        .map(|i| {
            let unit = unit(mix(key, i as u64)) as f32;
            (2.0 * unit - 1.0) * bound
        })
        .collect()
}

/// The settings in PEFT's form. Targets that were left empty are written out as last path components.
fn config_of(family: &dyn Family, spec: &LoraSpec, attached: &LoraAttached) -> AdapterConfig {
    let target_modules = if spec.target_modules.is_empty() {
        last_components(attached.modules.iter().map(String::as_str))
    } else {
        spec.target_modules.clone()
    };
    AdapterConfig {
        peft_type: LORA.to_owned(),
        task_type: Some("CAUSAL_LM".to_owned()),
        base_model_name_or_path: None,
        r: spec.r,
        lora_alpha: shortest(spec.alpha),
        lora_dropout: shortest(spec.dropout),
        target_modules: TargetModules::Names(target_modules),
        bias: "none".to_owned(),
        use_dora: false,
        use_rslora: spec.use_rslora,
        fan_in_fan_out: family.linears().iter().any(|l| l.orientation == Orientation::InOut),
        inference_mode: true,
        rank_pattern: BTreeMap::new(),
        alpha_pattern: BTreeMap::new(),
        modules_to_save: None,
        other: serde_json::Map::new(),
    }
}

/// Refuses what would change the computation and is not implemented.
fn check_config(config: &AdapterConfig) -> Result<()> {
    if config.peft_type != LORA {
        return adapter_error(format!("its kind is {}, only {LORA} is supported", config.peft_type));
    }
    if config.use_dora {
        return adapter_error("use_dora is not supported".to_owned());
    }
    if config.bias != "none" {
        return adapter_error(format!("bias is {:?}, only \"none\" is supported", config.bias));
    }
    let stored_whole = config.modules_to_save.iter().flatten();
    if let Some(module) = stored_whole.into_iter().find(|module| !CLASSIFIERS.contains(&module.as_str())) {
        return adapter_error(format!("modules_to_save ({module}) is not supported, but for {SCORE}"));
    }
    if !(0.0..1.0).contains(&config.lora_dropout) {
        return adapter_error(format!("lora_dropout is {}, not at least 0 and below 1", config.lora_dropout));
    }
    Ok(())
}

fn check_shape(tensor: &NamedTensor, expected: &[usize]) -> Result<()> {
    if tensor.shape != expected || tensor.data.len() != expected.iter().product::<usize>() {
        return adapter_error(format!(
            "{} has shape {:?}, this model needs {expected:?}",
            tensor.name, tensor.shape
        ));
    }
    Ok(())
}

fn adapter_error<T>(reason: String) -> Result<T> {
    Err(ModelError::Adapter { reason })
}

/// The last components of the paths, each once, in order of appearance.
fn last_components<'a>(paths: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for path in paths {
        let last = path.rsplit('.').next().unwrap_or(path);
        if !names.iter().any(|name| name == last) {
            names.push(last.to_owned());
        }
    }
    names
}

/// The shortest decimal number that reads back as the same float32: 0.05, not 0.05000000074505806.
fn shortest(value: f32) -> f64 {
    value.to_string().parse().unwrap_or_else(|_| value.into())
}
