//! The types that values have, which are PostgreSQL's own, and the error a statement ends with.

use std::collections::HashMap;
use std::sync::LazyLock;

use pgwire::error::{ErrorInfo, PgWireError};
pub(super) use rusqlite::types::Value;
use tokio_postgres::types::Kind;
pub(super) use tokio_postgres::types::Type;

/// A column's name and type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) kind: Type,
}

impl Column {
    pub(super) fn new(name: impl Into<String>, kind: Type) -> Self {
        Self {
            name: name.into(),
            kind,
        }
    }
}

/// All types that PostgreSQL brings, by their names in `pg_type`.
pub(super) static TYPES: LazyLock<HashMap<String, Type>> = LazyLock::new(|| {
    let known = (16..6200).filter_map(Type::from_oid);
    known.map(|kind| (kind.name().to_owned(), kind)).collect()
});

/// The standard's names of types that have others in `pg_type`.
const STANDARD: [(&str, &str); 15] = [
    ("int2", "smallint"),
    ("int4", "integer"),
    ("int4", "int"),
    ("int8", "bigint"),
    ("bool", "boolean"),
    ("float4", "real"),
    ("float8", "double precision"),
    ("float8", "float"),
    ("float8", "double"),
    ("numeric", "decimal"),
    ("varchar", "character varying"),
    ("bpchar", "character"),
    ("timestamp", "timestamp without time zone"),
    ("timestamptz", "timestamp with time zone"),
    ("time", "time without time zone"),
];

/// The type that `text` names, as SQL writes it.
pub(super) fn type_named(text: &str) -> Option<Type> {
    let text = text.trim().to_lowercase();
    let text = text.strip_prefix("pg_catalog.").unwrap_or(&text);
    if let Some(element) = text.strip_suffix("[]") {
        return type_named(element).map(|element| array_of(&element));
    }
    if text == "\"char\"" {
        return Some(Type::CHAR);
    }
    let text = match text.split_once('(') {
        Some((name, rest)) => {
            let tail = rest.split_once(')').map_or("", |(_, tail)| tail);
            format!("{}{tail}", name.trim_end())
        }
        None => text.replace('"', ""),
    };
    let name = match text.as_str() {
        "char" => "bpchar",
        text => STANDARD
            .iter()
            .find(|(_, standard)| *standard == text)
            .map_or(text, |(name, _)| name),
    };
    TYPES.get(name).cloned()
}

/// A type's name as `format_type()` writes it.
pub(super) fn type_name(kind: &Type) -> String {
    if let Some(element) = element_of(kind)
        && kind.name().starts_with('_')
    {
        return format!("{}[]", type_name(&element));
    }
    if *kind == Type::CHAR {
        return "\"char\"".to_owned();
    }
    let standard = STANDARD.iter().find(|(name, _)| *name == kind.name());
    standard
        .map_or(kind.name(), |(_, standard)| standard)
        .to_owned()
}

/// The type of arrays of `element`.
pub(super) fn array_of(element: &Type) -> Type {
    TYPES
        .get(&*format!("_{}", element.name()))
        .cloned()
        .unwrap_or(Type::TEXT_ARRAY)
}

/// The type of an array's elements; `None`: it is no array.
pub(super) fn element_of(kind: &Type) -> Option<Type> {
    match kind.kind() {
        Kind::Array(element) => Some(element.clone()),
        _ if *kind == Type::INT2_VECTOR => Some(Type::INT2),
        _ if *kind == Type::OID_VECTOR => Some(Type::OID),
        _ => None,
    }
}

/// `pg_type.typlen`.
pub(super) fn type_size(kind: &Type) -> i16 {
    match *kind {
        Type::BOOL | Type::CHAR => 1,
        Type::INT2 => 2,
        Type::NAME => 64,
        Type::INT8 | Type::FLOAT8 | Type::TIMESTAMP | Type::TIMESTAMPTZ => 8,
        Type::INT4 | Type::FLOAT4 | Type::DATE | Type::OID => 4,
        Type::UNKNOWN => -2,
        _ if is_registered(kind) => 4,
        _ => -1,
    }
}

/// True for regclass and its like: numbers that are written as names.
pub(super) fn is_registered(kind: &Type) -> bool {
    matches!(
        *kind,
        Type::REGCLASS
            | Type::REGTYPE
            | Type::REGPROC
            | Type::REGPROCEDURE
            | Type::REGNAMESPACE
            | Type::REGROLE
    )
}

pub(super) fn is_integer(kind: &Type) -> bool {
    matches!(*kind, Type::INT2 | Type::INT4 | Type::INT8 | Type::OID) || is_registered(kind)
}

pub(super) fn is_float(kind: &Type) -> bool {
    matches!(*kind, Type::FLOAT4 | Type::FLOAT8 | Type::NUMERIC)
}

/// A text literal or parameter as a value of `kind`, the way it is kept in the engine.
pub(super) fn text_to_value(text: &str, kind: &Type) -> Result<Value, SqlError> {
    let malformed = || {
        let message = format!(
            "invalid input syntax for type {}: \"{text}\"",
            type_name(kind)
        );
        SqlError::new("22P02", message)
    };
    Ok(match kind {
        kind if *kind == Type::BOOL => Value::Integer(boolean(text).ok_or_else(malformed)?.into()),
        kind if is_integer(kind) => {
            let number: i64 = text.trim().parse().map_err(|_| malformed())?;
            if *kind == Type::INT4 && i32::try_from(number).is_err() {
                let message = format!("value \"{text}\" is out of range for type integer");
                return Err(SqlError::new("22003", message));
            }
            Value::Integer(number)
        }
        kind if is_float(kind) => Value::Real(text.trim().parse().map_err(|_| malformed())?),
        kind if *kind == Type::DATE => {
            let digits: String = text.chars().take(10).filter(char::is_ascii_digit).collect();
            if digits.len() != 8 {
                return Err(SqlError {
                    code: "22007",
                    ..malformed()
                });
            }
            Value::Text(format!(
                "{}-{}-{}",
                &digits[..4],
                &digits[4..6],
                &digits[6..]
            ))
        }
        _ => Value::Text(text.to_owned()),
    })
}

/// A boolean as PostgreSQL's settings and casts spell it.
pub(super) fn boolean(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "on" | "true" | "t" | "yes" | "y" | "1" => Some(true),
        "off" | "false" | "f" | "no" | "n" | "0" => Some(false),
        _ => None,
    }
}

/// The elements of an array's text (`{a,"b c"}`), or of a vector's (`1 2`); `None` is NULL.
pub(super) fn elements(text: &str) -> Vec<Option<String>> {
    let Some(inner) = text
        .strip_prefix('{')
        .and_then(|text| text.strip_suffix('}'))
    else {
        return text
            .split_whitespace()
            .map(|word| Some(word.to_owned()))
            .collect();
    };
    let mut elements = Vec::new();
    let (mut element, mut quoted, mut inside) = (String::new(), false, false);
    let mut letters = inner.chars();
    loop {
        match letters.next() {
            Some('\\') => element.extend(letters.next()),
            Some('"') => (quoted, inside) = (true, !inside),
            Some(letter) if inside || letter != ',' => element.push(letter),
            end => {
                let element = std::mem::take(&mut element);
                let null = !quoted && element.eq_ignore_ascii_case("null");
                if end.is_some() || !inner.is_empty() {
                    elements.push((!null).then_some(element));
                }
                quoted = false;
                if end.is_none() {
                    return elements;
                }
            }
        }
    }
}

/// An array's text.
pub(super) fn array_text(elements: &[Option<String>]) -> String {
    let plain = |text: &str| {
        !text.is_empty()
            && !text.eq_ignore_ascii_case("null")
            && !text.contains(|c: char| c.is_whitespace() || "{},\"\\".contains(c))
    };
    let written = elements.iter().map(|element| match element {
        None => "NULL".to_owned(),
        Some(text) if plain(text) => text.clone(),
        Some(text) => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
    });
    format!("{{{}}}", written.collect::<Vec<_>>().join(","))
}

/// A value as PostgreSQL prints it when it is made a text.
pub(super) fn printed(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::Integer(number) => Some(number.to_string()),
        Value::Real(number) => Some(number.to_string()), // 3310, not 3310.0
        Value::Text(text) => Some(text.clone()),
        Value::Blob(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
    }
}

/// What a statement fails with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SqlError {
    pub(super) code: &'static str,
    pub(super) message: String,
    /// Where in the text, in characters from 1.
    pub(super) position: Option<usize>,
}

impl SqlError {
    pub(super) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            position: None,
        }
    }

    /// With the place of the byte `offset` of `sql`.
    pub(super) fn at(self, sql: &str, offset: usize) -> Self {
        let before = sql.get(..offset).unwrap_or(sql);
        Self {
            position: Some(before.chars().count() + 1),
            ..self
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
        info.position = self.position.map(|position| position.to_string());
        info
    }

    /// What only SQLite finds out.
    pub(super) fn unforeseen(error: &rusqlite::Error) -> Self {
        Self::not_done(&format!("this ({error})"))
    }

    /// Where the simulator ends.
    pub(super) fn not_done(what: &str) -> Self {
        Self::new("0A000", format!("the demo's Hologres does not do {what}"))
    }
}

impl From<SqlError> for PgWireError {
    fn from(error: SqlError) -> Self {
        Self::UserError(Box::new(error.reported("ERROR")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_have_their_names() {
        for (text, name) in [
            ("pg_catalog.\"char\"[]", "\"char\"[]"),
            ("INT", "integer"),
            ("character varying(20)", "character varying"),
            ("timestamp(3) with time zone", "timestamp with time zone"),
            ("pg_catalog.name", "name"),
            ("\"regclass\"", "regclass"),
            ("char(2)", "character"),
        ] {
            assert_eq!(type_name(&type_named(text).unwrap()), name, "{text}");
        }
        assert_eq!(type_named("nope"), None);
    }

    #[test]
    fn arrays_are_read_and_written() {
        for text in ["{}", "{a,NULL,\"NULL\",\"b c\",\"\",\"\\\"\"}", "{1,2}"] {
            assert_eq!(array_text(&elements(text)), text);
        }
        assert_eq!(
            elements("1 2"),
            [Some("1".to_owned()), Some("2".to_owned())]
        );
    }
}
