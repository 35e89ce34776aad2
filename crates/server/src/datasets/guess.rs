//! What tables and columns probably mean: by their names first, then by what is in them. Everything can be changed after.

use tunesmith_config::find_field;

use super::settings::DataSettings;
use super::tables::{ColumnKind, ImportTable};

/// Names beyond those that the configuration suggests.
const PROMPTS: [&str; 4] = ["query", "inputs", "source", "context"];
const ANSWERS: [&str; 5] = ["completion", "target", "reply", "label", "text"];
const SYSTEMS: [&str; 3] = ["system", "system_prompt", "system_message"];
/// Parts of the names of tables that are not for training.
const HELD_OUT: [&str; 5] = ["valid", "val", "dev", "eval", "test"];
/// Part of the training rows that is put aside, and about how many rows that should be at least.
const VALIDATION_SIZES: [(u64, f64); 3] = [(10_000, 0.01), (1_000, 0.05), (0, 0.1)];

/// The settings to begin with; `None` without a table.
pub(crate) fn guess(tables: &[ImportTable]) -> Option<DataSettings> {
    let train = train_table(tables)?;
    let mut settings = DataSettings::of_table(&train.path);
    let names = |table: &ImportTable| -> Vec<String> {
        table.columns.iter().map(|column| column.name.clone()).collect()
    };
    settings.validation_table = tables
        .iter()
        .find(|table| table.path != train.path && is_held_out(&table.path) && names(table) == names(train))
        .map(|table| table.path.clone());
    let size = VALIDATION_SIZES.iter().find(|(n_rows, _)| train.n_rows >= *n_rows);
    settings.validation_size = size.map_or(0.01, |(_, size)| *size);
    let has = |name: &str| train.columns.iter().any(|column| column.name == name);
    let is_list = |name: &str| {
        train.columns.iter().any(|column| {
            column.name == name
                && (column.kind == ColumnKind::List
                    || column.examples.first().is_some_and(|text| text.trim_start().starts_with('[')))
        })
    };
    let layout = if is_list("messages") {
        "messages"
    } else if is_list("conversations") || is_list("conversation") {
        "sharegpt"
    } else if ["message_id", "parent_id", "role", "text"].iter().all(|name| has(name)) {
        "tree"
    } else if has("instruction") && has("output") {
        "alpaca"
    } else {
        "columns"
    };
    layout.clone_into(&mut settings.layout);
    if matches!(layout, "columns" | "alpaca") {
        columns(train, &mut settings);
    }
    Some(settings)
}

fn train_table(tables: &[ImportTable]) -> Option<&ImportTable> {
    let named = tables.iter().filter(|table| table.path.to_lowercase().contains("train"));
    let others = || tables.iter().filter(|table| !is_held_out(&table.path));
    named
        .max_by_key(|table| table.n_rows)
        .or_else(|| others().max_by_key(|table| table.n_rows))
        .or_else(|| tables.iter().max_by_key(|table| table.n_rows))
}

/// Whether a word of the name says so: `test.csv` and `my_val.jsonl`, but not `latest.csv`.
fn is_held_out(name: &str) -> bool {
    let name = name.to_lowercase();
    name.split(|c: char| !c.is_ascii_alphabetic()).any(|word| {
        HELD_OUT.contains(&word) || matches!(word, "validation" | "evaluation" | "testing" | "heldout")
    })
}

fn columns(table: &ImportTable, settings: &mut DataSettings) {
    let find = |wanted: &str| {
        table
            .columns
            .iter()
            .find(|column| column.name.eq_ignore_ascii_case(wanted))
            .map(|column| column.name.clone())
    };
    let suggestions = |field: &str| find_field(field).map(|spec| spec.facets.suggestions).unwrap_or_default();
    let first = |own: &[&str], more: &[&str]| own.iter().chain(more).find_map(|name| find(name));
    settings.system_column = first(&SYSTEMS, &[]);
    settings.parent_id_column = first(suggestions("dataset.parent_id_column"), &[]);
    settings.id_column =
        settings.parent_id_column.as_ref().and_then(|_| first(suggestions("dataset.id_column"), &[]));
    if settings.id_column.is_none() {
        settings.parent_id_column = None;
    }
    settings.prompt_columns = if settings.layout == "alpaca" {
        ["instruction", "input"].iter().filter_map(|name| find(name)).collect()
    } else {
        first(suggestions("dataset.prompt_column"), &PROMPTS).into_iter().collect()
    };
    settings.answer_column = first(suggestions("dataset.answer_column"), &ANSWERS)
        .filter(|name| !settings.prompt_columns.contains(name));

    // No names that are known: the texts in their order.
    let is_taken = |name: &String, settings: &DataSettings| {
        [&settings.system_column, &settings.answer_column, &settings.parent_id_column, &settings.id_column]
            .into_iter()
            .flatten()
            .chain(&settings.prompt_columns)
            .any(|taken| taken == name)
    };
    let texts = |settings: &DataSettings| -> Vec<String> {
        let is_text = |kind| matches!(kind, ColumnKind::Text);
        let texts = table.columns.iter().filter(|column| is_text(column.kind)).map(|column| &column.name);
        texts.filter(|name| !is_taken(name, settings)).cloned().collect()
    };
    if settings.answer_column.is_none() {
        settings.answer_column = texts(settings).pop().or_else(|| {
            let mut others = table.columns.iter().map(|column| &column.name);
            others.rfind(|name| !is_taken(name, settings)).cloned()
        });
    }
    // A table of plain texts has no prompt: every token is learned.
    if settings.prompt_columns.is_empty() && settings.answer_column.as_deref() != Some("text") {
        settings.prompt_columns = texts(settings).into_iter().take(1).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datasets::tables::Column;

    fn table(path: &str, n_rows: u64, columns: &[(&str, ColumnKind)]) -> ImportTable {
        let columns = columns.iter().map(|(name, kind)| Column {
            name: (*name).to_owned(),
            kind: *kind,
            n_missing: 0,
            n_unique: None,
            examples: Vec::new(),
        });
        ImportTable {
            path: path.to_owned(),
            n_rows,
            n_bytes: 1,
            columns: columns.collect(),
            rows: Vec::new(),
        }
    }

    #[test]
    fn names_decide_before_contents() {
        use ColumnKind::{List, Number, Text};
        type Case<'a> = (&'a [(&'a str, ColumnKind)], &'a str, &'a [&'a str], Option<&'a str>);
        let cases: [Case<'_>; 6] = [
            (&[("question", Text), ("answer", Text)], "columns", &["question"], Some("answer")),
            (
                &[("instruction", Text), ("input", Text), ("output", Text)],
                "alpaca",
                &["instruction", "input"],
                Some("output"),
            ),
            (&[("messages", List)], "messages", &[], None),
            (&[("v1", Text), ("v2", Text), ("n", Number)], "columns", &["v1"], Some("v2")),
            (&[("text", Text)], "columns", &[], Some("text")),
            (&[("Prompt", Text), ("Response", Text)], "columns", &["Prompt"], Some("Response")),
        ];
        for (columns, layout, prompts, answer) in cases {
            let guessed = guess(&[table("rows.csv", 10, columns)]).unwrap();
            assert_eq!(guessed.layout, layout, "{columns:?}");
            assert_eq!(guessed.prompt_columns, prompts, "{columns:?}");
            assert_eq!(guessed.answer_column.as_deref(), answer, "{columns:?}");
        }
    }

    #[test]
    fn the_training_table_is_told_from_the_validation_table() {
        let columns = [("question", ColumnKind::Text), ("answer", ColumnKind::Text)];
        let tables = [
            table("test.csv", 900, &columns),
            table("train.csv", 100, &columns),
            table("x.csv", 5, &columns),
        ];
        let guessed = guess(&tables).unwrap();
        assert_eq!(guessed.train_table, "train.csv");
        assert_eq!(guessed.validation_table.as_deref(), Some("test.csv"));
        assert!(!is_held_out("latest.csv") && is_held_out("my_val.jsonl"));
        assert_eq!(guess(&[]), None);
    }
}
