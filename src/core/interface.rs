//! What the core and its shell say to each other: what the core asks of the world, how it is told what
//! to do, what it does about the bytes, and what the shell has to do besides.

use std::sync::Arc;

use crate::advice::NotRetried;
use crate::protection::{
    Beginning, ComputingResource, Decision, Encoding, Lexing, Reason, SessionNames,
};
use crate::wire::backend::ErrorFields;

use super::commands::Commands;
use super::queue::Queue;

/// Who has chosen the engine for a session's next statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Steering {
    /// Nobody: it is the one that the session began with.
    None,
    /// Osprey: encrypted data can be read.
    Steered,
    /// Not known; where it matters it is set again.
    Unknown,
    /// The client, who is left alone.
    Client,
}

/// What the core asks of the world outside; every answer is at hand, nothing waits.
pub trait World {
    /// What a statement text does that the server reads so, in a session whose names resolve so.
    /// `whole` is false where only the head of it is in hand.
    fn decide(
        &self,
        text: &[u8],
        whole: bool,
        names: &SessionNames,
        lexing: Lexing,
    ) -> Arc<Decision>;

    /// What is known of all texts that begin so, where the texts are ASCII, and a session's names resolve
    /// so and its texts are read so; `None`: nothing that would help to decide one of them. It holds until
    /// [`World::generation`] changes.
    fn begins(&self, head: &[u8], names: &SessionNames, lexing: Lexing) -> Option<Beginning>;

    /// Changes whenever [`World::decide`] may answer differently.
    fn generation(&self) -> u64;

    /// True if the catalogs have been read since DDL was last seen passing.
    fn knows_the_catalogs(&self) -> bool;

    /// DDL of this session's own was committed, which may change what is protected: what its names
    /// say that it has made and dropped is so for every session by now.
    fn catalog_changed(&self, names: &SessionNames);

    /// True if this database has relations that are known to be protected.
    fn has_protected(&self) -> bool;

    /// True if a fresh session of this database reads encrypted data without any SET.
    fn reads_encrypted_already(&self) -> bool;

    /// True if statements may read MaxCompute data of which it is not known whether HQE can.
    fn may_need_retry(&self) -> bool;

    /// True if the client has asked to cancel the statement that it waits for.
    fn is_cancelled(&self) -> bool;

    /// True if any statement is to be kept that only reads: one of this database has failed of which it was not
    /// known that it reads MaxCompute data.
    fn keeps_all(&self) -> bool;

    /// True if this user is known to be allowed to set the route.
    fn is_proven(&self) -> bool;

    /// True if this upstream takes `DISCARD PLANS`; `None`: nobody has tried.
    fn replans(&self) -> Option<bool>;

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
    /// By what the client has set, encrypted data is read.
    pub client_reads_encrypted: bool,
    /// Osprey had set the route for this statement.
    pub route_was_set: bool,
    /// The encoding in which it is written, and in which the client is told; `None`: that cannot be
    /// told.
    pub encoding: Option<Encoding>,
    /// Where the session's queries run.
    pub computing_resource: Option<ComputingResource>,
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
    /// What would cure it, so that it is worth running again.
    pub cure: Option<Cure>,
}

/// What cures an error, together with a second run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cure {
    /// The route for encrypted data.
    Route,
    /// A setting that the operator lets Osprey make: one SET, for the rest of the session.
    Setting(Arc<str>),
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
    /// Run a write again, too, that failed whole and stood alone.
    pub retry_writes: bool,
    /// Bytes of a statement text that are looked at.
    pub inspect: usize,
    /// Nothing is injected, held back, run again or rewritten: events say what would have been.
    pub observe: bool,
    /// Of which statements [`Event::Statement`] tells.
    pub told: Told,
    /// Relay only: replication, or Hologres' fixed front end.
    pub relay_only: bool,
    /// The client set the route at startup; true: to one by which encrypted data is read.
    pub client_route: Option<bool>,
}

/// Of which statements something is told when they are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Told {
    /// Of none.
    #[default]
    None,
    /// Of those that read what is protected.
    Protected,
    /// Of all.
    All,
}

/// A statement that was sent, or prepared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatementSent {
    /// Its text, or as much of it as was looked at, without the values in it.
    pub text: String,
    /// The W3C trace context that its client put into it.
    pub trace_parent: Option<String>,
    /// It is a Parse: what is bound to it is not told of again.
    pub is_prepared: bool,
    /// Why it is protected.
    pub protected: Option<Arc<Reason>>,
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
    pub(super) fn all(input: &[u8]) -> Self {
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
    /// The upstream was asked to plan anew what it had planned: true if it has done so.
    Replanned(bool),
    /// Our SET failed: SQLSTATE and message.
    SetFailed {
        /// SQLSTATE.
        sqlstate: String,
        /// The server's message.
        message: String,
        /// It hit inside the client's transaction and aborted it.
        aborted_transaction: bool,
    },
    /// Time was up for our SET, by `statement_timeout` or another setting of the server's: what it was for ran
    /// without it.
    SetTimedOut,
    /// A cancel hit our SET: send it upstream once more.
    CancelAgain,
    /// The client set the route itself.
    ClientOwnsRoute,
    /// An error was rewritten.
    ErrorRewritten {
        /// The stable code.
        code: &'static str,
        /// Why the statement was not run again.
        not_retried: Option<NotRetried>,
    },
    /// A cycle is run again.
    Retried {
        /// The stable code of the error that was held back.
        code: &'static str,
        /// What is set in front of it.
        cure: Cure,
        /// It writes.
        writes: bool,
    },
    /// What was run again has ended without an error.
    Cured,
    /// As [`Policy::told`] asks.
    Statement(Box<StatementSent>),
    /// Where sessions are only observed: a statement was sent that would have been steered, for this
    /// reason, or because a comment in it says so.
    WouldSteer(Option<Arc<Reason>>),
    /// Where sessions are only observed: an error passed that would have been rewritten.
    WouldRewrite {
        /// The stable code.
        code: &'static str,
    },
    /// The order of messages is ambiguous from here on: the rest is relayed, nothing injected.
    RelayOnly(&'static str),
}

/// What was counted since it was last taken, see [`super::Core::tally`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Simple queries.
    pub queries: u64,
    /// Executes.
    pub executes: u64,
    /// Cycles ended.
    pub cycles: u64,
    /// What most turns count nothing of.
    pub rare: Option<Rare>,
}

/// What is counted of statements that read MaxCompute's data, and of what Osprey sends itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rare {
    /// Protected ones among the statements.
    pub protected: u32,
    /// Of these, the ones that are by the operator's pattern, and by a lesson.
    pub by_pattern: u32,
    /// See `by_pattern`.
    pub by_lesson: u32,
    /// Those that may read MaxCompute data and are not protected.
    pub foreign: u32,
    /// SETs sent as a simple Query.
    pub set_query: u32,
    /// SETs sent as a cycle of our own.
    pub set_cycle: u32,
    /// SETs sent within a client's pipeline.
    pub set_inline: u32,
    /// Settings put back.
    pub restores: u32,
    /// Proofs sent.
    pub proofs: u32,
    /// Protected statements before which nothing could be sent.
    pub not_steered: u32,
}

impl Tally {
    /// Where what is rare is counted.
    pub(super) fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }
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
