//! Gradients against central differences of the value, in case composed and fused versions share a mistake.

use tunesmith_ops::{
    Activation, AttentionOptions, CrossEntropyOptions, Dropout, LowRank, RotaryTable, Segments, Tensor,
    attention, cross_entropy_from_hidden, cross_entropy_from_hidden_with, gated, layer_norm, linear_low_rank,
    rms_norm, rotary,
};

use crate::compare::{Argument, Leaf, random, run, tracked};

/// Step of the differences: large enough that rounding of single-precision values stays small beside it.
const STEP: f32 = 2e-2;

fn check<const D: usize>(name: &str, arguments: &[Argument], f: impl Fn(&[Leaf]) -> Tensor<D>) {
    let (value, gradients) = run(arguments, &f);
    let dy = random(value.len(), 99);
    let loss = |arguments: &[Argument]| -> f64 {
        let frozen: Vec<Argument> =
            arguments.iter().cloned().map(|argument| Argument { tracked: false, ..argument }).collect();
        run(&frozen, &f).0.iter().zip(&dy).map(|(y, dy)| f64::from(*y) * f64::from(*dy)).sum()
    };
    let mut worst = 0.0_f64;
    for (idx, gradient) in gradients.iter().enumerate() {
        for (element, got) in gradient.as_ref().unwrap().iter().enumerate() {
            let moved = |by: f32| {
                let mut arguments = arguments.to_vec();
                arguments[idx].values[element] += by;
                loss(&arguments)
            };
            // Five points: the error of the formula itself is of fourth order in the step.
            let difference = (8.0 * (moved(STEP) - moved(-STEP)) - (moved(2.0 * STEP) - moved(-2.0 * STEP)))
                / (12.0 * f64::from(STEP));
            let error = (f64::from(*got) - difference).abs() / difference.abs().max(1.0);
            assert!(
                error < 1e-3,
                "{name}, input {idx}, element {element}: {got}, by differences {difference}"
            );
            worst = worst.max(error);
        }
    }
    println!("{name}: worst difference {worst:.2e}");
}

#[test]
fn norms() {
    check("rms_norm", &[tracked(&[3, 8], 1), tracked(&[8], 2)], |l| rms_norm(l[0].get(), l[1].get(), 1e-2));
    let arguments = [tracked(&[3, 8], 1), tracked(&[8], 2), tracked(&[8], 3)];
    check("layer_norm", &arguments, |l| layer_norm(l[0].get(), l[1].get(), l[2].get(), 1e-2));
}

#[test]
fn gates() {
    for kind in [Activation::Silu, Activation::GeluTanh, Activation::Gelu] {
        check("gated", &[tracked(&[3, 5], 1), tracked(&[3, 5], 2)], |l| gated(l[0].get(), l[1].get(), kind));
    }
}

#[test]
fn low_rank_with_dropout() {
    let arguments = [
        tracked(&[3, 5], 1),
        tracked(&[4, 5], 2),
        tracked(&[4], 3),
        tracked(&[2, 5], 4),
        tracked(&[4, 2], 5),
    ];
    check("linear_low_rank", &arguments, |l| {
        let dropout = Some(Dropout { probability: 0.4, key: 5 });
        let low_rank = LowRank { a: l[3].get(), b: l[4].get(), scale: 1.5, dropout };
        linear_low_rank(l[0].get(), l[1].get(), Some(l[2].get()), low_rank)
    });
}

#[test]
fn turned_and_attended() {
    let table = RotaryTable::new(&[1.0, 0.2], 1.0, 10);
    let segments = Segments::new(&[4, 1, 2]);
    let positions = [0, 1, 2, 3, 0, 0, 1];
    let options = AttentionOptions::new(0.8, Some(3));
    let arguments = [tracked(&[7, 2, 4], 1), tracked(&[7, 1, 4], 2), tracked(&[7, 1, 4], 3)];
    check("attention of turned heads", &arguments, |l| {
        let (q, k) = (rotary(l[0].get(), &positions, &table), rotary(l[1].get(), &positions, &table));
        attention(q, k, l[2].get(), &segments, options)
    });
}

#[test]
fn losses() {
    let arguments = [tracked(&[4, 3], 1), tracked(&[6, 3], 2)];
    check("cross entropy", &arguments, |l| {
        let weights = [0.5, 1.0, 2.0, -0.3];
        cross_entropy_from_hidden(l[0].get(), l[1].get(), &[5, -100, 0, 2], &weights).weighted_sum
    });
    for (cap, label_smoothing) in [(None, 0.2), (Some(1.5), 0.1)] {
        check("cross entropy of smoothed labels", &arguments, |l| {
            let options = CrossEntropyOptions { cap, label_smoothing };
            let (labels, weights) = ([5, -100, 0, 2], [0.5, 1.0, 2.0, -0.3]);
            cross_entropy_from_hidden_with(l[0].get(), l[1].get(), &labels, &weights, options).weighted_sum
        });
    }
}
