//! A SentencePiece BPE vocabulary (pieces with scores) as the rules of a `tokenizer.json`.
//!
//! SentencePiece joins the neighbouring pieces whose union has the best score; the `tokenizers` crate joins
//! those whose *pair* comes first in a list of merges. The list is therefore every way to split a piece into
//! two others, best score first.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::pieces::byte_piece;

/// Kinds of pieces, numbered as in SentencePiece and GGUF.
pub(super) mod piece_type {
    /// Made by merging.
    pub(in super::super) const NORMAL: i64 = 1;
    /// Stands for what cannot be expressed.
    pub(in super::super) const UNKNOWN: i64 = 2;
    /// Never found in a text.
    pub(in super::super) const CONTROL: i64 = 3;
    /// Found in a text as a whole, before merging.
    pub(in super::super) const USER_DEFINED: i64 = 4;
}

/// A vocabulary; the arrays have one entry for each id.
pub(super) struct Pieces<'a> {
    /// The pieces' texts, all different.
    pub(super) texts: &'a [String],
    /// Higher is joined earlier.
    pub(super) scores: &'a [f64],
    /// See [`piece_type`].
    pub(super) types: &'a [i64],
    /// Id of the piece for what cannot be expressed.
    pub(super) unknown_id: u32,
    /// Whether a space is put before a text and after special tokens.
    pub(super) add_space_prefix: bool,
}

/// `normalizer`, `pre_tokenizer`, `decoder` and `model` of a `tokenizer.json`.
pub(super) fn rules(pieces: &Pieces<'_>, vocab: &Value) -> Vec<(&'static str, Value)> {
    let unknown = usize::try_from(pieces.unknown_id).ok().and_then(|id| pieces.texts.get(id));
    let has_bytes = pieces.texts.iter().any(|text| byte_piece(text).is_some());
    let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
    let mut normalizers = vec![replace];
    let mut decoders = vec![
        json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if pieces.add_space_prefix {
        normalizers.insert(0, json!({"type": "Prepend", "prepend": "▁"}));
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    vec![
        ("normalizer", json!({"type": "Sequence", "normalizers": normalizers})),
        ("pre_tokenizer", Value::Null),
        ("decoder", json!({"type": "Sequence", "decoders": decoders})),
        (
            "model",
            json!({
                "type": "BPE", "dropout": null, "unk_token": unknown, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": has_bytes, "ignore_merges": false,
                "vocab": vocab, "merges": merges(pieces),
            }),
        ),
    ]
}

/// Longer pieces come from no trainer (SentencePiece's own limit is 16 characters); splitting one at every place
/// takes time that grows with the square of its length.
const MAX_PIECE_BYTES: usize = 4096;

/// Every split of a normal piece into two normal pieces, by falling score of the whole.
fn merges(pieces: &Pieces<'_>) -> Vec<[String; 2]> {
    let normal: HashMap<&str, usize> = pieces
        .texts
        .iter()
        .zip(pieces.types)
        .enumerate()
        .filter(|(_, (_, kind))| **kind == piece_type::NORMAL)
        .map(|(id, (text, _))| (text.as_str(), id))
        .collect();
    // In order of ids: map iteration would make the order of equal scores a matter of chance.
    let mut found: Vec<(f64, [&str; 2])> = Vec::new();
    for ((text, score), kind) in pieces.texts.iter().zip(pieces.scores).zip(pieces.types) {
        if *kind != piece_type::NORMAL || text.len() > MAX_PIECE_BYTES {
            continue;
        }
        let mut pairs: Vec<(usize, usize, [&str; 2])> = text
            .char_indices()
            .skip(1)
            .filter_map(|(at, _)| {
                let (left, right) = text.split_at(at);
                Some((*normal.get(left)?, *normal.get(right)?, [left, right]))
            })
            .collect();
        pairs.sort_unstable();
        found.extend(pairs.into_iter().map(|(_, _, pair)| (*score, pair)));
    }
    found.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    found.into_iter().map(|(_, [left, right])| [left.to_owned(), right.to_owned()]).collect()
}
