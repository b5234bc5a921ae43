//! Everything that the reading of one statement finds out, and the words for it.

use super::change::Change;
use super::effects::{Effects, NameUse};
use super::relation_name::{RelationName, WrittenName};

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
    pub(crate) name: WrittenName,
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
    pub(super) fn add(&mut self, effects: Effects) {
        self.effects = self.effects.with(effects);
    }
}
