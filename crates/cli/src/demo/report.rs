//! What the demo shows at its end: the figures and a few answers, before and after.

use super::grammar::Spoken;
use super::score::Score;
use crate::terminal::{Style, Table, Terminal};

/// Answers shown side by side.
const N_SHOWN: usize = 3;
/// An untouched model likes to talk; so much of it is shown.
const N_SHOWN_CHARS: usize = 120;

/// Prints figures and examples.
pub(crate) fn show(rows: &[Spoken], before: &Score, after: &Score, terminal: &Terminal) {
    terminal.heading("before and after, on commands that were not in the training data");
    for line in table(rows, before, after).render(terminal.width()) {
        terminal.line(line);
    }
    terminal.line("");
    terminal.line(format_args!(
        "exact match  {:>5.1} % -> {} ({} of {})",
        before.percent(),
        terminal.paint(Style::Green, &format!("{:.1} %", after.percent())),
        after.n_exact,
        after.n_rows
    ));
    terminal.line(format_args!("perplexity   {:>7.2} -> {:.2}", before.perplexity, after.perplexity));
}

fn table(rows: &[Spoken], before: &Score, after: &Score) -> Table {
    let mut table = Table::new(&["command", "before", "after"]);
    for idx in examples(rows, after) {
        let answer = |score: &Score| shortened(score.answers.get(idx).map_or("", String::as_str));
        let command = rows.get(idx).map_or("", |row| row.prompt.as_str());
        table.row(&[command, &answer(before), &answer(after)]);
    }
    table
}

/// The first rows that mean different actions and were answered correctly; any rows where there are too few of those.
fn examples(rows: &[Spoken], after: &Score) -> Vec<usize> {
    let action = |row: &Spoken| row.answer.split(',').next().unwrap_or_default().to_owned();
    let mut actions = Vec::new();
    let mut chosen = Vec::new();
    for (idx, row) in rows.iter().enumerate() {
        let is_right = after.answers.get(idx) == Some(&row.answer);
        if chosen.len() < N_SHOWN && is_right && !actions.contains(&action(row)) {
            actions.push(action(row));
            chosen.push(idx);
        }
    }
    for idx in 0..rows.len() {
        if chosen.len() < N_SHOWN && !chosen.contains(&idx) {
            chosen.push(idx);
        }
    }
    chosen
}

/// One line, and not too long a one.
fn shortened(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= N_SHOWN_CHARS {
        return line;
    }
    format!("{}…", line.chars().take(N_SHOWN_CHARS).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::super::dataset::{Size, generate};
    use super::*;

    fn score(answers: Vec<String>) -> Score {
        Score { n_exact: 0, n_rows: answers.len(), perplexity: 1.0, answers, secs: 0.0 }
    }

    #[test]
    fn examples_are_right_answers_to_different_actions() {
        let rows = generate(Size { n_train: 0, n_held_out: 40, seed: 1 }).held_out;
        let mut answers: Vec<String> = rows.iter().map(|row| row.answer.clone()).collect();
        answers[0] = "wrong".to_owned();
        let chosen = examples(&rows, &score(answers));
        assert_eq!(chosen.len(), N_SHOWN);
        assert!(!chosen.contains(&0));
    }

    #[test]
    fn there_are_examples_even_when_every_answer_is_wrong() {
        let rows = generate(Size { n_train: 0, n_held_out: 5, seed: 1 }).held_out;
        assert_eq!(examples(&rows, &score(vec![String::new(); 5])), [0, 1, 2]);
        assert!(examples(&[], &score(Vec::new())).is_empty());
    }

    #[test]
    fn long_answers_are_cut() {
        assert_eq!(shortened("a\n b"), "a b");
        assert_eq!(shortened(&"x".repeat(200)).chars().count(), N_SHOWN_CHARS + 1);
    }
}
