//! Low-rank adapters (LoRA): y = x Wᵀ + s·(dropout(x) Aᵀ) Bᵀ with s = α/R, or α/√R for rank-stabilised LoRA; with lengths of
//! their own for the rows of the sum ([`crate::dora`]), or starting with principal components ([`crate::pissa`]).
//!
//! Names, target rules and initial values are PEFT's, so that adapters can be exchanged with it in both directions.

use std::collections::{BTreeMap, BTreeSet};

use burn::tensor::{DType, Device, Tensor};
use tunesmith_formats::model_config::Architecture;
use tunesmith_formats::peft::{AdapterConfig, Patterns, TargetModules, is_end_of_path};
use tunesmith_formats::safetensors_io::NamedTensor;
use tunesmith_ops::{Orientation, Weight};

use crate::counter::{mix, unit};
use crate::dora::squared_norms;
use crate::error::{ModelError, Result};
use crate::family::Family;
use crate::linear::{Adapter, Lengths, Linear};
use crate::parameters::{Parameter, ParameterStore, read_back, to_device};
use crate::pissa;
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
    /// Train the lengths of the adapted weights' rows apart from their directions (DoRA).
    pub use_dora: bool,
    /// What A and B start with.
    pub init: LoraInit,
    /// Modules to adapt: each name is a module's full path or the end of it after a dot (`q_proj`,
    /// `self_attn.q_proj`), or `all-linear`, every linear layer of the blocks. Empty: those whose path does not contain
    /// `head`, which are the same in all families.
    pub target_modules: Vec<String>,
    /// Seed of A's initial values.
    pub seed: u64,
}

/// What a fresh adapter's A and B start with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LoraInit {
    /// A uniform within ±1/√I (Kaiming with a = √5), B zero.
    #[default]
    Uniform,
    /// The principal components of the weight, which the branch then has taken off again (PiSSA). Without dropout.
    Principal,
}

impl Default for LoraSpec {
    /// PEFT's defaults.
    fn default() -> Self {
        Self {
            r: 8,
            alpha: 8.0,
            dropout: 0.0,
            use_rslora: false,
            use_dora: false,
            init: LoraInit::default(),
            target_modules: Vec::new(),
            seed: 0,
        }
    }
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
        if self.init == LoraInit::Principal && self.dropout > 0.0 {
            let reason = format!(
                "must be 0 with principal components, is {}: what the branch starts with would not be \
                                  taken off whole",
                self.dropout
            );
            return fail("dropout", reason);
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
    /// Sentences about settings of a loaded adapter that had no effect or are not known; a caller should mention them.
    pub notes: Vec<String>,
}

/// Adds a fresh branch to the target modules.
pub(crate) fn attach(
    family: &mut dyn Family,
    parameters: &mut ParameterStore,
    spec: &LoraSpec,
    architecture: Architecture,
    device: &Device,
) -> Result<(AdapterConfig, LoraAttached)> {
    spec.check()?;
    let attached = targets(family, parameters, architecture, &spec.target_modules)?;
    let config = config_of(family, spec, &attached);
    let chosen: BTreeSet<&str> = attached.modules.iter().map(String::as_str).collect();
    parameters.set_trainable(|_| false);
    for linear in family.linears_mut().into_iter().filter(|l| chosen.contains(l.path.as_str())) {
        let branch = match spec.init {
            LoraInit::Uniform => {
                let (a, b) = (initial_a(spec, linear), vec![0.0; linear.out_features * spec.r]);
                Branch { a, b, magnitude: None, starts_principal: false }
            }
            LoraInit::Principal => {
                let (rank, scale) = understood(config.rank_and_scale(&linear.path))?;
                let weight = weight_of(linear, parameters);
                let pissa::Start { a, b } =
                    pissa::start(&weight, linear.orientation, rank, scale as f32, device)?;
                Branch { a, b, magnitude: None, starts_principal: true }
            }
        };
        push_branch(linear, parameters, &config, branch, device)?;
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
    let mut notes = check_config(config)?;
    let rule = understood(config.target_rule())?;
    let mut by_name: BTreeMap<String, NamedTensor> = BTreeMap::new();
    for tensor in tensors {
        let name = tensor.name.strip_prefix(PEFT_PREFIX).unwrap_or(&tensor.name);
        by_name.insert(name.to_owned(), tensor);
    }

    // The weights say which modules are adapted, and the settings must agree: PEFT leaves out weights of other modules.
    let mut branches = Vec::new();
    for linear in family.linears() {
        let mut part = |side: &str| by_name.remove(&format!("{}.lora_{side}.weight", linear.path));
        match (part("A"), part("B")) {
            (None, None) => branches.push(None),
            (Some(a), Some(b)) => {
                if !understood(rule.means(&linear.path))? {
                    return adapter_error(format!(
                        "it holds weights for {}, which its target_modules, or what restricts them, do not name",
                        linear.path
                    ));
                }
                let (rank, _) = understood(config.rank_and_scale(&linear.path))?;
                check_shape(&a, &[rank, linear.in_features])?;
                check_shape(&b, &[linear.out_features, rank])?;
                let magnitude = match config.use_dora {
                    true => Some(stored_magnitude(&mut by_name, linear)?),
                    false => None,
                };
                branches.push(Some(Branch { a: a.data, b: b.data, magnitude, starts_principal: false }));
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
            "{} tensor(s) belong to no linear layer in this model's blocks: {}; adapters on the embedding or the head, and whole \
             weights, are not loaded: merge the adapter with PEFT (merge_and_unload) and use the merged model",
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

    notes.extend(understood(config.idle_patterns(&modules))?);
    parameters.set_trainable(|_| false);
    for (linear, branch) in family.linears_mut().into_iter().zip(branches) {
        if let Some(branch) = branch {
            push_branch(linear, parameters, config, branch, device)?;
        }
    }
    Ok(LoraAttached { modules, unmatched_targets: Vec::new(), notes })
}

/// The lengths of a module's rows among an adapter's tensors. PEFT leaves out the ending in files.
fn stored_magnitude(by_name: &mut BTreeMap<String, NamedTensor>, linear: &Linear) -> Result<Vec<f32>> {
    let name = magnitude_name(linear);
    match by_name.remove(&name).or_else(|| by_name.remove(&format!("{name}.weight"))) {
        Some(magnitude) => {
            check_shape(&magnitude, &[linear.out_features])?;
            Ok(magnitude.data)
        }
        None => adapter_error(format!("{} has no lora_magnitude_vector, but use_dora is set", linear.path)),
    }
}

fn magnitude_name(linear: &Linear) -> String {
    format!("{}.lora_magnitude_vector", linear.path)
}

/// A, B and lengths of every adapted module under PEFT's names; of a branch that started with principal components those of
/// the whole change, of twice the rank.
pub(crate) fn adapter_tensors(family: &dyn Family, parameters: &ParameterStore) -> Result<Vec<NamedTensor>> {
    let mut tensors = Vec::new();
    for adapter in family.linears().into_iter().filter_map(|linear| linear.adapter.as_ref()) {
        let (a, b) = (own(parameters, adapter.a), own(parameters, adapter.b));
        let matrices = adapter.matrices(matrix(a), matrix(b));
        for (parameter, matrix) in [a, b].into_iter().zip(matrices) {
            let (name, shape) = (parameter.name.clone(), matrix.dims().to_vec());
            let data = read_back(matrix, &name)?;
            tensors.push(in_peft_form(NamedTensor { name, shape, data }));
        }
        if let Some(lengths) = &adapter.lengths {
            let parameter = own(parameters, lengths.magnitude);
            let (name, shape) = (parameter.name.clone(), parameter.shape.clone());
            tensors.push(in_peft_form(NamedTensor { name, shape, data: parameter.to_vec()? }));
        }
    }
    Ok(tensors)
}

/// The settings under which PEFT gives [`adapter_tensors`] the same effect: where branches started with principal
/// components, twice the rank with the same scale.
pub(crate) fn settings_of_tensors(config: AdapterConfig, family: &dyn Family) -> AdapterConfig {
    let mut adapters = family.linears().into_iter().filter_map(|linear| linear.adapter.as_ref());
    if !adapters.any(|adapter| adapter.start.is_some()) {
        return config;
    }
    // A fresh adapter has no ranks by pattern.
    let factor = if config.use_rslora { std::f64::consts::SQRT_2 } else { 2.0 };
    AdapterConfig { r: 2 * config.r, lora_alpha: factor * config.lora_alpha, ..config }
}

/// A parameter that an adapter was given when it was attached.
pub(crate) fn own(parameters: &ParameterStore, parameter_idx: usize) -> &Parameter {
    match parameters.get(parameter_idx) {
        Some(parameter) => parameter,
        None => unreachable!("an adapter's parameters are pushed before it is attached"),
    }
}

/// A matrix outside of any graph.
pub(crate) fn matrix(parameter: &Parameter) -> Tensor<2> {
    let shape: [usize; 2] = std::array::from_fn(|i| parameter.shape.get(i).copied().unwrap_or(1));
    parameter.tensor().reshape(shape)
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
/// The module of a score head in transformers.
const SCORE: &str = "score";

/// The modules that the target names mean. The rule for names is PEFT's, the rule for none H2O LLM Studio's.
fn targets(
    family: &dyn Family,
    parameters: &ParameterStore,
    architecture: Architecture,
    names: &[String],
) -> Result<LoraAttached> {
    let paths: Vec<String> = family.linears().iter().map(|l| l.path.clone()).collect();
    let attached =
        |modules, unmatched_targets| Ok(LoraAttached { modules, unmatched_targets, notes: Vec::new() });
    if names.is_empty() {
        return attached(paths.into_iter().filter(|path| !path.contains("head")).collect(), Vec::new());
    }
    let is_meant = |path: &str, name: &String| is_all_linear(name) || is_end_of_path(path, name);
    // A head that is the embedding is not among the parameters.
    let elsewhere = parameters.iter().map(|parameter| parameter.name.as_str());
    for name in elsewhere.chain([architecture.head_name()]) {
        let module = name.strip_suffix(".weight").unwrap_or(name);
        let is_elsewhere = !paths.iter().any(|path| path == module) && name.ends_with(".weight");
        if is_elsewhere && names.iter().any(|name| is_end_of_path(module, name)) {
            return Err(ModelError::LoraTargetUnsupported { module: module.to_owned() });
        }
    }
    let unmatched: Vec<String> =
        names.iter().filter(|name| !paths.iter().any(|path| is_meant(path, name))).cloned().collect();
    if unmatched.len() == names.len() {
        let available = last_components(paths.iter().map(String::as_str));
        return Err(ModelError::NoLoraTarget { targets: names.to_vec(), available });
    }
    attached(
        paths.into_iter().filter(|path| names.iter().any(|name| is_meant(path, name))).collect(),
        unmatched,
    )
}

/// PEFT's word for every linear layer but the head.
fn is_all_linear(name: &str) -> bool {
    TargetModules::Pattern(name.to_owned()).is_all_linear()
}

/// The values of a branch.
struct Branch {
    a: Vec<f32>,
    b: Vec<f32>,
    /// Lengths of the rows; those of the weight unless given.
    magnitude: Option<Vec<f32>>,
    /// Whether what it starts with is taken off again.
    starts_principal: bool,
}

fn push_branch(
    linear: &mut Linear,
    parameters: &mut ParameterStore,
    config: &AdapterConfig,
    branch: Branch,
    device: &Device,
) -> Result<()> {
    let (rank, scale) = understood(config.rank_and_scale(&linear.path))?;
    let (shape_a, shape_b) = ([rank, linear.in_features], [linear.out_features, rank]);
    let on_device = |values: Vec<f32>| to_device(values, device, DType::F32);
    let start = branch.starts_principal.then(|| {
        [on_device(branch.a.clone()).reshape(shape_a), on_device(branch.b.clone()).reshape(shape_b).neg()]
    });
    let magnitude = match config.use_dora {
        true => {
            let squared_norms = squared_norms(
                weight_of(linear, parameters).lying(linear.orientation),
                &Tensor::zeros([1], device),
            );
            let magnitude = match branch.magnitude {
                Some(magnitude) => on_device(magnitude),
                None => squared_norms.clone().sqrt(),
            };
            Some((magnitude, squared_norms))
        }
        false => None,
    };
    let mut push = |name: String, shape: &[usize], values| {
        parameters.push(Parameter::new(name, shape.to_vec(), values, true))
    };
    let a = push(format!("{}.lora_A.weight", linear.path), &shape_a, on_device(branch.a));
    let b = push(format!("{}.lora_B.weight", linear.path), &shape_b, on_device(branch.b));
    let lengths = magnitude.map(|(magnitude, squared_norms)| {
        let magnitude = push(magnitude_name(linear), &[linear.out_features], magnitude);
        Lengths { magnitude, squared_norms }
    });
    let dropout = config.lora_dropout as f32;
    linear.adapter = Some(Adapter { a, b, scale: scale as f32, dropout, start, lengths });
    Ok(())
}

/// The weight as it lies in memory.
fn weight_of(linear: &Linear, parameters: &ParameterStore) -> Weight {
    own(parameters, linear.weight).weight()
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

/// The settings in PEFT's form. Targets that were left empty, or mean all, are written out as last path components.
fn config_of(family: &dyn Family, spec: &LoraSpec, attached: &LoraAttached) -> AdapterConfig {
    let is_written_out =
        spec.target_modules.is_empty() || spec.target_modules.iter().any(|name| is_all_linear(name));
    let target_modules = if is_written_out {
        last_components(attached.modules.iter().map(String::as_str))
    } else {
        spec.target_modules.clone()
    };
    AdapterConfig {
        peft_type: LORA.to_owned(),
        task_type: Some(if family.has_encoder() { "SEQ_2_SEQ_LM" } else { "CAUSAL_LM" }.to_owned()),
        base_model_name_or_path: None,
        r: spec.r,
        lora_alpha: shortest(spec.alpha),
        lora_dropout: shortest(spec.dropout),
        target_modules: TargetModules::Names(target_modules),
        bias: "none".to_owned(),
        use_dora: spec.use_dora,
        use_rslora: spec.use_rslora,
        fan_in_fan_out: family.linears().iter().any(|l| l.orientation == Orientation::InOut),
        inference_mode: true,
        rank_pattern: Patterns::default(),
        alpha_pattern: Patterns::default(),
        modules_to_save: None,
        other: serde_json::Map::new(),
    }
}

/// Refuses what would change the computation and is not implemented; gives sentences about what is not known.
fn check_config(config: &AdapterConfig) -> Result<Vec<String>> {
    if !(0.0..1.0).contains(&config.lora_dropout) {
        return adapter_error(format!("lora_dropout is {}, not at least 0 and below 1", config.lora_dropout));
    }
    understood(config.check())
}

/// What settings mean, or why they are refused.
fn understood<T>(meaning: std::result::Result<T, String>) -> Result<T> {
    meaning.map_err(|reason| ModelError::Adapter { reason })
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
