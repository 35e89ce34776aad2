//! Labels and numbers from the text of answer columns, where several of a sample are joined by commas.

use crate::error::MetricError;

/// The labels in a text such as `1,0,1`. `sample` is only for the error.
pub fn parse_labels(sample: usize, text: &str) -> Result<Vec<usize>, MetricError> {
    parse(sample, text, "a label, a whole number from 0 on", |part| part.parse().ok())
}

/// The numbers in a text such as `2.0,-3.5`; NaN and infinities are none. `sample` is only for the error.
pub fn parse_numbers(sample: usize, text: &str) -> Result<Vec<f64>, MetricError> {
    parse(sample, text, "a number", |part| part.parse().ok().filter(|number: &f64| number.is_finite()))
}

fn parse<T>(
    sample: usize,
    text: &str,
    expected: &'static str,
    read: fn(&str) -> Option<T>,
) -> Result<Vec<T>, MetricError> {
    let not_a_number = |part: &str| MetricError::NotANumber { sample, text: part.to_owned(), expected };
    text.split(',').map(|part| read(part.trim()).ok_or_else(|| not_a_number(part))).collect()
}
