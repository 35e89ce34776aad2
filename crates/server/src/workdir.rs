//! Where everything of the studio is on the disk.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{ApiError, ApiResult};

/// The work folder and the places in it.
#[derive(Debug, Clone)]
pub struct Workdir {
    root: PathBuf,
}

impl Workdir {
    /// Takes a folder, making it and its parts as needed.
    ///
    /// # Errors
    /// The system refuses.
    pub fn open(root: &Path) -> std::io::Result<Self> {
        let workdir = Self { root: std::path::absolute(root)? };
        for folder in [&workdir.root, &workdir.datasets(), &workdir.experiments(), &workdir.uploads()] {
            fs::create_dir_all(folder)?;
        }
        Ok(workdir)
    }

    /// The folder itself; absolute.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The SQLite file.
    pub fn database(&self) -> PathBuf {
        self.root.join("studio.sqlite3")
    }

    /// One folder for each data set.
    pub fn datasets(&self) -> PathBuf {
        self.root.join("datasets")
    }

    /// One folder for each experiment.
    pub fn experiments(&self) -> PathBuf {
        self.root.join("experiments")
    }

    /// Files on their way to a data set.
    pub fn uploads(&self) -> PathBuf {
        self.root.join("uploads")
    }

    /// The folder of a data set.
    ///
    /// # Errors
    /// The id is none.
    pub fn dataset(&self, id: &str) -> ApiResult<PathBuf> {
        Ok(self.datasets().join(checked_id(id)?))
    }

    /// The folder of an experiment.
    ///
    /// # Errors
    /// The id is none.
    pub fn experiment(&self, id: &str) -> ApiResult<PathBuf> {
        Ok(self.experiments().join(checked_id(id)?))
    }
}

/// An id as it may become a part of a path: letters, digits, `-` and `_`.
///
/// # Errors
/// Anything else.
pub fn checked_id(id: &str) -> ApiResult<&str> {
    let is_plain = !id.is_empty()
        && id.len() <= 128
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    if is_plain { Ok(id) } else { Err(ApiError::not_found(format!("{id:?} is not an id"))) }
}

/// `name` as an id: lower case, other signs than letters and digits as single hyphens. Never empty.
pub fn slug(name: &str) -> String {
    const MAX_BYTES: usize = 60;
    let mut slug = String::new();
    for c in name.chars().flat_map(char::to_lowercase) {
        if c.is_ascii_alphanumeric() {
            slug.push(c);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
        if slug.len() >= MAX_BYTES {
            break;
        }
    }
    let slug = slug.trim_matches('-');
    if slug.is_empty() { "unnamed".to_owned() } else { slug.to_owned() }
}

/// A new folder below `parent`, named after `name`: `name`, `name-2`, …; made here, so that nobody else gets it.
///
/// # Errors
/// The system refuses.
pub fn new_folder(parent: &Path, name: &str) -> ApiResult<(String, PathBuf)> {
    const MAX_TRIES: usize = 100_000;
    let base = slug(name);
    for number in 1..MAX_TRIES {
        let id = if number == 1 { base.clone() } else { format!("{base}-{number}") };
        let path = parent.join(&id);
        match fs::create_dir(&path) {
            Ok(()) => return Ok((id, path)),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(ApiError::io(&path, "create", &error)),
        }
    }
    Err(ApiError::conflict(format!("there are too many folders called {base}")))
}

/// Bytes and number of all files below a folder; 0 where there is none.
pub fn folder_size(folder: &Path) -> (u64, u64) {
    let Ok(entries) = fs::read_dir(folder) else { return (0, 0) };
    entries.flatten().fold((0, 0), |(n_bytes, n_files), entry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => {
            let (bytes, files) = folder_size(&entry.path());
            (n_bytes + bytes, n_files + files)
        }
        Ok(kind) if kind.is_file() => {
            (n_bytes + entry.metadata().map_or(0, |metadata| metadata.len()), n_files + 1)
        }
        _ => (n_bytes, n_files),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gv_7_6_names_become_plain_ids() {
        assert_eq!(slug("My Data (v2).csv"), "my-data-v2-csv");
        // A name for the hub, there.
        assert_eq!(slug("my exp.1"), "my-exp-1");
        assert_eq!(slug("--a__b--"), "a-b");
        let okapi = "ubiquitous-okapi-learning-rate-0-0003";
        assert_eq!(slug("ubiquitous-okapi_learning_rate_0.0003"), okapi);
        assert_eq!(slug("../../etc/passwd"), "etc-passwd");
        assert_eq!(slug("データ"), "unnamed");
        assert!(slug(&"x".repeat(500)).len() <= 60);
        for bad in ["", "..", "a/b", "a.b", "a\0", "ä"] {
            assert!(checked_id(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn gv_11_2_folders_of_the_same_name_get_numbers() {
        let parent = tempfile::tempdir().unwrap();
        let ids: Vec<String> = (0..3).map(|_| new_folder(parent.path(), "a b").unwrap().0).collect();
        assert_eq!(ids, ["a-b", "a-b-2", "a-b-3"]);
    }
}
