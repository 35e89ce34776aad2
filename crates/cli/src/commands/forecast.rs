//! `tunesmith forecast`: what a run will take of memory and time, before it is started.
//!
//! Memory is [`MemoryForecast`]. Time is an estimate: the multiplications of a run's tokens, over what this machine was just
//! measured to do at most, times the share of that which training was found to reach (`docs/performance.md`).

use std::convert::Infallible;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};
use tunesmith_config::ExperimentConfig;
use tunesmith_data::{BatchOptions, SampleSet, load_splits, plan_epoch, tokenize, training_tokenizer};
use tunesmith_formats::model_config::Experts;
use tunesmith_formats::model_source::ModelSource;
use tunesmith_ops::{ChosenDevice, Compute, choose_device, measure_peaks, open_chosen, set_threads};
use tunesmith_platform::gpu::Backend;
use tunesmith_train::{MemoryForecast, RunPlan, Trainability};

use crate::experiment::{self, Overrides};
use crate::failure::{Exit, Failure};
use crate::memory::human_bytes;
use crate::model_store;
use crate::progress::grouped;
use crate::terminal::{Style, Terminal, human_secs};

/// Forecast the memory and time of a run before it is started
///
/// Memory at its peak, by what it is for, besides what is free now, and what to change if that does not fit; optimizer steps,
/// and about how long they will take on this machine. The tokens of the data are made and kept for the run, the weights of
/// the model are not loaded.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  tunesmith forecast -Y cfg.yaml
  tunesmith forecast -Y cfg.yaml --set training.lora=false
  tunesmith forecast -Y cfg.yaml --json | jq .memory.fits")]
pub(crate) struct ForecastArgs {
    /// Experiment file (YAML)
    #[arg(short = 'Y', long = "yaml", value_name = "FILE")]
    yaml: PathBuf,

    /// Train on this table instead of dataset.train_dataframe
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,

    #[command(flatten)]
    overrides: Overrides,

    /// Print one JSON object: device, data, memory, time, suggestions
    #[arg(long)]
    json: bool,
}

/// The forecast, as `--json` prints it.
#[derive(Debug, Serialize)]
struct Report {
    device: String,
    data: DataReport,
    memory: MemoryReport,
    time: TimeReport,
    suggestions: Vec<Suggestion>,
}

#[derive(Debug, Serialize)]
struct DataReport {
    n_train_samples: usize,
    n_train_tokens: usize,
    n_validation_samples: usize,
    n_validation_tokens: usize,
    longest_sample: usize,
}

#[derive(Debug, Serialize)]
struct MemoryReport {
    parts: Vec<Part>,
    /// At the peak, with the activations of all blocks kept unless the experiment says otherwise.
    total_bytes: u64,
    /// The least a run gets by with, running blocks a second time where memory is short.
    least_bytes: u64,
    /// On the device; nothing where the system does not tell.
    free_bytes: Option<u64>,
    /// Whether the least is free.
    fits: Option<bool>,
}

#[derive(Debug, Serialize)]
struct Part {
    name: &'static str,
    n_bytes: u64,
}

#[derive(Debug, Serialize)]
struct TimeReport {
    steps: u64,
    secs: Option<f64>,
    secs_per_step: Option<f64>,
    /// What the estimate rests on, in a sentence.
    based_on: String,
}

/// A change that takes less memory, and how much the run would take with it.
#[derive(Debug, Serialize)]
struct Suggestion {
    text: String,
    changes: Value,
}

/// Forecasts.
pub(crate) fn run(args: &ForecastArgs, terminal: &Terminal) -> Result<(), Failure> {
    let mut config = experiment::load(&args.yaml, &args.overrides, terminal)?;
    if let Some(data) = &args.data {
        config.dataset.train_dataframe = data.display().to_string();
    }
    experiment::refuse_errors(&config)?;
    let device = choose_device(&config.environment.device, config.environment.first_gpu())?;
    let source = ModelSource::open(&model_store::backbone(&config, terminal)?.path)?;
    let report = Report::of(&config, &source, device)?;
    if args.json {
        return terminal.json(&report);
    }
    report.show(terminal);
    Ok(())
}

impl Report {
    fn of(config: &ExperimentConfig, source: &ModelSource, device: ChosenDevice) -> Result<Self, Failure> {
        set_threads(config.environment.threads)?;
        let splits = load_splits(config)?;
        let tokenizer = training_tokenizer(config, &source.tokenizer()?)?;
        let cache = model_store::cache_dir()?.join("tokens");
        let (train, _) = tokenize(config, &tokenizer, &splits.train, Some(&cache))?;
        let (validation, _) = tokenize(config, &tokenizer, &splits.validation, Some(&cache))?;
        if train.samples.is_empty() {
            return Err(Failure::new(Exit::Data, "no sample has a token to learn")
                .hint("look at the data with `tunesmith data preview`"));
        }
        let longest_sample = train.samples.iter().map(|sample| sample.ids.len()).max().unwrap_or(0);
        let memory = MemoryReport::of(source, config, longest_sample, device);
        let suggestions = suggestions(source, config, longest_sample, &memory, device);
        Ok(Self {
            device: device.to_string(),
            data: DataReport {
                n_train_samples: train.samples.len(),
                n_train_tokens: n_tokens(&train),
                n_validation_samples: validation.samples.len(),
                n_validation_tokens: n_tokens(&validation),
                longest_sample,
            },
            time: TimeReport::of(source, config, &train, &validation, device.backend == Backend::Cpu),
            memory,
            suggestions,
        })
    }

    fn show(&self, terminal: &Terminal) {
        let line = |name: &str, text: String| {
            terminal.line(format_args!("{} {text}", terminal.paint(Style::Bold, &format!("{name:<9}"))));
        };
        line("device", self.device.clone());
        line(
            "data",
            format!(
                "{} samples with {} tokens, the longest {}",
                grouped(self.data.n_train_samples as u64),
                grouped(self.data.n_train_tokens as u64),
                grouped(self.data.longest_sample as u64)
            ),
        );
        let free = self.memory.free_bytes.map(|n| format!("; {} free", human_bytes(n))).unwrap_or_default();
        line("memory", format!("about {} at the peak{free}", human_bytes(self.memory.total_bytes)));
        for part in &self.memory.parts {
            line("", format!("{:>9}  {}", human_bytes(part.n_bytes), part.name));
        }
        let secs = self.time.secs.map_or_else(String::new, |secs| format!(", about {}", human_secs(secs)));
        line("time", format!("{} steps{secs}", grouped(self.time.steps)));
        line("", self.time.based_on.clone());
        if self.memory.fits == Some(false) {
            terminal.line(
                terminal
                    .paint(Style::Yellow, "this does not fit into the memory that is free; less is taken by"),
            );
            for suggestion in &self.suggestions {
                terminal.line(format_args!("  {}", suggestion.text));
            }
        }
    }
}

impl MemoryReport {
    fn of(
        source: &ModelSource,
        config: &ExperimentConfig,
        longest_sample: usize,
        device: ChosenDevice,
    ) -> Self {
        let opened = open_chosen(device);
        let forecast = MemoryForecast::of(source, config, longest_sample, &opened);
        let least_bytes = MemoryForecast::least_bytes(source, config, longest_sample, &opened);
        let free_bytes = device.free_memory_bytes();
        Self {
            parts: vec![
                Part { name: "weights", n_bytes: forecast.weight_bytes },
                Part { name: "gradients and optimizer", n_bytes: forecast.training_bytes },
                Part { name: "activations", n_bytes: forecast.activation_bytes },
                Part { name: "program", n_bytes: forecast.program_bytes },
            ],
            total_bytes: forecast.total_bytes(),
            least_bytes,
            free_bytes,
            fits: free_bytes.map(|free| least_bytes <= free),
        }
    }
}

impl TimeReport {
    fn of(
        source: &ModelSource,
        config: &ExperimentConfig,
        train: &SampleSet,
        validation: &SampleSet,
        is_cpu: bool,
    ) -> Self {
        let training = &config.training;
        // A seed of -1 is drawn when the run starts; the number of batches differs little from seed to seed.
        let seed = u64::try_from(config.environment.seed).unwrap_or(0);
        let length_of = |epoch: usize| {
            let batches = plan_epoch(train, &BatchOptions::of(config, seed, epoch));
            Ok::<_, Infallible>(batches.n_micro_batches())
        };
        let Ok(plan) = RunPlan::of(training, length_of);
        let steps = plan.n_steps();
        let unknown = if !is_cpu {
            Some("the time is estimated for the processor only, not for graphics processors")
        } else if source.config().encoder_decoder.is_some() {
            Some(
                "the time is not estimated for models of encoder and decoder, whose attention was not measured",
            )
        } else {
            None
        };
        if let Some(based_on) = unknown {
            return Self { steps, secs: None, secs_per_step: None, based_on: based_on.to_owned() };
        }
        let (compute, share) = if config.environment.mixed_precision {
            (Compute::Bf16, SHARE_BF16)
        } else {
            (Compute::F32, SHARE_F32)
        };
        let flops_per_sec = share * measure_peaks(compute).flops_per_sec;
        let weights = Multiplied::of(source, config);
        let trained_tokens = n_tokens(train) as f64 * plan.n_whole_epochs();
        let evaluated_tokens = n_tokens(validation) as f64 * n_evaluations(&plan, config) as f64;
        let training_secs = trained_tokens * weights.training_flops_per_token(config) / flops_per_sec;
        let secs = training_secs + evaluated_tokens * weights.forward_flops_per_token() / flops_per_sec;
        Self {
            steps,
            secs: Some(secs),
            secs_per_step: (0 < steps).then(|| training_secs / steps as f64),
            based_on: format!(
                "an estimate: the run's multiplications at {:.0} GFLOP/s, which is {:.0} % of what this machine was just \
                 measured to do at most, the share that training was found to reach",
                flops_per_sec / 1e9,
                100.0 * share
            ),
        }
    }
}

/// Shares of the machine's peak that whole training steps reach: LoRA and all weights in float32 were 66 % and 70 %, in
/// bfloat16 54 %.
const SHARE_F32: f64 = 0.65;
const SHARE_BF16: f64 = 0.55;

/// Values of the matrices that every token is multiplied with.
struct Multiplied {
    n_all: u64,
    n_trained: u64,
}

impl Multiplied {
    fn of(source: &ModelSource, config: &ExperimentConfig) -> Self {
        let trainability = Trainability::of(&config.training);
        let is_head = |name: &str| name == source.config().architecture.head_name();
        let is_embedding =
            |name: &str| name.contains("embed") || name.contains("wte") || name.contains("wpe");
        let has_head = source.tensors().iter().any(|tensor| is_head(&tensor.name));
        let (mut n_all, mut n_trained) = (0, 0);
        for tensor in source.tensors().iter().filter(|tensor| tensor.shape.len() == 2) {
            // Rows of an embedding are looked up; a tied one is the head, too.
            let is_looked_up = is_embedding(&tensor.name)
                && !is_head(&tensor.name)
                && (has_head || !source.config().tie_word_embeddings);
            if is_looked_up || tensor.name.contains("wpe") {
                continue;
            }
            let mut n_values: u64 = tensor.shape.iter().map(|n| *n as u64).product();
            if let Some(experts) = source.config().experts.as_ref().filter(|_| Experts::is_one(&tensor.name))
            {
                // A token takes some of them.
                n_values = n_values * experts.n_per_token as u64 / experts.n_experts as u64;
            }
            n_all += n_values;
            if trainability.trains(&tensor.name) {
                n_trained += n_values;
            }
        }
        if config.training.lora {
            // Far fewer, and left out.
            n_trained = 0;
        }
        Self { n_all, n_trained }
    }

    fn forward_flops_per_token(&self) -> f64 {
        2.0 * self.n_all as f64
    }

    /// Forward, gradients of activations and of trained weights, and the forward pass again where it is not kept.
    fn training_flops_per_token(&self, config: &ExperimentConfig) -> f64 {
        let n_passes = if config.architecture.gradient_checkpointing { 3.0 } else { 2.0 };
        2.0 * (n_passes * self.n_all as f64 + self.n_trained as f64)
    }
}

fn n_evaluations(plan: &RunPlan, config: &ExperimentConfig) -> usize {
    let mut n = usize::from(config.training.evaluate_before_training || config.training.only_evaluates());
    for epoch_idx in 0..plan.n_epochs() {
        let mut next = 0;
        while next < plan.micro_batches_of(epoch_idx) {
            let window = plan.window_at(epoch_idx, next);
            next = window.end;
            n += usize::from(plan.is_evaluated_after(epoch_idx, &window));
            if plan.is_last(epoch_idx, &window) {
                break;
            }
        }
    }
    n
}

/// What takes less, each change by itself, the one that saves most first.
fn suggestions(
    source: &ModelSource,
    config: &ExperimentConfig,
    longest_sample: usize,
    now: &MemoryReport,
    device: ChosenDevice,
) -> Vec<Suggestion> {
    let opened = open_chosen(device);
    let mut changes: Vec<(&str, String)> = Vec::new();
    if !config.training.lora {
        changes.push(("training.lora", "true".to_owned()));
    }
    if !config.architecture.gradient_checkpointing {
        changes.push(("architecture.gradient_checkpointing", "true".to_owned()));
    }
    if !config.architecture.backbone_dtype.is_4_bit() {
        changes.push(("architecture.backbone_dtype", "int4".to_owned()));
    }
    if 64 < longest_sample {
        changes.push(("tokenizer.max_length", (longest_sample / 2).to_string()));
    }
    let mut tried: Vec<(u64, Suggestion)> = changes
        .into_iter()
        .filter_map(|(field, value)| {
            let mut changed = config.clone();
            changed.set(field, &value).ok()?;
            let longest = longest_sample.min(changed.tokenizer.max_length);
            let total = MemoryForecast::of(source, &changed, longest, &opened).total_bytes();
            let text = format!(
                "{field}={value}: about {} instead of {}",
                human_bytes(total),
                human_bytes(now.total_bytes)
            );
            let value = serde_json::from_str(&value).unwrap_or(Value::String(value));
            (total < now.total_bytes).then(|| (total, Suggestion { text, changes: json!({field: value}) }))
        })
        .collect();
    tried.sort_by_key(|(total, _)| *total);
    tried.into_iter().map(|(_, suggestion)| suggestion).collect()
}

fn n_tokens(set: &SampleSet) -> usize {
    set.samples.iter().map(|sample| sample.ids.len()).sum()
}
