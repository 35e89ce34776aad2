//! Causal attention within each segment of a packed batch, with grouped key/value heads and an optional window.
//!
//! For query head h, its key/value head k = h / (H/K), a query at position t and the keys s of its segment with
//! t − window < s ≤ t:  p[t, s] = softmax over s of scale · q[t, h]·k[s, k],  y[t, h] = Σ over s of p[t, s] v[s, k].
//! With a cap c, c·tanh(z/c) takes the place of each score z, and dz is multiplied by 1 − tanh²(z/c).
//! Shapes: q, y [N, H, D]; k, v [N, K, D].
//!
//! Gradients, with e[t, h] = dy[t, h]·y[t, h] and dz[t, s] = p[t, s] · (dy[t, h]·v[s, k] − e[t, h]):
//! dv[s] = Σ p[t, s] dy[t, h],  dq[t, h] = scale · Σ dz[t, s] k[s],  dk[s] = scale · Σ dz[t, s] q[t, h],
//! the sums for dv and dk running over all queries and heads that see key s. Only the logarithm of each softmax's
//! denominator is kept for them; probabilities are computed again.
//!
//! The query heads that share a key/value head are the rows of one matrix, in the order (query, head of the group), so
//! that keys and values are never repeated. Rows are taken a panel of a product at a time, keys a block at a time;
//! scores exist for one panel and one block, as [keys, rows], and are used where they lie, in a core's cache.

mod backward;
mod forward;
mod key_blocks;
#[cfg(test)]
mod tests;

use std::ops::Range;

use crate::math::tanh;
use crate::simd::simd_kernel;

pub use backward::{Gradients, backward};
pub use forward::forward;

/// Keys of a block: with it, and what belongs to it, a core's second-level cache is far from full.
const KEYS_PER_BLOCK: usize = 128;

/// The heads and what they may see.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Heads {
    /// H
    pub n_heads: usize,
    /// K, which divides H.
    pub n_kv_heads: usize,
    /// D
    pub width: usize,
    /// Factor on the scores.
    pub scale: f32,
    /// Bound that scores approach and never pass; `None` leaves them as they are.
    pub cap: Option<f32>,
    /// Keys a query sees, its own position included; `usize::MAX` for all before it.
    pub window: usize,
}

impl Heads {
    /// Query heads per key/value head.
    pub(crate) fn group(&self) -> usize {
        self.n_heads / self.n_kv_heads
    }

    /// Elements of one token's queries, H·D.
    pub(crate) fn query_width(&self) -> usize {
        self.n_heads * self.width
    }

    /// Elements of one token's keys, K·D.
    pub(crate) fn key_width(&self) -> usize {
        self.n_kv_heads * self.width
    }

    /// The positions that a query at position `query` sees.
    pub(crate) fn visible(&self, query: usize) -> Range<usize> {
        (query + 1).saturating_sub(self.window)..query + 1
    }

    /// The positions that any of these rows of a segment sees; at least one row sees each.
    fn visible_to(&self, rows: Range<usize>) -> Range<usize> {
        let (first, last) = (rows.start / self.group(), (rows.end - 1) / self.group());
        self.visible(first).start..last + 1
    }

    /// Of the `n_rows` rows of a segment from `first_row` on, those that see the key at position `key`, counted from
    /// `first_row`.
    fn rows_that_see(&self, key: usize, first_row: usize, n_rows: usize) -> Range<usize> {
        let row_of = |query: usize| query.saturating_mul(self.group()).saturating_sub(first_row).min(n_rows);
        row_of(key)..row_of(key.saturating_add(self.window))
    }

    pub(crate) fn check(&self) {
        let Self { n_heads, n_kv_heads, .. } = *self;
        assert!(
            0 < n_kv_heads
                && n_heads.is_multiple_of(n_kv_heads)
                && 0 < self.window
                && self.cap.is_none_or(|cap| cap > 0.0),
            "attention: {n_heads} query heads, {n_kv_heads} key/value heads, window {}, cap {:?}",
            self.window,
            self.cap
        );
    }
}

simd_kernel! {
    /// Fills the first rows of `out`, [rows, D], with rows `rows` of a segment that starts at token `start`, times `factor`,
    /// and what follows with 0.
    fn gather_rows<S>(
        heads: Heads,
        source: &[f32],
        start: usize,
        kv_head: usize,
        rows: Range<usize>,
        factor: f32,
        out: &mut [f32],
    ) {
        let group = heads.group();
        let length = group * heads.width;
        // The rows of one query lie together.
        let mut skipped = rows.start % group;
        let mut query = rows.start / group;
        let (mut out, rest) = out.split_at_mut(rows.len() * heads.width);
        rest.fill(0.0);
        while !out.is_empty() {
            let at = (start + query) * heads.query_width() + kv_head * length;
            let source = &source[at + skipped * heads.width..at + length];
            let (of_query, rest) = out.split_at_mut(source.len().min(out.len()));
            for (out, value) in of_query.iter_mut().zip(source) {
                *out = value * factor;
            }
            (out, skipped, query) = (rest, 0, query + 1);
        }
    }
}

simd_kernel! {
    /// z ← cap·tanh(z/cap) for each score.
    pub(crate) fn cap_scores<S>(cap: f32, scores: &mut [f32]) {
        let inverse = 1.0 / cap;
        for score in scores.iter_mut() {
            *score = cap * tanh::<S>(*score * inverse);
        }
    }
}

/// Which of the queries [N, H, ·] the rows `rows` of a segment are that starts at token `start`.
fn query_indices(
    heads: Heads,
    start: usize,
    kv_head: usize,
    rows: Range<usize>,
) -> impl Iterator<Item = usize> {
    let group = heads.group();
    // Counted on, since dividing for every row would take longer than many a row's work.
    let (mut query, mut head) = (rows.start / group, rows.start % group);
    rows.map(move |_| {
        let idx = (start + query) * heads.n_heads + kv_head * group + head;
        head += 1;
        if head == group {
            (query, head) = (query + 1, 0);
        }
        idx
    })
}
