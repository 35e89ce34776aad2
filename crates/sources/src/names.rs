//! Names of files that come from outside, and addresses as they may be shown.

use std::fs;
use std::path::{Path, PathBuf};

use tunesmith_data::file_types::{is_description_name, is_table_name, is_text_name, table_ending};

use crate::error::{Result, SourceError};

/// What the studio writes beside the tables of a data set; its ending would make it one.
pub const DATASET_RECORD: &str = "dataset.json";

/// Whether a name may become a file as it is: no folders, nothing hidden, no signs that some system cannot have.
pub fn is_plain_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 200
        && !name.starts_with('.')
        && !name.ends_with(['.', ' '])
        && !name.contains(|c: char| c.is_control() || "/\\:*?\"<>|".contains(c))
}

/// The last part of any path as a plain name, other signs replaced.
pub fn plain_name_of(path: &str) -> String {
    let last = path.rsplit(['/', '\\']).next().unwrap_or_default();
    let replaced: String =
        last.chars().map(|c| if c.is_control() || "/\\:*?\"<>|".contains(c) { '_' } else { c }).collect();
    let trimmed = replaced.trim_start_matches('.').trim_end_matches(['.', ' ']);
    // The end of a long name, not of a sign in it.
    let mut start = trimmed.len().saturating_sub(120);
    while !trimmed.is_char_boundary(start) {
        start += 1;
    }
    let name = trimmed.get(start..).unwrap_or_default().trim_start_matches('.');
    if name.is_empty() { "file".to_owned() } else { name.to_owned() }
}

/// Ending of a name in lower case, without the dot.
pub fn ending(name: &str) -> String {
    Path::new(name).extension().map(|ending| ending.to_string_lossy().to_lowercase()).unwrap_or_default()
}

/// A name without what follows its first dot: a name for a data set.
pub fn stem(name: &str) -> String {
    name.split('.').next().unwrap_or(name).to_owned()
}

/// Whether a file of that name is a table.
pub fn is_table(name: &str) -> bool {
    is_table_name(name) && name != DATASET_RECORD
}

/// Whether a file of that name is a plain text.
pub(crate) fn is_text(name: &str) -> bool {
    is_text_name(name)
}

/// Whether a file of that name is a table, a text or an archive of some.
pub fn is_importable(name: &str) -> bool {
    is_table(name) || is_text(name) || ending(name) == "zip"
}

/// Of files that come together those that are imported: the tables and archives, and where there are none the texts; beside
/// tables a text, and what the datasets library adds, only says what they are.
pub(crate) fn wanted_of<T>(mut files: Vec<T>, name_of: impl Fn(&T) -> String) -> Vec<T> {
    files.retain(|file| is_importable(&name_of(file)));
    let is_table = |file: &T| !is_description_name(&name_of(file));
    if files.iter().any(is_table) {
        files.retain(is_table);
    }
    files
}

/// `folder/name`, or `folder/stem_1.ending`, … if that exists.
pub fn free_path(folder: &Path, name: &str) -> PathBuf {
    let direct = folder.join(name);
    if !direct.exists() {
        return direct;
    }
    // `rows.jsonl.gz` has two endings.
    let ending = table_ending(name);
    let stem = name.get(..name.len() - ending.len()).unwrap_or(name).trim_end_matches('.');
    (1..100_000)
        .map(|number| match ending.as_str() {
            "" => folder.join(format!("{stem}_{number}")),
            ending => folder.join(format!("{stem}_{number}.{ending}")),
        })
        .find(|path| !path.exists())
        .unwrap_or(direct)
}

/// Names of the tables of a folder, or where there are none of its texts, sorted; those of hidden files and of folders in it
/// are not among them.
///
/// # Errors
/// The folder cannot be listed.
pub fn tables_of(folder: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(folder).map_err(SourceError::io(folder, "list"))?;
    let mut names: Vec<String> = entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()))
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| (is_table(name) || is_text(name)) && !name.starts_with('.'))
        .collect();
    names.sort();
    Ok(wanted_of(names, String::clone))
}

/// An address without what may be secret in it: the query of a signed one, a name and password.
pub(crate) fn shown(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    match url.split_once("://") {
        // In an address of Azure's the part before @ is the container.
        Some((scheme, _)) if scheme.starts_with("abfs") => url.to_owned(),
        Some((scheme, rest)) => {
            let (host, path) = rest.split_once('/').map_or((rest, None), |(host, path)| (host, Some(path)));
            let host = match scheme {
                "http" | "https" => host.rsplit('@').next().unwrap_or(host),
                _ => host,
            };
            format!("{scheme}://{host}{}", path.map(|path| format!("/{path}")).unwrap_or_default())
        }
        None => url.to_owned(),
    }
}

/// Percent-encoded for one part of a path.
pub(crate) fn percent_encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
            _ if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_never_become_paths() {
        for bad in ["", "..", "a/b.csv", "a\\b.csv", ".hidden", "a\0.csv", "c:x.csv", "x.", "a\nb"] {
            assert!(!is_plain_name(bad), "{bad:?}");
            let name = plain_name_of(bad);
            assert!(is_plain_name(&name), "{bad:?} -> {name:?}");
        }
        assert_eq!(plain_name_of("../../etc/pass:wd.csv"), "pass_wd.csv");
        assert_eq!(plain_name_of("C:\\data\\rows.JSONL"), "rows.JSONL");
        let long = plain_name_of(&format!("{}.csv", "ü".repeat(300)));
        assert!(is_plain_name(&long) && long.ends_with("ü.csv"), "{long}");
        assert!(is_table("rows.JSONL") && !is_table("rows.zip") && !is_table("dataset.json"));
        assert!(is_table("rows.csv.gz") && is_table("rows.arrow") && !is_table("rows.tar.gz"));
        let wanted = |names: &str| wanted_of(names.split(' ').collect(), |name| (*name).to_owned()).join(" ");
        assert_eq!(wanted("a.csv README.md x.bin b.zip"), "a.csv b.zip");
        assert_eq!(wanted("a.txt README.md x.bin"), "a.txt README.md");
        assert_eq!(wanted("data.arrow state.json dataset_info.json"), "data.arrow");
    }

    #[test]
    fn a_free_name_keeps_its_endings() {
        let folder = tempfile::tempdir().unwrap();
        for (name, expected) in
            [("a.csv", "a_1.csv"), ("a.JSONL.gz", "a_1.jsonl.gz"), ("a.b.zip", "a.b_1.zip"), ("a", "a_1")]
        {
            fs::write(folder.path().join(name), "x").unwrap();
            assert_eq!(free_path(folder.path(), name).file_name().unwrap(), expected);
        }
    }

    #[test]
    fn the_studio_offers_every_file_that_can_be_imported() {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../web/src/pages/Import.svelte");
        let page = fs::read_to_string(page).unwrap();
        let accepted = page.split("accept=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
        let accepted: Vec<&str> = accepted.split(',').collect();
        for ending in tunesmith_data::file_types::all_endings().chain([".zip".to_owned()]) {
            // Browsers look at what follows the last dot.
            let last = ending.rsplit('.').next().unwrap();
            assert!(accepted.contains(&format!(".{last}").as_str()), "{ending}");
        }
    }

    #[test]
    fn secrets_in_addresses_are_not_shown() {
        let url = "https://me:secret@host.org/a/b.csv?X-Amz-Signature=secret#secret";
        assert_eq!(shown(url), "https://host.org/a/b.csv");
        assert_eq!(shown("s3://bucket"), "s3://bucket");
        assert_eq!(shown("hf://datasets/a/b@main"), "hf://datasets/a/b@main");
        assert_eq!(percent_encode("refs/pr/1 ü"), "refs%2Fpr%2F1%20%C3%BC");
    }
}
