//! The service connection: one per reading, closed after it, so that Osprey holds no connection
//! slot of the instance while it is not asking.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{Client, Connection, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::ask::{Account, Ask};
use super::{Contents, Failure, ReadError, read};
use crate::config::{Catalog, Secret, TlsMode, Upstream};

/// As `pg_stat_activity` shows the service connection.
pub const APPLICATION_NAME: &str = "osprey-catalog";

/// The longest a whole reading may take, connecting excluded.
const READING_DEADLINE: Duration = Duration::from_mins(2);

/// The longest one of its questions may take.
const STATEMENT_TIMEOUT: &str = "60s";

/// How to reach the upstream as the service account.
#[derive(Clone)]
pub struct Service {
    host: String,
    port: u16,
    user: String,
    password: Option<Secret>,
    servers: Vec<String>,
    connect_timeout: Duration,
    tls_mode: TlsMode,
    tls: Option<Arc<rustls::ClientConfig>>,
    server_name: String,
}

impl Service {
    /// `None` if no catalog user is configured. `tls` must do the verifying that
    /// `upstream.tls.mode` asks for; without it only `disable` and `prefer` can connect, in
    /// plaintext.
    pub fn new(
        upstream: &Upstream,
        catalog: &Catalog,
        tls: Option<Arc<rustls::ClientConfig>>,
    ) -> Option<Self> {
        Some(Self {
            host: upstream.addresses[0].host.clone(),
            port: upstream.addresses[0].port,
            user: catalog.user.clone()?,
            password: catalog.password.clone(),
            servers: catalog.servers.clone(),
            connect_timeout: upstream.connect_timeout,
            tls_mode: upstream.tls.mode,
            tls,
            server_name: upstream
                .tls
                .server_name
                .clone()
                .unwrap_or_else(|| upstream.addresses[0].host.clone()),
        })
    }

    /// Reads `database`'s catalogs over a connection of its own.
    ///
    /// # Errors
    /// [`ReadError`] says what kind of failure it was; what was known before stays true enough to
    /// go on with.
    pub async fn read(&self, database: &str) -> Result<Contents, ReadError> {
        self.asking(database, async |client| {
            let mut account = Account(client);
            account
                .ask(&format!("SET statement_timeout = '{STATEMENT_TIMEOUT}'"))
                .await?;
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

    async fn asking<R>(
        &self,
        database: &str,
        questions: impl AsyncFnOnce(&Client) -> Result<R, ReadError>,
    ) -> Result<R, ReadError> {
        let connecting = async {
            let address = (self.host.as_str(), self.port);
            let stream = TcpStream::connect(address)
                .await
                .map_err(|error| ReadError::unreachable(&error))?;
            // Small questions and answers: waiting for more bytes would only add latency.
            stream
                .set_nodelay(true)
                .map_err(|error| ReadError::unreachable(&error))?;
            Ok::<_, ReadError>(stream)
        };
        let stream = tokio::time::timeout(self.connect_timeout, connecting)
            .await
            .map_err(|_| ReadError::timeout("connecting", self.connect_timeout))??;

        match (&self.tls, self.tls_mode) {
            (_, TlsMode::Disable) | (None, TlsMode::Prefer) => {
                self.ask_over(stream, NoTls, SslMode::Disable, database, questions)
                    .await
            }
            (Some(tls), mode) => {
                let mut make = MakeRustlsConnect::new((**tls).clone());
                let Ok(connect) =
                    MakeTlsConnect::<TcpStream>::make_tls_connect(&mut make, &self.server_name);
                let ssl_mode = match mode {
                    TlsMode::Prefer => SslMode::Prefer,
                    _ => SslMode::Require,
                };
                self.ask_over(stream, connect, ssl_mode, database, questions)
                    .await
            }
            (None, _) => Err(ReadError {
                failure: Failure::Tls,
                reason: "TLS is required, but no TLS configuration could be made".into(),
            }),
        }
    }

    async fn ask_over<R, T>(
        &self,
        stream: TcpStream,
        tls: T,
        ssl_mode: SslMode,
        database: &str,
        questions: impl AsyncFnOnce(&Client) -> Result<R, ReadError>,
    ) -> Result<R, ReadError>
    where
        T: TlsConnect<TcpStream>,
    {
        let mut config = tokio_postgres::Config::new();
        config
            .user(&self.user)
            .dbname(database)
            .application_name(APPLICATION_NAME)
            .ssl_mode(ssl_mode);
        if let Some(Secret(password)) = &self.password {
            config.password(password);
        }
        let (client, connection) =
            tokio::time::timeout(self.connect_timeout, config.connect_raw(stream, tls))
                .await
                .map_err(|_| ReadError::timeout("logging in", self.connect_timeout))?
                .map_err(|error| ReadError::from(&error))?;
        tokio::time::timeout(READING_DEADLINE, ask(client, connection, questions))
            .await
            .map_err(|_| ReadError::timeout("reading the catalogs", READING_DEADLINE))?
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
