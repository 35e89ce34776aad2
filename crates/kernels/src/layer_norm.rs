//! y[n, c] = weight[c] · z[n, c] + bias[c] with z[n, c] = (x[n, c] − mean[n]) · r[n], r[n] = 1 / √(variance[n] + eps);
//! x, y [N, C], weight and bias [C], the variance being the biased one.
//!
//! With g = weight ∘ dy:  dx[n] = r[n] · (g[n] − mean of g[n] − z[n] · mean of g[n]∘z[n]),
//! dweight[c] = Σ over n of dy[n, c]·z[n, c],  dbias[c] = Σ over n of dy[n, c].

use crate::Level;
use crate::lanes::{dot, dot3, sum_of};
use crate::parallel::{rows_per_task, run};
use crate::simd::simd_kernel;
use crate::sum::{column_sums, sum_rows};

/// Mean and r of one row.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RowStatistics {
    mean: f32,
    r: f32,
}

/// The gradients that [`backward`] fills; those that are `None` are not computed.
#[derive(Debug)]
pub struct Gradients<'a> {
    /// dx [N, C]
    pub x: Option<&'a mut [f32]>,
    /// dweight [C]
    pub weight: Option<&'a mut [f32]>,
    /// dbias [C]
    pub bias: Option<&'a mut [f32]>,
}

/// Fills y [N, C] and the statistics of each row [N].
pub fn forward(
    level: Level,
    x: &[f32],
    weight: &[f32],
    bias: &[f32],
    eps: f32,
    y: &mut [f32],
    statistics: &mut [RowStatistics],
) {
    let width = weight.len();
    let length = statistics.len() * width;
    assert_eq!(
        (x.len(), y.len(), bias.len()),
        (length, length, width),
        "layer_norm: lengths of x, y and bias"
    );
    if x.is_empty() {
        return;
    }
    let rows = rows_per_task(width);
    let outputs = y.chunks_mut(rows * width).zip(statistics.chunks_mut(rows));
    let tasks = x.chunks(rows * width).zip(outputs).collect();
    run(tasks, |(x, (y, statistics))| forward_rows(level, x, weight, bias, eps, y, statistics));
}

/// Fills the wanted gradients from dy [N, C] and what [`forward`] computed.
pub fn backward(
    level: Level,
    x: &[f32],
    weight: &[f32],
    statistics: &[RowStatistics],
    dy: &[f32],
    gradients: Gradients,
) {
    let width = weight.len();
    let length = statistics.len() * width;
    assert_eq!((x.len(), dy.len()), (length, length), "layer_norm: lengths of x and dy");
    if let Some(dx) = gradients.x
        && !x.is_empty()
    {
        assert_eq!(dx.len(), x.len(), "layer_norm: length of dx");
        let rows = rows_per_task(width);
        let chunk = rows * width;
        let inputs = x.chunks(chunk).zip(dy.chunks(chunk)).zip(statistics.chunks(rows));
        let tasks = inputs.zip(dx.chunks_mut(chunk)).collect();
        run(tasks, |(((x, dy), statistics), dx)| backward_rows(level, x, weight, statistics, dy, dx));
    }
    if let Some(d_weight) = gradients.weight {
        sum_rows(width, statistics.len(), d_weight, |row, sums| {
            let range = row * width..(row + 1) * width;
            weight_gradient_row(level, &x[range.clone()], &dy[range], statistics[row], sums);
        });
    }
    if let Some(d_bias) = gradients.bias {
        column_sums(level, dy, d_bias);
    }
}

simd_kernel! {
    fn forward_rows<S>(
        x: &[f32], weight: &[f32], bias: &[f32], eps: f32, y: &mut [f32], statistics: &mut [RowStatistics],
    ) {
        let width = weight.len();
        for ((x, y), row) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)).zip(statistics) {
            let mean = sum_of(x, |x| x) / width as f32;
            let variance = sum_of(x, |x| (x - mean) * (x - mean)) / width as f32;
            let r = 1.0 / (variance + eps).sqrt();
            *row = RowStatistics { mean, r };
            for (((y, x), weight), bias) in y.iter_mut().zip(x).zip(weight).zip(bias) {
                *y = S::mul_add((*x - mean) * r, *weight, *bias);
            }
        }
    }
}

simd_kernel! {
    fn backward_rows<S>(x: &[f32], weight: &[f32], statistics: &[RowStatistics], dy: &[f32], dx: &mut [f32]) {
        let width = weight.len();
        let rows = x.chunks_exact(width).zip(dy.chunks_exact(width)).zip(statistics);
        for (((x, dy), row), dx) in rows.zip(dx.chunks_exact_mut(width)) {
            // dx holds z until its last use, so that both sums run over two slices.
            for (z, x) in dx.iter_mut().zip(x) {
                *z = (*x - row.mean) * row.r;
            }
            let mean_g = dot::<S>(dy, weight) / width as f32;
            let mean_gz = dot3::<S>(dy, weight, dx) / width as f32;
            for ((dx, dy), weight) in dx.iter_mut().zip(dy).zip(weight) {
                *dx = row.r * (*dy * *weight - mean_g - *dx * mean_gz);
            }
        }
    }
}

simd_kernel! {
    fn weight_gradient_row<S>(x: &[f32], dy: &[f32], row: RowStatistics, sums: &mut [f32]) {
        for ((sum, x), dy) in sums.iter_mut().zip(x).zip(dy) {
            *sum = S::mul_add((*x - row.mean) * row.r, *dy, *sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{random, same_for_any_number_of_threads, worst_difference};

    /// The formulas above in double precision: y, dx, dweight, dbias.
    fn naive(x: &[f32], weight: &[f32], bias: &[f32], eps: f32, dy: &[f32]) -> [Vec<f32>; 4] {
        let width = weight.len();
        let (mut y, mut dx) = (vec![], vec![]);
        let (mut d_weight, mut d_bias) = (vec![0.0_f32; width], vec![0.0_f32; width]);
        let mean = |values: &[f64]| values.iter().sum::<f64>() / width as f64;
        for (x, dy) in x.chunks(width).zip(dy.chunks(width)) {
            let [x, dy, w] =
                [x, dy, weight].map(|row| row.iter().map(|v| f64::from(*v)).collect::<Vec<f64>>());
            let centre = mean(&x);
            let variance = mean(&x.iter().map(|x| (x - centre) * (x - centre)).collect::<Vec<_>>());
            let r = 1.0 / (variance + f64::from(eps)).sqrt();
            let z: Vec<f64> = x.iter().map(|x| (x - centre) * r).collect();
            let g: Vec<f64> = dy.iter().zip(&w).map(|(dy, w)| dy * w).collect();
            let mean_gz = mean(&g.iter().zip(&z).map(|(g, z)| g * z).collect::<Vec<_>>());
            for c in 0..width {
                y.push((w[c] * z[c]) as f32 + bias[c]);
                dx.push((r * (g[c] - mean(&g) - z[c] * mean_gz)) as f32);
                d_weight[c] += (dy[c] * z[c]) as f32;
                d_bias[c] += dy[c] as f32;
            }
        }
        [y, dx, d_weight, d_bias]
    }

    fn compute(level: Level, x: &[f32], weight: &[f32], bias: &[f32], dy: &[f32]) -> [Vec<f32>; 4] {
        let width = weight.len();
        let mut statistics = vec![RowStatistics::default(); x.len() / width];
        let (mut y, mut dx) = (vec![9.0; x.len()], vec![9.0; x.len()]);
        let (mut d_weight, mut d_bias) = (vec![9.0; width], vec![9.0; width]);
        forward(level, x, weight, bias, 1e-5, &mut y, &mut statistics);
        let gradients = Gradients { x: Some(&mut dx), weight: Some(&mut d_weight), bias: Some(&mut d_bias) };
        backward(level, x, weight, &statistics, dy, gradients);
        [y, dx, d_weight, d_bias]
    }

    #[test]
    fn every_level_matches_the_formula() {
        let mut worst = 0.0_f32;
        for (n_rows, width) in [(0, 8), (1, 2), (1, 33), (5, 64), (67, 100), (200, 17)] {
            let (x, weight, bias) = (random(n_rows * width, 1), random(width, 2), random(width, 3));
            let dy = random(n_rows * width, 4);
            let want = naive(&x, &weight, &bias, 1e-5, &dy);
            for level in Level::available() {
                for (got, want) in compute(level, &x, &weight, &bias, &dy).iter().zip(&want) {
                    worst = worst.max(worst_difference(got, want));
                }
            }
        }
        println!("layer_norm: worst difference {worst:.2e}");
        // With two columns z is ±1 and dx cancels to nearly nothing.
        assert!(worst < 5e-5);
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        let (x, weight, bias, dy) = (random(777 * 96, 1), random(96, 2), random(96, 3), random(777 * 96, 4));
        same_for_any_number_of_threads(|| compute(Level::best(), &x, &weight, &bias, &dy).to_vec());
    }
}
