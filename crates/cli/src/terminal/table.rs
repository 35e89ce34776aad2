//! Small tables: of short texts side by side, whose cells wrap, and of figures, which stand in columns.

/// Rows of text under headings.
#[derive(Debug)]
pub(crate) struct Table {
    headings: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows yet.
    pub(crate) fn new(headings: &[&str]) -> Self {
        Self { headings: headings.iter().map(|&text| text.to_owned()).collect(), rows: Vec::new() }
    }

    /// Adds a row; missing cells are empty, surplus ones are not shown.
    pub(crate) fn row(&mut self, cells: &[&str]) {
        self.rows.push(cells.iter().map(|&text| text.to_owned()).collect());
    }

    /// The lines of the table, no wider than `width` columns if its words allow it.
    pub(crate) fn render(&self, width: usize) -> Vec<String> {
        const GAP: &str = " | ";
        const MIN_COLUMN: usize = 12;

        let n_columns = self.headings.len().max(1);
        let n_gap_columns = GAP.len() * (n_columns - 1);
        let column = (width.saturating_sub(n_gap_columns) / n_columns).max(MIN_COLUMN);
        let rule = vec!["-".repeat(column); n_columns].join("-+-");

        let mut lines = self.render_row(&self.headings, column, GAP);
        lines.push(rule.clone());
        for (idx, row) in self.rows.iter().enumerate() {
            if 0 < idx {
                lines.push(rule.clone());
            }
            lines.extend(self.render_row(row, column, GAP));
        }
        lines
    }

    /// The lines of a table of figures: a name on the left, what belongs to it aligned on the right, nothing cut.
    pub(crate) fn render_figures(&self) -> Vec<String> {
        let width_of = |idx: usize| {
            let cells = self.rows.iter().chain([&self.headings]).filter_map(|row| row.get(idx));
            cells.map(|cell| n_columns_of(cell)).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.headings.len()).map(width_of).collect();
        let line_of = |row: &Vec<String>| {
            let cells = widths.iter().enumerate().map(|(idx, width)| {
                let text = row.get(idx).map_or("", String::as_str);
                let blanks = " ".repeat(width.saturating_sub(n_columns_of(text)));
                if idx == 0 { format!("{text}{blanks}") } else { format!("{blanks}{text}") }
            });
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        [&self.headings].into_iter().chain(&self.rows).map(line_of).collect()
    }

    fn render_row(&self, row: &[String], column: usize, gap: &str) -> Vec<String> {
        let cells: Vec<Vec<String>> = (0..self.headings.len())
            .map(|idx| wrap(row.get(idx).map_or("", String::as_str), column))
            .collect();
        let n_lines = cells.iter().map(Vec::len).max().unwrap_or(0);
        let text_at = |cell: &Vec<String>, line_idx: usize| {
            let text = cell.get(line_idx).map_or("", String::as_str);
            format!("{text}{}", " ".repeat(column.saturating_sub(n_columns_of(text))))
        };
        (0..n_lines)
            .map(|line_idx| {
                let line = cells.iter().map(|cell| text_at(cell, line_idx)).collect::<Vec<_>>().join(gap);
                line.trim_end().to_owned()
            })
            .collect()
    }
}

/// Breaks text at blanks and after commas and colons; a piece longer than `width` is cut.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for piece in pieces(text) {
        let fits =
            lines.last().is_some_and(|line| n_columns_of(line) + n_columns_of(piece.trim_end()) <= width);
        if !fits && lines.last().is_some_and(|line| !line.is_empty()) {
            lines.push(String::new());
        }
        for symbol in piece.chars() {
            if lines.last().is_some_and(|line| width <= n_columns_of(line)) && symbol != ' ' {
                lines.push(String::new());
            }
            if let Some(line) = lines.last_mut() {
                line.push(symbol);
            }
        }
    }
    lines.into_iter().map(|line| line.trim_end().to_owned()).collect()
}

/// Pieces after which a line may be broken.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive([' ', ',', ':', '\n'])
}

fn n_columns_of(text: &str) -> usize {
    console::measure_text_width(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_wrap_at_blanks_and_commas_and_columns_line_up() {
        let mut table = Table::new(&["asked", "answered"]);
        table.row(&["turn off the light in the kitchen", r#"{"action":"set_light","state":"off"}"#]);
        table.row(&["b"]);
        let expected = "\
asked                  | answered
-----------------------+-----------------------
turn off the light in  | {\"action\":\"set_light\",
the kitchen            | \"state\":\"off\"}
-----------------------+-----------------------
b                      |";
        assert_eq!(table.render(47).join("\n"), expected);
    }

    #[test]
    fn figures_line_up_on_the_right() {
        let mut table = Table::new(&["name", "secs", "calls"]);
        table.row(&["linear", "12.50", "7"]);
        table.row(&["a long name", "3.25"]);
        let expected = "\
name          secs  calls
linear       12.50      7
a long name   3.25";
        assert_eq!(table.render_figures().join("\n"), expected);
    }

    #[test]
    fn a_word_longer_than_the_column_is_cut_and_nothing_is_lost() {
        let lines = wrap("abcdefghij klm", 4);
        assert_eq!(lines, ["abcd", "efgh", "ij", "klm"]);
        assert_eq!(wrap("", 4), [""]);
    }
}
