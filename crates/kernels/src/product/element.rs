//! The two forms in which the innermost loops read values: float32, and bfloat16 in its 16 bits.

use std::ops::Range;

use crate::buffer::Plain;
use crate::weight::Weight;
use crate::{Level, bf16};

/// A value of a factor.
pub(super) trait Element: Plain + Default + Send + Sync + 'static {
    /// The values as they lie there, when nothing has to be converted or rounded.
    fn in_place(values: &[f32], is_rounded: bool) -> Option<&[Self]>;

    /// Fills `out` from as many float32 values, rounded to bfloat16 when asked (or when that is what Self is).
    fn convert(level: Level, is_rounded: bool, values: &[f32], out: &mut [Self]);

    /// Fills `out` with columns of a weight's row, rounded in the same way.
    fn read(
        level: Level,
        is_rounded: bool,
        weight: &Weight,
        row: usize,
        columns: Range<usize>,
        scratch: &mut Vec<f32>,
        out: &mut [Self],
    );
}

impl Element for f32 {
    fn in_place(values: &[f32], is_rounded: bool) -> Option<&[f32]> {
        (!is_rounded).then_some(values)
    }

    fn convert(level: Level, is_rounded: bool, values: &[f32], out: &mut [f32]) {
        if is_rounded {
            bf16::round(level, values, out);
        } else {
            out.copy_from_slice(values);
        }
    }

    fn read(
        level: Level,
        is_rounded: bool,
        weight: &Weight,
        row: usize,
        columns: Range<usize>,
        scratch: &mut Vec<f32>,
        out: &mut [f32],
    ) {
        if is_rounded {
            scratch.resize(out.len(), 0.0);
            weight.read(level, row, columns, scratch);
            bf16::round(level, scratch, out);
        } else {
            weight.read(level, row, columns, out);
        }
    }
}

impl Element for u16 {
    fn in_place(_: &[f32], _: bool) -> Option<&[u16]> {
        None
    }

    fn convert(level: Level, _: bool, values: &[f32], out: &mut [u16]) {
        bf16::round_to_bits(level, values, out);
    }

    fn read(
        level: Level,
        _: bool,
        weight: &Weight,
        row: usize,
        columns: Range<usize>,
        scratch: &mut Vec<f32>,
        out: &mut [u16],
    ) {
        weight.read_bf16(level, row, columns, scratch, out);
    }
}
