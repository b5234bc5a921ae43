//! CREATE and ALTER, and which objects matter.

use super::Analysis;
use super::keyword::Keyword as K;
use super::lexer::Kind;
use super::mention::mention_all;
use super::statement::{execute, leaves_empty, query};
use super::token::Statement;
use crate::protection::Effects;

/// CREATE and ALTER. The only part that reads is a query behind AS; that of a view, and what rules and
/// functions do, is stored and read when it is used.
pub(super) fn define<'a>(statement: &Statement<'_, 'a>, start: usize, analysis: &mut Analysis<'a>) {
    analysis.add(Effects::WRITES);
    let object = (start + 1..statement.len())
        .find(|index| !is_modifier(statement, *index))
        .unwrap_or(statement.len());
    let modifiers = start + 1..object;
    let is_temporary = |index| matches!(statement.keyword(index), K::Temp | K::Temporary);
    let temporary = modifiers.clone().any(is_temporary) || in_temporary_schema(statement, object);
    if temporary {
        analysis.add(Effects::CHANGES_NAMES);
    } else if !is_beside_relations(statement.keyword(object)) {
        analysis.add(Effects::CHANGES_CATALOG);
    }
    match statement.keyword(object) {
        K::Function | K::Procedure | K::Routine | K::Rule | K::Do => {
            analysis.add(Effects::CALLS_UNKNOWN);
            return mention_all(statement, true, &mut analysis.stored);
        }
        _ => {}
    }
    let materialized = modifiers
        .clone()
        .any(|index| statement.keyword(index) == K::Materialized);
    let is_view = statement.keyword(object) == K::View && !materialized;
    if !is_view && !leaves_empty(statement) {
        return read_query(statement, object, analysis);
    }
    let mut stored = Analysis::default();
    read_query(statement, object, &mut stored);
    analysis.names.append(&mut stored.names);
    for names in [
        stored.reads,
        stored.calls,
        stored.mentions,
        stored.in_strings,
    ] {
        analysis.stored.extend(names);
    }
}

/// The query behind AS, if there is one.
fn read_query<'a>(statement: &Statement<'_, 'a>, object: usize, analysis: &mut Analysis<'a>) {
    let mut from = object;
    while let Some(behind) = statement.find_outside(from, K::As).map(|index| index + 1) {
        match statement.keyword(behind) {
            K::Select | K::With | K::Values | K::Table => {
                return query(statement, behind, analysis);
            }
            K::Execute => return execute(statement, behind + 1, analysis),
            _ if statement.is_open(behind) => return query(statement, behind, analysis),
            _ => from = behind,
        }
    }
}

/// Words between CREATE or ALTER and the kind of object.
fn is_modifier(statement: &Statement<'_, '_>, index: usize) -> bool {
    matches!(
        statement.keyword(index),
        K::Or | K::Temp | K::Temporary | K::Local | K::Unlogged
    ) || matches!(
        statement.keyword(index),
        K::Recursive | K::Materialized | K::Default
    ) || [
        "replace",
        "global",
        "foreign",
        "external",
        "dynamic",
        "unique",
        "constraint",
        "event",
    ]
    .iter()
    .any(|word| statement.is_word(index, word))
}

/// `TABLE [IF NOT EXISTS] pg_temp.name`
fn in_temporary_schema(statement: &Statement<'_, '_>, object: usize) -> bool {
    let mut name = object + 1;
    if statement.keyword(name) == K::If {
        name += 3;
    }
    statement.kind(name + 1) == Some(Kind::Dot) && *statement.folded(name) == *b"pg_temp"
}

/// Kinds of object whose DDL changes nothing about which relation leads where.
pub(super) fn is_beside_relations(object: K) -> bool {
    matches!(
        object,
        K::Index
            | K::Sequence
            | K::Type
            | K::Statistics
            | K::Publication
            | K::Subscription
            | K::Tablespace
            | K::Policy
            | K::Trigger
    )
}
