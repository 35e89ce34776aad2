//! Trained weights as folders that other programs load: a PEFT adapter, or a whole model in Hugging Face form.
//!
//! A folder appears only after it was written completely, read back from disk as its user will read it, and found to
//! give the same logits, or scores, as the trained model.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};
use tunesmith_data::end_ids;
use tunesmith_formats::atomic::AtomicDir;
use tunesmith_formats::label_names::{add_label_names, write_label_names};
use tunesmith_formats::model_source::ModelSource;
use tunesmith_formats::peft::{read_adapter, write_adapter};
use tunesmith_formats::safetensors_io::write_sharded;
use tunesmith_formats::score_head::{read_score_head, write_score_head};
use tunesmith_formats::sequence_classifier::{ScoreProblem, SequenceClassifier};
use tunesmith_formats::tokenizer::Tokenizer;
use tunesmith_formats::{StoreDtype, StoredDtype};
use tunesmith_models::{CausalLm, ModelError};
use tunesmith_ops::Compute;

use crate::error::TrainError;
use crate::json_file::write_json;
use crate::keys::{KeyUse, derive_key};
use crate::sequences::Sequences;

/// How a model folder is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelFolderOptions {
    /// Number format of the weights.
    pub dtype: StoreDtype,
    /// Largest size of one weight file.
    pub max_shard_bytes: u64,
    /// What the scores of a score head on the hidden state mean; of no meaning for other models.
    pub problem: ScoreProblem,
}

impl Default for ModelFolderOptions {
    /// Exact weights in files of 5 GB, as transformers writes them.
    fn default() -> Self {
        Self { dtype: StoreDtype::F32, max_shard_bytes: 5_000_000_000, problem: ScoreProblem::SingleLabel }
    }
}

/// What an export wrote and how it was checked.
#[derive(Clone, Debug, PartialEq)]
pub struct ExportReport {
    /// The folder.
    pub path: PathBuf,
    /// Largest absolute difference between the logits of the trained model and of the folder read back.
    pub worst_logit_difference: f64,
    /// What was accepted.
    pub logit_difference_bound: f64,
    /// Seconds it took.
    pub secs: f64,
}

/// Writes the adapter of `model` to `dir` in PEFT form, with `base_name` as the base model's name or path and with the
/// tokenizer and its chat template, and checks it by reading `source` and the written adapter anew. The model is dropped
/// before that, and the weights of `source` are read one at a time.
///
/// # Errors
/// [`TrainError::ExportDiffers`] when the loaded pair computes something else; nothing is left in `dir` then.
pub fn write_adapter_folder(
    mut model: CausalLm,
    source: &ModelSource,
    tokenizer: &Tokenizer,
    base_name: &str,
    dir: &Path,
) -> Result<ExportReport, TrainError> {
    let started = Instant::now();
    let unfinished = AtomicDir::create(dir)?;
    let mut config = model.adapter_config()?;
    config.base_model_name_or_path = Some(base_name.to_owned());
    write_adapter(unfinished.path(), &config, &model.adapter_tensors()?)?;
    write_head_on_logits(&model, unfinished.path())?;
    tokenizer.save(unfinished.path())?;
    model.compute_in(Compute::F32);
    let expected = ProbeLogits::of(&model)?;
    let (device, frozen) = (model.device().clone(), model.frozen_format());
    drop(model);

    // The adapter was made for the base weights as the run kept them.
    let base = Arc::new(ModelSource::open(source.path())?);
    let mut loaded = CausalLm::on_disk(&base, &device, Some(frozen))?;
    let (config, tensors) = read_adapter(unfinished.path())?;
    loaded.load_adapter(&config, tensors)?;
    load_head_on_logits(&mut loaded, unfinished.path())?;
    accept(unfinished, dir, &expected, &ProbeLogits::of(&loaded)?, StoreDtype::F32, started)
}

/// Writes the weights of `model`, adapters folded in, to `dir` as a Hugging Face model folder with configuration,
/// generation settings and tokenizer, and checks it by reading the folder. The model is dropped before that, and the weights
/// are read one at a time, so the check takes no more memory than the largest of them.
///
/// # Errors
/// [`TrainError::ExportDiffers`] when the loaded folder computes something else; nothing is left in `dir` then.
pub fn write_model_folder(
    mut model: CausalLm,
    source: &ModelSource,
    tokenizer: &Tokenizer,
    options: ModelFolderOptions,
    dir: &Path,
) -> Result<ExportReport, TrainError> {
    let started = Instant::now();
    let unfinished = AtomicDir::create(dir)?;
    let out = unfinished.path();
    let pieces = model.merged_pieces().map(Ok::<_, ModelError>);
    write_sharded(out, pieces, options.dtype, options.max_shard_bytes)?;
    write_config(&model, tokenizer, &options, out)?;
    write_head_on_logits(&model, out)?;
    write_generation_config(out, source, tokenizer)?;
    tokenizer.save(out)?;
    model.compute_in(Compute::F32);
    let expected = ProbeLogits::of(&model)?;
    let device = model.device().clone();
    drop(model);

    let reopened = Arc::new(ModelSource::open(out)?);
    let mut loaded = CausalLm::on_disk(&reopened, &device, None)?;
    load_head_on_logits(&mut loaded, out)?;
    let logits = ProbeLogits::of(&loaded)?;
    // The files must be closed before their folder is renamed.
    drop((loaded, reopened));
    accept(unfinished, dir, &expected, &logits, options.dtype, started)
}

/// The number format in which most of a model's weights are stored; bfloat16 for blocks of 8 or fewer bits, which a merged
/// model cannot be written in.
pub(crate) fn usual_dtype(source: &ModelSource) -> StoreDtype {
    let n_bytes_of = |wanted: fn(StoredDtype) -> bool| -> usize {
        source.tensors().iter().filter(|tensor| wanted(tensor.dtype)).map(|tensor| tensor.n_bytes).sum()
    };
    let candidates = [
        (
            StoreDtype::BF16,
            n_bytes_of(|dtype| matches!(dtype, StoredDtype::BF16 | StoredDtype::Quantised(_))),
        ),
        (StoreDtype::F16, n_bytes_of(|dtype| dtype == StoredDtype::F16)),
        (StoreDtype::F32, n_bytes_of(|dtype| matches!(dtype, StoredDtype::F32 | StoredDtype::F64))),
    ];
    candidates.into_iter().max_by_key(|(_, n_bytes)| *n_bytes).map_or(StoreDtype::F32, |(dtype, _)| dtype)
}

/// Attaches the score head on logits that lies in the folder `dir` beside a model or an adapter, if there is one. All
/// other heads are part of the model or the adapter.
pub fn load_head_on_logits(model: &mut CausalLm, dir: &Path) -> Result<(), TrainError> {
    if let Some(tensor) = read_score_head(dir)? {
        model.load_score_head(tensor)?;
    }
    Ok(())
}

/// Writes a score head on logits into the folder `dir`, if the model has one, and the names of the scores, if they have any.
fn write_head_on_logits(model: &CausalLm, dir: &Path) -> Result<(), TrainError> {
    if !model.score_labels().is_empty() {
        write_label_names(dir, model.score_labels())?;
    }
    if model.score_head().is_some_and(|head| head.kind.is_on_logits()) {
        write_score_head(dir, &model.score_head_tensor()?)?;
    }
    Ok(())
}

/// Writes the configuration of the model, or of the sequence classifier that it is with a score head on the hidden state.
fn write_config(
    model: &CausalLm,
    tokenizer: &Tokenizer,
    options: &ModelFolderOptions,
    out: &Path,
) -> Result<(), TrainError> {
    match model.score_head().filter(|head| !head.kind.is_on_logits()) {
        None if model.score_labels().is_empty() => {
            model.config().save(out, options.dtype)?;
        }
        None => {
            let mut config = model.config().to_json(options.dtype);
            add_label_names(&mut config, model.score_labels());
            write_json(&out.join("config.json"), &config)?;
        }
        Some(head) => {
            // A text may end with an end-of-text token, which must not be taken for padding then.
            let is_end = |id: &u32| *id == tokenizer.eos_id() || model.end_ids().contains(id);
            let pad_id = Some(tokenizer.pad_id()).filter(|id| !is_end(id));
            SequenceClassifier::new(head.n_outputs, options.problem, pad_id)
                .with_labels(model.score_labels())
                .save(model.config(), out, options.dtype)?;
        }
    }
    Ok(())
}

/// Puts the folder in its place when what was read back agrees.
fn accept(
    unfinished: AtomicDir,
    dir: &Path,
    expected: &ProbeLogits,
    loaded: &ProbeLogits,
    dtype: StoreDtype,
    started: Instant,
) -> Result<ExportReport, TrainError> {
    let (worst, bound) = (expected.worst_difference(loaded), expected.bound(dtype));
    // A comparison that is not a number must fail, too.
    if worst.is_nan() || worst > bound {
        return Err(TrainError::ExportDiffers { path: dir.to_owned(), worst, bound });
    }
    unfinished.commit()?;
    Ok(ExportReport {
        path: dir.to_owned(),
        worst_logit_difference: worst,
        logit_difference_bound: bound,
        secs: started.elapsed().as_secs_f64(),
    })
}

/// Logits of a model on a few fixed token sequences, or the scores of its score head.
struct ProbeLogits(Vec<f32>);

impl ProbeLogits {
    /// Tokens of each probe, where the context allows.
    const LENGTHS: [usize; 4] = [1, 7, 33, 60];

    fn of(model: &CausalLm) -> Result<Self, TrainError> {
        let vocab_size = model.config().vocab_size as u64;
        let lengths = Self::LENGTHS.map(|length| length.min(model.context_length()));
        let n_tokens = lengths.iter().sum::<usize>() as u64;
        let random = |token_idx| (derive_key(0, KeyUse::Probe, &[token_idx]) % vocab_size) as u32;
        let mut probes = Sequences::new((0..n_tokens).map(random).collect(), &lengths);
        if let Some(start_id) = model.start_id() {
            // By turns a source and a text.
            for text in probes.segments.ranges().skip(1).step_by(2) {
                probes.ids.iter_mut().skip(text.start).take(1).for_each(|id| *id = start_id);
            }
        }
        let tokens = probes.batch();
        let logits = match model.score_head() {
            Some(_) => model.scores(&tokens)?,
            None => model.logits(model.hidden(&tokens, None)?),
        };
        model.check_reads()?;
        let logits =
            logits.try_into_vec_as::<f32>().map_err(|error| tunesmith_models::ModelError::DeviceRead {
                what: "the logits".to_owned(),
                reason: error.to_string(),
            })?;
        Ok(Self(logits))
    }

    /// Largest absolute difference; not a number when the two have different lengths or hold one.
    fn worst_difference(&self, other: &Self) -> f64 {
        if self.0.len() != other.0.len() {
            return f64::NAN;
        }
        let differences = self.0.iter().zip(&other.0).map(|(a, b)| (f64::from(*a) - f64::from(*b)).abs());
        differences.fold(
            0.0,
            |worst, difference| if difference.is_nan() { difference } else { worst.max(difference) },
        )
    }

    /// The difference that storing as `dtype` may cause: 1e-3 for float32 and logits up to 10, in proportion above, and
    /// more for the 16-bit formats, whose weights have 11 and 8 significant bits.
    fn bound(&self, dtype: StoreDtype) -> f64 {
        const USUAL_LARGEST_LOGIT: f64 = 10.0;
        let relative = match dtype {
            StoreDtype::F32 => 1e-4,
            StoreDtype::F16 => 1e-2,
            StoreDtype::BF16 => 8e-2,
        };
        let largest = self.0.iter().fold(0.0, |largest: f64, logit| largest.max(f64::from(logit.abs())));
        relative * largest.max(USUAL_LARGEST_LOGIT)
    }
}

/// The source's generation settings with all tokens that answers were trained to end with among those that end a text.
fn write_generation_config(
    out: &Path,
    source: &ModelSource,
    tokenizer: &Tokenizer,
) -> Result<(), TrainError> {
    let path = out.join("generation_config.json");
    let mut settings = source.generation_config()?;
    let mut wanted: Vec<u64> = end_ids(tokenizer).into_iter().map(u64::from).collect();
    // A tokenizer that was given the end of answers as its end of text had another one.
    wanted.extend(source.tokenizer().ok().map(|tokenizer| u64::from(tokenizer.eos_id())));
    if let Some(settings) = settings.as_object_mut() {
        let mut eos_ids: Vec<u64> = match settings.get("eos_token_id") {
            Some(Value::Array(ids)) => ids.iter().filter_map(Value::as_u64).collect(),
            Some(id) => id.as_u64().into_iter().collect(),
            None => Vec::new(),
        };
        for id in wanted.into_iter().rev() {
            if !eos_ids.contains(&id) {
                eos_ids.insert(0, id);
            }
        }
        let eos = if let [only] = eos_ids.as_slice() { json!(only) } else { json!(eos_ids) };
        settings.insert("eos_token_id".to_owned(), eos);
    }
    write_json(&path, &settings)
}
