//! Writing strided, non-overlapping parts of one slice from several threads.

use std::marker::PhantomData;
use std::ops::Range;

/// An exclusively borrowed slice whose parts are handed out to tasks that never share an element.
///
/// Needed where a task's output is a column block of a row-major matrix, such as one head of all tokens: no chain of
/// `split_at_mut` can express that.
pub(crate) struct Disjoint<'a> {
    start: *mut f32,
    length: usize,
    _slice: PhantomData<&'a mut [f32]>,
}

// SAFETY: the only access is through `part`, whose caller promises that parts do not overlap.
unsafe impl Sync for Disjoint<'_> {}
// SAFETY: it is a borrowed slice of plain numbers, which may move between threads.
unsafe impl Send for Disjoint<'_> {}

impl<'a> Disjoint<'a> {
    pub(crate) fn new(slice: &'a mut [f32]) -> Self {
        Self { start: slice.as_mut_ptr(), length: slice.len(), _slice: PhantomData }
    }

    /// The elements of `range`.
    ///
    /// # Safety
    /// While the result lives, no other part that overlaps it may be in use.
    #[expect(clippy::mut_from_ref, reason = "the caller promises that parts are disjoint")]
    pub(crate) unsafe fn part(&self, range: Range<usize>) -> &mut [f32] {
        assert!(
            range.start <= range.end && range.end <= self.length,
            "part {range:?} of {} elements",
            self.length
        );
        // SAFETY: the range lies inside the borrowed slice (asserted) and, by contract, nothing else refers to it.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }

    /// A pointer to the start of `range`, through which the caller may write those elements of the range that no other
    /// task uses: a tile of a matrix, whose rows lie apart.
    pub(crate) fn pointer(&self, range: Range<usize>) -> *mut f32 {
        assert!(
            range.start <= range.end && range.end <= self.length,
            "tile {range:?} of {} elements",
            self.length
        );
        self.start.wrapping_add(range.start)
    }
}
