//! Starts runs in their turn, finds running ones again after a restart, stops and resumes them, and tells how they stand.
//!
//! What is true stands in files: `experiment.json`, the run folder, and `process.json` with the identity of the newest process.
//! The order of the queue is given from outside, where notices of every change go, too. A run needs nothing of the server but to be started.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Map, Value};

use crate::error::{ApiError, ApiResult};
use crate::workdir::new_folder;

use super::entry::{Entry, adopt};
use super::experiment_file::{ExperimentFile, ExperimentFolder, GridOrigin, check, now_unix_secs, read_json};
use super::process::Identity;
use super::status::ExperimentStatus;
use super::summary::ExperimentSummary;

/// The least time between two notices of the same experiment's progress.
const NOTICE_EVERY: Duration = Duration::from_secs(1);

/// What the supervisor has to know.
#[derive(Clone, Debug)]
pub(crate) struct RunsOptions {
    /// Where experiments are: `<workdir>/experiments`.
    pub(crate) folder: PathBuf,
    /// The program that trains.
    pub(crate) program: PathBuf,
    /// What the device `auto` is on this machine.
    pub(crate) default_device: String,
}

/// What may change while the server runs.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct RunsPolicy {
    /// How many runs share a device.
    pub(crate) runs_per_device: usize,
    /// No waiting experiment is started.
    pub(crate) is_queue_paused: bool,
    /// Variables for training processes besides the server's own.
    pub(crate) environment: Vec<(String, String)>,
}

impl std::fmt::Debug for RunsPolicy {
    /// Without the variables, which may hold secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunsPolicy")
            .field("runs_per_device", &self.runs_per_device)
            .field("is_queue_paused", &self.is_queue_paused)
            .finish_non_exhaustive()
    }
}

impl Default for RunsPolicy {
    fn default() -> Self {
        Self { runs_per_device: 1, is_queue_paused: false, environment: Vec::new() }
    }
}

/// What a new experiment is made of.
#[derive(Clone, Debug)]
pub(crate) struct NewExperiment {
    pub(crate) name: String,
    pub(crate) dataset_id: Option<String>,
    pub(crate) dataset_name: Option<String>,
    pub(crate) values: Map<String, Value>,
    pub(crate) grid: Option<GridOrigin>,
}

/// What others have to be told.
#[derive(Clone, Debug)]
pub(crate) enum Notice {
    /// It is new or another.
    Changed(Box<ExperimentSummary>),
    /// It is gone.
    Deleted(String),
}

/// All experiments of a work folder.
#[derive(Debug)]
pub(crate) struct Supervisor {
    options: RunsOptions,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    entries: BTreeMap<String, Entry>,
    /// Ids of those that wait, the next to start first.
    queue: Vec<String>,
    policy: RunsPolicy,
    /// What nobody has taken yet.
    notices: Vec<Notice>,
}

impl Supervisor {
    /// Finds the experiments of the work folder, running ones included. Of them, those of `queue` wait, in this order.
    ///
    /// # Errors
    /// When the folder cannot be made or read.
    pub(crate) fn open(options: RunsOptions, queue: Vec<String>) -> ApiResult<Self> {
        let folder = &options.folder;
        fs::create_dir_all(folder).map_err(|error| ApiError::io(folder, "make", &error))?;
        let inner = Inner { queue, ..Inner::default() };
        let supervisor = Self { options, inner: Mutex::new(inner) };
        supervisor.reindex()?;
        let mut inner = supervisor.lock();
        let Inner { entries, queue, .. } = &mut *inner;
        queue.retain(|id| entries.contains_key(id));
        drop(inner);
        Ok(supervisor)
    }

    /// Takes in experiments of the work folder that are not known yet. Returns how many there are, and how many were new.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub(crate) fn reindex(&self) -> ApiResult<(usize, usize)> {
        let root = &self.options.folder;
        let listed = fs::read_dir(root).map_err(|error| ApiError::io(root, "list", &error))?;
        let mut inner = self.lock();
        let (mut n_found, mut n_added) = (0, 0);
        for path in listed.flatten().map(|entry| entry.path()) {
            let folder = ExperimentFolder(path);
            let Some(file) = read_json::<ExperimentFile>(&folder.file()) else { continue };
            // A folder that was copied by hand has the id of another.
            if folder.0.file_name().is_none_or(|name| name.to_string_lossy() != file.id.as_str()) {
                continue;
            }
            n_found += 1;
            if inner.entries.contains_key(&file.id) {
                continue;
            }
            n_added += 1;
            let process = read_json(&folder.process()).or_else(|| adopt(&folder));
            let mut entry = Entry::new(folder, file, process);
            let is_queued = inner.queue.contains(&entry.file.id);
            entry.look(is_queued);
            inner.entries.insert(entry.file.id.clone(), entry);
        }
        Self::settle(&mut inner);
        Ok((n_found, n_added))
    }

    /// What has changed since this was last asked.
    pub(crate) fn take_notices(&self) -> Vec<Notice> {
        std::mem::take(&mut self.lock().notices)
    }

    /// Whether an experiment waits for its turn.
    pub(crate) fn has_waiting(&self) -> bool {
        !self.lock().queue.is_empty()
    }

    /// Takes new rules; they hold from the next look on.
    pub(crate) fn set_policy(&self, policy: RunsPolicy) {
        self.lock().policy = policy;
    }

    /// All experiments, the newest first.
    pub(crate) fn list(&self) -> Vec<ExperimentSummary> {
        let mut inner = self.lock();
        inner.look_at_all();
        let mut all: Vec<ExperimentSummary> =
            inner.entries.values().map(|entry| inner.summary(entry)).collect();
        all.sort_by(|a, b| b.created_unix_secs.total_cmp(&a.created_unix_secs).then_with(|| a.id.cmp(&b.id)));
        all
    }

    /// One experiment: how it stands, what it was made of, and where it is.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn get(&self, id: &str) -> ApiResult<(ExperimentSummary, ExperimentFile, ExperimentFolder)> {
        let mut inner = self.lock();
        let is_queued = inner.queue.iter().any(|other| other == id);
        let entry = inner.entries.get_mut(id).ok_or_else(|| no_experiment(id))?;
        entry.look(is_queued);
        let (file, folder) = (entry.file.clone(), entry.folder.clone());
        let entry = inner.entries.get(id).ok_or_else(|| no_experiment(id))?;
        Ok((inner.summary(entry), file, folder))
    }

    /// Makes experiments and puts them at the end of the queue, or before it.
    ///
    /// # Errors
    /// Settings that are not allowed, or a folder that cannot be written. Then none is made.
    pub(crate) fn create(
        &self,
        new: Vec<NewExperiment>,
        is_first: bool,
    ) -> ApiResult<Vec<ExperimentSummary>> {
        for one in &new {
            check(&one.values)?;
        }
        let mut inner = self.lock();
        let mut ids = Vec::new();
        for one in new {
            let name = inner.free_name(one.name.trim());
            let (id, path) = new_folder(&self.options.folder, &name)?;
            let folder = ExperimentFolder(path);
            let file = ExperimentFile {
                id: id.clone(),
                name,
                dataset_id: one.dataset_id,
                dataset_name: one.dataset_name,
                values: one.values,
                grid: one.grid,
                created_unix_secs: now_unix_secs(),
                is_resume: false,
                started_unix_secs: None,
                is_stop_asked: false,
            };
            let entry = Entry::new(folder, file, None);
            entry.save()?;
            inner.entries.insert(id.clone(), entry);
            ids.push(id);
        }
        let at = if is_first { 0 } else { inner.queue.len() };
        inner.queue.splice(at..at, ids.iter().cloned());
        Self::settle(&mut inner);
        Ok(ids.iter().filter_map(|id| Some(inner.summary(inner.entries.get(id)?))).collect())
    }

    /// Gives it another name. Its folder stays, since a process may be writing there.
    ///
    /// # Errors
    /// A name that is empty or taken.
    pub(crate) fn rename(&self, id: &str, name: &str) -> ApiResult<ExperimentSummary> {
        let name = name.trim();
        let mut inner = self.lock();
        if name.is_empty() {
            return Err(ApiError::invalid("an experiment needs a name"));
        }
        if inner.entries.values().any(|entry| entry.file.name == name && entry.file.id != id) {
            return Err(ApiError::conflict(format!("another experiment is called {name}")));
        }
        let entry = inner.entries.get_mut(id).ok_or_else(|| no_experiment(id))?;
        entry.file.name = name.to_owned();
        entry.save()?;
        Self::settle(&mut inner);
        inner.summary_of(id)
    }

    /// Asks it to write a checkpoint and leave, or takes it from the queue.
    ///
    /// # Errors
    /// When it neither waits nor runs.
    pub(crate) fn stop(&self, id: &str) -> ApiResult<ExperimentSummary> {
        let mut inner = self.lock();
        inner.look_at(id)?;
        let was_queued = inner.unqueue(id);
        let entry = inner.entries.get_mut(id).ok_or_else(|| no_experiment(id))?;
        match entry.status {
            ExperimentStatus::Starting | ExperimentStatus::Running => {
                // Once only: a second signal makes it leave without a checkpoint.
                entry.file.is_stop_asked = true;
                entry.save()?;
                if let Some(process) = &entry.process {
                    process.signal(Signal::SIGINT);
                }
            }
            ExperimentStatus::Stopping => {}
            _ if was_queued => {}
            status => return Err(ApiError::conflict(format!("it is {} already", name_of(status)))),
        }
        entry.is_settled = false;
        Self::settle(&mut inner);
        inner.summary_of(id)
    }

    /// Ends its process at once; work since the last checkpoint is lost.
    ///
    /// # Errors
    /// When it has no process.
    pub(crate) fn kill(&self, id: &str) -> ApiResult<ExperimentSummary> {
        let mut inner = self.lock();
        inner.look_at(id)?;
        let entry = inner.entries.get_mut(id).ok_or_else(|| no_experiment(id))?;
        let Some(process) = entry.process.clone().filter(|_| entry.status.is_active()) else {
            return Err(ApiError::conflict("it has no process to kill"));
        };
        entry.file.is_stop_asked = true;
        entry.save()?;
        process.signal(Signal::SIGKILL);
        // The system needs a moment for it; the answer should say how it stands then.
        let started = Instant::now();
        while process.is_alive() && started.elapsed() < Duration::from_secs(2) {
            std::thread::sleep(Duration::from_millis(5));
        }
        Self::settle(&mut inner);
        inner.summary_of(id)
    }

    /// Puts it into the queue again: to go on where its run is, or from the start where there is none.
    ///
    /// # Errors
    /// When it waits, runs or is finished.
    pub(crate) fn resume(&self, id: &str) -> ApiResult<ExperimentSummary> {
        let mut inner = self.lock();
        inner.look_at(id)?;
        let entry = inner.entries.get_mut(id).ok_or_else(|| no_experiment(id))?;
        if !matches!(
            entry.status,
            ExperimentStatus::Stopped | ExperimentStatus::Failed | ExperimentStatus::Killed
        ) {
            return Err(ApiError::conflict(format!("it is {}", name_of(entry.status)))
                .hint("only an experiment that was stopped, killed or failed can go on"));
        }
        entry.file.is_resume = true;
        entry.file.is_stop_asked = false;
        entry.is_settled = false;
        entry.save()?;
        inner.queue.push(id.to_owned());
        Self::settle(&mut inner);
        inner.summary_of(id)
    }

    /// Removes it with all its files.
    ///
    /// # Errors
    /// While it has a process, and when its files cannot be removed.
    pub(crate) fn delete(&self, id: &str) -> ApiResult<()> {
        let mut inner = self.lock();
        inner.look_at(id)?;
        let entry = inner.entries.get(id).ok_or_else(|| no_experiment(id))?;
        if entry.status.is_active() {
            return Err(ApiError::conflict(format!("it is {}", name_of(entry.status))).hint("stop it first"));
        }
        let folder = entry.folder.0.clone();
        // First out of sight: a removal that is interrupted leaves no half experiment.
        let hidden = folder.with_file_name(format!(".deleted-{id}-{}", now_unix_secs()));
        fs::rename(&folder, &hidden).map_err(|error| ApiError::io(&folder, "remove", &error))?;
        inner.unqueue(id);
        inner.entries.remove(id);
        inner.notices.push(Notice::Deleted(id.to_owned()));
        drop(inner);
        fs::remove_dir_all(&hidden).map_err(|error| ApiError::io(&hidden, "remove", &error))
    }

    /// Puts the waiting experiments into this order; those not named follow in the order they had.
    pub(crate) fn order_queue(&self, ids: &[String]) -> Vec<String> {
        let mut inner = self.lock();
        let named: Vec<String> = ids.iter().filter(|id| inner.queue.contains(id)).cloned().collect();
        let rest = inner.queue.iter().filter(|id| !named.contains(id)).cloned().collect::<Vec<_>>();
        let mut order: Vec<String> = Vec::new();
        for id in named.into_iter().chain(rest) {
            if !order.contains(&id) {
                order.push(id);
            }
        }
        inner.queue.clone_from(&order);
        Self::settle(&mut inner);
        order
    }

    /// Looks at all that may have changed, starts what has its turn, and gives notice. To be called a few times a second.
    pub(crate) fn tick(&self) {
        let mut inner = self.lock();
        inner.look_at_all();
        if !inner.policy.is_queue_paused {
            self.start_waiting(&mut inner);
        }
        inner.notice_changes();
    }

    fn start_waiting(&self, inner: &mut Inner) {
        let mut used: BTreeMap<String, usize> = BTreeMap::new();
        for entry in inner.entries.values().filter(|entry| entry.status.is_active()) {
            *used.entry(self.device_of(entry)).or_default() += 1;
        }
        for id in inner.queue.clone() {
            let Some(entry) = inner.entries.get_mut(&id) else { continue };
            let n_used = used.entry(self.device_of(entry)).or_default();
            if inner.policy.runs_per_device.max(1) <= *n_used {
                continue;
            }
            *n_used += 1;
            if let Err(error) = entry.start(&self.options, &inner.policy.environment) {
                // It is told where a process that fails at once would have told it.
                entry.process = Some(Identity { pid: 0, start: 0, boot: String::new(), marker: id.clone() });
                let _ = fs::write(entry.folder.stderr(), format!("error: it cannot be started: {error}\n"));
            }
            inner.queue.retain(|other| *other != id);
            inner.look_at(&id).ok();
        }
    }

    /// The device as the queue counts it.
    fn device_of(&self, entry: &Entry) -> String {
        match entry.device() {
            device if device == "auto" => self.options.default_device.clone(),
            device => device,
        }
    }

    /// Looks at all, and notes what has changed.
    fn settle(inner: &mut Inner) {
        inner.look_at_all();
        inner.notice_changes();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Notes what was seen to have changed.
    fn notice_changes(&mut self) {
        let summaries: Vec<ExperimentSummary> =
            self.entries.values().map(|entry| self.summary(entry)).collect();
        for summary in summaries {
            let Some(entry) = self.entries.get_mut(&summary.id) else { continue };
            let is_due = match &entry.noticed {
                None => true,
                Some((_, last)) if *last == summary => false,
                Some((at, last)) => {
                    let is_only_progress =
                        last.status == summary.status && last.queue_position == summary.queue_position;
                    !is_only_progress || NOTICE_EVERY <= at.elapsed()
                }
            };
            if is_due {
                entry.noticed = Some((Instant::now(), summary.clone()));
                self.notices.push(Notice::Changed(Box::new(summary)));
            }
        }
    }

    fn look_at_all(&mut self) {
        let Self { entries, queue, .. } = self;
        for (id, entry) in entries {
            entry.look(queue.contains(id));
        }
    }

    fn look_at(&mut self, id: &str) -> ApiResult<()> {
        let is_queued = self.queue.iter().any(|other| other == id);
        self.entries.get_mut(id).ok_or_else(|| no_experiment(id))?.look(is_queued);
        Ok(())
    }

    fn unqueue(&mut self, id: &str) -> bool {
        let n_before = self.queue.len();
        self.queue.retain(|other| other != id);
        self.queue.len() < n_before
    }

    fn position(&self, id: &str) -> Option<usize> {
        self.queue.iter().position(|other| other == id)
    }

    fn summary_of(&self, id: &str) -> ApiResult<ExperimentSummary> {
        self.entries.get(id).map(|entry| self.summary(entry)).ok_or_else(|| no_experiment(id))
    }

    fn summary(&self, entry: &Entry) -> ExperimentSummary {
        entry.summary(self.position(&entry.file.id))
    }

    /// The name itself, or with the next number that makes it one of its own.
    fn free_name(&self, name: &str) -> String {
        let name = if name.is_empty() { "experiment" } else { name };
        let is_free = |name: &str| self.entries.values().all(|entry| entry.file.name != name);
        if is_free(name) {
            return name.to_owned();
        }
        (2_u64..).map(|n| format!("{name}-{n}")).find(|name| is_free(name)).unwrap_or_default()
    }
}

fn no_experiment(id: &str) -> ApiError {
    ApiError::not_found(format!("there is no experiment {id}"))
}

pub(super) fn name_of(status: ExperimentStatus) -> String {
    let name = serde_json::to_value(status).ok().and_then(|name| name.as_str().map(str::to_owned));
    name.unwrap_or_default()
}
