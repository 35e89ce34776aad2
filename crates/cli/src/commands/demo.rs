//! `tunesmith demo`: the whole way, from rows of text to a model that does something new.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use serde_json::json;
use tunesmith_formats::write_file;
use tunesmith_train::{LEAST_FREE_DISK_BYTES, RunRequest, run as train};

use crate::commands::train::leave;
use crate::demo::{self, DemoFiles, Score};
use crate::experiment::{self, Overrides};
use crate::failure::{Exit, Failure};
use crate::interrupt::stop_on_ctrl_c;
use crate::model_store;
use crate::progress::TrainProgress;
use crate::talker;
use crate::terminal::{Style, Terminal, human_secs, program_name};

/// See it work: fine-tune a small model on this machine, with answers before and after
///
/// Fetches SmolLM2-135M-Instruct (once), writes a data set of spoken home and calendar commands with the JSON action that
/// each means, asks the untouched model some commands that are not in the training data, fine-tunes it with LoRA, and asks
/// again. Takes some minutes on two cores.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  tunesmith demo
  tunesmith demo --data-only --output my-demo
  tunesmith train -Y my-demo/demo.yaml --set training.lora_r=4 --output my-demo/run")]
pub(crate) struct DemoArgs {
    /// Folder for data set, experiment file and run; default: runs/demo, or the next free runs/demo-2, …
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,

    /// Only write data set and experiment file
    #[arg(long)]
    data_only: bool,
}

/// Shows the whole way.
pub(crate) fn run(args: &DemoArgs, terminal: &Terminal) -> Result<(), Failure> {
    let started = Instant::now();
    let folder = folder(args)?;
    if args.data_only {
        let files = demo::write_files(&folder)?;
        say_files(&files, terminal);
        return Ok(());
    }

    step(1, "model", terminal);
    let model = model_store::resolve(model_store::DEMO_MODEL, terminal)?;
    terminal.line(format_args!("{} at {}", model_store::DEMO_MODEL, model.path.display()));

    step(2, "data", terminal);
    let files = demo::write_files(&folder)?;
    say_files(&files, terminal);
    let config = experiment::load(&files.experiment, &Overrides::default(), terminal)?;
    let stop = stop_on_ctrl_c("stopping the demo")?;

    step(3, "asking the untouched model", terminal);
    let rows = &files.held_out_rows;
    let untouched = talker::load_model(&model.path, None, "cpu", 0)?;
    let before = demo::score(&untouched.model, &untouched.tokenizer, &config, rows, &stop, terminal)?;
    drop(untouched);
    say_score(&before, terminal);

    step(4, "training", terminal);
    let request = RunRequest {
        config: config.clone(),
        run_dir: folder.join("run"),
        resume: false,
        model_path: model.path.clone(),
        cache_dir: None,
        judge: None,
        least_free_disk_bytes: LEAST_FREE_DISK_BYTES,
        profile: false,
    };
    let summary = train(&request, &mut TrainProgress::new(terminal), &stop)?;
    leave(&summary)?;
    terminal.line(format_args!(
        "{} steps over {} tokens in {}",
        summary.n_steps_done,
        summary.n_tokens_seen,
        human_secs(summary.run_secs)
    ));

    step(5, "asking the fine-tuned model", terminal);
    let tuned = talker::load_model(&model.path, summary.adapter_dir.as_deref(), "cpu", 0)?;
    let after = demo::score(&tuned.model, &tuned.tokenizer, &config, rows, &stop, terminal)?;
    say_score(&after, terminal);
    write_scores(&folder, &files, &before, &after)?;

    step(6, "result", terminal);
    demo::show(rows, &before, &after, terminal);
    terminal.line(format_args!("\nall of it took {}", human_secs(started.elapsed().as_secs_f64())));
    say_next(&folder, &request.run_dir, terminal);
    Ok(())
}

/// The folder asked for, or the first of runs/demo, runs/demo-2, … that does not exist.
fn folder(args: &DemoArgs) -> Result<PathBuf, Failure> {
    const MAX_TRIES: usize = 10_000;

    if let Some(folder) = &args.output {
        if folder.join("run").exists() {
            let what = format!("{} holds a run of the demo already", folder.display());
            return Err(Failure::new(Exit::Output, what).hint("give another folder with --output, or none"));
        }
        return Ok(folder.clone());
    }
    let first = PathBuf::from("runs/demo");
    let numbered = (2..MAX_TRIES).map(|number| PathBuf::from(format!("runs/demo-{number}")));
    std::iter::once(first).chain(numbered).find(|folder| !folder.exists()).ok_or_else(|| {
        Failure::new(Exit::Output, "the folder runs is full of demos").hint("remove some of them")
    })
}

fn step(number: usize, what: &str, terminal: &Terminal) {
    terminal.heading(&format!("[{number}/6] {what}"));
}

fn say_files(files: &DemoFiles, terminal: &Terminal) {
    terminal.line(format_args!("{} commands to learn from: {}", files.n_train, files.train.display()));
    terminal.line(format_args!(
        "{} commands held out:      {}",
        files.held_out_rows.len(),
        files.held_out.display()
    ));
    terminal.line(format_args!("the experiment:            {}", files.experiment.display()));
}

fn say_score(score: &Score, terminal: &Terminal) {
    terminal.line(format_args!(
        "exact match {:.1} % ({} of {}), perplexity {:.2}",
        score.percent(),
        score.n_exact,
        score.n_rows,
        score.perplexity
    ));
}

/// The figures and all answers, for those who want to look closer.
fn write_scores(folder: &Path, files: &DemoFiles, before: &Score, after: &Score) -> Result<(), Failure> {
    let asked: Vec<_> =
        files.held_out_rows.iter().map(|row| json!({"prompt": row.prompt, "answer": row.answer})).collect();
    let scores = json!({"asked": asked, "before": before, "after": after});
    Ok(write_file(&folder.join("scores.json"), format!("{scores:#}\n").as_bytes())?)
}

fn say_next(folder: &Path, run_dir: &Path, terminal: &Terminal) {
    let (program, folder, run_dir) = (program_name(), folder.display(), run_dir.display());
    let command = |what: &str, text: String| {
        terminal.line(format_args!("  {what:<18} {}", terminal.paint(Style::Cyan, &text)));
    };
    terminal.heading("next");
    terminal.line(format_args!("  {:<18} {run_dir}", "the run folder"));
    command("talk to the model", format!("{program} chat {run_dir}"));
    command(
        "look at the data",
        format!("{program} data preview {folder}/data/train.jsonl -Y {folder}/demo.yaml"),
    );
    command(
        "use it elsewhere",
        format!("{program} export {run_dir} --output {run_dir}-merged --format merged"),
    );
    command("what happened", format!("less {run_dir}/logs.log"));
}
