//! Names of relations and functions as a text writes them, and where such a name begins and ends
//! among the tokens.

use std::borrow::Cow;

use super::keyword::Keyword;
use super::lexer::Kind;
use super::token::Statement;

/// A relation's or function's name as the text writes it, folded as PostgreSQL folds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RelationName<'a> {
    /// The first part of a three-part name: the database, or a Hologres external database.
    pub(crate) database: Option<Cow<'a, [u8]>>,
    pub(crate) schema: Option<Cow<'a, [u8]>>,
    pub(crate) name: Cow<'a, [u8]>,
    /// True for `ONLY name`, which leaves out the relations that inherit from it.
    pub(crate) only: bool,
}

/// A name that is remembered for longer than its text: the schema, if it is written, and the name,
/// both folded.
pub type WrittenName = (Option<String>, String);

/// The name as people read it.
pub(crate) fn qualified((schema, name): &WrittenName) -> String {
    match schema {
        Some(schema) => format!("{schema}.{name}"),
        None => name.clone(),
    }
}

/// The text of a statement that calls this function with these strings.
pub(crate) fn call_with<'v>(
    (schema, name): &WrittenName,
    values: impl Iterator<Item = &'v [u8]>,
) -> Vec<u8> {
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let mut text = b"SELECT ".to_vec();
    if let Some(schema) = schema {
        text.extend_from_slice(quoted(schema).as_bytes());
        text.push(b'.');
    }
    text.extend_from_slice(quoted(name).as_bytes());
    let mut before = b'(';
    for value in values {
        text.extend_from_slice(&[before, b'\'']);
        for byte in value {
            text.extend(std::iter::repeat_n(*byte, 1 + usize::from(*byte == b'\'')));
        }
        text.push(b'\'');
        before = b',';
    }
    text.push(b')');
    text
}

impl RelationName<'_> {
    /// The same name, apart from its text.
    pub(super) fn into_owned<'b>(self) -> RelationName<'b> {
        let owned = |part: Cow<'_, [u8]>| Cow::Owned(part.into_owned());
        RelationName {
            database: self.database.map(owned),
            schema: self.schema.map(owned),
            name: owned(self.name),
            only: self.only,
        }
    }

    /// The name as it is remembered. What is not UTF-8 in it is replaced.
    pub(crate) fn written(&self) -> WrittenName {
        let text = |part: &[u8]| String::from_utf8_lossy(part).into_owned();
        (self.schema.as_deref().map(text), text(&self.name))
    }
}

/// The token that is the last part of the dotted name that begins at `first`.
pub(super) fn last_part(statement: &Statement<'_, '_>, first: usize) -> usize {
    let mut last = first;
    while statement.kind(last + 1) == Some(Kind::Dot) && statement.is_name(last + 2) {
        last += 2;
    }
    last
}

/// True if `ONLY` or `ONLY (` stands before the name at `first`.
fn is_only(statement: &Statement<'_, '_>, mut first: usize) -> bool {
    while first > 0 && statement.is_open(first - 1) {
        first -= 1;
    }
    first > 0 && statement.keyword(first - 1) == Keyword::Only
}

/// The name that stands from the token `first` to the token `last`; of one that has more than three
/// parts, the last three.
pub(super) fn relation_name<'a>(
    statement: &Statement<'_, 'a>,
    first: usize,
    last: usize,
) -> Option<RelationName<'a>> {
    let part = |back: usize| {
        let index = last.checked_sub(back)?;
        (index >= first).then(|| statement.folded(index))
    };
    Some(RelationName {
        name: part(0)?,
        schema: part(2),
        database: part(4),
        only: is_only(statement, first),
    })
}
