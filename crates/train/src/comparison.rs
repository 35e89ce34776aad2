//! How the two texts of each sample are set against each other: a better and a worse answer, or an answer that was judged
//! and one to another prompt. Here losses of texts become losses of comparisons, slopes for the texts, and rewards.

use crate::evaluate::TextLoss;
use crate::events::Rewards;
use crate::preference::{JudgedAnswer, KtoSettings, Pair, PreferenceLoss, Reduction, kto_loss};
use crate::reference::References;

/// What is made small.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Comparison {
    /// A loss over pairs of a better and a worse answer.
    Pairs {
        loss: PreferenceLoss,
        /// `training.beta`.
        beta: f64,
    },
    /// KTO over answers that are good or bad each for itself.
    Judgements(KtoSettings),
}

/// The two texts of a sample under the policy.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ComparedTexts {
    /// The sample's row.
    pub(crate) row: usize,
    /// Of the answer, and of the one that it is compared with.
    pub(crate) losses: [TextLoss; 2],
    /// Whether the answer is a good one; of a pair the first always is.
    pub(crate) is_good: bool,
}

/// What a batch of comparisons gives.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Compared {
    pub(crate) loss: f64,
    /// The weight on the cross-entropy of each labelled token of either text with which the weighted sum has the gradient
    /// of the loss.
    pub(crate) token_weights: Vec<[f32; 2]>,
    /// Rewards of the samples.
    pub(crate) each: EachReward,
    pub(crate) rewards: Rewards,
}

/// Rewards sample by sample.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum EachReward {
    /// Of both answers of each pair.
    OfPairs(Vec<Pair>),
    /// Of each judged answer.
    OfAnswers(Vec<f64>),
}

impl Comparison {
    /// Whether the log-probabilities under a reference model are needed.
    pub(crate) fn needs_reference(self) -> bool {
        match self {
            Self::Pairs { loss, .. } => loss.needs_reference(),
            Self::Judgements(_) => true,
        }
    }

    /// Loss, weights and rewards of a batch; `references` are those of its rows.
    pub(crate) fn of(self, texts: &[ComparedTexts], references: &References) -> Compared {
        match self {
            Self::Pairs { loss, beta } => of_pairs(loss, beta, texts, references),
            Self::Judgements(settings) => of_judgements(settings, texts, references),
        }
    }
}

fn of_pairs(loss: PreferenceLoss, beta: f64, texts: &[ComparedTexts], references: &References) -> Compared {
    let reduction = loss.reduction();
    let pairs: Vec<_> = texts.iter().map(|both| references.pair(both.row, both.losses, reduction)).collect();
    let step = loss.of(beta, &pairs);
    let weights = texts.iter().zip(&step.derivatives).map(|(both, slope)| {
        let [chosen, rejected] = both.losses.map(|text| text.n_labels);
        [reduction.token_weight(slope.chosen, chosen), reduction.token_weight(slope.rejected, rejected)]
    });
    Compared {
        loss: step.loss,
        token_weights: weights.collect(),
        rewards: Rewards::of_pairs(&step),
        each: EachReward::OfPairs(step.rewards),
    }
}

fn of_judgements(settings: KtoSettings, texts: &[ComparedTexts], references: &References) -> Compared {
    let (mut answers, mut mismatched) = (Vec::new(), Vec::new());
    for both in texts {
        let pair = references.pair(both.row, both.losses, Reduction::Sum);
        let (policy, reference) = (pair.policy.chosen, pair.reference.chosen);
        answers.push(JudgedAnswer { policy, reference, is_desirable: both.is_good });
        mismatched.push((pair.policy.rejected, pair.reference.rejected));
    }
    let step = kto_loss(settings, &answers, &mismatched);
    // The divergence, which the mismatched answers are there for, takes no part in the derivative.
    let weight = |slope: &f64| [Reduction::Sum.token_weight(*slope, 0), 0.0];
    Compared {
        loss: step.loss,
        token_weights: step.derivatives.iter().map(weight).collect(),
        rewards: Rewards::of_answers(settings.beta, &step, &answers),
        each: EachReward::OfAnswers(step.rewards),
    }
}
