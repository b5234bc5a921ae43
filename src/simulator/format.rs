//! Between the simulator's values and the wire: parameters in, rows out.

use std::sync::Arc;

use pgwire::api::Type as WireType;
use pgwire::api::portal::{Format, Portal};
use pgwire::api::results::{DataRowEncoder, FieldFormat, FieldInfo};
use pgwire::error::{PgWireError, PgWireResult};
use pgwire::messages::data::DataRow;

use super::data::Column;
use super::session::Prepared;
use super::value::{SqlError, Type, Value};

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
                column.kind.wire(),
                format_of(at),
            )
            .with_type_size(column.kind.size())
        })
        .collect()
}

/// The rows as DataRow messages.
pub(super) fn encode(
    rows: &[Vec<Value>],
    fields: &Arc<Vec<FieldInfo>>,
) -> PgWireResult<Vec<DataRow>> {
    let mut encoder = DataRowEncoder::new(Arc::clone(fields));
    rows.iter()
        .map(|row| {
            for (value, field) in row.iter().zip(fields.iter()) {
                match value {
                    Value::Null => encoder.encode_field(&None::<String>)?,
                    Value::Bool(value) => encoder.encode_field(value)?,
                    Value::Int(value) if *field.datatype() == WireType::INT4 => {
                        let value = i32::try_from(*value)
                            .map_err(|_| SqlError::new("22003", "integer out of range"))?;
                        encoder.encode_field(&value)?;
                    }
                    Value::Int(value) => encoder.encode_field(value)?,
                    Value::Float(_) if field.format() == FieldFormat::Text => {
                        encoder.encode_field(&value.printed())?; // 3310, where pgwire has 3310.0
                    }
                    Value::Float(value) => encoder.encode_field(value)?,
                    Value::Text(value) => encoder.encode_field(value)?,
                }
            }
            Ok(encoder.take_row())
        })
        .collect()
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
        let wire = portal.statement.parameter_types.get(at).cloned().flatten();
        let wire = wire.unwrap_or_else(|| kind.wire());
        let value = match wire {
            WireType::BOOL => portal.parameter::<bool>(at, &wire)?.map(Value::Bool),
            WireType::INT2 => portal
                .parameter::<i16>(at, &wire)?
                .map(|v| Value::Int(v.into())),
            WireType::INT4 => portal
                .parameter::<i32>(at, &wire)?
                .map(|v| Value::Int(v.into())),
            WireType::INT8 => portal.parameter::<i64>(at, &wire)?.map(Value::Int),
            WireType::FLOAT8 => portal.parameter::<f64>(at, &wire)?.map(Value::Float),
            _ => portal.parameter::<String>(at, &wire)?.map(Value::Text),
        };
        Ok(value.unwrap_or(Value::Null).cast(*kind)?)
    };
    types.iter().enumerate().map(value).collect()
}
