//! Phase *Greeting*: from accept to a whole startup packet.
//!
//! | reads | a PROXY header where the listener takes one; SSLRequest, GSSENCRequest, a TLS handshake; the packet that says what the client wants |
//! |---|---|
//! | writes | `S` or `N`; TLS |
//! | waits for | the client alone |
//! | until | `limits.greeting_timeout` after accept |
//!
//! It holds one of `limits.max_greetings` places and no upstream connection.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::net::{Stream, Transport, tls};
use crate::protection::Encoding;
use crate::upstream::Listener;
use crate::wire::startup::{BadPacket, Packet, Startup};

use super::refusal::Refusal;

/// First byte of a TLS record that holds a handshake: direct TLS (PostgreSQL 17, *SSL Session
/// Encryption*).
const TLS_HANDSHAKE: u8 = 0x16;

/// A connection that has just been accepted, its PROXY header read.
pub(super) struct Greeting<T> {
    stream: Stream<T>,
    peer: SocketAddr,
    listener: Arc<Listener>,
}

/// A client that has said what it wants.
pub(super) struct Greeted<T> {
    pub(super) client: Stream<T>,
    pub(super) peer: SocketAddr,
    pub(super) listener: Arc<Listener>,
    pub(super) request: Request,
}

/// What the client wants.
pub(super) enum Request {
    /// To cancel: the packet to forward.
    Cancel(Vec<u8>),
    /// A session.
    Session(StartupPacket),
}

impl Request {
    /// The encoding that the client asks for; the server's own, if it asks for none.
    pub(super) fn encoding(&self) -> Encoding {
        match self {
            Self::Session(startup) => startup.encoding(),
            Self::Cancel(_) => Encoding::default(),
        }
    }
}

/// A startup packet that is kept beyond the bytes it came in.
pub(super) struct StartupPacket(Vec<u8>);

impl StartupPacket {
    /// A typed view of the packet.
    pub(super) fn view(&self) -> Option<Startup<'_>> {
        match Packet::read(&self.0) {
            Ok(Packet::Startup(startup)) => Some(startup),
            _ => None,
        }
    }

    /// The packet as it came.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The encoding that the client asks for; the server's own, if it asks for none.
    pub(super) fn encoding(&self) -> Encoding {
        let view = self.view();
        let asked = view.and_then(|startup| startup.setting("client_encoding"));
        asked.map_or_else(Encoding::default, |name| {
            Encoding::named(&name).unwrap_or_else(Encoding::of_ascii)
        })
    }
}

/// A connection that does not become a session; without a stream where TLS has swallowed it.
pub(super) struct Ungreeted<T> {
    pub(super) stream: Option<Stream<T>>,
    pub(super) refusal: Refusal,
}

/// What one packet asks for.
enum Asked {
    Tls,
    Again,
    Request(Request),
}

impl<T: Transport> Greeting<T> {
    /// A connection that is to say what it wants.
    pub(super) fn new(stream: Stream<T>, peer: SocketAddr, listener: Arc<Listener>) -> Self {
        Self {
            stream,
            peer,
            listener,
        }
    }

    /// Finds out what the client wants. TLS is begun at most once.
    pub(super) async fn run(self) -> Result<Greeted<T>, Ungreeted<T>> {
        let Self {
            mut stream,
            peer,
            listener,
        } = self;
        if listener.server_config().is_some() && wants_direct_tls(&mut stream).await {
            stream = begin_tls(stream, &listener, true).await?;
        }
        let mut gss_asked = false;
        loop {
            match asked(&mut stream, &listener, &mut gss_asked).await {
                Ok(Asked::Tls) => stream = begin_tls(stream, &listener, false).await?,
                Ok(Asked::Again) => {}
                Ok(Asked::Request(request)) => {
                    return Ok(Greeted {
                        client: stream,
                        peer,
                        listener,
                        request,
                    });
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
}

/// Reads exactly one packet without a type byte: not a byte more, so that nothing stuffed behind
/// it is taken for something else.
async fn packet<T: Transport>(stream: &mut Stream<T>) -> Result<Vec<u8>, Refusal> {
    let mut packet = Vec::with_capacity(64);
    let mut length = 4;
    while packet.len() < length {
        let room = length - packet.len();
        if stream.receive_at_most(&mut packet, room).await? == 0 {
            return Err(Refusal::Gone);
        }
        if packet.len() == 4 {
            length = Packet::length(&packet).map_err(bad)?.unwrap_or(length);
        }
    }
    Ok(packet)
}

/// Hears out a client for whom there is no session, and that hears why once it is told that nothing is
/// encrypted: what it asks for.
pub(super) async fn hear_out<T: Transport>(stream: &mut Stream<T>) -> Result<Request, Refusal> {
    loop {
        let bytes = packet(stream).await?;
        match Packet::read(&bytes).map_err(bad)? {
            Packet::SslRequest | Packet::GssEncRequest => stream.send(b"N").await?,
            Packet::Cancel(_) => return Ok(Request::Cancel(bytes)),
            Packet::Startup(_) => return Ok(Request::Session(StartupPacket(bytes))),
        }
    }
}

fn bad(error: BadPacket) -> Refusal {
    match error {
        BadPacket::Length | BadPacket::Foreign(_) => Refusal::NoStartup(error),
        BadPacket::Version { .. } => Refusal::Own {
            sqlstate: "0A000",
            message: error.to_string(),
            hint: None,
        },
        BadPacket::Layout => Refusal::Protocol(error.to_string()),
    }
}

async fn asked<T: Transport>(
    stream: &mut Stream<T>,
    listener: &Listener,
    gss_asked: &mut bool,
) -> Result<Asked, Refusal> {
    let bytes = packet(stream).await?;
    match Packet::read(&bytes).map_err(bad)? {
        Packet::SslRequest if stream.is_tls() => {
            Err(Refusal::Protocol("TLS was asked for within TLS".into()))
        }
        Packet::GssEncRequest if std::mem::replace(gss_asked, true) => Err(Refusal::Protocol(
            "GSSAPI encryption was asked for a second time".into(),
        )),
        Packet::SslRequest | Packet::GssEncRequest if !stream.is_tls() && stream.has_unread() => {
            Err(Refusal::Protocol(
                "received unencrypted data after an encryption request".into(),
            ))
        }
        Packet::SslRequest if listener.server_config().is_some() => Ok(Asked::Tls),
        Packet::SslRequest | Packet::GssEncRequest => {
            stream.send(b"N").await?;
            Ok(Asked::Again)
        }
        Packet::Cancel(_) => Ok(Asked::Request(Request::Cancel(bytes))),
        Packet::Startup(_) if listener.requires_tls() && !stream.is_tls() => Err(Refusal::Own {
            sqlstate: "28000",
            message: "Osprey accepts TLS connections only".into(),
            hint: Some("Connect with sslmode=require or stronger."),
        }),
        Packet::Startup(_) => Ok(Asked::Request(Request::Session(StartupPacket(bytes)))),
    }
}

/// A client that begins with TLS at once, as PostgreSQL 17's sslnegotiation=direct does.
async fn wants_direct_tls<T: Transport>(stream: &mut Stream<T>) -> bool {
    matches!(stream.first_byte().await, Ok(Some(TLS_HANDSHAKE)))
}

async fn begin_tls<T: Transport>(
    mut stream: Stream<T>,
    listener: &Listener,
    direct: bool,
) -> Result<Stream<T>, Ungreeted<T>> {
    let gone = |refusal| Ungreeted {
        stream: None,
        refusal,
    };
    if !direct {
        stream
            .send(b"S")
            .await
            .map_err(|error| gone(error.into()))?;
    }
    let (Some(config), Stream::Plain(transport)) = (listener.server_config(), stream) else {
        return Err(gone(Refusal::Gone));
    };
    let stream = Stream::accept(transport, Arc::clone(config))
        .await
        .map_err(|error| gone(Refusal::Handshake(error)))?;
    if direct && stream.alpn() != Some(tls::ALPN) {
        return Err(gone(Refusal::Protocol(
            "direct TLS without the ALPN protocol \"postgresql\"".into(),
        )));
    }
    Ok(stream)
}
