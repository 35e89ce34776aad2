//! Bytes of a file of characters, unpacked on the way: what its first bytes say counts, not its name.

use std::fs::File;
use std::io::{self, BufReader, Cursor, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use tunesmith_formats::impostor::{HEAD_BYTES, Impostor, impostor};

use crate::error::{DataError, Result};
use crate::file_types::{Compression, FileType};
use crate::text_file::io_error;

/// How much larger than its file a text may be; texts are pressed to a tenth, rarely to a hundredth.
const MAX_RATIO: u64 = 200;
/// Below this the ratio does not matter.
const SMALL_BYTES: u64 = 64 << 20;

/// The most bytes that what is compressed to `packed_bytes` may unpack to; more is taken for an attack on the memory.
pub fn unpacked_limit_bytes(packed_bytes: u64) -> u64 {
    packed_bytes.saturating_mul(MAX_RATIO).max(SMALL_BYTES)
}

/// The unpacked bytes of a file, and what a user should know of them.
pub(crate) struct Unpacked {
    pub(crate) reader: Box<dyn Read>,
    pub(crate) notes: Vec<String>,
}

/// Opens a file of characters.
///
/// # Errors
/// It cannot be opened, or its first bytes show that it is something else: [`DataError::Impostor`], or a zip archive, a
/// Parquet or an Arrow file under another name.
pub(crate) fn open(path: &Path, file_type: FileType, named: Option<Compression>) -> Result<Unpacked> {
    let mut file = File::open(path).map_err(|source| io_error(path, &source, "open"))?;
    let packed_bytes = file.metadata().map_or(0, |metadata| metadata.len());
    let head = head_of(&mut file).map_err(|source| io_error(path, &source, "read"))?;
    let mut notes = Vec::new();
    match impostor(&head) {
        // Texts about web pages may begin as one.
        Some(Impostor::Html | Impostor::XmlError) if file_type == FileType::Text => {
            notes.push(format!(
                "{}: the text begins as an HTML or XML page and is read as it is",
                path.display()
            ));
        }
        Some(impostor) => return Err(DataError::Impostor { path: path.to_owned(), impostor }),
        None => {}
    }
    if let Some(reason) = other_format(&head) {
        return Err(DataError::Malformed { path: path.to_owned(), line: None, reason: reason.to_owned() });
    }
    let found = compression_of(&head);
    if found != named {
        let what = match (found, named) {
            (Some(_), None) => "compressed, though its name does not say so",
            (Some(_), Some(_)) => "compressed in another way than its name says",
            (None, _) => "not compressed, though its name says so",
        };
        notes.push(format!("{}: the file is {what}", path.display()));
    }
    let bytes = BufReader::new(Cursor::new(head).chain(file));
    let limit = unpacked_limit_bytes(packed_bytes);
    let reader: Box<dyn Read> = match found {
        None => Box::new(bytes),
        Some(Compression::Gzip) => Box::new(Bounded { inner: MultiGzDecoder::new(bytes), left: limit }),
        Some(Compression::Zstd) => {
            let decoder = zstd::stream::read::Decoder::with_buffer(bytes);
            let decoder = decoder.map_err(|source| io_error(path, &source, "read"))?;
            Box::new(Bounded { inner: decoder, left: limit })
        }
    };
    Ok(Unpacked { reader, notes })
}

/// Looks at the first bytes of a file of a binary format.
///
/// # Errors
/// As for [`open`].
pub(crate) fn check_binary(path: &Path, format: &str) -> Result<()> {
    let mut file = File::open(path).map_err(|source| io_error(path, &source, "open"))?;
    let head = head_of(&mut file).map_err(|source| io_error(path, &source, "read"))?;
    match impostor(&head) {
        Some(impostor) => Err(DataError::Impostor { path: path.to_owned(), impostor }),
        None if head.is_empty() => {
            let reason = format!("not a readable {format} file: the file is empty");
            Err(DataError::Empty { path: path.to_owned(), reason })
        }
        None => Ok(()),
    }
}

fn head_of(file: &mut File) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(HEAD_BYTES);
    file.take(HEAD_BYTES as u64).read_to_end(&mut head)?;
    Ok(head)
}

fn compression_of(head: &[u8]) -> Option<Compression> {
    if head.starts_with(&[0x1f, 0x8b]) {
        return Some(Compression::Gzip);
    }
    head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]).then_some(Compression::Zstd)
}

/// Files whose name must be another one.
fn other_format(head: &[u8]) -> Option<&'static str> {
    let formats: [(&[u8], &str); 4] = [
        (b"PK\x03\x04", "this is a zip archive or a spreadsheet; unpack it, or save the sheet as CSV"),
        (b"PAR1", "this is a Parquet file; let its name end in .parquet"),
        (b"ARROW1", "this is an Arrow file; let its name end in .arrow"),
        (b"\xd0\xcf\x11\xe0", "this is a spreadsheet of old Excel; save it as CSV"),
    ];
    formats.iter().find(|(magic, _)| head.starts_with(magic)).map(|(_, reason)| *reason)
}

/// Ends with an error when more comes out than ever should.
struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(n as u64).ok_or_else(|| {
            io::Error::other(format!(
                "it unpacks to more than {MAX_RATIO} times its size; unpack it yourself if that is right"
            ))
        })?;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_unpacks_without_end_is_cut_off() {
        let mut out = Vec::new();
        let mut endless = Bounded { inner: io::repeat(7), left: 1 << 20 };
        let error = endless.read_to_end(&mut out).unwrap_err().to_string();
        assert!(error.contains("200 times") && out.len() <= 1 << 20, "{error}");
        assert_eq!(unpacked_limit_bytes(10), 64 << 20);
        assert_eq!(unpacked_limit_bytes(1 << 30), 200 << 30);
    }
}
