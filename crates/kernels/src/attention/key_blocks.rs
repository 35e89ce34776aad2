//! Keys and values as left factors of products: block by block, head by head, so that what is read together lies together.

use std::ops::Range;

use super::{Heads, KEYS_PER_BLOCK};
use crate::buffer::unfilled;
use crate::parallel::run;
use crate::product::{Element, Engine, Left, Micro, transpose};

/// Up to [`KEYS_PER_BLOCK`] neighbouring tokens of one segment.
#[derive(Clone, Debug)]
pub(super) struct KeyBlock {
    /// Positions in the segment.
    pub(super) keys: Range<usize>,
    /// Token of the first.
    first_token: usize,
    /// Columns of all blocks before it, each filled up to whole steps.
    first_column: usize,
}

/// All segments, cut into blocks.
pub(super) struct KeyBlocks {
    blocks: Vec<KeyBlock>,
    /// The blocks of each segment.
    of_segment: Vec<Range<usize>>,
}

impl KeyBlocks {
    pub(super) fn new<M: Micro>(offsets: &[usize]) -> Self {
        let (mut blocks, mut of_segment, mut first_column) = (Vec::new(), Vec::new(), 0);
        for segment in offsets.windows(2).map(|pair| pair[0]..pair[1]) {
            let first_block = blocks.len();
            for first in (0..segment.len()).step_by(KEYS_PER_BLOCK) {
                let keys = first..segment.len().min(first + KEYS_PER_BLOCK);
                let n_columns = columns::<M>(keys.len());
                blocks.push(KeyBlock { keys, first_token: segment.start + first, first_column });
                first_column += n_columns;
            }
            of_segment.push(first_block..blocks.len());
        }
        Self { blocks, of_segment }
    }

    /// The blocks of a segment that have any of the positions `keys`, each with its part of them. A part begins with a
    /// whole step, so maybe with a key before the first.
    pub(super) fn parts<M: Micro>(
        &self,
        segment_idx: usize,
        keys: Range<usize>,
    ) -> impl Iterator<Item = (&KeyBlock, Range<usize>)> {
        let first = keys.start / M::PER_STEP * M::PER_STEP;
        self.blocks[self.of_segment[segment_idx].clone()].iter().filter_map(move |block| {
            let part = first.max(block.keys.start)..keys.end.min(block.keys.end);
            (!part.is_empty()).then_some((block, part))
        })
    }

    /// Lets `work` fill each block's part of `values`, which lie end to end, `length` long each.
    fn fill<V: Send>(
        &self,
        values: &mut [V],
        length: impl Fn(&KeyBlock) -> usize,
        work: impl Fn(&KeyBlock, &mut [V]) + Send + Sync,
    ) {
        let mut tasks = Vec::with_capacity(self.blocks.len());
        let mut rest = values;
        for block in &self.blocks {
            let (of_block, after) = rest.split_at_mut(length(block));
            rest = after;
            tasks.push((block, of_block));
        }
        run(tasks, |(block, of_block)| work(block, of_block));
    }

    fn n_columns<M: Micro>(&self) -> usize {
        self.blocks.last().map_or(0, |block| block.first_column + columns::<M>(block.keys.len()))
    }
}

/// Columns of a block of `n_keys` keys: whole steps.
fn columns<M: Micro>(n_keys: usize) -> usize {
    n_keys.next_multiple_of(M::PER_STEP)
}

/// Keys or values [N, K, D], a block of one head after the other as [keys, D].
pub(super) struct Rows<V> {
    values: Vec<V>,
    n_heads: usize,
    /// D, filled up to whole steps.
    stride: usize,
}

impl<V: Element> Rows<V> {
    pub(super) fn new<M: Micro<Value = V>>(
        engine: Engine<M>,
        heads: Heads,
        blocks: &KeyBlocks,
        source: &[f32],
    ) -> Self {
        let (n_heads, width) = (heads.n_kv_heads, heads.width);
        let stride = width.next_multiple_of(M::PER_STEP);
        let mut values = unfilled(source.len() / width * stride);
        blocks.fill(
            &mut values,
            |block| block.keys.len() * n_heads * stride,
            |block, of_block| {
                for (head, out) in of_block.chunks_exact_mut(block.keys.len() * stride).enumerate() {
                    for (key, out) in out.chunks_exact_mut(stride).enumerate() {
                        let at = ((block.first_token + key) * n_heads + head) * width;
                        engine.convert(&source[at..at + width], &mut out[..width]);
                        out[width..].fill(V::default());
                    }
                }
            },
        );
        Self { values, n_heads, stride }
    }

    /// Positions `part` of a block.
    pub(super) fn left(&self, block: &KeyBlock, kv_head: usize, part: &Range<usize>) -> Left<'_, V> {
        let first_row =
            block.first_token * self.n_heads + kv_head * block.keys.len() + part.start - block.keys.start;
        let values = &self.values[first_row * self.stride..(first_row + part.len()) * self.stride];
        Left { values, stride: self.stride, n_rows: part.len() }
    }
}

/// The same turned, a block of one head after the other as [D, keys].
pub(super) struct Columns<V> {
    values: Vec<V>,
    n_heads: usize,
    /// D
    width: usize,
}

impl<V: Element> Columns<V> {
    pub(super) fn new<M: Micro<Value = V>>(
        engine: Engine<M>,
        heads: Heads,
        blocks: &KeyBlocks,
        source: &[f32],
    ) -> Self {
        let (n_heads, width) = (heads.n_kv_heads, heads.width);
        let mut values = unfilled(blocks.n_columns::<M>() * n_heads * width);
        let length = |block: &KeyBlock| columns::<M>(block.keys.len()) * n_heads * width;
        blocks.fill(&mut values, length, |block, of_block| {
            let (n_keys, stride) = (block.keys.len(), columns::<M>(block.keys.len()));
            let mut turned = vec![0.0; width * stride];
            for (head, out) in of_block.chunks_exact_mut(width * stride).enumerate() {
                let at = (block.first_token * n_heads + head) * width;
                transpose(engine.level(), &source[at..], n_heads * width, n_keys, width, &mut turned, stride);
                engine.convert(&turned, out);
            }
        });
        Self { values, n_heads, width }
    }

    /// Positions `part` of a block, which begin with a whole step. Up to the end of the last step, columns of the block
    /// follow them or, behind it, zeros.
    pub(super) fn left<M: Micro<Value = V>>(
        &self,
        block: &KeyBlock,
        kv_head: usize,
        part: &Range<usize>,
    ) -> Left<'_, V> {
        let stride = columns::<M>(block.keys.len());
        let start = (block.first_column * self.n_heads + kv_head * stride) * self.width;
        let values = &self.values[start + part.start - block.keys.start..start + self.width * stride];
        Left { values, stride, n_rows: self.width }
    }
}
