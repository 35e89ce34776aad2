//! The typed key–value pairs at the head of a GGUF file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::error::{FormatError, Result};

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Any of the eight integer types; the file's width is of no consequence to readers.
    Int(i128),
    /// float32 or float64.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// UTF-8 text.
    String(String),
    /// Values of one type.
    Array(Array),
}

/// The values of an array, by kind, without per-element overhead.
#[derive(Debug, Clone, PartialEq)]
pub enum Array {
    /// Unsigned bytes.
    U8(Vec<u8>),
    /// Signed bytes.
    I8(Vec<i8>),
    /// Unsigned 16-bit integers.
    U16(Vec<u16>),
    /// Signed 16-bit integers.
    I16(Vec<i16>),
    /// Unsigned 32-bit integers.
    U32(Vec<u32>),
    /// Signed 32-bit integers.
    I32(Vec<i32>),
    /// Unsigned 64-bit integers.
    U64(Vec<u64>),
    /// Signed 64-bit integers.
    I64(Vec<i64>),
    /// Single-precision numbers.
    F32(Vec<f32>),
    /// Double-precision numbers.
    F64(Vec<f64>),
    /// Truth values.
    Bool(Vec<bool>),
    /// UTF-8 texts.
    String(Vec<String>),
    /// Arrays in an array.
    Array(Vec<Array>),
}

impl Array {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Self::U8(v) => v.len(),
            Self::I8(v) => v.len(),
            Self::U16(v) => v.len(),
            Self::I16(v) => v.len(),
            Self::U32(v) => v.len(),
            Self::I32(v) => v.len(),
            Self::U64(v) => v.len(),
            Self::I64(v) => v.len(),
            Self::F32(v) => v.len(),
            Self::F64(v) => v.len(),
            Self::Bool(v) => v.len(),
            Self::String(v) => v.len(),
            Self::Array(v) => v.len(),
        }
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements as integers; `None` for an array of another kind or a value beyond i64.
    pub fn ints(&self) -> Option<Vec<i64>> {
        match self {
            Self::U8(v) => Some(v.iter().map(|x| i64::from(*x)).collect()),
            Self::I8(v) => Some(v.iter().map(|x| i64::from(*x)).collect()),
            Self::U16(v) => Some(v.iter().map(|x| i64::from(*x)).collect()),
            Self::I16(v) => Some(v.iter().map(|x| i64::from(*x)).collect()),
            Self::U32(v) => Some(v.iter().map(|x| i64::from(*x)).collect()),
            Self::I32(v) => Some(v.iter().map(|x| i64::from(*x)).collect()),
            Self::U64(v) => v.iter().map(|x| i64::try_from(*x).ok()).collect(),
            Self::I64(v) => Some(v.clone()),
            _ => None,
        }
    }

    /// The elements as numbers; `None` for an array that holds no numbers.
    pub fn floats(&self) -> Option<Vec<f64>> {
        match self {
            Self::F32(v) => Some(v.iter().map(|x| f64::from(*x)).collect()),
            Self::F64(v) => Some(v.clone()),
            _ => self.ints().map(|v| v.into_iter().map(|x| x as f64).collect()),
        }
    }
}

/// All pairs of a file, in the order of their keys.
///
/// The typed getters return `Ok(None)` when the key is absent and an error that names the key when its
/// value is of another kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Metadata {
    path: PathBuf,
    pairs: BTreeMap<String, Value>,
}

impl Metadata {
    /// Pairs that came from the file at `path`, which the errors of the getters name.
    pub fn new(path: &Path, pairs: BTreeMap<String, Value>) -> Self {
        Self { path: path.to_owned(), pairs }
    }

    /// The file they came from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The value of `key`, whatever its kind.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.pairs.get(key)
    }

    /// All pairs, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.pairs.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// A text.
    pub fn string(&self, key: &str) -> Result<Option<&str>> {
        self.typed(key, "a text", |value| match value {
            Value::String(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// A truth value.
    pub fn bool(&self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "true or false", |value| match value {
            Value::Bool(flag) => Some(*flag),
            _ => None,
        })
    }

    /// A token id or another number that fits u32.
    pub fn u32(&self, key: &str) -> Result<Option<u32>> {
        self.typed(key, "an integer from 0 to 4294967295", |value| match value {
            Value::Int(number) => u32::try_from(*number).ok(),
            _ => None,
        })
    }

    /// A count.
    pub fn usize(&self, key: &str) -> Result<Option<usize>> {
        self.typed(key, "a count", |value| match value {
            Value::Int(number) => usize::try_from(*number).ok(),
            _ => None,
        })
    }

    /// A number; integers are accepted.
    pub fn f64(&self, key: &str) -> Result<Option<f64>> {
        self.typed(key, "a number", |value| match value {
            Value::Float(number) => Some(*number),
            Value::Int(number) => Some(*number as f64),
            _ => None,
        })
    }

    /// An array of texts.
    pub fn strings(&self, key: &str) -> Result<Option<&[String]>> {
        self.typed(key, "an array of texts", |value| match value {
            Value::Array(Array::String(texts)) => Some(texts.as_slice()),
            _ => None,
        })
    }

    /// An array of integers of any width.
    pub fn ints(&self, key: &str) -> Result<Option<Vec<i64>>> {
        self.typed(key, "an array of integers", |value| match value {
            Value::Array(array) => array.ints(),
            _ => None,
        })
    }

    /// An array of numbers.
    pub fn floats(&self, key: &str) -> Result<Option<Vec<f64>>> {
        self.typed(key, "an array of numbers", |value| match value {
            Value::Array(array) => array.floats(),
            _ => None,
        })
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        wanted: &str,
        convert: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.pairs.get(key) else { return Ok(None) };
        convert(value).map(Some).ok_or_else(|| FormatError::Config {
            path: self.path.clone(),
            key: key.to_owned(),
            reason: format!("expected {wanted}, found {}", describe(value)),
        })
    }
}

/// A short description for error messages: never a whole vocabulary.
fn describe(value: &Value) -> String {
    match value {
        Value::Int(number) => format!("the integer {number}"),
        Value::Float(number) => format!("the number {number}"),
        Value::Bool(flag) => format!("{flag}"),
        Value::String(text) => format!("the text {:?}", text.chars().take(40).collect::<String>()),
        Value::Array(array) => format!("an array of {} values", array.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn getters_tell_absent_from_wrong() {
        let pairs = [
            ("a".to_owned(), Value::Int(7)),
            ("b".to_owned(), Value::String("text".into())),
            ("c".to_owned(), Value::Array(Array::U8(vec![1, 2]))),
            ("d".to_owned(), Value::Int(-1)),
        ];
        let metadata = Metadata::new(Path::new("m.gguf"), pairs.into());
        assert_eq!(metadata.u32("a").unwrap(), Some(7));
        assert_eq!(metadata.f64("a").unwrap(), Some(7.0));
        assert_eq!(metadata.string("b").unwrap(), Some("text"));
        assert_eq!(metadata.ints("c").unwrap(), Some(vec![1, 2]));
        assert_eq!(metadata.floats("c").unwrap(), Some(vec![1.0, 2.0]));
        assert_eq!(metadata.u32("absent").unwrap(), None);
        assert_eq!(
            metadata.u32("d").unwrap_err().to_string(),
            "m.gguf: d: expected an integer from 0 to 4294967295, found the integer -1"
        );
        assert_eq!(
            metadata.strings("c").unwrap_err().to_string(),
            "m.gguf: c: expected an array of texts, found an array of 2 values"
        );
    }
}
