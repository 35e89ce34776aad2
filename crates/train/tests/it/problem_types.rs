//! Classes, numbers and preferences, from a table to a result that is loaded again.

use std::fmt::Write as _;

use tunesmith_config::{ExperimentConfig, ProblemType};
use tunesmith_data::{Cell, read_table};
use tunesmith_train::{
    Event, EventBody, NoObserver, Observer, RunRequest, RunStatus, RunSummary, RunWeights, SavedRun,
    StopFlag, TrainError, run,
};

use crate::support::{Bench, comparable, losses};

const WORDS: [&str; 6] = ["red", "green", "blue", "cold", "warm", "dry"];

/// A table of 40 texts: those with `red` are of class 1, the others of class 0; `three` is the place of the first word
/// among three, `size` a number, and a good answer repeats the first word.
fn table() -> String {
    let mut text = String::from("text,label,three,size,even,good,bad\n");
    for row in 0..40_usize {
        let (first, second) = (WORDS[row % 3], WORDS[3 + (row / 3) % 3]);
        let (label, even) = (usize::from(first == "red"), usize::from(second == "warm"));
        let size = row % 3;
        writeln!(text, "{first} {second},{label},{size},0.{size}5,{even},{first} {first},{second} {second}")
            .unwrap();
    }
    text
}

pub(crate) struct Types(pub(crate) Bench);

impl Types {
    pub(crate) fn new() -> Self {
        let bench = Bench::new();
        std::fs::write(bench.path("types.csv"), table()).unwrap();
        Self(bench)
    }

    pub(crate) fn config(&self, problem_type: ProblemType, changes: &[(&str, &str)]) -> ExperimentConfig {
        let other = self.0.config(&[]);
        let mut config = ExperimentConfig {
            architecture: other.architecture,
            environment: other.environment,
            training: other.training,
            llm_backbone: other.llm_backbone,
            ..ExperimentConfig::for_problem_type(problem_type)
        };
        let rows = self.0.path("types.csv").display().to_string();
        let loss = match problem_type {
            ProblemType::CausalClassificationModeling => "BinaryCrossEntropyLoss",
            ProblemType::CausalRegressionModeling => "MSELoss",
            _ => "DPOLoss",
        };
        let answer = if problem_type == ProblemType::DpoModeling { "good" } else { "label" };
        let settings = [
            ("experiment_name", "tiny"),
            ("dataset.train_dataframe", &rows),
            ("dataset.validation_size", "0.2"),
            ("dataset.prompt_column", "text"),
            ("dataset.answer_column", answer),
            ("dataset.rejected_answer_column", "bad"),
            ("dataset.system_column", "None"),
            ("dataset.parent_id_column", "None"),
            ("tokenizer.max_length", "48"),
            ("training.loss_function", loss),
            ("training.epochs", "4"),
            ("training.evaluation_epochs", "1"),
        ];
        for (field, value) in settings.iter().chain(changes) {
            config.set(field, value).unwrap_or_else(|error| panic!("{field}: {error}"));
        }
        if problem_type == ProblemType::DpoModeling {
            config.set("prediction.metric", "Perplexity").unwrap();
        }
        config
    }

    pub(crate) fn run(&self, name: &str, config: ExperimentConfig) -> Result<RunSummary, TrainError> {
        run(&self.0.request(name, config), &mut NoObserver, &StopFlag::new())
    }

    /// The metrics of the last evaluation.
    fn metric(&self, name: &str, metric: &str) -> f64 {
        let mut evaluations = self.0.events(name).into_iter().filter_map(|event| match event.body {
            EventBody::Evaluation(evaluation) => Some(evaluation),
            _ => None,
        });
        evaluations.next_back().unwrap().metrics[metric]
    }

    fn columns(&self, name: &str) -> Vec<String> {
        read_table(&self.0.folder(name).predictions(), None).unwrap().columns
    }
}

const CLASSES: ProblemType = ProblemType::CausalClassificationModeling;

#[test]
fn classes_are_learned_with_either_head() {
    let types = Types::new();
    for head in ["hidden", "logits"] {
        let changes = [("architecture.score_head", head), ("training.differential_learning_rate", "0.05")];
        let summary = types.run(head, types.config(CLASSES, &changes)).unwrap();
        assert_eq!(summary.metric.as_deref(), Some("AUC"));
        assert_eq!(summary.validation_perplexity, None);
        assert!(summary.validation_metric.unwrap() > 0.95, "{head}: {summary:?}");
        assert!(types.metric(head, "Accuracy") > 0.8, "{head}");
        assert_eq!(types.columns(head), ["row", "prompt", "answer", "prediction", "probability", "loss"]);
        // The result is an adapter with its head.
        let saved = SavedRun::open(&types.0.path(head), None).unwrap();
        let model = saved.model(&RunWeights::Result, &tunesmith_ops::open_device("cpu").unwrap()).unwrap();
        assert_eq!(model.score_head().unwrap().n_outputs, 1);
    }
}

#[test]
fn several_classes_and_several_labels() {
    let types = Types::new();
    let several = [
        ("dataset.answer_column", "three"),
        ("dataset.num_classes", "3"),
        ("training.loss_function", "CrossEntropyLoss"),
        ("prediction.metric", "Accuracy"),
    ];
    let summary = types.run("classes", types.config(CLASSES, &several)).unwrap();
    assert!(summary.validation_metric.unwrap() > 0.8, "{summary:?}");
    let predicted = ["prediction", "probability_0", "probability_1", "probability_2", "loss"];
    assert_eq!(types.columns("classes")[3..], predicted);

    let labels = [("dataset.answer_column", "label,even"), ("dataset.num_classes", "2")];
    types.run("labels", types.config(CLASSES, &labels)).unwrap();
    assert!(types.metric("labels", "F1-micro") > 0.5);
    let predicted = ["prediction_label", "prediction_even", "probability_label", "probability_even", "loss"];
    assert_eq!(types.columns("labels")[3..], predicted);
}

#[test]
fn numbers_are_learned_by_a_whole_model() {
    let types = Types::new();
    let changes = [("dataset.answer_column", "size"), ("training.lora", "false")];
    let config = types.config(ProblemType::CausalRegressionModeling, &changes);
    let summary = types.run("numbers", config).unwrap();
    assert!(summary.validation_metric.unwrap() < 0.02, "{summary:?}");
    assert!(types.metric("numbers", "R2") > 0.5);
    let text = std::fs::read_to_string(summary.model_dir.unwrap().join("config.json")).unwrap();
    assert!(text.contains("LlamaForSequenceClassification") && text.contains("regression"), "{text}");
}

/// What a run must not leave is the model it starts from: the base with the adapter it goes on from, not the bare base.
#[test]
fn preferences_after_an_adapter_are_measured_from_that_adapter() {
    let types = Types::new();
    let supervised = types.0.run("supervised", &[("training.epochs", "4")]).unwrap();
    let adapter = supervised.adapter_dir.unwrap().display().to_string();
    let go_on = |more: &[(&str, &str)]| -> ExperimentConfig {
        let start = ("architecture.pretrained_weights", adapter.as_str());
        types.config(ProblemType::DpoModeling, &[&[start], more].concat())
    };
    let all_losses = ["DPOLoss", "DPOHingeLoss", "DPOIPOLoss", "KTOPairLoss"];
    // Where nothing was learned yet, both texts are as likely as under the reference.
    let at_start = [std::f64::consts::LN_2, 1.0, 25.0, 0.5];
    for (loss, expected) in all_losses.into_iter().zip(at_start) {
        let name = format!("start-{loss}");
        let changes = [("training.epochs", "0"), ("training.loss_function", loss), ("training.beta", "0.1")];
        types.run(&name, go_on(&changes)).unwrap();
        let evaluation = last_evaluation(&types, &name);
        let (found, margin) = (evaluation.loss, evaluation.metrics["reward_margin"]);
        println!(
            "{loss}: {found} at the start, {:.1e} from {expected}; margin {margin:.1e}",
            found - expected
        );
        assert!((found - expected).abs() < 1e-5 && margin.abs() < 1e-5, "{loss}: {found} {margin}");
    }
    // The reference stays that of the beginning in a process that goes on from a checkpoint.
    let steps = [("training.learning_rate", "0.02"), ("training.lora_dropout", "0.0")];
    types.run("whole", go_on(&steps)).unwrap();
    let whole = losses(&types.0.events("whole"));
    assert!((whole[0] - std::f64::consts::LN_2).abs() < 1e-6, "{whole:?}");
    assert!(whole.last().unwrap() + 0.1 < whole[0], "{whole:?}");
}

fn last_evaluation(types: &Types, name: &str) -> tunesmith_train::Evaluation {
    let mut evaluations = types.0.events(name).into_iter().filter_map(|event| match event.body {
        EventBody::Evaluation(evaluation) => Some(evaluation),
        _ => None,
    });
    evaluations.next_back().unwrap()
}

#[test]
fn preferences_are_learned_against_the_model_as_it_was() {
    let types = Types::new();
    for loss in ["DPOLoss", "DPOHingeLoss", "DPOIPOLoss", "KTOPairLoss", "CPOLoss", "SimPOLoss", "ORPOLoss"] {
        let changes = [("training.loss_function", loss), ("training.learning_rate", "0.003")];
        let summary = types.run(loss, types.config(ProblemType::DpoModeling, &changes)).unwrap();
        assert!(types.metric(loss, "reward_margin") > 0.0, "{loss}: {summary:?}");
        assert!(types.metric(loss, "reward_accuracy") > 0.8, "{loss}");
    }
    // Before the first step the policy is the reference: ln 2, and no reward.
    let events = types.0.events("DPOLoss");
    let first = events.iter().find_map(|event| match &event.body {
        EventBody::Step(step) => Some(step),
        _ => None,
    });
    let first = first.unwrap();
    assert!((first.loss.unwrap() - std::f64::consts::LN_2).abs() < 0.02, "{first:?}");
    assert!(first.rewards.unwrap().margin.abs() < 0.1, "{first:?}");
    let table = read_table(&types.0.folder("DPOLoss").predictions(), None).unwrap();
    assert_eq!(table.columns[3..5], ["rejected_answer", "loss"]);
    assert!(matches!(&table.rows[0][3], Cell::Text(text) if text.contains(' ')));
}

#[test]
fn good_and_bad_answers_are_told_apart_without_pairs() {
    let types = Types::new();
    // Good answers repeat the first word, as in the table of pairs, but every row has only one answer.
    let mut rows = String::from("text,answer,verdict\n");
    for row in 0..40_usize {
        let (first, second) = (WORDS[row % 3], WORDS[3 + (row / 3) % 3]);
        let (word, verdict) = if row / 2 % 2 == 0 { (first, "good") } else { (second, "bad") };
        writeln!(rows, "{first} {second},{word} {word},{verdict}").unwrap();
    }
    std::fs::write(types.0.path("judged.csv"), rows).unwrap();
    let table = types.0.path("judged.csv").display().to_string();
    let changes = [
        ("dataset.train_dataframe", table.as_str()),
        ("dataset.answer_column", "answer"),
        ("dataset.judgement_column", "verdict"),
        ("training.loss_function", "KTOLoss"),
        ("training.learning_rate", "0.003"),
        ("training.epochs", "8"),
    ];
    let summary = types.run("kto", types.config(ProblemType::DpoModeling, &changes)).unwrap();
    let first = losses(&types.0.events("kto"))[0];
    // Before the first step the policy is the reference, and σ(0) is a half.
    assert!((first - 0.5).abs() < 0.02, "{first}");
    assert!(types.metric("kto", "reward_margin") > 0.0, "{summary:?}");
    assert!(types.metric("kto", "reward_accuracy") > 0.6, "{summary:?}");
    let columns = types.columns("kto");
    assert_eq!(columns[3..], ["judgement", "loss", "perplexity", "reward"]);
}

/// The losses of all steps, of a run with these changes.
fn step_losses(types: &Types, name: &str, problem_type: ProblemType, changes: &[(&str, &str)]) -> Vec<f64> {
    types.run(name, types.config(problem_type, changes)).unwrap();
    losses(&types.0.events(name))
}

#[test]
fn accumulated_batches_are_one_large_batch() {
    let types = Types::new();
    let dropout = ("training.lora_dropout", "0");
    let large = [("training.batch_size", "4"), ("training.grad_accumulation", "1"), dropout];
    let small = [("training.batch_size", "1"), ("training.grad_accumulation", "4"), dropout];
    for (name, problem_type, loss) in [
        ("kto", ProblemType::DpoModeling, "KTOPairLoss"),
        ("dpo", ProblemType::DpoModeling, "DPOLoss"),
        ("bce", CLASSES, "BinaryCrossEntropyLoss"),
    ] {
        let with = |changes: &[(&'static str, &'static str)]| {
            changes.iter().copied().chain([("training.loss_function", loss)]).collect::<Vec<_>>()
        };
        let a = step_losses(&types, &format!("{name}-large"), problem_type, &with(&large));
        let b = step_losses(&types, &format!("{name}-small"), problem_type, &with(&small));
        let worst = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        println!("{name}: worst difference {worst:e} over {} steps", a.len());
        assert!(a.len() == b.len() && worst < 2e-4, "{name}: {a:?} {b:?}");
    }
}

/// Asks for a stop at a step, and counts how often the reference model is asked.
struct StopAfter {
    step: u64,
    stop: StopFlag,
    n_asked: usize,
}

impl Observer for StopAfter {
    fn event(&mut self, event: &Event) {
        if matches!(&event.body, EventBody::Step(step) if step.step == self.step) {
            self.stop.raise();
        }
    }

    fn stage(&mut self, stage: &str) {
        self.n_asked += usize::from(stage.contains("reference model"));
    }
}

#[test]
fn a_resumed_run_equals_an_uninterrupted_one() {
    for (problem_type, loss) in [(CLASSES, "BinaryCrossEntropyLoss"), (ProblemType::DpoModeling, "DPOLoss")] {
        let types = Types::new();
        let changes = [("training.loss_function", loss), ("training.checkpoint_every_steps", "3")];
        let config = types.config(problem_type, &changes);
        types.run("whole", config.clone()).unwrap();
        let stop = StopFlag::new();
        let mut observer = StopAfter { step: 5, stop: stop.clone(), n_asked: 0 };
        let summary = run(&types.0.request("parts", config.clone()), &mut observer, &stop).unwrap();
        assert_eq!((summary.status, summary.n_steps_done), (RunStatus::Stopped, 5));
        let request = RunRequest { resume: true, ..types.0.request("parts", config) };
        // The training and the validation set, each once; the resumed run knows what the reference said.
        assert_eq!(observer.n_asked, if loss == "DPOLoss" { 2 } else { 0 });
        let mut observer = StopAfter { step: u64::MAX, stop: StopFlag::new(), n_asked: 0 };
        run(&request, &mut observer, &StopFlag::new()).unwrap();
        assert_eq!(observer.n_asked, 0);
        assert_eq!(comparable(&types.0.events("parts")), comparable(&types.0.events("whole")), "{loss}");
    }
}
