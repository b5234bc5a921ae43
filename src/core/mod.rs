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
//! the client is sending), `copy` (which messages are data), `names` (which decision a name
//! carries), `route` (what the setting is), `retry` (what may be run again). [`Core`] dispatches:
//! `frontend` and `backend` are the two walks, `steer` says where a SET of ours may go, and
//! `retry/again` what is done about a second run. docs/core.md tables message and state.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::advice::NotRetried;
use crate::protection::{Decision, Effects};
use crate::wire::backend::{ErrorFields, Status};
use crate::wire::compose;

mod backend;
mod check;
mod commands;
mod copy;
mod cycle;
mod framing;
mod frontend;
mod ledger;
mod names;
mod queue;
mod retry;
mod route;
mod steer;

pub use commands::Commands;
pub use queue::{Op, Queue};

use copy::Copy;
use cycle::Cycle;
use framing::Framing;
use ledger::Ledger;
use names::Names;
use retry::Retry;
use route::Route;

/// What the core asks of the world outside; every answer is at hand, nothing waits.
pub trait World {
    /// What a statement text does. `whole` is false where only the head of it is in hand.
    /// `path_certain` is false once the session has changed how unqualified names resolve.
    fn decide(&self, text: &[u8], whole: bool, path_certain: bool) -> Arc<Decision>;

    /// Changes whenever [`World::decide`] may answer differently.
    fn generation(&self) -> u64;

    /// From here on unqualified names resolve by these schemas; `None`: by those with which the
    /// session began.
    fn resolve_by(&self, search_path: Option<&[String]>);

    /// True if this database has relations that are known to be protected.
    fn has_protected(&self) -> bool;

    /// True if a fresh session of this database reads encrypted data without any SET.
    fn reads_encrypted_already(&self) -> bool;

    /// True if statements may read MaxCompute data of which it is not known whether HQE can.
    fn may_need_retry(&self) -> bool;

    /// True if this user is known to be allowed to set the route.
    fn is_proven(&self) -> bool;

    /// What to tell the client instead of this error; `None`: forward it as it is.
    fn advise(&self, error: ErrorFields<'_>, context: &ErrorContext<'_>) -> Option<Advised>;
}

/// What the core knows when an error passes.
#[derive(Debug, Clone, Copy)]
pub struct ErrorContext<'a> {
    /// The decision of the statement that failed, if it is known which one that is.
    pub decision: Option<&'a Decision>,
    /// The client set the route itself.
    pub client_owns_route: bool,
    /// Osprey had set the route for this statement.
    pub route_was_set: bool,
    /// Why the statement is not run again; `None`: it is, if that would help. Then the client gets
    /// the error only if the second run is answered differently.
    pub not_retried: Option<NotRetried>,
}

/// The answer of [`World::advise`].
#[derive(Debug, Clone)]
pub struct Advised {
    /// The whole ErrorResponse to send instead.
    pub frame: Vec<u8>,
    /// The stable code, `OSP-…`.
    pub code: &'static str,
    /// Another engine would read it: worth running again.
    pub curable: bool,
}

/// What one session's configuration says.
#[derive(Debug, Clone)]
pub struct Policy {
    /// What to send to change the route.
    pub commands: Arc<Commands>,
    /// Put the route back for statements that read MaxCompute and need no other engine.
    pub per_statement: bool,
    /// Set the route even where the client sets it itself.
    pub enforce: bool,
    /// Run a cycle again after the pangu error; bytes of it to keep. `None`: never.
    pub retry_buffer: Option<usize>,
    /// Bytes of a statement text that are looked at.
    pub inspect: usize,
    /// Relay only: replication, or Hologres' fixed front end.
    pub relay_only: bool,
    /// The client set the route at startup.
    pub client_owns_route: bool,
}

/// Where the two walks put what is to be sent.
#[derive(Debug, Default)]
pub struct Outbox {
    /// Over the client's bytes, towards the server.
    pub to_server: Queue,
    /// Over the server's bytes, towards the client.
    pub to_client: Queue,
}

/// How far a walk got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Bytes of the input that are dealt with.
    pub consumed: usize,
    /// Bytes that the rest of the input must have before it is worth calling again; 0: any.
    pub wanted: usize,
    /// Nothing more is taken in this direction until the other one has moved.
    pub blocked: bool,
}

impl Progress {
    /// All of it is dealt with.
    fn all(input: &[u8]) -> Self {
        Self {
            consumed: input.len(),
            ..Self::default()
        }
    }
}

/// What the shell has to do besides moving bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// This user's SET of the route succeeded.
    Proven,
    /// Our SET failed: SQLSTATE and message.
    SetFailed {
        /// SQLSTATE.
        sqlstate: String,
        /// The server's message.
        message: String,
        /// It hit inside the client's transaction and aborted it.
        aborted_transaction: bool,
    },
    /// A cancel hit our SET: send it upstream once more.
    CancelAgain,
    /// DDL passed that may change what is protected.
    CatalogChanged,
    /// The client set the route itself.
    ClientOwnsRoute,
    /// An error was rewritten.
    ErrorRewritten {
        /// The stable code.
        code: &'static str,
        /// Why the statement was not run again.
        not_retried: Option<NotRetried>,
    },
    /// A cycle is run again on the other engine.
    Retried {
        /// The stable code of the error that was held back.
        code: &'static str,
    },
    /// The order of messages is ambiguous from here on: the rest is relayed, nothing injected.
    RelayOnly(&'static str),
}

/// Counts since the last [`Core::tally`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Simple queries.
    pub queries: u64,
    /// Executes.
    pub executes: u64,
    /// Protected ones among both.
    pub protected: u64,
    /// Cycles ended.
    pub cycles: u64,
    /// SETs sent as a simple Query.
    pub set_query: u64,
    /// SETs sent as a cycle of our own.
    pub set_cycle: u64,
    /// SETs sent within a client's pipeline.
    pub set_inline: u64,
    /// Settings put back.
    pub restores: u64,
    /// Proofs sent.
    pub proofs: u64,
    /// Protected statements before which nothing could be sent.
    pub not_steered: u64,
}

/// How a session ended, as far as the core can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The client sent Terminate.
    Terminate,
    /// The server sent a FATAL.
    Fatal,
    /// A frame was broken; the client has been told.
    Broken,
}

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
    names: Names,
    route: Route,
    retry: Retry,
    /// Nothing is looked into, and nothing of ours is sent.
    relay_only: bool,
    ended: Option<End>,
    events: VecDeque<Event>,
    tally: Tally,
}

impl Core {
    /// A session that has just been told ReadyForQuery with status idle.
    pub fn new(policy: Policy) -> Self {
        Self {
            relay_only: policy.relay_only,
            route: Route::new(policy.client_owns_route && !policy.enforce),
            policy,
            unknown: Arc::new(Decision {
                effects: Effects::WRITES
                    .with(Effects::BEGINS)
                    .with(Effects::ENDS)
                    .with(Effects::ROUTE_DOUBT),
                ..Decision::default()
            }),
            from_client: Framing::default(),
            from_server: Framing::default(),
            ledger: Ledger::default(),
            cycle: Cycle::default(),
            copy: Copy::default(),
            names: Names::default(),
            retry: Retry::default(),
            ended: None,
            events: VecDeque::new(),
            tally: Tally::default(),
        }
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
        self.names.check(&self.ledger)?;
        self.route.check()?;
        self.retry.check()
    }

    /// The next thing that the shell has to do.
    pub fn take_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// What was counted since the last call.
    pub fn tally(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
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

    /// True if the server is, or may be, working on something that the client sent.
    pub fn is_busy(&self) -> bool {
        self.relay_only || !self.ledger.is_empty() || self.cycle.is_open() || self.copy.is_on()
    }

    /// True if nothing is injected and nothing looked into: what passes is the client's affair.
    pub fn is_relay_only(&self) -> bool {
        self.relay_only
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
