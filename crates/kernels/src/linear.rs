//! y = x Wᵀ + bias + the low-rank branch; x [N, I], W [O, I], bias [O], y [N, O].
//!
//! Gradients: dx = dy W,  dW = dyᵀ x,  dbias = Σ over n of dy[n].

use crate::Level;
use crate::lanes::dot;
use crate::parallel::run_with;
use crate::product::{Compute, Matrix, MatrixMut, Output, Right, Term, Threads, product};
use crate::simd::simd_kernel;
use crate::sum::column_sums;
use crate::weight::Weight;

/// Up to this many rows of x (decoding a few sequences), y is computed by dot products, which read W once at the speed
/// of memory; the general matrix product would first copy W into another layout.
const MAX_ROWS_BY_DOT: usize = 8;

/// Elements of W that one task of the dot-product path reads.
const ELEMENTS_PER_TASK: usize = 1 << 16;

/// The matrix W of a linear layer.
#[derive(Clone, Copy, Debug)]
pub struct Weights<'a> {
    values: Values<'a>,
    orientation: Orientation,
}

#[derive(Clone, Copy, Debug)]
enum Values<'a> {
    /// In float32, as weights that are trained.
    Trained(&'a [f32]),
    /// Never changed, in any format.
    Stored(&'a Weight),
}

/// Which way a matrix W [O, I] lies in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Orientation {
    /// [O, I]: the weights of an output are neighbours.
    #[default]
    OutIn,
    /// [I, O]: the weights of an input are neighbours (GPT-2's).
    InOut,
}

impl<'a> Weights<'a> {
    /// Float32 values that may be trained, [O, I].
    pub fn trained(values: &'a [f32]) -> Self {
        Self { values: Values::Trained(values), orientation: Orientation::OutIn }
    }

    /// A weight that never changes, [O, I].
    pub fn stored(weight: &'a Weight) -> Self {
        Self { values: Values::Stored(weight), orientation: Orientation::OutIn }
    }

    /// The same memory, lying as `orientation` says.
    #[must_use]
    pub fn lying(self, orientation: Orientation) -> Self {
        Self { orientation, ..self }
    }

    /// Number of elements.
    pub(crate) fn len(self) -> usize {
        match self.values {
            Values::Trained(values) => values.len(),
            Values::Stored(weight) => weight.dims().iter().product(),
        }
    }

    /// W [O, I] as a right factor.
    pub(crate) fn as_right(self, n_out: usize, n_in: usize) -> Right<'a> {
        match (self.values, self.orientation) {
            (Values::Trained(values), Orientation::OutIn) => Right::Matrix(Matrix::new(values, n_out, n_in)),
            (Values::Trained(values), Orientation::InOut) => {
                Right::Matrix(Matrix::new(values, n_in, n_out).t())
            }
            (Values::Stored(weight), Orientation::OutIn) => Right::Weight(weight),
            (Values::Stored(weight), Orientation::InOut) => Right::Transposed(weight),
        }
    }

    /// Wᵀ [I, O] as a right factor.
    pub(crate) fn transposed(self, n_out: usize, n_in: usize) -> Right<'a> {
        let orientation = match self.orientation {
            Orientation::OutIn => Orientation::InOut,
            Orientation::InOut => Orientation::OutIn,
        };
        self.lying(orientation).as_right(n_in, n_out)
    }

    /// Fills `out` with row `row` of the matrix as it lies in memory.
    pub(crate) fn read_row(self, level: Level, row: usize, out: &mut [f32]) {
        let width = out.len();
        match self.values {
            Values::Trained(values) => out.copy_from_slice(&values[row * width..(row + 1) * width]),
            Values::Stored(weight) => weight.read(level, row, 0..width, out),
        }
    }
}

/// What a low-rank branch adds to a product: left [N, R] · right, computed in the same pass.
pub type Branch<'a> = Option<Term<'a>>;

/// Fills y [N, O] from x [N, I] and W [O, I]; N, I and O follow from `n_rows` and the lengths. A branch is
/// h [N, R] · Bᵀ [R, O].
pub fn forward(
    level: Level,
    compute: Compute,
    n_rows: usize,
    x: &[f32],
    weights: Weights,
    bias: Option<&[f32]>,
    branch: Branch,
    y: &mut [f32],
) {
    let (n_in, n_out) = widths(n_rows, x, weights.len(), y);
    if n_rows == 0 || n_out == 0 {
        return;
    }
    if let Some(bias) = bias {
        assert_eq!(bias.len(), n_out, "linear: length of bias");
    }
    if n_rows <= MAX_ROWS_BY_DOT && n_in != 0 && weights.orientation == Orientation::OutIn {
        by_dot_products(level, n_rows, x, weights, bias, y);
        if let Some(branch) = branch {
            product(level, compute, MatrixMut::new(y, n_rows, n_out), Output::Add, &[branch], Threads::One);
        }
        return;
    }
    let mode = match bias {
        Some(bias) => {
            y.chunks_exact_mut(n_out).for_each(|row| row.copy_from_slice(bias));
            Output::Add
        }
        None => Output::Overwrite,
    };
    let term = Term { left: Matrix::new(x, n_rows, n_in), right: weights.transposed(n_out, n_in) };
    multiply(level, compute, MatrixMut::new(y, n_rows, n_out), mode, term, branch);
}

/// dx = dy W: fills dx [N, I] from W [O, I] and dy [N, O]. A branch is g [N, R] · A [R, I].
pub fn input_gradient(
    level: Level,
    compute: Compute,
    n_rows: usize,
    weights: Weights,
    dy: &[f32],
    branch: Branch,
    dx: &mut [f32],
) {
    let (n_in, n_out) = widths(n_rows, dx, weights.len(), dy);
    if n_rows == 0 {
        return;
    }
    let term = Term { left: Matrix::new(dy, n_rows, n_out), right: weights.as_right(n_out, n_in) };
    multiply(level, compute, MatrixMut::new(dx, n_rows, n_in), Output::Overwrite, term, branch);
}

/// dW = dyᵀ x: fills dweight, lying as `orientation` says, from x [N, I] and dy [N, O].
pub fn weight_gradient(
    level: Level,
    compute: Compute,
    n_rows: usize,
    x: &[f32],
    dy: &[f32],
    orientation: Orientation,
    d_weight: &mut [f32],
) {
    let (n_in, n_out) = widths(n_rows, x, d_weight.len(), dy);
    if n_rows == 0 {
        d_weight.fill(0.0);
        return;
    }
    let (x, dy) = (Matrix::new(x, n_rows, n_in), Matrix::new(dy, n_rows, n_out));
    let (term, n_lines, width) = match orientation {
        Orientation::OutIn => (Term::new(dy.t(), x), n_out, n_in),
        Orientation::InOut => (Term::new(x.t(), dy), n_in, n_out),
    };
    multiply(level, compute, MatrixMut::new(d_weight, n_lines, width), Output::Overwrite, term, None);
}

/// dbias = Σ over n of dy[n]: fills dbias [O] from dy [N, O].
pub fn bias_gradient(level: Level, dy: &[f32], d_bias: &mut [f32]) {
    column_sums(level, dy, d_bias);
}

fn multiply(level: Level, compute: Compute, out: MatrixMut, mode: Output, term: Term, branch: Branch) {
    match branch {
        Some(branch) => product(level, compute, out, mode, &[term, branch], Threads::Pool),
        None => product(level, compute, out, mode, &[term], Threads::Pool),
    }
}

/// (I, O), checked against the lengths.
fn widths(n_rows: usize, x: &[f32], n_weights: usize, y: &[f32]) -> (usize, usize) {
    let n_in = x.len().checked_div(n_rows).unwrap_or(0);
    let n_out = y.len().checked_div(n_rows).unwrap_or(0);
    let fits =
        n_rows == 0 || (n_weights == n_in * n_out && x.len() == n_rows * n_in && y.len() == n_rows * n_out);
    assert!(fits, "linear: {} elements of x, {n_weights} of W, {} of y for {n_rows} rows", x.len(), y.len());
    (n_in, n_out)
}

/// Each y[n, o] is one dot product whose order of summation does not depend on N, so that a sequence decoded alone
/// gives the same bits as in a batch. Products are not rounded, whatever the format of W.
fn by_dot_products(
    level: Level,
    n_rows: usize,
    x: &[f32],
    weights: Weights,
    bias: Option<&[f32]>,
    y: &mut [f32],
) {
    let (n_in, n_out) = (x.len() / n_rows, y.len() / n_rows);
    let outputs_per_task = (ELEMENTS_PER_TASK / n_in).max(1);
    // Tasks own neighbouring outputs o, so with several rows the result is first laid out as [O, N].
    let mut transposed = if n_rows == 1 { Vec::new() } else { vec![0.0; n_out * n_rows] };
    let target = if n_rows == 1 { &mut *y } else { &mut transposed };
    let tasks = target.chunks_mut(outputs_per_task * n_rows).enumerate().collect();
    run_with(tasks, Vec::new, |row: &mut Vec<f32>, (task_idx, y): (usize, &mut [f32])| {
        let first = task_idx * outputs_per_task;
        match weights.values {
            Values::Trained(weight) => {
                let n_outputs = y.len() / n_rows;
                dot_rows(level, n_rows, x, &weight[first * n_in..(first + n_outputs) * n_in], y);
            }
            Values::Stored(_) => {
                row.resize(n_in, 0.0);
                for (o, y) in y.chunks_exact_mut(n_rows).enumerate() {
                    weights.read_row(level, first + o, row);
                    dot_rows(level, n_rows, x, row, y);
                }
            }
        }
    });
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
                    forward(
                        level,
                        Compute::F32,
                        n_rows,
                        &x,
                        Weights::trained(&weight),
                        Some(&bias),
                        None,
                        &mut y,
                    );
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
        input_gradient(Level::best(), Compute::F32, n, Weights::trained(&weight), &dy, None, &mut dx);
        weight_gradient(Level::best(), Compute::F32, n, &x, &dy, Orientation::OutIn, &mut dw);
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
        let weights = Weights::trained(&weight);
        forward(Level::best(), Compute::F32, 8, &x, weights, None, None, &mut together);
        for row in 0..8 {
            let mut alone = vec![0.0; n_out];
            let x = &x[row * n_in..(row + 1) * n_in];
            forward(Level::best(), Compute::F32, 1, x, weights, None, None, &mut alone);
            assert_eq!(alone, together[row * n_out..(row + 1) * n_out]);
        }
    }

    /// A matrix stored the other way gives the same results, whatever its format.
    #[test]
    fn both_orientations_and_all_formats_agree() {
        use crate::weight::Format;
        let (n_in, n_out) = (64, 96);
        let level = Level::best();
        for format in [Format::F32, Format::Bf16, Format::Q8_0, Format::Q4_0, Format::Q4_1, Format::Nf4] {
            let stored = Weight::convert(level, &random(n_in * n_out, 2), n_out, n_in, format).unwrap();
            let values = stored.to_vec(level);
            let mut turned = vec![0.0; values.len()];
            for (o, i) in (0..n_out).flat_map(|o| (0..n_in).map(move |i| (o, i))) {
                turned[i * n_out + o] = values[o * n_in + i];
            }
            for n in [3, 20] {
                let (x, dy) = (random(n * n_in, 1), random(n * n_out, 3));
                let run = |weights: Weights| {
                    let (mut y, mut dx) = (vec![0.0; n * n_out], vec![0.0; n * n_in]);
                    forward(level, Compute::F32, n, &x, weights, None, None, &mut y);
                    input_gradient(level, Compute::F32, n, weights, &dy, None, &mut dx);
                    [y, dx].concat()
                };
                let want = run(Weights::trained(&values));
                assert_eq!(run(Weights::stored(&stored)), want);
                let other = run(Weights::trained(&turned).lying(Orientation::InOut));
                assert!(worst_difference(&other, &want) < 1e-5);
                let (mut dw, mut dw_turned) = (vec![0.0; values.len()], vec![0.0; values.len()]);
                weight_gradient(level, Compute::F32, n, &x, &dy, Orientation::OutIn, &mut dw);
                weight_gradient(level, Compute::F32, n, &x, &dy, Orientation::InOut, &mut dw_turned);
                for (o, i) in (0..n_out).flat_map(|o| (0..n_in).map(move |i| (o, i))) {
                    assert!((dw[o * n_in + i] - dw_turned[i * n_out + o]).abs() < 1e-5);
                }
            }
        }
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        for n_rows in [1, 3, 8, 9, 70] {
            let (x, weight) = (random(n_rows * 300, 1), random(300 * 1000, 2));
            same_for_any_number_of_threads(|| {
                let (mut y, mut dx) = (vec![0.0; n_rows * 1000], vec![0.0; n_rows * 300]);
                let (level, weights) = (Level::best(), Weights::trained(&weight));
                forward(level, Compute::F32, n_rows, &x, weights, None, None, &mut y);
                input_gradient(level, Compute::F32, n_rows, weights, &y, None, &mut dx);
                vec![y, dx]
            });
        }
    }
}
