//! What is found out about one statement by reading its text alone, and the types in which that is
//! told.

use super::change::Change;
use super::effects::{Effects, NameUse};
use super::relation_name::{RelationName, WrittenName};

/// What is found out about one statement.
#[derive(Debug, Default)]
pub(crate) struct Analysis<'a> {
    pub(crate) effects: Effects,
    pub(crate) names: Vec<NameUse>,
    /// What the statement changes for its session, where the text alone says so.
    pub(crate) changes: Vec<Change>,
    /// The relations and functions that the statement makes. Where those lead, only the catalogs
    /// can say.
    pub(crate) made: Vec<Made<'a>>,
    /// The functions that the statement calls, other than PostgreSQL's and Hologres' own.
    pub(crate) calls: Vec<RelationName<'a>>,
    /// True if it calls a procedure: one of which no body is known may change anything for the session.
    pub(crate) calls_procedure: bool,
    /// The functions that are called, without a schema, by a name that one of PostgreSQL's or
    /// Hologres' own functions has. By the types of its arguments such a call may mean another
    /// function of that name.
    pub(crate) own_calls: Vec<RelationName<'a>>,
    /// True if a function is called that runs the SQL in its string arguments, or reads the
    /// relation that they name.
    pub(crate) runs_text: bool,
    /// True if a function is called that reads relations which the call does not name.
    pub(crate) reads_anything: bool,
    /// The relations that the statement reads. Names of CTEs are not among them.
    pub(crate) reads: Vec<RelationName<'a>>,
    /// The relations that the statement writes or refreshes. Rules on them, or their own
    /// definitions, may read others.
    pub(crate) writes: Vec<RelationName<'a>>,
    /// Every identifier in the parts of the statement that could not be read exactly: each may name
    /// a relation that is read.
    pub(crate) mentions: Vec<RelationName<'a>>,
    /// What the view, rule or function that the statement defines will read or call once it is
    /// used.
    pub(crate) stored: Vec<RelationName<'a>>,
    /// The relations that the view reads which the statement defines: what they are is settled as it is
    /// made.
    pub(crate) stored_reads: Vec<RelationName<'a>>,
    /// Every identifier in the statement's strings. They count like `mentions` if a function that
    /// is called runs the text of its arguments.
    pub(crate) in_strings: Vec<RelationName<'a>>,
}

/// A relation or function that a statement makes, or makes lead to other data than before.
#[derive(Debug)]
pub(crate) struct Made<'a> {
    pub(crate) name: WrittenName,
    pub(crate) temporary: bool,
    /// It is dropped at the end of its transaction.
    pub(crate) until_commit: bool,
    /// It is the first of its name on the search path: made without a schema, it is where the path
    /// begins. One that has its name from another one ([`MadeFrom::Like`]) is so if that was.
    pub(crate) first: bool,
    pub(crate) origin: MadeFrom<'a>,
}

/// From what a relation or function is made, and so where it leads.
#[derive(Debug)]
pub(crate) enum MadeFrom<'a> {
    /// From nothing else: it holds rows of its own.
    Rows,
    /// From what the statement stores or reads: it leads where that leads.
    Stored,
    /// From a MaxCompute project, which is named if the text says it.
    Project(Option<String>),
    /// From another relation: it leads where that leads.
    Like(RelationName<'a>),
}

impl Analysis<'_> {
    /// Adds to what the statement does.
    pub(super) fn add(&mut self, effects: Effects) {
        self.effects |= effects;
    }
}
