//! CREATE, ALTER and DROP: whether the object is one that matters to names, and where a name leads
//! once the statement has succeeded.

use super::analysis::{Analysis, Made, MadeFrom};
use super::change::Change;
use super::effects::Effects;
use super::keyword::Keyword as K;
use super::lexer::Kind;
use super::mention::{mention_all, mention_strings};
use super::plpgsql;
use super::query::{execute, leaves_empty, query};
use super::quoting::string_body;
use super::relation_name::{RelationName, WrittenName, last_part, relation_name};
use super::token::{Script, Statement};

/// Reads CREATE or ALTER, which begins at `start`. All that the statement itself reads is a query
/// behind AS. The query of a view, and what rules and functions do, is stored with the object and
/// read when that is used.
pub(super) fn define<'a>(statement: &Statement<'_, 'a>, start: usize, analysis: &mut Analysis<'a>) {
    let object = (start + 1..statement.len())
        .find(|index| !is_modifier(statement, *index))
        .unwrap_or(statement.len());
    let modifiers = start + 1..object;
    let is_temporary = |index| matches!(statement.keyword(index), K::Temp | K::Temporary);
    let temporary = modifiers.clone().any(is_temporary) || in_temporary_schema(statement, object);
    let materialized = modifiers
        .clone()
        .any(|index| statement.keyword(index) == K::Materialized);
    let is_view = statement.keyword(object) == K::View && !materialized;
    if takes_rows(statement, start, object, materialized) {
        analysis.add(Effects::UNDONE_WHOLE);
    } else if !(temporary && is_view) {
        // A temporary view is no more than a name of the session's for what it reads.
        analysis.add(Effects::WRITES);
    }
    if temporary {
        analysis.add(Effects::CHANGES_NAMES);
    } else if !is_beside_relations(statement.keyword(object)) {
        analysis.add(Effects::CHANGES_CATALOG);
    }
    if !is_followed(statement, start, object) {
        analysis.changes.push(Change::Relations);
    }
    let foreign = modifiers
        .clone()
        .any(|index| statement.is_word(index, "foreign"));
    if statement.keyword(start) == K::Alter {
        alter(statement, object, analysis);
    } else {
        let origin = match statement.keyword(object) {
            K::Table if foreign => MadeFrom::Project(project(statement)),
            // A materialized view leads nowhere by itself: it reads when it is refreshed.
            K::View | K::Function | K::Procedure | K::Rule => MadeFrom::Stored,
            _ => MadeFrom::Rows,
        };
        create(statement, object, temporary, origin, analysis);
    }
    match statement.keyword(object) {
        K::Function | K::Procedure | K::Routine | K::Rule | K::Do => {
            analysis.add(Effects::CALLS_UNKNOWN);
            if !read_body(statement, object, analysis) {
                mention_all(statement, true, &mut analysis.stored);
            }
            return;
        }
        _ => {}
    }
    if !is_view && !leaves_empty(statement) {
        return read_query(statement, object, analysis);
    }
    let mut stored = Analysis::default();
    read_query(statement, object, &mut stored);
    analysis.names.append(&mut stored.names);
    analysis.stored_reads.append(&mut stored.reads);
    for names in [stored.calls, stored.mentions, stored.in_strings] {
        analysis.stored.extend(names);
    }
}

/// Reads the body of a function that is made; false: it is none, or not in a language that is read.
fn read_body<'a>(
    statement: &Statement<'_, 'a>,
    object: usize,
    analysis: &mut Analysis<'a>,
) -> bool {
    let is_body = |index: &usize| {
        statement.keyword(index - 1) == K::As
            && matches!(
                statement.kind(*index),
                Some(Kind::String | Kind::DollarString)
            )
    };
    let tokens = object + 1..statement.len();
    let language = tokens
        .clone()
        .find(|index| statement.is_word(*index, "language"))
        .map(|index| statement.folded_text(index + 1));
    let (Some(body), Some(language)) = (tokens.clone().find(is_body), language) else {
        return false;
    };
    let text = string_body(statement.bytes(body));
    // A second string names a symbol; in one between quotes, quotes are doubled.
    let is_plain = statement.kind(body) == Some(Kind::DollarString)
        || memchr::memchr2(b'\'', b'\\', text).is_none();
    if statement.broken || !is_plain {
        return false;
    }
    let mut stored = Analysis::default();
    match language.as_str() {
        "plpgsql" => plpgsql::read(text, statement.backslash, &mut stored),
        "sql" => {
            for inner in Script::read(text, statement.backslash).statements() {
                mention_strings(&inner, &mut stored.in_strings);
                let is_query = matches!(inner.keyword(0), K::Select | K::With | K::Values);
                if is_query && !inner.broken {
                    query(&inner, 0, &mut stored);
                } else {
                    mention_all(&inner, false, &mut stored.mentions);
                }
            }
        }
        _ => return false,
    }
    // Its arguments are strings of whoever calls it.
    if stored.runs_text || !stored.calls.is_empty() {
        analysis.stored.append(&mut stored.in_strings);
    }
    for names in [
        stored.reads,
        stored.writes,
        stored.calls,
        stored.own_calls,
        stored.mentions,
    ] {
        analysis.stored.extend(names);
    }
    true
}

/// True if the text of a CREATE or ALTER names every relation that leads elsewhere by it.
fn is_followed(statement: &Statement<'_, '_>, start: usize, object: usize) -> bool {
    match statement.keyword(object) {
        K::Table | K::View => true,
        K::Schema => {
            let mut within = start + 1..statement.len();
            statement.keyword(start) == K::Create
                && !within.any(|index| statement.keyword(index) == K::Create)
        }
        kind => is_beside_relations(kind),
    }
}

/// True for CREATE TABLE AS and CREATE MATERIALIZED VIEW, which are filled as they are made. Other kinds
/// of tables have a query, too, and what their making leaves behind is not documented.
fn takes_rows(
    statement: &Statement<'_, '_>,
    start: usize,
    object: usize,
    materialized: bool,
) -> bool {
    let is_plain = |index| {
        let of_another_kind = ["foreign", "external", "dynamic", "replace"];
        !of_another_kind
            .iter()
            .any(|word| statement.is_word(index, word))
    };
    let made = match statement.keyword(object) {
        K::Table => !materialized && (start + 1..object).all(is_plain),
        K::View => materialized,
        _ => false,
    };
    made && statement.keyword(start) != K::Alter && query_behind_as(statement, object).is_some()
}

/// Where the query behind AS begins, or the EXECUTE there, if there is one.
fn query_behind_as(statement: &Statement<'_, '_>, object: usize) -> Option<usize> {
    let mut from = object;
    while let Some(behind) = statement.find_outside(from, K::As).map(|index| index + 1) {
        match statement.keyword(behind) {
            K::Select | K::With | K::Values | K::Table | K::Execute => return Some(behind),
            _ if statement.is_open(behind) => return Some(behind),
            _ => from = behind,
        }
    }
    None
}

/// The query behind AS, if there is one.
fn read_query<'a>(statement: &Statement<'_, 'a>, object: usize, analysis: &mut Analysis<'a>) {
    match query_behind_as(statement, object) {
        Some(behind) if statement.keyword(behind) == K::Execute => {
            execute(statement, behind + 1, analysis);
        }
        Some(behind) => query(statement, behind, analysis),
        None => {}
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

/// Where the name is behind the kind of object, `IF [NOT] EXISTS` and ONLY.
fn name_behind(statement: &Statement<'_, '_>, object: usize) -> usize {
    let mut name = object + 1;
    if statement.keyword(name) == K::If {
        name += if statement.keyword(name + 1) == K::Not {
            3
        } else {
            2
        };
    }
    name + usize::from(statement.keyword(name) == K::Only)
}

/// `TABLE [IF NOT EXISTS] pg_temp.name`
fn in_temporary_schema(statement: &Statement<'_, '_>, object: usize) -> bool {
    let name = name_behind(statement, object);
    statement.kind(name + 1) == Some(Kind::Dot) && *statement.folded(name) == *b"pg_temp"
}

/// `ON COMMIT DROP`
fn drops_on_commit(statement: &Statement<'_, '_>, object: usize) -> bool {
    (object..statement.len()).any(|index| {
        statement.is_word(index, "on")
            && statement.keyword(index + 1) == K::Commit
            && statement.keyword(index + 2) == K::Drop
    })
}

/// The name that begins at `first`.
fn name_at(statement: &Statement<'_, '_>, first: usize) -> Option<WrittenName> {
    let is_name = statement.is_name(first);
    let last = last_part(statement, first);
    let name = is_name.then(|| relation_name(statement, first, last))??;
    Some(name.written())
}

/// What CREATE makes.
fn create<'a>(
    statement: &Statement<'_, 'a>,
    object: usize,
    temporary: bool,
    origin: MadeFrom<'a>,
    analysis: &mut Analysis<'a>,
) {
    let mut name = name_behind(statement, object);
    match statement.keyword(object) {
        K::Table => {
            // A partition of, or a table that inherits from, another makes that one lead there,
            // too.
            for parent in name..statement.len() {
                let is_parent = statement.is_word(parent, "of")
                    && statement.is_word(parent - 1, "partition")
                    || statement.is_open(parent) && statement.is_word(parent - 1, "inherits");
                if is_parent && let MadeFrom::Project(project) = &origin {
                    analysis
                        .made
                        .extend(name_at(statement, parent + 1).map(|name| Made {
                            name,
                            temporary: false,
                            until_commit: false,
                            first: false,
                            origin: MadeFrom::Project(project.clone()),
                        }));
                }
            }
        }
        K::View | K::Function | K::Procedure => {}
        // In `RULE name AS ON event TO table`, it is the table whose use may run the rule.
        K::Rule => match statement.find_outside(name, K::To) {
            Some(to) => name = to + 1,
            None => return,
        },
        _ => return,
    }
    let name = name_at(statement, name);
    let is_new = statement.keyword(object + 1) != K::If;
    let hides = matches!(statement.keyword(object), K::Table | K::View);
    if let Some(name @ (Some(_), _)) = &name
        && is_new
        && hides
        && !temporary
    {
        // Of a table: if one was there before, this one could not be made.
        analysis.changes.push(Change::Replaced(name.clone()));
    }
    // A function hides no relation.
    let temporary = temporary && matches!(statement.keyword(object), K::Table | K::View);
    analysis.made.extend(name.map(|name| Made {
        first: is_new && hides && !temporary && name.0.is_none(),
        name,
        temporary,
        until_commit: temporary && drops_on_commit(statement, object),
        origin,
    }));
}

/// What ALTER makes lead elsewhere.
fn alter<'a>(statement: &Statement<'_, 'a>, object: usize, analysis: &mut Analysis<'a>) {
    let first = name_behind(statement, object);
    let last = last_part(statement, first);
    let relation = statement
        .is_name(first)
        .then(|| relation_name(statement, first, last))
        .flatten();
    let mut action = last + 1;
    match (statement.keyword(object), relation) {
        (K::Table | K::View, Some(relation)) => {
            while action < statement.len() {
                alter_relation(statement, action, &relation, analysis);
                action = next_action(statement, action);
            }
        }
        (K::Function | K::Procedure | K::Routine, _)
            if !(first..statement.len()).any(|index| moves_function(statement, index)) => {}
        (K::Schema, _) if !statement.is_word(action, "rename") => {}
        (K::Schema | K::Function | K::Procedure | K::Routine, _) => {
            analysis.changes.push(Change::AnyRelation);
        }
        _ => {}
    }
}

/// True if an ALTER FUNCTION whose action this word begins has the function, or what its body names, be found
/// elsewhere, or has its body choose the route.
fn moves_function(statement: &Statement<'_, '_>, index: usize) -> bool {
    let is_any = |index, words: &[&str]| words.iter().any(|word| statement.is_word(index, word));
    is_any(index, &["rename", "reset"])
        || statement.keyword(index) == K::Set
            && (statement.keyword(index + 1) == K::Schema
                || is_any(index + 1, &["search_path"])
                || statement.folded(index + 1).starts_with(b"hg_"))
}

/// Where the next of the actions begins that an ALTER has, which commas part.
fn next_action(statement: &Statement<'_, '_>, mut index: usize) -> usize {
    while index < statement.len() {
        if statement.kind(index) == Some(Kind::Comma) {
            return index + 1;
        }
        index = if statement.is_open(index) {
            statement.after(index)
        } else {
            index + 1
        };
    }
    index
}

/// What one action of an ALTER of a relation makes lead elsewhere.
fn alter_relation<'a>(
    statement: &Statement<'_, 'a>,
    action: usize,
    relation: &RelationName<'a>,
    analysis: &mut Analysis<'a>,
) {
    let renames = statement.is_word(action, "rename") && statement.keyword(action + 1) == K::To;
    let moves = statement.keyword(action) == K::Set && statement.keyword(action + 1) == K::Schema;
    let (schema, name) = relation.written();
    let was_in = schema.clone();
    let other = statement.folded_text(action + 2);
    let made = if renames {
        Some(((schema, other), MadeFrom::Like(relation.clone())))
    } else if moves {
        Some((
            (Some(other), name.clone()),
            MadeFrom::Like(relation.clone()),
        ))
    } else if statement.is_word(action, "attach") {
        let child = last_part(statement, action + 2);
        let child = relation_name(statement, action + 2, child);
        child.map(|child| ((schema, name.clone()), MadeFrom::Like(child)))
    } else if statement.is_word(action, "inherit") {
        let parent = name_at(statement, action + 1);
        parent.map(|parent| (parent, MadeFrom::Like(relation.clone())))
    } else if statement.is_word(action, "options") {
        let project = MadeFrom::Project(project(statement));
        Some(((schema, name.clone()), project))
    } else {
        None
    };
    analysis.made.extend(made.map(|(name, origin)| Made {
        first: renames && name.0.is_none(),
        name,
        temporary: false,
        until_commit: false,
        origin,
    }));
    if renames || moves {
        analysis.changes.push(Change::Dropped {
            name: (was_in, name),
            cascade: false,
        });
        // What was so called before, if anything, is no longer.
        let now = analysis.made.last().map(|made| made.name.clone());
        let now = now.filter(|(schema, _)| schema.is_some());
        analysis.changes.extend(now.map(Change::Replaced));
    }
}

/// What takes relations with it though it does not say CASCADE.
const KEEP_NOTHING: [&str; 2] = ["extension", "owned"];

/// Reads `DROP …`; `next` is the token behind the DROP.
pub(super) fn drop<'a>(statement: &Statement<'_, 'a>, next: usize, analysis: &mut Analysis<'a>) {
    analysis.add(Effects::WRITES);
    if is_beside_relations(statement.keyword(next)) {
        return;
    }
    analysis.add(Effects::CHANGES_CATALOG);
    let object = (next..statement.len())
        .find(|index| !is_modifier(statement, *index))
        .unwrap_or(statement.len());
    let cascade = statement.is_word(statement.len() - 1, "cascade");
    match statement.keyword(object) {
        K::Table | K::View => {}
        // Names mean what they meant, but for views that are gone with it.
        K::Function | K::Procedure | K::Routine | K::Trigger | K::Policy | K::Rule => {
            if cascade {
                analysis.changes.push(Change::MayDrop);
            }
            return;
        }
        _ if ["role", "user", "group", "aggregate"]
            .iter()
            .any(|word| statement.is_word(object, word)) =>
        {
            return;
        }
        // A schema that is not empty stays, and so does what another object depends on.
        _ if !cascade
            && !KEEP_NOTHING
                .iter()
                .any(|word| statement.is_word(object, word)) =>
        {
            return;
        }
        _ => {
            analysis.changes.push(Change::AnyRelation);
            return;
        }
    }
    let mut index = name_behind(statement, object);
    while statement.is_name(index) {
        let name = name_at(statement, index);
        let dropped = name.map(|name| Change::Dropped { name, cascade });
        analysis.changes.extend(dropped);
        index = last_part(statement, index);
        if statement.kind(index + 1) != Some(Kind::Comma) {
            return;
        }
        index += 2;
    }
}

/// Reads `IMPORT FOREIGN SCHEMA project LIMIT TO (name, …) FROM SERVER server INTO schema [OPTIONS
/// (prefix 'p', suffix 's')]`; `next` is the token behind the IMPORT.
pub(super) fn import<'a>(statement: &Statement<'_, 'a>, next: usize, analysis: &mut Analysis<'a>) {
    let project = statement
        .is_name(next + 2)
        .then(|| statement.folded_text(next + 2));
    let into = statement.find_outside(next, K::Into);
    let schema = into.map(|into| statement.folded_text(into + 1));
    let Some(limit) = statement.find_outside(next, K::Limit) else {
        analysis.changes.push(Change::Relations);
        return;
    };
    let [prefix, suffix] =
        ["prefix", "suffix"].map(|name| option(statement, name).unwrap_or_default());
    let names = limit + 2..statement.after(limit + 2);
    for name in names.filter(|index| statement.is_name(*index)) {
        let name = statement.folded_text(name);
        analysis.made.push(Made {
            name: (schema.clone(), format!("{prefix}{name}{suffix}")),
            temporary: false,
            until_commit: false,
            first: false,
            origin: MadeFrom::Project(project.clone()),
        });
    }
}

/// The `project_name` among the options of a foreign table.
fn project(statement: &Statement<'_, '_>) -> Option<String> {
    option(statement, "project_name")
}

/// The value of an option (`OPTIONS (name 'value')`): a name of which a string is the next word.
fn option(statement: &Statement<'_, '_>, name: &str) -> Option<String> {
    let is_string = |index| {
        matches!(
            statement.kind(index),
            Some(Kind::String | Kind::EscapeString)
        )
    };
    let mut all = 0..statement.len();
    let at = all.find(|index| {
        statement.is_name(*index)
            && *statement.folded(*index) == *name.as_bytes()
            && is_string(index + 1)
    })?;
    let value = string_body(statement.bytes(at + 1));
    String::from_utf8(value.to_vec()).ok()
}

/// True for the kinds of object whose DDL changes nothing about where relations lead.
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
    )
}
