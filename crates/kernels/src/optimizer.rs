//! One optimizer step on flat slices, in place, by PyTorch's update rules.
//!
//! p parameter, g gradient, lr learning rate, λ weight decay, t the step number counted from 1. Factors are prepared in
//! double precision and rounded once; the elementwise work is in single precision, as in PyTorch.

use crate::Level;
use crate::parallel::{elements_per_task, run};
use crate::simd::simd_kernel;

/// Where weight decay acts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Decay {
    /// p ← p (1 − lr λ), before the step (AdamW).
    Parameter(f64),
    /// g ← g + λ p (L2 regularisation).
    Gradient(f64),
}

/// Adam's settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adam {
    /// β₁
    pub beta1: f64,
    /// β₂
    pub beta2: f64,
    /// Added to the denominator.
    pub eps: f64,
    /// Weight decay.
    pub decay: Decay,
}

/// m ← β₁m + (1−β₁)g; v ← β₂v + (1−β₂)g²; p ← p − lr/(1−β₁ᵗ) · m / (√v/√(1−β₂ᵗ) + eps).
pub fn adam(
    level: Level,
    settings: Adam,
    lr: f64,
    step: u64,
    p: &mut [f32],
    g: &[f32],
    m: &mut [f32],
    v: &mut [f32],
) {
    let Adam { beta1, beta2, eps, decay } = settings;
    let (parameter_factor, gradient_decay) = match decay {
        Decay::Parameter(decay) => (1.0 - lr * decay, 0.0),
        Decay::Gradient(decay) => (1.0, decay),
    };
    let correction1 = 1.0 - beta1.powf(step as f64);
    let correction2 = 1.0 - beta2.powf(step as f64);
    let factors = AdamFactors {
        parameter: parameter_factor as f32,
        decay: gradient_decay as f32,
        mean: (1.0 - beta1) as f32,
        square_old: beta2 as f32,
        square_new: (1.0 - beta2) as f32,
        root: correction2.sqrt() as f32,
        eps: eps as f32,
        step: (lr / correction1) as f32,
    };
    for_chunks(p, g, m, v, |p, g, m, v| adam_chunk(level, factors, p, g, m, v));
}

/// g ← g + λp; b ← μb + g; p ← p − lr (g + μb) with Nesterov, else p − lr b.
pub fn sgd(
    level: Level,
    momentum: f64,
    nesterov: bool,
    weight_decay: f64,
    lr: f64,
    p: &mut [f32],
    g: &[f32],
    b: &mut [f32],
) {
    let (momentum, decay, lr) = (momentum as f32, weight_decay as f32, lr as f32);
    let chunk = elements_per_task();
    assert_eq!((g.len(), b.len()), (p.len(), p.len()), "optimizer: lengths");
    let tasks = p.chunks_mut(chunk).zip(g.chunks(chunk)).zip(b.chunks_mut(chunk)).collect();
    run(tasks, |((p, g), b)| sgd_chunk(level, momentum, nesterov, decay, lr, p, g, b));
}

/// g ← g + λp; s ← αs + (1−α)g²; b ← μb + g/(√s + eps); p ← p − lr b.
pub fn rms_prop(
    level: Level,
    alpha: f64,
    momentum: f64,
    eps: f64,
    weight_decay: f64,
    lr: f64,
    p: &mut [f32],
    g: &[f32],
    s: &mut [f32],
    b: &mut [f32],
) {
    let factors = [alpha, 1.0 - alpha, momentum, eps, weight_decay, lr].map(|factor| factor as f32);
    for_chunks(p, g, s, b, |p, g, s, b| rms_prop_chunk(level, factors, p, g, s, b));
}

/// g ← g + λp; s ← ρs + (1−ρ)g²; d = √(a + eps) / √(s + eps) · g; a ← ρa + (1−ρ)d²; p ← p − lr d.
pub fn adadelta(
    level: Level,
    rho: f64,
    eps: f64,
    weight_decay: f64,
    lr: f64,
    p: &mut [f32],
    g: &[f32],
    s: &mut [f32],
    a: &mut [f32],
) {
    let factors = [rho, 1.0 - rho, eps, weight_decay, lr].map(|factor| factor as f32);
    for_chunks(p, g, s, a, |p, g, s, a| adadelta_chunk(level, factors, p, g, s, a));
}

#[derive(Clone, Copy)]
struct AdamFactors {
    parameter: f32,
    decay: f32,
    mean: f32,
    square_old: f32,
    square_new: f32,
    root: f32,
    eps: f32,
    step: f32,
}

fn for_chunks(
    p: &mut [f32],
    g: &[f32],
    first: &mut [f32],
    second: &mut [f32],
    update: impl Fn(&mut [f32], &[f32], &mut [f32], &mut [f32]) + Send + Sync,
) {
    assert_eq!((g.len(), first.len(), second.len()), (p.len(), p.len(), p.len()), "optimizer: lengths");
    let chunk = elements_per_task();
    let states = first.chunks_mut(chunk).zip(second.chunks_mut(chunk));
    let tasks = p.chunks_mut(chunk).zip(g.chunks(chunk)).zip(states).collect();
    run(tasks, |((p, g), (first, second))| update(p, g, first, second));
}

simd_kernel! {
    fn adam_chunk<S>(f: AdamFactors, p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32]) {
        for (((p, g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
            let gradient = S::mul_add(f.decay, *p, *g);
            let decayed = *p * f.parameter;
            *m = S::mul_add(gradient - *m, f.mean, *m);
            *v = S::mul_add(f.square_new * gradient, gradient, *v * f.square_old);
            let denominator = (*v).sqrt() / f.root + f.eps;
            *p = decayed - f.step * (*m / denominator);
        }
    }
}

simd_kernel! {
    fn sgd_chunk<S>(
        momentum: f32, nesterov: bool, decay: f32, lr: f32, p: &mut [f32], g: &[f32], b: &mut [f32],
    ) {
        let ahead = if nesterov { 1.0 } else { 0.0 };
        for ((p, g), b) in p.iter_mut().zip(g).zip(b) {
            let gradient = S::mul_add(decay, *p, *g);
            *b = S::mul_add(momentum, *b, gradient);
            let nesterov_direction = S::mul_add(momentum, *b, gradient);
            let direction = if ahead > 0.0 { nesterov_direction } else { *b };
            *p -= lr * direction;
        }
    }
}

simd_kernel! {
    fn rms_prop_chunk<S>(factors: [f32; 6], p: &mut [f32], g: &[f32], s: &mut [f32], b: &mut [f32]) {
        let [alpha, rest, momentum, eps, decay, lr] = factors;
        for (((p, g), s), b) in p.iter_mut().zip(g).zip(s).zip(b) {
            let gradient = S::mul_add(decay, *p, *g);
            *s = S::mul_add(rest * gradient, gradient, *s * alpha);
            *b = S::mul_add(momentum, *b, gradient / ((*s).sqrt() + eps));
            *p -= lr * *b;
        }
    }
}

simd_kernel! {
    fn adadelta_chunk<S>(factors: [f32; 5], p: &mut [f32], g: &[f32], s: &mut [f32], a: &mut [f32]) {
        let [rho, rest, eps, decay, lr] = factors;
        for (((p, g), s), a) in p.iter_mut().zip(g).zip(s).zip(a) {
            let gradient = S::mul_add(decay, *p, *g);
            *s = S::mul_add(rest * gradient, gradient, *s * rho);
            let delta = (*a + eps).sqrt() / (*s + eps).sqrt() * gradient;
            *a = S::mul_add(rest * delta, delta, *a * rho);
            *p -= lr * delta;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::same_for_any_number_of_threads;

    /// θ after three steps from 1 with gradients 0.5, −0.2, 0.1, learning rate 0.1 and weight decay 0.01, by PyTorch.
    fn check(
        name: &str,
        want: [f64; 3],
        mut update: impl FnMut(Level, u64, &mut [f32], &[f32], &mut [Vec<f32>; 2]),
    ) {
        for level in Level::available() {
            for n in [1, 40] {
                let mut p = vec![1.0; n];
                let mut state = [vec![0.0; n], vec![0.0; n]];
                for (step, (g, want)) in [0.5, -0.2, 0.1].into_iter().zip(want).enumerate() {
                    update(level, step as u64 + 1, &mut p, &vec![g; n], &mut state);
                    assert!(
                        p.iter().all(|p| (f64::from(*p) - want).abs() < 3e-7),
                        "{name} step {step}: {} not {want}",
                        p[0]
                    );
                }
            }
        }
    }

    #[test]
    fn rules_follow_the_reference() {
        let adam_with = |decay| Adam { beta1: 0.9, beta2: 0.999, eps: 1e-8, decay };
        let decoupled = adam_with(Decay::Parameter(0.01));
        check("AdamW", [0.899_000_002, 0.863_540_418, 0.824_737_7], |level, t, p, g, [m, v]| {
            adam(level, decoupled, 0.1, t, p, g, m, v);
        });
        let coupled = adam_with(Decay::Gradient(0.01));
        check("Adam", [0.900_000_002, 0.863_364_138, 0.823_084_722], |level, t, p, g, [m, v]| {
            adam(level, coupled, 0.1, t, p, g, m, v);
        });
        check("SGD", [0.903_1, 0.898_074_11, 0.855_657_258], |level, _, p, g, [b, _]| {
            sgd(level, 0.9, true, 0.01, 0.1, p, g, b);
        });
        check("RMSprop", [0.683_772_254, 0.516_418_142, 0.299_984_493], |level, _, p, g, [s, b]| {
            rms_prop(level, 0.9, 0.9, 1e-8, 0.01, 0.1, p, g, s, b);
        });
        check("Adadelta", [0.999_683_778, 0.999_847_245, 0.999_745_894], |level, _, p, g, [s, a]| {
            adadelta(level, 0.9, 1e-6, 0.01, 0.1, p, g, s, a);
        });
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        let g = crate::testing::random(70_000, 1);
        same_for_any_number_of_threads(|| {
            let (mut p, mut m, mut v) = (g.clone(), vec![0.0; g.len()], vec![0.0; g.len()]);
            let settings = Adam { beta1: 0.9, beta2: 0.999, eps: 1e-8, decay: Decay::Parameter(0.1) };
            for step in 1..3 {
                adam(Level::best(), settings, 0.1, step, &mut p, &g, &mut m, &mut v);
            }
            vec![p, m, v]
        });
    }
}
