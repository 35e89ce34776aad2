//! Parquet through its record reader: every column becomes cells, nested ones JSON.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use parquet::basic::{LogicalType, TimeUnit};
use parquet::data_type::Decimal;
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};
use parquet::schema::types::Type;
use serde_json::{Map, Value as Json};

use crate::cell::{Cell, json_float};
use crate::compressed::check_binary;
use crate::date_texts::{date_text, time_text, timestamp_text};
use crate::error::{DataError, Result};
use crate::row_collector::RowCollector;
use crate::table::Table;
use crate::text_file::io_error;

/// The first `max_rows` rows of all columns that can be read.
pub(crate) fn read_parquet(path: &Path, max_rows: usize) -> Result<Table> {
    let malformed = |reason: &dyn std::fmt::Display| DataError::Malformed {
        path: path.to_owned(),
        line: None,
        reason: format!("not a readable parquet file: {reason}"),
    };
    check_binary(path, "parquet")?;
    let open = || File::open(path).map_err(|source| io_error(path, &source, "open"));
    let file = open()?;
    let reader = guarded(|| SerializedFileReader::new(file)).map_err(|reason| malformed(&reason))?;
    let schema = reader.metadata().file_metadata().schema_descr().root_schema_ptr();
    let whole = guarded(|| read_rows(&reader, &schema, max_rows));
    let rows = match whole {
        Ok(rows) => rows,
        Err(reason) => column_by_column(&reader, &schema, max_rows).ok_or_else(|| malformed(&reason))?,
    };
    Ok(rows.finish(path))
}

/// What the library makes of a file. It asserts some rules of the format instead of reporting their breach; a damaged file
/// must not end the program.
fn guarded<T>(read: impl FnOnce() -> std::result::Result<T, ParquetError>) -> std::result::Result<T, String> {
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(outcome) => outcome.map_err(|error| beginning(&error.to_string())),
        Err(_) => Err("its structure is damaged".to_owned()),
    }
}

/// An error of the library may quote a whole value.
fn beginning(text: &str) -> String {
    match text.char_indices().nth(200) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// For tables with a column that the library cannot read: the others. `None` when it can read none.
fn column_by_column(
    reader: &SerializedFileReader<File>,
    schema: &Arc<Type>,
    max_rows: usize,
) -> Option<RowCollector> {
    let fields = schema.get_fields();
    let mut table = RowCollector::new(fields.iter().map(|field| field.name()));
    let mut n_rows = None;
    let mut columns = Vec::new();
    for (column, field) in fields.iter().enumerate() {
        let alone = guarded(|| {
            let alone = Type::group_type_builder(schema.name()).with_fields(vec![field.clone()]).build()?;
            read_rows(reader, &Arc::new(alone), max_rows)
        });
        let rows = match alone {
            Ok(alone) if n_rows.is_none_or(|n| n == alone.rows.len()) => {
                n_rows = Some(alone.rows.len());
                if let Some(reason) = alone.reason(0) {
                    table.leave_out(column, reason);
                }
                alone.rows
            }
            Ok(_) => {
                table.leave_out(column, "it has another number of rows than the columns before it");
                Vec::new()
            }
            Err(reason) => {
                table.leave_out(column, reason);
                Vec::new()
            }
        };
        columns.push(rows.into_iter());
    }
    let next = |column: &mut std::vec::IntoIter<Vec<Cell>>| {
        column.next().and_then(|row| row.into_iter().next()).unwrap_or(Cell::Missing)
    };
    for _ in 0..n_rows? {
        table.rows.push(columns.iter_mut().map(next).collect());
    }
    Some(table)
}

/// The rows of the columns of `schema`, which are all of the file's or some.
fn read_rows(
    reader: &SerializedFileReader<File>,
    schema: &Arc<Type>,
    max_rows: usize,
) -> std::result::Result<RowCollector, ParquetError> {
    let fields = schema.get_fields();
    let mut table = RowCollector::new(fields.iter().map(|field| field.name()));
    for row in reader.get_row_iter(Some(Type::clone(schema)))?.take(max_rows) {
        let row = row?;
        let mut cells = Vec::with_capacity(fields.len());
        for (column, ((_, field), field_type)) in row.get_column_iter().zip(fields).enumerate() {
            let json =
                if table.is_unread(column) { Ok(Json::Null) } else { json_of(field, Some(field_type)) };
            cells.push(json.map(Cell::from_json).unwrap_or_else(|reason| {
                table.leave_out(column, format!("row {} holds {reason}", table.rows.len() + 1));
                Cell::Missing
            }));
        }
        table.rows.push(cells);
    }
    Ok(table)
}

/// A value as JSON, or what it is that JSON cannot say.
fn json_of(field: &Field, field_type: Option<&Arc<Type>>) -> std::result::Result<Json, &'static str> {
    Ok(match field {
        Field::Null => Json::Null,
        Field::Bool(value) => Json::Bool(*value),
        Field::Byte(value) => Json::from(*value),
        Field::Short(value) => Json::from(*value),
        Field::Int(value) => Json::from(*value),
        Field::Long(value) => match field_type.and_then(|field_type| nanos(field_type)) {
            Some(Nanos::Stamp) => Json::from(timestamp_text(value.div_euclid(1000))),
            Some(Nanos::Time) => Json::from(time_text(value.div_euclid(1000))),
            None => Json::from(*value),
        },
        Field::UByte(value) => Json::from(*value),
        Field::UShort(value) => Json::from(*value),
        Field::UInt(value) => Json::from(*value),
        Field::ULong(value) => Json::from(*value),
        Field::Float16(value) => json_float(f64::from(*value)),
        // Through its shortest decimal, so that 0.1 stays 0.1.
        Field::Float(value) => json_float(value.to_string().parse().unwrap_or(f64::from(*value))),
        Field::Double(value) => json_float(*value),
        Field::Decimal(value) => {
            Json::String(decimal_text(value).ok_or("a decimal number of more than 128 bits")?)
        }
        Field::Str(text) => Json::String(text.clone()),
        Field::Bytes(bytes) => {
            Json::from(std::str::from_utf8(bytes.data()).map_err(|_| "bytes that are no text")?)
        }
        Field::Date(days) => Json::String(date_text(i64::from(*days))),
        Field::TimeMillis(millis) => Json::String(time_text(i64::from(*millis) * 1000)),
        Field::TimeMicros(micros) => Json::String(time_text(*micros)),
        Field::TimestampMillis(millis) => {
            Json::String(timestamp_text(millis.checked_mul(1000).ok_or("a time stamp beyond all calendars")?))
        }
        Field::TimestampMicros(micros) => Json::String(timestamp_text(*micros)),
        Field::Group(row) => Json::Object(object_of(row, field_type)?),
        Field::ListInternal(list) => {
            let item_type = field_type.and_then(|field_type| item_type(field_type));
            let items: std::result::Result<Vec<Json>, _> =
                list.elements().iter().map(|item| json_of(item, item_type)).collect();
            Json::Array(items?)
        }
        Field::MapInternal(map) => {
            let pair = field_type.and_then(|map| map.get_fields().first());
            let part = |idx: usize| pair.and_then(|pair| pair.get_fields().get(idx));
            let mut object = Map::new();
            for (key, value) in map.entries() {
                let name = match json_of(key, part(0))? {
                    Json::String(text) => text,
                    other => other.to_string(),
                };
                object.insert(name, json_of(value, part(1))?);
            }
            Json::Object(object)
        }
    })
}

fn object_of(
    row: &Row,
    row_type: Option<&Arc<Type>>,
) -> std::result::Result<Map<String, Json>, &'static str> {
    let field_type = |idx: usize| row_type.and_then(|row_type| row_type.get_fields().get(idx));
    let fields = row.get_column_iter().enumerate();
    fields.map(|(idx, (name, field))| Ok((name.clone(), json_of(field, field_type(idx))?))).collect()
}

/// The type of a list's items: below a repeated group of one field, or of the repeated field itself.
fn item_type(list: &Arc<Type>) -> Option<&Arc<Type>> {
    if list.is_primitive() {
        return Some(list);
    }
    let repeated = list.get_fields().first()?;
    match repeated.is_group() && repeated.get_fields().len() == 1 {
        true => repeated.get_fields().first(),
        false => Some(repeated),
    }
}

enum Nanos {
    Stamp,
    Time,
}

/// Times and time stamps in nanoseconds come out of the record reader as bare numbers.
fn nanos(field: &Type) -> Option<Nanos> {
    match field.get_basic_info().logical_type_ref()? {
        LogicalType::Timestamp(stamp) if stamp.unit == TimeUnit::NANOS => Some(Nanos::Stamp),
        LogicalType::Time(time) if time.unit == TimeUnit::NANOS => Some(Nanos::Time),
        _ => None,
    }
}

/// The digits with the point at its place; `None` for numbers of more than 128 bits.
fn decimal_text(decimal: &Decimal) -> Option<String> {
    let bytes = decimal.data();
    let is_negative = bytes.first().is_some_and(|byte| byte & 0x80 != 0);
    let sign_byte = if is_negative { 0xff } else { 0 };
    let significant = bytes.iter().skip_while(|byte| **byte == sign_byte).count();
    // The first significant byte must not turn the sign of the sixteen that hold it.
    let first = bytes.get(bytes.len() - significant);
    if significant > 16 || (significant == 16 && first.is_some_and(|byte| (byte & 0x80 != 0) != is_negative))
    {
        return None;
    }
    let unscaled =
        bytes.iter().fold(if is_negative { -1_i128 } else { 0 }, |sum, byte| (sum << 8) | i128::from(*byte));
    let scale = usize::try_from(decimal.scale()).ok()?;
    let digits = format!("{:0>width$}", unscaled.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let sign = if is_negative { "-" } else { "" };
    Some(if scale == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_keep_their_point() {
        assert_eq!(decimal_text(&Decimal::from_i32(1250, 9, 2)).as_deref(), Some("12.50"));
        assert_eq!(decimal_text(&Decimal::from_i64(-5, 9, 3)).as_deref(), Some("-0.005"));
        assert_eq!(decimal_text(&Decimal::from_i32(7, 9, 0)).as_deref(), Some("7"));
        let bytes = |bytes: Vec<u8>| decimal_text(&Decimal::from_bytes(bytes.into(), 76, 2));
        // 256 bits whose value needs few, as every decimal256 column has.
        let mut wide = vec![0xff; 30];
        wide.extend([0xfe, 0x0c]);
        assert_eq!(bytes(wide).as_deref(), Some("-5.00"));
        let mut wide = vec![0; 31];
        wide.push(0xff);
        assert_eq!(bytes(wide).as_deref(), Some("2.55"));
        assert_eq!(bytes(vec![0x80; 17]), None);
        let mut beyond = vec![0; 1];
        beyond.extend([0x80; 16]);
        assert_eq!(bytes(beyond), None);
    }
}
