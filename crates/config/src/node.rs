//! A parsed YAML value that still knows its line and whether it was quoted.
//!
//! Types are not resolved here: YAML 1.1 and 1.2 disagree about what `yes`, `1e-05` or `None` are, and the field
//! that receives the value knows what it needs.

use std::fmt;

/// One YAML value with the line it starts on (1-based).
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub(crate) line: usize,
    pub(crate) content: Content,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Content {
    /// `is_plain` is false for quoted and block scalars, which are always text.
    Scalar {
        text: String,
        is_plain: bool,
    },
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Key {
    pub(crate) text: String,
    pub(crate) line: usize,
}

impl Node {
    /// An unquoted scalar that stands on no line, as a command line gives it.
    pub(crate) fn plain(text: &str) -> Self {
        Self { line: 0, content: Content::Scalar { text: text.to_owned(), is_plain: true } }
    }

    /// The text of an unquoted scalar.
    pub(crate) fn as_plain(&self) -> Option<&str> {
        match &self.content {
            Content::Scalar { text, is_plain: true } => Some(text),
            _ => None,
        }
    }

    /// True for `null`, `~` and for a key without a value; the word `None` is text.
    pub(crate) fn is_null(&self) -> bool {
        self.as_plain().is_some_and(|text| matches!(text, "" | "~" | "null" | "Null" | "NULL"))
    }
}

/// The value as an error message shows it, at most some 60 characters.
impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = match &self.content {
            Content::Scalar { text, is_plain: true } => text.clone(),
            Content::Scalar { text, is_plain: false } => format!("'{text}'"),
            Content::List(items) => {
                let shown: Vec<String> = items.iter().take(8).map(ToString::to_string).collect();
                format!("[{}{}]", shown.join(", "), if items.len() > 8 { ", …" } else { "" })
            }
            Content::Map(_) => "a mapping".to_owned(),
        };
        if whole.is_empty() {
            return f.write_str("empty");
        }
        match whole.char_indices().nth(60) {
            Some((end, _)) => write!(f, "{}…", whole.get(..end).unwrap_or_default()),
            None => f.write_str(&whole),
        }
    }
}
