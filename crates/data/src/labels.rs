//! What a row is to be learned from besides an answer: classes, labels, numbers, answers to prefer less, and judgements.

use tunesmith_config::{ExperimentConfig, LabelForm, LossFunction, ProblemType};

use crate::columns::required;
use crate::conversation::Target;
use crate::error::{DataError, Result};
use crate::label_cells::truth_value;
use crate::label_column::{LabelColumn, shown_labels, wrong_cells};
use crate::table::{Cell, Table};

/// Targets of all rows of a table, and the answers as text.
pub(crate) struct Targets {
    pub(crate) targets: Vec<Target>,
    pub(crate) answers: Vec<String>,
    pub(crate) notes: Vec<String>,
}

impl Targets {
    /// Of rows whose answers nobody knows.
    pub(crate) fn unknown(n_rows: usize, problem_type: ProblemType) -> Self {
        let target = match problem_type {
            ProblemType::CausalClassificationModeling | ProblemType::CausalRegressionModeling => {
                Target::Values(Vec::new())
            }
            _ => Target::Answer,
        };
        Self { targets: vec![target; n_rows], answers: vec![String::new(); n_rows], notes: Vec::new() }
    }
}

/// Reads the answer columns as the problem type means them.
///
/// # Errors
/// [`DataError::MissingColumn`] for a column that is not there, [`DataError::Values`] for cells that are no class, label
/// or number, with the rows of the first few.
pub(crate) fn targets(table: &Table, config: &ExperimentConfig) -> Result<Targets> {
    match config.problem_type {
        ProblemType::CausalClassificationModeling => classes(table, config),
        ProblemType::CausalRegressionModeling => numbers_of_columns(table, config, false),
        ProblemType::DpoModeling if config.training.loss_function == LossFunction::KtoLoss => {
            judgements(table, config)
        }
        ProblemType::DpoModeling => preferences(table, config),
        ProblemType::ContinuedPretraining => {
            let text = required(table, config.dataset.answer_column.first(), "dataset.answer_column")?;
            let continues = |row_idx: usize| table.continues.get(row_idx).copied().unwrap_or(false);
            let target = |row: usize| Target::Text { starts: !continues(row), ends: !continues(row + 1) };
            let answers = texts(table, text);
            Ok(Targets { targets: (0..answers.len()).map(target).collect(), answers, notes: Vec::new() })
        }
        ProblemType::CausalLanguageModeling | ProblemType::SequenceToSequenceModeling => {
            let answer = required(table, config.dataset.answer_column.first(), "dataset.answer_column")?;
            let answers = texts(table, answer);
            Ok(Targets { targets: vec![Target::Answer; answers.len()], answers, notes: Vec::new() })
        }
    }
}

/// The classes of each row, as the configuration has them by now (see [`crate::label_map`]).
fn classes(table: &Table, config: &ExperimentConfig) -> Result<Targets> {
    let dataset = &config.dataset;
    let names = &dataset.class_names;
    let (values, answers): (Vec<Vec<f32>>, Vec<String>) = match config.label_form() {
        Some(LabelForm::LabelColumns) | None => return numbers_of_columns(table, config, true),
        Some(LabelForm::LabelLists) => {
            let column = LabelColumn::read(table, config)?;
            let lists = column.lists(&dataset.label_separator);
            column.check_lists(&lists, names, "that dataset.class_names lacks")?;
            let of_list = |list: &Vec<String>| {
                let flags: Vec<bool> = names.iter().map(|name| list.contains(name)).collect();
                let answer = joined_labels(names, &flags, &dataset.label_separator);
                (flags.into_iter().map(|flag| f32::from(u8::from(flag))).collect(), answer)
            };
            lists.iter().map(of_list).unzip()
        }
        Some(LabelForm::SingleLabel | LabelForm::Binary) => {
            let column = LabelColumn::read(table, config)?;
            let labels = config.class_labels();
            let classes = match names.is_empty() {
                true => column.indices(dataset.num_classes.max(2))?,
                false => column.places(names, true)?.classes,
            };
            let text = |class: &usize| labels.get(*class).cloned().unwrap_or_default();
            classes.iter().map(|class| (vec![*class as f32], text(class))).unzip()
        }
    };
    let name = dataset.answer_column.first();
    let notes = unused_classes(name, &values, config).into_iter().collect();
    Ok(Targets { targets: values.into_iter().map(Target::Values).collect(), answers, notes })
}

/// The names of the labels that apply, as a cell of a table has them: between separators, or as a list.
pub fn joined_labels(names: &[String], flags: &[bool], separator: &str) -> String {
    let labels = names.iter().zip(flags).filter(|(_, applies)| **applies).map(|(name, _)| name.as_str());
    let labels: Vec<&str> = labels.collect();
    match separator {
        "none" | "auto" => serde_json::Value::from(labels).to_string(),
        separator => labels.join(&crate::escapes::unescape(separator)),
    }
}

/// One or more columns of numbers, or of 0 and 1.
fn numbers_of_columns(table: &Table, config: &ExperimentConfig, are_labels: bool) -> Result<Targets> {
    let mut rows = vec![Vec::new(); table.n_rows()];
    let mut answers = vec![Vec::new(); table.n_rows()];
    let mut notes = Vec::new();
    for name in config.dataset.answer_column.all() {
        let column = required(table, name, "dataset.answer_column")?;
        let numbers = numbers(table, name, column, are_labels)?;
        if are_labels {
            notes.extend(constant_label(name, &numbers));
        }
        for (row_idx, number) in numbers.into_iter().enumerate() {
            if let (Some(row), Some(answer)) = (rows.get_mut(row_idx), answers.get_mut(row_idx)) {
                row.push(number as f32);
                answer.push(if are_labels { number.to_string() } else { table.cell(row_idx, column).text() });
            }
        }
    }
    Ok(Targets {
        targets: rows.into_iter().map(Target::Values).collect(),
        answers: answers.into_iter().map(|parts| parts.join(",")).collect(),
        notes,
    })
}

/// A column of numbers, or of 0 and 1.
fn numbers(table: &Table, name: &str, column: usize, are_labels: bool) -> Result<Vec<f64>> {
    let mut numbers = Vec::with_capacity(table.n_rows());
    let mut wrong = Vec::new();
    let is_allowed = |number: f64| match are_labels {
        true => number == 0.0 || number == 1.0,
        false => (number as f32).is_finite(),
    };
    let of_cell = |cell: &Cell| match (cell, are_labels) {
        (Cell::Text(text), true) => {
            truth_value(text.trim()).map(|value| f64::from(u8::from(value))).or_else(|| number(cell))
        }
        _ => number(cell),
    };
    for row_idx in 0..table.n_rows() {
        match of_cell(table.cell(row_idx, column)).filter(|number| is_allowed(*number)) {
            Some(number) => numbers.push(number),
            None => wrong.push(row_idx),
        }
    }
    if wrong.is_empty() {
        return Ok(numbers);
    }
    let (expected, hint) = match are_labels {
        true => ("0 or 1", "each of several columns says by 0 or 1 whether its label applies"),
        false => ("a number", "put numbers there or leave these rows out"),
    };
    Err(DataError::Values {
        path: table.path.clone(),
        column: name.to_owned(),
        reason: wrong_cells(table, column, &wrong, expected),
        hint: hint.to_owned(),
    })
}

fn number(cell: &Cell) -> Option<f64> {
    match cell {
        Cell::Int(value) => Some(*value as f64),
        Cell::Float(value) => Some(*value),
        Cell::Bool(value) => Some(f64::from(u8::from(*value))),
        Cell::Text(text) => text.trim().parse().ok().filter(|value: &f64| value.is_finite()),
        Cell::Missing | Cell::Json(_) => None,
    }
}

/// A note when no row has some of the classes.
fn unused_classes(name: &str, values: &[Vec<f32>], config: &ExperimentConfig) -> Option<String> {
    let labels = config.class_labels();
    let mut is_used = vec![false; labels.len()];
    let mut use_class = |class: usize| is_used.get_mut(class).into_iter().for_each(|is_used| *is_used = true);
    for row in values {
        match config.label_form() {
            Some(LabelForm::LabelLists) => {
                row.iter()
                    .enumerate()
                    .filter(|(_, flag)| **flag > 0.0)
                    .for_each(|(class, _)| use_class(class));
            }
            _ => row.iter().for_each(|class| use_class(*class as usize)),
        }
    }
    let unused: Vec<String> = labels
        .iter()
        .zip(&is_used)
        .filter(|(_, is_used)| !**is_used)
        .map(|(label, _)| label.clone())
        .collect();
    let what = match (config.dataset.class_names.is_empty(), unused.len()) {
        (_, 0) => return None,
        (true, 1) => "class",
        (true, _) => "classes",
        (false, 1) => "label",
        (false, _) => "labels",
    };
    Some(format!("no row of the column {name} has the {what} {} of {}", shown_labels(&unused), labels.len()))
}

/// A note when a label applies to no row, or to all.
fn constant_label(name: &str, numbers: &[f64]) -> Option<String> {
    let first = numbers.first().filter(|first| numbers.iter().all(|number| number == *first))?;
    Some(format!("every row of the column {name} has {first}: there is nothing to tell apart"))
}

fn preferences(table: &Table, config: &ExperimentConfig) -> Result<Targets> {
    let dataset = &config.dataset;
    let chosen = required(table, dataset.answer_column.first(), "dataset.answer_column")?;
    let rejected = required(table, &dataset.rejected_answer_column, "dataset.rejected_answer_column")?;
    let prompt = match dataset.rejected_prompt_column.as_deref() {
        Some(name) => Some(required(table, name, "dataset.rejected_prompt_column")?),
        None => None,
    };
    let answers = texts(table, chosen);
    let targets: Vec<Target> = texts(table, rejected)
        .into_iter()
        .enumerate()
        .map(|(row_idx, rejected_answer)| Target::Preference {
            rejected_prompt: prompt.map(|column| table.cell(row_idx, column).text()),
            rejected_answer,
        })
        .collect();
    let is_same = |(answer, target): &(&String, &Target)| match target {
        Target::Preference { rejected_prompt: None, rejected_answer } => *answer == rejected_answer,
        _ => false,
    };
    let n_same = answers.iter().zip(&targets).filter(is_same).count();
    let notes = match n_same {
        0 => Vec::new(),
        n => vec![format!(
            "{n} of {} rows prefer an answer to itself: nothing is learned there",
            answers.len()
        )],
    };
    Ok(Targets { targets, answers, notes })
}

/// Answers that are good or bad each for itself.
fn judgements(table: &Table, config: &ExperimentConfig) -> Result<Targets> {
    let dataset = &config.dataset;
    let answer = required(table, dataset.answer_column.first(), "dataset.answer_column")?;
    let name = &dataset.judgement_column;
    let column = required(table, name, "dataset.judgement_column")?;
    let judged: Vec<Option<bool>> =
        (0..table.n_rows()).map(|row| judgement(table.cell(row, column))).collect();
    let wrong: Vec<usize> =
        judged.iter().enumerate().filter(|(_, judged)| judged.is_none()).map(|(row, _)| row).collect();
    if !wrong.is_empty() {
        let reason = wrong_cells(table, column, &wrong, "true or false, 1 or 0, good or bad, yes or no");
        return Err(DataError::Values {
            path: table.path.clone(),
            column: name.clone(),
            reason,
            hint: "write one of these there, or leave these rows out".to_owned(),
        });
    }
    let n_good = judged.iter().flatten().filter(|is_good| **is_good).count();
    let n_bad = table.n_rows() - n_good;
    let mut notes = vec![format!("{n_good} answers are good and {n_bad} bad, by the column {name}")];
    if n_good == 0 || n_bad == 0 {
        notes.push(
            "all answers are of one kind: the model learns nothing about what makes the difference"
                .to_owned(),
        );
    }
    let target = |is_good| Target::Judged { is_good, mismatched_answer: String::new() };
    Ok(Targets {
        targets: judged.into_iter().flatten().map(target).collect(),
        answers: texts(table, answer),
        notes,
    })
}

/// Whether a cell says that an answer is good; `None` when it says neither.
pub(crate) fn judgement(cell: &Cell) -> Option<bool> {
    match cell {
        Cell::Bool(is_good) => Some(*is_good),
        Cell::Text(text) => match text.trim().to_ascii_lowercase().as_str() {
            "true" | "1" | "good" | "yes" => Some(true),
            "false" | "0" | "bad" | "no" => Some(false),
            _ => None,
        },
        _ => match number(cell) {
            Some(1.0) => Some(true),
            Some(0.0) => Some(false),
            _ => None,
        },
    }
}

fn texts(table: &Table, column: usize) -> Vec<String> {
    (0..table.n_rows()).map(|row_idx| table.cell(row_idx, column).text()).collect()
}
