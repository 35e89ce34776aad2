//! What differs from block to block: how far attention looks back, and whether positions are rotated.

use serde_json::Value;

use crate::error::Result;
use crate::json_keys::Keys;

/// More blocks are taken for damage before anything is allocated for each.
const MOST_LAYERS: usize = 4096;

/// Attention of one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerAttention {
    /// A position attends to itself and the `window − 1` positions before it; `None` is all before it.
    pub window: Option<usize>,
    /// How queries and keys know their positions.
    pub positions: Positions,
}

/// How queries and keys know their positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Positions {
    /// Rotated by the model's frequencies.
    Rotary,
    /// Not at all, or by a vector added to the embedding.
    None,
}

/// The number of blocks.
pub(super) fn n_layers(keys: &Keys, key: &str, n_layers: usize) -> Result<usize> {
    match n_layers {
        0..=MOST_LAYERS => Ok(n_layers),
        _ => Err(keys.error(key, format!("{n_layers} blocks, more than {MOST_LAYERS}, are not believed"))),
    }
}

/// Which of the blocks have a window, by `layer_types`; where that is absent, by `slides`.
pub(super) fn sliding(keys: &Keys, n_layers: usize, slides: impl Fn(usize) -> bool) -> Result<Vec<bool>> {
    let Some(types) = keys.get("layer_types") else { return Ok((0..n_layers).map(slides).collect()) };
    let slides = |kind: &Value| match kind.as_str() {
        Some("sliding_attention") => Some(true),
        Some("full_attention") => Some(false),
        _ => None,
    };
    types
        .as_array()
        .filter(|types| types.len() == n_layers)
        .and_then(|types| types.iter().map(slides).collect())
        .ok_or_else(|| {
            let reason =
                format!("expected \"full_attention\" or \"sliding_attention\" for each of {n_layers} blocks");
            keys.error("layer_types", reason)
        })
}

/// Which of the blocks rotate positions, by a list of 1 and 0; `None` if the key is absent.
pub(super) fn flags(keys: &Keys, key: &str, n_layers: usize) -> Result<Option<Vec<bool>>> {
    let Some(list) = keys.get(key) else { return Ok(None) };
    let flag = |value: &Value| value.as_bool().or_else(|| value.as_u64().map(|n| n != 0));
    list.as_array()
        .filter(|list| list.len() >= n_layers)
        .and_then(|list| list.iter().take(n_layers).map(flag).collect())
        .map(Some)
        .ok_or_else(|| keys.error(key, format!("expected 0 or 1 for each of {n_layers} blocks")))
}
