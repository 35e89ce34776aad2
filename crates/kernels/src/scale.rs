//! y[n, o] = x[n, o] · scale[o] + bias[o] on rows of O elements.

use crate::Level;
use crate::parallel::{rows_per_task, run};
use crate::sum::column_sums;

/// Fills y [N, O] from x [N, O], scale [O] and perhaps bias [O].
pub fn forward(x: &[f32], scale: &[f32], bias: Option<&[f32]>, y: &mut [f32]) {
    by_rows(x, scale, y, |x, y| {
        for ((y, x), scale) in y.iter_mut().zip(x).zip(scale) {
            *y = x * scale;
        }
        for (y, bias) in y.iter_mut().zip(bias.unwrap_or_default()) {
            *y += bias;
        }
    });
}

/// dx[n] = dy[n] ∘ scale: fills dx [N, O].
pub fn input_gradient(dy: &[f32], scale: &[f32], dx: &mut [f32]) {
    forward(dy, scale, None, dx);
}

/// dscale = Σ over n of dy[n] ∘ x[n]: fills dscale [O].
pub fn scale_gradient(level: Level, x: &[f32], dy: &[f32], d_scale: &mut [f32]) {
    assert_eq!(x.len(), dy.len(), "scale: lengths of x and dy");
    let products: Vec<f32> = x.iter().zip(dy).map(|(x, dy)| x * dy).collect();
    column_sums(level, &products, d_scale);
}

fn by_rows(x: &[f32], scale: &[f32], y: &mut [f32], row: impl Fn(&[f32], &mut [f32]) + Send + Sync) {
    let width = scale.len().max(1);
    assert_eq!((x.len(), x.len() % width), (y.len(), 0), "scale: lengths");
    let chunk = rows_per_task(width) * width;
    run(x.chunks(chunk).zip(y.chunks_mut(chunk)).collect(), |(x, y)| {
        x.chunks(width).zip(y.chunks_mut(width)).for_each(|(x, y)| row(x, y));
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{random, same_for_any_number_of_threads};

    #[test]
    fn rows_are_scaled_column_by_column() {
        for (n_rows, width) in [(1, 1), (3, 7), (130, 257)] {
            let (x, dy) = (random(n_rows * width, 1), random(n_rows * width, 2));
            let (scale, bias) = (random(width, 3), random(width, 4));
            let (mut y, mut dx, mut d_scale) = (vec![0.0; x.len()], vec![0.0; x.len()], vec![0.0; width]);
            forward(&x, &scale, Some(&bias), &mut y);
            input_gradient(&dy, &scale, &mut dx);
            scale_gradient(Level::best(), &x, &dy, &mut d_scale);
            for column in 0..width {
                let mut sum = 0.0f64;
                for place in (column..x.len()).step_by(width) {
                    assert_eq!(y[place], x[place] * scale[column] + bias[column]);
                    assert_eq!(dx[place], dy[place] * scale[column]);
                    sum += f64::from(x[place] * dy[place]);
                }
                assert!((f64::from(d_scale[column]) - sum).abs() < 1e-4, "{n_rows} rows of {width}");
            }
        }
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        let (x, scale) = (random(300 * 129, 1), random(129, 2));
        same_for_any_number_of_threads(|| {
            let (mut y, mut d_scale) = (vec![0.0; x.len()], vec![0.0; 129]);
            forward(&x, &scale, None, &mut y);
            scale_gradient(Level::best(), &x, &y, &mut d_scale);
            vec![y, d_scale]
        });
    }
}
