//! One connection from its startup packet to its end.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::StreamExt as _;
use pgwire::api::{ClientInfo as _, DefaultClient, NoopHandler, PgWireConnectionState};
use pgwire::error::PgWireError;
use pgwire::messages::PgWireFrontendMessage;
use pgwire::tokio::server::{PgWireMessageServerCodec, process_error, process_message};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;
use tokio_util::codec::Framed;

use super::connection::{Connection, Extended};
use super::error::Error;
use crate::net::time::{timeout, timeout_at};
use crate::session::Duplex;

/// How long one statement may take, its answer read by the client.
const STATEMENT_TIMEOUT: Duration = Duration::from_mins(1);
/// The longest message of a client that has not logged in: PostgreSQL's own limit.
const LONGEST_OF_LOGIN: usize = 65_535;
/// The longest of one that has.
const LONGEST: usize = 1 << 20;
/// For clients of the socket, which have no address.
const NO_ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// Serves a client; it is to log in until `deadline`.
pub(super) async fn serve(
    client: Box<dyn Duplex>,
    is_tls: bool,
    connection: Arc<Connection>,
    deadline: Instant,
) {
    let left = Arc::new(AtomicUsize::new(0));
    let bounded = Bounded {
        client,
        left: Arc::clone(&left),
    };
    let address = connection
        .from
        .map_or(NO_ADDRESS, |from| SocketAddr::new(from, 0));
    let codec = PgWireMessageServerCodec::new(DefaultClient::new(address, is_tls));
    let mut framed = Framed::new(bounded, codec);
    framed.set_state(PgWireConnectionState::AwaitingStartup);
    let extended = Arc::new(Extended(Arc::clone(&connection)));
    let nothing = Arc::new(NoopHandler);
    loop {
        let is_in = connection.is_in();
        left.store(
            if is_in { LONGEST } else { LONGEST_OF_LOGIN },
            Ordering::Relaxed,
        );
        let message = if is_in {
            framed.next().await
        } else {
            timeout_at(deadline, framed.next()).await.unwrap_or(None)
        };
        let message = match message {
            None | Some(Ok(PgWireFrontendMessage::Terminate(_))) => return,
            Some(Err(PgWireError::IoError(error)))
                if error.kind() != io::ErrorKind::InvalidData =>
            {
                return;
            }
            Some(Err(error)) => {
                let fatal = Error::new("08P01", format!("not a message: {error}")).fatal();
                let _ = timeout(STATEMENT_TIMEOUT, process_error(&mut framed, fatal, false)).await;
                return;
            }
            Some(Ok(message)) => message,
        };
        let is_cancel = matches!(message, PgWireFrontendMessage::CancelRequest(_));
        let waits_for_sync = message.is_extended_query();
        let answering = async {
            let processed = process_message(
                message,
                &mut framed,
                Arc::clone(&connection),
                Arc::clone(&connection),
                Arc::clone(&extended),
                Arc::clone(&nothing),
                Arc::clone(&nothing),
            );
            match processed.await {
                Ok(()) => true,
                Err(error) => {
                    let goes_on = !error.is_fatal();
                    let told = process_error(&mut framed, error, waits_for_sync).await;
                    goes_on && told.is_ok()
                }
            }
        };
        let goes_on = timeout(STATEMENT_TIMEOUT, answering).await;
        if is_cancel || !goes_on.unwrap_or(false) {
            return;
        }
    }
}

/// A connection of which only so much is read.
struct Bounded {
    client: Box<dyn Duplex>,
    left: Arc<AtomicUsize>,
}

impl AsyncRead for Bounded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let left = self.left.load(Ordering::Relaxed);
        if left == 0 {
            let error = io::Error::new(io::ErrorKind::InvalidData, "it is too long");
            return Poll::Ready(Err(error));
        }
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.client).poll_read(context, buffer);
        let read = buffer.filled().len() - before;
        self.left
            .store(left.saturating_sub(read), Ordering::Relaxed);
        polled
    }
}

impl AsyncWrite for Bounded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.client).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.client).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.client).poll_shutdown(context)
    }
}
