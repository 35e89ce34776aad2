//! Values of Arrow arrays as JSON, spelled as those of Parquet are.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type,
    DecimalType, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    Time32MillisecondType, Time32SecondType, Time64MicrosecondType, Time64NanosecondType,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
    UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef};
use arrow_schema::{DataType, TimeUnit};
use serde_json::{Map, Value as Json};

use crate::cell::json_float;
use crate::date_texts::{MICROS_A_SECOND, date_text, time_text, timestamp_text};

type Value = Result<Json, String>;

/// A value as JSON, or what it is that JSON cannot say. The place must be inside the array.
pub(crate) fn json_of(array: &dyn Array, idx: usize) -> Value {
    if array.is_null(idx) {
        return Ok(Json::Null);
    }
    Ok(match array.data_type() {
        DataType::Null => Json::Null,
        DataType::Boolean => Json::Bool(array.as_boolean().value(idx)),
        DataType::Int8 => Json::from(number::<Int8Type>(array, idx)),
        DataType::Int16 => Json::from(number::<Int16Type>(array, idx)),
        DataType::Int32 => Json::from(number::<Int32Type>(array, idx)),
        DataType::Int64 => Json::from(number::<Int64Type>(array, idx)),
        DataType::UInt8 => Json::from(number::<UInt8Type>(array, idx)),
        DataType::UInt16 => Json::from(number::<UInt16Type>(array, idx)),
        DataType::UInt32 => Json::from(number::<UInt32Type>(array, idx)),
        DataType::UInt64 => Json::from(number::<UInt64Type>(array, idx)),
        DataType::Float16 => json_float(f64::from(number::<Float16Type>(array, idx))),
        DataType::Float32 => {
            // Through its shortest decimal, so that 0.1 stays 0.1.
            let value = number::<Float32Type>(array, idx);
            json_float(value.to_string().parse().unwrap_or(f64::from(value)))
        }
        DataType::Float64 => json_float(number::<Float64Type>(array, idx)),
        DataType::Utf8 => Json::from(array.as_string::<i32>().value(idx)),
        DataType::LargeUtf8 => Json::from(array.as_string::<i64>().value(idx)),
        DataType::Utf8View => Json::from(array.as_string_view().value(idx)),
        DataType::Binary => text(array.as_binary::<i32>().value(idx))?,
        DataType::LargeBinary => text(array.as_binary::<i64>().value(idx))?,
        DataType::BinaryView => text(array.as_binary_view().value(idx))?,
        DataType::FixedSizeBinary(_) => text(array.as_fixed_size_binary().value(idx))?,
        DataType::Decimal32(..) => decimal::<Decimal32Type>(array, idx),
        DataType::Decimal64(..) => decimal::<Decimal64Type>(array, idx),
        DataType::Decimal128(..) => decimal::<Decimal128Type>(array, idx),
        DataType::Decimal256(..) => decimal::<Decimal256Type>(array, idx),
        DataType::Date32 => Json::from(date_text(i64::from(number::<Date32Type>(array, idx)))),
        DataType::Date64 => Json::from(date_text(number::<Date64Type>(array, idx).div_euclid(86_400_000))),
        DataType::Time32(_) | DataType::Time64(_) | DataType::Timestamp(..) => time(array, idx)?,
        DataType::List(_) => list(&array.as_list::<i32>().value(idx))?,
        DataType::LargeList(_) => list(&array.as_list::<i64>().value(idx))?,
        DataType::FixedSizeList(..) => list(&array.as_fixed_size_list().value(idx))?,
        DataType::ListView(_) => list(&array.as_list_view::<i32>().value(idx))?,
        DataType::LargeListView(_) => list(&array.as_list_view::<i64>().value(idx))?,
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns();
            let pairs = fields.iter().zip(columns);
            let object: Result<Map<String, Json>, String> =
                pairs.map(|(field, column)| Ok((field.name().clone(), json_of(column, idx)?))).collect();
            Json::Object(object?)
        }
        DataType::Map(..) => {
            let entries = array.as_map().value(idx);
            let mut object = Map::new();
            for entry in 0..entries.len() {
                let part = |column: usize| match entries.columns().get(column) {
                    Some(column) => json_of(column, entry),
                    None => Ok(Json::Null),
                };
                let name = match part(0)? {
                    Json::String(text) => text,
                    other => other.to_string(),
                };
                object.insert(name, part(1)?);
            }
            Json::Object(object)
        }
        DataType::Dictionary(..) => {
            let dictionary = array.as_any_dictionary();
            let key = json_of(dictionary.keys(), idx)?.as_u64().and_then(|key| usize::try_from(key).ok());
            match key.filter(|key| *key < dictionary.values().len()) {
                Some(key) => json_of(dictionary.values(), key)?,
                None => return Err("a key without a value".to_owned()),
            }
        }
        other => return Err(format!("values of the type {other}")),
    })
}

fn number<T: ArrowPrimitiveType>(array: &dyn Array, idx: usize) -> T::Native {
    array.as_primitive::<T>().value(idx)
}

fn text(bytes: &[u8]) -> Value {
    std::str::from_utf8(bytes).map(Json::from).map_err(|_| "bytes that are no text".to_owned())
}

fn decimal<T: DecimalType>(array: &dyn Array, idx: usize) -> Json {
    Json::from(array.as_primitive::<T>().value_as_string(idx))
}

fn list(items: &ArrayRef) -> Value {
    (0..items.len()).map(|idx| json_of(items, idx)).collect::<Result<Vec<Json>, String>>().map(Json::Array)
}

fn time(array: &dyn Array, idx: usize) -> Value {
    let micros = |value: i64, per_unit: i64| {
        value.checked_mul(per_unit).ok_or_else(|| "a time stamp beyond all calendars".to_owned())
    };
    const MILLI: i64 = MICROS_A_SECOND / 1000;
    Ok(Json::String(match array.data_type() {
        DataType::Time32(TimeUnit::Second) => {
            time_text(micros(i64::from(number::<Time32SecondType>(array, idx)), MICROS_A_SECOND)?)
        }
        DataType::Time32(_) => {
            time_text(micros(i64::from(number::<Time32MillisecondType>(array, idx)), MILLI)?)
        }
        DataType::Time64(TimeUnit::Microsecond) => time_text(number::<Time64MicrosecondType>(array, idx)),
        DataType::Time64(_) => time_text(number::<Time64NanosecondType>(array, idx).div_euclid(1000)),
        DataType::Timestamp(TimeUnit::Second, _) => {
            timestamp_text(micros(number::<TimestampSecondType>(array, idx), MICROS_A_SECOND)?)
        }
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            timestamp_text(micros(number::<TimestampMillisecondType>(array, idx), MILLI)?)
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            timestamp_text(number::<TimestampMicrosecondType>(array, idx))
        }
        _ => timestamp_text(number::<TimestampNanosecondType>(array, idx).div_euclid(1000)),
    }))
}
