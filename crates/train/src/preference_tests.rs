//! Preference losses against published numbers, PyTorch's, finite differences, and limits.

use super::*;

const LOSSES: [PreferenceLoss; 7] = [
    PreferenceLoss::Dpo,
    PreferenceLoss::Hinge,
    PreferenceLoss::Ipo,
    PreferenceLoss::KtoPair,
    PreferenceLoss::Cpo,
    PreferenceLoss::SimPo { gamma: 0.7 },
    PreferenceLoss::Orpo,
];

fn pairs(chosen: &[f64], rejected: &[f64], ref_chosen: &[f64], ref_rejected: &[f64]) -> Vec<PreferencePair> {
    (0..chosen.len())
        .map(|i| PreferencePair {
            policy: Pair { chosen: chosen[i], rejected: rejected[i] },
            reference: Pair { chosen: ref_chosen[i], rejected: ref_rejected[i] },
        })
        .collect()
}

/// H2O LLM Studio's numbers for z = (2, 0).
#[test]
fn gv_5_3_preference_losses() {
    let batch = pairs(&[-10.0, -12.0], &[-14.0, -11.0], &[-11.0, -12.5], &[-13.0, -11.5]);
    let expected = [
        (PreferenceLoss::Dpo, 0.603_081_216_5),
        (PreferenceLoss::Hinge, 0.8),
        (PreferenceLoss::Ipo, 3.25),
        (PreferenceLoss::KtoPair, 0.456_517_960_0),
        (PreferenceLoss::Cpo, 0.584_619_767_7),
        (PreferenceLoss::SimPo { gamma: 1.0 }, 1.130_710_668_4),
    ];
    for (loss, expected) in expected {
        let step = loss.of(0.2, &batch);
        assert!((step.loss - expected).abs() < 1e-10, "{loss:?}: {}", step.loss);
        if loss.needs_reference() {
            let means = step.mean_rewards();
            assert!(
                (means.chosen - 0.15).abs() < 1e-12 && (means.rejected + 0.05).abs() < 1e-12,
                "{means:?}"
            );
            assert!((step.margin() - 0.2).abs() < 1e-12);
            assert_eq!(step.accuracy(), 0.5);
        } else {
            assert!((step.mean_rewards().chosen + 2.2).abs() < 1e-12, "{loss:?}");
        }
    }
}

#[test]
fn losses_and_derivatives_are_those_of_pytorch() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/preferences.json");
    let golden: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let beta = golden["beta"].as_f64().unwrap();
    let numbers = |value: &serde_json::Value| -> Vec<f64> {
        value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
    };
    let check = |what: &str, found: f64, expected: f64| {
        assert!((found - expected).abs() < 1e-12 * (1.0 + expected.abs()), "{what}: {found}, {expected}");
    };
    let batches = golden["functions"].as_array().unwrap();
    assert_eq!(batches.len(), 3);
    for batch in batches {
        let [pc, pr, rc, rr] = ["policy_chosen", "policy_rejected", "reference_chosen", "reference_rejected"]
            .map(|k| numbers(&batch[k]));
        for loss in LOSSES {
            let name = format!("{loss:?}");
            let name = name.split(' ').next().unwrap();
            let expected = &batch["losses"][name];
            let step = loss.of(beta, &pairs(&pc, &pr, &rc, &rr));
            check(name, step.loss, expected["loss"].as_f64().unwrap());
            let (chosen, rejected) = (numbers(&expected["d_chosen"]), numbers(&expected["d_rejected"]));
            assert_eq!(step.derivatives.len(), chosen.len());
            for ((found, chosen), rejected) in step.derivatives.iter().zip(chosen).zip(rejected) {
                check(name, found.chosen, chosen);
                check(name, found.rejected, rejected);
            }
        }

        let expected = &batch["losses"]["Kto"];
        let weights = numbers(&expected["weights"]);
        let settings = KtoSettings { beta, desirable_weight: weights[0], undesirable_weight: weights[1] };
        let judgements = expected["is_desirable"].as_array().unwrap();
        let answers: Vec<JudgedAnswer> = (0..pc.len())
            .map(|i| JudgedAnswer {
                policy: pc[i],
                reference: rc[i],
                is_desirable: judgements[i].as_bool().unwrap(),
            })
            .collect();
        let mismatched: Vec<(f64, f64)> = pr.iter().copied().zip(rr).collect();
        let step = kto_loss(settings, &answers, &mismatched);
        check("KTO", step.loss, expected["loss"].as_f64().unwrap());
        check("divergence", step.divergence, expected["divergence"].as_f64().unwrap());
        for (found, expected) in step.derivatives.iter().zip(numbers(&expected["derivative"])) {
            check("KTO", *found, expected);
        }
        for (reward, answer) in step.rewards.iter().zip(&answers) {
            check("reward", *reward, beta * (answer.policy - answer.reference));
        }
    }
}

#[test]
fn derivatives_are_finite_differences() {
    // Divergences above and below 0, and both sides of the hinge.
    let batches = [
        pairs(&[-1.0, -2.5, -0.4], &[-1.5, -2.0, -9.0], &[-1.75, -2.0, -1.0], &[-1.4, -2.9, -2.0]),
        pairs(&[-3.0, -2.5], &[-1.5, -4.0], &[-1.5, -2.0], &[-1.4, -2.9]),
    ];
    const STEP: f64 = 1e-5;
    for (loss, batch) in LOSSES.into_iter().flat_map(|loss| batches.iter().map(move |batch| (loss, batch))) {
        let derivatives = loss.of(0.3, batch).derivatives;
        for (i, derivative) in derivatives.iter().enumerate() {
            let at = |chosen: f64, rejected: f64| {
                let mut batch = batch.clone();
                batch[i].policy.chosen += chosen;
                batch[i].policy.rejected += rejected;
                loss.of(0.3, &batch).loss
            };
            let found = [
                (at(STEP, 0.0) - at(-STEP, 0.0)) / (2.0 * STEP),
                (at(0.0, STEP) - at(0.0, -STEP)) / (2.0 * STEP),
            ];
            let expected = [derivative.chosen, derivative.rejected];
            for (found, expected) in found.into_iter().zip(expected) {
                assert!((found - expected).abs() < 1e-7, "{loss:?} {i}: {found}, {expected}");
            }
        }
    }

    let settings = KtoSettings { beta: 0.3, desirable_weight: 1.0, undesirable_weight: 1.5 };
    let answers = [(-1.0, -1.5, true), (-2.0, -1.0, false), (-0.5, -3.0, false)]
        .map(|(policy, reference, is_desirable)| JudgedAnswer { policy, reference, is_desirable });
    let mismatched = [(-4.0, -5.0), (-3.0, -2.5)];
    for (i, expected) in kto_loss(settings, &answers, &mismatched).derivatives.into_iter().enumerate() {
        let at = |step: f64| {
            let mut answers = answers;
            answers[i].policy += step;
            kto_loss(settings, &answers, &mismatched).loss
        };
        let found = (at(STEP) - at(-STEP)) / (2.0 * STEP);
        assert!((found - expected).abs() < 1e-8, "{i}: {found}, {expected}");
    }
}

/// The numbers of H2O LLM Studio's own test: equal answers are rewarded alike.
#[test]
fn gv_11_2_equal_answers_have_no_margin() {
    for loss in LOSSES {
        let step = loss.of(0.1, &pairs(&[-1.5], &[-1.5], &[-1.0], &[-1.0]));
        assert_eq!((step.margin(), step.accuracy()), (0.0, 0.0));
        assert!(step.derivatives[0].chosen < 0.0 && step.derivatives[0].rejected > 0.0, "{loss:?}");
    }
}

#[test]
fn extreme_and_empty_batches_give_numbers() {
    for loss in LOSSES {
        let batch = pairs(&[0.0, -1e6], &[-1e6, 0.0], &[-1e6, 0.0], &[0.0, -1e6]);
        let step = loss.of(0.5, &batch);
        let derivatives = step.derivatives.iter().flat_map(|d| [d.chosen, d.rejected]);
        assert!(step.loss.is_finite() && derivatives.into_iter().all(f64::is_finite), "{loss:?}: {step:?}");
        let empty = loss.of(0.5, &[]);
        assert_eq!((empty.loss, empty.margin(), empty.accuracy()), (0.0, 0.0, 0.0));
        assert!(empty.derivatives.is_empty() && empty.rewards.is_empty());
    }
    let settings = KtoSettings { beta: 0.1, desirable_weight: 1.0, undesirable_weight: 1.0 };
    assert_eq!(kto_loss(settings, &[], &[]), KtoStep::default());
}

#[test]
fn log_probabilities_are_sums_or_means() {
    let losses = [0.0f32, 1.5, 0.5, 0.0];
    assert_eq!(Reduction::Sum.log_probability(&losses, 2), -2.0);
    assert_eq!(Reduction::Mean.log_probability(&losses, 2), -1.0);
    assert_eq!(Reduction::Sum.token_weight(-0.5, 2), 0.5);
    assert_eq!(Reduction::Mean.token_weight(-0.5, 2), 0.25);
    let is_mean = LOSSES.map(|loss| loss.reduction() == Reduction::Mean);
    assert_eq!(is_mean, [false, true, true, false, false, true, true]);
    let has_reference = LOSSES.map(PreferenceLoss::needs_reference);
    assert_eq!(has_reference, [true, true, true, true, false, false, false]);
}
