//! The few types the simulator has, their values, and the error a statement ends with.

use std::cmp::Ordering;

use pgwire::api::Type as WireType;
use pgwire::error::{ErrorInfo, PgWireError};

/// A column type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    Bool,
    Int4,
    Int8,
    Float8,
    Text,
}

impl Type {
    pub(super) fn wire(self) -> WireType {
        match self {
            Self::Bool => WireType::BOOL,
            Self::Int4 => WireType::INT4,
            Self::Int8 => WireType::INT8,
            Self::Float8 => WireType::FLOAT8,
            Self::Text => WireType::TEXT,
        }
    }

    /// `pg_type.typlen`.
    pub(super) fn size(self) -> i16 {
        match self {
            Self::Bool => 1,
            Self::Int4 => 4,
            Self::Int8 | Self::Float8 => 8,
            Self::Text => -1,
        }
    }

    /// The type a client declared for a parameter; `None` leaves it to be inferred.
    pub(super) fn declared(wire: &WireType) -> Option<Self> {
        match *wire {
            WireType::BOOL => Some(Self::Bool),
            WireType::INT4 => Some(Self::Int4),
            WireType::INT8 => Some(Self::Int8),
            WireType::FLOAT8 => Some(Self::Float8),
            WireType::TEXT | WireType::VARCHAR => Some(Self::Text),
            _ => None,
        }
    }

    /// A type name as `::name` spells it.
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "bool" | "boolean" => Some(Self::Bool),
            "int" | "int4" | "integer" => Some(Self::Int4),
            "int8" | "bigint" => Some(Self::Int8),
            "float8" => Some(Self::Float8),
            "text" | "varchar" => Some(Self::Text),
            _ => None,
        }
    }

    pub(super) fn is_number(self) -> bool {
        matches!(self, Self::Int4 | Self::Int8 | Self::Float8)
    }
}

/// A value of one of the types; `Int` serves `Int4` and `Int8`.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
}

impl Value {
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// As a condition: NULL does not hold.
    pub(super) fn holds(&self) -> bool {
        *self == Self::Bool(true)
    }

    /// As PostgreSQL prints it; NULL as nothing.
    pub(super) fn printed(&self) -> String {
        match self {
            Self::Null => String::new(),
            Self::Bool(value) => if *value { "true" } else { "false" }.to_owned(),
            Self::Int(value) => value.to_string(),
            Self::Float(value) => value.to_string(),
            Self::Text(value) => value.clone(),
        }
    }

    #[allow(clippy::cast_precision_loss)] // the sample data is far below 2^53
    pub(super) fn number(&self) -> Option<f64> {
        match self {
            Self::Int(value) => Some(*value as f64),
            Self::Float(value) => Some(*value),
            _ => None,
        }
    }

    /// NULLs last, as ascending order has them.
    pub(super) fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Null, Self::Null) => Ordering::Equal,
            (Self::Null, _) => Ordering::Greater,
            (_, Self::Null) => Ordering::Less,
            (Self::Bool(left), Self::Bool(right)) => left.cmp(right),
            (Self::Int(left), Self::Int(right)) => left.cmp(right),
            (Self::Text(left), Self::Text(right)) => left.cmp(right),
            _ => match (self.number(), other.number()) {
                (Some(left), Some(right)) => left.total_cmp(&right),
                _ => self.printed().cmp(&other.printed()),
            },
        }
    }

    /// Converted to `to`, by way of the text form where the kinds differ.
    pub(super) fn cast(self, to: Type) -> Result<Self, SqlError> {
        let malformed = |text: &str| {
            let name = to.wire();
            SqlError::new(
                "22P02",
                format!("invalid input syntax for type {}: \"{text}\"", name.name()),
            )
        };
        match (to, self) {
            (_, Self::Null) => Ok(Self::Null),
            (Type::Bool, value @ Self::Bool(_))
            | (Type::Int4 | Type::Int8, value @ Self::Int(_))
            | (Type::Float8, value @ Self::Float(_)) => Ok(value),
            (Type::Text, value) => Ok(Self::Text(value.printed())),
            (Type::Float8, Self::Int(value)) => {
                Ok(Self::Int(value).number().map_or(Self::Null, Self::Float))
            }
            #[allow(clippy::cast_possible_truncation)] // PostgreSQL would raise; no sample is near
            (Type::Int4 | Type::Int8, Self::Float(value)) => {
                Ok(Self::Int(value.round_ties_even() as i64))
            }
            (Type::Bool, value) => {
                let text = value.printed();
                boolean(&text)
                    .map(Self::Bool)
                    .ok_or_else(|| malformed(&text))
            }
            (Type::Int4 | Type::Int8, value) => {
                let text = value.printed();
                let number = text.trim().parse().map_err(|_| malformed(&text))?;
                if to == Type::Int4 && i32::try_from(number).is_err() {
                    return Err(malformed(&text));
                }
                Ok(Self::Int(number))
            }
            (Type::Float8, value) => {
                let text = value.printed();
                text.trim()
                    .parse()
                    .map(Self::Float)
                    .map_err(|_| malformed(&text))
            }
        }
    }
}

/// A boolean as PostgreSQL's settings and casts spell it.
pub(super) fn boolean(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "on" | "true" | "t" | "yes" | "y" | "1" => Some(true),
        "off" | "false" | "f" | "no" | "n" | "0" => Some(false),
        _ => None,
    }
}

/// What a statement fails with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SqlError {
    pub(super) code: &'static str,
    pub(super) message: String,
}

impl SqlError {
    pub(super) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// As the end of a connection.
    pub(super) fn fatal(self) -> PgWireError {
        PgWireError::UserError(Box::new(self.reported("FATAL")))
    }

    /// As ErrorResponse and NoticeResponse have it.
    pub(super) fn reported(self, severity: &str) -> ErrorInfo {
        let mut info = ErrorInfo::new(severity.to_owned(), self.code.to_owned(), self.message);
        info.severity_nonlocalized = Some(severity.to_owned());
        info
    }

    /// Outside of what the simulator understands; `near` is where it lost the thread.
    pub(super) fn not_understood(near: &str) -> Self {
        Self::new(
            "0A000",
            format!(
                "the simulator understands only SELECT from one table or view (WHERE, GROUP BY, \
                 ORDER BY, LIMIT), EXPLAIN of it, SET, RESET, SHOW, DISCARD ALL, ALTER DATABASE … \
                 SET and transactions; it lost the thread at {near}"
            ),
        )
    }
}

impl From<SqlError> for PgWireError {
    fn from(error: SqlError) -> Self {
        Self::UserError(Box::new(error.reported("ERROR")))
    }
}
