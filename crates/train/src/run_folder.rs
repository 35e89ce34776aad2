//! The folder of a run: where everything is, and the lock that keeps a second process out.
//!
//! | path | content |
//! |---|---|
//! | `cfg.yaml` | the configuration in effect |
//! | `run.json` | seed, versions, device, fingerprints ([`crate::RunRecord`]) |
//! | `events.jsonl` | what happened, one event a line ([`crate::Event`]) |
//! | `flags.json` | how the run stands ([`crate::Status`]) |
//! | `logs.log` | dated lines for people |
//! | `checkpoints/{last,best,step_N}/` | weights, optimizer state and position, complete or absent |
//! | `adapter_model/` or `model/` | the result |
//! | `references/` | what the reference model thinks of the preferences, for resuming |
//! | `summary.json` | the figures of a finished run ([`crate::RunSummary`]) |
//! | `validation_predictions.csv` | what the model made of each validation sample (`.json`: which evaluation) |
//! | `tracker.json`, `tensorboard/` | what a tracker has of the run, written by whoever follows it; not by this crate |
//! | `profile.json` | where the time of the steps went, if asked for ([`crate::Profile`]) |
//! | `run.lock` | held while a process works on the run |

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use crate::error::{IoContext, TrainError};

/// The paths in a run folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunFolder {
    root: PathBuf,
}

impl RunFolder {
    /// The run folder at `root`, which need not exist.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The configuration in effect.
    pub fn config(&self) -> PathBuf {
        self.root.join("cfg.yaml")
    }

    /// Seed, versions, device and fingerprints.
    pub fn record(&self) -> PathBuf {
        self.root.join("run.json")
    }

    /// One event a line.
    pub fn events(&self) -> PathBuf {
        self.root.join("events.jsonl")
    }

    /// How the run stands.
    pub fn status(&self) -> PathBuf {
        self.root.join("flags.json")
    }

    /// Dated lines for people.
    pub fn log(&self) -> PathBuf {
        self.root.join("logs.log")
    }

    /// The figures of a finished run.
    pub fn summary(&self) -> PathBuf {
        self.root.join("summary.json")
    }

    /// What the model made of each validation sample at the last evaluation, or the best one when that is kept.
    pub fn predictions(&self) -> PathBuf {
        self.root.join("validation_predictions.csv")
    }

    /// Which evaluation that was, and what the table is to be sorted by.
    pub fn predictions_about(&self) -> PathBuf {
        self.root.join("validation_predictions.json")
    }

    /// Where the time of the training steps went.
    pub fn profile(&self) -> PathBuf {
        self.root.join("profile.json")
    }

    /// All checkpoints.
    pub fn checkpoints(&self) -> PathBuf {
        self.root.join("checkpoints")
    }

    /// What the reference model thinks of each set of comparisons.
    pub fn references(&self) -> PathBuf {
        self.root.join("references")
    }

    /// The trained adapter.
    pub fn adapter(&self) -> PathBuf {
        self.root.join("adapter_model")
    }

    /// The trained model.
    pub fn model(&self) -> PathBuf {
        self.root.join("model")
    }

    /// `path` as seen from the run folder, with forward slashes.
    pub fn relative(&self, path: &Path) -> String {
        let relative = path.strip_prefix(&self.root).unwrap_or(path);
        let parts: Vec<_> = relative.iter().map(|part| part.to_string_lossy()).collect();
        parts.join("/")
    }

    fn lock_file(&self) -> PathBuf {
        self.root.join("run.lock")
    }

    /// Takes the folder for this process: makes it if it is missing, locks it, and refuses to start a new run over an
    /// old one. The lock goes when the process ends, however it ends.
    ///
    /// # Errors
    /// [`TrainError::RunExists`] and [`TrainError::RunBusy`], or when the folder cannot be made.
    pub(crate) fn take(&self, resume: bool) -> Result<RunLock, TrainError> {
        std::fs::create_dir_all(&self.root).at(&self.root, "create")?;
        let path = self.lock_file();
        let file =
            OpenOptions::new().create(true).truncate(false).write(true).open(&path).at(&path, "open")?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(TrainError::RunBusy { path: self.root.clone() }),
            // Some network file systems have no locks; there the user has to take care.
            Err(TryLockError::Error(source)) if source.kind() == std::io::ErrorKind::Unsupported => {}
            Err(TryLockError::Error(source)) => return Err(source).at(&path, "lock"),
        }
        let holds_run = [self.record(), self.events(), self.checkpoints()].iter().any(|path| path.exists());
        if holds_run && !resume {
            return Err(TrainError::RunExists { path: self.root.clone() });
        }
        self.remove_unfinished_files()?;
        Ok(RunLock { _file: file })
    }

    /// Removes the temporary files (`.name.….tmp`) of processes that were killed while they wrote one.
    fn remove_unfinished_files(&self) -> Result<(), TrainError> {
        let folders = [self.root.clone(), self.references()];
        for folder in folders.iter().filter(|folder| folder.is_dir()) {
            remove_unfinished_files_in(folder)?;
        }
        Ok(())
    }
}

fn remove_unfinished_files_in(folder: &Path) -> Result<(), TrainError> {
    for entry in std::fs::read_dir(folder).at(folder, "list")? {
        let path = entry.at(folder, "list")?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if name.starts_with('.') && name.ends_with(".tmp") && path.is_file() {
            std::fs::remove_file(&path).at(&path, "remove")?;
        }
    }
    Ok(())
}

/// Keeps other processes out of a run folder while it lives.
#[derive(Debug)]
pub(crate) struct RunLock {
    _file: File,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let folder = RunFolder::new(dir.path().join("run"));
        let lock = folder.take(false).unwrap();
        assert!(matches!(folder.take(false), Err(TrainError::RunBusy { .. })));
        drop(lock);
        folder.take(false).unwrap();
    }

    #[test]
    fn a_run_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let folder = RunFolder::new(dir.path());
        std::fs::write(folder.config(), "").unwrap();
        folder.take(false).unwrap();
        std::fs::write(folder.events(), "").unwrap();
        assert!(matches!(folder.take(false), Err(TrainError::RunExists { .. })));
        folder.take(true).unwrap();
    }

    #[test]
    fn unfinished_files_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let folder = RunFolder::new(dir.path());
        let unfinished = dir.path().join(".flags.json.12-0.tmp");
        std::fs::write(&unfinished, "{").unwrap();
        std::fs::write(dir.path().join("notes.tmp"), "mine").unwrap();
        folder.take(false).unwrap();
        assert!(!unfinished.exists() && dir.path().join("notes.tmp").exists());
    }

    #[test]
    fn relative_paths() {
        let folder = RunFolder::new("/runs/a");
        assert_eq!(folder.relative(&folder.checkpoints().join("last")), "checkpoints/last");
    }
}
