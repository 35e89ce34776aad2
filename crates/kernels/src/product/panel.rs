//! Bringing a strip of the right factor into the form that the innermost loop reads in order: panels of
//! [step][column], where the values of a step that belong to one column share 32 bits.

use std::ops::Range;

use super::{Element, Micro, Right};
use crate::Level;
use crate::buffer::first;
use crate::simd::Kind;

/// Rows of a factor before they are arranged; one worker's buffers.
#[derive(Default)]
pub(crate) struct Rows<V> {
    values: Vec<V>,
    scratch: Vec<f32>,
}

/// Fills `lanes`, [panel][step][COLUMNS], with rows `inner` and columns `columns` of `right`. Columns beyond the last and
/// values that fill up the last step are 0.
pub(super) fn pack<M: Micro>(
    level: Level,
    is_rounded: bool,
    right: Right,
    inner: Range<usize>,
    columns: Range<usize>,
    rows: &mut Rows<M::Value>,
    lanes: &mut [u32],
) {
    let n_steps = inner.len().div_ceil(M::PER_STEP);
    if n_steps == 0 {
        return;
    }
    let is_along_k = match right {
        Right::Matrix(matrix) => matrix.is_transposed(),
        Right::Weight(_) => false,
        Right::Transposed(_) => true,
    };
    let panels = lanes.chunks_exact_mut(n_steps * M::COLUMNS);
    if is_along_k {
        let in_place = lines_in_place::<M>(is_rounded, right).filter(|(_, stride)| {
            inner.len().is_multiple_of(M::PER_STEP) && stride.is_multiple_of(M::PER_STEP)
        });
        for (panel_idx, lanes) in panels.enumerate() {
            let first = columns.start + panel_idx * M::COLUMNS;
            let of_panel = first..columns.end.min(first + M::COLUMNS);
            let (values, stride) = if let Some((values, stride)) = in_place {
                (&values[of_panel.start * stride + inner.start..], stride)
            } else {
                let stride = n_steps * M::PER_STEP;
                (rows.fill(level, is_rounded, right, of_panel.clone(), inner.clone(), stride, 0), stride)
            };
            if of_panel.len() < M::COLUMNS {
                lanes.fill(0);
            }
            transpose_pairs(level, values, stride, n_steps, of_panel.len(), lanes, M::COLUMNS);
        }
    } else {
        // Copied even from where they could be used as they are: the copy reads in long stretches, which is faster.
        let stride = columns.len();
        let n_zero = n_steps * M::PER_STEP - inner.len();
        let values = rows.fill(level, is_rounded, right, inner.clone(), columns.clone(), stride, n_zero);
        for (panel_idx, lanes) in panels.enumerate() {
            let first = panel_idx * M::COLUMNS;
            let of_panel = first..stride.min(first + M::COLUMNS);
            interleave(level, values, stride, of_panel, lanes, M::COLUMNS);
        }
    }
}

/// The contiguous lines of a factor and the distance between them, when its values need no conversion.
fn lines_in_place<M: Micro>(is_rounded: bool, right: Right<'_>) -> Option<(&[M::Value], usize)> {
    match right {
        Right::Matrix(matrix) => {
            let (values, stride) = matrix.lines();
            Some((M::Value::in_place(values, is_rounded)?, stride))
        }
        Right::Weight(_) | Right::Transposed(_) if is_rounded => None,
        Right::Weight(weight) | Right::Transposed(weight) => {
            let [_, stride] = weight.dims();
            Some((M::Value::stored(weight)?, stride))
        }
    }
}

impl<V: Element> Rows<V> {
    /// Reads parts `range` of the contiguous lines `lines`, `stride` apart, and `n_zero` lines of 0 behind them; what is
    /// between lines is 0.
    fn fill(
        &mut self,
        level: Level,
        is_rounded: bool,
        right: Right,
        lines: Range<usize>,
        range: Range<usize>,
        stride: usize,
        n_zero: usize,
    ) -> &[V] {
        let values = first(&mut self.values, (lines.len() + n_zero) * stride);
        values[lines.len() * stride..].fill(V::default());
        for (line, out) in lines.zip(values.chunks_exact_mut(stride)) {
            let (out, rest) = out.split_at_mut(range.len());
            rest.fill(V::default());
            match right {
                Right::Matrix(matrix) => V::convert(level, is_rounded, matrix.line(line, range.clone()), out),
                Right::Weight(weight) | Right::Transposed(weight) => {
                    V::read(level, is_rounded, weight, line, range.clone(), &mut self.scratch, out);
                }
            }
        }
        values
    }
}

/// lanes[step, j] = the values of the step in row j; rows are `stride` values apart, which is whole steps.
fn transpose_pairs<V: Element>(
    level: Level,
    rows: &[V],
    stride: usize,
    n_steps: usize,
    n_rows: usize,
    lanes: &mut [u32],
    n_columns: usize,
) {
    let per_step = size_of::<u32>() / size_of::<V>();
    assert!(
        0 < n_rows
            && n_rows <= n_columns
            && stride.is_multiple_of(per_step)
            && (n_rows - 1) * stride + n_steps * per_step <= rows.len()
            && n_steps * n_columns <= lanes.len()
    );
    // SAFETY: `Element` is float32 or the 16 bits of bfloat16, so each step's values are 32 bits without padding; the
    // pointer is read with unaligned loads only, within the asserted lengths.
    unsafe {
        let source = rows.as_ptr().cast();
        transpose_raw(level, source, stride / per_step, n_steps, n_rows, lanes.as_mut_ptr(), n_columns);
    }
}

/// out[j · `out_stride` + i] = source[i · `stride` + j] for i < `n_lines`, j < `n_across`.
pub(crate) fn transpose(
    level: Level,
    source: &[f32],
    stride: usize,
    n_lines: usize,
    n_across: usize,
    out: &mut [f32],
    out_stride: usize,
) {
    if n_lines == 0 || n_across == 0 {
        return;
    }
    assert!((n_lines - 1) * stride + n_across <= source.len(), "transpose: source");
    assert!((n_across - 1) * out_stride + n_lines <= out.len() && n_lines <= out_stride, "transpose: output");
    // SAFETY: float32 has 32 bits, and all accesses stay within the asserted lengths.
    unsafe {
        transpose_raw(
            level,
            source.as_ptr().cast(),
            stride,
            n_across,
            n_lines,
            out.as_mut_ptr().cast(),
            out_stride,
        );
    }
}

/// out[j · `out_stride` + i] = source[i · `stride` + j] for i < `n_lines`, j < `n_across`, in words of 32 bits.
///
/// # Safety
/// `source` can be read (unaligned) and `out` written at all these places.
unsafe fn transpose_raw(
    level: Level,
    source: *const u32,
    stride: usize,
    n_across: usize,
    n_lines: usize,
    out: *mut u32,
    out_stride: usize,
) {
    #[cfg_attr(
        not(target_arch = "x86_64"),
        expect(unused_mut, reason = "only x86-64 has a faster way for a part")
    )]
    let mut done = (0, 0);
    #[cfg(target_arch = "x86_64")]
    if matches!(level.kind(), Kind::Avx512 | Kind::Avx512Bf16) {
        done = (n_lines / 16 * 16, n_across / 16 * 16);
        for i in (0..done.0).step_by(16) {
            for j in (0..done.1).step_by(16) {
                // SAFETY: the level was detected; the 16×16 block lies within the ranges of this function's contract.
                unsafe {
                    super::avx512::transpose_16(
                        source.add(i * stride + j),
                        stride,
                        out.add(j * out_stride + i),
                        out_stride,
                    );
                }
            }
        }
    }
    for i in 0..n_lines {
        let first = if i < done.0 { done.1 } else { 0 };
        for j in first..n_across {
            // SAFETY: within the ranges of this function's contract.
            unsafe { out.add(j * out_stride + i).write(source.add(i * stride + j).read_unaligned()) };
        }
    }
}

/// lanes[step, j] = the values of a step, one from each of its rows, in column j of `columns`; 0 beyond them.
fn interleave<V: Element>(
    level: Level,
    rows: &[V],
    stride: usize,
    columns: Range<usize>,
    lanes: &mut [u32],
    n_columns: usize,
) {
    let n_rows = rows.len() / stride;
    assert!(columns.end <= stride && columns.len() <= n_columns);
    if size_of::<V>() == size_of::<f32>() {
        for (row, lanes) in rows.chunks_exact(stride).zip(lanes.chunks_exact_mut(n_columns)) {
            let (lanes, rest) = lanes.split_at_mut(columns.len());
            // SAFETY: of the two kinds of `Element` only float32 has 32 bits, as has a lane.
            let words =
                unsafe { std::slice::from_raw_parts(row[columns.clone()].as_ptr().cast(), columns.len()) };
            lanes.copy_from_slice(words);
            rest.fill(0);
        }
    } else {
        // SAFETY: the other kind of `Element` is the 16 bits of bfloat16.
        let halves = unsafe { std::slice::from_raw_parts(rows.as_ptr().cast::<u16>(), n_rows * stride) };
        for (pair, lanes) in halves.chunks_exact(2 * stride).zip(lanes.chunks_exact_mut(n_columns)) {
            let (low, high) = pair.split_at(stride);
            let (lanes, rest) = lanes.split_at_mut(columns.len());
            interleave_pairs(level, &low[columns.clone()], &high[columns.clone()], lanes);
            rest.fill(0);
        }
    }
}

crate::simd::simd_kernel! {
    fn interleave_pairs<S>(low: &[u16], high: &[u16], lanes: &mut [u32]) {
        for ((lane, low), high) in lanes.iter_mut().zip(low).zip(high) {
            *lane = u32::from(*low) | u32::from(*high) << 16;
        }
    }
}
