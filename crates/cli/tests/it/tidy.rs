//! What the compiler's lints do not see: length of files, module heads, stray marks.

use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::repository;

/// Beyond this a file says at its head why it is one file.
const N_LINES: usize = 500;
/// How far down the head reaches.
const N_HEAD_LINES: usize = 30;

/// All files of the repository's own folders with one of the endings, sorted.
fn files(endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in ["crates", "docs", "examples", "scripts", ".ci", "tests"] {
        collect(&repository().join(folder), endings, &mut found);
    }
    found.sort();
    found
}

fn collect(folder: &Path, endings: &[&str], found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            collect(&path, endings, found);
        } else if path.extension().is_some_and(|ending| endings.iter().any(|known| ending == *known)) {
            found.push(path);
        }
    }
}

/// Whether a file holds nothing but tests, or is a program for measuring.
fn is_test(path: &Path) -> bool {
    let name = path.file_stem().unwrap().to_string_lossy();
    let folders = ["tests", "examples", "benches"];
    path.components().any(|part| folders.iter().any(|folder| part.as_os_str() == *folder))
        || name.ends_with("tests")
        || name.starts_with("test_")
}

#[test]
fn a_long_file_says_why() {
    let mut offenders = Vec::new();
    for path in files(&["rs"]) {
        let text = fs::read_to_string(&path).unwrap();
        let n_lines = text.lines().count();
        let says_why =
            text.lines().take(N_HEAD_LINES).any(|line| line.starts_with("//") && line.contains("Length:"));
        if N_LINES < n_lines && !says_why {
            offenders.push(format!("{} has {n_lines} lines", path.display()));
        }
    }
    assert!(
        offenders.is_empty(),
        "split, or add `//! Length: …` with the reason to the head:\n{}",
        offenders.join("\n")
    );
}

#[test]
fn every_source_file_begins_with_what_it_is() {
    let has_no_head = |path: &PathBuf| !fs::read_to_string(path).unwrap().starts_with("//!");
    let offenders: Vec<_> =
        files(&["rs"]).into_iter().filter(|path| !is_test(path) && has_no_head(path)).collect();
    assert!(offenders.is_empty(), "no `//!` head: {offenders:#?}");
}

#[test]
fn no_blanks_at_line_ends_and_a_newline_at_the_end() {
    let mut offenders = Vec::new();
    for path in files(&["rs", "toml", "yaml", "py", "sh"]) {
        let text = fs::read_to_string(&path).unwrap();
        if !text.ends_with('\n') {
            offenders.push(format!("{}: no newline at the end", path.display()));
        }
        for (idx, _) in text.lines().enumerate().filter(|(_, line)| line.ends_with([' ', '\t'])) {
            offenders.push(format!("{}:{}: blanks at the end", path.display(), idx + 1));
        }
    }
    assert!(offenders.is_empty(), "{}", offenders.join("\n"));
}

#[test]
fn no_notes_to_self() {
    let marks = ["TO".to_owned() + "DO", "FIX".to_owned() + "ME", "XX".to_owned() + "X:"];
    let mut offenders = Vec::new();
    for path in files(&["rs", "py", "md", "yaml"]) {
        let text = fs::read_to_string(&path).unwrap();
        for (idx, line) in text.lines().enumerate() {
            if marks.iter().any(|mark| line.contains(mark.as_str())) {
                offenders.push(format!("{}:{}: {}", path.display(), idx + 1, line.trim()));
            }
        }
    }
    assert!(offenders.is_empty(), "{}", offenders.join("\n"));
}

#[test]
fn only_the_terminal_module_prints() {
    let printing = ["println!", "eprintln!", "print!(", "eprint!("];
    let is_printing =
        |line: &str| !line.trim_start().starts_with("//") && printing.iter().any(|word| line.contains(word));
    let mut offenders = Vec::new();
    for path in files(&["rs"]).into_iter().filter(|path| !is_test(path)) {
        let text = fs::read_to_string(&path).unwrap();
        // What stands below `#[cfg(test)]` is tests, which may print.
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        if code.lines().any(is_printing) {
            offenders.push(path);
        }
    }
    assert!(offenders.is_empty(), "print through crates/cli/src/terminal: {offenders:#?}");
}
