//! One optimizer step on a flat parameter, by PyTorch's update rules.
//!
//! Written with p parameter, g gradient, lr learning rate, λ weight decay, t the step number counted from 1.

use burn::tensor::Tensor;
use tunesmith_kernels::optimizer::{Adam, Decay};
use tunesmith_kernels::{Level, optimizer as kernel, sum};

use crate::check::{read, require_equal};
use crate::cpu;
use crate::profile::{self, Work};

/// An update rule with its settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// p ← p(1 − lr λ); m ← β₁m + (1−β₁)g; v ← β₂v + (1−β₂)g²; p ← p − lr m̂ / (√v̂ + eps), m̂ = m/(1−β₁ᵗ), v̂ = v/(1−β₂ᵗ).
    AdamW {
        /// β₁
        beta1: f64,
        /// β₂
        beta2: f64,
        /// Added to the denominator.
        eps: f64,
        /// λ, decoupled from the gradient.
        weight_decay: f64,
    },
    /// As AdamW, but weight decay is added to the gradient: g ← g + λp.
    Adam {
        /// β₁
        beta1: f64,
        /// β₂
        beta2: f64,
        /// Added to the denominator.
        eps: f64,
        /// λ, part of the gradient.
        weight_decay: f64,
    },
    /// g ← g + λp; b ← μb + g; p ← p − lr (g + μb) with Nesterov, p − lr b without.
    Sgd {
        /// μ
        momentum: f64,
        /// Look ahead by one momentum step.
        nesterov: bool,
        /// λ, part of the gradient.
        weight_decay: f64,
    },
    /// g ← g + λp; s ← αs + (1−α)g²; b ← μb + g/(√s + eps); p ← p − lr b.
    RmsProp {
        /// α
        alpha: f64,
        /// μ
        momentum: f64,
        /// Added to the denominator.
        eps: f64,
        /// λ, part of the gradient.
        weight_decay: f64,
    },
    /// g ← g + λp; s ← ρs + (1−ρ)g²; d = √((a + eps)/(s + eps)) g; a ← ρa + (1−ρ)d²; p ← p − lr d.
    Adadelta {
        /// ρ
        rho: f64,
        /// Added under both roots.
        eps: f64,
        /// λ, part of the gradient.
        weight_decay: f64,
    },
}

/// What a rule remembers of one parameter: [`Rule::n_states`] tensors of the parameter's length, zero at first.
pub type State = Vec<Tensor<1>>;

impl Rule {
    /// Tensors of state per parameter.
    pub fn n_states(&self) -> usize {
        match self {
            Self::AdamW { .. } | Self::Adam { .. } | Self::RmsProp { .. } | Self::Adadelta { .. } => 2,
            Self::Sgd { .. } => 1,
        }
    }

    /// The state before the first step, for a parameter of `parameter`'s length and device.
    pub fn initial_state(&self, parameter: &Tensor<1>) -> State {
        let parameter = parameter.clone().inner();
        (0..self.n_states()).map(|_| parameter.zeros_like()).collect()
    }
}

/// One step: the new parameter and state.
///
/// All tensors have the same length, lie on the same device and leave their graphs; `step` counts from 1. A parameter or
/// state is updated in place where no other handle to it exists, and copied otherwise: move them in, keep no clone.
pub fn update(
    rule: &Rule,
    lr: f32,
    step: u64,
    parameter: Tensor<1>,
    gradient: Tensor<1>,
    state: State,
) -> (Tensor<1>, State) {
    require_equal("update", "gradient", gradient.dims(), parameter.dims());
    require_equal("update", "number of state tensors", state.len(), rule.n_states());
    for tensor in &state {
        require_equal("update", "state", tensor.dims(), parameter.dims());
    }
    if cpu::on_cpu(&parameter) && cpu::on_cpu(&gradient) && state.iter().all(cpu::on_cpu) {
        // The gradient is read; parameter and state are read and written.
        let work = Work::traffic(parameter.dims()[0] * (3 + 2 * rule.n_states()));
        let run = || update_on_cpu(rule, lr, step, parameter, gradient, state);
        profile::measure("optimizer update", || work, run)
    } else {
        update_composed(rule, lr, step, parameter, gradient, state)
    }
}

/// In place where the caller gave the only handle to a tensor.
fn update_on_cpu(
    rule: &Rule,
    lr: f32,
    step: u64,
    parameter: Tensor<1>,
    gradient: Tensor<1>,
    state: State,
) -> (Tensor<1>, State) {
    let (level, lr) = (Level::best(), f64::from(lr));
    let mut p = cpu::values(parameter).into_owned();
    let g = cpu::values(gradient);
    let mut states: Vec<_> = state.into_iter().map(|state| cpu::values(state).into_owned()).collect();
    let (p_, g_) = (p.as_mut_slice(), g.as_slice());
    match (*rule, states.as_mut_slice()) {
        (Rule::AdamW { beta1, beta2, eps, weight_decay }, [m, v]) => {
            let settings = Adam { beta1, beta2, eps, decay: Decay::Parameter(weight_decay) };
            kernel::adam(level, settings, lr, step, p_, g_, m.as_mut_slice(), v.as_mut_slice());
        }
        (Rule::Adam { beta1, beta2, eps, weight_decay }, [m, v]) => {
            let settings = Adam { beta1, beta2, eps, decay: Decay::Gradient(weight_decay) };
            kernel::adam(level, settings, lr, step, p_, g_, m.as_mut_slice(), v.as_mut_slice());
        }
        (Rule::Sgd { momentum, nesterov, weight_decay }, [b]) => {
            kernel::sgd(level, momentum, nesterov, weight_decay, lr, p_, g_, b.as_mut_slice());
        }
        (Rule::RmsProp { alpha, momentum, eps, weight_decay }, [s, b]) => {
            let (s, b) = (s.as_mut_slice(), b.as_mut_slice());
            kernel::rms_prop(level, alpha, momentum, eps, weight_decay, lr, p_, g_, s, b);
        }
        (Rule::Adadelta { rho, eps, weight_decay }, [s, a]) => {
            kernel::adadelta(level, rho, eps, weight_decay, lr, p_, g_, s.as_mut_slice(), a.as_mut_slice());
        }
        // `update` compared the number of states with the rule's.
        _ => {}
    }
    let state = states.into_iter().map(|state| state.into_values().into_tensor()).collect();
    (p.into_values().into_tensor(), state)
}

/// [`update`] from Burn's operations.
pub fn update_composed(
    rule: &Rule,
    lr: f32,
    step: u64,
    parameter: Tensor<1>,
    gradient: Tensor<1>,
    state: State,
) -> (Tensor<1>, State) {
    let lr = f64::from(lr);
    let p = parameter.inner();
    let g = gradient.inner();
    let mut state = state.into_iter().map(Tensor::inner);
    let mut next = || state.next().unwrap_or_else(|| p.zeros_like());
    let (first, second) = match rule {
        Rule::Sgd { .. } => (next(), None),
        _ => (next(), Some(next())),
    };
    let second = second.unwrap_or_else(|| p.zeros_like());
    match *rule {
        Rule::AdamW { beta1, beta2, eps, weight_decay } => {
            adam(lr, step, p * (1.0 - lr * weight_decay), g, first, second, [beta1, beta2, eps])
        }
        Rule::Adam { beta1, beta2, eps, weight_decay } => {
            let g = g + p.clone() * weight_decay;
            adam(lr, step, p, g, first, second, [beta1, beta2, eps])
        }
        Rule::Sgd { momentum, nesterov, weight_decay } => {
            let g = g + p.clone() * weight_decay;
            let buffer = first * momentum + g.clone();
            let direction = if nesterov { g + buffer.clone() * momentum } else { buffer.clone() };
            (p - direction * lr, vec![buffer])
        }
        Rule::RmsProp { alpha, momentum, eps, weight_decay } => {
            let g = g + p.clone() * weight_decay;
            let square = first * alpha + g.clone().square() * (1.0 - alpha);
            let buffer = second * momentum + g / (square.clone().sqrt() + eps);
            (p - buffer.clone() * lr, vec![square, buffer])
        }
        Rule::Adadelta { rho, eps, weight_decay } => {
            let g = g + p.clone() * weight_decay;
            let square = first * rho + g.clone().square() * (1.0 - rho);
            let delta = (second.clone() + eps).sqrt() / (square.clone() + eps).sqrt() * g;
            let accumulated = second * rho + delta.clone().square() * (1.0 - rho);
            (p - delta * lr, vec![square, accumulated])
        }
    }
}

/// Σ x², summed in double precision and in a fixed order, for gradient norms.
pub fn sum_of_squares(x: &Tensor<1>) -> f64 {
    if cpu::on_cpu(x) {
        let run = || sum::sum_of_squares(Level::best(), cpu::values(x.clone()).as_slice());
        return profile::measure("gradient norm", || Work::traffic(x.dims()[0]), run);
    }
    read(x).iter().map(|&value| f64::from(value) * f64::from(value)).sum()
}

fn adam(
    lr: f64,
    step: u64,
    p: Tensor<1>,
    g: Tensor<1>,
    first: Tensor<1>,
    second: Tensor<1>,
    [beta1, beta2, eps]: [f64; 3],
) -> (Tensor<1>, State) {
    let correction1 = 1.0 - beta1.powf(step as f64);
    let correction2 = 1.0 - beta2.powf(step as f64);
    let mean = first * beta1 + g.clone() * (1.0 - beta1);
    let square = second * beta2 + g.square() * (1.0 - beta2);
    let denominator = square.clone().sqrt() / correction2.sqrt() + eps;
    (p - mean.clone() / denominator * (lr / correction1), vec![mean, square])
}
