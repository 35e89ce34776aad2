//! Parquet through its record reader: every column becomes cells, nested ones JSON.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use parquet::basic::{LogicalType, TimeUnit};
use parquet::data_type::Decimal;
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};
use parquet::schema::types::Type;
use serde_json::{Map, Number, Value as Json};

use crate::error::{DataError, Place, Result};
use crate::table::{Cell, Table, widen_gappy_ints};
use crate::text_file::io_error;

const MICROS_A_SECOND: i64 = 1_000_000;
const SECONDS_A_DAY: i64 = 86_400;

/// The first `max_rows` rows of all columns.
pub(crate) fn read_parquet(path: &Path, max_rows: usize) -> Result<Table> {
    let malformed = |reason: &dyn std::fmt::Display| DataError::Malformed {
        path: path.to_owned(),
        line: None,
        reason: format!("not a readable parquet file: {reason}"),
    };
    let file = File::open(path).map_err(|source| io_error(path, &source, "open"))?;
    // The library asserts some rules of the format instead of reporting their breach; a damaged file must not end
    // the program.
    let outcome = catch_unwind(AssertUnwindSafe(|| read_rows(file, max_rows)));
    let (columns, mut rows) = match outcome {
        Ok(Ok(table)) => table,
        Ok(Err(Failure::Parquet(error))) => return Err(malformed(&error)),
        Ok(Err(Failure::Value { row_idx, column })) => {
            let reason =
                format!("the value of {column} is neither UTF-8 text nor a number this program can hold");
            return Err(DataError::Row {
                path: path.to_owned(),
                place: Place::Row(row_idx as u64 + 1),
                reason,
            });
        }
        Err(_) => return Err(malformed(&"its structure is damaged")),
    };
    widen_gappy_ints(&mut rows, columns.len());
    let n_missing_words = vec![0; columns.len()];
    Ok(Table {
        path: path.to_owned(),
        columns,
        rows,
        notes: Vec::new(),
        n_missing_words,
        lines: Vec::new(),
        parts: Vec::new(),
        continues: Vec::new(),
    })
}

enum Failure {
    Parquet(ParquetError),
    Value { row_idx: usize, column: String },
}

impl From<ParquetError> for Failure {
    fn from(error: ParquetError) -> Self {
        Self::Parquet(error)
    }
}

/// Column names and rows.
type Columns = (Vec<String>, Vec<Vec<Cell>>);

fn read_rows(file: File, max_rows: usize) -> std::result::Result<Columns, Failure> {
    let reader = SerializedFileReader::new(file)?;
    let schema = reader.metadata().file_metadata().schema();
    let columns: Vec<String> = schema.get_fields().iter().map(|field| field.name().to_owned()).collect();
    let is_nanos: Vec<bool> = schema.get_fields().iter().map(|field| counts_nanos(field)).collect();
    let mut rows: Vec<Vec<Cell>> = Vec::new();
    for row in reader.get_row_iter(None)?.take(max_rows) {
        let mut cells = Vec::with_capacity(columns.len());
        for ((column, field), is_nanos) in row?.get_column_iter().zip(&is_nanos) {
            let cell = match field {
                Field::Long(nanos) if *is_nanos => Some(Cell::Text(timestamp_text(nanos.div_euclid(1000)))),
                field => cell_of(field),
            };
            cells.push(cell.ok_or_else(|| Failure::Value { row_idx: rows.len(), column: column.clone() })?);
        }
        rows.push(cells);
    }
    Ok((columns, rows))
}

/// `None` for bytes that are no text and for numbers beyond all types.
fn cell_of(field: &Field) -> Option<Cell> {
    Some(match field {
        Field::Bool(value) => Cell::Bool(*value),
        Field::Group(_) | Field::ListInternal(_) | Field::MapInternal(_) => Cell::Json(json_of(field)?),
        Field::Null => Cell::Missing,
        number_or_text => match json_of(number_or_text)? {
            Json::Null => Cell::Missing,
            Json::String(text) => Cell::Text(text),
            Json::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(whole), _) => Cell::Int(whole),
                (None, Some(float)) if number.is_f64() => Cell::Float(float),
                _ => Cell::Json(Json::Number(number)),
            },
            other => Cell::Json(other),
        },
    })
}

fn json_of(field: &Field) -> Option<Json> {
    Some(match field {
        Field::Null => Json::Null,
        Field::Bool(value) => Json::Bool(*value),
        Field::Byte(value) => Json::from(*value),
        Field::Short(value) => Json::from(*value),
        Field::Int(value) => Json::from(*value),
        Field::Long(value) => Json::from(*value),
        Field::UByte(value) => Json::from(*value),
        Field::UShort(value) => Json::from(*value),
        Field::UInt(value) => Json::from(*value),
        Field::ULong(value) => Json::from(*value),
        Field::Float16(value) => float(f64::from(*value)),
        // Through its shortest decimal, so that 0.1 stays 0.1.
        Field::Float(value) => float(value.to_string().parse().unwrap_or(f64::from(*value))),
        Field::Double(value) => float(*value),
        Field::Decimal(value) => Json::String(decimal_text(value)?),
        Field::Str(text) => Json::String(text.clone()),
        Field::Bytes(bytes) => Json::String(std::str::from_utf8(bytes.data()).ok()?.to_owned()),
        Field::Date(days) => Json::String(date_text(i64::from(*days))),
        Field::TimeMillis(millis) => Json::String(time_text(i64::from(*millis) * 1000)),
        Field::TimeMicros(micros) => Json::String(time_text(*micros)),
        Field::TimestampMillis(millis) => Json::String(timestamp_text(millis.checked_mul(1000)?)),
        Field::TimestampMicros(micros) => Json::String(timestamp_text(*micros)),
        Field::Group(row) => Json::Object(object_of(row)?),
        Field::ListInternal(list) => {
            let items: Option<Vec<Json>> = list.elements().iter().map(json_of).collect();
            Json::Array(items?)
        }
        Field::MapInternal(map) => {
            let mut object = Map::new();
            for (key, value) in map.entries() {
                let name = match json_of(key)? {
                    Json::String(text) => text,
                    other => other.to_string(),
                };
                object.insert(name, json_of(value)?);
            }
            Json::Object(object)
        }
    })
}

fn object_of(row: &Row) -> Option<Map<String, Json>> {
    row.get_column_iter().map(|(name, field)| Some((name.clone(), json_of(field)?))).collect()
}

/// JSON knows neither NaN, which is a missing value, nor infinities, which become text.
fn float(value: f64) -> Json {
    match Number::from_f64(value) {
        Some(number) => Json::Number(number),
        None if value.is_nan() => Json::Null,
        None => Json::String(Cell::Float(value).text()),
    }
}

/// Time stamps in nanoseconds come out of the record reader as bare numbers.
fn counts_nanos(field: &Type) -> bool {
    matches!(
        field.get_basic_info().logical_type_ref(),
        Some(LogicalType::Timestamp(stamp)) if stamp.unit == TimeUnit::NANOS
    )
}

/// The digits with the point at its place; `None` for numbers of more than 128 bits.
fn decimal_text(decimal: &Decimal) -> Option<String> {
    let bytes = decimal.data();
    if bytes.len() > 16 {
        return None;
    }
    let is_negative = bytes.first().is_some_and(|byte| byte & 0x80 != 0);
    let unscaled =
        bytes.iter().fold(if is_negative { -1_i128 } else { 0 }, |sum, byte| (sum << 8) | i128::from(*byte));
    let scale = usize::try_from(decimal.scale()).ok()?;
    let digits = format!("{:0>width$}", unscaled.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let sign = if is_negative { "-" } else { "" };
    Some(if scale == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") })
}

/// `2024-02-29`, proleptic Gregorian, from days since 1970-01-01 (H. Hinnant, "chrono-compatible low-level date
/// algorithms": years start in March, eras have 400 years).
fn date_text(days: i64) -> String {
    let days = days.saturating_add(719_468);
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

/// `13:05:07`, with six more digits if there are parts of a second.
fn time_text(micros: i64) -> String {
    let seconds = micros.div_euclid(MICROS_A_SECOND);
    let time = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    match micros.rem_euclid(MICROS_A_SECOND) {
        0 => time,
        fraction => format!("{time}.{fraction:06}"),
    }
}

/// `2024-02-29 13:05:07`, from microseconds since 1970.
fn timestamp_text(micros: i64) -> String {
    let micros_a_day = SECONDS_A_DAY * MICROS_A_SECOND;
    let (days, rest) = (micros.div_euclid(micros_a_day), micros.rem_euclid(micros_a_day));
    format!("{} {}", date_text(days), time_text(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_times_are_spelled_as_iso_does() {
        assert_eq!(date_text(0), "1970-01-01");
        assert_eq!(date_text(-1), "1969-12-31");
        assert_eq!(date_text(19_782), "2024-02-29");
        assert_eq!(date_text(11_016), "2000-02-29");
        assert_eq!(date_text(-25_509), "1900-02-28");
        assert_eq!(date_text(-25_508), "1900-03-01");
        assert_eq!(timestamp_text(1_709_211_907_000_000), "2024-02-29 13:05:07");
        assert_eq!(timestamp_text(-1), "1969-12-31 23:59:59.999999");
        assert_eq!(time_text(1_500_000), "00:00:01.500000");
        // Far beyond any calendar, and still no overflow.
        assert!(timestamp_text(i64::MIN).starts_with("-290308"));
    }

    #[test]
    fn decimals_keep_their_point() {
        assert_eq!(decimal_text(&Decimal::from_i32(1250, 9, 2)).as_deref(), Some("12.50"));
        assert_eq!(decimal_text(&Decimal::from_i64(-5, 9, 3)).as_deref(), Some("-0.005"));
        assert_eq!(decimal_text(&Decimal::from_i32(7, 9, 0)).as_deref(), Some("7"));
        let large = Decimal::from_bytes(vec![0x80; 17].into(), 38, 2);
        assert_eq!(decimal_text(&large), None);
    }
}
