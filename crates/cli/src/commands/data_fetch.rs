//! `tunesmith data fetch`: tables from elsewhere into a folder of this machine.

use std::cell::RefCell;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use tunesmith_sources::{Fetched, HubDataset, Listing, Progress, Source, SourceError, Task};

use crate::failure::{Exit, Failure};
use crate::interrupt;
use crate::terminal::{Bar, Terminal};

const N_BYTES_PER_MB: u64 = 1_000_000;
const N_MB_PER_GB: u64 = 1_000;

/// Fetch tables from the web, the Hugging Face hub, Kaggle or cloud storage
///
/// An address is one of: https://host/rows.csv; hf://datasets/owner/name, with @REVISION for a branch, tag or commit;
/// kaggle://owner/name, or kaggle://owner/name/file.csv; s3://bucket/key, az://container/key, gs://bucket/key, where a key
/// with a slash at its end stands for all tables of that folder. Zip archives are unpacked; nothing but tables stays.
///
/// After an interruption the same command goes on where it was, as long as the file there is still the same. Credentials
/// come from the environment variables of each service's own tools, and are never shown.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  tunesmith data fetch https://example.org/rows.csv -o rows
  tunesmith data fetch hf://datasets/openai/gsm8k -o gsm8k --config main --split train
  tunesmith data fetch hf://datasets/owner/name@v1.0 -o rows
  KAGGLE_USERNAME=… KAGGLE_KEY=… tunesmith data fetch kaggle://owner/name -o rows
  AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=… tunesmith data fetch s3://bucket/chats/ -o chats
  AZURE_STORAGE_CONNECTION_STRING=… tunesmith data fetch az://container/rows.parquet -o rows
  GOOGLE_APPLICATION_CREDENTIALS=key.json tunesmith data fetch gs://bucket/rows.jsonl -o rows
  tunesmith data fetch s3://bucket/chats/ --list")]
pub(crate) struct FetchArgs {
    /// Where the tables are: https, hf, kaggle, s3, az or gs and ://…, or a path
    address: String,

    /// Folder for the tables
    #[arg(short, long, value_name = "DIR", required_unless_present = "list")]
    output: Option<PathBuf>,

    /// Only say what can be fetched there: of buckets and of data sets on Kaggle
    #[arg(long, conflicts_with = "output")]
    list: bool,

    /// Split of a data set of the hub [default: train]
    #[arg(long, value_name = "NAME")]
    split: Option<String>,

    /// Configuration of a data set of the hub; default: its first
    #[arg(long, value_name = "NAME")]
    config: Option<String>,

    /// Refuse what is larger than so many GB, also when it is unpacked
    #[arg(long, value_name = "N", default_value_t = 100)]
    max_gb: u64,

    /// Print one JSON object: name, source, tables; or folders, files with --list
    #[arg(long)]
    json: bool,
}

/// Fetches or lists.
pub(crate) fn run(args: &FetchArgs, terminal: &Terminal) -> Result<(), Failure> {
    let source = source(args)?.with_environment()?;
    let Some(folder) = &args.output else { return list(&source, args.json, terminal) };
    let stop = interrupt::stop_on_ctrl_c("stopping; what has arrived stays")?;
    let shown = RefCell::new(Shown { terminal, bar: None, n_total_mb: None });
    let on_progress = |progress: Progress<'_>| shown.borrow_mut().show(progress);
    let is_cancelled = || stop.is_raised();
    let max_bytes = args.max_gb.saturating_mul(N_MB_PER_GB * N_BYTES_PER_MB);
    let task = Task { max_bytes, on_progress: &on_progress, is_cancelled: &is_cancelled };
    let outcome = source.fetch(folder, &task);
    shown.into_inner().finish();
    let Fetched { name, source, tables } = outcome?;
    if args.json {
        return terminal.json(&json!({"name": name, "source": source, "tables": tables}));
    }
    tables.iter().for_each(|table| terminal.line(table.display()));
    Ok(())
}

fn source(args: &FetchArgs) -> Result<Source, Failure> {
    match Source::parse(&args.address)? {
        Source::Hub(hub) => {
            let split = args.split.clone().unwrap_or(hub.split);
            Ok(Source::Hub(HubDataset { split, config: args.config.clone(), ..hub }))
        }
        _ if args.split.is_some() || args.config.is_some() => Err(Failure::new(
            Exit::Usage,
            "--split and --config choose within a data set of the hub, and this address is none",
        )
        .hint("write hf://datasets/owner/name")),
        source => Ok(source),
    }
}

fn list(source: &Source, as_json: bool, terminal: &Terminal) -> Result<(), Failure> {
    let Listing { folders, objects, is_cut } = source.list()?;
    if as_json {
        let file = |object: &tunesmith_sources::Object| json!({"key": object.key, "n_bytes": object.n_bytes});
        let files: Vec<_> = objects.iter().map(file).collect();
        return terminal.json(&json!({"folders": folders, "files": files, "is_cut": is_cut}));
    }
    folders.iter().for_each(|folder| terminal.line(folder));
    let width = objects.iter().map(|object| object.key.chars().count()).max().unwrap_or(0);
    for object in &objects {
        terminal.line(format_args!("{:<width$}  {:>13} bytes", object.key, object.n_bytes));
    }
    if is_cut {
        terminal.note("there is more; name a folder to see what is in it");
    }
    Ok(())
}

/// A bar over the bytes of all files, and a line for each thing it does.
struct Shown<'a> {
    terminal: &'a Terminal,
    bar: Option<Bar>,
    n_total_mb: Option<u64>,
}

impl Shown<'_> {
    fn show(&mut self, progress: Progress<'_>) {
        match progress {
            Progress::Doing(words) => self.say(words),
            Progress::Retrying(reason) => self.say(&format!("{reason}; going on from there")),
            Progress::Bytes { done, total } => {
                let n_total_mb = total.map(|total| total.div_ceil(N_BYTES_PER_MB));
                if self.bar.is_none() || self.n_total_mb != n_total_mb {
                    self.finish();
                    self.n_total_mb = n_total_mb;
                    self.bar = Some(match n_total_mb {
                        Some(n_total_mb) => self.terminal.bar("fetching MB", n_total_mb),
                        None => self.terminal.counter("fetching MB"),
                    });
                }
                if let Some(bar) = &mut self.bar {
                    bar.update(done.div_ceil(N_BYTES_PER_MB), "");
                }
            }
        }
    }

    fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.say(text),
            None => self.terminal.note(text),
        }
    }

    fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish();
        }
    }
}

impl From<SourceError> for Failure {
    fn from(error: SourceError) -> Self {
        let exit = match error {
            SourceError::Data(error) => return Self::from(*error),
            SourceError::Address { .. } | SourceError::Choice { .. } => Exit::Usage,
            SourceError::NotATable { .. }
            | SourceError::NoTable { .. }
            | SourceError::Archive { .. }
            | SourceError::TooLarge { .. } => Exit::Data,
            SourceError::Io { action: "read" | "open" | "list", .. } => Exit::Data,
            SourceError::Io { .. } | SourceError::Exists { .. } | SourceError::Busy { .. } => Exit::Output,
            SourceError::Cancelled => {
                return Self::new(Exit::Interrupted, "interrupted")
                    .hint("the same command goes on where it was");
            }
            _ => Exit::Network,
        };
        Self::from_error(exit, &error, error.hint())
    }
}
