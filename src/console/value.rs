//! Values, and what a column holds.

use std::cmp::Ordering;

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    /// `text`
    Text,
    /// `bigint`
    Int,
    /// `double precision`
    Float,
    /// `boolean`
    Bool,
}

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Null,
    Text(String),
    Int(i64),
    Float(f64),
    Bool(bool),
}

/// One row, a value for each column.
pub(super) type Row = Vec<Value>;

/// A column as a client sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) kind: Type,
}

impl Type {
    /// PostgreSQL's name of it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Int => "bigint",
            Self::Float => "double precision",
            Self::Bool => "boolean",
        }
    }

    /// A text as a value of this type.
    pub(super) fn parse(self, text: &str) -> Option<Value> {
        match self {
            Self::Text => Some(Value::Text(text.to_owned())),
            Self::Int => text.trim().parse().ok().map(Value::Int),
            Self::Float => text.trim().parse().ok().map(Value::Float),
            Self::Bool => match text.trim().to_ascii_lowercase().as_str() {
                "t" | "true" | "on" | "yes" | "1" => Some(Value::Bool(true)),
                "f" | "false" | "off" | "no" | "0" => Some(Value::Bool(false)),
                _ => None,
            },
        }
    }
}

impl Value {
    /// A count.
    pub(super) fn count(count: impl TryInto<i64>) -> Self {
        Self::Int(count.try_into().unwrap_or(i64::MAX))
    }

    /// A text, or nothing.
    pub(super) fn text_or_null(text: Option<impl Into<String>>) -> Self {
        text.map_or(Self::Null, |text| Self::Text(text.into()))
    }

    /// Seconds, to the millisecond.
    pub(super) fn seconds(time: std::time::Duration) -> Self {
        Self::Float((time.as_secs_f64() * 1_000.0).round() / 1_000.0)
    }

    /// As a client reads it; `None`: nothing.
    pub(super) fn printed(&self) -> Option<String> {
        match self {
            Self::Null => None,
            Self::Text(text) => Some(text.clone()),
            Self::Int(number) => Some(number.to_string()),
            Self::Float(number) => Some(number.to_string()),
            Self::Bool(true) => Some("t".to_owned()),
            Self::Bool(false) => Some("f".to_owned()),
        }
    }

    /// Which of two is greater; `None`: they cannot be compared, as with NULL.
    pub(super) fn compared(&self, other: &Self) -> Option<Ordering> {
        #[allow(clippy::cast_precision_loss)] // Counts and ages, far below 2^53.
        match (self, other) {
            (Self::Text(one), Self::Text(two)) => Some(one.cmp(two)),
            (Self::Int(one), Self::Int(two)) => Some(one.cmp(two)),
            (Self::Bool(one), Self::Bool(two)) => Some(one.cmp(two)),
            (Self::Float(one), Self::Float(two)) => one.partial_cmp(two),
            (Self::Int(one), Self::Float(two)) => (*one as f64).partial_cmp(two),
            (Self::Float(one), Self::Int(two)) => one.partial_cmp(&(*two as f64)),
            _ => None,
        }
    }

    /// The order of rows: NULL comes last, as in PostgreSQL.
    pub(super) fn ordered(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Null, Self::Null) => Ordering::Equal,
            (Self::Null, _) => Ordering::Greater,
            (_, Self::Null) => Ordering::Less,
            (one, two) => one.compared(two).unwrap_or(Ordering::Equal),
        }
    }
}
