//! Which files are tables: by their endings, in upper or lower case, with or without the ending of a compression.
//!
//! The one list of them; readers, imports and the studio ask here.

use std::path::Path;

/// What the rows of a file look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileType {
    /// Comma-separated values.
    Csv,
    /// Tab-separated values.
    Tsv,
    /// A list of objects.
    Json,
    /// One object a line.
    JsonLines,
    /// Apache Parquet.
    Parquet,
    /// Apache Arrow, as a file or as a stream.
    Arrow,
    /// Plain text, a table of passages.
    Text,
}

/// How a file's bytes are compressed as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
}

/// Every ending and what it means; in the order in which a person would name them.
const ENDINGS: [(&str, FileType); 12] = [
    ("csv", FileType::Csv),
    ("tsv", FileType::Tsv),
    ("json", FileType::Json),
    ("jsonl", FileType::JsonLines),
    ("ndjson", FileType::JsonLines),
    ("parquet", FileType::Parquet),
    ("pq", FileType::Parquet),
    ("arrow", FileType::Arrow),
    ("feather", FileType::Arrow),
    ("ipc", FileType::Arrow),
    ("txt", FileType::Text),
    ("md", FileType::Text),
];

const COMPRESSIONS: [(&str, Compression); 3] =
    [("gz", Compression::Gzip), ("zst", Compression::Zstd), ("zstd", Compression::Zstd)];

/// What the datasets library writes beside its tables, or puts into a repository.
const DESCRIPTIONS: [&str; 4] =
    ["dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"];

impl FileType {
    /// What `name` says; `None` for files that are no tables. Only texts can be compressed as a whole: Parquet and Arrow
    /// files compress their columns themselves.
    pub fn from_name(name: &str) -> Option<(Self, Option<Compression>)> {
        let (stem, last) = split_ending(name)?;
        if let Some((_, compression)) = COMPRESSIONS.iter().find(|(ending, _)| *ending == last) {
            let file_type = from_ending(&split_ending(stem)?.1).filter(|file_type| file_type.is_text())?;
            return Some((file_type, Some(*compression)));
        }
        Some((from_ending(&last)?, None))
    }

    /// [`FileType::from_name`] of a path's last part.
    pub fn from_path(path: &Path) -> Option<(Self, Option<Compression>)> {
        Self::from_name(&path.file_name()?.to_string_lossy())
    }

    /// Whether the file consists of characters.
    pub fn is_text(self) -> bool {
        !matches!(self, Self::Parquet | Self::Arrow)
    }
}

/// Whether a file of that name has rows with columns: any table but a plain text.
pub fn is_table_name(name: &str) -> bool {
    FileType::from_name(name).is_some_and(|(file_type, _)| file_type != FileType::Text)
}

/// Whether a file of that name is a plain text, which has no columns of its own.
pub fn is_text_name(name: &str) -> bool {
    FileType::from_name(name).is_some_and(|(file_type, _)| file_type == FileType::Text)
}

/// Whether a file of that name or path only says what the tables beside it are: texts, and what the datasets library writes.
pub fn is_description_name(path: &str) -> bool {
    let name = path.rsplit(['/', '\\']).next().unwrap_or(path);
    is_text_name(name) || DESCRIPTIONS.contains(&name)
}

/// The ending of a table's name in lower case, with that of a compression: `jsonl.gz`. Of any other name what follows its
/// last dot.
pub fn table_ending(name: &str) -> String {
    let Some((stem, last)) = split_ending(name) else { return String::new() };
    match (FileType::from_name(name), split_ending(stem)) {
        (Some((_, Some(_))), Some((_, inner))) => format!("{inner}.{last}"),
        _ => last,
    }
}

/// The endings of tables with columns, without compressions.
pub fn table_endings() -> impl Iterator<Item = &'static str> {
    ENDINGS.iter().filter(|(_, file_type)| *file_type != FileType::Text).map(|(ending, _)| *ending)
}

/// Every ending that a chosen file may have, with dots: `.csv`, `.csv.gz`, …
pub fn all_endings() -> impl Iterator<Item = String> {
    ENDINGS.iter().flat_map(|(ending, file_type)| {
        let plain = std::iter::once(format!(".{ending}"));
        let compressions = if file_type.is_text() { &COMPRESSIONS[..] } else { &[] };
        plain.chain(compressions.iter().map(move |(compression, _)| format!(".{ending}.{compression}")))
    })
}

/// What may be named, in a sentence.
pub const TABLE_TYPES: &str =
    "csv, tsv, json, jsonl, parquet, arrow, txt or md file, the texts among them also as .gz or .zst";

fn from_ending(ending: &str) -> Option<FileType> {
    ENDINGS.iter().find(|(known, _)| *known == ending).map(|(_, file_type)| *file_type)
}

/// A name's part before its last dot, and what follows in lower case. A leading dot begins no ending.
fn split_ending(name: &str) -> Option<(&str, String)> {
    let (stem, ending) = name.rsplit_once('.')?;
    (!stem.is_empty()).then(|| (stem, ending.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_a_file_is() {
        let gzip = Some(Compression::Gzip);
        let zstd = Some(Compression::Zstd);
        for (name, expected) in [
            ("a.csv", Some((FileType::Csv, None))),
            ("A.JSONL.GZ", Some((FileType::JsonLines, gzip))),
            ("a.b.tsv.zst", Some((FileType::Tsv, zstd))),
            ("a.json.zstd", Some((FileType::Json, zstd))),
            ("a.PQ", Some((FileType::Parquet, None))),
            ("a.feather", Some((FileType::Arrow, None))),
            ("a.md.gz", Some((FileType::Text, gzip))),
            ("a.parquet.gz", None),
            ("a.gz", None),
            ("csv", None),
            (".csv", None),
            ("a.csv.bak", None),
            ("a.tar.gz", None),
        ] {
            assert_eq!(FileType::from_name(name), expected, "{name}");
        }
        assert_eq!(["a.JSONL.GZ", "a.csv", "a.tar.gz", "a"].map(table_ending), ["jsonl.gz", "csv", "gz", ""]);
        assert!(all_endings().all(|ending| FileType::from_name(&format!("x{ending}")).is_some()));
        assert!(is_description_name("a/README.md") && is_description_name("a/dataset_info.json"));
        assert!(!is_description_name("a/info.json") && !is_description_name("README"));
        assert!(is_table_name("x.arrow") && !is_table_name("x.txt") && is_text_name("x.txt.gz"));
    }
}
