//! Rows of text to token samples and packed batches: tables, conversations, splits, masks, packing, preview.
//!
//! The way of the data: [`table`] reads a file, [`load`] lays its rows out as [`conversation`]s and splits them,
//! `sample` turns a conversation into tokens with a mask, `batch` puts samples into micro-batches.

pub mod conversation;
pub mod error;

pub use conversation::{Conversation, Round};
pub use error::{DataError, Result};
