//! What the console looks at and acts upon.

use std::ops::Deref;
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
    pub(super) view: View,
    pub(super) control: Control,
}

impl Deref for World {
    type Target = View;

    fn deref(&self) -> &View {
        &self.view
    }
}

/// What the tables are made of.
pub(super) struct View {
    pub(super) shared: Arc<Shared<TcpNetwork>>,
}

impl View {
    /// The upstreams that are configured now.
    pub(super) fn upstreams(&self) -> Vec<Arc<Upstream>> {
        self.shared.upstreams.load().all().to_vec()
    }
}
