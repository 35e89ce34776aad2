//! The cache of the Python package of the hub, `models--owner--name/{refs,snapshots,blobs}`: read, never written.
//!
//! A file that is there is not fetched again but linked into this project's own folder, so that everything above knows one
//! layout only, and the model stays usable when the other cache is cleared.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::listing::{Listing, RemoteFile, is_plain_name, sha256_hex};
use super::transfer::hash_file;
use crate::error::{FormatError, Result};

/// A model in that cache at one commit.
#[derive(Debug)]
pub(super) struct Snapshot {
    folder: PathBuf,
    commit: String,
}

impl Snapshot {
    /// The files of `model_id` at `commit`, if the cache has any.
    pub(super) fn of_commit(hf_cache: &Path, model_id: &str, commit: &str) -> Option<Self> {
        let folder = model_folder(hf_cache, model_id).join("snapshots").join(commit);
        let is_name = is_plain_name(commit);
        (is_name && folder.is_dir()).then(|| Self { folder, commit: commit.to_owned() })
    }

    /// The files of `model_id` at `revision`, a commit, or a branch or tag as the cache last saw it.
    pub(super) fn of_revision(hf_cache: &Path, model_id: &str, revision: &str) -> Option<Self> {
        if let Some(found) = Self::of_commit(hf_cache, model_id, revision) {
            return Some(found);
        }
        let is_safe = revision.split('/').all(is_plain_name);
        let path = model_folder(hf_cache, model_id).join("refs").join(revision);
        let commit = fs::read_to_string(is_safe.then_some(path)?).ok()?;
        Self::of_commit(hf_cache, model_id, commit.trim())
    }

    /// What the hub would list, as far as the cache has it.
    pub(super) fn listing(&self) -> Result<Listing> {
        let failed = FormatError::io(&self.folder, "list");
        let entries = fs::read_dir(&self.folder)
            .and_then(Iterator::collect::<std::io::Result<Vec<_>>>)
            .map_err(failed)?;
        let mut files: Vec<RemoteFile> = entries
            .iter()
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                let path = entry.path();
                // Follows links; one whose blob is gone is no file.
                let meta = fs::metadata(&path).ok().filter(fs::Metadata::is_file)?;
                Some(RemoteFile::known(name, meta.len(), blob_name(&path)))
            })
            .collect();
        files.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Listing { commit: self.commit.clone(), files })
    }

    /// The first of the shards, named by an index or by each other, that the cache lacks.
    pub(super) fn missing_shard(&self, files: &[RemoteFile]) -> Option<String> {
        let has = |name: &str| files.iter().any(|file| file.name == name);
        let index = self.folder.join("model.safetensors.index.json");
        if !has("model.safetensors.index.json") {
            return None;
        }
        let index: Value = serde_json::from_slice(&fs::read(index).ok()?).ok()?;
        let shards = index.get("weight_map")?.as_object()?.values().filter_map(Value::as_str);
        shards.into_iter().find(|shard| !has(shard)).map(str::to_owned)
    }

    /// Puts `file` to `path`, if the cache has it with the content that the hub announced.
    pub(super) fn take(&self, file: &RemoteFile, path: &Path) -> bool {
        let source = self.folder.join(&file.name);
        let Ok(meta) = fs::metadata(&source) else { return false };
        if !meta.is_file() || file.n_bytes.is_some_and(|n_bytes| n_bytes != meta.len()) {
            return false;
        }
        if let Some(expected) = file.sha256()
            && blob_name(&source).and_then(|name| sha256_hex(&name)).as_ref() != Some(&expected)
            && hash_file(&source).ok().as_ref() != Some(&expected)
        {
            return false;
        }
        // The blob itself: a link to a link would break with the first of them.
        let Ok(blob) = fs::canonicalize(&source) else { return false };
        let _ = fs::remove_file(path);
        fs::hard_link(&blob, path).or_else(|_| link(&blob, path)).is_ok()
    }
}

/// Across file systems.
fn link(blob: &Path, path: &Path) -> std::io::Result<()> {
    #[cfg(unix)]
    return std::os::unix::fs::symlink(blob, path);
    #[cfg(not(unix))]
    return fs::copy(blob, path).map(|_| ());
}

fn model_folder(hf_cache: &Path, model_id: &str) -> PathBuf {
    hf_cache.join(format!("models--{}", model_id.replace('/', "--")))
}

/// What the file at `path` links to is called after its content's hash.
fn blob_name(path: &Path) -> Option<String> {
    let target = fs::read_link(path).ok()?;
    Some(target.file_name()?.to_str()?.to_owned())
}
