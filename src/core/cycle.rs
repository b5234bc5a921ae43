//! The cycle that the client is sending: how far it has come, what its statements do together, and
//! in which transaction status the server will read it.

use crate::protection::Effects;
use crate::wire::backend::Status;

use super::ledger::{Expect, Ledger};

/// The transaction status in which the server will read the message that is sent now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Sending {
    /// Outside a transaction block.
    Idle,
    /// Inside one.
    Transaction,
    /// Inside a failed one.
    #[default]
    Failed,
    /// Something unanswered is in front of it.
    Uncertain,
}

impl Sending {
    /// With nothing unanswered in front.
    fn of(status: Status) -> Self {
        match status {
            Status::Idle => Self::Idle,
            Status::Transaction => Self::Transaction,
            Status::Failed => Self::Failed,
        }
    }
}

/// The place in front of the present cycle, while nothing of it has left.
#[derive(Debug, Clone, Copy)]
pub(super) struct Anchor {
    /// Offset within the input of the present call.
    pub(super) offset: usize,
    /// Index within the ledger.
    pub(super) ledger: usize,
}

/// The cycle that the client is sending.
#[derive(Debug, Default)]
pub(super) struct Cycle {
    /// As of the last ReadyForQuery, ours included.
    status: Status,
    /// Messages of the extended protocol were sent since the last Sync or Query.
    open: bool,
    /// The same since the last Sync alone: if one of them fails, a Query behind it is skipped.
    unsynced: bool,
    /// The server skips what the client sends until a Sync.
    skipping: bool,
    /// Where it begins, if that is within the present call.
    anchor: Option<Anchor>,
    /// What its statements do, together.
    effects: Effects,
    /// How many of them run: a Query counts once.
    runs: u32,
    /// One of them reads encrypted data.
    protected: bool,
    /// The status in which it begins.
    sending: Sending,
    /// A simple Query in front of it would take nothing from the client.
    bare: bool,
}

impl Cycle {
    /// The call ends that brought bytes from the client: from here on nothing of ours can be put in
    /// front of them.
    pub(super) fn call_ends(&mut self) {
        self.anchor = None;
    }

    /// A cycle begins with the message at `offset` of the present call.
    ///
    /// `needs_unnamed`: the client has an unnamed statement that the cycle may use. A Query would destroy
    /// that and, within a transaction, portals; elsewhere there are none between two cycles.
    pub(super) fn begin(&mut self, offset: usize, needs_unnamed: bool, ledger: &Ledger) {
        self.sending = self.now(ledger);
        self.bare = self.sending == Sending::Idle && !needs_unnamed;
        self.effects = Effects::default();
        self.runs = 0;
        self.protected = false;
        // While the server may be skipping, a Sync of ours would wake it.
        self.anchor = (!self.unsynced).then(|| Anchor {
            offset,
            ledger: ledger.len(),
        });
    }

    /// A cycle begins and ends at once, in which so many statements are run that do this together.
    #[inline]
    pub(super) fn pass(&mut self, effects: Effects, runs: u32) {
        self.sending = Sending::of(self.status);
        self.effects = effects;
        self.runs = runs;
        self.protected = false;
    }

    /// A message of the extended protocol is sent.
    pub(super) fn extend(&mut self) {
        self.open = true;
        self.unsynced = true;
    }

    /// A statement is planned or run.
    pub(super) fn add(&mut self, effects: Effects) {
        self.effects |= effects;
    }

    /// A statement is run.
    pub(super) fn run(&mut self, effects: Effects) {
        self.add(effects);
        self.runs += 1;
    }

    /// True if one statement runs in it, and no more than one.
    pub(super) fn runs_one(&self) -> bool {
        self.runs == 1 && !self.effects.intersects(Effects::MULTIPLE)
    }

    /// True if a simple Query in front of it would take nothing from the client.
    pub(super) fn is_bare(&self) -> bool {
        self.bare
    }

    /// A statement that reads encrypted data is planned or run.
    pub(super) fn protect(&mut self) {
        self.protected = true;
    }

    /// True if one of its statements reads encrypted data.
    pub(super) fn is_protected(&self) -> bool {
        self.protected
    }

    /// The message that ends it was sent: a Sync or another.
    pub(super) fn end(&mut self, sync: bool) {
        self.open = false;
        self.unsynced &= !sync;
        self.anchor = None;
    }

    /// The Sync that ended it was eaten by a COPY: it goes on.
    pub(super) fn reopen(&mut self) {
        self.extend();
    }

    /// An entry of ours was put in front of it.
    pub(super) fn shift(&mut self) {
        if let Some(anchor) = &mut self.anchor {
            anchor.ledger += 1;
        }
    }

    /// A statement failed, and nothing in flight wakes the server.
    pub(super) fn skip(&mut self) {
        self.skipping = true;
    }

    /// The Sync that wakes the server was sent.
    pub(super) fn wake(&mut self) {
        self.skipping = false;
    }

    /// A ReadyForQuery came, of ours or the client's.
    pub(super) fn answered(&mut self, status: Status) {
        self.status = status;
    }

    /// ReadyForQuery came, and nothing else is on its way.
    #[inline]
    pub(super) fn passed(&mut self, status: Status) {
        self.status = status;
        self.unsynced = false;
    }

    /// It was the client's: what is left in the ledger is all that is unanswered.
    pub(super) fn settle(&mut self, ledger: &Ledger) {
        self.unsynced &= self.open || !ledger.is_empty();
        if self.open && ledger.iter().all(Expect::is_extended) {
            // What the present cycle begins with is no longer a guess.
            self.sending = Sending::of(self.status);
        }
    }

    /// The transaction status as of the last ReadyForQuery.
    pub(super) fn status(&self) -> Status {
        self.status
    }

    /// The status in which the server will read what is sent now, behind all that is in flight.
    pub(super) fn now(&self, ledger: &Ledger) -> Sending {
        // From idle, what is on its way leads back to idle unless it begins a transaction.
        if !ledger.is_empty() && (self.status != Status::Idle || ledger.may_begin()) {
            return Sending::Uncertain;
        }
        Sending::of(self.status)
    }

    /// The status in which the present cycle begins, or would begin.
    pub(super) fn sending(&self, ledger: &Ledger) -> Sending {
        if self.open {
            self.sending
        } else {
            self.now(ledger)
        }
    }

    /// The status in which the cycle began that was sent last.
    pub(super) fn began_in(&self) -> Sending {
        self.sending
    }

    pub(super) fn effects(&self) -> Effects {
        self.effects
    }

    pub(super) fn anchor(&self) -> Option<Anchor> {
        self.anchor
    }

    /// True if its end has not been sent.
    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    /// True if no cycle has begun that is not over, as far as the client is concerned.
    #[inline]
    pub(super) fn is_over(&self) -> bool {
        !(self.open || self.unsynced || self.skipping)
    }

    /// True if a message of the extended protocol may yet fail and take what is sent now with it.
    pub(super) fn is_unsynced(&self) -> bool {
        self.unsynced
    }

    pub(super) fn is_skipping(&self) -> bool {
        self.skipping
    }

    /// While the server skips, nothing is in flight that it would answer; an open cycle is not
    /// synced; a place in front of it lies within the ledger.
    pub(super) fn check(&self, ledger: &Ledger) -> Result<(), String> {
        let within = |anchor: Anchor| anchor.ledger <= ledger.len();
        let rules = [
            (!self.open || self.unsynced, "an open cycle is not synced"),
            (
                self.anchor.is_none_or(within),
                "the place in front of it is in the ledger",
            ),
            (
                !self.skipping || ledger.is_empty(),
                "what the server skips is not waited for",
            ),
        ];
        super::check::all("the cycle", rules, self)
    }
}
