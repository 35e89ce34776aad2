//! What can go wrong with a configuration, and what is worth saying although it loaded.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read or written.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was attempted: "open", "write".
        action: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },

    /// The text is not YAML.
    #[error("{origin}:{line}:{column}: not valid YAML: {reason}")]
    Syntax {
        /// File the text came from.
        origin: String,
        /// Line, counted from 1.
        line: usize,
        /// Column, counted from 1.
        column: usize,
        /// The parser's explanation.
        reason: String,
    },

    /// The YAML has another shape than sections of fields.
    #[error("{origin}:{line}: {reason}")]
    Shape {
        /// File the text came from.
        origin: String,
        /// Line, counted from 1.
        line: usize,
        /// What was expected and found.
        reason: String,
    },

    /// The file does not say what is learned.
    #[error("{origin}: problem_type is missing; it is one of {}", problem_types())]
    MissingProblemType {
        /// File the text came from.
        origin: String,
    },

    /// Values that their fields do not take; all of them, in file order.
    #[error("{}", lines(problems))]
    Fields {
        /// At least one.
        problems: Vec<FieldProblem>,
    },

    /// There is no such field.
    #[error("there is no field {name:?}")]
    UnknownField {
        /// The name asked for.
        name: String,
        /// The field that may have been meant.
        nearest: Option<String>,
    },
}

impl ConfigError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Io { action: "open", .. } => {
                Some("check the path; it is read relative to the folder the program was started in".to_owned())
            }
            Self::Syntax { .. } => Some(
                "indent with spaces, put one space after each colon, and quote texts that start with a special sign"
                    .to_owned(),
            ),
            Self::MissingProblemType { .. } => {
                Some("add the line `problem_type: text_causal_language_modeling`".to_owned())
            }
            Self::Fields { problems } => {
                let path = problems.first().map(|problem| problem.field.as_str())?;
                Some(format!("`tunesmith config explain {path}` says what the field means"))
            }
            Self::UnknownField { nearest: Some(nearest), .. } => Some(format!("did you mean {nearest}?")),
            Self::UnknownField { .. } => Some("`tunesmith config schema` lists all fields".to_owned()),
            _ => None,
        }
    }
}

/// A value that its field does not take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldProblem {
    /// File the value stands in, or `command line`.
    pub origin: String,
    /// Line of the value, counted from 1; 0 when it does not come from a file.
    pub line: usize,
    /// `section.name`.
    pub field: String,
    /// The value as written.
    pub value: String,
    /// What the field takes.
    pub expected: String,
}

impl fmt::Display for FieldProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { origin, line, field, value, expected } = self;
        match line {
            0 => write!(f, "{origin}: {field} is {value}, expected {expected}"),
            line => write!(f, "{origin}:{line}: {field} is {value}, expected {expected}"),
        }
    }
}

/// Something in a file that did not keep it from loading.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// File it concerns.
    pub origin: String,
    /// Line, counted from 1, where there is one.
    pub line: Option<usize>,
    /// What was found and what was done about it.
    pub message: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.origin, self.message),
            None => write!(f, "{}: {}", self.origin, self.message),
        }
    }
}

fn lines(problems: &[FieldProblem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn problem_types() -> String {
    crate::ProblemType::ALL.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(", ")
}
