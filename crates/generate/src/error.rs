//! What can go wrong while generating text.

use tunesmith_formats::FormatError;
use tunesmith_models::ModelError;

/// Result of everything in this crate.
pub type Result<T> = std::result::Result<T, GenerateError>;

/// A generation that cannot start or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GenerateError {
    /// The model refused an input.
    #[error(transparent)]
    Model(#[from] ModelError),

    /// The tokenizer or the chat template refused a text.
    #[error(transparent)]
    Format(#[from] FormatError),

    /// A setting is outside of its range.
    #[error("{setting}: {reason}")]
    Setting {
        /// The setting's field name.
        setting: &'static str,
        /// What is wrong, with the value.
        reason: String,
    },

    /// A prompt without tokens: there is nothing to continue.
    #[error("prompt {prompt_idx} has no tokens")]
    EmptyPrompt {
        /// Its index in the call.
        prompt_idx: usize,
    },

    /// A prompt that the model cannot take as a whole.
    #[error("prompt of {n_tokens} tokens is longer than the context of {context}")]
    PromptTooLong {
        /// Its index in the call.
        prompt_idx: usize,
        /// Its length.
        n_tokens: usize,
        /// The model's longest sequence, in tokens.
        context: usize,
    },

    /// The model's scores are no numbers: its weights are damaged.
    #[error("the scores of token {n_new} after prompt {prompt_idx} are not finite numbers")]
    NotFinite {
        /// The prompt's index in the call.
        prompt_idx: usize,
        /// How many tokens had been generated for it.
        n_new: usize,
    },

    /// A grammar that is wrong, uses what is not supported, or has no way on.
    #[error("the grammar of the answer cannot be followed: {reason}")]
    Grammar {
        /// What is wrong.
        reason: String,
    },

    /// The tokenizer brings no chat template.
    #[error("the model's tokenizer has no chat template")]
    NoChatTemplate,
}

impl GenerateError {
    /// What the user can do about it, where something is known to help; one sentence without a final newline.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Model(error) => error.hint(),
            Self::Format(error) => error.hint(),
            Self::Setting { setting: "temperature", .. } => {
                Some("Set a temperature above 0, e.g. 0.7, or do_sample to false.".into())
            }
            Self::Setting { setting: "num_beams", .. } => {
                Some("Set do_sample to false (temperature 0) or num_beams to 1.".into())
            }
            Self::PromptTooLong { context, .. } => {
                Some(format!("Shorten the prompt or clear the conversation; {context} tokens fit."))
            }
            Self::NotFinite { .. } => {
                Some("Training has diverged or the file is damaged; try an earlier checkpoint.".into())
            }
            Self::NoChatTemplate => {
                Some("Use the marker texts of the experiment, or a model that was tuned for chat.".into())
            }
            _ => None,
        }
    }
}
