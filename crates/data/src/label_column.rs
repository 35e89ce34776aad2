//! One column of labels, read once: its cells, what is wrong with them, and how its labels are told to people.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use tunesmith_config::ExperimentConfig;

use crate::columns::required;
use crate::error::{DataError, Result};
use crate::label_cells::{LabelCell, list_in_text, printable_label, separated, truth_value, whole_number};
use crate::label_map::sorted;
use crate::preview_render::{count, grouped};
use crate::table::{Cell, Table};

/// Most labels, and most rows, that a message shows.
pub(crate) const N_SHOWN: usize = 5;

const NO_LABEL_HINT: &str = "give these rows a label or leave them out";
const NO_INDEX_HINT: &str = "set dataset.num_classes to 0 to find the classes, and training.loss_function to CrossEntropyLoss for more than two";

/// A column of labels.
pub(crate) struct LabelColumn<'a> {
    pub(crate) table: &'a Table,
    pub(crate) name: &'a str,
    pub(crate) column_idx: usize,
    /// One for each row, none missing and none wrong.
    pub(crate) cells: Vec<LabelCell>,
}

/// The class of each row of a column.
pub(crate) struct Places {
    pub(crate) classes: Vec<usize>,
    /// Whether the cells hold the numbers of the classes and not their names.
    pub(crate) by_number: bool,
}

impl<'a> LabelColumn<'a> {
    /// The first answer column of a table.
    ///
    /// # Errors
    /// [`DataError::MissingColumn`]; [`DataError::Values`] for cells that hold no label.
    pub(crate) fn read(table: &'a Table, config: &'a ExperimentConfig) -> Result<Self> {
        let name = config.dataset.answer_column.first();
        let column_idx = required(table, name, "dataset.answer_column")?;
        let cells: Vec<LabelCell> =
            (0..table.n_rows()).map(|row| LabelCell::new(table.cell(row, column_idx))).collect();
        let column = Self { table, name, column_idx, cells };
        let is_none = |cell: &LabelCell| matches!(cell, LabelCell::Missing | LabelCell::Wrong);
        if column.cells.iter().any(is_none) {
            return Err(column.not_labels(config));
        }
        Ok(column)
    }

    /// Some cells are missing, or no labels. Where all others are numbers, those that cannot be classes are named, too.
    fn not_labels(&self, config: &ExperimentConfig) -> DataError {
        let is_number = |cell: &Cell| matches!(cell, Cell::Missing | Cell::Int(_) | Cell::Float(_));
        let (n_rows, n_classes) = (self.table.n_rows(), config.dataset.num_classes.max(2));
        let has_indices = (0..n_rows).all(|row| is_number(self.table.cell(row, self.column_idx)));
        let is_binary = config.label_form() == Some(tunesmith_config::LabelForm::Binary);
        let has_number = config.dataset.num_classes > 1 || is_binary;
        if has_indices && has_number && config.dataset.class_names.is_empty() {
            return self.not_indices(n_classes);
        }
        let is_none =
            |row: &usize| matches!(self.cells.get(*row), Some(LabelCell::Missing | LabelCell::Wrong));
        let rows: Vec<usize> = (0..n_rows).filter(is_none).collect();
        let n_words = self.table.n_missing_words.get(self.column_idx).copied().unwrap_or(0);
        let words = match n_words {
            0 => String::new(),
            n => format!(" ({n} of them hold a word such as None, NA or null, which counts as nothing)"),
        };
        let expected = "a label (a text, a whole number, true or false)";
        self.error(
            format!("{}{words}", wrong_cells(self.table, self.column_idx, &rows, expected)),
            NO_LABEL_HINT,
        )
    }

    /// Numbers that are no indices of so many classes.
    pub(crate) fn not_indices(&self, n_classes: usize) -> DataError {
        let is_index = |cell: &LabelCell| cell.label().is_some_and(|label| index(label, n_classes).is_some());
        let wrong: Vec<usize> =
            self.cells.iter().enumerate().filter(|(_, cell)| !is_index(cell)).map(|(row, _)| row).collect();
        let are_missing = wrong.iter().all(|row| matches!(self.cells.get(*row), Some(LabelCell::Missing)));
        let (expected, hint) = match (n_classes, are_missing) {
            (_, true) => ("a label".to_owned(), NO_LABEL_HINT),
            (2, false) => ("0 or 1".to_owned(), NO_INDEX_HINT),
            (n, false) => (format!("a class from 0 to {}", n - 1), NO_INDEX_HINT),
        };
        self.error(wrong_cells(self.table, self.column_idx, &wrong, &expected), hint)
    }

    /// Whether cells are lists: by their type, or with `in_text` as a text of brackets and what stands between them.
    pub(crate) fn has_lists(&self, in_text: bool) -> bool {
        let is_list = |cell: &LabelCell| matches!(cell, LabelCell::List(_));
        let is_text = |cell: &LabelCell| cell.label().is_some_and(|text| list_in_text(text).is_some());
        self.cells.iter().any(is_list)
            || (in_text && !self.cells.is_empty() && self.cells.iter().all(is_text))
    }

    /// Where the first list stands.
    pub(crate) fn first_list(&self) -> String {
        let row = self.cells.iter().position(|cell| matches!(cell, LabelCell::List(_)));
        row.map(|row| format!(" (first in {})", place_text(self.table, row))).unwrap_or_default()
    }

    /// The labels of each row, where cells hold any number of them.
    pub(crate) fn lists(&self, separator: &str) -> Vec<Vec<String>> {
        let of_text = |text: &str| match (list_in_text(text), separator) {
            (Some(list), _) => list,
            (None, "none" | "auto") => vec![text.to_owned()],
            (None, separator) => separated(text, &crate::escapes::unescape(separator)),
        };
        let of_cell = |cell: &LabelCell| match cell {
            LabelCell::List(labels) => labels.clone(),
            LabelCell::One(text) => of_text(text),
            LabelCell::Missing | LabelCell::Wrong => Vec::new(),
        };
        self.cells.iter().map(of_cell).collect()
    }

    /// The different labels, in their order, where each cell holds one.
    pub(crate) fn distinct(&self) -> Vec<String> {
        sorted(self.cells.iter().filter_map(LabelCell::label).collect())
    }

    /// The different labels of lists, in their order.
    pub(crate) fn distinct_of(&self, lists: &[Vec<String>]) -> Vec<String> {
        sorted(lists.iter().flatten().map(String::as_str).collect())
    }

    /// The class indices in the cells, of so many classes.
    ///
    /// # Errors
    /// [`DataError::Values`] for cells that are none.
    pub(crate) fn indices(&self, n_classes: usize) -> Result<Vec<usize>> {
        let classes: Option<Vec<usize>> =
            self.cells.iter().map(|cell| index(cell.label()?, n_classes)).collect();
        classes.ok_or_else(|| self.not_indices(n_classes))
    }

    /// The place of each cell's label among `names`. With `takes_numbers` whole numbers are places themselves, unless a name is
    /// one.
    ///
    /// # Errors
    /// [`DataError::Values`] for labels that are none of the names.
    pub(crate) fn places(&self, names: &[String], takes_numbers: bool) -> Result<Places> {
        let are_texts = names.iter().all(|name| whole_number(name).is_none() && truth_value(name).is_none());
        if takes_numbers && are_texts {
            let by_number = |cell: &LabelCell| index(cell.label()?, names.len());
            if let Some(classes) = self.cells.iter().map(by_number).collect() {
                return Ok(Places { classes, by_number: true });
            }
        }
        self.check(names, "that dataset.class_names lacks")?;
        let place_of: HashMap<&str, usize> =
            names.iter().enumerate().map(|(i, name)| (name.as_str(), i)).collect();
        let classes = self.cells.iter().filter_map(|cell| place_of.get(cell.label()?).copied()).collect();
        Ok(Places { classes, by_number: false })
    }

    /// Refuses cells whose label is none of the names; `what` ends the sentence "it has a label …".
    pub(crate) fn check(&self, names: &[String], what: &str) -> Result<()> {
        let labels = self.cells.iter().enumerate().filter_map(|(row, cell)| Some((row, cell.label()?)));
        self.check_labels(labels, names, what)
    }

    /// The same for lists.
    pub(crate) fn check_lists(&self, lists: &[Vec<String>], names: &[String], what: &str) -> Result<()> {
        let labels = lists.iter().enumerate();
        let labels = labels.flat_map(|(row, list)| list.iter().map(move |label| (row, label.as_str())));
        self.check_labels(labels, names, what)
    }

    fn check_labels<'l>(
        &self,
        labels: impl Iterator<Item = (usize, &'l str)>,
        names: &[String],
        what: &str,
    ) -> Result<()> {
        let known: BTreeSet<&str> = names.iter().map(String::as_str).collect();
        // In the order of the rows: how many, and the first.
        let mut strange: Vec<(&str, usize, usize)> = Vec::new();
        let mut place_of: HashMap<&str, usize> = HashMap::new();
        for (row, label) in labels.filter(|(_, label)| !known.contains(label)) {
            let place = *place_of.entry(label).or_insert(strange.len());
            match strange.get_mut(place) {
                Some((_, n_rows, _)) => *n_rows += 1,
                None => strange.push((label, 1, row)),
            }
        }
        if strange.is_empty() {
            return Ok(());
        }
        let shown = strange.iter().take(N_SHOWN).map(|(label, n_rows, row)| {
            let place = place_text(self.table, *row);
            match n_rows {
                1 => format!("{label:?} in {place}"),
                n => format!("{label:?} ({} rows, first in {place})", grouped(*n)),
            }
        });
        let shown: Vec<String> = shown.collect();
        let labels = if strange.len() == 1 { "a label" } else { "labels" };
        Err(self.error(
            format!("it has {labels} {what}: {}{}", shown.join(", "), more(strange.len())),
            &format!("the labels are {}; give these rows one of them or leave them out", shown_labels(names)),
        ))
    }

    /// Refuses lists that are not labels but one 0 or 1 for each label.
    pub(crate) fn refuse_multi_hot(&self, lists: &[Vec<String>]) -> Result<()> {
        let n_labels = lists.first().map_or(0, Vec::len);
        let is_flag = |label: &String| matches!(label.as_str(), "0" | "1");
        let are_flags = lists.iter().all(|list| list.len() == n_labels && list.iter().all(is_flag));
        if n_labels < 3 || !are_flags {
            return Ok(());
        }
        Err(self.error(
            format!("each of its lists holds {n_labels} times 0 or 1, which are no names of labels"),
            "list the labels that apply, such as [\"a\", \"c\"], or give each label a column of 0 and 1",
        ))
    }

    /// What is worth knowing about labels whatever they become.
    pub(crate) fn notes(&self) -> Vec<String> {
        let texts = || {
            (0..self.table.n_rows()).filter_map(|row| match self.table.cell(row, self.column_idx) {
                Cell::Text(text) => Some(text.as_str()),
                _ => None,
            })
        };
        let mut notes = Vec::new();
        let n_padded = texts().filter(|text| text.trim() != *text).count();
        if n_padded > 0 {
            notes.push(format!(
                "white space around labels of the column {} does not count ({})",
                self.name,
                count(n_padded, "cell")
            ));
        }
        let mut spellings: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
        for text in texts().map(str::trim) {
            spellings.entry(text.to_lowercase()).or_default().insert(text);
        }
        let alike: Vec<String> = spellings
            .into_values()
            .filter(|spellings| spellings.len() > 1)
            .map(|spellings| spellings.into_iter().map(printable_label).collect::<Vec<_>>().join(" and "))
            .collect();
        if !alike.is_empty() {
            notes.push(format!(
                "labels of the column {} differ by upper and lower case only, and are labels each: {}{}",
                self.name,
                alike.iter().take(N_SHOWN).cloned().collect::<Vec<_>>().join(", "),
                more(alike.len())
            ));
        }
        notes
    }

    /// Says which label became which class.
    pub(crate) fn mapping(&self, names: &[String]) -> String {
        let mut counts: HashMap<&str, usize> = HashMap::new();
        self.cells
            .iter()
            .filter_map(LabelCell::label)
            .for_each(|label| *counts.entry(label).or_default() += 1);
        let kind = match names.iter().all(|name| whole_number(name).is_some()) {
            true => ", whole numbers that are not 0, 1, 2, … and so count as names",
            false => "",
        };
        format!(
            "the column {} has {} labels{kind}: {}",
            self.name,
            grouped(names.len()),
            self.classes(names, &counts)
        )
    }

    /// The same for lists.
    pub(crate) fn list_mapping(&self, lists: &[Vec<String>], names: &[String], separator: &str) -> String {
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for list in lists {
            let labels: BTreeSet<&str> = list.iter().map(String::as_str).collect();
            labels.into_iter().for_each(|label| *counts.entry(label).or_default() += 1);
        }
        let how = match separator {
            "none" => "as lists".to_owned(),
            separator => format!("with {separator:?} between them"),
        };
        format!(
            "the column {} holds any number of {} labels {how}: {}",
            self.name,
            grouped(names.len()),
            self.classes(names, &counts)
        )
    }

    /// The first classes with their labels and rows, where rows name them.
    fn classes(&self, names: &[String], counts: &HashMap<&str, usize>) -> String {
        let class = |(class, name): (usize, &String)| {
            let shown = printable_label(name);
            match counts.get(name.as_str()) {
                Some(n) => format!("{class} = {shown} ({})", count(*n, "row")),
                None => format!("{class} = {shown}"),
            }
        };
        let shown: Vec<String> = names.iter().enumerate().take(2 * N_SHOWN).map(class).collect();
        let n_more = names.len().saturating_sub(shown.len());
        let more = if n_more > 0 { format!(" and {} more", grouped(n_more)) } else { String::new() };
        format!("{}{more}", shown.join(", "))
    }

    /// An error about the column.
    pub(crate) fn error(&self, reason: String, hint: &str) -> DataError {
        DataError::Values {
            path: self.table.path.clone(),
            column: self.name.to_owned(),
            reason,
            hint: hint.to_owned(),
        }
    }
}

/// The class index that a label is, of so many classes; truth values are 0 and 1.
pub(crate) fn index(label: &str, n_classes: usize) -> Option<usize> {
    let number = whole_number(label).or_else(|| truth_value(label).map(i64::from))?;
    usize::try_from(number).ok().filter(|class| *class < n_classes)
}

/// The first few labels.
pub(crate) fn shown_labels(labels: &[String]) -> String {
    let shown: Vec<String> = labels.iter().take(N_SHOWN).map(|label| printable_label(label)).collect();
    format!("{}{}", shown.join(", "), more(labels.len()))
}

/// What is wrong with these rows of a column, of which the first few are shown.
pub(crate) fn wrong_cells(table: &Table, column: usize, wrong: &[usize], expected: &str) -> String {
    let shown = wrong.iter().take(N_SHOWN).map(|row_idx| {
        let cell = table.cell(*row_idx, column);
        let text = if cell.is_missing() { "nothing".to_owned() } else { format!("{:?}", cell.text()) };
        format!("{text} in {}", place_text(table, *row_idx))
    });
    let shown: Vec<String> = shown.collect();
    format!(
        "{} of {} cells are not {expected}: {}{}",
        wrong.len(),
        table.n_rows(),
        shown.join(", "),
        more(wrong.len())
    )
}

/// "line 3", with the file where the table has several.
fn place_text(table: &Table, row_idx: usize) -> String {
    use crate::error::Place;
    let file = match table.parts.is_empty() {
        true => String::new(),
        false => format!(" of {}", table.file_of(row_idx).display()),
    };
    match table.place(row_idx) {
        Place::Line(line) => format!("line {line}{file}"),
        Place::Row(row) => format!("row {row}{file}"),
    }
}

/// How many of `n` are not shown.
fn more(n: usize) -> String {
    match n.saturating_sub(N_SHOWN) {
        0 => String::new(),
        n => format!(" and {n} more"),
    }
}
