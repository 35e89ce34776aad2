//! A file seen as a slice of bytes without reading it: weights are larger than what should be copied.
//!
//! The only module of this crate with unsafe code, and two lines of it.
#![expect(
    unsafe_code,
    reason = "memory-mapping a file is unsafe by nature; everything else goes through the slice"
)]

use std::fs::File;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use crate::error::{FormatError, Result};

/// A read-only view of a whole file. Pages are read when touched and may be dropped again by the system.
#[derive(Debug)]
pub struct MappedFile {
    path: PathBuf,
    // None for an empty file, which some systems refuse to map.
    map: Option<memmap2::Mmap>,
}

impl MappedFile {
    /// Maps the file at `path`.
    ///
    /// The file must not be changed or cut while it is mapped. Everything that this project writes is
    /// written to a temporary name and renamed, which leaves existing mappings untouched.
    ///
    /// # Errors
    /// [`FormatError::Missing`] when there is no such file, [`FormatError::Io`] otherwise.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => {
                FormatError::Missing { path: path.to_owned(), what: "the file".into() }
            }
            _ => FormatError::io(path, "open")(source),
        })?;
        let metadata = file.metadata().map_err(FormatError::io(path, "read the size of"))?;
        if metadata.is_dir() {
            return Err(FormatError::NotAModel {
                path: path.to_owned(),
                reason: "it is a folder, not a file".into(),
            });
        }
        let map = if metadata.len() == 0 {
            None
        } else {
            // SAFETY: the mapping is private and read-only. Its bytes stay valid as long as nobody cuts or
            // rewrites the file in place, which the documentation of `open` asks for and our own writers
            // never do. Bytes changing under us could at worst change decoded numbers: every length and
            // offset is copied out and checked before use.
            Some(unsafe { memmap2::Mmap::map(&file) }.map_err(FormatError::io(path, "map"))?)
        };
        Ok(Self { path: path.to_owned(), map })
    }

    /// Lets the system take back the memory that the pages read so far occupy; they are read again when touched. For use
    /// after a part has been copied out, since until then a process that reads a model once seems to need it twice.
    pub fn let_go(&self) {
        #[cfg(unix)]
        if let Some(map) = &self.map {
            // SAFETY: the mapping is private, read-only and backed by the file, so a page that is dropped comes back with
            // the same bytes. Failing to drop one changes nothing.
            let _ = unsafe { map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
        }
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Deref for MappedFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.map.as_deref().unwrap_or_default()
    }
}
