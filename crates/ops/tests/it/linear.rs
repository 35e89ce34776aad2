use tunesmith_ops::{
    Dropout, LowRank, dropout, dropout_composed, embedding, embedding_composed, linear, linear_composed,
    linear_low_rank, linear_low_rank_composed,
};

use crate::compare::{Leaf, assert_same, frozen, tracked};

#[test]
fn linear_matches_its_composition() {
    for (n, n_in, n_out) in [(1, 1, 1), (1, 33, 5), (4, 64, 70), (7, 5, 3), (41, 24, 17)] {
        for weight in [tracked(&[n_out, n_in], 2), frozen(&[n_out, n_in], 2)] {
            let arguments = [tracked(&[n, n_in], 1), weight, tracked(&[n_out], 3)];
            assert_same(
                "linear",
                1e-5,
                &arguments,
                |l| linear(l[0].get(), l[1].get(), Some(l[2].get())),
                |l| linear_composed(l[0].get(), l[1].get(), Some(l[2].get())),
            );
            assert_same(
                "linear without bias",
                1e-5,
                &arguments[..2],
                |l| linear(l[0].get(), l[1].get(), None),
                |l| linear_composed(l[0].get(), l[1].get(), None),
            );
        }
    }
}

#[test]
fn a_transposed_weight_is_read_in_its_order() {
    assert_same(
        "linear with a transposed weight",
        1e-5,
        &[tracked(&[9, 12], 1), tracked(&[12, 7], 2)],
        |l| linear(l[0].get(), l[1].get::<2>().transpose(), None),
        |l| linear_composed(l[0].get(), l[1].get::<2>().transpose(), None),
    );
}

#[test]
fn linear_low_rank_matches_its_composition() {
    let low_rank = |l: &[Leaf], dropout| LowRank { a: l[3].get(), b: l[4].get(), scale: 1.7, dropout };
    for (n, n_in, n_out, rank) in [(1, 1, 1, 1), (1, 40, 9, 4), (5, 33, 21, 8), (300, 10, 12, 3)] {
        for dropout in
            [None, Some(Dropout { probability: 0.2, key: 42 }), Some(Dropout { probability: 0.0, key: 1 })]
        {
            for make_base in [tracked, frozen] {
                let arguments = [
                    tracked(&[n, n_in], 1),
                    make_base(&[n_out, n_in], 2),
                    make_base(&[n_out], 3),
                    tracked(&[rank, n_in], 4),
                    tracked(&[n_out, rank], 5),
                ];
                assert_same(
                    "linear_low_rank",
                    2e-5,
                    &arguments,
                    |l| linear_low_rank(l[0].get(), l[1].get(), Some(l[2].get()), low_rank(l, dropout)),
                    |l| {
                        linear_low_rank_composed(
                            l[0].get(),
                            l[1].get(),
                            Some(l[2].get()),
                            low_rank(l, dropout),
                        )
                    },
                );
            }
        }
    }
}

#[test]
fn the_first_layer_needs_no_gradient_of_its_input() {
    assert_same(
        "linear_low_rank on a frozen input",
        1e-5,
        &[frozen(&[6, 8], 1), frozen(&[5, 8], 2), frozen(&[5], 3), tracked(&[2, 8], 4), tracked(&[5, 2], 5)],
        |l| {
            linear_low_rank(
                l[0].get(),
                l[1].get(),
                None,
                LowRank { a: l[3].get(), b: l[4].get(), scale: 0.5, dropout: None },
            ) + l[2].get::<1>().unsqueeze()
        },
        |l| {
            linear_low_rank_composed(
                l[0].get(),
                l[1].get(),
                None,
                LowRank { a: l[3].get(), b: l[4].get(), scale: 0.5, dropout: None },
            ) + l[2].get::<1>().unsqueeze()
        },
    );
}

#[test]
fn dropout_matches_its_composition() {
    for probability in [0.0, 0.4, 1.0] {
        let setting = Dropout { probability, key: 3 };
        assert_same(
            "dropout",
            1e-6,
            &[tracked(&[13, 37], 1)],
            |l| dropout(l[0].get(), setting),
            |l| dropout_composed(l[0].get(), setting),
        );
    }
}

#[test]
fn embedding_matches_its_composition() {
    for ids in [vec![], vec![3_u32], vec![0, 4, 4, 2, 0, 0, 4]] {
        if ids.is_empty() {
            // Burn refuses an empty selection; ours is an empty result.
            let (y, _) = crate::compare::run(&[tracked(&[5, 6], 1)], |l| embedding(l[0].get(), &ids));
            assert!(y.is_empty());
            continue;
        }
        assert_same(
            "embedding",
            1e-6,
            &[tracked(&[5, 6], 1)],
            |l| embedding(l[0].get(), &ids),
            |l| embedding_composed(l[0].get(), &ids),
        );
    }
}

#[test]
#[should_panic(expected = "embedding: id 5 lies beyond the 5 rows of the table")]
fn an_id_beyond_the_table_is_named() {
    crate::compare::run(&[frozen(&[5, 6], 1)], |l| embedding(l[0].get(), &[1, 5]));
}
