//! Where the samples of a batch begin and end when they lie end to end without padding.

use std::ops::Range;
use std::sync::Arc;

/// Lengths of the attention segments of a batch: token `t` attends only within its own segment.
///
/// Cloning is cheap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segments {
    /// `len() + 1` ascending positions: segment `i` is `offsets[i]..offsets[i + 1]`.
    offsets: Arc<[usize]>,
}

impl Segments {
    /// Segments of the given lengths (in tokens; zero is allowed), laid end to end from position 0.
    pub fn new(lengths: &[usize]) -> Self {
        let mut end = 0;
        let ends = lengths.iter().map(|length| {
            end += length;
            end
        });
        Self { offsets: std::iter::once(0).chain(ends).collect() }
    }

    /// N, the number of tokens in all segments together.
    pub fn n_tokens(&self) -> usize {
        self.offsets.last().copied().unwrap_or(0)
    }

    /// The number of segments.
    pub fn len(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    /// Whether there is no segment at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The token range of each segment, in order.
    pub fn ranges(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        self.offsets.windows(2).map(|pair| pair[0]..pair[1])
    }

    /// The position where each segment starts, followed by N.
    pub fn offsets(&self) -> &[usize] {
        &self.offsets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_lie_end_to_end() {
        let segments = Segments::new(&[3, 0, 2]);
        assert_eq!(segments.n_tokens(), 5);
        assert_eq!(segments.len(), 3);
        assert_eq!(segments.ranges().collect::<Vec<_>>(), vec![0..3, 3..3, 3..5]);
        assert_eq!(segments.offsets(), &[0, 3, 3, 5]);
    }

    #[test]
    fn no_segment_has_no_token() {
        let segments = Segments::new(&[]);
        assert!(segments.is_empty());
        assert_eq!(segments.n_tokens(), 0);
    }
}
