//! One value of a table, and the text that pandas makes of it.

use serde_json::{Number, Value as Json};

/// One value of a table.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// Nothing.
    Missing,
    /// Text.
    Text(String),
    /// Whole number.
    Int(i64),
    /// Number; never NaN, which is [`Cell::Missing`].
    Float(f64),
    /// true or false.
    Bool(bool),
    /// List or object.
    Json(Json),
}

impl Cell {
    /// The cell of a JSON value. Whole numbers that need all of 64 bits without a sign are texts of their digits.
    pub(crate) fn from_json(value: Json) -> Self {
        match value {
            Json::Null => Self::Missing,
            Json::Bool(value) => Self::Bool(value),
            Json::String(text) => Self::Text(text),
            Json::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(whole), _) => Self::Int(whole),
                (None, Some(float)) if number.is_f64() => Self::Float(float),
                _ => Self::Text(number.to_string()),
            },
            Json::Array(_) | Json::Object(_) => Self::Json(value),
        }
    }

    /// The cell as the text pandas makes of it: `1`, `1.0`, `True`; lists and objects as JSON; missing as nothing.
    pub fn text(&self) -> String {
        match self {
            Self::Missing => String::new(),
            Self::Text(text) => text.clone(),
            Self::Int(value) => value.to_string(),
            Self::Float(value) => python_float(*value),
            Self::Bool(true) => "True".to_owned(),
            Self::Bool(false) => "False".to_owned(),
            Self::Json(value) => value.to_string(),
        }
    }

    /// Whether there is nothing.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Missing)
    }
}

/// JSON knows neither NaN, which is a missing value, nor infinities, which become text.
pub(crate) fn json_float(value: f64) -> Json {
    match Number::from_f64(value) {
        Some(number) => Json::Number(number),
        None if value.is_nan() => Json::Null,
        None => Json::String(python_float(value)),
    }
}

/// Turns whole numbers into floats in columns where some are missing, as pandas has no whole numbers beside gaps.
///
/// Numbers beyond 2⁵³ stay, as floats would make neighbours equal.
pub(crate) fn widen_gappy_ints(rows: &mut [Vec<Cell>], n_columns: usize) {
    const EXACT: u64 = 1 << 53;
    for column in 0..n_columns {
        let mut has_gap = false;
        let mut has_number = false;
        let is_numeric = rows.iter().filter_map(|row| row.get(column)).all(|cell| {
            has_gap |= cell.is_missing();
            has_number |= matches!(cell, Cell::Int(_));
            matches!(cell, Cell::Int(_) | Cell::Missing)
        });
        if !(is_numeric && has_gap && has_number) {
            continue;
        }
        for cell in rows.iter_mut().filter_map(|row| row.get_mut(column)) {
            if let Cell::Int(value) = cell
                && value.unsigned_abs() <= EXACT
            {
                *cell = Cell::Float(*value as f64);
            }
        }
    }
}

/// A float as Python's `repr` spells it: shortest digits, `.0` on whole numbers, exponents from 1e16 and below 1e-4.
fn python_float(value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let shortest = format!("{value:e}");
    let n_digits = shortest.bytes().take_while(|byte| *byte != b'e').filter(u8::is_ascii_digit).count();
    // Of two shortest texts that are equally near, Python takes the even one, as exact rounding does.
    let rounded = format!("{value:.*e}", n_digits.saturating_sub(1));
    let is_rounded = rounded.parse() == Ok(value);
    let scientific = if is_rounded { rounded } else { shortest };
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let n_decimals = usize::try_from(n_digits as i32 - 1 - exponent).unwrap_or(0);
        let plain = if is_rounded { format!("{value:.n_decimals$}") } else { value.to_string() };
        return if plain.contains('.') { plain } else { format!("{plain}.0") };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_spelled_as_python_does() {
        let cases = [
            (1.0, "1.0"),
            (0.1, "0.1"),
            (-2.5, "-2.5"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e300, "1.5e+300"),
            (1e-4, "0.0001"),
            (1e-5, "1e-05"),
            (839_058_694_955_410.2, "839058694955410.2"),
            (-839_058_694_955_410.2, "-839058694955410.2"),
            (9_999_999_999_999_998.0, "9999999999999998.0"),
            (5e-324, "5e-324"),
            (0.000_123_456_789_012_345_67, "0.00012345678901234567"),
            (-0.0, "-0.0"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
        ];
        for (value, expected) in cases {
            assert_eq!(Cell::Float(value).text(), expected);
        }
    }

    #[test]
    fn ints_beside_gaps_become_floats_while_they_stay_exact() {
        let big = (1 << 53) + 1;
        let mut rows = vec![
            vec![Cell::Int(1), Cell::Int(2), Cell::Int(big), Cell::Missing],
            vec![Cell::Missing, Cell::Int(3), Cell::Missing, Cell::Missing],
        ];
        widen_gappy_ints(&mut rows, 4);
        assert_eq!(rows[0], [Cell::Float(1.0), Cell::Int(2), Cell::Int(big), Cell::Missing]);
        assert_eq!(rows[1], [Cell::Missing, Cell::Int(3), Cell::Missing, Cell::Missing]);
    }
}
