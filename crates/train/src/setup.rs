//! Everything a run needs before its first step: device, model, data, and the record of all three.
//!
//! Length: the preparations of a run in their order, each a few lines; apart they would hand the same dozen values around.

use std::hash::{BuildHasher, Hasher};
use std::path::PathBuf;

use tunesmith_config::{ExperimentConfig, Finding, LabelForm, Level, Metric, Packing, ProblemType};
use tunesmith_data::{Conversation, SampleSet, Splits, TrainingSet, load_splits, printable_label, tokenize};
use tunesmith_formats::model_source::ModelSource;
use tunesmith_formats::tokenizer::Tokenizer;
use tunesmith_models::{CausalLm, LoraInit, LoraSpec, ModelError};
use tunesmith_ops::{ChosenDevice, Device, choose_device, describe, open_chosen, set_threads};

use crate::error::TrainError;
use crate::events::NoteLevel;
use crate::grading::Grader;
use crate::journal::Journal;
use crate::judge::{Judge, judged_by};
use crate::keys::{KeyUse, derive_key};
use crate::learning::{name_scores, score_head};
use crate::number_formats::NumberFormats;
use crate::plan::RunPlan;
use crate::record::{Fingerprints, Machine, RunRecord, field_values, samples_fingerprint};
use crate::run::RunRequest;
use crate::starting_weights::{
    StartingWeights, attach_stored_adapter, load_starting_head, score_labels, set_parameters,
};
use crate::trainability::{Trainability, comma_list, unmatched_texts};
use crate::trainer::epoch_batches;

/// A run ready to go.
pub(crate) struct Prepared {
    pub(crate) model: CausalLm,
    pub(crate) tokenizer: Tokenizer,
    /// Where the base weights came from.
    pub(crate) source: ModelSource,
    pub(crate) trainability: Trainability,
    pub(crate) train: TrainingSet,
    pub(crate) plan: RunPlan,
    /// Tokens of the longest sample of any epoch.
    pub(crate) longest_sample: usize,
    pub(crate) validation: SampleSet,
    /// The conversations behind the validation samples.
    pub(crate) validation_conversations: Vec<Conversation>,
    pub(crate) judge: Judge,
    /// Grades answers, where the judge is another model.
    pub(crate) grader: Option<Grader>,
    pub(crate) record: RunRecord,
    /// The configuration, with the classes that were found in the data.
    pub(crate) config: ExperimentConfig,
    pub(crate) device: ChosenDevice,
}

/// Checks the configuration and loads model and data. `seed` is the one in use, never -1.
pub(crate) fn prepare(
    request: &RunRequest,
    seed: u64,
    journal: &mut Journal<'_>,
) -> Result<Prepared, TrainError> {
    let config = &request.config;
    set_threads(config.environment.threads)?;
    let chosen = choose_device(&config.environment.device, config.environment.first_gpu())?;
    let device = open_chosen(chosen);
    let formats = NumberFormats::of(config, &device);
    let mut substitutions = check_config(config, journal)?;
    for text in formats.substitutions(config) {
        journal.note(NoteLevel::Warning, &text)?;
        substitutions.push(text);
    }

    let judge = judged_by(config, request.judge.is_some());
    if judge.metric != config.prediction.metric {
        let text = format!(
            "prediction.metric: validation is judged by {} instead of {}: neither OPENAI_API_KEY nor OPENAI_API_BASE name a \
             model that grades answers",
            judge.name, config.prediction.metric
        );
        journal.note(NoteLevel::Warning, &text)?;
        substitutions.push(text);
    }

    let base = ModelSource::open(&request.model_path)?;
    for text in base.notes() {
        journal.note(NoteLevel::Warning, text)?;
        substitutions.push(text.clone());
    }
    if let Some(text) = formats.rounded_blocks(config, &base) {
        journal.note(NoteLevel::Warning, &text)?;
        substitutions.push(text);
    }
    let starting = StartingWeights::of(&config.architecture)?;
    let starting_fingerprint = starting.as_ref().map(StartingWeights::fingerprint).transpose()?;
    let tokenizer = base.tokenizer()?;
    check_kind(config, &base, &tokenizer)?;

    journal.stage("reading the data")?;
    let starting_labels = match &starting {
        Some(starting) => starting.score_labels()?,
        None => score_labels(&base)?,
    };
    let mut splits = load_labelled(config, starting_labels)?;
    for note in &splits.notes {
        journal.note(NoteLevel::Info, note)?;
    }
    let mut config = config.clone();
    splits.labels.iter().for_each(|labels| labels.set_in(&mut config));
    let config = &config;
    let grader = match &request.judge {
        Some(endpoint) if judge.metric == Metric::Gpt => {
            let grader = Grader::new(endpoint, config, &mut splits.validation)?;
            journal.note(NoteLevel::Info, &grader.describe(splits.validation.len()))?;
            Some(grader)
        }
        _ => None,
    };
    let n_chained = splits.train.len() + splits.validation.len();
    journal.stage(&format!("turning {n_chained} conversations into tokens"))?;
    let train = samples(request, &tokenizer, &splits.train, "training", journal)?;
    let validation = samples(request, &tokenizer, &splits.validation, "validation", journal)?;
    if !config.training.only_evaluates() && train.samples.len() < 2 {
        return Err(TrainError::TooFewSamples { n_samples: train.samples.len() });
    }

    if config.training.early_stopping_patience > 0 && validation.samples.is_empty() {
        let text =
            "training.early_stopping_patience: has no effect: there are no validation samples".to_owned();
        journal.note(NoteLevel::Warning, &text)?;
        substitutions.push(text);
    }

    let fingerprints = Fingerprints {
        model: base.fingerprint()?,
        tokenizer: tokenizer.fingerprint(),
        starting_weights: starting_fingerprint,
        train_samples: samples_fingerprint(&train.samples),
        validation_samples: samples_fingerprint(&validation.samples),
        judge_template: grader.as_ref().map(Grader::fingerprint),
    };
    journal.stage("loading the model")?;
    let trainability = Trainability::of(&config.training);
    let LoadedModel { mut model, source, notes } =
        load_model(config, seed, base, starting, &device, &trainability)?;
    name_scores(&mut model, config);
    for (level, text) in notes {
        journal.note(level, &text)?;
    }
    let train = TrainingSet::new(config, &tokenizer, splits.train, train, seed)?;
    let epochs = EpochSizes::of(config, &train, seed)?;
    check_lengths(&model, config, &epochs, &validation)?;
    let record = record(request, config, seed, chosen, substitutions, fingerprints, judge, &model);
    Ok(Prepared {
        model,
        tokenizer,
        source,
        trainability,
        train,
        plan: epochs.plan,
        longest_sample: epochs.longest_sample,
        validation,
        validation_conversations: splits.validation,
        judge,
        grader,
        record,
        config: config.clone(),
        device: chosen,
    })
}

/// The data, with labels in the order of the scores that the starting weights have for the same labels.
fn load_labelled(config: &ExperimentConfig, starting: Option<Vec<String>>) -> Result<Splits, TrainError> {
    let mut splits = load_splits(config)?;
    let (Some(labels), Some(starting)) = (&splits.labels, starting) else { return Ok(splits) };
    let mut found = config.clone();
    labels.set_in(&mut found);
    let Some(outputs) = found.named_outputs().filter(|outputs| *outputs != starting) else {
        return Ok(splits);
    };
    let shown =
        |labels: &[String]| labels.iter().map(|label| printable_label(label)).collect::<Vec<_>>().join(", ");
    let is_same_set =
        |names: &[String]| names.len() == starting.len() && names.iter().all(|name| starting.contains(name));
    let ordered = match (found.label_form(), found.dataset.class_names.as_slice()) {
        // A name for each of two classes, and one score.
        (Some(LabelForm::Binary), [first, second]) if starting == [first.clone()] => {
            Some(vec![second.clone(), first.clone()])
        }
        (Some(LabelForm::SingleLabel | LabelForm::LabelLists), names) if is_same_set(names) => {
            Some(starting.clone())
        }
        _ => None,
    };
    if let Some(names) = ordered.filter(|_| config.dataset.class_names.is_empty()) {
        let mut ordered = config.clone();
        ordered.dataset.class_names = names;
        splits = load_splits(&ordered)?;
        splits.notes.push("the labels have the order of the starting weights' scores".to_owned());
    } else {
        splits.notes.push(format!(
            "the scores of the starting weights stand for {}, and are trained to stand for {}",
            shown(&starting),
            shown(&outputs)
        ));
    }
    Ok(splits)
}

/// The seed to use: the configured one, the one drawn when the run began, or a new one in [0, 1000000).
pub(crate) fn choose_seed(configured: i64, stored: Option<u64>) -> u64 {
    const N_SEEDS: u64 = 1_000_000;
    match (u64::try_from(configured), stored) {
        (Ok(seed), _) => seed,
        (Err(_), Some(seed)) => seed,
        // The standard library seeds its hash maps from the operating system's random numbers.
        (Err(_), None) => std::collections::hash_map::RandomState::new().build_hasher().finish() % N_SEEDS,
    }
}

/// A model as training starts from it.
pub(crate) struct LoadedModel {
    pub(crate) model: CausalLm,
    /// Where the base weights came from.
    pub(crate) source: ModelSource,
    /// What the user should know about it.
    pub(crate) notes: Vec<(NoteLevel, String)>,
}

/// The base model of a configuration with adapters and starting weights in place and the right parameters trainable.
pub(crate) fn load_model(
    config: &ExperimentConfig,
    seed: u64,
    base: ModelSource,
    starting: Option<StartingWeights>,
    device: &Device,
    trainability: &Trainability,
) -> Result<LoadedModel, TrainError> {
    let mut notes = Vec::new();
    let training = &config.training;
    let targets = comma_list(&training.lora_target_modules);
    let (source, adapter, parameters) = match starting {
        None => (base, None, None),
        Some(StartingWeights::Model(source)) => {
            notes.extend(source.notes().iter().map(|text| (NoteLevel::Warning, text.clone())));
            (check_same_form(base, source)?, None, None)
        }
        Some(StartingWeights::Adapter { dir, config, tensors }) => (base, Some((dir, config, tensors)), None),
        Some(StartingWeights::Parameters(file)) => (base, None, Some(file)),
    };
    let is_trained = |name: &str| trainability.trains(name);
    let options = NumberFormats::of(config, device).load_options(&is_trained);
    let mut model = CausalLm::load_with(&source, device, &options)?;
    if let (Some(head), None) = (score_head(config, seed), model.score_head()) {
        model.attach_score_head(&head)?;
        load_starting_head(&mut model, source.path())?;
    }
    check_outputs(&model, config, &source)?;
    if let Some((dir, adapter_config, tensors)) = adapter {
        let told = attach_stored_adapter(&mut model, &dir, adapter_config, tensors, training, &targets)?;
        notes.extend(told.into_iter().map(|text| (NoteLevel::Warning, text)));
    } else if training.lora {
        let attached = model.attach_lora(&LoraSpec {
            r: training.lora_r,
            alpha: training.lora_alpha as f32,
            dropout: training.lora_dropout as f32,
            use_rslora: training.use_rslora,
            use_dora: training.use_dora,
            init: match training.lora_init {
                tunesmith_config::LoraInit::Default => LoraInit::Uniform,
                tunesmith_config::LoraInit::Pissa => LoraInit::Principal,
            },
            target_modules: targets,
            seed: derive_key(seed, KeyUse::AdapterInit, &[]),
        })?;
        for target in &attached.unmatched_targets {
            let text = format!("training.lora_target_modules: no module is called {target:?}");
            notes.push((NoteLevel::Warning, text));
        }
    }
    if let Some(file) = parameters {
        let n_left = set_parameters(&mut model, &file)?;
        if n_left > 0 {
            let text =
                format!("{}: {n_left} parameters are not in it and keep their values", file.path().display());
            notes.push((NoteLevel::Info, text));
        }
    }
    set_trainability(&mut model, config, trainability, &mut notes)?;
    Ok(LoadedModel { model, source, notes })
}

/// Refuses a head with another number of scores than there are classes or numbers.
fn check_outputs(
    model: &CausalLm,
    config: &ExperimentConfig,
    source: &ModelSource,
) -> Result<(), TrainError> {
    match (score_head(config, 0), model.score_head()) {
        (Some(wanted), Some(head)) if wanted.n_outputs != head.n_outputs => {
            let reason = format!(
                "its head gives {} scores, but the experiment has {} classes or numbers to predict",
                head.n_outputs, wanted.n_outputs
            );
            Err(TrainError::StartingWeights { path: source.path().to_owned(), reason })
        }
        _ => Ok(()),
    }
}

fn set_trainability(
    model: &mut CausalLm,
    config: &ExperimentConfig,
    trainability: &Trainability,
    notes: &mut Vec<(NoteLevel, String)>,
) -> Result<(), TrainError> {
    let names: Vec<&str> = model.parameters().iter().map(|parameter| parameter.name.as_str()).collect();
    let mut unmatched = trainability.unmatched(&names);
    // The default names the head that H2O LLM Studio has, which is not always the one in use.
    let differential = unmatched_texts(&config.training.differential_learning_rate_layers, &names);
    unmatched.extend(differential.into_iter().filter(|text| !text.ends_with("_head")));
    for text in unmatched {
        notes.push((NoteLevel::Warning, format!("no parameter's name contains {text:?}")));
    }
    model.set_trainable(|name| trainability.trains(name));
    if model.parameters().n_trainable() == 0 {
        let reason = match trainability {
            Trainability::Full { freeze_layers } => {
                format!("training.lora is false and training.freeze_layers is {}", freeze_layers.join(", "))
            }
            Trainability::LowRank { .. } => "no module carries an adapter".to_owned(),
        };
        return Err(TrainError::NothingTrainable { reason });
    }
    Ok(())
}

/// `weights` when it is a model of the same form as `base`.
fn check_same_form(base: ModelSource, weights: ModelSource) -> Result<ModelSource, TrainError> {
    let (a, b) = (base.config(), weights.config());
    let form = |config: &tunesmith_formats::model_config::ModelConfig| {
        [
            ("hidden_size", config.hidden_size),
            ("intermediate_size", config.intermediate_size),
            ("number of layers", config.n_layers),
            ("number of heads", config.n_heads),
            ("number of key/value heads", config.n_kv_heads),
            ("vocabulary size", config.vocab_size),
        ]
    };
    let wrong = |reason: String| TrainError::StartingWeights { path: weights.path().to_owned(), reason };
    if a.architecture != b.architecture {
        return Err(wrong(format!(
            "it is a {:?} model, the backbone a {:?} model",
            b.architecture, a.architecture
        )));
    }
    for ((what, of_base), (_, found)) in form(a).into_iter().zip(form(b)) {
        if of_base != found {
            return Err(wrong(format!("its {what} is {found}, the backbone's {of_base}")));
        }
    }
    Ok(weights)
}

/// Refuses a model without an encoder where one is needed, and the other way round.
fn check_kind(
    config: &ExperimentConfig,
    base: &ModelSource,
    tokenizer: &Tokenizer,
) -> Result<(), TrainError> {
    let needs_encoder = config.problem_type == ProblemType::SequenceToSequenceModeling;
    let start_id = base.config().encoder_decoder.as_ref().map(|parts| parts.start_id);
    let reason = match (needs_encoder, start_id) {
        (true, None) => "it has no encoder".to_owned(),
        (false, Some(_)) => "it has an encoder and a decoder".to_owned(),
        // Samples are made with the tokenizer alone.
        (true, Some(start_id)) if start_id != tokenizer.pad_id() => format!(
            "its decoder starts with token {start_id}, which is not the tokenizer's padding token {} ({})",
            tokenizer.pad_id(),
            tokenizer.pad_token()
        ),
        _ => return Ok(()),
    };
    Err(TrainError::ModelKind { path: base.path().to_owned(), problem_type: config.problem_type, reason })
}

/// Refuses what cannot be trained; the rest of the findings are noted and returned as sentences.
fn check_config(config: &ExperimentConfig, journal: &mut Journal<'_>) -> Result<Vec<String>, TrainError> {
    let (errors, warnings): (Vec<Finding>, Vec<Finding>) =
        config.check().into_iter().partition(|finding| finding.level == Level::Error);
    if !errors.is_empty() {
        return Err(TrainError::Refused { findings: errors });
    }
    let texts: Vec<String> =
        warnings.iter().map(|finding| format!("{}: {}", finding.field, finding.message)).collect();
    for text in &texts {
        journal.note(NoteLevel::Warning, text)?;
    }
    Ok(texts)
}

fn samples(
    request: &RunRequest,
    tokenizer: &Tokenizer,
    conversations: &[Conversation],
    which: &str,
    journal: &mut Journal<'_>,
) -> Result<SampleSet, TrainError> {
    let (set, report) = tokenize(&request.config, tokenizer, conversations, request.cache_dir.as_deref())?;
    for warning in &report.warnings {
        journal.note(NoteLevel::Warning, &format!("{which} data: {warning}"))?;
    }
    Ok(set)
}

/// How much there is in the epochs of a run, which random changes of rounds make differ.
struct EpochSizes {
    plan: RunPlan,
    /// Tokens of the longest sample of any epoch.
    longest_sample: usize,
    /// Tokens of the largest epoch.
    n_tokens: usize,
}

impl EpochSizes {
    fn of(config: &ExperimentConfig, train: &TrainingSet, seed: u64) -> Result<Self, TrainError> {
        let no_plan = RunPlan::new(Vec::new(), 1, 1.0);
        let mut sizes = Self { plan: no_plan, longest_sample: 0, n_tokens: 0 };
        sizes.include(train.unchanged());
        sizes.plan = RunPlan::of(&config.training, |epoch_idx| {
            let samples = train.epoch(epoch_idx)?;
            sizes.include(&samples);
            Ok::<_, TrainError>(epoch_batches(config, &samples, seed, epoch_idx).n_micro_batches())
        })?;
        Ok(sizes)
    }

    fn include(&mut self, set: &SampleSet) {
        let lengths = || set.samples.iter().map(|sample| sample.ids.len());
        self.longest_sample = lengths().fold(self.longest_sample, usize::max);
        self.n_tokens = self.n_tokens.max(lengths().sum());
    }
}

/// Refuses samples, and wrapped rows, that are longer than the model's context.
fn check_lengths(
    model: &CausalLm,
    config: &ExperimentConfig,
    train: &EpochSizes,
    validation: &SampleSet,
) -> Result<(), TrainError> {
    let validation = validation.samples.iter().map(|sample| sample.ids.len());
    let longest = validation.fold(train.longest_sample, usize::max);
    let wrapped = match config.training.packing {
        Packing::Wrapped => train.n_tokens.min(config.tokenizer.max_length),
        Packing::Samples | Packing::Rows => 0,
    };
    let (n_tokens, context) = (longest.max(wrapped), model.context_length());
    if n_tokens > context {
        return Err(ModelError::TooLong { n_tokens, context }.into());
    }
    Ok(())
}

fn record(
    request: &RunRequest,
    config: &ExperimentConfig,
    seed: u64,
    device: ChosenDevice,
    substitutions: Vec<String>,
    fingerprints: Fingerprints,
    judge: Judge,
    model: &CausalLm,
) -> RunRecord {
    let info = describe(device);
    let labels = config.class_labels();
    RunRecord {
        seed,
        model_path: absolute(&request.model_path),
        program_version: env!("CARGO_PKG_VERSION").to_owned(),
        machine: Machine {
            device: info.name,
            instruction_set: info.instruction_set,
            n_threads: info.n_threads,
            platform: format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH),
        },
        dtypes: NumberFormats::of(config, model.device()).describe(config),
        substitutions,
        metric: judge.name.to_owned(),
        fingerprints,
        n_parameters: model.parameters().n_values() as u64,
        n_trainable_parameters: model.parameters().n_trainable() as u64,
        id2label: labels.iter().cloned().enumerate().collect(),
        label2id: labels.into_iter().zip(0..).collect(),
        config: field_values(config),
    }
}

/// The path from the root, so that it still means the same when a later program starts in another folder.
fn absolute(path: &std::path::Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds() {
        assert_eq!(choose_seed(7, Some(9)), 7);
        assert_eq!(choose_seed(-1, Some(9)), 9);
        let drawn: std::collections::BTreeSet<u64> = (0..20).map(|_| choose_seed(-1, None)).collect();
        assert!(drawn.len() > 10 && drawn.iter().all(|seed| *seed < 1_000_000));
    }
}
