//! Decoding token by token, as text is generated.

use super::Tokenizer;

/// Turns ids into text as they come; never gives half a character.
///
/// What [`DecodeStream::push`] and [`DecodeStream::flush`] give together is what decoding all ids at once
/// gives, except that bytes which never become a character may be replaced differently.
#[derive(Debug)]
pub struct DecodeStream<'a> {
    tokenizer: &'a Tokenizer,
    skip_special: bool,
    /// The ids of the text given last and those that wait.
    ids: Vec<u32>,
    /// How many of `ids` were given already: they stay because the first piece of a text decodes differently.
    n_given: usize,
    /// The text of those.
    given: String,
}

impl<'a> DecodeStream<'a> {
    pub(super) fn new(tokenizer: &'a Tokenizer, skip_special: bool) -> Self {
        Self { tokenizer, skip_special, ids: Vec::new(), n_given: 0, given: String::new() }
    }

    /// Takes the next id; the text that is now certain, if there is any.
    pub fn push(&mut self, id: u32) -> Option<String> {
        self.ids.push(id);
        let text = self.decode(&self.ids);
        // A replacement character at the end may be the first bytes of a character that is still to come.
        if text.ends_with(char::REPLACEMENT_CHARACTER) { None } else { self.give(&text) }
    }

    /// What is left at the end, with a replacement character for bytes that never became one.
    pub fn flush(&mut self) -> Option<String> {
        let text = self.decode(&self.ids);
        self.give(&text)
    }

    fn give(&mut self, text: &str) -> Option<String> {
        let new = match text.strip_prefix(self.given.as_str()) {
            Some(new) => new.to_owned(),
            // Later bytes made earlier ones invalid, too: those were given, so only the later ones count.
            None => self.decode(self.ids.get(self.n_given..).unwrap_or_default()),
        };
        if new.is_empty() {
            return None;
        }
        self.ids.drain(..self.n_given);
        self.n_given = self.ids.len();
        self.given = self.decode(&self.ids);
        Some(new)
    }

    fn decode(&self, ids: &[u32]) -> String {
        // The decoders of language models cannot fail; should one, the raw pieces are better than nothing.
        self.tokenizer
            .decode(ids, self.skip_special)
            .unwrap_or_else(|_| ids.iter().map(|id| self.tokenizer.token_text(*id)).collect())
    }
}
