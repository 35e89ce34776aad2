//! Whether a device computes right, and how fast: a product of matrices and one step of training, compared with the same
//! on the processor, and two figures of speed.

use std::hint::black_box;
use std::time::Instant;

use burn::tensor::{Tensor, TensorData};

use crate::check::read;
use crate::{
    Activation, Device, Rule, activation_composed, cross_entropy_from_hidden,
    cross_entropy_from_hidden_composed, embedding, embedding_composed, linear, linear_composed, rms_norm,
    rms_norm_composed, update, update_composed,
};

/// What the test found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SelfTest {
    /// Largest difference of a product of matrices from double precision, relative to its largest value.
    pub product_difference: f64,
    /// Largest difference of a training step's loss and new parameters from the processor's, relative to the largest.
    pub step_difference: f64,
    /// Multiplications and additions a second in a product of two matrices of 1024 × 1024.
    pub flops_per_sec: f64,
    /// Bytes read and written a second when two long vectors are added.
    pub bytes_per_sec: f64,
}

impl SelfTest {
    /// Differences of sums in another order stay below this.
    pub const BOUND: f64 = 1e-4;

    /// Runs the test; takes a second on a processor, and on a graphics processor the time that compiling takes.
    ///
    /// # Panics
    /// When the device's driver fails, as Burn panics then.
    pub fn run(device: &Device) -> Self {
        let got = training_step(device, false);
        // The processor's own kernels, if that is the device, are compared with Burn's operations.
        let expected = training_step(&Device::flex(), true);
        Self {
            product_difference: product_difference(device),
            step_difference: relative_difference(&got, &expected),
            flops_per_sec: product_speed(device),
            bytes_per_sec: memory_speed(device),
        }
    }

    /// Whether the numbers are right.
    pub fn is_right(&self) -> bool {
        // Not the other way round: a difference that is not a number is wrong.
        self.product_difference <= Self::BOUND && self.step_difference <= Self::BOUND
    }
}

/// Numbers within ±1 without a pattern.
fn values(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

fn on_device<const D: usize>(values: Vec<f32>, shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values, shape), device)
}

fn relative_difference(got: &[f32], expected: &[f32]) -> f64 {
    let largest = expected.iter().fold(0.0, |largest: f64, value| largest.max(f64::from(value.abs())));
    let difference = got.iter().zip(expected).fold(0.0, |worst: f64, (got, expected)| {
        let difference = f64::from((got - expected).abs());
        if difference.is_nan() { f64::INFINITY } else { worst.max(difference) }
    });
    difference / largest.max(1e-30)
}

/// y = x Wᵀ against the same in double precision.
fn product_difference(device: &Device) -> f64 {
    let [m, k, n] = [37, 96, 41];
    let (x, w) = (values(m * k, 1), values(n * k, 2));
    let y = linear(on_device(x.clone(), [m, k], device), on_device(w.clone(), [n, k], device), None);
    let mut expected = Vec::with_capacity(m * n);
    for x in x.chunks(k) {
        for w in w.chunks(k) {
            let sum: f64 = x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum();
            expected.push(sum as f32);
        }
    }
    relative_difference(&read(&y), &expected)
}

/// The loss and the weights of one layer after a step of AdamW, of a model with an embedding, a norm, a layer and a head.
fn training_step(device: &Device, is_composed: bool) -> Vec<f32> {
    let [vocabulary, width] = [48, 32];
    let ids: Vec<u32> = (0..24).map(|position| position * 7 % 48).collect();
    let labels: Vec<i64> = ids.iter().skip(1).map(|id| i64::from(*id)).chain([-100]).collect();
    let weights = vec![1.0 / 23.0; ids.len()];
    let device = device.clone().autodiff();
    let table = on_device(values(vocabulary * width, 3), [vocabulary, width], &device);
    let layer = on_device(values(width * width, 4), [width, width], &device).require_grad();
    let norm: Tensor<1> = on_device(values(width, 5), [width], &device);
    let loss = if is_composed {
        let x = rms_norm_composed(embedding_composed(table.clone(), &ids), norm, 1e-5);
        let hidden = activation_composed(linear_composed(x, layer.clone(), None), Activation::Silu);
        cross_entropy_from_hidden_composed(hidden, table, &labels, &weights)
    } else {
        let x = rms_norm(embedding(table.clone(), &ids), norm, 1e-5);
        let hidden = crate::activation(linear(x, layer.clone(), None), Activation::Silu);
        cross_entropy_from_hidden(hidden, table, &labels, &weights)
    };
    let mut results = read(&loss.weighted_sum.clone().inner());
    let gradients = loss.weighted_sum.backward();
    let n = width * width;
    let parameter = layer.clone().inner().reshape([n]);
    let gradient = match layer.grad(&gradients) {
        Some(gradient) => gradient.reshape([n]),
        // Never equal to what is expected.
        None => parameter.clone() * f32::NAN,
    };
    let rule = Rule::AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.01 };
    let state = rule.initial_state(&parameter);
    let (after, _) = if is_composed {
        update_composed(&rule, 1e-2, 1, parameter, gradient, state)
    } else {
        update(&rule, 1e-2, 1, parameter, gradient, state)
    };
    results.extend(read(&after));
    results
}

/// Seconds of the best of a few runs after a first one. `run` ends by reading a value, which waits for the device.
fn best_secs(mut run: impl FnMut()) -> f64 {
    run();
    let mut best = f64::INFINITY;
    for _ in 0..4 {
        let started = Instant::now();
        run();
        best = best.min(started.elapsed().as_secs_f64());
    }
    best.max(1e-9)
}

fn product_speed(device: &Device) -> f64 {
    const N: usize = 1024;
    let x: Tensor<2> = on_device(values(N * N, 6), [N, N], device);
    let w: Tensor<2> = on_device(values(N * N, 7), [N, N], device);
    let secs = best_secs(|| {
        let y = linear(x.clone(), w.clone(), None);
        black_box(read(&y.narrow(0, 0, 1).narrow(1, 0, 1)));
    });
    (2 * N * N * N) as f64 / secs
}

fn memory_speed(device: &Device) -> f64 {
    const N: usize = 1 << 24;
    let a = Tensor::<1>::ones([N], device);
    let b = Tensor::<1>::ones([N], device);
    let secs = best_secs(|| {
        let sum = a.clone() + b.clone();
        black_box(read(&sum.narrow(0, 0, 1)));
    });
    (3 * N * size_of::<f32>()) as f64 / secs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_computes_right() {
        let test = SelfTest::run(&Device::flex());
        println!("{test:?}");
        assert!(test.is_right(), "{test:?}");
        assert!(test.flops_per_sec.is_finite() && test.bytes_per_sec.is_finite());
    }

    #[test]
    fn wrong_numbers_are_noticed() {
        assert_eq!(relative_difference(&[1.0, 2.0], &[1.0, 4.0]), 0.5);
        assert_eq!(relative_difference(&[f32::NAN], &[1.0]), f64::INFINITY);
        let right = SelfTest {
            product_difference: 1e-7,
            step_difference: 1e-6,
            flops_per_sec: 1.0,
            bytes_per_sec: 1.0,
        };
        assert!(right.is_right());
        assert!(!SelfTest { step_difference: 1e-3, ..right }.is_right());
        assert!(!SelfTest { product_difference: f64::NAN, ..right }.is_right());
    }
}
