//! How the program fails: one paragraph of what and where, a hint line, and an exit code.
//!
//! Library crates return typed errors; this is the one place that decides what a shell sees of them.

mod causes;

use std::error::Error;
use std::fmt;
use std::path::Path;

/// Why the program ended. The numbers are part of the interface: scripts branch on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// The work started and could not be finished: a loss that is not a number, an export that failed its own check.
    Run,
    /// The command line or the experiment file asks for something that is not allowed.
    Usage,
    /// A data file is missing, unreadable or does not have what the experiment needs.
    Data,
    /// A model, tokenizer, adapter or checkpoint file is missing, damaged or of an unknown kind.
    Model,
    /// A download failed.
    Network,
    /// Something could not be written: disk full, no permission, folder already in use.
    Output,
    /// The device that was asked for is not there, or computes wrong.
    Device,
    /// Memory ran out, the machine's or a device's.
    Memory,
    /// A defect of this program.
    Internal,
    /// Ctrl-C or a termination signal; training wrote a checkpoint first.
    Interrupted,
}

impl Exit {
    /// All of them, in order of their number.
    pub(crate) const ALL: [Self; 10] = [
        Self::Run,
        Self::Usage,
        Self::Data,
        Self::Model,
        Self::Network,
        Self::Output,
        Self::Device,
        Self::Memory,
        Self::Internal,
        Self::Interrupted,
    ];

    /// The process's exit code.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Run => 1,
            Self::Usage => 2,
            Self::Data => 3,
            Self::Model => 4,
            Self::Network => 5,
            Self::Output => 6,
            Self::Device => 7,
            Self::Memory => 8,
            Self::Internal => 70,
            Self::Interrupted => 130,
        }
    }

    /// What the code means, for help and documentation.
    pub(crate) const fn meaning(self) -> &'static str {
        match self {
            Self::Run => "the work started and failed (loss not a number, export failed its own check)",
            Self::Usage => "wrong command line or experiment file",
            Self::Data => "a data file is missing, damaged or lacks what the experiment needs",
            Self::Model => "a model, tokenizer, adapter or checkpoint is missing, damaged or unsupported",
            Self::Network => "a download failed",
            Self::Output => "something could not be written, or its place is taken",
            Self::Device => "the device that was asked for is not there, or computes wrong",
            Self::Memory => "memory ran out",
            Self::Internal => "a defect of this program; the message says what to report",
            Self::Interrupted => "interrupted; training has written a checkpoint",
        }
    }
}

/// An error as the user meets it.
#[derive(Debug)]
pub(crate) struct Failure {
    /// Decides the exit code.
    pub(crate) exit: Exit,
    /// What happened and where, in one paragraph.
    pub(crate) what: String,
    /// What to do about it.
    pub(crate) hint: Option<String>,
}

impl Failure {
    /// A failure without a hint.
    pub(crate) fn new(exit: Exit, what: impl Into<String>) -> Self {
        Self { exit, what: what.into(), hint: None }
    }

    /// The same with what to do about it.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// A library's error: its text, and the causes below it that the text does not already contain.
    pub(crate) fn from_error(exit: Exit, error: &dyn Error, hint: Option<String>) -> Self {
        let mut what = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let text = error.to_string();
            if !what.contains(&text) {
                what = format!("{what}: {text}");
            }
            cause = error.source();
        }
        Self { exit, what: one_paragraph(&what), hint: hint.map(|text| one_paragraph(&text)) }
    }

    /// A file or folder that could not be written.
    pub(crate) fn cannot_write(path: &Path, error: &std::io::Error) -> Self {
        Self::new(Exit::Output, format!("cannot write {}: {error}", path.display()))
            .hint("check that the folder exists, that you may write to it and that the disk has room")
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.what)
    }
}

/// Line breaks and the blanks around them become one space.
fn one_paragraph(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn causes_are_joined_once_and_in_one_paragraph() {
        let outer = Outer(std::io::Error::other("inner\n  detail"));
        let failure = Failure::from_error(Exit::Data, &outer, Some("do\nthis".to_owned()));
        assert_eq!(failure.what, "outer: inner detail");
        assert_eq!(failure.hint.as_deref(), Some("do this"));
    }

    #[test]
    fn exit_codes_are_distinct_and_none_means_success() {
        let mut codes: Vec<u8> = Exit::ALL.iter().map(|exit| exit.code()).collect();
        codes.dedup();
        assert_eq!(codes.len(), Exit::ALL.len());
        assert!(!codes.contains(&0));
    }
}
