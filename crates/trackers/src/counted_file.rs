//! A file that is appended to and whose good length is remembered elsewhere: what a killed process wrote beyond it is cut off.

use std::fs::{self, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::error::TrackerError;

/// The file and its good length.
#[derive(Debug, Clone, Default)]
pub(crate) struct CountedFile {
    path: PathBuf,
    n_bytes: u64,
}

impl CountedFile {
    /// Goes on with the file after its first `n_bytes`, of which there must be some; `None` if it is shorter.
    pub(crate) fn go_on(path: PathBuf, n_bytes: u64) -> Option<Self> {
        let n_there = fs::metadata(&path).map_or(0, |file| file.len());
        (0 < n_bytes && n_bytes <= n_there).then_some(Self { path, n_bytes })
    }

    /// Begins the file, and its folder, with these bytes.
    pub(crate) fn begin(path: PathBuf, bytes: &[u8]) -> Result<Self, TrackerError> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(TrackerError::file(folder))?;
        }
        let mut file = Self { path, n_bytes: 0 };
        file.append(bytes)?;
        Ok(file)
    }

    /// Puts bytes at the end of what is counted and counts them. On the disk when this returns.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<(), TrackerError> {
        let failed = TrackerError::file(&self.path);
        let opened = OpenOptions::new().create(true).write(true).truncate(false).open(&self.path);
        let mut file = opened.map_err(&failed)?;
        if file.metadata().map_err(&failed)?.len() != self.n_bytes {
            file.set_len(self.n_bytes).map_err(&failed)?;
        }
        file.seek(SeekFrom::Start(self.n_bytes)).map_err(&failed)?;
        file.write_all(bytes).and_then(|()| file.sync_data()).map_err(&failed)?;
        self.n_bytes += bytes.len() as u64;
        Ok(())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn n_bytes(&self) -> u64 {
        self.n_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_counted_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        let mut file = CountedFile::begin(path.clone(), b"one").unwrap();
        file.append(b"two").unwrap();
        assert_eq!(file.n_bytes(), 6);
        let mut file = CountedFile::go_on(path.clone(), 3).unwrap();
        file.append(b"3").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"one3");
        assert!(
            CountedFile::go_on(path.clone(), 5).is_none() && CountedFile::go_on(path.clone(), 0).is_none()
        );
        CountedFile::begin(path.clone(), b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }
}
