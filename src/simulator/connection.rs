//! The simulator's side of the protocol, on pgwire's server traits. What pgwire would do with a
//! result is done here instead where it differs from PostgreSQL: rows that come before an error
//! are sent, Sync outside of a transaction drops the portals, a simple query drops the unnamed
//! statement, and the transaction status follows the session.

use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures::sink::{Sink, SinkExt};
use futures::stream::{self, StreamExt};
use pgwire::api::auth::StartupHandler;
use pgwire::api::portal::{Format, Portal, PortalExecutionState};
use pgwire::api::query::{ExtendedQueryHandler, SimpleQueryHandler, send_ready_for_query};
use pgwire::api::results::{FieldInfo, QueryResponse, Response, Tag};
use pgwire::api::stmt::QueryParser;
use pgwire::api::store::{Entry, PortalStore};
use pgwire::api::{
    ClientInfo, ClientPortalStore, DEFAULT_NAME, ErrorHandler, PgWireServerHandlers,
    Type as WireType,
};
use pgwire::error::{PgWireError, PgWireResult};
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::data::RowDescription;
use pgwire::messages::extendedquery::{Execute, PortalSuspended, Sync as SyncMessage};
use pgwire::messages::response::{CommandComplete, EmptyQueryResponse, TransactionStatus};
use pgwire::messages::simplequery::Query;
use pgwire::messages::startup::ParameterStatus;

use super::format::{encode, fields, parameters};
use super::session::{Outcome, Prepared, Session};
use super::settings::Status;
use super::statement::parse;
use super::value::SqlError;
use super::world::{Protocol, Received, World};

/// One connection: all of pgwire's handlers at once.
pub(super) struct Connection {
    pub(super) world: Arc<World>,
    /// `None` until the startup packet has been read.
    session: Mutex<Option<Session>>,
}

/// The handlers as pgwire wants them.
pub(super) struct Handlers(pub(super) Arc<Connection>);

impl PgWireServerHandlers for Handlers {
    fn simple_query_handler(&self) -> Arc<impl SimpleQueryHandler> {
        Arc::clone(&self.0)
    }

    fn extended_query_handler(&self) -> Arc<impl ExtendedQueryHandler> {
        Arc::new(Extended(Arc::clone(&self.0)))
    }

    fn startup_handler(&self) -> Arc<impl StartupHandler> {
        Arc::clone(&self.0)
    }

    fn error_handler(&self) -> Arc<impl ErrorHandler> {
        Arc::clone(&self.0)
    }
}

impl Connection {
    pub(super) fn new(world: Arc<World>) -> Self {
        Self {
            world,
            session: Mutex::new(None),
        }
    }

    pub(super) fn locked(&self) -> MutexGuard<'_, Option<Session>> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with the session, which exists once startup is over.
    pub(super) fn with_session<T>(
        &self,
        act: impl FnOnce(&mut Session) -> Result<T, SqlError>,
    ) -> PgWireResult<T> {
        match self.locked().as_mut() {
            Some(session) => Ok(act(session)?),
            None => Err(PgWireError::NotReadyForQuery),
        }
    }

    fn status(&self) -> TransactionStatus {
        match self
            .locked()
            .as_ref()
            .map(|session| session.settings.status())
        {
            Some(Status::InTransaction) => TransactionStatus::Transaction,
            Some(Status::Failed) => TransactionStatus::Error,
            Some(Status::Idle) | None => TransactionStatus::Idle,
        }
    }

    fn record(&self, protocol: Protocol, sql: &str) {
        let connection = self
            .locked()
            .as_ref()
            .map_or(0, |session| session.connection);
        self.world.record(Received {
            connection,
            protocol,
            sql: sql.to_owned(),
        });
    }

    /// ParameterStatus for what has changed, and the status for the next ReadyForQuery.
    async fn after_statement<C>(&self, client: &mut C) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<C::Error>,
    {
        let changed = self.with_session(|session| Ok(session.settings.take_changed_reports()))?;
        for (name, value) in changed {
            let report = ParameterStatus::new(name.to_owned(), value);
            client
                .feed(PgWireBackendMessage::ParameterStatus(report))
                .await?;
        }
        client.set_transaction_status(self.status());
        Ok(())
    }

    async fn batch<C>(&self, client: &mut C, sql: &str) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<C::Error>,
    {
        let statements = parse(sql)?;
        if statements.is_empty() {
            client
                .feed(PgWireBackendMessage::EmptyQueryResponse(
                    EmptyQueryResponse::new(),
                ))
                .await?;
        }
        for statement in statements {
            let (prepared, outcome) = self.with_session(|session| {
                let prepared = session.prepare(&self.world, sql, statement, Vec::new())?;
                let outcome = session.execute(&self.world, &prepared, &[])?;
                Ok((prepared, outcome))
            })?;
            self.after_statement(client).await?;
            match outcome {
                Outcome::Done(tag, notice) => complete(client, tag, None, notice).await?,
                Outcome::Rows(rows, tag) => {
                    let fields = Arc::new(fields(&prepared.columns, None));
                    let described = fields.iter().map(Into::into).collect();
                    let description = RowDescription::new(described);
                    client
                        .feed(PgWireBackendMessage::RowDescription(description))
                        .await?;
                    let count = rows.rows.len();
                    for row in encode(&rows.rows, &fields)? {
                        client.feed(PgWireBackendMessage::DataRow(row)).await?;
                    }
                    if let Some(failure) = rows.failure {
                        return Err(failure.into());
                    }
                    complete(client, tag, Some(count), None).await?;
                }
            }
        }
        Ok(())
    }

    async fn execute_portal<C>(
        &self,
        client: &mut C,
        portal: &Portal<Prepared>,
        max_rows: usize,
    ) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<C::Error>,
    {
        let prepared = &portal.statement.statement;
        let state = portal.state();
        let mut state = state.lock().await;
        if matches!(*state, PortalExecutionState::Initial) {
            self.record(Protocol::Extended, &prepared.sql);
            let values = parameters(portal, &prepared.parameters)?;
            let outcome =
                self.with_session(|session| session.execute(&self.world, prepared, &values))?;
            self.after_statement(client).await?;
            match outcome {
                Outcome::Done(tag, notice) => {
                    *state = PortalExecutionState::Finished;
                    return complete(client, tag, None, notice).await;
                }
                Outcome::Rows(rows, tag) => {
                    let fields = Arc::new(fields(
                        &prepared.columns,
                        Some(&portal.result_column_format),
                    ));
                    let encoded = encode(&rows.rows, &fields)?.into_iter().map(Ok);
                    let failure = rows.failure.map(|failure| Err(failure.into()));
                    let rows = stream::iter(encoded.chain(failure));
                    let mut response = QueryResponse::new(fields, rows);
                    response.set_command_tag(tag);
                    *state = PortalExecutionState::Suspended(response);
                }
            }
        }
        let mut count = 0;
        if let PortalExecutionState::Suspended(response) = &mut *state {
            let tag = response.command_tag().to_owned();
            while max_rows == 0 || count < max_rows {
                let Some(row) = response.data_rows().next().await else {
                    *state = PortalExecutionState::Finished;
                    return complete(client, &tag, Some(count), None).await;
                };
                client.feed(PgWireBackendMessage::DataRow(row?)).await?;
                count += 1;
            }
            client
                .feed(PgWireBackendMessage::PortalSuspended(PortalSuspended::new()))
                .await?;
            return Ok(());
        }
        complete(client, "SELECT", Some(0), None).await
    }
}

async fn complete<C>(
    client: &mut C,
    tag: &str,
    rows: Option<usize>,
    notice: Option<SqlError>,
) -> PgWireResult<()>
where
    C: Sink<PgWireBackendMessage> + Unpin + Send,
    C::Error: Debug,
    PgWireError: From<C::Error>,
{
    if let Some(notice) = notice {
        client
            .feed(PgWireBackendMessage::NoticeResponse(
                notice.reported("WARNING").into(),
            ))
            .await?;
    }
    let tag = match rows {
        Some(rows) if tag == "SELECT" => Tag::new(tag).with_rows(rows),
        _ => Tag::new(tag),
    };
    client
        .feed(PgWireBackendMessage::CommandComplete(
            CommandComplete::from(tag),
        ))
        .await?;
    Ok(())
}

impl ErrorHandler for Connection {
    fn on_error<C>(&self, _client: &C, _error: &mut PgWireError)
    where
        C: ClientInfo,
    {
        if let Some(session) = self.locked().as_mut() {
            session.settings.fail();
        }
    }
}

#[async_trait]
impl SimpleQueryHandler for Connection {
    async fn on_query<C>(&self, client: &mut C, query: Query) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        client.portal_store().rm_statement(DEFAULT_NAME);
        client.portal_store().rm_portal(DEFAULT_NAME);
        self.record(Protocol::Simple, &query.query);
        self.batch(client, &query.query).await?;
        self.with_session(|session| {
            session.settings.end_implicit();
            Ok(())
        })?;
        let status = self.status();
        if status == TransactionStatus::Idle {
            client.portal_store().clear_portals();
        }
        send_ready_for_query(client, status).await
    }

    async fn do_query<C>(&self, _client: &mut C, _query: &str) -> PgWireResult<Vec<Response>>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        Ok(Vec::new()) // on_query does not come here
    }
}

/// The extended protocol's handler; apart, because both traits have a `do_query`.
struct Extended(Arc<Connection>);

#[async_trait]
impl ExtendedQueryHandler for Extended {
    type Statement = Prepared;
    type QueryParser = Preparer;

    fn query_parser(&self) -> Arc<Preparer> {
        Arc::new(Preparer(Arc::clone(&self.0)))
    }

    async fn on_execute<C>(&self, client: &mut C, message: Execute) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let name = message.name.as_deref().unwrap_or(DEFAULT_NAME);
        match client.portal_store().get_portal(name) {
            Some(Entry::Value(portal)) => {
                let max_rows = usize::try_from(message.max_rows).unwrap_or(0);
                self.0.execute_portal(client, &portal, max_rows).await
            }
            Some(Entry::Empty) => {
                client
                    .feed(PgWireBackendMessage::EmptyQueryResponse(
                        EmptyQueryResponse::new(),
                    ))
                    .await?;
                Ok(())
            }
            None => Err(PgWireError::PortalNotFound(name.to_owned())),
        }
    }

    async fn on_sync<C>(&self, client: &mut C, _message: SyncMessage) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        self.0.with_session(|session| {
            session.settings.end_implicit();
            Ok(())
        })?;
        let status = self.0.status();
        if status == TransactionStatus::Idle {
            client.portal_store().clear_portals();
        }
        client.set_transaction_status(status);
        send_ready_for_query(client, status).await
    }

    async fn do_query<C>(
        &self,
        _client: &mut C,
        _portal: &Portal<Prepared>,
        _max_rows: usize,
    ) -> PgWireResult<Response>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        Ok(Response::EmptyQuery) // on_execute does not come here
    }
}

/// What Parse does.
struct Preparer(Arc<Connection>);

#[async_trait]
impl QueryParser for Preparer {
    type Statement = Prepared;

    async fn parse_sql<C>(
        &self,
        _client: &C,
        sql: &str,
        types: &[Option<WireType>],
    ) -> PgWireResult<Option<Prepared>>
    where
        C: ClientInfo + Unpin + Send + Sync,
    {
        let mut statements = parse(sql)?;
        let Some(statement) = statements.pop() else {
            return Ok(None);
        };
        if !statements.is_empty() {
            let message = "cannot insert multiple commands into a prepared statement";
            return Err(SqlError::new("42601", message).into());
        }
        let declared = types
            .iter()
            .map(|kind| kind.clone().filter(|kind| *kind != WireType::UNKNOWN))
            .collect();
        let connection = &self.0;
        connection
            .with_session(|session| session.prepare(&connection.world, sql, statement, declared))
            .map(Some)
    }

    fn get_parameter_types(&self, statement: &Prepared) -> PgWireResult<Vec<WireType>> {
        Ok(statement.parameters.clone())
    }

    fn get_result_schema(
        &self,
        statement: &Prepared,
        format: Option<&Format>,
    ) -> PgWireResult<Vec<FieldInfo>> {
        Ok(fields(&statement.columns, format))
    }
}
