//! `tunesmith train`: one experiment file in, one run folder out.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use tunesmith_config::{ExperimentConfig, Metric};
use tunesmith_data::printable_label;
use tunesmith_formats::model_source::ModelSource;
use tunesmith_ops::{ChosenDevice, choose_device, open_chosen};
use tunesmith_trackers::Destination;
use tunesmith_train::{
    EndReason, JudgeEndpoint, LEAST_FREE_DISK_BYTES, Observer, Profile, RunFolder, RunRequest, RunStatus,
    RunSummary, StopFlag, is_finished, parse_disk_size, run as train,
};

use crate::experiment::{self, Overrides};
use crate::failure::{Exit, Failure};
use crate::interrupt::stop_on_ctrl_c;
use crate::memory::{self, human_bytes};
use crate::model_store::{self, Origin};
use crate::out_of_memory;
use crate::profile;
use crate::progress::{JsonEvents, TrainProgress};
use crate::terminal::{Style, Table, Terminal, human_secs};
use crate::tracking::{self, Watcher};

/// Fine-tune a model
///
/// Reads an experiment file, fetches the model if need be, trains, and writes everything into one run folder: settings,
/// events, checkpoints and the result. Ctrl-C writes a checkpoint and leaves; `--resume` continues as if nothing had
/// happened, also after a crash or a power cut.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  tunesmith train -Y cfg.yaml
  tunesmith train -Y cfg.yaml --data rows.jsonl --model demo --output runs/first
  tunesmith train -Y cfg.yaml --set training.epochs=3 --set training.learning_rate=5e-4
  tunesmith train --resume runs/first
  tunesmith train --resume runs/first --set training.epochs=4
  tunesmith train -Y cfg.yaml --output runs/first --resume
  tunesmith train -Y cfg.yaml --profile
  tunesmith train -Y cfg.yaml --json | jq 'select(.event == \"step\") | .loss'

Look at the data first with `tunesmith data preview`.")]
pub(crate) struct TrainArgs {
    /// Experiment file (YAML), also one of H2O LLM Studio
    #[arg(short = 'Y', long = "yaml", value_name = "FILE", required_unless_present = "resume")]
    yaml: Option<PathBuf>,

    /// Train on this table instead of dataset.train_dataframe
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,

    #[command(flatten)]
    overrides: Overrides,

    /// Run folder to write; default: output_directory of the experiment file
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,

    /// Continue a run from its last checkpoint, with the settings it was started with
    ///
    /// A finished run goes on when `--set` gives it more epochs (training.epochs) or steps (training.max_steps) than before.
    /// Alone it names the run folder. Besides -Y it stands without a folder: continue what this command line started, or start
    /// it if there is nothing yet, which suits machines that may go away at any time.
    #[arg(long, value_name = "RUN_DIR", num_args = 0..=1)]
    resume: Option<Option<PathBuf>>,

    /// Show at the end where the time of the training steps went, operation by operation
    ///
    /// Also stored in the run folder as profile.json. Measures first, for half a second, what this machine can do at most. The
    /// results are the same with and without.
    #[arg(long)]
    profile: bool,

    /// Print the run's events as JSON, one a line, and a last line with the result
    #[arg(long)]
    json: bool,
}

/// Trains.
pub(crate) fn run(args: &TrainArgs, terminal: &Terminal) -> Result<(), Failure> {
    let mut plan = plan(args, terminal)?;
    experiment::refuse_errors(&plan.config)?;
    // Before a model is fetched for it.
    let judge = judge(&plan.config)?;
    let destination = tracking::destination(&plan.config, &plan.run_dir)?;
    let device = choose_device(&plan.config.environment.device, plan.config.environment.first_gpu())?;
    let model = model_store::backbone(&plan.config, terminal)?;
    warn_about_memory(&model.path, &plan.config, device, terminal)?;
    if model.source != Origin::Path {
        // The name by which other programs find the base of the adapter, too.
        plan.config.llm_backbone.clone_from(&model.model);
    }
    let request = RunRequest {
        config: plan.config,
        run_dir: plan.run_dir.clone(),
        resume: args.resume.is_some(),
        model_path: model.path,
        cache_dir: Some(model_store::cache_dir()?.join("tokens")),
        judge,
        least_free_disk_bytes: least_free_disk_bytes(terminal),
        profile: args.profile,
    };
    let is_finished = is_finished(&request)?;
    if is_finished {
        terminal.note(format_args!(
            "the run in {} is finished, so nothing is trained; `--set training.epochs=…` with more than before goes on \
             with it, and a new run with it as architecture.pretrained_weights begins from its result",
            request.run_dir.display()
        ));
    }
    let stop = stop_on_ctrl_c("stopping after this batch and writing a checkpoint")?;
    if args.json {
        let summary = tracked(&request, destination, &mut JsonEvents::new(terminal), &stop, terminal)?;
        terminal.json(&json!({"event": "result", "summary": summary}))?;
        return leave(&summary);
    }
    let summary = tracked(&request, destination, &mut TrainProgress::new(terminal), &stop, terminal)?;
    if args.profile
        && !is_finished
        && let Some(account) = Profile::read(&RunFolder::new(&request.run_dir).profile())?
    {
        profile::show(&account, terminal);
    }
    leave(&summary)?;
    report(&summary, terminal);
    Ok(())
}

/// Trains while a tracker, if there is one, follows; it also gets what is missing of a run that is finished already.
fn tracked(
    request: &RunRequest,
    destination: Option<Destination>,
    shown: &mut dyn Observer,
    stop: &StopFlag,
    terminal: &Terminal,
) -> Result<RunSummary, Failure> {
    let mut watcher = Watcher::new(shown, destination, request);
    let summary = train(request, &mut watcher, stop);
    watcher.finish(terminal);
    Ok(summary?)
}

/// Who grades answers; asked for only where the metric is that, so that nobody's variables matter otherwise.
fn judge(config: &ExperimentConfig) -> Result<Option<JudgeEndpoint>, Failure> {
    if config.prediction.metric != Metric::Gpt {
        return Ok(None);
    }
    Ok(JudgeEndpoint::from_variables(|name| std::env::var(name).ok())?)
}

/// What has to be free on the disk, as MIN_DISK_SPACE_FOR_EXPERIMENTS says.
fn least_free_disk_bytes(terminal: &Terminal) -> u64 {
    let Ok(text) = std::env::var("MIN_DISK_SPACE_FOR_EXPERIMENTS") else { return LEAST_FREE_DISK_BYTES };
    parse_disk_size(&text).unwrap_or_else(|| {
        terminal.warning(format_args!(
            "MIN_DISK_SPACE_FOR_EXPERIMENTS={text} is no size such as 2GB or 500MB; 2GB is used"
        ));
        LEAST_FREE_DISK_BYTES
    })
}

/// What to train and where.
struct Plan {
    config: ExperimentConfig,
    run_dir: PathBuf,
}

fn plan(args: &TrainArgs, terminal: &Terminal) -> Result<Plan, Failure> {
    if let Some(Some(run_dir)) = &args.resume {
        return plan_of_run(args, run_dir, terminal);
    }
    let Some(yaml) = &args.yaml else {
        return Err(Failure::new(
            Exit::Usage,
            "--resume names no run folder and there is no experiment file",
        )
        .hint("write `tunesmith train --resume RUN_DIR`"));
    };
    let mut config = experiment::load(yaml, &args.overrides, terminal)?;
    if let Some(data) = &args.data {
        config.dataset.train_dataframe = data.display().to_string();
    }
    experiment::make_paths_absolute(&mut config);
    let run_dir = args.output.clone().unwrap_or_else(|| PathBuf::from(&config.output_directory));
    config.output_directory = run_dir.display().to_string();
    Ok(Plan { config, run_dir })
}

/// A run is resumed with the settings in its own folder; only what the command line says now is changed.
fn plan_of_run(args: &TrainArgs, run_dir: &Path, terminal: &Terminal) -> Result<Plan, Failure> {
    if args.yaml.is_some() || args.output.is_some() || args.data.is_some() {
        return Err(Failure::new(
            Exit::Usage,
            "--resume RUN_DIR takes settings, data and place from the run folder",
        )
        .hint("leave out -Y, --data and --output"));
    }
    let path = RunFolder::new(run_dir).config();
    if !path.is_file() {
        return Err(Failure::new(
            Exit::Usage,
            format!("{} is not a run folder: it has no cfg.yaml", run_dir.display()),
        )
        .hint("give the folder that `tunesmith train` wrote to"));
    }
    let config = experiment::load(&path, &args.overrides, terminal)?;
    Ok(Plan { config, run_dir: run_dir.to_owned() })
}

/// A run that will not fit is better not started; but the figure is rough, so the user decides.
fn warn_about_memory(
    model: &Path,
    config: &ExperimentConfig,
    device: ChosenDevice,
    terminal: &Terminal,
) -> Result<(), Failure> {
    let source = ModelSource::open(model)?;
    let needed = memory::least_bytes(&source, config, &open_chosen(device));
    let remedy = memory::remedy(&source, config);
    if let Some(available) = device.free_memory_bytes()
        && available < needed
    {
        terminal.warning(format_args!(
            "this will take at least about {} of memory and {} are free; {remedy}",
            human_bytes(needed),
            human_bytes(available)
        ));
    }
    out_of_memory::set_remedy(remedy);
    Ok(())
}

/// A run that was asked to stop ends the program like the interrupted work it is.
pub(crate) fn leave(summary: &RunSummary) -> Result<(), Failure> {
    if summary.status != RunStatus::Stopped {
        return Ok(());
    }
    let run_dir = summary.run_dir.display();
    let what = format!(
        "stopped after step {} of {}; the checkpoint is in {run_dir}",
        summary.n_steps_done, summary.n_steps
    );
    Err(Failure::new(Exit::Interrupted, what)
        .hint(format!("continue with `tunesmith train --resume {run_dir}`")))
}

/// What came out, where it is and what to do with it.
pub(crate) fn report(summary: &RunSummary, terminal: &Terminal) {
    let run_dir = summary.run_dir.display();
    let loss = summary.train_loss.map(|loss| format!(", training loss {loss:.4}")).unwrap_or_default();
    let metric = match (&summary.metric, summary.validation_metric) {
        (Some(name), Some(value)) => format!(", validation {name} {value:.3}"),
        _ => String::new(),
    };
    terminal.line(format_args!(
        "{} {} steps in {}{loss}{metric}",
        terminal.paint(Style::Green, "finished:"),
        summary.n_steps_done,
        human_secs(summary.run_secs),
    ));
    if summary.end_reason == EndReason::EarlyStopping {
        terminal.line(format_args!(
            "  ended before step {}: evaluations brought nothing better (training.early_stopping_patience)",
            summary.n_steps
        ));
    }
    if summary.n_skipped_steps > 0 {
        terminal.warning(format_args!(
            "{} of these steps were left out because their loss or gradient was not finite; logs.log names the rows",
            summary.n_skipped_steps
        ));
    }
    let paths = [
        ("run folder", Some(&summary.run_dir)),
        ("adapter", summary.adapter_dir.as_ref()),
        ("model", summary.model_dir.as_ref()),
    ];
    for (name, path) in paths {
        if let Some(path) = path {
            terminal.line(format_args!("  {name:<11} {}", path.display()));
        }
    }
    show_confusion(summary, terminal);
    terminal.heading("next");
    // Perplexity is there where text is learned; only such a model can be talked to.
    if summary.validation_perplexity.is_some() || summary.validation_metric.is_none() {
        let chat = format!("tunesmith chat {run_dir}");
        terminal.line(format_args!("  {}", terminal.paint(Style::Cyan, &chat)));
    } else {
        let predict = format!("tunesmith predict {run_dir} --data new.csv --output predictions.csv");
        terminal.line(format_args!("  {}", terminal.paint(Style::Cyan, &predict)));
    }
    let export = format!("tunesmith export {run_dir} --output {run_dir}-merged --format merged");
    terminal.line(format_args!("  {}", terminal.paint(Style::Cyan, &export)));
}

/// What was taken for what in the last validation, where classes are few enough for a line.
fn show_confusion(summary: &RunSummary, terminal: &Terminal) {
    const MOST_CLASSES: usize = 12;

    let path = RunFolder::new(&summary.run_dir).predictions_about();
    let about: Option<serde_json::Value> =
        std::fs::read(path).ok().and_then(|text| serde_json::from_slice(&text).ok());
    let tables = about.as_ref().and_then(|about| about.get("confusion")?.as_array());
    for table in tables.into_iter().flatten() {
        let rows: Vec<&Vec<serde_json::Value>> =
            table["counts"].as_array().into_iter().flatten().filter_map(|row| row.as_array()).collect();
        if MOST_CLASSES < rows.len() {
            continue;
        }
        terminal.heading(&format!(
            "{}: rows by true class (down) and predicted class (across)",
            table["column"].as_str().unwrap_or_default()
        ));
        let cells = |name: String, cells: &mut dyn Iterator<Item = String>| {
            std::iter::once(name).chain(cells).collect::<Vec<_>>()
        };
        let label =
            |class: usize| table["labels"][class].as_str().map_or_else(|| class.to_string(), printable_label);
        let headings = cells(String::new(), &mut (0..rows.len()).map(label));
        let mut shown = Table::new(&headings.iter().map(String::as_str).collect::<Vec<_>>());
        for (class, row) in rows.iter().enumerate() {
            let row = cells(label(class), &mut row.iter().map(ToString::to_string));
            shown.row(&row.iter().map(String::as_str).collect::<Vec<_>>());
        }
        shown.render_figures().iter().for_each(|line| terminal.line(format_args!("  {line}")));
    }
}
