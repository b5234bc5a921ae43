//! The step before the greeting, on listeners that stand behind a load balancer: the header in
//! which it says who the client is (HAProxy, *The PROXY protocol*, version 2).

use std::net::SocketAddr;

use ppp::v2::{Addresses, Command, Header};

use crate::config::ProxyProtocol;
use crate::net::{Stream, Transport};
use crate::observe::metrics::ProxyHeader;
use crate::upstream::Listener;

/// The part that is always there: signature, version and command, family, length.
const FIXED: usize = 16;
/// The first byte of the signature, with which no startup packet and no TLS record begins.
const FIRST: u8 = b'\r';
/// Bytes of the addresses and of what a load balancer may add to them.
const MAX_REST: usize = 4 << 10;

/// What a connection began with.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) outcome: ProxyHeader,
    /// The client's own address.
    pub(super) client: Option<SocketAddr>,
}

impl Said {
    fn only(outcome: ProxyHeader) -> Self {
        Self {
            outcome,
            client: None,
        }
    }
}

/// Reads the header, and not a byte more; `None`: the listener takes none. What came without one is
/// the client's own and was not touched.
///
/// # Errors
///
/// The outcome for which the connection is closed without a word: whoever sent it speaks another
/// protocol or has no right to.
pub(super) async fn read<T: Transport>(
    stream: &mut Stream<T>,
    listener: &Listener,
    peer: SocketAddr,
) -> Result<Option<Said>, ProxyHeader> {
    let required = match listener.proxy_protocol() {
        ProxyProtocol::Off => return Ok(None),
        ProxyProtocol::Accept => false,
        ProxyProtocol::Require => true,
    };
    let first = stream.first_byte().await.ok().flatten();
    if first != Some(FIRST) {
        let missing = ProxyHeader::Missing;
        return if required {
            Err(missing)
        } else {
            Ok(Some(Said::only(missing)))
        };
    }
    if !listener.believes(peer.ip()) {
        return Err(ProxyHeader::Forbidden);
    }
    let mut header = Vec::with_capacity(FIXED);
    read_exactly(stream, &mut header, FIXED).await?;
    let rest = usize::from(u16::from_be_bytes([header[FIXED - 2], header[FIXED - 1]]));
    if rest > MAX_REST {
        return Err(ProxyHeader::Invalid);
    }
    read_exactly(stream, &mut header, FIXED + rest).await?;
    let header = Header::try_from(header.as_slice()).map_err(|_| ProxyHeader::Invalid)?;
    if header.command == Command::Local {
        return Ok(Some(Said::only(ProxyHeader::Local)));
    }
    let client = match header.addresses {
        Addresses::IPv4(ip) => Some(SocketAddr::from((ip.source_address, ip.source_port))),
        Addresses::IPv6(ip) => Some(SocketAddr::from((ip.source_address, ip.source_port))),
        Addresses::Unix(_) | Addresses::Unspecified => None,
    };
    Ok(Some(Said {
        outcome: ProxyHeader::Taken,
        client,
    }))
}

async fn read_exactly<T: Transport>(
    stream: &mut Stream<T>,
    header: &mut Vec<u8>,
    length: usize,
) -> Result<(), ProxyHeader> {
    while header.len() < length {
        let room = length - header.len();
        match stream.receive_at_most(header, room).await {
            Ok(1..) => {}
            Ok(0) | Err(_) => return Err(ProxyHeader::Invalid),
        }
    }
    Ok(())
}
