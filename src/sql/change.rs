//! What a statement changes for its session, as far as its text alone says it.

use super::encoding::Encoding;
use super::lexing::Backslash;
use super::relation_name::WrittenName;

/// The value that a statement gives a setting.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Value<T> {
    /// The setting has this value.
    Is(T),
    /// The setting has the value again that it had at login.
    #[default]
    Default,
    /// The setting has a value that the text does not say.
    Unknown,
}

impl<T> Value<T> {
    /// The same of what `read` makes of a value that is given.
    pub(crate) fn map<U>(self, read: impl FnOnce(T) -> U) -> Value<U> {
        match self {
            Self::Is(value) => Value::Is(read(value)),
            Self::Default => Value::Default,
            Self::Unknown => Value::Unknown,
        }
    }

    /// The value itself, or `default` where the setting is back at its default; `None` where the
    /// value is not known.
    pub(crate) fn or<'a>(&'a self, default: Option<&'a T>) -> Option<&'a T> {
        match self {
            Self::Is(value) => Some(value),
            Self::Default => default,
            Self::Unknown => None,
        }
    }
}

/// A setting that chooses the engine for MaxCompute tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteSetting {
    /// `hg_experimental_enable_access_odps_orc_via_holo`, under either of its names.
    OrcViaHolo,
    /// `hg_experimental_external_catalog_routing`.
    CatalogRouting,
}

/// Where a session's queries run: a value of `hg_computing_resource`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ComputingResource {
    /// On serverless resources.
    Serverless,
    /// On the instance's own.
    Local,
}

impl ComputingResource {
    /// The resource of this name. There may be others, which are as good as the instance's own.
    pub fn named(name: &str) -> Self {
        if name.eq_ignore_ascii_case("serverless") {
            Self::Serverless
        } else {
            Self::Local
        }
    }
}

/// What a statement changes for its session, once it has succeeded: for its settings, and for
/// where names lead. What a statement makes is not among these (see `Made` in `analysis.rs`): where
/// that leads only the catalogs can tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The statement sets the search path.
    SearchPath {
        /// The schemas of the path.
        path: Value<Vec<String>>,
        /// True if this holds only until the transaction ends.
        local: bool,
    },
    /// The statement sets the present role.
    Role {
        /// The role's name, `none` for the session's user. By default it is the one of the login.
        role: Value<String>,
        /// True if this holds only until the transaction ends.
        local: bool,
    },
    /// The statement sets the session's user, and with it the present role.
    User {
        /// The user's name.
        user: Value<String>,
        /// True if this holds only until the transaction ends.
        local: bool,
    },
    /// The statement sets `standard_conforming_strings`.
    Backslash {
        /// What a backslash is in the texts behind it.
        backslash: Value<Backslash>,
        /// True if this holds only until the transaction ends.
        local: bool,
    },
    /// The statement sets `client_encoding`.
    Encoding {
        /// The encoding of the texts behind it.
        encoding: Value<Encoding>,
        /// True if this holds only until the transaction ends.
        local: bool,
    },
    /// The statement sets one of the settings that choose the route.
    Route {
        /// Which of them: they are two, one of which has two names.
        setting: RouteSetting,
        /// The setting's value.
        value: Value<String>,
        /// True if this holds only until the transaction ends.
        local: bool,
    },
    /// The statement sets `hg_computing_resource`: where the queries behind it run.
    ComputingResource {
        /// The setting's value.
        resource: Value<ComputingResource>,
        /// True if this holds only until the transaction ends.
        local: bool,
    },
    /// A relation was dropped. It may have hidden another of its name.
    Dropped {
        /// Its name.
        name: WrittenName,
        /// True if other relations, which depended on it, may have been dropped with it.
        cascade: bool,
    },
    /// A view of this name, which the text writes with its schema, was made, or made anew: it leads where
    /// the statement says, and no longer where the catalogs do.
    Replaced(WrittenName),
    /// Relations may have been made, or lead elsewhere by now, whose names the text does not say:
    /// `IMPORT FOREIGN SCHEMA` without `LIMIT TO`, a function, a rule, a schema with all that is in it.
    Relations,
    /// From here on any relation's name may lead anywhere, whatever the schema or the search path: a schema was
    /// renamed or dropped, or relations may have been made and dropped that no text names.
    AnyRelation,
    /// The same, and texts may be read in any way: it is not known what was done.
    Anything,
    /// Relations of the session's own may have been dropped or renamed, whose names the text does not say.
    MayDrop,
    /// The session drops its temporary relations: `DISCARD TEMP`.
    DiscardTemporary,
    /// The session is as it was at login: `DISCARD ALL`.
    DiscardAll,
    /// A transaction begins.
    Begin,
    /// The transaction is committed.
    Commit,
    /// The transaction is rolled back.
    Rollback,
    /// The transaction gets a savepoint of this name.
    Savepoint(String),
    /// The savepoint of this name, and those behind it, are forgotten; what was done since stays.
    Release(String),
    /// The transaction is rolled back to the savepoint of this name.
    RollbackTo(String),
}

impl Change {
    /// What remains to be said of this where it may have been done or not, and with any value, as in a
    /// function's body: the settings that are not known behind it, but for those that choose the route.
    pub(crate) fn perhaps(&self) -> Vec<Self> {
        let path = |local| Self::SearchPath {
            path: Value::Unknown,
            local,
        };
        let role = |local| Self::Role {
            role: Value::Unknown,
            local,
        };
        match *self {
            Self::SearchPath { local, .. } => vec![path(local)],
            Self::Role { local, .. } | Self::User { local, .. } => vec![role(local)],
            Self::Backslash { local, .. } => vec![Self::Backslash {
                backslash: Value::Unknown,
                local,
            }],
            Self::Encoding { local, .. } => vec![Self::Encoding {
                encoding: Value::Unknown,
                local,
            }],
            Self::ComputingResource { local, .. } => vec![Self::ComputingResource {
                resource: Value::Unknown,
                local,
            }],
            Self::Anything | Self::DiscardAll => vec![path(false), role(false)],
            Self::AnyRelation => vec![Self::AnyRelation],
            Self::Dropped { .. } | Self::DiscardTemporary | Self::MayDrop => vec![Self::MayDrop],
            _ => Vec::new(),
        }
    }
}
