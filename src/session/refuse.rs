//! Telling a client that it gets no session, and closing its connection.

use std::net::SocketAddr;
use std::time::Duration;

use crate::net::time::timeout;
use crate::net::{Network, Stream, Transport};
use crate::observe::metrics::Limit;
use crate::protection::Encoding;
use crate::upstream::Listener;

use super::cancel;
use super::closing::linger;
use super::context::Context;
use super::greeting::{Request, hear_out};
use super::refusal::Refusal;

/// How long a client that is refused may take to read why.
const LAST_WORD: Duration = Duration::from_secs(1);

/// Refuses a client by a limit: the refusal is counted by the limit's name, and logged now and
/// then.
pub(super) async fn refuse_for<N: Network>(
    client: Stream<N::Transport>,
    encoding: Encoding,
    refusal: &Refusal,
    peer: SocketAddr,
    context: &Context<N>,
) {
    if let Some(limit) = refusal.limit() {
        context.shard().sessions_refused.inc(limit.name());
    }
    if let Some(left_out) = context.shared.admission.refusal_log.now() {
        tracing::warn!(%peer, %refusal, left_out, "a session was refused");
    }
    refuse(client, encoding, refusal).await;
}

/// The FATAL that names a limit, for whoever refuses before there is a session to do it.
pub(crate) fn too_many(limit: Limit, most: usize) -> Vec<u8> {
    let refusal = Refusal::full(limit, most);
    refusal.fatal(Encoding::default()).unwrap_or_default()
}

/// Refuses a client that has said nothing yet, for whoever refuses before there is a session to do it. One
/// that wants to cancel takes no session's place, and is served: it may well be what ends the want.
pub(crate) async fn turn_away<N: Network>(
    mut client: Stream<N::Transport>,
    (peer, listener): (SocketAddr, &Listener),
    limit: Limit,
    most: usize,
    context: &Context<N>,
) {
    let heard = timeout(LAST_WORD, hear_out(&mut client)).await;
    let encoding = match heard {
        Ok(Ok(Request::Cancel(packet))) => {
            let settings = context.shared.settings.load_full();
            cancel::serve(client, &packet, (peer, listener), None, context, &settings).await;
            return;
        }
        Ok(Ok(request)) => request.encoding(),
        Ok(Err(_)) | Err(_) => Encoding::default(),
    };
    refuse(client, encoding, &Refusal::full(limit, most)).await;
}

/// Tells a client that reads this encoding why there is no session, and closes.
pub(super) async fn refuse<T: Transport>(
    mut client: Stream<T>,
    encoding: Encoding,
    refusal: &Refusal,
) {
    if let Some(frame) = refusal.fatal(encoding) {
        // A client that does not take the message in time does not get it.
        let _ = timeout(LAST_WORD, client.send(&frame)).await;
    }
    linger(client).await;
}
