//! Ending one connection: what the peer is told, and that it hears of the end as it should.

use std::time::Duration;

use crate::net::time::timeout;
use crate::net::{Stream, Transport};
use crate::wire::compose;

use super::pump::Close;
use super::refusal::KILLED;

/// How long a connection that was told goodbye may take to hear it.
pub(super) const LINGER: Duration = Duration::from_secs(1);
/// Ends a connection with FIN or RST.
pub(super) async fn close<T: Transport>(mut stream: Stream<T>, how: Close) {
    match how {
        Close::Fin => {
            // A server that does not take the end of TLS in time does not get it.
            let _ = timeout(LINGER, stream.shut_down()).await;
        }
        Close::Reset => stream.reset(),
    }
}

/// Closes a connection so that what was sent last arrives: the peer's bytes are read and dropped
/// until it closes, too, since a socket that is closed with unread bytes resets the connection.
pub(super) async fn linger<T: Transport>(mut stream: Stream<T>) {
    let goodbye = async {
        let _ = stream.shut_down().await;
        let mut rest = Vec::new();
        while matches!(stream.receive(&mut rest).await, Ok(1..)) {
            rest.clear();
        }
    };
    let _ = timeout(LINGER, goodbye).await;
}

/// The FATAL of a session that ends because Osprey does.
pub(super) fn shutdown_notice() -> bytes::Bytes {
    fatal_notice("57P01", "terminating connection: Osprey is shutting down")
}

/// The FATAL of a session that an operator ends.
pub(super) fn killed_notice() -> bytes::Bytes {
    fatal_notice("57P01", KILLED)
}

/// The FATAL of a session that Osprey ends.
pub(super) fn fatal_notice(sqlstate: &str, message: &str) -> bytes::Bytes {
    let mut frame = Vec::new();
    compose::fatal(&mut frame, sqlstate, message, None);
    frame.into()
}
