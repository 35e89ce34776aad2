//! Rows of text to token samples and packed batches: tables, conversations, splits, masks, packing, preview.
//!
//! The way of the data: [`table`] reads a file, [`load`] lays its rows out as [`conversation`]s and splits them,
//! `sample` turns a conversation into tokens with a mask, `batch` puts samples into micro-batches.

mod augment;
pub mod batch;
mod chains;
mod columns;
pub mod conversation;
mod counter_random;
pub mod error;
mod escapes;
mod label_cells;
mod label_column;
mod label_map;
mod labels;
mod layouts;
pub mod legacy_random;
pub mod load;
mod messages;
mod personalize;
pub mod preview;
pub mod preview_render;
mod questions;
mod row_texts;
pub mod sample;
mod sample_cache;
mod sample_template;
pub mod samples;
mod sanity;
mod shuffle;
mod split;
pub mod table;
mod table_delimited;
mod table_files;
mod table_json;
mod table_parquet;
mod table_text;
#[cfg(test)]
mod test_support;
mod text_file;
pub mod token_sample;
mod training_set;
mod trees;

pub use batch::{BatchOptions, BatchPlan, IGNORED_LABEL, MicroBatch, plan_epoch, token_weights};
pub use conversation::{Conversation, Round, Target};
pub use error::{DataError, Place, Result};
pub use escapes::unescape;
pub use label_cells::printable_label;
pub use label_map::{FoundLabels, find_labels};
pub use labels::joined_labels;
pub use load::{Splits, load_splits};
pub use preview::{Preview, PreviewOptions};
pub use preview_render::RenderOptions;
pub use questions::{Questions, load_questions};
pub use row_texts::RowTexts;
pub use sample::{Assembler, TRAINING_CLOCK_UNIX_SECS, training_tokenizer};
pub use samples::{SampleSet, TokenizeReport, tokenize};
pub use table::{Cell, Table, read_table};
pub use token_sample::{SampleNotes, TokenSample};
pub use training_set::TrainingSet;
