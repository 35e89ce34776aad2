//! What stands in a file's place when the file itself was never fetched: a Git LFS pointer, or the page of a web server.
//!
//! Told by the first bytes alone, so that every reader of models and data can ask before its parser complains about a
//! damaged header.

use std::fmt;

/// How many of a file's first bytes are enough to tell.
pub const HEAD_BYTES: usize = 1024;

/// Something that is not the file it is named after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Impostor {
    /// The text that a repository keeps for a large file; cloning without git-lfs leaves it there.
    LfsPointer {
        /// Size of the file it points to, where it says so.
        size_bytes: Option<u64>,
    },
    /// A page for a browser: a sign-in form, an error, a preview of the file.
    Html,
    /// The answer of an object store that refused the download.
    XmlError,
}

/// What the file with these first bytes (up to [`HEAD_BYTES`]) is instead of data, if anything is known.
pub fn impostor(head: &[u8]) -> Option<Impostor> {
    if is_lfs_pointer(head) {
        return Some(Impostor::LfsPointer { size_bytes: lfs_size(head) });
    }
    let text = without_prologue(head);
    if starts_with_tag(text, b"<!doctype", b"html")
        || [&b"<html"[..], b"<head"].iter().any(|tag| is_tag(text, tag))
    {
        return Some(Impostor::Html);
    }
    (is_tag(text, b"<error") && is_xml(head)).then_some(Impostor::XmlError)
}

impl Impostor {
    /// What the user can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::LfsPointer { .. } => {
                "fetch the file itself: `git lfs install`, then `git lfs pull` in its repository"
            }
            Self::Html => {
                "download the file again from its direct address (on the Hugging Face hub …/resolve/…, not …/blob/…), \
                 with a token if it needs one"
            }
            Self::XmlError => "download the file again with the credentials that it needs",
        }
    }
}

impl fmt::Display for Impostor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LfsPointer { size_bytes: Some(size) } => {
                write!(f, "this is a Git LFS pointer, not the file itself ({size} bytes)")
            }
            Self::LfsPointer { size_bytes: None } => {
                write!(f, "this is a Git LFS pointer, not the file itself")
            }
            Self::Html => write!(f, "this is an HTML page, not the file itself"),
            Self::XmlError => {
                write!(f, "this is the error message of a web server (XML), not the file itself")
            }
        }
    }
}

/// The first line of every pointer; hawser is what git-lfs was called at first.
fn is_lfs_pointer(head: &[u8]) -> bool {
    let first_lines: [&[u8]; 2] =
        [b"version https://git-lfs.github.com/spec/", b"version https://hawser.github.com/spec/"];
    first_lines.iter().any(|line| head.starts_with(line))
}

fn lfs_size(head: &[u8]) -> Option<u64> {
    let text = String::from_utf8_lossy(head);
    text.lines().find_map(|line| line.strip_prefix("size ")?.trim().parse().ok())
}

fn is_xml(head: &[u8]) -> bool {
    without_space(head).starts_with(b"<?xml")
}

/// What follows white space, the XML declaration and comments.
fn without_prologue(head: &[u8]) -> &[u8] {
    let mut rest = without_space(head);
    for (start, end) in [(&b"<?xml"[..], &b"?>"[..]), (b"<!--", b"-->"), (b"<!--", b"-->")] {
        if rest.starts_with(start) {
            let Some(position) = rest.windows(end.len()).position(|window| window == end) else {
                return rest;
            };
            rest = without_space(rest.get(position + end.len()..).unwrap_or_default());
        }
    }
    rest
}

fn without_space(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).trim_ascii_start()
}

/// Whether a text begins with a tag, which ends in a space or a bracket.
fn is_tag(text: &[u8], tag: &[u8]) -> bool {
    let Some((name, rest)) = text.split_at_checked(tag.len()) else { return false };
    name.eq_ignore_ascii_case(tag)
        && rest.first().is_some_and(|byte| *byte == b'>' || byte.is_ascii_whitespace())
}

fn starts_with_tag(text: &[u8], tag: &[u8], word: &[u8]) -> bool {
    let Some((name, rest)) = text.split_at_checked(tag.len()) else { return false };
    let rest = rest.trim_ascii_start();
    name.eq_ignore_ascii_case(tag)
        && rest.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_are_told_with_the_size_of_their_file() {
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 269060552\n";
        assert_eq!(impostor(pointer), Some(Impostor::LfsPointer { size_bytes: Some(269_060_552) }));
        assert_eq!(impostor(&pointer[..50]), Some(Impostor::LfsPointer { size_bytes: None }));
        let old = b"version https://hawser.github.com/spec/v1\r\noid sha256:4d7a\r\nsize 12\r\n";
        assert_eq!(impostor(old), Some(Impostor::LfsPointer { size_bytes: Some(12) }));
        let text =
            impostor(pointer).map(|impostor| (impostor.to_string(), impostor.hint())).unwrap_or_default();
        assert_eq!(text.0, "this is a Git LFS pointer, not the file itself (269060552 bytes)");
        assert!(text.1.contains("git lfs pull"));
    }

    #[test]
    fn pages_are_told_however_they_begin() {
        for page in [
            "<!DOCTYPE html><html>",
            "<!doctype HTML PUBLIC \"-//W3C//DTD HTML 4.01//EN\">",
            "\u{feff}\r\n  <html lang=\"en\">",
            "<HTML>",
            "<!-- saved from url -->\n<!DOCTYPE html>",
            "<?xml version=\"1.0\"?>\n<!DOCTYPE html PUBLIC \"-//W3C//DTD XHTML 1.0\">",
            "<head><title>404</title>",
        ] {
            assert_eq!(impostor(page.as_bytes()), Some(Impostor::Html), "{page}");
        }
        let refused = b"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>AccessDenied</Code>";
        assert_eq!(impostor(refused), Some(Impostor::XmlError));
    }

    #[test]
    fn data_is_no_impostor() {
        for head in [
            &b""[..],
            b"prompt,answer\n",
            b"<html_text>,label\n",
            b"{\"text\": \"<!DOCTYPE html>\"}",
            b"version https://example.org\n",
            b"<error>,n\n",
            b"<!-- never closed",
            b"<?xml never closed",
            b"PAR1\x15\x04",
            b"GGUF\x03\0\0\0",
            b"\x80\x02ctorch",
        ] {
            assert_eq!(impostor(head), None, "{head:?}");
        }
    }
}
