//! Values to YAML, in the spelling PyYAML's default dumper uses: sections indented by four, lists not indented,
//! `None` and `\n\n` bare, `1.0e-05` with a point. Long texts stay on one line.

use crate::field_value::Value;

/// One `name: value` line, or several for a list, at the given indentation.
pub(crate) fn write_field(out: &mut String, indent: usize, name: &str, value: &Value) {
    let margin = " ".repeat(indent);
    match value {
        Value::List(items) if items.is_empty() => out.push_str(&format!("{margin}{name}: []\n")),
        Value::List(items) => {
            out.push_str(&format!("{margin}{name}:\n"));
            for item in items {
                out.push_str(&format!("{margin}- {}\n", text_scalar(item)));
            }
        }
        Value::Bool(value) => out.push_str(&format!("{margin}{name}: {value}\n")),
        Value::Int(value) => out.push_str(&format!("{margin}{name}: {value}\n")),
        Value::Float(value) => out.push_str(&format!("{margin}{name}: {}\n", float_text(*value))),
        Value::Text(text) => out.push_str(&format!("{margin}{name}: {}\n", text_scalar(text))),
    }
}

/// A float as Python's `repr` writes it, with the point that YAML 1.1 wants before an exponent.
pub(crate) fn float_text(value: f64) -> String {
    if !value.is_finite() {
        let name = if value.is_nan() { ".nan" } else { ".inf" };
        return format!("{}{name}", if value == f64::NEG_INFINITY { "-" } else { "" });
    }
    // Shortest digits that read back as the same number, as `d.ddde±x`.
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let plain = format!("{value}");
        return if plain.contains('.') { plain } else { format!("{plain}.0") };
    }
    let point = if mantissa.contains('.') { "" } else { ".0" };
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}{point}e{sign}{:02}", exponent.abs())
}

/// A text as a YAML scalar: bare if that reads back as the same text, else quoted.
fn text_scalar(text: &str) -> String {
    let is_printable =
        text.chars().all(|c| !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}'));
    if !is_printable {
        return double_quoted(text);
    }
    if is_bare(text) { text.to_owned() } else { format!("'{}'", text.replace('\'', "''")) }
}

fn double_quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                quoted.push_str(&format!("\\u{:04X}", u32::from(c)));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// Whether a YAML 1.1 reader takes the bare text for exactly this text.
fn is_bare(text: &str) -> bool {
    let Some(first) = text.chars().next() else { return false };
    let second_is_space = text.chars().nth(1).is_none_or(char::is_whitespace);
    let starts_badly = match first {
        '#' | ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%' | '@' | '`' => {
            true
        }
        '-' | '?' | ':' => second_is_space,
        _ => false,
    };
    let has_outer_space = text.starts_with(' ') || text.ends_with(' ');
    let has_separator = text.contains(": ") || text.ends_with(':') || text.contains(" #");
    let is_document_mark = text.starts_with("---") || text.starts_with("...");
    !(starts_badly || has_outer_space || has_separator || is_document_mark || resolves_to_other_type(text))
}

/// Whether YAML 1.1, or a newer YAML, reads the bare text as null, boolean, number, date or merge mark.
fn resolves_to_other_type(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    if matches!(
        lower.as_str(),
        "~" | "null" | "true" | "false" | "yes" | "no" | "on" | "off" | "=" | "<<" | ".inf" | ".nan"
    ) {
        return true;
    }
    // Numbers in all bases, sexagesimals and dates start with a digit, a sign or a point and hold nothing but
    // digits and a few signs. Quoting a text too many does no harm.
    let is_number_start = lower.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.'));
    let is_number_like = |c: char| {
        c.is_ascii_hexdigit() || matches!(c, '+' | '-' | '.' | '_' | ':' | 'x' | 'o' | 't' | 'z' | ' ')
    };
    let is_special_float = matches!(lower.trim_start_matches(['+', '-']), ".inf" | ".nan");
    (is_number_start && lower.contains(|c: char| c.is_ascii_digit()) && lower.chars().all(is_number_like))
        || is_special_float
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_spelled_as_pyyaml_does() {
        // Made with yaml.dump of PyYAML 6.0.3.
        let cases = [
            (0.0, "0.0"),
            (1.0, "1.0"),
            (0.05, "0.05"),
            (1e-4, "0.0001"),
            (1e-5, "1.0e-05"),
            (3e-5, "3.0e-05"),
            (1.5e-7, "1.5e-07"),
            (1e-9, "1.0e-09"),
            (123456789.125, "123456789.125"),
            (1e15, "1000000000000000.0"),
            (1e16, "1.0e+16"),
            (1.25e22, "1.25e+22"),
            (-2.5, "-2.5"),
        ];
        for (value, expected) in cases {
            assert_eq!(float_text(value), expected);
        }
    }

    #[test]
    fn texts_are_quoted_only_where_needed() {
        // Made with yaml.dump of PyYAML 6.0.3.
        let cases = [
            ("None", "None"),
            ("", "''"),
            (r"\n\n", r"\n\n"),
            ("<|prompt|>", "<|prompt|>"),
            ("0", "'0'"),
            ("null", "'null'"),
            ("~", "'~'"),
            ("yes", "'yes'"),
            ("True", "'True'"),
            ("- a", "'- a'"),
            ("-a", "-a"),
            ("a: b", "'a: b'"),
            ("a:b", "a:b"),
            ("a #b", "'a #b'"),
            ("it's", "it's"),
            ("'quoted'", "'''quoted'''"),
            (" lead", "' lead'"),
            ("trail ", "'trail '"),
            ("|x", "'|x'"),
            ("W&B", "W&B"),
            (r#"{"use_fast": true}"#, r#"'{"use_fast": true}'"#),
            ("2024-01-01", "'2024-01-01'"),
            ("12:30:45", "'12:30:45'"),
            ("tab\there", "\"tab\\there\""),
            ("h2oai/h2o-danube3-500m-base", "h2oai/h2o-danube3-500m-base"),
        ];
        for (text, expected) in cases {
            assert_eq!(text_scalar(text), expected, "{text:?}");
        }
        // Not PyYAML's choices, but the same text for every reader.
        assert_eq!(text_scalar("a\nb"), "\"a\\nb\"");
        assert_eq!(text_scalar("1e5"), "'1e5'");
        assert_eq!(text_scalar("é"), "é");
    }
}
