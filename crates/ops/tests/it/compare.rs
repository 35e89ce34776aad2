//! Running an operation with its gradients, and comparing two ways of doing it.

use burn::tensor::DType;
use tunesmith_ops::{Device, Tensor, TensorData};

/// The value of an operation and the gradient of each tracked input.
pub(crate) type Outcome = (Vec<f32>, Vec<Option<Vec<f32>>>);

/// An input: its shape, whether it is tracked, and the seed of its values.
#[derive(Clone, Debug)]
pub(crate) struct Argument {
    pub(crate) shape: Vec<usize>,
    pub(crate) tracked: bool,
    pub(crate) values: Vec<f32>,
}

/// A tracked input of random values.
pub(crate) fn tracked(shape: &[usize], seed: u64) -> Argument {
    Argument { shape: shape.to_vec(), tracked: true, values: random(shape.iter().product(), seed) }
}

/// An input of random values that needs no gradient.
pub(crate) fn frozen(shape: &[usize], seed: u64) -> Argument {
    Argument { tracked: false, ..tracked(shape, seed) }
}

/// Values spread evenly over −1..1.
pub(crate) fn random(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678_9abc_def1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / 8_388_608.0 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

/// One input of an operation; reshape it to what the operation takes.
pub(crate) struct Leaf(Tensor<1>, Vec<usize>);

impl Leaf {
    pub(crate) fn get<const D: usize>(&self) -> Tensor<D> {
        let shape: [usize; D] = self.1.clone().try_into().unwrap();
        self.0.clone().reshape(shape)
    }
}

/// The value of `f` and the gradients of Σ value ∘ dy, dy being random; `None` for frozen inputs.
pub(crate) fn run<const D: usize>(arguments: &[Argument], f: impl Fn(&[Leaf]) -> Tensor<D>) -> Outcome {
    run_in(DType::F32, arguments, f)
}

/// As [`run`] in another type of numbers; the kernels know single precision only, so every other type takes the way of
/// the devices that have none.
pub(crate) fn run_in<const D: usize>(
    dtype: DType,
    arguments: &[Argument],
    f: impl Fn(&[Leaf]) -> Tensor<D>,
) -> Outcome {
    run_on(&Device::flex(), dtype, arguments, f)
}

/// As [`run_in`] on another device.
pub(crate) fn run_on<const D: usize>(
    device: &Device,
    dtype: DType,
    arguments: &[Argument],
    f: impl Fn(&[Leaf]) -> Tensor<D>,
) -> Outcome {
    let device = (&device.clone().autodiff(), dtype);
    let leaves: Vec<Leaf> = arguments
        .iter()
        .map(|argument| {
            let values = TensorData::new(argument.values.clone(), [argument.values.len()]);
            let tensor = Tensor::<1>::from_data(values, device).set_require_grad(argument.tracked);
            Leaf(tensor, argument.shape.clone())
        })
        .collect();
    let y = f(&leaves);
    let shape = y.dims();
    let n: usize = shape.iter().product();
    let value = to_vec(&y);
    if !y.is_tracked() {
        return (value, vec![None; arguments.len()]);
    }
    let dy = Tensor::<D>::from_data(TensorData::new(random(n, 99), shape), device);
    let gradients = (y * dy).sum().backward();
    let gradients =
        leaves.iter().map(|leaf| leaf.0.grad(&gradients).map(|gradient| to_vec(&gradient))).collect();
    (value, gradients)
}

/// Fails unless three ways give the same value and the same gradients within `tolerance`: the operation in single and in
/// double precision, which takes the way of other devices, and `composed`.
pub(crate) fn assert_same<const D: usize>(
    name: &str,
    tolerance: f32,
    arguments: &[Argument],
    fused: impl Fn(&[Leaf]) -> Tensor<D>,
    composed: impl Fn(&[Leaf]) -> Tensor<D>,
) {
    let got = run(arguments, &fused);
    compare(name, tolerance, arguments, &got, &run(arguments, composed));
    compare(
        &format!("{name} in double precision"),
        tolerance,
        arguments,
        &got,
        &run_in(DType::F64, arguments, fused),
    );
}

pub(crate) fn compare(name: &str, tolerance: f32, arguments: &[Argument], got: &Outcome, want: &Outcome) {
    let ((value, gradients), (want, want_gradients)) = (got, want);
    let mut worst = worst_difference(value, want);
    assert!(worst < tolerance, "{name}: values differ by {worst:.2e}");
    for (idx, (gradient, want)) in gradients.iter().zip(want_gradients).enumerate() {
        assert_eq!(gradient.is_some(), arguments[idx].tracked, "{name}: gradient of input {idx}");
        if let (Some(gradient), Some(want)) = (gradient, want) {
            let difference = worst_difference(gradient, want);
            assert!(difference < tolerance, "{name}: gradients of input {idx} differ by {difference:.2e}");
            worst = worst.max(difference);
        }
    }
    println!("{name}: worst difference {worst:.2e}");
}

/// max |a − b| / max(1, |b|)
pub(crate) fn worst_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    assert!(a.iter().all(|value| value.is_finite()), "a value is not finite");
    a.iter().zip(b).map(|(a, b)| (a - b).abs() / b.abs().max(1.0)).fold(0.0, f32::max)
}

pub(crate) fn to_vec<const D: usize>(tensor: &Tensor<D>) -> Vec<f32> {
    tensor.try_to_vec_as::<f32>().unwrap()
}
