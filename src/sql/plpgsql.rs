//! What a text in PL/pgSQL may touch when it runs.
//!
//! Such a text is SQL among words of its own, in which any expression is a query without its SELECT
//! (`RETURN count(*) FROM t`); so no walk through its grammar is tried: whatever stands where only a
//! relation can stand, or where one cannot be told from a column, counts. Variables, labels, types
//! and comments do not stand there, and strings matter only in a text that runs text.

use std::borrow::Cow;

use super::analysis::Analysis;
use super::effects::Effects;
use super::function;
use super::keyword::{Keyword as K, READING_NO_RELATION};
use super::lexer::Kind;
use super::lexing::Backslash;
use super::mention::{mention_all, mention_strings};
use super::relation_name::{last_part, relation_name};
use super::setting;
use super::token::{Script, Statement};

/// Adds what the body of a DO may do. It has no arguments, so its strings matter only if it runs
/// text or calls a function that may. True if it may change something for its session that its calls do
/// not.
pub(super) fn read_do<'a>(
    body: &'a [u8],
    backslash: Backslash,
    analysis: &mut Analysis<'a>,
) -> bool {
    let calls = analysis.calls.len();
    let strings = analysis.in_strings.len();
    let changes = analysis.changes.len();
    let mentions = analysis.mentions.len();
    read(body, backslash, analysis);
    // Whether it comes to one of them, and in which order, is not known.
    let changes_something = analysis.runs_text || analysis.changes.len() > changes;
    analysis.changes.truncate(changes);
    if !analysis.runs_text && analysis.calls.len() == calls {
        analysis.in_strings.truncate(strings);
        let is_broken = Script::read(body, backslash)
            .statements()
            .any(|statement| statement.broken);
        if !(changes_something || is_broken) {
            // Nothing is between that makes a name mean anything else.
            let read = analysis.mentions.split_off(mentions);
            analysis.reads.extend(read);
        }
    }
    changes_something
}

/// Adds what the body of a function may do.
pub(super) fn read<'a>(text: &'a [u8], backslash: Backslash, analysis: &mut Analysis<'a>) {
    for statement in Script::read(text, backslash).statements() {
        mention_strings(&statement, &mut analysis.in_strings);
        if statement.broken {
            mention_all(&statement, false, &mut analysis.mentions);
        }
        read_chunk(&statement, analysis);
    }
}

/// What stands between two semicolons.
fn read_chunk<'a>(statement: &Statement<'_, 'a>, analysis: &mut Analysis<'a>) {
    let hidden = table_expressions(statement);
    let mut levels = vec![Level::default()];
    let mut merging = false;
    let mut index = 0;
    while index < statement.len() {
        let keyword = statement.keyword(index);
        merging |= keyword == K::Merge;
        if statement.is_open(index) {
            levels.push(Level {
                lists: false,
                arguments: are_arguments(statement, index),
            });
        } else if statement.bytes(index) == b")" && levels.len() > 1 {
            levels.pop();
        }
        if let Some(level) = levels.last_mut() {
            level.lists = (level.lists || begins_list(keyword)) && !ends_list(keyword);
        }
        if keyword == K::Execute {
            analysis.runs_text = true;
        }
        if keyword == K::Set && sets_a_setting(statement, index) {
            setting::set(statement, index + 1, analysis);
        } else if keyword == K::Reset {
            setting::reset(statement, index + 1, analysis);
        }
        if changes(keyword) || is_other_change(statement, index) {
            analysis.add(Effects::WRITES);
        }
        if !statement.is_name(index) {
            index += 1;
            continue;
        }
        let last = last_part(statement, index);
        let is_hidden = last == index
            && hidden
                .iter()
                .any(|(name, from)| index >= *from && *name == statement.folded(index));
        let place = if is_hidden {
            Place::Neither
        } else {
            place(statement, index, &levels, merging)
        };
        match place {
            Place::Read => analysis
                .mentions
                .extend(relation_name(statement, index, last)),
            Place::Written => analysis
                .writes
                .extend(relation_name(statement, index, last)),
            Place::Both => {
                let name = relation_name(statement, index, last);
                analysis.writes.extend(name.clone());
                analysis.mentions.extend(name);
            }
            Place::Neither => {}
        }
        let is_target = place == Place::Written;
        if statement.bytes(last + 1) == b"(" && !is_target && !is_plpgsql_word(statement, last) {
            function::call(statement, last, analysis);
        }
        index = last + 1;
    }
}

/// What a name is, by what stands before it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Read,
    Written,
    Both,
    Neither,
}

fn place(statement: &Statement<'_, '_>, index: usize, levels: &[Level], merging: bool) -> Place {
    let mut before = index;
    while before > 0 && statement.bytes(before - 1) == b"(" {
        before -= 1;
    }
    // The brackets that stand between do not count.
    let level = levels.len().checked_sub(index - before + 1);
    let level = level.and_then(|level| levels.get(level));
    let level = level.copied().unwrap_or_default();
    let Some(before) = before.checked_sub(1) else {
        return Place::Neither;
    };
    if statement.kind(before) == Some(Kind::Comma) {
        return if level.lists {
            Place::Read
        } else {
            Place::Neither
        };
    }
    match statement.keyword(before) {
        // `extract(year FROM a)`, `a IS DISTINCT FROM b`
        K::From if level.arguments => Place::Neither,
        K::From if before > 1 && is_distinct_from(statement, before) => Place::Neither,
        K::Into if merging => Place::Both,
        K::Into | K::Overwrite => Place::Written,
        K::Update | K::View | K::Table | K::Only => Place::Both,
        K::From if before > 0 && statement.keyword(before - 1) == K::Delete => Place::Both,
        K::From
        | K::Join
        | K::Using
        | K::Lateral
        | K::Copy
        | K::Analyze
        | K::Analyse
        | K::Vacuum
        | K::Verbose => Place::Read,
        _ if statement.is_word(before, "concurrently") => Place::Both,
        _ if statement.is_word(before, "full") || statement.is_word(before, "freeze") => {
            Place::Read
        }
        _ => Place::Neither,
    }
}

/// What stands between two brackets, or outside all of them.
#[derive(Debug, Clone, Copy, Default)]
struct Level {
    /// A comma parts relations here: it stands behind what begins a list of them.
    lists: bool,
    /// They are the arguments of a function, which may have words between them.
    arguments: bool,
}

/// True if what stands in this bracket are arguments and no query.
fn are_arguments(statement: &Statement<'_, '_>, open: usize) -> bool {
    let is_query = matches!(
        statement.keyword(open + 1),
        K::Select | K::With | K::Values | K::Table
    );
    let is_called =
        open > 0 && (statement.is_name(open - 1) && !statement.keyword(open - 1).is_reserved());
    is_called && !is_query && !statement.is_open(open + 1)
}

/// `IS [NOT] DISTINCT FROM`
fn is_distinct_from(statement: &Statement<'_, '_>, from: usize) -> bool {
    let behind_is = |index: usize| index > 0 && statement.is_word(index - 1, "is");
    statement.is_word(from - 1, "distinct")
        && (behind_is(from - 1) || statement.keyword(from - 2) == K::Not && behind_is(from - 2))
}

/// The table expressions of a statement that begins with WITH, or has one: their names, and from where on
/// each hides a relation.
fn table_expressions<'a>(statement: &Statement<'_, 'a>) -> Vec<(Cow<'a, [u8]>, usize)> {
    let mut found = Vec::new();
    let has_with = (0..statement.len()).any(|index| statement.keyword(index) == K::With);
    for index in (1..statement.len()).filter(|_| has_with) {
        let mut open = index + 1;
        if statement.keyword(index) != K::As {
            continue;
        }
        if statement.keyword(open) == K::Not {
            open += 1;
        }
        if statement.keyword(open) == K::Materialized {
            open += 1;
        }
        let is_query = matches!(
            statement.keyword(open + 1),
            K::Select | K::With | K::Values | K::Table | K::Insert | K::Update | K::Delete
        );
        let begins = index > 1
            && (matches!(statement.keyword(index - 2), K::With | K::Recursive)
                || statement.kind(index - 2) == Some(Kind::Comma));
        if begins && statement.is_open(open) && is_query && statement.is_name(index - 1) {
            found.push((statement.folded(index - 1), statement.after(open)));
        }
    }
    found
}

/// Words behind which no list of relations goes on.
fn ends_list(keyword: K) -> bool {
    matches!(
        keyword,
        K::Where
            | K::Group
            | K::Order
            | K::Having
            | K::Limit
            | K::Offset
            | K::Fetch
            | K::Set
            | K::Select
            | K::Values
            | K::Returning
            | K::Window
            | K::Union
            | K::Intersect
            | K::Except
            | K::Into
    )
}

/// Words behind which relations may stand in a list.
fn begins_list(keyword: K) -> bool {
    matches!(
        keyword,
        K::From | K::Using | K::Join | K::Update | K::Analyze | K::Analyse | K::Vacuum | K::Table
    )
}

/// True if what stands at a SET is not what UPDATE or ALTER sets.
fn sets_a_setting(statement: &Statement<'_, '_>, set: usize) -> bool {
    let of_another = |index| matches!(statement.keyword(index), K::Update | K::Alter | K::Create);
    !(0..set).any(of_another)
}

/// Words of which one makes a body more than a reading one, wherever it stands.
fn changes(keyword: K) -> bool {
    matches!(
        keyword,
        K::Insert
            | K::Update
            | K::Delete
            | K::Merge
            | K::Truncate
            | K::Create
            | K::Alter
            | K::Drop
            | K::Copy
            | K::Call
            | K::Set
            | K::Reset
            | K::Grant
            | K::Revoke
            | K::Comment
            | K::Lock
            | K::Refresh
            | K::Import
            | K::Execute
            | K::Do
            | K::Commit
            | K::Rollback
            | K::Vacuum
            | K::Analyze
            | K::Analyse
            | K::Discard
            | K::Prepare
            | K::Share
            | K::Deallocate
    )
}

fn is_other_change(statement: &Statement<'_, '_>, index: usize) -> bool {
    READING_NO_RELATION
        .iter()
        .any(|word| statement.is_word(index, word))
}

/// Words of PL/pgSQL behind which a parenthesis may stand.
fn is_plpgsql_word(statement: &Statement<'_, '_>, index: usize) -> bool {
    [
        "assert", "call", "cursor", "elseif", "elsif", "execute", "exit", "loop", "next",
        "perform", "query", "return", "strict", "while",
    ]
    .iter()
    .any(|word| statement.is_word(index, word))
}
