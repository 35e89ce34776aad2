use tunesmith_ops::{Activation, activation, activation_composed, gated, gated_composed};

use crate::compare::{assert_same, frozen, tracked};

const KINDS: [Activation; 4] = [Activation::Silu, Activation::GeluTanh, Activation::Gelu, Activation::Relu];

#[test]
fn activations_match_their_compositions() {
    for kind in KINDS {
        let mut x = tracked(&[9, 31], 1);
        x.values.iter_mut().for_each(|x| *x *= 6.0);
        assert_same(
            &format!("{kind:?}"),
            3e-6,
            &[x.clone()],
            |l| activation(l[0].get(), kind),
            |l| activation_composed(l[0].get(), kind),
        );
        for up in [tracked(&[9, 31], 2), frozen(&[9, 31], 2)] {
            assert_same(
                &format!("{kind:?} as a gate"),
                3e-6,
                &[x.clone(), up],
                |l| gated(l[0].get(), l[1].get(), kind),
                |l| gated_composed(l[0].get(), l[1].get(), kind),
            );
        }
    }
}
