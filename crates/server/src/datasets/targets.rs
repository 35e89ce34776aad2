//! Columns of classes, of numbers to predict and of rejected answers: what is wrong with them, and how many classes there are.
//!
//! Training refuses the same cells by itself; here every row that has to be mended is named before a data set is made.

use std::collections::BTreeSet;
use std::path::Path;

use tunesmith_config::{ExperimentConfig, LabelForm, LossFunction, ProblemType};
use tunesmith_data::{Cell, DataError, FoundLabels, Table, find_labels};

use super::settings::DataSettings;
use super::tables::{Problem, ProblemLevel, open_table};

/// Rows that a problem names at most.
const MAX_ROWS: usize = 100;
/// Values that a message shows.
const N_SHOWN: usize = 5;
/// More labels are taken for ids.
const MAX_CLASSES: u64 = 10_000;

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

/// The labels of a classification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LabelKind {
    /// Number of classes; 1 for two of which each row has one.
    pub(crate) num_classes: u64,
    /// One column holds any number of labels in a cell.
    pub(crate) has_lists: bool,
}

/// What the labels of the training table are; `None` when classes are not learned, or cannot be counted.
pub(crate) fn label_kind(settings: &DataSettings, folder: &Path) -> Option<LabelKind> {
    if settings.kind() != Some(ProblemType::CausalClassificationModeling) {
        return None;
    }
    match settings.label_columns.as_slice() {
        [] => None,
        [name] => {
            let table = open_table(folder, &settings.train_table, None).ok()?;
            kind_of_column(settings, &table, name).ok().filter(|kind| kind.num_classes <= MAX_CLASSES)
        }
        several => Some(LabelKind { num_classes: several.len() as u64, has_lists: false }),
    }
}

/// What one column of labels is. Lists, and texts with `|` or `;` in between, are any number of labels; a comma may belong to one.
fn kind_of_column(settings: &DataSettings, table: &Table, name: &str) -> Result<LabelKind, DataError> {
    let find = |loss: LossFunction| {
        let mut config = ExperimentConfig::for_problem_type(ProblemType::CausalClassificationModeling);
        config.dataset.answer_column = name.into();
        config.dataset.num_classes = settings.num_classes.and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
        config.training.loss_function = loss;
        let (labels, _) = find_labels(table, &config)?.unzip();
        labels.iter().for_each(|labels: &FoundLabels| labels.set_in(&mut config));
        let has_lists = config.label_form() == Some(LabelForm::LabelLists);
        let has_comma = has_lists && config.dataset.label_separator == ",";
        Ok((LabelKind { num_classes: config.dataset.num_classes as u64, has_lists }, has_comma))
    };
    let has_lists = table.column_idx(name).is_some_and(|column| {
        (0..table.n_rows())
            .any(|row| matches!(table.cell(row, column), Cell::Json(value) if value.is_array()))
    });
    match find(LossFunction::BinaryCrossEntropyLoss) {
        Ok((kind, false)) => Ok(kind),
        Err(error) if has_lists => Err(error),
        Ok((_, true)) | Err(_) => find(LossFunction::CrossEntropyLoss).map(|(kind, _)| kind),
    }
}

/// Roles without which nothing can be learned.
fn missing_roles(settings: &DataSettings) -> Vec<Problem> {
    let is_set = |name: &Option<String>| name.as_deref().is_some_and(|name| !name.is_empty());
    let mut problems = Vec::new();
    if settings.has_labels() && settings.label_columns.is_empty() {
        let (what, hint) = match settings.kind() {
            Some(ProblemType::CausalClassificationModeling) => {
                ("labels", "choose the column with the labels, or several columns of 0 and 1")
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
        let gaps = rows_where(table, column, is_missing);
        let n_errors = problems.len();
        if !gaps.is_empty() {
            let hint = "fill them in, or leave these rows out";
            problems.push(wrong_cells(table, &name, column, &gaps, "have no label", hint));
        }
        if is_multi_label {
            let is_wrong = |cell: &Cell| !is_missing(cell) && !matches!(whole_number(cell), Some(0 | 1));
            let wrong = rows_where(table, column, is_wrong);
            if !wrong.is_empty() {
                let hint = "with several columns each says by 0 or 1 whether its label fits";
                problems.push(wrong_cells(table, &name, column, &wrong, "are neither 0 nor 1", hint));
            }
            continue;
        }
        let is_wrong = |cell: &Cell| match cell {
            Cell::Float(number) => number.fract() != 0.0,
            Cell::Json(value) => value.is_object(),
            _ => false,
        };
        let wrong = rows_where(table, column, is_wrong);
        if !wrong.is_empty() {
            let hint = "a label is a text, a whole number, true or false, or a list of these";
            problems.push(wrong_cells(table, &name, column, &wrong, "are no labels", hint));
        }
        if problems.len() == n_errors {
            problems.extend(odd_labels(settings, table, &name, column));
        }
    }
    if is_multi_label && settings.num_classes.is_some_and(|n| n != settings.label_columns.len() as u64) {
        let message = format!("there are {} columns of labels", settings.label_columns.len());
        problems.push(error(message, "their number is the number of classes; leave it open", "num_classes"));
    }
    problems
}

/// Labels that training refuses, are too many, or are all alike.
fn odd_labels(settings: &DataSettings, table: &Table, name: &str, column: usize) -> Vec<Problem> {
    let first = table.cell(0, column).text();
    if (0..table.n_rows()).all(|row| table.cell(row, column).text() == first) {
        let message = format!("all rows have the same label in {name}");
        return vec![warning(message, "there is nothing to tell apart", Vec::new(), "label_columns")];
    }
    let kind = match kind_of_column(settings, table, name) {
        Ok(kind) => kind,
        // A number of classes that was given is at fault where any number would do.
        Err(_) if settings.num_classes.is_some() => {
            let open = DataSettings { num_classes: None, ..settings.clone() };
            let Ok(kind) = kind_of_column(&open, table, name) else { return Vec::new() };
            let n = settings.num_classes.unwrap_or(0);
            let message =
                format!("{name} has {} labels, which do not fit {n} classes", kind.num_classes.max(2));
            return vec![error(message, "leave the number of classes open", "num_classes")];
        }
        // Training says it better, and names the lines.
        Err(_) => return Vec::new(),
    };
    if kind.num_classes > MAX_CLASSES {
        let message = format!("{name} has {} labels", kind.num_classes);
        return vec![error(message, "this may be a column of ids or of texts", "label_columns")];
    }
    if !kind.has_lists && kind.num_classes as usize == table.n_rows() && table.n_rows() > N_SHOWN {
        let message = format!("each row has a label of its own in {name}");
        return vec![warning(message, "there is nothing to learn from one row", Vec::new(), "label_columns")];
    }
    Vec::new()
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
