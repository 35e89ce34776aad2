//! Escape sequences in texts that come from settings.

/// Replaces `\n`, `\t`, `\x41`, `\u00e9` and the other escapes of Python's string literals by what they stand
/// for. What is no escape stays as it is, and so do characters beyond ASCII.
pub fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        out.push_str(before);
        match decode(escape) {
            Some((c, n_bytes)) => {
                out.extend(c);
                rest = escape.get(n_bytes..).unwrap_or("");
            }
            None => {
                out.push('\\');
                rest = escape.get(1..).unwrap_or("");
            }
        }
    }
    out.push_str(rest);
    out
}

/// The character that the escape at the start of `text` stands for (none for an escaped line end) and the
/// escape's length in bytes.
fn decode(text: &str) -> Option<(Option<char>, usize)> {
    let kind = text.chars().nth(1)?;
    let simple = match kind {
        '\n' => return Some((None, 2)),
        '\\' | '\'' | '"' => kind,
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'a' => '\u{7}',
        'b' => '\u{8}',
        'f' => '\u{c}',
        'v' => '\u{b}',
        'x' => return number(text, 2, 2, 16),
        'u' => return number(text, 2, 4, 16),
        'U' => return number(text, 2, 8, 16),
        '0'..='7' => {
            let n_digits = text.chars().skip(1).take(3).take_while(|c| c.is_digit(8)).count();
            return number(text, 1, n_digits, 8);
        }
        _ => return None,
    };
    Some((Some(simple), 2))
}

fn number(text: &str, start: usize, n_digits: usize, radix: u32) -> Option<(Option<char>, usize)> {
    let digits = text.get(start..start + n_digits)?;
    if !digits.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    let c = u32::from_str_radix(digits, radix).ok().and_then(char::from_u32)?;
    Some((Some(c), start + n_digits))
}

#[cfg(test)]
mod tests {
    use super::unescape;

    #[test]
    fn escapes_of_python_literals() {
        // codecs.decode(text, "unicode_escape"), except that "é" is not taken apart into bytes
        let cases = [
            (r"\n", "\n"),
            (r"a\tb\r\n\\n", "a\tb\r\n\\n"),
            (r#"\'\""#, "'\""),
            (r"\x41\u00e9\U0001F600\101\0", "Aé😀A\0"),
            (r"\d é \x4 \u12 \", r"\d é \x4 \u12 \"),
            ("a\\\nb", "ab"),
            ("<|prompt|>", "<|prompt|>"),
            ("", ""),
        ];
        for (text, expected) in cases {
            assert_eq!(unescape(text), expected, "{text}");
        }
    }
}
