//! From the first byte of a client to the first ReadyForQuery: TLS, the startup packet, the
//! upstream connection, and authentication, which is relayed, not terminated.

use std::io;
use std::time::Instant;

use tokio_rustls::TlsAcceptor;

use crate::wire::backend::{ErrorFields, tag};
use crate::wire::startup::{BadPacket, MAX_AUTHENTICATION, Packet, Startup};
use crate::wire::{HEADER, Header, compose, frontend};

use super::stream::Stream;
use super::upstream::Unreachable;
use super::{Context, scram};

/// First byte of a TLS record that holds a handshake: direct TLS.
const TLS_HANDSHAKE: u8 = 0x16;

/// What the client wants.
pub(super) enum Wish {
    /// To cancel: the packet to forward.
    Cancel(Vec<u8>),
    /// A session.
    Session(Stream, StartupPacket),
}

/// A startup packet that is kept beyond the bytes it came in.
pub(super) struct StartupPacket(Vec<u8>);

impl StartupPacket {
    /// The view of it.
    pub(super) fn view(&self) -> Option<Startup<'_>> {
        match Packet::read(&self.0) {
            Ok(Packet::Startup(startup)) => Some(startup),
            _ => None,
        }
    }
}

/// Why a login ended without a session.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    /// The client went away; scanners and health checks do.
    #[error("the client went away before it had logged in")]
    Gone,
    /// A socket failed.
    #[error("the connection failed during login: {0}")]
    Io(#[from] io::Error),
    /// TLS with the client could not be begun; TLS itself has told it.
    #[error("the TLS handshake with the client failed: {0}")]
    Handshake(io::Error),
    /// The client left when Osprey, between two TLS connections, asked for its password.
    #[error(
        "the client left when it was asked for its password; one that insists on channel binding \
         must, because Osprey ends its TLS: it can log in with channel_binding=prefer or \
         channel_binding=disable"
    )]
    NoPassword,
    /// The client broke the protocol; it is told so.
    #[error("{0}")]
    Protocol(String),
    /// The server refused; it has been relayed.
    #[error("Hologres refused the login: {0}")]
    Refused(String),
    /// Osprey refuses; SQLSTATE, message, hint.
    #[error("{message}")]
    Own {
        /// SQLSTATE
        sqlstate: &'static str,
        /// What the client is told.
        message: String,
        /// And what it can do.
        hint: Option<String>,
    },
    /// Hologres cannot be reached.
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
}

impl Refusal {
    /// The FATAL that the client gets; `None`: it has been told, or is gone.
    pub(super) fn fatal(&self) -> Option<Vec<u8>> {
        let mut frame = Vec::new();
        match self {
            Self::Gone | Self::Io(_) | Self::Handshake(_) | Self::NoPassword | Self::Refused(_) => {
                return None;
            }
            Self::Protocol(message) => compose::fatal(&mut frame, "08P01", message, None),
            Self::Own {
                sqlstate,
                message,
                hint,
            } => compose::fatal(&mut frame, sqlstate, message, hint.as_deref()),
            Self::Unreachable(error) => compose::fatal(
                &mut frame,
                "08006",
                &error.to_string(),
                Some(
                    "Osprey is up, its upstream is not. Check the Hologres instance and the upstream address in Osprey's configuration.",
                ),
            ),
        }
        Some(frame)
    }
}

/// Reads exactly one packet without a type byte: not a byte more, so that nothing stuffed behind
/// it is taken for something else.
async fn packet(stream: &mut Stream) -> Result<Vec<u8>, Refusal> {
    let mut packet = Vec::with_capacity(64);
    read_exactly(stream, &mut packet, 4).await?;
    let length = Packet::length(&packet).map_err(bad)?.unwrap_or_default();
    read_exactly(stream, &mut packet, length).await?;
    Ok(packet)
}

async fn read_exactly(stream: &mut Stream, to: &mut Vec<u8>, length: usize) -> Result<(), Refusal> {
    use tokio::io::AsyncReadExt;
    let have = to.len();
    if length <= have {
        return Ok(());
    }
    to.resize(length, 0);
    let result = match stream {
        Stream::Plain(socket) => socket.read_exact(&mut to[have..]).await,
        Stream::Tls(tls) => tls.read_exact(&mut to[have..]).await,
    };
    match result {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(Refusal::Gone),
        Err(error) => Err(error.into()),
    }
}

#[allow(clippy::needless_pass_by_value)] // for map_err
fn bad(error: BadPacket) -> Refusal {
    match error {
        BadPacket::Version { .. } => Refusal::Own {
            sqlstate: "0A000",
            message: error.to_string(),
            hint: None,
        },
        _ => Refusal::Protocol(error.to_string()),
    }
}

/// True if something lies in the socket already, before we have answered.
fn is_stuffed(stream: &Stream) -> bool {
    matches!(stream, Stream::Plain(socket) if matches!(socket.try_read(&mut [0]), Ok(1..)))
}

/// A connection that does not become a session; without a stream where TLS has swallowed it.
pub(super) struct Ungreeted {
    pub(super) stream: Option<Stream>,
    pub(super) refusal: Refusal,
}

/// What one packet asks for.
enum Asked {
    Tls,
    Again,
    Cancel,
    Session,
}

/// Finds out what a new client wants. TLS is begun at most once.
pub(super) async fn greet(mut stream: Stream, context: &Context) -> Result<Wish, Ungreeted> {
    let mut asked_before = Asked::Again;
    if wants_direct_tls(&stream).await {
        stream = begin_tls(stream, context, true).await?;
        asked_before = Asked::Tls;
    }
    let mut gss_asked = false;
    loop {
        match asked(&mut stream, context, &mut gss_asked, &asked_before).await {
            Ok((Asked::Tls, _)) => {
                stream = begin_tls(stream, context, false).await?;
                asked_before = Asked::Tls;
            }
            Ok((Asked::Again, _)) => {}
            Ok((Asked::Cancel, packet)) => return Ok(Wish::Cancel(packet)),
            Ok((Asked::Session, packet)) => {
                return Ok(Wish::Session(stream, StartupPacket(packet)));
            }
            Err(refusal) => {
                return Err(Ungreeted {
                    stream: Some(stream),
                    refusal,
                });
            }
        }
    }
}

async fn asked(
    stream: &mut Stream,
    context: &Context,
    gss_asked: &mut bool,
    before: &Asked,
) -> Result<(Asked, Vec<u8>), Refusal> {
    let bytes = packet(stream).await?;
    let asked = match Packet::read(&bytes).map_err(bad)? {
        Packet::SslRequest if matches!(before, Asked::Tls) => {
            return Err(Refusal::Protocol("TLS was asked for within TLS".into()));
        }
        Packet::GssEncRequest if std::mem::replace(gss_asked, true) => {
            return Err(Refusal::Protocol(
                "GSSAPI encryption was asked for a second time".into(),
            ));
        }
        Packet::SslRequest | Packet::GssEncRequest if is_stuffed(stream) => {
            return Err(Refusal::Protocol(
                "received unencrypted data after an encryption request".into(),
            ));
        }
        Packet::SslRequest if context.shared.listen_tls.load().is_some() => Asked::Tls,
        Packet::SslRequest | Packet::GssEncRequest => {
            stream.send(b"N").await?;
            Asked::Again
        }
        Packet::Cancel(_) => Asked::Cancel,
        Packet::Startup(_) => {
            let settings = context.shared.settings.load();
            let required = settings.listeners[0]
                .tls
                .as_ref()
                .is_some_and(|tls| tls.required);
            if required && !stream.is_tls() {
                return Err(Refusal::Own {
                    sqlstate: "28000",
                    message: "Osprey accepts TLS connections only".into(),
                    hint: Some("Connect with sslmode=require or stronger.".into()),
                });
            }
            Asked::Session
        }
    };
    Ok((asked, bytes))
}

/// A client that begins with TLS at once, as PostgreSQL 17's sslnegotiation=direct does.
async fn wants_direct_tls(stream: &Stream) -> bool {
    let mut first = [0];
    matches!(stream, Stream::Plain(socket)
        if matches!(socket.peek(&mut first).await, Ok(1)) && first[0] == TLS_HANDSHAKE)
}

async fn begin_tls(
    mut stream: Stream,
    context: &Context,
    direct: bool,
) -> Result<Stream, Ungreeted> {
    let gone = |refusal| Ungreeted {
        stream: None,
        refusal,
    };
    let Some(config) = context.shared.listen_tls.load_full() else {
        return Err(gone(Refusal::Gone));
    };
    if !direct {
        stream
            .send(b"S")
            .await
            .map_err(|error| gone(error.into()))?;
    }
    let Stream::Plain(socket) = stream else {
        return Err(gone(Refusal::Gone));
    };
    let tls = TlsAcceptor::from(config)
        .accept(socket)
        .await
        .map_err(|error| gone(Refusal::Handshake(error)))?;
    let protocol = tls.get_ref().1.alpn_protocol();
    if direct && protocol != Some(super::tls::ALPN) {
        return Err(gone(Refusal::Protocol(
            "direct TLS without the ALPN protocol \"postgresql\"".into(),
        )));
    }
    Ok(Stream::Tls(Box::new(tls.into())))
}

/// Both connections after a login, and what was read ahead.
pub(super) struct LoggedIn {
    pub(super) client: Stream,
    pub(super) server: Stream,
    /// From the client, not looked at yet.
    pub(super) from_client: Vec<u8>,
    /// From the server: the first ReadyForQuery, and what came behind it.
    pub(super) from_server: Vec<u8>,
    /// The body of BackendKeyData; empty if there was none.
    pub(super) key: Vec<u8>,
    /// The session's `client_encoding` is UTF8.
    pub(super) utf8: bool,
}

/// Who speaks next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    Server,
    /// The client has been asked; the server may speak all the same: it gives up waiting, or has
    /// asked nothing with the last token of GSSAPI, which need not be answered.
    Either,
}

/// Connects to Hologres and relays authentication up to the first ReadyForQuery, which is left in
/// `from_server`.
pub(super) async fn log_in(
    mut client: Stream,
    startup: &StartupPacket,
    context: &Context,
) -> Result<LoggedIn, (Stream, Refusal)> {
    let begun = Instant::now();
    let mut server = match context.shared.target.load_full().connect().await {
        Ok(server) => server,
        Err(error) => {
            context.shard().upstream_connect_failures.inc();
            return Err((client, error.into()));
        }
    };
    context
        .shard()
        .upstream_connect_time
        .observe(begun.elapsed());
    let mut relay = Relay {
        from_client: Vec::new(),
        from_server: Vec::with_capacity(1024),
        key: Vec::new(),
        utf8: false,
    };
    match relay.run(&mut client, &mut server, startup).await {
        Ok(()) => Ok(LoggedIn {
            client,
            server,
            from_client: relay.from_client,
            from_server: relay.from_server,
            key: relay.key,
            utf8: relay.utf8,
        }),
        Err(refusal) => {
            let _ = server.shut_down().await;
            Err((client, refusal))
        }
    }
}

/// What came: bytes from the server, or a message of so many bytes from the client.
enum Heard {
    Server(usize),
    Client(usize),
}

struct Relay {
    from_client: Vec<u8>,
    from_server: Vec<u8>,
    key: Vec<u8>,
    utf8: bool,
}

impl Relay {
    async fn run(
        &mut self,
        client: &mut Stream,
        server: &mut Stream,
        startup: &StartupPacket,
    ) -> Result<(), Refusal> {
        server.send(&startup.0).await?;
        loop {
            let mut turn = Turn::Server;
            let mut at = 0;
            loop {
                let rest = &self.from_server[at..];
                let header = match Header::read(rest) {
                    Ok(Some(header)) if header.frame <= rest.len() => header,
                    Ok(header) => {
                        if header.is_some_and(|header| header.frame > MAX_AUTHENTICATION) {
                            return Err(Refusal::Protocol(
                                "the server sent an oversized message during login".into(),
                            ));
                        }
                        break;
                    }
                    Err(error) => {
                        return Err(Refusal::Protocol(format!(
                            "invalid frame from the server during login: {error}"
                        )));
                    }
                };
                let body = rest[HEADER..header.frame].to_vec();
                match header.tag {
                    tag::READY_FOR_QUERY => {
                        client.send(&self.from_server[..at]).await?;
                        self.from_server.drain(..at);
                        return Ok(());
                    }
                    tag::ERROR => {
                        let fields = ErrorFields::new(&body);
                        let refused = String::from_utf8_lossy(fields.message()).into_owned();
                        client.send(&self.from_server[..at + header.frame]).await?;
                        return Err(Refusal::Refused(refused));
                    }
                    tag::BACKEND_KEY_DATA => self.key.clone_from(&body),
                    tag::PARAMETER_STATUS => self.utf8 |= body == b"client_encoding\0UTF8\0",
                    tag::AUTHENTICATION => match scram::plan(&body, client, server) {
                        scram::Plan::Relay(next) => {
                            turn = if next { Turn::Either } else { Turn::Server };
                        }
                        scram::Plan::Strip(replacement) => {
                            client.send(&self.from_server[..at]).await?;
                            client.send(&replacement).await?;
                            self.from_server.drain(..at + header.frame);
                            at = 0;
                            turn = Turn::Either;
                            continue;
                        }
                        scram::Plan::Terminate => {
                            client.send(&self.from_server[..at]).await?;
                            self.from_server.drain(..at + header.frame);
                            at = 0;
                            let password = self.ask_password(client).await?;
                            scram::authenticate(server, &mut self.from_server, &password).await?;
                            continue;
                        }
                    },
                    _ => {}
                }
                at += header.frame;
            }
            client.send(&self.from_server[..at]).await?;
            self.from_server.drain(..at);
            let server_speaks = server.receive(&mut self.from_server);
            let heard = match turn {
                Turn::Server => Heard::Server(server_speaks.await?),
                // Either may be given up: what it has read stays in its buffer.
                Turn::Either => tokio::select! {
                    biased;
                    read = server_speaks => Heard::Server(read?),
                    frame = client_frame(client, &mut self.from_client) => Heard::Client(frame?),
                },
            };
            match heard {
                Heard::Client(frame) => {
                    server.send(&self.from_client[..frame]).await?;
                    self.from_client.drain(..frame);
                }
                Heard::Server(0) => {
                    return Err(Refusal::Own {
                        sqlstate: "08006",
                        message: "Hologres closed the connection during login".into(),
                        hint: None,
                    });
                }
                Heard::Server(_) => {}
            }
        }
    }

    /// Asks the client for its password, over the client's TLS.
    async fn ask_password(&mut self, client: &mut Stream) -> Result<Vec<u8>, Refusal> {
        let mut request = Vec::new();
        compose::frame(&mut request, tag::AUTHENTICATION, |out| {
            out.extend_from_slice(&3_u32.to_be_bytes());
        });
        client.send(&request).await?;
        let frame = match client_frame(client, &mut self.from_client).await {
            Err(Refusal::Gone | Refusal::Io(_)) => return Err(Refusal::NoPassword),
            frame => frame?,
        };
        let body = &self.from_client[HEADER..frame];
        let password = body.strip_suffix(&[0]).unwrap_or(body).to_vec();
        self.from_client.drain(..frame);
        Ok(password)
    }
}

/// Waits for one whole authentication message of the client's; returns its length.
async fn client_frame(client: &mut Stream, read: &mut Vec<u8>) -> Result<usize, Refusal> {
    loop {
        match Header::read(read) {
            Ok(Some(header)) if header.tag != frontend::tag::PASSWORD => {
                return Err(Refusal::Protocol(format!(
                    "expected an authentication message, got message type 0x{:02X}",
                    header.tag
                )));
            }
            Ok(Some(header)) if header.frame > MAX_AUTHENTICATION => {
                return Err(Refusal::Protocol("authentication message too long".into()));
            }
            Ok(Some(header)) if header.frame <= read.len() => {
                return Ok(header.frame);
            }
            Ok(_) => {}
            Err(error) => return Err(Refusal::Protocol(error.to_string())),
        }
        if client.receive(read).await? == 0 {
            return Err(Refusal::Gone);
        }
    }
}
