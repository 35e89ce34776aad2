//! The course of a run: steps that are left out, early ends, numbers of steps, checkpoints that are kept, and going on.

use tunesmith_formats::StoreDtype;
use tunesmith_formats::safetensors_io::{NamedTensor, SafetensorsFile, write_sharded};
use tunesmith_formats::tokenizer::Tokenizer;
use tunesmith_formats::{FormatError, model_source::ModelSource};
use tunesmith_train::{
    EndReason, EventBody, NoObserver, RunFolder, RunStatus, RunSummary, SkippedStep, Status, Step, StopFlag,
    TrainError, TrainState, run,
};

use crate::resuming::check_resuming;
use crate::support::{Bench, comparable, losses};

const CONSTANT: (&str, &str) = ("training.schedule", "Constant");
const OFTEN: (&str, &str) = ("training.checkpoint_every_steps", "1");

fn steps(bench: &Bench, name: &str) -> Vec<Step> {
    let of = |body| match body {
        EventBody::Step(step) => Some(step),
        _ => None,
    };
    bench.events(name).into_iter().filter_map(|event| of(event.body)).collect()
}

fn skipped(bench: &Bench, name: &str) -> Vec<SkippedStep> {
    let of = |body| match body {
        EventBody::StepSkipped(step) => Some(step),
        _ => None,
    };
    bench.events(name).into_iter().filter_map(|event| of(event.body)).collect()
}

/// The steps of the evaluations.
fn evaluated(bench: &Bench, name: &str) -> Vec<u64> {
    let of = |body| match body {
        EventBody::Evaluation(evaluation) => Some(evaluation.step),
        _ => None,
    };
    bench.events(name).into_iter().filter_map(|event| of(event.body)).collect()
}

fn weights(folder: &RunFolder, checkpoint: &str) -> Vec<u8> {
    std::fs::read(folder.checkpoints().join(checkpoint).join("weights.safetensors")).unwrap()
}

/// A bench whose row 6 has a letter that no other row has, and whose model has a NaN in that letter's embedding.
fn poisoned() -> Bench {
    let bench = Bench::new();
    let rows = std::fs::read_to_string(bench.path("rows.csv")).unwrap();
    std::fs::write(bench.path("rows.csv"), rows.replace("It is 15.", "It is Z.")).unwrap();
    let tokenizer: Tokenizer = ModelSource::open(&bench.model()).unwrap().tokenizer().unwrap();
    let ids = tokenizer.encode("Z").unwrap();
    let file = SafetensorsFile::open(&bench.model().join("model.safetensors")).unwrap();
    let tensors: Vec<NamedTensor> = file
        .tensors()
        .map(|tensor| {
            let mut data = file.read_f32(&tensor.name).unwrap();
            if tensor.name == "model.embed_tokens.weight" {
                data[ids[0] as usize * tensor.shape[1]] = f32::NAN;
            }
            NamedTensor { name: tensor.name.clone(), shape: tensor.shape.clone(), data }
        })
        .collect();
    drop(file);
    std::fs::remove_file(bench.model().join("model.safetensors")).unwrap();
    write_sharded(&bench.model(), tensors.into_iter().map(Ok::<_, FormatError>), StoreDtype::F32, u64::MAX)
        .unwrap();
    bench
}

#[test]
fn a_step_with_a_loss_that_is_no_number_is_left_out() {
    let bench = poisoned();
    let changes = [("training.save_steps", "1"), ("training.weight_decay", "0.1")];
    let summary = bench.run("run", &changes).unwrap();
    assert_eq!((summary.status, summary.n_skipped_steps), (RunStatus::Finished, 2));
    assert_eq!((summary.end_reason, summary.n_steps_done), (EndReason::AllSteps, 10));
    let skipped = skipped(&bench, "run");
    // Once in each epoch, and the very row.
    assert_eq!(skipped.iter().map(|step| step.epoch).collect::<Vec<_>>(), [1, 2]);
    for (idx, step) in skipped.iter().enumerate() {
        assert_eq!((step.what.as_str(), step.value.as_str()), ("the training loss", "NaN"));
        assert_eq!((step.rows.as_slice(), step.n_skipped_steps), (&[6][..], idx as u64 + 1));
        // The weights stay as they are, to the bit; no update is counted, the step is.
        let folder = bench.folder("run");
        let before = match step.step {
            1 => continue,
            step => format!("step_{}", step - 1),
        };
        let after = format!("step_{}", step.step);
        assert!(weights(&folder, &before) == weights(&folder, &after), "{after}");
        let state =
            |name: &str| TrainState::read(&folder.checkpoints().join(name).join("state.json")).unwrap();
        assert_eq!(state(&after).n_updates, state(&before).n_updates);
        assert_eq!(state(&after).n_micro_batches, state(&before).n_micro_batches + 2);
    }
    let steps = steps(&bench, "run");
    for step in &steps {
        let is_skipped = skipped.iter().any(|skipped| skipped.step == step.step);
        assert_eq!(step.loss.is_none(), is_skipped, "{step:?}");
        assert_eq!(step.gradient_norm.is_none(), is_skipped, "{step:?}");
    }
    assert_eq!(steps.last().unwrap().n_skipped_steps, 2);
    let log = std::fs::read_to_string(bench.folder("run").log()).unwrap();
    for part in
        ["rows of the samples concerned: 6; the step is left out, 1 of at most 10", "2 of these steps"]
    {
        assert!(log.contains(part), "{part} is missing in\n{log}");
    }
    let EventBody::RunFinished(end) = &bench.events("run").last().unwrap().body.clone() else { panic!() };
    assert_eq!(end.n_skipped_steps, 2);
}

#[test]
fn too_many_of_them_end_the_run() {
    let bench = poisoned();
    for (most, epoch, n_before) in [("0", 1, 0), ("1", 2, 1)] {
        let error = bench.run(most, &[("training.max_skipped_steps", most)]).unwrap_err();
        let TrainError::NonFinite { sample_rows, epoch: found, n_skipped_steps, .. } = &error else {
            panic!("{error}")
        };
        assert_eq!((sample_rows.as_slice(), *found, *n_skipped_steps), (&[6][..], epoch, n_before));
        assert_eq!(error.to_string().contains("after 1 step was left out"), n_before == 1, "{error}");
        let status = Status::read(&bench.folder(most).status()).unwrap().unwrap();
        assert_eq!((status.status, status.info.as_str()), (RunStatus::Failed, "Training error"));
        assert_eq!(skipped(&bench, most).len() as u64, n_before);
    }
}

#[test]
fn kills_of_a_run_that_leaves_steps_out() {
    check_resuming(&poisoned(), &[OFTEN], &[1, 3, 5, 8, 13, 18, 23]);
}

/// A run that never gets better: its learning rate is 0.
const STALLED: [(&str, &str); 2] =
    [("training.learning_rate", "0"), ("training.early_stopping_patience", "2")];

#[test]
fn a_run_that_gets_no_better_ends_early_and_says_why() {
    let bench = Bench::new();
    let summary = bench.run("run", &STALLED).unwrap();
    assert_eq!((summary.status, summary.end_reason), (RunStatus::Finished, EndReason::EarlyStopping));
    // The first evaluation counts as better, the next two do not.
    assert_eq!(evaluated(&bench, "run"), [2, 4, 7]);
    assert_eq!((summary.n_steps_done, summary.n_steps, summary.best_step), (7, 10, Some(2)));
    assert!(summary.adapter_dir.unwrap().is_dir());
    let EventBody::RunFinished(end) = &bench.events("run").last().unwrap().body.clone() else { panic!() };
    assert_eq!((end.reason, end.step), (EndReason::EarlyStopping, 7));
    let log = std::fs::read_to_string(bench.folder("run").log()).unwrap();
    assert!(log.contains("finished at step 7 of 10: 2 evaluations brought nothing better"), "{log}");

    // One that learns goes to its end, unless each evaluation would have to be better by far.
    let learning = [("training.early_stopping_patience", "1")];
    assert_eq!(bench.run("learning", &learning).unwrap().end_reason, EndReason::AllSteps);
    let demanding = [learning[0], ("training.early_stopping_min_delta", "1e9")];
    assert_eq!(bench.run("demanding", &demanding).unwrap().n_steps_done, 4);
}

#[test]
fn kills_of_a_run_that_ends_early() {
    check_resuming(&Bench::new(), &[OFTEN, STALLED[0], STALLED[1]], &[1, 4, 7, 9, 11, 13]);
}

#[test]
fn a_number_of_steps_takes_the_place_of_epochs() {
    let bench = Bench::new();
    bench.run("epochs", &[CONSTANT]).unwrap();
    for (n_steps, epochs) in [("3", "2"), ("7", "0")] {
        let changes = [CONSTANT, ("training.max_steps", n_steps), ("training.epochs", epochs)];
        let summary = bench.run(n_steps, &changes).unwrap();
        let n: usize = n_steps.parse().unwrap();
        assert_eq!((summary.n_steps_done, summary.n_steps), (n as u64, n as u64));
        assert_eq!(losses(&bench.events(n_steps)), losses(&bench.events("epochs"))[..n]);
        assert_eq!(evaluated(&bench, n_steps).last(), Some(&(n as u64)), "the end is evaluated");
        assert!(summary.adapter_dir.unwrap().is_dir());
    }
    // The schedule ends with the steps.
    bench.run("falling", &[("training.max_steps", "4"), ("training.schedule", "Linear")]).unwrap();
    let rates: Vec<f64> = steps(&bench, "falling").iter().map(|step| step.learning_rate).collect();
    // Half an epoch of five steps of warm-up, then a line from there to step 4.
    let expected = [0.0, 0.01 / 2.5, 0.01 * 2.0 / 2.5, 0.01 * 1.0 / 1.5];
    assert!(rates.iter().zip(expected).all(|(rate, want)| (rate - want).abs() < 1e-15), "{rates:?}");
}

#[test]
fn kills_of_a_run_with_a_number_of_steps() {
    let changes = [OFTEN, ("training.max_steps", "8"), ("training.epochs", "1")];
    check_resuming(&Bench::new(), &changes, &[1, 4, 8, 12, 16, 20]);
}

fn checkpoints(bench: &Bench, name: &str) -> Vec<String> {
    let entries = std::fs::read_dir(bench.folder(name).checkpoints()).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn checkpoints_are_kept_every_so_many_steps_up_to_a_limit() {
    let bench = Bench::new();
    let every = ("training.save_steps", "3");
    bench.run("all", &[every]).unwrap();
    assert_eq!(checkpoints(&bench, "all"), ["last", "step_3", "step_6", "step_9"]);
    bench.run("two", &[every, ("training.save_total_limit", "2")]).unwrap();
    assert_eq!(checkpoints(&bench, "two"), ["last", "step_6", "step_9"]);
    let log = std::fs::read_to_string(bench.folder("two").log()).unwrap();
    assert!(log.contains("removed checkpoints/step_3: training.save_total_limit is 2"), "{log}");
    assert_eq!(comparable(&bench.events("two")), comparable(&bench.events("all")));

    // Of evaluations the best one stays: the first, where nothing is learned.
    let each = ("training.save_checkpoint", "each_evaluation_epoch");
    let limit = ("training.save_total_limit", "2");
    bench.run("best", &[each, limit, ("training.learning_rate", "0")]).unwrap();
    assert_eq!(evaluated(&bench, "best"), [2, 4, 7, 9, 10]);
    assert_eq!(checkpoints(&bench, "best"), ["step_10", "step_2"]);
    bench.run("one", &[each, ("training.save_total_limit", "1")]).unwrap();
    let best = bench.run("none", &[("training.save_checkpoint", "disable")]).unwrap().best_step;
    assert_eq!(best, Some(10), "so the best is the newest");
    assert_eq!(checkpoints(&bench, "one"), ["step_10"]);
}

#[test]
fn kills_of_a_run_that_removes_checkpoints() {
    let bench = Bench::new();
    let changes = [("training.save_steps", "1"), ("training.save_total_limit", "1")];
    check_resuming(&bench, &changes, &[1, 3, 5, 8, 12, 16, 20]);
    assert_eq!(checkpoints(&bench, "killed"), ["last", "step_10"]);
}

/// Resumes the run `name` with these settings.
fn resume(bench: &Bench, name: &str, changes: &[(&str, &str)]) -> Result<RunSummary, TrainError> {
    let mut request = bench.request(name, bench.config(changes));
    request.resume = true;
    run(&request, &mut NoObserver, &StopFlag::new())
}

#[test]
fn a_finished_run_goes_on_with_more_epochs() {
    let bench = Bench::new();
    bench.run("whole", &[CONSTANT]).unwrap();
    let once = [CONSTANT, ("training.epochs", "1")];
    let first = bench.run("extended", &once).unwrap();
    assert_eq!((first.status, first.n_steps_done), (RunStatus::Finished, 5));
    let before = std::fs::read(bench.folder("extended").events()).unwrap();
    assert_eq!(resume(&bench, "extended", &once).unwrap().n_steps_done, 5, "nothing more is asked for");
    assert_eq!(std::fs::read(bench.folder("extended").events()).unwrap(), before);

    let summary = resume(&bench, "extended", &[CONSTANT]).unwrap();
    assert_eq!((summary.status, summary.n_steps_done, summary.n_steps), (RunStatus::Finished, 10, 10));
    // With a constant rate it is the run of two epochs.
    assert_eq!(steps(&bench, "extended"), steps(&bench, "whole"));
    let (whole, extended) = (bench.folder("whole"), bench.folder("extended"));
    assert!(weights(&whole, "last") == weights(&extended, "last"));
    let adapter =
        |folder: &RunFolder| std::fs::read(folder.adapter().join("adapter_model.safetensors")).unwrap();
    assert!(adapter(&whole) == adapter(&extended));
    let is_extended = |body: &EventBody| match body {
        EventBody::RunExtended(run) => Some((run.step, run.n_epochs, run.n_steps)),
        _ => None,
    };
    let found: Vec<_> =
        bench.events("extended").iter().filter_map(|event| is_extended(&event.body)).collect();
    assert_eq!(found, [(5, 2, 10)]);
    let status = Status::read(&extended.status()).unwrap().unwrap();
    assert_eq!((status.status, status.step, status.n_steps), (RunStatus::Finished, 10, 10));
    let before = std::fs::read(extended.events()).unwrap();
    assert_eq!(resume(&bench, "extended", &[CONSTANT]).unwrap().n_steps_done, 10);
    assert_eq!(std::fs::read(extended.events()).unwrap(), before, "nothing more is asked for");
}

#[test]
fn the_schedule_of_a_run_that_goes_on_is_that_of_its_new_length() {
    let bench = Bench::new();
    bench.run("whole", &[]).unwrap();
    bench.run("run", &[("training.max_steps", "6")]).unwrap();
    resume(&bench, "run", &[("training.max_steps", "10")]).unwrap();
    let rates = |name: &str| steps(&bench, name).iter().map(|step| step.learning_rate).collect::<Vec<_>>();
    let (whole, extended) = (rates("whole"), rates("run"));
    assert_eq!(extended[6..], whole[6..]);
    assert!(extended[5] < whole[5] && extended[5] < extended[6], "{extended:?}");
}

#[test]
fn kills_of_a_run_that_goes_on() {
    let bench = Bench::new();
    let once = [OFTEN, ("training.epochs", "1")];
    for name in ["whole", "killed"] {
        bench.run(name, &once).unwrap();
    }
    let summary = resume(&bench, "whole", &[OFTEN]).unwrap();
    for n_events in [14, 17, 22] {
        crate::resuming::kill_resumed(&bench, &bench.config(&[OFTEN]), "killed", n_events);
    }
    let killed = resume(&bench, "killed", &[OFTEN]).unwrap();
    assert_eq!((killed.n_steps_done, killed.train_loss), (summary.n_steps_done, summary.train_loss));
    assert_eq!(comparable(&bench.events("killed")), comparable(&bench.events("whole")));
    assert!(weights(&bench.folder("killed"), "last") == weights(&bench.folder("whole"), "last"));
    let n_extended = |name: &str| {
        bench.events(name).iter().filter(|event| matches!(event.body, EventBody::RunExtended(_))).count()
    };
    assert_eq!((n_extended("killed"), n_extended("whole")), (1, 1));
}

#[test]
fn a_run_gets_no_shorter_and_needs_a_checkpoint_to_go_on_from() {
    let bench = Bench::new();
    bench.run("run", &[]).unwrap();
    let error = resume(&bench, "run", &[("training.epochs", "1")]).unwrap_err();
    let TrainError::Changed { differences, .. } = &error else { panic!("{error}") };
    assert_eq!(differences, &["the number of steps (was 10, is 5): a run can be made longer only"]);
    let error = resume(&bench, "run", &[("training.max_steps", "10")]).unwrap_err();
    assert!(matches!(error, TrainError::NothingToGoOn { .. }), "{error}");
    assert!(error.to_string().contains("has taken all of its 10 steps"), "{error}");
    // What cannot change still cannot.
    let error = resume(&bench, "run", &[("training.epochs", "3"), ("training.batch_size", "3")]).unwrap_err();
    assert!(matches!(error, TrainError::Changed { .. }), "{error}");

    let disable = ("training.save_checkpoint", "disable");
    bench.run("none", &[disable]).unwrap();
    let error = resume(&bench, "none", &[disable, ("training.epochs", "3")]).unwrap_err();
    assert!(error.to_string().contains("it kept no checkpoint"), "{error}");
    // The refusals have left the runs as they were.
    for name in ["run", "none"] {
        assert!(matches!(bench.events(name).last().unwrap().body, EventBody::RunFinished(_)));
        let status = Status::read(&bench.folder(name).status()).unwrap().unwrap();
        assert_eq!((status.status, status.n_steps), (RunStatus::Finished, 10));
    }
    assert_eq!(resume(&bench, "run", &[]).unwrap().n_steps_done, 10);
    // A summary that is lost is made again.
    std::fs::remove_file(bench.folder("run").summary()).unwrap();
    assert_eq!(resume(&bench, "run", &[]).unwrap().status, RunStatus::Finished);
    assert!(bench.folder("run").summary().is_file());
}

#[test]
fn a_run_that_ended_early_goes_on_with_more_patience() {
    let bench = Bench::new();
    bench.run("run", &STALLED).unwrap();
    let summary = resume(&bench, "run", &[STALLED[0]]).unwrap();
    assert_eq!((summary.n_steps_done, summary.end_reason), (10, EndReason::AllSteps));
    bench.run("whole", &[STALLED[0]]).unwrap();
    assert_eq!(comparable(&bench.events("run")), comparable(&bench.events("whole")));
}

/// The values of an adapter's matrices in a checkpoint whose name ends so, one after the other.
fn matrices(folder: &RunFolder, ending: &str) -> Vec<f32> {
    let file = SafetensorsFile::open(&folder.checkpoints().join("last/weights.safetensors")).unwrap();
    let mut names: Vec<String> = file.tensors().map(|tensor| tensor.name.clone()).collect();
    names.retain(|name| name.ends_with(ending));
    names.sort();
    assert!(!names.is_empty());
    names.iter().flat_map(|name| file.read_f32(name).unwrap()).collect()
}

#[test]
fn the_second_matrices_of_adapters_learn_at_a_multiple_of_the_rate() {
    let bench = Bench::new();
    // The first step of gradient descent is the gradient times the rate, and only the second matrices have one.
    let once = [
        CONSTANT,
        ("training.optimizer", "SGD"),
        ("training.warmup_epochs", "0"),
        ("training.weight_decay", "0"),
        ("training.max_steps", "1"),
    ];
    for ratio in ["1", "16"] {
        let mut changes = once.to_vec();
        changes.push(("training.lora_plus_ratio", ratio));
        bench.run(ratio, &changes).unwrap();
    }
    let of = |ratio: &str, ending: &str| matrices(&bench.folder(ratio), ending);
    assert_eq!(of("16", "lora_A.weight"), of("1", "lora_A.weight"));
    let (plus, plain) = (of("16", "lora_B.weight"), of("1", "lora_B.weight"));
    assert!(plain.iter().any(|value| *value != 0.0));
    for (plus, plain) in plus.iter().zip(&plain) {
        assert!((plus - 16.0 * plain).abs() <= 1e-5 * plus.abs(), "{plus} {plain}");
    }
}

#[test]
fn smoothed_labels_are_learned_and_not_measured() {
    let bench = Bench::new();
    let smoothing = ("training.label_smoothing", "0.2");
    let still = ("training.learning_rate", "0");
    bench.run("plain", &[still]).unwrap();
    bench.run("smoothed", &[still, smoothing]).unwrap();
    let measured = |name: &str| {
        let of = |body| match body {
            EventBody::Evaluation(evaluation) => Some((evaluation.loss, evaluation.perplexity)),
            _ => None,
        };
        bench.events(name).into_iter().filter_map(|event| of(event.body)).collect::<Vec<_>>()
    };
    assert_eq!(measured("smoothed"), measured("plain"));
    let (plain, smoothed) = (losses(&bench.events("plain")), losses(&bench.events("smoothed")));
    assert!(plain.iter().zip(&smoothed).all(|(plain, smoothed)| plain != smoothed));

    // Accumulating is one large batch, with smoothing as without.
    let settings = |batch_size, grad_accumulation| {
        [
            smoothing,
            ("training.lora_dropout", "0"),
            ("training.drop_last_batch", "false"),
            ("training.batch_size", batch_size),
            ("training.grad_accumulation", grad_accumulation),
        ]
    };
    bench.run("large", &settings("4", "1")).unwrap();
    bench.run("accumulated", &settings("2", "2")).unwrap();
    let (large, small) = (losses(&bench.events("large")), losses(&bench.events("accumulated")));
    let worst = large.iter().zip(&small).map(|(a, b)| (a - b).abs() / b).fold(0.0, f64::max);
    assert!(large.len() >= 8 && worst < 1e-4, "{large:?} {small:?}");
}

#[test]
fn kills_of_a_run_with_smoothed_labels_and_two_rates() {
    let changes = [
        OFTEN,
        ("training.label_smoothing", "0.1"),
        ("training.lora_plus_ratio", "4"),
        ("training.adam_beta2", "0.95"),
        ("training.schedule", "WSD"),
    ];
    check_resuming(&Bench::new(), &changes, &[2, 9, 15]);
}
