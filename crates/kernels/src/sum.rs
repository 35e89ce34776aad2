//! Sums over rows and over whole parameters, in an order that does not depend on threads.

use crate::Level;
use crate::parallel::run;
use crate::simd::simd_kernel;

/// Rows that one task adds up before the partial sums are combined, in order.
const ROWS_PER_PARTIAL: usize = 64;

/// Elements that one task adds up.
const ELEMENTS_PER_PARTIAL: usize = 1 << 16;

/// out[c] = Σ over rows of x[row, c]; x [N, C] with C = `out.len()`.
pub fn column_sums(level: Level, x: &[f32], out: &mut [f32]) {
    let width = out.len();
    let n_rows = x.len().checked_div(width).unwrap_or(0);
    sum_rows(width, n_rows, out, |row, sums| add(level, &x[row * width..(row + 1) * width], sums));
}

/// y[i] += x[i], on all threads.
pub fn add_to(level: Level, x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "add_to: lengths");
    let tasks = x.chunks(ELEMENTS_PER_PARTIAL).zip(y.chunks_mut(ELEMENTS_PER_PARTIAL)).collect();
    run(tasks, |(x, y)| add(level, x, y));
}

/// Σ x[i]², in double precision.
pub fn sum_of_squares(level: Level, x: &[f32]) -> f64 {
    let mut partials = vec![0.0; x.len().div_ceil(ELEMENTS_PER_PARTIAL)];
    let tasks = x.chunks(ELEMENTS_PER_PARTIAL).zip(&mut partials).collect();
    run(tasks, |(x, partial)| *partial = squares(level, x));
    partials.iter().sum()
}

/// sums[c] = Σ over rows, where `add_row(row, sums)` adds one row's contribution.
///
/// Blocks of rows are added up independently, then the blocks in their order.
pub(crate) fn sum_rows(
    width: usize,
    n_rows: usize,
    sums: &mut [f32],
    add_row: impl Fn(usize, &mut [f32]) + Send + Sync,
) {
    assert_eq!(sums.len(), width, "row sum: length of the output");
    sums.fill(0.0);
    if width == 0 {
        return;
    }
    let mut partials = vec![0.0; n_rows.div_ceil(ROWS_PER_PARTIAL) * width];
    run(partials.chunks_mut(width).enumerate().collect(), |(block_idx, partial)| {
        let start = block_idx * ROWS_PER_PARTIAL;
        for row in start..n_rows.min(start + ROWS_PER_PARTIAL) {
            add_row(row, partial);
        }
    });
    for partial in partials.chunks(width) {
        for (sum, partial) in sums.iter_mut().zip(partial) {
            *sum += partial;
        }
    }
}

simd_kernel! {
    /// y[i] += x[i], on the calling thread.
    pub(crate) fn add<S>(x: &[f32], y: &mut [f32]) {
        for (y, x) in y.iter_mut().zip(x) {
            *y += *x;
        }
    }
}

simd_kernel! {
    fn squares<S>(x: &[f32]) -> f64 {
        let mut lanes = [0.0_f64; 16];
        let (chunks, rest) = x.as_chunks::<16>();
        for chunk in chunks {
            for lane in 0..16 {
                lanes[lane] += f64::from(chunk[lane]) * f64::from(chunk[lane]);
            }
        }
        for (lane, value) in rest.iter().enumerate() {
            lanes[lane] += f64::from(*value) * f64::from(*value);
        }
        lanes.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{random, same_for_any_number_of_threads, worst_difference};

    #[test]
    fn sums_match_plain_ones() {
        for level in Level::available() {
            for n in [0, 1, 15, 17, 1000, 200_001] {
                let x = random(n, 1);
                let want: f64 = x.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
                assert!((sum_of_squares(level, &x) - want).abs() <= 1e-12 * want);
            }
            for (n_rows, width) in [(0, 3), (1, 1), (3, 5), (130, 33)] {
                let x = random(n_rows * width, 2);
                let want: Vec<f32> =
                    (0..width).map(|c| (0..n_rows).map(|n| x[n * width + c]).sum::<f32>()).collect();
                let mut got = vec![5.0; width];
                column_sums(level, &x, &mut got);
                assert!(worst_difference(&got, &want) < 1e-5);
            }
        }
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        let x = random(300_000, 3);
        same_for_any_number_of_threads(|| {
            let mut columns = vec![0.0; 100];
            column_sums(Level::best(), &x, &mut columns);
            let squares = sum_of_squares(Level::best(), &x).to_bits();
            vec![columns, vec![f32::from_bits(squares as u32), f32::from_bits((squares >> 32) as u32)]]
        });
    }
}
