//! One Hologres instance as a value.

use std::sync::Arc;

use tokio::runtime::Handle;

use super::proven::Proven;
use crate::config::{self, Keys};
use crate::fleet::Fleet;
use crate::net::Endpoint;
use crate::protection::knowledge::Knowledge;

/// One Hologres instance.
pub struct Upstream {
    settings: config::Upstream,
    endpoint: Arc<Endpoint>,
    knowledge: Arc<Knowledge>,
    proven: Arc<Proven>,
}

impl Upstream {
    /// Its settings.
    pub fn settings(&self) -> &config::Upstream {
        &self.settings
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// How to connect to it.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// What is known of its databases.
    pub fn knowledge(&self) -> &Arc<Knowledge> {
        &self.knowledge
    }

    /// Notes that `user`'s SET of the route has succeeded here: from now on it may be put into a
    /// transaction of that user's.
    pub fn set_proven(&self, user: &str) {
        self.proven.add(user);
    }

    /// True if `user`'s SET of the route has succeeded here, see [`Upstream::set_proven`].
    pub fn is_proven(&self, user: &str) -> bool {
        self.proven.has(user)
    }

    /// Notes whether `DISCARD PLANS` has succeeded here. What was found out first stays.
    pub fn set_replans(&self, done: bool) {
        self.proven.set_replans(done);
    }

    /// True if `DISCARD PLANS` succeeds here; `None`: nobody has tried.
    pub fn replans(&self) -> Option<bool> {
        self.proven.replans()
    }

    /// The upstream that takes the place of `before`, or begins anew. What was found out about the
    /// same server over the same kind of TLS stays known; who may set the route stays known only if
    /// it is the same route.
    pub(super) fn succeed(
        before: Option<&Self>,
        settings: &config::Upstream,
        keys: &Keys,
        endpoint: Arc<Endpoint>,
        runtime: &Handle,
        fleet: Option<&Fleet>,
    ) -> Self {
        let before = before.filter(|before| before.is_same_server(settings));
        let knowledge = match before {
            Some(before) => {
                before
                    .knowledge
                    .apply(settings, keys, Arc::clone(&endpoint));
                Arc::clone(&before.knowledge)
            }
            None => Knowledge::new(
                settings,
                keys,
                Arc::clone(&endpoint),
                runtime.clone(),
                fleet,
            ),
        };
        let proven = before
            .filter(|before| before.settings.route.kind == settings.route.kind)
            .map(|before| Arc::clone(&before.proven));
        Self {
            settings: settings.clone(),
            endpoint,
            knowledge,
            proven: proven.unwrap_or_default(),
        }
    }

    fn is_same_server(&self, settings: &config::Upstream) -> bool {
        self.settings.addresses == settings.addresses && self.settings.tls == settings.tls
    }
}
