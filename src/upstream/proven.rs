//! The users whose SET of the route has succeeded.

use std::collections::HashSet;
use std::sync::{PoisonError, RwLock};

/// Users kept in mind; beyond this, they are asked anew.
const MAX_PROVEN: usize = 100_000;

/// Users who may set the route, as one upstream has shown.
#[derive(Debug, Default)]
pub(super) struct Proven(RwLock<HashSet<String>>);

impl Proven {
    /// Notes that this user's SET of the route has succeeded.
    pub(super) fn add(&self, user: &str) {
        if self.has(user) {
            return;
        }
        let mut users = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if users.len() >= MAX_PROVEN {
            users.clear();
        }
        users.insert(user.to_owned());
    }

    /// True if this user's SET of the route has succeeded.
    pub(super) fn has(&self, user: &str) -> bool {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(user)
    }
}
