//! The innermost loops for work that is more than one product, such as attention: factors that are brought into form
//! once and used several times, outputs that stay in a core's cache.

use std::ops::Range;

use super::{Compute, Element, Micro, Output, Right, panel, portable};
#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512};
use crate::Level;
use crate::buffer::first;
use crate::simd::Kind;

/// Work that needs an innermost loop.
pub(crate) trait WithLoop {
    /// Does it.
    fn run<M: Micro>(self, engine: Engine<M>);
}

/// Does `work` with the loop for this instruction set and number format.
pub(crate) fn with_loop(level: Level, compute: Compute, work: impl WithLoop) {
    let is_rounded = compute == Compute::Bf16;
    match level.kind() {
        #[cfg(target_arch = "x86_64")]
        Kind::Avx512Bf16 if is_rounded => {
            work.run(Engine { level, is_rounded: false, _loop: avx512::DotBf16 })
        }
        #[cfg(target_arch = "x86_64")]
        Kind::Avx512 | Kind::Avx512Bf16 => work.run(Engine { level, is_rounded, _loop: avx512::FusedF32 }),
        #[cfg(target_arch = "x86_64")]
        Kind::Avx2 => work.run(Engine { level, is_rounded, _loop: avx2::FusedF32 }),
        Kind::Baseline => work.run(Engine { level, is_rounded, _loop: portable::Portable }),
    }
}

/// An innermost loop; a value exists only where the CPU has its instructions.
#[derive(Clone, Copy)]
pub(crate) struct Engine<M> {
    level: Level,
    /// Whether float32 values are to be rounded to bfloat16, for which the loop has no type of its own.
    is_rounded: bool,
    _loop: M,
}

/// Rows of a left factor: whole steps, `stride` values apart.
#[derive(Clone, Copy)]
pub(crate) struct Left<'a, V> {
    pub(crate) values: &'a [V],
    pub(crate) stride: usize,
    pub(crate) n_rows: usize,
}

impl<M: Micro> Engine<M> {
    pub(crate) fn level(&self) -> Level {
        self.level
    }

    pub(super) fn is_rounded(&self) -> bool {
        self.is_rounded
    }

    /// Steps that `n` values along K take.
    pub(crate) fn n_steps(n: usize) -> usize {
        n.div_ceil(M::PER_STEP)
    }

    /// out [rows of `left`, `n_columns`] (+)= left · one panel of a right factor, [`n_steps`, COLUMNS] lanes.
    pub(crate) fn multiply(
        &self,
        left: Left<M::Value>,
        lanes: &[u32],
        n_steps: usize,
        out: &mut [f32],
        out_stride: usize,
        n_columns: usize,
        mode: Output,
    ) {
        let Left { values, stride, n_rows } = left;
        if n_rows == 0 || n_columns == 0 {
            return;
        }
        assert!(
            n_columns <= M::COLUMNS
                && n_columns <= out_stride
                && (n_rows - 1) * stride + n_steps * M::PER_STEP <= values.len()
                && n_steps * M::COLUMNS <= lanes.len()
                && (n_rows - 1) * out_stride + n_columns <= out.len(),
            "{n_rows} rows {stride} apart of {}, {n_steps} steps of {}, out {n_columns}, {out_stride} apart of {}",
            values.len(),
            lanes.len(),
            out.len()
        );
        for row in (0..n_rows).step_by(M::ROWS) {
            // SAFETY: an engine of this loop exists only where the CPU has its instructions; the lengths are asserted,
            // and the output is borrowed exclusively.
            unsafe {
                M::tile(
                    M::ROWS.min(n_rows - row),
                    n_columns,
                    n_steps,
                    values.as_ptr().add(row * stride),
                    stride,
                    lanes.as_ptr(),
                    out.as_mut_ptr().add(row * out_stride),
                    out_stride,
                    mode,
                );
            }
        }
    }

    /// Brings rows `inner` and columns `columns` of a right factor into panels, [panel][step][COLUMNS].
    pub(crate) fn pack<'a>(
        &self,
        right: Right,
        inner: Range<usize>,
        columns: Range<usize>,
        scratch: &mut PackScratch<M::Value>,
        lanes: &'a mut Vec<u32>,
    ) -> &'a [u32] {
        let n_panels = columns.len().div_ceil(M::COLUMNS);
        let lanes = first(lanes, n_panels * Self::n_steps(inner.len()) * M::COLUMNS);
        panel::pack::<M>(self.level, self.is_rounded, right, inner, columns, scratch, lanes);
        lanes
    }

    /// The lanes of a panel that exists as float32 already, [K, COLUMNS].
    pub(crate) fn lanes<'a>(&self, panel: &'a [f32], scratch: &'a mut Vec<u32>) -> &'a [u32] {
        M::Value::lanes(self.level, self.is_rounded, panel, M::COLUMNS, scratch)
    }

    /// Fills `out` from as many float32 values.
    pub(crate) fn convert(&self, values: &[f32], out: &mut [M::Value]) {
        M::Value::convert(self.level, self.is_rounded, values, out);
    }

    /// Converts rows of `width` float32 values to rows that start `stride` apart.
    pub(crate) fn convert_rows(&self, values: &[f32], width: usize, out: &mut [M::Value], stride: usize) {
        M::Value::convert_rows(self.level, self.is_rounded, values, width, out, stride);
    }
}

/// Buffers for [`Engine::pack`].
pub(crate) type PackScratch<V> = panel::Rows<V>;
