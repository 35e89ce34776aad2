//! What can end a run, in a sentence with paths and values, and what the user can do about it.

use std::io;
use std::path::{Path, PathBuf};

use tunesmith_config::{ConfigError, Finding, ProblemType};
use tunesmith_data::DataError;
use tunesmith_formats::FormatError;
use tunesmith_generate::GenerateError;
use tunesmith_metrics::MetricError;
use tunesmith_models::ModelError;
use tunesmith_ops::OpsError;

/// A run, an evaluation or an export that cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// The configuration cannot be read.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Training data cannot be read or turned into samples.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A model file cannot be read or written.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The model cannot be built or run.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The model cannot give an answer.
    #[error(transparent)]
    Generate(#[from] GenerateError),
    /// A metric cannot be computed.
    #[error(transparent)]
    Metric(#[from] MetricError),
    /// The device or its threads cannot be had.
    #[error(transparent)]
    Ops(#[from] OpsError),

    /// The configuration asks for something that cannot be trained here.
    #[error("the configuration cannot be trained: {}", list(findings))]
    Refused {
        /// The findings that block the run, at least one.
        findings: Vec<Finding>,
    },

    /// The model is of another kind than the problem type needs.
    #[error("{}: the model cannot learn {problem_type}: {reason}", path.display())]
    ModelKind {
        /// The model's folder or file.
        path: PathBuf,
        /// What was to be learned.
        problem_type: ProblemType,
        /// What the model is or lacks.
        reason: String,
    },

    /// The operating system refused an operation on a file or folder of the run.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was attempted, as a verb phrase.
        action: &'static str,
        /// The operating system's reason.
        source: io::Error,
    },

    /// There is less room than the run will take.
    #[error(
        "{}: {:.2} GiB are free, and the run needs {:.2} GiB",
        path.display(),
        gibibytes(*free_bytes),
        gibibytes(*least_bytes)
    )]
    DiskSpace {
        /// The run folder.
        path: PathBuf,
        /// What can be written there.
        free_bytes: u64,
        /// What has to be free.
        least_bytes: u64,
    },

    /// A file of the run folder does not hold what it should.
    #[error("{}: {reason}", path.display())]
    RunFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// A new run was asked for in a folder that holds one already.
    #[error("{} already holds a run", path.display())]
    RunExists {
        /// The run folder.
        path: PathBuf,
    },

    /// Another process works on the run.
    #[error("{} is in use by another process", path.display())]
    RunBusy {
        /// The run folder.
        path: PathBuf,
    },

    /// Resuming would not continue the same experiment.
    #[error("{} cannot be resumed, because these changed since it started: {}", path.display(), differences.join("; "))]
    Changed {
        /// The run folder.
        path: PathBuf,
        /// What differs, with the old and the new value.
        differences: Vec<String>,
    },

    /// The model that is to grade answers cannot be asked, or not what it is to be asked.
    #[error("grading by another model (prediction.metric: GPT): {reason}")]
    Judge {
        /// What is wrong.
        reason: String,
    },

    /// There is too little data to train on.
    #[error("{n_samples} training samples are too few; at least 2 are needed")]
    TooFewSamples {
        /// Samples there are.
        n_samples: usize,
    },

    /// The validation set cannot give a loss.
    #[error("none of the {n_samples} validation samples has a labelled token")]
    NothingToEvaluate {
        /// Samples there are.
        n_samples: usize,
    },

    /// No parameter is left to train.
    #[error("no parameter is trainable: {reason}")]
    NothingTrainable {
        /// Which settings led to it.
        reason: String,
    },

    /// Starting weights do not fit the model.
    #[error("{}: cannot start from these weights: {reason}", path.display())]
    StartingWeights {
        /// `architecture.pretrained_weights`.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },

    /// A loss or gradient is infinite or not a number.
    #[error(
        "{what} is {value} at optimizer step {step} (epoch {epoch}){}; rows of the samples concerned: {}",
        after_skipped(*n_skipped_steps),
        rows(sample_rows)
    )]
    NonFinite {
        /// "the training loss", "the gradient norm", "the validation loss".
        what: &'static str,
        /// The value: inf, -inf or NaN.
        value: f64,
        /// The optimizer step being computed, from 1.
        step: u64,
        /// Epoch, from 1.
        epoch: usize,
        /// Rows of the table whose samples gave it.
        sample_rows: Vec<usize>,
        /// Steps that were left out before, for the same reason.
        n_skipped_steps: u64,
    },

    /// A run cannot go on beyond its end.
    #[error("the run in {} cannot go on: {reason}", path.display())]
    NothingToGoOn {
        /// The run folder.
        path: PathBuf,
        /// Why.
        reason: String,
    },

    /// An exported folder does not compute what the trained model computes.
    #[error(
        "{}: the exported logits differ from the trained model's by up to {worst:e}, more than the bound of {bound:e}; \
         the folder was removed", path.display()
    )]
    ExportDiffers {
        /// The folder that would have been written.
        path: PathBuf,
        /// Largest absolute difference.
        worst: f64,
        /// What would have been accepted.
        bound: f64,
    },

    /// A run folder has no weights to use.
    #[error("{}: {reason}", path.display())]
    NoWeights {
        /// The run folder.
        path: PathBuf,
        /// What was looked for.
        reason: String,
    },
}

fn gibibytes(n_bytes: u64) -> f64 {
    n_bytes as f64 / (1_u64 << 30) as f64
}

impl TrainError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Config(error) => error.hint(),
            Self::Data(error) => error.hint(),
            Self::Format(error) => error.hint(),
            Self::Model(error) => error.hint(),
            Self::Generate(error) => error.hint(),
            Self::Metric(error) => error.hint(),
            Self::Ops(error) => error.hint(),
            Self::Refused { findings } => {
                let hints: Vec<&str> = findings.iter().filter_map(|finding| finding.hint.as_deref()).collect();
                (!hints.is_empty()).then(|| hints.join("; "))
            }
            Self::ModelKind { problem_type: ProblemType::SequenceToSequenceModeling, .. } => {
                Some("take a model of the T5 family, or another problem_type".to_owned())
            }
            Self::ModelKind { .. } => Some(
                "take a model that is a decoder alone, or the problem_type text_sequence_to_sequence_modeling".to_owned(),
            ),
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Some("free some disk space, then resume the run".to_owned())
            }
            Self::DiskSpace { .. } => Some(
                "free some space or give the run another folder; MIN_DISK_SPACE_FOR_EXPERIMENTS=500MB asks for less"
                    .to_owned(),
            ),
            Self::RunExists { .. } => Some("resume it with --resume, or give the new run another folder".to_owned()),
            Self::RunBusy { .. } => Some("wait for the other process, or stop it first".to_owned()),
            Self::Changed { .. } => {
                Some("restore what changed, or start a new run in another folder".to_owned())
            }
            Self::Judge { .. } => Some(
                "docs/metrics.md says how a judge is set up; prediction.metric: Perplexity needs none".to_owned(),
            ),
            Self::TooFewSamples { .. } => {
                Some("add rows, lower dataset.validation_size or raise dataset.data_sample".to_owned())
            }
            Self::NothingToEvaluate { .. } => {
                Some("check the answer column, or raise tokenizer.max_length so that answers are not cut off".to_owned())
            }
            Self::NothingTrainable { .. } => {
                Some("shorten training.freeze_layers, or switch training.lora on".to_owned())
            }
            Self::NothingToGoOn { .. } => Some(
                "start a new run with this one's result as architecture.pretrained_weights".to_owned(),
            ),
            Self::NonFinite { .. } => Some(
                "look at these rows; training.max_skipped_steps is the number of such steps that are left out; try a lower training.learning_rate, training.warmup_epochs of 0.1 or more, or \
                 training.gradient_clip of 1; the last good checkpoint is kept"
                    .to_owned(),
            ),
            Self::ExportDiffers { .. } => {
                Some("export as float32; if it still differs, please report it with the model's name".to_owned())
            }
            Self::Io { .. } | Self::RunFile { .. } | Self::StartingWeights { .. } | Self::NoWeights { .. } => None,
        }
    }

    /// The class of the failure, for the status file.
    pub fn failure(&self) -> Failure {
        match self {
            Self::Data(_) | Self::TooFewSamples { .. } => Failure::Data,
            Self::NothingToEvaluate { .. } | Self::Generate(_) | Self::Metric(_) | Self::Judge { .. } => {
                Failure::Metric
            }
            Self::Format(_) | Self::Model(_) | Self::StartingWeights { .. } | Self::ExportDiffers { .. } => {
                Failure::Model
            }
            Self::NonFinite { .. } | Self::NothingTrainable { .. } => Failure::Training,
            _ => Failure::Other,
        }
    }
}

/// Class of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Reading or preparing the data.
    Data,
    /// The optimization itself.
    Training,
    /// Evaluation.
    Metric,
    /// Loading, running or writing the model.
    Model,
    /// Anything else.
    Other,
}

impl Failure {
    /// The text of the status file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Data => "Data error",
            Self::Training => "Training error",
            Self::Metric => "Metric error",
            Self::Model => "Model error",
            Self::Other => "See logs",
        }
    }
}

/// Adds the path and what was attempted to an error of the operating system.
pub(crate) trait IoContext<T> {
    /// `action` is a verb phrase that follows "cannot".
    fn at(self, path: &Path, action: &'static str) -> Result<T, TrainError>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn at(self, path: &Path, action: &'static str) -> Result<T, TrainError> {
        self.map_err(|source| TrainError::Io { path: path.to_owned(), action, source })
    }
}

fn list(findings: &[Finding]) -> String {
    let texts: Vec<String> =
        findings.iter().map(|finding| format!("{}: {}", finding.field, finding.message)).collect();
    texts.join("; ")
}

/// How many steps were left out before, if any.
fn after_skipped(n_skipped_steps: u64) -> String {
    match n_skipped_steps {
        0 => String::new(),
        1 => ", after 1 step was left out for the same reason".to_owned(),
        n => format!(", after {n} steps were left out for the same reason"),
    }
}

fn rows(sample_rows: &[usize]) -> String {
    const N_SHOWN: usize = 20;
    let shown: Vec<String> = sample_rows.iter().take(N_SHOWN).map(ToString::to_string).collect();
    let more = sample_rows.len().saturating_sub(N_SHOWN);
    if more == 0 { shown.join(", ") } else { format!("{} and {more} more", shown.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn non_finite_names_the_rows() {
        let error = TrainError::NonFinite {
            what: "the training loss",
            value: f64::NAN,
            step: 7,
            epoch: 2,
            sample_rows: (0..23).collect(),
            n_skipped_steps: 0,
        };
        let text = error.to_string();
        assert!(text.starts_with("the training loss is NaN at optimizer step 7 (epoch 2)"), "{text}");
        assert!(text.ends_with("18, 19 and 3 more"), "{text}");
        assert!(error.hint().unwrap().contains("learning_rate"));
        assert_eq!(error.failure().as_str(), "Training error");
    }
}
