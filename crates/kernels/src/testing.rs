//! Shared by the unit tests.

use crate::dropout::random_bits;

/// Values spread evenly over −1..1, a pure function of `seed`.
pub(crate) fn random(n: usize, seed: u64) -> Vec<f32> {
    (0..n).map(|i| random_bits(i as u64, seed) as f32 / 2_147_483_648.0 - 1.0).collect()
}

/// max |a[i] − b[i]| / max(1, |b[i]|)
pub(crate) fn worst_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let difference = |(a, b): (&f32, &f32)| (a - b).abs() / b.abs().max(1.0);
    let worst = a.iter().zip(b).map(difference).fold(0.0, f32::max);
    assert!(a.iter().all(|value| value.is_finite()), "a value is not finite");
    worst
}

/// Fails unless `compute` gives the same bits in pools of 1, 2 and 3 threads.
pub(crate) fn same_for_any_number_of_threads(compute: impl Fn() -> Vec<Vec<f32>> + Send + Sync) {
    let bits = |n_threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build().unwrap();
        let outputs = pool.install(&compute);
        outputs
            .into_iter()
            .map(|output| output.into_iter().map(f32::to_bits).collect())
            .collect::<Vec<Vec<u32>>>()
    };
    let alone = bits(1);
    for n_threads in [2, 3] {
        assert!(alone == bits(n_threads), "{n_threads} threads give other bits than 1");
    }
}
