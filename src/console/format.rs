//! Between values and the wire: parameters in, rows out.

use std::sync::Arc;

use pgwire::api::Type as WireType;
use pgwire::api::portal::{Format, Portal};
use pgwire::api::results::{DataRowEncoder, FieldFormat, FieldInfo};
use pgwire::error::PgWireResult;
use pgwire::messages::data::DataRow;

use super::error::Error;
use super::statement::Parsed;
use super::value::{Column, Row, Type, Value};

/// The type as the protocol knows it.
pub(super) fn wire(kind: Type) -> WireType {
    match kind {
        Type::Text => WireType::TEXT,
        Type::Int => WireType::INT8,
        Type::Float => WireType::FLOAT8,
        Type::Bool => WireType::BOOL,
    }
}

/// The columns as RowDescription has them; without `format`: text.
pub(super) fn fields(columns: &[Column], format: Option<&Format>) -> Vec<FieldInfo> {
    let field = |(at, column): (usize, &Column)| {
        let size = match column.kind {
            Type::Text => -1,
            Type::Int | Type::Float => 8,
            Type::Bool => 1,
        };
        let format = format.map_or(FieldFormat::Text, |format| format.format_for(at));
        FieldInfo::new(column.name.clone(), None, None, wire(column.kind), format)
            .with_type_size(size)
    };
    columns.iter().enumerate().map(field).collect()
}

/// The rows as DataRow messages.
///
/// # Errors
///
/// A value is not of its column's type, which is a fault of Osprey's.
pub(super) fn encoded(rows: &[Row], fields: &Arc<Vec<FieldInfo>>) -> PgWireResult<Vec<DataRow>> {
    let mut encoder = DataRowEncoder::new(Arc::clone(fields));
    let row = |row: &Row| {
        for (value, field) in row.iter().zip(fields.iter()) {
            match value {
                Value::Null => encoder.encode_field(&None::<String>)?,
                Value::Text(text) => encoder.encode_field(text)?,
                Value::Int(number) => encoder.encode_field(number)?,
                // 3 as PostgreSQL prints it, where pgwire has 3.0.
                Value::Float(number) if field.format() == FieldFormat::Text => {
                    encoder.encode_field(&number.to_string())?;
                }
                Value::Float(number) => encoder.encode_field(number)?,
                Value::Bool(yes) => encoder.encode_field(yes)?,
            }
        }
        Ok(encoder.take_row())
    };
    rows.iter().map(row).collect()
}

/// The values that Bind gave, each of the type that the statement needs.
///
/// # Errors
///
/// There are more or fewer, or one is no such value.
pub(super) fn bound(portal: &Portal<Parsed>, kinds: &[Option<Type>]) -> Result<Vec<Value>, Error> {
    if portal.parameter_len() != kinds.len() {
        let message = format!(
            "bind message supplies {} parameters, but the prepared statement requires {}",
            portal.parameter_len(),
            kinds.len()
        );
        return Err(Error::new("08P01", message));
    }
    if let Format::Individual(codes) = &portal.parameter_format
        && codes.len() != kinds.len()
    {
        let message = "bind message has another number of parameter formats than of parameters";
        return Err(Error::new("08P01", message));
    }
    let value = |(at, kind): (usize, &Option<Type>)| {
        let Some(kind) = kind else {
            return Ok(Value::Null);
        };
        let declared = portal.statement.parameter_types.get(at).cloned().flatten();
        let declared = declared.unwrap_or_else(|| wire(*kind));
        let printed = printed(portal, at, &declared).map_err(|error| {
            Error::new(
                "22P03",
                format!("parameter ${} cannot be read: {error}", at + 1),
            )
        })?;
        let Some(text) = printed else {
            return Ok(Value::Null);
        };
        kind.parse(&text).ok_or_else(|| {
            let message = format!("invalid input syntax for type {}: \"{text}\"", kind.name());
            Error::new("22P02", message)
        })
    };
    kinds.iter().enumerate().map(value).collect()
}

/// A parameter as text, whatever type the client has declared.
fn printed(
    portal: &Portal<Parsed>,
    at: usize,
    declared: &WireType,
) -> PgWireResult<Option<String>> {
    if portal.parameter_format.is_text(at) {
        return portal.parameter::<String>(at, &WireType::TEXT);
    }
    Ok(match *declared {
        WireType::BOOL => portal
            .parameter::<bool>(at, declared)?
            .map(|value| value.to_string()),
        WireType::INT2 => portal
            .parameter::<i16>(at, declared)?
            .map(|value| value.to_string()),
        WireType::INT4 => portal
            .parameter::<i32>(at, declared)?
            .map(|value| value.to_string()),
        WireType::INT8 => portal
            .parameter::<i64>(at, declared)?
            .map(|value| value.to_string()),
        WireType::FLOAT4 => portal
            .parameter::<f32>(at, declared)?
            .map(|value| value.to_string()),
        WireType::FLOAT8 => portal
            .parameter::<f64>(at, declared)?
            .map(|value| value.to_string()),
        _ => portal.parameter::<String>(at, &WireType::TEXT)?,
    })
}
