//! What the cache holds for one project, and what it may answer from it.

use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, Shared};

use super::{Encryption, KeyRecord, LookupError, Origin};
use crate::facts::{Project, Stamp};

/// What the cache answers: the record, or that nobody knows the project.
pub type Answer = Result<Option<Arc<KeyRecord>>, LookupError>;

/// What the cache holds for one project. Times are those of the clock's monotonic side.
#[derive(Default)]
pub(super) struct Entry {
    /// What was found out about the project.
    pub(super) facts: Project,
    /// What that, or the configuration, comes to.
    pub(super) known: Option<Known>,
    /// What the last lookup failed with, if it did.
    pub(super) failure: Option<LookupError>,
    /// The project is not looked up again before this time. It is set when a lookup failed, or
    /// nobody knew the project.
    pub(super) retry_at: Duration,
    /// True once a lookup has ended, whatever it said.
    pub(super) settled: bool,
    pub(super) flight: Option<Flight>,
}

/// A record that is known, and until when it counts.
pub(super) struct Known {
    pub(super) record: Arc<KeyRecord>,
    pub(super) since: Duration,
    pub(super) refresh_at: Duration,
    pub(super) expires_at: Duration,
}

/// A lookup that is under way, for all who wait for it.
pub(super) struct Flight {
    pub(super) id: u64,
    pub(super) begun: Stamp,
    pub(super) landing: Shared<BoxFuture<'static, Answer>>,
}

impl Entry {
    /// What can be answered without waiting.
    pub(super) fn answer(&self, now: Duration) -> Option<Answer> {
        let waits = now < self.retry_at;
        match (&self.known, &self.failure) {
            (Some(known), _) if now < known.expires_at || waits => {
                Some(Ok(Some(Arc::clone(&known.record))))
            }
            (None, Some(error)) if waits => Some(Err(error.clone())),
            (None, None) if waits => Some(Ok(None)),
            _ => None,
        }
    }

    /// True if the record is past its time.
    pub(super) fn stale(&self, now: Duration) -> bool {
        self.known
            .as_ref()
            .is_some_and(|known| known.expires_at <= now)
    }

    /// True if the record is to be looked up again in the background.
    pub(super) fn refresh_due(&self, now: Duration) -> bool {
        self.flight.is_none()
            && now >= self.retry_at
            && self
                .known
                .as_ref()
                .is_some_and(|known| known.refresh_at <= now)
    }
}

impl Known {
    /// True if HQE's failure is all that is known.
    pub(super) fn is_lesson(&self) -> bool {
        self.record.origin == Origin::Learned
    }
}

/// The part of a record that makes a difference to whoever has built on it.
pub(super) fn meaning(record: Option<&Arc<KeyRecord>>) -> Option<(&Encryption, Origin)> {
    record.map(|record| (&record.encryption, record.origin))
}
