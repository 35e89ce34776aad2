//! Tokenizers: text to token ids and back, from a Hugging Face folder or from a GGUF file.
//!
//! The work itself is done by the `tokenizers` crate, the same code that the Python libraries call. This
//! module adds what lies around it: the special tokens and their fall-backs, the chat template, the bytes a
//! single token stands for, streaming output, building a tokenizer from the vocabulary in a GGUF file, and
//! writing files that transformers loads.
//!
//! Encoding never adds a token of its own: no beginning-of-text, no end-of-text, no padding, no truncation.
//! The text of a special token inside the input is recognised as that token.

mod assemble;
mod folder;
mod gguf;
mod oniguruma;
mod pieces;
mod prefix_space;
mod pretokenizers;
mod save;
mod sentencepiece;
mod special;
mod step_limit;
mod stream;
mod templates;
mod vocab_files;

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use tokenizers::AddedToken;

use crate::chat_template::ChatTemplate;
use crate::error::{FormatError, Result};
use crate::gguf_metadata::Metadata;
use pieces::PieceKind;
use prefix_space::PrefixSpace;
use special::SpecialTokens;
use step_limit::StepLimit;
use templates::Templates;

pub use stream::DecodeStream;

/// A tokenizer with its special tokens and chat template.
#[derive(Clone)]
pub struct Tokenizer {
    // Shared by clones: a vocabulary takes tens of megabytes.
    inner: Arc<tokenizers::Tokenizer>,
    origin: PathBuf,
    /// `tokenizer_config.json` without the chat template.
    config: Map<String, Value>,
    special: SpecialTokens,
    special_ids: BTreeSet<u32>,
    templates: Templates,
    piece_kind: PieceKind,
    prefix_space: PrefixSpace,
    vocab_size: usize,
    /// Texts begin without a beginning-of-text token, whatever the tokenizer's own rules say.
    leaves_out_start: bool,
    step_limit: Arc<StepLimit>,
    without_prefix: OnceLock<Option<Arc<tokenizers::Tokenizer>>>,
    fingerprint: OnceLock<String>,
}

impl Tokenizer {
    /// Reads the tokenizer of a model folder in Hugging Face layout: `tokenizer.json` and, where present,
    /// `tokenizer_config.json`, `special_tokens_map.json`, `chat_template.jinja`, `additional_chat_templates` and
    /// `config.json`. Without a `tokenizer.json` `vocab.json` and `merges.txt` of a GPT-2 or Qwen 2 tokenizer will do.
    ///
    /// # Errors
    /// [`FormatError::Missing`] without a `tokenizer.json`, [`FormatError::Json`] or
    /// [`FormatError::Tokenizer`] when the files do not make a tokenizer.
    pub fn from_folder(dir: &Path) -> Result<Self> {
        folder::read(dir)
    }

    /// Builds the tokenizer that a GGUF file's `tokenizer.ggml.*` metadata describes.
    ///
    /// # Errors
    /// [`FormatError::Tokenizer`] when the vocabulary is damaged, or its kind or pre-tokenizer is not known
    /// here: guessing one would give wrong ids without anybody noticing.
    pub fn from_gguf(metadata: &Metadata) -> Result<Self> {
        gguf::build(metadata)
    }

    /// The ids of `text`.
    ///
    /// # Errors
    /// [`FormatError::Tokenizer`] when the tokenizer's own rules fail on this text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.encode_with(&self.inner, text)
    }

    /// The ids of `text` as they are where it continues a text whose last id is `previous`.
    ///
    /// SentencePiece vocabularies put a space before the first word of a text, and some before the first word
    /// after every special token. A part of a text that is encoded on its own must not get such a space.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_continuation(&self, text: &str, previous: Option<u32>) -> Result<Vec<u32>> {
        let added = self.inner.get_added_vocabulary().get_added_tokens_decoder();
        let follows_added = previous.is_some_and(|id| added.contains_key(&id));
        let plain = match (previous, self.prefix_space) {
            (None, _) | (_, PrefixSpace::Never) => return self.encode(text),
            (_, PrefixSpace::EverySegment) if follows_added => return self.encode(text),
            _ => self.without_prefix()?,
        };
        let mut ids = self.encode_with(plain, text)?;
        if self.prefix_space == PrefixSpace::EverySegment {
            // Only what stands before the first added token continues the earlier text.
            if let Some(first_added) = ids.iter().position(|id| added.contains_key(id)) {
                let prefixed = self.encode(text)?;
                let same = prefixed.iter().position(|id| added.contains_key(id)).unwrap_or(prefixed.len());
                ids.truncate(first_added);
                ids.extend(prefixed.into_iter().skip(same));
            }
        }
        Ok(ids)
    }

    /// The beginning-of-text token, if the tokenizer puts it in front of texts by itself.
    pub fn start_id(&self) -> Option<u32> {
        if self.leaves_out_start {
            return None;
        }
        self.around().0.first().copied().filter(|id| Some(*id) == self.bos_id())
    }

    /// The end-of-text token, if the tokenizer puts it after texts by itself, as T5's does.
    pub fn end_id(&self) -> Option<u32> {
        self.around().1.last().copied().filter(|id| *id == self.eos_id())
    }

    /// What the tokenizer puts before and after every text by itself (its post-processor): in most one token or none, in
    /// some, such as GLM's, several. The files' `add_bos_token` and `add_eos_token` change nothing: transformers does not look at
    /// them where there is a `tokenizer.json`.
    pub fn around(&self) -> (Vec<u32>, Vec<u32>) {
        let encode = |special| self.inner.encode("a", special).map(|encoding| encoding.get_ids().to_vec());
        let (Ok(plain), Ok(whole)) = (encode(false), encode(true)) else { return Default::default() };
        let n_before = if plain.is_empty() {
            // The vocabulary cannot say "a": what ends a text is told by its role.
            let ends = |id: &u32| *id == self.eos_id() && Some(*id) != self.bos_id();
            whole.iter().position(ends).or(Some(whole.len()))
        } else {
            whole.windows(plain.len()).position(|part| part == plain)
        };
        let Some((before, rest)) = n_before.and_then(|n_before| whole.split_at_checked(n_before)) else {
            return Default::default();
        };
        (before.to_vec(), rest.get(plain.len()..).unwrap_or_default().to_vec())
    }

    /// The same tokenizer without a beginning-of-text token in front of texts.
    #[must_use]
    pub fn without_start(mut self) -> Self {
        self.leaves_out_start = true;
        self
    }

    /// The ids of a text that nothing precedes: with the token of [`Tokenizer::start_id`] in front, unless the text begins
    /// with it.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_from_start(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids = self.encode(text)?;
        if let Some(start) = self.start_id().filter(|start| ids.first() != Some(start)) {
            ids.insert(0, start);
        }
        Ok(ids)
    }

    /// The same tokenizer with another token to end texts; `None` when the vocabulary has no such token.
    #[must_use]
    pub fn with_eos(mut self, id: u32) -> Option<Self> {
        let text = self.inner.id_to_token(id)?;
        self.config.insert("eos_token".to_owned(), Value::from(text.as_str()));
        self.special.eos = special::Named { text, id };
        self.special_ids.insert(id);
        self.fingerprint = OnceLock::new();
        Some(self)
    }

    /// The text of `ids`; with `skip_special` without the special tokens. Ids outside the vocabulary have no
    /// text.
    ///
    /// # Errors
    /// [`FormatError::Tokenizer`] when the tokenizer's own rules fail on these ids.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String> {
        self.inner.decode(ids, skip_special).map_err(|error| self.error(format!("cannot decode: {error}")))
    }

    /// A decoder that takes ids one by one and gives text as soon as it is certain; special tokens are left out.
    pub fn stream(&self) -> DecodeStream<'_> {
        DecodeStream::new(self, true)
    }

    /// As [`Tokenizer::stream`], with the text of special tokens.
    pub fn stream_with_special(&self) -> DecodeStream<'_> {
        DecodeStream::new(self, false)
    }

    /// The bytes that a token stands for inside a text; they need not be whole characters. Empty for an id
    /// outside the vocabulary.
    pub fn token_bytes(&self, id: u32) -> Vec<u8> {
        if let Some(token) = self.inner.get_added_vocabulary().get_added_tokens_decoder().get(&id) {
            return token.content.clone().into_bytes();
        }
        self.inner.id_to_token(id).map_or_else(Vec::new, |piece| self.piece_kind.bytes(&piece))
    }

    /// The text that a token stands for, readable: bytes that are no whole character as `<0xE2>`, an id
    /// outside the vocabulary as `<id 70000>`.
    pub fn token_text(&self, id: u32) -> String {
        if self.inner.id_to_token(id).is_none() {
            return format!("<id {id}>");
        }
        pieces::readable(&self.token_bytes(id))
    }

    /// Whether `id` is a special token: one that steers the model and is no part of what is said.
    pub fn is_special(&self, id: u32) -> bool {
        self.special_ids.contains(&id)
    }

    /// The texts of the special tokens.
    pub fn special_texts(&self) -> Vec<String> {
        self.special_ids.iter().filter_map(|id| self.inner.id_to_token(*id)).collect()
    }

    /// The id of the token written exactly `text` in the vocabulary.
    pub fn token_id(&self, text: &str) -> Option<u32> {
        self.inner.token_to_id(text)
    }

    /// One more than the largest id: the number of rows the embedding must have at least.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// Text of the token that ends a text or a turn; `</s>` when the tokenizer names none but has that.
    pub fn eos_token(&self) -> &str {
        &self.special.eos.text
    }

    /// Id of [`Tokenizer::eos_token`].
    pub fn eos_id(&self) -> u32 {
        self.special.eos.id
    }

    /// Text of the token that starts a text, if the tokenizer names one. Nothing here inserts it.
    pub fn bos_token(&self) -> Option<&str> {
        self.special.bos.as_ref().map(|token| token.text.as_str())
    }

    /// Id of [`Tokenizer::bos_token`].
    pub fn bos_id(&self) -> Option<u32> {
        self.special.bos.as_ref().map(|token| token.id)
    }

    /// Id to start a text with where some token is needed: beginning of text, else end of text.
    pub fn bos_or_eos_id(&self) -> u32 {
        self.bos_id().unwrap_or(self.special.eos.id)
    }

    /// Text of the token for what the vocabulary cannot express, if the tokenizer names one.
    pub fn unk_token(&self) -> Option<&str> {
        self.special.unk.as_ref().map(|token| token.text.as_str())
    }

    /// Id of [`Tokenizer::unk_token`].
    pub fn unk_id(&self) -> Option<u32> {
        self.special.unk.as_ref().map(|token| token.id)
    }

    /// Text of the padding token; the unknown token or else the end of text when the tokenizer names none.
    pub fn pad_token(&self) -> &str {
        &self.special.pad_or_fallback().text
    }

    /// Id of [`Tokenizer::pad_token`].
    pub fn pad_id(&self) -> u32 {
        self.special.pad_or_fallback().id
    }

    /// The chat template, if the model has one.
    pub fn chat_template(&self) -> Option<&ChatTemplate> {
        self.templates.default.as_ref()
    }

    /// The chat template called `name`, such as "tool_use" or "rag"; "default" is that of [`Tokenizer::chat_template`].
    pub fn named_chat_template(&self, name: &str) -> Option<&ChatTemplate> {
        self.templates.get(name)
    }

    /// The names of the chat templates beside the default one, sorted.
    pub fn chat_template_names(&self) -> impl Iterator<Item = &str> {
        self.templates.named.keys().map(String::as_str)
    }

    /// Replaces the chat template; those with other names stay.
    #[must_use]
    pub fn with_chat_template(mut self, template: Option<ChatTemplate>) -> Self {
        self.templates.default = template;
        self.fingerprint = OnceLock::new();
        self
    }

    /// Where the tokenizer was read from.
    pub fn origin(&self) -> &Path {
        &self.origin
    }

    /// Adds tokens that are matched as a whole in any text; those the vocabulary has already only become
    /// whole. Returns how many ids are new; they follow the largest one.
    ///
    /// # Errors
    /// [`FormatError::Tokenizer`] when the tokenizer cannot take one of them.
    pub fn add_tokens(&mut self, texts: &[String]) -> Result<usize> {
        let before = self.vocab_size;
        let inner = Arc::make_mut(&mut self.inner);
        let added = inner.add_tokens(texts.iter().map(|text| AddedToken::from(text.as_str(), false)));
        added.map_err(|error| self.error(format!("cannot add tokens: {error}")))?;
        self.vocab_size = assemble::vocab_size(&self.inner);
        self.without_prefix = OnceLock::new();
        self.fingerprint = OnceLock::new();
        Ok(self.vocab_size - before)
    }

    /// Switches the space before the first word of a text on or off (`add_prefix_space` of transformers).
    ///
    /// # Errors
    /// [`FormatError::Tokenizer`] when the tokenizer's rules cannot be changed that way.
    pub fn with_prefix_space(self, add_prefix_space: bool) -> Result<Self> {
        prefix_space::set(self, add_prefix_space)
    }

    /// SHA-256 (hexadecimal) over everything that decides ids, special tokens and rendered conversations.
    pub fn fingerprint(&self) -> String {
        self.fingerprint
            .get_or_init(|| {
                let mut hasher = Sha256::new();
                // A tokenizer that was built from JSON serialises again; the empty text is never reached.
                hasher.update(self.inner.to_string(false).unwrap_or_default());
                for token in [Some(&self.special.eos), self.special.bos.as_ref(), self.special.unk.as_ref()] {
                    hasher.update(token.map_or(u32::MAX, |token| token.id).to_le_bytes());
                }
                hasher.update(self.templates.default.as_ref().map_or("", ChatTemplate::source));
                for (name, template) in &self.templates.named {
                    hasher.update(format!("\n{name}\n{}", template.source()));
                }
                hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
            })
            .clone()
    }

    /// Writes `tokenizer.json`, `tokenizer_config.json` (with the chat templates) and
    /// `special_tokens_map.json` into `dir`, which must exist. transformers loads them.
    ///
    /// # Errors
    /// [`FormatError::Io`] when a file cannot be written.
    pub fn save(&self, dir: &Path) -> Result<()> {
        save::write(self, dir)
    }

    fn encode_with(&self, inner: &tokenizers::Tokenizer, text: &str) -> Result<Vec<u32>> {
        self.step_limit
            .check(text)
            .map_err(|reason| self.error(format!("cannot encode {:?}…: {reason}", head(text))))?;
        let encoding = inner
            .encode_fast(text, false)
            .map_err(|error| self.error(format!("cannot encode {:?}…: {error}", head(text))))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The same tokenizer without the space before a text; for [`PrefixSpace::Never`] it would be the same.
    fn without_prefix(&self) -> Result<&tokenizers::Tokenizer> {
        self.without_prefix
            .get_or_init(|| prefix_space::rules_without(&self.inner).ok().map(Arc::new))
            .as_deref()
            .ok_or_else(|| self.error("the space before a text cannot be switched off".into()))
    }

    fn error(&self, reason: String) -> FormatError {
        FormatError::Tokenizer { path: self.origin.clone(), reason }
    }
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokenizer")
            .field("origin", &self.origin)
            .field("vocab_size", &self.vocab_size)
            .field("special", &self.special)
            .finish_non_exhaustive()
    }
}

/// The start of a text, for error messages.
fn head(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod foreign_tests;
#[cfg(test)]
mod tests;
