//! Rows of text to token samples and packed batches: tables, conversations, splits, masks, packing, preview.
//!
//! The way of the data: [`table`] reads a file, [`load`] lays its rows out as [`conversation`]s and splits them,
//! `sample` turns a conversation into tokens with a mask, `batch` puts samples into micro-batches.

mod chains;
mod columns;
pub mod conversation;
pub mod error;
mod escapes;
mod layouts;
pub mod legacy_random;
pub mod load;
mod messages;
mod personalize;
mod sanity;
mod split;
pub mod table;
mod table_delimited;
mod table_json;
mod table_parquet;
mod text_file;
mod trees;

pub use conversation::{Conversation, Round};
pub use error::{DataError, Place, Result};
pub use escapes::unescape;
pub use load::{Splits, load_splits};
pub use table::{Cell, Table, read_table};
