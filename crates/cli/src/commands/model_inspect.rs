//! `tunesmith model inspect`: what is in a model, and what it takes to train it.

use std::collections::BTreeMap;

use clap::Args;
use serde::Serialize;
use tunesmith_formats::model_source::{ModelSource, TensorInfo};

use crate::failure::Failure;
use crate::memory::{MemoryEstimate, human_bytes};
use crate::model_store;
use crate::progress::grouped;
use crate::terminal::{Style, Terminal};

/// Rank for which the memory of adapters is estimated.
const TYPICAL_RANK: usize = 16;

/// Show what is in a model
///
/// Architecture, size, number formats, tokenizer, chat template, and how much memory training it takes. The weights are not
/// loaded.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  tunesmith model inspect demo
  tunesmith model inspect path/to/model --tensors
  tunesmith model inspect model.gguf --json | jq .n_parameters")]
pub(crate) struct InspectArgs {
    /// Model folder, GGUF file, hub id, or `demo`
    #[arg(value_name = "PATH_OR_ID")]
    model: String,

    /// List every tensor
    #[arg(long)]
    tensors: bool,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What is known of a model without loading it.
#[derive(Debug, Serialize)]
struct Report {
    path: String,
    format: &'static str,
    architecture: String,
    n_parameters: u64,
    n_tensors: usize,
    n_bytes: u64,
    /// Tensors by number format.
    dtypes: BTreeMap<String, usize>,
    context_tokens: Option<usize>,
    hidden_size: usize,
    intermediate_size: usize,
    n_layers: usize,
    n_heads: usize,
    n_kv_heads: usize,
    vocab_size: usize,
    has_tied_embeddings: bool,
    tokenizer: TokenizerReport,
    training_memory: MemoryEstimate,
    /// Where the files contradict themselves, and what is made of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tensors: Vec<TensorReport>,
}

/// The tokenizer, or why there is none that can be used.
#[derive(Debug, Serialize)]
struct TokenizerReport {
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    vocab_size: usize,
    bos: Option<String>,
    eos: Option<String>,
    chat_template: Option<String>,
}

#[derive(Debug, Serialize)]
struct TensorReport {
    name: String,
    shape: Vec<usize>,
    dtype: String,
    n_bytes: usize,
}

/// Inspects.
pub(crate) fn run(args: &InspectArgs, terminal: &Terminal) -> Result<(), Failure> {
    let stored = model_store::resolve(&args.model, terminal)?;
    let source = ModelSource::open(&stored.path)?;
    let report = Report::of(&source, args.tensors);
    if args.json {
        return terminal.pretty_json(&report);
    }
    report.show(terminal);
    Ok(())
}

impl Report {
    fn of(source: &ModelSource, with_tensors: bool) -> Self {
        let config = source.config();
        let tensors = source.tensors();
        let mut dtypes = BTreeMap::new();
        for tensor in tensors {
            *dtypes.entry(tensor.dtype.to_string()).or_insert(0) += 1;
        }
        let n_parameters: u64 = tensors.iter().map(n_values).sum();
        Self {
            path: source.path().display().to_string(),
            format: if source.is_gguf() { "gguf" } else { "safetensors" },
            architecture: format!("{:?}", config.architecture),
            n_parameters,
            n_tensors: tensors.len(),
            n_bytes: tensors.iter().map(|tensor| tensor.n_bytes as u64).sum(),
            dtypes,
            context_tokens: config.encoder_decoder.is_none().then_some(config.max_positions),
            hidden_size: config.hidden_size,
            intermediate_size: config.intermediate_size,
            n_layers: config.n_layers,
            n_heads: config.n_heads,
            n_kv_heads: config.n_kv_heads,
            vocab_size: config.vocab_size,
            has_tied_embeddings: config.tie_word_embeddings,
            tokenizer: TokenizerReport::of(source),
            training_memory: MemoryEstimate::of(source, TYPICAL_RANK),
            notes: source.notes().to_vec(),
            tensors: if with_tensors { tensors.iter().map(TensorReport::of).collect() } else { Vec::new() },
        }
    }

    fn show(&self, terminal: &Terminal) {
        let line = |name: &str, text: String| {
            terminal.line(format_args!("{} {text}", terminal.paint(Style::Bold, &format!("{name:<16}"))));
        };
        line("model", format!("{} ({})", self.path, self.format));
        line("architecture", self.architecture.clone());
        line("parameters", format!("{} in {} tensors", grouped(self.n_parameters), self.n_tensors));
        let dtypes: Vec<String> = self.dtypes.iter().map(|(dtype, n)| format!("{n} × {dtype}")).collect();
        line("stored as", format!("{}, {}", human_bytes(self.n_bytes), dtypes.join(", ")));
        let context = match self.context_tokens {
            Some(n_tokens) => format!("{} tokens", grouped(n_tokens as u64)),
            None => "unlimited: positions are relative".to_owned(),
        };
        line("context", context);
        line(
            "shape",
            format!(
                "{} layers, width {}, {} heads ({} for keys and values), inner width {}",
                self.n_layers, self.hidden_size, self.n_heads, self.n_kv_heads, self.intermediate_size
            ),
        );
        let tied = if self.has_tied_embeddings { "tied to the output head" } else { "separate output head" };
        line("vocabulary", format!("{} tokens, embedding {tied}", grouped(self.vocab_size as u64)));
        self.show_tokenizer(&line);
        let memory = &self.training_memory;
        line(
            "training memory",
            format!(
                "LoRA about {}, full about {}; each token computed at a time {}, or {} with gradient_checkpointing",
                human_bytes(memory.lora_bytes),
                human_bytes(memory.full_bytes),
                human_bytes(memory.activation_bytes_per_token),
                human_bytes(memory.recomputed_bytes_per_token)
            ),
        );
        for note in &self.notes {
            line("note", note.clone());
        }
        for tensor in &self.tensors {
            terminal.line(format_args!("  {:<60} {:<6} {:?}", tensor.name, tensor.dtype, tensor.shape));
        }
    }

    fn show_tokenizer(&self, line: &impl Fn(&str, String)) {
        let tokenizer = &self.tokenizer;
        if let Some(error) = &tokenizer.error {
            line("tokenizer", format!("cannot be used: {error}"));
            return;
        }
        let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "none".to_owned());
        let (bos, eos) = (or_none(&tokenizer.bos), or_none(&tokenizer.eos));
        line("tokenizer", format!("{} tokens, begin {bos}, end {eos}", grouped(tokenizer.vocab_size as u64)));
        let template = tokenizer.chat_template.as_ref().map_or_else(
            || "none; set dataset.text_format to markers, or chat with --plain".to_owned(),
            |template| format!("yes, {} characters", template.chars().count()),
        );
        line("chat template", template);
    }
}

impl TokenizerReport {
    fn of(source: &ModelSource) -> Self {
        match source.tokenizer() {
            Ok(tokenizer) => Self {
                error: None,
                vocab_size: tokenizer.vocab_size(),
                bos: tokenizer.bos_token().map(str::to_owned),
                eos: Some(tokenizer.eos_token().to_owned()),
                chat_template: tokenizer.chat_template().map(|template| template.source().to_owned()),
            },
            Err(error) => Self {
                error: Some(error.to_string()),
                vocab_size: 0,
                bos: None,
                eos: None,
                chat_template: None,
            },
        }
    }
}

impl TensorReport {
    fn of(tensor: &TensorInfo) -> Self {
        Self {
            name: tensor.name.clone(),
            shape: tensor.shape.clone(),
            dtype: tensor.dtype.to_string(),
            n_bytes: tensor.n_bytes,
        }
    }
}

fn n_values(tensor: &TensorInfo) -> u64 {
    tensor.shape.iter().map(|n| *n as u64).product()
}
