//! What a run leaves behind for other programs, and what runs can start from.

use tunesmith_formats::model_source::ModelSource;
use tunesmith_formats::peft::read_adapter;
use tunesmith_formats::sequence_classifier::{ScoreProblem, SequenceClassifier};
use tunesmith_formats::tokenizer::Tokenizer;
use tunesmith_formats::{StoreDtype, StoredDtype};
use tunesmith_models::{CausalLm, LoraSpec, ScoreHeadKind, ScoreHeadSpec, TokenBatch};
use tunesmith_ops::{Segments, open_device};
use tunesmith_train::{
    EventBody, ExportKind, ModelFolderOptions, RunWeights, SavedRun, TrainError, write_adapter_folder,
    write_model_folder,
};

use crate::support::{Bench, golden, losses};

fn logits(model: &CausalLm) -> Vec<f32> {
    let ids: Vec<u32> = (3..40).collect();
    let positions: Vec<u32> = (0..ids.len() as u32).collect();
    let segments = Segments::new(&[ids.len()]);
    let tokens = TokenBatch { ids: &ids, positions: &positions, segments: &segments };
    model.logits(model.hidden(&tokens, None).unwrap()).try_into_vec_as().unwrap()
}

fn worst_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn gv_11_2_score_heads_are_exported_with_models_and_adapters() {
    let bench = Bench::new();
    let source = ModelSource::open(&bench.model()).unwrap();
    let device = open_device("cpu").unwrap();
    let tokenizer = source.tokenizer().unwrap();
    let load = |kind: ScoreHeadKind| {
        let mut model = CausalLm::load(&source, &device).unwrap();
        model.attach_score_head(&ScoreHeadSpec { kind, n_outputs: 3, seed: 5 }).unwrap();
        let target_modules = vec![];
        let lora = LoraSpec { r: 2, alpha: 4.0, target_modules, seed: 1, ..LoraSpec::default() };
        model.attach_lora(&lora).unwrap();
        // B starts at zero, where the adapter does nothing.
        let store = model.parameters_mut();
        for idx in 0..store.len() {
            if store.get(idx).unwrap().name.ends_with("lora_B.weight") {
                store.update_value(idx, |b| b + 0.05).unwrap();
            }
        }
        model
    };
    for kind in [ScoreHeadKind::OnHidden, ScoreHeadKind::RegressionOnLogits] {
        let model_dir = bench.path(&format!("model-{kind:?}"));
        let options =
            ModelFolderOptions { problem: ScoreProblem::MultiLabel, ..ModelFolderOptions::default() };
        let report = write_model_folder(load(kind), &source, &tokenizer, options, &model_dir).unwrap();
        assert!(report.worst_logit_difference < 1e-4, "{report:?}");
        let written = ModelSource::open(&model_dir).unwrap();
        assert_eq!(written.contains("score.weight"), kind == ScoreHeadKind::OnHidden);
        assert_eq!(
            written.contains("lm_head.weight"),
            source.contains("lm_head.weight") && kind.is_on_logits()
        );
        let classifier = SequenceClassifier::of(written.config());
        assert_eq!(
            classifier.map(|c| (c.labels.len(), c.problem)),
            (!kind.is_on_logits()).then_some((3, Some(ScoreProblem::MultiLabel)))
        );

        let adapter_dir = bench.path(&format!("adapter-{kind:?}"));
        let base = bench.model().display().to_string();
        let report = write_adapter_folder(load(kind), &source, &tokenizer, &base, &adapter_dir).unwrap();
        assert_eq!(report.worst_logit_difference, 0.0);
        let (config, _) = read_adapter(&adapter_dir).unwrap();
        assert_eq!(config.modules_to_save.is_some(), !kind.is_on_logits());
        for dir in [model_dir, adapter_dir] {
            let file = dir.join("regression_head.safetensors");
            assert_eq!(file.is_file(), kind.is_on_logits(), "{}", file.display());
        }
    }
}

#[test]
fn an_adapter_run_exports_adapter_and_merged_model() {
    let bench = Bench::new();
    let summary = bench.run("run", &[]).unwrap();
    let adapter_dir = summary.adapter_dir.unwrap();
    assert_eq!(summary.worst_logit_difference, Some(0.0));
    let (config, tensors) = read_adapter(&adapter_dir).unwrap();
    assert_eq!((config.r, config.lora_alpha, config.lora_dropout as f32), (4, 16.0, 0.1));
    assert_eq!(config.base_model_name_or_path, Some(bench.model().display().to_string()));
    assert_eq!(tensors.len(), 2 * 2 * 7);
    // Whoever gets the folder can ask the model as it was trained.
    let beside = Tokenizer::from_folder(&adapter_dir).unwrap();
    let template = beside.chat_template().unwrap().source().to_owned();
    assert!(template.contains("<|prompt|>") && template.contains("<|answer|>"), "{template}");

    let device = open_device("cpu").unwrap();
    let saved = SavedRun::open(&summary.run_dir, None).unwrap();
    let trained = logits(&saved.model(&RunWeights::Result, &device).unwrap());
    let base = logits(&CausalLm::load(&ModelSource::open(&bench.model()).unwrap(), &device).unwrap());
    assert!(worst_difference(&trained, &base) > 0.1, "training changed nothing");
    let last = RunWeights::Checkpoint("last".to_owned());
    assert_eq!(logits(&saved.model(&last, &device).unwrap()), trained);

    let as_base = bench.path("merged-as-base");
    saved.export(&RunWeights::Result, ExportKind::Model, None, &device, &as_base).unwrap();
    let stored = ModelSource::open(&as_base).unwrap();
    assert!(stored.tensors().iter().all(|tensor| tensor.dtype == StoredDtype::F32));
    for (dtype, most) in [(StoreDtype::F32, 1e-4), (StoreDtype::F16, 0.1), (StoreDtype::BF16, 0.8)] {
        let out = bench.path(&format!("merged-{}", dtype.name()));
        let report =
            saved.export(&RunWeights::Result, ExportKind::Model, Some(dtype), &device, &out).unwrap();
        println!("{}: {report:?}", dtype.name());
        assert!(report.worst_logit_difference <= report.logit_difference_bound);
        let source = ModelSource::open(&out).unwrap();
        let merged = logits(&CausalLm::load(&source, &device).unwrap());
        assert!(worst_difference(&merged, &trained) <= most);
        let tokenizer = source.tokenizer().unwrap();
        assert_eq!(tokenizer.encode("What is 3?").unwrap(), saved.tokenizer().encode("What is 3?").unwrap());
        let template = tokenizer.chat_template().unwrap().source().to_owned();
        assert!(template.contains("<|prompt|>") && template.contains("<|answer|>"), "{template}");
        let settings = source.generation_config().unwrap();
        assert!(settings["eos_token_id"].to_string().contains(&tokenizer.eos_id().to_string()), "{settings}");
    }
}

/// A base model that ends texts with one token, and a template that ends answers with another.
#[test]
fn exported_models_stop_where_answers_end() {
    let bench = Bench::new();
    let template = "{% for m in messages %}{{ m.role }}: {{ m.content }}{% if m.role == 'assistant' %}<|im_start|>{% endif %}\
                    {{ '\n' }}{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}";
    let changes = [("dataset.text_format", "chat_template"), ("tokenizer.chat_template", template)];
    let summary = bench.run("run", &changes).unwrap();
    let saved = SavedRun::open(&summary.run_dir, None).unwrap();
    let out = bench.path("merged");
    saved.export(&RunWeights::Result, ExportKind::Model, None, &open_device("cpu").unwrap(), &out).unwrap();
    let source = ModelSource::open(&out).unwrap();
    let (before, after) = (saved.tokenizer(), source.tokenizer().unwrap());
    let end = before.token_id("<|im_start|>").unwrap();
    let ends = source.generation_config().unwrap()["eos_token_id"].clone();
    let ends: Vec<u64> = ends.as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).collect();
    assert!(ends.contains(&u64::from(end)) && ends.contains(&u64::from(before.eos_id())), "{ends:?}");
    // Programs that know one token only stop there, too.
    assert_eq!(after.eos_id(), end);
    assert_eq!(after.chat_template().unwrap().source(), template);
}

#[test]
fn a_run_that_trains_base_weights_exports_a_model() {
    let bench = Bench::new();
    let full = bench.run("full", &[("training.lora", "false"), ("training.learning_rate", "0.001")]).unwrap();
    let unfrozen = bench.run("unfrozen", &[("training.lora_unfreeze_layers", "head")]).unwrap();
    let device = open_device("cpu").unwrap();
    for summary in [full, unfrozen] {
        assert_eq!(summary.adapter_dir, None);
        let dir = summary.model_dir.unwrap();
        assert!(summary.worst_logit_difference.unwrap() < 1e-4);
        let exported = logits(&CausalLm::load(&ModelSource::open(&dir).unwrap(), &device).unwrap());
        let saved = SavedRun::open(&summary.run_dir, None).unwrap();
        let last = saved.model(&RunWeights::Checkpoint("last".to_owned()), &device).unwrap();
        assert!(worst_difference(&exported, &logits(&last)) < 1e-4);
        let refusal =
            saved.export(&RunWeights::Result, ExportKind::Adapter, None, &device, &bench.path("adapter"));
        assert!(matches!(refusal, Err(TrainError::NoWeights { .. })));
    }
}

#[test]
fn the_best_weights_are_exported_when_they_are_kept() {
    let bench = Bench::new();
    // A rate this high overshoots, so that the best evaluation is not the last.
    let changes = [
        ("training.save_checkpoint", "best"),
        ("training.learning_rate", "3"),
        ("training.schedule", "Constant"),
        ("training.warmup_epochs", "0"),
        ("training.evaluation_epochs", "0.1"),
    ];
    let summary = bench.run("run", &changes).unwrap();
    let best_step = summary.best_step.unwrap();
    assert!(best_step < summary.n_steps, "the last evaluation is the best: {summary:?}");
    let exported = bench.events("run").iter().find_map(|event| match &event.body {
        EventBody::Export(export) => Some(export.step),
        _ => None,
    });
    assert_eq!(exported, Some(best_step));
    let device = open_device("cpu").unwrap();
    let saved = SavedRun::open(&summary.run_dir, None).unwrap();
    let result = logits(&saved.model(&RunWeights::Result, &device).unwrap());
    let best = logits(&saved.model(&RunWeights::Checkpoint("best".to_owned()), &device).unwrap());
    let last = logits(&saved.model(&RunWeights::Checkpoint("last".to_owned()), &device).unwrap());
    assert_eq!(result, best);
    assert_ne!(result, last);
}

#[test]
fn each_evaluation_can_be_kept() {
    let bench = Bench::new();
    let summary = bench.run("run", &[("training.save_checkpoint", "each_evaluation_epoch")]).unwrap();
    let mut names: Vec<String> = std::fs::read_dir(bench.folder("run").checkpoints())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["step_10", "step_2", "step_4", "step_7", "step_9"]);
    let saved = SavedRun::open(&summary.run_dir, None).unwrap();
    let missing = saved.model(&RunWeights::Checkpoint("step_3".to_owned()), &open_device("cpu").unwrap());
    let Err(error) = missing else { panic!("there is no such checkpoint") };
    assert!(error.to_string().contains("step_10, step_2"), "{error}");
}

#[test]
fn nothing_is_kept_when_checkpoints_are_disabled() {
    let bench = Bench::new();
    let summary = bench.run("run", &[("training.save_checkpoint", "disable")]).unwrap();
    assert_eq!((summary.adapter_dir, summary.model_dir), (None, None));
    assert!(!bench.folder("run").checkpoints().exists());
    assert!(!bench.folder("run").adapter().exists());
}

#[test]
fn runs_start_from_what_earlier_runs_left() {
    let bench = Bench::new();
    let first = bench.run("first", &[]).unwrap();
    let device = open_device("cpu").unwrap();
    let merged = bench.path("merged");
    let saved = SavedRun::open(&first.run_dir, None).unwrap();
    saved.export(&RunWeights::Result, ExportKind::Model, Some(StoreDtype::F32), &device, &merged).unwrap();
    let adapter = first.adapter_dir.clone().unwrap();
    let checkpoint = bench.folder("first").checkpoints().join("last");
    for (name, path) in
        [("adapter", &adapter), ("run", &first.run_dir), ("checkpoint", &checkpoint), ("model", &merged)]
    {
        let path = path.display().to_string();
        let changes = [("architecture.pretrained_weights", path.as_str()), ("training.epochs", "0")];
        let summary = bench.run(&format!("from-{name}"), &changes).unwrap();
        let (before, now) = (first.validation_perplexity.unwrap(), summary.validation_perplexity.unwrap());
        assert!((before - now).abs() / before < 1e-4, "{name}: {before} {now}");
    }
    let path = adapter.display().to_string();
    let changes = [("architecture.pretrained_weights", path.as_str()), ("training.learning_rate", "0.001")];
    bench.run("second", &changes).unwrap();
    let (before, after) = (losses(&bench.events("first")), losses(&bench.events("second")));
    assert!(after[0] < before[0] - 0.5, "the second run does not start where the first ended");
    let refusal = bench.run("refused", &[changes[0], ("training.lora_r", "8")]).unwrap_err();
    assert!(refusal.to_string().contains("training.lora_r 4, the configuration says 8"), "{refusal}");
}

#[test]
fn reference_adapters_are_exported_as_they_came() {
    let device = open_device("cpu").unwrap();
    for (adapter, base) in
        [("llama-mha-lora", "llama-mha"), ("llama3-rope-lora", "llama3-rope"), ("gpt2-lora", "gpt2")]
    {
        let source = ModelSource::open(&golden(base)).unwrap();
        let mut model = CausalLm::load(&source, &device).unwrap();
        let (config, tensors) = read_adapter(&golden(adapter)).unwrap();
        model.load_adapter(&config, tensors.clone()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("adapter");
        let tokenizer = Tokenizer::from_folder(&golden("tokenizers/bpe-llama3")).unwrap();
        let report = write_adapter_folder(model, &source, &tokenizer, base, &out).unwrap();
        assert_eq!(report.worst_logit_difference, 0.0);
        let (written_config, mut written) = read_adapter(&out).unwrap();
        let mut tensors = tensors;
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        written.sort_by(|a, b| a.name.cmp(&b.name));
        assert_eq!(written, tensors, "{adapter}");
        assert_eq!((written_config.r, written_config.use_rslora), (config.r, config.use_rslora));
    }
}
