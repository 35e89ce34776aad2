//! Rotary position embedding (Su et al. 2021) in the half-split layout of Hugging Face models.
//!
//! With the angle θ = position · inv_freq[i], the pair (x[i], x[i + T/2]) of each head becomes
//! (x[i]·cos θ − x[i + T/2]·sin θ, x[i + T/2]·cos θ + x[i]·sin θ), both times `attention_scaling`. The first T elements
//! of a head are turned, all D or fewer; the others stay.
//! It is a rotation, so the gradient is turned back by −θ.

use std::sync::Arc;

use burn::tensor::Tensor;
use tunesmith_kernels::{Level, rotary as kernel};

use crate::check::{require, require_equal, upload};
use crate::cpu::{self, CpuOp, Pass, Shapes, Values, n_elements};
use crate::profile::Work;

/// Cosines and sines for all positions of a model. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct RotaryTable {
    inner: Arc<Angles>,
}

#[derive(Debug)]
struct Angles {
    /// [n_positions, T/2]
    cos: Vec<f32>,
    /// [n_positions, T/2]
    sin: Vec<f32>,
    half_width: usize,
    n_positions: usize,
}

impl RotaryTable {
    /// The table for positions `0..n_positions` of frequencies `inv_freq` [T/2] (radians per position).
    /// `attention_scaling` multiplies every cosine and sine (1 for plain rotary embedding).
    pub fn new(inv_freq: &[f32], attention_scaling: f32, n_positions: usize) -> Self {
        let half_width = inv_freq.len();
        let mut cos = Vec::with_capacity(n_positions * half_width);
        let mut sin = Vec::with_capacity(n_positions * half_width);
        for position in 0..n_positions {
            for frequency in inv_freq {
                // The product is rounded to single precision as in the reference implementations.
                let angle = f64::from(position as f32 * frequency);
                cos.push(angle.cos() as f32 * attention_scaling);
                sin.push(angle.sin() as f32 * attention_scaling);
            }
        }
        Self { inner: Arc::new(Angles { cos, sin, half_width, n_positions }) }
    }

    /// Positions the table covers.
    pub fn n_positions(&self) -> usize {
        self.inner.n_positions
    }

    /// T, the elements of a head that this table turns.
    pub fn width(&self) -> usize {
        2 * self.inner.half_width
    }
}

/// rotary(x) for x [N, H, D]; `positions[n]` is token n's position in its sequence.
pub fn rotary(x: Tensor<3>, positions: &[u32], table: &RotaryTable) -> Tensor<3> {
    let [n_tokens, _, head_width] = x.dims();
    require_equal("rotary", "number of positions", positions.len(), n_tokens);
    require(table.width() <= head_width, "rotary", || {
        format!("the table turns {} elements of a head of {head_width}", table.width())
    });
    let largest = positions.iter().copied().max().unwrap_or(0) as usize;
    require(n_tokens == 0 || largest < table.n_positions(), "rotary", || {
        format!("position {largest} lies beyond the table's {} positions", table.n_positions())
    });
    if cpu::on_cpu(&x) {
        cpu::apply(Rotary { positions: positions.into(), table: table.clone() }, [cpu::input(x)])
    } else {
        rotary_composed(x, positions, table)
    }
}

/// Input x.
#[derive(Clone, Debug)]
struct Rotary {
    positions: Arc<[u32]>,
    table: RotaryTable,
}

impl CpuOp<1> for Rotary {
    type Saved = ();

    const NAMES: [&'static str; 2] = ["rotary forward", "rotary backward"];

    fn work(&self, _: Pass<1>, [x]: &Shapes<1>) -> Work {
        Work::traffic(2 * n_elements(x))
    }

    fn forward(&self, [x]: [Values; 1], _: [bool; 1]) -> (Values, ()) {
        (self.turn(x, kernel::Direction::Forward), ())
    }

    /// dx is dy turned back.
    fn backward(self, (): (), dy: Values, _: [bool; 1]) -> [Option<Values>; 1] {
        [Some(self.turn(dy, kernel::Direction::Backward))]
    }
}

impl Rotary {
    fn turn(&self, x: Values, direction: kernel::Direction) -> Values {
        let heads = [x.dim(1), x.dim(2)];
        let values = &*self.table.inner;
        let table = kernel::Table { cos: &values.cos, sin: &values.sin, half_width: values.half_width };
        let mut y = x.into_owned();
        kernel::turn(Level::best(), y.as_mut_slice(), heads, &self.positions, table, direction);
        y.into_values()
    }
}

/// [`rotary`] from Burn's operations.
pub fn rotary_composed(x: Tensor<3>, positions: &[u32], table: &RotaryTable) -> Tensor<3> {
    let [n_tokens, n_heads, head_width] = x.dims();
    let half = table.width() / 2;
    let gather = |values: &[f32]| {
        let rows = positions.iter().flat_map(|&position| {
            let start = position as usize * half;
            values[start..start + half].iter().copied()
        });
        upload(rows.collect(), [n_tokens, 1, half], &x)
    };
    let (cos, sin) = (gather(&table.inner.cos), gather(&table.inner.sin));
    let low = x.clone().slice([0..n_tokens, 0..n_heads, 0..half]);
    let high = x.clone().slice([0..n_tokens, 0..n_heads, half..2 * half]);
    let turned_low = low.clone() * cos.clone() - high.clone() * sin.clone();
    let turned_high = high * cos + low * sin;
    let mut parts = vec![turned_low, turned_high];
    if 2 * half < head_width {
        parts.push(x.slice([0..n_tokens, 0..n_heads, 2 * half..head_width]));
    }
    Tensor::cat(parts, 2)
}
