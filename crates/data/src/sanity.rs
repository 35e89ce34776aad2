//! Whether ids and parent ids of a table can be conversations at all; says what is wrong before training does.

use std::collections::HashMap;

use crate::chains::{Id, Parents, has_cycle, link};
use crate::error::{DataError, Result};
use crate::table::{Cell, Table};

/// Names and positions of the two columns.
pub(crate) struct IdColumns<'a> {
    pub(crate) id_name: &'a str,
    pub(crate) id_idx: usize,
    pub(crate) parent_name: &'a str,
    pub(crate) parent_idx: usize,
}

/// Checks the columns and resolves them to parent rows.
pub(crate) fn checked_parents(table: &Table, columns: &IdColumns<'_>) -> Result<Parents> {
    let IdColumns { id_name, id_idx, parent_name, parent_idx } = *columns;
    if id_name == parent_name {
        let reason =
            format!("id column and parent id column are both {id_name:?}; they must be different columns");
        return Err(chain_error(table, reason));
    }
    let column = |idx: usize| (0..table.n_rows()).map(move |row_idx| table.cell(row_idx, idx));
    let ids: Vec<Option<Id>> = column(id_idx).map(Id::of).collect();
    let parent_ids: Vec<Option<Id>> = column(parent_idx).map(Id::of).collect();
    if ids.iter().zip(&parent_ids).any(|(id, parent)| id.is_some() && id == parent) {
        let reason = format!("Parent id column: {parent_name} is the same as id column for some rows");
        return Err(chain_error(table, reason));
    }
    if parent_ids.iter().all(Option::is_some) {
        let reason = format!(
            "Did not find any conversation chain. Please ensure that some parent ids are empty.\n\
             A conversation starts at a row without a parent and is built from the rows that refer to it.\n\
             Here every row has a parent.\n\
             The parent ids are in the column {parent_name}"
        );
        return Err(chain_error(table, reason));
    }
    let parents = link(column(id_idx), column(parent_idx));
    if parent_ids.iter().all(Option::is_none) {
        return Ok(parents);
    }
    if parents.iter().all(Option::is_none) {
        let reason = format!("no parent id in the column {parent_name} occurs in the id column {id_name}");
        return Err(chain_error(table, reason));
    }
    check_unique_ids(table, &ids)?;
    if parents.iter().enumerate().any(|(row_idx, parent)| *parent == Some(row_idx)) {
        let reason = format!("Parent id column: {parent_name} is the same as id column for some rows");
        return Err(chain_error(table, reason));
    }
    if has_cycle(&parents) {
        let reason = format!("following the column {parent_name} upwards leads some rows back to themselves");
        return Err(chain_error(table, reason));
    }
    Ok(parents)
}

/// Refuses an id that two rows have, and a row without one.
pub(crate) fn check_unique_ids(table: &Table, ids: &[Option<Id>]) -> Result<()> {
    let mut first_row: HashMap<&Id, usize> = HashMap::with_capacity(ids.len());
    for (row_idx, id) in ids.iter().enumerate() {
        // A row without an id is nobody's parent; that is fine.
        let Some(id) = id else { continue };
        if let Some(first) = first_row.insert(id, row_idx) {
            let reason = format!("the id {} occurs a second time (first{})", shown(id), table.place(first));
            return Err(table.row_error(row_idx, reason));
        }
    }
    Ok(())
}

pub(crate) fn chain_error(table: &Table, reason: String) -> DataError {
    DataError::Chains { path: table.path.clone(), reason }
}

fn shown(id: &Id) -> String {
    match id {
        Id::Whole(value) => value.to_string(),
        Id::Broken(bits) => Cell::Float(f64::from_bits(*bits)).text(),
        Id::Text(text) => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ids 1 to 4 and these parents.
    fn check(parents: [Option<i64>; 4]) -> std::result::Result<Parents, String> {
        let cell = |value: Option<i64>| value.map_or(Cell::Missing, Cell::Int);
        check_cells((1..5).map(Cell::Int).collect(), parents.into_iter().map(cell).collect())
    }

    fn check_cells(ids: Vec<Cell>, parents: Vec<Cell>) -> std::result::Result<Parents, String> {
        let table = Table::new(
            "t.csv".as_ref(),
            vec!["id".into(), "parent_id".into()],
            ids.into_iter().zip(parents).map(|(id, parent)| vec![id, parent]).collect(),
        );
        let columns = IdColumns { id_name: "id", id_idx: 0, parent_name: "parent_id", parent_idx: 1 };
        checked_parents(&table, &columns).map_err(|error| error.to_string())
    }

    #[test]
    fn gv_3_5_chains_and_single_rows_pass() {
        assert_eq!(check([Some(2), None, Some(4), Some(1)]), Ok(vec![Some(1), None, Some(3), Some(0)]));
        assert_eq!(check([None; 4]), Ok(vec![None; 4]));
    }

    #[test]
    fn gv_3_5_what_is_no_conversation_is_refused() {
        let own = check([Some(1), Some(2), Some(3), Some(4)]).unwrap_err();
        assert!(own.contains("Parent id column: parent_id is the same as id column for some rows"), "{own}");
        let none = check([Some(2), Some(3), Some(4), Some(1)]).unwrap_err();
        let phrase = "Did not find any conversation chain. Please ensure that some parent ids are empty.";
        assert!(none.contains(phrase) && none.lines().count() == 4 && none.contains("parent_id"), "{none}");
        let strangers = check([Some(8), None, Some(9), Some(7)]).unwrap_err();
        assert!(
            strangers.contains("no parent id in the column parent_id occurs in the id column id"),
            "{strangers}"
        );
        let cycle = check([None, Some(3), Some(4), Some(2)]).unwrap_err();
        assert!(cycle.contains("back to themselves"), "{cycle}");
    }

    #[test]
    fn ids_must_be_unique_where_they_are_referred_to() {
        let ids = vec![Cell::Int(1), Cell::Int(2), Cell::Float(1.0)];
        let parents = vec![Cell::Missing, Cell::Int(1), Cell::Missing];
        let error = check_cells(ids.clone(), parents).unwrap_err();
        assert_eq!(error, "t.csv, row 3: the id 1 occurs a second time (first, row 1)");
        // Nobody refers to anything: ids do not matter.
        assert!(check_cells(ids, vec![Cell::Missing; 3]).is_ok());
    }

    #[test]
    fn one_column_cannot_be_both() {
        let table = Table::new("t.csv".as_ref(), vec!["id".into()], vec![vec![Cell::Int(1)]]);
        let columns = IdColumns { id_name: "id", id_idx: 0, parent_name: "id", parent_idx: 0 };
        assert!(checked_parents(&table, &columns).unwrap_err().to_string().contains("different columns"));
    }
}
