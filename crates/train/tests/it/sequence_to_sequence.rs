//! Models of encoder and decoder, from a table to a result that is loaded again.

use tunesmith_config::{ExperimentConfig, ProblemType};
use tunesmith_data::read_table;
use tunesmith_formats::model_source::ModelSource;
use tunesmith_formats::peft::read_adapter;
use tunesmith_train::{
    EventBody, ExportKind, NoObserver, RunFolder, RunRequest, RunSummary, RunWeights, SavedRun, StopFlag,
    TrainError, read_events, run,
};

use crate::support::{comparable, golden, losses};
use crate::tiny_t5;

struct Bench(tempfile::TempDir);

impl Bench {
    fn new(is_gated: bool) -> Self {
        let bench = Self(tempfile::tempdir().unwrap());
        tiny_t5::write_model(&bench.path("base"), is_gated);
        std::fs::write(bench.path("rows.csv"), tiny_t5::table()).unwrap();
        bench
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn config(&self, changes: &[(&str, &str)]) -> ExperimentConfig {
        let mut config = ExperimentConfig::for_problem_type(ProblemType::SequenceToSequenceModeling);
        let rows = self.path("rows.csv").display().to_string();
        let settings = [
            ("experiment_name", "tiny"),
            ("dataset.train_dataframe", &rows),
            ("dataset.validation_size", "0.2"),
            ("dataset.prompt_column", "prompt"),
            ("dataset.answer_column", "answer"),
            ("dataset.system_column", "None"),
            ("dataset.parent_id_column", "None"),
            ("tokenizer.max_length", "48"),
            ("architecture.backbone_dtype", "float32"),
            ("environment.seed", "5"),
            ("prediction.metric", "ExactMatch"),
            ("prediction.max_length_inference", "10"),
            ("training.lora", "false"),
            ("training.epochs", "2"),
            ("training.batch_size", "4"),
            ("training.learning_rate", "0.01"),
            ("training.evaluation_epochs", "1"),
        ];
        for (field, value) in settings.iter().chain(changes) {
            config.set(field, value).unwrap_or_else(|error| panic!("{field}: {error}"));
        }
        config
    }

    fn request(&self, name: &str, config: ExperimentConfig) -> RunRequest {
        RunRequest {
            config,
            run_dir: self.path(name),
            resume: false,
            model_path: self.path("base"),
            cache_dir: Some(self.path("cache")),
            profile: false,
            judge: None,
            least_free_disk_bytes: 0,
        }
    }

    fn run(&self, name: &str, changes: &[(&str, &str)]) -> Result<RunSummary, TrainError> {
        run(&self.request(name, self.config(changes)), &mut NoObserver, &StopFlag::new())
    }

    fn folder(&self, name: &str) -> RunFolder {
        RunFolder::new(self.path(name))
    }

    /// Loss, perplexity and metrics of the evaluations.
    fn evaluations(&self, name: &str) -> Vec<tunesmith_train::Evaluation> {
        let events = read_events(&self.folder(name).events()).unwrap();
        let evaluations = events.into_iter().filter_map(|event| match event.body {
            EventBody::Evaluation(evaluation) => Some(evaluation),
            _ => None,
        });
        evaluations.collect()
    }
}

#[test]
fn a_mapping_is_learned_by_random_weights() {
    let bench = Bench::new(true);
    let changes = [
        ("training.epochs", "30"),
        ("training.evaluation_epochs", "15"),
        ("training.evaluate_before_training", "true"),
    ];
    let summary = bench.run("run", &changes).unwrap();
    let evaluations = bench.evaluations("run");
    let (first, last) = (&evaluations[0], &evaluations[evaluations.len() - 1]);
    println!(
        "loss {:?} to {:?}, exact matches {:?} to {:?}",
        first.loss, last.loss, first.metrics, last.metrics
    );
    assert!(last.loss < 0.2 * first.loss, "{} to {}", first.loss, last.loss);
    assert_eq!(first.metrics["ExactMatch"], 0.0);
    assert!(last.metrics["ExactMatch"] >= 0.8, "{:?}", last.metrics);
    // The mean over samples of exp(mean loss): near 1, and not of labels shifted twice.
    let perplexity = last.perplexity.unwrap();
    assert!((1.0..2.0).contains(&perplexity), "{perplexity}");
    assert!(summary.worst_logit_difference.unwrap() < 1e-3);
    let table = read_table(&bench.folder("run").predictions(), None).unwrap();
    assert_eq!(table.columns[..4], ["row", "prompt", "answer", "prediction"]);
}

#[test]
fn a_run_continued_from_its_checkpoint_is_the_run_that_never_stopped() {
    let bench = Bench::new(false);
    let changes = [
        ("training.lora", "true"),
        ("training.lora_dropout", "0.1"),
        ("training.grad_accumulation", "2"),
        ("augmentation.neftune_noise_alpha", "5"),
        ("augmentation.token_mask_probability", "0.1"),
        ("prediction.metric", "Perplexity"),
        ("training.checkpoint_every_steps", "3"),
    ];
    bench.run("whole", &changes).unwrap();
    let all = losses(&read_events(&bench.folder("whole").events()).unwrap());
    assert!(all.len() > 6 && all.iter().all(|loss| loss.is_finite()));

    // Stopped after some steps, then continued.
    struct StopAt<'a>(&'a StopFlag, u64);
    impl tunesmith_train::Observer for StopAt<'_> {
        fn event(&mut self, _: &tunesmith_train::Event) {}

        fn micro_batch(&mut self, n_done: u64, _: u64) {
            if n_done == self.1 {
                self.0.raise();
            }
        }
    }
    let stop = StopFlag::new();
    let mut request = bench.request("parts", bench.config(&changes));
    run(&request, &mut StopAt(&stop, 9), &stop).unwrap();
    request.resume = true;
    run(&request, &mut NoObserver, &StopFlag::new()).unwrap();
    let events = |name: &str| comparable(&read_events(&bench.folder(name).events()).unwrap());
    assert_eq!(events("parts"), events("whole"));
    let adapter =
        |name: &str| std::fs::read(bench.folder(name).adapter().join("adapter_model.safetensors")).unwrap();
    assert!(adapter("parts") == adapter("whole"));
    let (config, _) = read_adapter(&bench.folder("whole").adapter()).unwrap();
    assert_eq!(config.task_type.as_deref(), Some("SEQ_2_SEQ_LM"));
}

#[test]
fn batches_of_other_shapes_give_the_same_steps() {
    let bench = Bench::new(true);
    std::fs::write(bench.path("base/config.json"), {
        let text = std::fs::read_to_string(bench.path("base/config.json")).unwrap();
        text.replace("\"dropout_rate\":0.1", "\"dropout_rate\":0.0")
    })
    .unwrap();
    let of = |name: &str, changes: &[(&str, &str)]| {
        let mut all = vec![("prediction.metric", "Perplexity"), ("training.epochs", "1")];
        all.extend(changes);
        bench.run(name, &all).unwrap();
        losses(&read_events(&bench.folder(name).events()).unwrap())
    };
    let together = of("together", &[]);
    let apart = of("apart", &[("training.batch_size", "1"), ("training.grad_accumulation", "4")]);
    let again = of("again", &[("architecture.gradient_checkpointing", "false")]);
    assert_eq!(together, again);
    assert_eq!(together.len(), apart.len());
    for (a, b) in together.iter().zip(&apart) {
        assert!((a - b).abs() < 1e-4, "{together:?} {apart:?}");
    }
    // The loss function is obeyed: answers differ in length.
    let by_sample = of("by-sample", &[("training.loss_function", "SampleAveragedCrossEntropy")]);
    assert!((by_sample[0] - together[0]).abs() > 1e-4, "{by_sample:?} {together:?}");
}

#[test]
fn results_are_loaded_again_and_exported() {
    let bench = Bench::new(false);
    bench.run("run", &[("training.lora", "true"), ("training.lora_r", "2")]).unwrap();
    let saved = SavedRun::open(&bench.path("run"), None).unwrap();
    let device = tunesmith_ops::open_device("cpu").unwrap();
    assert!(saved.model(&RunWeights::Result, &device).unwrap().has_adapter());
    let out = bench.path("merged");
    let report = saved
        .export(
            &RunWeights::Result,
            ExportKind::Model,
            Some(tunesmith_formats::StoreDtype::F32),
            &device,
            &out,
        )
        .unwrap();
    assert!(report.worst_logit_difference < 1e-4, "{report:?}");
    let merged = ModelSource::open(&out).unwrap();
    assert!(merged.config().encoder_decoder.as_ref().unwrap().scales_head_input);
    assert_eq!(merged.generation_config().unwrap()["decoder_start_token_id"], 0);
    assert!(merged.tokenizer().unwrap().chat_template().is_some());
}

#[test]
fn models_of_the_other_kind_are_refused() {
    let bench = Bench::new(false);
    let mut request = bench.request("causal", {
        let mut config = bench.config(&[]);
        config.problem_type = ProblemType::CausalLanguageModeling;
        config
    });
    let error = run(&request, &mut NoObserver, &StopFlag::new()).unwrap_err();
    assert!(error.to_string().contains("it has an encoder and a decoder"), "{error}");
    assert!(error.hint().unwrap().contains("text_sequence_to_sequence_modeling"));
    request = bench.request("llama", bench.config(&[]));
    let base = bench.path("llama-base");
    std::fs::create_dir(&base).unwrap();
    for name in ["config.json", "model.safetensors"] {
        std::fs::copy(golden("llama-mha").join(name), base.join(name)).unwrap();
    }
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(golden("tokenizers/bpe-llama3").join(name), base.join(name)).unwrap();
    }
    request.model_path = base;
    let error = run(&request, &mut NoObserver, &StopFlag::new()).unwrap_err();
    assert!(error.to_string().contains("it has no encoder"), "{error}");
    assert!(error.hint().unwrap().contains("T5"));
}
