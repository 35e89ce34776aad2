//! The bridge from an operation with CPU kernels to Burn's CPU backend and its autodiff.
//!
//! An operation implements [`CpuOp`] on plain values; [`apply`] runs it on tensors and, when one of them is tracked,
//! records its backward pass in Burn's graph. This takes Burn's typed tensors apart directly instead of going through
//! `#[backend_extension]`: the macro would need two trait methods per operation and three implementations of each, for
//! a choice that is made in one place here. The account of [`crate::profile`] is kept here, too, for all operations.

use std::fmt::Debug;
use std::marker::PhantomData;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::{
    Autodiff, DispatchDevice, Flex, GradientCheckpointingStrategy, TensorMetadata, tensor::FloatTensor,
};
use burn::tensor::{DType, Tensor, TensorData};
use burn_flex::FlexTensor;

use crate::profile::{self, Work};

/// An operation of N float tensors and one result, with its gradient.
pub(crate) trait CpuOp<const N: usize>: Clone + Debug + Send + 'static {
    /// What the backward pass needs of the forward pass.
    type Saved: Clone + Debug + Send + 'static;

    /// What the two passes are called in a profile.
    const NAMES: [&'static str; 2];

    /// What a pass has to do, from the inputs' shapes.
    fn work(&self, pass: Pass<N>, shapes: &Shapes<N>) -> Work;

    /// The result; `wanted` says which inputs' gradients will be asked for.
    fn forward(&self, inputs: [Values; N], wanted: [bool; N]) -> (Values, Self::Saved);

    /// The gradient of each wanted input from the result's gradient.
    fn backward(self, saved: Self::Saved, dy: Values, wanted: [bool; N]) -> [Option<Values>; N];
}

/// One of an operation's two passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pass<const N: usize> {
    /// The result.
    Forward,
    /// The gradients of the inputs for which it is asked.
    Backward([bool; N]),
}

/// The shapes of an operation's inputs; empty dimensions for those that are absent.
pub(crate) type Shapes<const N: usize> = [Vec<usize>; N];

/// The number of elements of a shape.
pub(crate) fn n_elements(shape: &[usize]) -> usize {
    shape.iter().product()
}

/// A tensor of Burn's autodiff on the CPU: values and a node of the graph.
type Node = FloatTensor<Autodiff<Flex>>;

/// A tensor on its way into [`apply`], whatever its rank.
pub(crate) enum Input {
    /// Without autodiff.
    Constant(FlexTensor),
    /// With autodiff, tracked or not.
    Node(Node),
}

impl Input {
    /// The values, without their graph.
    pub(crate) fn values(&self) -> Values {
        match self {
            Self::Constant(tensor) => Values::new(tensor.clone()),
            Self::Node(node) => Values::new(node.clone().into_primitive()),
        }
    }
}

/// Row-major single-precision values with a shape; cloning shares them.
#[derive(Clone, Debug)]
pub(crate) struct Values(FlexTensor);

/// Whether the CPU kernels can take this tensor.
pub(crate) fn on_cpu<const D: usize>(tensor: &Tensor<D>) -> bool {
    let device = tensor.device();
    let on_cpu = match device.as_dispatch() {
        // Burn's own recomputation would need each operation's forward pass; ours works on whole blocks instead.
        DispatchDevice::Autodiff(device) => {
            is_flex(device)
                && device.gradient_checkpointing_strategy() == GradientCheckpointingStrategy::Disabled
        }
        device => is_flex(device),
    };
    on_cpu && tensor.dtype() == DType::F32
}

pub(crate) fn is_flex(device: &DispatchDevice) -> bool {
    matches!(device, DispatchDevice::Flex(_))
}

/// The tensor as an input of [`apply`]; it must be [`on_cpu`].
pub(crate) fn input<const D: usize>(tensor: Tensor<D>) -> Input {
    if tensor.is_autodiff() {
        Input::Node(unwrap(tensor.try_into_primitive::<Autodiff<Flex>>()))
    } else {
        Input::Constant(unwrap(tensor.try_into_primitive::<Flex>()))
    }
}

/// The place of an input that a call does not have, such as the bias of a layer without one.
pub(crate) fn absent() -> Input {
    Input::Constant(FlexTensor::from_data(TensorData::new(Vec::<f32>::new(), [0])))
}

/// The values of a tensor that is [`on_cpu`], without its graph.
pub(crate) fn values<const D: usize>(tensor: Tensor<D>) -> Values {
    Values::new(unwrap(tensor.inner().try_into_primitive::<Flex>()))
}

/// Runs the operation, and records it when an input is tracked.
pub(crate) fn apply<O: CpuOp<N>, const N: usize, const D: usize>(op: O, inputs: [Input; N]) -> Tensor<D> {
    if inputs.iter().all(|input| matches!(input, Input::Constant(_))) {
        let inputs = inputs.map(|input| match input {
            Input::Constant(tensor) => Values::new(tensor),
            Input::Node(node) => Values::new(node.into_primitive()),
        });
        return forward(&op, inputs, [false; N]).0.into_tensor();
    }
    let nodes = inputs.map(|input| match input {
        Input::Constant(tensor) => Node::new(tensor),
        Input::Node(node) => node,
    });
    let wanted = nodes.each_ref().map(Node::is_tracked);
    let guards = nodes.each_ref().map(Node::node);
    // Without the graph's own handles a value may be used up in place.
    let inputs = nodes.map(|node| Values::new(node.into_primitive()));
    let output = match Step::<O, N>(PhantomData).prepare::<NoCheckpointing>(guards).compute_bound().stateful()
    {
        OpsKind::Tracked(prepared) => {
            let (output, saved, shapes) = forward(&op, inputs, wanted);
            prepared.finish((op, saved, shapes), output.0)
        }
        OpsKind::UnTracked(prepared) => prepared.finish(forward(&op, inputs, wanted).0.0),
    };
    Tensor::from_primitive::<Autodiff<Flex>>(output)
}

/// The forward pass; when it is accounted for, with the shapes that the backward pass will be asked about.
fn forward<O: CpuOp<N>, const N: usize>(
    op: &O,
    inputs: [Values; N],
    wanted: [bool; N],
) -> (Values, O::Saved, Option<Shapes<N>>) {
    let shapes = profile::is_on().then(|| inputs.each_ref().map(Values::shape));
    let work = || shapes.as_ref().map(|shapes| op.work(Pass::Forward, shapes)).unwrap_or_default();
    let (output, saved) = profile::measure(O::NAMES[0], work, || op.forward(inputs, wanted));
    (output, saved, shapes)
}

impl Values {
    fn new(tensor: FlexTensor) -> Self {
        if tensor.is_contiguous() { Self(tensor) } else { Self(tensor.to_contiguous()) }
    }

    /// New values of `shape`.
    pub(crate) fn from_vec(values: Vec<f32>, shape: &[usize]) -> Self {
        Self(FlexTensor::from_data(TensorData::new(values, shape.to_vec())))
    }

    pub(crate) fn shape(&self) -> Vec<usize> {
        self.0.shape().to_vec()
    }

    /// The size of dimension `idx`; 1 beyond the last.
    pub(crate) fn dim(&self, idx: usize) -> usize {
        self.shape().get(idx).copied().unwrap_or(1)
    }

    /// All values in row-major order.
    #[track_caller]
    #[expect(clippy::panic, reason = "`new` made the values contiguous and `on_cpu` checked their type")]
    pub(crate) fn as_slice(&self) -> &[f32] {
        match self.0.as_slice() {
            Some(values) => values,
            None => panic!("a CPU tensor of {:?} is not contiguous single precision", self.0.dtype()),
        }
    }

    /// Values that nothing else refers to: these, or a copy.
    pub(crate) fn into_owned(self) -> OwnedValues {
        let n_elements = self.as_slice().len();
        let covers_storage = self.0.storage::<f32>().len() == n_elements;
        if self.0.is_unique() && covers_storage {
            return OwnedValues(self.0);
        }
        let shape = self.shape();
        OwnedValues(Self::from_vec(self.as_slice().to_vec(), &shape).0)
    }

    pub(crate) fn into_tensor<const D: usize>(self) -> Tensor<D> {
        Tensor::from_primitive::<Flex>(self.0)
    }
}

/// Values that may be written.
pub(crate) struct OwnedValues(FlexTensor);

impl OwnedValues {
    pub(crate) fn as_mut_slice(&mut self) -> &mut [f32] {
        self.0.storage_mut::<f32>()
    }

    pub(crate) fn into_values(self) -> Values {
        Values(self.0)
    }
}

/// The operation as a step of Burn's graph.
struct Step<O, const N: usize>(PhantomData<O>);

impl<O, const N: usize> Debug for Step<O, N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(std::any::type_name::<O>())
    }
}

impl<O: CpuOp<N>, const N: usize> Backward<Flex, N> for Step<O, N> {
    type State = (O, O::Saved, Option<Shapes<N>>);

    fn backward(self, ops: Ops<Self::State, N>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let dy = Values::new(gradients.consume::<Flex>(&ops.node));
        let wanted = ops.parents.each_ref().map(Option::is_some);
        let (op, saved, shapes) = ops.state;
        let work = shapes.map(|shapes| op.work(Pass::Backward(wanted), &shapes)).unwrap_or_default();
        let results = profile::measure(O::NAMES[1], || work, || op.backward(saved, dy, wanted));
        for (parent, gradient) in ops.parents.into_iter().zip(results) {
            if let (Some(parent), Some(gradient)) = (parent, gradient) {
                // Where a value was used several times this adds up; what it takes cannot be told from here.
                let register = || gradients.register::<Flex>(parent.id, gradient.0);
                profile::measure("gradients in the graph", Work::default, register);
            }
        }
    }
}

#[track_caller]
#[expect(clippy::panic, reason = "`on_cpu` was asked first")]
fn unwrap<T, E: Debug>(primitive: Result<T, E>) -> T {
    match primitive {
        Ok(primitive) => primitive,
        Err(error) => panic!("a tensor is not on the CPU backend: {error:?}"),
    }
}
