//! How a snapshot comes into being: names, reasons and patterns are given one by one, and the
//! matcher is built of them at the end.

use std::sync::Arc;

use super::{QUICK_BYTES, READ_BYTES, Snapshot};
use crate::catalog::{HologresVersion, RouteSettings};
use crate::config::TablePattern;
use crate::protection::memo::{Hasher, Memo};
use crate::protection::quick::Quick;
use crate::protection::reason::Reason;
use crate::protection::relations::{Relations, Standing};

/// Collects what a [`Snapshot`] will hold.
#[derive(Debug)]
pub struct SnapshotBuilder {
    relations: Relations,
    route: RouteSettings,
    version: Option<HologresVersion>,
    search_path: String,
    blind: bool,
}

impl Snapshot {
    /// Nothing is known: generation 0, nothing protected.
    pub fn empty(database: &str) -> Self {
        Self::builder(database).build(0)
    }

    /// Begins a snapshot of `database`, named without `@warehouse`.
    pub fn builder(database: &str) -> SnapshotBuilder {
        SnapshotBuilder {
            relations: Relations::new(database),
            route: RouteSettings::default(),
            version: None,
            search_path: "\"$user\", public".to_owned(),
            blind: false,
        }
    }
}

impl SnapshotBuilder {
    /// A relation whose read touches encrypted data, spelled as the catalog spells it.
    #[must_use]
    pub fn protect(mut self, schema: &str, name: &str, reason: Arc<Reason>) -> Self {
        self.relations
            .insert(schema, name, Standing::Protected(reason));
        self
    }

    /// A function whose call touches encrypted data.
    #[must_use]
    pub fn protect_function(mut self, schema: &str, name: &str, reason: Arc<Reason>) -> Self {
        self.relations
            .insert_function(schema, name, Standing::Protected(reason));
        self
    }

    /// A function that leads to MaxCompute data not known to be encrypted.
    #[must_use]
    pub fn foreign_function(mut self, schema: &str, name: &str) -> Self {
        self.relations
            .insert_function(schema, name, Standing::Foreign);
        self
    }

    /// A relation that reads encrypted data when it is written: by a rule on it, or as a materialized
    /// view that is refreshed.
    #[must_use]
    pub fn protect_write(mut self, schema: &str, name: &str, reason: Arc<Reason>) -> Self {
        self.relations
            .insert_written(schema, name, Standing::Protected(reason));
        self
    }

    /// The same with MaxCompute data not known to be encrypted.
    #[must_use]
    pub fn foreign_write(mut self, schema: &str, name: &str) -> Self {
        self.relations
            .insert_written(schema, name, Standing::Foreign);
        self
    }

    /// A relation given before leads where it does only through what inherits from it.
    #[must_use]
    pub fn inherited(mut self, schema: &str, name: &str) -> Self {
        self.relations.set_inherited(schema, name);
        self
    }

    /// A function runs no text, whatever its arguments are. Those that may are all others.
    #[must_use]
    pub fn runs_no_text(mut self, schema: &str, name: &str, only_reads: bool) -> Self {
        self.relations.insert_runs_no_text(schema, name, only_reads);
        self
    }

    /// A relation that leads to MaxCompute data not known to be encrypted.
    #[must_use]
    pub fn foreign(mut self, schema: &str, name: &str) -> Self {
        self.relations.insert(schema, name, Standing::Foreign);
        self
    }

    /// Another relation that bears the name of one given to [`Self::protect`] or
    /// [`Self::foreign`]. All such must be given: an unqualified name is resolved among them.
    #[must_use]
    pub fn homonym(mut self, schema: &str, name: &str) -> Self {
        self.relations.insert(schema, name, Standing::Plain);
        self
    }

    /// Relations that the operator says are encrypted. A pattern for another database counts for
    /// three-part names only (Hologres' external databases).
    #[must_use]
    pub fn pattern(mut self, pattern: &TablePattern, reason: Arc<Reason>) -> Self {
        self.relations.add_pattern(pattern, reason);
        self
    }

    /// The settings that choose the engine in a fresh session.
    #[must_use]
    pub fn route(mut self, route: RouteSettings) -> Self {
        self.route = route;
        self
    }

    /// The Hologres version.
    #[must_use]
    pub fn version(mut self, version: Option<HologresVersion>) -> Self {
        self.version = version;
        self
    }

    /// The `search_path` of a fresh session, as SHOW prints it.
    #[must_use]
    pub fn search_path(mut self, search_path: String) -> Self {
        self.search_path = search_path;
        self
    }

    /// The catalogs are not known, or not all of them: any relation may lead to MaxCompute.
    #[must_use]
    pub fn blind(mut self) -> Self {
        self.blind = true;
        self
    }

    /// Builds the matcher; about 50 ms for 10,000 names.
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
            route: self.route,
            version: self.version,
            search_path: self.search_path,
            blind: self.blind,
            hasher: Hasher::default(),
            read: Memo::new(READ_BYTES),
            need_not_be_read: Memo::new(QUICK_BYTES),
        }
    }
}
