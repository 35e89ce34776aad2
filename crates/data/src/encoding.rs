//! Characters out of bytes: byte order marks, UTF-16 and 8-bit encodings, as a stream of UTF-8.

use std::fmt;
use std::io::{self, Cursor, Read};

use encoding_rs::{Decoder, DecoderResult, Encoding};
use tunesmith_config::TextEncoding;

/// Bytes that are decoded at a time.
const CHUNK_BYTES: usize = 1 << 16;

/// A byte sequence that is no character of the encoding; travels inside an [`io::Error`].
#[derive(Debug)]
pub(crate) struct NotInEncoding {
    /// Line of the text, counted from 1.
    pub(crate) line: u64,
    /// The encoding.
    pub(crate) encoding: &'static str,
    /// What the text may be in instead.
    pub(crate) likely: &'static str,
}

impl fmt::Display for NotInEncoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} is not {}", self.line, self.encoding)
    }
}

impl std::error::Error for NotInEncoding {}

/// What text without a byte order mark, and not in UTF-8, most often is.
pub(crate) const LIKELY: &str = "it may be windows-1252";

/// The text as UTF-8 without a byte order mark, and a note where the encoding was found and not chosen. What is UTF-8 goes
/// through unchecked.
///
/// # Errors
/// The first bytes cannot be read, or they look like UTF-16 without a mark and no encoding was chosen.
pub(crate) fn decoded(
    mut bytes: Box<dyn Read>,
    chosen: TextEncoding,
) -> io::Result<(Box<dyn Read>, Option<String>)> {
    let mut head = Vec::new();
    bytes.by_ref().take(CHUNK_BYTES as u64).read_to_end(&mut head)?;
    let (mark, n_mark_bytes) = match head.as_slice() {
        [0xff, 0xfe, 0, 0, ..] => return Err(not_in("UTF-8", "it looks like UTF-32, which is not read")),
        [0xef, 0xbb, 0xbf, ..] => (Some(TextEncoding::Utf8), 3),
        [0xff, 0xfe, ..] => (Some(TextEncoding::Utf16Le), 2),
        [0xfe, 0xff, ..] => (Some(TextEncoding::Utf16Be), 2),
        _ => (None, 0),
    };
    if let (None, TextEncoding::Auto, Some(likely)) = (mark, chosen, utf16_without_mark(&head)) {
        return Err(not_in("UTF-8", likely));
    }
    let encoding = mark.unwrap_or(match chosen {
        TextEncoding::Auto => TextEncoding::Utf8,
        TextEncoding::Utf16 => TextEncoding::Utf16Le,
        chosen => chosen,
    });
    let is_as_chosen = chosen == encoding
        || matches!((chosen, encoding), (TextEncoding::Auto, TextEncoding::Utf8))
        || chosen == TextEncoding::Utf16;
    let note = (!is_as_chosen).then(|| format!("read as {encoding}, as its byte order mark says"));
    let rest = head.split_off(n_mark_bytes);
    let bytes = Cursor::new(rest).chain(bytes);
    let reader: Box<dyn Read> = match encoding_rs_of(encoding) {
        _ if encoding == TextEncoding::Utf8 => Box::new(bytes),
        Some(table) => {
            Box::new(Decoded::new(bytes, Codec::Table(table.new_decoder_without_bom_handling()), encoding))
        }
        None => Box::new(Decoded::new(bytes, Codec::Latin1, encoding)),
    };
    Ok((reader, note))
}

fn not_in(encoding: &'static str, likely: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, NotInEncoding { line: 1, encoding, likely })
}

/// UTF-16 of mostly Western text has a zero in every second byte, which no text has otherwise.
fn utf16_without_mark(head: &[u8]) -> Option<&'static str> {
    let head = head.get(..head.len().min(1 << 10)).unwrap_or_default();
    let n_zeros = |parity: usize| head.iter().skip(parity).step_by(2).filter(|byte| **byte == 0).count();
    let (even, odd) = (n_zeros(0), n_zeros(1));
    let many = head.len() * 2 / 5;
    match () {
        () if head.len() < 8 => None,
        () if odd >= many && even * 8 < odd => Some("it looks like utf-16le"),
        () if even >= many && odd * 8 < even => Some("it looks like utf-16be"),
        () => None,
    }
}

/// `None` for the one that is no table of encoding_rs: the web's Latin-1 is Windows-1252, that of Python and of this setting
/// is not.
fn encoding_rs_of(encoding: TextEncoding) -> Option<&'static Encoding> {
    Some(match encoding {
        TextEncoding::Latin1 => return None,
        TextEncoding::Auto | TextEncoding::Utf8 => encoding_rs::UTF_8,
        TextEncoding::Utf16 | TextEncoding::Utf16Le => encoding_rs::UTF_16LE,
        TextEncoding::Utf16Be => encoding_rs::UTF_16BE,
        TextEncoding::Windows1252 => encoding_rs::WINDOWS_1252,
        TextEncoding::Windows1250 => encoding_rs::WINDOWS_1250,
        TextEncoding::Windows1251 => encoding_rs::WINDOWS_1251,
        TextEncoding::Iso8859_2 => encoding_rs::ISO_8859_2,
        TextEncoding::Iso8859_15 => encoding_rs::ISO_8859_15,
        TextEncoding::Koi8R => encoding_rs::KOI8_R,
        TextEncoding::MacRoman => encoding_rs::MACINTOSH,
        TextEncoding::Gb18030 => encoding_rs::GB18030,
        TextEncoding::Big5 => encoding_rs::BIG5,
        TextEncoding::ShiftJis => encoding_rs::SHIFT_JIS,
        TextEncoding::EucJp => encoding_rs::EUC_JP,
        TextEncoding::EucKr => encoding_rs::EUC_KR,
    })
}

enum Codec {
    Latin1,
    Table(Decoder),
}

/// UTF-8 out of another encoding, a chunk at a time.
struct Decoded<R> {
    bytes: R,
    codec: Codec,
    encoding: TextEncoding,
    /// Bytes that are not decoded yet, and what was decoded and not read yet from `n_read` on.
    raw: Vec<u8>,
    text: Vec<u8>,
    n_read: usize,
    line: u64,
    is_at_end: bool,
}

impl<R: Read> Decoded<R> {
    fn new(bytes: R, codec: Codec, encoding: TextEncoding) -> Self {
        Self {
            bytes,
            codec,
            encoding,
            raw: Vec::new(),
            text: Vec::new(),
            n_read: 0,
            line: 1,
            is_at_end: false,
        }
    }

    /// Decodes the next chunk into `text`.
    fn refill(&mut self) -> io::Result<()> {
        self.text.clear();
        self.n_read = 0;
        let n_before = self.raw.len();
        self.bytes.by_ref().take(CHUNK_BYTES as u64).read_to_end(&mut self.raw)?;
        self.is_at_end = self.raw.len() - n_before < CHUNK_BYTES;
        match &mut self.codec {
            Codec::Latin1 => {
                let characters: String = self.raw.iter().map(|byte| char::from(*byte)).collect();
                self.text.extend_from_slice(characters.as_bytes());
                self.raw.clear();
            }
            Codec::Table(decoder) => {
                let needed = decoder.max_utf8_buffer_length_without_replacement(self.raw.len());
                self.text.resize(needed.unwrap_or(4 * CHUNK_BYTES + 16), 0);
                let (result, n_bytes, n_written) =
                    decoder.decode_to_utf8_without_replacement(&self.raw, &mut self.text, self.is_at_end);
                self.text.truncate(n_written);
                self.raw.drain(..n_bytes);
                if matches!(result, DecoderResult::Malformed(..)) {
                    let line = self.line + count_lines(&self.text);
                    let error = NotInEncoding {
                        line,
                        encoding: self.encoding.as_str(),
                        likely: "it is in another encoding or damaged",
                    };
                    return Err(io::Error::new(io::ErrorKind::InvalidData, error));
                }
            }
        }
        self.line += count_lines(&self.text);
        Ok(())
    }
}

impl<R: Read> Read for Decoded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.n_read == self.text.len() {
            if self.is_at_end && self.raw.is_empty() {
                return Ok(0);
            }
            self.refill()?;
        }
        let ready = self.text.get(self.n_read..).unwrap_or_default();
        let n = ready.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..n), ready.get(..n)) {
            to.copy_from_slice(from);
        }
        self.n_read += n;
        Ok(n)
    }
}

fn count_lines(text: &[u8]) -> u64 {
    text.iter().filter(|byte| **byte == b'\n').count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], chosen: TextEncoding) -> io::Result<(String, Option<String>)> {
        let (mut reader, note) = decoded(Box::new(Cursor::new(bytes.to_vec())), chosen)?;
        let mut text = String::new();
        reader.read_to_string(&mut text)?;
        Ok((text, note))
    }

    fn utf16(text: &str, to_bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(to_bytes).collect()
    }

    #[test]
    fn marks_decide_and_are_no_part_of_the_text() {
        let text = "naïve,\u{1f600}\n";
        for (bytes, encoding) in [
            (utf16(&format!("\u{feff}{text}"), u16::to_le_bytes), "utf-16le"),
            (utf16(&format!("\u{feff}{text}"), u16::to_be_bytes), "utf-16be"),
        ] {
            let (read, note) = read(&bytes, TextEncoding::Auto).unwrap();
            assert_eq!(read, text);
            assert!(note.unwrap().contains(encoding));
        }
        let marked = format!("\u{feff}{text}");
        assert_eq!(read(marked.as_bytes(), TextEncoding::Auto).unwrap(), (text.to_owned(), None));
        let (text_of_mark, note) = read(marked.as_bytes(), TextEncoding::Windows1252).unwrap();
        assert!(text_of_mark == text && note.unwrap().contains("utf-8"));
        assert_eq!(read(&utf16(text, u16::to_le_bytes), TextEncoding::Utf16).unwrap().0, text);
        assert_eq!(read(&utf16(text, u16::to_be_bytes), TextEncoding::Utf16Be).unwrap().0, text);
        // Python: "\xff\xfe\x00\x00…" is UTF-32.
        assert!(read(&[0xff, 0xfe, 0, 0, b'a', 0, 0, 0], TextEncoding::Auto).is_err());
    }

    #[test]
    fn every_encoding_reads_what_python_writes() {
        // bytes.decode(name) of Python 3.11.
        for (encoding, bytes, text) in [
            (TextEncoding::Latin1, &b"\xe9\x80\x85"[..], "é\u{80}\u{85}"),
            (TextEncoding::Windows1252, b"\xe9\x80\x85", "é€…"),
            (TextEncoding::Windows1250, b"\xb3\xf3d\x9f", "łódź"),
            (TextEncoding::Windows1251, b"\xcf\xf0\xe8", "При"),
            (TextEncoding::Iso8859_2, b"\xb1\xe6", "ąć"),
            (TextEncoding::Iso8859_15, b"\xa4", "€"),
            (TextEncoding::Koi8R, b"\xf0\xd2\xc9", "При"),
            (TextEncoding::MacRoman, b"\x8e\xa5", "é•"),
            (TextEncoding::Gb18030, b"\xc4\xe3\xba\xc3", "你好"),
            (TextEncoding::Big5, b"\xa7A\xa6n", "你好"),
            (TextEncoding::ShiftJis, b"\x82\xb1\x83A", "こア"),
            (TextEncoding::EucJp, b"\xa4\xb3", "こ"),
            (TextEncoding::EucKr, b"\xb0\xa1", "가"),
        ] {
            assert_eq!(read(bytes, encoding).unwrap().0, text, "{encoding}");
        }
    }

    #[test]
    fn long_texts_are_decoded_across_chunks() {
        let text = "é\u{1f600}x\n".repeat(40_000);
        assert_eq!(read(&utf16(&text, u16::to_le_bytes), TextEncoding::Utf16Le).unwrap().0, text);
    }

    #[test]
    fn damage_is_named_with_its_line() {
        let mut bytes = utf16("\u{feff}a\nb", u16::to_le_bytes);
        bytes.extend([0x00, 0xd8, b'c', 0]);
        let error = read(&bytes, TextEncoding::Auto).unwrap_err();
        let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<NotInEncoding>()).unwrap();
        assert_eq!((cause.line, cause.encoding), (2, "utf-16le"));
        assert!(read(&utf16("prompt,answer\n", u16::to_le_bytes), TextEncoding::Auto).is_err());
        assert!(read(b"a\0b,c\n\0,d\n", TextEncoding::Auto).is_ok());
    }
}
