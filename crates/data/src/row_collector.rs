//! Rows of binary tables, where the type of a column can be one that no cell holds: such a column is left out with its
//! reason, and only who uses it gets an error.

use std::path::Path;

use crate::cell::{Cell, widen_gappy_ints};
use crate::table::{Table, unique_names};

/// Collects rows of cells, and for each column the first reason why it cannot be read.
pub(crate) struct RowCollector {
    names: Vec<String>,
    unread: Vec<Option<String>>,
    pub(crate) rows: Vec<Vec<Cell>>,
}

impl RowCollector {
    pub(crate) fn new<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        let names = unique_names(names);
        Self { unread: vec![None; names.len()], names, rows: Vec::new() }
    }

    /// Whether cells of a column need no more be made.
    pub(crate) fn is_unread(&self, column: usize) -> bool {
        self.unread.get(column).is_some_and(Option::is_some)
    }

    /// Why a column is left out.
    pub(crate) fn reason(&self, column: usize) -> Option<&str> {
        self.unread.get(column)?.as_deref()
    }

    /// Leaves a column out, unless it is already.
    pub(crate) fn leave_out(&mut self, column: usize, reason: impl Into<String>) {
        if let Some(unread) = self.unread.get_mut(column) {
            unread.get_or_insert_with(|| reason.into());
        }
    }

    /// The table, in which whole numbers beside gaps are floats as pandas has them.
    pub(crate) fn finish(self, path: &Path) -> Table {
        let Self { names, unread, mut rows } = self;
        widen_gappy_ints(&mut rows, names.len());
        let mut table = Table::new(path, names.clone(), rows);
        for (name, reason) in names.iter().zip(unread) {
            if let Some(reason) = reason {
                table.notes.push(format!("{}: the column {name} is not read: {reason}", path.display()));
                table.drop_column(name, &reason);
            }
        }
        table
    }
}
