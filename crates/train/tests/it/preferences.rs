//! Gradients of a whole model under preference losses against PyTorch's: log-probabilities from one pass, derivatives of
//! the loss over them, and a step on the cross-entropy with those as weights.

use tunesmith_formats::model_source::ModelSource;
use tunesmith_formats::peft::read_adapter;
use tunesmith_models::{CausalLm, LossPass, StepOptions, TokenBatch, read_back};
use tunesmith_ops::{Segments, open_device};
use tunesmith_train::{JudgedAnswer, KtoSettings, Pair, PreferenceLoss, PreferencePair, Reduction, kto_loss};

use crate::digest::digest;
use crate::support::golden;

/// The answers of two pairs with what stands before them, in the order chosen, rejected, chosen, rejected.
struct Answers {
    ids: Vec<u32>,
    positions: Vec<u32>,
    labels: Vec<i64>,
    segments: Segments,
}

impl Answers {
    fn of(reference: &serde_json::Value) -> Self {
        let (mut ids, mut positions, mut labels, mut lengths) = (vec![], vec![], vec![], vec![]);
        for sequence in reference["sequences"].as_array().unwrap() {
            let own_ids: Vec<u32> = serde_json::from_value(sequence["ids"].clone()).unwrap();
            let own_labels: Vec<i64> = serde_json::from_value(sequence["labels"].clone()).unwrap();
            positions.extend(0..own_ids.len() as u32);
            lengths.push(own_ids.len());
            ids.extend(own_ids);
            labels.extend(&own_labels[1..]);
            labels.push(-100);
        }
        Self { ids, positions, labels, segments: Segments::new(&lengths) }
    }

    fn tokens(&self) -> TokenBatch<'_> {
        TokenBatch { ids: &self.ids, positions: &self.positions, segments: &self.segments }
    }

    fn n_labels(&self, range: std::ops::Range<usize>) -> usize {
        self.labels[range].iter().filter(|label| **label >= 0).count()
    }

    fn log_probabilities(&self, model: &CausalLm, which: LossPass<'_>, reduction: Reduction) -> Vec<f64> {
        let weights = vec![1.0; self.labels.len()];
        let losses = model.losses_in(&self.tokens(), &self.labels, &weights, which).unwrap().per_token;
        let answers = self.segments.ranges();
        answers.map(|r| reduction.log_probability(&losses[r.clone()], self.n_labels(r))).collect()
    }

    /// The weight of each token for the derivatives with respect to the answers' log-probabilities.
    fn weights(&self, derivatives: &[Pair], reduction: Reduction) -> Vec<f32> {
        let derivatives = derivatives.iter().flat_map(|pair| [pair.chosen, pair.rejected]);
        let answers = self.segments.ranges().zip(derivatives);
        answers
            .flat_map(|(range, derivative)| {
                let weight = reduction.token_weight(derivative, self.n_labels(range.clone()));
                range.map(move |_| weight)
            })
            .collect()
    }
}

fn worst_difference(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs() / b.abs().max(1.0)).fold(0.0, f64::max)
}

#[derive(Clone, Copy)]
struct Settings {
    gamma: f64,
    kto: KtoSettings,
}

/// The loss over pairs that a case names; `None` for KTO over judged answers.
fn loss_over_pairs(name: &str, gamma: f64) -> Option<PreferenceLoss> {
    let losses = [
        PreferenceLoss::Dpo,
        PreferenceLoss::Hinge,
        PreferenceLoss::Ipo,
        PreferenceLoss::KtoPair,
        PreferenceLoss::Cpo,
        PreferenceLoss::SimPo { gamma },
        PreferenceLoss::Orpo,
    ];
    (name != "Kto").then(|| losses.into_iter().find(|loss| format!("{loss:?}").starts_with(name)).unwrap())
}

/// Loss and slopes of KTO; the first of each two answers is judged, the second belongs to another prompt.
fn kto_over(pairs: &[PreferencePair], settings: KtoSettings) -> (f64, Vec<Pair>) {
    let judged = |(pair, is_desirable): (&PreferencePair, bool)| JudgedAnswer {
        policy: pair.policy.chosen,
        reference: pair.reference.chosen,
        is_desirable,
    };
    let answers: Vec<JudgedAnswer> = pairs.iter().zip([true, false]).map(judged).collect();
    let mismatched: Vec<(f64, f64)> =
        pairs.iter().map(|pair| (pair.policy.rejected, pair.reference.rejected)).collect();
    let step = kto_loss(settings, &answers, &mismatched);
    let slopes = step.derivatives.into_iter().map(|chosen| Pair { chosen, rejected: 0.0 });
    (step.loss, slopes.collect())
}

/// `base` is the model without the adapter, which PyTorch's reference is.
fn check(
    model: &CausalLm,
    base: &CausalLm,
    answers: &Answers,
    case: &serde_json::Value,
    settings: Settings,
) -> f64 {
    let numbers = |value: &serde_json::Value| -> Vec<f64> { serde_json::from_value(value.clone()).unwrap() };
    let name = case["loss_function"].as_str().unwrap();
    let over_pairs = loss_over_pairs(name, settings.gamma);
    let reduction = over_pairs.map_or(Reduction::Sum, PreferenceLoss::reduction);

    let options = StepOptions::default();
    let which = LossPass::Training(options);
    let policy = answers.log_probabilities(model, which, reduction);
    let reference = match model.has_adapter() {
        true => answers.log_probabilities(base, LossPass::Evaluation, reduction),
        false => numbers(&case["reference"]),
    };
    let of_policy = worst_difference(&policy, &numbers(&case["policy"]));
    let of_reference = worst_difference(&reference, &numbers(&case["reference"]));
    let pair = |numbers: &[f64]| Pair { chosen: numbers[0], rejected: numbers[1] };
    let pairs: Vec<PreferencePair> = policy
        .chunks(2)
        .zip(reference.chunks(2))
        .map(|(policy, reference)| PreferencePair { policy: pair(policy), reference: pair(reference) })
        .collect();
    let (loss, slopes) = match over_pairs {
        Some(loss) => {
            let step = loss.of(settings.kto.beta, &pairs);
            (step.loss, step.derivatives)
        }
        None => kto_over(&pairs, settings.kto),
    };
    let of_loss = worst_difference(&[loss], &[case["loss"].as_f64().unwrap()]);

    let weights = answers.weights(&slopes, reduction);
    let result = model.loss_and_gradients(&answers.tokens(), &answers.labels, &weights, &options).unwrap();
    let expected = case["gradients"].as_object().unwrap();
    assert_eq!(result.gradients.len(), expected.len(), "{name}");
    let mut of_gradients = 0.0f64;
    for (parameter_idx, gradient) in result.gradients {
        let parameter = &model.parameters().get(parameter_idx).unwrap().name;
        let found = read_back(gradient, "gradient").unwrap();
        let expected = numbers(&expected[parameter]);
        let scale = expected[0] * (found.len() as f64).sqrt().min(8.0);
        let differences = digest(&found).into_iter().zip(&expected).map(|(a, b)| (a - b).abs() / scale);
        let worst = differences.fold(0.0, f64::max);
        assert!(expected[0] > 1e-6 && worst < 2e-5, "{name}: gradient of {parameter} differs by {worst}");
        of_gradients = of_gradients.max(worst);
    }
    let worst = of_policy.max(of_reference).max(of_loss);
    assert!(worst < 5e-6, "{name}: {of_policy}, {of_reference}, {of_loss}");
    worst.max(of_gradients)
}

#[test]
fn gradients_of_preference_losses_are_those_of_pytorch() {
    let path = golden("preferences.json");
    let reference: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let answers = Answers::of(&reference);
    let [beta, gamma] = ["beta", "gamma"].map(|key| reference[key].as_f64().unwrap());
    let [desirable_weight, undesirable_weight]: [f64; 2] =
        serde_json::from_value(reference["kto_weights"].clone()).unwrap();
    let settings = Settings { gamma, kto: KtoSettings { beta, desirable_weight, undesirable_weight } };
    let cases = reference["models"].as_array().unwrap();
    assert_eq!(cases.len(), 2 * 8);
    let source = ModelSource::open(&golden("llama-mha")).unwrap();
    let mut worst = 0.0f64;
    for case in cases {
        let load = || CausalLm::load(&source, &open_device("cpu").unwrap()).unwrap();
        let (mut model, base) = (load(), load());
        if case["model"] == "llama-mha-lora" {
            let (config, tensors) = read_adapter(&golden("llama-mha-lora")).unwrap();
            model.load_adapter(&config, tensors).unwrap();
        }
        worst = worst.max(check(&model, &base, &answers, case, settings));
    }
    println!("preference losses: worst relative difference {worst:.1e}");
}
