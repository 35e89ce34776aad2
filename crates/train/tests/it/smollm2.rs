//! A whole run over a real model, step by step against PyTorch: data, chat template, packing, LoRA and AdamW together.
//!
//! Needs the model (`TUNESMITH_SMOLLM2`, or the program's model cache) and the shared data (`TUNESMITH_SHARED`, or
//! `../shared` beside the repository); without them the test says so and passes.

use std::path::{Path, PathBuf};

use tunesmith_config::ExperimentConfig;
use tunesmith_formats::model_source::ModelSource;
use tunesmith_formats::peft::write_adapter;
use tunesmith_models::{CausalLm, LoraSpec};
use tunesmith_ops::open_device;
use tunesmith_train::{Event, EventBody, Observer, RunRequest, StopFlag, read_events, run};

/// Stops the run when the reference ends.
struct StopAfter(u64, StopFlag);

impl Observer for StopAfter {
    fn event(&mut self, event: &Event) {
        if matches!(&event.body, EventBody::Step(step) if step.step >= self.0) {
            self.1.raise();
        }
    }
}

fn shared(path: &str) -> Option<PathBuf> {
    let repository = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared");
    let root = std::env::var_os("TUNESMITH_SHARED").map_or_else(|| PathBuf::from(repository), PathBuf::from);
    Some(root.join(path)).filter(|path| path.exists())
}

fn model() -> Option<PathBuf> {
    let named = std::env::var_os("TUNESMITH_SMOLLM2").map(PathBuf::from);
    let cached = || {
        let home = std::env::var_os("HOME")?;
        Some(Path::new(&home).join(".cache/tunesmith/models/SmolLM2-135M-Instruct.Q4_1.gguf"))
    };
    named.or_else(cached).filter(|path| path.exists())
}

/// Writes the adapter that the reference started from: A[k] = (frac(k · 2654435761 / 2³²) − ½) · 2 / √in, B = 0.
fn write_start(model: &Path, dir: &Path) {
    const MULTIPLIER: u64 = 2_654_435_761;
    let mut model = CausalLm::load(&ModelSource::open(model).unwrap(), &open_device("cpu").unwrap()).unwrap();
    let spec = LoraSpec { r: 4, alpha: 16.0, ..LoraSpec::default() };
    model.attach_lora(&spec).unwrap();
    let mut tensors = model.adapter_tensors().unwrap();
    for tensor in tensors.iter_mut().filter(|tensor| tensor.name.contains("lora_A")) {
        let in_features = tensor.shape[1] as f64;
        for (value_idx, value) in tensor.data.iter_mut().enumerate() {
            let unit = (value_idx as u64 * MULTIPLIER % (1 << 32)) as f64 / (1_u64 << 32) as f64;
            *value = ((unit - 0.5) * 2.0 / in_features.sqrt()) as f32;
        }
    }
    std::fs::create_dir(dir).unwrap();
    write_adapter(dir, &model.adapter_config().unwrap(), &tensors).unwrap();
}

#[test]
fn a_real_model_follows_the_reference() {
    let (Some(model), Some(rows), Some(reference)) =
        (model(), shared("data/gsm8k/train.jsonl"), shared("data/smollm2-golden/train_gsm8k_lora.json"))
    else {
        println!("skipped: the model or the shared data are not on this machine");
        return;
    };
    let reference: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(reference).unwrap()).unwrap();
    let reference = &reference["runs"][0];
    let dir = tempfile::tempdir().unwrap();
    let start = dir.path().join("start");
    write_start(&model, &start);

    let mut config = ExperimentConfig::default();
    let number = |field: &str| reference[field].to_string();
    let settings = [
        ("llm_backbone", model.display().to_string()),
        ("dataset.train_dataframe", rows.display().to_string()),
        ("dataset.max_rows", "20".to_owned()),
        ("dataset.layout", "columns".to_owned()),
        ("dataset.prompt_column", "question".to_owned()),
        ("dataset.answer_column", "answer".to_owned()),
        ("dataset.system_column", "None".to_owned()),
        ("dataset.parent_id_column", "None".to_owned()),
        ("dataset.text_format", "chat_template".to_owned()),
        // The validation rows are taken out of the table, but the reference trains on all rows in their order.
        ("dataset.validation_strategy", "custom".to_owned()),
        ("dataset.validation_dataframe", rows.display().to_string()),
        ("tokenizer.max_length", number("seq")),
        ("architecture.pretrained_weights", start.display().to_string()),
        ("architecture.gradient_checkpointing", "false".to_owned()),
        ("architecture.backbone_dtype", "float32".to_owned()),
        ("environment.mixed_precision", "false".to_owned()),
        ("environment.seed", "1".to_owned()),
        ("training.packing", "wrapped".to_owned()),
        ("training.shuffle", "false".to_owned()),
        ("training.batch_size", number("batch")),
        ("training.learning_rate", number("lr")),
        ("training.schedule", "Constant".to_owned()),
        ("training.lora_dropout", "0".to_owned()),
        ("training.save_checkpoint", "disable".to_owned()),
    ];
    for (field, value) in settings {
        config.set(field, &value).unwrap_or_else(|error| panic!("{field}: {error}"));
    }
    const N_STEPS: usize = 4;
    let mut expected: Vec<f64> = serde_json::from_value(reference["loss"].clone()).unwrap();
    expected.truncate(N_STEPS);
    let run_dir = dir.path().join("run");
    let request = RunRequest {
        config,
        run_dir,
        resume: false,
        model_path: model,
        cache_dir: None,
        judge: None,
        least_free_disk_bytes: 0,
        profile: false,
    };
    let stop = StopFlag::new();
    run(&request, &mut StopAfter(expected.len() as u64, stop.clone()), &stop).unwrap();

    let mut n_labelled_tokens = 0;
    let mut losses = Vec::new();
    for event in read_events(&request.run_dir.join("events.jsonl")).unwrap() {
        if let EventBody::Step(step) = event.body {
            n_labelled_tokens += step.n_labelled_tokens;
            losses.push(step.loss.unwrap());
        }
    }
    let worst = losses.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    println!("{losses:?}\nworst difference of losses {worst:e}, {n_labelled_tokens} labelled tokens");
    assert_eq!(losses.len(), expected.len());
    assert!(worst < 1e-4, "{expected:?}");
}
