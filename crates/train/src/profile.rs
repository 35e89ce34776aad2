//! The time account of a run's training steps: what `profile.json` holds.
//!
//! Only steps are accounted for: windows of micro-batches with the update after them, not loading, evaluations or
//! checkpoints. The account is that of the process which wrote it, so after resuming it begins anew.

use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tunesmith_ops::profile::{self, Row};
use tunesmith_ops::{Compute, Peaks, measure_peaks};

use crate::error::TrainError;
use crate::json_file::{read_json, write_json};

/// Where the time of the training steps went.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// Optimizer steps accounted for.
    pub n_steps: u64,
    /// Seconds these steps took.
    pub secs: f64,
    /// The number format of the factors of matrix products, such as `bfloat16`.
    pub factors: String,
    /// What all threads reach together with such factors, measured at the start: multiplications and additions a second.
    pub peak_flops_per_sec: f64,
    /// The same for traffic with the memory, in bytes a second.
    pub peak_bytes_per_sec: f64,
    /// The operations, from the one that took longest, and at the end [`Self::EVERYTHING_ELSE`].
    pub operations: Vec<Operation>,
}

/// One operation of [`Profile`], over all steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Operation {
    /// What it is, forward and backward passes apart.
    pub name: String,
    /// Times it ran; 0 where that is not counted.
    pub n_calls: u64,
    /// Seconds it took.
    pub secs: f64,
    /// Multiplications and additions of its matrix products; 0 where there are none.
    pub n_flops: u64,
    /// Bytes it reads and writes if caches hold everything that is used twice; 0 where that cannot be told.
    pub n_bytes: u64,
    /// The least time its work could take on this machine, as a share of the time it took; absent without work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share_of_peak: Option<f64>,
}

impl Profile {
    /// The name of the row with the time that no operation accounts for.
    pub const EVERYTHING_ELSE: &str = "everything else";

    /// The account at `path`; `None` when there is none.
    ///
    /// # Errors
    /// When it cannot be read or is not an account.
    pub fn read(path: &Path) -> Result<Option<Self>, TrainError> {
        read_json(path)
    }

    pub(crate) fn write(&self, path: &Path) -> Result<(), TrainError> {
        write_json(path, self)
    }
}

impl Operation {
    fn new(name: &str, row: &Row, peaks: &Peaks) -> Self {
        let secs = row.nanos as f64 / 1e9;
        let least_secs = peaks.least_secs(row.work.n_flops, row.work.n_bytes);
        Self {
            name: name.to_owned(),
            n_calls: row.n_calls,
            secs,
            n_flops: row.work.n_flops,
            n_bytes: row.work.n_bytes,
            share_of_peak: (0.0 < least_secs).then(|| least_secs / secs.max(1e-9)),
        }
    }

    /// Multiplications and additions a second; `None` when there are none.
    pub fn flops_per_sec(&self) -> Option<f64> {
        (0 < self.n_flops).then(|| self.n_flops as f64 / self.secs.max(1e-9))
    }

    /// Bytes a second; `None` when they are not known.
    pub fn bytes_per_sec(&self) -> Option<f64> {
        (0 < self.n_bytes).then(|| self.n_bytes as f64 / self.secs.max(1e-9))
    }
}

/// Keeps the account while a run trains.
#[derive(Debug)]
pub(crate) struct Profiler {
    compute: Compute,
    peaks: Peaks,
    in_steps: Duration,
    n_steps: u64,
}

impl Profiler {
    /// Measures the machine for products with factors in the format `compute`. Rows that something else on this thread left
    /// behind are forgotten.
    pub(crate) fn new(compute: Compute) -> Self {
        profile::take();
        Self { compute, peaks: measure_peaks(compute), in_steps: Duration::ZERO, n_steps: 0 }
    }

    /// A step begins; accounting ends when the result is handed to [`Self::step_ended`].
    pub(crate) fn step_begins(&self) -> Instant {
        profile::switch(true);
        Instant::now()
    }

    /// The step that began at `began` is over.
    pub(crate) fn step_ended(&mut self, began: Instant) {
        self.in_steps += began.elapsed();
        self.n_steps += 1;
        profile::switch(false);
    }

    /// The account so far, which ends here.
    pub(crate) fn finish(self) -> Profile {
        // A run that was stopped within a step left accounting on.
        profile::switch(false);
        let rows = profile::take();
        let mut operations: Vec<_> =
            rows.iter().map(|(name, row)| Operation::new(name, row, &self.peaks)).collect();
        operations.sort_by(|a, b| b.secs.total_cmp(&a.secs));
        let accounted: f64 = operations.iter().map(|operation| operation.secs).sum();
        let secs = self.in_steps.as_secs_f64();
        operations.push(Operation {
            name: Profile::EVERYTHING_ELSE.to_owned(),
            n_calls: 0,
            secs: (secs - accounted).max(0.0),
            n_flops: 0,
            n_bytes: 0,
            share_of_peak: None,
        });
        Profile {
            n_steps: self.n_steps,
            secs,
            factors: match self.compute {
                Compute::F32 => "float32",
                Compute::Bf16 => "bfloat16",
            }
            .to_owned(),
            peak_flops_per_sec: self.peaks.flops_per_sec,
            peak_bytes_per_sec: self.peaks.bytes_per_sec,
            operations,
        }
    }
}

#[cfg(test)]
mod tests {
    use tunesmith_ops::profile::{Work, measure};

    use super::*;

    #[test]
    fn rows_are_sorted_and_the_rest_is_the_last() {
        let peaks = Peaks { flops_per_sec: 1e9, bytes_per_sec: 1e9 };
        let mut profiler = Profiler { compute: Compute::F32, peaks, in_steps: Duration::ZERO, n_steps: 0 };
        measure("outside", Work::default, || ());
        for _ in 0..2 {
            let began = profiler.step_begins();
            measure("short", || Work::product(1, 2, 3), || ());
            measure("long", Work::default, || std::thread::sleep(Duration::from_millis(2)));
            profiler.step_ended(began);
        }
        measure("outside", Work::default, || ());
        let account = profiler.finish();
        let names: Vec<_> = account.operations.iter().map(|row| row.name.as_str()).collect();
        assert_eq!((names, account.n_steps), (vec!["long", "short", Profile::EVERYTHING_ELSE], 2));
        let sum: f64 = account.operations.iter().map(|row| row.secs).sum();
        assert!((sum - account.secs).abs() < 1e-9, "{sum} of {}", account.secs);
        let short = &account.operations[1];
        assert_eq!((short.n_calls, short.n_flops, short.n_bytes), (2, 24, 2 * 4 * (2 + 6 + 3)));
        let share = short.share_of_peak.unwrap() * short.secs.max(1e-9);
        assert!(
            (share - 88e-9).abs() < 1e-12,
            "{share}: bound by traffic, as 88 bytes take longer than 24 operations"
        );
        assert_eq!(account.operations[0].flops_per_sec(), None);
    }

    #[test]
    fn an_account_is_read_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("profile.json");
        assert_eq!(Profile::read(&path).unwrap(), None);
        let account = Profiler {
            compute: Compute::Bf16,
            peaks: Peaks { flops_per_sec: 1.5e11, bytes_per_sec: 2e10 },
            in_steps: Duration::from_millis(1500),
            n_steps: 3,
        }
        .finish();
        account.write(&path).unwrap();
        assert_eq!(Profile::read(&path).unwrap(), Some(account));
    }
}
