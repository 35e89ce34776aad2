//! What this machine can do at most, measured: the two numbers against which the speed of an operation is read.

use std::hint::black_box;
use std::time::{Duration, Instant};

use tunesmith_kernels::{Level, roofline};

/// How long each of the two is tried.
const TRIAL: Duration = Duration::from_millis(200);
/// Takes about a tenth of a millisecond.
const N_ROUNDS: usize = 20_000;
/// Of each of three vectors: 64 MiB, more than caches hold.
const N_VALUES: usize = 1 << 24;

/// The most that all computing threads of this process reach together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Peaks {
    /// Multiplications and additions a second in single precision, as fused multiply-adds where the CPU has them.
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

/// Measures for about half a second, with all threads and the widest instruction set.
pub fn measure_peaks() -> Peaks {
    let level = Level::best();
    let arithmetic =
        best_rate(|| rayon::broadcast(|_| roofline::multiply_adds(level, N_ROUNDS).0).into_iter().sum());
    let (a, b, mut y) = (vec![1.0; N_VALUES], vec![2.0; N_VALUES], vec![0.0; N_VALUES]);
    let traffic = best_rate(|| {
        roofline::triad(level, &a, &b, black_box(0.5), &mut y);
        black_box(&mut y);
        (3 * N_VALUES * size_of::<f32>()) as u64
    });
    Peaks { flops_per_sec: arithmetic, bytes_per_sec: traffic }
}

/// The most of `run`'s result a second, over as many runs as fit into the trial, and three at least.
fn best_rate(mut run: impl FnMut() -> u64) -> f64 {
    let (began, mut n_runs, mut best) = (Instant::now(), 0, 0.0_f64);
    while n_runs < 3 || began.elapsed() < TRIAL {
        let started = Instant::now();
        let amount = black_box(run());
        best = best.max(amount as f64 / started.elapsed().as_secs_f64().max(1e-9));
        n_runs += 1;
    }
    best
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
    fn the_best_of_at_least_three_runs_counts() {
        let mut n_runs = 0;
        let rate = best_rate(|| {
            n_runs += 1;
            1_000_000
        });
        assert!(3 <= n_runs && 0.0 < rate && rate.is_finite());
    }
}
