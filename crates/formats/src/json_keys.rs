//! Typed access to the keys of a configuration object; every complaint names the file and the key.

use std::path::Path;

use serde_json::{Map, Value};

use crate::error::{FormatError, Result};

/// No width, count or context length of a model comes near this; larger numbers are taken for damage
/// before anything is allocated by them.
const MAX_COUNT: u64 = 1 << 27;

/// An object of a JSON file. `null` counts as absent, as it does in `transformers`.
#[derive(Clone, Copy)]
pub(crate) struct Keys<'a> {
    path: &'a Path,
    prefix: &'a str,
    object: &'a Map<String, Value>,
}

impl<'a> Keys<'a> {
    /// The keys of `value`, which must be an object; `prefix` ("rope_scaling.") goes before keys in errors.
    pub(crate) fn new(path: &'a Path, prefix: &'a str, value: &'a Value) -> Result<Self> {
        match value.as_object() {
            Some(object) => Ok(Self { path, prefix, object }),
            None => Err(FormatError::Config {
                path: path.to_owned(),
                key: prefix.trim_end_matches('.').to_owned(),
                reason: format!("expected an object, found {}", shorten(value)),
            }),
        }
    }

    /// An error about `key`.
    pub(crate) fn error(&self, key: &str, reason: impl Into<String>) -> FormatError {
        FormatError::Config {
            path: self.path.to_owned(),
            key: format!("{}{key}", self.prefix),
            reason: reason.into(),
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&'a Value> {
        self.object.get(key).filter(|value| !value.is_null())
    }

    /// Whether the key is there at all, `null` included.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.object.contains_key(key)
    }

    pub(crate) fn string(&self, key: &str) -> Result<Option<&'a str>> {
        self.typed(key, "a text", Value::as_str)
    }

    pub(crate) fn bool(&self, key: &str, default: bool) -> Result<bool> {
        Ok(self.typed(key, "true or false", Value::as_bool)?.unwrap_or(default))
    }

    /// A count from 1 to [`MAX_COUNT`]; `4.0` is accepted for `4`.
    pub(crate) fn count(&self, key: &str) -> Result<Option<usize>> {
        self.typed(key, &format!("a count from 1 to {MAX_COUNT}"), |value| {
            let count = whole(value).filter(|count| (1..=MAX_COUNT).contains(count))?;
            usize::try_from(count).ok()
        })
    }

    /// A count that may be 0.
    pub(crate) fn whole(&self, key: &str) -> Result<Option<usize>> {
        self.typed(key, &format!("a count from 0 to {MAX_COUNT}"), |value| {
            usize::try_from(whole(value).filter(|count| *count <= MAX_COUNT)?).ok()
        })
    }

    pub(crate) fn required_count(&self, key: &str) -> Result<usize> {
        self.count(key)?.ok_or_else(|| self.error(key, "the key is missing"))
    }

    pub(crate) fn f64(&self, key: &str) -> Result<Option<f64>> {
        self.typed(key, "a number", Value::as_f64)
    }

    /// A finite number above zero.
    pub(crate) fn positive(&self, key: &str) -> Result<Option<f64>> {
        let is_positive = |number: &f64| number.is_finite() && *number > 0.0;
        self.typed(key, "a number above 0", |value| value.as_f64().filter(is_positive))
    }

    pub(crate) fn required_positive(&self, key: &str) -> Result<f64> {
        self.positive(key)?.ok_or_else(|| self.error(key, "the key is missing"))
    }

    /// A token id. Negative numbers, which some configurations use for "none", count as absent.
    pub(crate) fn token_id(&self, key: &str) -> Result<Option<u32>> {
        Ok(self.token_ids(key)?.first().copied())
    }

    /// A token id or a list of them.
    pub(crate) fn token_ids(&self, key: &str) -> Result<Vec<u32>> {
        let ids = self.typed(key, "a token id or a list of them", |value| match value {
            Value::Array(values) => values.iter().map(Value::as_i64).collect::<Option<Vec<_>>>(),
            _ => value.as_i64().map(|id| vec![id]),
        })?;
        Ok(ids.unwrap_or_default().into_iter().filter_map(|id| u32::try_from(id).ok()).collect())
    }

    fn typed<T>(
        &self,
        key: &str,
        wanted: &str,
        convert: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let converted = convert(value);
        converted
            .map(Some)
            .ok_or_else(|| self.error(key, format!("expected {wanted}, found {}", shorten(value))))
    }
}

fn whole(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| {
        let number = value.as_f64()?;
        (number.fract() == 0.0 && (0.0..=MAX_COUNT as f64).contains(&number)).then_some(number as u64)
    })
}

/// The value for an error message, cut to a readable length.
fn shorten(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}
