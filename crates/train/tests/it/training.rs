//! What a run computes: invariances of accumulation, packing, recomputation and threads, and the shape of its events.

use std::process::Command;

use tunesmith_train::{EventBody, Observer, RunStatus, Status, StopFlag, TrainError, run};

use crate::support::{Bench, comparable, losses};

/// Largest relative difference of two equally long sequences.
fn worst_difference(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs() / a.abs().max(1e-12)).fold(0.0, f64::max)
}

const NO_DROPOUT: (&str, &str) = ("training.lora_dropout", "0");

#[test]
fn a_run_learns_and_tells_about_it() {
    let bench = Bench::new();
    let summary = bench.run("run", &[]).unwrap();
    assert_eq!(summary.status, RunStatus::Finished);
    let events = bench.events("run");
    let names: Vec<String> = events
        .iter()
        .map(|event| serde_json::to_value(event).unwrap()["event"].as_str().unwrap().to_owned())
        .collect();
    // 19 training samples in batches of 2 give 9 micro-batches and 5 steps an epoch; 4 micro-batches per evaluation.
    let epoch =
        ["step", "step", "checkpoint", "evaluation", "step", "step", "checkpoint", "evaluation", "step"];
    let mut expected = vec!["run_started"];
    expected.extend(epoch);
    expected.extend(epoch);
    expected.extend(["checkpoint", "evaluation", "export", "run_finished"]);
    assert_eq!(names, expected);
    let losses = losses(&events);
    assert_eq!(losses.len(), 10);
    assert!(losses[9] < losses[0] - 0.5, "{losses:?}");
    let rates: Vec<f64> = events
        .iter()
        .filter_map(|event| match &event.body {
            EventBody::Step(step) => Some(step.learning_rate),
            _ => None,
        })
        .collect();
    assert_eq!(rates[0], 0.0, "warm-up begins at 0");
    assert!((rates[1] - 0.01 / 2.5).abs() < 1e-15 && rates[3] <= 0.01 && rates[9] < 0.001, "{rates:?}");
    let status = Status::read(&bench.folder("run").status()).unwrap().unwrap();
    assert_eq!((status.status, status.step, status.n_steps), (RunStatus::Finished, 10, 10));
    assert!(status.info.starts_with("Runtime: 00:00:"));
    assert_eq!(summary.train_loss, Some(losses[9]));
    assert!(summary.validation_perplexity.is_some());
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_seed_another() {
    let bench = Bench::new();
    bench.run("a", &[]).unwrap();
    bench.run("b", &[]).unwrap();
    bench.run("c", &[("environment.seed", "8")]).unwrap();
    assert_eq!(comparable(&bench.events("a")), comparable(&bench.events("b")));
    let adapter =
        |name: &str| std::fs::read(bench.folder(name).adapter().join("adapter_model.safetensors")).unwrap();
    assert!(adapter("a") == adapter("b"), "weights differ");
    assert_ne!(comparable(&bench.events("a")), comparable(&bench.events("c")));
}

#[test]
fn accumulating_is_the_same_as_a_large_batch() {
    let bench = Bench::new();
    for loss in ["TokenAveragedCrossEntropy", "SampleAveragedCrossEntropy"] {
        // The numbers of steps differ, and with them a schedule would.
        let common = [
            NO_DROPOUT,
            ("training.loss_function", loss),
            ("training.gradient_clip", "0"),
            ("training.schedule", "Constant"),
            ("training.warmup_epochs", "0"),
        ];
        let with = |batch_size, grad_accumulation| {
            let mut changes = common.to_vec();
            changes.extend([
                ("training.batch_size", batch_size),
                ("training.grad_accumulation", grad_accumulation),
            ]);
            let name = format!("{loss}-{batch_size}-{grad_accumulation}");
            bench.run(&name, &changes).unwrap();
            losses(&bench.events(&name))
        };
        let (large, halves, quarters) = (with("4", "1"), with("2", "2"), with("1", "4"));
        // The last, incomplete group of an epoch is kept when it is accumulated and dropped when it is a short batch,
        // so only the first epoch's full windows are the same.
        let worst =
            worst_difference(&large[..4], &halves[..4]).max(worst_difference(&large[..4], &quarters[..4]));
        println!("{loss}: worst relative difference of losses {worst:e}");
        assert!(worst < 2e-5, "{large:?} {halves:?} {quarters:?}");
    }
}

#[test]
fn packing_into_rows_does_not_change_losses() {
    let bench = Bench::new();
    // All samples in one window, in whatever micro-batches: the losses of the epochs are the same.
    let common = [
        NO_DROPOUT,
        ("training.drop_last_batch", "false"),
        ("training.grad_accumulation", "100"),
        ("training.warmup_epochs", "0"),
        ("training.epochs", "3"),
    ];
    let with = |name: &str, more: &[(&'static str, &'static str)]| {
        let changes: Vec<_> = common.iter().chain(more).copied().collect();
        bench.run(name, &changes).unwrap();
        losses(&bench.events(name))
    };
    let single = with("single", &[("training.batch_size", "1")]);
    let packed = with("packed", &[("training.packing", "rows"), ("training.batch_size", "3")]);
    let recomputed = with("recomputed", &[("architecture.gradient_checkpointing", "true")]);
    assert!(single.len() == 3 && single[2] < single[0]);
    let worst = worst_difference(&single, &packed).max(worst_difference(&single, &recomputed));
    println!("worst relative difference of losses {worst:e}");
    assert!(worst < 2e-5, "{single:?} {packed:?} {recomputed:?}");
}

#[test]
fn wrapped_rows_train_on_every_token() {
    let bench = Bench::new();
    let changes = [("training.packing", "wrapped"), ("dataset.mask_prompt_labels", "false")];
    bench.run("wrapped", &changes).unwrap();
    let losses = losses(&bench.events("wrapped"));
    assert!(losses.last() < losses.first(), "{losses:?}");
}

#[test]
fn the_number_of_threads_does_not_change_a_bit() {
    let decomposed = [("training.use_dora", "true"), ("training.lora_init", "pissa"), NO_DROPOUT];
    for changes in [&[][..], &decomposed] {
        let bench = Bench::new();
        let mut found = Vec::new();
        for threads in ["1", "2", "3"] {
            let mut config = bench.config(changes);
            config.set("environment.threads", threads).unwrap();
            let path = bench.path(&format!("{threads}.yaml"));
            std::fs::write(&path, config.to_yaml()).unwrap();
            let status = Command::new(env!("CARGO_BIN_EXE_tunesmith-train-worker"))
                .args([&path, &bench.path(threads), &bench.model()])
                .arg("start")
                .status()
                .unwrap();
            assert!(status.success());
            let adapter = bench.folder(threads).adapter().join("adapter_model.safetensors");
            found.push((comparable(&bench.events(threads)), std::fs::read(adapter).unwrap()));
        }
        assert_eq!(found[0].0, found[1].0);
        assert_eq!(found[0].0, found[2].0);
        assert!(found[0].1 == found[1].1 && found[0].1 == found[2].1, "weights differ");
    }
}

#[test]
fn zero_epochs_only_evaluate() {
    let bench = Bench::new();
    let summary = bench.run("run", &[("training.epochs", "0")]).unwrap();
    assert_eq!((summary.status, summary.n_steps, summary.adapter_dir), (RunStatus::Finished, 0, None));
    assert!(summary.validation_perplexity.unwrap() > 1.0);
    assert!(!bench.folder("run").checkpoints().exists());
    let evaluations: Vec<u64> = bench
        .events("run")
        .iter()
        .filter_map(|event| match &event.body {
            EventBody::Evaluation(evaluation) => Some(evaluation.step),
            _ => None,
        })
        .collect();
    assert_eq!(evaluations, [0]);
}

#[test]
fn differential_rates_and_all_optimizers() {
    let bench = Bench::new();
    for optimizer in ["AdamW", "Adam", "SGD", "RMSprop", "Adadelta"] {
        let changes = [
            ("training.optimizer", optimizer),
            ("training.learning_rate", "0.001"),
            ("training.differential_learning_rate_layers", "lora_B"),
            ("training.differential_learning_rate", "0.002"),
            ("training.schedule", "Constant"),
            ("training.epochs", "1"),
        ];
        bench.run(optimizer, &changes).unwrap();
        let events = bench.events(optimizer);
        for event in &events {
            if let EventBody::Step(step) = &event.body {
                assert_eq!(step.differential_learning_rate, Some(2.0 * step.learning_rate));
            }
        }
        assert!(losses(&events).iter().all(|loss| loss.is_finite()), "{optimizer}");
    }
}

#[test]
fn reports_are_means_over_their_steps() {
    let bench = Bench::new();
    bench.run("each", &[]).unwrap();
    bench.run("third", &[("training.log_every_steps", "3")]).unwrap();
    let (each, third) = (losses(&bench.events("each")), losses(&bench.events("third")));
    assert_eq!(third.len(), 4);
    for (part, mean) in each.chunks(3).zip(&third) {
        let expected = part.iter().sum::<f64>() / part.len() as f64;
        assert!((expected - mean).abs() < 1e-12);
    }
}

/// Raises a flag after some micro-batches.
struct StopAfter(u64, StopFlag);

impl Observer for StopAfter {
    fn event(&mut self, _event: &tunesmith_train::Event) {}

    fn micro_batch(&mut self, n_done: u64, _n_total: u64) {
        if n_done == self.0 {
            self.1.raise();
        }
    }
}

#[test]
fn a_stopped_run_leaves_a_checkpoint_and_can_go_on() {
    let bench = Bench::new();
    bench.run("whole", &[]).unwrap();
    for n_micro_batches in [1, 4, 7, 18] {
        let name = format!("stopped-{n_micro_batches}");
        let mut request = bench.request(&name, bench.config(&[]));
        let stop = StopFlag::new();
        let summary = run(&request, &mut StopAfter(n_micro_batches, stop.clone()), &stop).unwrap();
        assert_eq!(summary.status, RunStatus::Stopped);
        let status = Status::read(&bench.folder(&name).status()).unwrap().unwrap();
        assert_eq!(status.status, RunStatus::Stopped);
        let stopped = bench.events(&name);
        assert!(matches!(stopped.last().unwrap().body, EventBody::RunStopped(_)));
        assert!(bench.folder(&name).checkpoints().join("last/state.json").is_file());
        request.resume = true;
        let resumed = run(&request, &mut StopAfter(0, StopFlag::new()), &StopFlag::new()).unwrap();
        assert_eq!(resumed.status, RunStatus::Finished);
        assert_eq!(comparable(&bench.events(&name)), comparable(&bench.events("whole")));
        let status = Status::read(&bench.folder(&name).status()).unwrap().unwrap();
        assert_eq!(status.resumed_at_steps.len(), 1);
    }
}

#[test]
fn an_exploding_run_names_rows_and_keeps_its_checkpoint() {
    let bench = Bench::new();
    let changes = [
        ("training.learning_rate", "1e30"),
        ("training.optimizer", "SGD"),
        ("training.schedule", "Constant"),
        ("training.warmup_epochs", "1"),
        ("training.gradient_clip", "0"),
        ("training.checkpoint_every_steps", "1"),
        ("training.max_skipped_steps", "2"),
    ];
    let error = bench.run("run", &changes).unwrap_err();
    let TrainError::NonFinite { sample_rows, step, .. } = &error else { panic!("{error}") };
    assert!(!sample_rows.is_empty() && *step >= 2, "{error}");
    let status = Status::read(&bench.folder("run").status()).unwrap().unwrap();
    assert_eq!((status.status, status.info.as_str()), (RunStatus::Failed, "Training error"));
    assert!(matches!(bench.events("run").last().unwrap().body, EventBody::RunFailed(_)));
    assert!(bench.folder("run").checkpoints().join("last/state.json").is_file());
    assert!(!bench.folder("run").adapter().exists());
}

#[test]
fn refusals_are_written_to_the_run_folder() {
    let bench = Bench::new();
    let error = bench.run("run", &[("architecture.pretrained", "false")]).unwrap_err();
    assert!(matches!(error, TrainError::Refused { .. }), "{error}");
    let status = Status::read(&bench.folder("run").status()).unwrap().unwrap();
    assert_eq!(status.status, RunStatus::Failed);
    assert!(status.message.unwrap().contains("not built"));
    // Nothing was begun, so the corrected experiment can use the same folder.
    bench.run("run", &[]).unwrap();
    assert!(matches!(bench.run("run", &[]), Err(TrainError::RunExists { .. })));
}
