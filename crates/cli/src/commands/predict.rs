//! `tunesmith predict`: what the result of a run makes of the rows of a table.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use tunesmith_config::ExperimentConfig;
use tunesmith_data::{Assembler, Questions, load_questions, training_tokenizer};
use tunesmith_ops::{open_device, set_threads};
use tunesmith_train::{Predicted, predict};

use crate::experiment::{self, Overrides};
use crate::failure::{Exit, Failure};
use crate::interrupt::stop_on_ctrl_c;
use crate::talker;
use crate::terminal::{Style, Terminal};

/// Predict classes, numbers or answers for the rows of a table
///
/// The rows are read as the run read its own: with the same prompt columns, system text and format. Columns of answers may be
/// missing, and are not looked at. The result is a CSV with all columns of the table and, behind them, `prediction`, and for
/// classes `probability`; with several labels or numbers each has its own, such as `prediction_joy`. Runs of language models
/// answer as their prediction settings say.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  tunesmith predict runs/spam --data new.csv --output spam.csv
  tunesmith predict runs/first --data questions.jsonl --output answers.csv --set prediction.max_length_inference=64
  tunesmith predict runs/first --data questions.jsonl --output answers.csv --checkpoint best --rows 10")]
pub(crate) struct PredictArgs {
    /// Run folder
    #[arg(value_name = "RUN_DIR")]
    run_dir: PathBuf,

    /// Table: csv, tsv, json, jsonl, parquet or arrow; texts among them also as .gz or .zst
    #[arg(long, value_name = "FILE")]
    data: PathBuf,

    /// CSV file to write; must not exist
    #[arg(long, short = 'o', value_name = "FILE")]
    output: PathBuf,

    /// Only the first N rows; 0 means all
    #[arg(long, value_name = "N", default_value_t = 0)]
    rows: usize,

    /// Checkpoint of the run instead of its result: last, best, step_N
    #[arg(long, value_name = "NAME")]
    checkpoint: Option<String>,

    /// Change one setting of the run, e.g. prediction.batch_size_inference=16; may be repeated
    #[arg(long = "set", value_name = "FIELD=VALUE")]
    settings: Vec<String>,

    /// Compute on this device: auto, cpu, cuda, cuda:1, metal, vulkan, …
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: String,

    /// Threads to compute with; 0 means all. The result does not depend on it
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: usize,

    /// Print one JSON object: path, rows, predicted, columns
    #[arg(long)]
    json: bool,
}

/// Predicts.
pub(crate) fn run(args: &PredictArgs, terminal: &Terminal) -> Result<(), Failure> {
    if args.output.exists() {
        return Err(Failure::new(Exit::Output, format!("{} exists already", args.output.display()))
            .hint("give a file that does not exist yet"));
    }
    let stop = stop_on_ctrl_c("stopping; nothing is written")?;
    set_threads(args.threads)?;
    let run = talker::open_run(&args.run_dir, terminal)?;
    let mut config = run.config().clone();
    change_prediction(&mut config, &args.settings)?;
    let questions = load_questions(&config, &args.data, (args.rows > 0).then_some(args.rows))?;
    if terminal.is_interactive() {
        questions.notes.iter().for_each(|note| terminal.note(note));
    }
    let tokenizer = training_tokenizer(&config, run.tokenizer())?;
    let assembler = Assembler::new(&config, &tokenizer)?;
    let model = run.model(&talker::weights(args.checkpoint.as_deref()), &open_device(&args.device)?)?;

    let conversations = &questions.conversations;
    let mut bar = terminal.bar("row", conversations.len() as u64);
    let seed = run.record().seed;
    let predicted = predict(&model, &config, &assembler, conversations, seed, &stop, &mut |n_done| {
        bar.update(n_done as u64, "");
    })?;
    bar.finish();
    let Some(predicted) = predicted else {
        return Err(Failure::new(Exit::Interrupted, "stopped before all rows were done")
            .hint("give the command again; --rows takes fewer rows"));
    };
    predicted.write_csv(&questions.table, &args.output)?;
    tell(args, &questions, &predicted, terminal)
}

/// Changes how answers are generated; anything else would make it another run.
fn change_prediction(config: &mut ExperimentConfig, settings: &[String]) -> Result<(), Failure> {
    for setting in settings {
        if !setting.trim_start().starts_with("prediction.") {
            return Err(Failure::new(
                Exit::Usage,
                format!("--set {setting}: a trained run keeps its settings"),
            )
            .hint("only fields of the section `prediction` can be changed here"));
        }
    }
    experiment::apply(config, &Overrides { settings: settings.to_vec(), ..Overrides::default() })
}

fn tell(
    args: &PredictArgs,
    questions: &Questions,
    predicted: &Predicted,
    terminal: &Terminal,
) -> Result<(), Failure> {
    let (path, n_rows, n_predicted) = (&args.output, questions.table.n_rows(), predicted.rows.len());
    if args.json {
        return terminal.json(&json!({
            "path": path,
            "rows": n_rows,
            "predicted": n_predicted,
            "columns": predicted.columns,
        }));
    }
    terminal.line(format_args!(
        "{} {n_predicted} rows in {}, in the columns {}",
        terminal.paint(Style::Green, "predicted:"),
        path.display(),
        predicted.columns.join(", ")
    ));
    if n_predicted < n_rows {
        terminal.warning(format_args!("{} rows ask nothing and have no prediction", n_rows - n_predicted));
    }
    Ok(())
}
