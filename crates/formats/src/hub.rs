//! Client of the Hugging Face hub: fetches the files of a model that this project can read.
//!
//! The only place that touches the network. Written on a plain HTTP client instead of the `hf-hub` crate,
//! whose blocking client has no time-outs and no check of what it downloaded; the parts of the hub's HTTP
//! interface needed here are three: the list of files, the files, and their announced SHA-256.

mod environment;
mod hf_cache;
mod listing;
mod transfer;

pub use transfer::system_roots;

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::atomic::write_file;
use crate::error::{FormatError, Result};
use environment::Environment;
use hf_cache::Snapshot;
use listing::{RemoteFile, Selection, select};
use transfer::{Client, Target, unfinished_path};

const DEFAULT_ENDPOINT: &str = "https://huggingface.co";
const DEFAULT_REVISION: &str = "main";
/// Time allowed for connecting and again for the first answer.
const DEFAULT_TIMEOUT_SECS: f64 = 5.0;
/// What was fetched is written down beside the files.
const RECORD_FILE: &str = ".hub.json";
const LOCK_FILE: &str = ".lock";

/// A hub and how to talk to it.
#[derive(Clone)]
pub struct Hub {
    /// Address without a final slash.
    pub endpoint: String,
    /// Access token, sent to the endpoint's own host only.
    pub token: Option<String>,
    /// Time allowed for connecting, and again for the first answer of every request.
    pub timeout_secs: f64,
    /// Pause before an interrupted or overloaded transfer is tried again; doubles each time.
    pub retry_wait_secs: f64,
    /// Use only what was fetched before.
    pub offline: bool,
    /// The cache of the Python package of the hub: what it has is not fetched again.
    pub hf_cache: Option<PathBuf>,
}

/// What `pull` is doing.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Progress<'a> {
    /// The files are known; sizes may be missing when the hub does not tell.
    Listed {
        /// Number of files of the model, those that are here already included.
        n_files: usize,
        /// Bytes of them all, as far as known.
        n_bytes: u64,
    },
    /// Part of a file has arrived, or was here already.
    Bytes {
        /// Name of the file.
        file: &'a str,
        /// Bytes of it that are here.
        file_bytes: u64,
        /// Bytes of the whole model that are here.
        done_bytes: u64,
    },
    /// A transfer broke and goes on from where it was.
    Retrying {
        /// Name of the file.
        file: &'a str,
        /// What broke it.
        reason: &'a str,
    },
    /// The hub was not asked or does not answer; the copy fetched before is used.
    Cached {
        /// Why.
        reason: &'a str,
    },
}

/// What a folder holds, in its `.hub.json`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Record {
    model_id: String,
    revision: String,
    commit: String,
    /// Every file of the model has arrived.
    complete: bool,
    /// What identifies each file's content, by name.
    files: BTreeMap<String, String>,
}

impl Hub {
    /// The hub as the Python package of the hub finds it: its address in `HF_ENDPOINT` (else huggingface.co); the token in
    /// `HF_TOKEN`, `HUGGING_FACE_HUB_TOKEN`, or where `hf auth login` puts it (`HF_TOKEN_PATH`, else `$HF_HOME/token`); the
    /// cache in `HF_HUB_CACHE`, `HUGGINGFACE_HUB_CACHE`, else `$HF_HOME/hub`, with `HF_HOME` in
    /// `$XDG_CACHE_HOME/huggingface` or `~/.cache/huggingface`; offline with `HF_HUB_OFFLINE`.
    pub fn from_env() -> Self {
        let Environment { endpoint, token, hf_cache, is_offline } =
            Environment::read(|name| env::var(name).ok());
        Self {
            endpoint: endpoint.unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned()),
            token,
            timeout_secs: DEFAULT_TIMEOUT_SECS,
            retry_wait_secs: 1.0,
            offline: is_offline,
            hf_cache,
        }
    }

    /// Fetches the model `model_id` ("owner/name") at `revision` (a branch, tag or commit; the main branch
    /// when `None`) into a folder under `cache_dir` and returns that folder, which
    /// [`ModelSource::open`](crate::ModelSource::open) takes.
    ///
    /// Configuration, tokenizer and safetensors weights are fetched; when there are none of those, the only
    /// GGUF file. `owner/name:Q4_K_M` takes the GGUF file with that text in its name. Pickled weights are
    /// never fetched. Files that are here or in the cache of the Python package, unchanged, are not fetched again, and
    /// interrupted ones are continued, also by a later call.
    ///
    /// # Errors
    /// [`FormatError::Unreachable`] when the hub does not answer and the model was not fetched before,
    /// [`FormatError::AccessRefused`], [`FormatError::NotOnHub`], [`FormatError::Checksum`] for a damaged
    /// download, [`FormatError::NotAModel`] when there is nothing to fetch that can be read,
    /// [`FormatError::Hub`] for other answers, [`FormatError::Io`].
    pub fn pull(
        &self,
        model_id: &str,
        revision: Option<&str>,
        cache_dir: &Path,
        on_progress: &mut dyn FnMut(Progress),
    ) -> Result<PathBuf> {
        let (model_id, gguf_filter) = parse_model_id(model_id)?;
        let revision = revision.unwrap_or(DEFAULT_REVISION);
        let folder = model_folder(cache_dir, model_id, revision, gguf_filter);
        let mut record = Record::read(&folder);

        let client = Client::new(self, model_id)?;
        let listed = match self.offline {
            true => Err(client.unreachable("HF_HUB_OFFLINE is set")),
            false => client.list(revision),
        };
        let name = format!("{model_id}@{revision}");
        let (listing, is_cached) = match listed {
            Ok(listing) => (listing, false),
            Err(FormatError::Unreachable { reason, .. }) if record.is_whole(&folder) => {
                on_progress(Progress::Cached { reason: &reason });
                return Ok(folder);
            }
            Err(FormatError::Unreachable { url, reason }) => {
                let hf_cache = self.hf_cache.as_deref();
                match hf_cache.and_then(|cache| Snapshot::of_revision(cache, model_id, revision)) {
                    None => return Err(FormatError::Unreachable { url, reason }),
                    Some(snapshot) => {
                        let listing = snapshot.listing()?;
                        let lacks = snapshot.missing_shard(&listing.files).or_else(|| {
                            select(&name, listing.files.clone(), gguf_filter).err().map(|_| "weights".into())
                        });
                        if let Some(lacks) = lacks {
                            let reason = format!(
                                "{reason}, and the cache of huggingface_hub has no {lacks} of this model"
                            );
                            return Err(FormatError::Unreachable { url, reason });
                        }
                        on_progress(Progress::Cached { reason: &reason });
                        (listing, true)
                    }
                }
            }
            Err(error) => return Err(error),
        };
        let snapshot =
            self.hf_cache.as_deref().and_then(|cache| Snapshot::of_commit(cache, model_id, &listing.commit));
        let Selection { files } = select(&name, listing.files, gguf_filter)?;
        let n_bytes = files.iter().filter_map(|file| file.n_bytes).sum();
        on_progress(Progress::Listed { n_files: files.len(), n_bytes });

        fs::create_dir_all(&folder).map_err(FormatError::io(&folder, "create"))?;
        let _lock = lock(&folder)?;
        remove_strays(&folder, &record, &files, &listing.commit)?;
        record.model_id = model_id.to_owned();
        record.revision = revision.to_owned();
        record.commit = listing.commit.clone();
        record.complete = false;
        record.files.retain(|name, _| files.iter().any(|file| file.name == *name));
        record.write(&folder)?;
        let mut done_bytes = 0;
        for file in &files {
            let path = folder.join(&file.name);
            let identity = file.identity(&listing.commit);
            let is_here = record.files.get(&file.name) == Some(&identity)
                && fs::metadata(&path)
                    .is_ok_and(|meta| file.n_bytes.is_none_or(|n_bytes| n_bytes == meta.len()));
            let is_here = is_here || {
                let found = snapshot.as_ref().is_some_and(|snapshot| snapshot.take(file, &path));
                if found {
                    record.files.insert(file.name.clone(), identity.clone());
                    record.write(&folder)?;
                }
                found
            };
            if !is_here && is_cached {
                return Err(client.unreachable(&format!("{} could not be taken from the cache", file.name)));
            }
            if !is_here {
                let target = Target { file, folder: &folder, commit: &listing.commit, done_bytes };
                client.fetch(&target, on_progress)?;
                record.files.insert(file.name.clone(), identity);
                record.write(&folder)?;
            }
            let file_bytes = fs::metadata(&path).map_err(FormatError::io(&path, "read the size of"))?.len();
            done_bytes += file_bytes;
            on_progress(Progress::Bytes { file: &file.name, file_bytes, done_bytes });
        }
        record.complete = true;
        record.write(&folder)?;
        Ok(folder)
    }

    /// Where [`Hub::pull`] puts a model.
    ///
    /// # Errors
    /// [`FormatError::Hub`] for something that is not a model id.
    pub fn folder(model_id: &str, revision: Option<&str>, cache_dir: &Path) -> Result<PathBuf> {
        let (model_id, gguf_filter) = parse_model_id(model_id)?;
        Ok(model_folder(cache_dir, model_id, revision.unwrap_or(DEFAULT_REVISION), gguf_filter))
    }
}

impl std::fmt::Debug for Hub {
    /// Never shows the token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub")
            .field("endpoint", &self.endpoint)
            .field("has_token", &self.token.is_some())
            .field("timeout_secs", &self.timeout_secs)
            .field("offline", &self.offline)
            .finish_non_exhaustive()
    }
}

impl Record {
    /// The record in `folder`; an empty one when there is none or it cannot be understood.
    fn read(folder: &Path) -> Self {
        let text = fs::read(folder.join(RECORD_FILE)).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    fn write(&self, folder: &Path) -> Result<()> {
        let path = folder.join(RECORD_FILE);
        let text = serde_json::to_string_pretty(self).map_err(FormatError::json(&path))?;
        write_file(&path, text.as_bytes())
    }

    fn is_whole(&self, folder: &Path) -> bool {
        self.complete && self.files.keys().all(|name| folder.join(name).is_file())
    }
}

/// "owner/name" or "name", and the text after a colon that selects a GGUF file.
fn parse_model_id(text: &str) -> Result<(&str, Option<&str>)> {
    let (id, filter) = match text.split_once(':') {
        Some((id, filter)) => (id, Some(filter)),
        None => (text, None),
    };
    let is_part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
    };
    let parts: Vec<&str> = id.split('/').collect();
    if parts.len() <= 2 && parts.iter().all(|part| is_part(part)) && filter.is_none_or(is_part) {
        Ok((id, filter))
    } else {
        Err(FormatError::Hub {
            url: text.to_owned(),
            reason: "not a model id; expected owner/name, or owner/name:QUANTISATION for a GGUF file".into(),
        })
    }
}

fn model_folder(cache_dir: &Path, model_id: &str, revision: &str, gguf_filter: Option<&str>) -> PathBuf {
    let mut name = model_id.replace('/', "--");
    if let Some(filter) = gguf_filter {
        name.push_str("--");
        name.push_str(filter);
    }
    // A branch may be called "refs/pr/1"; dots at the start would hide or leave the folder.
    let revision: String = revision
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' })
        .collect();
    cache_dir.join("models").join(name).join(revision.trim_start_matches('.'))
}

/// Keeps a second process from writing the same files; released when dropped.
fn lock(folder: &Path) -> Result<File> {
    let path = folder.join(LOCK_FILE);
    let file = File::create(&path).map_err(FormatError::io(&path, "create"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(FormatError::Io {
            path: folder.to_owned(),
            action: "fetch into the folder",
            source: std::io::Error::other("another process is fetching this model"),
        }),
        // Some network file systems know no locks; fetching alone is the common case.
        Err(fs::TryLockError::Error(_)) => Ok(file),
    }
}

/// Removes what an earlier state of the model left: files that are no longer part of it (a stale
/// `model.safetensors` would be preferred to new shards) and unfinished ones of other content.
fn remove_strays(folder: &Path, record: &Record, files: &[RemoteFile], commit: &str) -> Result<()> {
    let remove = |path: &Path| match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(FormatError::io(path, "remove")(error))
        }
        _ => Ok(()),
    };
    for name in record.files.keys().filter(|name| listing::is_plain_name(name)) {
        if !files.iter().any(|file| file.name == *name) {
            remove(&folder.join(name))?;
        }
    }
    let wanted: Vec<PathBuf> = files.iter().map(|file| unfinished_path(folder, file, commit)).collect();
    let failed = FormatError::io(folder, "list");
    for entry in
        fs::read_dir(folder).and_then(Iterator::collect::<std::io::Result<Vec<_>>>).map_err(failed)?
    {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "part") && !wanted.contains(&path) {
            remove(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn model_ids_are_checked_before_they_become_paths_and_addresses() {
        assert_eq!(parse_model_id("a/b-1.5_x").unwrap(), ("a/b-1.5_x", None));
        assert_eq!(parse_model_id("gpt2").unwrap(), ("gpt2", None));
        assert_eq!(parse_model_id("a/b:Q4_K_M").unwrap(), ("a/b", Some("Q4_K_M")));
        for bad in ["", "a/", "/b", "a/b/c", "../b", "a/..", "a b/c", "a/b:", "a/b:../x", "a/b?x", "a\\b"] {
            assert!(parse_model_id(bad).is_err(), "{bad}");
        }
        let folder = |revision| model_folder(Path::new("c"), "a/b", revision, None);
        assert_eq!(folder("main"), Path::new("c/models/a--b/main"));
        assert_eq!(folder("refs/pr/1"), Path::new("c/models/a--b/refs-pr-1"));
        assert_eq!(folder("../../x"), Path::new("c/models/a--b/-..-x"));
    }

    #[test]
    fn the_token_is_not_shown() {
        let hub = Hub { token: Some("hf_secret".into()), ..Hub::from_env() };
        assert!(!format!("{hub:?}").contains("secret"));
    }
}
