//! What a run learns, by its configuration: the next token, scores of a text, or which answers are the better ones.

use tunesmith_config::{ExperimentConfig, LossFunction, ProblemType, ScoreHead};
use tunesmith_formats::ScoreProblem;
use tunesmith_models::{CausalLm, ScoreHeadKind, ScoreHeadSpec, ScoreLoss};

use crate::comparison::Comparison;
use crate::keys::{KeyUse, derive_key};
use crate::preference::{KtoSettings, PreferenceLoss};

/// What is learned, and with which loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Learning {
    /// The next token; token weights say what is averaged.
    Tokens,
    /// Classes, labels or numbers, from the last token of a text.
    Scores(ScoreLoss),
    /// To prefer some answers to others.
    Preferences(Comparison),
}

impl Learning {
    /// What a configuration learns; it has been checked, so its loss fits its problem type.
    pub(crate) fn of(config: &ExperimentConfig) -> Self {
        let training = &config.training;
        let loss = match training.loss_function {
            LossFunction::CrossEntropyLoss => return Self::Scores(ScoreLoss::CrossEntropy),
            LossFunction::BinaryCrossEntropyLoss => return Self::Scores(ScoreLoss::BinaryCrossEntropy),
            LossFunction::MseLoss => return Self::Scores(ScoreLoss::Mse),
            LossFunction::MaeLoss => return Self::Scores(ScoreLoss::Mae),
            LossFunction::TokenAveragedCrossEntropy | LossFunction::SampleAveragedCrossEntropy => {
                return Self::Tokens;
            }
            LossFunction::DpoLoss => PreferenceLoss::Dpo,
            LossFunction::DpoHingeLoss => PreferenceLoss::Hinge,
            LossFunction::DpoIpoLoss => PreferenceLoss::Ipo,
            LossFunction::KtoPairLoss => PreferenceLoss::KtoPair,
            LossFunction::CpoLoss => PreferenceLoss::Cpo,
            LossFunction::SimPoLoss => PreferenceLoss::SimPo { gamma: training.simpo_gamma },
            LossFunction::OrpoLoss => PreferenceLoss::Orpo,
            LossFunction::KtoLoss => {
                return Self::Preferences(Comparison::Judgements(KtoSettings {
                    beta: training.beta,
                    desirable_weight: training.kto_desirable_weight,
                    undesirable_weight: training.kto_undesirable_weight,
                }));
            }
        };
        Self::Preferences(Comparison::Pairs { loss, beta: training.beta })
    }

    /// Whether the model is compared with the one it starts from.
    pub(crate) fn needs_reference(self) -> bool {
        matches!(self, Self::Preferences(comparison) if comparison.needs_reference())
    }
}

/// The score head that a configuration asks for; `None` where the next token is learned.
pub(crate) fn score_head(config: &ExperimentConfig, seed: u64) -> Option<ScoreHeadSpec> {
    let is_classification = match config.problem_type {
        ProblemType::CausalClassificationModeling => true,
        ProblemType::CausalRegressionModeling => false,
        _ => return None,
    };
    let kind = match (config.architecture.score_head, is_classification) {
        (ScoreHead::Hidden, _) => ScoreHeadKind::OnHidden,
        (ScoreHead::Logits, true) => ScoreHeadKind::ClassificationOnLogits,
        (ScoreHead::Logits, false) => ScoreHeadKind::RegressionOnLogits,
    };
    let n_outputs =
        if is_classification { config.dataset.num_classes } else { config.dataset.answer_column.all().len() };
    Some(ScoreHeadSpec { kind, n_outputs, seed: derive_key(seed, KeyUse::HeadInit, &[]) })
}

/// Gives the scores of a model the names that a configuration, whose labels are found, has for them.
pub(crate) fn name_scores(model: &mut CausalLm, config: &ExperimentConfig) {
    model.name_scores(config.named_outputs().unwrap_or_default());
}

/// What the scores mean to other programs.
pub(crate) fn score_problem(config: &ExperimentConfig) -> ScoreProblem {
    match config.training.loss_function {
        LossFunction::BinaryCrossEntropyLoss => ScoreProblem::MultiLabel,
        LossFunction::MseLoss | LossFunction::MaeLoss => ScoreProblem::Regression,
        _ => ScoreProblem::SingleLabel,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_have_an_output_for_each_class_or_number() {
        let mut config = ExperimentConfig::for_problem_type(ProblemType::CausalClassificationModeling);
        config.dataset.num_classes = 5;
        let head = score_head(&config, 1).unwrap();
        assert_eq!((head.kind, head.n_outputs), (ScoreHeadKind::OnHidden, 5));
        config.architecture.score_head = ScoreHead::Logits;
        assert_eq!(score_head(&config, 1).unwrap().kind, ScoreHeadKind::ClassificationOnLogits);
        let mut config = ExperimentConfig::for_problem_type(ProblemType::CausalRegressionModeling);
        config.dataset.answer_column = vec!["x".to_owned(), "y".to_owned(), "z".to_owned()].into();
        assert_eq!(score_head(&config, 1).unwrap().n_outputs, 3);
        assert_eq!(score_head(&ExperimentConfig::default(), 1), None);
    }

    #[test]
    fn losses_follow_the_configuration() {
        let mut config = ExperimentConfig::for_problem_type(ProblemType::DpoModeling);
        assert!(Learning::of(&config).needs_reference());
        config.training.loss_function = LossFunction::SimPoLoss;
        config.training.simpo_gamma = 1.5;
        let expected = Learning::Preferences(Comparison::Pairs {
            loss: PreferenceLoss::SimPo { gamma: 1.5 },
            beta: 0.2,
        });
        assert_eq!(Learning::of(&config), expected);
        assert!(!expected.needs_reference());
        config.training.loss_function = LossFunction::OrpoLoss;
        assert!(!Learning::of(&config).needs_reference());
        config.training.loss_function = LossFunction::KtoLoss;
        config.training.kto_undesirable_weight = 1.5;
        let settings = KtoSettings { beta: 0.2, desirable_weight: 1.0, undesirable_weight: 1.5 };
        assert_eq!(Learning::of(&config), Learning::Preferences(Comparison::Judgements(settings)));
        assert!(Learning::of(&config).needs_reference());
        assert_eq!(Learning::of(&ExperimentConfig::default()), Learning::Tokens);
    }
}
