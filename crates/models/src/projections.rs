//! Several linear layers over the same input, as matrices of their own or as the rows of one matrix.

use burn::tensor::Tensor;

use crate::linear::Linear;
use crate::pass::Pass;

/// P linear layers with the same input.
#[derive(Debug)]
pub(crate) enum Projections<const P: usize> {
    /// A matrix each.
    Separate(Box<[Linear; P]>),
    /// One matrix, whose rows belong to the first layer, then to the second and so on.
    Fused {
        /// All of them.
        linear: Box<Linear>,
        /// Output features of each.
        widths: [usize; P],
    },
}

impl<const P: usize> Projections<P> {
    /// [N,I] to [N,O] for each.
    pub(crate) fn forward(&self, x: Tensor<2>, pass: &mut Pass<'_>) -> [Tensor<2>; P] {
        match self {
            Self::Separate(linears) => linears.each_ref().map(|linear| linear.forward(x.clone(), pass)),
            Self::Fused { linear, widths } => {
                let y = linear.forward(x, pass);
                let mut start = 0;
                widths.map(|width| {
                    start += width;
                    y.clone().narrow(1, start - width, width)
                })
            }
        }
    }

    /// The linear layers that there are weights for.
    pub(crate) fn linears(&self) -> &[Linear] {
        match self {
            Self::Separate(linears) => &linears[..],
            Self::Fused { linear, .. } => std::slice::from_ref(&**linear),
        }
    }

    /// The same, to attach adapters to.
    pub(crate) fn linears_mut(&mut self) -> &mut [Linear] {
        match self {
            Self::Separate(linears) => &mut linears[..],
            Self::Fused { linear, .. } => std::slice::from_mut(&mut **linear),
        }
    }
}
