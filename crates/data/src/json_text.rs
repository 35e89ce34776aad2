//! JSON as Python writes and reads it, which is a little more than JSON.
//!
//! A parser of our own, because serde_json refuses what Python's `json.dumps` writes by itself (`NaN`, `Infinity`, halves of
//! surrogate pairs), makes floats of whole numbers beyond 64 bits and rounds the last digit of some floats. Whole numbers
//! beyond 64 bits become texts of their digits here, `NaN` becomes null, infinities the texts `inf` and `-inf`, and half a
//! surrogate pair, which no UTF-8 can hold, becomes U+FFFD; what a user should know of that is counted.

use serde_json::{Map, Number, Value as Json};

/// Lists and objects in each other, as in serde_json; the stack is finite.
const MAX_DEPTH: usize = 128;

/// How often something was read that is not what the text says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Oddities {
    /// Halves of surrogate pairs.
    pub(crate) n_half_pairs: usize,
    /// Whole numbers beyond 64 bits.
    pub(crate) n_long_ints: usize,
    /// Names that an object had already.
    pub(crate) n_repeated_names: usize,
}

/// What is wrong with a text, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JsonError {
    /// Byte of the text.
    pub(crate) position: usize,
    pub(crate) what: String,
}

/// Reads values from a text, one after the other.
pub(crate) struct JsonReader<'a> {
    text: &'a str,
    position: usize,
    pub(crate) oddities: Oddities,
}

type Parsed<T> = Result<T, JsonError>;

impl<'a> JsonReader<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, position: 0, oddities: Oddities::default() }
    }

    /// Whether nothing but white space is left.
    pub(crate) fn is_at_end(&mut self) -> bool {
        self.skip_space();
        self.position == self.text.len()
    }

    /// The byte that comes next after white space.
    pub(crate) fn peek(&mut self) -> Option<u8> {
        self.skip_space();
        self.text.as_bytes().get(self.position).copied()
    }

    /// How many bytes are read.
    pub(crate) fn position(&self) -> usize {
        self.position
    }

    /// The next value, whole.
    pub(crate) fn value(&mut self) -> Parsed<Json> {
        self.value_at(0)
    }

    /// Refuses anything behind the last value.
    pub(crate) fn end(&mut self) -> Parsed<()> {
        if self.is_at_end() { Ok(()) } else { Err(self.error("there is more after the value")) }
    }

    /// Goes through the list that comes next; `item` gets each item with its place and says whether to go on.
    pub(crate) fn each_item<E: From<JsonError>>(
        &mut self,
        mut item: impl FnMut(&mut Self, usize) -> Result<bool, E>,
    ) -> Result<(), E> {
        self.expect(b'[')?;
        if self.take(b']') {
            return Ok(());
        }
        for item_idx in 0.. {
            if !item(self, item_idx)? {
                break;
            }
            if self.take(b']') {
                break;
            }
            self.comma("list", b']')?;
        }
        Ok(())
    }

    fn value_at(&mut self, depth: usize) -> Parsed<Json> {
        Ok(match self.peek() {
            Some(b'{') => self.object(depth + 1)?,
            Some(b'[') => {
                self.enter(depth + 1)?;
                let mut items = Vec::new();
                self.each_item(|reader, _| {
                    items.push(reader.value_at(depth + 1)?);
                    Ok::<bool, JsonError>(true)
                })?;
                Json::Array(items)
            }
            Some(b'"') => Json::String(self.string()?),
            Some(b'-' | b'0'..=b'9') if !self.rest().starts_with("-I") => self.number()?,
            Some(_) => self.word()?,
            None => return Err(self.ended("a value")),
        })
    }

    fn object(&mut self, depth: usize) -> Parsed<Json> {
        self.enter(depth)?;
        self.expect(b'{')?;
        let mut object = Map::new();
        if self.take(b'}') {
            return Ok(Json::Object(object));
        }
        loop {
            match self.peek() {
                Some(b'"') => {}
                Some(_) => return Err(self.error("a name in quotes must stand here")),
                None => return Err(self.ended("an object")),
            }
            let name = self.string()?;
            if !self.take(b':') {
                return Err(match self.peek() {
                    Some(_) => self.error("a colon must stand between a name and its value"),
                    None => self.ended("an object"),
                });
            }
            let value = self.value_at(depth)?;
            if object.insert(name, value).is_some() {
                self.oddities.n_repeated_names += 1;
            }
            if self.take(b'}') {
                return Ok(Json::Object(object));
            }
            self.comma("object", b'}')?;
        }
    }

    /// The comma before another item of a list or object.
    fn comma(&mut self, what: &str, end: u8) -> Parsed<()> {
        if !self.take(b',') {
            return Err(match self.peek() {
                Some(_) => self.error(format!("a comma or the end of the {what} must stand here")),
                None => self.ended(&format!("{} {what}", if what == "object" { "an" } else { "a" })),
            });
        }
        if self.peek() == Some(end) {
            return Err(self.error(format!("there is a comma before the end of the {what}")));
        }
        Ok(())
    }

    /// Numbers as Python reads them: whole ones exactly, others to the nearest float.
    fn number(&mut self) -> Parsed<Json> {
        let start = self.position;
        let rest = self.rest().as_bytes();
        let digits = |from: usize| rest.iter().skip(from).take_while(|byte| byte.is_ascii_digit()).count();
        let mut len = usize::from(rest.first() == Some(&b'-'));
        let n_digits = digits(len);
        if n_digits == 0 || (n_digits > 1 && rest.get(len) == Some(&b'0')) {
            return Err(self.error("a number must begin with a digit, and with 0 only before a point"));
        }
        len += n_digits;
        let mut is_whole = true;
        if rest.get(len) == Some(&b'.') {
            is_whole = false;
            let n_digits = digits(len + 1);
            if n_digits == 0 {
                return Err(self.error("digits must follow the point of a number"));
            }
            len += 1 + n_digits;
        }
        if matches!(rest.get(len), Some(b'e' | b'E')) {
            is_whole = false;
            len += 1 + usize::from(matches!(rest.get(len + 1), Some(b'+' | b'-')));
            let n_digits = digits(len);
            if n_digits == 0 {
                return Err(self.error("digits must follow the e of a number"));
            }
            len += n_digits;
        }
        let text = self.text.get(start..start + len).unwrap_or_default();
        self.position += len;
        if !is_whole {
            let float: f64 = text.parse().unwrap_or(f64::NAN);
            let infinity = || Json::from(if float > 0.0 { "inf" } else { "-inf" });
            return Ok(Number::from_f64(float).map_or_else(infinity, Json::Number));
        }
        Ok(match (text.parse::<i64>(), text.parse::<u64>()) {
            (Ok(whole), _) => Json::from(whole),
            (_, Ok(whole)) => Json::from(whole),
            _ => {
                self.oddities.n_long_ints += 1;
                Json::from(text)
            }
        })
    }

    fn word(&mut self) -> Parsed<Json> {
        let words = [
            ("null", Json::Null),
            ("true", Json::Bool(true)),
            ("false", Json::Bool(false)),
            ("NaN", Json::Null),
            ("Infinity", Json::from("inf")),
            ("-Infinity", Json::from("-inf")),
        ];
        let rest = self.rest();
        for (word, value) in words {
            let is_whole = |rest: &str| !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
            if rest.strip_prefix(word).is_some_and(is_whole) {
                self.position += word.len();
                return Ok(value);
            }
        }
        Err(self.error("this is no value"))
    }

    fn string(&mut self) -> Parsed<String> {
        self.expect(b'"')?;
        let mut out = String::new();
        loop {
            let rest = self.rest();
            let Some(len) = rest.bytes().position(|byte| byte < 0x20 || byte == b'"' || byte == b'\\') else {
                self.position = self.text.len();
                return Err(self.ended("a text in quotes"));
            };
            out.push_str(rest.get(..len).unwrap_or_default());
            self.position += len;
            match rest.as_bytes().get(len) {
                Some(b'"') => {
                    self.position += 1;
                    return Ok(out);
                }
                Some(b'\\') => self.escape(&mut out)?,
                _ => {
                    let what = "a line end, tab or other control character in a text must be escaped";
                    return Err(self.error(what));
                }
            }
        }
    }

    fn escape(&mut self, out: &mut String) -> Parsed<()> {
        let escaped = self.text.as_bytes().get(self.position + 1).copied();
        let plain = match escaped {
            Some(byte @ (b'"' | b'\\' | b'/')) => char::from(byte),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode_escape(out),
            Some(_) => return Err(self.error("no such escape after a backslash")),
            None => {
                self.position = self.text.len();
                return Err(self.ended("a text in quotes"));
            }
        };
        out.push(plain);
        self.position += 2;
        Ok(())
    }

    /// `\u` and four hexadecimal digits; two of them are one character beyond the first 65 536.
    fn unicode_escape(&mut self, out: &mut String) -> Parsed<()> {
        let first = self
            .unit_at(self.position)
            .ok_or_else(|| self.error("four hexadecimal digits must follow \\u"))?;
        self.position += 6;
        let second = self.unit_at(self.position).filter(|_| (0xd800..0xdc00).contains(&first));
        match second.map(|second| char::decode_utf16([first, second]).next()) {
            Some(Some(Ok(character))) => {
                self.position += 6;
                out.push(character);
            }
            _ => out.push(char::from_u32(u32::from(first)).unwrap_or_else(|| {
                self.oddities.n_half_pairs += 1;
                char::REPLACEMENT_CHARACTER
            })),
        }
        Ok(())
    }

    fn unit_at(&self, position: usize) -> Option<u16> {
        let digits = self.text.get(position..position + 6)?.strip_prefix("\\u")?;
        // `from_str_radix` would take a sign.
        let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_hex.then(|| u16::from_str_radix(digits, 16).ok()).flatten()
    }

    fn enter(&self, depth: usize) -> Parsed<()> {
        if depth > MAX_DEPTH {
            return Err(self.error(format!(
                "recursion limit: lists and objects are more than {MAX_DEPTH} deep in each other"
            )));
        }
        Ok(())
    }

    fn take(&mut self, byte: u8) -> bool {
        let is_there = self.peek() == Some(byte);
        self.position += usize::from(is_there);
        is_there
    }

    fn expect(&mut self, byte: u8) -> Parsed<()> {
        if self.take(byte) {
            Ok(())
        } else {
            Err(self.error(format!("{:?} must stand here", char::from(byte))))
        }
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.position..).unwrap_or_default()
    }

    fn skip_space(&mut self) {
        let rest = self.text.as_bytes().get(self.position..).unwrap_or_default();
        self.position +=
            rest.iter().take_while(|byte| matches!(**byte, b' ' | b'\t' | b'\n' | b'\r')).count();
    }

    fn error(&self, what: impl Into<String>) -> JsonError {
        JsonError { position: self.position, what: what.into() }
    }

    fn ended(&self, what: &str) -> JsonError {
        // Not behind the line end that follows.
        JsonError { position: self.text.trim_end().len(), what: format!("EOF inside {what}") }
    }
}

impl Oddities {
    /// The sum over two texts.
    pub(crate) fn add(&mut self, other: Self) {
        self.n_half_pairs += other.n_half_pairs;
        self.n_long_ints += other.n_long_ints;
        self.n_repeated_names += other.n_repeated_names;
    }

    /// Sentences for the user; none for nothing.
    pub(crate) fn notes(&self) -> impl Iterator<Item = String> {
        let sentences = [
            (self.n_half_pairs, "halves of surrogate pairs (such as \\ud83d) are read as U+FFFD"),
            (self.n_long_ints, "whole numbers beyond 64 bits are read as texts of their digits"),
            (self.n_repeated_names, "names stand twice in one object; the last value counts"),
        ];
        sentences.into_iter().filter(|(n, _)| *n > 0).map(|(n, sentence)| format!("{n} {sentence}"))
    }
}
