//! Cancel requests: those that clients send on connections of their own, and those that Osprey
//! sends for a session.
//!
//! A client takes the end of its connection for "done" and goes on (libpq does), so the end comes
//! only once the server has closed its own. A key that belongs to a session here leads to that
//! session's server. One that does not may be another replica's: it goes to every upstream of the
//! listener, within a bound and a rate, since each costs a connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{Quota, Settings};
use crate::net::time::timeout;
use crate::net::{Network, Stream, Unreachable};
use crate::observe::metrics::Cancel;
use crate::upstream::Listener;
use crate::wire::startup::cancel_request;

use super::admission::Place;
use super::context::{Context, Shared};
use super::registry::Origin;

/// How long a cancel of a session that is served here waits for its place.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes in front of the key: length and code.
const HEAD: usize = 8;

/// Serves a connection that asks to cancel. `greeting`: its place, which it gives up as soon as it has another.
pub(super) async fn serve<N: Network>(
    mut client: Stream<N::Transport>,
    packet: &[u8],
    (peer, listener): (SocketAddr, &Listener),
    greeting: Option<Place>,
    context: &Context<N>,
    settings: &Settings,
) {
    let shared = &context.shared;
    let outcome = forward(packet, peer, greeting, listener, context, settings).await;
    let (outcome, error) = match outcome {
        Ok(outcome) => (outcome, None),
        Err(error) => (Cancel::Failed, Some(error)),
    };
    context.shard().cancel_requests.of(outcome).inc();
    if matches!(outcome, Cancel::Dropped | Cancel::Failed)
        && let Some(left_out) = shared.admission.cancel_log.now()
    {
        if let Some(error) = error {
            tracing::warn!(%peer, %error, left_out, "a cancel request could not be forwarded");
        } else {
            tracing::warn!(
                %peer,
                left_out,
                "a cancel request was dropped: see limits.max_cancels and \
                 limits.unknown_cancels_per_second"
            );
        }
    }
    // The client has nothing more to say, so nothing of it can be left unread.
    let _ = timeout(PATIENCE, client.shut_down()).await;
}

async fn forward<N: Network>(
    packet: &[u8],
    peer: SocketAddr,
    greeting: Option<Place>,
    listener: &Listener,
    context: &Context<N>,
    settings: &Settings,
) -> Result<Cancel, Unreachable> {
    let shared = &context.shared;
    let quota = Quota::of(settings.limits.max_cancels);
    let network = &shared.network;
    let origins = shared
        .sessions
        .cancelled(packet.get(HEAD..).unwrap_or_default());
    if origins.is_empty() {
        let rate = settings.limits.unknown_cancels_per_second;
        let allowed = shared.admission.unknown_rates.allows(peer.ip(), rate);
        let place = shared.admission.unknown_cancels.take(peer.ip(), quota);
        let (true, Ok(_place)) = (allowed, place) else {
            return Ok(Cancel::Dropped);
        };
        drop(greeting);
        let upstreams = listener.upstreams();
        let forwarding = upstreams
            .iter()
            .map(|upstream| upstream.endpoint().cancel(network, None, packet));
        return all(forwarding).await.map(|()| Cancel::Unknown);
    }
    let places = &shared.admission.cancels;
    let waiting = timeout(PATIENCE, places.wait(peer.ip(), quota));
    let Ok(Ok(_place)) = waiting.await else {
        return Ok(Cancel::Dropped);
    };
    drop(greeting);
    let forwarding = origins.iter().map(|origin| {
        let destination = Some(origin.destination.clone());
        let endpoint = origin.upstream.endpoint();
        endpoint.cancel(network, destination, packet)
    });
    all(forwarding).await.map(|()| Cancel::Forwarded)
}

/// Waits for all of them, side by side; the first failure is theirs.
async fn all(
    forwarding: impl Iterator<Item = impl Future<Output = Result<(), Unreachable>>>,
) -> Result<(), Unreachable> {
    let outcomes = futures::future::join_all(forwarding).await;
    outcomes.into_iter().collect()
}

/// Cancels what `origin`'s server does for the session with this key, on Osprey's own account.
pub(super) async fn send<N: Network>(
    key: &[u8],
    origin: &Origin,
    session: u64,
    shared: &Arc<Shared<N>>,
) {
    if key.is_empty() {
        return;
    }
    let packet = cancel_request(key);
    let endpoint = origin.upstream.endpoint();
    let destination = Some(origin.destination.clone());
    if let Err(error) = endpoint.cancel(&shared.network, destination, &packet).await {
        tracing::warn!(session, %error, "a cancel request could not be sent");
    }
}
