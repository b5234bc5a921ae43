//! The state of the readings for which clients' sessions are borrowed: when a session may be asked
//! to do one, and what came of the last. And, whoever does the reading, whether DDL has passed
//! since.

use std::time::Duration;

use tokio::time::Instant;

use super::pace::{FOLLOW_UP, REST_PER_WORK};
use crate::catalog::{Contents, ReadError};

/// The state of one database's borrowed readings.
#[derive(Default)]
pub(super) struct Borrowing {
    /// True while a session is reading.
    pub(super) reads: bool,
    /// What a session has read, until the background task has taken it in.
    pub(super) outcome: Option<Outcome>,
    /// When a session may be asked again; `None`: at once.
    pub(super) due: Option<Instant>,
    /// True if the last reading failed. Then DDL does not bring `due` forward.
    failed: bool,
    /// Until when no reading is asked for, however much DDL passes.
    rested: Option<Instant>,
    /// When DDL passed last of which no reading is known to have seen what it made.
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

    /// True if at that time a reading is wanted, or was and failed.
    pub(super) fn lacks_reading(&self, now: Instant) -> bool {
        self.failed || self.due.is_none_or(|due| due <= now)
    }

    /// Takes out what a session has read, if one has.
    pub(super) fn take_outcome(&mut self) -> Option<Outcome> {
        self.outcome.take()
    }

    /// Notes that DDL was seen passing.
    pub(super) fn note_change(&mut self) {
        self.changed = Some(Instant::now());
        if !self.failed {
            self.due = self.rested;
        }
    }

    /// Notes that a reading which succeeded has been taken in. The next one comes after `refresh`,
    /// or earlier if DDL passed meanwhile.
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

    /// Notes that a reading which succeeded began at that time. Hologres' front ends lag behind one
    /// another, so it has seen what DDL made only if that passed well before.
    pub(super) fn note_seen(&mut self, begun: Instant) {
        self.changed.take_if(|at| *at + FOLLOW_UP <= begun);
    }

    /// Notes that a reading which failed has been taken in; no session is asked before `next`.
    pub(super) fn failed(&mut self, next: Instant) {
        self.failed = true;
        self.due = Some(next);
    }

    /// Asks the next session: the settings have changed.
    pub(super) fn ask_anew(&mut self) {
        self.failed = false;
        self.due = None;
    }
}
