//! All upstreams and listeners, as the settings of one moment say.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::runtime::Handle;

use super::instance::Upstream;
use super::listener::Listener;
use crate::config::{self, Keys, Settings};
use crate::net::tls::TlsError;
use crate::net::{Endpoint, SocketOptions};

/// Every upstream that is configured, and every listener, as the settings of one moment say.
pub struct Upstreams {
    upstreams: Vec<Arc<Upstream>>,
    /// By the number of the socket that the server listens on.
    listeners: Vec<Arc<Listener>>,
}

impl Upstreams {
    /// What `settings` say, for sockets bound to the addresses `sockets`. What `before` had is kept
    /// where it is the same (see [`Upstream`]); a socket whose address is configured no more keeps
    /// its listener, since only a restart can close it.
    ///
    /// # Errors
    ///
    /// A TLS file cannot be used; then nothing has changed.
    pub fn new(
        settings: &Settings,
        sockets: &[SocketAddr],
        before: Option<&Self>,
        runtime: &Handle,
    ) -> Result<Self, TlsError> {
        // Everything that can fail comes first, so that a failure changes nothing.
        let options = socket_options(settings);
        let endpoints = settings
            .upstreams
            .iter()
            .map(|upstream| Endpoint::new(upstream, options).map(Arc::new))
            .collect::<Result<Vec<_>, _>>()?;
        let certificates = settings
            .listeners
            .iter()
            .map(Listener::tls)
            .collect::<Result<Vec<_>, _>>()?;

        let upstreams: Vec<_> = settings
            .upstreams
            .iter()
            .zip(endpoints)
            .map(|(upstream, endpoint)| {
                let before = before.and_then(|before| before.named(&upstream.name));
                let keys = keys_of(upstream, &settings.keys);
                let before = before.map(|upstream| &**upstream);
                Arc::new(Upstream::succeed(
                    before, upstream, &keys, endpoint, runtime,
                ))
            })
            .collect();
        for old in before.into_iter().flat_map(|before| &before.upstreams) {
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
            .zip(certificates)
            .map(|(listener, tls)| Arc::new(Listener::new(listener, tls, &upstreams)))
            .collect();
        let listeners = assign(sockets, settings)
            .into_iter()
            .enumerate()
            .filter_map(|(socket, listener)| match listener {
                Some(listener) => Some(Arc::clone(&configured[listener])),
                None => before.map(|before| before.listeners[socket].led_anew(&upstreams)),
            })
            .collect();
        Ok(Self {
            upstreams,
            listeners,
        })
    }

    /// All of them, in the order of the settings.
    pub fn all(&self) -> &[Arc<Upstream>] {
        &self.upstreams
    }

    /// The listener of a socket, by the number that it has among all.
    pub fn listener(&self, socket: usize) -> Option<&Arc<Listener>> {
        self.listeners.get(socket)
    }

    fn named(&self, name: &str) -> Option<&Arc<Upstream>> {
        self.upstreams
            .iter()
            .find(|upstream| upstream.name() == name)
    }
}

/// How sockets of clients and upstreams are set up.
pub fn socket_options(settings: &Settings) -> SocketOptions {
    SocketOptions {
        keepalive: settings.limits.tcp_keepalive,
        user_timeout: settings.limits.tcp_user_timeout,
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
