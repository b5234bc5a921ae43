//! Readings that clients' sessions do, where there is no service account: which session may be
//! asked to, when, and what came of it. And, whoever reads, whether DDL has passed since.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::database::DatabaseKnowledge;
use super::{FIRST_BACKOFF, FOLLOW_UP, REST_PER_WORK, Reading};
use crate::catalog::{Contents, ReadError};

/// How a database's borrowed readings stand.
#[derive(Default)]
pub(super) struct Borrowing {
    /// A session is at it.
    lent: bool,
    /// What a session has read, until the background task takes it in.
    outcome: Option<Outcome>,
    /// When a session may be asked again; `None`: now.
    due: Option<Instant>,
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

/// One session's turn to read its database's catalogs. Dropped without [`Loan::give`], another
/// session will be asked.
pub struct Loan {
    database: Arc<DatabaseKnowledge>,
    servers: Vec<String>,
    begun: Instant,
    given: bool,
}

impl Loan {
    /// The foreign servers that are MaxCompute's.
    pub fn servers(&self) -> &[String] {
        &self.servers
    }

    /// What came of it.
    pub fn give(mut self, contents: Result<Contents, ReadError>) {
        self.given = true;
        let mut borrowing = self.database.borrowing();
        borrowing.lent = false;
        borrowing.outcome = Some(Outcome {
            begun: self.begun,
            ended: Instant::now(),
            contents,
        });
        drop(borrowing);
        self.database.signals.wake.notify_one();
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        if self.given {
            return;
        }
        let mut borrowing = self.database.borrowing();
        borrowing.lent = false;
        borrowing.due = Some(Instant::now() + FIRST_BACKOFF);
        drop(borrowing);
        self.database.signals.wake.notify_one();
    }
}

impl Borrowing {
    /// True while [`DatabaseKnowledge::ready`] has something to wait for.
    pub(super) fn is_under_way(&self) -> bool {
        self.lent || self.outcome.is_some()
    }

    /// True if there may be relations that the last reading did not see.
    pub(super) fn is_stale(&self) -> bool {
        self.changed.is_some()
    }

    pub(super) fn take_outcome(&mut self) -> Option<Outcome> {
        self.outcome.take()
    }

    /// DDL was seen passing.
    pub(super) fn change(&mut self) {
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
        self.has_seen(begun);
        self.due = Some(match self.changed {
            Some(at) => rested.max(at + FOLLOW_UP),
            None => ended + refresh,
        });
    }

    /// A reading that succeeded began at that time. Hologres' front ends lag behind one another: it
    /// has seen what DDL made well before.
    pub(super) fn has_seen(&mut self, begun: Instant) {
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

impl DatabaseKnowledge {
    /// Asks a session that has just logged in, and may be asked, to read the catalogs in its own
    /// name. `None`: it need not, for they are known, another one is at it, or nobody is to borrow.
    pub fn lend(self: &Arc<Self>) -> Option<Loan> {
        let rules = self.common.rules.load();
        let Reading::Borrowed { servers } = &rules.reading else {
            return None;
        };
        let begun = Instant::now();
        let mut borrowing = self.borrowing();
        if borrowing.failed || borrowing.due.is_none_or(|due| due <= begun) {
            self.is_due();
        }
        if borrowing.is_under_way() || borrowing.due.is_some_and(|due| begun < due) {
            return None;
        }
        borrowing.lent = true;
        if self.reading_age().is_none() || borrowing.is_stale() {
            self.is_not_ready();
        }
        Some(Loan {
            database: Arc::clone(self),
            servers: servers.clone(),
            begun,
            given: false,
        })
    }

    pub(super) fn borrowing(&self) -> MutexGuard<'_, Borrowing> {
        self.borrowing
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
