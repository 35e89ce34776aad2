//! Matrix products on slices, by the `gemm` crate.
//!
//! The crate splits a product into register tiles whose arithmetic does not depend on which thread computes them, so
//! results are the same for any number of threads (tested below).

use gemm::Parallelism;

/// A matrix to read: element (i, j) is `data[i · row_stride + j · column_stride]`.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    data: &'a [f32],
    n_rows: usize,
    n_columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// A contiguous row-major matrix.
    pub fn new(data: &'a [f32], n_rows: usize, n_columns: usize) -> Self {
        Self::with_stride(data, n_rows, n_columns, n_columns)
    }

    /// Rows of `n_columns` elements that start `row_stride` elements apart.
    ///
    /// # Panics
    /// When `data` is too short.
    pub fn with_stride(data: &'a [f32], n_rows: usize, n_columns: usize, row_stride: usize) -> Self {
        assert_covers(data.len(), n_rows, n_columns, row_stride);
        Self { data, n_rows, n_columns, row_stride, column_stride: 1 }
    }

    /// The transpose.
    pub fn t(self) -> Self {
        Self {
            n_rows: self.n_columns,
            n_columns: self.n_rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }
}

/// A matrix to write: element (i, j) is `data[i · row_stride + j]`.
#[derive(Debug)]
pub struct MatrixMut<'a> {
    data: &'a mut [f32],
    n_rows: usize,
    n_columns: usize,
    row_stride: usize,
}

impl<'a> MatrixMut<'a> {
    /// A contiguous row-major matrix.
    pub fn new(data: &'a mut [f32], n_rows: usize, n_columns: usize) -> Self {
        Self::with_stride(data, n_rows, n_columns, n_columns)
    }

    /// Rows of `n_columns` elements that start `row_stride` elements apart.
    ///
    /// # Panics
    /// When `data` is too short or rows overlap.
    pub fn with_stride(data: &'a mut [f32], n_rows: usize, n_columns: usize, row_stride: usize) -> Self {
        assert_covers(data.len(), n_rows, n_columns, row_stride);
        assert!(n_columns <= row_stride, "rows of {n_columns} elements overlap when {row_stride} apart");
        Self { data, n_rows, n_columns, row_stride }
    }
}

/// What happens to the values that are in the output already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// They are overwritten and not read.
    Overwrite,
    /// The product is added to them.
    Add,
}

/// Who computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threads {
    /// The calling thread alone.
    One,
    /// All threads of the calling thread's rayon pool.
    Pool,
}

/// out = factor · a b, or out += factor · a b; out [M, N], a [M, K], b [K, N].
///
/// # Panics
/// When the shapes do not fit.
pub fn matmul(out: MatrixMut, mode: Output, factor: f32, a: Matrix, b: Matrix, threads: Threads) {
    assert_eq!(
        (out.n_rows, out.n_columns, a.n_columns),
        (a.n_rows, b.n_columns, b.n_rows),
        "matmul: out is {}×{}, a {}×{}, b {}×{}",
        out.n_rows,
        out.n_columns,
        a.n_rows,
        a.n_columns,
        b.n_rows,
        b.n_columns
    );
    if out.n_rows == 0 || out.n_columns == 0 {
        return;
    }
    let parallelism = match threads {
        Threads::One => Parallelism::None,
        Threads::Pool => Parallelism::Rayon(0),
    };
    // SAFETY: the constructors checked that every (row, column) lies inside each slice, the shapes agree as asserted,
    // and `out` is borrowed exclusively, so it overlaps neither input.
    unsafe {
        gemm::gemm(
            out.n_rows,
            out.n_columns,
            a.n_columns,
            out.data.as_mut_ptr(),
            1,
            out.row_stride as isize,
            mode == Output::Add,
            a.data.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            1.0,
            factor,
            false,
            false,
            false,
            parallelism,
        );
    }
}

fn assert_covers(length: usize, n_rows: usize, n_columns: usize, row_stride: usize) {
    let needed = if n_rows == 0 || n_columns == 0 { 0 } else { (n_rows - 1) * row_stride + n_columns };
    assert!(
        needed <= length,
        "a {n_rows}×{n_columns} matrix with rows {row_stride} apart does not fit in {length} elements"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{random, same_for_any_number_of_threads, worst_difference};

    /// out[i, j] = start[i, j] + factor · Σ over l of a[i, l]·b[l, j], one element after the other.
    fn naive(start: &[f32], factor: f32, a: Matrix, b: Matrix) -> Vec<f32> {
        let mut out = start.to_vec();
        for i in 0..a.n_rows {
            for j in 0..b.n_columns {
                let mut sum = 0.0_f64;
                for l in 0..a.n_columns {
                    sum += f64::from(a.data[i * a.row_stride + l * a.column_stride])
                        * f64::from(b.data[l * b.row_stride + j * b.column_stride]);
                }
                out[i * b.n_columns + j] += factor * sum as f32;
            }
        }
        out
    }

    #[test]
    fn products_match_the_naive_ones() {
        let mut worst = 0.0_f32;
        for (m, n, k) in
            [(1, 1, 1), (1, 7, 3), (5, 1, 9), (17, 33, 65), (64, 48, 1), (3, 5, 0), (100, 31, 77)]
        {
            let (a, b, start) = (random(m * k, 1), random(k * n, 2), random(m * n, 3));
            for (a, b) in [
                (Matrix::new(&a, m, k), Matrix::new(&b, k, n)),
                (Matrix::new(&a, k, m).t(), Matrix::new(&b, n, k).t()),
            ] {
                for (mode, from) in [(Output::Add, start.clone()), (Output::Overwrite, vec![0.0; m * n])] {
                    let mut out = start.clone();
                    matmul(MatrixMut::new(&mut out, m, n), mode, 0.5, a, b, Threads::Pool);
                    worst = worst.max(worst_difference(&out, &naive(&from, 0.5, a, b)));
                }
            }
        }
        println!("matmul: worst difference {worst:.2e}");
        assert!(worst < 1e-5);
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        // Sizes of a small language model's layers and of its gradients, and some awkward ones.
        let sizes = [
            (512, 576, 576),
            (512, 1536, 576),
            (300, 576, 1536),
            (576, 576, 512),
            (37, 1000, 576),
            (9, 576, 576),
            (4, 49152, 64),
            (2, 1536, 576),
            (1, 4096, 576),
            (64, 16, 2048),
            (16, 576, 700),
        ];
        for (m, n, k) in sizes {
            let (a, b) = (random(m * k, 4), random(n * k, 5));
            same_for_any_number_of_threads(|| {
                let mut out = vec![0.0; m * n];
                let (a, b) = (Matrix::new(&a, m, k), Matrix::new(&b, n, k).t());
                matmul(MatrixMut::new(&mut out, m, n), Output::Overwrite, 1.0, a, b, Threads::Pool);
                let mut gradient = vec![0.0; n * k];
                let (y, x) = (Matrix::new(&out, m, n), a);
                matmul(MatrixMut::new(&mut gradient, n, k), Output::Overwrite, 1.0, y.t(), x, Threads::Pool);
                vec![out, gradient]
            });
        }
    }
}
