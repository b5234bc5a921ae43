//! What all sessions share, and what one works with.

use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;

use crate::config::Settings;
use crate::observe::metrics::Shard;
use crate::observe::{Metrics, Recent};
use crate::traces::Traces;
use crate::upstream::Upstreams;

use super::admission::Admission;
use super::aside::Aside;
use super::registry::Registry;
use super::world::Routes;

/// What all sessions share.
pub struct Shared<N> {
    /// What the process has started with.
    pub(crate) started: Arc<Settings>,
    /// The settings in force; a session keeps those it began with.
    pub settings: ArcSwap<Settings>,
    /// The upstreams and listeners that these settings make.
    pub upstreams: ArcSwap<Upstreams>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The errors that were rewritten last.
    pub(crate) rewritten: Recent,
    /// Where sessions' spans are sent.
    pub traces: Traces,
    /// What is sent to change the engine.
    pub routes: Routes,
    /// The sessions that are open.
    pub sessions: Arc<Registry>,
    /// How many connections there may be.
    pub(crate) admission: Admission,
    /// Where clients of this process connect.
    pub(crate) listening: Vec<SocketAddr>,
    /// Who serves clients that ask for no database of the upstreams'.
    pub(crate) aside: OnceLock<Box<dyn Aside>>,
    /// What makes connections to upstreams.
    pub network: N,
}

impl<N> Shared<N> {
    /// True if it is this process that listens at the address: a session's connection to it would be a client's,
    /// whose session needs another one, until no file is left.
    pub(crate) fn is_itself(&self, address: SocketAddr) -> bool {
        // A socket can be bound to this machine's own addresses alone.
        let is_local = || UdpSocket::bind((address.ip(), 0)).is_ok();
        let listens = |own: &SocketAddr| {
            own.port() == address.port()
                && (own.ip() == address.ip() || own.ip().is_unspecified() && is_local())
        };
        self.listening.iter().any(listens)
    }
}

/// What a session works with: what all share, and its worker's counters.
pub(crate) struct Context<N> {
    /// What all sessions share.
    pub(crate) shared: Arc<Shared<N>>,
    /// The counters of the worker that its sessions live on.
    pub(crate) shard: Arc<Shard>,
}

impl<N> Context<N> {
    /// The counters of the worker that this session lives on.
    pub(super) fn shard(&self) -> &Shard {
        &self.shard
    }
}
