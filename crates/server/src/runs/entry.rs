//! One experiment: its files, its newest process, and how it stands.

use std::fs;
use std::path::Path;
use std::time::Instant;

use serde_json::Value;

use crate::error::{ApiError, ApiResult};

use super::experiment_file::{
    ExperimentFile, ExperimentFolder, config_of, now_unix_secs, read_json, write_json,
};
use super::process::{Identity, Launch, start_detached};
use super::progress::Progress;
use super::status::{ExperimentStatus, Facts, Flags, RunFailure, status_of};
use super::summary::{Can, ExperimentSummary};
use super::supervisor::RunsOptions;

/// An experiment as the supervisor knows it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) folder: ExperimentFolder,
    pub(super) file: ExperimentFile,
    pub(super) process: Option<Identity>,
    pub(super) progress: Progress,
    pub(super) status: ExperimentStatus,
    pub(super) failure: Option<RunFailure>,
    pub(super) flags: Option<Flags>,
    /// What its run computed on, where the settings leave that open.
    pub(super) run_device: Option<String>,
    /// Nothing of it changes by itself any more.
    pub(super) is_settled: bool,
    pub(super) noticed: Option<(Instant, ExperimentSummary)>,
}

impl Entry {
    pub(super) fn new(folder: ExperimentFolder, file: ExperimentFile, process: Option<Identity>) -> Self {
        Self {
            folder,
            file,
            process,
            progress: Progress::default(),
            status: ExperimentStatus::Stopped,
            failure: None,
            flags: None,
            run_device: None,
            is_settled: false,
            noticed: None,
        }
    }

    /// Looks at process and files.
    pub(super) fn look(&mut self, is_queued: bool) {
        if self.is_settled && !is_queued {
            return;
        }
        // In this order: what a process wrote before it ended is there when it is seen to be gone.
        let process = self.process.as_ref().map(|process| (process.pid, process.is_alive()));
        self.flags = read_json(&self.folder.flags());
        if self.run_device.is_none() {
            let record: Option<Value> = read_json(&self.folder.run().join("run.json"));
            self.run_device =
                record.and_then(|record| record.pointer("/machine/device")?.as_str().map(str::to_owned));
        }
        // A file that cannot be read now is read at the next look.
        let _ = self.progress.update(&self.folder.events());
        let facts = Facts {
            is_queued,
            process,
            flags: self.flags.as_ref(),
            is_stop_asked: self.file.is_stop_asked,
            stderr: &self.folder.stderr(),
        };
        (self.status, self.failure) = status_of(facts);
        self.is_settled = !is_queued && process.is_none_or(|(_, is_alive)| !is_alive);
    }

    pub(super) fn start(&mut self, options: &RunsOptions, environment: &[(String, String)]) -> ApiResult<()> {
        let (request, run) = (self.folder.request(), self.folder.run());
        let mut config =
            config_of(&self.file.values).map_err(|error| ApiError::invalid(error.to_string()))?;
        config.experiment_name.clone_from(&self.file.name);
        config.output_directory = run.display().to_string();
        fs::write(&request, config.to_yaml()).map_err(|error| ApiError::io(&request, "write", &error))?;
        let text = |path: &Path| path.display().to_string();
        let args = if self.file.is_resume && run.join("cfg.yaml").is_file() {
            vec!["train".to_owned(), "--resume".to_owned(), text(&run), "--json".to_owned()]
        } else {
            // A start that failed may have left a folder, in which this begins anew.
            ["train", "-Y", &text(&request), "--output", &text(&run), "--resume", "--json"]
                .map(str::to_owned)
                .to_vec()
        };
        let launch = Launch {
            program: &options.program,
            args: &args,
            environment,
            folder: &self.folder.0,
            stdout: self.folder.stdout(),
            stderr: self.folder.stderr(),
        };
        self.file.started_unix_secs = Some(now_unix_secs());
        self.file.is_stop_asked = false;
        self.is_settled = false;
        // What went wrong before is not this start's.
        let _ = fs::write(self.folder.stderr(), "");
        let process = start_detached(&launch, &text(&run))
            .map_err(|error| ApiError::io(&options.program, "start", &error))?;
        write_json(&self.folder.process(), &process)
            .map_err(|error| ApiError::io(&self.folder.process(), "write", &error))?;
        self.process = Some(process);
        self.save()
    }

    pub(super) fn save(&self) -> ApiResult<()> {
        let path = self.folder.file();
        write_json(&path, &self.file).map_err(|error| ApiError::io(&path, "write", &error))
    }

    pub(super) fn device(&self) -> String {
        let device = self.file.values.get("environment.device").and_then(Value::as_str);
        device.filter(|device| !device.is_empty()).unwrap_or("auto").to_owned()
    }

    pub(super) fn summary(&self, queue_position: Option<usize>) -> ExperimentSummary {
        use ExperimentStatus::{Failed, Finished, Killed, Queued, Running, Starting, Stopped};

        let text = |field: &str| self.file.values.get(field).and_then(Value::as_str).unwrap_or_default();
        let progress = &self.progress;
        let status = self.status;
        let is_over = matches!(status, Finished | Stopped | Failed | Killed);
        let run = self.folder.run();
        let has_result = self.folder.has_result();
        let has_weights =
            has_result || run.join("checkpoints/last").is_dir() || run.join("checkpoints/best").is_dir();
        let problem_type = text("problem_type");
        // Such a model gives classes or numbers and says nothing.
        let has_scores =
            matches!(problem_type, "text_causal_classification_modeling" | "text_causal_regression_modeling");
        let n_planned = self.flags.as_ref().map_or(0, |flags| flags.n_steps);
        ExperimentSummary {
            id: self.file.id.clone(),
            name: self.file.name.clone(),
            dataset_id: self.file.dataset_id.clone(),
            dataset_name: self.file.dataset_name.clone(),
            problem_type: if problem_type.is_empty() {
                "text_causal_language_modeling"
            } else {
                problem_type
            }
            .to_owned(),
            model: text("llm_backbone").to_owned(),
            status,
            progress: if status == Finished { 1.0 } else { progress.share() },
            step: progress.step,
            n_steps: progress.n_steps.max(n_planned),
            eta_secs: if status == Running { progress.eta_secs } else { None },
            run_secs: progress.run_secs,
            metric_name: progress.metric_name.clone().unwrap_or_else(|| match text("prediction.metric") {
                "" | "GPT" => "Perplexity".to_owned(),
                name => name.to_owned(),
            }),
            higher_is_better: progress.higher_is_better,
            metric: progress.metric,
            train_loss: progress.train_loss,
            validation_loss: progress.validation_loss,
            device: self.run_device.clone().unwrap_or_else(|| self.device()),
            failure: self.failure.clone(),
            queue_position,
            created_unix_secs: self.file.created_unix_secs,
            started_unix_secs: self.file.started_unix_secs.or(progress.first_unix_secs),
            finished_unix_secs: progress.last_unix_secs.filter(|_| is_over),
            peak_memory_bytes: progress.peak_memory_bytes,
            tokens_per_sec: progress.tokens_per_sec,
            grid_id: self.file.grid.as_ref().map(|grid| grid.id.clone()),
            can: Can {
                stop: matches!(status, Queued | Starting | Running),
                kill: status.is_active(),
                resume: matches!(status, Stopped | Failed | Killed),
                chat: has_weights && !has_scores,
                export: is_over && has_weights,
                delete: !status.is_active(),
            },
        }
    }
}

/// The process that works on the run, when its start was not written down: the server was killed in between, or it was started
/// by hand.
pub(super) fn adopt(folder: &ExperimentFolder) -> Option<Identity> {
    let flags: Flags = read_json(&folder.flags())?;
    let process = Identity::of(flags.process_id, &folder.run().display().to_string())?;
    write_json(&folder.process(), &process).ok()?;
    Some(process)
}
