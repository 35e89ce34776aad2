//! Texts on which a pattern takes more steps than the engine allows.
//!
//! The library then takes the rest of the text for one word, without a word about it. That needs a long run of one kind of
//! character (or a pattern that looks far ahead, in a very long text), so only such texts are looked at twice.

use fancy_regex::Regex;

/// Runs up to these lengths, in characters, are harmless with the patterns of models: a match that is tried at each place of a
/// run takes steps that grow with the square of its length, and the engine allows a million.
const MAX_DIGITS: usize = 500;
const MAX_SPACES: usize = 500;
const MAX_OTHERS: usize = 50_000;
/// Shorter texts do not have enough places for a million steps at one for each.
const MAX_TEXT_BYTES: usize = 400_000;

/// The patterns of a tokenizer.
#[derive(Debug, Default)]
pub(super) struct StepLimit {
    patterns: Vec<Regex>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Digit,
    Space,
    Other,
}

impl StepLimit {
    /// `patterns` as `fancy-regex` reads them; what it cannot read the library has refused already.
    pub(super) fn new(patterns: &[String]) -> Self {
        Self { patterns: patterns.iter().filter_map(|pattern| Regex::new(pattern).ok()).collect() }
    }

    /// Fails with the pattern that gives up on `text`.
    pub(super) fn check(&self, text: &str) -> Result<(), String> {
        if self.patterns.is_empty() || !has_long_runs(text) {
            return Ok(());
        }
        for pattern in &self.patterns {
            if pattern.find_iter(text).any(|found| found.is_err()) {
                return Err(format!(
                    "the pattern {:?} takes too many steps on a long run in it",
                    pattern.as_str()
                ));
            }
        }
        Ok(())
    }
}

fn has_long_runs(text: &str) -> bool {
    let mut run = (Kind::Other, 0);
    text.len() > MAX_TEXT_BYTES
        || text.chars().any(|c| {
            let kind = match c {
                _ if c.is_whitespace() => Kind::Space,
                _ if c.is_numeric() => Kind::Digit,
                _ => Kind::Other,
            };
            run = if run.0 == kind { (kind, run.1 + 1) } else { (kind, 1) };
            run.1
                > match kind {
                    Kind::Digit => MAX_DIGITS,
                    Kind::Space => MAX_SPACES,
                    Kind::Other => MAX_OTHERS,
                }
        })
}
