//! Weights that a file holds several times, or only seems to: an output head beside the embedding it is tied to, and T5's
//! embeddings of encoder and decoder.
//!
//! Whether a head is tied is settled as by transformers 5: a stored head that differs from the embedding counts, whatever
//! `tie_word_embeddings` says (the version before put the embedding in its place). That is told, as the file contradicts itself.
//! transformers 5 writes every T5 as tied, also those with a head of their own, so there it is no contradiction.

use std::path::Path;

use crate::error::{FormatError, Result};
use crate::model_config::{Architecture, ModelConfig};
use crate::safetensors_io::TensorInfo;
use crate::sequence_classifier::SequenceClassifier;

const SHARED: &str = "shared.weight";
const COPIES: [&str; 2] = ["encoder.embed_tokens.weight", "decoder.embed_tokens.weight"];

/// A stored tensor with its bytes.
type Stored<'a> = (&'a TensorInfo, &'a [u8]);

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    /// The names of what is stored once too often.
    pub(crate) copies: Vec<&'static str>,
    /// What the user should know.
    pub(crate) notes: Vec<String>,
}

/// Makes the configuration say what the stored weights are. `stored` gives what lies under a name of the hub.
///
/// # Errors
/// [`FormatError::Malformed`] when encoder and decoder have embeddings of their own; [`FormatError::NotAModel`] for a head that
/// is neither stored nor tied.
pub(crate) fn settle<'a>(
    path: &Path,
    config: &mut ModelConfig,
    stored: impl Fn(&str) -> Option<Stored<'a>>,
) -> Result<Settled> {
    let mut settled = Settled::default();
    let is_t5 = config.architecture == Architecture::T5;
    let embedding = stored(config.architecture.embedding_name());
    if is_t5 {
        for name in COPIES {
            match stored(name) {
                None => {}
                Some(copy) if embedding.is_some_and(|shared| are_equal(copy, shared)) => {
                    settled.copies.push(name);
                }
                Some(_) => {
                    return Err(FormatError::Malformed {
                        path: path.to_owned(),
                        format: "T5",
                        reason: format!(
                            "{name} is not {SHARED}; encoder and decoder have to share their embedding"
                        ),
                    });
                }
            }
        }
    }
    let head_name = config.architecture.head_name();
    match (config.tie_word_embeddings, stored(head_name)) {
        (true, Some(head)) if embedding.is_some_and(|embedding| are_equal(head, embedding)) => {
            settled.copies.push(head_name);
        }
        (true, Some(_)) => {
            config.tie_word_embeddings = false;
            if !is_t5 {
                settled.notes.push(format!(
                    "config.json says tie_word_embeddings, but {head_name} is stored and differs from the embedding; the \
                     stored head is used, as by transformers 5"
                ));
            }
        }
        (false, None) if SequenceClassifier::of(config).is_none() => {
            return Err(FormatError::NotAModel {
                path: path.to_owned(),
                reason: format!(
                    "config.json says that its output head is not the embedding (tie_word_embeddings is false), and {head_name} \
                     is not stored"
                ),
            });
        }
        _ => {}
    }
    Ok(settled)
}

/// Whether two tensors have the same shape and values.
fn are_equal((a, a_bytes): Stored<'_>, (b, b_bytes): Stored<'_>) -> bool {
    if a.shape != b.shape {
        return false;
    }
    if a.dtype == b.dtype {
        return a_bytes == b_bytes;
    }
    // Stored in two formats, which is rare: compared as float32, a piece at a time.
    const PIECE_VALUES: usize = 1 << 16;
    let n_values: usize = a.shape.iter().product();
    let width = |info: &TensorInfo| {
        info.n_bytes.checked_div(n_values).filter(|width| width * n_values == info.n_bytes)
    };
    let (Some(a_width), Some(b_width)) = (width(a), width(b)) else { return false };
    let pieces =
        a_bytes.chunks(PIECE_VALUES * a_width.max(1)).zip(b_bytes.chunks(PIECE_VALUES * b_width.max(1)));
    pieces.into_iter().all(|(of_a, of_b)| {
        let (of_a, of_b) = (a.dtype.decode(of_a), b.dtype.decode(of_b));
        of_a.is_some() && of_a == of_b
    })
}
