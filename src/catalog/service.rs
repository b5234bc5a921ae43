//! The connection of the service account. One is made for each reading and closed after it, so that
//! Osprey holds no connection slot of the instance while it asks nothing.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_postgres::config::{SslMode, SslNegotiation};
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::TlsConnect;
use tokio_postgres::{Client, Connection};

use super::ask::{Account, Ask};
use super::bounded::Bounded;
use super::contents::Contents;
use super::error::{Failure, ReadError};
use super::query_log::{self, FailedReads};
use super::read;
use crate::config::{Catalog, Secret};
use crate::net::endpoint::Purpose;
use crate::net::{Endpoint, TokioNetwork};

/// The name under which `pg_stat_activity` shows that connection.
pub const APPLICATION_NAME: &str = "osprey-catalog";

/// The longest a whole reading may take, connecting excluded.
const READING_DEADLINE: Duration = Duration::from_mins(2);

/// The longest one of its questions may take.
const STATEMENT_TIMEOUT: &str = "60s";

/// How to reach the upstream as the service account.
#[derive(Clone)]
pub struct Service {
    endpoint: Arc<Endpoint>,
    user: String,
    password: Option<Secret>,
    servers: Vec<String>,
}

impl Service {
    /// The service account of these settings; `None` if they name none. It reaches the upstream as
    /// sessions do, through their `endpoint` and with the same TLS.
    pub fn new(catalog: &Catalog, endpoint: Arc<Endpoint>) -> Option<Self> {
        Some(Self {
            endpoint,
            user: catalog.user.clone()?,
            password: catalog.password.clone(),
            servers: catalog.servers.clone(),
        })
    }

    /// Reads `database`'s catalogs over a connection of its own.
    ///
    /// # Errors
    /// [`ReadError`] says what kind of failure it was; what was known before stays true enough to
    /// go on with.
    pub async fn read(&self, database: &str) -> Result<Contents, ReadError> {
        self.asking(database, async |client| {
            let mut account = in_time(client).await?;
            read::contents(&mut account, &self.servers).await
        })
        .await
    }

    /// The databases that the service account may connect to, as `database` lists them.
    ///
    /// # Errors
    /// See [`Service::read`].
    pub async fn databases(&self, database: &str) -> Result<Vec<String>, ReadError> {
        self.asking(database, async |client| {
            read::databases(&mut Account(client)).await
        })
        .await
    }

    /// The reads of `database` that failed on encrypted data in the last days, by application and user,
    /// as Hologres' query log has them; see [`FailedReads`].
    ///
    /// # Errors
    /// See [`Service::read`]; also if the log is not there, or not for the service account.
    pub async fn failed_reads(&self, database: &str) -> Result<Vec<FailedReads>, ReadError> {
        self.asking(database, async |client| {
            let mut account = in_time(client).await?;
            Ok(query_log::failed_reads(&mut account).await?)
        })
        .await
    }

    /// What the server has against `statement` when it reads it without running it, as the service
    /// account; `None`: nothing, or a text of several statements, which cannot be asked about.
    ///
    /// # Errors
    /// See [`Service::read`].
    pub async fn objection(
        &self,
        database: &str,
        statement: &str,
    ) -> Result<Option<String>, ReadError> {
        self.asking(database, async |client| {
            let Err(error) = client.prepare(statement).await else {
                return Ok(None);
            };
            match error.as_db_error() {
                // A mistake of syntax has a place; that there are several statements has none.
                Some(said)
                    if *said.code() == SqlState::SYNTAX_ERROR && said.position().is_none() =>
                {
                    Ok(None)
                }
                // Class 42, "syntax error or access rule violation": what is wrong with the text.
                Some(said) if said.code().code().starts_with("42") => {
                    Ok(Some(ReadError::from(&error).reason))
                }
                _ => Err(ReadError::from(&error)),
            }
        })
        .await
    }

    async fn asking<R>(
        &self,
        database: &str,
        questions: impl AsyncFnOnce(&Client) -> Result<R, ReadError>,
    ) -> Result<R, ReadError> {
        let connected = self
            .endpoint
            .connect(&TokioNetwork, Purpose::Session)
            .await
            .map_err(|error| ReadError::from(&error))?;
        let mut config = tokio_postgres::Config::new();
        config
            .user(&self.user)
            .dbname(database)
            .application_name(APPLICATION_NAME)
            // TLS, if there is any, has begun: the driver only asks what it is bound to.
            .ssl_mode(SslMode::Require)
            .ssl_negotiation(SslNegotiation::Direct);
        if let Some(Secret(password)) = &self.password {
            config.password(password);
        }
        let limit = self.endpoint.timeout();
        let stream = Bounded::new(connected.stream);
        let (client, connection) = tokio::time::timeout(limit, config.connect_raw(stream, AsItIs))
            .await
            .map_err(|_| ReadError::timeout("logging in", limit))?
            .map_err(|error| ReadError::from(&error))?;
        tokio::time::timeout(READING_DEADLINE, ask(client, connection, questions))
            .await
            .map_err(|_| ReadError::timeout("reading the catalogs", READING_DEADLINE))?
    }
}

/// Whoever asks here, with a limit for each question.
async fn in_time(client: &Client) -> Result<Account<'_>, ReadError> {
    let mut account = Account(client);
    account
        .ask(&format!("SET statement_timeout = '{STATEMENT_TIMEOUT}'"))
        .await?;
    Ok(account)
}

/// What tokio-postgres takes for a TLS library: the stream has begun TLS already, or is to do
/// without.
struct AsItIs;

impl TlsConnect<Bounded> for AsItIs {
    type Stream = Bounded;
    type Error = std::convert::Infallible;
    type Future = std::future::Ready<Result<Bounded, Self::Error>>;

    fn connect(self, stream: Bounded) -> Self::Future {
        std::future::ready(Ok(stream))
    }
}

/// Runs the questions and the connection in one future, so that giving up on it leaves no task
/// behind.
async fn ask<R, S, T>(
    client: Client,
    connection: Connection<S, T>,
    questions: impl AsyncFnOnce(&Client) -> Result<R, ReadError>,
) -> Result<R, ReadError>
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    let questions = async move {
        // Dropping the client, at the end of this block, lets the driver say Terminate.
        let client = client;
        questions(&client).await
    };
    match tokio::join!(questions, connection) {
        (Ok(answer), _) => Ok(answer),
        // The driver knows what the server said last; the client knows only "closed".
        (Err(error), Err(last)) if error.failure == Failure::Unreachable => {
            Err(ReadError::from(&last))
        }
        (Err(error), _) => Err(error),
    }
}
