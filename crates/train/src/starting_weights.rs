//! `architecture.pretrained_weights`: what a run starts from besides, or instead of, the backbone's own weights.

use std::path::{Path, PathBuf};

use burn::tensor::{Tensor, TensorData};
use sha2::{Digest, Sha256};
use tunesmith_config::{Architecture, LoraInit, Training};
use tunesmith_formats::label_names::read_label_names;
use tunesmith_formats::model_source::ModelSource;
use tunesmith_formats::peft::{AdapterConfig, TargetModules, read_adapter};
use tunesmith_formats::safetensors_io::{NamedTensor, SafetensorsFile};
use tunesmith_formats::score_head::read_score_head;
use tunesmith_formats::sequence_classifier::SequenceClassifier;
use tunesmith_models::CausalLm;

use crate::error::{IoContext, TrainError};
use crate::run_folder::RunFolder;

/// Weights to start from, opened but not yet applied.
pub(crate) enum StartingWeights {
    /// A PEFT adapter, attached instead of a fresh one.
    Adapter { dir: PathBuf, config: AdapterConfig, tensors: Vec<NamedTensor> },
    /// A whole model, loaded instead of the backbone.
    Model(ModelSource),
    /// Some parameters by name, set after everything else.
    Parameters(SafetensorsFile),
}

impl StartingWeights {
    /// Opens what `architecture.pretrained_weights` names; `None` when it is empty.
    pub(crate) fn of(architecture: &Architecture) -> Result<Option<Self>, TrainError> {
        match architecture.pretrained_weights.trim() {
            "" | "None" => Ok(None),
            path => Self::open(path.as_ref()).map(Some),
        }
    }

    /// Opens `path`: a PEFT adapter folder, a model folder or GGUF file, a run folder (its result), a checkpoint
    /// folder, or a safetensors file of parameters.
    pub(crate) fn open(path: &Path) -> Result<Self, TrainError> {
        let run = RunFolder::new(path);
        if path.join("adapter_config.json").is_file() {
            let (config, tensors) = read_adapter(path)?;
            return Ok(Self::Adapter { dir: path.to_owned(), config, tensors });
        }
        if path.join("config.json").is_file() || has_ending(path, "gguf") {
            return Ok(Self::Model(ModelSource::open(path)?));
        }
        for result in [run.adapter(), run.model()] {
            if result.is_dir() {
                return Self::open(&result);
            }
        }
        if path.join("weights.safetensors").is_file() {
            return Self::open(&path.join("weights.safetensors"));
        }
        if has_ending(path, "safetensors") {
            return Ok(Self::Parameters(SafetensorsFile::open(path)?));
        }
        let reason = if !path.exists() {
            "there is nothing at this path"
        } else if has_ending(path, "pth") || has_ending(path, "pt") || has_ending(path, "bin") {
            "PyTorch's pickled files are not read; convert it to safetensors"
        } else {
            "it is no PEFT adapter, model, run or checkpoint folder, and no safetensors or GGUF file"
        };
        Err(TrainError::StartingWeights { path: path.to_owned(), reason: reason.to_owned() })
    }

    /// What the scores of their head are called, where they have one and say so.
    pub(crate) fn score_labels(&self) -> Result<Option<Vec<String>>, TrainError> {
        match self {
            Self::Adapter { dir, .. } => Ok(read_label_names(dir)?),
            Self::Model(source) => score_labels(source),
            Self::Parameters(_) => Ok(None),
        }
    }

    /// A hash of their content.
    pub(crate) fn fingerprint(&self) -> Result<String, TrainError> {
        match self {
            Self::Adapter { dir, .. } => {
                let mut hash = Sha256::new();
                let heads = ["classification_head.safetensors", "regression_head.safetensors"];
                let heads = heads.into_iter().filter(|name| dir.join(name).is_file());
                for name in ["adapter_config.json", "adapter_model.safetensors"].into_iter().chain(heads) {
                    let path = dir.join(name);
                    hash.update(std::fs::read(&path).at(&path, "read")?);
                }
                Ok(hex(hash))
            }
            Self::Model(source) => Ok(source.fingerprint()?),
            Self::Parameters(file) => {
                let mut hash = Sha256::new();
                for info in file.tensors() {
                    hash.update(&info.name);
                    for value in file.read_f32(&info.name)? {
                        hash.update(value.to_le_bytes());
                    }
                }
                Ok(hex(hash))
            }
        }
    }
}

/// What the scores of a model's head are called; `None` without a head, and where the names are only numbers.
pub(crate) fn score_labels(source: &ModelSource) -> Result<Option<Vec<String>>, TrainError> {
    let Some(classifier) = SequenceClassifier::of(source.config()) else {
        return Ok(read_label_names(source.path())?);
    };
    let is_number = |(id, label): (usize, &String)| *label == format!("LABEL_{id}");
    let has_names = !classifier.labels.iter().enumerate().all(is_number);
    Ok(has_names.then_some(classifier.labels))
}

/// Attaches a stored adapter to `model` for further training by `training`'s settings. Gives what the user should know.
///
/// # Errors
/// When training is not by LoRA, or rank, scale or targets are not those of the configuration.
pub(crate) fn attach_stored_adapter(
    model: &mut CausalLm,
    dir: &Path,
    mut config: AdapterConfig,
    tensors: Vec<NamedTensor>,
    training: &Training,
    targets: &[String],
) -> Result<Vec<String>, TrainError> {
    let wrong = |reason: String| TrainError::StartingWeights { path: dir.to_owned(), reason };
    if !training.lora {
        return Err(wrong(
            "it is an adapter, but training.lora is false; export it merged and start from that".into(),
        ));
    }
    if training.lora_init != LoraInit::Default {
        let reason = format!(
            "it is an adapter with values of its own, but training.lora_init is {}; set it to default",
            training.lora_init
        );
        return Err(wrong(reason));
    }
    let flag = |is_on: bool| f64::from(u8::from(is_on));
    let settings = [
        ("training.lora_r", config.r as f64, training.lora_r as f64),
        ("training.lora_alpha", config.lora_alpha, training.lora_alpha as f64),
        ("training.use_rslora", flag(config.use_rslora), flag(training.use_rslora)),
        ("training.use_dora", flag(config.use_dora), flag(training.use_dora)),
    ];
    if let Some((field, stored, set)) = settings.iter().find(|(_, stored, set)| stored != set) {
        return Err(wrong(format!("it was made with {field} {stored}, the configuration says {set}")));
    }
    let sorted = |names: &[String]| {
        let mut names = names.to_vec();
        names.sort();
        names
    };
    let wants_all = targets.iter().any(|name| TargetModules::Pattern(name.clone()).is_all_linear());
    if let TargetModules::Names(stored) = &config.target_modules
        && !targets.is_empty()
        && !wants_all
        && sorted(targets) != sorted(stored)
    {
        let (stored, set) = (stored.join(","), targets.join(","));
        return Err(wrong(format!("it adapts {stored}, training.lora_target_modules says {set}")));
    }
    config.lora_dropout = training.lora_dropout;
    let head = tensors.iter().find(|tensor| tensor.name.ends_with(".score.weight"));
    check_outputs(model, dir, head)?;
    let attached = model.load_adapter(&config, tensors)?;
    let n_linear = model.linear_modules().len();
    if wants_all && attached.modules.len() < n_linear {
        let n_adapted = attached.modules.len();
        return Err(wrong(format!(
            "it adapts {n_adapted} modules, training.lora_target_modules says all {n_linear} linear ones"
        )));
    }
    load_starting_head(model, dir)?;
    Ok(attached.notes)
}

/// Sets the score head of `model`, if it has one, to the head on logits that lies beside the starting weights in `dir`.
///
/// # Errors
/// When it is another head than the configuration's.
pub(crate) fn load_starting_head(model: &mut CausalLm, dir: &Path) -> Result<(), TrainError> {
    if model.score_head().is_none() {
        return Ok(());
    }
    let Some(tensor) = read_score_head(dir)? else { return Ok(()) };
    check_outputs(model, dir, Some(&tensor))?;
    Ok(model.load_score_head(tensor)?)
}

/// Refuses a stored head with another number of scores than the model has.
fn check_outputs(model: &CausalLm, dir: &Path, stored: Option<&NamedTensor>) -> Result<(), TrainError> {
    let stored = stored.and_then(|tensor| tensor.shape.first().copied());
    match (stored, model.score_head().map(|head| head.n_outputs)) {
        (Some(stored), Some(wanted)) if stored != wanted => {
            let reason = format!(
                "its head gives {stored} scores, but the experiment has {wanted} classes or numbers to predict"
            );
            Err(TrainError::StartingWeights { path: dir.to_owned(), reason })
        }
        _ => Ok(()),
    }
}

/// Sets the parameters of `model` that `file` has and gives the number of parameters it does not have.
///
/// # Errors
/// When the file holds something that is no parameter of the model, or one of another shape.
pub(crate) fn set_parameters(model: &mut CausalLm, file: &SafetensorsFile) -> Result<usize, TrainError> {
    let wrong = |reason: String| TrainError::StartingWeights { path: file.path().to_owned(), reason };
    let mut n_set = 0;
    for info in file.tensors() {
        let store = model.parameters();
        let found = store.index_of(&info.name).and_then(|idx| Some((idx, store.get(idx)?)));
        let Some((parameter_idx, parameter)) = found else {
            return Err(wrong(format!("{} is no parameter of this model", info.name)));
        };
        if parameter.shape != info.shape {
            let (stored, here) = (&info.shape, &parameter.shape);
            return Err(wrong(format!("{} has shape {stored:?}, the model needs {here:?}", info.name)));
        }
        let values = file.read_f32(&info.name)?;
        let n_values = values.len();
        let value = Tensor::from_data(TensorData::new(values, [n_values]), &parameter.device());
        model.parameters_mut().set_value(parameter_idx, value)?;
        n_set += 1;
    }
    if n_set == 0 {
        return Err(wrong("it holds no tensors".to_owned()));
    }
    Ok(model.parameters().len() - n_set)
}

fn has_ending(path: &Path, ending: &str) -> bool {
    path.extension().is_some_and(|found| found.eq_ignore_ascii_case(ending))
}

fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn golden(name: &str) -> PathBuf {
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden")).join(name)
    }

    fn refusal(path: &Path) -> String {
        StartingWeights::open(path).map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn kinds_are_told_apart() {
        let adapter = StartingWeights::open(&golden("llama-mha-lora")).unwrap();
        assert!(matches!(adapter, StartingWeights::Adapter { .. }));
        assert_eq!(adapter.fingerprint().unwrap().len(), 64);
        let model = StartingWeights::open(&golden("llama-mha")).unwrap();
        assert!(matches!(model, StartingWeights::Model(_)));
        let file = StartingWeights::open(&golden("llama-mha/model.safetensors")).unwrap();
        assert!(matches!(file, StartingWeights::Parameters(_)));
    }

    #[test]
    fn a_run_folder_means_its_result() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunFolder::new(dir.path());
        std::fs::create_dir(run.adapter()).unwrap();
        for name in ["adapter_config.json", "adapter_model.safetensors"] {
            std::fs::copy(golden("llama-mha-lora").join(name), run.adapter().join(name)).unwrap();
        }
        assert!(matches!(StartingWeights::open(dir.path()).unwrap(), StartingWeights::Adapter { .. }));
    }

    #[test]
    fn other_paths_are_refused_with_a_reason() {
        let dir = tempfile::tempdir().unwrap();
        assert!(refusal(&dir.path().join("nothing")).contains("nothing at this path"));
        assert!(refusal(dir.path()).contains("no PEFT adapter"));
        let pickle = dir.path().join("checkpoint.pth");
        std::fs::write(&pickle, "").unwrap();
        assert!(refusal(&pickle).contains("convert it to safetensors"));
    }
}
