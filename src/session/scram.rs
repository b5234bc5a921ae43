//! SASL where Osprey stands in the middle of TLS.
//!
//! Authentication is relayed. Where the upstream offers `SCRAM-SHA-256-PLUS`, its channel binding
//! cannot hold across a proxy that ends TLS:
//!
//! | client leg | upstream leg | what works |
//! |---|---|---|
//! | plaintext | TLS | the PLUS mechanism is taken off the list; the rest is relayed |
//! | TLS | plaintext | nothing to do: no PLUS is offered |
//! | TLS | TLS | a libpq client that finds PLUS missing says so in its proof, and the server refuses: Osprey asks for the password over the client's TLS and performs SCRAM itself |
//!
//! Passwords are used once and dropped; they are never logged or kept.

use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};

use crate::wire::backend::{ErrorFields, tag};
use crate::wire::{HEADER, Header, compose, split_cstr};

use super::login::Refusal;
use super::stream::Stream;

const PLUS: &[u8] = b"SCRAM-SHA-256-PLUS";
const MAX_FRAME: usize = crate::wire::startup::MAX_AUTHENTICATION;

/// What is done with an Authentication message of the server's.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// Forward it; true: the client answers next.
    Relay(bool),
    /// Send this instead; the client answers next.
    Strip(Vec<u8>),
    /// Perform SCRAM ourselves, with the client's password.
    Terminate,
}

/// Decides by the code at the start of the body (PostgreSQL, *`AuthenticationSASL`* and others).
pub(super) fn plan(body: &[u8], client: &Stream, server: &Stream) -> Plan {
    plan_for(body, client.is_tls(), server.is_tls())
}

fn plan_for(body: &[u8], client_tls: bool, server_tls: bool) -> Plan {
    let Some((code, rest)) = body.split_first_chunk::<4>() else {
        return Plan::Relay(false);
    };
    match u32::from_be_bytes(*code) {
        // AuthenticationOk, AuthenticationSASLFinal
        0 | 12 => Plan::Relay(false),
        10 if server_tls && offers(rest).any(|mechanism| mechanism == PLUS) => {
            if client_tls {
                return Plan::Terminate;
            }
            let mut replacement = Vec::new();
            compose::frame(&mut replacement, tag::AUTHENTICATION, |out| {
                out.extend_from_slice(code);
                for mechanism in offers(rest).filter(|mechanism| *mechanism != PLUS) {
                    out.extend_from_slice(mechanism);
                    out.push(0);
                }
                out.push(0);
            });
            Plan::Strip(replacement)
        }
        _ => Plan::Relay(true),
    }
}

fn offers(mut rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (mechanism, after) = split_cstr(rest)?;
        rest = after;
        (!mechanism.is_empty()).then_some(mechanism)
    })
}

fn failed(error: impl std::fmt::Display) -> Refusal {
    Refusal::Own {
        sqlstate: "28000",
        message: format!("SCRAM authentication with Hologres failed: {error}"),
        hint: None,
    }
}

/// Performs SCRAM-SHA-256 with the server. What the server sends behind its last SASL message,
/// `AuthenticationOk` first, is left in `from_server`; so is an ErrorResponse.
pub(super) async fn authenticate(
    server: &mut Stream,
    from_server: &mut Vec<u8>,
    password: &[u8],
) -> Result<(), Refusal> {
    let mut scram = ScramSha256::new(password, ChannelBinding::unsupported());
    let mut message = Vec::new();
    compose::frame(&mut message, b'p', |out| {
        out.extend_from_slice(SCRAM_SHA_256.as_bytes());
        out.push(0);
        let first = scram.message();
        out.extend_from_slice(&u32::try_from(first.len()).unwrap_or(u32::MAX).to_be_bytes());
        out.extend_from_slice(first);
    });
    server.send(&message).await?;

    // SASLContinue
    let Some(body) = next(server, from_server, 11).await? else {
        return Ok(());
    };
    scram.update(&body).map_err(failed)?;
    message.clear();
    compose::frame(&mut message, b'p', |out| {
        out.extend_from_slice(scram.message());
    });
    server.send(&message).await?;

    // SASLFinal
    let Some(body) = next(server, from_server, 12).await? else {
        return Ok(());
    };
    scram.finish(&body).map_err(failed)
}

/// The data of the next Authentication message, which must have this code. `None`: it is an
/// ErrorResponse, left for the relay.
async fn next(
    server: &mut Stream,
    from_server: &mut Vec<u8>,
    expected: u32,
) -> Result<Option<Vec<u8>>, Refusal> {
    loop {
        match Header::read(from_server).map_err(failed)? {
            Some(header) if header.frame > MAX_FRAME => return Err(failed("oversized message")),
            Some(header) if header.frame <= from_server.len() => {
                let body = &from_server[HEADER..header.frame];
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
        if server.receive(from_server).await? == 0 {
            return Err(failed("the connection was closed"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &[u8] = b"\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0";

    #[test]
    fn plus_is_stripped_relayed_or_terminated_by_the_legs() {
        assert_eq!(plan_for(LIST, true, true), Plan::Terminate);
        assert_eq!(plan_for(LIST, true, false), Plan::Relay(true));
        let Plan::Strip(replacement) = plan_for(LIST, false, true) else {
            panic!("not stripped");
        };
        assert_eq!(&replacement[5..], b"\0\0\0\x0aSCRAM-SHA-256\0\0");
    }

    #[test]
    fn everything_else_is_relayed() {
        assert_eq!(plan_for(b"\0\0\0\0", true, true), Plan::Relay(false));
        assert_eq!(plan_for(b"\0\0\0\x05salt", true, true), Plan::Relay(true));
        assert_eq!(plan_for(b"\0\0\0\x0cv=x", true, true), Plan::Relay(false));
        assert_eq!(
            plan_for(b"\0\0\0\x0aSCRAM-SHA-256\0\0", true, true),
            Plan::Relay(true)
        );
        assert_eq!(plan_for(b"", true, true), Plan::Relay(false));
    }
}
