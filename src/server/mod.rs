//! Listeners, workers, reload, takeover and drain: what keeps the process going.
//!
//! One event loop per worker (`net::event_loop`); a session lives on one of them, both sockets. A
//! thread of its own accepts, and hands each connection to the worker with the fewest: connections are
//! long, and an imbalance would stay for hours. Metrics, catalog and key tasks have a runtime of
//! tokio's, which also resolves names for the workers.

mod activation;
mod ending;
mod error;
mod listening;
mod opening;
mod reload;
mod signals;
mod takeover;
mod watchdog;
mod watching;
mod worker;

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::FutureExt as _;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::Notify;

use crate::advice;
use crate::config::{Files, Settings};
use crate::console::{self, Control};
use crate::fleet::{self, Fleet};
use crate::net::TcpNetwork;
use crate::net::unix::UnixSocket;
use crate::observe::{Health, Measured, Metrics, OpenConnections, Recent, http, logs};
use crate::session::world::Routes;
use crate::session::{Admission, Registry, Shared};
use crate::traces::Traces;
use crate::upstream::{TlsFiles, Upstreams};

pub use error::Error;
use listening::Listening;
use opening::Opened;
pub use reload::Reread;
use reload::{Readings, Reloader};
use signals::Endings;
use takeover::giving::{Giving, Predecessors, Successor};
use takeover::successor::NextProcess;
use watchdog::Watchdog;
use worker::Workers;

/// How long the end may wait for a collector of traces.
const LAST_SPANS: Duration = Duration::from_secs(2);

/// A server that has its addresses and does not accept connections yet.
pub struct Server {
    opened: Opened,
    /// Where clients connect, as the settings say.
    sockets: Vec<SocketAddr>,
    /// The same with the ports that were free.
    addresses: Vec<SocketAddr>,
    control: Option<Control>,
    next_process: Option<Arc<NextProcess>>,
    predecessors: Arc<Predecessors>,
    background: Runtime,
    shared: Arc<Shared<TcpNetwork>>,
    health: Arc<Health>,
    announce: bool,
}

impl Server {
    /// Binds every listener, metrics included, or takes over the socket of that address that another
    /// process has or the service manager has passed on; and reads the TLS files. Port 0 takes a free
    /// port.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub fn bind(settings: Settings) -> Result<Self, Error> {
        let sockets: Vec<SocketAddr> = opening::addresses(&settings).collect();
        let opened = Opened::open(&settings)?;
        let addresses = opened
            .listeners
            .iter()
            .map(TcpListener::local_addr)
            .collect::<Result<Vec<_>, _>>()
            .map_err(Error::Runtime)?;
        let background = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("osprey-background")
            .enable_all()
            .build()
            .map_err(Error::Runtime)?;
        let files = TlsFiles::read(&settings)?;
        reload::put_rules_into_force(&settings);
        let runtime = background.handle();
        let fleet = settings.replicas.as_ref();
        let fleet = fleet.map(|replicas| Fleet::start(replicas, fleet::name(), runtime));
        let fleet = fleet.transpose()?.map(Arc::new);
        let upstreams = Upstreams::new(&settings, files, &sockets, None, runtime, fleet);
        let traces =
            Traces::start(&settings.observe, background.handle()).map_err(Error::Traces)?;
        let metrics = Arc::new(Metrics::new(
            settings.limits.workers,
            advice::Case::ALL.iter().map(|case| case.code()),
            advice::NotRetried::ALL.iter().map(|why| why.label()),
        ));
        let shared = Arc::new(Shared {
            upstreams: ArcSwap::from_pointee(upstreams),
            started: Arc::new(settings.clone()),
            settings: ArcSwap::from_pointee(settings),
            metrics,
            rewritten: Recent::default(),
            traces,
            routes: Routes::default(),
            sessions: Arc::new(Registry::default()),
            admission: Admission::default(),
            listening: addresses.clone(),
            aside: OnceLock::new(),
            network: TcpNetwork,
        });
        let asked = Arc::downgrade(&shared);
        let predecessors = Arc::<Predecessors>::default();
        let others = Arc::clone(&predecessors);
        shared.metrics.ask_measured(move || {
            let measured = asked.upgrade().map(|shared| measure(&shared));
            let (predecessors, predecessor_sessions) = others.count();
            Measured {
                predecessors,
                predecessor_sessions,
                ..measured.unwrap_or_default()
            }
        });
        Ok(Self {
            opened,
            sockets,
            addresses,
            control: None,
            next_process: None,
            predecessors,
            background,
            shared,
            health: Arc::default(),
            announce: false,
        })
    }

    /// Where clients connect.
    pub fn listen_addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where metrics are served.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.opened.metrics.as_ref()?.local_addr().ok()
    }

    /// What the sessions share.
    pub fn shared(&self) -> &Arc<Shared<TcpNetwork>> {
        &self.shared
    }

    /// Accepts connections until `shutdown`, then drains: sessions end when they are quiet, at the
    /// latest after `limits.drain_timeout`. Or until another process takes over; then they have
    /// `takeover.drain_after` before that. Blocks.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub fn run(self, shutdown: impl Future<Output = ()> + Send + 'static) -> Result<(), Error> {
        self.run_until(shutdown, std::future::pending::<()>)
    }

    /// [`Server::run`], in which what `hurry` gives ends what is left of the delay in front of the drain, or
    /// of the drain itself, whichever it was asked for.
    fn run_until<F: Future<Output = ()>>(
        self,
        shutdown: impl Future<Output = ()>,
        hurry: impl Fn() -> F,
    ) -> Result<(), Error> {
        let Self {
            opened,
            addresses,
            control,
            next_process,
            predecessors,
            background,
            shared,
            health,
            announce,
            ..
        } = self;
        let watchdog = Watchdog::asked_for(shared.metrics.shards().len());
        let (workers, threads) = Workers::start(&shared, watchdog.as_ref(), background.handle())
            .map_err(Error::Runtime)?;
        let traced = Arc::clone(&shared);
        let result = background.block_on(async {
            let offers = match &opened.takeover {
                Some(_) => opened.offers(&shared.settings.load()),
                None => Ok(Vec::new()),
            };
            let offers = offers.map_err(Error::Runtime)?;
            let Opened {
                listeners,
                metrics,
                mut console,
                mut takeover,
                predecessor,
                takes_console,
            } = opened;
            let listening =
                Listening::start(listeners, &shared, &workers).map_err(Error::Runtime)?;
            if let Some(predecessor) = predecessor {
                // From here on both accept, until the other one has heard of it.
                let release = move || predecessor.release(takes_console);
                let told = tokio::task::spawn_blocking(release).await;
                for records in told.unwrap_or_default() {
                    ending::take_in(&shared, &records);
                }
                let sockets = console.iter_mut().chain(&mut takeover);
                sockets.for_each(UnixSocket::is_ours_now);
            }
            health.ready();
            let metrics = metrics.map(tokio::net::TcpListener::from_std);
            let metrics = metrics
                .transpose()
                .map_err(Error::Runtime)?
                .map(|listener| {
                    let (metrics, health) = (Arc::clone(&shared.metrics), Arc::clone(&health));
                    let status = Box::new(StatusPage(Arc::clone(&shared)));
                    tokio::spawn(http::serve(listener, metrics, health, status))
                });
            let console = control
                .and_then(|control| console::start(&shared, control, console, &Handle::current()));
            let (mut giving, takeover_file) = match takeover.map(UnixSocket::into_parts) {
                None => (None, None),
                Some((listener, file)) => {
                    let hears = Arc::clone(&shared);
                    let take_in = move |records: &str| ending::take_in(&hears, records);
                    let giving = Giving::start(listener, offers, predecessors, take_in);
                    (Some(giving.map_err(Error::Runtime)?), Some(file))
                }
            };
            if announce {
                say_accepting(&addresses, &shared);
            }
            let watching = watchdog.map(|watchdog| tokio::spawn(watchdog.watch()));
            let mut shutdown = std::pin::pin!(shutdown);
            let successor = tokio::select! {
                () = &mut shutdown => None,
                successor = next(&mut giving) => Some(successor),
            };
            let Some(successor) = successor else {
                if giving.as_ref().is_some_and(Giving::is_under_way) {
                    // They may be the other process's by now, which finds out that this one ends.
                    if let Some(file) = takeover_file {
                        file.leave();
                    }
                    if let Some(console) = console {
                        console.leave();
                    }
                }
                drop(giving);
                health.draining(ending::longest(&shared));
                ending::wait_for_balancers(&shared, hurry()).await;
                listening.stop();
                ending::drain(&shared, hurry()).await;
                ending::save(&shared).await;
                return Ok(());
            };
            listening.stop();
            if let Some(metrics) = metrics {
                metrics.abort();
            }
            match console {
                Some(console) if successor.console => console.leave(),
                other => drop(other),
            }
            drop(giving);
            let is_main = next_process.is_some_and(|next| next.is(successor.pid));
            if is_main && let Some(watching) = watching {
                watching.abort();
            }
            health.handed_over(successor.pid.filter(|_| is_main));
            let path = takeover_file.map(|file| {
                let path = file.path().to_owned();
                file.leave();
                path
            });
            let last = ending::HandedOver::to(successor, path, &shared);
            last.end(&shared, &health, shutdown, hurry).await;
            Ok(())
        });
        threads.stop();
        traced.traces.end(LAST_SPANS);
        background.shutdown_background();
        result
    }
}

/// The next process, once it accepts connections; never where none can take over.
async fn next(giving: &mut Option<Giving>) -> Successor {
    match giving {
        Some(giving) => giving.successor().await,
        None => std::future::pending().await,
    }
}

/// Says where clients can connect, on standard error whatever the log filter: scripts wait for it.
fn say_accepting(addresses: &[SocketAddr], shared: &Shared<TcpNetwork>) {
    let upstreams = shared.upstreams.load();
    for (socket, address) in addresses.iter().enumerate() {
        let led_to = upstreams.listener(socket).map(|listener| {
            let all = listener.upstreams();
            let all = all.iter().map(|upstream| upstream.endpoint().address());
            all.collect::<Vec<_>>().join("; ")
        });
        let upstream = led_to.unwrap_or_default();
        logs::say(
            tracing::Level::INFO,
            &format!("accepting connections on {address}, upstream {upstream}"),
            &[("address", &address.to_string()), ("upstream", &upstream)],
        );
    }
}

/// The status page of this process.
struct StatusPage(Arc<Shared<TcpNetwork>>);

impl http::Status for StatusPage {
    fn is_on(&self) -> bool {
        self.0.settings.load().observe.serves_status_page()
    }

    fn is_named(&self, host: &str) -> bool {
        let settings = self.0.settings.load();
        settings
            .observe
            .status_hosts
            .iter()
            .any(|name| name == host)
    }

    fn tables(&self) -> serde_json::Value {
        console::status(&self.0)
    }
}

/// What the metrics say of all that is no counter of a worker's, now.
fn measure(shared: &Shared<TcpNetwork>) -> Measured {
    let mut known = Measured::default();
    let upstreams = shared.upstreams.load();
    for upstream in upstreams.all() {
        known.add(upstream.knowledge().measure(upstream.name()));
    }
    known.paused = shared.sessions.is_any_paused();
    known.held_sessions = shared.sessions.held().0 as u64;
    known.certificates = upstreams.certificates().to_vec();
    known.replicas = upstreams.fleet().map(|fleet| fleet.measure());
    let admission = &shared.admission;
    known.open = OpenConnections {
        sessions: admission.sessions.taken() as u64,
        greetings: admission.greetings.taken() as u64,
        logins: admission.logins.taken() as u64,
        cancels: (admission.cancels.taken() + admission.unknown_cancels.taken()) as u64,
    };
    let settings = shared.settings.load();
    let of_upstreams = upstreams.all().iter();
    let of_upstreams =
        of_upstreams.map(|upstream| (upstream.name(), upstream.settings().max_sessions));
    known.limits = admission.limits(&settings.limits, of_upstreams);
    known
}

/// Serves until SIGTERM or SIGINT; a second one ends the drain. At SIGHUP, and where `reload.watch` is
/// set when one of its `files` has changed, `read_again` reads the configuration. At SIGUSR2 the next
/// process is started, which takes over.
///
/// # Errors
///
/// See [`Error`].
pub fn run(
    settings: Settings,
    files: Files,
    read_again: impl Fn() -> Reread + Send + Sync + 'static,
) -> Result<(), Error> {
    let next_process = Arc::new(NextProcess::as_this_one());
    let mut server = Server::bind(settings)?;
    server.announce = true;
    server.next_process = Some(Arc::clone(&next_process));
    let reloader = Arc::new(Reloader {
        shared: Arc::clone(&server.shared),
        sockets: server.sockets.clone(),
        runtime: server.background.handle().clone(),
        health: Arc::clone(&server.health),
        read: Arc::new(read_again),
        files: Mutex::new(files),
        put_in_force: Notify::new(),
        readings: Readings::default(),
        turn: tokio::sync::Mutex::default(),
    });
    let watching = watching::watch(Arc::clone(&reloader));
    let reload = move || Arc::clone(&reloader).reload();
    let by_console = reload.clone();
    let endings = {
        let _runtime = server.background.enter();
        let hangup = signals::on_hangup(move || reload().map(drop));
        tokio::spawn(hangup.map_err(Error::Runtime)?);
        tokio::spawn(watching);
        let (shared, health) = (Arc::clone(&server.shared), Arc::clone(&server.health));
        let user2 = signals::on_user2(move || next_process.start_if_useful(&shared, &health));
        tokio::spawn(user2.map_err(Error::Runtime)?);
        Endings::listen().map_err(Error::Runtime)?
    };
    let ending = endings.by_command();
    server.control = Some(Control {
        reload: Box::new(move || by_console().boxed()),
        drain: Box::new(move || ending.begin()),
    });
    server.run_until(endings.have_come(1), || endings.next())
}

/// The parts of a server that the simulation of the shell runs without sockets, threads and signals.
#[cfg(test)]
pub(crate) mod parts {
    pub(crate) use super::ending::drain;
    pub(crate) use super::listening::{Acceptor, Listen};
    pub(crate) use super::reload::apply;
    pub(crate) use super::worker::{Handed, Workers, take_on};
}
