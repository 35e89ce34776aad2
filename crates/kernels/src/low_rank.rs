//! The low-rank branch of a linear layer: y += scale · h Bᵀ with h = dropout(x) Aᵀ;
//! x [N, I], A [R, I], B [O, R], h [N, R], y [N, O].
//!
//! With g = scale · dy B [N, R]:  dx += dropout′(g A),  dA = gᵀ dropout(x),  dB = scale · dyᵀ h.

use crate::matmul::{Matrix, MatrixMut, Output, Threads, matmul};
use crate::{Level, dropout, linear, sum};

/// Rows whose masked copy of x exists at the same time when there is dropout.
const ROWS_PER_BLOCK: usize = 256;

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

/// A dropout mask; see [`crate::dropout`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mask {
    /// Probability that an element becomes 0.
    pub probability: f32,
    /// Names the mask.
    pub key: u64,
}

/// The gradients that [`backward`] fills or adds to; those that are `None` are not computed.
#[derive(Debug)]
pub struct Gradients<'a> {
    /// dx [N, I], to which the branch's part is added.
    pub x: Option<&'a mut [f32]>,
    /// dA [R, I]
    pub a: Option<&'a mut [f32]>,
    /// dB [O, R]
    pub b: Option<&'a mut [f32]>,
}

/// Fills h [N, R] and adds the branch to y [N, O].
pub fn forward(level: Level, branch: Branch, n_rows: usize, x: &[f32], h: &mut [f32], y: &mut [f32]) {
    let rank = branch.rank;
    let (n_in, n_out) = widths(branch, n_rows, x.len(), h.len(), y.len());
    if n_rows == 0 {
        return;
    }
    match branch.dropout {
        None => linear::forward(level, n_rows, x, branch.a, None, h),
        Some(mask) => {
            for_masked_blocks(level, mask, n_in, x, |first_row, masked| {
                let n_rows = masked.len() / n_in;
                let h = &mut h[first_row * rank..(first_row + n_rows) * rank];
                linear::forward(level, n_rows, masked, branch.a, None, h);
            });
        }
    }
    let (h, b) = (Matrix::new(h, n_rows, rank), Matrix::new(branch.b, n_out, rank));
    matmul(MatrixMut::new(y, n_rows, n_out), Output::Add, branch.scale, h, b.t(), Threads::Pool);
}

/// Fills or adds to the wanted gradients from dy [N, O] and the h of [`forward`].
pub fn backward(
    level: Level,
    branch: Branch,
    n_rows: usize,
    x: &[f32],
    h: &[f32],
    dy: &[f32],
    gradients: Gradients,
) {
    let rank = branch.rank;
    let (n_in, n_out) = widths(branch, n_rows, x.len(), h.len(), dy.len());
    let dy = Matrix::new(dy, n_rows, n_out);
    let mut g = vec![0.0; n_rows * rank];
    let b = Matrix::new(branch.b, n_out, rank);
    matmul(MatrixMut::new(&mut g, n_rows, rank), Output::Overwrite, branch.scale, dy, b, Threads::Pool);
    if let Some(dx) = gradients.x {
        add_input_gradient(level, branch, n_in, &g, dx);
    }
    if let Some(da) = gradients.a {
        da.fill(0.0);
        let mut add = |first_row: usize, x: &[f32]| {
            let n_rows = x.len().checked_div(n_in).unwrap_or(0);
            let g = Matrix::new(&g[first_row * rank..(first_row + n_rows) * rank], n_rows, rank);
            let x = Matrix::new(x, n_rows, n_in);
            matmul(MatrixMut::new(da, rank, n_in), Output::Add, 1.0, g.t(), x, Threads::Pool);
        };
        match branch.dropout {
            None => add(0, x),
            Some(mask) => for_masked_blocks(level, mask, n_in, x, add),
        }
    }
    if let Some(db) = gradients.b {
        let h = Matrix::new(h, n_rows, rank);
        matmul(MatrixMut::new(db, n_out, rank), Output::Overwrite, branch.scale, dy.t(), h, Threads::Pool);
    }
}

/// dx += dropout′(g A)
fn add_input_gradient(level: Level, branch: Branch, n_in: usize, g: &[f32], dx: &mut [f32]) {
    let rank = branch.rank;
    let a = Matrix::new(branch.a, rank, n_in);
    let Some(mask) = branch.dropout else {
        let n_rows = dx.len().checked_div(n_in).unwrap_or(0);
        let g = Matrix::new(g, n_rows, rank);
        matmul(MatrixMut::new(dx, n_rows, n_in), Output::Add, 1.0, g, a, Threads::Pool);
        return;
    };
    let mut product = vec![0.0; ROWS_PER_BLOCK * n_in];
    let mut masked = vec![0.0; ROWS_PER_BLOCK * n_in];
    for (block_idx, dx) in dx.chunks_mut((ROWS_PER_BLOCK * n_in).max(1)).enumerate() {
        let first_row = block_idx * ROWS_PER_BLOCK;
        let n_rows = dx.len() / n_in;
        let g = Matrix::new(&g[first_row * rank..(first_row + n_rows) * rank], n_rows, rank);
        let (product, masked) = (&mut product[..dx.len()], &mut masked[..dx.len()]);
        matmul(MatrixMut::new(product, n_rows, n_in), Output::Overwrite, 1.0, g, a, Threads::Pool);
        dropout::forward(level, product, mask.probability, mask.key, (first_row * n_in) as u64, masked);
        sum::add_to(level, masked, dx);
    }
}

/// Calls `work(first row, dropout(x) of these rows)` for blocks of rows, in order.
fn for_masked_blocks(level: Level, mask: Mask, n_in: usize, x: &[f32], mut work: impl FnMut(usize, &[f32])) {
    let block = (ROWS_PER_BLOCK * n_in).max(1);
    let mut masked = vec![0.0; block.min(x.len())];
    for (block_idx, x) in x.chunks(block).enumerate() {
        let masked = &mut masked[..x.len()];
        dropout::forward(level, x, mask.probability, mask.key, (block_idx * block) as u64, masked);
        work(block_idx * ROWS_PER_BLOCK, masked);
    }
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
            let sizes = [n * n_in, rank * n_in, n_out * rank, n * n_out, n * n_out];
            let mut seed = 0;
            sizes.map(|size| {
                seed += 1;
                random(size, seed)
            })
        }

        /// y, dx, dA, dB by the kernels.
        fn compute(&self, level: Level) -> [Vec<f32>; 4] {
            let [x, a, b, mut y, dy] = self.data();
            let branch = Branch { a: &a, b: &b, rank: self.rank, scale: 0.7, dropout: self.dropout };
            let mut h = vec![9.0; self.n * self.rank];
            forward(level, branch, self.n, &x, &mut h, &mut y);
            let (mut dx, mut da, mut db) = (x.clone(), vec![9.0; a.len()], vec![9.0; b.len()]);
            let gradients = Gradients { x: Some(&mut dx), a: Some(&mut da), b: Some(&mut db) };
            backward(level, branch, self.n, &x, &h, &dy, gradients);
            [y, dx, da, db]
        }

        /// The same, one element after the other.
        fn naive(&self) -> [Vec<f32>; 4] {
            let [x, a, b, mut y, dy] = self.data();
            let Self { n, n_in, n_out, rank, .. } = *self;
            let mut factors = vec![1.0; n * n_in];
            if let Some(mask) = self.dropout {
                let ones = factors.clone();
                dropout::forward(Level::best(), &ones, mask.probability, mask.key, 0, &mut factors);
            }
            let (mut dx, mut da, mut db) = (x.clone(), vec![0.0; a.len()], vec![0.0; b.len()]);
            for row in 0..n {
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
        for (n, n_in, n_out, rank) in [(1, 1, 1, 1), (3, 20, 7, 4), (300, 33, 17, 8), (0, 4, 4, 2)] {
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
