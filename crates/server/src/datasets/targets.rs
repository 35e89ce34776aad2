//! Columns of classes, of numbers to predict and of rejected answers: what is wrong with them, and how many classes there are.
//!
//! Training refuses the same cells by itself; here every row that has to be mended is named before a data set is made.

use std::collections::BTreeSet;
use std::path::Path;

use tunesmith_config::ProblemType;
use tunesmith_data::{Cell, Table};

use super::settings::DataSettings;
use super::tables::{Problem, ProblemLevel, open_table};

/// Rows that a problem names at most.
const MAX_ROWS: usize = 100;
/// Values that a message shows.
const N_SHOWN: usize = 5;
/// Labels above this are taken for ids.
const MAX_CLASSES: i64 = 10_000;

/// What is wrong with the columns that are to be learned, in both tables; nothing for texts.
pub(crate) fn check_targets(settings: &DataSettings, folder: &Path) -> Vec<Problem> {
    let validation = settings.validation_table.as_deref().filter(|name| !name.is_empty());
    let mut problems = missing_roles(settings);
    if !problems.is_empty() {
        return problems;
    }
    for name in [Some(settings.train_table.as_str()), validation].into_iter().flatten() {
        // What cannot be read is told by who lays out its rows.
        let Ok(table) = open_table(folder, name, None) else { continue };
        let found = match settings.kind() {
            Some(ProblemType::CausalClassificationModeling) => classes(settings, &table),
            Some(ProblemType::CausalRegressionModeling) => numbers(settings, &table),
            Some(ProblemType::DpoModeling) => preferences(settings, &table),
            _ => return problems,
        };
        // Which of two tables is meant has to be said.
        problems.extend(found.into_iter().map(|problem| match validation {
            Some(_) => Problem { message: format!("{name}: {}", problem.message), ..problem },
            None => problem,
        }));
    }
    problems
}

/// The number of classes in the training table; `None` when classes are not learned, or cannot be counted.
pub(crate) fn n_classes(settings: &DataSettings, folder: &Path) -> Option<u64> {
    if settings.kind() != Some(ProblemType::CausalClassificationModeling) {
        return None;
    }
    match settings.label_columns.as_slice() {
        [] => None,
        [name] => {
            let table = open_table(folder, &settings.train_table, None).ok()?;
            let column = table.column_idx(name)?;
            let labels = (0..table.n_rows()).map(|row| whole_number(table.cell(row, column)));
            let largest = labels.collect::<Option<Vec<i64>>>()?.into_iter().max()?;
            // Yes and no are one class that is met or not.
            let n = if largest <= 1 { 1 } else { largest + 1 };
            u64::try_from(n).ok().filter(|_| largest < MAX_CLASSES)
        }
        several => Some(several.len() as u64),
    }
}

/// Roles without which nothing can be learned.
fn missing_roles(settings: &DataSettings) -> Vec<Problem> {
    let is_set = |name: &Option<String>| name.as_deref().is_some_and(|name| !name.is_empty());
    let mut problems = Vec::new();
    if settings.has_labels() && settings.label_columns.is_empty() {
        let (what, hint) = match settings.kind() {
            Some(ProblemType::CausalClassificationModeling) => {
                ("labels", "choose the column with the number of the class, or several columns of 0 and 1")
            }
            _ => ("numbers to predict", "choose one column of numbers, or several"),
        };
        problems.push(error(format!("no column of {what} is chosen"), hint, "label_columns"));
    }
    if settings.has_labels() && settings.prompt_columns.is_empty() {
        let hint = "choose the column with the text that is to be judged";
        problems.push(error("no column is chosen for the prompt".to_owned(), hint, "prompt_columns"));
    }
    if settings.kind() == Some(ProblemType::DpoModeling) {
        if !is_set(&settings.answer_column) {
            let hint = "choose the column with the better answer";
            problems.push(error(
                "no column is chosen for the chosen answer".to_owned(),
                hint,
                "answer_column",
            ));
        }
        if !is_set(&settings.rejected_answer_column) {
            let hint = "choose the column with the worse answer";
            let message = "no column is chosen for the rejected answer".to_owned();
            problems.push(error(message, hint, "rejected_answer_column"));
        } else if settings.rejected_answer_column == settings.answer_column {
            let hint = "choose two different columns";
            let message = "one column is both the chosen and the rejected answer".to_owned();
            problems.push(error(message, hint, "rejected_answer_column"));
        }
    }
    if let Some(name) = settings.label_columns.iter().find(|name| settings.prompt_columns.contains(name))
        && settings.has_labels()
    {
        let hint = "take it out of the prompt: the model would read what it is to predict";
        problems.push(error(format!("{name} is both prompt and label"), hint, "prompt_columns"));
    }
    problems
}

/// The columns of a role, those that are missing as problems.
fn columns(
    table: &Table,
    names: &[String],
    field: &str,
    problems: &mut Vec<Problem>,
) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for name in names {
        match table.column_idx(name) {
            Some(column) => found.push((name.clone(), column)),
            None => {
                let hint = format!("the columns are {}", table.columns.join(", "));
                problems.push(error(format!("there is no column {name}"), &hint, field));
            }
        }
    }
    found
}

/// Rows for whose cell it holds.
fn rows_where(table: &Table, column: usize, is_hit: impl Fn(&Cell) -> bool) -> Vec<usize> {
    (0..table.n_rows()).filter(|row| is_hit(table.cell(*row, column))).collect()
}

fn classes(settings: &DataSettings, table: &Table) -> Vec<Problem> {
    let mut problems = Vec::new();
    let found = columns(table, &settings.label_columns, "label_columns", &mut problems);
    let is_multi_label = settings.label_columns.len() > 1;
    for (name, column) in found {
        let of = |rows: Vec<usize>, what: &str, hint: &str| {
            (!rows.is_empty()).then(|| wrong_cells(table, &name, column, &rows, what, hint))
        };
        let gaps = of(
            rows_where(table, column, is_missing),
            "have no label",
            "fill them in, or leave these rows out",
        );
        let texts = rows_where(table, column, |cell| !is_missing(cell) && whole_number(cell).is_none());
        let hint = numbering(table, column, &texts);
        let texts = of(texts, "are no whole number", &hint);
        let negative = of(
            rows_where(table, column, |cell| whole_number(cell).is_some_and(|label| label < 0)),
            "are below 0",
            "number the classes from 0",
        );
        let n_errors = problems.len();
        problems.extend([gaps, texts, negative].into_iter().flatten());
        if problems.len() > n_errors {
            continue;
        }
        let above = |limit: i64| {
            rows_where(table, column, move |cell| whole_number(cell).is_some_and(|label| label >= limit))
        };
        if is_multi_label {
            let hint = "with several columns each says by 0 or 1 whether its label fits";
            problems.extend(of(above(2), "are neither 0 nor 1", hint));
            continue;
        }
        let labels: BTreeSet<i64> =
            (0..table.n_rows()).filter_map(|row| whole_number(table.cell(row, column))).collect();
        let largest = labels.last().copied().unwrap_or(0);
        if largest >= MAX_CLASSES {
            let hint = "labels are the numbers of classes, from 0 on; this may be a column of ids";
            problems.extend(of(above(MAX_CLASSES), "are far too large", hint));
            continue;
        }
        if let Some(n) = settings.num_classes {
            let limit = i64::try_from(n.max(2)).unwrap_or(i64::MAX);
            let hint = format!("set the number of classes to {}, or leave it open", largest + 1);
            problems.extend(of(above(limit), &format!("are too large for {n} classes"), &hint));
        }
        problems.extend(odd_labels(&name, &labels, largest));
    }
    if is_multi_label && settings.num_classes.is_some_and(|n| n != settings.label_columns.len() as u64) {
        let message = format!("there are {} columns of labels", settings.label_columns.len());
        problems.push(error(message, "their number is the number of classes; leave it open", "num_classes"));
    }
    problems
}

/// Classes that nobody has, and a class that everybody has.
fn odd_labels(name: &str, labels: &BTreeSet<i64>, largest: i64) -> Vec<Problem> {
    let mut problems = Vec::new();
    let unused: Vec<String> =
        (0..=largest).filter(|label| !labels.contains(label)).map(|label| label.to_string()).collect();
    if !unused.is_empty() {
        let shown = unused.iter().take(N_SHOWN).cloned().collect::<Vec<_>>().join(", ");
        let more = if unused.len() > N_SHOWN { ", …" } else { "" };
        let message = format!("the labels of {name} leave numbers out: no row has {shown}{more}");
        let hint = "classes are counted from 0 without gaps; those that are left out are never learned";
        problems.push(warning(message, hint, Vec::new(), "label_columns"));
    }
    if labels.len() == 1 {
        let message = format!("all rows have the same label in {name}");
        problems.push(warning(message, "there is nothing to tell apart", Vec::new(), "label_columns"));
    }
    problems
}

fn numbers(settings: &DataSettings, table: &Table) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (name, column) in columns(table, &settings.label_columns, "label_columns", &mut problems) {
        let n_errors = problems.len();
        let gaps = rows_where(table, column, is_missing);
        if !gaps.is_empty() {
            let hint = "fill them in, or leave these rows out";
            problems.push(wrong_cells(table, &name, column, &gaps, "have no number", hint));
        }
        let texts = rows_where(table, column, |cell| !is_missing(cell) && number(cell).is_none());
        if !texts.is_empty() {
            let hint = "write numbers with a point, without units and separators";
            problems.push(wrong_cells(table, &name, column, &texts, "are no number", hint));
        }
        let first = number(table.cell(0, column));
        if problems.len() == n_errors && rows_where(table, column, |cell| number(cell) != first).is_empty() {
            let message = format!("all rows have the same number in {name}");
            problems.push(warning(message, "there is nothing to learn", Vec::new(), "label_columns"));
        }
    }
    problems
}

fn preferences(settings: &DataSettings, table: &Table) -> Vec<Problem> {
    let mut problems = Vec::new();
    let named = |name: &Option<String>| -> Vec<String> {
        name.iter().filter(|name| !name.is_empty()).cloned().collect()
    };
    let chosen = columns(table, &named(&settings.answer_column), "answer_column", &mut problems);
    let rejected =
        columns(table, &named(&settings.rejected_answer_column), "rejected_answer_column", &mut problems);
    columns(table, &named(&settings.rejected_prompt_column), "rejected_prompt_column", &mut problems);
    let (Some((_, chosen)), Some((name, rejected))) = (chosen.first(), rejected.first()) else {
        return problems;
    };
    let texts = |row: usize| (table.cell(row, *chosen).text(), table.cell(row, *rejected).text());
    let is_list = |cell: &Cell| match cell {
        Cell::Json(value) => value.is_array(),
        Cell::Text(text) => text.starts_with("[{"),
        _ => false,
    };
    let rows_of = |rows: Vec<usize>| rows.into_iter().map(|row| row as u64 + 1).collect::<Vec<u64>>();
    let lists = rows_where(table, *rejected, is_list);
    if !lists.is_empty() {
        let message = format!("{} of {} cells of {name} are lists of messages", lists.len(), table.n_rows());
        let hint = "give the last answer alone as a text; lists are learned as they are written";
        problems.push(warning(message, hint, rows_of(lists), "rejected_answer_column"));
    }
    let empty = rows_where(table, *rejected, |cell| cell.text().trim().is_empty());
    if !empty.is_empty() {
        let message = format!("{} of {} rows have an empty rejected answer", empty.len(), table.n_rows());
        let hint = "the model learns to prefer any answer to silence there";
        problems.push(warning(message, hint, rows_of(empty), "rejected_answer_column"));
    }
    let equal: Vec<usize> = (0..table.n_rows())
        .filter(|row| {
            let (chosen, rejected) = texts(*row);
            chosen == rejected && settings.rejected_prompt_column.is_none()
        })
        .collect();
    if !equal.is_empty() {
        let message = format!("{} of {} rows prefer an answer to itself", equal.len(), table.n_rows());
        problems.push(warning(message, "nothing is learned there", rows_of(equal), "rejected_answer_column"));
    }
    problems
}

fn is_missing(cell: &Cell) -> bool {
    matches!(cell, Cell::Missing) || matches!(cell, Cell::Text(text) if text.trim().is_empty())
}

/// A cell as training reads it: numbers, numbers in texts, and true and false as 1 and 0.
fn number(cell: &Cell) -> Option<f64> {
    let number = match cell {
        Cell::Int(value) => *value as f64,
        Cell::Float(value) => *value,
        Cell::Bool(value) => f64::from(u8::from(*value)),
        Cell::Text(text) => text.trim().parse().ok()?,
        Cell::Missing | Cell::Json(_) => return None,
    };
    number.is_finite().then_some(number)
}

fn whole_number(cell: &Cell) -> Option<i64> {
    const EXACT: f64 = 9e15;
    number(cell).filter(|number| number.fract() == 0.0 && number.abs() < EXACT).map(|number| number as i64)
}

/// What can be done about labels that are words: numbers for them, if they are few.
fn numbering(table: &Table, column: usize, rows: &[usize]) -> String {
    let words: BTreeSet<String> = rows.iter().map(|row| table.cell(*row, column).text()).collect();
    if words.is_empty() || words.len() > 2 * N_SHOWN {
        return "labels are the numbers of classes: 0, 1, 2, …".to_owned();
    }
    let numbered: Vec<String> =
        words.iter().enumerate().map(|(class, word)| format!("{class} for {word}")).collect();
    format!("labels are the numbers of classes; write {}", numbered.join(", "))
}

fn wrong_cells(table: &Table, name: &str, column: usize, rows: &[usize], what: &str, hint: &str) -> Problem {
    let shown: BTreeSet<String> = rows
        .iter()
        .map(|row| table.cell(*row, column).text())
        .filter(|text| !text.trim().is_empty())
        .map(|text| text.chars().take(40).collect())
        .take(N_SHOWN)
        .collect();
    let shown: Vec<String> = shown.into_iter().collect();
    let examples = if shown.is_empty() { String::new() } else { format!(": {}", shown.join(", ")) };
    let message = format!("{} of {} cells of {name} {what}{examples}", rows.len(), table.n_rows());
    let rows = rows.iter().take(MAX_ROWS).map(|row| *row as u64 + 1).collect();
    Problem { rows: Some(rows), ..error(message, hint, "label_columns") }
}

fn error(message: String, hint: &str, field: &str) -> Problem {
    let (hint, field) = (Some(hint.to_owned()), Some(field.to_owned()));
    Problem { level: ProblemLevel::Error, message, hint, rows: None, field }
}

fn warning(message: String, hint: &str, mut rows: Vec<u64>, field: &str) -> Problem {
    rows.truncate(MAX_ROWS);
    let rows = (!rows.is_empty()).then_some(rows);
    Problem { level: ProblemLevel::Warning, rows, ..error(message, hint, field) }
}
