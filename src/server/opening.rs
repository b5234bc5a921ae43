//! The sockets of a server: taken over from the process that has them, passed on by the service
//! manager, or opened.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::Path;

use crate::config::Settings;
use crate::net::unix::UnixSocket;

use super::activation::Inherited;
use super::error::Error;
use super::takeover::link::{Offered, Purpose};
use super::takeover::taking::Predecessor;

/// The file mode of `takeover.socket`.
const TAKEOVER_MODE: u32 = 0o600;

/// The sockets, on which nothing is accepted yet.
pub(super) struct Opened {
    /// In the order of the configured addresses.
    pub(super) listeners: Vec<TcpListener>,
    pub(super) metrics: Option<TcpListener>,
    pub(super) console: Option<UnixSocket>,
    pub(super) takeover: Option<UnixSocket>,
    /// The process that has accepted on them so far.
    pub(super) predecessor: Option<Predecessor>,
    /// The console's socket is the predecessor's.
    pub(super) takes_console: bool,
}

/// Where sockets come from that are open already.
struct Sources {
    predecessor: Option<Predecessor>,
    inherited: Inherited,
}

impl Opened {
    /// Opens what the settings say.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub(super) fn open(settings: &Settings) -> Result<Self, Error> {
        let path = settings.takeover.socket.as_deref();
        let predecessor = path.map(|path| {
            Predecessor::find(path).map_err(|source| Error::Takeover {
                path: path.to_owned(),
                source,
            })
        });
        let mut sources = Sources {
            predecessor: predecessor.transpose()?.flatten(),
            inherited: Inherited::from_environment(),
        };
        let listeners = addresses(settings)
            .map(|address| sources.listen(address, Purpose::Clients))
            .collect::<Result<Vec<_>, _>>()?;
        let metrics = settings.observe.metrics;
        let metrics = metrics.map(|address| sources.listen(address, Purpose::Metrics));
        let metrics = metrics.transpose()?;
        sources.inherited.warn_of_the_rest();
        let mut predecessor = sources.predecessor;
        let mut open = |path: &Path, mode, purpose| {
            let opened = open(path, mode, purpose, predecessor.as_mut());
            opened.map_err(|source| Error::UnixSocket {
                path: path.to_owned(),
                source,
            })
        };
        let console = &settings.console;
        let mode = console.socket_mode;
        let console = console.socket.as_deref();
        let console = console.map(|path| open(path, mode, Purpose::Console));
        let (console, takes_console) = console.transpose()?.unzip();
        let takeover = path.map(|path| open(path, TAKEOVER_MODE, Purpose::Takeover));
        let (takeover, _) = takeover.transpose()?.unzip();
        Ok(Self {
            listeners,
            metrics,
            console,
            takeover,
            predecessor,
            takes_console: takes_console.unwrap_or(false),
        })
    }

    /// The same sockets once more, for a process that takes over.
    pub(super) fn offers(&self, settings: &Settings) -> io::Result<Vec<(Offered, OwnedFd)>> {
        let offer = |purpose, at: String, socket: OwnedFd| (Offered { purpose, at }, socket);
        let mut offers = Vec::new();
        for (address, socket) in addresses(settings).zip(&self.listeners) {
            let socket = socket.try_clone()?;
            offers.push(offer(Purpose::Clients, address.to_string(), socket.into()));
        }
        if let (Some(address), Some(socket)) = (settings.observe.metrics, &self.metrics) {
            let socket = socket.try_clone()?;
            offers.push(offer(Purpose::Metrics, address.to_string(), socket.into()));
        }
        for (purpose, path, socket) in [
            (Purpose::Console, &settings.console.socket, &self.console),
            (Purpose::Takeover, &settings.takeover.socket, &self.takeover),
        ] {
            if let (Some(path), Some(socket)) = (path, socket) {
                let socket = socket.listener().try_clone()?;
                offers.push(offer(purpose, at(path), socket.into()));
            }
        }
        Ok(offers)
    }
}

impl Sources {
    fn listen(&mut self, address: SocketAddr, purpose: Purpose) -> Result<TcpListener, Error> {
        let (what, flag) = match purpose {
            Purpose::Metrics => ("metrics", "--metrics"),
            _ => ("clients", "--listen"),
        };
        let failed = |source| Error::Listen {
            address,
            what,
            flag,
            source,
        };
        // The service manager may have passed on the same socket that the other process has.
        let inherited = self.inherited.take(address);
        let predecessor = self.predecessor.as_mut();
        let taken = predecessor.and_then(|other| other.take(purpose, &address.to_string()));
        let listener = match (taken, inherited) {
            (Some(socket), _) => TcpListener::from(socket),
            (None, Some(listener)) => listener,
            // std sets SO_REUSEADDR, so that a restart does not wait for old connections.
            (None, None) => TcpListener::bind(address).map_err(failed)?,
        };
        listener.set_nonblocking(true).map_err(failed)?;
        Ok(listener)
    }
}

/// Where clients connect, one after the other.
pub(super) fn addresses(settings: &Settings) -> impl Iterator<Item = SocketAddr> {
    let listeners = settings.listeners.iter();
    listeners.flat_map(|listener| listener.addresses.iter().copied())
}

/// A Unix socket, and whether it is the predecessor's.
fn open(
    path: &Path,
    mode: u32,
    purpose: Purpose,
    predecessor: Option<&mut Predecessor>,
) -> io::Result<(UnixSocket, bool)> {
    match predecessor.and_then(|other| other.take(purpose, &at(path))) {
        Some(socket) => Ok((UnixSocket::adopt(socket.into(), path, mode)?, true)),
        None => Ok((UnixSocket::bind(path, mode)?, false)),
    }
}

fn at(path: &Path) -> String {
    path.display().to_string()
}
