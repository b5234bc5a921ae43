//! One small expectation for each message that was sent upstream, resolved by what comes back:
//! what an answer belongs to is read off here.
//!
//! Beside its entries the ledger keeps what it is asked for with every message, so that nothing has
//! to be searched. Each of these must say what the entries say; [`Ledger::check`] compares them.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::protection::{Decision, Effects, SessionChange};
use crate::wire::backend::{ErrorFields, tag};
use crate::wire::compose;

/// What Osprey sent on its own account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Own {
    /// The SET of the route.
    Set,
    /// The RESET that puts back what was there before.
    Restore,
    /// A set_config() that lasts no longer than its own cycle: shows whether this user may set the
    /// route, and changes nothing.
    Proof,
    /// DISCARD PLANS, behind a SET: what was planned before it may have chosen the engine.
    Replan,
    /// The Close and the Parse of statements, where the server refuses DISCARD PLANS.
    Parse,
    /// The SET that cures an error of another kind.
    Cure,
    /// ROLLBACK of a transaction that is run again from its begin.
    Rollback,
    /// The Close of each statement that PREPARE has made in the first run of what is run again.
    Close,
    /// The Sync that the client has not sent yet behind a statement that failed.
    Sync,
    /// A statement that fails: leaves the present transaction as the client believes it to be.
    Fail,
    /// The same in a transaction of its own.
    BeginAndFail,
}

impl Own {
    /// True for what changes the route.
    pub(super) fn is_steering(self) -> bool {
        matches!(self, Self::Set | Self::Restore)
    }
}

/// A statement that was sent to run, or a Bind, which plans it.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    /// What it does.
    pub(super) decision: Arc<Decision>,
    /// By all that was sent in front of it, the route is set where it is planned and run.
    pub(super) steered: bool,
}

/// What the server will answer to one message.
#[derive(Debug, Clone)]
pub(super) enum Expect {
    /// Anything, up to ReadyForQuery.
    Query(Sent),
    /// The same, of a cycle of either protocol that was sent whole, and passes.
    Whole(Sent),
    /// FunctionCallResponse, ReadyForQuery.
    FunctionCall,
    /// ReadyForQuery.
    Sync,
    /// ParseComplete, of a statement whose name is not kept.
    Parse,
    /// ParseComplete; the next entry of the pending names becomes valid.
    ParseNamed,
    /// BindComplete.
    Bind(Sent),
    /// CloseComplete, of nothing that is kept.
    Close,
    /// CloseComplete; the next entry of the pending names becomes invalid.
    CloseNamed,
    /// `ParameterDescription` (statements only), then RowDescription or NoData.
    Describe,
    /// Rows, then CommandComplete, EmptyQueryResponse or PortalSuspended.
    Execute(Sent),
    /// A cycle of our own, of either protocol, up to ReadyForQuery: all of it is swallowed.
    OwnCycle(Own),
    /// Our SET within a client's pipeline: this many of its six answers are still to come.
    OwnInline(Own, u8),
    /// Nothing: CopyData, sent before the server had asked for data; one entry for a run of them.
    CopyData,
    /// Nothing: CopyDone or CopyFail, sent before the server had asked for data. What is behind it
    /// is not within the COPY.
    CopyEnd,
    /// CloseComplete for a Close of ours in front of a statement that is parsed again.
    OwnClose,
    /// An error, which makes the server skip.
    OwnStumble,
}

impl Expect {
    /// True for what the server skips, after an error, until it sees a Sync.
    pub(super) fn is_extended(&self) -> bool {
        !(self.ends_cycle() || self.is_unanswered() || matches!(self, Self::OwnCycle(_)))
    }

    /// True for what is not answered at all.
    fn is_unanswered(&self) -> bool {
        matches!(self, Self::CopyData | Self::CopyEnd)
    }

    /// The statement that the message runs or plans, if it does either.
    pub(super) fn sent(&self) -> Option<&Sent> {
        match self {
            Self::Query(sent) | Self::Whole(sent) | Self::Bind(sent) | Self::Execute(sent) => {
                Some(sent)
            }
            _ => None,
        }
    }

    /// The statement that the message runs, if it does.
    pub(super) fn runs(&self) -> Option<&Sent> {
        match self {
            Self::Query(sent) | Self::Whole(sent) | Self::Execute(sent) => Some(sent),
            _ => None,
        }
    }

    fn sent_mut(&mut self) -> Option<&mut Sent> {
        match self {
            Self::Query(sent) | Self::Whole(sent) | Self::Bind(sent) | Self::Execute(sent) => {
                Some(sent)
            }
            _ => None,
        }
    }

    /// True for what is answered by a ReadyForQuery of the client's.
    pub(super) fn ends_cycle(&self) -> bool {
        matches!(
            self,
            Self::Query(_) | Self::Whole(_) | Self::FunctionCall | Self::Sync
        )
    }

    /// True if the answers are ours to swallow.
    pub(super) fn is_own(&self) -> bool {
        matches!(
            self,
            Self::OwnCycle(_) | Self::OwnInline(..) | Self::OwnClose | Self::OwnStumble
        )
    }
}

/// The error that answered something of our own: an ErrorResponse without its header.
#[derive(Debug)]
pub(super) struct OwnError(Box<[u8]>);

impl OwnError {
    pub(super) fn new(body: &[u8]) -> Self {
        Self(body.into())
    }

    pub(super) fn body(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn fields(&self) -> ErrorFields<'_> {
        ErrorFields::new(&self.0)
    }

    /// The whole message.
    pub(super) fn frame(&self) -> Vec<u8> {
        let mut frame = Vec::new();
        compose::frame(&mut frame, tag::ERROR, |out| out.extend_from_slice(&self.0));
        frame
    }

    /// True if it says that the transaction had failed by then, so that another one is the cause.
    pub(super) fn is_of_a_failed_transaction(&self) -> bool {
        self.fields().sqlstate() == ABORTED
    }

    /// True if the statement was cancelled, and somebody asked for that: time was not up. (PostgreSQL says
    /// so in its own language; in another one it is taken for asked for, which ends a statement too many rather
    /// than one too few.)
    pub(super) fn is_asked_for(&self) -> bool {
        let message = String::from_utf8_lossy(self.fields().message());
        self.is_cancel() && !message.contains("timeout") && !message.contains("超时")
    }

    /// True if the statement was cancelled, by whomever.
    pub(super) fn is_cancel(&self) -> bool {
        self.fields().sqlstate() == QUERY_CANCELED
    }
}

/// A cancel that somebody asked for, or a timeout.
pub(super) const QUERY_CANCELED: &[u8] = b"57014";
/// `in_failed_sql_transaction`.
pub(super) const ABORTED: &[u8] = b"25P02";

/// The expectations, in the order in which the messages were sent.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    entries: VecDeque<Expect>,
    /// As many entries are answered by a ReadyForQuery of the client's.
    cycles: usize,
    /// As many entries run a statement that may enter COPY FROM STDIN.
    copies: u32,
    /// As many entries run a statement that makes or uses names.
    named: u32,
    /// As many entries run a statement that changes how names resolve.
    changing: u32,
    /// As many entries run one by which a name may lead elsewhere.
    moving: u32,
    /// As many entries run one that ends a transaction, or goes back in it.
    ending: u32,
    /// A statement that begins a transaction is among the entries, or was answered within the cycle
    /// that is being answered, whose ReadyForQuery has not come yet.
    may_begin: bool,
    /// There is a message of the extended protocol with no Sync behind it.
    unsynced: bool,
    /// A Query or FunctionCall is behind such a message: whether it is answered depends on that one.
    ambiguous: bool,
    /// The Query in front was answered by an error.
    query_failed: bool,
    /// ROLLBACK was answered to the statement in front.
    rolled_back: bool,
    /// The cycle of our own in front was answered by this error.
    own_error: Option<OwnError>,
}

/// One if the entry runs a statement that does this, else none.
fn runs(entry: &Expect, does: impl Fn(&Decision) -> bool) -> u32 {
    entry
        .runs()
        .map_or(0, |sent| u32::from(does(&sent.decision)))
}

fn enters_copy(decision: &Decision) -> bool {
    decision.effects.intersects(Effects::COPY_IN)
}

fn has_names(decision: &Decision) -> bool {
    !decision.names.is_empty()
}

fn has_changes(decision: &Decision) -> bool {
    !decision.changes.is_empty()
}

fn moves(decision: &Decision) -> bool {
    decision.changes.iter().any(SessionChange::moves_names)
}

fn ends(decision: &Decision) -> bool {
    decision.changes.iter().any(SessionChange::ends_transaction)
}

fn begins(decision: &Decision) -> bool {
    decision.effects.intersects(Effects::BEGINS)
}

impl Ledger {
    #[inline]
    pub(super) fn push(&mut self, entry: Expect) {
        match entry {
            Expect::Sync | Expect::Whole(_) => self.unsynced = false,
            Expect::Query(_) | Expect::FunctionCall => self.ambiguous |= self.unsynced,
            _ => self.unsynced |= entry.is_extended(),
        }
        self.cycles += usize::from(entry.ends_cycle());
        if let Some(Sent { decision, .. }) = entry.runs() {
            self.copies += u32::from(enters_copy(decision));
            self.named += u32::from(has_names(decision));
            if has_changes(decision) {
                self.changing += 1;
                self.moving += u32::from(moves(decision));
                self.ending += u32::from(ends(decision));
            }
            self.may_begin |= begins(decision);
        }
        self.entries.push_back(entry);
    }

    /// A cycle that passes was sent while nothing else is on its way.
    #[inline]
    pub(super) fn push_passing(&mut self, sent: Sent) {
        self.cycles += 1;
        self.entries.push_back(Expect::Whole(sent));
    }

    /// ReadyForQuery was answered to the entry in front, a cycle that passes; true if it was the only one.
    /// Otherwise nothing is noted.
    #[expect(clippy::inline_always, reason = "a call costs as much as a part of it")]
    #[inline(always)]
    pub(super) fn end_passing(&mut self) -> bool {
        if self.entries.len() != 1 {
            return false;
        }
        self.entries.pop_front();
        self.cycles = 0;
        self.may_begin = false;
        self.unsynced = false;
        self.ambiguous = false;
        self.query_failed = false;
        self.rolled_back = false;
        self.rest();
        true
    }

    /// CopyData was sent while the server had not asked for data.
    pub(super) fn push_copy_data(&mut self) {
        if !matches!(self.entries.back(), Some(Expect::CopyData)) {
            self.push(Expect::CopyData);
        }
    }

    /// How many cycles of the client's wait for their ReadyForQuery, if nothing that was sent is skipped.
    pub(super) fn cycles_sent(&self) -> usize {
        self.cycles
    }

    /// True if every statement that is sent, or may be run by a name, does none of `effects`.
    pub(super) fn is_free_of(&self, effects: Effects) -> bool {
        self.entries.iter().all(|entry| match entry {
            Expect::FunctionCall => false,
            entry => entry
                .sent()
                .is_none_or(|sent| !sent.decision.effects.intersects(effects)),
        })
    }

    /// How many cycles of the client's wait for their ReadyForQuery; `None`: that cannot be told.
    pub(super) fn cycles(&self) -> Option<usize> {
        (!self.ambiguous).then_some(self.cycles)
    }

    /// A change of the route goes in front of the entry at `at`, and holds for all from there on.
    pub(super) fn insert_steering(&mut self, at: usize, own: Own) {
        self.entries.insert(at, Expect::OwnCycle(own));
        if own.is_steering() {
            let behind = self.entries.iter_mut().skip(at);
            for sent in behind.filter_map(Expect::sent_mut) {
                sent.steered = own == Own::Set;
            }
        }
    }

    /// True if the route is set for everything in flight that plans or runs a statement.
    pub(super) fn is_steered(&self) -> bool {
        let mut sent = self.entries.iter().filter_map(Expect::sent);
        sent.all(|sent| sent.steered)
    }

    /// A SET of ours failed, or was skipped: what was sent behind it, up to the next one, runs
    /// without it.
    pub(super) fn unsteer(&mut self) {
        let own_set = |entry: &Expect| {
            matches!(
                entry,
                Expect::OwnCycle(Own::Set) | Expect::OwnInline(Own::Set, _)
            )
        };
        let behind = self.entries.iter_mut().take_while(|entry| !own_set(entry));
        for sent in behind.filter_map(Expect::sent_mut) {
            sent.steered = false;
        }
    }

    pub(super) fn front(&self) -> Option<&Expect> {
        self.entries.front()
    }

    /// One of the six answers to our statement within a pipeline came. True if it was the last: the
    /// entry is gone.
    pub(super) fn inline_answered(&mut self) -> bool {
        let Some(Expect::OwnInline(_, left)) = self.entries.front_mut() else {
            return false;
        };
        *left -= 1;
        let last = *left == 0;
        if last {
            self.pop();
        }
        last
    }

    /// The Query in front, or the whole cycle, was answered by an error; ReadyForQuery is still to come.
    pub(super) fn fail_query(&mut self) {
        self.query_failed = matches!(self.front(), Some(Expect::Query(_) | Expect::Whole(_)));
    }

    /// True if that was so.
    pub(super) fn query_failed(&self) -> bool {
        self.query_failed
    }

    /// ROLLBACK was answered to the statement in front.
    pub(super) fn roll_back(&mut self) {
        self.rolled_back = true;
    }

    /// True if that was so.
    pub(super) fn was_rolled_back(&self) -> bool {
        self.rolled_back
    }

    /// The cycle of our own in front was answered by an error; ReadyForQuery is still to come.
    pub(super) fn fail_own(&mut self, error: OwnError) {
        if matches!(self.front(), Some(Expect::OwnCycle(_))) {
            self.own_error = Some(error);
        }
    }

    /// The error that answered the cycle of our own whose ReadyForQuery has come.
    pub(super) fn take_own_error(&mut self) -> Option<OwnError> {
        self.own_error.take()
    }

    /// True if a statement in flight may enter COPY FROM STDIN.
    pub(super) fn has_copies(&self) -> bool {
        self.copies > 0
    }

    /// True if no Sync is in flight behind the last message of the extended protocol.
    pub(super) fn is_unsynced(&self) -> bool {
        self.unsynced
    }

    /// True if a proof of ours is in flight.
    pub(super) fn has_proof(&self) -> bool {
        let is_proof = |entry: &Expect| matches!(entry, Expect::OwnCycle(Own::Proof));
        self.entries.iter().any(is_proof)
    }

    /// True if a statement in flight makes or uses names.
    pub(super) fn has_names(&self) -> bool {
        self.named > 0
    }

    /// True if a statement in flight changes how names resolve.
    pub(super) fn has_changes(&self) -> bool {
        self.changing > 0
    }

    /// True if by a statement in flight names may lead elsewhere; `in_transaction`: one is open in front
    /// of all that is in flight.
    pub(super) fn moves_names(&self, in_transaction: bool) -> bool {
        self.moving > 0 || in_transaction && self.ending > 0
    }

    /// True if a transaction may begin by what is not answered yet.
    pub(super) fn may_begin(&self) -> bool {
        self.may_begin
    }

    /// The client's ReadyForQuery has come: what it says of the transaction is so up to the entries
    /// that are left.
    pub(super) fn status_is_known(&mut self) {
        self.may_begin = self.may_begin && self.entries.iter().any(|entry| runs(entry, begins) > 0);
    }

    #[inline]
    pub(super) fn pop(&mut self) -> Option<Expect> {
        let popped = self.entries.pop_front();
        if let Some(entry) = &popped {
            self.cycles -= usize::from(entry.ends_cycle());
            if let Some(Sent { decision, .. }) = entry.runs() {
                self.copies -= u32::from(enters_copy(decision));
                self.named -= u32::from(has_names(decision));
                if has_changes(decision) {
                    self.changing -= 1;
                    self.moving -= u32::from(moves(decision));
                    self.ending -= u32::from(ends(decision));
                }
            }
        }
        self.query_failed = false;
        self.rolled_back = false;
        while self.front().is_some_and(Expect::is_unanswered) {
            self.entries.pop_front();
        }
        if self.entries.is_empty() {
            self.unsynced = false;
            self.ambiguous = false;
        } else if self.ambiguous && popped.as_ref().is_some_and(Expect::ends_cycle) {
            // What was in front of a Query that is answered can no longer have it skipped.
            (self.unsynced, self.ambiguous) = self.unsettled();
        }
        popped
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Expect> {
        self.entries.iter()
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Gives the memory of a deep pipeline back.
    #[inline]
    pub(super) fn rest(&mut self) {
        if self.entries.capacity() > 64 && self.entries.is_empty() {
            self.give_back();
        }
    }

    #[cold]
    #[inline(never)]
    fn give_back(&mut self) {
        self.entries = VecDeque::new();
    }

    /// The server asks for the data of the COPY in front: removes what was sent within it, with the
    /// Syncs, which it eats. `None`: something else was sent within it.
    pub(super) fn enter_copy(&mut self) -> Option<Entered> {
        let within = self
            .entries
            .iter()
            .skip(1)
            .take_while(|entry| matches!(entry, Expect::Sync | Expect::CopyData));
        let mut entered = Entered::default();
        let (mut data, mut count, mut syncs) = (false, 1, 0);
        for entry in within {
            let sync = matches!(entry, Expect::Sync);
            data |= !sync;
            entered.sync_in_data |= sync && data;
            syncs += usize::from(sync);
            count += 1;
        }
        entered.ended = match self.entries.get(count) {
            None => false,
            Some(Expect::CopyEnd) => true,
            Some(_) => return None,
        };
        self.entries.drain(1..count + usize::from(entered.ended));
        self.cycles -= syncs;
        entered.eaten = syncs;
        // A Sync that the server eats ends nothing.
        (self.unsynced, self.ambiguous) = self.unsettled();
        Some(entered)
    }

    /// What `unsynced` and `ambiguous` must say at least: what was answered may add to it.
    fn unsettled(&self) -> (bool, bool) {
        let (mut unsynced, mut ambiguous) = (false, false);
        for entry in &self.entries {
            match entry {
                Expect::Sync | Expect::Whole(_) => unsynced = false,
                Expect::Query(_) | Expect::FunctionCall => ambiguous |= unsynced,
                _ => unsynced |= entry.is_extended(),
            }
        }
        (unsynced, ambiguous)
    }

    /// Compares what is kept beside the entries with what they say.
    pub(super) fn check(&self) -> Result<(), String> {
        let count = |does: fn(&Decision) -> bool| -> u32 {
            self.entries.iter().map(|entry| runs(entry, does)).sum()
        };
        let cycles = self.entries.iter().filter(|entry| entry.ends_cycle());
        let (unsynced, ambiguous) = self.unsettled();
        let front = self.entries.front();
        let rules = [
            (self.cycles == cycles.count(), "cycles"),
            (self.copies == count(enters_copy), "copies"),
            (self.named == count(has_names), "named"),
            (self.changing == count(has_changes), "changing"),
            (self.moving == count(moves), "moving"),
            (self.ending == count(ends), "ending"),
            (self.may_begin || count(begins) == 0, "may_begin"),
            (self.unsynced || !unsynced, "unsynced"),
            (self.ambiguous || !ambiguous, "ambiguous"),
            (
                !self.query_failed || matches!(front, Some(Expect::Query(_) | Expect::Whole(_))),
                "query_failed",
            ),
            (
                self.own_error.is_none() || matches!(front, Some(Expect::OwnCycle(_))),
                "own_error",
            ),
            (
                !front.is_some_and(Expect::is_unanswered),
                "an entry in front that nothing answers",
            ),
        ];
        super::check::all("the ledger", rules, self)
    }
}

/// What was sent within a COPY before the server had asked for its data.
#[derive(Debug, Default)]
pub(super) struct Entered {
    /// CopyDone or CopyFail.
    pub(super) ended: bool,
    /// A Sync behind data: if it is these that the server refuses, it answers the Sync.
    pub(super) sync_in_data: bool,
    /// Syncs, in front of data or behind: the server eats them, so they end no cycle.
    pub(super) eaten: usize,
}
