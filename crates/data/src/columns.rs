//! One round a row: the column settings say which cells are prompt, answer, system text, id and parent.

use tunesmith_config::{Dataset, ExperimentConfig, LossFunction, ProblemType, find_field, nearest};

use crate::chains::Parents;
use crate::conversation::Round;
use crate::error::{DataError, Result};
use crate::escapes::unescape;
use crate::labels::{Targets, targets};
use crate::sanity::{IdColumns, checked_parents};
use crate::table::{Cell, Table};

/// What is learned there are values, not texts.
const CLASSIFICATION_AND_REGRESSION: [ProblemType; 2] =
    [ProblemType::CausalClassificationModeling, ProblemType::CausalRegressionModeling];

/// Rounds of a table and, where rows refer to each other, the position of each row's parent.
pub(crate) struct ColumnRounds {
    pub(crate) rounds: Vec<Round>,
    pub(crate) parents: Option<Parents>,
    /// What was decided.
    pub(crate) notes: Vec<String>,
    /// What was unusual.
    pub(crate) findings: Vec<String>,
    /// The columns that were read.
    pub(crate) used: Vec<usize>,
}

/// Which table it is; a validation table may lack columns that a training table must have, and questions have no answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Train,
    Validation,
    Questions,
}

/// Whether the table has every configured prompt column and, unless it holds questions, the columns of the answers.
pub(crate) fn has_configured_columns(table: &Table, config: &ExperimentConfig, purpose: Purpose) -> bool {
    let dataset = &config.dataset;
    // One that was left out counts: it is what is meant, and the error says why it cannot be used.
    let has = |name: &String| table.column_idx(name).is_some() || table.unread_reason(name).is_some();
    let has_answers = purpose == Purpose::Questions || dataset.answer_column.all().iter().all(has);
    let compares = config.problem_type == ProblemType::DpoModeling
        && config.training.loss_function != LossFunction::KtoLoss
        && purpose != Purpose::Questions;
    let has_rejected = !compares || has(&dataset.rejected_answer_column);
    dataset.prompt_column.iter().all(has) && has_answers && has_rejected
}

/// Rounds by the column settings.
pub(crate) fn configured_rounds(
    table: &Table,
    config: &ExperimentConfig,
    purpose: Purpose,
) -> Result<ColumnRounds> {
    let dataset = &config.dataset;
    if config.problem_type == ProblemType::ContinuedPretraining {
        return texts(table, config);
    }
    let prompts: Vec<usize> = dataset
        .prompt_column
        .iter()
        .map(|name| required(table, name, "dataset.prompt_column"))
        .collect::<Result<_>>()?;
    refuse_lists(table, &prompts)?;
    let mut notes = Vec::new();
    let Targets { targets, answers, notes: mut findings } = match purpose {
        Purpose::Questions => Targets::unknown(table.n_rows(), config.problem_type),
        Purpose::Train | Purpose::Validation => targets(table, config)?,
    };
    let system = system_column(table, dataset, purpose, &mut notes)?;
    let separator = unescape(&dataset.prompt_column_separator);
    let n_empty = match purpose {
        Purpose::Questions => 0,
        // That no label applies is an answer, too.
        _ if config.label_form().is_some() => 0,
        Purpose::Train | Purpose::Validation => answers.iter().filter(|answer| answer.is_empty()).count(),
    };
    let rounds = answers
        .into_iter()
        .zip(targets)
        .enumerate()
        .map(|(row, (answer, target))| {
            let prompt = prompts.iter().map(|column| table.cell(row, *column).text());
            // An empty cell leaves no trace: no separator for what is not there.
            let prompt: Vec<String> = prompt.filter(|text| !text.is_empty()).collect();
            Round {
                system: system.map(|column| table.cell(row, column).text()).unwrap_or_default(),
                prompt: prompt.join(&separator),
                answer,
                row,
                target,
                details: None,
            }
        })
        .collect();
    let parents = parents(table, dataset, &mut notes)?;
    let answers: Vec<usize> =
        dataset.answer_column.all().iter().filter_map(|name| table.column_idx(name)).collect();
    let used: Vec<usize> = prompts.iter().copied().chain(answers.iter().copied()).chain(system).collect();
    findings.extend(cell_notes(table, &used, n_empty));
    // Classes and numbers are read by their value, whatever their spelling.
    let has_texts = !CLASSIFICATION_AND_REGRESSION.contains(&config.problem_type);
    findings
        .extend(spelling_notes(table, used.iter().filter(|column| has_texts || !answers.contains(column))));
    let used = used.into_iter().chain(other_columns(table, dataset)).collect();
    Ok(ColumnRounds { rounds, parents, notes, findings, used })
}

/// Prompts are texts here; a list or an object would be read as JSON.
fn refuse_lists(table: &Table, prompts: &[usize]) -> Result<()> {
    for column in prompts {
        let is_list = |row: &usize| matches!(table.cell(*row, *column), Cell::Json(value) if value.is_array() || value.is_object());
        if let Some(row) = (0..table.n_rows()).find(is_list) {
            let name = table.columns.get(*column).map_or("?", String::as_str);
            return Err(table.row_error(
                row,
                format!("the column {name} holds a list or an object where a text is expected"),
            ));
        }
    }
    Ok(())
}

/// Columns that are read besides prompts, answers and system texts, where they are there.
fn other_columns(table: &Table, dataset: &Dataset) -> Vec<usize> {
    let names = [dataset.id_column.as_deref(), dataset.parent_id_column.as_deref()].into_iter().flatten();
    let names = names.chain([dataset.rejected_answer_column.as_str(), &dataset.judgement_column]);
    names.chain(dataset.rejected_prompt_column.as_deref()).filter_map(|name| table.column_idx(name)).collect()
}

/// Rows of texts and nothing else.
fn texts(table: &Table, config: &ExperimentConfig) -> Result<ColumnRounds> {
    let Targets { targets, answers, notes: mut findings } = targets(table, config)?;
    let n_empty = answers.iter().filter(|text| text.trim().is_empty()).count();
    if n_empty > 0 {
        findings.push(format!("{n_empty} of {} rows hold no text and are passed over", table.n_rows()));
    }
    let rounds = answers.into_iter().zip(targets).enumerate();
    let rounds = rounds.map(|(row, (answer, target))| Round { answer, row, target, ..Round::default() });
    Ok(ColumnRounds {
        rounds: rounds.collect(),
        parents: None,
        notes: Vec::new(),
        findings,
        used: Vec::new(),
    })
}

/// Rounds of `instruction`, `input` and `output`; an empty input leaves no trace in the prompt.
pub(crate) fn alpaca_rounds(table: &Table, dataset: &Dataset, purpose: Purpose) -> Result<ColumnRounds> {
    let instruction = required(table, "instruction", "dataset.layout: alpaca")?;
    let output = match purpose {
        Purpose::Questions => None,
        Purpose::Train | Purpose::Validation => Some(required(table, "output", "dataset.layout: alpaca")?),
    };
    let input = table.column_idx("input");
    let system = table.column_idx("system");
    let separator = unescape(&dataset.prompt_column_separator);
    let rounds: Vec<Round> = (0..table.n_rows())
        .map(|row| {
            let text = |column: Option<usize>| column.map(|column| table.cell(row, column).text());
            let mut prompt = table.cell(row, instruction).text();
            if let Some(input) = text(input).filter(|input| !input.is_empty()) {
                prompt.push_str(&separator);
                prompt.push_str(&input);
            }
            Round {
                system: text(system).unwrap_or_default(),
                prompt,
                answer: text(output).unwrap_or_default(),
                row,
                ..Round::default()
            }
        })
        .collect();
    let used: Vec<usize> = [instruction].into_iter().chain(output).chain(input).chain(system).collect();
    let n_empty = rounds.iter().filter(|round| output.is_some() && round.answer.is_empty()).count();
    let mut findings = cell_notes(table, &used, n_empty);
    findings.extend(spelling_notes(table, used.iter()));
    Ok(ColumnRounds { rounds, parents: None, notes: Vec::new(), findings, used })
}

/// A column that must be there.
pub(crate) fn required(table: &Table, name: &str, field: &str) -> Result<usize> {
    if let (None, Some(reason)) = (table.column_idx(name), table.unread_reason(name)) {
        return Err(DataError::UnreadColumn {
            path: table.path.clone(),
            column: name.to_owned(),
            field: field.to_owned(),
            reason: reason.to_owned(),
        });
    }
    table.column_idx(name).ok_or_else(|| {
        // Columns that forms would preselect come before similar spellings.
        let suggestions = find_field(field).map(|spec| spec.facets.suggestions).unwrap_or_default();
        let columns = || table.columns.iter().map(String::as_str);
        let unread =
            table.unread.iter().map(|unread| format!("{} (not read: {})", unread.name, unread.reason));
        let preferred = suggestions.iter().copied().find(|name| columns().any(|column| column == *name));
        DataError::MissingColumn {
            path: table.path.clone(),
            column: name.to_owned(),
            field: field.to_owned(),
            available: table.columns.iter().cloned().chain(unread).collect(),
            nearest: nearest(name, columns()).or(preferred).map(str::to_owned),
        }
    })
}

fn system_column(
    table: &Table,
    dataset: &Dataset,
    purpose: Purpose,
    notes: &mut Vec<String>,
) -> Result<Option<usize>> {
    let Some(name) = dataset.system_column.as_deref() else { return Ok(None) };
    if let Some(position) = table.column_idx(name) {
        return Ok(Some(position));
    }
    // The name that stands in a configuration whose author chose none does not have to exist.
    let is_default = dataset.system_column == Dataset::default().system_column;
    if purpose == Purpose::Train && !is_default {
        return required(table, name, "dataset.system_column").map(Some);
    }
    notes.push(format!("there is no column {name}, so there are no system texts (dataset.system_column)"));
    Ok(None)
}

fn parents(table: &Table, dataset: &Dataset, notes: &mut Vec<String>) -> Result<Option<Parents>> {
    let Some(parent_name) = dataset.parent_id_column.as_deref() else { return Ok(None) };
    let Some(parent_idx) = table.column_idx(parent_name) else {
        notes.push(format!(
            "there is no column {parent_name}, so every row is a conversation (dataset.parent_id_column)"
        ));
        return Ok(None);
    };
    let id_name = dataset.id_column.as_deref().ok_or_else(|| DataError::Setting {
        field: "dataset.id_column",
        reason: format!("is None, but the column {parent_name} refers to ids"),
    })?;
    let id_idx = required(table, id_name, "dataset.id_column")?;
    checked_parents(table, &IdColumns { id_name, id_idx, parent_name, parent_idx }).map(Some)
}

/// Columns used as texts in which numbers or truth values have another spelling than in the file.
fn spelling_notes<'a>(
    table: &'a Table,
    used: impl Iterator<Item = &'a usize>,
) -> impl Iterator<Item = String> {
    used.filter_map(|column| {
        let (respelled, name) = (table.respelled.get(*column)?, table.columns.get(*column)?);
        let (raw, text) = respelled.example.as_ref()?;
        Some(format!(
            "{} cells of the column {name} are numbers or truth values and spelled as pandas does, such as {raw} as {text}",
            respelled.n_cells
        ))
    })
}

/// What the user should know about the cells of the used columns.
fn cell_notes(table: &Table, used: &[usize], n_empty: usize) -> Vec<String> {
    let mut notes = Vec::new();
    for column in used {
        let n_words = table.n_missing_words.get(*column).copied().unwrap_or(0);
        if let (1.., Some(name)) = (n_words, table.columns.get(*column)) {
            notes.push(format!(
                "{n_words} cells of the column {name} hold a word such as None, NA or null, which counts as empty"
            ));
        }
    }
    if n_empty > 0 {
        notes.push(format!("{n_empty} of {} rows have an empty answer", table.n_rows()));
    }
    notes
}
