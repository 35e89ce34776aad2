use tunesmith_ops::{layer_norm, layer_norm_composed, rms_norm, rms_norm_composed};

use crate::compare::{assert_same, frozen, tracked};

const SHAPES: [[usize; 2]; 4] = [[1, 1], [1, 7], [5, 64], [67, 33]];

#[test]
fn rms_norm_matches_its_composition() {
    for shape in SHAPES {
        for weight in [tracked(&[shape[1]], 2), frozen(&[shape[1]], 2)] {
            assert_same(
                "rms_norm",
                1e-5,
                &[tracked(&shape, 1), weight],
                |l| rms_norm(l[0].get(), l[1].get(), 1e-5),
                |l| rms_norm_composed(l[0].get(), l[1].get(), 1e-5),
            );
        }
    }
}

#[test]
fn layer_norm_matches_its_composition() {
    for shape in SHAPES {
        for make in [tracked, frozen] {
            assert_same(
                "layer_norm",
                1e-5,
                &[tracked(&shape, 1), make(&[shape[1]], 2), make(&[shape[1]], 3)],
                |l| layer_norm(l[0].get(), l[1].get(), l[2].get(), 1e-5),
                |l| layer_norm_composed(l[0].get(), l[1].get(), l[2].get(), 1e-5),
            );
        }
    }
}

#[test]
fn a_transposed_input_is_read_in_its_order() {
    assert_same(
        "rms_norm of a transpose",
        1e-5,
        &[tracked(&[6, 40], 1), tracked(&[6], 2)],
        |l| rms_norm(l[0].get::<2>().transpose(), l[1].get(), 1e-5),
        |l| rms_norm_composed(l[0].get::<2>().transpose(), l[1].get(), 1e-5),
    );
}

#[test]
#[should_panic(expected = "rms_norm: weight [C] is [3], expected [4]")]
fn a_wrong_shape_is_named() {
    crate::compare::run(&[frozen(&[2, 4], 1), frozen(&[3], 2)], |l| rms_norm(l[0].get(), l[1].get(), 1e-5));
}
