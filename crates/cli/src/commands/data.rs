//! `tunesmith data`: bring data here, and look at it the way the model will.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use tunesmith_data::{Preview, PreviewOptions, RenderOptions};
use tunesmith_formats::model_source::ModelSource;

use super::data_fetch::{self, FetchArgs};
use crate::experiment::{self, Overrides};
use crate::failure::Failure;
use crate::model_store;
use crate::terminal::Terminal;

/// Bring data here, and look at it the way the model will
#[derive(Debug, Subcommand)]
pub(crate) enum DataCommand {
    Fetch(FetchArgs),
    Preview(PreviewArgs),
}

/// Show exactly which tokens a model would see, and which of them it would learn
///
/// A few samples token by token, with what is learned set off from what is only read, special tokens visible and sample
/// boundaries drawn, or of a classification or regression what it would predict; then lengths, cuts and packing over the whole
/// table, notes on how it was read, and warnings: answers that never end, a doubled beginning, nothing left to learn. Only the
/// tokenizer of the model is used.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  tunesmith data preview rows.jsonl -Y cfg.yaml
  tunesmith data preview rows.csv -Y cfg.yaml --model demo --samples 5 --set tokenizer.max_length=128
  tunesmith data preview rows.csv -Y cfg.yaml --row 17 --row 4711
  tunesmith data preview rows.csv -Y cfg.yaml --json | jq .statistics")]
pub(crate) struct PreviewArgs {
    /// Table: csv, tsv, json, jsonl, parquet or arrow; texts among them also as .gz or .zst
    file: PathBuf,

    /// Experiment file (YAML): columns, text format, lengths, packing
    #[arg(short = 'Y', long = "yaml", value_name = "FILE")]
    yaml: PathBuf,

    #[command(flatten)]
    overrides: Overrides,

    /// How many samples to show, from the first on
    #[arg(long, value_name = "N", default_value_t = 3)]
    samples: usize,

    /// Show the sample of this row instead, counted from 0; may be repeated
    #[arg(long = "row", value_name = "N")]
    rows: Vec<usize>,

    /// Show at most so many tokens of a sample, half from either end; 0 shows all
    #[arg(long, value_name = "N", default_value_t = 0)]
    max_tokens: usize,

    /// Draw a thin line between tokens
    #[arg(long)]
    boundaries: bool,

    /// Print one JSON object: samples, statistics, packing, notes, warnings
    #[arg(long)]
    json: bool,
}

/// Runs one of the subcommands.
pub(crate) fn run(command: &DataCommand, terminal: &Terminal) -> Result<(), Failure> {
    match command {
        DataCommand::Fetch(args) => data_fetch::run(args, terminal),
        DataCommand::Preview(args) => preview(args, terminal),
    }
}

fn preview(args: &PreviewArgs, terminal: &Terminal) -> Result<(), Failure> {
    let mut config = experiment::load(&args.yaml, &args.overrides, terminal)?;
    let splits = experiment::whole_table(&config, &args.file)?;
    splits.labels.iter().for_each(|labels| labels.set_in(&mut config));
    let model = model_store::backbone(&config, terminal)?;
    let tokenizer = ModelSource::open(&model.path)?.tokenizer()?;

    let options = PreviewOptions { n_samples: args.samples, rows: args.rows.clone(), cache_dir: None };
    let mut preview = Preview::build(&config, &tokenizer, &splits.train, &options)?;
    preview.notes = splits.notes;
    if args.json {
        terminal.line(preview.to_json());
        return Ok(());
    }
    let options = RenderOptions {
        colour: terminal.is_coloured(),
        width: terminal.width(),
        max_tokens: args.max_tokens,
        show_boundaries: args.boundaries,
    };
    terminal.stream(&preview.render(&options));
    Ok(())
}
