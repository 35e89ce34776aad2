//! What can go wrong between a data file and a batch.

use std::fmt;
use std::path::PathBuf;

use tunesmith_formats::Impostor;
use tunesmith_formats::error::FormatError;

use crate::file_types::TABLE_TYPES;

/// Result of everything in this crate.
pub type Result<T> = std::result::Result<T, DataError>;

/// A failure of reading data or of turning it into samples.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The operating system refused an operation on a file.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was attempted: "open", "read".
        action: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },

    /// The file's ending is none of a table's.
    #[error("{}: could not determine type of file: the ending {ending:?} is not known", path.display())]
    UnknownFileType {
        /// The file.
        path: PathBuf,
        /// Its ending, without the dot.
        ending: String,
    },

    /// The file is not what its name says: a Git LFS pointer, a web page.
    #[error("{}: {impostor}", path.display())]
    Impostor {
        /// The file.
        path: PathBuf,
        /// What it is.
        impostor: Impostor,
    },

    /// The bytes of a text are not characters in the encoding they were read in.
    #[error("{}{}: the text is not {encoding}; {likely}", path.display(), line.map(|line| format!(":{line}")).unwrap_or_default())]
    Encoding {
        /// The file.
        path: PathBuf,
        /// Line of the file, counted from 1, where one can be named.
        line: Option<u64>,
        /// The encoding it was read in.
        encoding: &'static str,
        /// What it may be instead.
        likely: String,
    },

    /// A setting names a column whose cells cannot be text, numbers or lists of them.
    #[error("{}: the column {column} (set by {field}) cannot be used: {reason}", path.display())]
    UnreadColumn {
        /// The table.
        path: PathBuf,
        /// The column.
        column: String,
        /// The setting that asks for it.
        field: String,
        /// Why it was not read.
        reason: String,
    },

    /// The file's content breaks the rules of its format.
    #[error("{}{}: {reason}", path.display(), line.map(|line| format!(":{line}")).unwrap_or_default())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Line of the file, counted from 1, where one can be named.
        line: Option<u64>,
        /// What is wrong.
        reason: String,
    },

    /// There is nothing to learn from.
    #[error("{}: {reason}", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
        /// What is missing.
        reason: String,
    },

    /// A setting names a column that the table does not have.
    #[error("{}: no column {column:?} (set by {field}); the columns are {}", path.display(), available.join(", "))]
    MissingColumn {
        /// The table.
        path: PathBuf,
        /// The column asked for.
        column: String,
        /// The setting that asks for it, such as `dataset.answer_column`.
        field: String,
        /// The columns there are.
        available: Vec<String>,
        /// The one that may have been meant.
        nearest: Option<String>,
    },

    /// One row cannot become a conversation.
    #[error("{}{place}: {reason}", path.display())]
    Row {
        /// The table.
        path: PathBuf,
        /// Where the row stands in the file.
        place: Place,
        /// What is wrong with it.
        reason: String,
    },

    /// Cells that should hold classes, labels or numbers hold something else.
    #[error("{}: column {column}: {reason}", path.display())]
    Values {
        /// The table.
        path: PathBuf,
        /// The column.
        column: String,
        /// Which cells, and what they should be.
        reason: String,
        /// What to do about it.
        hint: String,
    },

    /// The ids and parent ids of a table do not describe conversations.
    #[error("{}: {reason}", path.display())]
    Chains {
        /// The table.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },

    /// A setting cannot be met by the data or the tokenizer.
    #[error("{field}: {reason}")]
    Setting {
        /// The setting, such as `dataset.validation_dataframe`.
        field: &'static str,
        /// Why not.
        reason: String,
    },

    /// A conversation could not become tokens.
    #[error("row {row}: {reason}")]
    Sample {
        /// Row of the conversation, counted from 0.
        row: usize,
        /// What went wrong.
        reason: String,
    },

    /// The stored tokens of an earlier run cannot be read or written.
    #[error("token cache {}: {reason}", path.display())]
    Cache {
        /// The cache file.
        path: PathBuf,
        /// What went wrong.
        reason: String,
    },

    /// The tokenizer or its chat template failed.
    #[error(transparent)]
    Tokenizer(#[from] FormatError),
}

/// Where a row stands in its file; both are counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Line of a text file on which the row starts.
    Line(u64),
    /// Number of the row, in files without lines of rows (json, parquet).
    Row(u64),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, ":{line}"),
            Self::Row(row) => write!(f, ", row {row}"),
        }
    }
}

impl DataError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Io { action: "open", .. } => Some(
                "check the path; it is read relative to the folder the program was started in".to_owned(),
            ),
            Self::UnknownFileType { .. } => Some(format!("use a {TABLE_TYPES}")),
            Self::Impostor { impostor, .. } => Some(impostor.hint().to_owned()),
            Self::Encoding { .. } => Some(
                "set dataset.encoding to the encoding of the file (windows-1252 for most files that are saved as ANSI or by Excel \
                 as plain CSV), or save the file as UTF-8"
                    .to_owned(),
            ),
            Self::UnreadColumn { .. } => Some("name a column of texts, numbers or lists of them".to_owned()),
            Self::MissingColumn { field, nearest: Some(nearest), .. } => {
                Some(format!("did you mean {nearest:?}? Set {field} accordingly"))
            }
            Self::MissingColumn { field, .. } => Some(format!("set {field} to one of the columns")),
            Self::Chains { .. } => {
                Some("set dataset.parent_id_column to None if the rows do not belong together".to_owned())
            }
            Self::Values { hint, .. } => Some(hint.clone()),
            Self::Tokenizer(error) => error.hint(),
            _ => None,
        }
    }
}
