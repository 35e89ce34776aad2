//! Text tables whose first line is a row and not the names of the columns.

use std::collections::HashMap;

use tunesmith_data::{Cell, FileType, Table};

use super::tables::{Problem, ProblemLevel};

/// Words from which on a name is rather a sentence.
const SENTENCE_WORDS: usize = 8;
/// Share of the rows that repeat the word above them, from which on it is one of their values.
const REPEATED_SHARE: f64 = 0.01;

/// A warning when the names of the columns look like a row.
pub(crate) fn check_header(table: &Table, name: &str) -> Option<Problem> {
    if !matches!(FileType::from_name(name), Some((FileType::Csv | FileType::Tsv, _))) {
        return None;
    }
    let mut signs = (0..table.columns.len()).map(|column| sign(table, column));
    let has_names = signs.clone().any(|sign| sign == Sign::IsName);
    if has_names || !signs.any(|sign| sign == Sign::IsValue) {
        return None;
    }
    let shown: Vec<String> =
        table.columns.iter().map(|name| format!("“{}”", name.chars().take(30).collect::<String>())).collect();
    let hint = "put a line with the names of the columns, such as label and text, on top of the file and import it again; \
                as it is, the first row is taken for names and not learned";
    Some(Problem {
        level: ProblemLevel::Warning,
        message: format!(
            "{name} seems to have no header: its first line, {}, looks like a row",
            shown.join(" and ")
        ),
        hint: Some(hint.to_owned()),
        rows: None,
        field: Some("train_table".to_owned()),
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sign {
    /// It stands above numbers and is none.
    IsName,
    /// It is of the kind of what stands below.
    IsValue,
    Unknown,
}

/// What the name of one column tells.
fn sign(table: &Table, column: usize) -> Sign {
    let Some(name) = table.columns.get(column).map(String::as_str) else { return Sign::Unknown };
    let filled = || (0..table.n_rows()).map(|row| table.cell(row, column)).filter(|cell| !cell.is_missing());
    let n_filled = filled().count();
    // An empty name is given one by its place; columns of tables without names are often counted.
    if n_filled == 0 || name.starts_with("Unnamed: ") || name == column.to_string() {
        return Sign::Unknown;
    }
    if filled().all(|cell| matches!(cell, Cell::Int(_) | Cell::Float(_))) {
        // A repeated name was given a number at its end.
        return if name.trim().parse::<f64>().is_ok() { Sign::IsValue } else { Sign::IsName };
    }
    let mut counts: HashMap<String, usize> = HashMap::new();
    let mut n_words = 0;
    for cell in filled() {
        let text = cell.text();
        n_words += words(&text);
        *counts.entry(text).or_default() += 1;
    }
    let n_same = counts.get(name).copied().unwrap_or(0);
    let is_repeated = n_same > 1 && n_same as f64 >= REPEATED_SHARE * n_filled as f64;
    let is_sentence = words(name) >= SENTENCE_WORDS && 2 * n_words >= words(name) * n_filled;
    if is_repeated || is_sentence { Sign::IsValue } else { Sign::Unknown }
}

fn words(text: &str) -> usize {
    text.split_whitespace().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_noticed(csv: &str) -> bool {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.csv");
        std::fs::write(&path, csv).unwrap();
        check_header(&tunesmith_data::read_table(&path, None).unwrap(), "rows.csv").is_some()
    }

    #[test]
    fn a_row_in_the_place_of_names_is_noticed() {
        let spam = "ham,See you at the station at eight\nspam,Win a prize now\nham,On my way\nham,Ok\n";
        assert!(is_noticed(spam), "a value of the column");
        assert!(is_noticed("5.1,setosa\n4.9,virginica\n4.7,setosa\n"), "a number above numbers");
        let long = "this is a whole sentence and surely no name,x\nanother long sentence that is much like the first one,y\n";
        assert!(is_noticed(long), "a sentence above sentences");
    }

    #[test]
    fn names_are_left_alone() {
        for csv in [
            "label,text\n1,ham\n0,spam\n0,ham\n",
            "text,answer\ntext,1\nbody,2\n",
            "0,1\na,b\nc,d\n",
            "How satisfied are you with the service of our shop?,age\nvery,30\nnot,40\n",
            ",prompt\n0,a\n1,b\n",
            "label,text\nham,Ok\nspam,Win\nham,Yes\n",
        ] {
            assert!(!is_noticed(csv), "{csv}");
        }
    }
}
