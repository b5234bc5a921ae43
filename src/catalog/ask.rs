//! Who answers the questions of a reading: the service account's connection, or a borrowed session.
//! Both are asked by simple queries, whose answers are texts.

use tokio_postgres::{Client, SimpleQueryMessage};

use super::error::ReadError;

/// One row of an answer: each column's text, `None` for NULL.
pub(crate) type Row = Vec<Option<String>>;

/// Somebody who can run a statement.
pub(crate) trait Ask {
    /// The rows that one statement returns.
    async fn ask(&mut self, statement: &str) -> Result<Vec<Row>, Unanswered>;
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Unanswered {
    /// The server says that what this statement asks for is not there, or not for who asks.
    None(ReadError),
    /// The server answered with another error.
    Refused(ReadError),
    /// Nothing more can be asked.
    Broken(ReadError),
}

impl Unanswered {
    /// What an ErrorResponse says.
    pub(crate) fn said(sqlstate: &str, message: &str) -> Self {
        let error = ReadError::said(sqlstate, message);
        if ReadError::means_none(sqlstate) {
            Self::None(error)
        } else {
            Self::Refused(error)
        }
    }
}

impl From<Unanswered> for ReadError {
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            Unanswered::None(error) | Unanswered::Refused(error) | Unanswered::Broken(error) => {
                error
            }
        }
    }
}

/// The service account's connection.
pub(super) struct Account<'a>(pub(super) &'a Client);

impl Ask for Account<'_> {
    async fn ask(&mut self, statement: &str) -> Result<Vec<Row>, Unanswered> {
        let messages =
            self.0
                .simple_query(statement)
                .await
                .map_err(|error| match error.as_db_error() {
                    Some(said) => Unanswered::said(said.code().code(), said.message()),
                    None => Unanswered::Broken(ReadError::from(&error)),
                })?;
        let rows = messages.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(
                (0..row.len())
                    .map(|column| row.get(column).map(ToOwned::to_owned))
                    .collect(),
            ),
            _ => None,
        });
        Ok(rows.collect())
    }
}

/// The elements of an array of texts, as PostgreSQL prints it; what is not one has none.
pub(super) fn elements(array: &str) -> Vec<String> {
    let mut elements = Vec::new();
    let Some(inner) = array
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'))
    else {
        return elements;
    };
    let mut element = String::new();
    let mut quoted = false;
    let mut characters = inner.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => quoted = !quoted,
            '\\' => element.extend(characters.next()),
            ',' if !quoted => elements.push(std::mem::take(&mut element)),
            other => element.push(other),
        }
    }
    if !inner.is_empty() {
        elements.push(element);
    }
    elements
}

/// An SQL literal, whatever `standard_conforming_strings` says.
pub(super) fn literal(text: &str) -> String {
    let doubled = text.replace('\\', r"\\").replace('\'', "''");
    let escapes = if doubled.contains('\\') { " E" } else { "" };
    format!("{escapes}'{doubled}'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_are_read_as_postgresql_prints_them() {
        let read = |array| elements(array).join("|");
        assert_eq!(
            read(r#"{project_name=a,"table_name=x \"y\", {z}","back\\slash"}"#),
            r#"project_name=a|table_name=x "y", {z}|back\slash"#
        );
        assert_eq!(read("{}"), "");
        assert_eq!(elements("{}").len(), 0);
        assert_eq!(elements(r#"{""}"#), [""]);
        assert_eq!(elements("not an array").len(), 0);
    }

    #[test]
    fn literals_end_where_they_should() {
        assert_eq!(literal("odps_server"), "'odps_server'");
        assert_eq!(literal("o'dps"), "'o''dps'");
        assert_eq!(literal(r"o\'dps"), r" E'o\\''dps'");
    }
}
