//! How it stands with the readings that clients' sessions do, where there is no service account: when a
//! session may be asked to do one, and what came of the last. And, whoever reads, whether DDL has
//! passed since.

use std::time::Duration;

use tokio::time::Instant;

use super::pace::{FOLLOW_UP, REST_PER_WORK};
use crate::catalog::{Contents, ReadError};

/// How a database's borrowed readings stand.
#[derive(Default)]
pub(super) struct Borrowing {
    /// A session is reading.
    pub(super) reads: bool,
    /// What a session has read, until the background task takes it in.
    pub(super) outcome: Option<Outcome>,
    /// When a session may be asked again; `None`: now.
    pub(super) due: Option<Instant>,
    /// The last reading failed: then `due` stands whatever happens.
    failed: bool,
    /// No reading before that time is asked for, however much DDL passes.
    rested: Option<Instant>,
    /// DDL passed then, and no reading is known to have seen what it made.
    changed: Option<Instant>,
}

/// What a session has read, and when it began and ended.
pub(super) struct Outcome {
    pub(super) begun: Instant,
    pub(super) ended: Instant,
    pub(super) contents: Result<Contents, ReadError>,
}

impl Borrowing {
    /// True while `DatabaseKnowledge::ready` has something to wait for.
    pub(super) fn is_under_way(&self) -> bool {
        self.reads || self.outcome.is_some()
    }

    /// True if there may be relations that the last reading did not see.
    pub(super) fn is_stale(&self) -> bool {
        self.changed.is_some()
    }

    /// What a session has read, once.
    pub(super) fn take_outcome(&mut self) -> Option<Outcome> {
        self.outcome.take()
    }

    /// DDL was seen passing.
    pub(super) fn note_change(&mut self) {
        self.changed = Some(Instant::now());
        if !self.failed {
            self.due = self.rested;
        }
    }

    /// A reading that succeeded has been taken in; the next one comes after `refresh`.
    pub(super) fn succeeded(&mut self, begun: Instant, ended: Instant, refresh: Duration) {
        let rested = ended + (ended - begun) * REST_PER_WORK;
        self.failed = false;
        self.rested = Some(rested);
        self.note_seen(begun);
        self.due = Some(match self.changed {
            Some(at) => rested.max(at + FOLLOW_UP),
            None => ended + refresh,
        });
    }

    /// A reading that succeeded began at that time. Hologres' front ends lag behind one another: it
    /// has seen what DDL made well before.
    pub(super) fn note_seen(&mut self, begun: Instant) {
        self.changed.take_if(|at| *at + FOLLOW_UP <= begun);
    }

    /// A reading that failed has been taken in.
    pub(super) fn failed(&mut self, next: Instant) {
        self.failed = true;
        self.due = Some(next);
    }

    /// Other settings: the next session reads.
    pub(super) fn ask_anew(&mut self) {
        self.failed = false;
        self.due = None;
    }
}
