//! y[n, c] = weight[c] · x[n, c] · r[n] with r[n] = 1 / √(mean over c of x[n, c]² + eps); x, y [N, C], weight [C].
//!
//! With g = weight ∘ dy:  dx[n] = r[n] · g[n] − x[n] · r[n]³ / C · Σ over c of g[n, c]·x[n, c],
//! dweight[c] = Σ over n of dy[n, c]·x[n, c]·r[n].

use crate::Level;
use crate::lanes::{dot, dot3};
use crate::parallel::{rows_per_task, run};
use crate::simd::simd_kernel;
use crate::sum::sum_rows;

/// Fills y [N, C] and r [N].
pub fn forward(level: Level, x: &[f32], weight: &[f32], eps: f32, y: &mut [f32], r: &mut [f32]) {
    let width = weight.len();
    assert_eq!((x.len(), y.len()), (r.len() * width, r.len() * width), "rms_norm: lengths of x and y");
    if x.is_empty() {
        return;
    }
    let rows = rows_per_task(width);
    let tasks = x.chunks(rows * width).zip(y.chunks_mut(rows * width)).zip(r.chunks_mut(rows)).collect();
    run(tasks, |((x, y), r)| forward_rows(level, x, weight, eps, y, r));
}

/// Fills dx [N, C] and, when wanted, dweight [C], from dy and what [`forward`] computed.
pub fn backward(
    level: Level,
    x: &[f32],
    weight: &[f32],
    r: &[f32],
    dy: &[f32],
    dx: Option<&mut [f32]>,
    d_weight: Option<&mut [f32]>,
) {
    let width = weight.len();
    assert_eq!((x.len(), dy.len()), (r.len() * width, r.len() * width), "rms_norm: lengths of x and dy");
    let rows = rows_per_task(width);
    if let Some(dx) = dx
        && !x.is_empty()
    {
        assert_eq!(dx.len(), x.len(), "rms_norm: length of dx");
        let chunk = rows * width;
        let inputs = x.chunks(chunk).zip(dy.chunks(chunk)).zip(r.chunks(rows));
        let tasks = inputs.zip(dx.chunks_mut(chunk)).collect();
        run(tasks, |(((x, dy), r), dx)| backward_rows(level, x, weight, r, dy, dx));
    }
    if let Some(d_weight) = d_weight {
        sum_rows(width, r.len(), d_weight, |row, sums| {
            let range = row * width..(row + 1) * width;
            weight_gradient_row(level, &x[range.clone()], &dy[range], r[row], sums);
        });
    }
}

simd_kernel! {
    fn forward_rows<S>(x: &[f32], weight: &[f32], eps: f32, y: &mut [f32], r: &mut [f32]) {
        let width = weight.len();
        for ((x, y), r) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)).zip(r) {
            *r = 1.0 / (dot::<S>(x, x) / width as f32 + eps).sqrt();
            for ((y, x), weight) in y.iter_mut().zip(x).zip(weight) {
                *y = *x * *r * *weight;
            }
        }
    }
}

simd_kernel! {
    fn backward_rows<S>(x: &[f32], weight: &[f32], r: &[f32], dy: &[f32], dx: &mut [f32]) {
        let width = weight.len();
        let rows = x.chunks_exact(width).zip(dy.chunks_exact(width)).zip(r).zip(dx.chunks_exact_mut(width));
        for (((x, dy), r), dx) in rows {
            let along = dot3::<S>(dy, weight, x) * r * r * r / width as f32;
            for (((dx, x), dy), weight) in dx.iter_mut().zip(x).zip(dy).zip(weight) {
                *dx = S::mul_add(*dy * *weight, *r, -(*x * along));
            }
        }
    }
}

simd_kernel! {
    fn weight_gradient_row<S>(x: &[f32], dy: &[f32], r: f32, sums: &mut [f32]) {
        for ((sum, x), dy) in sums.iter_mut().zip(x).zip(dy) {
            *sum = S::mul_add(*x * r, *dy, *sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{random, same_for_any_number_of_threads, worst_difference};

    /// The formulas above in double precision: y, dx, dweight.
    fn naive(x: &[f32], weight: &[f32], eps: f32, dy: &[f32]) -> [Vec<f32>; 3] {
        let width = weight.len();
        let (mut y, mut dx, mut d_weight) = (vec![], vec![], vec![0.0_f64; width]);
        for (x, dy) in x.chunks(width.max(1)).zip(dy.chunks(width.max(1))) {
            let [x, dy, w] =
                [x, dy, weight].map(|row| row.iter().map(|v| f64::from(*v)).collect::<Vec<f64>>());
            let mean = x.iter().map(|x| x * x).sum::<f64>() / width as f64;
            let r = 1.0 / (mean + f64::from(eps)).sqrt();
            let along = (0..width).map(|c| w[c] * dy[c] * x[c]).sum::<f64>() * r.powi(3) / width as f64;
            for c in 0..width {
                y.push((w[c] * x[c] * r) as f32);
                dx.push((r * w[c] * dy[c] - x[c] * along) as f32);
                d_weight[c] += dy[c] * x[c] * r;
            }
        }
        [y, dx, d_weight.into_iter().map(|v| v as f32).collect()]
    }

    fn compute(level: Level, x: &[f32], weight: &[f32], dy: &[f32]) -> [Vec<f32>; 3] {
        let n_rows = x.len() / weight.len();
        let (mut y, mut dx, mut dw) = (vec![9.0; x.len()], vec![9.0; x.len()], vec![9.0; weight.len()]);
        let mut r = vec![0.0; n_rows];
        forward(level, x, weight, 1e-5, &mut y, &mut r);
        backward(level, x, weight, &r, dy, Some(&mut dx), Some(&mut dw));
        [y, dx, dw]
    }

    #[test]
    fn every_level_matches_the_formula() {
        let mut worst = 0.0_f32;
        for (n_rows, width) in [(0, 8), (1, 1), (1, 33), (5, 64), (67, 100), (200, 17)] {
            let (x, weight, dy) = (random(n_rows * width, 1), random(width, 2), random(n_rows * width, 3));
            let want = naive(&x, &weight, 1e-5, &dy);
            for level in Level::available() {
                let got = compute(level, &x, &weight, &dy);
                for (got, want) in got.iter().zip(&want) {
                    worst = worst.max(worst_difference(got, want));
                }
            }
        }
        println!("rms_norm: worst difference {worst:.2e}");
        assert!(worst < 1e-5);
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        let (x, weight, dy) = (random(777 * 96, 1), random(96, 2), random(777 * 96, 3));
        same_for_any_number_of_threads(|| compute(Level::best(), &x, &weight, &dy).to_vec());
    }
}
