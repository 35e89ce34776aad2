//! `tunesmith export`: the result of a run in the forms other programs load.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::json;
use tunesmith_formats::StoreDtype;
use tunesmith_ops::open_device;
use tunesmith_train::ExportKind;

use crate::failure::{Exit, Failure};
use crate::talker;
use crate::terminal::{Style, Terminal, human_secs};

/// Write the result of a run as an adapter or a merged model
///
/// An adapter is small and goes with its base model (PEFT's format, with tokenizer and chat template). A merged model is a whole one (Hugging Face format,
/// with tokenizer and chat template), ready for transformers, llama.cpp's converter or `tunesmith chat`. Before the folder
/// appears it is read back and must give the logits of the trained model, within a bound that is printed.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  tunesmith export runs/first --output first-adapter
  tunesmith export runs/first --output first-merged --format merged --dtype bf16
  tunesmith export runs/first --output before --checkpoint best --format merged")]
pub(crate) struct ExportArgs {
    /// Run folder
    #[arg(value_name = "RUN_DIR")]
    run_dir: PathBuf,

    /// Folder to write; must not exist
    #[arg(long, value_name = "DIR")]
    output: PathBuf,

    /// What to write
    #[arg(long, value_enum, default_value_t = Form::Adapter)]
    format: Form,

    /// Number format of a merged model's weights [default: the base model's own, bf16 where that is quantized]
    #[arg(long, value_enum)]
    dtype: Option<Dtype>,

    /// Checkpoint of the run instead of its result: last, best, step_N
    #[arg(long, value_name = "NAME")]
    checkpoint: Option<String>,

    /// Print one JSON object: path, worst_logit_difference, logit_difference_bound, secs
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// PEFT adapter
    Adapter,
    /// Whole model with the adapter folded in
    Merged,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Dtype {
    /// 32 bits: exactly what was trained
    F32,
    /// 16 bits, wide range
    Bf16,
    /// 16 bits, more digits
    F16,
}

/// Exports.
pub(crate) fn run(args: &ExportArgs, terminal: &Terminal) -> Result<(), Failure> {
    refuse(args)?;
    let run = talker::open_run(&args.run_dir, terminal)?;
    let kind = match args.format {
        Form::Adapter => ExportKind::Adapter,
        Form::Merged => ExportKind::Model,
    };
    let dtype = args.dtype.map(|dtype| match dtype {
        Dtype::F32 => StoreDtype::F32,
        Dtype::Bf16 => StoreDtype::BF16,
        Dtype::F16 => StoreDtype::F16,
    });
    if terminal.is_interactive() {
        terminal.note("writing, reading back and comparing …");
    }
    let weights = talker::weights(args.checkpoint.as_deref());
    let report = run.export(&weights, kind, dtype, &open_device("cpu")?, &args.output)?;
    if args.json {
        return terminal.json(&json!({
            "path": report.path,
            "worst_logit_difference": report.worst_logit_difference,
            "logit_difference_bound": report.logit_difference_bound,
            "secs": report.secs,
        }));
    }
    terminal.line(format_args!(
        "{} {} in {}; its logits are those of the trained model within {:.1e} (bound {:.1e})",
        terminal.paint(Style::Green, "exported:"),
        report.path.display(),
        human_secs(report.secs),
        report.worst_logit_difference,
        report.logit_difference_bound
    ));
    Ok(())
}

/// What is wrong with the command line alone, before anything is loaded.
fn refuse(args: &ExportArgs) -> Result<(), Failure> {
    if args.format == Form::Adapter && args.dtype.is_some_and(|dtype| dtype != Dtype::F32) {
        return Err(Failure::new(Exit::Usage, "an adapter is written in float32")
            .hint("leave out --dtype, or write the whole model with --format merged"));
    }
    if args.output.exists() {
        return Err(Failure::new(Exit::Output, format!("{} exists already", args.output.display()))
            .hint("give a folder that does not exist yet"));
    }
    Ok(())
}
