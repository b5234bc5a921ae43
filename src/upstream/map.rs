//! All upstreams and listeners, as the settings of one moment say.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::runtime::Handle;

use super::instance::Upstream;
use super::listener::Listener;
use crate::config::{self, Keys, Settings, certificate_expiry};
use crate::fleet::Fleet;
use crate::net::tls::TlsError;
use crate::net::{Endpoint, SocketOptions};
use crate::observe::{Certificate, ShownTo};

/// What the TLS files of some settings hold. To read them may take as long as the file system likes.
pub struct TlsFiles {
    /// For each upstream of the settings.
    endpoints: Vec<Arc<Endpoint>>,
    /// For each listener.
    certificates: Vec<Option<Arc<rustls::ServerConfig>>>,
    expiries: Vec<Certificate>,
}

impl TlsFiles {
    /// Reads them.
    ///
    /// # Errors
    ///
    /// One of them cannot be used.
    pub fn read(settings: &Settings) -> Result<Self, TlsError> {
        let options = socket_options(settings);
        let endpoints = settings
            .upstreams
            .iter()
            .map(|upstream| Endpoint::new(upstream, options).map(Arc::new))
            .collect::<Result<_, _>>()?;
        let certificates = settings
            .listeners
            .iter()
            .map(Listener::tls)
            .collect::<Result<_, _>>()?;
        Ok(Self {
            endpoints,
            certificates,
            expiries: expiries(settings).collect(),
        })
    }
}

/// When the certificates expire that are shown to clients and upstreams.
fn expiries(settings: &Settings) -> impl Iterator<Item = Certificate> {
    let listeners = settings.listeners.iter().filter_map(|listener| {
        Some(Certificate {
            shown_to: ShownTo::Clients,
            name: listener.addresses.first()?.to_string(),
            expires: certificate_expiry(&listener.tls.as_ref()?.certificate)?,
        })
    });
    let upstreams = settings.upstreams.iter().filter_map(|upstream| {
        Some(Certificate {
            shown_to: ShownTo::Upstream,
            name: upstream.name.clone(),
            expires: certificate_expiry(upstream.tls.certificate.as_ref()?)?,
        })
    });
    listeners.chain(upstreams)
}

/// Every upstream that is configured, and every listener, as the settings of one moment say.
pub struct Upstreams {
    all: Vec<Arc<Upstream>>,
    /// By the number of the socket that the server listens on.
    listeners: Vec<Arc<Listener>>,
    certificates: Vec<Certificate>,
    fleet: Option<Arc<Fleet>>,
}

impl Upstreams {
    /// What `settings` and their `files` say, for sockets bound to the addresses `sockets`. What
    /// `before` had is kept where it is the same (see [`Upstream`]); a socket whose address is
    /// configured no more, which only a restart can close, has what the listener says that was moved
    /// elsewhere, as far as that can be told; else it keeps its own. What is found about
    /// them is told to other replicas by `fleet`, if there are any.
    pub fn new(
        settings: &Settings,
        files: TlsFiles,
        sockets: &[SocketAddr],
        before: Option<&Self>,
        runtime: &Handle,
        fleet: Option<Arc<Fleet>>,
    ) -> Self {
        let upstreams: Vec<_> = settings
            .upstreams
            .iter()
            .zip(files.endpoints)
            .map(|(upstream, endpoint)| {
                let before = before.and_then(|before| before.named(&upstream.name));
                let keys = keys_of(upstream, &settings.keys);
                let before = before.map(|upstream| &**upstream);
                Arc::new(Upstream::succeed(
                    before,
                    upstream,
                    &keys,
                    endpoint,
                    runtime,
                    fleet.as_deref(),
                ))
            })
            .collect();
        for old in before.into_iter().flat_map(|before| &before.all) {
            let goes_on = upstreams
                .iter()
                .any(|new| Arc::ptr_eq(new.knowledge(), old.knowledge()));
            if !goes_on {
                old.knowledge().retire();
            }
        }
        let configured: Vec<_> = settings
            .listeners
            .iter()
            .zip(files.certificates)
            .map(|(listener, tls)| Arc::new(Listener::new(listener, tls, &upstreams)))
            .collect();
        let assigned = assign(sockets, settings);
        let was = |socket: usize| before.and_then(|before| before.listeners.get(socket));
        // Those that sockets had of which no address is configured any more, and those that have no socket:
        // of as many, the one has been moved to where the other is.
        let mut gone: Vec<&Arc<Listener>> = Vec::new();
        for socket in (0..assigned.len()).filter(|socket| assigned[*socket].is_none()) {
            gone.extend(was(socket).filter(|was| !gone.iter().any(|gone| Arc::ptr_eq(gone, was))));
        }
        let free = (0..configured.len()).filter(|listener| !assigned.contains(&Some(*listener)));
        let free: Vec<_> = free.collect();
        let moved = |was: &Arc<Listener>| {
            let at = gone.iter().position(|gone| Arc::ptr_eq(gone, was))?;
            (gone.len() == free.len()).then(|| Arc::clone(&configured[free[at]]))
        };
        let listeners = assigned
            .iter()
            .enumerate()
            .filter_map(|(socket, listener)| match listener {
                Some(listener) => Some(Arc::clone(&configured[*listener])),
                None => {
                    was(socket).map(|was| moved(was).unwrap_or_else(|| was.led_anew(&upstreams)))
                }
            })
            .collect();
        Self {
            all: upstreams,
            listeners,
            certificates: files.expiries,
            fleet,
        }
    }

    /// What this process has to do with other replicas; `None`: nothing.
    pub fn fleet(&self) -> Option<&Arc<Fleet>> {
        self.fleet.as_ref()
    }

    /// The certificates that are shown to clients and upstreams.
    pub fn certificates(&self) -> &[Certificate] {
        &self.certificates
    }

    /// All of them, in the order of the settings.
    pub fn all(&self) -> &[Arc<Upstream>] {
        &self.all
    }

    /// The listener of a socket, by the number that it has among all.
    pub fn listener(&self, socket: usize) -> Option<&Arc<Listener>> {
        self.listeners.get(socket)
    }

    fn named(&self, name: &str) -> Option<&Arc<Upstream>> {
        self.all.iter().find(|upstream| upstream.name() == name)
    }
}

/// How sockets of clients and upstreams are set up.
pub fn socket_options(settings: &Settings) -> SocketOptions {
    SocketOptions {
        keepalive: settings.limits.tcp_keepalive,
        user_timeout: settings.limits.tcp_user_timeout,
        may_take_reserve: false,
    }
}

/// The settings about keys, with a snapshot file of the upstream's own: records of one instance say
/// nothing about another's.
fn keys_of(upstream: &config::Upstream, keys: &Keys) -> Keys {
    let mut keys = keys.clone();
    if upstream.name != config::Upstream::DEFAULT_NAME
        && let Some(path) = &mut keys.snapshot
    {
        let extension = path.extension().unwrap_or_default().to_owned();
        path.set_extension(&upstream.name);
        let mut name = path.file_name().unwrap_or_default().to_owned();
        if !extension.is_empty() {
            name.push(".");
            name.push(extension);
        }
        path.set_file_name(name);
    }
    keys
}

/// The configured listener of each socket: the first one with its address that no other socket
/// stands for.
fn assign(sockets: &[SocketAddr], settings: &Settings) -> Vec<Option<usize>> {
    let mut free: Vec<(SocketAddr, usize)> = settings
        .listeners
        .iter()
        .enumerate()
        .flat_map(|(number, listener)| listener.addresses.iter().map(move |at| (*at, number)))
        .collect();
    sockets
        .iter()
        .map(|socket| {
            let at = free.iter().position(|(address, _)| address == socket)?;
            Some(free.remove(at).1)
        })
        .collect()
}

#[cfg(test)]
mod tests;
