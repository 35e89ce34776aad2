//! Text from a language model: choosing tokens, stopping, decoding many prompts at once, and conversations.
//!
//! Prompts of different lengths are decoded together without padding, each with its own part of a key/value cache; a
//! finished one leaves the batch. What is drawn for a prompt depends on the seed, the prompt and the place only, not
//! on what else is decoded beside it. Nothing here loads models or knows about experiments.

mod batch;
mod beams;
mod chat;
mod error;
mod processors;
mod sampling;
mod settings;
mod stopping;

pub use batch::{FinishReason, Generated, generate};
pub use chat::{ChatLayout, ChatMarkers, ChatReply, ChatSession};
pub use error::{GenerateError, Result};
pub use settings::GenerationSettings;
pub use stopping::clean_text;
