//! Between the simulator's values and the wire: parameters in, rows out.

use bytes::{Buf, BufMut, BytesMut};
use chrono::{NaiveDate, NaiveDateTime, NaiveTime};
use pgwire::api::portal::{Format, Portal};
use pgwire::api::results::{FieldFormat, FieldInfo};
use pgwire::error::{PgWireError, PgWireResult};
use pgwire::messages::data::DataRow;

use super::session::Prepared;
use super::value::{
    Column, SqlError, Type, Value, array_text, element_of, elements, is_integer, printed,
    text_to_value, type_name, type_size,
};

/// The columns as RowDescription has them; without `format`: text.
pub(super) fn fields(columns: &[Column], format: Option<&Format>) -> Vec<FieldInfo> {
    let format_of = |at: usize| match format {
        Some(Format::Individual(codes)) if codes.len() <= at => FieldFormat::Text,
        Some(format) => format.format_for(at),
        None => FieldFormat::Text,
    };
    columns
        .iter()
        .enumerate()
        .map(|(at, column)| {
            FieldInfo::new(
                column.name.clone(),
                None,
                None,
                column.kind.clone(),
                format_of(at),
            )
            .with_type_size(type_size(&column.kind))
        })
        .collect()
}

/// The rows as DataRow messages.
pub(super) fn encode(rows: &[Vec<Value>], fields: &[FieldInfo]) -> PgWireResult<Vec<DataRow>> {
    let row = |row: &Vec<Value>| {
        let mut data = BytesMut::new();
        for (value, field) in row.iter().zip(fields) {
            let Some(text) = as_text(value, field.datatype()) else {
                data.put_i32(-1);
                continue;
            };
            let start = data.len();
            data.put_i32(0);
            if field.format() == FieldFormat::Text {
                data.put_slice(text.as_bytes());
            } else {
                put_binary(&text, field.datatype(), &mut data)?;
            }
            let length = i32::try_from(data.len() - start - 4).unwrap_or(i32::MAX);
            data[start..start + 4].copy_from_slice(&length.to_be_bytes());
        }
        Ok(DataRow::new(
            data,
            i16::try_from(fields.len()).unwrap_or(i16::MAX),
        ))
    };
    rows.iter().map(row).collect()
}

/// A value as text; `None`: NULL.
fn as_text(value: &Value, kind: &Type) -> Option<String> {
    match value {
        Value::Integer(number) if *kind == Type::BOOL => {
            Some(if *number == 0 { "f" } else { "t" }.to_owned())
        }
        value => printed(value),
    }
}

/// The binary form of what `text` says. Types that have none here are texts.
fn put_binary(text: &str, kind: &Type, data: &mut BytesMut) -> PgWireResult<()> {
    let out_of_range = || SqlError::new("22003", format!("{} out of range", type_name(kind)));
    let number = || text.parse::<i64>().map_err(|_| out_of_range());
    match *kind {
        Type::BOOL => data.put_u8(u8::from(text == "t")),
        Type::INT2 => data.put_i16(number()?.try_into().map_err(|_| out_of_range())?),
        Type::INT4 => data.put_i32(number()?.try_into().map_err(|_| out_of_range())?),
        Type::INT8 => data.put_i64(number()?),
        Type::OID => data.put_u32(number()?.try_into().map_err(|_| out_of_range())?),
        Type::FLOAT4 => data.put_f32(text.parse().map_err(|_| out_of_range())?),
        Type::FLOAT8 => data.put_f64(text.parse().map_err(|_| out_of_range())?),
        Type::TIMESTAMP | Type::TIMESTAMPTZ => {
            let micros = micros(text).ok_or_else(out_of_range)?;
            data.put_i64(micros - POSTGRES_EPOCH);
        }
        Type::DATE => {
            let micros = micros(text).ok_or_else(out_of_range)?;
            let days = (micros - POSTGRES_EPOCH).div_euclid(DAY);
            data.put_i32(days.try_into().map_err(|_| out_of_range())?);
        }
        _ => match element_of(kind) {
            Some(element) => put_array(text, &element, data)?,
            None => data.put_slice(text.as_bytes()),
        },
    }
    Ok(())
}

fn put_array(text: &str, element: &Type, data: &mut BytesMut) -> PgWireResult<()> {
    let all = elements(text);
    data.put_i32(i32::from(!all.is_empty()));
    data.put_i32(i32::from(all.contains(&None)));
    data.put_u32(element.oid());
    if !all.is_empty() {
        data.put_i32(i32::try_from(all.len()).unwrap_or(i32::MAX));
        data.put_i32(1);
    }
    for one in all {
        let Some(one) = one else {
            data.put_i32(-1);
            continue;
        };
        let mut binary = BytesMut::new();
        put_binary(&one, element, &mut binary)?;
        data.put_i32(i32::try_from(binary.len()).unwrap_or(i32::MAX));
        data.put_slice(&binary);
    }
    Ok(())
}

/// The values that Bind gave.
pub(super) fn parameters(portal: &Portal<Prepared>, types: &[Type]) -> PgWireResult<Vec<Value>> {
    if portal.parameter_len() != types.len() {
        let message = format!(
            "bind message supplies {} parameters, but the prepared statement requires {}",
            portal.parameter_len(),
            types.len()
        );
        return Err(PgWireError::from(SqlError::new("08P01", message)));
    }
    let value = |(at, kind): (usize, &Type)| {
        let Some(bytes) = portal.parameters.get(at).cloned().flatten() else {
            return Ok(Value::Null);
        };
        if portal.parameter_format.format_for(at) == FieldFormat::Text {
            let text = std::str::from_utf8(&bytes);
            let text = text.map_err(|_| {
                SqlError::new("22021", "invalid byte sequence for encoding \"UTF8\"")
            })?;
            return Ok(text_to_value(text, kind)?);
        }
        Ok(from_binary(&bytes, kind)?)
    };
    types.iter().enumerate().map(value).collect()
}

fn from_binary(bytes: &[u8], kind: &Type) -> Result<Value, SqlError> {
    let wrong = || {
        let message = format!(
            "incorrect binary data format in a parameter of type {}",
            type_name(kind)
        );
        SqlError::new("22P03", message)
    };
    let text = |bytes: &[u8]| {
        String::from_utf8(bytes.to_vec())
            .map(Value::Text)
            .map_err(|_| wrong())
    };
    Ok(match (kind, bytes) {
        (kind, [one]) if *kind == Type::BOOL => Value::Integer(i64::from(*one != 0)),
        (kind, &[a, b]) if *kind == Type::INT2 => Value::Integer(i16::from_be_bytes([a, b]).into()),
        (kind, &[a, b, c, d]) if *kind == Type::FLOAT4 => {
            Value::Real(f32::from_be_bytes([a, b, c, d]).into())
        }
        (kind, &[a, b, c, d]) if *kind == Type::INT4 => {
            Value::Integer(i32::from_be_bytes([a, b, c, d]).into())
        }
        (kind, &[a, b, c, d]) if is_integer(kind) => {
            Value::Integer(u32::from_be_bytes([a, b, c, d]).into())
        }
        (kind, bytes) if *kind == Type::INT8 => {
            Value::Integer(i64::from_be_bytes(bytes.try_into().map_err(|_| wrong())?))
        }
        (kind, bytes) if *kind == Type::FLOAT8 => {
            Value::Real(f64::from_be_bytes(bytes.try_into().map_err(|_| wrong())?))
        }
        (kind, bytes) => match element_of(kind) {
            Some(element) => Value::Text(array_from_binary(bytes, &element).ok_or_else(wrong)?),
            None => text(bytes)?,
        },
    })
}

/// An array of one dimension, or none.
fn array_from_binary(mut bytes: &[u8], element: &Type) -> Option<String> {
    let dimensions = bytes.try_get_i32().ok()?;
    bytes.try_get_i64().ok()?;
    let mut all = Vec::new();
    if dimensions == 1 {
        let count = bytes.try_get_i32().ok()?;
        bytes.try_get_i32().ok()?;
        for _ in 0..count {
            let length = bytes.try_get_i32().ok()?;
            let Ok(length) = usize::try_from(length) else {
                all.push(None);
                continue;
            };
            let (one, rest) = bytes.split_at_checked(length)?;
            all.push(printed(&from_binary(one, element).ok()?));
            bytes = rest;
        }
    }
    Some(array_text(&all))
}

/// Microseconds in a day, and from 1970 to 2000, where PostgreSQL's time begins.
const DAY: i64 = 86_400_000_000;
const POSTGRES_EPOCH: i64 = 10_957 * DAY;

/// The microseconds since 1970 of a text like `2026-01-05 10:00:00.5+00`; a date is its midnight.
fn micros(text: &str) -> Option<i64> {
    let text = text.split('+').next()?;
    let time = NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f").ok();
    let midnight = || Some(text.parse::<NaiveDate>().ok()?.and_time(NaiveTime::MIN));
    Some(time.or_else(midnight)?.and_utc().timestamp_micros())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_counted_from_1970() {
        assert_eq!(micros("1970-01-01"), Some(0));
        assert_eq!(micros("2000-01-01"), Some(POSTGRES_EPOCH));
        assert_eq!(
            micros("2024-03-01 00:00:01.5+00"),
            Some(19_783 * DAY + 1_500_000)
        );
        assert_eq!(micros("soon"), None);
    }

    #[test]
    fn arrays_survive_their_binary_form() {
        for (text, kind) in [
            ("{a,NULL,\"b c\"}", Type::TEXT),
            ("{1,-2}", Type::INT4),
            ("{}", Type::OID),
        ] {
            let mut data = BytesMut::new();
            put_array(text, &kind, &mut data).unwrap();
            assert_eq!(array_from_binary(&data, &kind).unwrap(), text);
        }
    }
}
