//! The matrix of a linear layer as the operations take it: its values, and the number format they are multiplied in.

use std::ops::Range;

use burn::tensor::{DType, Device, Tensor, TensorData};
pub use tunesmith_kernels::linear::Orientation;
pub use tunesmith_kernels::weight::{Bytes, Format, Weight as StoredWeight};
use tunesmith_kernels::{Compute, Level, linear::Weights};

use crate::cpu::{self, Input, Values};
use crate::device::is_cpu;

/// A matrix [O, I] to multiply with. A tensor becomes one with float32 products.
#[derive(Clone, Debug)]
pub struct Weight {
    kind: Kind,
    orientation: Orientation,
    compute: Compute,
}

#[derive(Clone, Debug)]
enum Kind {
    /// Values on any device: float32, which may be trained, or frozen ones of 16 bits.
    Tensor(Box<Tensor<2>>),
    /// Values in the format they are stored in, never trained; the CPU multiplies with them as they are.
    Stored(StoredWeight),
}

impl From<Tensor<2>> for Weight {
    fn from(tensor: Tensor<2>) -> Self {
        Self { kind: Kind::Tensor(Box::new(tensor)), orientation: Orientation::OutIn, compute: Compute::F32 }
    }
}

impl From<StoredWeight> for Weight {
    fn from(stored: StoredWeight) -> Self {
        Self { kind: Kind::Stored(stored), orientation: Orientation::OutIn, compute: Compute::F32 }
    }
}

impl Weight {
    /// The same matrix, multiplied in another number format.
    #[must_use]
    pub fn computed_in(self, compute: Compute) -> Self {
        Self { compute, ..self }
    }

    /// The same values as a matrix [O, I] that lies in memory as `orientation` says.
    #[must_use]
    pub fn lying(self, orientation: Orientation) -> Self {
        Self { orientation, ..self }
    }

    /// The number format of the products.
    pub fn compute(&self) -> Compute {
        self.compute
    }

    /// [O, I]
    pub fn dims(&self) -> [usize; 2] {
        let [n_lines, width] = match &self.kind {
            Kind::Tensor(tensor) => tensor.dims(),
            Kind::Stored(stored) => stored.dims(),
        };
        match self.orientation {
            Orientation::OutIn => [n_lines, width],
            Orientation::InOut => [width, n_lines],
        }
    }

    /// The matrix [O, I] as a tensor: this one's, in the type of numbers it is kept in, or a stored weight's, unpacked to
    /// float32 on `device`.
    pub fn into_tensor(self, device: &Device) -> Tensor<2> {
        let tensor = match self.kind {
            Kind::Tensor(tensor) => *tensor,
            Kind::Stored(stored) => unpacked(&stored, device),
        };
        match self.orientation {
            Orientation::OutIn => tensor,
            Orientation::InOut => tensor.transpose(),
        }
    }

    /// Whether gradients with respect to it may be asked for.
    pub(crate) fn is_tracked(&self) -> bool {
        matches!(&self.kind, Kind::Tensor(tensor) if tensor.is_tracked())
    }

    /// Whether the CPU kernels can take it.
    pub(crate) fn on_cpu(&self) -> bool {
        match &self.kind {
            Kind::Tensor(tensor) => cpu::on_cpu(tensor),
            Kind::Stored(_) => true,
        }
    }

    /// Its part in a CPU operation: an input for [`cpu::apply`], empty for a stored weight, and what stands beside it.
    pub(crate) fn into_input(self) -> (Input, Operand) {
        let dims = self.dims();
        let (input, stored) = match self.kind {
            Kind::Tensor(tensor) => (cpu::input(*tensor), None),
            Kind::Stored(stored) => (cpu::absent(), Some(stored)),
        };
        (input, Operand { stored, dims, orientation: self.orientation, compute: self.compute })
    }
}

/// What an operation knows of a weight besides the input that holds its values when it may be trained.
#[derive(Clone, Debug)]
pub(crate) struct Operand {
    stored: Option<StoredWeight>,
    dims: [usize; 2],
    pub(crate) orientation: Orientation,
    pub(crate) compute: Compute,
}

impl Operand {
    /// [O, I]
    pub(crate) fn dims(&self) -> [usize; 2] {
        self.dims
    }

    /// The kernels' view; `input` are the values of the operation's input.
    pub(crate) fn weights<'a>(&'a self, input: &'a Values) -> Weights<'a> {
        let weights = match &self.stored {
            Some(stored) => Weights::stored(stored),
            None => Weights::trained(input.as_slice()),
        };
        weights.lying(self.orientation)
    }

    /// The shape of the values in memory: [O, I] or [I, O].
    pub(crate) fn shape_in_memory(&self) -> [usize; 2] {
        let [n_out, n_in] = self.dims;
        match self.orientation {
            Orientation::OutIn => [n_out, n_in],
            Orientation::InOut => [n_in, n_out],
        }
    }
}

/// `values` [n_rows, n_columns] in another format, each rounded to the nearest that it can hold; `None` when their number
/// does not fit, or rows do not end with a block of the format.
pub fn stored_weight(
    values: &[f32],
    n_rows: usize,
    n_columns: usize,
    format: Format,
) -> Option<StoredWeight> {
    StoredWeight::convert(Level::best(), values, n_rows, n_columns, format)
}

/// The values of a stored weight as a float32 tensor, in the shape they lie in.
pub fn unpacked(stored: &StoredWeight, device: &Device) -> Tensor<2> {
    Tensor::from_data(TensorData::new(stored.to_vec(Level::best()), stored.dims()), device)
}

/// The values of some rows of a stored weight, row by row; fewer where it has fewer.
pub fn unpacked_rows(stored: &StoredWeight, rows: Range<usize>) -> Vec<f32> {
    let [n_rows, n_columns] = stored.dims();
    let rows = rows.start.min(n_rows)..rows.end.min(n_rows);
    let mut values = vec![0.0; rows.len() * n_columns];
    if n_columns != 0 {
        for (row, values) in rows.zip(values.chunks_exact_mut(n_columns)) {
            stored.read(Level::best(), row, 0..n_columns, values);
        }
    }
    values
}

/// x wᵀ with both rounded to `compute`, for operations composed of Burn's. A graphics processor multiplies bfloat16 as such
/// and rounds the result as well; on the CPU, where this is the oracle of the kernels, the sum stays float32.
pub(crate) fn product(x: Tensor<2>, weight: Tensor<2>, compute: Compute) -> Tensor<2> {
    if compute == Compute::F32 || is_cpu(&x.device().inner()) {
        return rounded(x, compute).matmul(rounded(widened(weight), compute).transpose());
    }
    let dtype = x.dtype();
    x.cast(DType::BF16).matmul(weight.cast(DType::BF16).transpose()).cast(dtype)
}

/// Frozen values of 16 bits as float32; others as they are.
pub(crate) fn widened<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    match x.dtype() {
        DType::BF16 | DType::F16 => x.cast(DType::F32),
        _ => x,
    }
}

/// `x` rounded to the number format of a product, for operations composed of Burn's.
pub(crate) fn rounded<const D: usize>(x: Tensor<D>, compute: Compute) -> Tensor<D> {
    match compute {
        Compute::F32 => x,
        Compute::Bf16 => {
            let dtype = x.dtype();
            x.cast(DType::BF16).cast(dtype)
        }
    }
}
