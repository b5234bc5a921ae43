//! What all sessions share, and what one works with.

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
    /// Who serves clients that ask for no database of the upstreams'.
    pub(crate) aside: OnceLock<Box<dyn Aside>>,
    /// What makes connections to upstreams.
    pub network: N,
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
