//! The one place where a wrongly shaped argument stops the program.
//!
//! Shapes are fixed by the model's code, not by its user, so a mismatch is a programming error, as it is in Burn
//! itself; what a user can get wrong is refused with a typed error before tensors exist.

use burn::tensor::{Int, Tensor, TensorData};

use crate::Device;

/// Stops with `op: message` unless `holds`.
#[track_caller]
#[expect(
    clippy::panic,
    reason = "a wrong shape is a mistake in the calling code; Burn's own operations panic, too"
)]
pub(crate) fn require(holds: bool, op: &str, message: impl FnOnce() -> String) {
    if !holds {
        panic!("{op}: {}", message());
    }
}

/// Stops unless `got` and `want` (shapes, or lengths) are equal; `what` names the argument.
#[track_caller]
pub(crate) fn require_equal<T: PartialEq + std::fmt::Debug>(op: &str, what: &str, got: T, want: T) {
    require(got == want, op, || format!("{what} is {got:?}, expected {want:?}"));
}

/// The values of `tensor` in row-major order; waits for the device.
#[track_caller]
#[expect(clippy::panic, reason = "a failed read-back is a lost device; no caller could continue")]
pub(crate) fn read<const D: usize>(tensor: &Tensor<D>) -> Vec<f32> {
    match tensor.try_to_vec_as::<f32>() {
        Ok(values) => values,
        Err(error) => panic!("reading a tensor of shape {:?} from its device: {error:?}", tensor.dims()),
    }
}

/// A tensor of `shape` on the device of `like` and with its type of numbers.
pub(crate) fn upload<const D: usize, const L: usize>(
    values: Vec<f32>,
    shape: [usize; D],
    like: &Tensor<L>,
) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values, shape), (&like.device(), like.dtype()))
}

/// A vector of row positions on `device`.
pub(crate) fn upload_rows(rows: impl Iterator<Item = usize>, device: &Device) -> Tensor<1, Int> {
    let rows: Vec<i64> = rows.map(|row| row as i64).collect();
    let n_rows = rows.len();
    Tensor::from_data(TensorData::new(rows, [n_rows]), device)
}
