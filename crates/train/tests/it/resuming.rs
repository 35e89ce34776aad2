//! Kills at many points and resumptions: the same losses and weights, bit for bit, as without.

use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use tunesmith_config::ExperimentConfig;
use tunesmith_train::{NoObserver, RunFolder, RunStatus, Status, StopFlag, TrainError, run};

use crate::support::{Bench, comparable, losses};

/// Every training state has a checkpoint, so that kills often fall into writing one.
const OFTEN: (&str, &str) = ("training.checkpoint_every_steps", "1");

fn start(bench: &Bench, config: &Path, name: &str, mode: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_tunesmith-train-worker"))
        .args([config, &bench.path(name), &bench.model()])
        .args([mode, "2"])
        .spawn()
        .unwrap()
}

fn n_lines(folder: &RunFolder) -> usize {
    std::fs::read(folder.events()).map_or(0, |bytes| bytes.iter().filter(|byte| **byte == b'\n').count())
}

/// Kills the worker once the event file has `n_events` lines; gives whether it was still running.
fn kill_after(mut child: Child, folder: &RunFolder, n_events: usize) -> bool {
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "the worker failed");
            return false;
        }
        if n_lines(folder) >= n_events {
            child.kill().unwrap();
            child.wait().unwrap();
            return true;
        }
        std::thread::sleep(Duration::from_micros(300));
    }
}

/// Bytes of everything that training leaves.
fn weights(folder: &RunFolder) -> Vec<Vec<u8>> {
    let last = folder.checkpoints().join("last");
    let files = [
        last.join("weights.safetensors"),
        last.join("optimizer.safetensors"),
        folder.adapter().join("adapter_model.safetensors"),
    ];
    files
        .iter()
        .map(|path| std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
        .collect()
}

/// Resumes a run in a process of its own and kills that once the event file has `n_events` lines.
pub(crate) fn kill_resumed(bench: &Bench, settings: &ExperimentConfig, name: &str, n_events: usize) {
    let config = bench.path("cfg.yaml");
    std::fs::write(&config, settings.to_yaml()).unwrap();
    assert!(kill_after(start(bench, &config, name, "resume"), &bench.folder(name), n_events));
}

/// Runs an experiment once in one go and once with a kill after each of `kills` event lines, and compares.
pub(crate) fn check_resuming(bench: &Bench, changes: &[(&str, &str)], kills: &[usize]) {
    bench.run("whole", changes).unwrap();
    let config = bench.path("cfg.yaml");
    std::fs::write(&config, bench.config(changes).to_yaml()).unwrap();
    let folder = bench.folder("killed");
    let mut mode = "start";
    let mut n_kills = 0;
    for n_events in kills {
        let child = start(bench, &config, "killed", mode);
        n_kills += usize::from(kill_after(child, &folder, *n_events));
        mode = "resume";
    }
    assert!(n_kills >= kills.len() / 2, "only {n_kills} kills hit a running worker");
    assert!(start(bench, &config, "killed", "resume").wait().unwrap().success());
    assert_eq!(comparable(&bench.events("killed")), comparable(&bench.events("whole")));
    assert!(weights(&folder) == weights(&bench.folder("whole")), "weights or optimizer state differ");
    let status = Status::read(&folder.status()).unwrap().unwrap();
    assert_eq!(status.status, RunStatus::Finished);
    println!("{n_kills} kills, resumed at steps {:?}", status.resumed_at_steps);
    let strays: Vec<String> = std::fs::read_dir(folder.checkpoints())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with('.'))
        .collect();
    assert!(strays.is_empty(), "{strays:?}");
}

#[test]
fn kills_with_a_checkpoint_at_every_step() {
    check_resuming(&Bench::new(), &[OFTEN], &[0, 1, 2, 3, 5, 6, 8, 11, 12, 15, 19, 22, 24]);
}

#[test]
fn kills_with_checkpoints_at_evaluations_only() {
    let seldom = [("training.checkpoint_interval_secs", "0"), ("training.log_every_steps", "2")];
    check_resuming(&Bench::new(), &seldom, &[1, 3, 4, 4, 6, 9, 10, 12]);
}

#[test]
fn kills_of_a_run_that_keeps_the_best_weights() {
    let changes =
        [OFTEN, ("training.save_checkpoint", "best"), ("training.evaluate_before_training", "true")];
    check_resuming(&Bench::new(), &changes, &[1, 2, 4, 7, 10, 14, 18, 23]);
}

#[test]
fn kills_with_lengths_and_principal_components() {
    let changes = [
        OFTEN,
        ("training.use_dora", "true"),
        ("training.lora_init", "pissa"),
        ("training.lora_dropout", "0"),
        ("architecture.backbone_dtype", "int4"),
        ("environment.mixed_precision", "true"),
    ];
    check_resuming(&Bench::new(), &changes, &[2, 9, 15]);
}

#[test]
fn kills_with_a_compact_base_and_bfloat16_products() {
    for dtype in ["bfloat16", "int8", "int4"] {
        let changes =
            [OFTEN, ("architecture.backbone_dtype", dtype), ("environment.mixed_precision", "true")];
        check_resuming(&Bench::new(), &changes, &[2, 9, 15]);
    }
}

#[test]
fn kills_of_full_training_with_momentum() {
    let bench = Bench::new();
    let changes = [
        OFTEN,
        ("training.lora", "false"),
        ("training.learning_rate", "0.001"),
        ("training.optimizer", "SGD"),
        ("training.freeze_layers", "embed"),
        ("architecture.backbone_dtype", "bfloat16"),
        ("environment.mixed_precision", "true"),
    ];
    bench.run("whole", &changes).unwrap();
    let config = bench.path("cfg.yaml");
    std::fs::write(&config, bench.config(&changes).to_yaml()).unwrap();
    let folder = bench.folder("killed");
    for (mode, n_events) in [("start", 6), ("resume", 13)] {
        kill_after(start(&bench, &config, "killed", mode), &folder, n_events);
    }
    assert!(start(&bench, &config, "killed", "resume").wait().unwrap().success());
    assert_eq!(comparable(&bench.events("killed")), comparable(&bench.events("whole")));
    let model = |folder: &RunFolder| std::fs::read(folder.model().join("model.safetensors")).unwrap();
    assert!(model(&folder) == model(&bench.folder("whole")), "weights differ");
}

#[test]
fn kills_with_moments_of_8_bits() {
    let bench = Bench::new();
    let changes = [
        OFTEN,
        ("training.lora", "false"),
        ("training.learning_rate", "0.001"),
        ("training.optimizer", "AdamW8bit"),
    ];
    bench.run("whole", &changes).unwrap();
    let config = bench.path("cfg.yaml");
    std::fs::write(&config, bench.config(&changes).to_yaml()).unwrap();
    let folder = bench.folder("killed");
    for (mode, n_events) in [("start", 6), ("resume", 13)] {
        kill_after(start(&bench, &config, "killed", mode), &folder, n_events);
    }
    assert!(start(&bench, &config, "killed", "resume").wait().unwrap().success());
    assert_eq!(comparable(&bench.events("killed")), comparable(&bench.events("whole")));
    // Nearly the course of whole moments.
    let whole: Vec<_> =
        changes.map(|(field, value)| (field, value.strip_suffix("8bit").unwrap_or(value))).into();
    bench.run("32", &whole).unwrap();
    let (small, full) = (losses(&bench.events("whole")), losses(&bench.events("32")));
    let worst = small.iter().zip(&full).map(|(a, b)| (a - b).abs() / b).fold(0.0, f64::max);
    println!("losses with moments of 8 bits differ by at most {worst:.1e} of their value");
    assert!(small[0] == full[0] && small[9] < small[0] - 0.3 && worst < 0.02, "{small:?} {full:?}");
}

#[test]
fn a_half_written_event_line_is_cut_off() {
    let bench = Bench::new();
    bench.run("whole", &[OFTEN]).unwrap();
    let config = bench.path("cfg.yaml");
    std::fs::write(&config, bench.config(&[OFTEN]).to_yaml()).unwrap();
    let folder = bench.folder("killed");
    assert!(kill_after(start(&bench, &config, "killed", "start"), &folder, 6));
    let mut events = std::fs::read(folder.events()).unwrap();
    events.extend(b"{\"event\":\"step\",\"epo");
    std::fs::write(folder.events(), events).unwrap();
    assert!(start(&bench, &config, "killed", "resume").wait().unwrap().success());
    assert_eq!(comparable(&bench.events("killed")), comparable(&bench.events("whole")));
}

#[test]
fn a_changed_experiment_is_not_resumed() {
    let bench = Bench::new();
    let config = bench.path("cfg.yaml");
    std::fs::write(&config, bench.config(&[OFTEN]).to_yaml()).unwrap();
    assert!(kill_after(start(&bench, &config, "run", "start"), &bench.folder("run"), 6));
    let resume = |changes: &[(&str, &str)]| {
        let mut request = bench.request("run", bench.config(changes));
        request.resume = true;
        run(&request, &mut NoObserver, &StopFlag::new())
    };
    let refusal = |changes: &[(&str, &str)]| match resume(changes).unwrap_err() {
        TrainError::Changed { differences, .. } => differences,
        other => panic!("{other}"),
    };
    assert_eq!(
        refusal(&[OFTEN, ("training.learning_rate", "0.5")]),
        ["training.learning_rate (was 0.01, is 0.5)"]
    );
    assert_eq!(refusal(&[OFTEN, ("environment.seed", "8")]), ["the seed (was 7, is 8)"]);

    let rows = bench.path("rows.csv");
    let original = std::fs::read_to_string(&rows).unwrap();
    std::fs::write(&rows, original.replace("It is 1.", "It is one.")).unwrap();
    let differences = refusal(&[OFTEN]);
    assert!(differences.iter().all(|text| text.contains("samples (was")), "{differences:?}");
    std::fs::write(&rows, original).unwrap();

    // What does not change the results may change.
    resume(&[("training.checkpoint_interval_secs", "5"), ("environment.threads", "0")]).unwrap();
}

#[test]
fn a_drawn_seed_is_kept() {
    let bench = Bench::new();
    let changes = [OFTEN, ("environment.seed", "-1")];
    let config = bench.path("cfg.yaml");
    std::fs::write(&config, bench.config(&changes).to_yaml()).unwrap();
    let folder = bench.folder("run");
    assert!(kill_after(start(&bench, &config, "run", "start"), &folder, 6));
    let seed = tunesmith_train::RunRecord::read(&folder.record()).unwrap().unwrap().seed;
    assert!(start(&bench, &config, "run", "resume").wait().unwrap().success());
    let same = [("environment.seed", &*seed.to_string())];
    bench.run("whole", &same).unwrap();
    assert_eq!(comparable(&bench.events("run")), comparable(&bench.events("whole")));
}

#[test]
fn a_finished_run_is_left_alone() {
    let bench = Bench::new();
    let summary = bench.run("run", &[]).unwrap();
    let events = std::fs::read(bench.folder("run").events()).unwrap();
    let mut request = bench.request("run", bench.config(&[]));
    request.resume = true;
    assert_eq!(run(&request, &mut NoObserver, &StopFlag::new()).unwrap(), summary);
    assert_eq!(std::fs::read(bench.folder("run").events()).unwrap(), events);
}
