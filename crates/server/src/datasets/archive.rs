//! Archives from outside: only their tables come out, and only into one folder.
//!
//! Names in an archive are hostile until shown otherwise: one that leads outside refuses the whole archive. Sizes are
//! counted while unpacking, as what an archive says of itself may be a lie.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::Path;

use zip::ZipArchive;

use super::tables::{free_path, is_table, plain_name_of};
use crate::error::{ApiError, ApiResult};
use crate::jobs::JobContext;

/// Files an archive may have.
const MAX_FILES: usize = 10_000;
/// How much larger than the archive its contents may be; texts are pressed to a tenth, rarely to a hundredth.
const MAX_RATIO: u64 = 200;
/// Below this the ratio does not matter.
const SMALL_BYTES: u64 = 64 << 20;

/// Writes the tables of a zip archive into `folder`. `max_bytes` bounds all of them together.
///
/// # Errors
/// No archive, one that names places outside itself, one that is much too large unpacked, one without tables.
pub(crate) fn unpack(
    archive: &Path,
    folder: &Path,
    max_bytes: u64,
    context: &JobContext,
) -> ApiResult<usize> {
    let file = File::open(archive).map_err(|error| ApiError::io(archive, "open", &error))?;
    let archive_bytes = file.metadata().map_or(0, |file| file.len());
    let limit = max_bytes.min((archive_bytes.saturating_mul(MAX_RATIO)).max(SMALL_BYTES));
    let mut zip = ZipArchive::new(BufReader::new(file)).map_err(|error| refused(&error.to_string()))?;
    if zip.len() > MAX_FILES {
        return Err(refused(&format!("it holds {} files; {MAX_FILES} are the most", zip.len())));
    }
    let (mut n_tables, mut n_bytes) = (0, 0);
    for idx in 0..zip.len() {
        context.check()?;
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
        if entry.is_dir() || is_hidden || !is_table(&plain) {
            continue;
        }
        context.say(format!("unpacking {plain}"));
        let path = free_path(folder, &plain);
        n_bytes += copy_limited(&mut entry, &path, limit - n_bytes, context)?;
        n_tables += 1;
    }
    if n_tables == 0 {
        return Err(
            refused("there is no table in it").hint("put csv, tsv, json, jsonl or parquet files into it")
        );
    }
    Ok(n_tables)
}

fn copy_limited(from: &mut impl Read, path: &Path, limit: u64, context: &JobContext) -> ApiResult<u64> {
    let mut out = File::create(path).map_err(|error| ApiError::io(path, "create", &error))?;
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
            drop(out);
            fs::remove_file(path).ok();
            return Err(refused("unpacked it is far larger than it should be")
                .hint("unpack it yourself and import the tables, or raise the upload limit in Settings"));
        }
        out.write_all(bytes).map_err(|error| ApiError::io(path, "write", &error))?;
        context.check()?;
    }
}

fn refused(reason: &str) -> ApiError {
    ApiError::invalid(format!("the archive cannot be used: {reason}"))
}
