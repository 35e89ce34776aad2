//! A backward pass that begins in the middle.

use tunesmith_ops::{Device, Tensor, TensorData, seed_gradient, seed_gradient_composed};

use crate::compare::{Leaf, assert_same, frozen, random, tracked};

#[test]
fn the_given_gradient_comes_back() {
    for shape in [[1, 1], [3, 17]] {
        let n = shape.iter().product();
        let gradient = |like: &Tensor<2>| {
            Tensor::from_data(TensorData::new(random(n, 5), shape), (&like.device().inner(), like.dtype()))
        };
        let seed = |y: Tensor<2>| seed_gradient(y.clone(), gradient(&y));
        let composed = |y: Tensor<2>| seed_gradient_composed(y.clone(), gradient(&y));
        for argument in [tracked(&shape, 1), frozen(&shape, 1)] {
            let arguments = [argument];
            assert_same(
                "seed_gradient",
                1e-6,
                &arguments,
                |l: &[Leaf]| seed(l[0].get()),
                |l| composed(l[0].get()),
            );
        }

        // Where a backward pass begins, the gradient is handed through to the bit, and no value of y matters.
        let device = Device::flex().autodiff();
        let y = Tensor::<2>::full(shape, f32::INFINITY, &device).require_grad();
        let result = seed(y.clone());
        assert_eq!(result.clone().into_scalar::<f32>(), 0.0);
        let got = y.grad(&result.backward()).unwrap();
        assert_eq!(got.try_to_vec_as::<f32>().unwrap(), random(n, 5));
    }
}
