//! Rows of text to token samples and packed batches: tables, conversations, splits, masks, packing, preview.
//!
//! The way of the data: [`table`] reads a file, [`load`] lays its rows out as [`conversation`]s and splits them,
//! `sample` turns a conversation into tokens with a mask, `batch` puts samples into micro-batches.

mod answer_ends;
mod arrow_cells;
mod arrow_messages;
mod augment;
pub mod batch;
mod cell;
mod chains;
mod columns;
mod compressed;
pub mod conversation;
mod counter_random;
mod date_texts;
mod dialogues;
mod encoding;
pub mod error;
mod escapes;
pub mod file_types;
mod json_text;
mod labels;
mod layouts;
pub mod legacy_random;
mod line_ends;
pub mod load;
mod messages;
mod personalize;
pub mod preview;
pub mod preview_render;
mod questions;
mod rounds;
mod row_collector;
mod row_texts;
pub mod sample;
mod sample_cache;
mod sample_parts;
mod sample_template;
pub mod samples;
mod sanity;
mod shuffle;
mod split;
pub mod table;
mod table_arrow;
mod table_delimited;
mod table_files;
mod table_json;
mod table_options;
mod table_parquet;
mod table_text;
#[cfg(test)]
mod test_support;
mod text_file;
pub mod token_sample;
mod training_set;
mod training_tokenizer;
mod trees;

pub use answer_ends::end_ids;
pub use batch::{BatchOptions, BatchPlan, IGNORED_LABEL, MicroBatch, plan_epoch, token_weights};
pub use compressed::unpacked_limit_bytes;
pub use conversation::{Conversation, Round, RoundDetails, Target};
pub use error::{DataError, Place, Result};
pub use escapes::unescape;
pub use file_types::{Compression, FileType, TABLE_TYPES};
pub use load::{Splits, load_splits};
pub use preview::{Preview, PreviewOptions};
pub use preview_render::RenderOptions;
pub use questions::{Questions, load_questions};
pub use row_texts::RowTexts;
pub use sample::Assembler;
pub use samples::{SampleSet, TokenizeReport, tokenize};
pub use table::{Cell, Table, UnreadColumn, read_table, read_table_with};
pub use table_options::TableOptions;
pub use token_sample::{SampleNotes, TokenSample};
pub use training_set::TrainingSet;
pub use training_tokenizer::{TRAINING_CLOCK_UNIX_SECS, training_tokenizer};
