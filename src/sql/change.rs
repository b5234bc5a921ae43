//! What a statement changes for its session, as far as its text alone says it.

/// What a setting becomes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Value<T> {
    /// This.
    Is(T),
    /// What it was at login.
    #[default]
    Default,
    /// Something that the text does not say.
    Unknown,
}

impl<T> Value<T> {
    /// The value, if it is known.
    pub(crate) fn or<'a>(&'a self, default: Option<&'a T>) -> Option<&'a T> {
        match self {
            Self::Is(value) => Some(value),
            Self::Default => default,
            Self::Unknown => None,
        }
    }
}

/// What a statement changes for its session, once it has succeeded: for its settings, and for
/// where names lead. What a statement makes is not among these (see `Made` in `analysis.rs`): where
/// that leads only the catalogs can tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The search path.
    SearchPath {
        /// Its schemas.
        path: Value<Vec<String>>,
        /// Until the transaction ends.
        local: bool,
    },
    /// The present role.
    Role {
        /// Its name; the default is the session's user.
        role: Value<String>,
        /// Until the transaction ends.
        local: bool,
    },
    /// The session's user, and the present role with it.
    User(Value<String>),
    /// A relation is gone; it may have hidden another of its name.
    Dropped(String),
    /// Names may lead anywhere: a schema was renamed or dropped, or what was done is not known.
    Anything,
    /// `DISCARD TEMP`
    DiscardTemporary,
    /// `DISCARD ALL`
    DiscardAll,
    /// A transaction begins.
    Begin,
    /// It is committed.
    Commit,
    /// It is rolled back.
    Rollback,
    /// A savepoint.
    Savepoint(String),
    /// Back to one.
    RollbackTo(String),
}
