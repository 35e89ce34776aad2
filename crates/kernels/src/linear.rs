//! y = x Wᵀ + bias; x [N, I], W [O, I], bias [O], y [N, O].
//!
//! Gradients: dx = dy W,  dW = dyᵀ x,  dbias = Σ over n of dy[n].

use crate::Level;
use crate::matmul::{Matrix, MatrixMut, Output, Threads, matmul};
use crate::parallel::run;
use crate::simd::{Isa, simd_kernel};
use crate::sum::column_sums;

/// Up to this many rows of x (decoding a few sequences), y is computed by dot products, which read W once at the speed
/// of memory; the general matrix product would first copy W into another layout.
const MAX_ROWS_BY_DOT: usize = 8;

/// Elements of W that one task of the dot-product path reads.
const ELEMENTS_PER_TASK: usize = 1 << 16;

const LANES: usize = 32;

/// Fills y [N, O] from x [N, I] and weight [O, I]; N, I and O follow from `n_rows` and the lengths.
pub fn forward(level: Level, n_rows: usize, x: &[f32], weight: &[f32], bias: Option<&[f32]>, y: &mut [f32]) {
    let (n_in, n_out) = widths(n_rows, x, weight, y);
    if n_rows == 0 || n_out == 0 {
        return;
    }
    if let Some(bias) = bias {
        assert_eq!(bias.len(), n_out, "linear: length of bias");
    }
    if n_rows <= MAX_ROWS_BY_DOT && n_in != 0 {
        by_dot_products(level, n_rows, x, weight, bias, y);
        return;
    }
    let mode = match bias {
        Some(bias) => {
            y.chunks_exact_mut(n_out).for_each(|row| row.copy_from_slice(bias));
            Output::Add
        }
        None => Output::Overwrite,
    };
    let (x, weight) = (Matrix::new(x, n_rows, n_in), Matrix::new(weight, n_out, n_in));
    matmul(MatrixMut::new(y, n_rows, n_out), mode, 1.0, x, weight.t(), Threads::Pool);
}

/// dx = dy W: fills dx [N, I] from weight [O, I] and dy [N, O].
pub fn input_gradient(n_rows: usize, weight: &[f32], dy: &[f32], dx: &mut [f32]) {
    let (n_in, n_out) = widths(n_rows, dx, weight, dy);
    let (d, weight) = (Matrix::new(dy, n_rows, n_out), Matrix::new(weight, n_out, n_in));
    matmul(MatrixMut::new(dx, n_rows, n_in), Output::Overwrite, 1.0, d, weight, Threads::Pool);
}

/// dW = dyᵀ x: fills dweight [O, I] from x [N, I] and dy [N, O].
pub fn weight_gradient(n_rows: usize, x: &[f32], dy: &[f32], d_weight: &mut [f32]) {
    let (n_in, n_out) = widths(n_rows, x, d_weight, dy);
    if n_rows == 0 {
        d_weight.fill(0.0);
        return;
    }
    let (d, x) = (Matrix::new(dy, n_rows, n_out), Matrix::new(x, n_rows, n_in));
    matmul(MatrixMut::new(d_weight, n_out, n_in), Output::Overwrite, 1.0, d.t(), x, Threads::Pool);
}

/// dbias = Σ over n of dy[n]: fills dbias [O] from dy [N, O].
pub fn bias_gradient(level: Level, dy: &[f32], d_bias: &mut [f32]) {
    column_sums(level, dy, d_bias);
}

/// (I, O), checked against the lengths.
fn widths(n_rows: usize, x: &[f32], weight: &[f32], y: &[f32]) -> (usize, usize) {
    let n_in = x.len().checked_div(n_rows).unwrap_or(0);
    let n_out = y.len().checked_div(n_rows).unwrap_or(0);
    let fits = n_rows == 0
        || (weight.len() == n_in * n_out && x.len() == n_rows * n_in && y.len() == n_rows * n_out);
    assert!(
        fits,
        "linear: {} elements of x, {} of W, {} of y for {n_rows} rows",
        x.len(),
        weight.len(),
        y.len()
    );
    (n_in, n_out)
}

/// Each y[n, o] is one dot product whose order of summation does not depend on N, so that a sequence decoded alone
/// gives the same bits as in a batch.
fn by_dot_products(
    level: Level,
    n_rows: usize,
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    y: &mut [f32],
) {
    let (n_in, n_out) = (x.len() / n_rows, y.len() / n_rows);
    let outputs_per_task = (ELEMENTS_PER_TASK / n_in).max(1);
    // Tasks own neighbouring outputs o, so with several rows the result is first laid out as [O, N].
    let mut transposed = if n_rows == 1 { Vec::new() } else { vec![0.0; n_out * n_rows] };
    let target = if n_rows == 1 { &mut *y } else { &mut transposed };
    let weights = weight.chunks(outputs_per_task * n_in);
    let tasks = weights.zip(target.chunks_mut(outputs_per_task * n_rows)).collect();
    run(tasks, |(weight, y)| dot_rows(level, n_rows, x, weight, y));
    if n_rows != 1 {
        for (o, column) in transposed.chunks_exact(n_rows).enumerate() {
            for (n, value) in column.iter().enumerate() {
                y[n * n_out + o] = *value;
            }
        }
    }
    if let Some(bias) = bias {
        for row in y.chunks_exact_mut(n_out) {
            row.iter_mut().zip(bias).for_each(|(y, bias)| *y += bias);
        }
    }
}

simd_kernel! {
    /// y[o, n] = x[n] · weight[o]
    fn dot_rows<S>(n_rows: usize, x: &[f32], weight: &[f32], y: &mut [f32]) {
        let n_in = x.len() / n_rows;
        for (weight, y) in weight.chunks_exact(n_in).zip(y.chunks_exact_mut(n_rows)) {
            // The row of W stays in the first-level cache meanwhile. Several rows of x at once would need an array of
            // accumulators, which the compiler keeps in memory and handles one by one.
            for (x, y) in x.chunks_exact(n_in).zip(y) {
                *y = dot::<S>(x, weight);
            }
        }
    }
}

#[inline(always)]
fn dot<S: Isa>(x: &[f32], weight: &[f32]) -> f32 {
    let mut lanes = [0.0; LANES];
    let (x_chunks, x_rest) = x.as_chunks::<LANES>();
    let (weight_chunks, weight_rest) = weight.as_chunks::<LANES>();
    for (x, weight) in x_chunks.iter().zip(weight_chunks) {
        for lane in 0..LANES {
            lanes[lane] = S::mul_add(weight[lane], x[lane], lanes[lane]);
        }
    }
    let mut sum = 0.0;
    for (x, weight) in x_rest.iter().zip(weight_rest) {
        sum = S::mul_add(*weight, *x, sum);
    }
    let mut half = LANES / 2;
    while 0 < half {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
        half /= 2;
    }
    lanes[0] + sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{random, same_for_any_number_of_threads, worst_difference};

    fn naive(n_rows: usize, x: &[f32], weight: &[f32], bias: &[f32]) -> Vec<f32> {
        let n_in = weight.len() / bias.len().max(1);
        let dot = |n: usize, o: usize| -> f32 {
            (0..n_in).map(|i| f64::from(x[n * n_in + i]) * f64::from(weight[o * n_in + i])).sum::<f64>()
                as f32
        };
        (0..n_rows)
            .flat_map(|n| (0..bias.len()).map(move |o| (n, o)))
            .map(|(n, o)| dot(n, o) + bias[o])
            .collect()
    }

    #[test]
    fn every_level_matches_the_naive_product() {
        let mut worst = 0.0_f32;
        for n_rows in [0, 1, 2, 3, 4, 5, 7, 8, 9, 40] {
            for (n_in, n_out) in [(1, 1), (31, 5), (32, 3), (100, 33), (700, 201)] {
                let (x, weight, bias) = (random(n_rows * n_in, 1), random(n_in * n_out, 2), random(n_out, 3));
                let want = naive(n_rows, &x, &weight, &bias);
                for level in Level::available() {
                    let mut y = vec![9.0; n_rows * n_out];
                    forward(level, n_rows, &x, &weight, Some(&bias), &mut y);
                    worst = worst.max(worst_difference(&y, &want));
                }
            }
        }
        println!("linear: worst difference {worst:.2e}");
        assert!(worst < 2e-5);
    }

    #[test]
    fn gradients_match_their_formulas() {
        let (n, n_in, n_out) = (13, 21, 17);
        let (x, weight, dy) = (random(n * n_in, 1), random(n_in * n_out, 2), random(n * n_out, 3));
        let (mut dx, mut dw, mut db) = (vec![9.0; n * n_in], vec![9.0; n_in * n_out], vec![9.0; n_out]);
        input_gradient(n, &weight, &dy, &mut dx);
        weight_gradient(n, &x, &dy, &mut dw);
        bias_gradient(Level::best(), &dy, &mut db);
        let sum = |f: &dyn Fn(usize) -> f32, n: usize| (0..n).map(f).sum::<f32>();
        for i in 0..n_in {
            for row in 0..n {
                let want = sum(&|o| dy[row * n_out + o] * weight[o * n_in + i], n_out);
                assert!((dx[row * n_in + i] - want).abs() < 1e-5);
            }
            for o in 0..n_out {
                let want = sum(&|row| dy[row * n_out + o] * x[row * n_in + i], n);
                assert!((dw[o * n_in + i] - want).abs() < 1e-5);
            }
        }
        for o in 0..n_out {
            assert!((db[o] - sum(&|row| dy[row * n_out + o], n)).abs() < 1e-5);
        }
    }

    #[test]
    fn a_row_decoded_in_a_batch_gives_the_same_bits_as_alone() {
        let (n_in, n_out) = (200, 300);
        let (x, weight) = (random(8 * n_in, 1), random(n_in * n_out, 2));
        let mut together = vec![0.0; 8 * n_out];
        forward(Level::best(), 8, &x, &weight, None, &mut together);
        for row in 0..8 {
            let mut alone = vec![0.0; n_out];
            forward(Level::best(), 1, &x[row * n_in..(row + 1) * n_in], &weight, None, &mut alone);
            assert_eq!(alone, together[row * n_out..(row + 1) * n_out]);
        }
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        for n_rows in [1, 3, 8, 9, 70] {
            let (x, weight) = (random(n_rows * 300, 1), random(300 * 1000, 2));
            same_for_any_number_of_threads(|| {
                let (mut y, mut dx) = (vec![0.0; n_rows * 1000], vec![0.0; n_rows * 300]);
                forward(Level::best(), n_rows, &x, &weight, None, &mut y);
                input_gradient(n_rows, &weight, &y, &mut dx);
                vec![y, dx]
            });
        }
    }
}
