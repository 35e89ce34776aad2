//! What tables and columns probably mean: by their names first, then by what is in them. Everything can be changed after.

use tunesmith_config::{ProblemType, find_field};

use super::settings::DataSettings;
use super::tables::{Column, ColumnKind, ImportTable};

/// Names beyond those that the configuration suggests.
const PROMPTS: [&str; 4] = ["query", "inputs", "source", "context"];
const ANSWERS: [&str; 5] = ["completion", "target", "reply", "label", "text"];
/// The column of plain texts.
const TEXT: &str = "text";
/// Columns whose numbers are classes, or are to be predicted.
const LABELS: [&str; 6] = ["label", "labels", "class", "target", "score", "sentiment"];
/// Columns whose few different texts are labels, besides those.
const TEXT_LABELS: [&str; 4] = ["category", "intent", "emotion", "topic"];
/// Characters of a text that may be a label.
const MAX_LABEL_CHARS: usize = 60;
/// Columns of texts that are judged, besides prompts.
const JUDGED: [&str; 5] = ["text", "sentence", "message", "review", "content"];
/// Most different whole numbers that are taken for classes, and how many rows each should have at least.
const MAX_CLASSES: u64 = 100;
const ROWS_PER_CLASS: u64 = 2;
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
    let kind = kind_of_name(tables).unwrap_or_else(|| kind_of_columns(train, &settings));
    as_kind(kind, train, &mut settings);
    Some(settings)
}

/// The longest name of a problem type that a table is named by.
fn kind_of_name(tables: &[ImportTable]) -> Option<ProblemType> {
    let names: Vec<String> =
        tables.iter().map(|table| table.path.to_lowercase().replace(['-', ' '], "_")).collect();
    let is_named = |kind: &&ProblemType| names.iter().any(|name| name.contains(kind.as_str()));
    ProblemType::ALL.iter().filter(is_named).max_by_key(|kind| kind.as_str().len()).copied()
}

/// What is learned, by the columns there are. A table with an answer in words is one of language modeling, one of texts alone
/// one of continued pre-training.
fn kind_of_columns(table: &ImportTable, settings: &DataSettings) -> ProblemType {
    if settings.layout != "columns" {
        return ProblemType::CausalLanguageModeling;
    }
    if rejected_column(table).is_some() {
        return ProblemType::DpoModeling;
    }
    let labels = label_columns(table);
    let is_label = |name: &str| labels.iter().any(|column| column.name == name);
    let has_text =
        table.columns.iter().any(|column| column.kind == ColumnKind::Text && !is_label(&column.name));
    let is_words = |name: &str| {
        table.columns.iter().any(|column| column.name == name && column.kind == ColumnKind::Text)
    };
    let suggested =
        find_field("dataset.answer_column").map(|spec| spec.facets.suggestions).unwrap_or_default();
    let has_answer = settings.answer_column.as_deref().is_some_and(|answer| {
        is_words(answer) && suggested.iter().any(|name| answer.eq_ignore_ascii_case(name))
    });
    match labels.first() {
        Some(column) if has_text && !has_answer => match are_classes(table, column) {
            true => ProblemType::CausalClassificationModeling,
            false => ProblemType::CausalRegressionModeling,
        },
        _ if settings.prompt_columns.is_empty() && is_words(TEXT) => ProblemType::ContinuedPretraining,
        _ => ProblemType::CausalLanguageModeling,
    }
}

/// Columns of numbers that are named as labels are: one, or several of 0 and 1 that are named alike (`label_0`, …); or one of few
/// different short texts.
fn label_columns(table: &ImportTable) -> Vec<&Column> {
    let is_number = |column: &&Column| matches!(column.kind, ColumnKind::Number | ColumnKind::Bool);
    let numbers = || table.columns.iter().filter(is_number);
    let exact =
        LABELS.iter().find_map(|name| numbers().find(|column| column.name.eq_ignore_ascii_case(name)));
    if let Some(column) = exact {
        return vec![column];
    }
    // Beside two other texts, a question and what is answered, a topic is no more than a remark.
    let n_texts = table.columns.iter().filter(|column| column.kind == ColumnKind::Text).count();
    let weaker = if n_texts == 2 { &TEXT_LABELS[..] } else { &[] };
    let text = LABELS.iter().chain(weaker).find_map(|name| {
        table
            .columns
            .iter()
            .find(|column| column.name.eq_ignore_ascii_case(name) && are_text_labels(table, column))
    });
    if let Some(column) = text {
        return vec![column];
    }
    let numbered: Vec<&Column> =
        numbers().filter(|column| column.name.to_lowercase().starts_with("label")).collect();
    if numbered.iter().all(|column| column.n_unique.is_some_and(|n| n <= 2)) { numbered } else { Vec::new() }
}

/// Few different short texts.
fn are_text_labels(table: &ImportTable, column: &Column) -> bool {
    let is_short = |text: &String| text.chars().count() <= MAX_LABEL_CHARS;
    column.kind == ColumnKind::Text
        && column
            .n_unique
            .is_some_and(|n| n <= MAX_CLASSES && n.saturating_mul(ROWS_PER_CLASS) <= table.n_rows)
        && column.examples.iter().all(is_short)
}

/// Few texts, or few whole numbers from 0 on; gaps make `1.0` of `1`.
fn are_classes(table: &ImportTable, column: &Column) -> bool {
    if are_text_labels(table, column) {
        return true;
    }
    let place = table.columns.iter().position(|other| other.name == column.name);
    let mut cells = table.rows.iter().filter_map(|row| row.get(place?)?.as_deref());
    let is_class = |cell: &str| {
        matches!(cell, "True" | "False")
            || cell.parse::<f64>().is_ok_and(|number| number >= 0.0 && number.fract() == 0.0)
    };
    let is_few =
        column.n_unique.is_none_or(|n| n <= MAX_CLASSES && n.saturating_mul(ROWS_PER_CLASS) <= table.n_rows);
    is_few && cells.all(is_class)
}

/// The column of answers to prefer less.
fn rejected_column(table: &ImportTable) -> Option<String> {
    let is_prompt =
        |name: &str| ["prompt", "input", "instruction", "question"].iter().any(|word| name.contains(word));
    let is_rejected = |column: &&Column| {
        let name = column.name.to_lowercase();
        name.starts_with("rejected")
            && !is_prompt(&name)
            && matches!(column.kind, ColumnKind::Text | ColumnKind::List)
    };
    table.columns.iter().find(is_rejected).map(|column| column.name.clone())
}

/// Gives columns the roles of a problem type.
fn as_kind(kind: ProblemType, table: &ImportTable, settings: &mut DataSettings) {
    kind.as_str().clone_into(&mut settings.problem_type);
    let find = |wanted: &str| {
        let mut columns = table.columns.iter().map(|column| &column.name);
        columns.find(|name| name.eq_ignore_ascii_case(wanted)).cloned()
    };
    let suggested = |field: &str| {
        let names = find_field(field).map(|spec| spec.facets.suggestions).unwrap_or_default();
        names.iter().find_map(|name| find(name))
    };
    match kind {
        ProblemType::CausalClassificationModeling | ProblemType::CausalRegressionModeling => {
            "columns".clone_into(&mut settings.layout);
            settings.label_columns =
                label_columns(table).into_iter().map(|column| column.name.clone()).collect();
            settings.answer_column = None;
            settings.system_column = None;
            settings.parent_id_column = None;
            settings.id_column = None;
            let is_free = |name: &String| !settings.label_columns.contains(name);
            let of_texts = || {
                let texts = table.columns.iter().filter(|column| column.kind == ColumnKind::Text);
                texts.map(|column| column.name.clone()).find(is_free)
            };
            let prompt = suggested("dataset.prompt_column")
                .or_else(|| PROMPTS.iter().chain(&JUDGED).find_map(|name| find(name)))
                .filter(is_free)
                .or_else(of_texts);
            settings.prompt_columns = prompt.into_iter().collect();
        }
        ProblemType::DpoModeling => {
            "columns".clone_into(&mut settings.layout);
            settings.rejected_answer_column = rejected_column(table);
            settings.rejected_prompt_column = suggested("dataset.rejected_prompt_column");
            let chosen = || {
                let mut names = table.columns.iter().map(|column| &column.name);
                names.find(|name| name.to_lowercase().starts_with("chosen")).cloned()
            };
            let is_rejected = |name: &String| {
                settings.rejected_answer_column.as_ref() == Some(name)
                    || settings.rejected_prompt_column.as_ref() == Some(name)
            };
            settings.answer_column =
                chosen().or_else(|| settings.answer_column.clone()).filter(|name| !is_rejected(name));
            let is_answer = |name: &String| settings.answer_column.as_ref() == Some(name);
            settings.prompt_columns.retain(|name| !is_rejected(name) && !is_answer(name));
        }
        ProblemType::ContinuedPretraining => {
            "columns".clone_into(&mut settings.layout);
            settings.answer_column = find(TEXT).or_else(|| settings.answer_column.clone());
            settings.prompt_columns.clear();
            settings.system_column = None;
            settings.parent_id_column = None;
            settings.id_column = None;
        }
        ProblemType::CausalLanguageModeling | ProblemType::SequenceToSequenceModeling => {}
    }
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
    if settings.prompt_columns.is_empty() && settings.answer_column.as_deref() != Some(TEXT) {
        settings.prompt_columns = texts(settings).into_iter().take(1).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn gv_11_2_names_decide_before_contents() {
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
    fn columns_tell_what_is_learned() {
        use ColumnKind::{List, Number, Text};
        type Case<'a> = (&'a [(&'a str, ColumnKind)], [&'a str; 3], &'a str, &'a [&'a str], &'a [&'a str]);
        let cases: [Case<'_>; 11] = [
            (&[("text", Text), ("label", Number)], ["0", "2", "1"], "classification", &["text"], &["label"]),
            (
                &[("Sentiment", Number), ("review", Text)],
                ["1", "0", "1"],
                "classification",
                &["review"],
                &["Sentiment"],
            ),
            (&[("text", Text), ("score", Number)], ["0.5", "2", "1"], "regression", &["text"], &["score"]),
            (&[("text", Text), ("target", Number)], ["-1", "2", "1"], "regression", &["text"], &["target"]),
            (
                &[("text", Text), ("label", Text)],
                ["ham", "spam", "ham"],
                "classification",
                &["text"],
                &["label"],
            ),
            (
                &[("question", Text), ("answer", Text), ("score", Number)],
                ["1", "2", "1"],
                "language",
                &["question"],
                &[],
            ),
            (
                &[("prompt", Text), ("rejected", Text), ("chosen", Text)],
                ["a", "b", "c"],
                "dpo",
                &["prompt"],
                &[],
            ),
            (&[("messages", List), ("label", Number)], ["1", "0", "1"], "language", &[], &[]),
            (&[("text", Text)], ["a", "b", "c"], "pretraining", &[], &[]),
            (&[("text", Text), ("file", Text), ("part", Number)], ["a", "b", "c"], "pretraining", &[], &[]),
            (
                &[("instruction", Text), ("label_a", Number), ("label_b", Number)],
                ["1", "0", "1"],
                "classification",
                &["instruction"],
                &["label_a", "label_b"],
            ),
        ];
        for (columns, values, kind, prompts, labels) in cases {
            let mut table = table("rows.csv", 10, columns);
            table.columns.iter_mut().for_each(|column| column.n_unique = Some(2));
            table.rows = values.map(|value| vec![Some(value.to_owned()); columns.len()]).to_vec();
            let guessed = guess(&[table]).unwrap();
            assert!(guessed.problem_type.contains(kind), "{columns:?}: {}", guessed.problem_type);
            assert_eq!(guessed.prompt_columns, prompts, "{columns:?}");
            assert_eq!(guessed.label_columns, labels, "{columns:?}");
            if kind == "dpo" {
                assert_eq!(guessed.answer_column.as_deref(), Some("chosen"));
                assert_eq!(guessed.rejected_answer_column.as_deref(), Some("rejected"));
            }
        }
        // A topic is a label beside one text, and a remark beside a question and its answer.
        let of_few = |columns: &[(&str, ColumnKind)]| {
            let mut table = table("rows.csv", 10, columns);
            table.columns.iter_mut().for_each(|column| column.n_unique = Some(2));
            table
        };
        let topics = of_few(&[("text", Text), ("topic", Text)]);
        assert!(guess(&[topics]).unwrap().problem_type.contains("classification"));
        let remarks = of_few(&[("question", Text), ("what_we_say", Text), ("topic", Text)]);
        assert!(guess(&[remarks]).unwrap().problem_type.contains("language"));
        // Many different texts are answers.
        let mut answers = table("rows.csv", 10, &[("text", Text), ("label", Text)]);
        answers.columns.iter_mut().for_each(|column| column.n_unique = Some(9));
        assert!(guess(&[answers]).unwrap().problem_type.contains("language"));
        // Many different whole numbers are measured, not chosen.
        let mut many = table("rows.csv", 10, &[("text", Text), ("score", Number)]);
        many.columns[1].n_unique = Some(9);
        assert!(guess(&[many]).unwrap().problem_type.contains("regression"));
    }

    #[test]
    fn gv_3_3_the_longest_problem_type_in_a_name_decides() {
        let columns = [("text", ColumnKind::Text), ("points", ColumnKind::Number)];
        let guessed = guess(&[table("My text-causal-regression-modeling rows.csv", 10, &columns)]).unwrap();
        assert_eq!(guessed.problem_type, "text_causal_regression_modeling");
        assert_eq!((guessed.answer_column, guessed.label_columns), (None, Vec::<String>::new()));
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
