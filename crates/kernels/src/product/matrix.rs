//! Float32 matrices on slices: what a product reads and writes.

use std::ops::Range;

use super::panel::transpose;
use crate::Level;

/// A matrix to read. One of its directions is contiguous in memory: rows, or columns of a transpose.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    data: &'a [f32],
    n_rows: usize,
    n_columns: usize,
    /// Elements between neighbouring lines (rows, or columns of a transpose).
    line_stride: usize,
    is_transposed: bool,
}

impl<'a> Matrix<'a> {
    /// A contiguous row-major matrix.
    pub fn new(data: &'a [f32], n_rows: usize, n_columns: usize) -> Self {
        Self::with_stride(data, n_rows, n_columns, n_columns)
    }

    /// Rows of `n_columns` elements that start `row_stride` elements apart.
    ///
    /// # Panics
    /// When `data` is too short.
    pub fn with_stride(data: &'a [f32], n_rows: usize, n_columns: usize, row_stride: usize) -> Self {
        assert_covers(data.len(), n_rows, n_columns, row_stride);
        Self { data, n_rows, n_columns, line_stride: row_stride, is_transposed: false }
    }

    /// The transpose.
    pub fn t(self) -> Self {
        Self { n_rows: self.n_columns, n_columns: self.n_rows, is_transposed: !self.is_transposed, ..self }
    }

    /// [rows, columns]
    pub fn dims(&self) -> [usize; 2] {
        [self.n_rows, self.n_columns]
    }

    /// Whether columns, not rows, are contiguous.
    pub(super) fn is_transposed(&self) -> bool {
        self.is_transposed
    }

    /// All elements and the distance between rows, when rows are contiguous.
    pub(super) fn rows_in_place(&self) -> Option<(&'a [f32], usize)> {
        (!self.is_transposed).then_some((self.data, self.line_stride))
    }

    /// All elements and the distance between contiguous lines.
    pub(super) fn lines(&self) -> (&'a [f32], usize) {
        (self.data, self.line_stride)
    }

    /// Elements `range` of the contiguous line `line`.
    pub(super) fn line(&self, line: usize, range: Range<usize>) -> &'a [f32] {
        let start = line * self.line_stride;
        &self.data[start + range.start..start + range.end]
    }

    /// Calls `work(row, its elements)` for the rows in order; rows of a transpose are gathered in `scratch`.
    pub(super) fn for_rows(
        &self,
        level: Level,
        rows: Range<usize>,
        scratch: &mut Vec<f32>,
        mut work: impl FnMut(usize, &[f32]),
    ) {
        if !self.is_transposed {
            return rows.for_each(|row| work(row, self.line(row, 0..self.n_columns)));
        }
        /// Rows gathered together: a cache line of the source.
        const TOGETHER: usize = 16;
        let n = self.n_columns;
        scratch.resize(TOGETHER * n, 0.0);
        for first in rows.clone().step_by(TOGETHER) {
            let together = first..rows.end.min(first + TOGETHER);
            if n == 0 {
                together.for_each(|row| work(row, &[]));
                continue;
            }
            let source = &self.data[first..(n - 1) * self.line_stride + together.end];
            transpose(level, source, self.line_stride, n, together.len(), scratch, n);
            together.for_each(|row| work(row, &scratch[(row - first) * n..(row - first + 1) * n]));
        }
    }
}

/// A matrix to write: element (i, j) is `data[i · row_stride + j]`.
#[derive(Debug)]
pub struct MatrixMut<'a> {
    data: &'a mut [f32],
    n_rows: usize,
    n_columns: usize,
    row_stride: usize,
}

impl<'a> MatrixMut<'a> {
    /// A contiguous row-major matrix.
    pub fn new(data: &'a mut [f32], n_rows: usize, n_columns: usize) -> Self {
        Self::with_stride(data, n_rows, n_columns, n_columns)
    }

    /// Rows of `n_columns` elements that start `row_stride` elements apart.
    ///
    /// # Panics
    /// When `data` is too short or rows overlap.
    pub fn with_stride(data: &'a mut [f32], n_rows: usize, n_columns: usize, row_stride: usize) -> Self {
        assert_covers(data.len(), n_rows, n_columns, row_stride);
        assert!(n_columns <= row_stride, "rows of {n_columns} elements overlap when {row_stride} apart");
        Self { data, n_rows, n_columns, row_stride }
    }

    /// [rows, columns]
    pub(super) fn dims(&self) -> [usize; 2] {
        [self.n_rows, self.n_columns]
    }

    /// Sets all elements.
    pub(super) fn fill(self, value: f32) {
        for row in self.data.chunks_mut(self.row_stride.max(1)).take(self.n_rows) {
            row[..self.n_columns].fill(value);
        }
    }

    pub(super) fn row_stride(&self) -> usize {
        self.row_stride
    }

    pub(super) fn into_slice(self) -> &'a mut [f32] {
        self.data
    }
}

fn assert_covers(length: usize, n_rows: usize, n_columns: usize, row_stride: usize) {
    let needed = if n_rows == 0 || n_columns == 0 { 0 } else { (n_rows - 1) * row_stride + n_columns };
    assert!(
        needed <= length,
        "a {n_rows}×{n_columns} matrix with rows {row_stride} apart does not fit in {length} elements"
    );
}
