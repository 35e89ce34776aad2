//! Elementwise activations, alone (y = act(x)) or as a gate (y = act(gate) ∘ up).
//!
//! Gradients: dx = act′(x) ∘ dy;  dgate = act′(gate) ∘ up ∘ dy,  dup = act(gate) ∘ dy.

use crate::Level;
use crate::math::{erf, exp, sigmoid, tanh};
use crate::parallel::{elements_per_task, run};
use crate::simd::{Isa, simd_kernel};

/// An elementwise function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// x · sigmoid(x), also called swish.
    Silu,
    /// ½ x (1 + tanh(√(2/π) (x + 0.044715 x³))), GPT-2's approximation of GELU.
    GeluTanh,
    /// ½ x (1 + erf(x / √2)).
    Gelu,
    /// max(x, 0).
    Relu,
}

/// y = act(x)
pub fn forward(level: Level, kind: Activation, x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "activation: lengths");
    let chunk = elements_per_task();
    let tasks = x.chunks(chunk).zip(y.chunks_mut(chunk)).collect();
    run(tasks, |(x, y)| match kind {
        Activation::Silu => forward_silu(level, x, y),
        Activation::GeluTanh => forward_gelu_tanh(level, x, y),
        Activation::Gelu => forward_gelu(level, x, y),
        Activation::Relu => forward_relu(level, x, y),
    });
}

/// d = act′(x) ∘ d, in place on the gradient.
pub fn backward(level: Level, kind: Activation, x: &[f32], d: &mut [f32]) {
    assert_eq!(x.len(), d.len(), "activation: lengths");
    let chunk = elements_per_task();
    let tasks = x.chunks(chunk).zip(d.chunks_mut(chunk)).collect();
    run(tasks, |(x, d)| match kind {
        Activation::Silu => backward_silu(level, x, d),
        Activation::GeluTanh => backward_gelu_tanh(level, x, d),
        Activation::Gelu => backward_gelu(level, x, d),
        Activation::Relu => backward_relu(level, x, d),
    });
}

/// y = act(gate) ∘ up
pub fn gated_forward(level: Level, kind: Activation, gate: &[f32], up: &[f32], y: &mut [f32]) {
    assert_eq!((gate.len(), up.len()), (y.len(), y.len()), "gated: lengths");
    let chunk = elements_per_task();
    let tasks = gate.chunks(chunk).zip(up.chunks(chunk)).zip(y.chunks_mut(chunk)).collect();
    run(tasks, |((gate, up), y)| match kind {
        Activation::Silu => gate_silu(level, gate, up, y),
        Activation::GeluTanh => gate_gelu_tanh(level, gate, up, y),
        Activation::Gelu => gate_gelu(level, gate, up, y),
        Activation::Relu => gate_relu(level, gate, up, y),
    });
}

/// From dy in `d`: dup, and dgate in place of dy.
pub fn gated_backward(
    level: Level,
    kind: Activation,
    gate: &[f32],
    up: &[f32],
    d: &mut [f32],
    d_up: &mut [f32],
) {
    assert_eq!((gate.len(), up.len(), d_up.len()), (d.len(), d.len(), d.len()), "gated: lengths");
    let chunk = elements_per_task();
    let outputs = d.chunks_mut(chunk).zip(d_up.chunks_mut(chunk));
    let tasks = gate.chunks(chunk).zip(up.chunks(chunk)).zip(outputs).collect();
    run(tasks, |((gate, up), (d, d_up))| match kind {
        Activation::Silu => ungate_silu(level, gate, up, d, d_up),
        Activation::GeluTanh => ungate_gelu_tanh(level, gate, up, d, d_up),
        Activation::Gelu => ungate_gelu(level, gate, up, d, d_up),
        Activation::Relu => ungate_relu(level, gate, up, d, d_up),
    });
}

/// act(x) and act′(x).
trait Function {
    fn value<S: Isa>(x: f32) -> f32;
    fn value_and_slope<S: Isa>(x: f32) -> (f32, f32);
}

struct Silu;
impl Function for Silu {
    #[inline(always)]
    fn value<S: Isa>(x: f32) -> f32 {
        x * sigmoid::<S>(x)
    }

    /// s = sigmoid(x): act′ = s · (1 + x (1 − s))
    #[inline(always)]
    fn value_and_slope<S: Isa>(x: f32) -> (f32, f32) {
        let s = sigmoid::<S>(x);
        (x * s, s * (1.0 + x * (1.0 - s)))
    }
}

struct GeluTanh;
impl GeluTanh {
    const ROOT: f32 = 0.797_884_6;
    const CUBIC: f32 = 0.044_715;
}
impl Function for GeluTanh {
    #[inline(always)]
    fn value<S: Isa>(x: f32) -> f32 {
        0.5 * x * (1.0 + tanh::<S>(Self::ROOT * (x + Self::CUBIC * x * x * x)))
    }

    /// t = tanh(u): act′ = ½ (1 + t) + ½ x (1 − t²) u′
    #[inline(always)]
    fn value_and_slope<S: Isa>(x: f32) -> (f32, f32) {
        let square = x * x;
        let t = tanh::<S>(Self::ROOT * (x + Self::CUBIC * square * x));
        let inner_slope = Self::ROOT * (1.0 + 3.0 * Self::CUBIC * square);
        (0.5 * x * (1.0 + t), 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * inner_slope)
    }
}

struct Gelu;
impl Function for Gelu {
    #[inline(always)]
    fn value<S: Isa>(x: f32) -> f32 {
        0.5 * x * (1.0 + erf::<S>(x * std::f32::consts::FRAC_1_SQRT_2))
    }

    /// Φ(x) + x φ(x), with the normal distribution Φ and its density φ
    #[inline(always)]
    fn value_and_slope<S: Isa>(x: f32) -> (f32, f32) {
        const INVERSE_ROOT_TWO_PI: f32 = 0.398_942_3;
        let distribution = 0.5 * (1.0 + erf::<S>(x * std::f32::consts::FRAC_1_SQRT_2));
        let density = INVERSE_ROOT_TWO_PI * exp::<S>(-0.5 * x * x);
        (x * distribution, distribution + x * density)
    }
}

struct Relu;
impl Function for Relu {
    #[inline(always)]
    fn value<S: Isa>(x: f32) -> f32 {
        // Written so that NaN stays.
        if x < 0.0 { 0.0 } else { x }
    }

    #[inline(always)]
    fn value_and_slope<S: Isa>(x: f32) -> (f32, f32) {
        (Self::value::<S>(x), if x > 0.0 { 1.0 } else { 0.0 })
    }
}

#[inline(always)]
fn forward_chunk<S: Isa, F: Function>(x: &[f32], y: &mut [f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y = F::value::<S>(*x);
    }
}

#[inline(always)]
fn backward_chunk<S: Isa, F: Function>(x: &[f32], d: &mut [f32]) {
    for (d, x) in d.iter_mut().zip(x) {
        *d *= F::value_and_slope::<S>(*x).1;
    }
}

#[inline(always)]
fn gate_chunk<S: Isa, F: Function>(gate: &[f32], up: &[f32], y: &mut [f32]) {
    for ((y, gate), up) in y.iter_mut().zip(gate).zip(up) {
        *y = F::value::<S>(*gate) * *up;
    }
}

#[inline(always)]
fn ungate_chunk<S: Isa, F: Function>(gate: &[f32], up: &[f32], d: &mut [f32], d_up: &mut [f32]) {
    for (((d, d_up), gate), up) in d.iter_mut().zip(d_up).zip(gate).zip(up) {
        let (value, slope) = F::value_and_slope::<S>(*gate);
        let dy = *d;
        *d_up = dy * value;
        *d = dy * *up * slope;
    }
}

simd_kernel! { fn forward_silu<S>(x: &[f32], y: &mut [f32]) { forward_chunk::<S, Silu>(x, y); } }
simd_kernel! { fn forward_gelu_tanh<S>(x: &[f32], y: &mut [f32]) { forward_chunk::<S, GeluTanh>(x, y); } }
simd_kernel! { fn forward_gelu<S>(x: &[f32], y: &mut [f32]) { forward_chunk::<S, Gelu>(x, y); } }
simd_kernel! { fn forward_relu<S>(x: &[f32], y: &mut [f32]) { forward_chunk::<S, Relu>(x, y); } }
simd_kernel! { fn backward_silu<S>(x: &[f32], d: &mut [f32]) { backward_chunk::<S, Silu>(x, d); } }
simd_kernel! { fn backward_gelu_tanh<S>(x: &[f32], d: &mut [f32]) { backward_chunk::<S, GeluTanh>(x, d); } }
simd_kernel! { fn backward_gelu<S>(x: &[f32], d: &mut [f32]) { backward_chunk::<S, Gelu>(x, d); } }
simd_kernel! { fn backward_relu<S>(x: &[f32], d: &mut [f32]) { backward_chunk::<S, Relu>(x, d); } }
simd_kernel! {
    fn gate_silu<S>(gate: &[f32], up: &[f32], y: &mut [f32]) { gate_chunk::<S, Silu>(gate, up, y); }
}
simd_kernel! {
    fn gate_gelu_tanh<S>(gate: &[f32], up: &[f32], y: &mut [f32]) { gate_chunk::<S, GeluTanh>(gate, up, y); }
}
simd_kernel! {
    fn gate_gelu<S>(gate: &[f32], up: &[f32], y: &mut [f32]) { gate_chunk::<S, Gelu>(gate, up, y); }
}
simd_kernel! {
    fn gate_relu<S>(gate: &[f32], up: &[f32], y: &mut [f32]) { gate_chunk::<S, Relu>(gate, up, y); }
}
simd_kernel! {
    fn ungate_silu<S>(gate: &[f32], up: &[f32], d: &mut [f32], d_up: &mut [f32]) {
        ungate_chunk::<S, Silu>(gate, up, d, d_up);
    }
}
simd_kernel! {
    fn ungate_gelu_tanh<S>(gate: &[f32], up: &[f32], d: &mut [f32], d_up: &mut [f32]) {
        ungate_chunk::<S, GeluTanh>(gate, up, d, d_up);
    }
}
simd_kernel! {
    fn ungate_gelu<S>(gate: &[f32], up: &[f32], d: &mut [f32], d_up: &mut [f32]) {
        ungate_chunk::<S, Gelu>(gate, up, d, d_up);
    }
}
simd_kernel! {
    fn ungate_relu<S>(gate: &[f32], up: &[f32], d: &mut [f32], d_up: &mut [f32]) {
        ungate_chunk::<S, Relu>(gate, up, d, d_up);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{random, same_for_any_number_of_threads, worst_difference};

    const KINDS: [Activation; 4] =
        [Activation::Silu, Activation::GeluTanh, Activation::Gelu, Activation::Relu];

    /// The definition in double precision.
    fn reference(kind: Activation, x: f64) -> f64 {
        match kind {
            Activation::Silu => x / (1.0 + (-x).exp()),
            Activation::GeluTanh => {
                0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
            }
            Activation::Gelu => {
                // erf by Simpson's rule on its integral.
                let end = x / std::f64::consts::SQRT_2;
                let n = 2000;
                let f = |i: usize| (-(end * i as f64 / n as f64).powi(2)).exp();
                let sum: f64 = (0..=n)
                    .map(|i| {
                        f(i) * if i == 0 || i == n {
                            1.0
                        } else if i % 2 == 1 {
                            4.0
                        } else {
                            2.0
                        }
                    })
                    .sum();
                0.5 * x * (1.0 + sum * end / n as f64 / 3.0 * 2.0 / std::f64::consts::PI.sqrt())
            }
            Activation::Relu => x.max(0.0),
        }
    }

    fn slope(kind: Activation, x: f64) -> f64 {
        let h = 1e-4;
        (reference(kind, x + h) - reference(kind, x - h)) / (2.0 * h)
    }

    #[test]
    fn every_level_matches_the_definitions_and_their_slopes() {
        for kind in KINDS {
            let mut worst = 0.0_f32;
            for n in [0, 1, 31, 100] {
                let x: Vec<f32> = random(n, 1).iter().map(|x| x * 8.0).collect();
                let (up, dy) = (random(n, 2), random(n, 3));
                let map = |f: &dyn Fn(usize) -> f64| (0..n).map(|i| f(i) as f32).collect::<Vec<f32>>();
                let value = |i: usize| reference(kind, f64::from(x[i]));
                let slope = |i: usize| slope(kind, f64::from(x[i]));
                let wide = |values: &[f32], i: usize| f64::from(values[i]);
                for level in Level::available() {
                    let mut y = vec![9.0; n];
                    forward(level, kind, &x, &mut y);
                    worst = worst.max(worst_difference(&y, &map(&|i| value(i))));
                    let mut d = dy.clone();
                    backward(level, kind, &x, &mut d);
                    worst = worst.max(worst_difference(&d, &map(&|i| slope(i) * wide(&dy, i))));
                    gated_forward(level, kind, &x, &up, &mut y);
                    worst = worst.max(worst_difference(&y, &map(&|i| value(i) * wide(&up, i))));
                    let (mut d, mut d_up) = (dy.clone(), vec![9.0; n]);
                    gated_backward(level, kind, &x, &up, &mut d, &mut d_up);
                    let d_gate = map(&|i| slope(i) * wide(&up, i) * wide(&dy, i));
                    worst = worst.max(worst_difference(&d, &d_gate));
                    worst = worst.max(worst_difference(&d_up, &map(&|i| value(i) * wide(&dy, i))));
                }
            }
            println!("{kind:?}: worst difference {worst:.2e}");
            assert!(worst < 2e-6);
        }
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        let (gate, up, dy) = (random(50_000, 1), random(50_000, 2), random(50_000, 3));
        for kind in KINDS {
            same_for_any_number_of_threads(|| {
                let (mut y, mut d, mut d_up) = (vec![0.0; 50_000], dy.clone(), vec![0.0; 50_000]);
                gated_forward(Level::best(), kind, &gate, &up, &mut y);
                gated_backward(Level::best(), kind, &gate, &up, &mut d, &mut d_up);
                vec![y, d, d_up]
            });
        }
    }
}
