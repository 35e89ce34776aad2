//! Why a tracker did not take something.

use std::path::Path;

use tunesmith_http::HttpError;

/// A failure on the way to a tracker. None of them ends a run.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TrackerError {
    /// A variable or setting that is missing or makes no sense; told before the run begins.
    #[error("{reason}")]
    Setting {
        /// What is wrong with which.
        reason: String,
        /// What to do about it.
        hint: String,
    },
    /// The server cannot be reached or refuses.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The server answers with something else than it should.
    #[error("{address}: the answer has no {what}")]
    Answer {
        /// Which server.
        address: String,
        /// What was looked for.
        what: &'static str,
    },
    /// A file cannot be read or written.
    #[error("{path}: {reason}")]
    File {
        /// Which file.
        path: String,
        /// The system's reason.
        reason: String,
    },
}

impl TrackerError {
    /// An error of the system about a file.
    pub(crate) fn file(path: &Path) -> impl Fn(std::io::Error) -> Self + '_ {
        |error| Self::File { path: path.display().to_string(), reason: error.to_string() }
    }

    /// Whether the same may do later.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Http(error) => error.is_passing(),
            // A full disk may be cleared.
            Self::File { .. } => true,
            Self::Setting { .. } | Self::Answer { .. } => false,
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Setting { hint, .. } => Some(hint),
            Self::Http(_) | Self::Answer { .. } | Self::File { .. } => None,
        }
    }
}
