//! Text from a language model: choosing tokens, stopping, decoding many prompts at once, and conversations.
//!
//! Prompts of different lengths are decoded together without padding, each with its own part of a key/value cache; a
//! finished one leaves the batch. What is drawn for a prompt depends on the seed, the prompt and the place only, not
//! on what else is decoded beside it. Nothing here loads models or knows about experiments.

mod batch;
mod beams;
mod bias;
mod chat;
mod completer;
mod error;
mod grammar;
mod hooks;
mod logprobs;
mod processors;
mod prompt;
mod reply;
mod sampling;
mod settings;
mod stopping;
mod tool_calls;

pub use batch::{FinishReason, Generated, generate};
pub use bias::LogitBias;
pub use chat::{ChatLayout, ChatMarkers, ChatReply, ChatSession};
pub use completer::{Choice, Completer, Completion, CompletionOptions, Piece};
pub use error::{GenerateError, Result};
pub use grammar::Grammar;
pub use logprobs::{TokenLogprob, TokenLogprobs};
pub use prompt::{THINK_CLOSE, THINK_OPEN, opens_reasoning, render_messages};
pub use reply::{ReplyPart, ReplySplitter};
pub use settings::GenerationSettings;
pub use stopping::clean_text;
pub use tool_calls::{Tool, ToolCall, ToolFormat, ToolProblem};
