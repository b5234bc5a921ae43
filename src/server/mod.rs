//! Listeners, workers, reload and drain: what keeps the process going.
//!
//! One current-thread runtime per worker; a session lives on one of them, both sockets. A thread of
//! its own accepts, and hands each connection to the worker with the fewest: connections are long,
//! and an imbalance would stay for hours. Metrics, catalog and key tasks have a runtime of their
//! own.

mod activation;
mod ending;
mod listening;
mod reload;
mod signals;
mod watchdog;
mod worker;

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use futures::FutureExt as _;
use tokio::runtime::{Builder, Handle, Runtime};

use crate::advice;
use crate::config::Settings;
use crate::console::{self, Control, Socket};
use crate::net::{TcpNetwork, tls};
use crate::observe::{Health, Measured, Metrics, OpenConnections, http, logs};
use crate::session::world::Routes;
use crate::session::{Admission, Registry, Shared};
use crate::upstream::{TlsFiles, Upstreams};

use activation::Inherited;
use listening::Listening;
use reload::{Readings, Reloader};
use signals::Endings;
use watchdog::Watchdog;
use worker::Workers;

/// The parts of a server that the simulation of the shell runs without sockets, threads and signals.
#[cfg(test)]
pub(crate) mod parts {
    pub(crate) use super::ending::drain;
    pub(crate) use super::listening::{Acceptor, Listen};
    pub(crate) use super::reload::apply;
    pub(crate) use super::worker::{Handed, Workers, take_on};
}

/// Why the server could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An address cannot be listened on.
    #[error(
        "cannot listen on {address} for {what}: choose another address with {flag}, or end what uses it"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Clients or metrics.
        what: &'static str,
        /// How to choose another.
        flag: &'static str,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The console's socket cannot be opened.
    #[error("cannot open the console's socket {}", path.display())]
    Console {
        /// Its path.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A TLS file cannot be used.
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
    /// The system refuses threads, timers or the like.
    #[error("cannot start the runtime")]
    Runtime(#[source] std::io::Error),
}

/// A server that has its addresses and does not accept connections yet.
pub struct Server {
    listeners: Vec<TcpListener>,
    /// Where they listen, as the settings say.
    sockets: Vec<SocketAddr>,
    /// The same with the ports that were free.
    addresses: Vec<SocketAddr>,
    metrics_listener: Option<TcpListener>,
    console_socket: Option<Socket>,
    control: Option<Control>,
    background: Runtime,
    shared: Arc<Shared<TcpNetwork>>,
    health: Arc<Health>,
    announce: bool,
}

fn listen(
    address: SocketAddr,
    inherited: &mut Inherited,
    what: &'static str,
    flag: &'static str,
) -> Result<TcpListener, Error> {
    let failed = |source| Error::Listen {
        address,
        what,
        flag,
        source,
    };
    let listener = match inherited.take(address) {
        Some(listener) => listener,
        // std sets SO_REUSEADDR, so that a restart does not wait for old connections.
        None => TcpListener::bind(address).map_err(failed)?,
    };
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

impl Server {
    /// Binds every listener, metrics included, or takes over the socket of that address that the
    /// service manager has passed on; and reads the TLS files. Port 0 takes a free port.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub fn bind(settings: Settings) -> Result<Self, Error> {
        let sockets: Vec<SocketAddr> = settings
            .listeners
            .iter()
            .flat_map(|listener| listener.addresses.iter().copied())
            .collect();
        let mut inherited = Inherited::from_environment();
        let listeners = sockets
            .iter()
            .map(|&address| listen(address, &mut inherited, "clients", "--listen"))
            .collect::<Result<Vec<_>, _>>()?;
        let metrics_listener = settings
            .observe
            .metrics
            .map(|address| listen(address, &mut inherited, "metrics", "--metrics"))
            .transpose()?;
        inherited.warn_of_the_rest();
        let console = &settings.console;
        let open = |path: &PathBuf| {
            Socket::bind(path, console.socket_mode).map_err(|source| Error::Console {
                path: path.clone(),
                source,
            })
        };
        let console_socket = console.socket.as_ref().map(open).transpose()?;
        let addresses = listeners
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
        let upstreams = Upstreams::new(&settings, files, &sockets, None, background.handle());
        let metrics = Arc::new(Metrics::new(
            settings.limits.workers,
            advice::Case::ALL.iter().map(|case| case.code()),
            advice::NotRetried::ALL.iter().map(|why| why.label()),
        ));
        let shared = Arc::new(Shared {
            upstreams: ArcSwap::from_pointee(upstreams),
            settings: ArcSwap::from_pointee(settings),
            metrics,
            routes: Routes::default(),
            sessions: Arc::new(Registry::default()),
            admission: Admission::default(),
            aside: OnceLock::new(),
            network: TcpNetwork,
        });
        let asked = Arc::downgrade(&shared);
        shared.metrics.ask_measured(move || {
            asked
                .upgrade()
                .map(|shared| measure(&shared))
                .unwrap_or_default()
        });
        Ok(Self {
            listeners,
            sockets,
            addresses,
            metrics_listener,
            console_socket,
            control: None,
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
        self.metrics_listener.as_ref()?.local_addr().ok()
    }

    /// What the sessions share.
    pub fn shared(&self) -> &Arc<Shared<TcpNetwork>> {
        &self.shared
    }

    /// Accepts connections until `shutdown`, then drains: sessions end when they are quiet, at the
    /// latest after `limits.drain_timeout`. Blocks.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub fn run(self, shutdown: impl Future<Output = ()> + Send + 'static) -> Result<(), Error> {
        self.run_until(shutdown, std::future::pending())
    }

    /// [`Server::run`], in which `hurry` ends what is left of the drain.
    fn run_until(
        self,
        shutdown: impl Future<Output = ()>,
        hurry: impl Future<Output = ()>,
    ) -> Result<(), Error> {
        let Self {
            listeners,
            addresses,
            metrics_listener,
            console_socket,
            control,
            background,
            shared,
            health,
            announce,
            ..
        } = self;
        let watchdog = Watchdog::asked_for(shared.metrics.shards().len());
        let (workers, threads) =
            Workers::start(&shared, watchdog.as_ref()).map_err(Error::Runtime)?;
        let result = background.block_on(async {
            if let Some(listener) = metrics_listener {
                let listener =
                    tokio::net::TcpListener::from_std(listener).map_err(Error::Runtime)?;
                tokio::spawn(http::serve(
                    listener,
                    Arc::clone(&shared.metrics),
                    Arc::clone(&health),
                ));
            }
            let _socket_file = control.and_then(|control| {
                console::start(&shared, control, console_socket, &Handle::current())
            });
            let listening =
                Listening::start(listeners, &shared, &workers).map_err(Error::Runtime)?;
            health.ready();
            if announce {
                say_accepting(&addresses, &shared);
            }
            if let Some(watchdog) = watchdog {
                tokio::spawn(watchdog.watch());
            }
            shutdown.await;
            health.draining();
            let hurry = hurry.shared();
            ending::wait_for_balancers(&shared, hurry.clone()).await;
            listening.stop();
            ending::drain(&shared, hurry).await;
            ending::save(&shared).await;
            Ok(())
        });
        threads.stop();
        background.shutdown_background();
        result
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

/// What the metrics say of all that is no counter of a worker's, now.
fn measure(shared: &Shared<TcpNetwork>) -> Measured {
    let mut known = Measured::default();
    let upstreams = shared.upstreams.load();
    for upstream in upstreams.all() {
        known.add(upstream.knowledge().measure(upstream.name()));
    }
    known.certificates = upstreams.certificates().to_vec();
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

/// Serves until SIGTERM or SIGINT; a second one ends the drain. At SIGHUP `read_again` reads the
/// configuration; `None`: it has mistakes, which have been shown, and what was in force stays in
/// force.
///
/// # Errors
///
/// See [`Error`].
pub fn run(
    settings: Settings,
    read_again: impl Fn() -> Option<Settings> + Send + Sync + 'static,
) -> Result<(), Error> {
    let mut server = Server::bind(settings)?;
    server.announce = true;
    let reloader = Arc::new(Reloader {
        shared: Arc::clone(&server.shared),
        sockets: server.sockets.clone(),
        runtime: server.background.handle().clone(),
        health: Arc::clone(&server.health),
        read: Arc::new(read_again),
        readings: Readings::default(),
        turn: tokio::sync::Mutex::default(),
    });
    let reload = move || Arc::clone(&reloader).reload();
    let by_console = reload.clone();
    let endings = {
        let _runtime = server.background.enter();
        let hangup = signals::on_hangup(move || reload().map(drop));
        tokio::spawn(hangup.map_err(Error::Runtime)?);
        Endings::listen().map_err(Error::Runtime)?
    };
    let ending = endings.by_command();
    server.control = Some(Control {
        reload: Box::new(move || by_console().boxed()),
        drain: Box::new(move || ending.begin()),
    });
    server.run_until(endings.have_come(1), endings.have_come(2))
}
