//! From a table to what can be split, sampled and chained, whichever way its rows are laid out.

use tunesmith_config::{Dataset, ExperimentConfig, LossFunction, ProblemType, TableLayout, TextFormat};

use crate::chains::{chain, ends, groups, roots};
use crate::columns::{Purpose, alpaca_rounds, configured_rounds, has_configured_columns, required};
use crate::conversation::{Conversation, Round, Target};
use crate::dialogues::{DialogueColumns, read_dialogues, unused_columns};
use crate::error::{DataError, Result};
use crate::messages::{message_list, tools_of};
use crate::personalize::personalize;
use crate::split::{Split, sample_conversations, sample_rows, split_groups, split_rows};
use crate::table::{Cell, Table};
use crate::trees::{MessageColumns, Trees, nested_column};

/// The rows of a table before they become conversations.
#[derive(Debug)]
pub(crate) struct LaidOut {
    rows: Rows,
    /// Sentences for the user: the layout, and what was unusual.
    pub(crate) notes: Vec<String>,
    /// Those of them that say what was unusual.
    pub(crate) findings: Vec<String>,
}

#[derive(Debug)]
enum Rows {
    /// One round a row, with the positions of parent rows if rows refer to each other.
    Rounds { rounds: Vec<Round>, parents: Option<Vec<Option<usize>>> },
    /// Conversations that are whole already, with the number of the tree each comes from if they share messages.
    Whole { conversations: Vec<Conversation>, trees: Option<Vec<usize>> },
}

/// Reads the table by the configured layout, or by the one its columns suggest.
pub(crate) fn lay_out(table: &Table, config: &ExperimentConfig, purpose: Purpose) -> Result<LaidOut> {
    let dataset = &config.dataset;
    let (layout, how) = layout_of(table, config, purpose);
    let dialogue = dialogue_columns(table, config, layout, purpose)?;
    let what = match (&dialogue, layout) {
        (Some(columns), TableLayout::Columns) => {
            let names = columns.used().into_iter().filter_map(|column| table.columns.get(column));
            let names: Vec<&str> = names.map(String::as_str).collect();
            format!("conversations out of the columns {}", names.join(", "))
        }
        _ => format!("layout {layout} ({how})"),
    };
    let mut notes = vec![format!("{}: {} rows, {what}", table.path.display(), table.n_rows())];
    let mut findings = table.notes.clone();
    let mut rows = match (dialogue, layout) {
        (Some(columns), _) => {
            let read = read_dialogues(table, &columns, config, purpose)?;
            findings.extend(read.notes);
            findings.extend(unused_columns(table, &columns.used()));
            Rows::Whole { conversations: read.conversations, trees: None }
        }
        (None, TableLayout::Tree) => trees(table, dataset, &mut findings)?,
        (None, layout) => {
            let read = if layout == TableLayout::Alpaca {
                alpaca_rounds(table, dataset, purpose)?
            } else {
                configured_rounds(table, config, purpose)?
            };
            notes.extend(read.notes);
            findings.extend(read.findings);
            if config.problem_type != ProblemType::ContinuedPretraining {
                findings.extend(unused_columns(table, &read.used));
            }
            Rows::Rounds { rounds: read.rounds, parents: read.parents }
        }
    };
    if dataset.personalize && config.problem_type != ProblemType::ContinuedPretraining {
        rows.personalize(dataset);
    }
    if rows.len() == 0 {
        let reason = match purpose {
            Purpose::Questions => "no row asks anything",
            Purpose::Train | Purpose::Validation => "no row has an answer, so there is nothing to learn",
        };
        return Err(DataError::Empty { path: table.path.clone(), reason: reason.to_owned() });
    }
    notes.extend(findings.iter().cloned());
    Ok(LaidOut { rows, notes, findings })
}

/// The layout in use and why.
pub(crate) fn layout_of(
    table: &Table,
    config: &ExperimentConfig,
    purpose: Purpose,
) -> (TableLayout, &'static str) {
    match config.dataset.layout {
        // Only columns can say what a class or a number is.
        _ if !has_conversations(config.problem_type) => {
            (TableLayout::Columns, "as the problem type needs it")
        }
        TableLayout::Auto => (detect(table, config, purpose), "found by its columns"),
        chosen => (chosen, "as configured"),
    }
}

/// The layout whose columns the table has; the column settings come first.
fn detect(table: &Table, config: &ExperimentConfig, purpose: Purpose) -> TableLayout {
    let has = |name: &str| table.column_idx(name).is_some();
    let has_outputs = purpose == Purpose::Questions || has("output");
    let is_alpaca = has("instruction") && has_outputs && config.problem_type != ProblemType::DpoModeling;
    if has_configured_columns(table, config, purpose) {
        // Earlier rounds in a column of their own are Alpaca's.
        return if is_alpaca && has("history") { TableLayout::Alpaca } else { TableLayout::Columns };
    }
    if let Some((layout, _)) = list_column(table, TableLayout::Auto) {
        return layout;
    }
    if config.problem_type != ProblemType::DpoModeling
        && (nested_column(table).is_some() || MessageColumns::find(table).is_some())
    {
        return TableLayout::Tree;
    }
    // If the table has none of these columns, the errors name the missing one and the ones there are.
    if is_alpaca { TableLayout::Alpaca } else { TableLayout::Columns }
}

/// The columns of whole conversations, where rows are such; `None` where a row is one round of texts, a tree, or a text.
fn dialogue_columns(
    table: &Table,
    config: &ExperimentConfig,
    layout: TableLayout,
    purpose: Purpose,
) -> Result<Option<DialogueColumns>> {
    let dataset = &config.dataset;
    let column = |name: &str| table.column_idx(name);
    let compares = config.problem_type == ProblemType::DpoModeling && purpose != Purpose::Questions;
    let is_judged = compares && config.training.loss_function == LossFunction::KtoLoss;
    let judged = || required(table, &dataset.judgement_column, "dataset.judgement_column");
    let columns = match layout {
        TableLayout::Messages | TableLayout::Sharegpt => {
            let list = match list_column(table, layout) {
                Some((_, column)) => column,
                None if layout == TableLayout::Sharegpt => {
                    required(table, "conversations", "dataset.layout: sharegpt")?
                }
                None => required(table, "messages", "dataset.layout: messages")?,
            };
            let whole = DialogueColumns { answer: Some(list), ..DialogueColumns::default() };
            match compares {
                true if is_judged => DialogueColumns { judgement: Some(judged()?), ..whole },
                true => DialogueColumns {
                    prompts: vec![list],
                    answer: Some(required(table, first_of(table, CHOSEN), "dataset.answer_column")?),
                    rejected: Some(required(
                        table,
                        first_of(table, REJECTED),
                        "dataset.rejected_answer_column",
                    )?),
                    ..DialogueColumns::default()
                },
                false => whole,
            }
        }
        TableLayout::Alpaca => match column("history") {
            Some(history) => DialogueColumns {
                prompts: ["instruction", "input"].iter().filter_map(|name| column(name)).collect(),
                history: Some(history),
                answer: match purpose {
                    Purpose::Questions => None,
                    _ => Some(required(table, "output", "dataset.layout: alpaca")?),
                },
                ..DialogueColumns::default()
            },
            None => return Ok(None),
        },
        TableLayout::Columns if has_configured_columns(table, config, purpose) => {
            let prompts: Vec<usize> = dataset.prompt_column.iter().filter_map(|name| column(name)).collect();
            let answer = column(dataset.answer_column.first()).filter(|_| purpose != Purpose::Questions);
            let rejected = column(&dataset.rejected_answer_column).filter(|_| compares && !is_judged);
            let has_lists = prompts
                .iter()
                .copied()
                .chain(answer)
                .chain(rejected)
                .any(|column| (0..table.n_rows()).any(|row| is_structured(table.cell(row, column))));
            let describes_tools = column("tools").is_some_and(|column| {
                (0..table.n_rows()).any(|row| matches!(tools_of(table.cell(row, column)), Ok(Some(_))))
            });
            let has_conversations = has_conversations(config.problem_type);
            if !(has_conversations && (has_lists || describes_tools)) {
                return Ok(None);
            }
            if answer.is_some() && dataset.rejected_prompt_column.as_deref().is_some() && rejected.is_some() {
                return Err(DataError::Setting {
                    field: "dataset.rejected_prompt_column",
                    reason: "answers that are lists of messages bring their prompts; set it to None"
                        .to_owned(),
                });
            }
            let judgement = if is_judged { Some(judged()?) } else { None };
            DialogueColumns { prompts, answer, rejected, judgement, ..DialogueColumns::default() }
        }
        TableLayout::Columns => match usual_columns(table, compares, is_judged, purpose) {
            Some(columns) if is_judged => DialogueColumns { judgement: Some(judged()?), ..columns },
            Some(columns) => columns,
            None => return Ok(None),
        },
        TableLayout::Tree | TableLayout::Auto => return Ok(None),
    };
    Ok(Some(columns.with_companions(table, dataset)))
}

fn has_conversations(problem_type: ProblemType) -> bool {
    match problem_type {
        ProblemType::CausalLanguageModeling
        | ProblemType::SequenceToSequenceModeling
        | ProblemType::DpoModeling => true,
        ProblemType::ContinuedPretraining
        | ProblemType::CausalClassificationModeling
        | ProblemType::CausalRegressionModeling => false,
    }
}

/// The usual names of the better and of the other answer.
const CHOSEN: &[&str] = &["chosen", "chosen_messages", "chosen_response"];
const REJECTED: &[&str] = &["rejected", "rejected_messages", "rejected_response"];

/// Columns by the names that TRL and the data sets of the hub use, where the column settings name none that are there.
fn usual_columns(
    table: &Table,
    compares: bool,
    is_judged: bool,
    purpose: Purpose,
) -> Option<DialogueColumns> {
    let column = |name: &str| table.column_idx(name);
    let prompts: Vec<usize> = column("prompt").into_iter().collect();
    if compares && !is_judged {
        let (chosen, rejected) = (column(first_of(table, CHOSEN))?, column(first_of(table, REJECTED))?);
        return Some(DialogueColumns {
            has_dialogue_texts: prompts.is_empty(),
            prompts,
            answer: Some(chosen),
            rejected: Some(rejected),
            ..DialogueColumns::default()
        });
    }
    if prompts.is_empty() {
        return None;
    }
    let answer = match purpose {
        Purpose::Questions => None,
        _ => Some(column("completion").or_else(|| column("response"))?),
    };
    Some(DialogueColumns { prompts, answer, ..DialogueColumns::default() })
}

/// The first of the names that the table has; without any the first.
fn first_of(table: &Table, names: &[&'static str]) -> &'static str {
    let present = names.iter().copied().find(|name| table.column_idx(name).is_some());
    present.or_else(|| names.first().copied()).unwrap_or_default()
}

/// Whether a cell is more than a text: a list of messages, or JSON that must not be learned as text.
fn is_structured(cell: &Cell) -> bool {
    message_list(cell).is_some() || matches!(cell, Cell::Json(value) if value.is_array() || value.is_object())
}

/// The column that holds lists of messages, by its usual names.
fn list_column(table: &Table, layout: TableLayout) -> Option<(TableLayout, usize)> {
    let messages = (TableLayout::Messages, "messages");
    let sharegpt = [(TableLayout::Sharegpt, "conversations"), (TableLayout::Sharegpt, "conversation")];
    let candidates = match layout {
        TableLayout::Sharegpt => vec![sharegpt[0], sharegpt[1], messages],
        _ => vec![messages, sharegpt[0], sharegpt[1]],
    };
    let holds_lists = |column: usize| match table.cell(0, column) {
        Cell::Json(value) => value.is_array(),
        Cell::Text(text) => text.trim_start().starts_with('['),
        _ => false,
    };
    candidates.into_iter().find_map(|(layout, name)| {
        let column = table.column_idx(name)?;
        holds_lists(column).then_some((layout, column))
    })
}

fn trees(table: &Table, dataset: &Dataset, notes: &mut Vec<String>) -> Result<Rows> {
    let trees = match (nested_column(table), MessageColumns::find(table)) {
        (Some(column), _) => Trees::nested(table, column)?,
        (None, Some(columns)) => Trees::flat(table, &columns)?,
        (None, None) => {
            let reason = format!(
                "tree needs a column of nested messages with replies, or the columns message_id, parent_id, role and \
                 text; the columns are {}",
                table.columns.join(", ")
            );
            return Err(DataError::Setting { field: "dataset.layout", reason });
        }
    };
    let has_markers = dataset.text_format == TextFormat::Markers;
    let found = trees.conversations(dataset.limit_chained_samples, has_markers);
    notes.extend(found.notes);
    Ok(Rows::Whole { conversations: found.conversations, trees: Some(found.trees) })
}

impl LaidOut {
    /// All positions, in table order.
    pub(crate) fn all(&self) -> Vec<usize> {
        (0..self.rows.len()).collect()
    }

    /// Positions for training and validation; what belongs together stays together.
    pub(crate) fn split(&self, validation_size: f64) -> Split {
        let Some(groups) = self.groups() else { return split_rows(self.rows.len(), validation_size) };
        let sizes: Vec<usize> = groups.iter().map(Vec::len).collect();
        let in_line: Vec<usize> = groups.into_iter().flatten().collect();
        let positions =
            |places: Vec<usize>| places.into_iter().filter_map(|i| in_line.get(i).copied()).collect();
        let split = split_groups(&sizes, validation_size);
        Split { train: positions(split.train), validation: positions(split.validation) }
    }

    /// A share of the chosen positions.
    pub(crate) fn sample(&self, positions: &[usize], fraction: f64) -> Vec<usize> {
        let kept = match self.labels() {
            None => sample_rows(positions.len(), fraction),
            Some(labels) => {
                let chosen: Vec<usize> = positions.iter().filter_map(|i| labels.get(*i).copied()).collect();
                sample_conversations(&chosen, fraction)
            }
        };
        kept.into_iter().filter_map(|i| positions.get(i).copied()).collect()
    }

    /// The conversations of the chosen positions, in that order.
    ///
    /// Chained rows become one conversation each, with their ancestors, or only those rows that nobody answers
    /// (`limit_chained_samples`). Parents outside the choice count as none.
    pub(crate) fn conversations(
        &self,
        positions: &[usize],
        limit_chained_samples: bool,
    ) -> Result<Vec<Conversation>> {
        match &self.rows {
            Rows::Whole { conversations, .. } => {
                Ok(positions.iter().filter_map(|i| conversations.get(*i).cloned()).collect())
            }
            Rows::Rounds { rounds, parents: None } => Ok(singles(rounds, positions)),
            Rows::Rounds { rounds, parents: Some(parents) } => {
                chained(rounds, parents, positions, limit_chained_samples)
            }
        }
    }

    /// One more than the largest row number of any round.
    pub(crate) fn n_row_numbers(&self) -> usize {
        let largest = match &self.rows {
            Rows::Rounds { rounds, .. } => rounds.iter().map(|round| round.row).max(),
            Rows::Whole { conversations, .. } => {
                conversations.iter().map(|conversation| conversation.row).max()
            }
        };
        largest.map_or(0, |row| row + 1)
    }

    /// Positions that must not be parted, or `None` if each stands alone.
    fn groups(&self) -> Option<Vec<Vec<usize>>> {
        match &self.rows {
            Rows::Rounds { parents, .. } => parents.as_deref().map(groups),
            Rows::Whole { trees, .. } => trees.as_deref().map(by_label),
        }
    }

    /// For each position the conversation or tree it belongs to.
    fn labels(&self) -> Option<Vec<usize>> {
        match &self.rows {
            Rows::Rounds { parents, .. } => parents.as_deref().map(roots),
            Rows::Whole { trees, .. } => trees.clone(),
        }
    }
}

impl Rows {
    fn len(&self) -> usize {
        match self {
            Self::Rounds { rounds, .. } => rounds.len(),
            Self::Whole { conversations, .. } => conversations.len(),
        }
    }

    fn personalize(&mut self, dataset: &Dataset) {
        let change = |round: &mut Round| {
            round.prompt = personalize(&round.prompt, dataset);
            round.answer = personalize(&round.answer, dataset);
            for message in round.details.iter_mut().flat_map(|details| &mut details.before) {
                if let Some(serde_json::Value::String(text)) = message.get_mut("content") {
                    *text = personalize(text, dataset);
                }
            }
            if let Target::Preference { rejected_prompt, rejected_answer } = &mut round.target {
                *rejected_answer = personalize(rejected_answer, dataset);
                *rejected_prompt = rejected_prompt.as_deref().map(|prompt| personalize(prompt, dataset));
            }
        };
        match self {
            Self::Rounds { rounds, .. } => rounds.iter_mut().for_each(change),
            Self::Whole { conversations, .. } => {
                conversations.iter_mut().flat_map(|conversation| &mut conversation.rounds).for_each(change);
            }
        }
    }
}

/// A conversation for each row. Texts come in table order, and those that go on in the next chosen row are one.
fn singles(rounds: &[Round], positions: &[usize]) -> Vec<Conversation> {
    let is_text = |round: &Round| matches!(round.target, Target::Text { .. });
    if !rounds.first().is_some_and(is_text) {
        let single = |i: &usize| Conversation::new(vec![rounds.get(*i)?.clone()]);
        return positions.iter().filter_map(single).collect();
    }
    let mut positions = positions.to_vec();
    positions.sort_unstable();
    let mut texts: Vec<Round> = Vec::new();
    let mut next_row = 0;
    for position in positions {
        let Some(round) = rounds.get(position) else { continue };
        match (texts.last_mut(), &round.target) {
            (Some(text), Target::Text { starts: false, .. }) if position == next_row => {
                text.answer.push_str(&round.answer);
                if let (Target::Text { ends, .. }, Target::Text { ends: last_ends, .. }) =
                    (&mut text.target, &round.target)
                {
                    *ends = *last_ends;
                }
            }
            _ => texts.push(round.clone()),
        }
        next_row = position + 1;
    }
    texts.into_iter().filter_map(|text| Conversation::new(vec![text])).collect()
}

/// Chains among the chosen rows only.
fn chained(
    rounds: &[Round],
    parents: &[Option<usize>],
    positions: &[usize],
    limit_chained_samples: bool,
) -> Result<Vec<Conversation>> {
    // Where each row stands in the choice.
    let mut places = vec![None; rounds.len()];
    for (place, position) in positions.iter().enumerate() {
        if let Some(entry) = places.get_mut(*position) {
            *entry = Some(place);
        }
    }
    let local: Vec<Option<usize>> = positions
        .iter()
        .map(|position| {
            let parent = parents.get(*position).copied().flatten()?;
            places.get(parent).copied().flatten()
        })
        .collect();
    let mut conversations = Vec::new();
    for end in ends(&local, limit_chained_samples) {
        let rows = chain(&local, end).ok_or_else(|| DataError::Setting {
            field: "dataset.parent_id_column",
            reason: "a conversation has more than 1000 rounds before its last, or leads back to itself"
                .to_owned(),
        })?;
        let rounds = rows.iter().filter_map(|i| rounds.get(*positions.get(*i)?).cloned()).collect();
        conversations.extend(Conversation::new(rounds));
    }
    Ok(conversations)
}

/// Positions with the same label, labels in the order of their first position.
fn by_label(labels: &[usize]) -> Vec<Vec<usize>> {
    let mut group_of_label = std::collections::HashMap::new();
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for (position, label) in labels.iter().enumerate() {
        let group = *group_of_label.entry(*label).or_insert_with(|| {
            groups.push(Vec::new());
            groups.len() - 1
        });
        if let Some(members) = groups.get_mut(group) {
            members.push(position);
        }
    }
    groups
}
