//! Starting values from a weight's principal components (PiSSA, Meng et al. 2024): with W ≈ U S Vᵀ over the R largest
//! singular values,
//!
//! ```text
//! A₀ = √(S/s) Vᵀ,  B₀ = U √(S/s),  so that s·B₀A₀ is the part of W that these components make
//! ```
//!
//! PEFT takes that part out of W. Here W stays as it is, in whatever format it is kept, and s·B₀A₀ is taken off the branch:
//! y = x Wᵀ + s·x (BA − B₀A₀)ᵀ. So the result is an ordinary adapter of rank 2R for the unchanged model.
//!
//! The components are found by subspace iteration from a fixed start, which is deterministic and needs no more of W than
//! products with it.

use burn::tensor::{Device, Tensor, TensorData};
use tunesmith_ops::{Orientation, Weight, linear};

use crate::counter::{mix, unit};
use crate::error::Result;
use crate::parameters::read_back;

/// Products with W and Wᵀ in turn. An approximation that has not wholly settled costs nothing but a little of what the
/// start is good for: what is taken off the branch is what the branch starts with.
const N_ITERATIONS: usize = 16;

/// A₀ [R,I] and B₀ [O,R] in row-major order.
pub(crate) struct Start {
    pub(crate) a: Vec<f32>,
    pub(crate) b: Vec<f32>,
}

/// The start of a branch with the scale s beside `weight` [O,I], which lies in memory as [`Orientation::OutIn`] or not.
/// Ranks beyond those of the weight stay zero.
pub(crate) fn start(
    weight: &Weight,
    orientation: Orientation,
    rank: usize,
    scale: f32,
    device: &Device,
) -> Result<Start> {
    let [n_out, n_in] = weight.clone().lying(orientation).dims();
    let n_columns = (2 * rank + 8).min(n_out).min(n_in);
    let other = match orientation {
        Orientation::OutIn => Orientation::InOut,
        Orientation::InOut => Orientation::OutIn,
    };
    let times = |rows: &Rows, orientation: Orientation| -> Result<Rows> {
        let x = Tensor::<2>::from_data(TensorData::new(rows.to_f32(), [rows.n, rows.width]), device);
        let y = linear(x, weight.clone().lying(orientation), None);
        let [n, width] = y.dims();
        let values = read_back(y, "principal components")?;
        Ok(Rows { n, width, values: values.into_iter().map(f64::from).collect() })
    };
    let value = |i: usize| 2.0 * unit(mix(0x51A5_5A15, i as u64)) - 1.0;
    let mut v = Rows { n: n_columns, width: n_in, values: (0..n_columns * n_in).map(value).collect() };
    v.orthonormalise();
    for _ in 0..N_ITERATIONS {
        let mut u = times(&v, orientation)?;
        u.orthonormalise();
        v = times(&u, other)?;
        v.orthonormalise();
    }
    // Rows of V span the space; the rotation that makes V Wᵀ orthogonal makes them components.
    let projected = times(&v, orientation)?;
    let (squares, rotation) = eigen(&projected.gram(), n_columns);
    let (u, v) = (projected.rotated(&rotation), v.rotated(&rotation));
    let (mut a, mut b) = (vec![0.0; rank * n_in], vec![0.0; n_out * rank]);
    for (r, square) in squares.iter().enumerate().take(rank) {
        let singular = square.max(0.0).sqrt();
        let root = (singular / f64::from(scale)).sqrt();
        if !(root.is_finite() && 0.0 < root) {
            continue;
        }
        for (to, from) in a.iter_mut().skip(r * n_in).zip(v.row(r)) {
            *to = (from * root) as f32;
        }
        // A row of u is still as long as its singular value.
        for (to, from) in b.iter_mut().skip(r).step_by(rank).zip(u.row(r)) {
            *to = (from / singular * root) as f32;
        }
    }
    Ok(Start { a, b })
}

/// Rows of double precision.
struct Rows {
    n: usize,
    width: usize,
    values: Vec<f64>,
}

impl Rows {
    fn row(&self, idx: usize) -> &[f64] {
        self.values.get(idx * self.width..(idx + 1) * self.width).unwrap_or_default()
    }

    fn to_f32(&self) -> Vec<f32> {
        self.values.iter().map(|value| *value as f32).collect()
    }

    /// Gram–Schmidt, twice, since once leaves rows that were nearly parallel far from orthogonal. A row that depends on
    /// those before it becomes zero.
    fn orthonormalise(&mut self) {
        for idx in 0..self.n {
            let (done, rest) = self.values.split_at_mut(idx * self.width);
            let row = rest.get_mut(..self.width).unwrap_or_default();
            let before = dot(row, row).sqrt();
            for _ in 0..2 {
                for other in done.chunks(self.width) {
                    let part = dot(other, row);
                    row.iter_mut().zip(other).for_each(|(value, other)| *value -= part * other);
                }
            }
            let length = dot(row, row).sqrt();
            let factor = if length > 1e-10 * before { length.recip() } else { 0.0 };
            row.iter_mut().for_each(|value| *value *= factor);
        }
    }

    /// Products of all rows with each other, [n,n].
    fn gram(&self) -> Vec<f64> {
        let rows = || (0..self.n).map(|idx| self.row(idx));
        rows().flat_map(|a| rows().map(|b| dot(a, b)).collect::<Vec<_>>()).collect()
    }

    /// Rows combined as the columns of `rotation` [n,n] say.
    fn rotated(&self, rotation: &[f64]) -> Self {
        let mut values = vec![0.0; self.values.len()];
        for (to, out) in values.chunks_mut(self.width.max(1)).enumerate() {
            for from in 0..self.n {
                let factor = rotation.get(from * self.n + to).copied().unwrap_or_default();
                out.iter_mut().zip(self.row(from)).for_each(|(out, value)| *out += factor * value);
            }
        }
        Self { values, ..*self }
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Eigenvalues of a symmetric matrix [n,n], largest first, and the eigenvectors as columns [n,n], by Jacobi's rotations.
fn eigen(matrix: &[f64], n: usize) -> (Vec<f64>, Vec<f64>) {
    const N_SWEEPS: usize = 60;
    let mut m: Vec<Vec<f64>> = matrix.chunks(n.max(1)).map(<[f64]>::to_vec).collect();
    // Rows of `vectors` are the eigenvectors, so that a rotation acts on two rows.
    let mut vectors: Vec<Vec<f64>> =
        (0..n).map(|i| (0..n).map(|j| f64::from(u8::from(i == j))).collect()).collect();
    let at = |m: &[Vec<f64>], i: usize, j: usize| m.get(i).and_then(|row| row.get(j)).copied().unwrap_or(0.0);
    for _ in 0..N_SWEEPS {
        let mut largest = 0.0f64;
        for p in 0..n {
            for q in p + 1..n {
                let (app, aqq, apq) = (at(&m, p, p), at(&m, q, q), at(&m, p, q));
                let small = apq.abs() <= 1e-15 * (app * aqq).abs().sqrt() || apq == 0.0;
                if small {
                    continue;
                }
                largest = largest.max(apq.abs() / (app * aqq).abs().sqrt().max(f64::MIN_POSITIVE));
                let theta = (aqq - app) / (2.0 * apq);
                let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
                let c = (t * t + 1.0).sqrt().recip();
                let s = t * c;
                rotate_rows(&mut m, p, q, c, s);
                for row in &mut m {
                    if let Ok([a, b]) = row.get_disjoint_mut([p, q]) {
                        (*a, *b) = (c * *a - s * *b, s * *a + c * *b);
                    }
                }
                rotate_rows(&mut vectors, p, q, c, s);
            }
        }
        if largest < 1e-14 {
            break;
        }
    }
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|a, b| at(&m, *b, *b).total_cmp(&at(&m, *a, *a)));
    let values = order.iter().map(|idx| at(&m, *idx, *idx)).collect();
    let columns = (0..n).flat_map(|row| order.iter().map(|idx| at(&vectors, *idx, row)).collect::<Vec<_>>());
    (values, columns.collect())
}

fn rotate_rows(m: &mut [Vec<f64>], p: usize, q: usize, c: f64, s: f64) {
    if let Ok([a, b]) = m.get_disjoint_mut([p, q]) {
        for (a, b) in a.iter_mut().zip(b) {
            (*a, *b) = (c * *a - s * *b, s * *a + c * *b);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eigenvectors_are_orthogonal_and_give_the_matrix_back() {
        let n = 9;
        let of = |i: usize, j: usize| ((i * j + 3 * (i + j)) as f64).sin();
        let matrix: Vec<f64> = (0..n).flat_map(|i| (0..n).map(move |j| of(i.min(j), i.max(j)))).collect();
        let (values, vectors) = eigen(&matrix, n);
        assert!(values.is_sorted_by(|a, b| a >= b), "{values:?}");
        let vector = |k: usize| -> Vec<f64> { (0..n).map(|row| vectors[row * n + k]).collect() };
        for k in 0..n {
            for l in 0..n {
                let expected = f64::from(u8::from(k == l));
                assert!((dot(&vector(k), &vector(l)) - expected).abs() < 1e-12);
            }
            for row in 0..n {
                let product = dot(&matrix[row * n..(row + 1) * n], &vector(k));
                assert!((product - values[k] * vector(k)[row]).abs() < 1e-11, "{k} {row}");
            }
        }
    }

    #[test]
    fn the_start_is_the_best_approximation_of_its_rank() {
        let device = Device::flex();
        let (n_out, n_in, rank) = (11, 17, 3);
        // Components with singular values 8, 4, 2, 1, ...: what is left of the best approximation is known.
        let mut left = Rows { n: n_out, width: n_out, values: vec![] };
        left.values = (0..n_out * n_out).map(|i| unit(mix(1, i as u64)) - 0.5).collect();
        let mut right = Rows { n: n_out, width: n_in, values: vec![] };
        right.values = (0..n_out * n_in).map(|i| unit(mix(2, i as u64)) - 0.5).collect();
        left.orthonormalise();
        right.orthonormalise();
        let singular = |k: usize| 8.0 * 0.5f64.powi(k as i32);
        let entry = |o: usize, i: usize| -> f64 {
            (0..n_out).map(|k| left.row(k)[o] * singular(k) * right.row(k)[i]).sum()
        };
        let values: Vec<f32> = (0..n_out * n_in).map(|at| entry(at / n_in, at % n_in) as f32).collect();
        let matrix = Tensor::<2>::from_data(TensorData::new(values.clone(), [n_out, n_in]), &device);
        let transposed = read_back(matrix.clone().transpose(), "w").unwrap();
        let lying = Tensor::<2>::from_data(TensorData::new(transposed, [n_in, n_out]), &device);
        for (tensor, orientation) in [(matrix, Orientation::OutIn), (lying, Orientation::InOut)] {
            let found = start(&tensor.into(), orientation, rank, 4.0, &device).unwrap();
            let mut rest = 0.0;
            for (at, value) in values.iter().enumerate() {
                let (o, i) = (at / n_in, at % n_in);
                let part: f32 = (0..rank).map(|r| found.b[o * rank + r] * found.a[r * n_in + i]).sum();
                rest += f64::from(value - 4.0 * part).powi(2);
            }
            let expected: f64 = (rank..n_out).map(|k| singular(k).powi(2)).sum();
            assert!((rest.sqrt() - expected.sqrt()).abs() < 1e-5, "{} {}", rest.sqrt(), expected.sqrt());
        }
    }
}
