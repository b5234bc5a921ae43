//! What all connections to the console share.

use std::sync::Arc;

use tokio::runtime::Handle;

use super::gate::Gate;
use super::world::World;
use crate::observe::Seldom;

/// What all connections to the console share.
pub(super) struct Office {
    pub(super) world: Arc<World>,
    pub(super) gate: Gate,
    /// The log lines about connections that were refused.
    pub(super) refusals: Seldom,
    /// Where statements are run: not on a thread that serves sessions.
    pub(super) runtime: Handle,
}
