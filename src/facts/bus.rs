//! How what one process finds reaches whoever passes it on.

use std::sync::Arc;

use tokio::sync::broadcast;

use super::fact::{Fact, What};
use super::stamp::Stamp;

/// Facts that wait for somebody who listens; who falls behind further has lost some, is told so, and
/// asks for all.
const WAITING: usize = 1_024;

/// The facts of one upstream, as they are found in this process.
#[derive(Debug)]
pub struct Bus {
    upstream: Arc<str>,
    by: Arc<str>,
    found: broadcast::Sender<Arc<Fact>>,
}

impl Bus {
    /// For facts about `upstream` that this replica, `by`, finds.
    pub fn new(upstream: &str, by: Arc<str>) -> Self {
        Self {
            upstream: upstream.into(),
            by,
            found: broadcast::Sender::new(WAITING),
        }
    }

    /// The upstream that its facts are about.
    pub fn upstream(&self) -> &Arc<str> {
        &self.upstream
    }

    /// The name of this replica.
    pub fn by(&self) -> &Arc<str> {
        &self.by
    }

    /// The fact that this replica has found something.
    pub fn fact(&self, what: What, at: Stamp, by: Arc<str>) -> Fact {
        Fact {
            upstream: Arc::clone(&self.upstream),
            at,
            by,
            what,
        }
    }

    /// Tells whoever listens what this replica has found.
    pub fn tell(&self, what: What, at: Stamp) {
        if self.found.receiver_count() > 0 {
            let fact = self.fact(what, at, Arc::clone(&self.by));
            // Whoever listened may have gone this moment.
            let _ = self.found.send(Arc::new(fact));
        }
    }

    /// Listens from now on.
    pub fn listen(&self) -> broadcast::Receiver<Arc<Fact>> {
        self.found.subscribe()
    }
}
