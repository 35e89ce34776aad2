//! A run folder read back for use: its configuration, its base model, and the model with the trained weights.

use std::path::{Path, PathBuf};

use tunesmith_config::ExperimentConfig;
use tunesmith_formats::StoreDtype;
use tunesmith_formats::model_source::ModelSource;
use tunesmith_formats::peft::read_adapter;
use tunesmith_formats::tokenizer::Tokenizer;
use tunesmith_models::CausalLm;
use tunesmith_ops::Device;

use crate::checkpoint;
use crate::error::TrainError;
use crate::events::ExportKind;
use crate::export::{
    ExportReport, ModelFolderOptions, load_head_on_logits, usual_dtype, write_adapter_folder,
    write_model_folder,
};
use crate::export_template::exported_tokenizer;
use crate::learning::{name_scores, score_problem};
use crate::number_formats::NumberFormats;
use crate::record::RunRecord;
use crate::run_folder::RunFolder;
use crate::setup::{LoadedModel, load_model};
use crate::starting_weights::StartingWeights;
use crate::trainability::Trainability;

/// A run that was trained, at least in part.
pub struct SavedRun {
    folder: RunFolder,
    config: ExperimentConfig,
    record: RunRecord,
    source: ModelSource,
    tokenizer: Tokenizer,
}

/// Which weights of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunWeights {
    /// Those the run came to: `adapter_model/` or `model/`.
    Result,
    /// Those of the checkpoint with this name: `last`, `best`, `step_100`.
    Checkpoint(String),
}

impl SavedRun {
    /// Opens the run folder `run_dir`. `model_path` replaces the place where the run found its base model.
    ///
    /// # Errors
    /// When the folder holds no run, or its base model cannot be opened.
    pub fn open(run_dir: &Path, model_path: Option<&Path>) -> Result<Self, TrainError> {
        let folder = RunFolder::new(run_dir);
        let missing = |what: &str| TrainError::NoWeights {
            path: run_dir.to_owned(),
            reason: format!("it is no run folder: it has no {what}"),
        };
        let record = RunRecord::read(&folder.record())?.ok_or_else(|| missing("run.json"))?;
        if !folder.config().is_file() {
            return Err(missing("cfg.yaml"));
        }
        let (config, _warnings) = ExperimentConfig::load(&folder.config())?;
        let source = ModelSource::open(model_path.unwrap_or(&record.model_path))?;
        let tokenizer = source.tokenizer()?;
        Ok(Self { folder, config, record, source, tokenizer })
    }

    /// The configuration the run had.
    pub fn config(&self) -> &ExperimentConfig {
        &self.config
    }

    /// What the run was made of.
    pub fn record(&self) -> &RunRecord {
        &self.record
    }

    /// The tokenizer the run used.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The run's model with the chosen weights, adapters attached where it has any.
    ///
    /// # Errors
    /// [`TrainError::NoWeights`] when the run has no such weights, naming those it has.
    pub fn model(&self, weights: &RunWeights, device: &Device) -> Result<CausalLm, TrainError> {
        Ok(self.load(weights, device)?.0)
    }

    /// Writes the chosen weights to `out` as an adapter, or as a whole model stored as `dtype`, or without one as the base
    /// model is.
    ///
    /// # Errors
    /// As [`Self::model`], [`write_adapter_folder`] and [`write_model_folder`]; [`TrainError::NoWeights`] for an adapter
    /// of a run that trained other weights as well.
    pub fn export(
        &self,
        weights: &RunWeights,
        kind: ExportKind,
        dtype: Option<StoreDtype>,
        device: &Device,
        out: &Path,
    ) -> Result<ExportReport, TrainError> {
        if kind == ExportKind::Adapter && !Trainability::of(&self.config.training).is_adapter_only() {
            return Err(self.no_weights(
                "the run trained weights besides adapters, or none; export the model".to_owned(),
            ));
        }
        let (mut model, source) = self.load(weights, device)?;
        name_scores(&mut model, &self.config);
        let source = source.as_ref().unwrap_or(&self.source);
        let tokenizer = exported_tokenizer(&self.config, &self.tokenizer)?;
        match kind {
            ExportKind::Adapter => {
                write_adapter_folder(model, source, &tokenizer, &base_name(&self.config, source), out)
            }
            ExportKind::Model => {
                let dtype = dtype.unwrap_or_else(|| usual_dtype(&self.source));
                let problem = score_problem(&self.config);
                let options = ModelFolderOptions { dtype, problem, ..ModelFolderOptions::default() };
                write_model_folder(model, source, &tokenizer, options, out)
            }
        }
    }

    /// The model and, when its base weights are not those of the run's base model, where they came from.
    fn load(
        &self,
        weights: &RunWeights,
        device: &Device,
    ) -> Result<(CausalLm, Option<ModelSource>), TrainError> {
        match weights {
            RunWeights::Result if self.folder.adapter().is_dir() => {
                let replaced = self.replaced_base()?;
                let options = NumberFormats::of(&self.config, device).load_options(&|_| false);
                let source = replaced.as_ref().unwrap_or(&self.source);
                let mut model = CausalLm::load_with(source, device, &options)?;
                let (config, tensors) = read_adapter(&self.folder.adapter())?;
                model.load_adapter(&config, tensors)?;
                load_head_on_logits(&mut model, &self.folder.adapter())?;
                Ok((model, replaced))
            }
            RunWeights::Result if self.folder.model().is_dir() => {
                let source = ModelSource::open(&self.folder.model())?;
                let mut model = CausalLm::load(&source, device)?;
                load_head_on_logits(&mut model, &self.folder.model())?;
                Ok((model, Some(source)))
            }
            RunWeights::Result => Err(self.no_weights("the run has no result yet".to_owned())),
            RunWeights::Checkpoint(name) => {
                let dir = self.checkpoint_dir(name)?;
                let base = ModelSource::open(self.source.path())?;
                let starting = self.starting_weights()?;
                let trainability = Trainability::of(&self.config.training);
                let loaded =
                    load_model(&self.config, self.record.seed, base, starting, device, &trainability)?;
                let LoadedModel { mut model, source, .. } = loaded;
                checkpoint::load_weights(&dir, &mut model)?;
                Ok((model, Some(source)))
            }
        }
    }

    /// The model folder the run started from instead of its backbone.
    fn replaced_base(&self) -> Result<Option<ModelSource>, TrainError> {
        match self.starting_weights()? {
            Some(StartingWeights::Model(source)) => Ok(Some(source)),
            _ => Ok(None),
        }
    }

    fn starting_weights(&self) -> Result<Option<StartingWeights>, TrainError> {
        StartingWeights::of(&self.config.architecture)
    }

    fn checkpoint_dir(&self, name: &str) -> Result<PathBuf, TrainError> {
        let dir = self.folder.checkpoints().join(name);
        let is_plain_name = Path::new(name).components().count() == 1;
        if is_plain_name && dir.join("state.json").is_file() {
            return Ok(dir);
        }
        Err(self.no_weights(format!("there is no checkpoint {name:?}")))
    }

    /// "No such weights", with those there are.
    fn no_weights(&self, reason: String) -> TrainError {
        let mut available = checkpoint::names(&self.folder.checkpoints()).unwrap_or_default();
        if available.is_empty() {
            available.push("none".to_owned());
        }
        let reason = format!("{reason} (checkpoints: {})", available.join(", "));
        TrainError::NoWeights { path: self.folder.root().to_owned(), reason }
    }
}

/// What an adapter names as its base: the backbone of the configuration when it is an id of the hub, which other programs
/// find, and otherwise where the weights lie, from the root, so that it is found from any folder.
pub(crate) fn base_name(config: &ExperimentConfig, source: &ModelSource) -> String {
    let is_replaced =
        matches!(StartingWeights::of(&config.architecture), Ok(Some(StartingWeights::Model(_))));
    let backbone = config.llm_backbone.trim();
    if !is_replaced && is_hub_id(backbone) {
        return backbone.to_owned();
    }
    let path = std::path::absolute(source.path()).unwrap_or_else(|_| source.path().to_owned());
    path.display().to_string()
}

/// An owner and a name, and nothing that lies here.
fn is_hub_id(name: &str) -> bool {
    let is_plain = |part: &str| {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        !part.is_empty() && !part.starts_with('.') && part.chars().all(is_plain)
    };
    let has_two_parts = name.split_once('/').is_some_and(|(owner, rest)| is_plain(owner) && is_plain(rest));
    has_two_parts && !Path::new(name).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_adapter_names_an_id_of_the_hub_or_a_path_from_the_root() {
        let golden = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/llama-mha"));
        let source = ModelSource::open(golden).unwrap();
        let name = |backbone: &str| {
            let config =
                ExperimentConfig { llm_backbone: backbone.to_owned(), ..ExperimentConfig::default() };
            base_name(&config, &source)
        };
        assert_eq!(name("HuggingFaceTB/SmolLM2-135M-Instruct"), "HuggingFaceTB/SmolLM2-135M-Instruct");
        for elsewhere in ["", "demo", "../models/x", "a/b/c", "/models/x", "x.gguf", "owner/name:Q4_0"] {
            assert!(Path::new(&name(elsewhere)).is_absolute(), "{elsewhere}");
        }
        // A folder of that name is what the run was made from.
        assert!(!is_hub_id("src/lib.rs"), "it is there, seen from the crate");
    }

    #[test]
    fn a_merged_model_is_stored_as_its_base_unless_said_otherwise() {
        let of = |name: &str| {
            let golden = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden"));
            usual_dtype(&ModelSource::open(&golden.join(name)).unwrap())
        };
        assert_eq!(of("llama-mha"), StoreDtype::F32);
        assert_eq!(of("gguf/llama-blocks.gguf"), StoreDtype::BF16);
    }
}
