//! How a table is to be read, where its file leaves a choice.

use tunesmith_config::{Dataset, LeadingZeros, TextEncoding};

/// What to read, and how to take what a file does not say itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableOptions {
    /// Only that many rows from the start; `None` for all.
    pub max_rows: Option<usize>,
    /// How characters are stored, in files of characters.
    pub encoding: TextEncoding,
    /// Whether `007` in a CSV or TSV file is those digits or the number 7.
    pub leading_zeros: LeadingZeros,
}

impl TableOptions {
    /// As the experiment says.
    pub fn from_config(dataset: &Dataset) -> Self {
        Self {
            max_rows: (dataset.max_rows > 0).then_some(dataset.max_rows),
            encoding: dataset.encoding,
            leading_zeros: dataset.leading_zeros,
        }
    }

    pub(crate) fn row_limit(&self) -> usize {
        self.max_rows.unwrap_or(usize::MAX)
    }
}

impl Default for TableOptions {
    fn default() -> Self {
        Self { max_rows: None, encoding: TextEncoding::Auto, leading_zeros: LeadingZeros::Keep }
    }
}
