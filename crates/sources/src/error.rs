//! What keeps tables from arriving. No text here ever holds a credential.

use std::io;
use std::path::{Path, PathBuf};

use tunesmith_data::{DataError, TABLE_TYPES};

/// Result of this crate.
pub type Result<T> = std::result::Result<T, SourceError>;

/// Why tables did not arrive. Addresses in it are those of [`crate::names::shown`]: without what may be secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// Something that is no address of a source.
    #[error("{address:?} is no source of data: {reason}")]
    Address {
        /// What was given.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No answer, or one that broke off again and again.
    #[error("{address} cannot be read: {reason}")]
    Unreachable {
        /// Who was asked.
        address: String,
        /// What happened.
        reason: String,
    },
    /// The other side wants other credentials, or some at all.
    #[error("{address} refuses access: {reason}")]
    Refused {
        /// Who was asked.
        address: String,
        /// What it said.
        reason: String,
        /// What may help.
        hint: String,
    },
    /// There is no such thing.
    #[error("there is nothing at {address}{}", with_colon(reason))]
    NotFound {
        /// Where.
        address: String,
        /// What the other side said of it, if anything.
        reason: String,
    },
    /// A bucket that lies elsewhere.
    #[error("{address} cannot be read: {reason}")]
    Region {
        /// Who was asked.
        address: String,
        /// Where it was looked for, and where it is.
        reason: String,
        /// Where it is.
        region: String,
    },
    /// An answer that makes no sense here.
    #[error("{address} answers with something unexpected: {reason}")]
    Answer {
        /// Who was asked.
        address: String,
        /// What is unexpected.
        reason: String,
    },
    /// A page to look at instead of a file.
    #[error("{address} sends a web page instead of a table")]
    WebPage {
        /// Who was asked.
        address: String,
    },
    /// More bytes than are allowed.
    #[error("{what} is larger than {max_bytes} bytes")]
    TooLarge {
        /// What.
        what: String,
        /// The limit.
        max_bytes: u64,
    },
    /// A file that is neither a table nor an archive.
    #[error("{name} is neither a table nor a zip archive")]
    NotATable {
        /// Its name.
        name: String,
    },
    /// A place without tables.
    #[error("there is no table in {place}")]
    NoTable {
        /// Where.
        place: String,
        /// What there is instead.
        hint: String,
    },
    /// A choice that does not exist.
    #[error("there is no {what} {name:?}")]
    Choice {
        /// What is chosen: a split, ….
        what: &'static str,
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// An archive that is damaged or hostile.
    #[error("the archive cannot be used: {reason}")]
    Archive {
        /// Why.
        reason: String,
        /// What may help.
        hint: Option<&'static str>,
    },
    /// A file that would be overwritten.
    #[error("{}: is there already", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// Two transfers at once into one folder.
    #[error("{}: another transfer is writing here", folder.display())]
    Busy {
        /// The folder.
        folder: PathBuf,
    },
    /// An operation on a file that the system refused.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The operation.
        action: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// A table that arrived and cannot be read.
    #[error(transparent)]
    Data(Box<DataError>),
    /// It was told to stop.
    #[error("cancelled")]
    Cancelled,
}

impl From<DataError> for SourceError {
    fn from(error: DataError) -> Self {
        Self::Data(Box::new(error))
    }
}

impl SourceError {
    pub(crate) fn io(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { path: path.to_owned(), action, source }
    }

    pub(crate) fn address(address: &str, reason: impl Into<String>) -> Self {
        Self::Address { address: crate::names::shown(address), reason: reason.into() }
    }

    /// What can be done about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Unreachable { .. } => {
                "check the address and this machine's network; what has arrived is kept, and the same import goes on from there"
                    .to_owned()
            }
            Self::Refused { hint, .. } | Self::NoTable { hint, .. } => hint.clone(),
            Self::NotATable { .. } => {
                format!("use a {TABLE_TYPES}, or a zip archive of some; an address ends so before any question mark")
            }
            Self::Choice { known, .. } => format!("there are: {}", known.join(", ")),
            Self::Archive { hint, .. } => (*hint)?.to_owned(),
            Self::NotFound { .. } => {
                "check the spelling; some services say this, too, of what may not be read with these credentials or without any"
                    .to_owned()
            }
            Self::WebPage { .. } => {
                "take the address of the file itself, behind Download or Raw; if it needs a login, download it by hand".to_owned()
            }
            Self::Region { region, .. } => format!("set the region to {region}"),
            Self::TooLarge { .. } => "raise the limit, or take a part of it".to_owned(),
            Self::Exists { .. } => "choose another folder, or remove the file".to_owned(),
            Self::Busy { .. } => "wait for it or cancel it".to_owned(),
            Self::Data(error) => return error.hint(),
            _ => return None,
        })
        .filter(|hint| !hint.is_empty())
    }
}

fn with_colon(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!(": {reason}") }
}
