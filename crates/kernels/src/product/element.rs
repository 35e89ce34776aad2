//! The two forms in which the innermost loops read values: float32, and bfloat16 in its 16 bits.

use std::ops::Range;

use crate::buffer::{Plain, first};
use crate::weight::Weight;
use crate::{Level, bf16};

/// A value of a factor.
pub(crate) trait Element: Plain + Default + Send + Sync + 'static {
    /// The values as they lie there, when nothing has to be converted or rounded.
    fn in_place(values: &[f32], is_rounded: bool) -> Option<&[Self]>;

    /// The values of a weight where they are, if they are stored as this.
    fn stored(weight: &Weight) -> Option<&[Self]>;

    /// Fills `out` from as many float32 values, rounded to bfloat16 when asked (or when that is what Self is).
    fn convert(level: Level, is_rounded: bool, values: &[f32], out: &mut [Self]);

    /// Converts rows of `width` values to rows that start `stride` apart.
    fn convert_rows(
        level: Level,
        is_rounded: bool,
        values: &[f32],
        width: usize,
        out: &mut [Self],
        stride: usize,
    ) {
        for (values, out) in values.chunks_exact(width).zip(out.chunks_mut(stride)) {
            Self::convert(level, is_rounded, values, &mut out[..width]);
        }
    }

    /// The rows of `panel`, `n_columns` wide, as lanes: a lane holds the values of a step that belong to one column.
    fn lanes<'a>(
        level: Level,
        is_rounded: bool,
        panel: &'a [f32],
        n_columns: usize,
        scratch: &'a mut Vec<u32>,
    ) -> &'a [u32];

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

    fn stored(weight: &Weight) -> Option<&[f32]> {
        weight.as_f32()
    }

    fn convert(level: Level, is_rounded: bool, values: &[f32], out: &mut [f32]) {
        if is_rounded {
            bf16::round(level, values, out);
        } else {
            out.copy_from_slice(values);
        }
    }

    fn lanes<'a>(
        _: Level,
        is_rounded: bool,
        panel: &'a [f32],
        _: usize,
        scratch: &'a mut Vec<u32>,
    ) -> &'a [u32] {
        if is_rounded {
            let lanes = first(scratch, panel.len());
            for (lane, value) in lanes.iter_mut().zip(panel) {
                *lane = bf16::to_f32(bf16::from_f32(*value)).to_bits();
            }
            lanes
        } else {
            // SAFETY: both types have 32 bits, and every bit pattern is a number.
            unsafe { std::slice::from_raw_parts(panel.as_ptr().cast(), panel.len()) }
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

    fn stored(weight: &Weight) -> Option<&[u16]> {
        weight.as_bf16()
    }

    fn convert(level: Level, _: bool, values: &[f32], out: &mut [u16]) {
        bf16::round_to_bits(level, values, out);
    }

    fn lanes<'a>(
        level: Level,
        _: bool,
        panel: &'a [f32],
        n_columns: usize,
        scratch: &'a mut Vec<u32>,
    ) -> &'a [u32] {
        let lanes = first(scratch, panel.len().div_ceil(2 * n_columns) * n_columns);
        bf16::pair_rows(level, panel, n_columns, lanes);
        lanes
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
