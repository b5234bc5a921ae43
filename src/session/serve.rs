//! One connection from accept to close: the phases in their order.

use std::cell::Cell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;

use crate::config::Settings;
use crate::net::time::timeout;
use crate::net::{Network, Stream, Transport};
use crate::observe::metrics::{CloseReason, Kind as _, Limit, Shard};
use crate::protection::Encoding;
use crate::upstream::{KeptOut, Listener};

use super::admission::{Place, Places, bound};
use super::admit::{Admitted, Taken, admit};
use super::aside::{Reading, Visitor};
use super::begin::begin;
use super::context::Context;
use super::greeting::{Greeted, Greeting, Request, Ungreeted};
use super::refusal::Refusal;
use super::refuse::{refuse, refuse_for};
use super::running::{Ending, Running};
use super::{cancel, proxy_header};

/// How long a greeting may take while three quarters of the places for greetings are taken, and that of a
/// client which is kept out for its address.
const HURRIED_GREETING: Duration = Duration::from_secs(2);

/// A connection that has just been accepted.
pub(crate) struct Accepted<T> {
    /// The connection.
    pub(crate) stream: T,
    /// The peer's address, as the socket says it.
    pub(crate) peer: SocketAddr,
    /// The listener that accepted it.
    pub(crate) listener: Arc<Listener>,
    /// Its place among the greetings.
    pub(crate) place: Place,
}

/// Serves one connection to its end, at which `place` is dropped: its place on its worker.
pub(crate) async fn serve<N: Network>(
    accepted: Accepted<N::Transport>,
    context: Arc<Context<N>>,
    place: impl Send,
) {
    if let Some(mut session) = before(accepted, &context).await {
        let ending = session.running.run(&context).await;
        after(session, ending).await;
    }
    drop(place);
}

/// What comes before a session runs. Like what comes after, it is large and short-lived, so it is on the
/// heap; and it is made here, so that a session's turns do not pass by on their way.
#[inline(never)]
fn before<N: Network>(
    accepted: Accepted<N::Transport>,
    context: &Arc<Context<N>>,
) -> BoxFuture<'_, Option<Box<Session<'_, N::Transport>>>> {
    Box::pin(session(accepted, context))
}

/// What comes when it no longer runs.
#[inline(never)]
fn after<T: Transport>(session: Box<Session<'_, T>>, ending: Ending) -> BoxFuture<'_, ()> {
    Box::pin(session.end(ending))
}

/// A connection up to the session that it is to be; `None`: it was none, or has ended.
async fn session<N: Network>(
    accepted: Accepted<N::Transport>,
    context: &Arc<Context<N>>,
) -> Option<Box<Session<'_, N::Transport>>> {
    let settings = context.shared.settings.load_full();
    let greeting = Box::pin(greet(accepted, context, &settings));
    let limit = greeting_limit(&context.shared.admission.greetings, &settings);
    let Ok(greeted) = timeout(limit, greeting).await else {
        tracing::debug!("no startup packet within limits.greeting_timeout");
        return None;
    };
    let (greeted, place) = greeted?;
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
                Some(place),
                context,
                &settings,
            );
            Box::pin(cancelling).await;
            None
        }
        Request::Session(startup) => {
            let aside = context.shared.aside.get().filter(|aside| {
                let asked = startup.view();
                asked.is_some_and(|startup| aside.takes(startup.database(), &settings))
            });
            if let Some(aside) = aside {
                let visitor = Visitor {
                    peer,
                    is_tls: client.is_tls(),
                    client: Box::new(Reading::new(client, startup.bytes())),
                    place,
                };
                aside.serve(visitor).await;
                return None;
            }
            let admitted = Box::pin(admit(client, startup, peer, &listener, context, &settings));
            let login = admitted.await?;
            drop(place);
            log_in(login, context, &settings).await
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
                    refuse_for(stream, Encoding::default(), &refusal, peer, context).await;
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
    let kept_out = listener.keeps_out(peer.ip());
    let greeting = Greeting::new(stream, peer, listener).run();
    if let Some(list) = kept_out {
        // A client that asks for TLS understands a refusal only once that is answered.
        if let Ok(Ok(greeted)) = timeout(HURRIED_GREETING, greeting).await {
            keep_out(greeted, list, context).await;
        }
        return None;
    }
    match greeting.await {
        Ok(greeted) => Some((greeted, place)),
        Err(Ungreeted { stream, refusal }) => {
            match &refusal {
                Refusal::Handshake(_) => tracing::info!(%peer, %refusal, "no session"),
                // Nothing is said to the sender, so that whoever wonders why looks here.
                Refusal::NoStartup(_) => {
                    if let Some(left_out) = context.shared.admission.refusal_log.now() {
                        tracing::info!(%peer, %refusal, left_out, "no session");
                    }
                }
                _ => tracing::debug!(%peer, %refusal, "no session"),
            }
            if let Some(stream) = stream {
                refuse(stream, Encoding::default(), &refusal).await;
            }
            None
        }
    }
}

/// Refuses a client for its address. What it wants to cancel is not its own.
async fn keep_out<N: Network>(greeted: Greeted<N::Transport>, list: KeptOut, context: &Context<N>) {
    let encoding = greeted.request.encoding();
    let Greeted { client, peer, .. } = greeted;
    let (limit, setting) = match list {
        KeptOut::NotAllowed => (Limit::Allow, "allow"),
        KeptOut::Denied => (Limit::Deny, "deny"),
    };
    let address = peer.ip().to_canonical();
    let refusal = Refusal::Network {
        limit,
        setting,
        address,
    };
    refuse_for(client, encoding, &refusal, peer, context).await;
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
            // This is what counts if nobody says another reason.
            reason: Cell::new(CloseReason::Panic),
        }
    }
}

impl Drop for Opened<'_> {
    fn drop(&mut self) {
        self.shard.sessions_closed.of(self.reason.get()).inc();
    }
}

/// A session that runs, and what it has taken.
struct Session<'s, T> {
    running: Running<T>,
    opened: Opened<'s>,
    seats: Vec<Taken>,
}

/// Login, up to the session that may run.
async fn log_in<'s, N: Network>(
    admitted: Admitted<N::Transport>,
    context: &'s Arc<Context<N>>,
    settings: &Settings,
) -> Option<Box<Session<'s, N::Transport>>> {
    let opened = Opened::count(context.shard());
    match Box::pin(begin(admitted, context, settings)).await {
        Ok((running, seats)) => Some(Box::new(Session {
            running,
            opened,
            seats,
        })),
        Err(reason) => {
            opened.reason.set(reason);
            None
        }
    }
}

impl<T: Transport> Session<'_, T> {
    /// Its end: both sides hear of it.
    async fn end(self: Box<Self>, ending: Ending) {
        let Self {
            mut running,
            opened,
            seats,
        } = *self;
        opened.reason.set(ending.reason);
        running.close(ending.reason, opened.shard);
        let (figures, seen) = (running.figures, running.entered.live().seen());
        tracing::info!(
            session = running.entered.id(),
            reason = ending.reason.label(),
            seconds = seen.age.as_secs_f64(),
            statements = figures.statements,
            protected = figures.protected,
            bytes_to_server = seen.bytes_to_server,
            bytes_to_client = seen.bytes_to_client,
            "session closed"
        );
        // Draining is short and needs no place.
        drop((opened, seats));
        running.drain(ending).await;
    }
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
