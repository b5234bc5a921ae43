//! The heart of a session, sans-IO: frames in, ranges out. No socket, no clock, no task, no lock.
//!
//! A [`Core`] begins where authentication ends, at the first ReadyForQuery, and is driven by four
//! kinds of calls:
//!
//! - [`Core::on_frontend`] with bytes from the client, [`Core::on_backend`] with bytes from the
//!   server. Each says how many bytes it has consumed and appends to the [`Outbox`] what is to be
//!   done with them; the rest must be given again, with more behind it.
//! - [`Core::take_event`] after either, until it is empty: what the shell has to do besides.
//! - [`Core::tally`]: what was counted since it was last taken.
//! - Getters: [`Core::is_quiet`], [`Core::ended`].
//!
//! What the core asks of the world (which statements are protected, what an error means) it asks
//! through the [`World`] trait, and gets an answer at once.
//!
//! Its state lies in machines, each in a file of its own, with private fields and a `check` of its
//! invariants: `framing` (where a message ends), `ledger` (what an answer belongs to), `cycle` (what
//! the client is sending), `context` (how names resolve and texts are read), `copy` (which messages
//! are data), `names` (which decision a name carries), `route` (what the setting is), `retry` (what
//! may be run again). [`Core`] dispatches: `frontend` and `backend` are the two walks, `look` says
//! what a message is, `steer` where a SET of ours may go, and `retry/again` what is done about a
//! second run. docs/core.md tables message and state.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::protection::{Decision, Effects, SessionNames};
use crate::wire::backend::Status;
use crate::wire::compose;

mod backend;
mod by_name;
mod check;
mod commands;
mod context;
mod copy;
mod cycle;
mod framing;
mod frontend;
mod interface;
mod kept;
mod ledger;
mod look;
mod names;
mod passing;
mod queue;
mod remembered;
mod retry;
mod route;
mod steer;

pub use commands::Commands;
pub use interface::{
    Advised, Cure, End, ErrorContext, Event, Outbox, Policy, Progress, Rare, StatementSent,
    Steering, Tally, Told, World,
};
pub use queue::{Op, Queue};

use context::Context;
use copy::Copy;
use cycle::Cycle;
use framing::Framing;
use ledger::{Ledger, OwnError};
use names::Names;
use retry::Retry;
use route::Route;

/// What a statement does not do whose loss nobody can see afterwards.
const MORE_THAN_READS: Effects = retry::CHANGES
    .union(Effects::UNDONE_WHOLE)
    .union(Effects::CALLS_UNKNOWN)
    .union(Effects::BEGINS)
    .union(Effects::ENDS);

/// The state of one session after authentication: machines, each the only one that changes its own
/// fields, and what the core itself says of the whole.
#[derive(Debug)]
pub struct Core {
    policy: Policy,
    /// What is assumed of a statement that was never seen.
    unknown: Arc<Decision>,
    from_client: Framing,
    from_server: Framing,
    ledger: Ledger,
    cycle: Cycle,
    copy: Copy,
    context: Context,
    names: Names,
    route: Route,
    retry: Retry,
    /// The client's transaction has failed by this error of something of ours, and nothing of the client's
    /// was answered since.
    aborted_by: Option<OwnError>,
    /// Nothing is looked into, and nothing of ours is sent.
    relay_only: bool,
    ended: Option<End>,
    events: VecDeque<Event>,
    tally: Tally,
    /// What came last was the end of a cycle that passes, so that the session is [at
    /// ease](Self::is_at_ease).
    has_just_passed: bool,
    /// Every message takes the walk.
    #[cfg(test)]
    walks_all: bool,
}

impl Core {
    /// A session that has just been told ReadyForQuery with status idle; `names`: how its names
    /// resolve.
    pub fn new(policy: Policy, names: SessionNames) -> Self {
        let client_route = policy.client_route.filter(|_| !policy.enforce);
        Self {
            relay_only: policy.relay_only,
            route: Route::new(client_route.is_some()),
            policy,
            unknown: Arc::new(Decision {
                effects: Effects::WRITES
                    .union(Effects::BEGINS)
                    .union(Effects::ENDS)
                    .union(Effects::ROUTE_DOUBT),
                ..Decision::default()
            }),
            from_client: Framing::default(),
            from_server: Framing::default(),
            ledger: Ledger::default(),
            cycle: Cycle::default(),
            copy: Copy::default(),
            context: Context::new(names.with_route(client_route)),
            names: Names::default(),
            retry: Retry::default(),
            aborted_by: None,
            ended: None,
            events: VecDeque::new(),
            tally: Tally::default(),
            has_just_passed: false,
            #[cfg(test)]
            walks_all: false,
        }
    }

    /// Every message takes the walk, or those of a cycle that passes need not.
    #[cfg(test)]
    fn walks_all(&mut self, all: bool) {
        self.walks_all = all;
    }

    /// The invariants of every machine, and those between them: the first one that does not hold,
    /// in words. For tests; it walks over all that is in flight.
    ///
    /// # Errors
    ///
    /// If one does not hold, which is a fault of Osprey's.
    pub fn check(&self) -> Result<(), String> {
        self.from_client.check()?;
        self.from_server.check()?;
        if self.relay_only || self.ended.is_some() {
            return Ok(());
        }
        self.ledger.check()?;
        self.cycle.check(&self.ledger)?;
        self.copy.check(&self.ledger)?;
        self.context.check()?;
        if self.has_just_passed && !self.is_at_ease() {
            return Err("a session that is said to be at ease is not".into());
        }
        self.names.check(&self.ledger)?;
        self.route.check()?;
        self.retry.check(&self.ledger)
    }

    /// The next thing that the shell has to do.
    pub fn take_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// True if there is such a thing.
    #[inline]
    pub fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// What was counted; whoever adds it up somewhere takes it.
    #[inline]
    pub fn tally(&mut self) -> &mut Tally {
        &mut self.tally
    }

    /// How the session ended; `None`: it goes on.
    pub fn ended(&self) -> Option<End> {
        self.ended
    }

    /// True if the session is between cycles and outside a transaction: it can be closed without
    /// taking anything from the client.
    pub fn is_quiet(&self) -> bool {
        self.ledger.is_empty()
            && !self.cycle.is_open()
            && self.cycle.status() == Status::Idle
            && !self.from_client.is_mid_message()
            && !self.from_server.is_mid_message()
            && !self.relay_only
    }

    /// The same within a transaction.
    pub fn is_idle_in_transaction(&self) -> bool {
        !self.is_busy()
            && self.cycle.status() != Status::Idle
            && !self.from_client.is_mid_message()
            && !self.from_server.is_mid_message()
    }

    /// True if the server is, or may be, working on something that the client sent.
    pub fn is_busy(&self) -> bool {
        self.relay_only || !self.ledger.is_empty() || self.cycle.is_open() || self.copy.is_on()
    }

    /// True if the server works on something, or may, as far as that can be told: a client that has not
    /// ended its cycle may be thinking.
    pub fn is_working(&self) -> bool {
        self.relay_only || !self.ledger.is_empty() || self.copy.is_on()
    }

    /// True if what is being answered may have to be sent once more.
    pub fn may_run_again(&self) -> bool {
        self.retry.holds_successors()
    }

    /// The error of a first run, where nothing of the second has reached the client and nothing will.
    pub fn take_held_error(&mut self) -> Option<Vec<u8>> {
        if self.backend_mid_message() {
            return None;
        }
        self.retry.take_held_error()
    }

    /// True if the server can be made to end what it works on for a client that hears no more of it.
    /// A cancel request ends one statement, and what was sent behind it is run: a pipeline must not lose
    /// a part of its midst, as none does whose client is gone. So nothing may stand behind it, or all of
    /// it only reads, each cycle in a transaction of its own. `all_sent`: the client has said nothing that
    /// was not sent to the server. `renounced`: what the statement writes is not wanted any more,
    /// either; whoever says goodbye only does not wait for it.
    pub fn may_be_cut_off(&self, all_sent: bool, renounced: bool) -> bool {
        if self.relay_only {
            return false;
        }
        let open = usize::from(self.cycle.is_open());
        let cycles = self.ledger.cycles().map(|cycles| cycles + open);
        let is_last = all_sent && cycles.is_some_and(|cycles| cycles <= 1);
        let only_reads = !self.copy.is_on() && self.ledger.is_free_of(MORE_THAN_READS);
        let each_alone = open == 0 && self.cycle.status() == Status::Idle;
        is_last && renounced || only_reads && (is_last || each_alone)
    }

    /// True if nothing is injected and nothing looked into: what passes is the client's affair.
    pub fn is_relay_only(&self) -> bool {
        self.relay_only
    }

    /// The transaction status as of the last ReadyForQuery.
    pub fn transaction(&self) -> Status {
        self.cycle.status()
    }

    /// Who has chosen the engine for what is sent next, for people.
    pub fn steering(&self) -> Steering {
        match self.route.state() {
            _ if self.relay_only => Steering::Unknown,
            _ if self.route.may_be_the_clients()
                && !self.policy.enforce
                && self.context.has_route() =>
            {
                Steering::Client
            }
            route::State::Default => Steering::None,
            route::State::Set => Steering::Steered,
            route::State::Unknown => Steering::Unknown,
        }
    }

    /// True if a message towards the client is only half forwarded: nothing of our own may be put
    /// there.
    pub fn backend_mid_message(&self) -> bool {
        self.from_server.is_mid_message()
    }

    /// From here on the session is relayed and nothing is injected: the order is ambiguous.
    fn give_up(&mut self, reason: &'static str, out: &mut Outbox) {
        if self.relay_only {
            return;
        }
        self.relay_only = true;
        self.retry.stop();
        self.events.push_back(Event::RelayOnly(reason));
        if self.ledger.iter().any(ledger::Expect::is_own) {
            self.broken(
                &format!(
                    "Osprey lost track of the session while a setting was on its way: {reason}"
                ),
                out,
            );
        }
        self.ledger.clear();
    }

    /// Ends this session alone, with a proper ErrorResponse.
    fn broken(&mut self, message: &str, out: &mut Outbox) {
        if !self.from_server.is_mid_message() {
            let mut frame = Vec::new();
            compose::fatal(&mut frame, "08P01", message, None);
            out.to_client.own(frame.into());
        }
        self.ended = Some(End::Broken);
    }
}

#[cfg(test)]
mod tests;
