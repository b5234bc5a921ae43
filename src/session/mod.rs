//! The I/O shell of one session: login, the pump around the [`core`](crate::core), cancel, and a
//! clean end. One task, both sockets.

mod lent;
mod login;
mod pump;
mod running;
mod scram;
mod sizes;
pub mod stream;
pub mod tls;
pub mod upstream;
pub mod world;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::Waker;
use std::time::{Duration, SystemTime};

use arc_swap::{ArcSwap, ArcSwapOption};
use dashmap::DashMap;
use rustls::ServerConfig;
use tokio::net::TcpStream;

use crate::config::Settings;
use crate::observe::Metrics;
use crate::observe::metrics::{CloseReason, Shard};
use crate::protection::knowledge::Knowledge;
use crate::wire::compose;
use crate::wire::startup::Startup;

use login::{LoggedIn, Refusal, StartupPacket, Wish};
use running::Running;
use stream::Stream;
use upstream::Target;

/// Bytes of a ReadyForQuery.
const READY_FOR_QUERY: usize = 6;
/// How long a connection that was told goodbye may take to hear it.
const LINGER: Duration = Duration::from_secs(1);

/// What all sessions share.
pub struct Shared {
    /// The settings in force; a session keeps those it began with.
    pub settings: ArcSwap<Settings>,
    /// Where sessions go.
    pub target: ArcSwap<Target>,
    /// TLS towards clients.
    pub listen_tls: ArcSwapOption<ServerConfig>,
    /// What is known of databases and projects.
    pub knowledge: Arc<Knowledge>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What is sent to change the engine.
    pub routes: world::Routes,
    /// The sessions that are open.
    pub sessions: Registry,
}

impl Shared {
    /// Puts other settings in force. Open sessions keep those they began with; addresses, workers
    /// and logs stay as they are until the next start, and a warning says so.
    ///
    /// # Errors
    ///
    /// If a TLS file cannot be used; nothing has changed then.
    pub fn apply(&self, settings: Settings) -> Result<(), tls::TlsError> {
        let upstream_tls = tls::client_config(&settings.upstream().tls)?;
        let listen_tls = settings.listeners[0].tls.as_ref().map(tls::server_config);
        let listen_tls = listen_tls.transpose()?;
        let before = self.settings.load();
        let needs_restart = [
            (
                "listen.addresses",
                before.listeners[0].addresses != settings.listeners[0].addresses,
            ),
            (
                "limits.workers",
                before.limits.workers != settings.limits.workers,
            ),
            ("observe", before.observe != settings.observe),
        ];
        for (key, _) in needs_restart.iter().filter(|(_, changed)| *changed) {
            tracing::warn!(key, "this change takes effect at the next start");
        }
        self.knowledge.apply(&settings);
        self.target
            .store(Arc::new(Target::new(settings.upstream(), upstream_tls)));
        self.listen_tls.store(listen_tls);
        self.settings.store(Arc::new(settings));
        Ok(())
    }
}

/// The open sessions, for drain and for operators.
#[derive(Debug, Default)]
pub struct Registry {
    open: DashMap<u64, Entry, foldhash::fast::FixedState>,
    next: AtomicU64,
    count: AtomicUsize,
    /// 0: go on; 1: end when quiet; 2: end now.
    draining: AtomicUsize,
}

/// One open session.
#[derive(Debug)]
pub struct Entry {
    /// Where the client is.
    pub peer: SocketAddr,
    /// As whom it logged in.
    pub user: String,
    /// Into which database.
    pub database: String,
    /// Since when.
    pub since: SystemTime,
    waker: Option<Waker>,
}

/// How far a shutdown has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Drain {
    /// None.
    No,
    /// Sessions end when they are between cycles and outside a transaction.
    WhenQuiet,
    /// Sessions end now.
    Now,
}

impl Registry {
    /// How many sessions are open, logins included.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    pub(crate) fn drain(&self) -> Drain {
        match self.draining.load(Ordering::Relaxed) {
            0 => Drain::No,
            1 => Drain::WhenQuiet,
            _ => Drain::Now,
        }
    }

    /// Begins or sharpens the shutdown and wakes every session.
    pub(crate) fn set_drain(&self, drain: Drain) {
        self.draining.store(drain as usize, Ordering::Relaxed);
        for entry in &self.open {
            if let Some(waker) = &entry.waker {
                waker.wake_by_ref();
            }
        }
    }

    fn wake_with(&self, id: u64, waker: &Waker) {
        if let Some(mut entry) = self.open.get_mut(&id) {
            entry.waker = Some(waker.clone());
        }
    }
}

/// A place among the sessions, given up on drop.
struct Place<'a> {
    registry: &'a Registry,
    id: u64,
}

impl<'a> Place<'a> {
    /// `None`: `max` sessions are open.
    fn take(registry: &'a Registry, max: usize) -> Option<Self> {
        if registry.count.fetch_add(1, Ordering::Relaxed) >= max {
            registry.count.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Self {
            registry,
            id: registry.next.fetch_add(1, Ordering::Relaxed),
        })
    }

    fn enter(&self, peer: SocketAddr, startup: Startup<'_>) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        self.registry.open.insert(
            self.id,
            Entry {
                peer,
                user: text(startup.user()),
                database: text(startup.database()),
                since: SystemTime::now(),
                waker: None,
            },
        );
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.registry.open.remove(&self.id);
        self.registry.count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a session works with: what all share, and its worker's counters.
pub(crate) struct Context {
    pub(crate) shared: Arc<Shared>,
    pub(crate) worker: usize,
}

impl Context {
    fn shard(&self) -> &Shard {
        self.shared.metrics.shard(self.worker)
    }
}

/// Serves one connection to its end.
pub(crate) async fn serve(socket: TcpStream, peer: SocketAddr, context: Arc<Context>) {
    if let Err(error) = stream::tune(&socket) {
        tracing::debug!(%peer, %error, "cannot set socket options");
    }
    let settings = context.shared.settings.load_full();
    // The login's state is large and short-lived: it does not become part of the session's.
    let greeted = tokio::time::timeout(
        settings.limits.login_timeout,
        Box::pin(login::greet(Stream::Plain(socket), &context)),
    )
    .await;
    match greeted {
        Ok(Ok(Wish::Cancel(packet))) => {
            context.shard().cancel_requests.inc();
            let target = context.shared.target.load_full();
            if let Err(error) = target.cancel(&packet).await {
                tracing::warn!(%peer, %error, "a cancel request could not be forwarded");
            }
        }
        Ok(Ok(Wish::Session(client, startup))) => {
            session(client, startup, peer, &context, &settings).await;
        }
        Ok(Err(login::Ungreeted { stream, refusal })) => {
            if matches!(refusal, Refusal::Handshake(_)) {
                tracing::info!(%peer, %refusal, "no session");
            } else {
                tracing::debug!(%peer, %refusal, "no session");
            }
            if let Some(stream) = stream {
                refuse(stream, &refusal).await;
            }
        }
        Err(_) => tracing::debug!(%peer, "no startup packet within limits.login_timeout"),
    }
}

async fn session(
    client: Stream,
    startup: StartupPacket,
    peer: SocketAddr,
    context: &Arc<Context>,
    settings: &Settings,
) {
    let registry = &context.shared.sessions;
    let shard = context.shard();
    let Some(view) = startup.view() else { return };
    let refusal = if registry.drain() == Drain::No {
        None
    } else {
        Some(Refusal::Own {
            sqlstate: "57P03",
            message: "Osprey is shutting down".into(),
            hint: Some("Connect again: another instance may take over.".into()),
        })
    };
    let place = match refusal {
        None => {
            Place::take(registry, settings.limits.max_sessions.total).ok_or_else(|| Refusal::Own {
                sqlstate: "53300",
                message: format!(
                    "sorry, too many clients already: Osprey's limits.max_sessions is {}",
                    settings.limits.max_sessions.total
                ),
                hint: None,
            })
        }
        Some(refusal) => Err(refusal),
    };
    let place = match place {
        Ok(place) => place,
        Err(refusal) => {
            shard.sessions_refused.inc();
            tracing::warn!(%peer, %refusal, "a session was refused");
            return refuse(client, &refusal).await;
        }
    };
    place.enter(peer, view);
    shard.sessions_opened.inc();
    let reason = admitted(client, &startup, peer, context, settings, place.id).await;
    shard.sessions_closed.of(reason).inc();
}

async fn admitted(
    client: Stream,
    startup: &StartupPacket,
    peer: SocketAddr,
    context: &Arc<Context>,
    settings: &Settings,
    id: u64,
) -> CloseReason {
    let Some(view) = startup.view() else {
        return CloseReason::ProtocolError;
    };
    let user = String::from_utf8_lossy(view.user()).into_owned();
    let database = String::from_utf8_lossy(view.database()).into_owned();
    let limit = settings.limits.login_timeout;
    let login = Box::pin(login::log_in(client, startup, context));
    let mut logged_in = match tokio::time::timeout(limit, login).await {
        Ok(Ok(logged_in)) => logged_in,
        Ok(Err((client, refusal))) => {
            return login_failed(client, &refusal, peer, &user, &database, context).await;
        }
        Err(_) => {
            tracing::warn!(%peer, user, database, "login took longer than limits.login_timeout");
            return CloseReason::Timeout;
        }
    };
    tracing::info!(session = id, %peer, user, database, tls = logged_in.client.is_tls(), "session opened");
    let mut world = world::SessionWorld::new(view, context, settings);
    if let Some(loan) = world.lend(view) {
        let reading = Box::pin(lent::read(loan, &mut logged_in, context, settings));
        if let Err(refusal) = reading.await {
            let _ = logged_in.server.shut_down().await;
            return login_failed(logged_in.client, &refusal, peer, &user, &database, context).await;
        }
    }
    world.ready(view).await;
    let LoggedIn {
        mut client,
        server,
        from_client,
        from_server,
        key,
        ..
    } = logged_in;
    // Now the client may speak, and the core listens.
    let (ready, from_server) = from_server.split_at(READY_FOR_QUERY.min(from_server.len()));
    if client.send(ready).await.is_err() {
        return CloseReason::Client;
    }
    let policy = world::policy(view, settings, &world, &context.shared.routes);
    let mut running = Running::new(
        client,
        server,
        &from_client,
        from_server,
        key,
        policy,
        world,
        id,
    );
    let reason = running.run(context).await;
    tracing::info!(
        session = id,
        reason = crate::observe::metrics::Kind::label(reason),
        "session closed"
    );
    running.end().await;
    reason
}

async fn login_failed(
    client: Stream,
    refusal: &Refusal,
    peer: SocketAddr,
    user: &str,
    database: &str,
    context: &Context,
) -> CloseReason {
    let shard = context.shard();
    let reason = match refusal {
        Refusal::Gone | Refusal::Io(_) | Refusal::Handshake(_) => {
            tracing::debug!(%peer, user, database, %refusal, "no session");
            CloseReason::Client
        }
        Refusal::NoPassword => {
            tracing::info!(%peer, user, database, %refusal, "no session");
            CloseReason::Client
        }
        Refusal::Protocol(_) => {
            tracing::warn!(%peer, user, database, %refusal, "no session");
            CloseReason::ProtocolError
        }
        Refusal::Refused(_) | Refusal::Own { .. } | Refusal::Unreachable(_) => {
            if !matches!(refusal, Refusal::Unreachable(_)) {
                shard.login_failures.inc();
            }
            tracing::warn!(%peer, user, database, %refusal, "no session");
            CloseReason::LoginFailed
        }
    };
    refuse(client, refusal).await;
    reason
}

/// Tells a client why there is no session, and closes.
async fn refuse(mut client: Stream, refusal: &Refusal) {
    if let Some(frame) = refusal.fatal() {
        let _ = client.send(&frame).await;
    }
    linger(client).await;
}

/// Closes so that what was sent last arrives: a socket closed with unread bytes resets the
/// connection, and the peer may lose what it had not read yet.
async fn linger(mut stream: Stream) {
    let goodbye = async {
        let _ = stream.shut_down().await;
        let mut rest = Vec::new();
        while matches!(stream.receive(&mut rest).await, Ok(1..)) {
            rest.clear();
        }
    };
    let _ = tokio::time::timeout(LINGER, goodbye).await;
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
