//! A reading of the catalogs that a client's session does in its own name, where there is no
//! service account: Osprey borrows the session for it between its login and its first statement.

use std::sync::Arc;

use tokio::time::Instant;

use super::borrowing::Outcome;
use super::common::CatalogReader;
use super::database::DatabaseKnowledge;
use super::pace::FIRST_BACKOFF;
use crate::catalog::{Contents, ReadError};

/// One session reads its database's catalogs, for the sake of all sessions of that database. If
/// this is dropped without [`BorrowedReading::finish`], another session will be asked.
pub struct BorrowedReading {
    database: Arc<DatabaseKnowledge>,
    servers: Vec<String>,
    begun: Instant,
    finished: bool,
}

impl BorrowedReading {
    /// The names of the foreign servers that are MaxCompute's.
    pub fn servers(&self) -> &[String] {
        &self.servers
    }

    /// Hands over what the session has read, or why it could not.
    pub fn finish(mut self, contents: Result<Contents, ReadError>) {
        self.finished = true;
        let mut borrowing = self.database.borrowing();
        borrowing.reads = false;
        borrowing.outcome = Some(Outcome {
            begun: self.begun,
            ended: Instant::now(),
            contents,
        });
        drop(borrowing);
        self.database.signals.wake.notify_one();
    }
}

impl Drop for BorrowedReading {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        let mut borrowing = self.database.borrowing();
        borrowing.reads = false;
        borrowing.due = Some(Instant::now() + FIRST_BACKOFF);
        drop(borrowing);
        self.database.signals.wake.notify_one();
    }
}

impl DatabaseKnowledge {
    /// Borrows a session that has just logged in, and may be borrowed, to read the catalogs in its own
    /// name. `None`: it need not read them, for they are known, another session is reading them, or
    /// no session is to be borrowed.
    pub fn borrow_session(self: &Arc<Self>) -> Option<BorrowedReading> {
        let rules = self.common.rules.load();
        let CatalogReader::Sessions { servers } = &rules.reader else {
            return None;
        };
        let begun = Instant::now();
        let mut borrowing = self.borrowing();
        if borrowing.lacks_reading(begun) {
            self.note_due();
        }
        if borrowing.is_under_way() || borrowing.due.is_some_and(|due| begun < due) {
            return None;
        }
        borrowing.reads = true;
        if self.reading_age().is_none() || borrowing.is_stale() {
            self.set_ready(false);
        }
        Some(BorrowedReading {
            database: Arc::clone(self),
            servers: servers.clone(),
            begun,
            finished: false,
        })
    }
}
