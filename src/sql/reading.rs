//! Reading a text: what each of its statements does and names, and what all of them do together.

use super::analysis::Analysis;
use super::change::Change;
use super::effects::Effects;
use super::hint::RouteHint;
use super::lexing::Backslash;
use super::mention::mention_all;
use super::statement::classify;
use super::token::Script;

/// What is found out about a text.
#[derive(Debug, Default)]
pub(crate) struct Reading<'a> {
    /// What all statements do together.
    pub(crate) effects: Effects,
    pub(crate) hint: Option<RouteHint>,
    pub(crate) statements: Vec<Analysis<'a>>,
}

/// Reads a whole text, in the server's encoding.
pub(crate) fn analyze(text: &[u8], backslash: Backslash) -> Reading<'_> {
    read(text, backslash, false)
}

/// Reads the head of a text whose rest is not in hand. What the rest does is not known, so it is
/// taken to write, to call anything, to leave the route in doubt and to change the catalogs and how
/// names resolve; every identifier of the statement that is cut off counts.
pub(crate) fn analyze_prefix(text: &[u8], backslash: Backslash) -> Reading<'_> {
    let mut reading = read(text, backslash, true);
    reading.effects |= UNSEEN;
    reading.statements.push(Analysis {
        changes: vec![Change::Anything],
        ..Analysis::default()
    });
    reading
}

/// What a text's unseen rest is taken to do.
pub(crate) const UNSEEN: Effects = Effects::WRITES
    .union(Effects::CALLS_UNKNOWN)
    .union(Effects::ROUTE_DOUBT)
    .union(Effects::CHANGES_CATALOG)
    .union(Effects::CHANGES_NAMES);

fn read(text: &[u8], backslash: Backslash, cut: bool) -> Reading<'_> {
    let script = Script::read(text, backslash);
    let mut reading = Reading {
        hint: script.hint,
        ..Reading::default()
    };
    if script.len() > 1 {
        reading.effects = Effects::MULTIPLE;
    }
    for (index, statement) in script.statements().enumerate() {
        let mut analysis = Analysis::default();
        let cut = cut && index + 1 == script.len();
        if cut || statement.broken {
            mention_all(&statement, !cut, &mut analysis.mentions);
        }
        classify(&statement, &mut analysis);
        reading.effects |= analysis.effects;
        reading.statements.push(analysis);
    }
    reading
}
