//! What a text in PL/pgSQL may touch when it runs.
//!
//! Such a text is SQL among words of its own, in which any expression is a query without its SELECT
//! (`RETURN count(*) FROM t`); so no walk through its grammar is tried: whatever stands where only a
//! relation can stand, or where one cannot be told from a column, counts. Variables, labels, types
//! and comments do not stand there, and strings matter only in a text that runs text.

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
/// text or calls a function that may.
pub(super) fn read_do<'a>(body: &'a [u8], backslash: Backslash, analysis: &mut Analysis<'a>) {
    let calls = analysis.calls.len();
    let strings = analysis.in_strings.len();
    let changes = analysis.changes.len();
    read(body, backslash, analysis);
    // Whether it comes to one of them, and in which order, is not known.
    analysis.changes.truncate(changes);
    if !analysis.runs_text && analysis.calls.len() == calls {
        analysis.in_strings.truncate(strings);
    }
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
    // A comma parts relations only behind what begins a list of them.
    let mut listing = false;
    let mut merging = false;
    let mut index = 0;
    while index < statement.len() {
        let keyword = statement.keyword(index);
        merging |= keyword == K::Merge;
        listing |= begins_list(keyword);
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
        match place(statement, index, listing, merging) {
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
        let is_target = place(statement, index, listing, merging) == Place::Written;
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

fn place(statement: &Statement<'_, '_>, index: usize, listing: bool, merging: bool) -> Place {
    let mut before = index;
    while before > 0 && statement.bytes(before - 1) == b"(" {
        before -= 1;
    }
    let Some(before) = before.checked_sub(1) else {
        return Place::Neither;
    };
    if statement.kind(before) == Some(Kind::Comma) {
        return if listing { Place::Read } else { Place::Neither };
    }
    match statement.keyword(before) {
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
