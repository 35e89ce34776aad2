//! The tokens of an earlier run on the disk, found by a hash of everything that decides them.
//!
//! One file a set, `samples-KEY.bin`, little-endian:
//!
//! ```text
//! magic (8 bytes) · key (32) · number of conversations (u64)
//! each conversation: 0 (u8) · length of a reason (u64) · the reason why it has no samples, or
//!                    1 (u8) · number of samples (u64) · the samples
//! each sample: row u64 · tokens n u64 · rejected u64 · source u64 · counts and flags of the notes · n ids u32 · n flags u8
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
use crate::samples::Outcome;
use crate::token_sample::{SampleNotes, TokenSample};

/// Changes with the layout of the file and with the rules of assembly, so that old files are never taken.
const MAGIC: &[u8; 8] = b"TSTOKEN4";

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
    add(assembler.template_key().as_bytes());
    for conversation in conversations {
        add(&(conversation.row as u64).to_le_bytes());
        add(&(conversation.rounds.len() as u64).to_le_bytes());
        add(serde_json::Value::Object(conversation.variables.clone()).to_string().as_bytes());
        for round in &conversation.rounds {
            for text in [&round.system, &round.prompt, &round.answer] {
                add(text.as_bytes());
            }
            match &round.details {
                None => add(b""),
                Some(details) => add(format!("{details:?}").as_bytes()),
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

/// The outcomes of `n_conversations` conversations stored for `key`, if they are there and whole.
pub(crate) fn read(dir: &Path, key: &Key, n_conversations: usize) -> Option<Vec<Outcome>> {
    let bytes = fs::read(path(dir, key)).ok()?;
    let (content, checksum) = bytes.split_at_checked(bytes.len().checked_sub(32)?)?;
    if Sha256::digest(content).as_slice() != checksum {
        return None;
    }
    let mut reader = Reader(content);
    if reader.take(MAGIC.len())? != MAGIC || reader.take(32)? != key.0 || reader.count()? != n_conversations {
        return None;
    }
    let outcomes = (0..n_conversations).map(|_| reader.outcome()).collect::<Option<Vec<_>>>()?;
    reader.0.is_empty().then_some(outcomes)
}

/// Stores `outcomes` for `key`.
pub(crate) fn write(dir: &Path, key: &Key, outcomes: &[Outcome]) -> Result<()> {
    let path = path(dir, key);
    let error = |reason: String| DataError::Cache { path: path.clone(), reason };
    let mut out = Vec::new();
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&key.0);
    put(&mut out, outcomes.len());
    for outcome in outcomes {
        match outcome {
            Err(reason) => {
                out.push(0);
                put(&mut out, reason.len());
                out.extend_from_slice(reason.as_bytes());
            }
            Ok(samples) => {
                out.push(1);
                put(&mut out, samples.len());
                samples.iter().for_each(|(sample, notes)| put_sample(&mut out, sample, notes));
            }
        }
    }
    let checksum = Sha256::digest(&out);
    out.extend_from_slice(&checksum);
    fs::create_dir_all(dir).map_err(|cause| error(format!("cannot create its folder: {cause}")))?;
    write_file(&path, &out).map_err(|cause| error(cause.to_string()))
}

fn put_sample(out: &mut Vec<u8>, sample: &TokenSample, notes: &SampleNotes) {
    for count in [sample.row, sample.ids.len(), sample.n_contrast, sample.n_source] {
        put(out, count);
    }
    let SampleNotes {
        n_prompt_cut,
        n_answer_cut,
        n_unknown,
        n_rounds_cut,
        lacks_end,
        doubled_bos,
        had_labels,
        is_too_long,
        is_one_of_several,
        folds_system,
        merges_roles,
        has_empty_thought,
        has_unread_thought,
        is_rewritten,
    } = *notes;
    for count in [n_prompt_cut, n_answer_cut, n_unknown, n_rounds_cut] {
        put(out, count);
    }
    let flags = [
        lacks_end,
        doubled_bos,
        had_labels,
        is_too_long,
        is_one_of_several,
        folds_system,
        merges_roles,
        has_empty_thought,
        has_unread_thought,
        is_rewritten,
    ];
    out.extend(flags.map(u8::from));
    out.extend(sample.ids.iter().flat_map(|id| id.to_le_bytes()));
    out.extend(sample.trained.iter().copied().map(u8::from));
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

    fn outcome(&mut self) -> Option<Outcome> {
        if self.flag()? {
            let n_samples = self.count()?;
            // Each sample takes more than a byte, so that a wrong number ends soon.
            return (0..n_samples).map(|_| self.sample()).collect::<Option<Vec<_>>>().map(Ok);
        }
        let n_bytes = self.count()?;
        String::from_utf8(self.take(n_bytes)?.to_vec()).ok().map(Err)
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
            n_rounds_cut: self.count()?,
            lacks_end: self.flag()?,
            doubled_bos: self.flag()?,
            had_labels: self.flag()?,
            is_too_long: self.flag()?,
            is_one_of_several: self.flag()?,
            folds_system: self.flag()?,
            merges_roles: self.flag()?,
            has_empty_thought: self.flag()?,
            has_unread_thought: self.flag()?,
            is_rewritten: self.flag()?,
        };
        let ids = self.take(n_tokens.checked_mul(4)?)?.chunks_exact(4);
        let ids = ids.map(|id| id.try_into().ok().map(u32::from_le_bytes)).collect::<Option<Vec<u32>>>()?;
        let trained = self.take(n_tokens)?.iter().map(|flag| *flag == 1).collect();
        let n_cut = notes.n_prompt_cut.checked_add(notes.n_answer_cut)?;
        Some((TokenSample { row, ids, trained, n_cut, n_contrast, n_source, values: Vec::new() }, notes))
    }
}
