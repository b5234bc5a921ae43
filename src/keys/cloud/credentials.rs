//! Credentials: what a request is signed with.

use std::fmt;
use std::time::SystemTime;

use crate::config::Secret;

/// An access key, temporary if it has a token.
#[derive(Clone)]
pub(super) struct Credentials {
    pub(super) id: String,
    pub(super) secret: Secret,
    pub(super) token: Option<Secret>,
    /// When the credentials end; `None`: never.
    pub(super) expires: Option<SystemTime>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start: String = self.id.chars().take(4).collect();
        write!(formatter, "Credentials({start}…)")
    }
}
