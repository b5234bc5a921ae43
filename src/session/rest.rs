//! The clocks of a session: what it does, since when, and how long it may go on
//! (`limits.idle_session_timeout`, `limits.idle_in_transaction_session_timeout`,
//! `limits.statement_timeout`).

use std::time::Duration;

use crate::config::Limits;
use crate::net::moment::Moment;

/// What a session does, as far as its clocks go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doing {
    /// It is idle outside a transaction.
    Idle,
    /// It is idle within one.
    IdleInTransaction,
    /// The server works, or may.
    Statement,
    /// None of it: what was said has not arrived yet, or it is not known what was said.
    Other,
}

/// The clocks of a session that has any.
#[derive(Debug)]
pub(super) struct Rest {
    idle: Option<Duration>,
    idle_in_transaction: Option<Duration>,
    statement: Option<Duration>,
    doing: Doing,
    since: Moment,
    /// The statement has had its time: when it is cancelled again.
    cancel_at: Option<Moment>,
}

impl Rest {
    /// The clocks that the settings ask for, if they ask for one.
    pub(super) fn new(limits: &Limits) -> Option<Self> {
        let rest = Self {
            idle: limits.idle_session_timeout,
            idle_in_transaction: limits.idle_in_transaction_session_timeout,
            statement: limits.statement_timeout,
            doing: Doing::Other,
            since: Moment::now(),
            cancel_at: None,
        };
        let any = rest.idle.or(rest.idle_in_transaction).or(rest.statement);
        any.is_some().then_some(rest)
    }

    /// A cycle has ended: what comes now has all of its time.
    pub(super) fn restart(&mut self) {
        self.since = Moment::now();
        self.cancel_at = None;
    }

    /// How long what it does may take.
    pub(super) fn limit(&self) -> Option<Duration> {
        match self.doing {
            Doing::Idle => self.idle,
            Doing::IdleInTransaction => self.idle_in_transaction,
            Doing::Statement => self.statement,
            Doing::Other => None,
        }
    }

    /// The next moment at which time is up.
    pub(super) fn until(&self) -> Option<Moment> {
        let limit = self.limit()?;
        Some(self.cancel_at.unwrap_or(self.since.after(limit)))
    }

    /// It does this now.
    pub(super) fn note(&mut self, doing: Doing, now: Moment) {
        if self.doing != doing {
            self.doing = doing;
            self.since = now;
            self.cancel_at = None;
        }
    }

    /// The statement has had its time and is cancelled; it is to be cancelled again then.
    pub(super) fn cancel_again(&mut self, at: Moment) {
        self.cancel_at = Some(at);
    }
}
