//! The tokeniser called 13a: how WMT's scoring script, and after it sacrebleu, cuts a text into words and signs.
//!
//! The reference is four regular expressions in a row, each of which puts blanks around some ASCII sign. The text is
//! gone over once for each of them; one pass for all would be faster and wrong, because the blanks that one puts in
//! decide what the next sees. Everything that matters is ASCII, so that bytes are looked at.

use super::python::is_space;

/// What a rule knows about a sign: the byte before it, itself, the byte after it, and whether the sign before it was just
/// set apart, in which case the expression has used it up and it cannot count as a neighbour.
type Rule = fn(before: Option<u8>, byte: u8, after: Option<u8>, was_set_apart: bool) -> bool;

const RULES: [Rule; 4] = [
    // Signs except for ' , - . which the other rules are about. Blanks need no blanks around them.
    |_, byte, _, _| matches!(byte, b'!'..=b'&' | b'('..=b'+' | b'/' | b':'..=b'@' | b'['..=b'`' | b'{'..=b'~'),
    // Period and comma, unless preceded by a digit.
    |before, byte, _, used_up| is_point(byte) && !used_up && is_other(before),
    // Period and comma, unless followed by a digit.
    |_, byte, after, used_up| is_point(byte) && !used_up && is_other(after),
    // A dash preceded by a digit.
    |before, byte, _, _| byte == b'-' && before.is_some_and(|byte| byte.is_ascii_digit()),
];

fn is_point(byte: u8) -> bool {
    byte == b'.' || byte == b','
}

/// Whether there is a neighbour and it is not a digit.
fn is_other(neighbour: Option<u8>) -> bool {
    neighbour.is_some_and(|byte| !byte.is_ascii_digit())
}

/// A text with blanks between its tokens.
pub(crate) struct Tokenized(String);

impl Tokenized {
    /// Cuts a text; upper and lower case stay as they are.
    pub(crate) fn new(text: &str) -> Self {
        let text = text.trim_end_matches(is_space);
        let mut text = text.replace("<skipped>", "").replace("-\n", "").replace('\n', " ");
        for (entity, sign) in [("&quot;", "\""), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">")] {
            if text.contains('&') {
                text = text.replace(entity, sign);
            }
        }
        // The rules look at neighbours, which the first and the last sign have got only between blanks.
        Self(RULES.iter().fold(format!(" {text} "), |text, rule| set_apart(&text, *rule)))
    }

    /// The tokens, none of them empty.
    pub(crate) fn tokens(&self) -> impl Iterator<Item = &str> {
        self.0.split(is_space).filter(|token| !token.is_empty())
    }
}

/// Puts a blank before and after each sign that the rule picks.
fn set_apart(text: &str, rule: Rule) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 4);
    let mut n_copied = 0;
    let (mut before, mut was_set_apart) = (None, false);
    let mut bytes = text.bytes().enumerate().peekable();
    while let Some((idx, byte)) = bytes.next() {
        let after = bytes.peek().map(|(_, byte)| *byte);
        was_set_apart = rule(before, byte, after, was_set_apart);
        if was_set_apart {
            // Signs are ASCII, so that both cuts are between characters.
            out.push_str(text.get(n_copied..idx).unwrap_or_default());
            out.extend([' ', char::from(byte), ' ']);
            n_copied = idx + 1;
        }
        before = Some(byte);
    }
    out.push_str(text.get(n_copied..).unwrap_or_default());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(text: &str) -> String {
        Tokenized::new(text).tokens().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn numbers_stay_whole_and_signs_stand_alone() {
        assert_eq!(joined("Pay $1,000.50, please."), "Pay $ 1,000.50 , please .");
        assert_eq!(joined("1-2 a-b don't"), "1 - 2 a-b don't");
        assert_eq!(joined("a.,b"), "a . , b");
    }

    #[test]
    fn entities_are_read_one_after_the_other() {
        assert_eq!(joined("&amp;lt;"), "<");
        assert_eq!(joined("&amp;quot;"), "& quot ;");
    }

    #[test]
    fn a_dash_at_the_end_of_a_line_joins_unless_it_is_the_last() {
        assert_eq!(joined("hyphen-\nated"), "hyphenated");
        assert_eq!(joined("hyphen-\n"), "hyphen-");
    }

    #[test]
    fn tokens_are_those_of_sacrebleu() {
        for (text, tokens) in crate::text::golden::<Vec<(String, Vec<String>)>>("tokens") {
            assert_eq!(Tokenized::new(&text).tokens().collect::<Vec<_>>(), tokens, "{text:?}");
        }
    }
}
