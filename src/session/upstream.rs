//! Reaching Hologres: name resolution, connect, TLS; and forwarding a CancelRequest.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::config::{TlsMode, Upstream};
use crate::wire::startup::ssl_request;

use super::stream::{Stream, tune};

/// How long a cancel connection is kept open for the server to close it.
const CANCEL_PATIENCE: Duration = Duration::from_secs(10);

/// Where sessions go.
#[derive(Debug)]
pub struct Target {
    host: String,
    port: u16,
    mode: TlsMode,
    tls: Option<Arc<ClientConfig>>,
    server_name: String,
    timeout: Duration,
}

/// Why Hologres cannot be reached; the text is for the client and for the log.
#[derive(Debug, thiserror::Error)]
pub enum Unreachable {
    /// Name resolution or connect failed.
    #[error("cannot connect to Hologres at {address}: {error}")]
    Connect {
        /// Host and port.
        address: String,
        /// Why.
        error: io::Error,
    },
    /// It took longer than `upstream.connect_timeout`.
    #[error("cannot connect to Hologres at {address}: no answer within {seconds} s")]
    Timeout {
        /// Host and port.
        address: String,
        /// The limit.
        seconds: u64,
    },
    /// The server answered `N` and the configuration requires TLS.
    #[error(
        "Hologres at {address} does not offer TLS, and upstream.tls.mode requires it; \
         switch SSL on for the instance in the Hologres console, or use mode \"prefer\""
    )]
    NoTls {
        /// Host and port.
        address: String,
    },
    /// The TLS handshake failed.
    #[error("TLS with Hologres at {address} failed: {error}")]
    Tls {
        /// Host and port.
        address: String,
        /// Why.
        error: io::Error,
    },
}

impl Target {
    /// From the settings and what [`super::tls::client_config`] made of them.
    pub fn new(settings: &Upstream, tls: Option<Arc<ClientConfig>>) -> Self {
        Self {
            host: settings.addresses[0].host.clone(),
            port: settings.addresses[0].port,
            mode: settings.tls.mode,
            tls,
            server_name: settings
                .tls
                .server_name
                .clone()
                .unwrap_or_else(|| settings.addresses[0].host.clone()),
            timeout: settings.connect_timeout,
        }
    }

    /// `host:port`, for messages.
    pub fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// Connects, with TLS as the mode wants it.
    ///
    /// # Errors
    ///
    /// See [`Unreachable`].
    pub async fn connect(&self) -> Result<Stream, Unreachable> {
        match tokio::time::timeout(self.timeout, self.connect_unlimited()).await {
            Ok(result) => result,
            Err(_) => Err(Unreachable::Timeout {
                address: self.address(),
                seconds: self.timeout.as_secs(),
            }),
        }
    }

    async fn connect_unlimited(&self) -> Result<Stream, Unreachable> {
        let failed = |error| Unreachable::Connect {
            address: self.address(),
            error,
        };
        let mut socket = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .map_err(failed)?;
        tune(&socket).map_err(failed)?;
        let Some(config) = &self.tls else {
            return Ok(Stream::Plain(socket));
        };
        socket.write_all(&ssl_request()).await.map_err(failed)?;
        // Exactly one byte: what is stuffed behind it is left to the handshake, which refuses it.
        match socket.read_u8().await.map_err(failed)? {
            b'S' => {}
            b'N' if self.mode == TlsMode::Prefer => return Ok(Stream::Plain(socket)),
            _ => {
                return Err(Unreachable::NoTls {
                    address: self.address(),
                });
            }
        }
        let failed = |error| Unreachable::Tls {
            address: self.address(),
            error,
        };
        let name = ServerName::try_from(self.server_name.clone())
            .map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
        let stream = TlsConnector::from(Arc::clone(config))
            .connect(name, socket)
            .await
            .map_err(failed)?;
        Ok(Stream::Tls(Box::new(stream.into())))
    }

    /// Forwards a CancelRequest and waits until the server has closed, which it does after it has
    /// signalled: libpq relies on that.
    ///
    /// # Errors
    ///
    /// See [`Unreachable`].
    pub async fn cancel(&self, packet: &[u8]) -> Result<(), Unreachable> {
        let mut stream = self.connect().await?;
        let failed = |error| Unreachable::Connect {
            address: self.address(),
            error,
        };
        stream.send(packet).await.map_err(failed)?;
        let mut rest = Vec::new();
        let closed = async { while matches!(stream.receive(&mut rest).await, Ok(1..)) {} };
        let _ = tokio::time::timeout(CANCEL_PATIENCE, closed).await;
        Ok(())
    }
}
