//! The tokens of an earlier run on the disk, found by a hash of everything that decides them.
//!
//! One file a set, `samples-KEY.bin`, little-endian:
//!
//! ```text
//! magic (8 bytes) · key (32) · number of samples (u64)
//! each sample: row u64 · tokens n u64 · rejected u64 · source u64 · seven counts and flags of the notes · n ids u32 · n flags u8
//! SHA-256 of all that (32)
//! ```
//!
//! A file that is damaged, cut off or of another version is as good as none.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tunesmith_formats::atomic::write_file;

use crate::conversation::{Conversation, Target};
use crate::error::{DataError, Result};
use crate::sample::Assembler;
use crate::token_sample::{SampleNotes, TokenSample};

/// Changes with the layout of the file and with the rules of assembly, so that old files are never taken.
const MAGIC: &[u8; 8] = b"TSTOKEN3";

/// Hash of everything that decides the tokens of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key([u8; 32]);

/// The key of `conversations` as `assembler` would turn them into tokens.
pub(crate) fn key(assembler: &Assembler, conversations: &[Conversation]) -> Key {
    let mut hasher = Sha256::new();
    // A length before each text keeps ("ab", "c") and ("a", "bc") apart.
    let mut add = |bytes: &[u8]| {
        hasher.update((bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    add(MAGIC);
    add(format!("{:?}", assembler.options()).as_bytes());
    add(assembler.tokenizer().fingerprint().as_bytes());
    for conversation in conversations {
        add(&(conversation.row as u64).to_le_bytes());
        add(&(conversation.rounds.len() as u64).to_le_bytes());
        for round in &conversation.rounds {
            for text in [&round.system, &round.prompt, &round.answer] {
                add(text.as_bytes());
            }
            match &round.target {
                Target::Answer => add(b"answer"),
                Target::Text { starts, ends } => add(format!("text {starts} {ends}").as_bytes()),
                // What the values are is not in the tokens.
                Target::Values(_) => add(b"values"),
                Target::Judged { mismatched_answer, .. } => {
                    add(b"judged");
                    add(mismatched_answer.as_bytes());
                }
                Target::Preference { rejected_prompt, rejected_answer } => {
                    add(b"preference");
                    add(rejected_answer.as_bytes());
                    if let Some(prompt) = rejected_prompt {
                        add(prompt.as_bytes());
                    }
                }
            }
        }
    }
    Key(hasher.finalize().into())
}

/// The `n_samples` samples stored for `key`, if they are there and whole.
pub(crate) fn read(dir: &Path, key: &Key, n_samples: usize) -> Option<Vec<(TokenSample, SampleNotes)>> {
    let bytes = fs::read(path(dir, key)).ok()?;
    let (content, checksum) = bytes.split_at_checked(bytes.len().checked_sub(32)?)?;
    if Sha256::digest(content).as_slice() != checksum {
        return None;
    }
    let mut reader = Reader(content);
    if reader.take(MAGIC.len())? != MAGIC || reader.take(32)? != key.0 || reader.count()? != n_samples {
        return None;
    }
    let samples = (0..n_samples).map(|_| reader.sample()).collect::<Option<Vec<_>>>()?;
    reader.0.is_empty().then_some(samples)
}

/// Stores `samples` for `key`.
pub(crate) fn write(dir: &Path, key: &Key, samples: &[(TokenSample, SampleNotes)]) -> Result<()> {
    let path = path(dir, key);
    let error = |reason: String| DataError::Cache { path: path.clone(), reason };
    let mut out = Vec::new();
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&key.0);
    put(&mut out, samples.len());
    for (sample, notes) in samples {
        put(&mut out, sample.row);
        put(&mut out, sample.ids.len());
        put(&mut out, sample.n_contrast);
        put(&mut out, sample.n_source);
        for count in [notes.n_prompt_cut, notes.n_answer_cut, notes.n_unknown] {
            put(&mut out, count);
        }
        let flags = [notes.lacks_end, notes.doubled_bos, notes.last_turn_only, notes.had_labels];
        out.extend(flags.map(u8::from));
        out.extend(sample.ids.iter().flat_map(|id| id.to_le_bytes()));
        out.extend(sample.trained.iter().copied().map(u8::from));
    }
    let checksum = Sha256::digest(&out);
    out.extend_from_slice(&checksum);
    fs::create_dir_all(dir).map_err(|cause| error(format!("cannot create its folder: {cause}")))?;
    write_file(&path, &out).map_err(|cause| error(cause.to_string()))
}

fn path(dir: &Path, key: &Key) -> PathBuf {
    let mut name = String::from("samples-");
    for byte in key.0.iter().take(12) {
        // Writing to a String cannot fail.
        let _ = write!(name, "{byte:02x}");
    }
    dir.join(name + ".bin")
}

fn put(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&(count as u64).to_le_bytes());
}

/// Takes values off the front; `None` when there are not enough bytes.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n_bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(n_bytes)?;
        self.0 = rest;
        Some(taken)
    }

    fn count(&mut self) -> Option<usize> {
        let bytes = self.take(8)?.try_into().ok()?;
        usize::try_from(u64::from_le_bytes(bytes)).ok()
    }

    fn flag(&mut self) -> Option<bool> {
        match self.take(1)? {
            [0] => Some(false),
            [1] => Some(true),
            _ => None,
        }
    }

    fn sample(&mut self) -> Option<(TokenSample, SampleNotes)> {
        let row = self.count()?;
        let n_tokens = self.count()?;
        let n_contrast = self.count()?;
        let n_source = self.count()?;
        let notes = SampleNotes {
            n_prompt_cut: self.count()?,
            n_answer_cut: self.count()?,
            n_unknown: self.count()?,
            lacks_end: self.flag()?,
            doubled_bos: self.flag()?,
            last_turn_only: self.flag()?,
            had_labels: self.flag()?,
        };
        let ids = self.take(n_tokens.checked_mul(4)?)?.chunks_exact(4);
        let ids = ids.map(|id| id.try_into().ok().map(u32::from_le_bytes)).collect::<Option<Vec<u32>>>()?;
        let trained = self.take(n_tokens)?.iter().map(|flag| *flag == 1).collect();
        let n_cut = notes.n_prompt_cut.checked_add(notes.n_answer_cut)?;
        Some((TokenSample { row, ids, trained, n_cut, n_contrast, n_source, values: Vec::new() }, notes))
    }
}
