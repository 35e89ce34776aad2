use tunesmith_ops::{scale_columns, scale_columns_composed};

use crate::compare::{assert_same, frozen, tracked};

#[test]
fn scaled_columns_match_their_composition() {
    for [n, width] in [[1, 1], [1, 7], [5, 64], [67, 33]] {
        for make in [tracked, frozen] {
            assert_same(
                "scale_columns",
                1e-5,
                &[tracked(&[n, width], 1), make(&[width], 2), make(&[width], 3)],
                |l| scale_columns(l[0].get(), l[1].get(), Some(l[2].get())),
                |l| scale_columns_composed(l[0].get(), l[1].get(), Some(l[2].get())),
            );
        }
        assert_same(
            "scale_columns without a bias",
            1e-5,
            &[frozen(&[n, width], 1), tracked(&[width], 2)],
            |l| scale_columns(l[0].get(), l[1].get(), None),
            |l| scale_columns_composed(l[0].get(), l[1].get(), None),
        );
    }
}

#[test]
#[should_panic(expected = "scale_columns: scale [O] is [3], expected [4]")]
fn a_wrong_shape_is_named() {
    crate::compare::run(&[frozen(&[2, 4], 1), frozen(&[3], 2)], |l| {
        scale_columns(l[0].get(), l[1].get(), None)
    });
}
