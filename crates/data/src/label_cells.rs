//! What labels stand in a cell of a table, whatever its type: text, whole number, truth value, or a list of them.

use serde_json::Value;

use crate::table::Cell;

/// Whole numbers up to here are exact in a float.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// What a cell holds as labels.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum LabelCell {
    /// Nothing.
    Missing,
    /// One label.
    One(String),
    /// A list of labels, maybe of none.
    List(Vec<String>),
    /// Something that is no label: a number with a fraction, an object, a list within a list.
    Wrong,
}

impl LabelCell {
    /// The labels of a cell. Of texts white space around does not count; whole numbers are written without a point.
    pub(crate) fn new(cell: &Cell) -> Self {
        match cell {
            Cell::Missing => Self::Missing,
            Cell::Text(text) => match text.trim() {
                "" => Self::Missing,
                text => Self::One(whole_text(text)),
            },
            Cell::Int(value) => Self::One(value.to_string()),
            Cell::Float(value) => whole_float(*value).map_or(Self::Wrong, Self::One),
            Cell::Bool(value) => Self::One(truth(*value).to_owned()),
            Cell::Json(Value::Array(items)) => {
                items.iter().map(item_text).collect::<Option<Vec<_>>>().map_or(Self::Wrong, Self::List)
            }
            Cell::Json(Value::Number(number)) if number.is_i64() || number.is_u64() => {
                Self::One(number.to_string())
            }
            Cell::Json(_) => Self::Wrong,
        }
    }

    /// The label, where it is one.
    pub(crate) fn label(&self) -> Option<&str> {
        match self {
            Self::One(label) => Some(label),
            _ => None,
        }
    }
}

/// The labels of a list that was written as text: `["a", "b"]`, and as Python and numpy print lists, `['a', 'b']` and
/// `['a' 'b']`. `None` for any other text.
pub(crate) fn list_in_text(text: &str) -> Option<Vec<String>> {
    let inner = text.trim().strip_prefix('[')?.strip_suffix(']')?;
    if let Ok(Value::Array(items)) = serde_json::from_str(text.trim()) {
        return items.iter().map(item_text).collect();
    }
    let mut labels = Vec::new();
    let mut rest = inner.trim_start();
    while let Some(first) = rest.chars().next() {
        let (label, after) = match first {
            '\'' | '"' => quoted(rest.get(1..)?, first)?,
            _ => {
                let end = rest.find(|c: char| c == ',' || c.is_whitespace()).unwrap_or(rest.len());
                let (word, after) = rest.split_at(end);
                // Words without quotes may be numbers and truth values only; a text in brackets is a text.
                let is_value = matches!(word, "True" | "False") || word.parse::<f64>().is_ok();
                (is_value.then(|| whole_text(word))?, after)
            }
        };
        labels.push(label);
        rest = after.trim_start();
        rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
    }
    Some(labels)
}

/// The text up to the closing quote, with its escapes decoded, and what stands behind it.
fn quoted(text: &str, quote: char) -> Option<(String, &str)> {
    let mut label = String::new();
    let mut chars = text.char_indices();
    while let Some((place, c)) = chars.next() {
        if c == quote {
            let label = label.trim().to_owned();
            return (!label.is_empty()).then_some(label).zip(text.get(place + c.len_utf8()..));
        }
        match c {
            '\\' => label.push(match chars.next()?.1 {
                'n' => '\n',
                't' => '\t',
                other => other,
            }),
            c => label.push(c),
        }
    }
    None
}

/// The labels of a text that has `separator` between them; empty parts are none.
pub(crate) fn separated(text: &str, separator: &str) -> Vec<String> {
    text.split(separator).map(str::trim).filter(|part| !part.is_empty()).map(whole_text).collect()
}

/// A label for a line of a message: not too long, and without what could move a terminal's cursor or turn text around.
pub fn printable_label(label: &str) -> String {
    const MAX_CHARS: usize = 60;
    let is_harmless = |c: char| {
        !c.is_control()
            && !matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut shown: String =
        label.chars().take(MAX_CHARS).map(|c| if is_harmless(c) { c } else { '\u{fffd}' }).collect();
    if label.chars().nth(MAX_CHARS).is_some() {
        shown.push('…');
    }
    shown
}

/// The number that a label is written as.
pub(crate) fn whole_number(label: &str) -> Option<i64> {
    // `01` and `+1` are codes and not 1.
    label.parse::<i64>().ok().filter(|number| number.to_string() == label)
}

/// The truth value that a label is written as.
pub(crate) fn truth_value(label: &str) -> Option<bool> {
    [true, false].into_iter().find(|value| truth(*value) == label)
}

/// As pandas and Python write it.
pub(crate) fn truth(value: bool) -> &'static str {
    if value { "True" } else { "False" }
}

/// A text, without the point of a whole number: gaps elsewhere in its column make `1.0` of `1`.
fn whole_text(text: &str) -> String {
    let whole =
        text.split_once('.').filter(|(_, zeros)| !zeros.is_empty() && zeros.bytes().all(|c| c == b'0'));
    whole.and_then(|(number, _)| whole_number(number)).map_or_else(|| text.to_owned(), |n| n.to_string())
}

fn whole_float(value: f64) -> Option<String> {
    (value.fract() == 0.0 && value.abs() < EXACT).then(|| (value as i64).to_string())
}

/// A label in a list.
fn item_text(item: &Value) -> Option<String> {
    match item {
        Value::String(text) => Some(whole_text(text.trim())).filter(|text| !text.is_empty()),
        Value::Bool(value) => Some(truth(*value).to_owned()),
        Value::Number(number) if number.is_i64() || number.is_u64() => Some(number.to_string()),
        Value::Number(number) => number.as_f64().and_then(whole_float),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_texts_whole_numbers_and_truth_values() {
        let one = |label: &str| LabelCell::One(label.to_owned());
        let cases = [
            (Cell::Text(" card_arrival ".to_owned()), one("card_arrival")),
            (Cell::Text("2.0".to_owned()), one("2")),
            (Cell::Text("01".to_owned()), one("01")),
            (Cell::Text("v1.0".to_owned()), one("v1.0")),
            (Cell::Int(-3), one("-3")),
            (Cell::Float(5.0), one("5")),
            (Cell::Float(-0.0), one("0")),
            (Cell::Float(0.5), LabelCell::Wrong),
            (Cell::Float(1e300), LabelCell::Wrong),
            (Cell::Bool(true), one("True")),
            (Cell::Text("  ".to_owned()), LabelCell::Missing),
            (Cell::Missing, LabelCell::Missing),
            (Cell::Json(serde_json::json!({"label": 1})), LabelCell::Wrong),
            (Cell::Json(serde_json::json!(["a", null])), LabelCell::Wrong),
            (Cell::Json(serde_json::json!([])), LabelCell::List(Vec::new())),
        ];
        for (cell, expected) in cases {
            assert_eq!(LabelCell::new(&cell), expected, "{cell:?}");
        }
        let mixed = Cell::Json(serde_json::json!(["a ", 2, 3.0, true]));
        let expected = ["a", "2", "3", "True"].map(str::to_owned).to_vec();
        assert_eq!(LabelCell::new(&mixed), LabelCell::List(expected));
    }

    #[test]
    fn lists_are_read_as_programs_write_them() {
        let cases = [
            (r#"["a", "b"]"#, Some(vec!["a", "b"])),
            ("['a', 'b']", Some(vec!["a", "b"])),
            ("['a' 'it\\'s'\n 'b, c']", Some(vec!["a", "it's", "b, c"])),
            ("[\"it's\", 'b']", Some(vec!["it's", "b"])),
            ("[2, 14]", Some(vec!["2", "14"])),
            ("[2 14]", Some(vec!["2", "14"])),
            ("[]", Some(vec![])),
            (" [ ] ", Some(vec![])),
            ("[unused]", None),
            ("['a', b]", None),
            ("['a", None),
            ("a|b", None),
            ("[['a']]", None),
        ];
        for (text, expected) in cases {
            let expected = expected.map(|labels| labels.into_iter().map(str::to_owned).collect::<Vec<_>>());
            assert_eq!(list_in_text(text), expected, "{text}");
        }
    }

    #[test]
    fn labels_in_messages_are_short_and_harmless() {
        assert_eq!(printable_label("card lost é"), "card lost é");
        assert_eq!(printable_label("a\u{1b}[2J\nb\u{202e}"), "a\u{fffd}[2J\u{fffd}b\u{fffd}");
        assert_eq!(printable_label(&"x".repeat(61)), format!("{}…", "x".repeat(60)));
    }

    #[test]
    fn parts_are_cut_at_the_separator() {
        assert_eq!(separated("a | b|c|", "|"), ["a", "b", "c"]);
        assert_eq!(separated("2.0;3", ";"), ["2", "3"]);
        assert!(separated(" ; ", ";").is_empty());
    }
}
