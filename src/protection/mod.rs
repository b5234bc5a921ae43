//! Whether a statement touches encrypted MaxCompute data, and why: one immutable [`Snapshot`] per
//! database, swapped in by background tasks, read by sessions without waiting.

pub mod knowledge;
mod memo;
mod quick;
mod relations;
mod session;
mod snapshot;

use std::sync::Arc;

pub use session::{Change, Leads, SessionNames, Value, Written};
pub use snapshot::{Snapshot, SnapshotBuilder};

use crate::keys::KeyRecord;

/// What the core asks of a statement's text, once per text and snapshot.
#[derive(Debug, Clone, Default)]
pub struct Decision {
    /// Why the statement needs the route for encrypted data; `None`: it does not.
    pub protected: Option<Arc<Reason>>,
    /// It reads nothing protected: `protected` is what it stores for later (a view, a rule, a
    /// function). That counts for a session in which nobody follows what it makes; see
    /// [`Snapshot::decide_in`].
    pub only_stores: bool,
    /// What else the statement does that a session has to know.
    pub effects: Effects,
    /// SQL-level names it makes or uses: `PREPARE`, `EXECUTE`, `DECLARE`, `FETCH` carry their
    /// decision by name.
    pub names: Vec<NameUse>,
    /// What it changes for how names resolve in its session, and what it makes, in order, once it
    /// has succeeded.
    pub changes: Vec<Change>,
    /// A `/* osprey: route=… */` comment.
    pub hint: Option<RouteHint>,
    /// The schemas that a SET or `set_config()` of search_path makes the session's, where that is all
    /// that the text does and they are written plainly.
    pub search_path: Option<Vec<String>>,
    /// The relations for which [`Effects::READS_FOREIGN`] is set: schema, if the text names one, and
    /// name. Should HQE fail on the statement, it failed on one of these.
    pub suspects: Vec<(Option<String>, String)>,
}

/// What a session knows of how names resolve in it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct NameContext {
    /// The present role's name: what `"$user"` means in the search path.
    pub user: String,
    /// The schemas of the search path in order, folded, `$user` as it is; `None`: not certain (a
    /// temporary relation that may shadow others makes it so), then any relation of a name counts.
    pub search_path: Option<Vec<String>>,
}

impl NameContext {
    /// With the search path as SHOW prints it, or as a client gives it at startup.
    pub fn new(user: &str, search_path: &str) -> Self {
        Self {
            user: user.to_owned(),
            search_path: split_search_path(search_path),
        }
    }
}

/// The schemas of a search path, folded; `None` if it is not one (PostgreSQL,
/// `SplitIdentifierString`).
fn split_search_path(path: &str) -> Option<Vec<String>> {
    let mut schemas = Vec::new();
    let mut rest = path.trim();
    while !rest.is_empty() {
        let schema;
        if let Some(quoted) = rest.strip_prefix('"') {
            let mut name = String::new();
            let mut characters = quoted.char_indices().peekable();
            let end = loop {
                match characters.next()? {
                    (_, '"') if matches!(characters.peek(), Some((_, '"'))) => {
                        characters.next();
                        name.push('"');
                    }
                    (at, '"') => break at,
                    (_, character) => name.push(character),
                }
            };
            schema = name;
            rest = quoted[end + 1..].trim_start();
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            schema = rest[..end].trim_end().to_ascii_lowercase();
            rest = &rest[end..];
        }
        if schema.is_empty() {
            return None;
        }
        schemas.push(schema);
        match rest.strip_prefix(',') {
            Some(behind) => rest = behind.trim_start(),
            None if rest.is_empty() => {}
            None => return None,
        }
    }
    Some(schemas)
}

/// Why a statement is protected, for logs, metrics and advice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// The relation as the catalog (or the operator's pattern) names it: `schema.name`.
    pub relation: String,
    /// The chain of relations from it to the foreign table; empty if it is one.
    pub via: Vec<String>,
    /// The MaxCompute project, when known.
    pub project: Option<String>,
    /// What is known of the project's key.
    pub key: Option<Arc<KeyRecord>>,
    /// Who says that it is protected.
    pub source: Source,
}

/// Who says that a relation is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// A table, schema or database pattern of the operator's.
    Pattern,
    /// The catalog says which project, the key record says encrypted.
    Key,
    /// HQE failed on it.
    Learned,
}

/// An SQL-level name and what happens to it. Names are folded as PostgreSQL folds them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NameUse {
    /// `PREPARE name AS …`
    Prepare(String),
    /// `EXECUTE name`, also `EXPLAIN … EXECUTE name` and `CREATE TABLE AS EXECUTE name`.
    Execute(String),
    /// `DEALLOCATE name`; `None`: `ALL`.
    Deallocate(Option<String>),
    /// `DECLARE name CURSOR …`
    Declare(String),
    /// `FETCH` or `MOVE … name`.
    Fetch(String),
    /// `CLOSE name`; `None`: `ALL`.
    Close(Option<String>),
}

/// What a `/* osprey: route=… */` comment asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RouteHint {
    /// Treat the statement as protected.
    Sqe,
    /// Treat the statement as not protected.
    Hqe,
    /// Leave the session's setting as it is.
    Off,
}

/// Facts about a statement text (all of its statements together), one bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Effects(pub u16);

impl Effects {
    /// SET, SET LOCAL or set_config() of the route's setting, under any of its names
    /// (`hg_experimental_enable_access_odps_orc_via_holo`, `hg_enable_access_odps_orc_via_holo`,
    /// `hg_experimental_external_catalog_routing`).
    pub const SETS_ROUTE: Self = Self(1);
    /// RESET of one of them, or `SET … TO DEFAULT`.
    pub const RESETS_ROUTE: Self = Self(1 << 1);
    /// RESET ALL or DISCARD ALL.
    pub const RESETS_ALL: Self = Self(1 << 2);
    /// After it the setting may be anything: set_config() whose name is not a plain literal, DO,
    /// CALL, SET ROLE, SET SESSION AUTHORIZATION.
    pub const ROUTE_DOUBT: Self = Self(1 << 3);
    /// BEGIN or START TRANSACTION.
    pub const BEGINS: Self = Self(1 << 4);
    /// COMMIT, END, ROLLBACK (also TO SAVEPOINT), ABORT, PREPARE TRANSACTION: settings made in
    /// the transaction may be gone.
    pub const ENDS: Self = Self(1 << 5);
    /// Something other than reading: DML, DDL, SELECT INTO, locking clauses, COPY FROM, CALL, DO,
    /// anything not recognised.
    pub const WRITES: Self = Self(1 << 6);
    /// It calls a function that is not known to be harmless to run twice.
    pub const CALLS_UNKNOWN: Self = Self(1 << 7);
    /// DDL that can change what is protected: CREATE/ALTER/DROP/IMPORT of (foreign) tables, views,
    /// materialized views, rules, schemas, databases, servers; ALTER DATABASE/ROLE … SET.
    pub const CHANGES_CATALOG: Self = Self(1 << 8);
    /// SET, RESET or set_config() of search_path, CREATE of a temporary relation, or anything else
    /// that changes how unqualified names resolve.
    pub const CHANGES_NAMES: Self = Self(1 << 9);
    /// It reads a MaxCompute foreign table (or what leads to one) whose project is not known to be
    /// encrypted, or a table of an external database (`extdb.schema.table`).
    pub const READS_FOREIGN: Self = Self(1 << 10);
    /// COPY … FROM STDIN: the server will ask for data.
    pub const COPY_IN: Self = Self(1 << 11);
    /// More than one statement in the text.
    pub const MULTIPLE: Self = Self(1 << 12);

    /// True if any bit of `other` is set.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Both together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::split_search_path;

    #[test]
    fn search_paths_are_split_as_postgresql_splits_them() {
        let split = |path| split_search_path(path).map(|schemas| schemas.join("|"));
        assert_eq!(split("\"$user\", public").as_deref(), Some("$user|public"));
        assert_eq!(
            split("Sales,\"A \"\"b, c\" , x").as_deref(),
            Some("sales|A \"b, c|x")
        );
        assert_eq!(split("").as_deref(), Some(""));
        assert_eq!(split("\"open"), None);
        assert_eq!(split("a,,b"), None);
        assert_eq!(split("\"a\" b"), None);
    }
}
