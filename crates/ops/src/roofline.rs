//! What this machine can do at most, measured: the two numbers against which the speed of an operation is read.
//!
//! Each thread times rounds of its own, much shorter than a time slice, and its median counts. Rounds that all threads
//! start and end together would measure how long threads take to wake up, and on a busy machine how long the slowest of
//! them waits for a core; the best round would be one in which the others stood still.

use std::hint::black_box;
use std::time::{Duration, Instant};

use tunesmith_kernels::{Compute, Level, roofline};

/// How long each of the two is tried.
const TRIAL: Duration = Duration::from_millis(200);
/// Rounds of multiply-adds between two looks at the clock: less than a tenth of a millisecond.
const N_ROUNDS: usize = 20_000;
/// Of each of three vectors, over all threads: 64 MiB, more than caches hold.
const N_VALUES: usize = 1 << 24;
/// Values of a vector between two looks at the clock: 1 MiB.
const BLOCK: usize = 1 << 18;

/// The most that all computing threads of this process reach together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Peaks {
    /// Multiplications and additions a second, fused where the CPU can.
    pub flops_per_sec: f64,
    /// Bytes read from and written to memory a second, two read for one written.
    pub bytes_per_sec: f64,
}

impl Peaks {
    /// Seconds that this much work takes at least: arithmetic and traffic go on at the same time.
    pub fn least_secs(&self, n_flops: u64, n_bytes: u64) -> f64 {
        (n_flops as f64 / self.flops_per_sec).max(n_bytes as f64 / self.bytes_per_sec)
    }
}

/// Measures for about half a second, with all threads and the widest instruction set. Arithmetic is that of products whose
/// factors have the format `compute`, in bfloat16 where the CPU has instructions for it.
pub fn measure_peaks(compute: Compute) -> Peaks {
    let level = Level::best();
    let arithmetic =
        rayon::broadcast(|_| median_rate(|_| roofline::multiply_adds(level, compute, N_ROUNDS).0));
    let traffic = rayon::broadcast(|thread| {
        let n_blocks = (N_VALUES / BLOCK / thread.num_threads()).max(4);
        let filled = |value: f32| vec![value; n_blocks * BLOCK];
        let (a, b, mut y) = (filled(1.0), filled(2.0), filled(3.0));
        median_rate(|round| {
            let first = round % n_blocks * BLOCK;
            let block = first..first + BLOCK;
            roofline::triad(level, &a[block.clone()], &b[block.clone()], black_box(0.5), &mut y[block]);
            black_box(&mut y);
            (3 * BLOCK * size_of::<f32>()) as u64
        })
    });
    Peaks { flops_per_sec: arithmetic.into_iter().sum(), bytes_per_sec: traffic.into_iter().sum() }
}

/// The median of `run`'s result a second, over as many runs as fit into the trial, and three at least. `run` is told how
/// many runs there were before.
fn median_rate(mut run: impl FnMut(usize) -> u64) -> f64 {
    let (began, mut rates) = (Instant::now(), Vec::new());
    while rates.len() < 3 || began.elapsed() < TRIAL {
        let started = Instant::now();
        let amount = black_box(run(rates.len()));
        rates.push(amount as f64 / started.elapsed().as_secs_f64().max(1e-9));
    }
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slower_of_arithmetic_and_traffic_bounds_the_time() {
        let peaks = Peaks { flops_per_sec: 100.0, bytes_per_sec: 10.0 };
        assert_eq!(peaks.least_secs(200, 5), 2.0);
        assert_eq!(peaks.least_secs(50, 30), 3.0);
        assert_eq!(peaks.least_secs(0, 0), 0.0);
    }

    #[test]
    fn at_least_three_runs_are_told_their_number() {
        let mut numbers = Vec::new();
        let rate = median_rate(|number| {
            numbers.push(number);
            1_000_000
        });
        assert!(3 <= numbers.len() && numbers.iter().copied().eq(0..numbers.len()));
        assert!(0.0 < rate && rate.is_finite());
    }
}
