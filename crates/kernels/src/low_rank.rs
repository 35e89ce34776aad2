//! The low-rank branch of a linear layer: y += scale · h Bᵀ with h = dropout(x) Aᵀ;
//! x [N, I], A [R, I], B [O, R], h [N, R], y [N, O].
//!
//! With g = scale · dy B [N, R]:  dx += dropout′(g A),  dA = gᵀ dropout(x),  dB = scale · dyᵀ h.
//!
//! What is added to y, and to dx when there is no dropout, are terms of the layer's own products, so that neither exists
//! apart. The products with a small R are the speed of memory's; they have loops of their own in [`crate::skinny`]. The
//! mask of the dropout is made anew wherever it is needed.

use crate::buffer::unfilled;
use crate::linear::Weights;
use crate::product::{Compute, Matrix, Term};
use crate::skinny::{self, Mask};
use crate::{Level, linear};

/// The branch's matrices and settings.
#[derive(Clone, Copy, Debug)]
pub struct Branch<'a> {
    /// A [R, I]
    pub a: &'a [f32],
    /// B [O, R]
    pub b: &'a [f32],
    /// R
    pub rank: usize,
    /// Factor on the branch.
    pub scale: f32,
    /// Dropout on the branch's input.
    pub dropout: Option<Mask>,
}

/// The gradients that [`backward`] fills; those that are `None` are not computed.
#[derive(Debug)]
pub struct Gradients<'a> {
    /// dx [N, I], of the whole layer.
    pub x: Option<&'a mut [f32]>,
    /// dA [R, I]
    pub a: Option<&'a mut [f32]>,
    /// dB [O, R]
    pub b: Option<&'a mut [f32]>,
}

/// Fills h [N, R] and y [N, O] = x Wᵀ + bias + the branch.
pub fn forward(
    level: Level,
    compute: Compute,
    branch: Branch,
    n_rows: usize,
    x: &[f32],
    weights: Weights,
    bias: Option<&[f32]>,
    h: &mut [f32],
    y: &mut [f32],
) {
    let (n_in, n_out) = widths(branch, n_rows, x.len(), h.len(), y.len());
    skinny::dots(level, n_in, x, branch.a, branch.dropout, h);
    let scaled: Vec<f32> = h.iter().map(|h| h * branch.scale).collect();
    let term =
        Term::new(Matrix::new(&scaled, n_rows, branch.rank), Matrix::new(branch.b, n_out, branch.rank).t());
    linear::forward(level, compute, n_rows, x, weights, bias, Some(term), y);
}

/// Fills the wanted gradients from dy [N, O] and the h of [`forward`].
pub fn backward(
    level: Level,
    compute: Compute,
    branch: Branch,
    n_rows: usize,
    x: &[f32],
    weights: Weights,
    h: &[f32],
    dy: &[f32],
    gradients: Gradients,
) {
    let rank = branch.rank;
    let (n_in, n_out) = widths(branch, n_rows, x.len(), h.len(), dy.len());
    let mut g = unfilled(n_rows * rank);
    skinny::dots(level, n_out, dy, &transposed(branch.b, n_out, rank, branch.scale), None, &mut g);
    if let Some(dx) = gradients.x {
        let term = Term::new(Matrix::new(&g, n_rows, rank), Matrix::new(branch.a, rank, n_in));
        match branch.dropout {
            None => linear::input_gradient(level, compute, n_rows, weights, dy, Some(term), dx),
            Some(mask) => {
                linear::input_gradient(level, compute, n_rows, weights, dy, None, dx);
                skinny::add_masked_product(level, n_in, &g, branch.a, mask, dx);
            }
        }
    }
    if let Some(da) = gradients.a {
        skinny::outer(level, n_in, x, &g, rank, branch.dropout, da);
    }
    if let Some(db) = gradients.b {
        let mut transpose = vec![0.0; rank * n_out];
        skinny::outer(level, n_out, dy, h, rank, None, &mut transpose);
        db.copy_from_slice(&transposed(&transpose, rank, n_out, branch.scale));
    }
}

/// out[c, r] = factor · x[r, c] for x [R, C].
fn transposed(x: &[f32], n_rows: usize, n_columns: usize, factor: f32) -> Vec<f32> {
    (0..n_columns)
        .flat_map(|column| (0..n_rows).map(move |row| factor * x[row * n_columns + column]))
        .collect()
}

/// (I, O), checked against the lengths.
fn widths(branch: Branch, n_rows: usize, n_x: usize, n_h: usize, n_y: usize) -> (usize, usize) {
    let rank = branch.rank;
    assert!(0 < rank, "low rank: the rank is 0");
    let (n_in, n_out) = (branch.a.len() / rank, branch.b.len() / rank);
    let want = (n_rows * n_in, n_rows * rank, n_rows * n_out);
    assert_eq!((n_x, n_h, n_y), want, "low rank: lengths of x, h and y for {n_rows} rows");
    (n_in, n_out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dropout;
    use crate::testing::{random, same_for_any_number_of_threads, worst_difference};

    struct Case {
        n: usize,
        n_in: usize,
        n_out: usize,
        rank: usize,
        dropout: Option<Mask>,
    }

    impl Case {
        fn data(&self) -> [Vec<f32>; 5] {
            let Self { n, n_in, n_out, rank, .. } = self;
            let sizes = [n * n_in, rank * n_in, n_out * rank, n_out * n_in, n * n_out];
            let mut seed = 0;
            sizes.map(|size| {
                seed += 1;
                random(size, seed)
            })
        }

        /// y, dx, dA, dB by the kernels.
        fn compute(&self, level: Level) -> [Vec<f32>; 4] {
            let [x, a, b, w, dy] = self.data();
            let weights = Weights::trained(&w);
            let branch = Branch { a: &a, b: &b, rank: self.rank, scale: 0.7, dropout: self.dropout };
            let mut h = vec![9.0; self.n * self.rank];
            let mut y = vec![9.0; dy.len()];
            forward(level, Compute::F32, branch, self.n, &x, weights, None, &mut h, &mut y);
            let (mut dx, mut da, mut db) = (vec![9.0; x.len()], vec![9.0; a.len()], vec![9.0; b.len()]);
            let gradients = Gradients { x: Some(&mut dx), a: Some(&mut da), b: Some(&mut db) };
            backward(level, Compute::F32, branch, self.n, &x, weights, &h, &dy, gradients);
            [y, dx, da, db]
        }

        /// The same, one element after the other.
        fn naive(&self) -> [Vec<f32>; 4] {
            let [x, a, b, w, dy] = self.data();
            let Self { n, n_in, n_out, rank, .. } = *self;
            let mut factors = vec![1.0; n * n_in];
            if let Some(mask) = self.dropout {
                let ones = factors.clone();
                dropout::forward(Level::best(), &ones, mask.probability, mask.key, 0, &mut factors);
            }
            let (mut y, mut dx) = (vec![0.0; dy.len()], vec![0.0; x.len()]);
            let (mut da, mut db) = (vec![0.0; a.len()], vec![0.0; b.len()]);
            for row in 0..n {
                for (o, i) in (0..n_out).flat_map(|o| (0..n_in).map(move |i| (o, i))) {
                    y[row * n_out + o] += x[row * n_in + i] * w[o * n_in + i];
                    dx[row * n_in + i] += dy[row * n_out + o] * w[o * n_in + i];
                }
                for r in 0..rank {
                    let h: f32 = (0..n_in)
                        .map(|i| factors[row * n_in + i] * x[row * n_in + i] * a[r * n_in + i])
                        .sum();
                    let g: f32 = (0..n_out).map(|o| 0.7 * dy[row * n_out + o] * b[o * rank + r]).sum();
                    for o in 0..n_out {
                        y[row * n_out + o] += 0.7 * h * b[o * rank + r];
                        db[o * rank + r] += 0.7 * dy[row * n_out + o] * h;
                    }
                    for i in 0..n_in {
                        let factor = factors[row * n_in + i];
                        dx[row * n_in + i] += factor * g * a[r * n_in + i];
                        da[r * n_in + i] += g * factor * x[row * n_in + i];
                    }
                }
            }
            [y, dx, da, db]
        }
    }

    #[test]
    fn value_and_gradients_match_the_naive_ones() {
        let mut worst = 0.0_f32;
        for (n, n_in, n_out, rank) in
            [(1, 1, 1, 1), (3, 20, 7, 4), (300, 33, 17, 8), (40, 100, 130, 3), (20, 40, 30, 33), (0, 4, 4, 2)]
        {
            for dropout in [None, Some(Mask { probability: 0.25, key: 77 })] {
                let case = Case { n, n_in, n_out, rank, dropout };
                let want = case.naive();
                for level in Level::available() {
                    for (got, want) in case.compute(level).iter().zip(&want) {
                        worst = worst.max(worst_difference(got, want));
                    }
                }
            }
        }
        println!("low rank: worst difference {worst:.2e}");
        assert!(worst < 3e-5);
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        for dropout in [None, Some(Mask { probability: 0.25, key: 77 })] {
            let case = Case { n: 600, n_in: 100, n_out: 90, rank: 8, dropout };
            same_for_any_number_of_threads(|| case.compute(Level::best()).to_vec());
        }
    }
}
