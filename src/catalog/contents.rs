//! What one reading of a database's catalogs yields.

use super::roles::RoleSetting;
use super::route::RouteSettings;
use super::version::HologresVersion;

/// Everything one reading of a database's catalogs yields.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contents {
    /// Relations that lead to MaxCompute.
    pub relations: Vec<Relation>,
    /// `(schema, name)` of all other relations that bear the name of one in `relations`: what an
    /// unqualified name may mean instead.
    pub homonyms: Vec<(String, String)>,
    /// Functions that run no text; of any other, what its arguments say may be run.
    pub functions: Vec<Function>,
    /// The settings that choose the engine.
    pub route: RouteSettings,
    /// `hg_version()`; `None` when it does not exist or cannot be read.
    pub version: Option<HologresVersion>,
    /// The search_path a fresh session of this database has, e.g. `"$user", public`.
    pub search_path: String,
    /// What roles bring along instead, of search_path and the settings in `route`.
    pub role_settings: Vec<RoleSetting>,
}

/// What reads: a relation and what is done to it, or a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sort {
    /// A relation that is read.
    Relation,
    /// A relation that is written: a rule on it reads; or a materialized view that is refreshed.
    Written,
    /// A function that is called; functions of one name count as one.
    Function,
}

/// What reads MaxCompute: a foreign table on MaxCompute's server, or a view or partition/inheritance
/// parent that leads to one; a rule or a materialized view when its relation is written; or a
/// function whose body does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// Schema, exactly as the catalog spells it.
    pub schema: String,
    /// Name, exactly as the catalog spells it.
    pub name: String,
    /// What is done to it, for it to read MaxCompute.
    pub sort: Sort,
    /// It does so only through what inherits from it: `ONLY` it does not.
    pub inherited: bool,
    /// A foreign table's MaxCompute project (`project` or `project#schema`, as the table option
    /// says; compare by [`project_key`]). `None`: not a MaxCompute foreign table, or one without
    /// the option.
    pub project: Option<String>,
    /// The relations that it reads directly, as indices into [`Contents::relations`]; only those
    /// that lead to MaxCompute.
    pub reads: Vec<usize>,
}

impl Relation {
    /// `schema.name`, with `()` behind a function's, for people.
    pub fn qualified(&self) -> String {
        let brackets = match self.sort {
            Sort::Function => "()",
            Sort::Relation | Sort::Written => "",
        };
        format!("{}.{}{brackets}", self.schema, self.name)
    }
}

/// A function of which every body is known, and none runs a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// Schema, exactly as the catalog spells it.
    pub schema: String,
    /// Name, exactly as the catalog spells it; all functions of that name are meant.
    pub name: String,
    /// It does nothing but read, nor does what it calls.
    pub only_reads: bool,
}
