//! Text files as tables: a row for each passage, so that a long text can be split and sampled as rows can.
//!
//! The passages of a file, one after the other, are the file. Which rows go on where the row before ends stands in
//! [`Table::continues`]; what is made of rows that stay neighbours is one text again.

use std::path::Path;

use crate::error::Result;
use crate::table::{Cell, Table};
use crate::table_options::TableOptions;
use crate::text_file::read_text;

/// Column of the passages.
pub(crate) const TEXT_COLUMN: &str = "text";

/// Longest passage: some pages, so that even one book has rows to validate with.
const MAX_PASSAGE_BYTES: usize = 8 << 10;

/// The passages of a txt or md file. Line ends are `\n`, whatever the file has. A file of white space has no rows.
pub(crate) fn read_passages(path: &Path, options: &TableOptions) -> Result<Table> {
    let (text, notes) = read_text(path, options)?;
    let text = text.replace("\r\n", "\n");
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut table = Table::new(path, [TEXT_COLUMN, "file", "part"].map(str::to_owned).to_vec(), Vec::new());
    table.notes = notes;
    let mut line = 1;
    let passages = if text.trim().is_empty() { Vec::new() } else { passages(&text) };
    for (part, passage) in (1..).zip(passages.into_iter().take(options.row_limit())) {
        table.continues.push(part > 1);
        table.lines.push(line);
        line += passage.bytes().filter(|byte| *byte == b'\n').count() as u64;
        table.rows.push(vec![Cell::Text(passage.to_owned()), Cell::Text(name.clone()), Cell::Int(part)]);
    }
    Ok(table)
}

/// Cuts a text where it is cut best: after the last blank line that leaves at most [`MAX_PASSAGE_BYTES`], else after a line,
/// else after a word, else anywhere.
fn passages(text: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let mut rest = text;
    while MAX_PASSAGE_BYTES < rest.len() {
        let mut limit = MAX_PASSAGE_BYTES;
        while !rest.is_char_boundary(limit) {
            limit -= 1;
        }
        let (head, _) = rest.split_at(limit);
        let after =
            |sign: &str| head.rfind(sign).map(|start| start + sign.len()).filter(|end| limit / 2 < *end);
        let end = after("\n\n").or_else(|| after("\n")).or_else(|| after(" ")).unwrap_or(limit);
        let (passage, others) = rest.split_at(end);
        out.push(passage);
        rest = others;
    }
    out.push(rest);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn passages_end_where_texts_pause() {
        let paragraph = "One sentence after the other.\n".repeat(50);
        let text = vec![paragraph; 12].join("\n");
        let cut = passages(&text);
        assert!(cut.len() > 2);
        for passage in &cut[..cut.len() - 1] {
            assert!(passage.ends_with("\n\n") && passage.len() <= MAX_PASSAGE_BYTES, "{}", passage.len());
        }
        assert!(passages(&"word ".repeat(4000))[0].ends_with(' '));
        assert_eq!(passages("short"), ["short"]);
    }

    #[test]
    fn a_text_file_is_a_table_of_passages() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("book.txt");
        std::fs::write(&path, format!("\u{feff}First.\r\n\r\n{}", "Second line.\r\n".repeat(1000))).unwrap();
        let table = read_passages(&path, &TableOptions::default()).unwrap();
        assert_eq!(table.columns, ["text", "file", "part"]);
        assert_eq!(table.continues, [false, true]);
        let whole: String = (0..table.n_rows()).map(|row| table.cell(row, 0).text()).collect();
        assert_eq!(whole, format!("First.\n\n{}", "Second line.\n".repeat(1000)));
        assert_eq!(
            (table.cell(1, 1).text(), table.cell(1, 2).text()),
            ("book.txt".to_owned(), "2".to_owned())
        );
        let n_lines = table.cell(0, 0).text().matches('\n').count() as u64;
        assert_eq!(table.lines, [1, 1 + n_lines]);
        assert_eq!(
            read_passages(&path, &TableOptions { max_rows: Some(1), ..TableOptions::default() })
                .unwrap()
                .n_rows(),
            1
        );
        std::fs::write(&path, " \n").unwrap();
        assert_eq!(read_passages(&path, &TableOptions::default()).unwrap().n_rows(), 0);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_between_passages(parts in prop::collection::vec(("[a-zäöü€ \n]{0,40}", 1_usize..400), 0..8)) {
            let text: String = parts.iter().map(|(part, n)| part.repeat(*n)).collect();
            let cut = passages(&text);
            prop_assert_eq!(cut.concat(), text.as_str());
            prop_assert!(cut.iter().all(|passage| passage.len() <= MAX_PASSAGE_BYTES));
        }
    }
}
