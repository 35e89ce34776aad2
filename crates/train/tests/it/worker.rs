//! Trains one run in a process of its own, so that tests can kill it: `tunesmith-train-worker CFG RUN_DIR MODEL MODE`
//! with MODE `start` or `resume`, and optionally the milliseconds to wait after every micro-batch.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use tunesmith_config::ExperimentConfig;
use tunesmith_train::{Event, Observer, RunRequest, StopFlag, run};

/// Slows the run down, so that the test that watches it can act at any point of it.
struct Pause(Duration);

impl Observer for Pause {
    fn event(&mut self, _event: &Event) {
        std::thread::sleep(self.0);
    }

    fn micro_batch(&mut self, _n_done: u64, _n_total: u64) {
        std::thread::sleep(self.0);
    }

    fn evaluated(&mut self, _n_done: usize, _n_total: usize) {
        std::thread::sleep(self.0);
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (config, run_dir, model, mode, pause) = match arguments.as_slice() {
        [config, run_dir, model, mode] => (config, run_dir, model, mode, 0),
        [config, run_dir, model, mode, pause] => (config, run_dir, model, mode, pause.parse().unwrap_or(0)),
        _ => return ExitCode::from(2),
    };
    let Ok((config, _)) = ExperimentConfig::load(config.as_ref()) else { return ExitCode::from(2) };
    let request = RunRequest {
        config,
        run_dir: PathBuf::from(run_dir),
        resume: mode == "resume",
        model_path: PathBuf::from(model),
        cache_dir: None,
        judge: None,
        least_free_disk_bytes: 0,
        profile: false,
    };
    match run(&request, &mut Pause(Duration::from_millis(pause)), &StopFlag::new()) {
        Ok(_) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
