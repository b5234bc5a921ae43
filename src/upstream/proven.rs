//! What an upstream has shown that it takes: whose SET of the route, and `DISCARD PLANS`.

use std::collections::HashSet;
use std::sync::{OnceLock, PoisonError, RwLock};

/// Users kept in mind; beyond this, they are asked anew.
const MAX_PROVEN: usize = 100_000;

/// What one upstream has shown.
#[derive(Debug, Default)]
pub(super) struct Proven {
    /// The users whose SET of the route has succeeded.
    users: RwLock<HashSet<String>>,
    /// `DISCARD PLANS` has succeeded, or was refused.
    replans: OnceLock<bool>,
}

impl Proven {
    /// Notes that this user's SET of the route has succeeded.
    pub(super) fn add(&self, user: &str) {
        if self.has(user) {
            return;
        }
        let mut users = self.users.write().unwrap_or_else(PoisonError::into_inner);
        if users.len() >= MAX_PROVEN {
            users.clear();
        }
        users.insert(user.to_owned());
    }

    /// True if this user's SET of the route has succeeded.
    pub(super) fn has(&self, user: &str) -> bool {
        self.users
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(user)
    }

    /// Notes whether it has planned anew what it had planned, when it was asked to.
    pub(super) fn set_replans(&self, done: bool) {
        let _ = self.replans.set(done);
    }

    /// True if it does so when it is asked to; `None`: nobody has asked.
    pub(super) fn replans(&self) -> Option<bool> {
        self.replans.get().copied()
    }
}
