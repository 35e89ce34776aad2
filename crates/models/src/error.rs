//! What can go wrong with a model: one enum, with the names, shapes and limits concerned in the text.

use std::path::PathBuf;

use tunesmith_formats::FormatError;

/// Result of everything in this crate.
pub type Result<T> = std::result::Result<T, ModelError>;

/// A model that cannot be built, or an input it cannot take.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A file of the model cannot be read.
    #[error(transparent)]
    Format(#[from] FormatError),

    /// The configuration asks for something that no model of this family can be, or that is not built.
    #[error("{key}: {reason}")]
    Config {
        /// The key of `config.json`.
        key: &'static str,
        /// What is wrong with its value, with the value.
        reason: String,
    },

    /// A weight the architecture needs is not in the file.
    #[error("{}: tensor {name} is missing (expected shape {expected:?})", path.display())]
    MissingTensor {
        /// The model's folder or file.
        path: PathBuf,
        /// Its name on the hub.
        name: String,
        /// The shape it needs to have.
        expected: Vec<usize>,
    },

    /// The file holds weights that this architecture would not use.
    #[error("{}: {} tensor(s) have no place in this model: {}", path.display(), names.len(), listed(names))]
    UnexpectedTensors {
        /// The model's folder or file.
        path: PathBuf,
        /// The names as the file gives them.
        names: Vec<String>,
    },

    /// A weight has another shape than the configuration says.
    #[error("{}: tensor {name} has shape {found:?}, the configuration needs {expected:?}", path.display())]
    TensorShape {
        /// The model's folder or file.
        path: PathBuf,
        /// Its name on the hub.
        name: String,
        /// The shape that follows from the configuration.
        expected: Vec<usize>,
        /// The shape in the file.
        found: Vec<usize>,
    },

    /// A value for a parameter has another number of elements than the parameter.
    #[error("parameter {name} has shape {expected:?}, the new value has {found} elements")]
    ParameterShape {
        /// The parameter.
        name: String,
        /// Its shape.
        expected: Vec<usize>,
        /// Number of elements offered.
        found: usize,
    },

    /// No parameter has that name or index.
    #[error("the model has no parameter {which}")]
    NoSuchParameter {
        /// Name or index.
        which: String,
    },

    /// LoRA settings that cannot be used.
    #[error("LoRA {setting}: {reason}")]
    LoraSetting {
        /// The setting.
        setting: &'static str,
        /// What is wrong with its value, with the value.
        reason: String,
    },

    /// None of the target names is a module of the model.
    #[error(
        "no module of this model is called {}; its linear modules are called {}",
        listed(targets),
        listed(available)
    )]
    NoLoraTarget {
        /// The names asked for.
        targets: Vec<String>,
        /// Last path components of the model's linear modules.
        available: Vec<String>,
    },

    /// A module is named as a target that cannot carry an adapter here.
    #[error(
        "{module} cannot carry a LoRA adapter here: only the linear layers inside the blocks can; an embedding looks rows up \
         instead of multiplying, and a head is often the same matrix"
    )]
    LoraTargetUnsupported {
        /// Its path.
        module: String,
    },

    /// The model carries an adapter already.
    #[error("the model carries a LoRA adapter already")]
    AdapterPresent,

    /// The model carries no adapter.
    #[error("the model carries no LoRA adapter")]
    AdapterAbsent,

    /// An adapter that this model cannot take.
    #[error("adapter: {reason}")]
    Adapter {
        /// What is wrong, with names, shapes and values.
        reason: String,
    },

    /// A score head that this model cannot take.
    #[error("score head: {reason}")]
    ScoreHead {
        /// What is wrong, with names, shapes and values.
        reason: String,
    },

    /// The model carries a score head already.
    #[error("the model carries another score head already")]
    ScoreHeadPresent,

    /// The model carries no score head.
    #[error("the model carries no score head")]
    ScoreHeadAbsent,

    /// The model has no output matrix over the vocabulary.
    #[error("the model is a sequence classifier: it has no head over the vocabulary")]
    LanguageHeadAbsent,

    /// The model is a decoder alone.
    #[error("the model has no encoder")]
    EncoderAbsent,

    /// The arrays of a batch do not belong together.
    #[error("token batch: {reason}")]
    Batch {
        /// Which lengths disagree.
        reason: String,
    },

    /// A token id beyond the vocabulary.
    #[error("token id {id} at place {place} is not below the model's vocabulary size {vocab_size}")]
    TokenId {
        /// The id.
        id: u32,
        /// Its index in the batch.
        place: usize,
        /// V.
        vocab_size: usize,
    },

    /// A position beyond the longest sequence the model was made for.
    #[error("a sequence of {n_tokens} tokens is longer than the context of {context}")]
    TooLong {
        /// Length the sequence would need to have, in tokens.
        n_tokens: usize,
        /// Longest sequence of the model, in tokens.
        context: usize,
    },

    /// Values could not be read back from the device.
    #[error("reading {what} from the device failed: {reason}")]
    DeviceRead {
        /// What was read.
        what: String,
        /// The device's reason.
        reason: String,
    },
}

impl ModelError {
    /// What the user can do about it, where something is known to help; one sentence without a final newline.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Format(error) => error.hint(),
            Self::MissingTensor { .. } | Self::TensorShape { .. } => Some(
                "The weights do not belong to this config.json; check that both come from the same model, and that \
                 no shard is missing."
                    .into(),
            ),
            Self::UnexpectedTensors { .. } => Some(
                "The model has parts that are not implemented (more heads, experts, normalisations); use a model of \
                 a supported architecture."
                    .into(),
            ),
            Self::NoLoraTarget { .. } => {
                Some("Leave lora_target_modules empty to adapt every linear layer of the blocks.".into())
            }
            Self::LoraTargetUnsupported { .. } => Some(
                "Remove it from lora_target_modules; lora_unfreeze_layers can train it as a whole instead.".into(),
            ),
            Self::TooLong { context, .. } => {
                Some(format!("Shorten the text, or set the maximum length to at most {context} tokens."))
            }
            Self::LanguageHeadAbsent => {
                Some("Use the language model that it was made from, or train it for classes or numbers.".into())
            }
            Self::TokenId { .. } => Some("The tokenizer does not belong to this model.".into()),
            _ => None,
        }
    }
}

/// The first few names, and how many more there are.
fn listed(names: &[String]) -> String {
    const N_SHOWN: usize = 8;
    let shown = names.iter().take(N_SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().checked_sub(N_SHOWN) {
        Some(n_more) if n_more > 0 => format!("{shown} and {n_more} more"),
        _ if names.is_empty() => "(none)".to_owned(),
        _ => shown,
    }
}
