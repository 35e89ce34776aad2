//! Where the lines of a delimited file end, decided line by line, as files are put together from several programs.
//!
//! LF and CR LF end lines wherever they stand outside quotes. A lone CR, the line end of old Macs, is ambiguous where there
//! are others: it ends lines if all that it would separate are rows of as many cells as the header has; else it is a
//! character of its cell, which would be torn otherwise.

/// A text whose lines end in LF, some of them with a CR before it, and what a user should know.
pub(crate) struct LineEnds {
    pub(crate) text: String,
    pub(crate) note: Option<String>,
}

/// Puts an LF in the place of each CR that ends a line by itself.
pub(crate) fn with_line_feeds(text: String, delimiter: u8, is_quoted: bool) -> LineEnds {
    if !text.contains('\r') {
        return LineEnds { text, note: None };
    }
    let found = Found::new(text.as_bytes(), delimiter, is_quoted);
    let n_lone = found.lone_crs.len();
    let ends_lines = found.n_lf + found.n_crlf == 0 || found.lone_crs_fit;
    let kinds: Vec<&str> =
        [(found.n_crlf > 0, "Windows"), (found.n_lf > 0, "Unix"), (n_lone > 0 && ends_lines, "old Macs")]
            .into_iter()
            .filter_map(|(is_there, kind)| is_there.then_some(kind))
            .collect();
    let mut notes = Vec::new();
    if kinds != ["Unix"] && !kinds.is_empty() {
        notes.push(format!("line ends of {} were recognised", kinds.join(" and ")));
    }
    if n_lone > 0 && !ends_lines {
        notes.push(format!("{n_lone} carriage returns inside cells are kept"));
    }
    let note = (!notes.is_empty()).then(|| notes.join("; "));
    if !ends_lines || n_lone == 0 {
        return LineEnds { text, note };
    }
    let mut replaced = String::with_capacity(text.len());
    let mut start = 0;
    for position in found.lone_crs {
        replaced.push_str(text.get(start..position).unwrap_or_default());
        replaced.push('\n');
        start = position + 1;
    }
    replaced.push_str(text.get(start..).unwrap_or_default());
    LineEnds { text: replaced, note }
}

/// The line ends of a text outside quotes.
struct Found {
    n_lf: usize,
    n_crlf: usize,
    lone_crs: Vec<usize>,
    /// Whether what lone CRs separate are rows like the header, of more than one cell.
    lone_crs_fit: bool,
}

impl Found {
    fn new(text: &[u8], delimiter: u8, is_quoted: bool) -> Self {
        let mut found = Self { n_lf: 0, n_crlf: 0, lone_crs: Vec::new(), lone_crs_fit: true };
        let mut n_header_delimiters = None;
        let mut n_delimiters = 0;
        let (mut is_open, mut is_cell_start, mut is_after_lone, mut is_blank) = (false, true, false, true);
        let mut place = 0;
        while let Some(&byte) = text.get(place) {
            let next = text.get(place + 1).copied();
            place += 1;
            if is_open {
                match (byte, next) {
                    (b'"', Some(b'"')) => place += 1,
                    (b'"', _) => is_open = false,
                    _ => {}
                }
                continue;
            }
            if byte != b'\r' && byte != b'\n' {
                is_open = is_quoted && byte == b'"' && is_cell_start;
                is_cell_start = byte == delimiter;
                n_delimiters += usize::from(byte == delimiter);
                is_blank = false;
                continue;
            }
            let is_lone = byte == b'\r' && next != Some(b'\n') && next.is_some();
            if byte == b'\r' && next == Some(b'\n') {
                found.n_crlf += 1;
                place += 1;
            } else if is_lone {
                found.lone_crs.push(place - 1);
            } else if byte == b'\n' {
                found.n_lf += 1;
            }
            if !is_blank {
                let n_expected = *n_header_delimiters.get_or_insert(n_delimiters);
                if is_lone || is_after_lone {
                    found.lone_crs_fit &= n_delimiters == n_expected && n_expected > 0;
                }
            }
            (n_delimiters, is_cell_start, is_after_lone, is_blank) = (0, true, is_lone, true);
        }
        if is_after_lone && !is_blank {
            found.lone_crs_fit &= n_header_delimiters == Some(n_delimiters) && n_delimiters > 0;
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(text: &str) -> (String, String) {
        let LineEnds { text, note } = with_line_feeds(text.to_owned(), b',', true);
        (text, note.unwrap_or_default())
    }

    #[test]
    fn a_lone_cr_ends_lines_where_rows_like_the_header_stand_around_it() {
        for (text, expected, note) in [
            ("a,b\r1,2\r3,4", "a,b\n1,2\n3,4", "old Macs"),
            ("a\r1\r2\r", "a\n1\n2\r", "old Macs"),
            ("a,b\r1,2\n3,4\r\n", "a,b\n1,2\n3,4\r\n", "Windows and Unix and old Macs"),
            ("a,b\n1,x\ry\n", "a,b\n1,x\ry\n", "1 carriage returns inside cells are kept"),
            ("a\n1\r2\n", "a\n1\r2\n", "inside cells"),
            ("a,b\n\"1\r2\",3\n", "a,b\n\"1\r2\",3\n", ""),
            ("a,b\r\"1\r,2\",3\r", "a,b\n\"1\r,2\",3\r", "old Macs"),
            ("a,b\r\n1,2\n", "a,b\r\n1,2\n", "Windows and Unix"),
            ("a,b\r\n1,2\r\n", "a,b\r\n1,2\r\n", "line ends of Windows were"),
            ("a,b\n1,2\n", "a,b\n1,2\n", ""),
        ] {
            let (found, told) = ends(text);
            assert_eq!(found, expected, "{text:?}");
            assert!(told.contains(note) && told.is_empty() == note.is_empty(), "{text:?}: {told}");
        }
    }
}
