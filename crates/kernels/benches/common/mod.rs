//! What the benches share: values, a clock and the machine's peak.

#![allow(dead_code, reason = "each bench is a program of its own and uses some of this")]

use std::hint::black_box;
use std::time::Instant;

use tunesmith_kernels::{Compute, Level, roofline};

/// `n` small numbers of both signs.
pub(crate) fn values(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i % 13) as f32 * 0.1 - 0.6).collect()
}

/// Seconds of the best of several runs after a first one.
pub(crate) fn best_secs(mut run: impl FnMut()) -> f64 {
    run();
    let mut best = f64::INFINITY;
    for _ in 0..12 {
        let started = Instant::now();
        run();
        best = best.min(started.elapsed().as_secs_f64());
    }
    best
}

/// Multiplications and additions a second that all threads reach with factors in this format and nothing to load.
pub(crate) fn peak(level: Level, compute: Compute) -> f64 {
    const N_ROUNDS: usize = 1 << 20;
    let of_each = rayon::broadcast(|_| {
        let (n_operations, _) = roofline::multiply_adds(level, compute, 1);
        let secs = best_secs(|| {
            black_box(roofline::multiply_adds(level, compute, N_ROUNDS));
        });
        n_operations as f64 * N_ROUNDS as f64 / secs
    });
    of_each.into_iter().sum()
}
