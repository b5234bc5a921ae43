//! One small expectation per message sent upstream, resolved by what comes back: what an answer
//! belongs to is read off here, never counted.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::protection::Decision;

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
    /// ROLLBACK of a transaction that is run again from its begin.
    Rollback,
    /// The Sync that the client has not sent yet behind a statement that failed.
    Sync,
    /// A statement that fails: leaves the present transaction as the client believes it to be.
    Fail,
    /// The same in a transaction of its own.
    BeginAndFail,
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
            Self::Query(sent) | Self::Bind(sent) | Self::Execute(sent) => Some(sent),
            _ => None,
        }
    }

    fn sent_mut(&mut self) -> Option<&mut Sent> {
        match self {
            Self::Query(sent) | Self::Bind(sent) | Self::Execute(sent) => Some(sent),
            _ => None,
        }
    }

    /// True for what is answered by a ReadyForQuery of the client's.
    fn ends_cycle(&self) -> bool {
        matches!(self, Self::Query(_) | Self::FunctionCall | Self::Sync)
    }

    /// True if the answers are ours to swallow.
    pub(super) fn is_own(&self) -> bool {
        matches!(
            self,
            Self::OwnCycle(_) | Self::OwnInline(..) | Self::OwnClose | Self::OwnStumble
        )
    }
}

/// The expectations, in the order in which the messages were sent.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    entries: VecDeque<Expect>,
    /// Cycles of the client's among them.
    cycles: usize,
    /// Messages of the extended protocol, and no Sync behind them.
    unsynced: bool,
    /// A Query or FunctionCall came behind those: whether it is answered depends on them.
    ambiguous: bool,
}

impl Ledger {
    pub(super) fn push(&mut self, entry: Expect) {
        match entry {
            Expect::Sync => self.unsynced = false,
            Expect::Query(_) | Expect::FunctionCall => self.ambiguous |= self.unsynced,
            _ => self.unsynced |= entry.is_extended(),
        }
        self.cycles += usize::from(entry.ends_cycle());
        self.entries.push_back(entry);
    }

    /// CopyData was sent while the server had not asked for data.
    pub(super) fn push_copy_data(&mut self) {
        if !matches!(self.entries.back(), Some(Expect::CopyData)) {
            self.push(Expect::CopyData);
        }
    }

    /// How many cycles of the client's wait for their ReadyForQuery; `None`: that cannot be told.
    pub(super) fn cycles(&self) -> Option<usize> {
        (!self.ambiguous).then_some(self.cycles)
    }

    /// A change of the route goes in front of the entry at `at`, and holds for all from there on.
    pub(super) fn insert_steering(&mut self, at: usize, own: Own) {
        self.entries.insert(at, Expect::OwnCycle(own));
        if own != Own::Proof {
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

    pub(super) fn front_mut(&mut self) -> Option<&mut Expect> {
        self.entries.front_mut()
    }

    pub(super) fn pop(&mut self) -> Option<Expect> {
        let popped = self.entries.pop_front();
        if let Some(entry) = &popped {
            self.cycles -= usize::from(entry.ends_cycle());
        }
        while self.front().is_some_and(Expect::is_unanswered) {
            self.entries.pop_front();
        }
        if self.entries.is_empty() {
            self.unsynced = false;
            self.ambiguous = false;
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
    pub(super) fn rest(&mut self) {
        if self.entries.is_empty() && self.entries.capacity() > 64 {
            self.entries = VecDeque::new();
        }
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
        Some(entered)
    }
}

/// What was sent within a COPY before the server had asked for its data.
#[derive(Debug, Default)]
pub(super) struct Entered {
    /// CopyDone or CopyFail.
    pub(super) ended: bool,
    /// A Sync behind data: if it is these that the server refuses, it answers the Sync.
    pub(super) sync_in_data: bool,
}
