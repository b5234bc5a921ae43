//! The statements the simulator understands.

use super::catalog::Question;
use super::expression::Expression;
use super::lexer::{Token, tokens};
use super::parser::Parser;
use super::value::SqlError;

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

/// The statements of `sql`, in order; empty ones are left out.
pub(super) fn parse(sql: &str) -> Result<Vec<Statement>, SqlError> {
    if let Some(question) = Question::recognise(sql) {
        return Ok(vec![Statement::Catalog(question)]);
    }
    let tokens = tokens(sql)?;
    let mut statements = Vec::new();
    for tokens in tokens.split(|token| *token == Token::Symbol(";")) {
        if !tokens.is_empty() {
            let mut parser = Parser { tokens, at: 0 };
            statements.push(parser.statement()?);
            parser.end()?;
        }
    }
    Ok(statements)
}

/// The SELECT that defines a view.
pub(super) fn parse_view(sql: &str) -> Result<Select, SqlError> {
    match parse(sql)?.pop() {
        Some(Statement::Select(select)) => Ok(select),
        _ => Err(SqlError::not_understood("a view's definition")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_split_and_empty_statements_are_left_out() {
        let sql = "; SET hg_x = false;; BEGIN ; SELECT 'a;b' ;";
        let statements = parse(sql).unwrap();
        assert_eq!(statements.len(), 3);
        let set = Statement::Set {
            name: "hg_x".into(),
            value: Some("false".into()),
            local: false,
        };
        assert_eq!(statements[0], set);
    }

    #[test]
    fn precedence() {
        let sql = |text| parse(text).unwrap();
        assert_eq!(
            sql("SELECT 1 + 2 * 3 = 7 AND NOT a"),
            sql("SELECT ((1+(2*3))=7) AND (NOT a)")
        );
        assert_eq!(sql("SELECT a - 1 - 2"), sql("SELECT (a - 1) - 2"));
        assert_eq!(sql("SELECT NOT a = 1"), sql("SELECT NOT (a = 1)"));
    }

    #[test]
    fn what_is_not_understood_is_said_with_its_place() {
        for (sql, near) in [
            ("SELECT a FROM t JOIN u", "\"join\""),
            ("CREATE TABLE t (a int)", "\"create\""),
            ("SELECT a FROM t WHERE", "the end of the statement"),
            ("SELECT a FROM t HAVING 1", "\"having\""),
            ("SELECT 1::point", "the type \"point\""),
        ] {
            let error = parse(sql).unwrap_err();
            assert_eq!(error.code, "0A000", "{sql}");
            assert!(error.message.ends_with(near), "{sql}: {}", error.message);
        }
    }
}
