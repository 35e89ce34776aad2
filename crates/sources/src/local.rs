//! Tables of this machine: copied, never moved.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use tunesmith_formats::resume::{Failure, Part};

use crate::download::{Answer, Item, Remote};
use crate::error::{Result, SourceError};
use crate::names::{is_importable, plain_name_of, tables_of};

struct LocalFile(PathBuf);

/// The file, or the tables of the folder.
pub(crate) fn items(path: &Path) -> Result<Vec<Item>> {
    let metadata = fs::metadata(path).map_err(SourceError::io(path, "read"))?;
    let sources: Vec<PathBuf> = if metadata.is_dir() {
        tables_of(path)?.into_iter().map(|name| path.join(name)).collect()
    } else {
        vec![path.to_owned()]
    };
    if sources.is_empty() {
        return Err(SourceError::NoTable { place: path.display().to_string(), hint: String::new() });
    }
    let item = |path: PathBuf| {
        let name = plain_name_of(&path.file_name().unwrap_or_default().to_string_lossy());
        if !is_importable(&name) {
            return Err(SourceError::NotATable { name });
        }
        let n_bytes = Some(fs::metadata(&path).map_err(SourceError::io(&path, "read"))?.len());
        Ok(Item { name, n_bytes, version: String::new(), remote: Box::new(LocalFile(path)) })
    };
    sources.into_iter().map(item).collect()
}

impl Remote for LocalFile {
    fn open(&self, start: u64, _identity: Option<&str>) -> std::result::Result<Answer, Failure<SourceError>> {
        let path = &self.0;
        let failed = |action| move |error| Failure::Final(SourceError::io(path, action)(error));
        let mut file = File::open(path).map_err(failed("open"))?;
        let metadata = file.metadata().map_err(failed("read"))?;
        let changed = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        file.seek(SeekFrom::Start(start)).map_err(failed("read"))?;
        let part = Part { start, total_bytes: Some(metadata.len()), body: Box::new(file) };
        Ok(Answer { part, identity: changed.map(|time| format!("{} bytes of {time:?}", metadata.len())) })
    }

    fn shown(&self) -> String {
        self.0.display().to_string()
    }
}
