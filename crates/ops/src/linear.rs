//! y = x Wᵀ + bias, alone or with a low-rank branch beside it.
//!
//! Factors are rounded to the number format that W asks for ([`Weight::compute`]); A and B are float32 wherever that does
//! not cost a pass of its own.
//! Shapes: x [N, I], W [O, I], bias [O], A [R, I], B [O, R], y [N, O].

use burn::tensor::Tensor;
use tunesmith_kernels::buffer::unfilled;
use tunesmith_kernels::{Level, linear as kernel, low_rank as low_rank_kernel, skinny::Mask};

use crate::check::require_equal;
use crate::cpu::{self, CpuOp, Pass, Shapes, Values};
use crate::dropout::{Dropout, dropout_composed};
use crate::profile::Work;
use crate::weight::{Operand, Weight, product};

/// The low-rank branch `scale · (dropout(x) Aᵀ) Bᵀ` of a linear layer (LoRA, Hu et al. 2021).
#[derive(Clone, Debug)]
pub struct LowRank {
    /// A, [R, I].
    pub a: Tensor<2>,
    /// B, [O, R].
    pub b: Tensor<2>,
    /// Factor on the branch (alpha / R for LoRA).
    pub scale: f32,
    /// Dropout on the branch's input only.
    pub dropout: Option<Dropout>,
}

/// y = x Wᵀ + bias. The gradient of W is computed only when W is tracked.
pub fn linear(x: Tensor<2>, weight: impl Into<Weight>, bias: Option<Tensor<1>>) -> Tensor<2> {
    let weight = weight.into();
    check_shapes("linear", &x, &weight, bias.as_ref());
    if !(cpu::on_cpu(&x) && weight.on_cpu()) {
        return linear_composed(x, weight, bias);
    }
    let (input, operand) = weight.into_input();
    let op = Linear { n_rows: x.dims()[0], weight: operand, has_bias: bias.is_some() };
    cpu::apply(op, [cpu::input(x), input, bias.map_or_else(cpu::absent, cpu::input)])
}

/// Inputs x, W (or nothing in its place), bias (or nothing in its place).
#[derive(Clone, Debug)]
struct Linear {
    n_rows: usize,
    weight: Operand,
    has_bias: bool,
}

impl Linear {
    fn n_in(&self) -> usize {
        self.weight.dims()[1]
    }

    fn n_out(&self) -> usize {
        self.weight.dims()[0]
    }

    fn new_output(&self) -> Vec<f32> {
        unfilled(self.n_rows * self.n_out())
    }

    /// dW = dyᵀ x
    fn weight_gradient(&self, x: &Values, dy: &Values) -> Values {
        let mut d_weight = unfilled(self.n_out() * self.n_in());
        let (x, dy) = (x.as_slice(), dy.as_slice());
        let Operand { compute, orientation, .. } = self.weight;
        kernel::weight_gradient(Level::best(), compute, self.n_rows, x, dy, orientation, &mut d_weight);
        Values::from_vec(d_weight, &self.weight.shape_in_memory())
    }
}

/// Each value only if a gradient needs it: frozen layers keep no input alive.
#[derive(Clone, Debug)]
struct LinearSaved {
    x: Option<Values>,
    weight: Option<Values>,
}

impl CpuOp<3> for Linear {
    type Saved = LinearSaved;

    const NAMES: [&'static str; 2] = ["linear forward", "linear backward"];

    /// A product for y, one for dx and one for dW.
    fn work(&self, pass: Pass<3>, _: &Shapes<3>) -> Work {
        let product = Work::product(self.n_rows, self.n_in(), self.n_out());
        match pass {
            Pass::Forward => product,
            Pass::Backward(wanted) => product.when(wanted[0]) + product.when(wanted[1]),
        }
    }

    fn forward(&self, [x, weight, bias]: [Values; 3], wanted: [bool; 3]) -> (Values, LinearSaved) {
        let mut y = self.new_output();
        let bias = self.has_bias.then(|| bias.as_slice());
        let (level, compute, weights) = (Level::best(), self.weight.compute, self.weight.weights(&weight));
        kernel::forward(level, compute, self.n_rows, x.as_slice(), weights, bias, None, &mut y);
        let saved = LinearSaved { x: wanted[1].then_some(x), weight: wanted[0].then_some(weight) };
        (Values::from_vec(y, &[self.n_rows, self.n_out()]), saved)
    }

    /// dx = dy W,  dW = dyᵀ x,  dbias = Σ over n of dy[n]
    fn backward(self, saved: LinearSaved, dy: Values, wanted: [bool; 3]) -> [Option<Values>; 3] {
        let dx = saved.weight.map(|weight| {
            let mut dx = unfilled(self.n_rows * self.n_in());
            let (level, compute, weights) =
                (Level::best(), self.weight.compute, self.weight.weights(&weight));
            kernel::input_gradient(level, compute, self.n_rows, weights, dy.as_slice(), None, &mut dx);
            Values::from_vec(dx, &[self.n_rows, self.n_in()])
        });
        let d_weight = saved.x.map(|x| self.weight_gradient(&x, &dy));
        [dx, d_weight, wanted[2].then(|| bias_gradient(&dy))]
    }
}

fn bias_gradient(dy: &Values) -> Values {
    let n_out = dy.dim(1);
    let mut d_bias = vec![0.0; n_out];
    kernel::bias_gradient(Level::best(), dy.as_slice(), &mut d_bias);
    Values::from_vec(d_bias, &[n_out])
}

/// [`linear`] from Burn's operations.
pub fn linear_composed(x: Tensor<2>, weight: impl Into<Weight>, bias: Option<Tensor<1>>) -> Tensor<2> {
    let weight = weight.into();
    let compute = weight.compute();
    let weight = weight.into_tensor(&x.device().inner());
    let y = product(x, weight, compute);
    match bias {
        Some(bias) => y + bias.unsqueeze::<2>(),
        None => y,
    }
}

/// y = x Wᵀ + bias + scale · (dropout(x) Aᵀ) Bᵀ.
pub fn linear_low_rank(
    x: Tensor<2>,
    weight: impl Into<Weight>,
    bias: Option<Tensor<1>>,
    low_rank: LowRank,
) -> Tensor<2> {
    let weight = weight.into();
    check_low_rank_shapes(&x, &weight, bias.as_ref(), &low_rank);
    let on_cpu = weight.on_cpu() && [&x, &low_rank.a, &low_rank.b].into_iter().all(cpu::on_cpu);
    if !on_cpu {
        return linear_low_rank_composed(x, weight, bias, low_rank);
    }
    let LowRank { a, b, scale, dropout } = low_rank;
    let (input, operand) = weight.into_input();
    let base = Linear { n_rows: x.dims()[0], weight: operand, has_bias: bias.is_some() };
    let op = LinearLowRank { base, rank: a.dims()[0], scale, dropout };
    let bias = bias.map_or_else(cpu::absent, cpu::input);
    cpu::apply(op, [cpu::input(x), input, bias, cpu::input(a), cpu::input(b)])
}

/// Inputs x, W, bias (or nothing in its place), A, B.
#[derive(Clone, Debug)]
struct LinearLowRank {
    base: Linear,
    rank: usize,
    scale: f32,
    dropout: Option<Dropout>,
}

impl LinearLowRank {
    fn branch<'a>(&self, a: &'a Values, b: &'a Values) -> low_rank_kernel::Branch<'a> {
        low_rank_kernel::Branch {
            a: a.as_slice(),
            b: b.as_slice(),
            rank: self.rank,
            scale: self.scale,
            dropout: self
                .dropout
                .filter(|dropout| dropout.probability != 0.0)
                .map(|Dropout { probability, key }| Mask { probability, key }),
        }
    }
}

#[derive(Clone, Debug)]
struct LowRankSaved {
    weight: Option<Values>,
    x: Values,
    a: Values,
    b: Values,
    /// dropout(x) Aᵀ
    h: Values,
}

impl CpuOp<5> for LinearLowRank {
    type Saved = LowRankSaved;

    const NAMES: [&'static str; 2] = ["linear_low_rank forward", "linear_low_rank backward"];

    /// The two products of the branch, and for each of its two gradients one more, besides those of [`Linear`].
    fn work(&self, pass: Pass<5>, [x, weight, bias, _, _]: &Shapes<5>) -> Work {
        let (n_rows, n_in, n_out) = (self.base.n_rows, self.base.n_in(), self.base.n_out());
        let (inner, outer) =
            (Work::product(n_rows, n_in, self.rank), Work::product(n_rows, self.rank, n_out));
        let base = |pass| self.base.work(pass, &[x.clone(), weight.clone(), bias.clone()]);
        match pass {
            Pass::Forward => base(Pass::Forward) + inner + outer,
            // g = dy B is needed for dx and dA.
            Pass::Backward([dx, dw, d_bias, da, db]) => {
                let branch = [outer.when(dx || da), inner.when(dx), inner.when(da), outer.when(db)];
                base(Pass::Backward([dx, dw, d_bias])) + branch.into_iter().sum()
            }
        }
    }

    fn forward(&self, [x, weight, bias, a, b]: [Values; 5], wanted: [bool; 5]) -> (Values, LowRankSaved) {
        let base = &self.base;
        let mut y = base.new_output();
        let mut h = unfilled(base.n_rows * self.rank);
        low_rank_kernel::forward(
            Level::best(),
            base.weight.compute,
            self.branch(&a, &b),
            base.n_rows,
            x.as_slice(),
            base.weight.weights(&weight),
            base.has_bias.then(|| bias.as_slice()),
            &mut h,
            &mut y,
        );
        let h = Values::from_vec(h, &[base.n_rows, self.rank]);
        let saved = LowRankSaved { weight: wanted[0].then_some(weight), x, a, b, h };
        (Values::from_vec(y, &[base.n_rows, base.n_out()]), saved)
    }

    /// With g = scale · dy B:  dx = dy W + dropout′(g A),  dA = gᵀ dropout(x),  dB = scale · dyᵀ h; dW and dbias as in
    /// [`Linear`].
    fn backward(self, saved: LowRankSaved, dy: Values, wanted: [bool; 5]) -> [Option<Values>; 5] {
        let LowRankSaved { weight, x, a, b, h } = saved;
        let (base, rank) = (&self.base, self.rank);
        let (n_rows, n_in, n_out) = (base.n_rows, base.n_in(), base.n_out());
        let d_weight = wanted[1].then(|| base.weight_gradient(&x, &dy));
        let mut dx = weight.is_some().then(|| unfilled(n_rows * n_in));
        let mut da = wanted[3].then(|| unfilled(rank * n_in));
        let mut db = wanted[4].then(|| unfilled(n_out * rank));
        let gradients =
            low_rank_kernel::Gradients { x: dx.as_deref_mut(), a: da.as_deref_mut(), b: db.as_deref_mut() };
        // Without a wanted dx the weight was not kept, and is not looked at.
        let nothing = x.clone();
        low_rank_kernel::backward(
            Level::best(),
            base.weight.compute,
            self.branch(&a, &b),
            n_rows,
            x.as_slice(),
            base.weight.weights(weight.as_ref().unwrap_or(&nothing)),
            h.as_slice(),
            dy.as_slice(),
            gradients,
        );
        [
            dx.map(|dx| Values::from_vec(dx, &[n_rows, n_in])),
            d_weight,
            wanted[2].then(|| bias_gradient(&dy)),
            da.map(|da| Values::from_vec(da, &[rank, n_in])),
            db.map(|db| Values::from_vec(db, &[n_out, rank])),
        ]
    }
}

/// [`linear_low_rank`] from Burn's operations.
pub fn linear_low_rank_composed(
    x: Tensor<2>,
    weight: impl Into<Weight>,
    bias: Option<Tensor<1>>,
    low_rank: LowRank,
) -> Tensor<2> {
    let LowRank { a, b, scale, dropout } = low_rank;
    let branch_input = match dropout {
        Some(dropout) => dropout_composed(x.clone(), dropout),
        None => x.clone(),
    };
    let branch = branch_input.matmul(a.transpose()).matmul(b.transpose());
    linear_composed(x, weight, bias) + branch * scale
}

fn check_shapes(op: &str, x: &Tensor<2>, weight: &Weight, bias: Option<&Tensor<1>>) {
    let [_, n_in] = x.dims();
    let [n_out, _] = weight.dims();
    require_equal(op, "weight [O, I]", weight.dims(), [n_out, n_in]);
    if let Some(bias) = bias {
        require_equal(op, "bias [O]", bias.dims(), [n_out]);
    }
}

fn check_low_rank_shapes(x: &Tensor<2>, weight: &Weight, bias: Option<&Tensor<1>>, low_rank: &LowRank) {
    let op = "linear_low_rank";
    check_shapes(op, x, weight, bias);
    let [n_out, n_in] = weight.dims();
    let [rank, _] = low_rank.a.dims();
    require_equal(op, "A [R, I]", low_rank.a.dims(), [rank, n_in]);
    require_equal(op, "B [O, R]", low_rank.b.dims(), [n_out, rank]);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frozen layer's weight gradient would cost as much as its input gradient, and keep the input alive.
    #[test]
    fn a_frozen_weight_costs_no_gradient_and_keeps_no_input() {
        let values = |shape: [usize; 2]| Values::from_vec(vec![0.5; shape[0] * shape[1]], &shape);
        let stored = Weight::from(Tensor::<2>::zeros([5, 4], &crate::Device::flex()));
        let op = Linear { n_rows: 3, weight: stored.into_input().1, has_bias: false };
        let nothing = Values::from_vec(Vec::new(), &[0]);
        let wanted = [true, false, false];
        let (y, saved) = op.forward([values([3, 4]), values([5, 4]), nothing], wanted);
        assert!(saved.x.is_none());
        let [dx, d_weight, d_bias] = op.backward(saved, y, wanted);
        assert_eq!(dx.map(|dx| dx.shape()), Some(vec![3, 4]));
        assert!(d_weight.is_none() && d_bias.is_none());
    }
}
