//! `run.json`: what a run was made of, so that it can be repeated and so that resuming continues the same run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tunesmith_config::{ExperimentConfig, schema};
use tunesmith_data::TokenSample;

use crate::error::TrainError;
use crate::json_file::{read_json, write_json};

/// Content of `run.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// The seed in use; the one drawn when the configuration says -1.
    pub seed: u64,
    /// Folder or file the base model was read from.
    pub model_path: PathBuf,
    /// Version of this program.
    pub program_version: String,
    /// What computed.
    pub machine: Machine,
    /// Number formats.
    pub dtypes: Dtypes,
    /// What was done otherwise than the configuration says, in sentences.
    pub substitutions: Vec<String>,
    /// What the run is judged by; empty in records of versions that did not write it.
    #[serde(default)]
    pub metric: String,
    /// Hashes of what went in.
    pub fingerprints: Fingerprints,
    /// Parameters of the model, adapters included.
    pub n_parameters: u64,
    /// Those that are trained.
    pub n_trainable_parameters: u64,
    /// The label of each class, where classes are learned; named and written as in transformers' `config.json`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub id2label: BTreeMap<usize, String>,
    /// The class of each label.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub label2id: BTreeMap<String, usize>,
    /// Every field of the configuration by its path.
    pub config: BTreeMap<String, Value>,
}

/// What computed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Device.
    pub device: String,
    /// The widest instruction set in use.
    pub instruction_set: String,
    /// Threads that compute. The results do not depend on it.
    pub n_threads: usize,
    /// Operating system and processor architecture.
    pub platform: String,
}

/// Number formats of weights, activations and sums.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dtypes {
    /// Weights in memory and in checkpoints.
    pub storage: String,
    /// Activations and gradients.
    pub compute: String,
    /// Sums within an operation.
    pub accumulation: String,
}

/// Hashes of what went in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprints {
    /// The base model.
    pub model: String,
    /// The tokenizer.
    pub tokenizer: String,
    /// The weights of `architecture.pretrained_weights`, when there are any.
    pub starting_weights: Option<String>,
    /// The training samples as tokens.
    pub train_samples: String,
    /// The validation samples as tokens.
    pub validation_samples: String,
    /// The words that another model grades answers by, where one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judge_template: Option<String>,
}

/// Fields that say how long a run is. A run may be made longer, which is decided by its plan.
const LENGTH: [&str; 4] = [
    "training.early_stopping_min_delta",
    "training.early_stopping_patience",
    "training.epochs",
    "training.max_steps",
];

/// Fields that may change between interruption and resumption: they name things whose content is compared by its
/// fingerprint, or change neither weights nor losses.
const MAY_CHANGE: [&str; 17] = [
    "experiment_name",
    "llm_backbone",
    "output_directory",
    "architecture.pretrained_weights",
    "dataset.train_dataframe",
    "dataset.validation_dataframe",
    "environment.device",
    "environment.gpus",
    "environment.huggingface_branch",
    "environment.number_of_workers",
    "environment.seed",
    "environment.threads",
    "training.checkpoint_every_steps",
    "training.checkpoint_interval_secs",
    "training.max_skipped_steps",
    "training.save_steps",
    "training.save_total_limit",
];

impl RunRecord {
    /// The record at `path`; `None` when there is none.
    ///
    /// # Errors
    /// When it cannot be read or is not a record.
    pub fn read(path: &Path) -> Result<Option<Self>, TrainError> {
        read_json(path)
    }

    pub(crate) fn write(&self, path: &Path) -> Result<(), TrainError> {
        write_json(path, self)
    }

    /// What keeps a run with the record `self` from being continued as `now`: one text each, with both values.
    pub fn differences(&self, now: &Self) -> Vec<String> {
        let mut differences = Vec::new();
        let mut compare = |what: &str, before: &str, after: &str| {
            if before != after {
                differences.push(format!("{what} (was {before}, is {after})"));
            }
        };
        let (before, after) = (&self.fingerprints, &now.fingerprints);
        compare("the base model", &before.model, &after.model);
        compare("the tokenizer", &before.tokenizer, &after.tokenizer);
        let none = "none".to_owned();
        let (weights_before, weights_after) = (
            before.starting_weights.as_ref().unwrap_or(&none),
            after.starting_weights.as_ref().unwrap_or(&none),
        );
        compare("the starting weights", weights_before, weights_after);
        compare("the training samples", &before.train_samples, &after.train_samples);
        compare("the validation samples", &before.validation_samples, &after.validation_samples);
        if !self.metric.is_empty() {
            compare("what the run is judged by", &self.metric, &now.metric);
        }
        compare(
            "the words that answers are graded by",
            before.judge_template.as_ref().unwrap_or(&none),
            after.judge_template.as_ref().unwrap_or(&none),
        );
        compare("the seed", &self.seed.to_string(), &now.seed.to_string());
        for (field, value_now) in &now.config {
            let must_match = !MAY_CHANGE.contains(&field.as_str())
                && !LENGTH.contains(&field.as_str())
                && !field.starts_with("logging.");
            if let Some(value_before) = self.config.get(field).filter(|_| must_match) {
                compare(field, &value_before.to_string(), &value_now.to_string());
            }
        }
        differences
    }

    /// Whether `config` asks for another length than the run was recorded with. A record of a version without such a field
    /// means its default.
    pub fn has_other_length(&self, config: &ExperimentConfig) -> bool {
        let now = field_values(config);
        let default = field_values(&ExperimentConfig::default());
        LENGTH.iter().any(|field| self.config.get(*field).or(default.get(*field)) != now.get(*field))
    }

    /// What is different about the machine or program, which may change the last bits of the results: one text each.
    pub fn machine_differences(&self, now: &Self) -> Vec<String> {
        let mut differences = Vec::new();
        let mut compare = |what: &str, before: &str, after: &str| {
            if before != after {
                differences.push(format!("{what} was {before}, is {after}"));
            }
        };
        compare("program version", &self.program_version, &now.program_version);
        compare("device", &self.machine.device, &now.machine.device);
        compare("instruction set", &self.machine.instruction_set, &now.machine.instruction_set);
        compare("platform", &self.machine.platform, &now.machine.platform);
        differences
    }
}

/// Every field of `config` by its path.
pub(crate) fn field_values(config: &ExperimentConfig) -> BTreeMap<String, Value> {
    let values = schema().iter().filter_map(|spec| {
        let path = spec.path();
        let value = config.get(&path)?;
        Some((path, serde_json::to_value(value).ok()?))
    });
    values.collect()
}

/// A hash of rows, tokens and masks.
pub(crate) fn samples_fingerprint(samples: &[TokenSample]) -> String {
    let mut hash = Sha256::new();
    let mut bytes = Vec::new();
    for sample in samples {
        bytes.clear();
        bytes.extend((sample.row as u64).to_le_bytes());
        bytes.extend((sample.ids.len() as u64).to_le_bytes());
        bytes.extend(sample.ids.iter().flat_map(|id| id.to_le_bytes()));
        bytes.extend(sample.trained.iter().map(|trained| u8::from(*trained)));
        if sample.n_contrast > 0 {
            bytes.extend((sample.n_contrast as u64).to_le_bytes());
        }
        if sample.n_source > 0 {
            // Told from the number above by its sign.
            bytes.extend((-(sample.n_source as i64)).to_le_bytes());
        }
        bytes.extend(sample.values.iter().flat_map(|value| value.to_le_bytes()));
        hash.update(&bytes);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> RunRecord {
        RunRecord {
            seed: 5,
            model_path: "models/a".into(),
            program_version: "0.1.0".to_owned(),
            machine: Machine {
                device: "cpu".to_owned(),
                instruction_set: "avx2".to_owned(),
                n_threads: 2,
                platform: "linux-x86_64".to_owned(),
            },
            dtypes: Dtypes {
                storage: "float32".to_owned(),
                compute: "float32".to_owned(),
                accumulation: "float32".to_owned(),
            },
            substitutions: Vec::new(),
            metric: "GPT".to_owned(),
            fingerprints: Fingerprints {
                model: "m".to_owned(),
                tokenizer: "t".to_owned(),
                starting_weights: None,
                train_samples: "a".to_owned(),
                validation_samples: "b".to_owned(),
                judge_template: Some("t".to_owned()),
            },
            n_parameters: 10,
            n_trainable_parameters: 2,
            id2label: BTreeMap::from([
                (0, "ham".to_owned()),
                (10, "eggs".to_owned()),
                (2, "spam".to_owned()),
            ]),
            label2id: BTreeMap::from([("ham".to_owned(), 0)]),
            config: field_values(&ExperimentConfig::default()),
        }
    }

    #[test]
    fn names_that_may_change_exist() {
        let record = record();
        for field in MAY_CHANGE {
            assert!(record.config.contains_key(field), "{field}");
        }
    }

    #[test]
    fn changes_are_told_with_both_values() {
        let before = record();
        assert!(before.differences(&before).is_empty());
        let mut now = record();
        now.config.insert("training.batch_size".to_owned(), 7.into());
        now.config.insert("environment.threads".to_owned(), 7.into());
        now.config.insert("llm_backbone".to_owned(), "elsewhere".into());
        now.fingerprints.train_samples = "c".to_owned();
        now.fingerprints.starting_weights = Some("w".to_owned());
        now.fingerprints.judge_template = None;
        now.metric = "Perplexity".to_owned();
        assert_eq!(
            before.differences(&now),
            [
                "the starting weights (was none, is w)",
                "the training samples (was a, is c)",
                "what the run is judged by (was GPT, is Perplexity)",
                "the words that answers are graded by (was t, is none)",
                "training.batch_size (was 2, is 7)"
            ]
        );
    }

    #[test]
    fn another_machine_is_noticed() {
        let mut now = record();
        now.machine.instruction_set = "avx512f".to_owned();
        now.machine.n_threads = 64;
        assert_eq!(record().machine_differences(&now), ["instruction set was avx2, is avx512f"]);
    }

    #[test]
    fn round_trip() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run.json");
        assert_eq!(RunRecord::read(&path).unwrap(), None);
        record().write(&path).unwrap();
        assert_eq!(RunRecord::read(&path).unwrap(), Some(record()));
        let json: Value = read_json(&path).unwrap().unwrap();
        assert_eq!(json["id2label"].to_string(), r#"{"0":"ham","2":"spam","10":"eggs"}"#);
        assert_eq!(json["label2id"], serde_json::json!({"ham": 0}));
    }

    #[test]
    fn fingerprints_see_rows_ids_and_masks() {
        let sample =
            TokenSample { row: 1, ids: vec![3, 4], trained: vec![false, true], ..TokenSample::default() };
        let base = samples_fingerprint(std::slice::from_ref(&sample));
        assert_eq!(base.len(), 64);
        let changed = [
            TokenSample { row: 2, ..sample.clone() },
            TokenSample { ids: vec![3, 5], ..sample.clone() },
            TokenSample { trained: vec![true, true], ..sample.clone() },
            TokenSample { n_contrast: 1, ..sample.clone() },
            TokenSample { n_source: 1, ..sample.clone() },
            TokenSample { values: vec![1.0], ..sample.clone() },
        ];
        for sample in changed {
            assert_ne!(samples_fingerprint(&[sample]), base);
        }
    }
}
