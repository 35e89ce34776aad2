//! Weights in other number formats, and products in bfloat16.

use tunesmith_ops::{
    AttentionOptions, Compute, Device, Format, LowRank, Segments, StoredWeight, Tensor, Weight, attention,
    attention_composed, cross_entropy_from_hidden, cross_entropy_from_hidden_composed, embedding, linear,
    linear_composed, linear_low_rank, stored_weight, unpacked,
};

use crate::compare::{Argument, Leaf, Outcome, frozen, random, run, tracked, worst_difference};

const FORMATS: [Format; 7] =
    [Format::F32, Format::Bf16, Format::F16, Format::Q8_0, Format::Q4_0, Format::Q4_1, Format::Nf4];

fn stored(n_out: usize, n_in: usize, format: Format) -> StoredWeight {
    stored_weight(&random(n_out * n_in, 2), n_out, n_in, format).unwrap()
}

fn values(weight: &StoredWeight) -> Tensor<2> {
    unpacked(weight, &Device::flex()).autodiff()
}

/// An operation over a stored weight gives, to the bit, what it gives over the float32 values that the weight holds.
#[track_caller]
fn same_as_its_values<const D: usize>(
    weight: &StoredWeight,
    arguments: &[Argument],
    f: impl Fn(&[Leaf], Weight) -> Tensor<D>,
) {
    let over_stored = run(arguments, |l| f(l, weight.clone().into()));
    let over_values = run(arguments, |l| f(l, values(weight).into()));
    assert_eq!(over_stored, over_values, "{:?}", weight.format());
}

#[test]
fn stored_weights_give_what_their_values_give() {
    for format in FORMATS {
        let (n, n_in, n_out, rank) = (20, 64, 96, 3);
        let weight = stored(n_out, n_in, format);
        let arguments = [
            tracked(&[n, n_in], 1),
            tracked(&[n_out], 3),
            tracked(&[rank, n_in], 4),
            tracked(&[n_out, rank], 5),
        ];
        for compute in [Compute::F32, Compute::Bf16] {
            same_as_its_values(&weight, &arguments, |l, w| {
                linear(l[0].get(), w.computed_in(compute), Some(l[1].get()))
            });
            same_as_its_values(&weight, &arguments, |l, w| {
                let low_rank = LowRank { a: l[2].get(), b: l[3].get(), scale: 0.5, dropout: None };
                linear_low_rank(l[0].get(), w.computed_in(compute), Some(l[1].get()), low_rank)
            });
            same_as_its_values(&weight, &arguments[..1], |l, w| {
                let labels: Vec<i64> = (0..n as i64).map(|i| i * 7 % 96 - 3).collect();
                let weights = vec![0.1; n];
                cross_entropy_from_hidden(l[0].get(), w.computed_in(compute), &labels, &weights).weighted_sum
            });
        }
        same_as_its_values(&weight, &[], |_, w| embedding(w, &[0, 95, 7, 7]));
    }
}

/// bfloat16 keeps 8 bits: each factor is off by 2⁻⁹ of itself at most.
const BF16_NOISE: f32 = 0.03;

#[track_caller]
fn near(name: &str, got: &Outcome, want: &Outcome) {
    let mut worst = worst_difference(&got.0, &want.0);
    for (got, want) in got.1.iter().zip(&want.1) {
        if let (Some(got), Some(want)) = (got, want) {
            worst = worst.max(worst_difference(got, want));
        }
    }
    println!("{name}: worst difference {worst:.2e}");
    assert!(0.0 < worst && worst < BF16_NOISE, "{name}: {worst}");
}

/// Against float32, and against Burn's operations on rounded factors.
#[test]
fn bfloat16_products_are_near_those_of_float32() {
    let arguments = [tracked(&[20, 64], 1), tracked(&[40, 64], 2)];
    let product = |compute| {
        run(&arguments, |l| linear(l[0].get(), Weight::from(l[1].get::<2>()).computed_in(compute), None))
    };
    let composed = run(&arguments, |l| {
        linear_composed(l[0].get(), Weight::from(l[1].get::<2>()).computed_in(Compute::Bf16), None)
    });
    near("linear", &product(Compute::Bf16), &product(Compute::F32));
    let (fused, composed) = (product(Compute::Bf16).0, composed.0);
    assert!(worst_difference(&fused, &composed) < 1e-5, "the same rounded factors, summed otherwise");

    let arguments = [tracked(&[12, 4, 8], 1), tracked(&[12, 2, 8], 2), tracked(&[12, 2, 8], 3)];
    let segments = Segments::new(&[5, 7]);
    let options = |compute| AttentionOptions { compute, ..AttentionOptions::new(0.4, None) };
    let attend = |compute| {
        run(&arguments, |l| attention(l[0].get(), l[1].get(), l[2].get(), &segments, options(compute)))
    };
    let composed = run(&arguments, |l| {
        attention_composed(l[0].get(), l[1].get(), l[2].get(), &segments, options(Compute::Bf16))
    });
    near("attention", &attend(Compute::Bf16), &attend(Compute::F32));
    near("attention, composed", &composed, &attend(Compute::F32));

    let arguments = [tracked(&[6, 32], 1), frozen(&[50, 32], 2)];
    let (labels, weights) = ([3, -100, 0, 49, 7, 7], [0.2; 6]);
    let loss = |compute| {
        run(&arguments, |l| {
            let head = Weight::from(l[1].get::<2>()).computed_in(compute);
            cross_entropy_from_hidden(l[0].get(), head, &labels, &weights).weighted_sum
        })
    };
    let composed = run(&arguments, |l| {
        let head = Weight::from(l[1].get::<2>()).computed_in(Compute::Bf16);
        cross_entropy_from_hidden_composed(l[0].get(), head, &labels, &weights).weighted_sum
    });
    near("cross-entropy", &loss(Compute::Bf16), &loss(Compute::F32));
    near("cross-entropy, composed", &composed, &loss(Compute::F32));
}

#[test]
fn rows_that_are_no_whole_number_of_blocks_are_refused() {
    assert!(stored_weight(&random(40, 1), 1, 40, Format::Q4_1).is_none());
    assert!(stored_weight(&random(40, 1), 2, 40, Format::Bf16).is_none());
    assert_eq!(stored(3, 40, Format::F16).dims(), [3, 40]);
}
