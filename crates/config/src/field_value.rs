//! How each Rust type of a field is read from YAML text and shown again.
//!
//! Reading is directed by the field's type, not by YAML's own guesses: `1e-05` is a number for a float field and
//! text for a text field, `yes` is true for a switch and a word for a text.

use std::fmt;

use serde::Serialize;

use crate::choices::Choice;
use crate::field::Kind;
use crate::node::{Content, Node};

/// The value of any field.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// Switch.
    Bool(bool),
    /// Whole number.
    Int(i64),
    /// Number.
    Float(f64),
    /// Text or choice.
    Text(String),
    /// List of texts or choices.
    List(Vec<String>),
}

impl Value {
    /// The entries a [`crate::Dependency`] is tested against: those of a list, or the single value.
    pub fn entries(&self) -> Vec<String> {
        match self {
            Self::List(items) => items.clone(),
            single => vec![single.to_string()],
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => write!(f, "{value}"),
            Self::Int(value) => write!(f, "{value}"),
            Self::Float(value) => write!(f, "{}", crate::yaml_writer::float_text(*value)),
            Self::Text(text) if text.is_empty() => f.write_str("''"),
            Self::Text(text) => f.write_str(text),
            Self::List(items) => write!(f, "[{}]", items.join(", ")),
        }
    }
}

/// A text that may be absent, which YAML writes as the word `None` (or leaves empty).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OptionalText(String);

impl OptionalText {
    /// No text.
    pub fn none() -> Self {
        Self("None".to_owned())
    }

    /// The text, unless it is absent, `None` or empty.
    pub fn as_deref(&self) -> Option<&str> {
        (!self.0.is_empty() && self.0 != "None").then_some(self.0.as_str())
    }

    /// Whether there is a text.
    pub fn is_some(&self) -> bool {
        self.as_deref().is_some()
    }

    /// Whether there is no text.
    pub fn is_none(&self) -> bool {
        !self.is_some()
    }
}

impl From<&str> for OptionalText {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl From<String> for OptionalText {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Display for OptionalText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One column or several: written as text when it is one, which is how files of every problem type spell it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Columns(Vec<String>);

impl Columns {
    /// The only column, or the first; empty when there is none.
    pub fn first(&self) -> &str {
        self.0.first().map_or("", String::as_str)
    }

    /// All columns, in order.
    pub fn all(&self) -> &[String] {
        &self.0
    }
}

impl From<&str> for Columns {
    fn from(name: &str) -> Self {
        Self(vec![name.to_owned()])
    }
}

impl From<Vec<String>> for Columns {
    fn from(names: Vec<String>) -> Self {
        Self(names)
    }
}

impl FieldValue for Columns {
    const KIND: Kind = Kind::TextList;

    fn read(node: &Node) -> Result<Self, Mismatch> {
        Vec::<String>::read(node).map(Self)
    }

    fn remark(node: &Node) -> Option<String> {
        Vec::<String>::remark(node)
    }

    fn value(&self) -> Value {
        match self.0.as_slice() {
            [name] => Value::Text(name.clone()),
            names => Value::List(names.to_vec()),
        }
    }
}

/// The value does not fit the type; the text, if any, adds to "expected …".
#[derive(Debug, Default)]
pub(crate) struct Mismatch(pub(crate) Option<String>);

/// A Rust type that fields can have.
pub(crate) trait FieldValue: Sized {
    const KIND: Kind;
    fn read(node: &Node) -> Result<Self, Mismatch>;
    fn value(&self) -> Value;

    /// The replacement for a value that existed once and does not any more.
    fn read_legacy(_node: &Node) -> Option<Self> {
        None
    }

    /// What to say about a value that was read.
    fn remark(_node: &Node) -> Option<String> {
        None
    }
}

impl FieldValue for bool {
    const KIND: Kind = Kind::Bool;

    fn read(node: &Node) -> Result<Self, Mismatch> {
        // The YAML 1.1 words, each in its three capitalisations.
        match node.as_plain() {
            Some("true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON") => Ok(true),
            Some("false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF") => Ok(false),
            _ => Err(not_quoted(node)),
        }
    }

    fn value(&self) -> Value {
        Value::Bool(*self)
    }
}

impl FieldValue for f64 {
    const KIND: Kind = Kind::Float;

    fn read(node: &Node) -> Result<Self, Mismatch> {
        node.as_plain().and_then(parse_float).ok_or_else(|| not_quoted(node))
    }

    fn value(&self) -> Value {
        Value::Float(*self)
    }
}

impl FieldValue for i64 {
    const KIND: Kind = Kind::Int;

    fn read(node: &Node) -> Result<Self, Mismatch> {
        node.as_plain().and_then(parse_int).ok_or_else(|| not_quoted(node))
    }

    fn value(&self) -> Value {
        Value::Int(*self)
    }
}

impl FieldValue for usize {
    const KIND: Kind = Kind::Int;

    fn read(node: &Node) -> Result<Self, Mismatch> {
        let value = i64::read(node)?;
        usize::try_from(value).map_err(|_| Mismatch::default())
    }

    fn value(&self) -> Value {
        Value::Int(i64::try_from(*self).unwrap_or(i64::MAX))
    }
}

impl FieldValue for String {
    const KIND: Kind = Kind::Text;

    fn read(node: &Node) -> Result<Self, Mismatch> {
        match &node.content {
            // A key without a value is an empty text here, and so is a list that holds nothing.
            _ if node.is_null() || is_list_of_nothing(node) => Ok(String::new()),
            Content::Scalar { text, .. } => Ok(text.clone()),
            _ => Err(Mismatch::default()),
        }
    }

    fn value(&self) -> Value {
        Value::Text(self.clone())
    }
}

impl FieldValue for OptionalText {
    const KIND: Kind = Kind::OptionalText;

    fn read(node: &Node) -> Result<Self, Mismatch> {
        match &node.content {
            _ if node.is_null() || is_list_of_nothing(node) => Ok(Self::none()),
            Content::Scalar { text, .. } => Ok(Self(text.clone())),
            _ => Err(Mismatch::default()),
        }
    }

    fn value(&self) -> Value {
        Value::Text(self.0.clone())
    }
}

impl FieldValue for Vec<String> {
    const KIND: Kind = Kind::TextList;

    fn read(node: &Node) -> Result<Self, Mismatch> {
        match &node.content {
            // One text stands for a list of one; `None` and nothing for an empty list.
            Content::Scalar { .. } if is_nothing(node) => Ok(Vec::new()),
            Content::Scalar { text, .. } => Ok(vec![text.clone()]),
            // A form in which nothing is chosen writes a list of one empty text, which names nothing.
            Content::List(items) => items.iter().filter(|item| !is_empty(item)).map(String::read).collect(),
            Content::Map(_) => Err(Mismatch::default()),
        }
    }

    fn value(&self) -> Value {
        Value::List(self.clone())
    }

    fn remark(node: &Node) -> Option<String> {
        let Content::List(items) = &node.content else { return None };
        let n_empty = items.iter().filter(|item| is_empty(item)).count();
        (0 < n_empty && n_empty < items.len())
            .then(|| format!("{n_empty} of its {} entries are empty and name nothing", items.len()))
    }
}

impl<T: Choice> FieldValue for T {
    const KIND: Kind = Kind::Choice(T::NAMES);

    fn read(node: &Node) -> Result<Self, Mismatch> {
        let Content::Scalar { text, .. } = &node.content else { return Err(Mismatch::default()) };
        // A Python writer that holds no value instead of the word writes null.
        let text = if node.is_null() { "None" } else { text };
        T::from_name(text).ok_or_else(|| {
            let near = crate::nearest(text, T::NAMES.iter().copied());
            Mismatch(near.map(|name| format!("did you mean {name}?")))
        })
    }

    fn value(&self) -> Value {
        Value::Text(self.name().to_owned())
    }

    fn read_legacy(node: &Node) -> Option<Self> {
        match &node.content {
            Content::Scalar { text, .. } => T::legacy(text),
            _ => None,
        }
    }
}

impl<T: Choice> FieldValue for Vec<T> {
    const KIND: Kind = Kind::ChoiceList(T::NAMES);

    fn read(node: &Node) -> Result<Self, Mismatch> {
        match &node.content {
            Content::Scalar { .. } if is_nothing(node) => Ok(Vec::new()),
            Content::Scalar { .. } => Ok(vec![T::read(node)?]),
            Content::List(items) => items.iter().filter(|item| !is_empty(item)).map(T::read).collect(),
            Content::Map(_) => Err(Mismatch::default()),
        }
    }

    fn value(&self) -> Value {
        Value::List(self.iter().map(|choice| choice.name().to_owned()).collect())
    }
}

/// An entry of a list that holds nothing.
fn is_empty(node: &Node) -> bool {
    node.is_null() || matches!(&node.content, Content::Scalar { text, .. } if text.is_empty())
}

/// A value in place of a list that holds nothing: null, an empty text or the word `None`.
fn is_nothing(node: &Node) -> bool {
    is_empty(node) || matches!(&node.content, Content::Scalar { text, .. } if text == "None")
}

/// A list whose entries, if there are any, hold nothing.
fn is_list_of_nothing(node: &Node) -> bool {
    matches!(&node.content, Content::List(items) if items.iter().all(is_empty))
}

/// Explains a quoted scalar where a bare one is needed.
fn not_quoted(node: &Node) -> Mismatch {
    let is_quoted = matches!(node.content, Content::Scalar { is_plain: false, .. });
    Mismatch(is_quoted.then(|| "without quotes".to_owned()))
}

/// A finite decimal number; `_` between digits is allowed as in YAML 1.1.
fn parse_float(text: &str) -> Option<f64> {
    let digits = text.replace('_', "");
    // Rust also reads `inf`, `nan` and `infinity`, which are no settings.
    let is_number = digits.chars().all(|c| c.is_ascii_digit() || matches!(c, '+' | '-' | '.' | 'e' | 'E'));
    digits.parse::<f64>().ok().filter(|value| is_number && value.is_finite())
}

/// A whole number, also when it is written as a float such as `256.0` or `1e6`.
fn parse_int(text: &str) -> Option<i64> {
    let digits = text.replace('_', "");
    // YAML 1.1 reads a leading zero as octal; refusing is better than guessing.
    let magnitude = digits.trim_start_matches(['+', '-']);
    if magnitude.len() > 1 && magnitude.starts_with('0') && magnitude.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    if let Ok(value) = digits.parse::<i64>() {
        return Some(value);
    }
    // Beyond 2^53 a float no longer tells neighbouring whole numbers apart.
    let value = parse_float(text)?;
    (value.fract() == 0.0 && value.abs() < 9_007_199_254_740_992.0).then_some(value as i64)
}
