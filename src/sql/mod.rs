//! What a statement touches: the relations it names, whether it only reads, and what it does to
//! settings, transactions and SQL-level names.
//!
//! `lexer` knows where tokens begin and end, `token` groups them into statements, `statement` tells
//! what each statement is, and `relations` walks through its queries to find the relations
//! that they read. The walk is tolerant: it needs to recognise where relations stand (behind FROM,
//! JOIN, a comma of a FROM list, …), not to know the grammar, so that syntax of Hologres' own does
//! not blind it. Where it can err, it errs towards naming too much. What it cannot read at all
//! (DO bodies, functions, unknown statements) is answered by `Analysis::mentions`: every
//! identifier counts.

mod body;
mod definition;
mod function;
mod keyword;
pub(crate) mod lexer;
mod mention;
mod name;
mod relations;
mod setting;
mod statement;
mod token;

pub(crate) use body::{Body, Reference, read as read_body};
pub(crate) use function::is_harmless as is_harmless_function;
pub(crate) use keyword::Keyword;
pub(crate) use setting::ROUTE_SETTINGS;
use std::borrow::Cow;

use crate::protection::{Change, Effects, NameUse, RouteHint, Value, Written};

/// A relation's name as the text writes it, folded as PostgreSQL folds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RelationName<'a> {
    /// Of a three-part name: the database, or a Hologres external database.
    pub(crate) database: Option<Cow<'a, [u8]>>,
    pub(crate) schema: Option<Cow<'a, [u8]>>,
    pub(crate) name: Cow<'a, [u8]>,
    /// `ONLY name`: without the relations that inherit from it.
    pub(crate) only: bool,
}

/// A text, statement by statement.
#[derive(Debug, Default)]
pub(crate) struct Reading<'a> {
    /// What all statements do together.
    pub(crate) effects: Effects,
    pub(crate) hint: Option<RouteHint>,
    pub(crate) statements: Vec<Analysis<'a>>,
}

/// Everything that the reading of one statement finds out.
#[derive(Debug, Default)]
pub(crate) struct Analysis<'a> {
    pub(crate) effects: Effects,
    pub(crate) names: Vec<NameUse>,
    /// What it changes for its session, where that can be told from the text alone.
    pub(crate) changes: Vec<Change>,
    /// What it makes: where that leads, the catalogs have to say.
    pub(crate) made: Vec<Made<'a>>,
    /// Functions that are called, other than PostgreSQL's and Hologres' own.
    pub(crate) calls: Vec<RelationName<'a>>,
    /// Functions that are called by a name of PostgreSQL's and Hologres' own, without a schema: the
    /// arguments may make it another one of that name.
    pub(crate) own_calls: Vec<RelationName<'a>>,
    /// A function is called that runs the SQL in its strings, or reads the relation that they name.
    pub(crate) runs_text: bool,
    /// A function is called that reads relations which nothing names.
    pub(crate) reads_anything: bool,
    /// Relations that are read; names of CTEs are not among them.
    pub(crate) reads: Vec<RelationName<'a>>,
    /// Relations that are written or refreshed, which may read others.
    pub(crate) writes: Vec<RelationName<'a>>,
    /// Identifiers of what could not be read exactly: each may be a relation that is read.
    pub(crate) mentions: Vec<RelationName<'a>>,
    /// What a view, a rule or a function that is defined will read or call when it is used.
    pub(crate) stored: Vec<RelationName<'a>>,
    /// Identifiers in strings: they are as much as `mentions` if a function that is called runs text.
    pub(crate) in_strings: Vec<RelationName<'a>>,
}

/// A relation or function that a statement makes or makes lead elsewhere.
#[derive(Debug)]
pub(crate) struct Made<'a> {
    pub(crate) name: Written,
    pub(crate) temporary: bool,
    pub(crate) origin: Origin<'a>,
}

/// Where something leads that is made.
#[derive(Debug)]
pub(crate) enum Origin<'a> {
    /// It holds its rows.
    Rows,
    /// Where what the statement stores or reads leads.
    Stored,
    /// To a MaxCompute project, if it is named.
    Project(Option<String>),
    /// Where another relation leads.
    Like(RelationName<'a>),
}

impl Analysis<'_> {
    /// What it makes the session's search path, if the text says that.
    pub(crate) fn search_path(&self) -> Option<Vec<String>> {
        self.changes.iter().find_map(|change| match change {
            Change::SearchPath {
                path: Value::Is(path),
                local: false,
            } => Some(path.clone()),
            _ => None,
        })
    }

    fn add(&mut self, effects: Effects) {
        self.effects = self.effects.with(effects);
    }
}

/// Reads a whole text.
pub(crate) fn analyze(text: &[u8]) -> Reading<'_> {
    read(text, false)
}

/// A name as the session remembers it; what is not UTF-8 is replaced.
pub(crate) fn written(name: &RelationName<'_>) -> Written {
    let text = |part: &[u8]| String::from_utf8_lossy(part).into_owned();
    (name.schema.as_deref().map(text), text(&name.name))
}

/// The schemas of a search path as the catalogs have it; `None`: it is not a list of names.
pub(crate) fn search_path(list: &str) -> Option<Vec<String>> {
    let text = format!("SET search_path = {list}");
    let reading = analyze(text.as_bytes());
    reading.statements.iter().find_map(Analysis::search_path)
}

/// Reads the head of a text whose rest is not in hand. What the rest does is not known, so it is
/// taken to write, to call anything, to leave the route in doubt and to change the catalogs and how
/// names resolve; every identifier of the statement that is cut off counts.
pub(crate) fn analyze_prefix(text: &[u8]) -> Reading<'_> {
    let mut reading = read(text, true);
    reading.effects = reading.effects.with(UNSEEN);
    reading.statements.push(Analysis {
        changes: vec![Change::Anything],
        ..Analysis::default()
    });
    reading
}

/// What a text's unseen rest is taken to do.
pub(crate) const UNSEEN: Effects = Effects::WRITES
    .with(Effects::CALLS_UNKNOWN)
    .with(Effects::ROUTE_DOUBT)
    .with(Effects::CHANGES_CATALOG)
    .with(Effects::CHANGES_NAMES);

fn read(text: &[u8], cut: bool) -> Reading<'_> {
    let script = token::Script::read(text);
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
            mention::mention_all(&statement, !cut, &mut analysis.mentions);
        }
        statement::classify(&statement, &mut analysis);
        reading.effects = reading.effects.with(analysis.effects);
        reading.statements.push(analysis);
    }
    reading
}
