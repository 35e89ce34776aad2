//! Losses over preferences, as functions of log-probabilities of answers, with their derivatives: a few numbers, in
//! float64 on the host.
//!
//! A pair has two answers to one prompt, of which c is preferred to r. With π the log-probability of an answer under the
//! model in training, ρ the one under the reference, z = (π_c − ρ_c) − (π_r − ρ_r) and σ the logistic function, the loss
//! is the mean over the pairs of
//!
//!     DPO        −ln σ(βz)                                      Rafailov et al. 2023      sum
//!     hinge      max(0, 1 − βz)                                 Zhao et al. 2023          mean
//!     IPO        (z − 1/(2β))²                                  Azar et al. 2023          mean
//!     KTO pair   mean of 1 − σ(β(π_c − ρ_c − KL_r))             Ethayarajh et al. 2024    sum
//!                    and 1 − σ(β(KL_c − π_r + ρ_r)),  KL = max(0, mean of π − ρ over the pairs)
//!     CPO        −ln σ(β(π_c − π_r))                            Xu et al. 2024            sum
//!     SimPO      −ln σ(β(π_c − π_r) − γ)                        Meng et al. 2024          mean
//!     ORPO       −π_c − β ln σ(ln odds_c − ln odds_r)           Hong et al. 2024          mean
//!                    with ln odds = π − ln(1 − e^π)
//!
//! The last column says how an answer's log-probability comes from those of its tokens ([`Reduction`]). Those are minus
//! their cross-entropies, so a training step on such a loss is one on Σ weight·cross-entropy with the weights that
//! [`Reduction::token_weight`] makes of the derivative ∂loss/∂π.
//!
//! [`kto_loss`] is the loss of KTO over answers that are good or bad on their own.

/// A loss over pairs of answers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PreferenceLoss {
    /// Direct preference optimisation.
    Dpo,
    /// Hinge loss, as in SLiC.
    Hinge,
    /// Identity preference optimisation.
    Ipo,
    /// Kahneman-Tversky optimisation over pairs. KL takes part in the derivative, unlike in [`kto_loss`].
    KtoPair,
    /// Contrastive preference optimisation.
    Cpo,
    /// Simple preference optimisation.
    SimPo {
        /// The margin γ by which β(π_c − π_r) should exceed 0.
        gamma: f64,
    },
    /// Odds ratio preference optimisation, with the cross-entropy of the preferred answer; β is the factor that its
    /// authors call λ.
    Orpo,
}

/// How the log-probability of an answer comes from those of its tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduction {
    /// The sum over the labelled tokens.
    Sum,
    /// The mean over the labelled tokens.
    Mean,
}

/// A number for either answer of a pair.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pair {
    /// That of the preferred answer.
    pub chosen: f64,
    /// That of the other one.
    pub rejected: f64,
}

/// The log-probabilities of a pair of answers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PreferencePair {
    /// Under the model in training.
    pub policy: Pair,
    /// Under the reference; not looked at by losses without one.
    pub reference: Pair,
}

/// The loss of a batch of pairs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PreferenceStep {
    /// The mean over the pairs; 0 when there are none.
    pub loss: f64,
    /// ∂loss/∂π for both answers of each pair.
    pub derivatives: Vec<Pair>,
    /// β(π − ρ), or βπ for losses without a reference, for both answers of each pair.
    pub rewards: Vec<Pair>,
}

/// A single answer and whether it is a good one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct JudgedAnswer {
    /// Its log-probability under the model in training, summed over its tokens.
    pub policy: f64,
    /// The same under the reference.
    pub reference: f64,
    /// Whether it is to become more probable.
    pub is_desirable: bool,
}

/// The settings of [`kto_loss`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KtoSettings {
    /// β.
    pub beta: f64,
    /// Factor on the loss of good answers.
    pub desirable_weight: f64,
    /// Factor on the loss of bad answers.
    pub undesirable_weight: f64,
}

/// The loss of a batch of judged answers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KtoStep {
    /// The mean over the answers; 0 when there are none.
    pub loss: f64,
    /// ∂loss/∂π of each answer.
    pub derivatives: Vec<f64>,
    /// β(π − ρ) of each answer.
    pub rewards: Vec<f64>,
    /// The estimate of the divergence between model and reference that rewards are compared with.
    pub divergence: f64,
}

impl PreferenceLoss {
    /// Whether the log-probabilities under a reference model are needed.
    pub fn needs_reference(self) -> bool {
        match self {
            Self::Dpo | Self::Hinge | Self::Ipo | Self::KtoPair => true,
            Self::Cpo | Self::SimPo { .. } | Self::Orpo => false,
        }
    }

    /// How the log-probability of an answer is meant.
    pub fn reduction(self) -> Reduction {
        match self {
            Self::Dpo | Self::KtoPair | Self::Cpo => Reduction::Sum,
            Self::Hinge | Self::Ipo | Self::SimPo { .. } | Self::Orpo => Reduction::Mean,
        }
    }

    /// Loss, derivatives and rewards of a batch of pairs.
    pub fn of(self, beta: f64, pairs: &[PreferencePair]) -> PreferenceStep {
        let n_pairs = pairs.len().max(1) as f64;
        let ratios: Vec<Pair> = pairs.iter().map(|pair| self.log_ratios(*pair)).collect();
        let rewards =
            ratios.iter().map(|ratio| Pair { chosen: beta * ratio.chosen, rejected: beta * ratio.rejected });
        let rewards = rewards.collect();
        if self == Self::KtoPair {
            let (loss, derivatives) = kto_pair(beta, &ratios);
            return PreferenceStep { loss, derivatives, rewards };
        }
        let (losses, slopes): (Vec<f64>, Vec<Pair>) =
            ratios.iter().map(|ratio| self.of_pair(beta, *ratio)).unzip();
        let mean = |slope: Pair| Pair { chosen: slope.chosen / n_pairs, rejected: slope.rejected / n_pairs };
        PreferenceStep {
            loss: losses.into_iter().sum::<f64>() / n_pairs,
            derivatives: slopes.into_iter().map(mean).collect(),
            rewards,
        }
    }

    /// π − ρ, or π for losses without a reference.
    fn log_ratios(self, PreferencePair { policy, reference }: PreferencePair) -> Pair {
        let reference = if self.needs_reference() { reference } else { Pair::default() };
        Pair { chosen: policy.chosen - reference.chosen, rejected: policy.rejected - reference.rejected }
    }

    /// The loss of one pair and its derivatives, for the losses that see one pair at a time.
    fn of_pair(self, beta: f64, ratio: Pair) -> (f64, Pair) {
        if self == Self::Orpo {
            return odds_ratio(beta, ratio);
        }
        let z = ratio.chosen - ratio.rejected;
        let (loss, slope) = match self {
            Self::Hinge if beta * z >= 1.0 => (0.0, 0.0),
            Self::Hinge => (1.0 - beta * z, -beta),
            Self::Ipo => {
                let distance = z - 1.0 / (2.0 * beta);
                (distance.powi(2), 2.0 * distance)
            }
            Self::SimPo { gamma } => (softplus(gamma - beta * z), -beta * sigmoid(gamma - beta * z)),
            Self::Dpo | Self::Cpo | Self::KtoPair | Self::Orpo => {
                (softplus(-beta * z), -beta * sigmoid(-beta * z))
            }
        };
        (loss, Pair { chosen: slope, rejected: -slope })
    }
}

impl Reduction {
    /// An answer's log-probability from the cross-entropies of its `n_labels` labelled tokens (0 for others).
    pub fn log_probability(self, cross_entropies: &[f32], n_labels: usize) -> f64 {
        let sum: f64 = cross_entropies.iter().map(|loss| f64::from(*loss)).sum();
        -sum / self.divisor(n_labels)
    }

    /// The weight on the cross-entropy of each labelled token with which Σ weight·cross-entropy has the gradient of a loss
    /// whose derivative with respect to the answer's log-probability is `derivative`.
    pub fn token_weight(self, derivative: f64, n_labels: usize) -> f32 {
        (-derivative / self.divisor(n_labels)) as f32
    }

    fn divisor(self, n_labels: usize) -> f64 {
        match self {
            Self::Sum => 1.0,
            Self::Mean => n_labels.max(1) as f64,
        }
    }
}

impl PreferenceStep {
    /// Mean reward of the preferred and of the other answers; 0 when there are none.
    pub fn mean_rewards(&self) -> Pair {
        let n_pairs = self.rewards.len().max(1) as f64;
        Pair {
            chosen: self.rewards.iter().map(|reward| reward.chosen).sum::<f64>() / n_pairs,
            rejected: self.rewards.iter().map(|reward| reward.rejected).sum::<f64>() / n_pairs,
        }
    }

    /// Mean of how much more the preferred answers are rewarded.
    pub fn margin(&self) -> f64 {
        let means = self.mean_rewards();
        means.chosen - means.rejected
    }

    /// Share of pairs whose preferred answer is rewarded more.
    pub fn accuracy(&self) -> f64 {
        let n_right = self.rewards.iter().filter(|reward| reward.chosen > reward.rejected).count();
        n_right as f64 / self.rewards.len().max(1) as f64
    }
}

/// KTO over judged answers (Ethayarajh et al. 2024): the mean of w₊(1 − σ(β(π − ρ) − βz₀)) over good answers and
/// w₋(1 − σ(βz₀ − β(π − ρ))) over bad ones. z₀ = max(0, mean of π − ρ over `mismatched`), answers that belong to other
/// prompts than those they are put after, as (π, ρ); it takes no part in the derivative.
pub fn kto_loss(settings: KtoSettings, answers: &[JudgedAnswer], mismatched: &[(f64, f64)]) -> KtoStep {
    let KtoSettings { beta, desirable_weight, undesirable_weight } = settings;
    let n_answers = answers.len().max(1) as f64;
    let ratios = mismatched.iter().map(|(policy, reference)| policy - reference);
    let divergence = (ratios.sum::<f64>() / mismatched.len().max(1) as f64).max(0.0);
    let mut step = KtoStep { divergence, ..KtoStep::default() };
    for answer in answers {
        let ratio = answer.policy - answer.reference;
        let (weight, sign) = match answer.is_desirable {
            true => (desirable_weight, 1.0),
            false => (undesirable_weight, -1.0),
        };
        let value = sigmoid(sign * beta * (ratio - divergence));
        step.loss += weight * (1.0 - value) / n_answers;
        step.derivatives.push(-weight * sign * beta * value * (1.0 - value) / n_answers);
        step.rewards.push(beta * ratio);
    }
    step
}

/// Loss and derivatives of [`PreferenceLoss::KtoPair`], where every answer depends on all through KL.
fn kto_pair(beta: f64, ratios: &[Pair]) -> (f64, Vec<Pair>) {
    let n_pairs = ratios.len().max(1) as f64;
    let mean_chosen = ratios.iter().map(|ratio| ratio.chosen).sum::<f64>() / n_pairs;
    let mean_rejected = ratios.iter().map(|ratio| ratio.rejected).sum::<f64>() / n_pairs;
    // σ at both answers, which both lower the loss.
    let values: Vec<Pair> = ratios
        .iter()
        .map(|ratio| Pair {
            chosen: sigmoid(beta * (ratio.chosen - mean_rejected.max(0.0))),
            rejected: sigmoid(beta * (mean_chosen.max(0.0) - ratio.rejected)),
        })
        .collect();
    let loss: f64 = values.iter().map(|value| 2.0 - value.chosen - value.rejected).sum();
    let slope = |value: f64| beta * value * (1.0 - value) / (2.0 * n_pairs);
    // At 0, where a model that starts as its reference is, the derivative of max is 0, as that of PyTorch's `clamp`.
    let through = |mean: f64| if mean > 0.0 { 1.0 / n_pairs } else { 0.0 };
    let through_chosen = through(mean_chosen) * values.iter().map(|value| slope(value.rejected)).sum::<f64>();
    let through_rejected =
        through(mean_rejected) * values.iter().map(|value| slope(value.chosen)).sum::<f64>();
    let derivatives = values.iter().map(|value| Pair {
        chosen: -slope(value.chosen) - through_chosen,
        rejected: slope(value.rejected) + through_rejected,
    });
    (loss / (2.0 * n_pairs), derivatives.collect())
}

/// Loss and derivatives of [`PreferenceLoss::Orpo`] for the mean log-probabilities of a pair; ∂ ln odds/∂π = 1/(1 − e^π).
fn odds_ratio(lambda: f64, log_probability: Pair) -> (f64, Pair) {
    // 1 − e^π, which is above 0 as no answer is certain.
    let rest = |log_probability: f64| -log_probability.min(-f64::EPSILON).exp_m1();
    let (rest_chosen, rest_rejected) = (rest(log_probability.chosen), rest(log_probability.rejected));
    let log_odds_ratio =
        log_probability.chosen - log_probability.rejected - rest_chosen.ln() + rest_rejected.ln();
    let slope = lambda * sigmoid(-log_odds_ratio);
    (
        lambda * softplus(-log_odds_ratio) - log_probability.chosen,
        Pair { chosen: -1.0 - slope / rest_chosen, rejected: slope / rest_rejected },
    )
}

/// σ(x) = 1/(1 + e^−x).
fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 { 1.0 / (1.0 + (-x).exp()) } else { x.exp() / (1.0 + x.exp()) }
}

/// ln(1 + e^x) = −ln σ(−x).
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

#[cfg(test)]
#[path = "preference_tests.rs"]
mod tests;
