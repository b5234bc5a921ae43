//! How one server is reached: its addresses, tried staggered as RFC 8305 (*Happy Eyeballs*) has
//! it, with TLS as `upstream.tls` wants it.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::time::Instant;

use super::descriptors;
use super::stream::Stream;
use super::time::{sleep_until, timeout};
use super::tls::{self, TlsError};
use super::transport::{Network, SocketOptions, Transport};
use crate::config::{Address, TlsMode, Upstream};
use crate::wire::backend;
use crate::wire::startup::ssl_request;

/// How long an address may be silent before the next one is tried as well (RFC 8305, section 5).
const STAGGER: Duration = Duration::from_millis(250);
/// How much is read of an error that a server sends in answer to SSLRequest.
const LONGEST_REASON: usize = 4096;
/// How long a cancel connection is kept open for the server to close it.
const CANCEL_PATIENCE: Duration = Duration::from_secs(10);

/// Where a server is and how to connect to it. Immutable: a reload makes another one.
#[derive(Debug)]
pub struct Endpoint {
    addresses: Vec<Address>,
    mode: TlsMode,
    tls: Option<Arc<ClientConfig>>,
    server_name: Option<String>,
    timeout: Duration,
    options: SocketOptions,
    /// Which of the addresses answered last; it is tried first.
    answered: Mutex<Option<SocketAddr>>,
}

/// One address of a server, and the host that it was found by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// The address.
    pub address: SocketAddr,
    /// The name that its certificate is verified by, where no `server_name` is set.
    pub host: Arc<str>,
}

/// A connection, and where it leads.
#[derive(Debug)]
pub struct Connected<T> {
    /// Past its TLS handshake, if there is one.
    pub stream: Stream<T>,
    /// The address that answered: a cancel must go to the very same.
    pub destination: Destination,
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A session, with TLS as the settings say.
    Session,
    /// A session without TLS, for a client that could not log in over it (see
    /// [`Endpoint::may_be_plaintext`]).
    PlaintextSession,
    /// A cancel request, with TLS as the settings say. It is short and must get through where sessions take
    /// all that they may, so it may take one of the file descriptors that they leave.
    Cancel,
}

/// Why Hologres cannot be reached; the text is for the client and for the log.
#[derive(Debug, thiserror::Error)]
pub enum Unreachable {
    /// Name resolution or connect failed.
    #[error("cannot connect to Hologres at {address}: {}", explain(error))]
    Connect {
        /// Host and port.
        address: String,
        /// Why.
        error: io::Error,
    },
    /// It took longer than `upstream.connect_timeout`.
    #[error("cannot connect to Hologres at {address}: no answer within {}", seconds(*limit))]
    Timeout {
        /// Host and port.
        address: String,
        /// `upstream.connect_timeout`.
        limit: Duration,
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
    /// What answered is no PostgreSQL server: neither `S` nor `N` nor an error.
    #[error("what answers at {address} is not Hologres: it does not speak PostgreSQL's protocol")]
    NotHologres {
        /// Host and port.
        address: String,
    },
    /// It is Osprey's own listener.
    #[error("the upstream's name leads to {address}, which is Osprey itself, and not Hologres")]
    Itself {
        /// Where it leads.
        address: SocketAddr,
    },
    /// The server answered with an error when it was asked for TLS.
    #[error("Hologres at {address} refused the connection: {reason}")]
    Refused {
        /// Host and port.
        address: String,
        /// What it said.
        reason: String,
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

impl Unreachable {
    /// True if it is Osprey itself that may open no more files.
    pub fn is_for_want_of_files(&self) -> bool {
        matches!(self, Self::Connect { error, .. } if descriptors::are_out(error))
    }

    /// What the operator can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Connect { error, .. } if descriptors::are_out(error) => {
                "Osprey has no file descriptors left: raise the limit (LimitNOFILE= in systemd, \
                 ulimit -n), or lower limits.max_sessions."
            }
            Self::Tls { .. } => {
                "Osprey is up, but cannot trust its upstream: check [upstream.tls] (mode, ca, \
                 server_name) in Osprey's configuration against the certificate of the instance."
            }
            Self::Connect { .. }
            | Self::Timeout { .. }
            | Self::NoTls { .. }
            | Self::NotHologres { .. }
            | Self::Itself { .. }
            | Self::Refused { .. } => {
                "Osprey is up, its upstream is not. Check the Hologres instance and the upstream \
                 address in Osprey's configuration."
            }
        }
    }
}

fn explain(error: &io::Error) -> String {
    if descriptors::are_out(error) {
        return format!("Osprey may open no more files: {error}");
    }
    error.to_string()
}

fn seconds(limit: Duration) -> String {
    format!("{} s", limit.as_secs_f64())
}

impl Endpoint {
    /// From the settings of an upstream.
    ///
    /// # Errors
    ///
    /// A TLS file cannot be used.
    pub fn new(settings: &Upstream, options: SocketOptions) -> Result<Self, TlsError> {
        Ok(Self {
            addresses: settings.addresses.clone(),
            mode: settings.tls.mode,
            tls: tls::client_config(&settings.tls)?,
            server_name: settings.tls.server_name.clone(),
            timeout: settings.connect_timeout,
            options,
            answered: Mutex::default(),
        })
    }

    /// `host:port`, several separated by commas, for messages.
    pub fn address(&self) -> String {
        let all: Vec<_> = self.addresses.iter().map(ToString::to_string).collect();
        all.join(", ")
    }

    /// True if the settings leave it to the server whether there is TLS.
    pub fn may_be_plaintext(&self) -> bool {
        matches!(self.mode, TlsMode::Disable | TlsMode::Prefer)
    }

    /// How long a connect may take.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Connects to the first address that answers, TLS included.
    ///
    /// # Errors
    ///
    /// See [`Unreachable`]; where there are several addresses, the first one's failure.
    pub async fn connect<N: Network>(
        &self,
        network: &N,
        purpose: Purpose,
    ) -> Result<Connected<N::Transport>, Unreachable> {
        let racing = async {
            let candidates = self.candidates(network).await?;
            self.race(network, candidates, purpose).await
        };
        self.limited(racing).await
    }

    /// Connects to this address of it.
    ///
    /// # Errors
    ///
    /// See [`Unreachable`].
    pub async fn connect_to<N: Network>(
        &self,
        network: &N,
        destination: Destination,
        purpose: Purpose,
    ) -> Result<Connected<N::Transport>, Unreachable> {
        self.limited(self.attempt(network, destination, purpose))
            .await
    }

    async fn limited<R>(
        &self,
        connecting: impl Future<Output = Result<R, Unreachable>>,
    ) -> Result<R, Unreachable> {
        timeout(self.timeout, connecting).await.unwrap_or_else(|_| {
            Err(Unreachable::Timeout {
                address: self.address(),
                limit: self.timeout,
            })
        })
    }

    /// Every address of every host, the one that answered last in front, the families alternating.
    async fn candidates<N: Network>(
        &self,
        network: &N,
    ) -> Result<VecDeque<Destination>, Unreachable> {
        let mut found = Vec::new();
        let mut failure = None;
        // Side by side: a name that nobody resolves must not cost the others their time.
        let resolving = self
            .addresses
            .iter()
            .map(|Address { host, port }| async move {
                let limit = if self.addresses.len() > 1 {
                    self.timeout / 2
                } else {
                    self.timeout
                };
                let resolved = timeout(limit, network.resolve(host, *port)).await;
                let late = |_| {
                    Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        "its name is not resolved",
                    ))
                };
                (host, resolved.unwrap_or_else(late))
            });
        for (host, resolved) in futures::future::join_all(resolving).await {
            match resolved {
                Ok(addresses) => found.extend(addresses.into_iter().map(|address| Destination {
                    address,
                    host: host.as_str().into(),
                })),
                Err(error) => {
                    failure.get_or_insert(error);
                }
            }
        }
        if found.is_empty() {
            let error = failure.unwrap_or_else(|| {
                io::Error::new(io::ErrorKind::NotFound, "its name has no address")
            });
            return Err(self.failed(error));
        }
        let answered = *self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(order(found, answered))
    }

    async fn race<N: Network>(
        &self,
        network: &N,
        mut candidates: VecDeque<Destination>,
        purpose: Purpose,
    ) -> Result<Connected<N::Transport>, Unreachable> {
        let mut attempts = FuturesUnordered::new();
        let mut failure = None;
        let mut silent: Option<((Arc<str>, u16), String)> = None;
        let mut next = Instant::now();
        loop {
            if attempts.is_empty() || Instant::now() >= next {
                match candidates.pop_front() {
                    Some(destination) => {
                        let host = Arc::clone(&destination.host);
                        let configured = (host, destination.address.port());
                        let attempt = self.attempt(network, destination, purpose);
                        attempts.push(async move { (configured, attempt.await) });
                        next = Instant::now() + STAGGER;
                    }
                    None if attempts.is_empty() => {
                        let unknown = || self.failed(io::ErrorKind::AddrNotAvailable.into());
                        return Err(failure.unwrap_or_else(unknown));
                    }
                    None => {}
                }
            }
            tokio::select! {
                biased;
                Some((configured, outcome)) = attempts.next() => match outcome {
                    Ok(connected) => {
                        // A host may well have an address that nobody listens at; the operator's own
                        // addresses are there to be used. The one that answers is tried first from now on.
                        if let Some(((host, port), error)) = silent.filter(|(silent, _)| *silent != configured) {
                            tracing::warn!(
                                address = format!("{host}:{port}"),
                                error,
                                in_use = %connected.destination.address,
                                "an address of the upstream does not answer, and another one is in use"
                            );
                        }
                        let mut answered = self
                            .answered
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner);
                        *answered = Some(connected.destination.address);
                        return Ok(connected);
                    }
                    Err(error) => {
                        silent.get_or_insert_with(|| (configured, error.to_string()));
                        failure.get_or_insert(error);
                        // This address has failed, so the next one is tried at once.
                        next = Instant::now();
                    }
                },
                () = sleep_until(next), if !candidates.is_empty() => {}
            }
        }
    }

    fn failed(&self, error: io::Error) -> Unreachable {
        Unreachable::Connect {
            address: self.address(),
            error,
        }
    }

    async fn attempt<N: Network>(
        &self,
        network: &N,
        destination: Destination,
        purpose: Purpose,
    ) -> Result<Connected<N::Transport>, Unreachable> {
        let options = SocketOptions {
            may_take_reserve: purpose == Purpose::Cancel,
            ..self.options
        };
        let transport = network
            .connect(destination.address, options)
            .await
            .map_err(|error| self.failed(error))?;
        let mut stream = Stream::Plain(transport);
        let config = match &self.tls {
            Some(config) if purpose != Purpose::PlaintextSession => config,
            _ => {
                return Ok(Connected {
                    stream,
                    destination,
                });
            }
        };
        let mut answer = Vec::with_capacity(1);
        let asked = async {
            stream.send(&ssl_request()).await?;
            // Exactly one byte: what is stuffed behind it is left to the handshake, which refuses it.
            stream.receive_at_most(&mut answer, 1).await
        };
        asked.await.map_err(|error| self.failed(error))?;
        match answer.as_slice() {
            b"S" => {}
            b"N" if self.mode == TlsMode::Prefer => {
                return Ok(Connected {
                    stream,
                    destination,
                });
            }
            b"E" => {
                return Err(Unreachable::Refused {
                    address: self.address(),
                    reason: self.early_error(&mut stream, answer).await,
                });
            }
            [] => return Err(self.failed(io::ErrorKind::UnexpectedEof.into())),
            b"N" => {
                return Err(Unreachable::NoTls {
                    address: self.address(),
                });
            }
            _ => {
                return Err(Unreachable::NotHologres {
                    address: self.address(),
                });
            }
        }
        let failed = |error| Unreachable::Tls {
            address: self.address(),
            error,
        };
        let name = self.server_name.as_deref().unwrap_or(&destination.host);
        let name = ServerName::try_from(name.to_owned())
            .map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
        let Stream::Plain(transport) = stream else {
            return Err(failed(io::ErrorKind::InvalidInput.into()));
        };
        let stream = Stream::begin(transport, Arc::clone(config), name)
            .await
            .map_err(failed)?;
        Ok(Connected {
            stream,
            destination,
        })
    }

    /// What the server says that answers with an error when it is asked for TLS. Where TLS is required,
    /// nobody is told what came from whoever it was.
    async fn early_error<T: Transport>(&self, stream: &mut Stream<T>, mut sent: Vec<u8>) -> String {
        if self.mode != TlsMode::Prefer {
            return "it answered with an error when it was asked for TLS, which is not passed on, since \
                    upstream.tls.mode requires TLS"
                .into();
        }
        loop {
            if let Some(error) = backend::early_error(&sent) {
                return error;
            }
            let room = LONGEST_REASON.saturating_sub(sent.len());
            if room == 0 || !matches!(stream.receive_at_most(&mut sent, room).await, Ok(1..)) {
                return String::from_utf8_lossy(&sent[1..]).trim().to_owned();
            }
        }
    }

    /// Forwards a CancelRequest and waits until the server has closed, which it does once it has
    /// signalled: libpq relies on that. `destination` is where the session is; `None`: it is not known.
    ///
    /// # Errors
    ///
    /// See [`Unreachable`].
    pub async fn cancel<N: Network>(
        &self,
        network: &N,
        destination: Option<Destination>,
        packet: &[u8],
    ) -> Result<(), Unreachable> {
        let purpose = Purpose::Cancel;
        let connected = match destination {
            Some(destination) => self.connect_to(network, destination, purpose).await,
            None => self.connect(network, purpose).await,
        };
        let mut stream = connected?.stream;
        stream
            .send(packet)
            .await
            .map_err(|error| self.failed(error))?;
        let mut rest = Vec::new();
        let closed = async {
            while matches!(stream.receive(&mut rest).await, Ok(1..)) {
                rest.clear();
            }
        };
        let _ = timeout(CANCEL_PATIENCE, closed).await;
        let _ = stream.shut_down().await;
        Ok(())
    }
}

/// `answered` first, then the families by turns, in the resolver's order (RFC 8305, section 4).
fn order(found: Vec<Destination>, answered: Option<SocketAddr>) -> VecDeque<Destination> {
    let first_is_v6 = found.first().is_some_and(|first| first.address.is_ipv6());
    let (mut ours, mut others): (VecDeque<_>, VecDeque<_>) = found
        .into_iter()
        .partition(|destination| destination.address.is_ipv6() == first_is_v6);
    let mut ordered = VecDeque::with_capacity(ours.len() + others.len());
    while !(ours.is_empty() && others.is_empty()) {
        ordered.extend(ours.pop_front());
        ordered.extend(others.pop_front());
    }
    let last = ordered
        .iter()
        .position(|destination| Some(destination.address) == answered);
    if let Some(destination) = last.and_then(|at| ordered.remove(at)) {
        ordered.push_front(destination);
    }
    ordered
}

#[cfg(test)]
mod tests;
