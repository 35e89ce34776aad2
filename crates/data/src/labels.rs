//! What a row is to be learned from besides an answer: classes, labels, numbers, answers to prefer less, and judgements.

use tunesmith_config::{ExperimentConfig, LossFunction, ProblemType};

use crate::columns::required;
use crate::conversation::Target;
use crate::error::{DataError, Place, Result};
use crate::table::{Cell, Table};

/// Most values that an error shows.
const N_SHOWN: usize = 5;

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
        ProblemType::CausalClassificationModeling => values(table, config, Some(n_classes_of_column(config))),
        ProblemType::CausalRegressionModeling => values(table, config, None),
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

/// How many values a column may hold: the classes, or 0 and 1 for each of several labels.
fn n_classes_of_column(config: &ExperimentConfig) -> usize {
    let n_columns = config.dataset.answer_column.all().len();
    if n_columns > 1 { 2 } else { config.dataset.num_classes.max(2) }
}

fn values(table: &Table, config: &ExperimentConfig, n_classes: Option<usize>) -> Result<Targets> {
    let mut rows = vec![Vec::new(); table.n_rows()];
    let mut answers = vec![Vec::new(); table.n_rows()];
    let mut notes = Vec::new();
    for name in config.dataset.answer_column.all() {
        let column = required(table, name, "dataset.answer_column")?;
        let numbers = numbers(table, name, column, n_classes)?;
        if let Some(n_classes) = n_classes {
            notes.extend(unused_classes(name, &numbers, n_classes));
        }
        for (row_idx, number) in numbers.into_iter().enumerate() {
            if let (Some(row), Some(answer)) = (rows.get_mut(row_idx), answers.get_mut(row_idx)) {
                row.push(number as f32);
                answer.push(table.cell(row_idx, column).text());
            }
        }
    }
    Ok(Targets {
        targets: rows.into_iter().map(Target::Values).collect(),
        answers: answers.into_iter().map(|parts| parts.join(",")).collect(),
        notes,
    })
}

/// A column of numbers, or of whole ones from 0 to below `n_classes`.
fn numbers(table: &Table, name: &str, column: usize, n_classes: Option<usize>) -> Result<Vec<f64>> {
    let mut numbers = Vec::with_capacity(table.n_rows());
    let mut wrong = Vec::new();
    let is_allowed = |number: f64| match n_classes {
        Some(n_classes) => number.fract() == 0.0 && number >= 0.0 && number < n_classes as f64,
        None => (number as f32).is_finite(),
    };
    for row_idx in 0..table.n_rows() {
        let cell = table.cell(row_idx, column);
        match number(cell).filter(|number| is_allowed(*number)) {
            Some(number) => numbers.push(number),
            None => wrong.push(row_idx),
        }
    }
    if wrong.is_empty() {
        return Ok(numbers);
    }
    let expected = match n_classes {
        Some(2) => "0 or 1".to_owned(),
        Some(n_classes) => format!("a class from 0 to {}", n_classes - 1),
        None => "a number".to_owned(),
    };
    let has_words = wrong.iter().any(|row_idx| number(table.cell(*row_idx, column)).is_none());
    Err(DataError::Values {
        path: table.path.clone(),
        column: name.to_owned(),
        reason: wrong_cells(table, column, &wrong, &expected),
        is_class: n_classes.is_some(),
        has_words,
    })
}

/// What is wrong with these rows of a column, of which the first few are shown.
fn wrong_cells(table: &Table, column: usize, wrong: &[usize], expected: &str) -> String {
    let shown: Vec<String> = wrong
        .iter()
        .take(N_SHOWN)
        .map(|row_idx| {
            let cell = table.cell(*row_idx, column);
            let text = if cell.is_missing() { "nothing".to_owned() } else { format!("{:?}", cell.text()) };
            let file = match table.parts.is_empty() {
                true => String::new(),
                false => format!(" of {}", table.file_of(*row_idx).display()),
            };
            match table.place(*row_idx) {
                Place::Line(line) => format!("{text} in line {line}{file}"),
                Place::Row(row) => format!("{text} in row {row}{file}"),
            }
        })
        .collect();
    let more = wrong.len().saturating_sub(N_SHOWN);
    format!(
        "{} of {} cells are not {expected}: {}{}",
        wrong.len(),
        table.n_rows(),
        shown.join(", "),
        if more > 0 { format!(" and {more} more") } else { String::new() }
    )
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
fn unused_classes(name: &str, numbers: &[f64], n_classes: usize) -> Option<String> {
    let is_used = |class: usize| numbers.contains(&(class as f64));
    let unused: Vec<String> =
        (0..n_classes).filter(|class| !is_used(*class)).map(|class| class.to_string()).collect();
    let classes = if unused.len() == 1 { "class" } else { "classes" };
    (!unused.is_empty()).then(|| {
        format!("no row of the column {name} has the {classes} {} of {n_classes}", unused.join(", "))
    })
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
            is_class: false,
            has_words: false,
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
