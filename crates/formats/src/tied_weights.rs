//! Weights that a file holds several times, or that it only seems to hold several times: T5's embedding.
//!
//! Old files have the embedding of encoder and decoder beside the shared one, and a tied head beside both. transformers 5
//! writes every T5 as tied, also those with a head of their own, and goes by the values when it reads them; so does this.

use std::path::Path;

use crate::error::{FormatError, Result};
use crate::model_config::{Architecture, ModelConfig};

const SHARED: &str = "shared.weight";
const COPIES: [&str; 2] = ["encoder.embed_tokens.weight", "decoder.embed_tokens.weight"];
const HEAD: &str = "lm_head.weight";

/// The names of what is stored once too often; a head that is another matrix makes the configuration untied. `bytes` gives
/// what is stored under a name.
///
/// # Errors
/// [`FormatError::Malformed`] when encoder and decoder have embeddings of their own.
pub(crate) fn settle<'a>(
    path: &Path,
    config: &mut ModelConfig,
    bytes: impl Fn(&str) -> Option<&'a [u8]>,
) -> Result<Vec<&'static str>> {
    if config.architecture != Architecture::T5 {
        return Ok(Vec::new());
    }
    let shared = bytes(SHARED);
    let mut copies = Vec::new();
    for name in COPIES {
        match bytes(name) {
            None => {}
            stored if stored == shared => copies.push(name),
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
    if config.tie_word_embeddings {
        match bytes(HEAD) {
            None => {}
            stored if stored == shared => copies.push(HEAD),
            Some(_) => config.tie_word_embeddings = false,
        }
    }
    Ok(copies)
}
