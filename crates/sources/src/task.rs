//! What a transfer tells and is told while it runs.

use std::fmt;
use std::thread;
use std::time::Duration;

use crate::error::{Result, SourceError};

/// How far a transfer is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Progress<'a> {
    /// What it is doing now, in words.
    Doing(&'a str),
    /// A connection broke, and is tried again.
    Retrying(&'a str),
    /// Bytes that are here, of all files together.
    Bytes {
        /// Those that are here.
        done: u64,
        /// All, where that is known.
        total: Option<u64>,
    },
}

/// A transfer's limit, its way to tell progress, and its way to be cancelled.
#[derive(Clone, Copy)]
pub struct Task<'a> {
    /// Most bytes of all files together, also after unpacking.
    pub max_bytes: u64,
    /// Told of progress.
    pub on_progress: &'a dyn Fn(Progress<'_>),
    /// Asked whether to stop.
    pub is_cancelled: &'a dyn Fn() -> bool,
}

impl Task<'_> {
    /// Fails when the transfer shall stop.
    ///
    /// # Errors
    /// It shall.
    pub fn check(&self) -> Result<()> {
        if (self.is_cancelled)() { Err(SourceError::Cancelled) } else { Ok(()) }
    }

    pub(crate) fn say(&self, words: &str) {
        (self.on_progress)(Progress::Doing(words));
    }

    pub(crate) fn bytes(&self, done: u64, total: Option<u64>) {
        (self.on_progress)(Progress::Bytes { done, total });
    }

    /// Waits, but not when it shall stop.
    pub(crate) fn wait(&self, time: Duration) -> Result<()> {
        let step = Duration::from_millis(50);
        let mut rest = time;
        while !rest.is_zero() {
            self.check()?;
            let now = rest.min(step);
            thread::sleep(now);
            rest -= now;
        }
        self.check()
    }
}

impl fmt::Debug for Task<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").field("max_bytes", &self.max_bytes).finish_non_exhaustive()
    }
}
