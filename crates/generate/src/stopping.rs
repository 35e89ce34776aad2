//! When an answer is over, and what of it is shown.
//!
//! A stop text ends an answer in two ways: when the tokens of the text as the tokenizer writes it alone appear in the
//! answer, and when the text appears in the decoded answer, however it was tokenised. Either way the answer is cut
//! before it. Each sequence stops for itself.

use std::collections::VecDeque;

use tunesmith_formats::tokenizer::{DecodeStream, Tokenizer};

use crate::batch::FinishReason;
use crate::error::Result;
use crate::settings::GenerationSettings;

/// Cuts a text before the first occurrence of each stop text in turn, and strips white space around what is left, but for the
/// indentation of the first line.
pub fn clean_text(text: &str, stop_texts: &[String]) -> String {
    let mut rest = text;
    for stop in stop_texts.iter().filter(|stop| !stop.is_empty()) {
        if let Some(at) = rest.find(stop.as_str()) {
            rest = &rest[..at];
        }
    }
    without_margin(rest).trim_end().to_owned()
}

/// Without empty lines at the beginning, and without the single space with which vocabularies begin a word. What is more is
/// indentation, which code needs.
fn without_margin(text: &str) -> &str {
    let n_blank = text.len() - text.trim_start().len();
    let blank = text.get(..n_blank).unwrap_or_default();
    let first_line = text.get(blank.rfind('\n').map_or(0, |at| at + 1)..).unwrap_or_default();
    match first_line.strip_prefix(' ') {
        Some(rest) if !rest.starts_with(char::is_whitespace) => rest,
        _ => first_line,
    }
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
    tokenizer: &'a Tokenizer,
    stream: DecodeStream<'a>,
    /// Special tokens whose text is shown; that of all others is not.
    shown_special: &'a [u32],
    text: String,
    n_shown_bytes: usize,
    is_cut: bool,
    /// The newest tokens, as many as an incomplete character can have.
    last_ids: VecDeque<u32>,
    /// White space at the ends belongs to the text.
    is_verbatim: bool,
}

impl<'a> ShownText<'a> {
    pub(crate) fn new(stops: &'a [String], tokenizer: &'a Tokenizer) -> Self {
        Self {
            stops,
            tokenizer,
            stream: tokenizer.stream_with_special(),
            shown_special: &[],
            text: String::new(),
            n_shown_bytes: 0,
            is_cut: false,
            last_ids: VecDeque::new(),
            is_verbatim: false,
        }
    }

    /// Gives the text as it stands behind one that ends with this token: vocabularies write a word with the space before it,
    /// which is left out where a text begins.
    pub(crate) fn continuing(mut self, last_id: Option<u32>) -> Self {
        self.is_verbatim = true;
        if let Some(id) = last_id.filter(|&id| !self.tokenizer.is_special(id)) {
            self.stream.push(id);
            self.stream.flush();
        }
        self
    }

    /// Shows the text of these special tokens, too.
    pub(crate) fn showing(self, special_ids: &'a [u32]) -> Self {
        Self { shown_special: special_ids, ..self }
    }

    /// The text that one more token makes certain, perhaps none.
    pub(crate) fn push(&mut self, id: u32) -> String {
        if self.is_cut || (self.tokenizer.is_special(id) && !self.shown_special.contains(&id)) {
            return String::new();
        }
        if self.last_ids.len() == N_OPEN_BYTES {
            self.last_ids.pop_front();
        }
        self.last_ids.push_back(id);
        let piece = self.stream.push(id).unwrap_or_default();
        self.show(&piece, false)
    }

    /// What is left when no more tokens come. After a limit that may have cut a character, its first bytes are dropped.
    pub(crate) fn finish(&mut self, finish: FinishReason) -> String {
        let piece = if self.is_cut { String::new() } else { self.stream.flush().unwrap_or_default() };
        let n_open = match finish.is_cut() {
            true => open_bytes(self.last_ids.iter().rev().map(|&id| self.tokenizer.token_bytes(id))),
            false => 0,
        };
        self.show(without_open_end(&piece, n_open), true)
    }

    fn show(&mut self, piece: &str, is_last: bool) -> String {
        self.text.push_str(piece);
        // Until there is a word nobody knows what is indentation; blanks alone are not shown anyway.
        if self.n_shown_bytes == 0 && !self.is_verbatim && !self.text.trim().is_empty() {
            self.text = without_margin(&self.text).to_owned();
        }
        let found = self.stops.iter().filter(|stop| !stop.is_empty());
        if let Some(at) = found.filter_map(|stop| self.text.find(stop.as_str())).min() {
            self.text.truncate(at);
            self.is_cut = true;
        }
        let certain =
            if is_last || self.is_cut { &self.text } else { without_stop_start(&self.text, self.stops) };
        let certain = if self.is_verbatim { certain } else { certain.trim_end() };
        let piece = certain.get(self.n_shown_bytes..).unwrap_or_default().to_owned();
        self.n_shown_bytes += piece.len();
        piece
    }
}

/// Bytes that a character lacks one of at most: the longest have four.
const N_OPEN_BYTES: usize = 3;

/// How many bytes at the end of an answer begin a character that is not complete. `newest_first` are the bytes of its tokens.
pub(crate) fn open_bytes(newest_first: impl Iterator<Item = Vec<u8>>) -> usize {
    let mut end: Vec<u8> = Vec::new();
    for mut bytes in newest_first {
        bytes.append(&mut end);
        end = bytes;
        if N_OPEN_BYTES < end.len() {
            break;
        }
    }
    let from = end.len().saturating_sub(N_OPEN_BYTES);
    let tail = end.get(from..).unwrap_or_default();
    let is_open = |start: usize| {
        let rest = tail.get(start..).unwrap_or_default();
        // Incomplete and not wrong: more bytes would make it a character.
        std::str::from_utf8(rest).is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
    };
    (0..tail.len()).find(|&start| is_open(start)).map_or(0, |start| tail.len() - start)
}

/// The text of an answer that a limit has cut, without the first bytes of a character that the cut left incomplete.
pub(crate) fn decode_cut(tokenizer: &Tokenizer, ids: &[u32]) -> Result<String> {
    let mut n_open = open_bytes(ids.iter().rev().map(|&id| tokenizer.token_bytes(id)));
    let mut kept = ids;
    // Tokens of nothing but such bytes go first: beside them some decoders take complete characters for damaged, too.
    while let Some((&last, before)) = kept.split_last() {
        let n_bytes = tokenizer.token_bytes(last).len();
        if n_open < n_bytes.max(1) {
            break;
        }
        (kept, n_open) = (before, n_open - n_bytes);
    }
    let text = tokenizer.decode(kept, true)?;
    Ok(without_open_end(&text, n_open).to_owned())
}

/// The text without the replacement characters that `n_open` bytes of an incomplete character were decoded to: one for all of
/// them, or one for each where single bytes are tokens.
pub(crate) fn without_open_end(text: &str, n_open: usize) -> &str {
    (0..n_open).fold(text, |text, _| text.strip_suffix(char::REPLACEMENT_CHARACTER).unwrap_or(text))
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
        assert_eq!(clean_text(" nothing to cut \n", &stops), "nothing to cut");
        // What is more than a space is the indentation of code.
        assert_eq!(clean_text("\n \n    return x\n", &stops), "    return x");
        assert_eq!(clean_text("\treturn x", &stops), "\treturn x");
        assert_eq!(clean_text(" \n ", &stops), "");
        assert_eq!(clean_text(" a <stop", &stops), "a <stop");
    }

    #[test]
    fn an_empty_stop_text_cuts_nothing() {
        assert_eq!(clean_text("abc", &stops(&[""])), "abc");
    }

    #[test]
    fn only_the_beginning_of_a_character_is_open() {
        let open = |tokens: &[&[u8]]| open_bytes(tokens.iter().rev().map(|bytes| bytes.to_vec()));
        assert_eq!(open(&[b"a", b"b"]), 0);
        assert_eq!(open(&[]), 0);
        assert_eq!(open(&["é".as_bytes()]), 0);
        assert_eq!(open(&[b"a\xC3"]), 1);
        assert_eq!(open(&[b"a", b"\xF0", b"\x9F", b"\x98"]), 3);
        assert_eq!(open(&[b"\xF0\x9F\x98\x80"]), 0);
        // Bytes that no character begins with stay what they are: the model wrote them.
        assert_eq!(open(&[b"a\x98"]), 0);
        assert_eq!(open(&["\u{FFFD}".as_bytes()]), 0);
        assert_eq!(without_open_end("a\u{FFFD}", 3), "a");
        assert_eq!(without_open_end("a\u{FFFD}\u{FFFD}", 1), "a\u{FFFD}");
    }

    #[test]
    fn a_cut_never_leaves_half_a_character() {
        for name in ["bpe-smollm", "bpe-llama3", "spm-llama"] {
            let folder = format!("{}/../../tests/golden/tokenizers/{name}", env!("CARGO_MANIFEST_DIR"));
            let tokenizer = Tokenizer::from_folder(std::path::Path::new(&folder)).unwrap();
            let text = "né 日本語 😀👍🏽";
            let ids = tokenizer.encode(text).unwrap();
            let mut n_open = 0;
            for n_ids in 1..=ids.len() {
                let cut = &ids[..n_ids];
                let mut shown = ShownText::new(&[], &tokenizer);
                let mut streamed: String = cut.iter().map(|&id| shown.push(id)).collect();
                streamed += &shown.finish(FinishReason::MaxNewTokens);
                let whole = decode_cut(&tokenizer, cut).unwrap();
                for found in [streamed.as_str(), whole.trim()] {
                    assert!(text.starts_with(found), "{name}, {n_ids} tokens: {found:?}");
                }
                n_open += usize::from(open_bytes(cut.iter().rev().map(|&id| tokenizer.token_bytes(id))) > 0);
            }
            assert!(n_open > 3, "{name} cuts no character of this text");
            assert_eq!(decode_cut(&tokenizer, &ids).unwrap().trim(), text);
        }
    }

    #[test]
    fn a_text_that_goes_on_keeps_its_white_space() {
        let folder = format!("{}/../../tests/golden/tokenizers/spm-llama", env!("CARGO_MANIFEST_DIR"));
        let tokenizer = Tokenizer::from_folder(std::path::Path::new(&folder)).unwrap();
        let ids = tokenizer.encode("one two ").unwrap();
        for at in 1..ids.len() {
            let mut shown = ShownText::new(&[], &tokenizer).continuing(ids[..at].last().copied());
            let mut rest: String = ids[at..].iter().map(|&id| shown.push(id)).collect();
            rest += &shown.finish(FinishReason::EndOfText);
            assert_eq!(tokenizer.decode(&ids[..at], true).unwrap() + &rest, "one two ", "after {at}");
        }
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
