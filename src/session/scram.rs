//! SASL authentication where Osprey stands in the middle of TLS.

use postgres_protocol::authentication::sasl::{
    ChannelBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256,
};

use crate::net::{Stream, Transport};
use crate::wire::backend::{ErrorFields, tag};
use crate::wire::{HEADER, Header, compose, split_cstr};

use super::refusal::Refusal;

const MAX_FRAME: usize = crate::wire::startup::MAX_AUTHENTICATION;
/// `AuthenticationSASL`, `AuthenticationSASLContinue`, `AuthenticationSASLFinal`.
const SASL: u32 = 10;
const SASL_CONTINUE: u32 = 11;
const SASL_FINAL: u32 = 12;

/// What is done with an Authentication message of the server's.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// Forward it; true: the client answers next.
    Relay(bool),
    /// Offer the client less; what it chooses decides.
    Offer(Offer),
}

/// The `AuthenticationSASL` that the client gets in place of one with channel binding.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Offer(Vec<u8>);

impl Offer {
    /// The whole message.
    pub(super) fn message(&self) -> &[u8] {
        &self.0
    }
}

/// Decides by the code at the start of the body (PostgreSQL, *`AuthenticationSASL`* and others).
pub(super) fn plan(body: &[u8], server_tls: bool) -> Plan {
    let Some((code, rest)) = body.split_first_chunk::<4>() else {
        return Plan::Relay(false);
    };
    match u32::from_be_bytes(*code) {
        // AuthenticationOk
        0 | SASL_FINAL => Plan::Relay(false),
        SASL if server_tls && offers(rest).any(is_plus) => {
            let mut message = Vec::new();
            compose::frame(&mut message, tag::AUTHENTICATION, |out| {
                out.extend_from_slice(code);
                for mechanism in offers(rest).filter(|mechanism| !is_plus(mechanism)) {
                    out.extend_from_slice(mechanism);
                    out.push(0);
                }
                out.push(0);
            });
            Plan::Offer(Offer(message))
        }
        _ => Plan::Relay(true),
    }
}

fn is_plus(mechanism: &[u8]) -> bool {
    mechanism == SCRAM_SHA_256_PLUS.as_bytes()
}

fn offers(mut rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (mechanism, after) = split_cstr(rest)?;
        rest = after;
        (!mechanism.is_empty()).then_some(mechanism)
    })
}

/// What a client's `SASLInitialResponse` says of channel binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Binding {
    /// It binds no channels, or this is another mechanism.
    None,
    /// It would bind channels if the server offered it.
    Missed,
    /// It binds channels.
    Demanded,
}

impl Binding {
    /// What the body of a `SASLInitialResponse` says: it holds the mechanism, a length, and the
    /// client's first message, which begins with the gs2 flag.
    pub(super) fn of(body: &[u8]) -> Self {
        let Some((mechanism, rest)) = split_cstr(body) else {
            return Self::None;
        };
        match rest.get(4) {
            _ if is_plus(mechanism) => Self::Demanded,
            Some(b'p') => Self::Demanded,
            Some(b'y') => Self::Missed,
            _ => Self::None,
        }
    }
}

/// The refusal of a client without TLS that misses channel binding, where the upstream connection
/// must have TLS.
pub(super) fn missed() -> Refusal {
    Refusal::Own {
        sqlstate: "28000",
        message: "this client cannot log in without TLS while Osprey connects to Hologres with \
                  TLS: its SCRAM message would be taken for a downgrade"
            .into(),
        hint: Some(
            "Connect to Osprey with TLS, or switch channel binding off in the client \
             (channel_binding=disable, enableChannelBinding: false).",
        ),
    }
}

/// The refusal of a client that insists on channel binding.
pub(super) fn demanded() -> Refusal {
    Refusal::Own {
        sqlstate: "28000",
        message: "channel binding cannot hold through Osprey, which ends the client's TLS".into(),
        hint: Some("Connect with channel_binding=prefer or channel_binding=disable."),
    }
}

fn failed(error: impl std::fmt::Display) -> Refusal {
    Refusal::Own {
        sqlstate: "28000",
        message: format!("SCRAM authentication with Hologres failed: {error}"),
        hint: None,
    }
}

/// Reads the `AuthenticationSASL` that a server begins with; false: it sent an ErrorResponse, which is
/// left in `from_server`.
pub(super) async fn expect_offer<T: Transport>(
    server: &mut Stream<T>,
    from_server: &mut Vec<u8>,
) -> Result<bool, Refusal> {
    Ok(next(server, from_server, SASL).await?.is_some())
}

/// Performs SCRAM with the server, which has offered channel binding: bound to its TLS connection where
/// its certificate allows it. What the server sends behind its last SASL message,
/// `AuthenticationOk` first, is left in `from_server`; so is an ErrorResponse.
pub(super) async fn authenticate<T: Transport>(
    server: &mut Stream<T>,
    from_server: &mut Vec<u8>,
    password: &[u8],
) -> Result<(), Refusal> {
    let (mechanism, binding) = match server.server_end_point() {
        Some(end_point) => (
            SCRAM_SHA_256_PLUS,
            ChannelBinding::tls_server_end_point(end_point),
        ),
        None => (SCRAM_SHA_256, ChannelBinding::unsupported()),
    };
    let mut scram = ScramSha256::new(password, binding);
    let mut message = Vec::new();
    compose::frame(&mut message, b'p', |out| {
        out.extend_from_slice(mechanism.as_bytes());
        out.push(0);
        let first = scram.message();
        out.extend_from_slice(&u32::try_from(first.len()).unwrap_or(u32::MAX).to_be_bytes());
        out.extend_from_slice(first);
    });
    server.send(&message).await.map_err(Refusal::lost)?;

    let Some(body) = next(server, from_server, SASL_CONTINUE).await? else {
        return Ok(());
    };
    scram.update(&body).map_err(failed)?;
    message.clear();
    compose::frame(&mut message, b'p', |out| {
        out.extend_from_slice(scram.message());
    });
    server.send(&message).await.map_err(Refusal::lost)?;

    let Some(body) = next(server, from_server, SASL_FINAL).await? else {
        return Ok(());
    };
    scram.finish(&body).map_err(failed)
}

/// The data of the next Authentication message, which must have this code. `None`: it is an
/// ErrorResponse, left for the relay.
async fn next<T: Transport>(
    server: &mut Stream<T>,
    from_server: &mut Vec<u8>,
    expected: u32,
) -> Result<Option<Vec<u8>>, Refusal> {
    loop {
        match Header::read(from_server).map_err(failed)? {
            Some(header) if header.frame > MAX_FRAME => return Err(failed("oversized message")),
            Some(header) if header.frame <= from_server.len() => {
                let body = &from_server[HEADER..header.frame];
                if matches!(header.tag, tag::NEGOTIATE_PROTOCOL_VERSION | tag::NOTICE) {
                    // The client has heard the like already.
                    from_server.drain(..header.frame);
                    continue;
                }
                if header.tag == tag::ERROR {
                    tracing::debug!(
                        sqlstate = %String::from_utf8_lossy(ErrorFields::new(body).sqlstate()),
                        "SCRAM was refused"
                    );
                    return Ok(None);
                }
                let data = body
                    .split_first_chunk::<4>()
                    .filter(|(code, _)| {
                        header.tag == tag::AUTHENTICATION && **code == expected.to_be_bytes()
                    })
                    .map(|(_, data)| data.to_vec())
                    .ok_or_else(|| failed("unexpected message"))?;
                from_server.drain(..header.frame);
                return Ok(Some(data));
            }
            _ => {}
        }
        if server.receive(from_server).await.map_err(Refusal::lost)? == 0 {
            return Err(failed("the connection was closed"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &[u8] = b"\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0";

    #[test]
    fn channel_binding_is_not_offered_where_it_could_not_hold() {
        assert_eq!(plan(LIST, false), Plan::Relay(true));
        let Plan::Offer(offer) = plan(LIST, true) else {
            panic!("relayed as it is");
        };
        assert_eq!(&offer.message()[5..], b"\0\0\0\x0aSCRAM-SHA-256\0\0");
    }

    #[test]
    fn everything_else_is_relayed() {
        assert_eq!(plan(b"\0\0\0\0", true), Plan::Relay(false));
        assert_eq!(plan(b"\0\0\0\x05salt", true), Plan::Relay(true));
        assert_eq!(plan(b"\0\0\0\x0cv=x", true), Plan::Relay(false));
        assert_eq!(
            plan(b"\0\0\0\x0aSCRAM-SHA-256\0\0", true),
            Plan::Relay(true)
        );
        assert_eq!(plan(b"", true), Plan::Relay(false));
    }

    #[test]
    fn the_flag_says_what_the_client_thinks_of_channel_binding() {
        let of = |first: &str| Binding::of(format!("SCRAM-SHA-256\0\0\0\0 {first}").as_bytes());
        assert_eq!(of("n,,n=,r=x"), Binding::None);
        assert_eq!(of("y,,n=,r=x"), Binding::Missed);
        assert_eq!(of("p=tls-unique,,n=,r=x"), Binding::Demanded);
        let plus = b"SCRAM-SHA-256-PLUS\0\0\0\0 p=tls-server-end-point,,";
        assert_eq!(Binding::of(plus), Binding::Demanded);
        assert_eq!(Binding::of(b"SCRAM-SHA-256\0"), Binding::None);
        assert_eq!(Binding::of(b""), Binding::None);
    }
}
