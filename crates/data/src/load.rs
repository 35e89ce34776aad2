//! From the configuration to the conversations of both sides: read, lay out, split, sample, chain.

use std::path::Path;

use tunesmith_config::{DataPart, ExperimentConfig, ValidationStrategy};

use crate::columns::Purpose;
use crate::conversation::{Conversation, mismatch};
use crate::error::{DataError, Result};
use crate::label_map::{FoundLabels, check_seen, find_labels, no_curve_note, unseen_note};
use crate::layouts::{LaidOut, lay_out};
use crate::split::Split;
use crate::table::{Table, read_table_with};
use crate::table_options::TableOptions;

/// Everything the run learns from and is measured on.
#[derive(Debug, Clone, PartialEq)]
pub struct Splits {
    /// Training conversations.
    pub train: Vec<Conversation>,
    /// Validation conversations.
    pub validation: Vec<Conversation>,
    /// What the reader decided and noticed, as sentences for the user.
    pub notes: Vec<String>,
    /// Those of them that say what was unusual: what is not used, what was left out, what the file is like.
    pub findings: Vec<String>,
    /// The classes, where the experiment learns any: [`FoundLabels::set_in`] makes a configuration that has them.
    pub labels: Option<FoundLabels>,
}

/// Reads the tables and makes both sides.
///
/// The order of steps: rows are laid out as rounds (and personalised), split, sampled, chained into conversations;
/// then validation conversations are added to the training ones if `training.train_validation_data` says so. The
/// result depends on the files and the dataset settings only, not on the seed.
///
/// Row numbers of the two sides are positions in their table; validation rows that are added to training rows of
/// another table are numbered after them.
pub fn load_splits(config: &ExperimentConfig) -> Result<Splits> {
    let table = read(&config.dataset.train_dataframe, config)?;
    let are_labels_given = !config.dataset.class_names.is_empty();
    let (labels, label_notes) = find_labels(&table, config)?.unzip();
    // From here on the classes are those of the training table.
    let mut config = config.clone();
    labels.iter().for_each(|labels: &FoundLabels| labels.set_in(&mut config));
    let config = &config;
    let dataset = &config.dataset;
    let train_table = open(&table, config, Purpose::Train)?;
    drop(table);
    let mut notes = train_table.laid_out.notes.clone();
    let mut findings = train_table.laid_out.findings.clone();
    let label_notes = label_notes.unwrap_or_default();
    notes.extend(label_notes.iter().cloned());
    findings.extend(label_notes);
    let custom_table = match dataset.validation_strategy {
        ValidationStrategy::Automatic => None,
        ValidationStrategy::Custom => {
            let path = dataset.validation_dataframe.as_deref().ok_or_else(|| DataError::Setting {
                field: "dataset.validation_dataframe",
                reason: "no validation table is named, but dataset.validation_strategy is custom".to_owned(),
            })?;
            let table = read(path, config)?;
            if !are_labels_given {
                check_seen(&table, config)?;
            }
            Some(open(&table, config, Purpose::Validation)?)
        }
    };
    let train_source = &train_table.laid_out;
    let (split, validation_source) = match &custom_table {
        Some(table) => {
            notes.extend(table.laid_out.notes.iter().cloned());
            findings.extend(table.laid_out.findings.iter().cloned());
            (Split { train: train_source.all(), validation: table.laid_out.all() }, &table.laid_out)
        }
        None => (train_source.split(dataset.validation_size), train_source),
    };
    if split.train.is_empty() {
        let reason = format!(
            "validation takes all of the data ({}); choose a smaller dataset.validation_size or a custom validation \
             table",
            split.validation.len()
        );
        return Err(DataError::Setting { field: "dataset.validation_size", reason });
    }

    let side = |source: &LaidOut, positions: Vec<usize>, part: DataPart| {
        let is_sampled = dataset.data_sample < 1.0 && dataset.data_sample_choice.contains(&part);
        let positions = if is_sampled { source.sample(&positions, dataset.data_sample) } else { positions };
        source.conversations(&positions, dataset.limit_chained_samples)
    };
    let mut train = side(train_source, split.train, DataPart::Train)?;
    let mut validation = side(validation_source, split.validation, DataPart::Validation)?;
    if config.training.train_validation_data {
        notes.push(format!("{} validation conversations are trained on as well", validation.len()));
        let first_row = if custom_table.is_some() { train_table.n_rows } else { 0 };
        train.extend(validation.iter().map(|conversation| renumbered(conversation, first_row)));
    }
    mismatch(&mut train);
    mismatch(&mut validation);
    notes.push(format!("{} training and {} validation conversations", train.len(), validation.len()));
    if labels.is_some() {
        let values = |side: &[Conversation]| side.iter().map(|one| one.values().to_vec()).collect::<Vec<_>>();
        let validation = values(&validation);
        let unusual = [unseen_note(config, &values(&train), &validation), no_curve_note(config, &validation)];
        notes.extend(unusual.iter().flatten().cloned());
        findings.extend(unusual.into_iter().flatten());
    }
    Ok(Splits { train, validation, notes, findings, labels })
}

struct OpenTable {
    laid_out: LaidOut,
    /// One more than the largest row number.
    n_rows: usize,
}

fn read(path: &str, config: &ExperimentConfig) -> Result<Table> {
    read_table_with(Path::new(path), &TableOptions::from_config(&config.dataset))
}

fn open(table: &Table, config: &ExperimentConfig, purpose: Purpose) -> Result<OpenTable> {
    let laid_out = lay_out(table, config, purpose)?;
    let n_rows = laid_out.n_row_numbers().max(table.n_rows());
    Ok(OpenTable { laid_out, n_rows })
}

/// The same conversation with row numbers that start later.
fn renumbered(conversation: &Conversation, first_row: usize) -> Conversation {
    let mut conversation = conversation.clone();
    conversation.row += first_row;
    for round in &mut conversation.rounds {
        round.row += first_row;
    }
    conversation
}
