//! `tunesmith smoke`: does the whole way work on this machine's device, and does the device do the work?

use std::fmt::Write as _;
use std::path::Path;

use clap::Args;
use serde::Serialize;
use tunesmith_config::ExperimentConfig;
use tunesmith_generate::{GenerationSettings, generate};
use tunesmith_ops::choose_device;
use tunesmith_platform::gpu::{Backend, Chosen};
use tunesmith_platform::{Utilization, Watch};
use tunesmith_train::{EventBody, NoObserver, RunFolder, RunRequest, StopFlag, read_events, run as train};

use crate::failure::{Exit, Failure};
use crate::terminal::{Style, Terminal};
use crate::{model_store, random_gpt2, talker};

/// Tokens to generate.
const N_NEW_TOKENS: usize = 10;
const PROMPT: &str = "The quick brown fox";
/// A device that is busy for less than this share of the time did not do the work.
const IDLE: f64 = 0.05;

/// Check that a model loads, generates and trains on this machine, and that the device does the work
///
/// Generates ten tokens and takes some training steps with LoRA, in a temporary folder, while the use of the device is sampled. Fails
/// with exit code 7 when the device was idle.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  tunesmith smoke --random
  tunesmith smoke --model demo --device cuda
  tunesmith smoke --random --steps 3 --json")]
pub(crate) struct SmokeArgs {
    /// Model folder, GGUF file, hub id, or `demo`
    #[arg(long, value_name = "PATH_OR_ID", default_value = "gpt2", conflicts_with = "random")]
    model: String,

    /// A model of GPT-2's shape with random weights instead: needs no network
    #[arg(long)]
    random: bool,

    /// Compute on this device: auto, cpu, cuda, cuda:1, metal, vulkan, …
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: String,

    /// Training steps
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    steps: u64,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    model: String,
    device: String,
    new_tokens: Vec<u32>,
    text: String,
    losses: Vec<f64>,
    utilization: Utilization,
    /// Whether the device did the work; `None` when its use cannot be read.
    is_busy: Option<bool>,
}

/// Tries it.
pub(crate) fn run(args: &SmokeArgs, terminal: &Terminal) -> Result<(), Failure> {
    let chosen = choose_device(&args.device, None)?;
    let device = chosen.to_string();
    let folder = tempfile::tempdir().map_err(|error| Failure::cannot_write(&std::env::temp_dir(), &error))?;
    let (name, path) = if args.random {
        let path = folder.path().join("gpt2");
        std::fs::create_dir(&path).map_err(|error| Failure::cannot_write(&path, &error))?;
        random_gpt2::write(&path)?;
        ("random GPT-2".to_owned(), path)
    } else {
        (args.model.clone(), model_store::resolve(&args.model, terminal)?.path)
    };
    let watch = Watch::begin(chosen);
    let (new_tokens, text) = say_something(&path, &device)?;
    let losses = take_steps(folder.path(), &path, &device, args.steps)?;
    let utilization = watch.end();
    let is_busy = is_busy(chosen, utilization);
    let report = Report { model: name, device, new_tokens, text, losses, utilization, is_busy };
    if args.json {
        terminal.pretty_json(&report)?;
    } else {
        report.show(terminal);
    }
    if report.losses.iter().any(|loss| !loss.is_finite()) {
        return Err(Failure::new(Exit::Run, "a loss is not a number")
            .hint("`tunesmith doctor` compares the device's numbers with the processor's"));
    }
    if is_busy == Some(false) {
        let what = format!("device {} was idle: something else did the work", report.device);
        return Err(
            Failure::new(Exit::Device, what).hint("please report this with the output of `tunesmith doctor`")
        );
    }
    Ok(())
}

fn say_something(model: &Path, device: &str) -> Result<(Vec<u32>, String), Failure> {
    let talker = talker::load_model(model, None, device, 0)?;
    let prompt = talker.tokenizer.encode(PROMPT)?;
    // All of them, even if the model would end its text.
    let settings = GenerationSettings {
        min_new_tokens: N_NEW_TOKENS,
        max_new_tokens: N_NEW_TOKENS,
        ..GenerationSettings::default()
    };
    let answers = generate(&talker.model, &talker.tokenizer, &[prompt], &settings, &mut |_, _| {
        std::ops::ControlFlow::Continue(())
    })?;
    let answer = answers.into_iter().next();
    Ok(answer.map(|answer| (answer.ids, answer.text)).unwrap_or_default())
}

/// The losses of so many training steps.
fn take_steps(folder: &Path, model: &Path, device: &str, n_steps: u64) -> Result<Vec<f64>, Failure> {
    let table = folder.join("rows.csv");
    let mut rows = "prompt,answer\n".to_owned();
    // Two rows more: one to hold back for validation, one for rounding.
    for row in 0..n_steps + 2 {
        let _ = writeln!(
            rows,
            "\"What is {row} and {row}?\",\"It is {}, since {row} and {row} are equal.\"",
            2 * row
        );
    }
    std::fs::write(&table, rows).map_err(|error| Failure::cannot_write(&table, &error))?;
    let run_dir = folder.join("run");
    let request = RunRequest {
        config: experiment(&table, model, device, n_steps)?,
        run_dir: run_dir.clone(),
        resume: false,
        model_path: model.to_owned(),
        cache_dir: None,
        judge: None,
        least_free_disk_bytes: 0,
        profile: false,
    };
    train(&request, &mut NoObserver, &StopFlag::new())?;
    let events = read_events(&RunFolder::new(&run_dir).events())?;
    let loss = |body: &EventBody| match body {
        EventBody::Step(step) => step.loss,
        _ => None,
    };
    Ok(events.iter().filter_map(|event| loss(&event.body)).take(n_steps as usize).collect())
}

fn experiment(table: &Path, model: &Path, device: &str, n_steps: u64) -> Result<ExperimentConfig, Failure> {
    let mut config = ExperimentConfig::default();
    let path = |path: &Path| path.display().to_string();
    let validation = format!("{}", 1.5 / (n_steps + 2) as f64);
    for (field, value) in [
        ("experiment_name", "smoke"),
        ("llm_backbone", &path(model)),
        ("dataset.train_dataframe", &path(table)),
        ("dataset.validation_size", &validation),
        ("dataset.prompt_column", "prompt"),
        ("dataset.answer_column", "answer"),
        ("dataset.system_column", "None"),
        ("dataset.parent_id_column", "None"),
        ("tokenizer.max_length", "128"),
        ("architecture.backbone_dtype", "float32"),
        ("architecture.gradient_checkpointing", "false"),
        ("environment.mixed_precision", "false"),
        ("environment.device", device),
        ("environment.seed", "1"),
        ("prediction.metric", "Perplexity"),
        ("training.epochs", "1"),
        ("training.batch_size", "1"),
        ("training.grad_accumulation", "1"),
        ("training.save_checkpoint", "disable"),
    ] {
        config.set(field, value)?;
    }
    Ok(config)
}

/// Whether the device did the work, as far as that can be told.
fn is_busy(device: Chosen, seen: Utilization) -> Option<bool> {
    let share = if device.backend == Backend::Cpu { seen.cpu_cores } else { seen.gpu };
    share.map(|share| IDLE <= share)
}

impl Report {
    fn show(&self, terminal: &Terminal) {
        let line = |name: &str, text: String| {
            terminal.line(format_args!("{} {text}", terminal.paint(Style::Bold, &format!("{name:<12}"))));
        };
        line("model", self.model.clone());
        line("device", self.device.clone());
        line("generated", format!("{} tokens: {:?}", self.new_tokens.len(), self.text));
        let (first, last) = (self.losses.first(), self.losses.last());
        let loss = |loss: Option<&f64>| loss.map_or_else(|| "none".to_owned(), |loss| format!("{loss:.3}"));
        line("trained", format!("{} steps, loss {} -> {}", self.losses.len(), loss(first), loss(last)));
        let cores = self.utilization.cpu_cores;
        let mut used =
            vec![cores.map_or_else(|| "processor not readable".to_owned(), |n| format!("{n:.1} cores"))];
        if self.device != Backend::Cpu.device_name() {
            let gpu = self.utilization.gpu;
            used.push(gpu.map_or_else(
                || "the device's use cannot be read here".to_owned(),
                |share| format!("the device {:.0} % of the time", 100.0 * share),
            ));
        }
        line("busy", used.join(", "));
        match self.is_busy {
            Some(true) => line("result", terminal.paint(Style::Green, "works")),
            Some(false) => line("result", terminal.paint(Style::Red, "the device was idle")),
            None => line("result", "works, as far as can be told".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_device_is_noticed_where_it_can_be_read() {
        let cuda = Chosen { backend: Backend::Cuda, index: Some(0), ..Chosen::CPU };
        let seen = |cpu_cores, gpu| Utilization { cpu_cores, gpu };
        assert_eq!(is_busy(Chosen::CPU, seen(Some(1.9), None)), Some(true));
        assert_eq!(is_busy(Chosen::CPU, seen(Some(0.01), None)), Some(false));
        assert_eq!(is_busy(cuda, seen(Some(1.9), Some(0.0))), Some(false), "the processor did the work");
        assert_eq!(is_busy(cuda, seen(Some(0.1), Some(0.8))), Some(true));
        assert_eq!(is_busy(cuda, seen(Some(0.1), None)), None);
    }
}
