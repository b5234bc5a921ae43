//! What is said of a text that cannot be read exactly: every identifier in it, and in strings that
//! may be run, is taken for the name of a relation that is read. That errs on the safe side.

use std::borrow::Cow;

use super::lexer::Kind;
use super::lexing::Backslash;
use super::quoting::{string_body, unescape};
use super::relation_name::{RelationName, last_part, relation_name};
use super::token::{Script, Statement};

/// How deep strings inside strings are read: a DO body, the text that it runs, a text in that.
const MAX_QUOTING: usize = 3;

/// A string of more bytes is no name: PostgreSQL cuts one at 63, but not where it is quoted by a function.
const LONGEST_NAME: usize = 256;

/// Adds every identifier of the statement, and with `in_strings` those in its strings.
pub(super) fn mention_all<'a>(
    statement: &Statement<'_, 'a>,
    in_strings: bool,
    mentions: &mut Vec<RelationName<'a>>,
) {
    mention_names(statement, mentions);
    if in_strings {
        mention_strings(statement, mentions);
    }
}

fn mention_names<'a>(statement: &Statement<'_, 'a>, mentions: &mut Vec<RelationName<'a>>) {
    let mut index = 0;
    while index < statement.len() {
        if statement.is_name(index) && !is_bare_keyword(statement, index) {
            let last = last_part(statement, index);
            // `schema.table`, but also `table.column`: each part counts.
            mentions.extend(relation_name(statement, index, last));
            for part in (index..last).step_by(2) {
                mentions.push(RelationName {
                    database: None,
                    schema: None,
                    only: false,
                    name: statement.folded(part),
                });
            }
            index = last;
        }
        index += 1;
    }
}

/// A reserved word names something only between quotes or behind a dot.
fn is_bare_keyword(statement: &Statement<'_, '_>, index: usize) -> bool {
    let behind_dot = index > 0 && statement.kind(index - 1) == Some(Kind::Dot);
    statement.keyword(index).is_reserved() && !behind_dot
}

/// Adds every identifier in the strings of a statement, and in the strings within those.
pub(super) fn mention_strings<'a>(
    statement: &Statement<'_, 'a>,
    mentions: &mut Vec<RelationName<'a>>,
) {
    let mut texts = strings_of(statement);
    for _ in 0..MAX_QUOTING {
        let mut inner = Vec::new();
        for text in texts {
            let (before, whole) = (mentions.len(), text.clone());
            match text {
                Cow::Borrowed(text) => {
                    inner.extend(mention_text(text, statement.backslash, mentions));
                }
                Cow::Owned(text) => {
                    let mut names = Vec::new();
                    let strings = mention_text(&text, statement.backslash, &mut names);
                    let owned = |text: Cow<'_, [u8]>| Cow::Owned(text.into_owned());
                    inner.extend(strings.into_iter().map(owned));
                    mentions.extend(names.into_iter().map(RelationName::into_owned));
                }
            }
            // `format('… %I', 'Mixed Case')`, `quote_ident('order')`.
            let is_it = |name: &RelationName<'_>| name.schema.is_none() && name.name == whole;
            if whole.len() <= LONGEST_NAME && !mentions[before..].iter().any(is_it) {
                mentions.push(RelationName {
                    database: None,
                    schema: None,
                    only: false,
                    name: whole,
                });
            }
        }
        texts = inner;
    }
}

/// Adds every identifier of a text that may be run. The answer is what is in its strings.
fn mention_text<'a>(
    text: &'a [u8],
    backslash: Backslash,
    mentions: &mut Vec<RelationName<'a>>,
) -> Vec<Cow<'a, [u8]>> {
    let script = Script::read(text, backslash);
    let mut strings = Vec::new();
    for statement in script.statements() {
        mention_names(&statement, mentions);
        strings.extend(strings_of(&statement));
    }
    strings
}

/// What is in the strings of a statement: as it is written, and where a backslash escapes
/// something, without it, too.
fn strings_of<'a>(statement: &Statement<'_, 'a>) -> Vec<Cow<'a, [u8]>> {
    let mut strings = Vec::new();
    for index in 0..statement.len() {
        let body = match statement.kind(index) {
            Some(Kind::String | Kind::EscapeString | Kind::DollarString) => {
                string_body(statement.bytes(index))
            }
            _ => continue,
        };
        strings.push(Cow::Borrowed(body));
        if statement.kind(index) == Some(Kind::EscapeString) {
            strings.extend(unescape(body).map(Cow::Owned));
        }
    }
    strings
}
