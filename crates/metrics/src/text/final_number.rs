//! The number a worked answer ends in, as the answers of GSM8K do.
//!
//! Numbers are plain decimals: digits, with commas between groups of three, a point followed by digits, and a minus sign
//! before them, a `$` between sign and digits being skipped. A minus between two digits or letters joins or subtracts and is
//! no sign. Exponents, fractions and per cent are not understood: of `1/2` the final number is 2.

/// A decimal number, written so that equal values are equal texts.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Decimal(String);

/// The number after the last `####`, or where none follows it, the last in the text.
pub(crate) fn final_number(text: &str) -> Option<Decimal> {
    let marked = text.rsplit_once("####").and_then(|(_, answer)| numbers(answer).into_iter().next());
    marked.or_else(|| numbers(text).pop())
}

/// All numbers of a text in order.
fn numbers(text: &str) -> Vec<Decimal> {
    let mut found = Vec::new();
    let mut n_read = 0;
    while let Some((before, rest)) = text.split_at_checked(n_read)
        && let Some(skipped) = rest.find(|c: char| c.is_ascii_digit())
        && let Some((before, rest)) = text.split_at_checked(before.len() + skipped)
    {
        let (before, is_after_point) = match before.strip_suffix('.') {
            Some(earlier) if !earlier.ends_with(|c: char| c == '.' || c.is_alphanumeric()) => (earlier, true),
            _ => (before, false),
        };
        let (whole, fraction, length) = digits(rest, is_after_point);
        found.push(Decimal::new(is_negative(before), &whole, fraction));
        n_read = text.len() - rest.len() + length;
    }
    found
}

/// The digits before and after the point at the start of a text, and how many bytes they take.
fn digits(text: &str, is_after_point: bool) -> (String, &str, usize) {
    let run = |from: usize| {
        let text = text.get(from..).unwrap_or_default();
        text.get(..text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len())).unwrap_or_default()
    };
    let first = run(0);
    if is_after_point {
        return (String::new(), first, first.len());
    }
    let (mut whole, mut length) = (first.to_owned(), first.len());
    let groups = first.len() <= 3;
    while groups && text.get(length..).is_some_and(|text| text.starts_with(',')) && run(length + 1).len() == 3
    {
        whole.push_str(run(length + 1));
        length += 4;
    }
    let fraction = match text.get(length..) {
        Some(text) if text.starts_with('.') => run(length + 1),
        _ => "",
    };
    length += if fraction.is_empty() { 0 } else { 1 + fraction.len() };
    (whole, fraction, length)
}

/// Whether the text before a number ends in a minus that is a sign.
fn is_negative(before: &str) -> bool {
    let before = before.strip_suffix('$').unwrap_or(before);
    let unsigned = before.strip_suffix(['-', '\u{2212}']);
    unsigned.is_some_and(|before| !before.ends_with(char::is_alphanumeric))
}

impl Decimal {
    fn new(is_negative: bool, whole: &str, fraction: &str) -> Self {
        let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
        let sign = if is_negative && !(whole.is_empty() && fraction.is_empty()) { "-" } else { "" };
        Self(format!("{sign}{whole}.{fraction}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        numbers(text).into_iter().map(|number| number.0).collect()
    }

    #[test]
    fn numbers_are_read_as_people_write_them() {
        assert_eq!(found("-5, +3.50 and -$1,234.5."), ["-5.", "3.5", "-1234.5"]);
        assert_eq!(
            found("1,2 1,23 1234,567 1,234,567"),
            ["1.", "2.", "1.", "23.", "1234.", "567.", "1234567."]
        );
        assert_eq!(found(".5 -.25 007 -0 0.0"), [".5", "-.25", "7.", ".", "."]);
        assert_eq!(found("5-3 x-2 \u{2212}4"), ["5.", "3.", "2.", "-4."]);
        assert_eq!(found("so...5 v1.2.3"), ["5.", "1.2", "3."]);
        assert_eq!(found("no number, not even \u{0663}"), Vec::<String>::new());
    }

    #[test]
    fn the_mark_decides_and_without_a_number_behind_it_the_last_one() {
        let of = |text| final_number(text).map(|number| number.0);
        assert_eq!(of("first 3\n#### 72\nchecked 2 times").as_deref(), Some("72."));
        assert_eq!(of("3 #### 4 #### 5").as_deref(), Some("5."));
        assert_eq!(of("3 or 4 ####").as_deref(), Some("4."));
        assert_eq!(of("none"), None);
    }
}
