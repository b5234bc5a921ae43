//! One connection: who it is, and what is answered, on pgwire's server traits.

use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures::sink::Sink;
use futures::stream::{self, StreamExt as _};
use pgwire::api::portal::{Format, Portal};
use pgwire::api::query::{ExtendedQueryHandler, SimpleQueryHandler};
use pgwire::api::results::{FieldInfo, QueryResponse, Response, Tag};
use pgwire::api::stmt::QueryParser;
use pgwire::api::store::PortalStore;
use pgwire::api::{ClientInfo, ClientPortalStore, METADATA_USER, Type as WireType};
use pgwire::error::{PgWireError, PgWireResult};
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::response::TransactionStatus;

use super::command;
use super::error::Error;
use super::format::{bound, encoded, fields, wire};
use super::gate::From;
use super::office::Office;
use super::parser::parse;
use super::query::{select, value};
use super::scram::Exchange;
use super::statement::{Command, Parsed, Statement};
use super::value::{Type, Value};
use crate::observe::metrics::ConsoleCommand;
use crate::session::Place;

/// Rows that are sent before others have their turn.
const ROWS_A_TURN: usize = 200;

/// One connection.
pub(super) struct Connection {
    pub(super) office: Arc<Office>,
    pub(super) from: From,
    /// Who may log in.
    pub(super) way: Way,
    pub(super) login: Mutex<Login>,
}

/// How a client shows who it is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Way {
    /// The kernel says which user's process it is.
    Peer { uid: u32 },
    /// It knows a password.
    Password,
}

/// How far its login has come.
#[derive(Default)]
pub(super) struct Login {
    pub(super) exchange: Option<Exchange>,
    /// Its place, from the connect until it has logged in.
    pub(super) greeting: Option<Place>,
    /// Its place, once it has.
    pub(super) place: Option<Place>,
    /// Who it is, for the log.
    pub(super) who: String,
}

impl Connection {
    pub(super) fn login(&self) -> MutexGuard<'_, Login> {
        self.login.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True once it has logged in.
    pub(super) fn is_in(&self) -> bool {
        self.login().place.is_some()
    }

    /// Runs one statement, with the values of Bind; `format` is that of its columns.
    async fn run(
        &self,
        parsed: &Parsed,
        values: Vec<Value>,
        format: Option<&Format>,
        status: TransactionStatus,
    ) -> Result<Response, Error> {
        let failed = status == TransactionStatus::Error;
        let statement = &parsed.statement;
        if failed
            && !matches!(
                statement,
                Statement::End { .. } | Statement::Nothing("ROLLBACK")
            )
        {
            let message =
                "current transaction is aborted, commands ignored until end of transaction block";
            return Err(Error::new("25P02", message));
        }
        let counts = &self.office.world.shared.metrics.console().commands;
        let outcome = match statement {
            Statement::Nothing(tag) => return Ok(Response::Execution(Tag::new(tag))),
            Statement::Begin => return Ok(Response::TransactionStart(Tag::new("BEGIN"))),
            Statement::End { commit } => {
                let tag = if *commit && !failed {
                    "COMMIT"
                } else {
                    "ROLLBACK"
                };
                return Ok(Response::TransactionEnd(Tag::new(tag)));
            }
            Statement::Command(command) => self.act(command.clone(), values).await.map(|()| None),
            _ => self.look(statement.clone(), values, format).await.map(Some),
        };
        let (response, kind) = match outcome {
            Ok(Some(rows)) => (Response::Query(rows), ConsoleCommand::Read),
            Ok(None) => (
                Response::Execution(Tag::new(parsed.tag())),
                ConsoleCommand::Write,
            ),
            Err(error) => {
                counts.of(ConsoleCommand::Failed).inc();
                return Err(error);
            }
        };
        counts.of(kind).inc();
        Ok(response)
    }

    /// The rows of what is asked, found and encoded where no session is served; `format` is that of
    /// their columns.
    async fn look(
        &self,
        statement: Statement,
        values: Vec<Value>,
        format: Option<&Format>,
    ) -> Result<QueryResponse, Error> {
        let world = Arc::clone(&self.office.world);
        let fields = Arc::new(fields(&statement.columns(), format));
        let looking = {
            let fields = Arc::clone(&fields);
            self.office.runtime.spawn(async move {
                let rows = match &statement {
                    Statement::Select(query) => select(query, (query.table.rows)(&world), &values)?,
                    Statement::Explain(explain) => command::explain(explain, &values, &world)?,
                    Statement::Rows { rows, .. } => rows.clone(),
                    _ => Vec::new(),
                };
                encoded(&rows, &fields).map_err(internal)
            })
        };
        let rows = looking.await.map_err(internal)??;
        // What they are sent on may be a thread that serves sessions, which have their turns meanwhile.
        let rows = stream::iter(rows.into_iter().enumerate()).then(|(at, row)| async move {
            if at % ROWS_A_TURN == ROWS_A_TURN - 1 {
                tokio::task::yield_now().await;
            }
            Ok(row)
        });
        Ok(QueryResponse::new(fields, rows))
    }

    /// Does what a command says, and writes down who said it.
    async fn act(&self, command: Command, values: Vec<Value>) -> Result<(), Error> {
        let operand = command.operand().map(|operand| value(operand, &values));
        let about = operand.and_then(|operand| operand.printed());
        let text = [Some(command.tag().to_owned()), about];
        let text: Vec<_> = text.into_iter().flatten().collect();
        let text = text.join(" ");
        let who = self.login().who.clone();
        let world = Arc::clone(&self.office.world);
        let acting = self.office.runtime.spawn(async move {
            let outcome = command::run(&command, &values, &world).await;
            match &outcome {
                Ok(()) => tracing::info!(who, command = text, "a console command"),
                Err(error) => {
                    tracing::info!(
                        who,
                        command = text,
                        error = error.message,
                        "a console command failed"
                    );
                }
            }
            outcome
        });
        acting.await.map_err(internal)?
    }
}

/// A fault of Osprey's own.
#[allow(clippy::needless_pass_by_value)] // for map_err
fn internal(error: impl ToString) -> Error {
    Error::new(
        "XX000",
        format!("a fault of Osprey's: {}", error.to_string()),
    )
}

fn user<C: ClientInfo>(client: &C) -> String {
    client
        .metadata()
        .get(METADATA_USER)
        .cloned()
        .unwrap_or_default()
}

#[async_trait]
impl SimpleQueryHandler for Connection {
    async fn do_query<C>(&self, client: &mut C, query: &str) -> PgWireResult<Vec<Response>>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        C::Error: Debug,
        PgWireError: std::convert::From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let reported = |error: Error| error.reported("ERROR", query);
        let fails = |error| PgWireError::UserError(Box::new(reported(error)));
        let counts = &self.office.world.shared.metrics.console().commands;
        let statements = parse(query, &user(client)).map_err(|error| {
            counts.of(ConsoleCommand::Failed).inc();
            fails(error)
        })?;
        if statements.is_empty() {
            return Ok(vec![Response::EmptyQuery]);
        }
        let mut status = client.transaction_status();
        let mut responses = Vec::new();
        for parsed in &statements {
            if !parsed.parameters.is_empty() {
                return Err(fails(Error::new("42P02", "there is no parameter $1")));
            }
            // What came before a failure is answered.
            let response = match self.run(parsed, Vec::new(), None, status).await {
                Ok(response) => response,
                Err(error) => {
                    responses.push(Response::Error(Box::new(reported(error))));
                    break;
                }
            };
            status = match &response {
                Response::TransactionStart(_) => status.to_in_transaction_state(),
                Response::TransactionEnd(_) => status.to_idle_state(),
                _ => status,
            };
            responses.push(response);
        }
        Ok(responses)
    }
}

/// The extended protocol's handler; apart, because both traits have a `do_query`.
pub(super) struct Extended(pub(super) Arc<Connection>);

#[async_trait]
impl ExtendedQueryHandler for Extended {
    type Statement = Parsed;
    type QueryParser = Preparer;

    fn query_parser(&self) -> Arc<Preparer> {
        Arc::new(Preparer)
    }

    async fn do_query<C>(
        &self,
        client: &mut C,
        portal: &Portal<Parsed>,
        _max_rows: usize,
    ) -> PgWireResult<Response>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Parsed>,
        C::Error: Debug,
        PgWireError: std::convert::From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let parsed = &portal.statement.statement;
        let fails =
            |error: Error| PgWireError::UserError(Box::new(error.reported("ERROR", &parsed.text)));
        let format = &portal.result_column_format;
        if let Format::Individual(codes) = format
            && codes.len() != parsed.statement.columns().len()
        {
            let message =
                "bind message has another number of result formats than there are columns";
            return Err(fails(Error::new("08P01", message)));
        }
        let values = bound(portal, &parsed.parameters).map_err(fails)?;
        let status = client.transaction_status();
        let running = self.0.run(parsed, values, Some(format), status);
        running.await.map_err(fails)
    }
}

/// What Parse does.
pub(super) struct Preparer;

#[async_trait]
impl QueryParser for Preparer {
    type Statement = Parsed;

    async fn parse_sql<C>(
        &self,
        client: &C,
        sql: &str,
        _types: &[Option<WireType>],
    ) -> PgWireResult<Option<Parsed>>
    where
        C: ClientInfo + Unpin + Send + Sync,
    {
        let fails = |error: Error| PgWireError::UserError(Box::new(error.reported("ERROR", sql)));
        let mut statements = parse(sql, &user(client)).map_err(fails)?;
        let statement = statements.pop();
        if !statements.is_empty() {
            let message = "cannot insert multiple commands into a prepared statement";
            return Err(fails(Error::new("42601", message)));
        }
        Ok(statement)
    }

    fn get_parameter_types(&self, parsed: &Parsed) -> PgWireResult<Vec<WireType>> {
        let kinds = parsed.parameters.iter();
        Ok(kinds.map(|kind| wire(kind.unwrap_or(Type::Text))).collect())
    }

    fn get_result_schema(
        &self,
        parsed: &Parsed,
        format: Option<&Format>,
    ) -> PgWireResult<Vec<FieldInfo>> {
        let columns = parsed.statement.columns();
        // A wrong number of formats is refused when the statement is run.
        let format = format.filter(
            |format| !matches!(format, Format::Individual(codes) if codes.len() != columns.len()),
        );
        Ok(fields(&columns, format))
    }
}
