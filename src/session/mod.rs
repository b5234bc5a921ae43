//! The I/O shell of one session, as phases: each is a type of its own that says what it reads,
//! writes, waits for, and until when.
//!
//! ```text
//! Accepted → proxy_header → Greeting → Login → Lent → Running → Draining
//!                               └→ cancel
//! ```
//!
//! One task, both connections. It is generic over what makes connections ([`Network`]) and knows no
//! socket and no clock but tokio's, so that a test can own all of it. Every place, counter and
//! registration is given back by a guard, whatever ends the session, a panic included.

mod admission;
mod cancel;
mod draining;
mod greeting;
mod lent;
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

use crate::config::{Quota, Settings};
use crate::net::{Network, Stream};
use crate::observe::Metrics;
use crate::observe::metrics::{CloseReason, Kind as _, Limit, Shard};
use crate::upstream::{Listener, Upstream, Upstreams};
use crate::wire::compose;

pub(crate) use admission::{Admission, Place};
pub(crate) use registry::Drain;
pub use registry::{Entry, Registry};

use admission::{Full, Places, bound};
use draining::linger;
use greeting::{Greeted, Greeting, Request, StartupPacket, Ungreeted};
use login::Login;
use refusal::Refusal;
use running::Running;

/// Bytes of a ReadyForQuery.
const READY_FOR_QUERY: usize = 6;
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
    let Ok(greeted) = timeout(settings.limits.greeting_timeout, greeting).await else {
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
                    let limit = full.limit(Limit::GreetingsPerAddress, Limit::GreetingsPerAddress);
                    let refusal = Refusal::full(limit, bound(full, quota));
                    refuse_for(stream, &refusal, limit, peer, context).await;
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

/// A session that may log in, with its place among the logins.
struct Admitted<T> {
    login: Login<T>,
    peer: SocketAddr,
    user: String,
    database: String,
    place: Place,
}

/// Finds the client's upstream and a place to log in; `None`: it was refused.
async fn admit<N: Network>(
    client: Stream<N::Transport>,
    startup: StartupPacket,
    peer: SocketAddr,
    listener: &Listener,
    context: &Context<N>,
    settings: &Settings,
) -> Option<Admitted<N::Transport>> {
    let (user, database) = {
        let view = startup.view()?;
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        (text(view.user()), text(view.database()))
    };
    let shared = &context.shared;
    if shared.sessions.drain() != Drain::No {
        let refusal = Refusal::shutting_down();
        refuse_for(client, &refusal, Limit::Draining, peer, context).await;
        return None;
    }
    let Some(upstream) = listener.upstream_of(&user, &database) else {
        let refusal = Refusal::Own {
            sqlstate: "3D000",
            message: format!(
                "Osprey has no upstream for user \"{user}\" and database \"{database}\" here: no \
                 [[listener.rule]] matches"
            ),
            hint: None,
        };
        tracing::warn!(%peer, user, database, %refusal, "no session");
        refuse(client, &refusal).await;
        return None;
    };
    // Sessions get their places when they have logged in; who could not get one need not try.
    let limits = &settings.limits;
    let admission = &shared.admission;
    let full = Seats::of(upstream, admission, settings).find_map(|seat| {
        (seat.places.taken() >= seat.quota.total).then(|| seat.refusal(Full::Total))
    });
    let place = match full {
        Some(refusal) => Err(refusal),
        None => admission
            .logins
            .take(peer.ip(), limits.max_logins)
            .map_err(|full| {
                let limit = full.limit(Limit::Logins, Limit::LoginsPerAddress);
                Refusal::full(limit, bound(full, limits.max_logins))
            }),
    };
    match place {
        Ok(place) => Some(Admitted {
            login: Login {
                client,
                startup,
                upstream: Arc::clone(upstream),
            },
            peer,
            user,
            database,
            place,
        }),
        Err(refusal) => {
            let limit = refusal.limit().unwrap_or(Limit::Sessions);
            refuse_for(client, &refusal, limit, peer, context).await;
            None
        }
    }
}

/// One of the quotas that a session counts against.
struct Seat {
    places: Arc<Places>,
    quota: Quota,
    total: Limit,
    setting: Option<String>,
}

/// All of them.
struct Seats;

impl Seats {
    fn of(
        upstream: &Upstream,
        admission: &Admission,
        settings: &Settings,
    ) -> impl Iterator<Item = Seat> + use<> {
        let own = upstream.settings().max_sessions.map(|most| Seat {
            places: admission.of_upstream(upstream.name()),
            quota: Quota::of(most),
            total: Limit::UpstreamSessions,
            setting: Some(format!("upstream \"{}\" max_sessions", upstream.name())),
        });
        let all = Seat {
            places: Arc::clone(&admission.sessions),
            quota: settings.limits.max_sessions,
            total: Limit::Sessions,
            setting: None,
        };
        std::iter::once(all).chain(own)
    }
}

impl Seat {
    fn refusal(&self, full: Full) -> Refusal {
        let limit = full.limit(self.total, Limit::SessionsPerAddress);
        let most = bound(full, self.quota);
        match &self.setting {
            Some(setting) => Refusal::Full {
                limit,
                setting: setting.clone(),
                most,
            },
            None => Refusal::full(limit, most),
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

/// Login and Lent: a session that runs, and its places; or the reason why there is none, once the
/// client has been told.
async fn begin<N: Network>(
    admitted: Admitted<N::Transport>,
    context: &Arc<Context<N>>,
    settings: &Settings,
) -> Result<(Running<N::Transport>, Vec<Place>), CloseReason> {
    let Admitted {
        mut login,
        peer,
        user,
        database,
        place,
    } = admitted;
    let shared = &context.shared;
    let upstream = Arc::clone(&login.upstream);
    let mut entered = shared
        .sessions
        .enter(peer, &user, &database, upstream.name());
    let limit = settings.limits.login_timeout;
    let logged_in = timeout(limit, login.run(context, &mut entered)).await;
    let outcome = logged_in.unwrap_or(Err(Refusal::TimedOut(limit)));
    let taken = outcome.and_then(|logged_in| {
        let seats: Result<Vec<_>, _> = Seats::of(&upstream, &shared.admission, settings)
            .map(|seat| {
                let taken = seat.places.take(peer.ip(), seat.quota);
                taken.map_err(|full| seat.refusal(full))
            })
            .collect();
        Ok((logged_in, seats?))
    });
    let Login {
        mut client,
        startup,
        ..
    } = login;
    let (mut logged_in, seats) = match taken {
        Ok(taken) => taken,
        Err(refusal) => {
            return Err(login_failed(client, &refusal, (peer, &user, &database), context).await);
        }
    };
    drop(place);
    let Some(view) = startup.view() else {
        return Err(CloseReason::ProtocolError);
    };
    tracing::info!(
        session = entered.id(),
        %peer,
        user,
        database,
        upstream = upstream.name(),
        tls = client.is_tls(),
        upstream_tls = logged_in.server.is_tls(),
        "session opened"
    );
    let mut world = world::SessionWorld::new(view, &upstream, settings);
    if let Some(loan) = world.lend(view) {
        let reading = lent::read(
            loan,
            &mut client,
            &mut logged_in,
            &entered,
            context,
            settings,
        );
        if let Err(refusal) = Box::pin(reading).await {
            let _ = logged_in.server.shut_down().await;
            return Err(login_failed(client, &refusal, (peer, &user, &database), context).await);
        }
    }
    world.ready(view).await;
    // Now the client may speak, and the core listens.
    let ready = READY_FOR_QUERY.min(logged_in.from_server.len());
    if client.send(&logged_in.from_server[..ready]).await.is_err() {
        return Err(CloseReason::Client);
    }
    let policy = world::policy(view, settings, &world, &shared.routes);
    let running = Running::new(client, logged_in, entered, policy, world);
    Ok((running, seats))
}

async fn login_failed<N: Network>(
    client: Stream<N::Transport>,
    refusal: &Refusal,
    (peer, user, database): (SocketAddr, &str, &str),
    context: &Context<N>,
) -> CloseReason {
    let shard = context.shard();
    match refusal {
        Refusal::Gone | Refusal::Io(_) | Refusal::Handshake(_) | Refusal::NoStartup(_) => {
            tracing::debug!(%peer, user, database, %refusal, "no session");
        }
        Refusal::NoBinding => tracing::info!(%peer, user, database, %refusal, "no session"),
        Refusal::Full { limit, .. } => {
            shard.sessions_refused.inc(limit.name());
            tracing::warn!(%peer, user, database, %refusal, "no session");
        }
        Refusal::Refused(_) | Refusal::Own { .. } => {
            shard.login_failures.inc();
            tracing::warn!(%peer, user, database, %refusal, "no session");
        }
        Refusal::Protocol(_) | Refusal::TimedOut(_) | Refusal::Unreachable(_) => {
            tracing::warn!(%peer, user, database, %refusal, "no session");
        }
    }
    refuse(client, refusal).await;
    refusal.reason()
}

/// Refuses by a limit: counted by its name, logged now and then.
async fn refuse_for<N: Network>(
    client: Stream<N::Transport>,
    refusal: &Refusal,
    limit: Limit,
    peer: SocketAddr,
    context: &Context<N>,
) {
    context.shard().sessions_refused.inc(limit.name());
    if let Some(left_out) = context.shared.admission.refusal_log.now() {
        tracing::warn!(%peer, %refusal, left_out, "a session was refused");
    }
    refuse(client, refusal).await;
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
