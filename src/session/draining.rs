//! Phase *Draining*: a session that is to end. What is in flight towards the client is delivered,
//! then both sides hear how it ended.
//!
//! | reads | the client, whose bytes are dropped: a socket closed with unread bytes resets the connection, and the client may lose what it had not read yet |
//! |---|---|
//! | writes | the rest of what the core has said to the client; FIN or RST to each side |
//! | waits for | the client |
//! | until | [`DELIVERY`], and then [`LINGER`](super::closing::LINGER) for the client to hear it |

use std::task::{Poll, ready};
use std::time::Duration;

use crate::net::Transport;
use crate::net::time::{sleep, timeout};

use super::closing::{close, linger};
use super::live::Phase;
use super::pump::Close;
use super::running::{Ending, Running};

/// How long the delivery of the last bytes may take.
const DELIVERY: Duration = Duration::from_secs(1);
/// How long what was written last may take before a RST, which would overtake it, follows.
const BEFORE_RESET: Duration = Duration::from_millis(100);

impl<T: Transport> Running<T> {
    /// Ends the session.
    pub(super) async fn drain(self, ending: Ending) {
        let Self {
            mut client,
            server,
            mut back,
            mut out,
            mut entered,
            ..
        } = self;
        entered.live().set_phase(Phase::Draining);
        let delivering = std::future::poll_fn(|task| {
            while !back.deliver(&mut client, &mut out.to_client) {
                ready!(client.poll_writable(task));
            }
            Poll::Ready(())
        });
        // A client that has taken nothing by then does not get the rest.
        let _ = timeout(DELIVERY, delivering).await;
        close(server, ending.server).await;
        // The server is gone, so a cancel request has nothing to cancel. The process still waits
        // until the client has heard of the end.
        entered.forget_key();
        drop((back, out));
        match ending.client {
            Close::Fin => linger(client).await,
            Close::Reset => {
                sleep(BEFORE_RESET).await;
                client.reset();
            }
        }
    }
}
