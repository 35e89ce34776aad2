//! What a profile says of real operations: their calls and their work, which follow from the shapes alone.

use std::collections::BTreeMap;

use tunesmith_ops::profile::{self, Work};
use tunesmith_ops::{
    Activation, AttentionOptions, Dropout, LowRank, RotaryTable, Rule, Segments, Tensor, attention,
    cross_entropy_from_hidden, dropout, embedding, gated, linear, linear_low_rank, open_device, rms_norm,
    rotary, sum_of_squares, update,
};

use crate::compare::{Argument, frozen, run, tracked};

/// Calls and work of each row that `compute` leaves behind.
fn account_of(compute: impl FnOnce()) -> BTreeMap<&'static str, (u64, Work)> {
    profile::switch(true);
    compute();
    profile::switch(false);
    profile::take().into_iter().map(|(name, row)| (name, (row.n_calls, row.work))).collect()
}

/// The work of `n_flops` operations on `n_values` numbers.
fn work(n_flops: u64, n_values: u64) -> Work {
    Work { n_flops, n_bytes: 4 * n_values }
}

#[track_caller]
fn assert_rows(account: &BTreeMap<&'static str, (u64, Work)>, expected: &[(&str, u64, Work)]) {
    for (name, n_calls, work) in expected {
        assert_eq!(account.get(name), Some(&(*n_calls, *work)), "{name} in {account:#?}");
    }
}

const N: usize = 6;
const WIDTH: usize = 10;

fn x() -> Argument {
    tracked(&[N, WIDTH], 1)
}

#[test]
fn off_by_default() {
    run(&[x(), tracked(&[WIDTH], 2)], |l| rms_norm(l[0].get(), l[1].get(), 1e-5));
    assert_eq!(profile::take(), BTreeMap::new());
}

#[test]
fn linear_has_a_product_for_the_result_and_for_each_gradient() {
    let (n_out, product) = (4, 2 * 6 * 10 * 4);
    let values = 60 + 40 + 24;
    let account = account_of(|| {
        run(&[x(), frozen(&[n_out, WIDTH], 2)], |l| linear(l[0].get(), l[1].get(), None));
    });
    assert_rows(
        &account,
        &[("linear forward", 1, work(product, values)), ("linear backward", 1, work(product, values))],
    );
    let account = account_of(|| {
        run(&[x(), tracked(&[n_out, WIDTH], 2)], |l| linear(l[0].get(), l[1].get(), None));
    });
    assert_rows(&account, &[("linear backward", 1, work(2 * product, 2 * values))]);
}

#[test]
fn a_low_rank_branch_adds_two_products_forward_and_four_backward() {
    let arguments = [x(), frozen(&[4, WIDTH], 2), tracked(&[3, WIDTH], 3), tracked(&[4, 3], 4)];
    let account = account_of(|| {
        run(&arguments, |l| {
            let low_rank = LowRank { a: l[2].get(), b: l[3].get(), scale: 2.0, dropout: None };
            linear_low_rank(l[0].get(), l[1].get(), None, low_rank)
        });
    });
    let base = work(2 * 6 * 10 * 4, 60 + 40 + 24);
    let (inner, outer) = (work(2 * 6 * 10 * 3, 60 + 30 + 18), work(2 * 6 * 3 * 4, 18 + 12 + 24));
    assert_rows(
        &account,
        &[
            ("linear_low_rank forward", 1, base + inner + outer),
            ("linear_low_rank backward", 1, base + inner + inner + outer + outer),
        ],
    );
}

#[test]
fn attention_counts_the_pairs_that_see_each_other() {
    // 2 query heads of width 5 over 1 key/value head; segments of 4 and 2 tokens have 10 and 3 pairs.
    let arguments = [tracked(&[N, 2, 5], 1), tracked(&[N, 1, 5], 2), tracked(&[N, 1, 5], 3)];
    let account = |window| {
        account_of(|| {
            run(&arguments, |l| {
                let options = AttentionOptions::new(0.4, window);
                attention(l[0].get(), l[1].get(), l[2].get(), &Segments::new(&[4, 2]), options)
            });
        })
    };
    let values = 60 + 30;
    assert_rows(
        &account(None),
        &[
            ("attention forward", 1, work(2 * 2 * 13 * 2 * 5, 2 * values)),
            ("attention backward", 1, work(2 * 5 * 13 * 2 * 5, 4 * values)),
        ],
    );
    // Each token sees itself and the one before: 7 and 3 pairs.
    assert_rows(&account(Some(2)), &[("attention forward", 1, work(2 * 2 * 10 * 2 * 5, 2 * values))]);
}

#[test]
fn elementwise_operations_have_traffic_only() {
    let account = account_of(|| {
        run(&[x(), tracked(&[N, WIDTH], 2)], |l| gated(l[0].get(), l[1].get(), Activation::Silu));
        run(&[x(), frozen(&[WIDTH], 2)], |l| rms_norm(l[0].get(), l[1].get(), 1e-5));
        run(&[x()], |l| dropout(l[0].get(), Dropout { probability: 0.5, key: 3 }));
        run(&[tracked(&[7, WIDTH], 1)], |l| embedding(l[0].get(), &[1, 6, 1]));
        let table = RotaryTable::new(&[1.0, 0.1], 1.0, 8);
        run(&[tracked(&[N, 1, 4], 1)], |l| rotary(l[0].get::<3>(), &[0, 1, 2, 3, 4, 5], &table));
    });
    assert_rows(
        &account,
        &[
            ("gated forward", 1, work(0, 3 * 60)),
            ("gated backward", 1, work(0, 5 * 60)),
            ("rms_norm forward", 1, work(0, 2 * 60)),
            ("rms_norm backward", 1, work(0, 3 * 60)),
            ("dropout forward", 1, work(0, 2 * 60)),
            ("dropout backward", 1, work(0, 2 * 60)),
            ("embedding forward", 1, work(0, 2 * 30)),
            ("embedding backward", 1, work(0, 2 * 30 + 70)),
            ("rotary forward", 1, work(0, 2 * 24)),
            ("rotary backward", 1, work(0, 2 * 24)),
        ],
    );
}

#[test]
fn the_head_counts_its_labelled_positions() {
    let account = account_of(|| {
        run(&[x(), frozen(&[7, WIDTH], 2)], |l| {
            let labels = [3, -100, 0, -100, 6, -100];
            cross_entropy_from_hidden(l[0].get(), l[1].get(), &labels, &[1.0; N]).weighted_sum
        });
    });
    // Logits and the gradient of the hidden states: the head is frozen.
    let product = work(2 * 3 * 10 * 7, 30 + 70 + 21);
    assert_rows(&account, &[("cross_entropy", 1, product + product)]);
}

#[test]
fn updates_and_norms_pass_over_their_arrays() {
    let device = open_device("cpu").unwrap();
    let rule = Rule::AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0 };
    let account = account_of(|| {
        let parameter = Tensor::<1>::ones([50], &device);
        let (gradient, state) = (parameter.clone(), rule.initial_state(&parameter));
        sum_of_squares(&gradient);
        update(&rule, 0.1, 1, parameter, gradient, state);
    });
    assert_rows(&account, &[("gradient norm", 1, work(0, 50)), ("optimizer update", 1, work(0, 7 * 50))]);
}
