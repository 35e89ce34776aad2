//! Cross-entropy of a language model's head from hidden states, with its gradients, in bounded memory.
//!
//! losses[m] = logsumexp over v of z[m, v] − z[m, targets[m]] with logits z = hidden headᵀ; hidden [M, C], head [V, C].
//! For the sum Σ weights[m]·losses[m]: dz[m, v] = weights[m] · (softmax(z[m])[v] − [v = targets[m]]), dhidden = dz head,
//! dhead = dzᵀ hidden. With a cap c, c·tanh(z/c) takes the place of each logit, and dz is multiplied by 1 − tanh²(z/c).
//! With label smoothing ε, (1 − ε)·z[m, targets[m]] + ε·mean over v of z[m, v] takes the place of z[m, targets[m]], and
//! (1 − ε)·[v = targets[m]] + ε/V that of [v = targets[m]].
//! Logits exist for one block of rows at a time, and the gradients are taken while they do: nothing is kept for a backward
//! pass, and no logit is computed twice.

use crate::Level;
use crate::buffer::unfilled;
use crate::lanes::{map_and_sum, maximum, sum_of};
use crate::linear::Weights;
use crate::math::{exp, tanh};
use crate::parallel::run;
use crate::product::{Compute, Matrix, MatrixMut, Output, Term, Threads, product};
use crate::simd::simd_kernel;

/// Logits that exist at the same time: 32 MiB.
const LOGITS_PER_BLOCK: usize = 1 << 23;
/// Fewer rows would read the head too often, more would not make the product faster.
const ROWS_PER_BLOCK: std::ops::RangeInclusive<usize> = 32..=512;

/// What the loss is taken of.
#[derive(Clone, Copy, Debug)]
pub struct Problem<'a> {
    /// hidden [M, C]: the labelled positions only.
    pub hidden: &'a [f32],
    /// head [V, C]
    pub head: Weights<'a>,
    /// C
    pub width: usize,
    /// The wanted vocabulary entry of each row [M].
    pub targets: &'a [u32],
    /// The factor of each row's loss [M].
    pub weights: &'a [f32],
    /// Bound that logits approach and never pass; `None` leaves them as they are.
    pub cap: Option<f32>,
    /// Share of each label's probability that is spread evenly over the vocabulary; 0 for none.
    pub smoothing: f32,
}

/// The gradients of the weighted sum to fill; those that are `None` are not computed.
#[derive(Debug)]
pub struct Gradients<'a> {
    /// dhidden [M, C]
    pub hidden: Option<&'a mut [f32]>,
    /// dhead [V, C]
    pub head: Option<&'a mut [f32]>,
}

/// Fills losses [M], unweighted, and the wanted gradients of their weighted sum.
///
/// # Panics
/// When lengths do not fit or a target lies beyond the vocabulary.
pub fn cross_entropy(
    level: Level,
    compute: Compute,
    problem: Problem,
    losses: &mut [f32],
    mut gradients: Gradients,
) {
    let Problem { hidden, head, width, targets, weights, cap, smoothing } = problem;
    let n_rows = targets.len();
    let vocabulary = head.len().checked_div(width).unwrap_or(0);
    let lengths = (hidden.len(), weights.len(), losses.len());
    assert_eq!(
        lengths,
        (n_rows * width, n_rows, n_rows),
        "cross_entropy: lengths of hidden, weights, losses"
    );
    assert!(
        targets.iter().all(|target| (*target as usize) < vocabulary),
        "cross_entropy: target beyond {vocabulary}"
    );
    if let Some(d_head) = &mut gradients.head {
        d_head.fill(0.0);
    }
    if n_rows == 0 {
        return;
    }
    let with_gradient = gradients.hidden.is_some() || gradients.head.is_some();
    let block = (LOGITS_PER_BLOCK / vocabulary).clamp(*ROWS_PER_BLOCK.start(), *ROWS_PER_BLOCK.end());
    let mut logits = unfilled(block.min(n_rows) * vocabulary);
    for first in (0..n_rows).step_by(block) {
        let rows = first..n_rows.min(first + block);
        let n = rows.len();
        let logits = &mut logits[..n * vocabulary];
        let hidden = Matrix::new(&hidden[first * width..rows.end * width], n, width);
        let term = Term { left: hidden, right: head.transposed(vocabulary, width) };
        let out = MatrixMut::new(logits, n, vocabulary);
        product(level, compute, out, Output::Overwrite, &[term], Threads::Pool);
        let labels = targets[rows.clone()].iter().zip(&weights[rows.clone()]);
        let tasks = logits.chunks_exact_mut(vocabulary).zip(labels).zip(&mut losses[rows.clone()]).collect();
        run(tasks, |((logits, (target, weight)), loss)| {
            let weight = with_gradient.then_some(*weight);
            *loss = match cap {
                None => softmax_row(level, smoothing, logits, *target as usize, weight),
                Some(cap) => capped_softmax_row(level, cap, smoothing, logits, *target as usize, weight),
            };
        });
        let d_logits = Matrix::new(logits, n, vocabulary);
        if let Some(d_hidden) = &mut gradients.hidden {
            let out = MatrixMut::new(&mut d_hidden[first * width..rows.end * width], n, width);
            let term = Term { left: d_logits, right: head.as_right(vocabulary, width) };
            product(level, compute, out, Output::Overwrite, &[term], Threads::Pool);
        }
        if let Some(d_head) = &mut gradients.head {
            let out = MatrixMut::new(d_head, vocabulary, width);
            let term = Term::new(d_logits.t(), hidden);
            product(level, compute, out, Output::Add, &[term], Threads::Pool);
        }
    }
}

simd_kernel! {
    /// The loss of one row; with a weight, the logits become their gradient.
    fn softmax_row<S>(
        smoothing: f32,
        logits: &mut [f32],
        target: usize,
        weight: Option<f32>,
    ) -> f32 {
        let largest = maximum(logits);
        let below_largest = below_largest(logits, target, largest, smoothing);
        let sum = map_and_sum(logits, |z| exp::<S>(z - largest));
        if let Some(weight) = weight {
            let factor = weight / sum;
            let spread = weight * smoothing / logits.len() as f32;
            for d in logits.iter_mut() {
                *d = *d * factor - spread;
            }
            logits[target] -= weight * (1.0 - smoothing);
        }
        sum.ln() + below_largest
    }
}

/// How far the wanted logits lie below the largest one: the label's own, and with smoothing also the mean of all.
fn below_largest(logits: &[f32], target: usize, largest: f32, smoothing: f32) -> f32 {
    let of_label = largest - logits[target];
    if smoothing == 0.0 {
        return of_label;
    }
    let of_all = sum_of(logits, |z| largest - z) / logits.len() as f32;
    (1.0 - smoothing) * of_label + smoothing * of_all
}

simd_kernel! {
    /// The same of logits that are capped first.
    fn capped_softmax_row<S>(
        cap: f32,
        smoothing: f32,
        logits: &mut [f32],
        target: usize,
        weight: Option<f32>,
    ) -> f32 {
        let inverse = 1.0 / cap;
        for z in logits.iter_mut() {
            *z = cap * tanh::<S>(*z * inverse);
        }
        let largest = maximum(logits);
        let wanted = logits[target];
        let below_largest = below_largest(logits, target, largest, smoothing);
        let sum = sum_of(logits, |z| exp::<S>(z - largest));
        if let Some(weight) = weight {
            let factor = weight / sum;
            let spread = weight * smoothing / logits.len() as f32;
            for z in logits.iter_mut() {
                let tanh = *z * inverse;
                *z = (factor * exp::<S>(*z - largest) - spread) * S::mul_add(-tanh, tanh, 1.0);
            }
            let tanh = wanted * inverse;
            logits[target] -= weight * (1.0 - smoothing) * (1.0 - tanh * tanh);
        }
        sum.ln() + below_largest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{random, same_for_any_number_of_threads, worst_difference};

    struct Case {
        n: usize,
        width: usize,
        vocabulary: usize,
        cap: Option<f32>,
        smoothing: f32,
    }

    impl Case {
        fn data(&self) -> (Vec<f32>, Vec<f32>, Vec<u32>, Vec<f32>) {
            let hidden = random(self.n * self.width, 1).iter().map(|h| h * 3.0).collect();
            let targets = (0..self.n).map(|n| (n * 31 % self.vocabulary) as u32).collect();
            (hidden, random(self.vocabulary * self.width, 2), targets, random(self.n, 3))
        }

        /// losses, dhidden, dhead
        fn compute(&self, level: Level) -> [Vec<f32>; 3] {
            let (hidden, head, targets, weights) = self.data();
            let (mut losses, mut dh, mut dw) =
                (vec![9.0; self.n], vec![9.0; hidden.len()], vec![9.0; head.len()]);
            let problem = Problem {
                hidden: &hidden,
                head: Weights::trained(&head),
                width: self.width,
                targets: &targets,
                weights: &weights,
                cap: self.cap,
                smoothing: self.smoothing,
            };
            cross_entropy(
                level,
                Compute::F32,
                problem,
                &mut losses,
                Gradients { hidden: Some(&mut dh), head: Some(&mut dw) },
            );
            [losses, dh, dw]
        }

        fn naive(&self) -> [Vec<f32>; 3] {
            let (hidden, head, targets, weights) = self.data();
            let width = self.width;
            let cap = self.cap.map(f64::from);
            let capped = |z: f64| cap.map_or(z, |cap| cap * (z / cap).tanh());
            let slope = |capped: f64| cap.map_or(1.0, |cap| 1.0 - (capped / cap).powi(2));
            let (mut losses, mut dh, mut dw) =
                (vec![], vec![0.0_f64; hidden.len()], vec![0.0_f64; head.len()]);
            for n in 0..self.n {
                let h = |c: usize| f64::from(hidden[n * width + c]);
                let w = |v: usize, c: usize| f64::from(head[v * width + c]);
                let z: Vec<f64> =
                    (0..self.vocabulary).map(|v| capped((0..width).map(|c| h(c) * w(v, c)).sum())).collect();
                let total: f64 = z.iter().map(|z| z.exp()).sum();
                let smoothing = f64::from(self.smoothing);
                let share = |v: usize| {
                    let is_target = f64::from(u8::from(v == targets[n] as usize));
                    (1.0 - smoothing) * is_target + smoothing / self.vocabulary as f64
                };
                let wanted: f64 = (0..self.vocabulary).map(|v| share(v) * z[v]).sum();
                losses.push((total.ln() - wanted) as f32);
                for v in 0..self.vocabulary {
                    let dz = slope(z[v]) * f64::from(weights[n]) * (z[v].exp() / total - share(v));
                    for c in 0..width {
                        dh[n * width + c] += dz * w(v, c);
                        dw[v * width + c] += dz * h(c);
                    }
                }
            }
            let narrow = |values: Vec<f64>| values.into_iter().map(|v| v as f32).collect();
            [losses, narrow(dh), narrow(dw)]
        }
    }

    #[test]
    fn every_level_matches_the_formula() {
        let mut worst = 0.0_f32;
        let shapes = [(0, 4, 5), (1, 1, 1), (3, 7, 50), (40, 16, 333), (600, 5, 20)];
        let caps = [(None, 0.0), (Some(1.5), 0.0), (Some(30.0), 0.0), (None, 0.1), (Some(1.5), 0.3)];
        for ((n, width, vocabulary), (cap, smoothing)) in
            shapes.into_iter().flat_map(|shape| caps.map(|cap| (shape, cap)))
        {
            let case = Case { n, width, vocabulary, cap, smoothing };
            let want = case.naive();
            for level in Level::available() {
                for (got, want) in case.compute(level).iter().zip(&want) {
                    worst = worst.max(worst_difference(got, want));
                }
            }
        }
        println!("cross_entropy: worst difference {worst:.2e}");
        assert!(worst < 2e-5);
    }

    #[test]
    fn large_logits_do_not_overflow() {
        for level in Level::available() {
            let problem = Problem {
                hidden: &[1000.0],
                head: Weights::trained(&[1.0, -1.0, 0.999]),
                width: 1,
                targets: &[1],
                weights: &[1.0],
                cap: None,
                smoothing: 0.0,
            };
            let (mut losses, mut dh) = ([0.0], [0.0]);
            cross_entropy(
                level,
                Compute::F32,
                problem,
                &mut losses,
                Gradients { hidden: Some(&mut dh), head: None },
            );
            assert!((losses[0] - 2000.313).abs() < 1e-2, "{}", losses[0]);
            assert!(dh[0].is_finite());
        }
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        let case = Case { n: 600, width: 24, vocabulary: 700, cap: None, smoothing: 0.1 };
        same_for_any_number_of_threads(|| case.compute(Level::best()).to_vec());
    }
}
