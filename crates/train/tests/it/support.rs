//! A tiny random model with a real tokenizer, a tiny table, and runs over them.

use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tunesmith_config::ExperimentConfig;
use tunesmith_formats::FormatError;
use tunesmith_formats::StoreDtype;
use tunesmith_formats::safetensors_io::{NamedTensor, write_sharded};
use tunesmith_train::{
    Event, EventBody, KeyUse, NoObserver, RunFolder, RunRequest, RunSummary, StopFlag, TrainError,
    derive_key, read_events, run,
};

const VOCAB_SIZE: usize = 424;
const WIDTH: usize = 32;
const INNER: usize = 48;
const N_LAYERS: usize = 2;
const N_HEADS: usize = 4;
const N_KV_HEADS: usize = 2;

/// The folder of the reference numbers.
pub(crate) fn golden(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden")).join(name)
}

/// A folder with a model, a table and room for runs.
pub(crate) struct Bench {
    dir: TempDir,
}

impl Bench {
    /// A Llama of two layers with random weights, and a table of 24 rows.
    pub(crate) fn new() -> Self {
        let bench = Self { dir: tempfile::tempdir().unwrap() };
        std::fs::create_dir(bench.model()).unwrap();
        write_model(&bench.model());
        std::fs::write(bench.path("rows.csv"), table()).unwrap();
        bench
    }

    /// A path in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The base model.
    pub(crate) fn model(&self) -> PathBuf {
        self.path("base")
    }

    /// A short LoRA experiment with dropout, accumulation, two epochs and four evaluations, and `changes` to it.
    pub(crate) fn config(&self, changes: &[(&str, &str)]) -> ExperimentConfig {
        let mut config = ExperimentConfig::default();
        let rows = self.path("rows.csv").display().to_string();
        let base = self.model().display().to_string();
        let settings = [
            ("experiment_name", "tiny"),
            ("llm_backbone", &base),
            ("dataset.train_dataframe", &rows),
            ("dataset.validation_size", "0.2"),
            ("dataset.prompt_column", "instruction"),
            ("dataset.answer_column", "output"),
            ("dataset.system_column", "None"),
            ("dataset.parent_id_column", "None"),
            ("tokenizer.max_length", "48"),
            ("architecture.backbone_dtype", "float32"),
            ("architecture.gradient_checkpointing", "false"),
            ("environment.mixed_precision", "false"),
            ("environment.seed", "7"),
            ("prediction.metric", "Perplexity"),
            ("training.epochs", "2"),
            ("training.batch_size", "2"),
            ("training.grad_accumulation", "2"),
            ("training.learning_rate", "0.01"),
            ("training.lora_dropout", "0.1"),
            ("training.evaluation_epochs", "0.5"),
            ("training.gradient_clip", "1"),
            ("training.weight_decay", "0.01"),
            ("training.warmup_epochs", "0.5"),
        ];
        for (field, value) in settings.iter().chain(changes) {
            config.set(field, value).unwrap_or_else(|error| panic!("{field}: {error}"));
        }
        config
    }

    /// A request for a new run in the folder `name`.
    pub(crate) fn request(&self, name: &str, config: ExperimentConfig) -> RunRequest {
        RunRequest {
            config,
            run_dir: self.path(name),
            resume: false,
            model_path: self.model(),
            cache_dir: None,
            judge: None,
            least_free_disk_bytes: 0,
            profile: false,
        }
    }

    /// Runs to the end in the folder `name`.
    pub(crate) fn run(&self, name: &str, changes: &[(&str, &str)]) -> Result<RunSummary, TrainError> {
        run(&self.request(name, self.config(changes)), &mut NoObserver, &StopFlag::new())
    }

    /// The run folder `name`.
    pub(crate) fn folder(&self, name: &str) -> RunFolder {
        RunFolder::new(self.path(name))
    }

    /// The events of the run `name`.
    pub(crate) fn events(&self, name: &str) -> Vec<Event> {
        read_events(&self.folder(name).events()).unwrap()
    }
}

/// The events that must repeat, as text, so that every bit of a number counts.
pub(crate) fn comparable(events: &[Event]) -> Vec<String> {
    events.iter().filter_map(|event| Some(serde_json::to_string(event.comparable()?).unwrap())).collect()
}

/// The training losses in order.
pub(crate) fn losses(events: &[Event]) -> Vec<f64> {
    let loss = |event: &Event| match &event.body {
        EventBody::Step(step) => step.loss,
        _ => None,
    };
    events.iter().filter_map(loss).collect()
}

/// A number in [-1, 1) that is a function of its arguments.
fn noise(tensor_idx: u64, value_idx: u64) -> f32 {
    let key = derive_key(11, KeyUse::AdapterInit, &[tensor_idx, value_idx]);
    (key >> 40) as f32 / (1u64 << 23) as f32 - 1.0
}

fn write_model(dir: &Path) {
    let head_dim = WIDTH / N_HEADS;
    let config = serde_json::json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": VOCAB_SIZE,
        "hidden_size": WIDTH, "intermediate_size": INNER, "num_hidden_layers": N_LAYERS,
        "num_attention_heads": N_HEADS, "num_key_value_heads": N_KV_HEADS, "head_dim": head_dim,
        "max_position_embeddings": 128, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "hidden_act": "silu",
        "tie_word_embeddings": false, "attention_bias": false, "mlp_bias": false,
        "bos_token_id": 1, "eos_token_id": 2, "torch_dtype": "float32",
    });
    std::fs::write(dir.join("config.json"), serde_json::to_string_pretty(&config).unwrap()).unwrap();

    let kv = N_KV_HEADS * head_dim;
    let mut shapes = vec![
        ("model.embed_tokens.weight".to_owned(), vec![VOCAB_SIZE, WIDTH]),
        ("model.norm.weight".to_owned(), vec![WIDTH]),
        ("lm_head.weight".to_owned(), vec![VOCAB_SIZE, WIDTH]),
    ];
    for layer_idx in 0..N_LAYERS {
        let modules: [(&str, Vec<usize>); 9] = [
            ("self_attn.q_proj", vec![WIDTH, WIDTH]),
            ("self_attn.k_proj", vec![kv, WIDTH]),
            ("self_attn.v_proj", vec![kv, WIDTH]),
            ("self_attn.o_proj", vec![WIDTH, WIDTH]),
            ("mlp.gate_proj", vec![INNER, WIDTH]),
            ("mlp.up_proj", vec![INNER, WIDTH]),
            ("mlp.down_proj", vec![WIDTH, INNER]),
            ("input_layernorm", vec![WIDTH]),
            ("post_attention_layernorm", vec![WIDTH]),
        ];
        let name = |module: &str| format!("model.layers.{layer_idx}.{module}.weight");
        shapes.extend(modules.into_iter().map(|(module, shape)| (name(module), shape)));
    }
    let tensors = shapes.into_iter().enumerate().map(|(tensor_idx, (name, shape))| {
        let is_norm = shape.len() == 1;
        let data = (0..shape.iter().product::<usize>() as u64)
            .map(|value_idx| f32::from(u8::from(is_norm)) + 0.3 * noise(tensor_idx as u64, value_idx))
            .collect();
        Ok::<_, FormatError>(NamedTensor { name, shape, data })
    });
    write_sharded(dir, tensors, StoreDtype::F32, u64::MAX).unwrap();
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(golden("tokenizers/bpe-llama3").join(name), dir.join(name)).unwrap();
    }
}

/// Questions and answers of different lengths.
fn table() -> String {
    let mut text = "instruction,output\n".to_owned();
    for row in 0..24 {
        let more = " and one".repeat(row % 4);
        text.push_str(&format!(
            "\"What is {row} and {}{more}?\",\"It is {}.\"\n",
            row + 1,
            2 * row + 1 + row % 4
        ));
    }
    text
}
