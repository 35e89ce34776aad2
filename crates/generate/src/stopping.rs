//! When an answer is over, and what of it is shown.
//!
//! A stop text ends an answer in two ways: when the tokens of the text as the tokenizer writes it alone appear in the
//! answer, and when the text appears in the decoded answer, however it was tokenised. Either way the answer is cut
//! before it. Each sequence stops for itself.

use tunesmith_formats::tokenizer::{DecodeStream, Tokenizer};

use crate::error::Result;
use crate::settings::GenerationSettings;

/// Cuts a text before the first occurrence of each stop text in turn, and strips white space around what is left.
pub fn clean_text(text: &str, stop_texts: &[String]) -> String {
    let mut rest = text;
    for stop in stop_texts.iter().filter(|stop| !stop.is_empty()) {
        if let Some(at) = rest.find(stop.as_str()) {
            rest = &rest[..at];
        }
    }
    rest.trim().to_owned()
}

/// The stop texts of a generation, ready to be looked for.
#[derive(Debug)]
pub(crate) struct StopTexts {
    pub(crate) texts: Vec<String>,
    sequences: Vec<Vec<u32>>,
    longest_bytes: usize,
}

impl StopTexts {
    /// Empty stop texts are dropped.
    pub(crate) fn new(settings: &GenerationSettings, tokenizer: &Tokenizer) -> Result<Self> {
        let texts: Vec<String> = settings.stop_texts.iter().filter(|t| !t.is_empty()).cloned().collect();
        let mut sequences = Vec::new();
        for text in &texts {
            let ids = tokenizer.encode(text)?;
            if !ids.is_empty() {
                sequences.push(ids);
            }
        }
        let longest_bytes = texts.iter().map(String::len).max().unwrap_or(0);
        Ok(Self { texts, sequences, longest_bytes })
    }

    fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// Whether the answer is over with these tokens. [`StopWatch`] is quicker where tokens come one by one.
    pub(crate) fn are_in(&self, new_ids: &[u32], tokenizer: &Tokenizer) -> Result<bool> {
        if self.is_empty() || self.end_of(new_ids) {
            return Ok(!self.is_empty());
        }
        let text = tokenizer.decode(new_ids, true)?;
        Ok(self.texts.iter().any(|stop| text.contains(stop.as_str())))
    }

    /// Whether the answer's tokens end with a stop sequence.
    fn end_of(&self, new_ids: &[u32]) -> bool {
        self.sequences.iter().any(|sequence| new_ids.ends_with(sequence))
    }
}

/// Watches one answer for stop texts.
pub(crate) struct StopWatch<'a> {
    stops: &'a StopTexts,
    stream: DecodeStream<'a>,
    text: String,
}

impl<'a> StopWatch<'a> {
    pub(crate) fn new(stops: &'a StopTexts, tokenizer: &'a Tokenizer) -> Self {
        Self { stops, stream: tokenizer.stream(), text: String::new() }
    }

    /// Takes the answer's tokens, the last of which is new; says whether the answer is over.
    pub(crate) fn is_stopped_by(&mut self, new_ids: &[u32]) -> bool {
        if self.stops.is_empty() {
            return false;
        }
        if self.stops.end_of(new_ids) {
            return true;
        }
        let Some(piece) = new_ids.last().and_then(|&id| self.stream.push(id)) else { return false };
        let mut from = self.text.len().saturating_sub(self.stops.longest_bytes);
        while !self.text.is_char_boundary(from) {
            from -= 1;
        }
        self.text.push_str(&piece);
        self.stops.texts.iter().any(|stop| self.text[from..].contains(stop.as_str()))
    }
}

/// Turns an answer's tokens into the pieces of its text that can be shown already: the pieces together are the cleaned
/// text. Held back is what might become a stop text, and white space that might be the last.
pub(crate) struct ShownText<'a> {
    stops: &'a [String],
    stream: DecodeStream<'a>,
    text: String,
    n_shown_bytes: usize,
    is_cut: bool,
}

impl<'a> ShownText<'a> {
    pub(crate) fn new(stops: &'a [String], tokenizer: &'a Tokenizer) -> Self {
        Self { stops, stream: tokenizer.stream(), text: String::new(), n_shown_bytes: 0, is_cut: false }
    }

    /// The text that one more token makes certain, perhaps none.
    pub(crate) fn push(&mut self, id: u32) -> String {
        if self.is_cut {
            return String::new();
        }
        let piece = self.stream.push(id).unwrap_or_default();
        self.show(&piece, false)
    }

    /// What is left when no more tokens come.
    pub(crate) fn finish(&mut self) -> String {
        let piece = if self.is_cut { String::new() } else { self.stream.flush().unwrap_or_default() };
        self.show(&piece, true)
    }

    fn show(&mut self, piece: &str, is_last: bool) -> String {
        self.text.push_str(piece);
        if self.n_shown_bytes == 0 {
            self.text = self.text.trim_start().to_owned();
        }
        if let Some(at) = self.stops.iter().filter_map(|stop| self.text.find(stop.as_str())).min() {
            self.text.truncate(at);
            self.is_cut = true;
        }
        let certain =
            if is_last || self.is_cut { &self.text } else { without_stop_start(&self.text, self.stops) };
        let certain = certain.trim_end();
        let piece = certain.get(self.n_shown_bytes..).unwrap_or_default().to_owned();
        self.n_shown_bytes += piece.len();
        piece
    }
}

/// The text up to where a stop text may have begun.
fn without_stop_start<'t>(text: &'t str, stops: &[String]) -> &'t str {
    let begins_stop = |at: &usize| stops.iter().any(|stop| stop.starts_with(&text[*at..]));
    let longest = stops.iter().map(String::len).max().unwrap_or(0);
    let first =
        text.char_indices().map(|(at, _)| at).filter(|at| text.len() - at < longest).find(begins_stop);
    &text[..first.unwrap_or(text.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stops(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn gv_6_text_is_cut_at_each_stop_and_stripped() {
        let stops = stops(&["<stop>", "<stop2>", "<stop3>"]);
        assert_eq!(clean_text("This is a test <stop3> <stop> This is a test", &stops), "This is a test");
        assert_eq!(clean_text("<stop2> <stop> This is a test", &stops), "");
        assert_eq!(clean_text("  nothing to cut \n", &stops), "nothing to cut");
        assert_eq!(clean_text(" a <stop", &stops), "a <stop");
    }

    #[test]
    fn an_empty_stop_text_cuts_nothing() {
        assert_eq!(clean_text("abc", &stops(&[""])), "abc");
    }

    fn sequences(sequences: &[&[u32]]) -> StopTexts {
        let sequences = sequences.iter().map(|s| s.to_vec()).collect();
        StopTexts { texts: vec![], sequences, longest_bytes: 0 }
    }

    /// The catalogue's vectors: rows of consecutive numbers from 0..5; a row is over when its generated part contains
    /// a stop sequence, that is, when some prefix of that part ends with it.
    #[test]
    fn gv_6_tokens_stop_where_a_whole_sequence_was_generated() {
        let is_over = |row: u32, n_prompt: usize, n_columns: usize, stop: &StopTexts| {
            let row: Vec<u32> = (row..row + n_columns as u32).collect();
            let generated = &row[n_prompt..];
            (1..=generated.len()).any(|n| stop.end_of(&generated[..n]))
        };
        let all_over =
            |n_prompt, n_columns, stop: &StopTexts| (0..6).all(|row| is_over(row, n_prompt, n_columns, stop));
        assert!(!all_over(4, 10, &sequences(&[&[0], &[1], &[2], &[8]])));
        assert!(!all_over(0, 6, &sequences(&[&[6]])));
        assert!(all_over(0, 7, &sequences(&[&[6]])));
        assert!(!all_over(0, 7, &sequences(&[&[6, 7]])));
        assert!(all_over(0, 8, &sequences(&[&[6, 7]])));
        assert!(!all_over(0, 10, &sequences(&[&(0..20).collect::<Vec<_>>()])));
    }

    #[test]
    fn a_possible_beginning_of_a_stop_is_held_back() {
        let stops = stops(&["<|end|>", "\n\nUser"]);
        for (text, shown) in [
            ("hello", "hello"),
            ("hello <", "hello "),
            ("hello <|en", "hello "),
            ("hello <b", "hello <b"),
            ("hello\n", "hello"),
            ("hello\n\nUse", "hello"),
            ("hello\n\nUsual", "hello\n\nUsual"),
            ("é<", "é"),
        ] {
            assert_eq!(without_stop_start(text, &stops), shown, "{text:?}");
        }
    }
}
