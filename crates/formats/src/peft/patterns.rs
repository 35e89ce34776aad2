//! Module paths against the regular expressions of an adapter's settings, with PEFT's rules.
//!
//! PEFT hands them to Python's `re`. The expressions are compiled when the settings are read, so that one which cannot be
//! used is refused by its own text and nothing is decided by a pattern that was not understood.

use std::fmt;
use std::marker::PhantomData;

use fancy_regex::Regex;
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};

/// Values of modules by regular expression, in the order of the file: the first key that matches counts.
#[derive(Debug, Clone)]
pub struct Patterns<T>(Vec<(Pattern, T)>);

impl<T> Default for Patterns<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Patterns<T> {
    /// The patterns of these keys.
    ///
    /// # Errors
    /// A key that is no regular expression, as a sentence.
    pub fn new(entries: impl IntoIterator<Item = (String, T)>) -> Result<Self, String> {
        let compiled = entries.into_iter().map(|(key, value)| Ok((Pattern::of_path_end(&key)?, value)));
        Ok(Self(compiled.collect::<Result<_, String>>()?))
    }

    /// The value for the module at `path`, if a key matches it.
    ///
    /// # Errors
    /// A key whose search does not come to an end, as a sentence.
    pub fn get(&self, path: &str) -> Result<Option<&T>, String> {
        for (pattern, value) in &self.0 {
            if pattern.matches(path)? {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    /// The values in order.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|(_, value)| value)
    }

    /// The keys that no path of `paths` gets its value by: those that match none, and those behind others that match first.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn idle_keys<'a>(&self, paths: impl IntoIterator<Item = &'a str>) -> Result<Vec<&str>, String> {
        let mut is_idle = vec![true; self.0.len()];
        for path in paths {
            for ((pattern, _), is_idle) in self.0.iter().zip(&mut is_idle) {
                if pattern.matches(path)? {
                    *is_idle = false;
                    break;
                }
            }
        }
        let idle = self.0.iter().zip(is_idle).filter(|(_, is_idle)| *is_idle);
        Ok(idle.map(|((pattern, _), _)| pattern.text.as_str()).collect())
    }
}

impl<T: PartialEq> PartialEq for Patterns<T> {
    fn eq(&self, other: &Self) -> bool {
        let entries = |patterns: &Self| patterns.0.len();
        entries(self) == entries(other)
            && self.0.iter().zip(&other.0).all(|(a, b)| a.0.text == b.0.text && a.1 == b.1)
    }
}

impl<T: Serialize> Serialize for Patterns<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (pattern, value) in &self.0 {
            map.serialize_entry(&pattern.text, value)?;
        }
        map.end()
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Patterns<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PatternsVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for PatternsVisitor<T> {
            type Value = Patterns<T>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object of numbers by module pattern")
            }

            fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
                Ok(Patterns::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry::<String, T>()? {
                    entries.push(entry);
                }
                Patterns::new(entries).map_err(de::Error::custom)
            }
        }
        deserializer.deserialize_any(PatternsVisitor(PhantomData))
    }
}

/// A compiled expression beside its text.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    text: String,
    regex: Regex,
}

impl Pattern {
    /// One that is to match a path whole, or its end after a dot, as keys of `rank_pattern` and `alpha_pattern`.
    pub(crate) fn of_path_end(text: &str) -> Result<Self, String> {
        Self::compiled(text, format!(r"\A(.*\.)?({text})\z"))
    }

    /// One that is to match a path whole, as `target_modules` and `exclude_modules` given as a text.
    pub(crate) fn of_path(text: &str) -> Result<Self, String> {
        Self::compiled(text, format!(r"\A(?:{text})\z"))
    }

    /// A module with everything in it, as a name in `modules_to_save`.
    pub(crate) fn of_module(text: &str) -> Result<Self, String> {
        Self::compiled(text, format!(r"\A(?:^|.*\.){text}(?:\z|\..*)"))
    }

    /// The number of the layer a module lies in, as group `idx`. Without a name for the list of layers it is the first
    /// number behind another part of the path.
    pub(crate) fn of_layer(layers: Option<&str>) -> Result<Self, String> {
        match layers {
            None => Self::compiled("", r"\A.*?\.[^.]*\.(?P<idx>\d+)\.".to_owned()),
            Some(layers) => Self::compiled(layers, format!(r"\A(?:^|.*?\.){layers}\.(?P<idx>\d+)\.")),
        }
    }

    fn compiled(text: &str, whole: String) -> Result<Self, String> {
        // Checked alone, too: a stray bracket must not close the group around it.
        match Regex::new(text).and_then(|_| Regex::new(&whole)) {
            Ok(regex) => Ok(Self { text: text.to_owned(), regex }),
            Err(error) => Err(format!("{text:?} is no regular expression that is understood here: {error}")),
        }
    }

    /// Whether the path matches.
    pub(crate) fn matches(&self, path: &str) -> Result<bool, String> {
        self.regex.is_match(path).map_err(|error| self.failed(path, &error))
    }

    /// The number that group `idx` of the match has.
    pub(crate) fn layer_idx(&self, path: &str) -> Result<Option<usize>, String> {
        let found = self.regex.captures(path).map_err(|error| self.failed(path, &error))?;
        Ok(found.and_then(|groups| groups.name("idx")?.as_str().parse().ok()))
    }

    fn failed(&self, path: &str, error: &fancy_regex::Error) -> String {
        format!("the pattern {:?} could not be tried on {path}: {error}", self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(entries: &[(&str, usize)]) -> Patterns<usize> {
        Patterns::new(entries.iter().map(|(key, value)| ((*key).to_owned(), *value))).unwrap()
    }

    #[test]
    fn keys_match_as_in_peft() {
        // What peft.utils.other.get_pattern_key finds.
        for (key, path, is_match) in [
            ("q_proj", "model.layers.0.self_attn.q_proj", true),
            ("q_proj", "q_proj", true),
            ("q_proj", "model.layers.0.self_attn.xq_proj", false),
            ("layers.1.self_attn.q_proj", "model.layers.1.self_attn.q_proj", true),
            (r"layers\.\d+\.self_attn\.q_proj", "model.layers.17.self_attn.q_proj", true),
            (r"layers\.1\..*", "model.layers.1.mlp.up_proj", true),
            (r"layers\.1\..*", "model.layers.11.mlp.up_proj", false),
            (r"^model\.layers\.0\..*_proj", "model.layers.0.mlp.up_proj", true),
            (r"^layers\.0\..*_proj", "model.layers.0.mlp.up_proj", false),
            ("q_proj|v_proj", "model.layers.0.self_attn.v_proj", true),
            ("q_proj|v_proj", "model.layers.0.self_attn.o_proj", false),
            (r"(?!q_)\w+_proj", "model.layers.0.self_attn.k_proj", true),
            (r"(?!q_)\w+_proj", "model.layers.0.self_attn.q_proj", false),
            ("self_attn", "model.layers.0.self_attn.q_proj", false),
        ] {
            let found = patterns(&[(key, 7)]).get(path).unwrap().is_some();
            assert_eq!(found, is_match, "{key} {path}");
        }
    }

    #[test]
    fn the_first_key_of_the_file_counts_and_idle_ones_are_named() {
        let json = r#"{"layers.1.q_proj": 2, "q_proj": 3, "a_proj": 4, "layers.0.q_proj": 5}"#;
        let read: Patterns<usize> = serde_json::from_str(json).unwrap();
        let paths = ["model.layers.0.q_proj", "model.layers.1.q_proj"];
        assert_eq!(paths.map(|path| *read.get(path).unwrap().unwrap()), [3, 2]);
        assert_eq!(read.idle_keys(paths).unwrap(), ["a_proj", "layers.0.q_proj"]);
        assert_eq!(serde_json::to_string(&read).unwrap(), json.replace(": ", ":").replace(", ", ","));
        assert_eq!(serde_json::from_str::<Patterns<usize>>("null").unwrap(), Patterns::default());
    }

    #[test]
    fn what_is_no_expression_is_refused_by_its_text() {
        for key in ["q_proj(", "*", "a)|(b", "[", r"\p{Nothing}"] {
            let refusal = Patterns::new([(key.to_owned(), 1)]).unwrap_err();
            assert!(refusal.contains(&format!("{key:?}")), "{refusal}");
        }
    }
}
