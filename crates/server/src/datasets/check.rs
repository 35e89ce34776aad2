//! What would become of the rows under some settings: conversations, and what is wrong with them.

use std::path::Path;

use serde::{Deserialize, Serialize};
use tunesmith_config::{ProblemType, ValidationStrategy};
use tunesmith_data::{Conversation as Rounds, DataError, Target, load_splits};
use utoipa::ToSchema;

use super::column_names::check_header;
use super::settings::DataSettings;
use super::tables::{Problem, ProblemLevel, beginning, open_table, problem_of};
use super::targets::{check_targets, label_kind};
use crate::error::ApiResult;

/// Rows that a problem names at most.
const MAX_ROWS: usize = 100;
/// Conversations that a check shows.
const N_SHOWN: usize = 20;

/// A conversation for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Conversation {
    /// Row of its last answer, counted from 0: the id of the sample.
    pub row: u64,
    /// What is said, in order.
    pub turns: Vec<Turn>,
    /// What is odd about it.
    #[schema(required)]
    pub note: Option<String>,
}

/// One thing that is said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Turn {
    /// `system`, `user`, `assistant`, or `text` where there are no prompts; `label` and `target` for what is to be predicted;
    /// `rejected_prompt` and `rejected` for an answer that is to be preferred less.
    pub role: String,
    /// The text.
    pub content: String,
}

/// What a check finds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Checked {
    /// Errors first.
    pub problems: Vec<Problem>,
    /// The first conversations.
    pub conversations: Vec<Conversation>,
    /// The number of classes in the training table, where classes are learned and can be counted.
    #[schema(required)]
    pub num_classes: Option<u64>,
}

/// All conversations of the training table, in the order of its rows, and what the reader noticed.
pub(crate) struct Noticed {
    pub(crate) conversations: Vec<Rounds>,
    pub(crate) notes: Vec<String>,
    /// Names of the classes, where they have any.
    pub(crate) class_names: Vec<String>,
}

/// All conversations of the training table.
///
/// # Errors
/// What keeps the rows from being conversations.
pub(crate) fn conversations(settings: &DataSettings, folder: &Path) -> ApiResult<Result<Noticed, Problem>> {
    let mut config = settings.config(folder)?;
    config.dataset.validation_strategy = ValidationStrategy::Automatic;
    // Everything, without a share put aside; forms and files cannot set this.
    config.dataset.validation_size = 0.0;
    Ok(match load_splits(&config) {
        Ok(mut splits) => {
            splits.train.sort_by_key(|conversation| conversation.row);
            let class_names = splits.labels.map(|labels| labels.class_names).unwrap_or_default();
            Ok(Noticed { conversations: splits.train, notes: splits.findings, class_names })
        }
        Err(error) => Err(problem_of(&error, folder)),
    })
}

/// The number of validation rows of a table of its own.
///
/// # Errors
/// As [`conversations`].
pub(crate) fn check_validation(settings: &DataSettings, folder: &Path) -> ApiResult<Option<Problem>> {
    let config = settings.config(folder)?;
    let problem = |error: DataError| problem_of(&error, folder);
    Ok(load_splits(&config).err().map(problem))
}

/// Everything that can be said before a data set is made of the rows.
///
/// # Errors
/// Settings that name no table of the folder, or that their fields do not take.
pub(crate) fn check(settings: &DataSettings, folder: &Path) -> ApiResult<Checked> {
    let kind = label_kind(settings, folder);
    let num_classes = kind.map(|kind| kind.num_classes);
    let mut problems = check_targets(settings, folder);
    // As the data set will have it.
    let settings = &DataSettings {
        num_classes: settings.num_classes.or(num_classes),
        has_label_lists: kind.is_some_and(|kind| kind.has_lists),
        ..settings.clone()
    };
    problems.extend(unnamed_columns(settings, folder));
    let Noticed { conversations: all, notes, .. } = match conversations(settings, folder)? {
        Ok(found) => found,
        Err(problem) => {
            add_unless_known(&mut problems, problem);
            return Ok(Checked { problems, conversations: Vec::new(), num_classes });
        }
    };
    if let Some(problem) = check_validation(settings, folder)? {
        add_unless_known(&mut problems, problem);
    }
    let last = |rounds: &Rounds| rounds.rounds.last().cloned();
    // That no label applies is an answer, too.
    let is_text = |rounds: &Rounds| !matches!(rounds.target(), Target::Values(_));
    let empty_answers = rows_where(&all, |rounds| {
        is_text(rounds) && last(rounds).is_some_and(|round| round.answer.trim().is_empty())
    });
    let n_all = all.len();
    if empty_answers.len() == n_all {
        problems.push(Problem {
            level: ProblemLevel::Error,
            message: "no row has an answer, so there is nothing to learn".to_owned(),
            hint: Some("choose another answer column".to_owned()),
            rows: None,
            field: Some("answer_column".to_owned()),
        });
    } else if !empty_answers.is_empty() {
        problems.push(warning(
            format!("{} of {n_all} rows have an empty answer", empty_answers.len()),
            "the model learns to say nothing there; leave these rows out if that is not meant",
            empty_answers,
            "answer_column",
        ));
    }
    let has_prompts = settings.has_prompts();
    let empty_prompts =
        rows_where(&all, |rounds| last(rounds).is_some_and(|round| round.prompt.trim().is_empty()));
    if has_prompts && !empty_prompts.is_empty() {
        problems.push(warning(
            format!("{} of {n_all} rows have an empty prompt", empty_prompts.len()),
            "the model learns to answer nothing in particular there",
            empty_prompts,
            "prompt_columns",
        ));
    }
    let mut seen = std::collections::HashSet::new();
    let repeats = rows_where(&all, |rounds| {
        let key: Vec<(&str, &str)> =
            rounds.rounds.iter().map(|round| (round.prompt.as_str(), round.answer.as_str())).collect();
        !seen.insert(key)
    });
    if !repeats.is_empty() {
        problems.push(warning(
            format!("{} of {n_all} rows repeat an earlier one word for word", repeats.len()),
            "repeated rows weigh more, and may stand in training and validation data at once",
            repeats,
            "train_table",
        ));
    }
    if n_all < 10 {
        let message = format!("there are only {n_all} conversations");
        problems.push(Problem {
            level: ProblemLevel::Warning,
            message,
            hint: Some("some hundred good examples are a fair beginning".to_owned()),
            rows: None,
            field: Some("train_table".to_owned()),
        });
    }
    let prefix = format!("{}{}", folder.display(), std::path::MAIN_SEPARATOR);
    problems.extend(notes.iter().map(|note| Problem {
        level: ProblemLevel::Warning,
        message: note.replace(&prefix, ""),
        hint: None,
        rows: None,
        field: None,
    }));
    problems.sort_by_key(|problem| problem.level != ProblemLevel::Error);
    let conversations = all.iter().take(N_SHOWN).map(|rounds| readable(rounds, settings)).collect();
    Ok(Checked { problems, conversations, num_classes })
}

/// What training refuses the rows for, unless a problem says so already, with all rows.
fn add_unless_known(problems: &mut Vec<Problem>, problem: Problem) {
    if problems.iter().all(|known| known.level != ProblemLevel::Error) {
        problems.insert(0, problem);
    }
}

/// Whether the training table has names for its columns.
fn unnamed_columns(settings: &DataSettings, folder: &Path) -> Option<Problem> {
    let table = open_table(folder, &settings.train_table, None).ok()?;
    check_header(&table, &settings.train_table)
}

/// Numbers of the rows, counted from 1, for which it holds.
fn rows_where<'a>(all: &'a [Rounds], mut is_hit: impl FnMut(&'a Rounds) -> bool) -> Vec<u64> {
    all.iter().filter(|rounds| is_hit(rounds)).map(|rounds| rounds.row as u64 + 1).collect()
}

fn warning(message: String, hint: &str, mut rows: Vec<u64>, field: &str) -> Problem {
    rows.truncate(MAX_ROWS);
    Problem {
        level: ProblemLevel::Warning,
        message,
        hint: Some(hint.to_owned()),
        rows: Some(rows),
        field: Some(field.to_owned()),
    }
}

/// A conversation for people.
pub(crate) fn readable(rounds: &Rounds, settings: &DataSettings) -> Conversation {
    let has_prompts = settings.has_prompts();
    let turn = |role: &str, content: &str| Turn { role: role.to_owned(), content: content.to_owned() };
    let mut turns = Vec::new();
    if !rounds.system().is_empty() {
        turns.push(turn("system", rounds.system()));
    }
    for round in &rounds.rounds {
        if let Target::Values(values) = &round.target {
            turns.push(turn("user", &round.prompt));
            let role = match settings.kind() {
                Some(ProblemType::CausalClassificationModeling) => "label",
                _ => "target",
            };
            if let (Some(ProblemType::CausalClassificationModeling), [name]) =
                (settings.kind(), settings.label_columns.as_slice())
            {
                turns.push(turn(role, &format!("{name}: {}", round.answer)));
                continue;
            }
            let named = settings.label_columns.iter().zip(values);
            turns.extend(named.map(|(name, value)| turn(role, &format!("{name}: {value}"))));
        } else if has_prompts {
            match &round.details {
                None => turns.push(turn("user", &round.prompt)),
                Some(details) => turns.extend(details.before.iter().map(|message| {
                    let text = |key: &str| message.get(key).and_then(serde_json::Value::as_str);
                    turn(text("role").unwrap_or("user"), text("content").unwrap_or_default())
                })),
            }
            turns.push(turn("assistant", &round.answer));
        } else {
            turns.push(turn("text", &beginning(round.answer.clone())));
        }
    }
    if let Target::Preference { rejected_prompt, rejected_answer } = rounds.target() {
        turns.extend(rejected_prompt.as_ref().map(|prompt| turn("rejected_prompt", prompt)));
        turns.push(turn("rejected", rejected_answer));
    }
    let is_label = matches!(rounds.target(), Target::Values(_));
    let is_empty = !is_label && rounds.rounds.last().is_none_or(|round| round.answer.trim().is_empty());
    Conversation { row: rounds.row as u64, turns, note: is_empty.then(|| "the answer is empty".to_owned()) }
}
