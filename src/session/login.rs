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
            Self::Gone | Self::Io(_) | Self::Refused(_) => return None,
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
                Some("Osprey is up, its upstream is not. Check the Hologres instance and the upstream address in Osprey's configuration."),
            ),
        }
        Some(frame)
    }
}

/// Reads exactly one packet without a type byte: not a byte more, so that nothing stuffed behind
/// it is taken for something else.
async fn packet(stream: &mut Stream) -> Result<Vec<u8>, Refusal> {
    let mut packet = Vec::with_capacity(8);
    read_exactly(stream, &mut packet, 8).await?;
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

/// Finds out what a new client wants. TLS is begun at most once.
pub(super) async fn greet(mut stream: Stream, context: &Context) -> Result<Wish, Refusal> {
    let mut may_ask_gss = true;
    if let Stream::Plain(socket) = &stream {
        let mut first = [0];
        if socket.peek(&mut first).await? == 0 {
            return Err(Refusal::Gone);
        }
        if first[0] == TLS_HANDSHAKE {
            stream = direct_tls(stream, context).await?;
        }
    }
    loop {
        let bytes = packet(&mut stream).await?;
        match Packet::read(&bytes).map_err(bad)? {
            Packet::SslRequest if !stream.is_tls() => {
                if is_stuffed(&stream) {
                    return Err(Refusal::Protocol(
                        "received unencrypted data after SSL request".into(),
                    ));
                }
                let Some(config) = context.listen_tls.load_full() else {
                    stream.send(b"N").await?;
                    may_ask_gss = false;
                    continue;
                };
                stream.send(b"S").await?;
                let Stream::Plain(socket) = stream else {
                    return Err(Refusal::Gone);
                };
                let tls = TlsAcceptor::from(config).accept(socket).await?;
                stream = Stream::Tls(Box::new(tls.into()));
            }
            Packet::GssEncRequest if may_ask_gss => {
                may_ask_gss = false;
                if is_stuffed(&stream) {
                    return Err(Refusal::Protocol(
                        "received unencrypted data after GSSAPI encryption request".into(),
                    ));
                }
                stream.send(b"N").await?;
            }
            Packet::SslRequest | Packet::GssEncRequest => {
                return Err(Refusal::Protocol(
                    "encryption was asked for a second time".into(),
                ));
            }
            Packet::Cancel(packet) => return Ok(Wish::Cancel(packet.to_vec())),
            Packet::Startup(_) => {
                if context.tls_required && !stream.is_tls() {
                    return Err(Refusal::Own {
                        sqlstate: "28000",
                        message: "this proxy accepts TLS connections only".into(),
                        hint: Some("Connect with sslmode=require or stronger.".into()),
                    });
                }
                return Ok(Wish::Session(stream, StartupPacket(bytes)));
            }
        }
    }
}

async fn direct_tls(stream: Stream, context: &Context) -> Result<Stream, Refusal> {
    let (Some(config), Stream::Plain(socket)) = (context.listen_tls.load_full(), stream) else {
        return Err(Refusal::Gone);
    };
    let tls = TlsAcceptor::from(config).accept(socket).await?;
    if tls.get_ref().1.alpn_protocol() != Some(super::tls::ALPN) {
        return Err(Refusal::Protocol(
            "direct TLS without the ALPN protocol \"postgresql\"".into(),
        ));
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
}

/// What the client has to answer to a message of the server's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    Server,
    Client,
}

/// Connects to Hologres and relays authentication up to the first ReadyForQuery, which is left in
/// `from_server`.
pub(super) async fn log_in(
    mut client: Stream,
    startup: &StartupPacket,
    context: &Context,
) -> Result<LoggedIn, (Stream, Refusal)> {
    let begun = Instant::now();
    let mut server = match context.target.connect().await {
        Ok(server) => server,
        Err(error) => {
            context.metrics.upstream_connect_failures.inc();
            return Err((client, error.into()));
        }
    };
    context.metrics.upstream_connect_seconds.observe(begun.elapsed());
    let mut relay = Relay {
        from_client: Vec::new(),
        from_server: Vec::with_capacity(1024),
        key: Vec::new(),
    };
    match relay.run(&mut client, &mut server, startup).await {
        Ok(()) => Ok(LoggedIn {
            client,
            server,
            from_client: relay.from_client,
            from_server: relay.from_server,
            key: relay.key,
        }),
        Err(refusal) => {
            server.close().await;
            Err((client, refusal))
        }
    }
}

struct Relay {
    from_client: Vec<u8>,
    from_server: Vec<u8>,
    key: Vec<u8>,
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
            while turn == Turn::Server {
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
                    tag::AUTHENTICATION => match scram::plan(&body, client, server) {
                        scram::Plan::Relay(next) => {
                            turn = if next { Turn::Client } else { Turn::Server };
                        }
                        scram::Plan::Strip(replacement) => {
                            client.send(&self.from_server[..at]).await?;
                            client.send(&replacement).await?;
                            self.from_server.drain(..at + header.frame);
                            at = 0;
                            turn = Turn::Client;
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
            match turn {
                Turn::Server => {
                    if server.receive(&mut self.from_server).await? == 0 {
                        return Err(Refusal::Own {
                            sqlstate: "08006",
                            message: "Hologres closed the connection during login".into(),
                            hint: None,
                        });
                    }
                }
                Turn::Client => {
                    let frame = self.client_frame(client).await?;
                    server.send(&self.from_client[..frame]).await?;
                    self.from_client.drain(..frame);
                }
            }
        }
    }

    /// Waits for one whole authentication message of the client's; returns its length.
    async fn client_frame(&mut self, client: &mut Stream) -> Result<usize, Refusal> {
        loop {
            match Header::read(&self.from_client) {
                Ok(Some(header)) if header.tag != frontend::tag::PASSWORD => {
                    return Err(Refusal::Protocol(format!(
                        "expected an authentication message, got message type 0x{:02X}",
                        header.tag
                    )));
                }
                Ok(Some(header)) if header.frame > MAX_AUTHENTICATION => {
                    return Err(Refusal::Protocol("authentication message too long".into()));
                }
                Ok(Some(header)) if header.frame <= self.from_client.len() => {
                    return Ok(header.frame);
                }
                Ok(_) => {}
                Err(error) => return Err(Refusal::Protocol(error.to_string())),
            }
            if client.receive(&mut self.from_client).await? == 0 {
                return Err(Refusal::Gone);
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
        let frame = self.client_frame(client).await?;
        let body = &self.from_client[HEADER..frame];
        let password = body.strip_suffix(&[0]).unwrap_or(body).to_vec();
        self.from_client.drain(..frame);
        Ok(password)
    }
}
