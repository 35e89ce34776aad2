//! Templates of what the judge is asked: text with the names of columns in braces.
//!
//! `{column}` stands for the text of that column in the sample's row; `{{` and `}}` are braces. Everything between two
//! braces is the name, blanks and dots included; the formatting instructions of Python's `str.format` are not understood.
//! What was filled in is not looked at again, so that braces in an answer do no harm.

use crate::error::MetricError;

/// A template, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JudgeTemplate {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Column(String),
}

/// The name under which the sample's prompt is filled in, without earlier turns of the conversation.
pub const PROMPT: &str = "_PROMPT";
/// The name under which the generated text is filled in.
pub const PREDICTED_TEXT: &str = "_PREDICTED_TEXT";
/// The name under which the expected text is filled in.
pub const TARGET_TEXT: &str = "_TARGET_TEXT";

impl JudgeTemplate {
    /// Reads a template; an error for a brace without its partner.
    pub fn parse(text: &str) -> Result<Self, MetricError> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut chars = text.chars().enumerate().peekable();
        while let Some((position, c)) = chars.next() {
            match c {
                '{' | '}' if chars.next_if(|(_, next)| *next == c).is_some() => plain.push(c),
                '{' => {
                    let mut name = String::new();
                    loop {
                        match chars.next() {
                            Some((_, '}')) => break,
                            None | Some((_, '{')) => {
                                return Err(MetricError::LoneBrace { position, brace: c });
                            }
                            Some((_, c)) => name.push(c),
                        }
                    }
                    parts.push(Part::Text(std::mem::take(&mut plain)));
                    parts.push(Part::Column(name));
                }
                '}' => return Err(MetricError::LoneBrace { position, brace: c }),
                _ => plain.push(c),
            }
        }
        parts.push(Part::Text(plain));
        Ok(Self { parts })
    }

    /// The columns it asks for, in order, each as often as it occurs.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Column(name) => Some(name.as_str()),
            Part::Text(_) => None,
        })
    }

    /// The text for one sample. `column` gives the text of a column, [`PROMPT`], [`PREDICTED_TEXT`] and [`TARGET_TEXT`]
    /// among them; an error names the one it has not got.
    pub fn fill<'a>(&self, column: impl Fn(&str) -> Option<&'a str>) -> Result<String, MetricError> {
        let text = |part: &Part| match part {
            Part::Text(text) => Ok(text.clone()),
            Part::Column(name) => match column(name) {
                Some(text) => Ok(text.to_owned()),
                None => Err(MetricError::MissingColumn { column: name.clone() }),
            },
        };
        self.parts.iter().map(text).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_filled_in_once() {
        let template = JudgeTemplate::parse("{{x}} {a}{my column}: {a}").unwrap();
        assert_eq!(template.columns().collect::<Vec<_>>(), ["a", "my column", "a"]);
        let filled = template.fill(|name| Some(if name == "a" { "{b}" } else { "ü" })).unwrap();
        assert_eq!(filled, "{x} {b}ü: {b}");
    }

    #[test]
    fn what_is_missing_is_named() {
        let template = JudgeTemplate::parse("{a} {b}").unwrap();
        let error = template.fill(|name| (name == "a").then_some("")).unwrap_err();
        assert_eq!(error, MetricError::MissingColumn { column: "b".to_owned() });
        for (text, position, brace) in [("ü {a", 2, '{'), ("a}", 1, '}'), ("{a{b}}", 0, '{')] {
            assert_eq!(JudgeTemplate::parse(text), Err(MetricError::LoneBrace { position, brace }), "{text}");
        }
    }
}
