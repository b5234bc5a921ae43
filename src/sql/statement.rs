//! What kind of statement a text holds, and what that kind does to its session.

use super::analysis::Analysis;
use super::change::Change;
use super::definition::{define, drop, import};
use super::effects::{Effects, NameUse};
use super::keyword::{Keyword as K, READING_NO_RELATION, may_hold};
use super::lexer::Kind;
use super::mention::{mention_all, mention_strings};
use super::plpgsql;
use super::query::{execute, leaves_empty, query, query_in};
use super::quoting::string_body;
use super::relation_name::{RelationName, last_part, relation_name};
use super::relations::walk;
use super::setting;
use super::token::Statement;

/// Adds to `analysis` what one statement does and touches.
pub(super) fn classify<'a>(statement: &Statement<'_, 'a>, analysis: &mut Analysis<'a>) {
    if statement.keyword(0) == K::Explain {
        explain(statement, analysis);
    } else {
        classify_from(statement, 0, analysis);
    }
}

/// `EXPLAIN [ANALYZE] [VERBOSE] …`, `EXPLAIN (ANALYZE, …) …`: without ANALYZE nothing is run.
fn explain<'a>(statement: &Statement<'_, 'a>, analysis: &mut Analysis<'a>) {
    let mut index = 1;
    let mut analyze = false;
    if statement.is_open(1) && !matches!(statement.keyword(2), K::Select | K::With | K::Values) {
        let end = statement.after(1);
        for option in 2..end {
            if matches!(statement.keyword(option), K::Analyze | K::Analyse) {
                analyze |= !is_off(statement, option + 1);
            }
        }
        index = end;
    }
    while matches!(
        statement.keyword(index),
        K::Analyze | K::Analyse | K::Verbose
    ) {
        analyze |= statement.keyword(index) != K::Verbose;
        index += 1;
    }
    let before = analysis.effects;
    classify_from(statement, index, analysis);
    if !analyze {
        analysis.changes.clear();
        analysis.made.clear();
        // Planning may run functions whose calls it takes for constants.
        let kept = Effects::CALLS_UNKNOWN.union(Effects::ROUTE_DOUBT);
        analysis.effects = before.union(analysis.effects.intersection(kept));
    }
}

fn classify_from<'a>(statement: &Statement<'_, 'a>, start: usize, analysis: &mut Analysis<'a>) {
    let next = start + 1;
    let writes = Effects::WRITES;
    match statement.keyword(start) {
        K::Select
        | K::With
        | K::Values
        | K::Table
        | K::Insert
        | K::Update
        | K::Delete
        | K::Merge => {
            query(statement, start, analysis);
        }
        K::Set => setting::set(statement, next, analysis),
        K::Reset => setting::reset(statement, next, analysis),
        K::Savepoint => {
            let name = statement.folded_text(next);
            analysis.changes.push(Change::Savepoint(name));
        }
        K::Release => {
            let name = statement.folded_text(statement.len() - 1);
            analysis.changes.push(Change::Release(name));
        }
        K::Show => {}
        K::Discard => discard(statement.keyword(next), analysis),
        K::Begin | K::Start => {
            analysis.add(Effects::BEGINS);
            analysis.changes.push(Change::Begin);
        }
        K::Commit | K::Rollback | K::End | K::Abort => end(statement, start, analysis),
        K::Prepare if statement.keyword(next) == K::Transaction => {
            analysis.add(Effects::ENDS.union(writes));
            analysis.changes.push(Change::Commit);
        }
        K::Prepare => {
            let body = statement
                .find_outside(next + 1, K::As)
                .map_or(statement.len(), |at| at + 1);
            analysis.names.push(NameUse::Prepare {
                name: statement.folded_text(next),
                text: statement.text_from(body).into(),
                backslash: statement.backslash,
            });
            // What the statement does, it does when it is executed.
            let (effects, changes) = (analysis.effects, analysis.changes.len());
            query(statement, body, analysis);
            analysis.effects = effects;
            analysis.changes.truncate(changes);
            analysis.made.clear();
        }
        K::Execute => execute(statement, next, analysis),
        K::Deallocate => {
            analysis.add(writes);
            let name = next
                + usize::from(statement.keyword(next) == K::Prepare && statement.is_name(next + 1));
            let name = unless_all(statement, name);
            analysis.names.push(NameUse::Deallocate(name));
        }
        K::Declare => {
            analysis
                .names
                .push(NameUse::Declare(statement.folded_text(next)));
            let body = statement
                .find_outside(next + 1, K::For)
                .map_or(statement.len(), |at| at + 1);
            query(statement, body, analysis);
        }
        K::Fetch | K::Move => {
            // The cursor's name is the last word, whatever direction stands before it.
            let name = statement.folded_text(statement.len() - 1);
            analysis.names.push(NameUse::Fetch(name));
        }
        K::Close => {
            let name = unless_all(statement, next);
            if name.is_none() {
                // Cursors WITH HOLD may be among them, which outlive the transaction.
                analysis.add(writes);
            }
            analysis.names.push(NameUse::Close(name));
        }
        K::Copy => copy(statement, next, analysis),
        K::Do => do_block(statement, next, analysis),
        K::Call => call(statement, next, analysis),
        K::Create | K::Alter => define(statement, start, analysis),
        K::Drop => drop(statement, next, analysis),
        K::Import => {
            analysis.add(writes.union(Effects::CHANGES_CATALOG));
            import(statement, next, analysis);
        }
        K::Analyze | K::Analyse | K::Vacuum => sample(statement, next, analysis),
        K::Refresh => refresh(statement, next, analysis),
        K::Grant | K::Revoke => {
            analysis.add(writes);
            let tokens = next..statement.len();
            let has = |word| tokens.clone().any(|index| statement.is_word(index, word));
            // A schema is on the search path of those who may use it; so are members of a role.
            if has("schema") || !has("on") {
                analysis.add(Effects::CHANGES_CATALOG);
            }
        }
        K::Truncate | K::Comment | K::Lock => analysis.add(writes),
        _ if statement.is_open(start) => query(statement, start, analysis),
        _ if READING_NO_RELATION
            .iter()
            .any(|word| statement.is_word(start, word)) =>
        {
            analysis.add(writes);
        }
        _ => unreadable(
            statement,
            ANYTHING.union(Effects::CHANGES_CATALOG),
            analysis,
        ),
    }
}

fn unless_all(statement: &Statement<'_, '_>, index: usize) -> Option<String> {
    (statement.keyword(index) != K::All).then(|| statement.folded_text(index))
}

/// `COMMIT`, `END`, `ROLLBACK`, `ABORT`, with `AND CHAIN`, `PREPARED`, or `TO [SAVEPOINT] name`.
fn end(statement: &Statement<'_, '_>, start: usize, analysis: &mut Analysis<'_>) {
    analysis.add(Effects::ENDS);
    if statement.keyword(start + 1) == K::Prepared {
        analysis.add(Effects::WRITES);
        return;
    }
    if statement.find_outside(start, K::To).is_some() {
        let name = statement.folded_text(statement.len() - 1);
        analysis.changes.push(Change::RollbackTo(name));
        return;
    }
    let rolls_back = matches!(statement.keyword(start), K::Rollback | K::Abort);
    analysis.changes.push(if rolls_back {
        Change::Rollback
    } else {
        Change::Commit
    });
    if statement.is_word(statement.len() - 1, "chain") && !is_no(statement) {
        analysis.changes.push(Change::Begin);
    }
}

/// `… AND NO CHAIN`
fn is_no(statement: &Statement<'_, '_>) -> bool {
    let no = statement.len().checked_sub(2);
    no.is_some_and(|no| statement.keyword(no) == K::No)
}

fn discard(what: K, analysis: &mut Analysis<'_>) {
    match what {
        K::All => {
            analysis.changes.push(Change::DiscardAll);
            analysis.add(
                Effects::RESETS_ALL
                    .union(Effects::CHANGES_NAMES)
                    .union(Effects::WRITES),
            );
            analysis.names.push(NameUse::Deallocate(None));
            analysis.names.push(NameUse::Close(None));
        }
        K::Temp | K::Temporary => {
            analysis.changes.push(Change::DiscardTemporary);
            analysis.add(Effects::CHANGES_NAMES.union(Effects::WRITES));
        }
        _ => {}
    }
}

/// `COPY t [(columns)] FROM | TO …`, `COPY (query) TO …`
fn copy<'a>(statement: &Statement<'_, 'a>, next: usize, analysis: &mut Analysis<'a>) {
    if statement.is_open(next) {
        let end = statement.after(next);
        query_in(statement, next..end, analysis);
        copy_to(statement, end + 1, analysis);
        return;
    }
    let name = next + usize::from(statement.is_word(next, "binary") && statement.is_name(next + 1));
    let last = last_part(statement, name);
    let columns = last + 1;
    let direction = if statement.is_open(columns) {
        statement.after(columns)
    } else {
        columns
    };
    if statement.keyword(direction) == K::From {
        analysis.add(Effects::WRITES);
        analysis.writes.extend(relation_name(statement, name, last));
        if statement.keyword(direction + 1) == K::Stdin {
            analysis.add(Effects::COPY_IN);
        }
        // COPY … FROM … WHERE
        if let Some(condition) = statement.find_outside(direction, K::Where) {
            query(statement, condition + 1, analysis);
        }
    } else {
        // Of a parent its own rows alone.
        let read = relation_name(statement, name, last);
        analysis
            .reads
            .extend(read.map(|read| RelationName { only: true, ..read }));
        copy_to(statement, direction + 1, analysis);
    }
}

/// `COPY … TO target [options]`
fn copy_to(statement: &Statement<'_, '_>, target: usize, analysis: &mut Analysis<'_>) {
    if statement.keyword(target) != K::Stdout {
        analysis.add(Effects::WRITES);
    }
    let options = target + 1..statement.len();
    let is_header = |index| statement.is_word(index, "header") && !is_off(statement, index + 1);
    if options.into_iter().any(is_header) {
        analysis.add(Effects::COPY_HEADER);
    }
}

/// True if an option has this value and is switched off by it.
fn is_off(statement: &Statement<'_, '_>, value: usize) -> bool {
    let word = statement
        .plain_string(value)
        .unwrap_or(statement.bytes(value));
    let off: [&[u8]; 3] = [b"off", b"false", b"0"];
    off.iter().any(|off| word.eq_ignore_ascii_case(off))
}

/// What a statement may do whose text does not say it.
const ANYTHING: Effects = Effects::WRITES
    .union(Effects::CALLS_UNKNOWN)
    .union(Effects::ROUTE_DOUBT)
    .union(Effects::CHANGES_NAMES);

/// True if a body may have DDL in it, also in the texts that it runs.
fn may_define(body: &[u8]) -> bool {
    may_hold(body, &[b"create", b"alter", b"drop", b"import"])
}

/// `DO [LANGUAGE name] body [LANGUAGE name]`. A body between dollars is read as PL/pgSQL is; one in
/// quotes has its own quotes doubled, and one in another language is not known.
fn do_block<'a>(statement: &Statement<'_, 'a>, next: usize, analysis: &mut Analysis<'a>) {
    let tokens = next..statement.len();
    let body = tokens
        .clone()
        .find(|index| statement.kind(*index) == Some(Kind::DollarString));
    let language = tokens
        .clone()
        .find(|index| statement.is_word(*index, "language"));
    if tokens
        .clone()
        .any(|index| may_define(statement.bytes(index)))
    {
        analysis.add(Effects::CHANGES_CATALOG);
    }
    let plpgsql = language.is_none_or(|language| *statement.folded(language + 1) == *b"plpgsql");
    match body {
        Some(body) if plpgsql && !statement.broken => {
            analysis.add(ANYTHING);
            let text = string_body(statement.bytes(body));
            let changes = plpgsql::read_do(text, statement.backslash, analysis);
            if changes || may_hold(text, &[b"discard", b"call"]) {
                analysis.changes.push(Change::Anything);
            } else if may_define(text) {
                analysis.changes.push(Change::AnyRelation);
            }
        }
        _ => unreadable(statement, ANYTHING, analysis),
    }
}

/// `CALL procedure(…)`. Hologres' `set_table_property` only names a table in a string; any other
/// procedure is a function that nobody knows.
fn call<'a>(statement: &Statement<'_, 'a>, name: usize, analysis: &mut Analysis<'a>) {
    let last = last_part(statement, name);
    if statement.is_word(last, "set_table_property") {
        analysis.add(Effects::WRITES.union(Effects::ROUTE_DOUBT));
        return;
    }
    analysis.add(ANYTHING.union(Effects::CHANGES_CATALOG));
    // Hologres' own takes rows from a query, and leaves the session as it is.
    analysis.calls_procedure = !statement.is_word(last, "hg_insert_overwrite");
    analysis.calls.extend(relation_name(statement, name, last));
    mention_strings(statement, &mut analysis.in_strings);
    walk(statement, last + 1..statement.len(), analysis);
}

/// `REFRESH MATERIALIZED VIEW [CONCURRENTLY] name [WITH [NO] DATA]`, and Hologres' `REFRESH [OVERWRITE]
/// [DYNAMIC] TABLE name [PARTITION (…)] [WITH (…)]`. With NO DATA nothing is read.
fn refresh<'a>(statement: &Statement<'_, 'a>, mut name: usize, analysis: &mut Analysis<'a>) {
    analysis.add(Effects::WRITES);
    while REFRESHED.iter().any(|word| statement.is_word(name, word))
        && statement.is_name(name + 1)
        && !matches!(statement.keyword(name + 1), K::With)
    {
        name += 1;
    }
    if statement.is_name(name) && !leaves_empty(statement) {
        let last = last_part(statement, name);
        let refreshed = relation_name(statement, name, last);
        analysis.reads.extend(refreshed.clone());
        analysis.writes.extend(refreshed);
    }
}

/// Words between REFRESH and the name.
const REFRESHED: [&str; 8] = [
    "materialized",
    "view",
    "dynamic",
    "table",
    "overwrite",
    "concurrently",
    "if",
    "exists",
];

/// `ANALYZE [VERBOSE] [(options)] [table [(columns)], …]`, and VACUUM: both may read the tables.
fn sample<'a>(statement: &Statement<'_, 'a>, mut index: usize, analysis: &mut Analysis<'a>) {
    analysis.add(Effects::WRITES);
    if statement.is_open(index) {
        index = statement.after(index);
    }
    while matches!(
        statement.keyword(index),
        K::Verbose | K::Analyze | K::Analyse
    ) || statement.is_word(index, "full")
        || statement.is_word(index, "freeze")
    {
        index += 1;
    }
    read_all(statement, index, analysis);
}

/// Every name outside brackets from `index` on is a relation that is read.
fn read_all<'a>(statement: &Statement<'_, 'a>, mut index: usize, analysis: &mut Analysis<'a>) {
    while index < statement.len() {
        if statement.is_name(index) {
            let last = last_part(statement, index);
            analysis.reads.extend(relation_name(statement, index, last));
            index = last;
        }
        index = statement.after(index);
    }
}

/// A statement whose effect cannot be read from its text.
fn unreadable<'a>(statement: &Statement<'_, 'a>, effects: Effects, analysis: &mut Analysis<'a>) {
    analysis.add(effects);
    analysis.changes.push(Change::Anything);
    mention_all(statement, true, &mut analysis.mentions);
}
