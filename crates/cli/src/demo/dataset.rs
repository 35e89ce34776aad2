//! The demo's data set: drawn from the grammar by seed, no two rows alike, split so that no phrase is in both parts.

use std::collections::BTreeSet;

use serde_json::json;

use super::grammar::{KINDS, Kind, Spoken};
use super::slots::Dice;

/// What every row tells the model before the command.
pub(crate) const SYSTEM: &str = "Reply in JSON.";

/// Rows to learn from and rows that only the scoring sees.
pub(crate) struct DataSet {
    /// Rows for training.
    pub(crate) train: Vec<Spoken>,
    /// Rows whose phrases, politeness, capitals and full stops aside, are in no training row.
    pub(crate) held_out: Vec<Spoken>,
}

/// How many rows, and the seed that fixes them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    /// Rows for training.
    pub(crate) n_train: usize,
    /// Rows for scoring.
    pub(crate) n_held_out: usize,
    /// Fixes the rows and their order.
    pub(crate) seed: u64,
}

/// Draws the data set: the kinds of command in turn, so that each has the same share of both parts.
pub(crate) fn generate(size: Size) -> DataSet {
    let mut dice = Dice::new(size.seed);
    let mut seen = BTreeSet::new();
    let held_out = draw(KINDS, size.n_held_out, &mut dice, &mut seen);
    let train = draw(KINDS, size.n_train, &mut dice, &mut seen);
    DataSet { train, held_out }
}

/// The rows as JSON lines with the columns `system`, `prompt` and `answer`.
pub(crate) fn to_jsonl(rows: &[Spoken]) -> String {
    let line =
        |row: &Spoken| format!("{}\n", json!({"system": SYSTEM, "prompt": row.prompt, "answer": row.answer}));
    rows.iter().map(line).collect()
}

/// `n_rows` rows whose phrases are not in `seen`, shuffled; their phrases join `seen`.
fn draw(kinds: &[Kind], n_rows: usize, dice: &mut Dice, seen: &mut BTreeSet<String>) -> Vec<Spoken> {
    /// A small kind runs out of new phrases; after so many repeats in a row its turn goes to the next one.
    const MAX_REPEATS: usize = 50;

    let mut rows = Vec::with_capacity(n_rows);
    let mut n_fruitless_kinds = 0;
    for kind in kinds.iter().cycle() {
        if n_rows <= rows.len() || kinds.len() <= n_fruitless_kinds {
            break;
        }
        let fresh = (0..MAX_REPEATS).map(|_| kind(dice)).find(|row| seen.insert(row.phrase.clone()));
        match fresh {
            Some(row) => {
                rows.push(row);
                n_fruitless_kinds = 0;
            }
            None => n_fruitless_kinds += 1,
        }
    }
    dice.shuffle(&mut rows);
    rows
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::Value;

    use super::*;

    const SIZE: Size = Size { n_train: 900, n_held_out: 60, seed: 7 };

    #[test]
    fn the_same_seed_gives_the_same_rows_and_another_seed_gives_others() {
        let (a, b) = (generate(SIZE), generate(SIZE));
        assert_eq!(a.train, b.train);
        assert_eq!(a.held_out, b.held_out);
        assert_ne!(a.train, generate(Size { seed: 8, ..SIZE }).train);
    }

    #[test]
    fn no_phrase_is_in_both_parts_or_twice_in_one() {
        let data = generate(SIZE);
        assert_eq!((data.train.len(), data.held_out.len()), (SIZE.n_train, SIZE.n_held_out));
        let phrases: BTreeSet<String> =
            data.train.iter().chain(&data.held_out).map(|row| row.phrase.clone()).collect();
        assert_eq!(phrases.len(), SIZE.n_train + SIZE.n_held_out);
    }

    #[test]
    fn one_phrase_never_means_two_actions() {
        let mut dice = Dice::new(3);
        let mut meaning = BTreeMap::new();
        for _ in 0..500 {
            for row in KINDS.iter().map(|kind| kind(&mut dice)) {
                let earlier = meaning.insert(row.phrase.clone(), row.answer.clone());
                assert!(
                    earlier.is_none_or(|answer| answer == row.answer),
                    "{} means {}",
                    row.phrase,
                    row.answer
                );
            }
        }
    }

    #[test]
    fn every_slot_is_filled_and_every_answer_is_a_compact_json_action() {
        let data = generate(SIZE);
        for row in data.train.iter().chain(&data.held_out) {
            assert!(!row.prompt.contains(['{', '}']), "{}", row.prompt);
            let answer: Value = serde_json::from_str(&row.answer).unwrap();
            assert!(answer["action"].is_string(), "{}", row.answer);
            assert_eq!(answer.to_string(), row.answer);
        }
    }

    #[test]
    fn each_part_has_every_kind_of_command() {
        let data = generate(SIZE);
        let actions = |rows: &[Spoken]| -> BTreeSet<String> {
            rows.iter().map(|row| row.answer.split('"').nth(3).unwrap_or_default().to_owned()).collect()
        };
        // Devices have two actions: start and stop.
        assert_eq!(actions(&data.train).len(), KINDS.len() + 1);
        assert!(KINDS.len() <= actions(&data.held_out).len());
    }

    #[test]
    fn a_grammar_that_runs_out_of_phrases_stops_instead_of_searching_for_ever() {
        let smallest = &KINDS[KINDS.len() - 1..];
        let rows = draw(smallest, 1_000_000, &mut Dice::new(1), &mut BTreeSet::new());
        assert!((30..1_000).contains(&rows.len()), "{}", rows.len());
    }

    #[test]
    fn rows_are_written_one_json_object_a_line() {
        let data = generate(Size { n_train: 3, n_held_out: 0, seed: 1 });
        let text = to_jsonl(&data.train);
        assert_eq!(text.lines().count(), 3);
        for (line, row) in text.lines().zip(&data.train) {
            let value: Value = serde_json::from_str(line).unwrap();
            assert_eq!(value["prompt"], row.prompt);
            assert_eq!(value["answer"], row.answer);
            assert_eq!(value["system"], SYSTEM);
        }
    }
}
