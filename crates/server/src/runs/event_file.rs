//! Follows the `events.jsonl` of a run while it is written: complete lines only, each once, and a notice when the file was
//! cut because the run was resumed from a checkpoint.
//!
//! A place in the file is its offset and a check value of the line before it. The offset alone would not do: after a cut the
//! file may have grown past it again with other lines, before anybody looked.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;

/// The most that is read at a time.
const CHUNK_BYTES: u64 = 256 * 1024;
/// How much of the end of a line its check value covers. A line is some hundred bytes.
const CHECKED_BYTES: u64 = 4096;

/// A place between two lines. Its text form is what clients give back; they do not look into it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// Bytes of all lines before it.
    pub(crate) offset: u64,
    /// Check value of the line before it; 0 at the beginning.
    check: u32,
}

impl Place {
    /// Reads what [`Place::to_text`] wrote. Nothing else is a place.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (offset, check) = text.trim().split_once('-')?;
        Some(Self { offset: offset.parse().ok()?, check: u32::from_str_radix(check, 16).ok()? })
    }

    /// `offset-check`.
    pub(crate) fn to_text(self) -> String {
        format!("{}-{:08x}", self.offset, self.check)
    }

    fn after(self, line: &str) -> Self {
        Self { offset: self.offset + line.len() as u64 + 1, check: check_of(line) }
    }
}

/// FNV-1a: lines carry the time they were written at, so two different lines at one place do not meet by chance.
fn check_of(line: &str) -> u32 {
    let bytes = line.as_bytes();
    let checked = bytes.get(bytes.len().saturating_sub(CHECKED_BYTES as usize)..).unwrap_or_default();
    check_of_bytes(checked)
}

fn check_of_bytes(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |sum, byte| (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// What a look at the file found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Lines with the places after them, perhaps none. There may be more.
    Lines(Vec<(Place, String)>),
    /// The file was cut before this place: it has to be read from the beginning.
    Cut,
}

/// The next complete lines after `place`, as many as fit into one look.
///
/// # Errors
/// When the file is there and cannot be read. A file that is not there has no lines.
pub(crate) fn lines_after(path: &Path, place: Place) -> io::Result<Found> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Ok(if place.offset == 0 { Found::Lines(Vec::new()) } else { Found::Cut });
        }
        Err(error) => return Err(error),
    };
    let n_bytes = file.metadata()?.len();
    if n_bytes < place.offset || !is_after_its_line(&mut file, place)? {
        return Ok(Found::Cut);
    }
    let mut bytes = Vec::new();
    let mut limit = CHUNK_BYTES;
    let text = loop {
        file.seek(SeekFrom::Start(place.offset))?;
        bytes.clear();
        (&mut file).take(limit).read_to_end(&mut bytes)?;
        match bytes.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => break String::from_utf8_lossy(bytes.get(..=end).unwrap_or_default()).into_owned(),
            // A line longer than what was read: read more of it. Else it is not complete yet.
            None if limit <= bytes.len() as u64 => limit *= 4,
            None => break String::new(),
        }
    };
    let mut at = place;
    let lines = text.split_terminator('\n').map(|line| {
        at = at.after(line);
        (at, line.to_owned())
    });
    Ok(Found::Lines(lines.collect()))
}

/// Whether the line that ends at the place is the one that ended there when the place was made.
fn is_after_its_line(file: &mut File, place: Place) -> io::Result<bool> {
    if place.offset == 0 {
        return Ok(true);
    }
    let from = place.offset.saturating_sub(CHECKED_BYTES + 1);
    file.seek(SeekFrom::Start(from))?;
    let mut before = Vec::new();
    file.take(place.offset - from).read_to_end(&mut before)?;
    let Some((b'\n', line)) = before.split_last() else { return Ok(false) };
    let start = line.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let line = line.get(start..).unwrap_or_default();
    Ok(check_of_bytes(line) == place.check)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(found: &Found) -> Vec<&str> {
        match found {
            Found::Lines(lines) => lines.iter().map(|(_, line)| line.as_str()).collect(),
            Found::Cut => panic!("cut"),
        }
    }

    #[test]
    fn every_line_is_seen_once_however_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        assert_eq!(texts(&lines_after(&path, Place::default()).unwrap()), [""; 0]);
        let whole = "{\"a\":1}\n{\"b\":\"é\"}\n{\"c\":3}\n";
        let (mut place, mut seen) = (Place::default(), Vec::new());
        for n_bytes in 0..=whole.len() {
            std::fs::write(&path, &whole.as_bytes()[..n_bytes]).unwrap();
            let Found::Lines(lines) = lines_after(&path, place).unwrap() else { panic!("cut at {n_bytes}") };
            for (after, line) in lines {
                assert_eq!(Place::parse(&after.to_text()), Some(after));
                (place, _) = (after, seen.push(line));
            }
        }
        assert_eq!(seen, ["{\"a\":1}", "{\"b\":\"é\"}", "{\"c\":3}"]);
        assert_eq!(place.offset, whole.len() as u64);
    }

    #[test]
    fn a_cut_is_noticed_even_when_the_file_has_grown_past_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        std::fs::write(&path, "one 1\ntwo 2\n").unwrap();
        let Found::Lines(lines) = lines_after(&path, Place::default()).unwrap() else { panic!("cut") };
        let (first, second) = (lines[0].0, lines[1].0);
        std::fs::write(&path, "one 1\n").unwrap();
        assert_eq!(lines_after(&path, second).unwrap(), Found::Cut);
        assert_eq!(texts(&lines_after(&path, first).unwrap()), [""; 0]);
        std::fs::write(&path, "one 1\ntwo 3\nmore 4\n").unwrap();
        assert_eq!(lines_after(&path, second).unwrap(), Found::Cut, "another line stands there now");
        assert_eq!(texts(&lines_after(&path, first).unwrap()), ["two 3", "more 4"]);
        std::fs::write(&path, "one longer line\n").unwrap();
        assert_eq!(lines_after(&path, first).unwrap(), Found::Cut, "in the middle of a line");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(lines_after(&path, first).unwrap(), Found::Cut);
    }

    #[test]
    fn long_files_come_in_portions_and_long_lines_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        let long = "x".repeat(3 * CHUNK_BYTES as usize);
        let many: String = (0..20_000).map(|idx| format!("line {idx:09} of many\n")).collect();
        std::fs::write(&path, format!("{long}\n{many}")).unwrap();
        let (mut place, mut n_lines, mut n_looks) = (Place::default(), 0, 0);
        loop {
            let Found::Lines(lines) = lines_after(&path, place).unwrap() else { panic!("cut") };
            let Some((last, _)) = lines.last() else { break };
            (place, n_lines, n_looks) = (*last, n_lines + lines.len(), n_looks + 1);
        }
        assert_eq!((n_lines, place.offset), (20_001, (long.len() + 1 + many.len()) as u64));
        assert!(1 < n_looks);
    }
}
