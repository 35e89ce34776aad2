//! What can go wrong with the database.

/// Result of everything in this crate.
pub type Result<T> = std::result::Result<T, StoreError>;

/// A failure of the database.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// SQLite refused.
    #[error("the database: {0}")]
    Sqlite(#[from] rusqlite::Error),

    /// A newer version of the program has changed the tables.
    #[error("the database is of version {found}; this program knows version {known}")]
    TooNew {
        /// Version in the file.
        found: i64,
        /// Newest version this program can read.
        known: i64,
    },

    /// A column that holds JSON does not.
    #[error("the database: {column} of {id} is not valid JSON: {source}")]
    Json {
        /// The column.
        column: &'static str,
        /// The row's id.
        id: String,
        /// The parser's reason.
        source: serde_json::Error,
    },
}

impl StoreError {
    /// Whether the file itself is broken, or is no database at all.
    pub fn is_damaged(&self) -> bool {
        use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
        matches!(self, Self::Sqlite(error)
            if matches!(error.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase)))
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::TooNew { .. } => Some(
                "use the newer version of the program, or move studio.sqlite3 away: data sets and experiments are found \
                 again from their files",
            ),
            Self::Sqlite(_) => Some("check that the work folder is writable and the disk not full"),
            Self::Json { .. } => None,
        }
    }
}
