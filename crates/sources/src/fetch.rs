//! From a source to tables in a folder: the one way through this crate.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tunesmith_formats::resume::remove;

use crate::archive::unpack_if_archive;
use crate::bucket::{Bucket, Listing};
use crate::download::{Item, Record, fetch_items};
use crate::error::{Result, SourceError};
use crate::http::{Client, HttpFile};
use crate::hub::HubDataset;
use crate::join::join_tables;
use crate::kaggle::KaggleDataset;
use crate::names::{ending, free_path, is_importable, is_text, plain_name_of, shown, stem};
use crate::task::Task;
use crate::{address, local};

/// What many text files become.
const TEXTS_STEM: &str = "texts";
const LOCK: &str = ".tunesmith-fetch.lock";

/// Where tables come from.
#[derive(Debug, Clone)]
pub enum Source {
    /// A file of this machine, or the tables of a folder.
    Local(PathBuf),
    /// A file at an address of the web.
    Url(String),
    /// A data set of the Hugging Face hub.
    Hub(HubDataset),
    /// A data set of Kaggle.
    Kaggle(KaggleDataset),
    /// An object, or the tables of a folder, in a bucket.
    Bucket(Bucket),
}

/// What has arrived.
#[derive(Debug, Clone, PartialEq)]
pub struct Fetched {
    /// A name to suggest for the data set.
    pub name: String,
    /// Where it came from, without secrets.
    pub source: String,
    /// The tables.
    pub tables: Vec<PathBuf>,
}

impl Source {
    /// The source at an address such as `s3://bucket/key`, `hf://datasets/owner/name` or a path, without credentials.
    ///
    /// # Errors
    /// [`SourceError::Address`].
    pub fn parse(address: &str) -> Result<Self> {
        address::parse(address)
    }

    /// Its address, without secrets.
    pub fn shown(&self) -> String {
        match self {
            Self::Local(path) => path.display().to_string(),
            Self::Url(url) => shown(url),
            Self::Hub(hub) => hub.shown(),
            Self::Kaggle(kaggle) => kaggle.shown(),
            Self::Bucket(bucket) => bucket.shown(),
        }
    }

    /// What can be chosen at a bucket's key or in a data set of Kaggle.
    ///
    /// # Errors
    /// No answer, no access, nothing there; a source that cannot be listed.
    pub fn list(&self) -> Result<Listing> {
        match self {
            Self::Bucket(bucket) => bucket.list(),
            Self::Kaggle(kaggle) => kaggle.list(),
            _ => {
                Err(SourceError::address(&self.shown(), "only buckets and data sets of Kaggle can be listed"))
            }
        }
    }

    /// Brings the tables into `folder`, which is made if it is not there. After an interruption the same call goes on:
    /// what has arrived is not fetched again as long as the other side still has the same version.
    ///
    /// Archives are replaced by the tables in them; a split of the hub in several files becomes one table.
    ///
    /// # Errors
    /// Whatever keeps them from there. When it is [`SourceError::Unreachable`] or [`SourceError::Cancelled`], what has
    /// arrived stays for another call.
    pub fn fetch(&self, folder: &Path, task: &Task<'_>) -> Result<Fetched> {
        fs::create_dir_all(folder).map_err(SourceError::io(folder, "create"))?;
        let lock = lock(folder)?;
        task.check()?;
        task.say(&format!("asking for {}", self.shown()));
        let items = self.items()?;
        let mut record = Record::open(folder, &self.identity())?;
        let files = fetch_items(&items, &mut record, task)?;
        let mut tables = Vec::new();
        for file in files {
            let file = self.with_true_ending(file)?;
            tables.extend(unpack_if_archive(&file, task)?);
        }
        if let Self::Hub(hub) = self {
            tables = joined(tables, folder, &hub.table_stem(), task)?;
        } else if are_one_collection(&tables) {
            tables = joined(tables, folder, TEXTS_STEM, task)?;
        }
        record.close()?;
        drop(lock);
        let path = folder.join(LOCK);
        remove(&path).map_err(SourceError::io(&path, "remove"))?;
        Ok(Fetched { name: self.name(), source: self.described(), tables })
    }

    fn items(&self) -> Result<Vec<Item>> {
        match self {
            Self::Local(path) => local::items(path),
            Self::Url(url) => {
                let client = Client::new(
                    url,
                    None,
                    "the address needs a login; download the file and upload it here",
                )?;
                let shown = shown(url);
                let name = plain_name_of(&shown);
                if !is_importable(&name) {
                    return Err(SourceError::NotATable { name });
                }
                let remote = Box::new(HttpFile { client, url: url.clone(), shown });
                Ok(vec![Item { name, n_bytes: None, version: String::new(), remote }])
            }
            Self::Hub(hub) => hub.items(),
            Self::Kaggle(kaggle) => kaggle.items(),
            Self::Bucket(bucket) => bucket.items(),
        }
    }

    /// What files of an interrupted transfer must belong to; the same for the same source, and without secrets.
    pub fn identity(&self) -> String {
        match self {
            Self::Hub(hub) => {
                let config = hub.config.as_deref().unwrap_or_default();
                format!("{} {config} {} {}", hub.shown(), hub.split, hub.endpoint)
            }
            // The query says which file it is, too, but may hold a secret.
            Self::Url(url) => {
                let digest = Sha256::digest(url.as_bytes());
                let digest: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
                format!("{} {digest}", self.shown())
            }
            Self::Kaggle(kaggle) => format!("{} {:?}", self.shown(), kaggle.version),
            Self::Bucket(bucket) => format!("{} {}", self.shown(), bucket.service.place()),
            Self::Local(_) => self.shown(),
        }
    }

    fn described(&self) -> String {
        match self {
            Self::Hub(hub) => {
                let revision = hub.revision.as_ref().map(|name| format!(" at {name}")).unwrap_or_default();
                let config = hub.config.as_ref().map(|name| format!("{name}, ")).unwrap_or_default();
                format!("{} ({config}{}){revision} on the Hugging Face hub", hub.repo, hub.split)
            }
            Self::Kaggle(kaggle) => format!("{} on Kaggle", kaggle.dataset),
            _ => self.shown(),
        }
    }

    fn name(&self) -> String {
        let last = |path: &str| plain_name_of(path.trim_end_matches('/'));
        match self {
            Self::Local(path) if path.is_dir() => last(&path.to_string_lossy()),
            Self::Hub(hub) => last(&hub.repo),
            Self::Kaggle(kaggle) => last(&kaggle.dataset),
            Self::Bucket(bucket) if bucket.key.trim_matches('/').is_empty() => last(&bucket.name),
            _ => stem(&last(&self.shown())),
        }
    }

    /// Kaggle sends some single files as archives, under the file's own name.
    fn with_true_ending(&self, file: PathBuf) -> Result<PathBuf> {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !matches!(self, Self::Kaggle(_)) || ending(&name) == "zip" || !begins_as_archive(&file)? {
            return Ok(file);
        }
        let renamed = free_path(file.parent().unwrap_or(&file), &format!("{name}.zip"));
        fs::rename(&file, &renamed).map_err(SourceError::io(&file, "move"))?;
        Ok(renamed)
    }
}

/// Whether the files are texts that belong together; those that are named as parts for training and validation stay apart.
fn are_one_collection(files: &[PathBuf]) -> bool {
    let name = |file: &PathBuf| file.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let has_part = |name: String| ["train", "valid", "test"].iter().any(|part| name.contains(part));
    files.iter().all(|file| is_text(&name(file))) && !files.iter().any(|file| has_part(name(file)))
}

/// No table begins like this.
fn begins_as_archive(path: &Path) -> Result<bool> {
    let mut beginning = [0; 4];
    let read = File::open(path).and_then(|mut file| io::Read::read_exact(&mut file, &mut beginning));
    match read {
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => {
            Err(SourceError::io(path, "read")(error))
        }
        _ => Ok(beginning == *b"PK\x03\x04"),
    }
}

fn joined(parts: Vec<PathBuf>, folder: &Path, stem: &str, task: &Task<'_>) -> Result<Vec<PathBuf>> {
    if parts.len() < 2 {
        return Ok(parts);
    }
    task.say("putting the files together");
    // Under a hidden name until it is whole.
    let unfinished = folder.join(format!(".{stem}.joining"));
    join_tables(&parts, &unfinished, task).inspect_err(|_| {
        fs::remove_file(&unfinished).ok();
    })?;
    let target = free_path(folder, &format!("{stem}.jsonl"));
    fs::rename(&unfinished, &target).map_err(SourceError::io(&target, "replace"))?;
    for part in parts {
        fs::remove_file(&part).map_err(SourceError::io(&part, "remove"))?;
    }
    Ok(vec![target])
}

/// Keeps a second transfer from the same files; released when dropped.
fn lock(folder: &Path) -> Result<File> {
    let path = folder.join(LOCK);
    let file = File::create(&path).map_err(SourceError::io(&path, "create"))?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(SourceError::Busy { folder: folder.to_owned() }),
        // Some network file systems know no locks; fetching alone is the common case.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(file),
    }
}
