//! How the Redis is reached: one that stands alone, the node of a cluster that has our keys, or the
//! master that sentinels name.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisConnectionInfo, RedisError};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::guard::Guarded;
use crate::config::{Address, Replicas};
use crate::net::tls::{TlsError, verified};

/// How long connecting may take, to one address.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long one answer may take, of what no lookup waits for.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// How often a cluster may send on from node to node.
const MOST_MOVES: usize = 3;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unconnected {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{0} is no name of a server")]
    Name(String),
    #[error("no answer within {} s", CONNECT_TIMEOUT.as_secs())]
    TimedOut,
    #[error("{}", told(.0))]
    Redis(#[from] RedisError),
    #[error("the sentinel does not know {0:?}")]
    NoMaster(String),
    #[error("the cluster sends on from node to node")]
    Moves,
}

/// An error of the Redis in words, without what it was asked.
pub(super) fn told(error: &RedisError) -> String {
    match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        _ => error.to_string(),
    }
}

/// Whoever connects.
pub(super) struct Connector {
    settings: Replicas,
    tls: Option<Arc<ClientConfig>>,
}

impl Connector {
    pub(super) fn new(settings: &Replicas) -> Result<Self, TlsError> {
        let ca = settings.ca.as_deref();
        Ok(Self {
            settings: settings.clone(),
            tls: settings.tls.then(|| verified(ca)).transpose()?,
        })
    }

    /// Connects to where `key` is, at the first address that leads there.
    pub(super) async fn connect(&self, key: &str) -> Result<MultiplexedConnection, Unconnected> {
        let mut last = None;
        for address in &self.settings.addresses {
            match self.connect_by(address, key).await {
                Ok(connection) => return Ok(connection),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or(Unconnected::Moves))
    }

    async fn connect_by(
        &self,
        address: &Address,
        key: &str,
    ) -> Result<MultiplexedConnection, Unconnected> {
        let mut at = match &self.settings.sentinel {
            None => address.clone(),
            Some(name) => self.master(address, name).await?,
        };
        for _ in 0..MOST_MOVES {
            let mut connection = self.open(&at, true).await?;
            let there = redis::cmd("EXISTS")
                .arg(key)
                .query_async::<u64>(&mut connection)
                .await;
            match there {
                Ok(_) => return Ok(connection),
                Err(error) => match moved_to(&error, &at) {
                    Some(node) => at = node,
                    None => return Err(error.into()),
                },
            }
        }
        Err(Unconnected::Moves)
    }

    /// Where the sentinel at an address says that the master is.
    async fn master(&self, address: &Address, name: &str) -> Result<Address, Unconnected> {
        let mut sentinel = self.open(address, false).await?;
        let at: Option<(String, u16)> = redis::cmd("SENTINEL")
            .arg("get-master-addr-by-name")
            .arg(name)
            .query_async(&mut sentinel)
            .await?;
        let (host, port) = at.ok_or_else(|| Unconnected::NoMaster(name.to_owned()))?;
        Ok(Address { host, port })
    }

    async fn open(&self, at: &Address, log_in: bool) -> Result<MultiplexedConnection, Unconnected> {
        let opening = async {
            let stream = TcpStream::connect((at.host.as_str(), at.port)).await?;
            stream.set_nodelay(true)?;
            let Some(tls) = &self.tls else {
                return self.greet(stream, log_in).await;
            };
            let name = ServerName::try_from(at.host.clone())
                .map_err(|_| Unconnected::Name(at.host.clone()))?;
            let connector = TlsConnector::from(Arc::clone(tls));
            let stream = connector.connect(name, stream).await?;
            self.greet(stream, log_in).await
        };
        let opened = tokio::time::timeout(CONNECT_TIMEOUT, opening).await;
        opened.unwrap_or(Err(Unconnected::TimedOut))
    }

    async fn greet<S>(&self, stream: S, log_in: bool) -> Result<MultiplexedConnection, Unconnected>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut who = RedisConnectionInfo::default().set_skip_set_lib_name();
        if let Some(password) = self.settings.password.as_ref().filter(|_| log_in) {
            who = who.set_password(&password.0);
            if let Some(user) = &self.settings.user {
                who = who.set_username(user);
            }
        }
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(ANSWER_TIMEOUT));
        let (connection, driver) =
            MultiplexedConnection::new_with_config(&who, Guarded::new(stream), config).await?;
        // It ends with the last of the connection's clones.
        tokio::spawn(driver);
        Ok(connection)
    }
}

/// Where a cluster's node says that a key is, if that is what an error says.
fn moved_to(error: &RedisError, from: &Address) -> Option<Address> {
    let (node, _) = error.redirect_node()?;
    let (host, port) = node.rsplit_once(':')?;
    // A node that does not know its own address says only the port.
    let host = if host.is_empty() { &from.host } else { host };
    Some(Address {
        host: host.trim_matches(['[', ']']).to_owned(),
        port: port.parse().ok()?,
    })
}
