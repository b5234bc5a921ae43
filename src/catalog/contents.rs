//! What one reading of a database's catalogs yields.

use super::roles::RoleSetting;
use super::route::RouteSettings;
use super::version::HologresVersion;
use crate::sql::Change;

/// Everything one reading of a database's catalogs yields.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contents {
    /// The relations that lead to MaxCompute.
    pub relations: Vec<Relation>,
    /// All other relations that bear the name of one in `relations`, as schema and name: an
    /// unqualified name may mean them instead.
    pub homonyms: Vec<(String, String)>,
    /// Who reads whom directly, beside what `relations` say: what is below may be made anew so that it leads
    /// to MaxCompute, and all above it do then. The reader comes second; each is a schema and a name.
    pub readers: Vec<[(String, String); 2]>,
    /// Who may not use a schema in which one of several relations of a name is, as role and schema: to
    /// that role's unqualified names the schema is not there.
    pub barred: Vec<(String, String)>,
    /// The roles to which no policy applies: superusers, and those with BYPASSRLS. Empty where no relation
    /// is [`policed`](Relation::policed).
    pub unpoliced: Vec<String>,
    /// The functions that run no text. Any other function may run what its arguments say.
    pub functions: Vec<Function>,
    /// The settings that choose the engine.
    pub route: RouteSettings,
    /// `hg_version()`; `None` when it does not exist or cannot be read.
    pub version: Option<HologresVersion>,
    /// The search_path a fresh session of this database has, e.g. `"$user", public`.
    pub search_path: String,
    /// What roles bring along in place of search_path and of the settings in `route`.
    pub role_settings: Vec<RoleSetting>,
}

/// Whether a relation leads to MaxCompute when it is read or when it is written, or whether it is a
/// function that does when it is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sort {
    /// A relation that is read.
    Relation,
    /// A relation that is written: a rule on it reads; or a materialized view that is refreshed.
    Written,
    /// A function that is called; functions of one name count as one.
    Function,
}

/// Something that reads MaxCompute data: a foreign table on MaxCompute's server; a view, or the
/// parent of partitions or of inheriting tables, that leads to one; a relation that does so when it
/// is written, by a rule or as a materialized view; or a function whose body does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// Schema, exactly as the catalog spells it.
    pub schema: String,
    /// Name, exactly as the catalog spells it.
    pub name: String,
    /// What has to be done to it for it to read MaxCompute data.
    pub sort: Sort,
    /// True if it does so only through what inherits from it. `ONLY name` then does not.
    pub inherited: bool,
    /// True if it does so only through its row-level policies, which some roles pass by
    /// ([`Contents::unpoliced`]).
    pub policed: bool,
    /// A foreign table's MaxCompute project (`project` or `project#schema`, as the table option
    /// says; compare by [`project_key`](super::project_key)). `None`: not a MaxCompute foreign table, or one without
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

/// What a function may do besides reading what its body names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conduct {
    /// Neither the function nor what it calls does anything but read what a body names.
    OnlyReads,
    /// It runs no text of its own or its caller's making.
    RunsNoText,
    /// It may run one: what that reads, no body says.
    MayRunText,
}

/// A function of which a body is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// Schema, exactly as the catalog spells it.
    pub schema: String,
    /// Name, exactly as the catalog spells it; all functions of that name are meant.
    pub name: String,
    /// What it may do, of whichever function of that name is called.
    pub conduct: Conduct,
    /// What its call may change for the session, in what it calls, too.
    pub sets: Vec<Change>,
    /// True if the route may be another one behind its call.
    pub sets_route: bool,
}
