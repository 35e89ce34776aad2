//! Patterns of `tokenizer.json` as the regular expressions of this build.
//!
//! The Python package runs them with Oniguruma, a C library; here they run with `fancy-regex`. Both read most of the same
//! syntax, but not with the same meaning: `\p{N}{1,3}+` takes all digits there and three at a time here, `$` is the end of
//! a line there and of the text here. [`translate`] reads a pattern as Oniguruma does and writes one that both read
//! alike, so that a saved tokenizer is right in either; a pattern that both already read alike stays as it is. What cannot be
//! written that way is refused.
//!
//! Length: one grammar, whose parts call one another.

use std::iter::Peekable;
use std::str::CharIndices;

/// Oniguruma's `[[:word:]]`, which has no joiners.
const WORD: &str = r"\p{Alphabetic}\p{M}\p{Nd}\p{Pc}";
/// Its `\w` has these, too, except within a class.
const WORD_NUMBERS: &str = "²³¹¼½¾";
/// Groups within groups; patterns of models have two or three.
const MAX_DEPTH: usize = 64;
/// Letters that stand for one letter when case does not matter: what Oniguruma does and other engines do not.
const LIGATURES: [&str; 5] = ["ff", "fi", "fl", "ss", "st"];
/// Categories, scripts and properties that both engines know under this name and with the same characters.
const PROPERTIES: &str = " L Lu Ll Lt Lm Lo M Mn Mc Me N Nd Nl No P Pc Pd Ps Pe Pi Pf Po S Sm Sc Sk So Z Zs Zl Zp Cc \
    Letter Uppercase_Letter Lowercase_Letter Mark Number Decimal_Number Punctuation Symbol Separator Alphabetic \
    Uppercase Lowercase White_Space Arabic Armenian Bengali Cyrillic Devanagari Georgian Greek Han Hangul Hebrew \
    Hiragana Katakana Khmer Lao Latin Myanmar Tamil Telugu Thai Tibetan ";

/// The pattern that `fancy-regex` reads as Oniguruma reads `pattern`.
///
/// # Errors
/// What the pattern has that is not known to mean the same, or is no pattern for Oniguruma either.
pub(super) fn translate(pattern: &str) -> Result<String, String> {
    let mut reader = Reader { pattern, chars: pattern.char_indices().peekable(), depth: 0 };
    let out = reader.alternatives(Flags::default())?;
    match reader.chars.next() {
        None => Ok(out),
        Some((at, _)) => Err(format!("a closing parenthesis without an opening one at byte {at}")),
    }
}

/// What `(?i)` and `(?m)` switch on.
#[derive(Debug, Clone, Copy, Default)]
struct Flags {
    ignores_case: bool,
    /// Oniguruma's `m`: a dot is also a line end.
    dot_is_all: bool,
}

struct Reader<'p> {
    pattern: &'p str,
    chars: Peekable<CharIndices<'p>>,
    depth: usize,
}

/// One thing that a quantifier may follow.
struct Atom {
    text: String,
    /// A single literal character.
    literal: Option<char>,
    is_repeatable: bool,
}

impl Atom {
    fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), literal: None, is_repeatable: true }
    }

    fn anchor(text: impl Into<String>) -> Self {
        Self { is_repeatable: false, ..Self::new(text) }
    }

    fn literal(text: impl Into<String>, c: char) -> Self {
        Self { literal: Some(c), ..Self::new(text) }
    }
}

type Read<T> = Result<T, String>;

impl<'p> Reader<'p> {
    fn peek(&mut self) -> Option<char> {
        self.chars.peek().map(|(_, c)| *c)
    }

    fn at(&mut self) -> usize {
        self.chars.peek().map_or(self.pattern.len(), |(at, _)| *at)
    }

    fn rest(&mut self) -> &'p str {
        let at = self.at();
        self.pattern.get(at..).unwrap_or_default()
    }

    fn next(&mut self) -> Read<char> {
        self.chars.next().map(|(_, c)| c).ok_or_else(|| "it ends too early".to_owned())
    }

    fn skip(&mut self, n_chars: usize) {
        for _ in 0..n_chars {
            self.chars.next();
        }
    }

    /// Takes `text` if it comes next.
    fn take(&mut self, text: &str) -> bool {
        let is_next = self.rest().starts_with(text);
        if is_next {
            self.skip(text.chars().count());
        }
        is_next
    }

    /// Up to the closing parenthesis of the group or the end of the pattern.
    fn alternatives(&mut self, flags: Flags) -> Read<String> {
        let mut out = String::new();
        let mut last: Option<char> = None;
        while let Some(c) = self.peek() {
            match c {
                ')' => break,
                '|' => {
                    self.next()?;
                    out.push('|');
                    last = None;
                    continue;
                }
                _ => {}
            }
            if let Some(flags) = self.open_flags(flags)? {
                // Oniguruma counts the other alternatives of the group to what the flags are for.
                out.push_str(&format!("(?{}:", if flags.ignores_case { "i" } else { "-i" }));
                out.push_str(&self.alternatives(flags)?);
                out.push(')');
                return Ok(out);
            }
            let atom = self.atom(flags)?;
            if let (true, Some(before), Some(c)) = (flags.ignores_case, last, atom.literal) {
                let pair: String = [before, c].iter().map(char::to_ascii_lowercase).collect();
                if LIGATURES.contains(&pair.as_str()) {
                    return Err(format!(
                        "{pair:?} regardless of case, which is also one letter in Oniguruma"
                    ));
                }
            }
            last = atom.literal;
            out.push_str(&self.quantified(atom)?);
        }
        Ok(out)
    }

    /// `(?i)` that is valid up to the end of the group.
    fn open_flags(&mut self, flags: Flags) -> Read<Option<Flags>> {
        let rest = self.rest();
        let Some(letters) =
            rest.strip_prefix("(?").and_then(|rest| rest.split_once(')')).map(|(head, _)| head)
        else {
            return Ok(None);
        };
        if letters.is_empty() || !letters.chars().all(|c| c.is_ascii_alphabetic() || c == '-') {
            return Ok(None);
        }
        let flags = set_flags(letters, flags)?;
        self.take("(?");
        self.take(letters);
        self.take(")");
        Ok(Some(flags))
    }

    fn atom(&mut self, flags: Flags) -> Read<Atom> {
        let start = self.at();
        Ok(match self.next()? {
            '(' => self.group(flags)?,
            '[' => Atom::new(self.class(flags)?),
            '\\' => self.escape(flags)?,
            '.' => Atom::new(if flags.dot_is_all { r"[\s\S]" } else { "." }),
            // Of a line, not of the text.
            '^' => Atom::anchor(r"(?:\A|(?<=\n)(?!\z))"),
            '$' => Atom::anchor(r"(?=\n|\z)"),
            '*' | '+' | '?' => return Err(format!("a quantifier after nothing at byte {start}")),
            '{' if interval(self.pattern.get(start..).unwrap_or_default()).is_some() => {
                return Err(format!("a quantifier after nothing at byte {start}"));
            }
            c @ ('{' | '}' | ']') => Atom::literal(format!("\\{c}"), c),
            c => self.literal(c, c.to_string(), flags)?,
        })
    }

    fn literal(&mut self, c: char, text: String, flags: Flags) -> Read<Atom> {
        if flags.ignores_case && !c.is_ascii() {
            return Err(format!("{c:?} regardless of case"));
        }
        Ok(Atom::literal(text, c))
    }

    /// What follows an opening parenthesis.
    fn group(&mut self, mut flags: Flags) -> Read<Atom> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(format!("more than {MAX_DEPTH} groups in one another"));
        }
        let mut is_repeatable = true;
        let mut head = "(".to_owned();
        if self.take("?#") {
            while self.next()? != ')' {}
            self.depth -= 1;
            return Ok(Atom::anchor(""));
        } else if self.take("?") {
            let known = ["<=", "<!", "=", "!", ">", ":"].into_iter().find(|kind| self.take(kind));
            match known {
                Some(kind) => {
                    is_repeatable = matches!(kind, ">" | ":");
                    head = format!("(?{kind}");
                }
                None => {
                    let (letters, _) = self.rest().split_once(':').unwrap_or_default();
                    let is_plain = |letter: char| letter.is_ascii_alphabetic() || letter == '-';
                    if letters.is_empty() || !letters.chars().all(is_plain) {
                        let found: String = self.rest().chars().take(3).collect();
                        return Err(format!("a group that starts with (?{found}"));
                    }
                    flags = set_flags(letters, flags)?;
                    self.take(letters);
                    self.take(":");
                    head = match letters {
                        "i" | "-i" => format!("(?{letters}:"),
                        _ => format!("(?{}:", if flags.ignores_case { "i" } else { "-i" }),
                    };
                }
            }
        }
        let inner = self.alternatives(flags)?;
        if !self.take(")") {
            return Err("a group that is not closed".into());
        }
        self.depth -= 1;
        Ok(Atom { is_repeatable, ..Atom::new(format!("{head}{inner})")) })
    }

    /// What follows a backslash outside a class.
    fn escape(&mut self, flags: Flags) -> Read<Atom> {
        let c = self.next()?;
        let word = format!("[{WORD}{WORD_NUMBERS}]");
        let (before, not_before) = (format!("(?<={word})"), format!("(?<!{word})"));
        let (after, not_after) = (format!("(?={word})"), format!("(?!{word})"));
        Ok(match c {
            'A' | 'z' => Atom::anchor(format!("\\{c}")),
            'Z' => Atom::anchor(r"(?=\n?\z)"),
            'b' => Atom::anchor(format!("(?:{before}{not_after}|{not_before}{after})")),
            'B' => Atom::anchor(format!("(?:{before}{after}|{not_before}{not_after})")),
            'R' => Atom::new(r"(?>\r\n|[\n-\r\u0085\u2028\u2029])"),
            'N' => Atom::new(r"[^\n]"),
            'O' => Atom::new(r"[\s\S]"),
            'w' if !flags.ignores_case => Atom::new(word),
            'W' if !flags.ignores_case => Atom::new(format!("[^{WORD}{WORD_NUMBERS}]")),
            'h' | 'H' => Atom::new(format!("[{}]", self.class_escape(c, flags)?.text)),
            _ => {
                let found = self.class_escape(c, flags)?;
                Atom { literal: found.value, ..Atom::new(found.text) }
            }
        })
    }

    /// What follows a backslash where a set of characters or one character is meant; the text stands inside or outside a
    /// class, except for those that `escape` puts into one.
    fn class_escape(&mut self, c: char, flags: Flags) -> Read<Member> {
        let set = |text: &str| Ok(Member { text: text.to_owned(), value: None });
        let one = |text: String, value: char| {
            if flags.ignores_case && !value.is_ascii() {
                return Err(format!("{value:?} regardless of case"));
            }
            Ok(Member { text, value: Some(value) })
        };
        match c {
            's' | 'S' | 'd' | 'D' => set(&format!("\\{c}")),
            'w' | 'W' | 'h' | 'H' | 'p' | 'P' if flags.ignores_case => {
                Err(format!("\\{c} regardless of case"))
            }
            'w' => set(WORD),
            'W' => set(&format!("[^{WORD}]")),
            'h' => set("0-9A-Fa-f"),
            'H' => set("[^0-9A-Fa-f]"),
            'n' => one("\\n".into(), '\n'),
            'r' => one("\\r".into(), '\r'),
            't' => one("\\t".into(), '\t'),
            'f' => one("\\f".into(), '\x0C'),
            'v' => one("\\v".into(), '\x0B'),
            'a' => one("\\a".into(), '\x07'),
            'e' => one("\\x1B".into(), '\x1B'),
            'p' | 'P' => self.property(c == 'P'),
            'x' | 'u' => {
                let rest = self.rest();
                let digits = match rest.strip_prefix('{').and_then(|rest| rest.split_once('}')) {
                    Some((digits, _)) if c == 'x' => digits.to_owned(),
                    _ => rest.chars().take(if c == 'x' { 2 } else { 4 }).collect(),
                };
                let n_digits = if c == 'x' { 2 } else { 4 };
                let is_braced = c == 'x' && rest.starts_with('{');
                let value = u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32);
                match value.filter(|value| {
                    digits.bytes().all(|digit| digit.is_ascii_hexdigit())
                        && (is_braced || digits.len() == n_digits)
                        // Single bytes are halves of characters there.
                        && (is_braced || c == 'u' || value.is_ascii())
                }) {
                    None => Err(format!("\\{c} without the number of a character")),
                    Some(value) => {
                        let text = if is_braced { format!("{{{digits}}}") } else { digits };
                        self.take(&text);
                        one(format!("\\{c}{text}"), value)
                    }
                }
            }
            _ if c.is_ascii_alphanumeric() => Err(format!("\\{c}")),
            // Some of these are anchors here; and not every sign may be escaped.
            '<' | '>' => one(c.to_string(), c),
            _ if c.is_ascii_punctuation() => one(format!("\\{c}"), c),
            _ => one(c.to_string(), c),
        }
    }

    /// `{L}`, `{^L}`: what follows `\p`.
    fn property(&mut self, is_negated: bool) -> Read<Member> {
        let rest = self.rest();
        let (name, _) = rest
            .strip_prefix('{')
            .and_then(|rest| rest.split_once('}'))
            .ok_or("\\p without a name in braces")?;
        let (plain, flips) = match name.strip_prefix('^') {
            Some(plain) => (plain, true),
            None => (name, false),
        };
        let letter = if is_negated == flips { 'p' } else { 'P' };
        if plain.is_empty() || plain.contains(' ') || !PROPERTIES.contains(&format!(" {plain} ")) {
            return Err(format!("the property {name:?}"));
        }
        self.take(&format!("{{{name}}}"));
        Ok(Member { text: format!("\\{letter}{{{plain}}}"), value: None })
    }

    /// The rest of a class after its opening bracket, with both brackets.
    fn class(&mut self, flags: Flags) -> Read<String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(format!("more than {MAX_DEPTH} classes in one another"));
        }
        let is_negated = self.take("^");
        let mut out = String::from(if is_negated { "[^" } else { "[" });
        let mut is_first = true;
        loop {
            if self.take("]") {
                if !is_first {
                    break;
                }
                // The first one is a member, if another one closes the class.
                out.push_str("\\]");
            } else if self.take("&&") {
                if is_negated {
                    return Err("&& in a negated class".into());
                }
                out.push_str("&&");
            } else if self.take("[:") {
                out.push_str(&self.posix_class(flags)?);
            } else if self.take("[") {
                out.push_str(&self.class(flags)?);
            } else {
                let member = self.member(flags)?;
                out.push_str(&member.text);
                let rest = self.rest();
                if rest.starts_with('-') && !rest.starts_with("-]") {
                    let Some(start) = member.value else {
                        return Err("a set of characters before a hyphen in a class".into());
                    };
                    self.take("-");
                    if self.rest().starts_with('[') {
                        return Err("a class at the end of a range".into());
                    }
                    let end = self.member(flags)?;
                    if end.value.is_none_or(|end| end < start) {
                        return Err(format!(
                            "a range that starts with {start:?} and ends before it or nowhere"
                        ));
                    }
                    out.push('-');
                    out.push_str(if end.text == "-" { "\\-" } else { &end.text });
                    let rest = self.rest();
                    if rest.starts_with('-') && !rest.starts_with("-]") {
                        return Err("a hyphen after a range in a class".into());
                    }
                }
            }
            is_first = false;
        }
        self.depth -= 1;
        out.push(']');
        Ok(out)
    }

    fn member(&mut self, flags: Flags) -> Read<Member> {
        let c = self.next()?;
        match c {
            '\\' => {
                let c = self.next()?;
                match c {
                    'b' => Ok(Member { text: "\\x08".into(), value: Some('\x08') }),
                    'R' | 'X' | 'N' | 'O' => Err(format!("\\{c} in a class")),
                    _ => self.class_escape(c, flags),
                }
            }
            _ if flags.ignores_case && !c.is_ascii() => Err(format!("{c:?} regardless of case")),
            // Doubled they join, subtract and compare sets here; a hyphen may also be the start of a range.
            '-' if self.rest().starts_with('-') => Ok(Member { text: "\\-".into(), value: Some(c) }),
            '~' if self.rest().starts_with('~') => Ok(Member { text: "\\~".into(), value: Some(c) }),
            _ => Ok(Member { text: c.to_string(), value: Some(c) }),
        }
    }

    /// The rest of `[:alpha:]`.
    fn posix_class(&mut self, flags: Flags) -> Read<String> {
        let (name, _) = self.rest().split_once(":]").ok_or("[: without :]")?;
        let (plain, is_negated) = match name.strip_prefix('^') {
            Some(plain) => (plain, true),
            None => (name, false),
        };
        let members = match plain {
            _ if flags.ignores_case => return Err(format!("[:{name}:] regardless of case")),
            "alpha" => r"\p{Alphabetic}",
            "digit" => r"\d",
            "alnum" => r"\p{Alphabetic}\p{Nd}",
            "upper" => r"\p{Uppercase}",
            "lower" => r"\p{Lowercase}",
            "space" => r"\s",
            "blank" => r"\p{Zs}\t",
            "punct" => r"\p{P}\p{S}",
            "xdigit" => "0-9A-Fa-f",
            "word" => WORD,
            _ => return Err(format!("the class [:{name}:]")),
        };
        self.take(name);
        self.take(":]");
        Ok(format!("[{}{members}]", if is_negated { "^" } else { "" }))
    }

    /// `atom` with the quantifiers that follow it.
    fn quantified(&mut self, atom: Atom) -> Read<String> {
        let Atom { mut text, literal: _, is_repeatable } = atom;
        for n in 0.. {
            let rest = self.rest();
            let (quantifier, taken, is_interval) = match rest.chars().next() {
                Some(c @ ('*' | '+' | '?')) => (c.to_string(), 1, false),
                Some('{') => match interval(rest) {
                    Some((low, high, length)) => {
                        if low.zip(high).is_some_and(|(low, high)| low > high) {
                            return Err("a quantifier whose upper bound is below the lower one".into());
                        }
                        let low = low.unwrap_or(0);
                        let written = match high {
                            Some(high) if high == low => format!("{{{low}}}"),
                            Some(high) => format!("{{{low},{high}}}"),
                            None => format!("{{{low},}}"),
                        };
                        (written, length, true)
                    }
                    None => break,
                },
                _ => break,
            };
            if !is_repeatable {
                return Err("a quantifier after an anchor or a look-around".into());
            }
            self.skip(taken);
            if n > 0 {
                text = format!("(?:{text})");
            }
            text.push_str(&quantifier);
            let is_exact = is_interval && !quantifier.contains(',');
            match self.peek() {
                Some('?') if !is_exact => {
                    self.next()?;
                    text.push('?');
                }
                // After an interval it is a quantifier of its own, not a possessive one.
                Some('+') if !is_interval => {
                    self.next()?;
                    text.push('+');
                }
                _ => {}
            }
        }
        Ok(text)
    }
}

/// A member of a class: a set, or one character.
struct Member {
    text: String,
    value: Option<char>,
}

/// `{n}`, `{n,}`, `{n,m}` or `{,m}` at the start of `text`: the bounds, and the length in characters.
fn interval(text: &str) -> Option<(Option<u32>, Option<u32>, usize)> {
    let (inside, _) = text.strip_prefix('{')?.split_once('}')?;
    let number = |text: &str| match text.is_empty() {
        true => Some(None),
        false if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok().map(Some),
        false => None,
    };
    let (low, high) = match inside.split_once(',') {
        Some((low, high)) => (number(low)?, number(high)?),
        None => (number(inside)?, number(inside)?),
    };
    (low.is_some() || high.is_some()).then_some((low, high, inside.len() + 2))
}

fn set_flags(letters: &str, mut flags: Flags) -> Read<Flags> {
    let mut is_on = true;
    for letter in letters.chars() {
        match letter {
            '-' => is_on = false,
            'i' => flags.ignores_case = is_on,
            'm' => flags.dot_is_all = is_on,
            _ => return Err(format!("the flag {letter:?} in (?{letters})")),
        }
    }
    Ok(flags)
}

#[cfg(test)]
mod tests;
