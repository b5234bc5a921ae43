//! What the call of a function may do, by the function's name: whether the call may be run twice,
//! and whether the strings in it may be run as SQL.

mod names;

pub(crate) use names::{Known, known, known_word};

use super::analysis::Analysis;
use super::effects::Effects;
use super::keyword::Keyword;
use super::lexer::Kind;
use super::relation_name::relation_name;
use super::setting;
use super::token::Statement;

/// True if the function or keyword `word`, with a parenthesis behind it in an expression, has no
/// effect that would be doubled if it were run twice.
pub(crate) fn is_harmless(word: &[u8]) -> bool {
    known_word(word) == Some(Known::Harmless)
}

/// Adds what a function call may do. The last part of the function's name is at `index`, and the
/// parenthesis behind it.
pub(super) fn call<'a>(statement: &Statement<'_, 'a>, index: usize, analysis: &mut Analysis<'a>) {
    if is_operator(statement, index) || is_fetch_count(statement, index) {
        return;
    }
    let known = of(statement, index);
    if known.is_some()
        && statement.keyword(index) == Keyword::None
        && !is_qualified(statement, index)
    {
        analysis
            .own_calls
            .extend(relation_name(statement, index, index));
    }
    match known {
        Some(Known::Harmless) => {}
        // What it sets is undone with the statement that fails.
        Some(Known::NotTwice) if *statement.folded(index) == *b"set_config" => {
            setting::set_config(statement, index + 1, analysis);
        }
        Some(Known::NotTwice) => analysis.add(Effects::CALLS_UNKNOWN),
        Some(Known::RunsText) => {
            analysis.add(Effects::CALLS_UNKNOWN);
            analysis.runs_text = true;
            analysis.reads_anything |= names::reads_anything(&statement.folded(index));
        }
        None => {
            let mut first = index;
            while first > 1
                && statement.kind(first - 1) == Some(Kind::Dot)
                && statement.is_name(first - 2)
            {
                first -= 2;
            }
            analysis
                .calls
                .extend(relation_name(statement, first, index));
        }
    }
}

/// What is known of the function whose name's last part is at `index`.
fn of(statement: &Statement<'_, '_>, index: usize) -> Option<Known> {
    if is_qualified(statement, index)
        && !(index > 1 && names::is_schema_of_known(&statement.folded(index - 2)))
    {
        return None;
    }
    match statement.kind(index) {
        Some(Kind::Word) => known_word(statement.bytes(index)),
        _ => known(&statement.folded(index)),
    }
}

fn is_qualified(statement: &Statement<'_, '_>, index: usize) -> bool {
    index > 0 && statement.kind(index - 1) == Some(Kind::Dot)
}

/// `OPERATOR(schema.+)`
fn is_operator(statement: &Statement<'_, '_>, index: usize) -> bool {
    statement.is_word(index, "operator")
        && statement
            .after(index + 1)
            .checked_sub(2)
            .and_then(|last| statement.kind(last))
            == Some(Kind::Other)
}

/// `FETCH FIRST (…) ROWS`
fn is_fetch_count(statement: &Statement<'_, '_>, index: usize) -> bool {
    index > 0
        && statement.keyword(index - 1) == Keyword::Fetch
        && (statement.is_word(index, "first") || statement.is_word(index, "next"))
}
