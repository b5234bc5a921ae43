//! How a snapshot comes into being: names, reasons and patterns are given one by one, and the
//! matcher is built of them at the end.

use std::sync::Arc;

use super::Snapshot;
use crate::catalog::{HologresVersion, RouteSettings};
use crate::config::TablePattern;
use crate::protection::memo::{Hasher, Memo, QUICK_BYTES, READ_BYTES};
use crate::protection::projects::{Encrypted, Projects};
use crate::protection::quick::Quick;
use crate::protection::reason::Reason;
use crate::protection::relations::{Relations, Standing};
use crate::sql::Change;

/// Collects what a [`Snapshot`] will hold.
#[derive(Debug)]
pub struct SnapshotBuilder {
    relations: Relations,
    projects: Option<Projects>,
    encrypted: Encrypted,
    route: RouteSettings,
    version: Option<HologresVersion>,
    search_path: String,
    blind: bool,
}

impl Snapshot {
    /// A snapshot for which nothing is known and nothing protected, of generation 0.
    pub fn empty(database: &str) -> Self {
        Self::builder(database).build(0)
    }

    /// Begins a snapshot of `database`, named without `@warehouse`.
    pub fn builder(database: &str) -> SnapshotBuilder {
        SnapshotBuilder {
            relations: Relations::new(database),
            projects: None,
            encrypted: Encrypted::default(),
            route: RouteSettings::default(),
            version: None,
            search_path: "\"$user\", public".to_owned(),
            blind: false,
        }
    }
}

impl SnapshotBuilder {
    /// Adds a relation that leads to encrypted data when it is read. Names are spelled as the
    /// catalog spells them.
    #[must_use]
    pub fn protect(mut self, schema: &str, name: &str, reason: Arc<Reason>) -> Self {
        self.relations
            .insert(schema, name, Standing::Protected(reason));
        self
    }

    /// Adds a function that leads to encrypted data when it is called.
    #[must_use]
    pub fn protect_function(mut self, schema: &str, name: &str, reason: Arc<Reason>) -> Self {
        self.relations
            .insert_function(schema, name, Standing::Protected(reason));
        self
    }

    /// Adds a function that leads to MaxCompute data not known to be encrypted.
    #[must_use]
    pub fn foreign_function(mut self, schema: &str, name: &str) -> Self {
        self.relations
            .insert_function(schema, name, Standing::Foreign);
        self
    }

    /// Adds a relation that leads to encrypted data when it is written: by a rule on it, or as a
    /// materialized view that is refreshed.
    #[must_use]
    pub fn protect_write(mut self, schema: &str, name: &str, reason: Arc<Reason>) -> Self {
        self.relations
            .insert_written(schema, name, Standing::Protected(reason));
        self
    }

    /// Adds a relation that leads to MaxCompute data not known to be encrypted when it is written.
    #[must_use]
    pub fn foreign_write(mut self, schema: &str, name: &str) -> Self {
        self.relations
            .insert_written(schema, name, Standing::Foreign);
        self
    }

    /// Notes of a relation that was added that it leads where it does only through what inherits
    /// from it.
    #[must_use]
    pub fn inherited(mut self, schema: &str, name: &str) -> Self {
        self.relations.set_inherited(schema, name);
        self
    }

    /// Notes of a relation that was added that it leads where it does only through its policies.
    #[must_use]
    pub fn policed(mut self, schema: &str, name: &str) -> Self {
        self.relations.set_policed(schema, name);
        self
    }

    /// Notes that no policy applies to a role.
    #[must_use]
    pub fn unpoliced(mut self, role: &str) -> Self {
        self.relations.insert_unpoliced(role);
        self
    }

    /// Notes that a function may run a text of its own making. It may be one whose calls are to be known
    /// again.
    #[must_use]
    pub fn may_run_text(mut self, schema: &str, name: &str) -> Self {
        self.relations
            .insert_function(schema, name, Standing::Plain);
        self
    }

    /// Notes that a function runs no text, whatever its arguments are. Every function that is not
    /// noted so may run some.
    #[must_use]
    pub fn runs_no_text(mut self, schema: &str, name: &str, only_reads: bool) -> Self {
        self.relations.insert_runs_no_text(schema, name, only_reads);
        self
    }

    /// Notes what the call of a function may change for its session, and whether the route may be another
    /// one then.
    #[must_use]
    pub fn sets(mut self, schema: &str, name: &str, changes: Vec<Change>, route: bool) -> Self {
        self.relations.insert_sets(schema, name, changes, route);
        self
    }

    /// Adds a relation that leads to MaxCompute data not known to be encrypted.
    #[must_use]
    pub fn foreign(mut self, schema: &str, name: &str) -> Self {
        self.relations.insert(schema, name, Standing::Foreign);
        self
    }

    /// Adds another relation that bears the name of one given to [`Self::protect`] or
    /// [`Self::foreign`]. All such must be given: an unqualified name is resolved among them.
    #[must_use]
    pub fn homonym(mut self, schema: &str, name: &str) -> Self {
        self.relations.insert(schema, name, Standing::Plain);
        self
    }

    /// Notes that a relation or function reads another one directly, each named by schema and name, wherever
    /// that leads.
    #[must_use]
    pub fn reader(mut self, read: (&str, &str), reader: (&str, &str)) -> Self {
        self.relations.insert_reader(read, reader);
        self
    }

    /// Notes that a role may not use a schema, so that it is not on the role's search path.
    #[must_use]
    pub fn barred(mut self, role: &str, schema: &str) -> Self {
        self.relations.insert_barred(role, schema);
        self
    }

    /// Adds a pattern for relations that the operator says are encrypted. A pattern for another
    /// database counts for three-part names only (Hologres' external databases).
    #[must_use]
    pub fn pattern(mut self, pattern: &TablePattern, reason: Arc<Reason>) -> Self {
        self.relations.add_pattern(pattern, reason);
        self
    }

    /// Says that the catalogs have been read: from here on, a relation that is not given to
    /// [`Self::leads_to`] is not among what leads to MaxCompute.
    #[must_use]
    pub fn read(mut self) -> Self {
        self.projects.get_or_insert_default();
        self
    }

    /// Adds which projects' data a relation or function leads to, as
    /// [`project_key`](crate::catalog::project_key) spells them.
    #[must_use]
    pub fn leads_to<'p>(
        mut self,
        schema: &str,
        name: &str,
        projects: impl Iterator<Item = &'p str>,
    ) -> Self {
        let known = self.projects.get_or_insert_default();
        known.insert(schema, name, projects);
        self
    }

    /// Sets who says which projects are encrypted, for relations that sessions make.
    #[must_use]
    pub(in crate::protection) fn encrypted(mut self, encrypted: Encrypted) -> Self {
        self.encrypted = encrypted;
        self
    }

    /// Sets the settings that choose the engine in a fresh session.
    #[must_use]
    pub fn route(mut self, route: RouteSettings) -> Self {
        self.route = route;
        self
    }

    /// Sets the Hologres version.
    #[must_use]
    pub fn version(mut self, version: Option<HologresVersion>) -> Self {
        self.version = version;
        self
    }

    /// Sets the `search_path` of a fresh session, in the form in which SHOW prints it.
    #[must_use]
    pub fn search_path(mut self, search_path: String) -> Self {
        self.search_path = search_path;
        self
    }

    /// Makes the snapshot blind: the catalogs are not known, or not all of them, so any relation
    /// may lead to MaxCompute.
    #[must_use]
    pub fn blind(mut self) -> Self {
        self.blind = true;
        self
    }

    /// Builds the snapshot and its matcher, which takes about 50 ms for 10,000 names.
    pub fn build(self, generation: u64) -> Snapshot {
        let count = |wanted: fn(&Standing) -> bool| {
            self.relations
                .iter()
                .filter(|(_, _, standing)| wanted(standing))
                .count()
        };
        Snapshot {
            generation,
            protected: count(|standing| matches!(standing, Standing::Protected(_))),
            foreign: count(|standing| matches!(standing, Standing::Foreign)),
            quick: Arc::new(Quick::new(&self.relations)),
            relations: Arc::new(self.relations),
            projects: self.projects.map(Arc::new),
            encrypted: Arc::new(self.encrypted),
            route: self.route,
            version: self.version,
            search_path: self.search_path,
            blind: self.blind,
            recent: Arc::default(),
            hasher: Hasher::default(),
            read: Memo::new(READ_BYTES),
            need_not_be_read: Memo::new(QUICK_BYTES),
        }
    }
}
