//! What a sequence's scores cost against its targets, with the derivative beside it: a few numbers, in float64 on the
//! host.
//!
//! For scores s of K outputs:
//!
//!     cross-entropy          logsumexp(s) − s[y]                      ∂/∂s[k] = softmax(s)[k] − (k = y)
//!     binary cross-entropy   mean of max(s,0) − s·t + ln(1+e^−|s|)    ∂/∂s[k] = (σ(s[k]) − t[k]) / K
//!     squared error          mean of (s − t)²                         ∂/∂s[k] = 2 (s[k] − t[k]) / K
//!     absolute error         mean of |s − t|                          ∂/∂s[k] = sign(s[k] − t[k]) / K, 0 at 0

/// The loss of a sequence, from its scores and its targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScoreLoss {
    /// One class of several; the target is its index.
    CrossEntropy,
    /// Yes or no for each output, from their logits; targets are probabilities, usually 0 and 1.
    BinaryCrossEntropy,
    /// Mean squared error over the outputs.
    Mse,
    /// Mean absolute error over the outputs.
    Mae,
}

impl ScoreLoss {
    /// Number of targets of a sequence for a head of `n_outputs`.
    pub fn n_targets(self, n_outputs: usize) -> usize {
        match self {
            Self::CrossEntropy => 1,
            Self::BinaryCrossEntropy | Self::Mse | Self::Mae => n_outputs,
        }
    }

    /// Whether a target can be one of a head of `n_outputs`.
    pub(crate) fn takes(self, target: f32, n_outputs: usize) -> bool {
        match self {
            Self::CrossEntropy => target.fract() == 0.0 && 0.0 <= target && (target as usize) < n_outputs,
            Self::BinaryCrossEntropy => (0.0..=1.0).contains(&target),
            Self::Mse | Self::Mae => target.is_finite(),
        }
    }

    /// The loss of one sequence and its derivative with respect to each of its `scores`. There are as many `targets` as
    /// [`Self::n_targets`] says.
    pub(crate) fn with_derivative(self, scores: &[f32], targets: &[f32]) -> (f64, Vec<f64>) {
        let scores: Vec<f64> = scores.iter().map(|score| f64::from(*score)).collect();
        let of_output = match self {
            Self::CrossEntropy => {
                return cross_entropy(&scores, targets.first().map_or(0, |class| *class as usize));
            }
            Self::BinaryCrossEntropy => binary_cross_entropy,
            Self::Mse => squared_error,
            Self::Mae => absolute_error,
        };
        let n_outputs = scores.len() as f64;
        let (losses, slopes): (Vec<f64>, Vec<f64>) =
            scores.iter().zip(targets).map(|(score, target)| of_output(*score, f64::from(*target))).unzip();
        let loss = losses.into_iter().sum::<f64>() / n_outputs;
        (loss, slopes.into_iter().map(|slope| slope / n_outputs).collect())
    }
}

fn binary_cross_entropy(score: f64, target: f64) -> (f64, f64) {
    let loss = score.max(0.0) - score * target + (-score.abs()).exp().ln_1p();
    (loss, 1.0 / (1.0 + (-score).exp()) - target)
}

fn squared_error(score: f64, target: f64) -> (f64, f64) {
    ((score - target).powi(2), 2.0 * (score - target))
}

fn absolute_error(score: f64, target: f64) -> (f64, f64) {
    let slope = if score == target { 0.0 } else { (score - target).signum() };
    ((score - target).abs(), slope)
}

fn cross_entropy(scores: &[f64], class: usize) -> (f64, Vec<f64>) {
    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = scores.iter().map(|score| (score - largest).exp()).sum();
    let loss = largest + sum.ln() - scores.get(class).copied().unwrap_or(0.0);
    let derivative = scores.iter().enumerate().map(|(output, score)| {
        let probability = (score - largest).exp() / sum;
        if output == class { probability - 1.0 } else { probability }
    });
    (loss, derivative.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOSSES: [ScoreLoss; 4] =
        [ScoreLoss::CrossEntropy, ScoreLoss::BinaryCrossEntropy, ScoreLoss::Mse, ScoreLoss::Mae];

    fn mean_loss(loss: ScoreLoss, sequences: &[(&[f32], &[f32])]) -> f64 {
        let sum: f64 =
            sequences.iter().map(|(scores, targets)| loss.with_derivative(scores, targets).0).sum();
        sum / sequences.len() as f64
    }

    #[test]
    fn gv_11_3_score_losses_are_those_of_pytorch() {
        let bce = mean_loss(
            ScoreLoss::BinaryCrossEntropy,
            &[(&[0.5, -1.0], &[1.0, 0.0]), (&[2.0, 0.3], &[0.0, 1.0])],
        );
        assert!((bce - 0.867_155_481_8).abs() < 1e-7, "{bce}");
        let ce =
            mean_loss(ScoreLoss::CrossEntropy, &[(&[0.1, 0.8, 0.1], &[1.0]), (&[0.7, 0.2, 0.1], &[2.0])]);
        assert!((ce - 1.028_838_094_9).abs() < 1e-7, "{ce}");
        for (loss, expected) in [(ScoreLoss::Mse, 0.75), (ScoreLoss::Mae, 0.75)] {
            let found = mean_loss(loss, &[(&[1.0, 2.0], &[2.0, 3.0]), (&[3.0, 4.0], &[3.0, 3.0])]);
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn derivatives_are_finite_differences() {
        let scores = [0.7f32, -1.3, 2.2, 0.0];
        for loss in LOSSES {
            let targets: &[f32] =
                if loss == ScoreLoss::CrossEntropy { &[2.0] } else { &[1.0, 0.0, 0.25, 1.0] };
            let (_, derivative) = loss.with_derivative(&scores, targets);
            for (k, expected) in derivative.iter().enumerate() {
                let at = |step: f32| {
                    let mut scores = scores;
                    scores[k] += step;
                    loss.with_derivative(&scores, targets).0
                };
                let step = 1.0 / 1024.0;
                let found = (at(step) - at(-step)) / (2.0 * f64::from(step));
                assert!((found - expected).abs() < 1e-6, "{loss:?} {k}: {found}, {expected}");
            }
        }
    }

    #[test]
    fn extreme_scores_give_finite_losses() {
        for loss in LOSSES {
            let (value, derivative) = loss.with_derivative(&[1e4, -1e4], &[1.0, 1.0]);
            assert!(value.is_finite() && derivative.iter().all(|d| d.is_finite()), "{loss:?}");
        }
        assert_eq!(ScoreLoss::Mae.with_derivative(&[1.0], &[1.0]), (0.0, vec![0.0]));
    }

    #[test]
    fn targets_are_checked() {
        assert!(ScoreLoss::CrossEntropy.takes(2.0, 3) && !ScoreLoss::CrossEntropy.takes(3.0, 3));
        assert!(!ScoreLoss::CrossEntropy.takes(0.5, 3) && !ScoreLoss::CrossEntropy.takes(-1.0, 3));
        assert!(ScoreLoss::BinaryCrossEntropy.takes(1.0, 1) && !ScoreLoss::BinaryCrossEntropy.takes(2.0, 1));
        assert!(ScoreLoss::Mse.takes(-3.5, 1) && !ScoreLoss::Mae.takes(f32::NAN, 1));
        assert_eq!(LOSSES.map(|loss| loss.n_targets(4)), [1, 4, 4, 4]);
    }
}
