//! Row lookup: y[n] = weight[ids[n]]; weight [V, C], y [N, C]. The gradient of a row is the sum over its uses.

use std::sync::Arc;

use burn::tensor::Tensor;
use tunesmith_kernels::buffer::unfilled;
use tunesmith_kernels::{Level, embedding as kernel};

use crate::Device;
use crate::check::{require, upload_rows};
use crate::cpu::{self, CpuOp, Pass, Shapes, Values};
use crate::profile::Work;
use crate::weight::{Operand, Weight, widened};

/// The rows `ids` of weight [V, C], as [N, C].
pub fn embedding(weight: impl Into<Weight>, ids: &[u32]) -> Tensor<2> {
    let weight = weight.into();
    let [n_rows, _] = weight.dims();
    let largest = ids.iter().copied().max().unwrap_or(0) as usize;
    require(ids.is_empty() || largest < n_rows, "embedding", || {
        format!("id {largest} lies beyond the {n_rows} rows of the table")
    });
    if weight.on_cpu() {
        let (input, table) = weight.into_input();
        cpu::apply(Embedding { ids: ids.into(), table }, [input])
    } else {
        embedding_composed(weight, ids)
    }
}

/// Input weight (or nothing in its place).
#[derive(Clone, Debug)]
struct Embedding {
    ids: Arc<[u32]>,
    table: Operand,
}

impl CpuOp<1> for Embedding {
    type Saved = ();

    const NAMES: [&'static str; 2] = ["embedding forward", "embedding backward"];

    fn work(&self, pass: Pass<1>, _: &Shapes<1>) -> Work {
        let [n_rows, width] = self.table.dims();
        let n_looked_up = self.ids.len() * width;
        match pass {
            // Rows read and written.
            Pass::Forward => Work::traffic(2 * n_looked_up),
            // dy, the rows it is added to, and a gradient for the whole table.
            Pass::Backward(_) => Work::traffic(2 * n_looked_up + n_rows * width),
        }
    }

    fn forward(&self, [weight]: [Values; 1], _: [bool; 1]) -> (Values, ()) {
        let [_, width] = self.table.dims();
        let mut y = unfilled(self.ids.len() * width);
        kernel::forward(Level::best(), self.table.weights(&weight), width, &self.ids, &mut y);
        (Values::from_vec(y, &[self.ids.len(), width]), ())
    }

    /// dweight[v] = Σ of dy[n] over the n with ids[n] = v
    fn backward(self, (): (), dy: Values, _: [bool; 1]) -> [Option<Values>; 1] {
        let [n_rows, width] = self.table.dims();
        let mut d_weight = vec![0.0; n_rows * width];
        kernel::add_gradient(Level::best(), dy.as_slice(), width, &self.ids, &mut d_weight);
        [Some(Values::from_vec(d_weight, &[n_rows, width]))]
    }
}

/// [`embedding`] from Burn's operations.
pub fn embedding_composed(weight: impl Into<Weight>, ids: &[u32]) -> Tensor<2> {
    let weight = weight.into().into_tensor(&Device::flex());
    let rows = upload_rows(ids.iter().map(|&id| id as usize), &weight.device());
    widened(weight.select(0, rows))
}
