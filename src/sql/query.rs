//! Queries: one that is a statement of its own, and one that stands within another statement.

use super::analysis::Analysis;
use super::effects::NameUse;
use super::keyword::Keyword;
use super::mention::mention_strings;
use super::relations::walk;
use super::token::Statement;

/// Adds what a query touches that begins at `from` and ends with the statement.
pub(super) fn query<'a>(statement: &Statement<'_, 'a>, from: usize, analysis: &mut Analysis<'a>) {
    query_in(statement, from..statement.len(), analysis);
}

/// Adds what the query in a part of a statement touches, and the strings of the whole statement if
/// a function that is called may run them.
pub(super) fn query_in<'a>(
    statement: &Statement<'_, 'a>,
    range: std::ops::Range<usize>,
    analysis: &mut Analysis<'a>,
) {
    let calls = analysis.calls.len();
    walk(statement, range, analysis);
    if analysis.runs_text || analysis.calls.len() > calls {
        mention_strings(statement, &mut analysis.in_strings);
    }
}

/// Adds what `EXECUTE name (arguments)` does by itself; `name` is where its name stands. What the
/// prepared statement does, only who knows the session's names can say.
pub(super) fn execute<'a>(statement: &Statement<'_, 'a>, name: usize, analysis: &mut Analysis<'a>) {
    analysis
        .names
        .push(NameUse::Execute(statement.folded_text(name)));
    query(statement, name + 1, analysis);
}

/// True for a statement that ends in WITH NO DATA: the query behind its AS is not run.
pub(super) fn leaves_empty(statement: &Statement<'_, '_>) -> bool {
    let Some(no) = statement.len().checked_sub(2) else {
        return false;
    };
    statement.is_word(no + 1, "data")
        && statement.keyword(no) == Keyword::No
        && no > 0
        && statement.keyword(no - 1) == Keyword::With
}
