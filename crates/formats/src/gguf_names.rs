//! From the tensor names of llama.cpp to those of the Hugging Face hub, and back from its layouts.
//!
//! Two things differ besides names. For `llama` and `smollm3`, the rows of query and key projections are interleaved,
//! because llama.cpp rotates neighbouring pairs there where `transformers` rotates the two halves of a head. For
//! `gpt2`, matrices are stored transposed, because the hub keeps GPT-2's `Conv1D` as [in, out].

use crate::model_config::Architecture;

/// What has to be done to a tensor's values after reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Nothing.
    Same,
    /// Rows of each of `n_heads` heads go from interleaved pairs to two halves.
    Interleaved {
        /// Heads the rows belong to.
        n_heads: usize,
    },
    /// Rows and columns change places.
    Transposed,
}

/// The name on the hub and the layout of the tensor called `name` in a GGUF file; `None` for an unknown name.
pub(crate) fn hub_name(
    architecture: Architecture,
    n_heads: usize,
    n_kv_heads: usize,
    name: &str,
) -> Option<(String, Layout)> {
    match architecture {
        Architecture::Gpt2 => gpt2(name),
        _ => relative(architecture, n_heads, n_kv_heads, name),
    }
}

/// The block that a tensor belongs to.
pub(crate) fn block_idx(name: &str) -> Option<usize> {
    split_block(name).map(|(idx, _)| idx)
}

/// Brings `values` of a GGUF tensor of `shape` into the hub's layout; `None` when the shape does not allow it.
pub(crate) fn to_hub_layout(layout: Layout, shape: &mut [usize], values: Vec<f32>) -> Option<Vec<f32>> {
    match layout {
        Layout::Same => Some(values),
        Layout::Interleaved { n_heads } => {
            let (n_rows, row_lens) = shape.split_first()?;
            deinterleave(n_heads, *n_rows, row_lens.iter().product(), &values)
        }
        Layout::Transposed => {
            let [n_rows, n_columns] = *shape else { return None };
            let mut transposed = Vec::with_capacity(values.len());
            for column in 0..n_columns {
                transposed.extend(values.iter().skip(column).step_by(n_columns));
            }
            shape.copy_from_slice(&[n_columns, n_rows]);
            Some(transposed)
        }
    }
}

/// Brings the bytes of a GGUF matrix of `n_rows` rows into the hub's layout, row by row; `None` when the layouts differ
/// by more than the order of rows.
pub(crate) fn rows_to_hub_layout(layout: Layout, n_rows: usize, bytes: &[u8]) -> Option<Vec<u8>> {
    match layout {
        Layout::Same => Some(bytes.to_vec()),
        Layout::Interleaved { n_heads } => {
            deinterleave(n_heads, n_rows, bytes.len().checked_div(n_rows)?, bytes)
        }
        Layout::Transposed => None,
    }
}

/// Llama and its relatives. A name that another relative has gives a tensor that the model then finds no place for.
fn relative(
    architecture: Architecture,
    n_heads: usize,
    n_kv_heads: usize,
    name: &str,
) -> Option<(String, Layout)> {
    let outside = match name {
        "token_embd.weight" => Some("model.embed_tokens.weight"),
        "output_norm.weight" => Some("model.norm.weight"),
        "output.weight" => Some("lm_head.weight"),
        _ => None,
    };
    if let Some(hub) = outside {
        return Some((hub.to_owned(), Layout::Same));
    }
    let (idx, part) = split_block(name)?;
    let (module, kind) = part.rsplit_once('.')?;
    let rows = |n_heads| match architecture {
        Architecture::Llama | Architecture::Mistral | Architecture::SmolLm3 => {
            Layout::Interleaved { n_heads }
        }
        _ => Layout::Same,
    };
    let (module, layout) = match module {
        "attn_norm" => ("input_layernorm", Layout::Same),
        "attn_q" => ("self_attn.q_proj", rows(n_heads)),
        "attn_k" => ("self_attn.k_proj", rows(n_kv_heads)),
        "attn_v" => ("self_attn.v_proj", Layout::Same),
        "attn_qkv" => ("self_attn.qkv_proj", Layout::Same),
        "attn_q_norm" => ("self_attn.q_norm", Layout::Same),
        "attn_k_norm" => ("self_attn.k_norm", Layout::Same),
        "attn_output" => ("self_attn.o_proj", Layout::Same),
        "ffn_norm" | "post_attention_norm" => ("post_attention_layernorm", Layout::Same),
        "post_ffw_norm" => ("post_feedforward_layernorm", Layout::Same),
        "ffn_gate" => ("mlp.gate_proj", Layout::Same),
        "ffn_up" if architecture == Architecture::Phi3 => ("mlp.gate_up_proj", Layout::Same),
        "ffn_up" => ("mlp.up_proj", Layout::Same),
        "ffn_down" => ("mlp.down_proj", Layout::Same),
        _ => return None,
    };
    let is_norm = module.ends_with("norm");
    (kind == "weight" || (kind == "bias" && !is_norm))
        .then(|| (format!("model.layers.{idx}.{module}.{kind}"), layout))
}

fn gpt2(name: &str) -> Option<(String, Layout)> {
    let outside = match name {
        "token_embd.weight" => Some("transformer.wte.weight"),
        "position_embd.weight" => Some("transformer.wpe.weight"),
        "output_norm.weight" => Some("transformer.ln_f.weight"),
        "output_norm.bias" => Some("transformer.ln_f.bias"),
        "output.weight" => Some("lm_head.weight"),
        _ => None,
    };
    if let Some(hub) = outside {
        return Some((hub.to_owned(), Layout::Same));
    }
    let (idx, part) = split_block(name)?;
    let (module, kind) = part.rsplit_once('.')?;
    let (module, is_matrix) = match module {
        "attn_norm" => ("ln_1", false),
        "attn_qkv" => ("attn.c_attn", true),
        "attn_output" => ("attn.c_proj", true),
        "ffn_norm" => ("ln_2", false),
        "ffn_up" => ("mlp.c_fc", true),
        "ffn_down" => ("mlp.c_proj", true),
        _ => return None,
    };
    let layout = match kind {
        "weight" if is_matrix => Layout::Transposed,
        "weight" | "bias" => Layout::Same,
        _ => return None,
    };
    Some((format!("transformer.h.{idx}.{module}.{kind}"), layout))
}

/// "blk.3.attn_q.weight" → (3, "attn_q.weight"); only the canonical spelling of the number is taken.
fn split_block(name: &str) -> Option<(usize, &str)> {
    let (number, part) = name.strip_prefix("blk.")?.split_once('.')?;
    let idx: usize = number.parse().ok()?;
    (idx.to_string() == number).then_some((idx, part))
}

/// Row h·D + 2i + j of the file is row h·D + j·D/2 + i of the hub, for head h, half j and i < D/2.
fn deinterleave<T: Clone>(n_heads: usize, n_rows: usize, row_len: usize, values: &[T]) -> Option<Vec<T>> {
    if n_heads == 0 || !n_rows.is_multiple_of(2 * n_heads) {
        return None;
    }
    let head_rows = n_rows / n_heads;
    let mut rows = Vec::with_capacity(values.len());
    for head in values.chunks_exact((head_rows * row_len).max(1)) {
        for half in 0..2 {
            for i in 0..head_rows / 2 {
                let start = (2 * i + half) * row_len;
                rows.extend_from_slice(head.get(start..start + row_len)?);
            }
        }
    }
    Some(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_families() {
        let llama = |name| hub_name(Architecture::Llama, 8, 2, name);
        assert_eq!(llama("token_embd.weight"), Some(("model.embed_tokens.weight".into(), Layout::Same)));
        let q = llama("blk.11.attn_q.weight").unwrap();
        assert_eq!(q, ("model.layers.11.self_attn.q_proj.weight".into(), Layout::Interleaved { n_heads: 8 }));
        let k = llama("blk.0.attn_k.bias").unwrap();
        assert_eq!(k, ("model.layers.0.self_attn.k_proj.bias".into(), Layout::Interleaved { n_heads: 2 }));
        for unknown in [
            "blk.01.attn_q.weight",
            "blk.x.attn_q.weight",
            "blk.0.attn_q",
            "blk.0.attn_norm.bias",
            "x.weight",
            "blk.0.ffn_gate_exps.weight",
        ] {
            assert_eq!(llama(unknown), None, "{unknown}");
        }
        let q = hub_name(Architecture::Qwen2, 8, 2, "blk.0.attn_q.bias").unwrap();
        assert_eq!(q, ("model.layers.0.self_attn.q_proj.bias".into(), Layout::Same));
        let up = hub_name(Architecture::Phi3, 8, 2, "blk.0.ffn_up.weight").unwrap().0;
        assert_eq!(up, "model.layers.0.mlp.gate_up_proj.weight");
        assert_eq!(hub_name(Architecture::Qwen3, 8, 2, "blk.0.attn_q_norm.bias"), None);
        let gpt2 = |name| hub_name(Architecture::Gpt2, 8, 8, name);
        assert_eq!(
            gpt2("blk.2.ffn_up.weight"),
            Some(("transformer.h.2.mlp.c_fc.weight".into(), Layout::Transposed))
        );
        assert_eq!(gpt2("blk.2.ffn_up.bias"), Some(("transformer.h.2.mlp.c_fc.bias".into(), Layout::Same)));
        assert_eq!(block_idx("blk.2.ffn_up.bias"), Some(2));
        assert_eq!(block_idx("output.weight"), None);
    }

    #[test]
    fn layouts_are_undone() {
        // Two heads of four rows with two columns; the value says head, half and index within the half.
        let row = |head: usize, half: usize, i: usize| {
            let value = (100 * head + 10 * half + i) as f32;
            [value, value + 0.5]
        };
        let (mut file, mut hub) = (Vec::new(), Vec::new());
        for head in 0..2 {
            for (outer, inner) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                file.extend(row(head, inner, outer));
                hub.extend(row(head, outer, inner));
            }
        }
        let mut shape = [8, 2];
        assert_eq!(to_hub_layout(Layout::Interleaved { n_heads: 2 }, &mut shape, file), Some(hub));
        assert_eq!(to_hub_layout(Layout::Interleaved { n_heads: 3 }, &mut shape, vec![0.0; 16]), None);

        let mut shape = [2, 3];
        let values = vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let transposed = to_hub_layout(Layout::Transposed, &mut shape, values).unwrap();
        assert_eq!((shape, transposed), ([3, 2], vec![1.0, 4.0, 2.0, 5.0, 3.0, 6.0]));
    }
}
