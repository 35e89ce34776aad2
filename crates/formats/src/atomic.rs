//! Files and folders that appear under their name only when they are whole.
//!
//! Everything is written beside its final place under a temporary name, flushed to the disk and renamed. A
//! crash at any instant leaves either the old or the new content, plus at most a leftover with a name that
//! starts with a dot, which the next writer removes.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{FormatError, Result};

/// Writes `bytes` to `path`, replacing what is there in one step.
///
/// # Errors
/// [`FormatError::Io`]; the old content is then untouched.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = AtomicFile::create(path)?;
    file.write_all(bytes).map_err(FormatError::io(path, "write"))?;
    file.commit()
}

/// A file being written; it takes its name with [`AtomicFile::commit`] and vanishes when dropped before.
#[derive(Debug)]
pub struct AtomicFile {
    // None once committed.
    file: Option<File>,
    temporary: PathBuf,
    path: PathBuf,
}

impl AtomicFile {
    /// Starts a file that is to become `path`; its folder must exist.
    ///
    /// # Errors
    /// [`FormatError::Io`] when no file can be created there.
    pub fn create(path: &Path) -> Result<Self> {
        // The process id and a counter keep writers of the same file apart.
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let unique = COUNTER.fetch_add(1, Ordering::Relaxed);
        let temporary = sibling(path, &format!("{}-{unique}.tmp", std::process::id()));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&temporary)
            .map_err(FormatError::io(path, "create"))?;
        Ok(Self { file: Some(file), temporary, path: path.to_owned() })
    }

    /// The open file, for readers, seekers and copies; `None` never happens before `commit`.
    pub(crate) fn file(&mut self) -> io::Result<&mut File> {
        self.file.as_mut().ok_or_else(|| io::Error::other("the file was committed already"))
    }

    /// Flushes the content to the disk and gives it its name.
    ///
    /// # Errors
    /// [`FormatError::Io`]; the old content is then untouched.
    pub fn commit(mut self) -> Result<()> {
        if let Some(file) = self.file.take() {
            file.sync_all().map_err(FormatError::io(&self.path, "flush"))?;
        }
        fs::rename(&self.temporary, &self.path).map_err(FormatError::io(&self.path, "replace"))?;
        sync_folder(parent(&self.path));
        // Nothing is left to remove.
        self.temporary = PathBuf::new();
        Ok(())
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file()?.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file()?.flush()
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        self.file = None;
        if !self.temporary.as_os_str().is_empty() {
            // Best effort: the temporary name is never read.
            fs::remove_file(&self.temporary).ok();
        }
    }
}

/// A folder being written; it takes its name with [`AtomicDir::commit`] and vanishes when dropped before.
///
/// One writer per final path at a time: leftovers of an earlier writer are removed by the next.
#[derive(Debug)]
pub struct AtomicDir {
    temporary: PathBuf,
    final_path: PathBuf,
    committed: bool,
}

impl AtomicDir {
    /// Starts a folder that is to become `path`; missing parents are created. Clears up after a writer that
    /// was killed, see [`AtomicDir::recover`].
    ///
    /// # Errors
    /// [`FormatError::Io`] when no folder can be created there.
    pub fn create(path: &Path) -> Result<Self> {
        fs::create_dir_all(parent(path)).map_err(FormatError::io(path, "create the parent folder of"))?;
        Self::recover(path)?;
        let temporary = sibling(path, "tmp");
        fs::create_dir(&temporary).map_err(FormatError::io(&temporary, "create"))?;
        Ok(Self { temporary, final_path: path.to_owned(), committed: false })
    }

    /// The folder to write into.
    pub fn path(&self) -> &Path {
        &self.temporary
    }

    /// Flushes all files to the disk and renames the folder into place. An existing folder is moved aside
    /// first and deleted last.
    ///
    /// # Errors
    /// [`FormatError::Io`]; the old folder is then still in its place or brought back by
    /// [`AtomicDir::recover`].
    pub fn commit(mut self) -> Result<()> {
        sync_tree(&self.temporary)?;
        let old = sibling(&self.final_path, "old");
        if self.final_path.exists() {
            fs::rename(&self.final_path, &old).map_err(FormatError::io(&self.final_path, "move aside"))?;
        }
        if let Err(error) = fs::rename(&self.temporary, &self.final_path) {
            Self::recover(&self.final_path)?;
            return Err(FormatError::io(&self.final_path, "replace")(error));
        }
        self.committed = true;
        sync_folder(parent(&self.final_path));
        remove_tree(&old)
    }

    /// Brings `path` back to a whole folder after a writer was killed: restores the old folder when the new
    /// one had not taken its name yet, and removes leftovers. Readers call it before they look whether
    /// `path` exists. Returns whether an old folder was restored.
    ///
    /// # Errors
    /// [`FormatError::Io`] when a leftover cannot be renamed or removed.
    pub fn recover(path: &Path) -> Result<bool> {
        let old = sibling(path, "old");
        let restored = !path.exists() && old.exists();
        if restored {
            fs::rename(&old, path).map_err(FormatError::io(path, "restore"))?;
        } else {
            remove_tree(&old)?;
        }
        remove_tree(&sibling(path, "tmp"))?;
        Ok(restored)
    }
}

impl Drop for AtomicDir {
    fn drop(&mut self) {
        if !self.committed {
            // Best effort: the next writer removes it as well.
            fs::remove_dir_all(&self.temporary).ok();
        }
    }
}

/// `folder/.name.suffix` beside `folder/name`.
fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".");
    name.push(suffix);
    path.with_file_name(name)
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn remove_tree(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FormatError::io(path, "remove")(error)),
        _ => Ok(()),
    }
}

fn sync_tree(folder: &Path) -> Result<()> {
    let failed = FormatError::io(folder, "list");
    let entries = fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>).map_err(failed)?;
    for entry in entries {
        let path = entry.path();
        if path.is_dir() {
            sync_tree(&path)?;
        } else {
            // Opened for writing because Windows flushes no other handle.
            let file = OpenOptions::new().write(true).open(&path);
            file.and_then(|file| file.sync_all()).map_err(FormatError::io(&path, "flush"))?;
        }
    }
    sync_folder(folder);
    Ok(())
}

/// Makes a rename in `folder` durable. Some file systems cannot flush a folder; the rename itself has
/// happened then, so failures are not errors.
fn sync_folder(folder: &Path) {
    if cfg!(unix) {
        File::open(folder).and_then(|folder| folder.sync_all()).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        write_file(&path, b"old").unwrap();
        let mut unfinished = AtomicFile::create(&path).unwrap();
        unfinished.write_all(b"half").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        drop(unfinished);
        write_file(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(names(folder.path()), ["state.json"]);
    }

    #[test]
    fn writing_into_a_missing_folder_names_the_file() {
        let error = write_file(Path::new("/nowhere/at/all.json"), b"").unwrap_err();
        assert!(error.to_string().starts_with("/nowhere/at/all.json: cannot create"), "{error}");
    }

    #[test]
    fn a_folder_is_replaced_whole_or_not_at_all() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("runs/last");
        for content in ["first", "second"] {
            let folder = AtomicDir::create(&path).unwrap();
            fs::create_dir(folder.path().join("sub")).unwrap();
            fs::write(folder.path().join("sub/a"), content).unwrap();
            folder.commit().unwrap();
            assert_eq!(fs::read_to_string(path.join("sub/a")).unwrap(), content);
        }
        let unfinished = AtomicDir::create(&path).unwrap();
        fs::write(unfinished.path().join("b"), "half").unwrap();
        drop(unfinished);
        assert_eq!(names(&root.path().join("runs")), ["last"]);
        assert_eq!(names(&path), ["sub"]);
    }

    #[test]
    fn a_crash_at_any_step_leaves_a_whole_folder_after_recovery() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("last");
        let (temporary, old) = (root.path().join(".last.tmp"), root.path().join(".last.old"));
        let make = |folder: &Path, content: &str| {
            fs::create_dir_all(folder).unwrap();
            fs::write(folder.join("a"), content).unwrap();
        };
        // Killed while writing.
        make(&path, "1");
        make(&temporary, "2");
        assert!(!AtomicDir::recover(&path).unwrap());
        assert_eq!(fs::read_to_string(path.join("a")).unwrap(), "1");
        // Killed between the two renames.
        fs::rename(&path, &old).unwrap();
        make(&temporary, "2");
        assert!(AtomicDir::recover(&path).unwrap());
        assert_eq!(fs::read_to_string(path.join("a")).unwrap(), "1");
        // Killed before the old folder was deleted.
        make(&old, "0");
        assert!(!AtomicDir::recover(&path).unwrap());
        assert_eq!(fs::read_to_string(path.join("a")).unwrap(), "1");
        assert_eq!(names(root.path()), ["last"]);
    }
}
