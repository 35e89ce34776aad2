//! Rows that a trained model is asked about: prompts out of a table whose answers nobody needs to know.

use std::path::Path;

use tunesmith_config::{ExperimentConfig, ProblemType, TableLayout};

use crate::columns::Purpose;
use crate::conversation::Conversation;
use crate::error::{DataError, Result};
use crate::layouts::{lay_out, layout_of};
use crate::table::{Table, read_table_with};
use crate::table_options::TableOptions;

/// A table and what each of its rows asks.
#[derive(Debug)]
pub struct Questions {
    /// The table as it was read.
    pub table: Table,
    /// In the order of the rows, of which [`Conversation::row`] is the number. The answer of the last round is not to be used.
    pub conversations: Vec<Conversation>,
    /// What the reader decided and noticed, as sentences for the user.
    pub notes: Vec<String>,
}

/// Reads the first `max_rows` rows of a table, or all, as the experiment laid out its training rows: with the prompt columns and
/// the system text, and with the rows before where rows refer to each other. Columns of answers may be missing. A list of
/// messages may end with a question; where it ends with an answer, that is what is asked for.
///
/// # Errors
/// As for training data; [`DataError::Setting`] for trees of messages and for plain texts, whose rows ask nothing.
pub fn load_questions(config: &ExperimentConfig, path: &Path, max_rows: Option<usize>) -> Result<Questions> {
    let refused = |field, reason: &str| Err(DataError::Setting { field, reason: reason.to_owned() });
    if config.problem_type == ProblemType::ContinuedPretraining {
        return refused("problem_type", "the run learned plain texts, so rows of a table ask it nothing");
    }
    let options = TableOptions { max_rows, ..TableOptions::from_config(&config.dataset) };
    let table = read_table_with(path, &options)?;
    if layout_of(&table, config, Purpose::Questions).0 == TableLayout::Tree {
        return refused("dataset.layout", "trees of messages have no row for each question");
    }
    let laid_out = lay_out(&table, config, Purpose::Questions)?;
    let conversations = laid_out.conversations(&laid_out.all(), false)?;
    Ok(Questions { conversations, notes: laid_out.notes, table })
}
