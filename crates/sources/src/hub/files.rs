//! Which files of a repository are those of one split: by what its card says, or else by their names.

use std::collections::BTreeSet;

use serde_json::Value;
use tunesmith_data::FileType;
use tunesmith_data::file_types::{is_description_name, table_ending};

use super::HubDataset;
use crate::error::{Result, SourceError};
use crate::names::is_table;

/// Words by which file names say which split they are, and which split each means.
const SPLIT_WORDS: [(&str, &str); 7] = [
    ("train", "train"),
    ("training", "train"),
    ("validation", "validation"),
    ("valid", "validation"),
    ("dev", "validation"),
    ("test", "test"),
    ("testing", "test"),
];

/// Types by preference, where a repository has the same rows in several forms.
const PREFERRED: [FileType; 6] =
    [FileType::Parquet, FileType::Arrow, FileType::JsonLines, FileType::Json, FileType::Csv, FileType::Tsv];

/// Of the files `names` those of the data set's split, sorted. `configs` is the card's list of configurations, or null.
///
/// # Errors
/// There are none; no such configuration or split.
pub(super) fn files_of_split<'a>(
    names: &[&'a str],
    configs: &Value,
    wanted: &HubDataset,
) -> Result<Vec<&'a str>> {
    let is_wanted = |name: &&str| is_table(name) && !is_description_name(name) && !name.starts_with('.');
    let mut tables: Vec<&str> = names.iter().copied().filter(is_wanted).collect();
    tables.sort_unstable();
    if tables.is_empty() {
        let hint = "look at the data set's page on the hub".to_owned();
        return Err(SourceError::NoTable { place: wanted.shown(), hint });
    }
    match by_card(&tables, configs, wanted)? {
        Some(chosen) => Ok(chosen),
        None => by_names(tables, wanted),
    }
}

/// What the card says, if it gives files to the splits of its configurations.
fn by_card<'a>(tables: &[&'a str], configs: &Value, wanted: &HubDataset) -> Result<Option<Vec<&'a str>>> {
    let configs: Vec<&Value> = configs.as_array().into_iter().flatten().collect();
    let name_of =
        |config: &Value| config.get("config_name").and_then(Value::as_str).unwrap_or("default").to_owned();
    let is_default =
        |config: &Value| config.get("default") == Some(&Value::Bool(true)) || name_of(config) == "default";
    let chosen = match &wanted.config {
        Some(name) => configs.iter().find(|config| name_of(config) == *name),
        None => configs.iter().find(|config| is_default(config)).or(configs.first()),
    };
    let Some(config) = chosen else {
        let known: Vec<String> = configs.iter().map(|config| name_of(config)).collect();
        return match &wanted.config {
            Some(name) if !known.is_empty() => {
                Err(SourceError::Choice { what: "configuration", name: name.clone(), known })
            }
            _ => Ok(None),
        };
    };
    let splits = splits_of(config);
    if splits.is_empty() {
        return Ok(None);
    }
    let patterns: Vec<&str> =
        splits.iter().filter(|(split, _)| *split == wanted.split).map(|(_, pattern)| *pattern).collect();
    let chosen: Vec<&str> =
        tables.iter().copied().filter(|name| patterns.iter().any(|pattern| matches(pattern, name))).collect();
    if chosen.is_empty() {
        let mut known: Vec<String> = splits.iter().map(|(split, _)| (*split).to_owned()).collect();
        known.dedup();
        return Err(SourceError::Choice { what: "split", name: wanted.split.clone(), known });
    }
    Ok(Some(chosen))
}

/// The splits of a configuration, each with a pattern of its files. Files without a split are for training.
fn splits_of(config: &Value) -> Vec<(&str, &str)> {
    let Some(files) = config.get("data_files") else { return Vec::new() };
    let mut splits = Vec::new();
    for entry in several(files) {
        let split = entry.get("split").and_then(Value::as_str).unwrap_or("train");
        let patterns = several(entry.get("path").unwrap_or(entry));
        splits.extend(patterns.into_iter().filter_map(Value::as_str).map(|pattern| (split, pattern)));
    }
    splits
}

/// A list, or one thing in its place.
fn several(value: &Value) -> Vec<&Value> {
    value.as_array().map_or_else(|| vec![value], |list| list.iter().collect())
}

/// Whether a path fits a pattern: `*` and `?` stand for signs of one part of the path, `**` for parts.
///
/// All places of the pattern that a beginning of the path may lead to are kept at once, so that no pattern takes long.
fn matches(pattern: &str, path: &str) -> bool {
    let pattern: Vec<char> = pattern.trim_start_matches("./").chars().collect();
    let at = |idx: usize| pattern.get(idx).copied();
    let is_deep = |idx: usize| at(idx) == Some('*') && at(idx + 1) == Some('*');
    // A star may stand for nothing, and `**/` for no part at all.
    let enter = |places: &mut BTreeSet<usize>, mut idx: usize| {
        while places.insert(idx) && at(idx) == Some('*') {
            if is_deep(idx) && at(idx + 2) == Some('/') {
                places.insert(idx + 2);
                idx += 3;
            } else {
                idx += if is_deep(idx) { 2 } else { 1 };
            }
        }
    };
    let mut places = BTreeSet::new();
    enter(&mut places, 0);
    for sign in path.chars() {
        let mut next = BTreeSet::new();
        for idx in places {
            match at(idx) {
                Some('*') if is_deep(idx) || sign != '/' => enter(&mut next, idx),
                Some('?') if sign != '/' => enter(&mut next, idx + 1),
                Some(own) if own == sign => enter(&mut next, idx + 1),
                _ => {}
            }
        }
        places = next;
    }
    places.contains(&pattern.len())
}

/// The files whose name or folder has the split's word in it; all, where no file speaks of a split and training is wanted.
fn by_names<'a>(mut tables: Vec<&'a str>, wanted: &HubDataset) -> Result<Vec<&'a str>> {
    if let Some(config) = wanted.config.as_ref().filter(|config| *config != "default") {
        tables.retain(|name| {
            words(name).contains(&config.as_str()) || name.split('/').any(|part| part == config)
        });
    }
    let mut known: Vec<String> = tables.iter().filter_map(|name| split_of(name)).map(str::to_owned).collect();
    known.sort_unstable();
    known.dedup();
    let split =
        SPLIT_WORDS.iter().find(|(word, _)| *word == wanted.split).map_or(&*wanted.split, |(_, split)| split);
    let is_split = |name: &&str| split_of(name) == Some(split) || words(name).contains(&&*wanted.split);
    let mut chosen: Vec<&str> = tables.iter().copied().filter(is_split).collect();
    if chosen.is_empty() && known.is_empty() && split == "train" {
        chosen = tables;
    }
    let rank = |name: &&str| {
        let (file_type, compression) = FileType::from_name(name)?;
        let preference = PREFERRED.iter().position(|known| *known == file_type)?;
        Some((preference, compression.is_some(), table_ending(name)))
    };
    let best = chosen.iter().filter_map(rank).min();
    chosen.retain(|name| best.is_some() && rank(name) == best);
    if chosen.is_empty() {
        return Err(SourceError::Choice { what: "split", name: wanted.split.clone(), known });
    }
    Ok(chosen)
}

fn words(name: &str) -> Vec<&str> {
    name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect()
}

/// The split that a file's name speaks of; the last such word counts, as folders come first.
fn split_of(name: &str) -> Option<&'static str> {
    let of_word = |word: &&str| SPLIT_WORDS.iter().find(|(known, _)| known == word).map(|(_, split)| *split);
    words(name).iter().rev().find_map(of_word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(names: &[&str], split: &str, config: Option<&str>) -> Vec<String> {
        by_card_of(names, &Value::Null, split, config)
    }

    fn by_card_of(names: &[&str], configs: &Value, split: &str, config: Option<&str>) -> Vec<String> {
        let dataset = HubDataset {
            split: split.to_owned(),
            config: config.map(str::to_owned),
            ..HubDataset::new("a/b")
        };
        files_of_split(names, configs, &dataset).map_or_else(
            |error| vec![error.to_string()],
            |names| names.into_iter().map(str::to_owned).collect(),
        )
    }

    #[test]
    fn patterns_are_those_of_cards() {
        for (pattern, path, expected) in [
            ("data/train-*", "data/train-00000-of-00001.parquet", true),
            ("data/train-*", "data/train-1/rows.parquet", false),
            ("data/*.csv", "data/a.csv", true),
            ("*.csv", "data/a.csv", false),
            ("**/*.csv", "data/b/a.csv", true),
            ("**/*.csv", "a.csv", true),
            ("data/**", "data/b/a.csv", true),
            ("**.csv", "data/b/a.csv", true),
            ("row?.csv", "rows.csv", true),
            ("row?.csv", "row/.csv", false),
            ("rows.csv", "rows.csv", true),
            ("rows.csv", "rows.csv2", false),
            ("./rows.csv", "rows.csv", true),
            ("", "rows.csv", false),
            ("*ä*.csv", "xäy.csv", true),
        ] {
            assert_eq!(matches(pattern, path), expected, "{pattern} {path}");
        }
        assert!(!matches(&"**a".repeat(500), &"a".repeat(2_000).replace('a', "aa/")));
    }

    #[test]
    fn the_card_says_which_files_are_a_split() {
        let names = ["README.md", "a/train-0.parquet", "a/train-1.parquet", "b/part.csv", "b/held-out.csv"];
        let configs = serde_json::json!([
            {"config_name": "b", "data_files": [
                {"split": "train", "path": "b/part.csv"}, {"split": "validation", "path": ["b/held-*"]}]},
            {"config_name": "a", "default": true, "data_files": "a/train-*"},
        ]);
        let of = |split, config| by_card_of(&names, &configs, split, config);
        assert_eq!(of("train", None), ["a/train-0.parquet", "a/train-1.parquet"]);
        assert_eq!(of("validation", Some("b")), ["b/held-out.csv"]);
        assert_eq!(of("test", Some("b")), ["there is no split \"test\""]);
        assert_eq!(of("train", Some("c")), ["there is no configuration \"c\""]);
    }

    #[test]
    fn the_files_of_a_split_are_known_by_their_names() {
        let names = [
            "README.md",
            "main/test-00000-of-00001.parquet",
            "main/train-00000-of-00001.parquet",
            "socratic/test-00000-of-00001.parquet",
            "socratic/train-00000-of-00001.parquet",
        ];
        assert_eq!(chosen(&names, "train", Some("main")), ["main/train-00000-of-00001.parquet"]);
        assert_eq!(chosen(&names, "test", Some("socratic")), ["socratic/test-00000-of-00001.parquet"]);
        assert_eq!(chosen(&names, "dev", Some("main")), ["there is no split \"dev\""]);
        assert_eq!(chosen(&["data/dev.csv", "data/train.csv"], "validation", None), ["data/dev.csv"]);
        assert_eq!(chosen(&["rows.jsonl", ".gitattributes"], "train", None), ["rows.jsonl"]);
        assert_eq!(chosen(&["train.csv", "train.parquet"], "train", None), ["train.parquet"]);
        let compressed = ["train.jsonl.gz", "train.jsonl", "train.csv"];
        assert_eq!(chosen(&compressed, "train", None), ["train.jsonl"]);
        assert_eq!(chosen(&compressed[..1], "train", None), ["train.jsonl.gz"]);
        let cached =
            ["data-00000-of-00002.arrow", "data-00001-of-00002.arrow", "dataset_info.json", "state.json"];
        assert_eq!(chosen(&cached, "train", None), cached[..2]);
        assert_eq!(chosen(&["rows.json", "dataset_infos.json"], "train", None), ["rows.json"]);
        assert_eq!(chosen(&["train_sft-0.json", "test_sft-0.json"], "train", None), ["train_sft-0.json"]);
        // What the hub makes of a data set: folders for configuration and split.
        assert_eq!(
            chosen(&["default/train/0000.parquet"], "train", Some("default")),
            ["default/train/0000.parquet"]
        );
    }
}
