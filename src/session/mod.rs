//! The I/O shell of one session, as phases: each is a type of its own that says what it reads,
//! writes, waits for, and until when.
//!
//! ```text
//! Accepted → proxy_header → Greeting → Login → Borrowed → Running → Draining
//!                               └→ cancel
//! ```
//!
//! One task, both connections. It is generic over what makes connections ([`Network`]) and knows no
//! socket and no clock but tokio's, so that a test can own all of it. Every place, counter and
//! registration is given back by a guard, whatever ends the session, a panic included.

mod admission;
mod admit;
mod begin;
mod borrowed;
mod cancel;
mod draining;
mod greeting;
mod login;
mod proxy_header;
mod pump;
mod read_ahead;
mod refusal;
mod registry;
mod running;
mod scram;
pub mod world;

use std::cell::Cell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::timeout;

use crate::config::Settings;
use crate::net::{Network, Stream};
use crate::observe::Metrics;
use crate::observe::metrics::{CloseReason, Kind as _, Limit, Shard};
use crate::upstream::{Listener, Upstreams};
use crate::wire::compose;

pub(crate) use admission::{Admission, Place};
pub(crate) use registry::Drain;
pub use registry::{Entry, Registry};

use admission::{Places, bound};
use admit::{Admitted, admit};
use begin::begin;
use draining::linger;
use greeting::{Greeted, Greeting, Request, Ungreeted};
use refusal::Refusal;

/// Bytes of a ReadyForQuery.
const READY_FOR_QUERY: usize = 6;
/// How long a greeting may take while three quarters of the places for greetings are taken.
const HURRIED_GREETING: Duration = Duration::from_secs(2);
/// How long a client that is refused may take to read why.
const LAST_WORD: Duration = Duration::from_secs(1);

/// What all sessions share.
pub struct Shared<N> {
    /// The settings in force; a session keeps those it began with.
    pub settings: ArcSwap<Settings>,
    /// The upstreams and listeners that these settings make.
    pub upstreams: ArcSwap<Upstreams>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What is sent to change the engine.
    pub routes: world::Routes,
    /// The sessions that are open.
    pub sessions: Arc<Registry>,
    /// How many connections there may be.
    pub(crate) admission: Admission,
    /// What makes connections to upstreams.
    pub network: N,
}

/// A connection that has just been accepted.
pub(crate) struct Accepted<T> {
    /// The connection.
    pub(crate) stream: T,
    /// Whose it is, as the socket says.
    pub(crate) peer: SocketAddr,
    /// What it was accepted by.
    pub(crate) listener: Arc<Listener>,
    /// Its place among the greetings.
    pub(crate) place: Place,
}

/// What a session works with: what all share, and its worker's counters.
pub(crate) struct Context<N> {
    pub(crate) shared: Arc<Shared<N>>,
    pub(crate) worker: usize,
}

impl<N> Context<N> {
    fn shard(&self) -> &Shard {
        self.shared.metrics.shard(self.worker)
    }
}

/// Serves one connection to its end.
pub(crate) async fn serve<N: Network>(accepted: Accepted<N::Transport>, context: Arc<Context<N>>) {
    let settings = context.shared.settings.load_full();
    // The state of a greeting is large and short-lived: it does not become part of the session's.
    let greeting = Box::pin(greet(accepted, &context, &settings));
    let limit = greeting_limit(&context.shared.admission.greetings, &settings);
    let Ok(greeted) = timeout(limit, greeting).await else {
        tracing::debug!("no startup packet within limits.greeting_timeout");
        return;
    };
    let Some((greeted, place)) = greeted else {
        return;
    };
    let Greeted {
        client,
        peer,
        listener,
        request,
    } = greeted;
    match request {
        Request::Cancel(packet) => {
            let cancelling = cancel::serve(
                client,
                &packet,
                (peer, &*listener),
                place,
                &context,
                &settings,
            );
            Box::pin(cancelling).await;
        }
        Request::Session(startup) => {
            let admitted = Box::pin(admit(client, startup, peer, &listener, &context, &settings));
            let Some(login) = admitted.await else { return };
            drop(place);
            session(login, &context, &settings).await;
        }
    }
}

/// How long a greeting may take: less while the places for greetings run short, so that those who say
/// nothing cannot keep the others waiting.
fn greeting_limit(greetings: &Places, settings: &Settings) -> Duration {
    let limits = &settings.limits;
    if greetings.taken() * 4 > limits.max_greetings.total * 3 {
        limits.greeting_timeout.min(HURRIED_GREETING)
    } else {
        limits.greeting_timeout
    }
}

/// The PROXY header and the greeting; `None`: the connection has ended.
async fn greet<N: Network>(
    accepted: Accepted<N::Transport>,
    context: &Context<N>,
    settings: &Settings,
) -> Option<(Greeted<N::Transport>, Place)> {
    let Accepted {
        stream,
        mut peer,
        listener,
        mut place,
    } = accepted;
    let mut stream = Stream::Plain(stream);
    match proxy_header::read(&mut stream, &listener, peer).await {
        Ok(None) => {}
        Ok(Some(said)) => {
            context.shard().proxy_headers.of(said.outcome).inc();
            if let Some(client) = said.client {
                tracing::debug!(balancer = %peer, %client, "a PROXY header names the client");
                peer = client;
                let quota = settings.limits.max_greetings;
                if let Err(full) = place.moves_to(peer.ip(), quota) {
                    let limit = Limit::GreetingsPerAddress;
                    let refusal = Refusal::full(limit, bound(full, quota));
                    refuse_for(stream, &refusal, peer, context).await;
                    return None;
                }
            }
        }
        Err(outcome) => {
            context.shard().proxy_headers.of(outcome).inc();
            if let Some(left_out) = context.shared.admission.refusal_log.now() {
                tracing::warn!(
                    %peer,
                    reason = outcome.label(),
                    left_out,
                    "a connection was closed for its PROXY header"
                );
            }
            return None;
        }
    }
    match Greeting::new(stream, peer, listener).run().await {
        Ok(greeted) => Some((greeted, place)),
        Err(Ungreeted { stream, refusal }) => {
            if matches!(refusal, Refusal::Handshake(_)) {
                tracing::info!(%peer, %refusal, "no session");
            } else {
                tracing::debug!(%peer, %refusal, "no session");
            }
            if let Some(stream) = stream {
                refuse(stream, &refusal).await;
            }
            None
        }
    }
}

/// A session as the metrics count it, closed when this is dropped.
struct Opened<'s> {
    shard: &'s Shard,
    reason: Cell<CloseReason>,
}

impl<'s> Opened<'s> {
    fn count(shard: &'s Shard) -> Self {
        shard.sessions_opened.inc();
        Self {
            shard,
            // Whoever ends in good order says why.
            reason: Cell::new(CloseReason::Panic),
        }
    }
}

impl Drop for Opened<'_> {
    fn drop(&mut self) {
        self.shard.sessions_closed.of(self.reason.get()).inc();
    }
}

/// From login to the end.
async fn session<N: Network>(
    admitted: Admitted<N::Transport>,
    context: &Arc<Context<N>>,
    settings: &Settings,
) {
    let opened = Opened::count(context.shard());
    let begun = Box::pin(begin(admitted, context, settings)).await;
    let (mut running, seats) = match begun {
        Ok(begun) => begun,
        Err(reason) => return opened.reason.set(reason),
    };
    let ending = running.run(context).await;
    opened.reason.set(ending.reason);
    tracing::info!(
        session = running.entered.id(),
        reason = ending.reason.label(),
        "session closed"
    );
    // What is left is short and needs no place.
    drop((opened, seats));
    Box::pin(running.drain(ending)).await;
}

/// Refuses by a limit: counted by its name, logged now and then.
async fn refuse_for<N: Network>(
    client: Stream<N::Transport>,
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
    refuse(client, refusal).await;
}

/// The FATAL that names a limit, for whoever refuses before there is a session to do it.
pub(crate) fn too_many(limit: Limit, most: usize) -> Vec<u8> {
    Refusal::full(limit, most).fatal().unwrap_or_default()
}

/// Tells a client why there is no session, and closes.
async fn refuse<T: crate::net::Transport>(mut client: Stream<T>, refusal: &Refusal) {
    if let Some(frame) = refusal.fatal() {
        // Whoever does not take a word need not be waited for.
        let _ = timeout(LAST_WORD, client.send(&frame)).await;
    }
    linger(client).await;
}

/// The FATAL of a session that ends because Osprey does.
fn shutdown_notice() -> bytes::Bytes {
    let mut frame = Vec::new();
    compose::fatal(
        &mut frame,
        "57P01",
        "terminating connection: Osprey is shutting down",
        None,
    );
    frame.into()
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn a_session_that_ends_in_a_panic_is_counted_as_closed() {
        let shard = Shard::default();
        let ended = catch_unwind(AssertUnwindSafe(|| {
            let _opened = Opened::count(&shard);
            panic!("a fault of Osprey's");
        }));
        assert!(ended.is_err());
        assert_eq!(shard.sessions_opened.get(), 1);
        assert_eq!(shard.sessions_closed.of(CloseReason::Panic).get(), 1);
    }

    #[test]
    fn a_session_that_says_why_it_ends_is_counted_so() {
        let shard = Shard::default();
        Opened::count(&shard).reason.set(CloseReason::Drained);
        assert_eq!(shard.sessions_closed.of(CloseReason::Drained).get(), 1);
        assert_eq!(shard.sessions_closed.of(CloseReason::Panic).get(), 0);
    }
}
