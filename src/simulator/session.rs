//! One connection's state, and what each statement does to it.

use std::sync::Arc;

use super::database::Rows;
use super::engine::Engine;
use super::settings::{Settings, Status};
use super::statement::Statement;
use super::translate::{Translation, translate};
use super::translator::ParameterTypes;
use super::value::{Column, SqlError, Type, Value};
use super::world::{Asking, World};

/// A statement that has been looked at: what it takes and what it returns.
#[derive(Debug, Clone)]
pub(super) struct Prepared {
    /// Its text, for the log.
    pub(super) sql: String,
    pub(super) statement: Statement,
    pub(super) parameters: Vec<Type>,
    pub(super) columns: Vec<Column>,
    query: Option<Translation>,
}

/// What running a statement yields.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Rows, and the tag of the CommandComplete behind them.
    Rows(Rows, &'static str),
    /// Only the tag, and perhaps a warning in front of it.
    Done(&'static str, Option<SqlError>),
}

/// The session.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) settings: Settings,
    pub(super) connection: i32,
    user: String,
    database: String,
}

impl Session {
    pub(super) fn new(
        world: &World,
        connection: i32,
        user: String,
        database: String,
        startup: Vec<(String, String)>,
    ) -> Result<Self, SqlError> {
        let mut overrides = world.database_settings(&database);
        overrides.push(("session_authorization".to_owned(), user.clone()));
        overrides.extend(startup);
        Ok(Self {
            settings: Settings::new(overrides)?,
            connection,
            user,
            database,
        })
    }

    /// Finds out what `statement` takes and returns; `declared` are the types that the client
    /// gives its parameters.
    pub(super) fn prepare(
        &self,
        world: &World,
        sql: &str,
        statement: Statement,
        declared: ParameterTypes,
    ) -> Result<Prepared, SqlError> {
        self.check_not_failed(&statement)?;
        let mut parameters = declared;
        let query = match &statement {
            Statement::Query(query) | Statement::Explain(query) => {
                let made = translate(&world.relations, query, &mut parameters)?;
                world.check(&made.sql)?;
                Some(made)
            }
            _ => None,
        };
        let columns = match (&statement, &query) {
            (Statement::Query(_), Some(query)) => query.columns.clone(),
            (Statement::Explain(_), _) => vec![Column::new("QUERY PLAN", Type::TEXT)],
            (Statement::Show(name), _) => vec![Column::new(name.as_str(), Type::TEXT)],
            _ => Vec::new(),
        };
        Ok(Prepared {
            sql: sql.to_owned(),
            statement,
            parameters: parameters
                .into_iter()
                .map(|kind| {
                    kind.filter(|kind| *kind != Type::UNKNOWN)
                        .unwrap_or(Type::TEXT)
                })
                .collect(),
            columns,
            query,
        })
    }

    fn check_not_failed(&self, statement: &Statement) -> Result<(), SqlError> {
        if self.settings.status() != Status::Failed || statement.ends_transaction() {
            return Ok(());
        }
        Err(SqlError::new(
            "25P02",
            "current transaction is aborted, commands ignored until end of transaction block",
        ))
    }

    /// Runs what was prepared.
    pub(super) fn execute(
        &mut self,
        world: &Arc<World>,
        prepared: &Prepared,
        parameters: &[Value],
    ) -> Result<Outcome, SqlError> {
        self.check_not_failed(&prepared.statement)?;
        self.settings.begin_statement();
        let settings = &mut self.settings;
        let tag = match (&prepared.statement, &prepared.query) {
            (Statement::Explain(_), Some(query)) => {
                let lines = explained(world, query, settings);
                let rows = lines
                    .into_iter()
                    .map(|line| vec![Value::Text(line)])
                    .collect();
                return Ok(rows_of(rows, "EXPLAIN"));
            }
            (_, Some(query)) => {
                let asking = Asking {
                    settings,
                    user: &self.user,
                    database: &self.database,
                    connection: self.connection,
                };
                let (rows, sets) = world.run(query, parameters, &asking)?;
                for (name, value, local) in sets {
                    settings.set(&name, Some(value), local)?;
                }
                return Ok(Outcome::Rows(rows, "SELECT"));
            }
            (Statement::Show(name), _) => {
                let value = Value::Text(settings.show(name)?.to_owned());
                return Ok(rows_of(vec![vec![value]], "SHOW"));
            }
            (Statement::Set { name, value, local }, _) => {
                settings.set(name, value.clone(), *local)?;
                if *local && settings.status() == Status::Idle {
                    let message = "SET LOCAL can only be used in transaction blocks";
                    return Ok(Outcome::Done("SET", Some(SqlError::new("25P01", message))));
                }
                "SET"
            }
            (Statement::Reset(name), _) => {
                settings.show(name)?;
                settings.set(name, None, false)?;
                "RESET"
            }
            (Statement::ResetAll, _) => {
                settings.reset_all();
                "RESET"
            }
            (Statement::Discard("DISCARD ALL"), _) if settings.status() != Status::Idle => {
                let message = "DISCARD ALL cannot run inside a transaction block";
                return Err(SqlError::new("25001", message));
            }
            (Statement::Discard(tag), _) => {
                if *tag == "DISCARD ALL" {
                    settings.reset_all();
                }
                tag
            }
            (
                Statement::AlterDatabase {
                    database,
                    name,
                    value,
                },
                _,
            ) => {
                world.alter_database(database, name, value.clone());
                "ALTER DATABASE"
            }
            (Statement::Begin(tag), _) => {
                let within = settings.status() == Status::InTransaction;
                settings.begin();
                let warning = within
                    .then(|| SqlError::new("25001", "there is already a transaction in progress"));
                return Ok(Outcome::Done(tag, warning));
            }
            (Statement::Commit | Statement::Rollback, _) => {
                let warning = (settings.status() == Status::Idle)
                    .then(|| SqlError::new("25P01", "there is no transaction in progress"));
                let committed = prepared.statement == Statement::Commit && settings.commit();
                if !committed {
                    settings.rollback();
                }
                return Ok(Outcome::Done(
                    if committed { "COMMIT" } else { "ROLLBACK" },
                    warning,
                ));
            }
            (Statement::Savepoint(name), _) => {
                settings.savepoint(name.clone())?;
                "SAVEPOINT"
            }
            (Statement::Release(name), _) => {
                settings.release(name)?;
                "RELEASE"
            }
            (Statement::RollbackTo(name), _) => {
                settings.rollback_to(name)?;
                "ROLLBACK"
            }
            // `prepare` has translated every query; SET TRANSACTION has no effect here.
            (Statement::SetTransaction | Statement::Query(_) | Statement::Explain(_), None) => {
                "SET"
            }
        };
        Ok(Outcome::Done(tag, None))
    }
}

/// What EXPLAIN says: what is read, and by which engine.
fn explained(world: &World, query: &Translation, settings: &Settings) -> Vec<String> {
    let mut lines = Vec::new();
    for read in &query.reads {
        let foreign = world.foreign(read);
        let scan = if foreign.is_some() {
            "Foreign Scan"
        } else {
            "Seq Scan"
        };
        lines.push(format!("{scan} on {read}"));
        if let Some((project, table)) = foreign.and_then(|relation| relation.foreign.as_ref()) {
            let engine = Engine::reading(true, settings);
            lines.push(format!("  Engine: {engine}"));
            lines.push(format!("  MaxCompute: {project}.{table}"));
        }
    }
    if lines.is_empty() {
        lines.push("Result".to_owned());
    }
    lines
}

fn rows_of(rows: Vec<Vec<Value>>, tag: &'static str) -> Outcome {
    Outcome::Rows(
        Rows {
            rows,
            failure: None,
        },
        tag,
    )
}
