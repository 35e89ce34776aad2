//! Which row answers which: ids and parent ids to chains of rows and to groups of connected rows.

use std::collections::HashMap;

use crate::table::Cell;

/// Longer chains are taken for an endless loop.
const MAX_PARENTS: usize = 1000;

/// Position of each row's parent row, if it has one in the same table.
pub(crate) type Parents = Vec<Option<usize>>;

/// An id by value: `1` and `1.0` are the same, the text `1` is another.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Id {
    Whole(i64),
    /// Bits of a number that is no whole one.
    Broken(u64),
    Text(String),
}

impl Id {
    /// `None` for cells that cannot be referred to: missing, empty, infinite, and the word `None`.
    pub(crate) fn of(cell: &Cell) -> Option<Self> {
        match cell {
            Cell::Missing => None,
            Cell::Text(text) if text.is_empty() || text == "None" => None,
            Cell::Text(text) => Some(Self::Text(text.clone())),
            Cell::Int(value) => Some(Self::Whole(*value)),
            Cell::Float(value) if !value.is_finite() => None,
            // Every float below 2^63 in magnitude that has no fraction is a whole number of that type.
            Cell::Float(value) if value.fract() == 0.0 && value.abs() < 9.2e18 => {
                Some(Self::Whole(*value as i64))
            }
            Cell::Float(value) => Some(Self::Broken(value.to_bits())),
            Cell::Bool(_) | Cell::Json(_) => Some(Self::Text(cell.text())),
        }
    }

    /// The same digits in the other type, for tables that write ids as numbers here and as texts there.
    fn other_type(&self) -> Option<Self> {
        match self {
            Self::Whole(value) => Some(Self::Text(value.to_string())),
            Self::Broken(_) => None,
            Self::Text(text) => text.parse().ok().map(Self::Whole),
        }
    }

    /// The number of a text with leading zeros.
    fn padded_number(&self) -> Option<i64> {
        match self {
            Self::Text(text) if text.starts_with('0') && text.len() > 1 => text.parse().ok(),
            _ => None,
        }
    }
}

/// Looks up every row's parent. Parents that are missing or no row's id count as none.
pub(crate) fn link<'a>(
    ids: impl Iterator<Item = &'a Cell>,
    parents: impl Iterator<Item = &'a Cell>,
) -> Parents {
    let positions: HashMap<Id, usize> =
        ids.enumerate().filter_map(|(row_idx, cell)| Some((Id::of(cell)?, row_idx))).collect();
    // `1` refers to the id `01` where no other id is that number.
    let mut of_padded: HashMap<i64, Option<usize>> = HashMap::new();
    for (id, row_idx) in &positions {
        if let Some(number) = id.padded_number() {
            of_padded.entry(number).and_modify(|row| *row = None).or_insert(Some(*row_idx));
        }
    }
    parents
        .map(|cell| {
            let id = Id::of(cell)?;
            let other = id.other_type();
            let found = |id: &Id| positions.get(id).copied();
            let padded = |number: &i64| of_padded.get(number).copied().flatten();
            found(&id).or_else(|| found(other.as_ref()?)).or_else(|| match (&id, &other) {
                (Id::Whole(number), _) | (_, Some(Id::Whole(number))) => padded(number),
                _ => None,
            })
        })
        .collect()
}

/// The chain that ends with `row_idx`: its oldest ancestor first. `None` after more than 1000 parents, which is
/// taken for a cycle.
pub(crate) fn chain(parents: &[Option<usize>], row_idx: usize) -> Option<Vec<usize>> {
    let mut rows = vec![row_idx];
    let mut current = row_idx;
    while let Some(parent) = parents.get(current).copied().flatten() {
        if rows.len() > MAX_PARENTS {
            return None;
        }
        rows.push(parent);
        current = parent;
    }
    rows.reverse();
    Some(rows)
}

/// Rows whose chains become samples: all of them, or only those that are nobody's parent. In table order.
pub(crate) fn ends(parents: &[Option<usize>], limit_chained_samples: bool) -> Vec<usize> {
    let mut has_child = vec![false; parents.len()];
    for parent in parents.iter().flatten() {
        if let Some(flag) = has_child.get_mut(*parent) {
            *flag = true;
        }
    }
    let is_end =
        |row_idx: &usize| !limit_chained_samples || !has_child.get(*row_idx).copied().unwrap_or(false);
    (0..parents.len()).filter(is_end).collect()
}

/// Rows that hang together by parents, each group in table order; groups in the order of the first conversation
/// that ends in them. Without cycles every row is in exactly one group.
pub(crate) fn groups(parents: &[Option<usize>]) -> Vec<Vec<usize>> {
    let roots = roots(parents);
    let mut position_of_root: HashMap<usize, usize> = HashMap::new();
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for end in ends(parents, true) {
        let root = roots.get(end).copied().unwrap_or(end);
        position_of_root.entry(root).or_insert_with(|| {
            groups.push(Vec::new());
            groups.len() - 1
        });
    }
    for (row_idx, root) in roots.iter().enumerate() {
        if let Some(group) = position_of_root.get(root).and_then(|position| groups.get_mut(*position)) {
            group.push(row_idx);
        }
    }
    groups
}

/// The oldest ancestor of every row. Rows on a cycle get one of the cycle's rows.
pub(crate) fn roots(parents: &[Option<usize>]) -> Vec<usize> {
    const UNKNOWN: usize = usize::MAX;
    let mut roots = vec![UNKNOWN; parents.len()];
    let mut path = Vec::new();
    for start in 0..parents.len() {
        let mut current = start;
        path.clear();
        // Up to a row whose root is known, the top, or a row of this very walk.
        let root = loop {
            if roots[current] != UNKNOWN {
                break roots[current];
            }
            path.push(current);
            // Marks the row as walked over; a cycle comes back to it.
            roots[current] = current;
            match parents[current] {
                Some(parent) if parent < parents.len() => current = parent,
                _ => break current,
            }
        };
        for row_idx in &path {
            roots[*row_idx] = root;
        }
    }
    roots
}

/// Whether some row is its own ancestor.
pub(crate) fn has_cycle(parents: &[Option<usize>]) -> bool {
    // A row is fine once all its ancestors are known to end at a top.
    let mut is_fine = vec![false; parents.len()];
    let mut walk_of_row = vec![usize::MAX; parents.len()];
    for start in 0..parents.len() {
        let mut current = Some(start);
        let mut path = Vec::new();
        while let Some(row_idx) = current.filter(|row_idx| !is_fine.get(*row_idx).copied().unwrap_or(true)) {
            if walk_of_row[row_idx] == start {
                return true;
            }
            walk_of_row[row_idx] = start;
            path.push(row_idx);
            current = parents[row_idx];
        }
        for row_idx in path {
            is_fine[row_idx] = true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Cell {
        Cell::Text(text.to_owned())
    }

    fn chains(parents: &[Option<usize>], limit: bool) -> Vec<Vec<usize>> {
        ends(parents, limit).into_iter().map(|end| chain(parents, end).unwrap()).collect()
    }

    /// Ids and parents of mixed types, one of each kind upstream is tested with.
    fn mixed() -> (Vec<Cell>, Vec<Cell>) {
        let ids = vec![
            text("a1"),
            text(" "),
            text("-inf"),
            Cell::Int(1_234_567_890),
            text("1234567890"),
            text("x1"),
            Cell::Int(1),
            Cell::Int(2),
            Cell::Float(3.0),
            Cell::Float(4.0),
            text("a2"),
            text("a3"),
            text("a4"),
        ];
        let parents = vec![
            text(" "),
            text("-inf"),
            Cell::Int(1_234_567_890),
            text("1234567890"),
            text("x1"),
            Cell::Float(1.0),
            Cell::Float(2.0),
            Cell::Int(3),
            Cell::Int(4),
            Cell::Missing,
            text("None"),
            Cell::Missing,
            Cell::Float(f64::INFINITY),
        ];
        (ids, parents)
    }

    #[test]
    fn gv_3_8_every_row_or_only_ends_are_samples() {
        let parents = [None, Some(0), Some(1), Some(2)];
        assert_eq!(chains(&parents, false), [vec![0], vec![0, 1], vec![0, 1, 2], vec![0, 1, 2, 3]]);
        assert_eq!(chains(&parents, true), [vec![0, 1, 2, 3]]);
        let two = [None, Some(0), Some(1), Some(2), None, Some(4), Some(5), Some(6)];
        assert_eq!(chains(&two, true), [vec![0, 1, 2, 3], vec![4, 5, 6, 7]]);
        // Ids 1 to 4 with parents 2, none, 4, 1.
        assert_eq!(chains(&[Some(1), None, Some(3), Some(0)], true), [vec![1, 0, 3, 2]]);
    }

    #[test]
    fn gv_3_8_ids_of_mixed_types_find_each_other() {
        let (ids, parents) = mixed();
        let links = link(ids.iter(), parents.iter());
        let expected = [vec![9, 8, 7, 6, 5, 4, 3, 2, 1, 0], vec![10], vec![11], vec![12]];
        assert_eq!(chains(&links, true), expected);
    }

    #[test]
    fn gv_3_8_an_unknown_parent_is_no_parent() {
        let (ids, parents) = mixed();
        for row_idx in 0..parents.len() {
            let with = |cell: Cell| {
                let mut changed = parents.clone();
                changed[row_idx] = cell;
                link(ids.iter(), changed.iter())
            };
            assert_eq!(with(text("nobody")), with(text("None")), "row {row_idx}");
            assert_eq!(with(text("nobody")), with(Cell::Missing), "row {row_idx}");
        }
    }

    #[test]
    fn ids_written_as_numbers_here_and_texts_there_match() {
        let links = link([Cell::Int(1), Cell::Int(2)].iter(), [Cell::Missing, text("1")].iter());
        assert_eq!(links, [None, Some(0)]);
        let links = link([text("1"), text("2")].iter(), [Cell::Missing, Cell::Float(1.0)].iter());
        assert_eq!(links, [None, Some(0)]);
    }

    #[test]
    fn gv_3_8_parents_are_walked_from_the_oldest_and_cycles_refused() {
        // Ids 1 to 4 at positions 0 to 3; parents 2 → 1, 3 → 2, 4 → 3.
        assert_eq!(chain(&[None, Some(0), Some(1), Some(2)], 3), Some(vec![0, 1, 2, 3]));
        assert_eq!(chain(&[Some(1), Some(0)], 0), None);
        assert_eq!(chain(&[Some(0)], 0), None);
        let line = |n: usize| (0..n).map(|i: usize| i.checked_sub(1)).collect::<Vec<_>>();
        assert!(chain(&line(1001), 1000).is_some());
        assert!(chain(&line(1002), 1001).is_none());
    }

    #[test]
    fn cycles_are_found_anywhere() {
        assert!(!has_cycle(&[None, Some(0), Some(1), None, Some(1)]));
        assert!(has_cycle(&[Some(0)]));
        assert!(has_cycle(&[None, Some(2), Some(3), Some(1)]));
        assert!(has_cycle(&[Some(1), Some(2), Some(3), Some(0)]));
        assert!(!has_cycle(&[]));
    }

    #[test]
    fn padded_numbers_are_referred_to_with_and_without_their_zeros() {
        let ids = ["08", "09", "10", "007", "07"].map(text);
        let parents = [text("8"), Cell::Int(9), Cell::Int(10), Cell::Int(7), text("010")];
        assert_eq!(link(ids.iter(), parents.iter()), [Some(0), Some(1), Some(2), None, None]);
        let large = ["11898508762506083281", "11898508762506083282"].map(text);
        assert_eq!(link(large.iter(), [Cell::Missing, text("11898508762506083281")].iter()), [None, Some(0)]);
    }

    #[test]
    fn gv_3_6_rows_that_share_an_ancestor_are_one_group() {
        // Chains [0], [1, 2], [1, 3], [4, 5, 6].
        let parents = [None, None, Some(1), Some(1), None, Some(4), Some(5)];
        assert_eq!(groups(&parents), [vec![0], vec![1, 2, 3], vec![4, 5, 6]]);
        // A conversation in reverse order still is one.
        assert_eq!(groups(&[Some(2), None, None, Some(1)]), [vec![0, 2], vec![1, 3]]);
        assert_eq!(roots(&parents), [0, 1, 1, 1, 4, 4, 4]);
        assert_eq!(roots(&[Some(1), Some(0), Some(0)]).len(), 3);
    }

    #[test]
    fn gv_3_8_four_hundred_thousand_rows_are_chained_and_grouped() {
        // Conversations of eight rows; the time this takes is for whoever reads the test report.
        const N_ROWS: i64 = 400_000;
        let ids: Vec<Cell> = (0..N_ROWS).map(|i| text(&format!("m{i}"))).collect();
        let parent = |i: i64| if i % 8 == 0 { Cell::Missing } else { text(&format!("m{}", i - 1)) };
        let parent_ids: Vec<Cell> = (0..N_ROWS).map(parent).collect();
        let parents = link(ids.iter(), parent_ids.iter());
        let n_rounds: usize = chains(&parents, false).iter().map(Vec::len).sum();
        assert_eq!(n_rounds, 400_000 / 8 * (1 + 2 + 3 + 4 + 5 + 6 + 7 + 8));
        assert_eq!(chains(&parents, true).len(), 50_000);
        assert_eq!(groups(&parents).len(), 50_000);
        assert!(!has_cycle(&parents));
    }
}
