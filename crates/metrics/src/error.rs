//! Why a metric has no value, naming the sample at fault.
//!
//! Samples, columns and characters are counted from 0, as in the slices they came in.

/// A metric, template or answer that has no value.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum MetricError {
    /// There is nothing to measure.
    #[error("{metric}: no samples to score")]
    Empty {
        /// Name of the metric.
        metric: &'static str,
    },

    /// Two things that belong together have different lengths.
    #[error("{found} {what} where {expected} were expected")]
    LengthMismatch {
        /// What was counted, in the plural.
        what: &'static str,
        /// As many as the other has.
        expected: usize,
        /// As many as there are.
        found: usize,
    },

    /// A number that is NaN or infinite.
    #[error("sample {sample}: {what} is {value}")]
    NotFinite {
        /// Which sample.
        sample: usize,
        /// What the number is: "loss", "score", "target".
        what: &'static str,
        /// NaN or an infinity.
        value: f64,
    },

    /// A probability outside of 0 to 1.
    #[error("sample {sample}: {value} is no probability")]
    NotAProbability {
        /// Which sample.
        sample: usize,
        /// The number.
        value: f64,
    },

    /// A class that does not exist.
    #[error("sample {sample}: {what} {label} is not below the number of classes, {n_classes}")]
    UnknownClass {
        /// Which sample.
        sample: usize,
        /// "target" or "prediction".
        what: &'static str,
        /// The class.
        label: usize,
        /// Classes are 0 to one below this.
        n_classes: usize,
    },

    /// A text that should hold a number.
    #[error("sample {sample}: {text:?} is not {expected}")]
    NotANumber {
        /// Which sample.
        sample: usize,
        /// The text, or the part of it between commas.
        text: String,
        /// What was expected.
        expected: &'static str,
    },

    /// All targets are alike, so that there is nothing to tell apart.
    #[error("{metric} is undefined: all targets of column {column} are {label}")]
    OneClass {
        /// Name of the metric.
        metric: &'static str,
        /// The label, or the class in one-against-rest.
        column: usize,
        /// What all of them are.
        label: usize,
    },

    /// The metric needs more samples.
    #[error("{metric} is undefined for {found} samples; it takes at least {needed}")]
    TooFewSamples {
        /// Name of the metric.
        metric: &'static str,
        /// At least this many.
        needed: usize,
        /// As many as there are.
        found: usize,
    },

    /// No sample has a value that could enter the mean.
    #[error("{metric}: none of the {n_samples} samples has a value")]
    NoneScored {
        /// Name of the metric.
        metric: &'static str,
        /// As many as there are.
        n_samples: usize,
    },

    /// A judge's template with a brace that has no partner.
    #[error("template, character {position}: `{brace}` without its partner")]
    LoneBrace {
        /// Which character.
        position: usize,
        /// `{` or `}`.
        brace: char,
    },

    /// A judge's template names a column that the data has not got.
    #[error("the template asks for column {column:?}, which the row has not got")]
    MissingColumn {
        /// The name between the braces.
        column: String,
    },

    /// A judge's answer without a score.
    #[error("no score in the judge's answer: {found}")]
    NoJudgeScore {
        /// What stands in its place.
        found: String,
    },
}

impl MetricError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Empty { .. } => "the validation data has no rows; choose more of them or another split",
            Self::NotFinite { what: "loss" | "output" | "prediction", .. } => {
                "the model's numbers are broken: try a lower learning rate or bfloat16"
            }
            Self::UnknownClass { .. } => "set num_classes to the highest label plus one",
            Self::OneClass { .. } => {
                "use more validation rows, so that each class occurs, or a metric that needs no pairs, as LogLoss"
            }
            Self::LoneBrace { .. } => "write {{ and }} for braces that are meant as text",
            Self::MissingColumn { .. } => {
                "name a column of the validation data, or _PROMPT, _PREDICTED_TEXT or _TARGET_TEXT"
            }
            Self::NoJudgeScore { .. } => "the template has to ask for a last line such as `SCORE: 0.7`",
            _ => return None,
        };
        Some(hint.to_owned())
    }
}

/// An error if there are no samples.
pub(crate) fn not_empty(metric: &'static str, n_samples: usize) -> Result<(), MetricError> {
    if n_samples == 0 { Err(MetricError::Empty { metric }) } else { Ok(()) }
}

/// An error naming the first number that is NaN or infinite; `width` numbers belong to a sample.
pub(crate) fn all_finite(what: &'static str, values: &[f64], width: usize) -> Result<(), MetricError> {
    match values.iter().position(|value| !value.is_finite()) {
        Some(idx) => {
            let value = values.get(idx).copied().unwrap_or(f64::NAN);
            Err(MetricError::NotFinite { sample: idx / width.max(1), what, value })
        }
        None => Ok(()),
    }
}

/// An error if two lengths differ.
pub(crate) fn same_length(what: &'static str, expected: usize, found: usize) -> Result<(), MetricError> {
    if expected == found { Ok(()) } else { Err(MetricError::LengthMismatch { what, expected, found }) }
}
