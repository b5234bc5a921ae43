//! What the console looks at and acts upon.

use std::sync::Arc;

use futures::future::BoxFuture;

use crate::net::TcpNetwork;
use crate::observe::metrics::Reload;
use crate::session::Shared;
use crate::upstream::Upstream;

/// What the process does when it is told.
pub(crate) struct Control {
    /// Reads the configuration again, and says what came of it.
    pub(crate) reload: Box<dyn Fn() -> BoxFuture<'static, Reload> + Send + Sync>,
    /// Begins to shut down, as SIGTERM does.
    pub(crate) drain: Box<dyn Fn() + Send + Sync>,
}

/// What the console looks at and acts upon.
pub(super) struct World {
    pub(super) shared: Arc<Shared<TcpNetwork>>,
    pub(super) control: Control,
}

impl World {
    /// The upstreams that are configured now.
    pub(super) fn upstreams(&self) -> Vec<Arc<Upstream>> {
        self.shared.upstreams.load().all().to_vec()
    }
}
