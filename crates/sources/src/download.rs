//! Files of a source into a folder, one after the other, so that an end at any instant costs little.
//!
//! A file arrives as `.NAME.part`. Beside, a record says of which source and of which version of each file the bytes are:
//! only the same version is continued. The record goes when all is done.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tunesmith_formats::resume::{Failure, Part, Transfer, remove, resume};
use tunesmith_formats::write_file;

use crate::error::{Result, SourceError};
use crate::task::{Progress, Task};

const RECORD: &str = ".tunesmith-fetch.json";
const FIRST_WAIT: Duration = Duration::from_millis(500);

/// The rest of a file, and which version of it this is.
pub(crate) struct Answer {
    pub(crate) part: Part,
    /// An entity tag or a date of change; none when the other side tells neither.
    pub(crate) identity: Option<String>,
}

/// A file somewhere else.
pub(crate) trait Remote {
    /// Asks for the bytes from `start` on, if the file is still the version `identity`.
    fn open(&self, start: u64, identity: Option<&str>) -> std::result::Result<Answer, Failure<SourceError>>;

    /// Its address, without secrets.
    fn shown(&self) -> String;
}

/// A file to fetch.
pub(crate) struct Item {
    /// The name it gets: plain.
    pub(crate) name: String,
    pub(crate) n_bytes: Option<u64>,
    /// Its version as a listing told it; empty if none did.
    pub(crate) version: String,
    pub(crate) remote: Box<dyn Remote>,
}

/// How far an earlier attempt came.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Record {
    source: String,
    files: BTreeMap<String, Entry>,
    #[serde(skip)]
    folder: PathBuf,
}

#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
struct Entry {
    version: String,
    identity: Option<String>,
    total_bytes: Option<u64>,
    is_whole: bool,
}

impl Record {
    /// The record of `folder`, if it is of this source; otherwise what it speaks of is removed.
    pub(crate) fn open(folder: &Path, source: &str) -> Result<Self> {
        let text = fs::read(folder.join(RECORD)).unwrap_or_default();
        let found: Self = serde_json::from_slice(&text).unwrap_or_default();
        if found.source == source {
            return Ok(Self { folder: folder.to_owned(), ..found });
        }
        for name in found.files.keys().filter(|name| crate::names::is_plain_name(name)) {
            let part = unfinished(folder, name);
            remove(&part).map_err(SourceError::io(&part, "remove"))?;
        }
        Ok(Self { source: source.to_owned(), files: BTreeMap::new(), folder: folder.to_owned() })
    }

    /// All is done.
    pub(crate) fn close(self) -> Result<()> {
        let path = self.folder.join(RECORD);
        remove(&path).map_err(SourceError::io(&path, "remove"))
    }

    fn set(&mut self, name: &str, entry: Entry) -> Result<()> {
        if self.files.get(name) == Some(&entry) {
            return Ok(());
        }
        self.files.insert(name.to_owned(), entry);
        let path = self.folder.join(RECORD);
        let written = serde_json::to_vec(self).map_err(io::Error::other);
        written
            .and_then(|text| write_file(&path, &text).map_err(io::Error::other))
            .map_err(SourceError::io(&path, "write"))
    }
}

/// Fetches all files; those that are here from before are not fetched again.
pub(crate) fn fetch_items(items: &[Item], record: &mut Record, task: &Task<'_>) -> Result<Vec<PathBuf>> {
    let total: Option<u64> = items.iter().map(|item| item.n_bytes).sum();
    if let Some(item) = items.first().filter(|_| total.is_some_and(|total| total > task.max_bytes)) {
        let what =
            if items.len() == 1 { item.remote.shown() } else { format!("what lies at {}", record.source) };
        return Err(SourceError::TooLarge { what, max_bytes: task.max_bytes });
    }
    let mut paths = Vec::new();
    let mut done_bytes = 0;
    for (idx, item) in items.iter().enumerate() {
        task.check()?;
        let name = &item.name;
        let path = record.folder.join(name);
        let mut entry = record.files.get(name).filter(|entry| entry.version == item.version).cloned();
        if !(path.exists() && entry.as_ref().is_some_and(|entry| entry.is_whole)) {
            if path.exists() {
                return Err(SourceError::Exists { path });
            }
            task.say(&match items.len() {
                1 => format!("fetching {name}"),
                n => format!("fetching {name}, file {} of {n}", idx + 1),
            });
            let part = unfinished(&record.folder, name);
            // Bytes of which nobody can say any more of which version they are.
            if entry.as_ref().is_none_or(|entry| entry.identity.is_none()) {
                remove(&part).map_err(SourceError::io(&part, "remove"))?;
                entry = None;
            }
            let entry = entry.unwrap_or_else(|| Entry { version: item.version.clone(), ..Entry::default() });
            let mut transfer = FileTransfer { item, record, entry, done_bytes, total, task };
            let is_here =
                transfer.entry.total_bytes.is_some_and(|total| total == size(&part)) && part.exists();
            if !is_here {
                resume(&mut transfer, &part, FIRST_WAIT)?;
            }
            fs::rename(&part, &path).map_err(SourceError::io(&path, "replace"))?;
            let whole = Entry { is_whole: true, ..transfer.entry };
            record.set(name, whole)?;
        }
        done_bytes += size(&path);
        let is_last = idx + 1 == items.len();
        task.bytes(done_bytes, total.or(is_last.then_some(done_bytes)));
        paths.push(path);
    }
    Ok(paths)
}

struct FileTransfer<'a> {
    item: &'a Item,
    record: &'a mut Record,
    entry: Entry,
    done_bytes: u64,
    total: Option<u64>,
    task: &'a Task<'a>,
}

impl FileTransfer<'_> {
    fn limited(&self, n_bytes: u64) -> Result<()> {
        if self.done_bytes.saturating_add(n_bytes) <= self.task.max_bytes {
            return Ok(());
        }
        Err(SourceError::TooLarge { what: self.item.remote.shown(), max_bytes: self.task.max_bytes })
    }
}

impl Transfer for FileTransfer<'_> {
    type Error = SourceError;

    fn open(&mut self, start: u64) -> std::result::Result<Part, Failure<SourceError>> {
        self.task.check().map_err(Failure::Final)?;
        let Answer { part, identity } = self.item.remote.open(start, self.entry.identity.as_deref())?;
        let is_other = match (&self.entry.identity, &identity) {
            (Some(before), Some(now)) => before != now,
            _ => self.entry.total_bytes.is_some() && self.entry.total_bytes != part.total_bytes,
        };
        if part.start > 0 && is_other {
            return Err(Failure::Changed(self.broken("the file has changed".to_owned())));
        }
        self.limited(part.total_bytes.unwrap_or(0)).map_err(Failure::Final)?;
        self.entry.identity = identity.or(self.entry.identity.take().filter(|_| part.start > 0));
        self.entry.total_bytes = part.total_bytes;
        self.record.set(&self.item.name, self.entry.clone()).map_err(Failure::Final)?;
        Ok(part)
    }

    fn arrived(&mut self, n_bytes: u64, total_bytes: Option<u64>) -> Result<()> {
        self.task.check()?;
        self.limited(n_bytes)?;
        let total = self.total.or(total_bytes.map(|total| self.done_bytes + total));
        self.task.bytes(self.done_bytes + n_bytes, total);
        Ok(())
    }

    fn retrying(&mut self, error: &SourceError, wait: Duration) -> Result<()> {
        (self.task.on_progress)(Progress::Retrying(&error.to_string()));
        self.task.wait(wait)
    }

    fn broken(&self, reason: String) -> SourceError {
        SourceError::Unreachable { address: self.item.remote.shown(), reason }
    }

    fn io(&self, path: &Path, action: &'static str, error: io::Error) -> SourceError {
        SourceError::io(path, action)(error)
    }
}

fn unfinished(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!(".{name}.part"))
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |file| file.len())
}
