//! Adam's steps with moments of 8 bits. The formula stands in [`tunesmith_kernels::optimizer_8bit`].
//!
//! The moments lie in the host's memory on every device; a graphics processor's parameters and gradients are brought to them
//! and the parameters back.

use burn::tensor::{Tensor, TensorData};
use tunesmith_kernels::Level;
use tunesmith_kernels::optimizer::{Adam, Decay};
use tunesmith_kernels::optimizer_8bit::{BLOCK, Moment, adam_8bit, zero_mean, zero_square};

use crate::check::{read, require_equal};
use crate::cpu;
use crate::optimizer::Rule;
use crate::profile::{self, Work};

/// Mean of gradients and mean of squares of a parameter of n values.
#[derive(Clone, Debug, PartialEq)]
pub struct Moments8 {
    /// [n] codes of the two moments.
    pub codes: [Vec<u8>; 2],
    /// [⌈n / 256⌉] scales of their blocks.
    pub scales: [Vec<f32>; 2],
}

impl Moments8 {
    /// Moments of `n` values before the first step: zero.
    pub fn new(n: usize) -> Self {
        let scales = || vec![0.0; n.div_ceil(BLOCK)];
        Self { codes: [vec![zero_mean(); n], vec![zero_square(); n]], scales: [scales(), scales()] }
    }

    /// The bytes of both moments of `n` values.
    pub fn n_bytes(n: usize) -> usize {
        2 * (n + size_of::<f32>() * n.div_ceil(BLOCK))
    }
}

/// One step by `rule`, which is AdamW or Adam: the new parameter. `step` counts from 1. The parameter is updated in place
/// where no other handle to it exists.
pub fn update_8bit(
    rule: &Rule,
    lr: f32,
    step: u64,
    parameter: Tensor<1>,
    gradient: Tensor<1>,
    moments: &mut Moments8,
) -> Tensor<1> {
    let op = "update_8bit";
    require_equal(op, "gradient", gradient.dims(), parameter.dims());
    require_equal(op, "moments", moments.codes.each_ref().map(Vec::len), [parameter.dims()[0]; 2]);
    let settings = match *rule {
        Rule::AdamW { beta1, beta2, eps, weight_decay } => {
            Some(Adam { beta1, beta2, eps, decay: Decay::Parameter(weight_decay) })
        }
        Rule::Adam { beta1, beta2, eps, weight_decay } => {
            Some(Adam { beta1, beta2, eps, decay: Decay::Gradient(weight_decay) })
        }
        _ => None,
    };
    require_equal(op, "rules of the Adam kind", usize::from(settings.is_some()), 1);
    let Some(settings) = settings else { return parameter };
    let mut step_on = |p: &mut [f32], g: &[f32]| {
        let Moments8 { codes: [mean, square], scales: [mean_scales, square_scales] } = moments;
        let mean = Moment { codes: mean, scales: mean_scales };
        let square = Moment { codes: square, scales: square_scales };
        adam_8bit(Level::best(), settings, f64::from(lr), step, p, g, mean, square);
    };
    if cpu::on_cpu(&parameter) && cpu::on_cpu(&gradient) {
        // The gradient is read, the parameter read and written; four bytes for each value are the codes, both ways.
        let work = Work::traffic(parameter.dims()[0] * 4);
        let run = || {
            let (mut p, g) = (cpu::values(parameter).into_owned(), cpu::values(gradient));
            step_on(p.as_mut_slice(), g.as_slice());
            p.into_values().into_tensor()
        };
        return profile::measure("optimizer update", || work, run);
    }
    let (mut p, g) = (read(&parameter), read(&gradient));
    step_on(&mut p, &g);
    let n_values = p.len();
    Tensor::from_data(TensorData::new(p, [n_values]), &parameter.device().inner())
}
