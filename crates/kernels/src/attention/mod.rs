//! Causal attention within each segment of a packed batch, with grouped key/value heads and an optional window.
//!
//! For query head h, its key/value head k = h / (H/K), a query at position t and the keys s of its segment with
//! t − window < s ≤ t:  p[t, s] = softmax over s of scale · q[t, h]·k[s, k],  y[t, h] = Σ over s of p[t, s] v[s, k].
//! Shapes: q, y [N, H, D]; k, v [N, K, D].
//!
//! Gradients, with e[t, h] = dy[t, h]·y[t, h] and dz[t, s] = p[t, s] · (dy[t, h]·v[s, k] − e[t, h]):
//! dv[s] = Σ p[t, s] dy[t, h],  dq[t, h] = scale · Σ dz[t, s] k[s],  dk[s] = scale · Σ dz[t, s] q[t, h],
//! the sums for dv and dk running over all queries and heads that see key s. Only the logarithm of each softmax's
//! denominator is kept for them; probabilities are computed again.
//!
//! The query heads that share a key/value head are the rows of one matrix, so that keys and values are never repeated,
//! and scores exist for one block of rows and keys at a time.

mod backward;
mod forward;
#[cfg(test)]
mod tests;

use std::ops::Range;

pub use backward::{Gradients, backward};
pub use forward::forward;

/// Rows (queries × heads of a group) of a block of scores: enough to make its products efficient.
const ROWS_PER_BLOCK: usize = 192;
/// Queries in a block: few enough that little is computed above the causal diagonal.
const QUERIES_PER_BLOCK: std::ops::RangeInclusive<usize> = 8..=64;
/// Keys of a block of scores, which then fits in a core's second-level cache.
const KEYS_PER_BLOCK: usize = 512;

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

    /// Of `n_rows` rows (queries from position `first_query` on, each with all heads of its group), those that see the
    /// key at position `key`.
    fn rows_that_see(&self, key: usize, first_query: usize, n_rows: usize) -> Range<usize> {
        let row_of =
            |query: usize| (query.saturating_sub(first_query)).saturating_mul(self.group()).min(n_rows);
        row_of(key)..row_of(key.saturating_add(self.window)).max(row_of(key))
    }

    fn queries_per_block(&self) -> usize {
        (ROWS_PER_BLOCK / self.group()).clamp(*QUERIES_PER_BLOCK.start(), *QUERIES_PER_BLOCK.end())
    }

    pub(crate) fn check(&self) {
        let Self { n_heads, n_kv_heads, .. } = *self;
        assert!(
            0 < n_kv_heads && n_heads.is_multiple_of(n_kv_heads) && 0 < self.window,
            "attention: {n_heads} query heads, {n_kv_heads} key/value heads, window {}",
            self.window
        );
    }
}

/// Copies the rows of some queries and one group of heads: row (query, head) of the result, times `factor`.
fn gather_rows(
    heads: Heads,
    source: &[f32],
    tokens: Range<usize>,
    kv_head: usize,
    factor: f32,
    rows: &mut [f32],
) {
    let length = heads.group() * heads.width;
    for (token, rows) in tokens.zip(rows.chunks_exact_mut(length)) {
        let start = token * heads.query_width() + kv_head * length;
        for (row, value) in rows.iter_mut().zip(&source[start..start + length]) {
            *row = value * factor;
        }
    }
}
