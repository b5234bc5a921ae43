//! The statements the simulator understands.

use super::expression::Expression;
use super::question::Question;

/// One statement.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Statement {
    Select(Select),
    Explain(Select),
    Set {
        name: String,
        /// `None`: DEFAULT.
        value: Option<String>,
        local: bool,
    },
    /// `SET TRANSACTION …` and `SET SESSION CHARACTERISTICS …`: accepted, without effect.
    SetTransaction,
    Reset(String),
    ResetAll,
    DiscardAll,
    Show(String),
    /// `ALTER DATABASE … SET`, for the connections to come.
    AlterDatabase {
        database: String,
        name: String,
        /// `None`: RESET.
        value: Option<String>,
    },
    /// BEGIN or START TRANSACTION; the tag of its CommandComplete.
    Begin(&'static str),
    Commit,
    Rollback,
    Savepoint(String),
    Release(String),
    RollbackTo(String),
    /// What Osprey's catalog reader asks.
    Catalog(Question),
}

impl Statement {
    /// True if it may run in a failed transaction.
    pub(super) fn ends_transaction(&self) -> bool {
        matches!(self, Self::Commit | Self::Rollback | Self::RollbackTo(_))
    }
}

/// A SELECT.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Select {
    pub(super) items: Vec<Item>,
    /// Schema and name; `None`: a SELECT of expressions.
    pub(super) from: Option<(Option<String>, String)>,
    pub(super) filter: Option<Expression>,
    pub(super) group: Vec<Expression>,
    pub(super) order: Vec<(Expression, bool)>,
    pub(super) limit: Option<Expression>,
    pub(super) offset: Option<Expression>,
}

/// One entry of a select list.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Item {
    All,
    Expression(Expression, Option<String>),
}
