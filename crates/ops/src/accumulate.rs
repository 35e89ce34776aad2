//! sum ← sum + gradient, elementwise over a whole parameter: the one addition that every slice, micro-batch and use of
//! a shared weight makes. In place and on all threads where Burn's own would copy on one.

use burn::tensor::Tensor;
use tunesmith_kernels::{Level, sum as kernel};

use crate::check::require_equal;
use crate::cpu;
use crate::profile::{Work, measure};

/// `sum + gradient`, both of the same length and without a graph. Works in the storage of `sum` when this is the only
/// handle to it.
pub fn accumulate(sum: Tensor<1>, gradient: Tensor<1>) -> Tensor<1> {
    require_equal("accumulate", "length of gradient", gradient.dims(), sum.dims());
    if !(cpu::on_cpu(&sum) && cpu::on_cpu(&gradient)) {
        return accumulate_composed(sum, gradient);
    }
    let mut sum = cpu::values(sum).into_owned();
    // Two values are read and one is written.
    let work = Work::traffic(3 * sum.as_mut_slice().len());
    measure(
        "adding gradients",
        || work,
        || {
            kernel::add_to(Level::best(), cpu::values(gradient).as_slice(), sum.as_mut_slice());
        },
    );
    sum.into_values().into_tensor()
}

/// [`accumulate`] from Burn's operations.
pub fn accumulate_composed(sum: Tensor<1>, gradient: Tensor<1>) -> Tensor<1> {
    sum.inner() + gradient.inner()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Device;
    use crate::check::read;

    fn tensor(values: &[f32]) -> Tensor<1> {
        Tensor::from_data(values, &Device::flex())
    }

    #[test]
    fn sums_are_those_of_burn() {
        for n in [1, 17, 200_001] {
            let a: Vec<f32> = (0..n).map(|i| (i as f32 * 0.7).sin()).collect();
            let b: Vec<f32> = (0..n).map(|i| (i as f32 * 0.3).cos()).collect();
            let fused = read(&accumulate(tensor(&a), tensor(&b)));
            assert_eq!(fused, read(&accumulate_composed(tensor(&a), tensor(&b))));
        }
    }

    #[test]
    fn a_sum_that_others_hold_is_left_as_it_is() {
        let sum = tensor(&[1.0, 2.0]);
        let added = accumulate(sum.clone(), tensor(&[0.5, -4.0]));
        assert_eq!(read(&sum), [1.0, 2.0]);
        assert_eq!(read(&added), [1.5, -2.0]);
        // The storage of one that nobody else holds is used again.
        let place = cpu::values(added.clone()).as_slice().as_ptr();
        let again = accumulate(added, tensor(&[1.0, 1.0]));
        assert_eq!(cpu::values(again.clone()).as_slice().as_ptr(), place);
        assert_eq!(read(&again), [2.5, -1.0]);
    }
}
