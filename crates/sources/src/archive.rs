//! Archives from outside: only their tables come out, and only into one folder.
//!
//! Names in an archive are hostile until shown otherwise: one that leads outside refuses the whole archive. Sizes are
//! counted while unpacking, as what an archive says of itself may be a lie.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use tunesmith_data::unpacked_limit_bytes;
use zip::ZipArchive;

use crate::error::{Result, SourceError};
use crate::names::{ending, free_path, is_table, is_text, plain_name_of, wanted_of};
use crate::task::Task;

/// Files an archive may have.
const MAX_FILES: usize = 10_000;

/// Where archives are unpacked, so that an end in the middle leaves nothing that looks like a table.
const UNPACKING: &str = ".tunesmith-unpacking";

/// Replaces a zip archive by the tables in it, or where there are none its texts; any other file stays. The tables are returned.
///
/// # Errors
/// No archive though it is called one, one that names places outside itself, one that is much too large unpacked, one
/// without tables. What was unpacked by then is removed again.
pub fn unpack_if_archive(path: &Path, task: &Task<'_>) -> Result<Vec<PathBuf>> {
    if ending(&path.to_string_lossy()) != "zip" {
        return Ok(vec![path.to_owned()]);
    }
    let folder = path.parent().unwrap_or(path);
    let unpacking = folder.join(UNPACKING);
    fs::remove_dir_all(&unpacking).ok();
    fs::create_dir(&unpacking).map_err(SourceError::io(&unpacking, "create"))?;
    let tables = unpack(path, &unpacking, task).and_then(|unpacked| {
        let moved = unpacked.into_iter().map(|from| {
            let to = free_path(folder, &from.file_name().unwrap_or_default().to_string_lossy());
            fs::rename(&from, &to).map(|()| to).map_err(SourceError::io(&from, "move"))
        });
        moved.collect::<Result<Vec<PathBuf>>>()
    });
    fs::remove_dir_all(&unpacking).map_err(SourceError::io(&unpacking, "remove"))?;
    let tables = tables?;
    fs::remove_file(path).map_err(SourceError::io(path, "remove"))?;
    Ok(tables)
}

fn unpack(archive: &Path, folder: &Path, task: &Task<'_>) -> Result<Vec<PathBuf>> {
    let file = File::open(archive).map_err(SourceError::io(archive, "open"))?;
    let archive_bytes = file.metadata().map_or(0, |file| file.len());
    let limit = task.max_bytes.min(unpacked_limit_bytes(archive_bytes));
    let mut zip = ZipArchive::new(BufReader::new(file)).map_err(|error| refused(&error.to_string()))?;
    if zip.len() > MAX_FILES {
        return Err(refused(&format!("it holds {} files; {MAX_FILES} are the most", zip.len())));
    }
    let (mut tables, mut n_bytes) = (Vec::new(), 0);
    for idx in 0..zip.len() {
        task.check()?;
        let mut entry = zip.by_index(idx).map_err(|error| refused(&error.to_string()))?;
        let name = entry.name().map_err(|error| refused(&error.to_string()))?.into_owned();
        if entry.enclosed_name().is_none() || name.contains('\\') || name.starts_with('/') {
            return Err(refused(&format!("it names a place outside itself: {name:?}")));
        }
        if entry.is_symlink() {
            return Err(refused(&format!("{name:?} is a link, not a file")));
        }
        let plain = plain_name_of(&name);
        let is_hidden = name.split('/').any(|part| part.starts_with('.') || part == "__MACOSX");
        if entry.is_dir() || is_hidden || !(is_table(&plain) || is_text(&plain)) {
            continue;
        }
        task.say(&format!("unpacking {plain}"));
        let table = free_path(folder, &plain);
        n_bytes += copy_limited(&mut entry, &table, limit - n_bytes, task)?;
        tables.push(table);
    }
    // Beside tables, texts stay where they are: the folder goes when this ends.
    let tables = wanted_of(tables, |path: &PathBuf| path.to_string_lossy().into_owned());
    if tables.is_empty() {
        let hint = Some("put csv, tsv, json, jsonl, parquet, arrow or txt files into it");
        return Err(SourceError::Archive { reason: "there is no table in it".to_owned(), hint });
    }
    Ok(tables)
}

fn copy_limited(from: &mut impl Read, path: &Path, limit: u64, task: &Task<'_>) -> Result<u64> {
    let mut out = File::create(path).map_err(SourceError::io(path, "create"))?;
    let mut chunk = vec![0; 1 << 17];
    let mut n_bytes = 0;
    loop {
        let n = match from.read(&mut chunk) {
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(refused(&error.to_string())),
        };
        let Some(bytes) = chunk.get(..n).filter(|bytes| !bytes.is_empty()) else { return Ok(n_bytes) };
        n_bytes += n as u64;
        if n_bytes > limit {
            return Err(SourceError::Archive {
                reason: "unpacked it is far larger than it should be".to_owned(),
                hint: Some("unpack it yourself and import the tables, or raise the limit"),
            });
        }
        out.write_all(bytes).map_err(SourceError::io(path, "write"))?;
        task.check()?;
    }
}

fn refused(reason: &str) -> SourceError {
    SourceError::Archive { reason: reason.to_owned(), hint: None }
}
