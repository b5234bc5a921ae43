//! Running a statement again on the other engine, after HQE failed on it: what is kept for it, and
//! what the client has of it.
//!
//! What may need it is copied as it passes, and what comes behind a read of MaxCompute waits until
//! that is answered. Outside a transaction the copy is one cycle; within one it begins where the
//! transaction began, since its failure takes all of it away. If HQE fails before a row of the
//! statement has left, the error is held back, the route is set, and the copy is sent. Of its
//! answers, those that the client already has are compared and not sent twice. What the client
//! sees is what it would have seen had the route been right from the start.
//!
//! | phase | an answer | the pangu error | ReadyForQuery |
//! |---|---|---|---|
//! | First | forwarded, and added to what the client has | held back, if that is allowed: Held | forwarded; the end, outside a transaction |
//! | Held | swallowed | swallowed | the second run is sent: Again |
//! | Again, not level | swallowed; compared: level, or Differs | the same | Differs |
//! | Again, level | forwarded | advised about | forwarded; the end |
//! | Differs | swallowed | swallowed | the session is brought back: Undoing, or the first error |
//! | Undoing | swallowed | swallowed | the first error |
//!
//! Level means that all that the client has of the first run has come again.

use crate::advice::NotRetried;
use crate::protection::{Decision, Effects, NameUse};
use crate::wire::Header;
use crate::wire::backend::tag;

use super::interface::Cure;
use super::ledger::Ledger;

mod again;
mod attempt;
mod parameters;
mod statements;

pub(super) use attempt::Answering;
use attempt::{Attempt, Heard, Phase, comparable};

/// What becomes of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Forward,
    Swallow,
    /// The same, of an answer that was compared with the first run's.
    SwallowCompared,
}

/// `duplicate_table` and `duplicate_object`.
const EXISTS: [&[u8]; 2] = [b"42P07", b"42710"];
/// `unique_violation`: of the catalogs, if a table is made. Of a table's rows, it is what it says.
const UNIQUE: &[u8] = b"23505";

/// A statement that does any of this is never run twice.
pub(super) const CHANGES: Effects = Effects::WRITES
    .union(Effects::COPY_IN)
    .union(Effects::ROUTE_DOUBT)
    .union(Effects::SETS_ROUTE)
    .union(Effects::RESETS_ROUTE)
    .union(Effects::RESETS_ALL);

/// What a cycle is: as it was when its end had been sent, or as far as it has been sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    /// What its statements do, together.
    pub(super) effects: Effects,
    /// A write that failed leaves nothing behind, and may be run again.
    pub(super) is_undone: bool,
    /// Messages of the extended protocol are in front of it without a Sync: if one of them fails, the
    /// server skips it.
    pub(super) may_be_skipped: bool,
    /// A transaction may be open behind it.
    pub(super) goes_on: bool,
    /// The route is set behind it.
    pub(super) set: bool,
    /// The route is set for all that is in flight.
    pub(super) steered: bool,
}

impl Sent {
    /// Why it may not be run again, if that is so.
    fn unfit(self) -> Option<NotRetried> {
        if self.set {
            Some(if self.steered {
                NotRetried::RouteWasSet
            } else {
                NotRetried::RouteNotSet
            })
        } else if self.effects.intersects(CHANGES)
            || self.effects.intersects(Effects::UNDONE_WHOLE) && !self.is_undone
        {
            Some(NotRetried::Writes)
        } else if self.effects.intersects(Effects::CALLS_UNKNOWN) {
            Some(NotRetried::UnknownFunction)
        } else {
            None
        }
    }
}

/// What may be run again, and why the rest may not.
#[derive(Debug, Default)]
pub(super) struct Retry {
    attempt: Option<Box<Attempt>>,
    /// Why the present cycle is not one that may be run again.
    refusal: Option<NotRetried>,
    /// Of the present call's input, so many bytes are kept, or need not be.
    kept_to: usize,
    /// Something was run again, and nothing of that has failed so far.
    cures: bool,
}

impl Retry {
    /// A cycle begins within a transaction, or where that is not certain, at this offset of the
    /// present call. `set`: so is the route.
    pub(super) fn go_on(&mut self, set: bool, at: usize) {
        self.kept_to = at;
        match &mut self.attempt {
            Some(attempt) => attempt.recording = true,
            None if set => {}
            None => {
                self.refusal.get_or_insert(NotRetried::InTransaction);
            }
        }
    }

    /// A cycle begins outside a transaction that is not kept: running it again would not help.
    pub(super) fn begin_without(&mut self) {
        self.attempt = None;
        self.refusal = None;
    }

    /// A cycle begins outside a transaction, behind `before` others; `None`: that cannot be told. `whatever`: it
    /// is kept even if it does not seem to read MaxCompute.
    pub(super) fn begin(&mut self, before: Option<usize>, at: usize, whatever: bool) {
        self.begin_without();
        self.kept_to = at;
        match before {
            Some(before) => self.attempt = Some(Box::new(Attempt::new(before, whatever))),
            None => self.refusal = Some(NotRetried::Pipelined),
        }
    }

    /// The call ends that brought bytes from the client: of `sent`, all of it that was dealt with,
    /// what belongs to a cycle that goes on is kept, up to `limit` bytes in all.
    pub(super) fn call_ends(&mut self, sent: &[u8], limit: usize) {
        if self.attempt.as_ref().is_some_and(|it| it.recording) {
            self.keep(sent, limit);
        }
        self.kept_to = 0;
    }

    fn keep(&mut self, sent: &[u8], limit: usize) {
        let bytes = sent.get(self.kept_to..).unwrap_or_default();
        self.kept_to = sent.len();
        let Some(attempt) = &mut self.attempt else {
            return;
        };
        if attempt.frames.len() + bytes.len() > limit {
            self.refuse(NotRetried::TooLarge);
        } else {
            attempt.frames.extend_from_slice(bytes);
        }
    }

    /// A statement is sent that makes or uses cursors and prepared statements: only those cursors
    /// that the second run declares anew stand where they stood.
    pub(super) fn note_names(&mut self, decision: &Decision) {
        let Some(attempt) = &mut self.attempt else {
            return;
        };
        for name in &decision.names {
            match name {
                NameUse::Prepare { name, .. } => {
                    if attempt.statements.replaces(name.as_bytes()) {
                        self.refuse(NotRetried::InTransaction);
                        return;
                    }
                    attempt.prepared.push(name.clone());
                }
                NameUse::Execute(name) => attempt.statements.uses(name.as_bytes()),
                NameUse::Declare(name) => attempt.cursors.push(name.clone()),
                NameUse::Fetch(name) | NameUse::Close(Some(name))
                    if !attempt.cursors.contains(name) =>
                {
                    self.refuse(NotRetried::InTransaction);
                    return;
                }
                _ => {}
            }
        }
    }

    /// A portal is made of a prepared statement.
    pub(super) fn note_bind(&mut self, portal: &[u8], statement: &[u8]) {
        self.note_use(statement);
        if let Some(attempt) = &mut self.attempt
            && !portal.is_empty()
        {
            let portal = String::from_utf8_lossy(portal).into_owned();
            attempt.cursors.push(portal);
        }
    }

    /// A portal is run: one from before, as a cursor WITH HOLD may be, stands elsewhere in a second run.
    pub(super) fn note_execute(&mut self, portal: &[u8]) {
        let Some(attempt) = &self.attempt else {
            return;
        };
        let is_it = |made: &String| made.as_bytes() == portal;
        if !portal.is_empty() && !attempt.cursors.iter().any(is_it) {
            self.refuse(NotRetried::InTransaction);
        }
    }

    /// A prepared statement is described.
    pub(super) fn note_use(&mut self, name: &[u8]) {
        if let Some(attempt) = &mut self.attempt {
            attempt.statements.uses(name);
        }
    }

    /// A prepared statement is parsed, or closed.
    pub(super) fn note_new(&mut self, name: &[u8]) {
        if let Some(attempt) = &mut self.attempt
            && attempt.statements.replaces(name)
        {
            self.refuse(NotRetried::InTransaction);
        }
    }

    /// It will not be run again.
    pub(super) fn refuse(&mut self, why: NotRetried) {
        if self.attempt.take().is_some() {
            self.refusal = Some(why);
        }
    }

    /// A Query is sent behind messages of the extended protocol without a Sync between them, as the last
    /// of so many cycles: if one of those fails, the server skips the Query, too, and the client's Sync
    /// is still to come. It destroys the unnamed statement.
    pub(super) fn end_unsynced(&mut self, cycles: usize) {
        self.note_new(b"");
        if let Some(attempt) = &mut self.attempt {
            attempt.unsynced = cycles;
        }
    }

    /// The end of the cycle was sent, `sent` is the present call's input up to there: only one that
    /// reads MaxCompute, and only reads, is worth holding its successors back. It is only now that
    /// most cycles turn out not to be worth a copy.
    pub(super) fn end(&mut self, cycle: Sent, sent: &[u8], limit: usize) {
        let Some(attempt) = &mut self.attempt else {
            return;
        };
        if !attempt.recording {
            return;
        }
        attempt.recording = false;
        attempt.goes_on = cycle.goes_on;
        attempt.may_have_ended |= cycle.effects.intersects(Effects::ENDS);
        attempt.writes = cycle.effects.intersects(Effects::UNDONE_WHOLE);
        attempt.makes = cycle.effects.intersects(Effects::CHANGES_CATALOG);
        if let Some(why) = cycle.unfit() {
            self.refuse(why);
        } else if attempt.whatever || cycle.effects.intersects(Effects::READS_FOREIGN) {
            if cycle.may_be_skipped {
                // The Sync that the server may be skipping up to must not be held back.
                self.refuse(NotRetried::CycleNotComplete);
            } else {
                attempt.waits = true;
            }
        } else if !cycle.goes_on {
            self.attempt = None;
        }
        self.keep(sent, limit);
    }

    /// Of what comes before it, so many turn out to be no cycles.
    pub(super) fn not_before(&mut self, cycles: usize) {
        if let Some(attempt) = &mut self.attempt {
            attempt.before = attempt.before.saturating_sub(cycles);
        }
    }

    /// True while what comes behind a cycle has to wait for its answer.
    pub(super) fn holds_successors(&self) -> bool {
        self.attempt.as_ref().is_some_and(|attempt| attempt.waits)
    }

    /// True if something is kept.
    pub(super) fn is_on(&self) -> bool {
        self.attempt.is_some()
    }

    /// True if something is kept of which the transaction may be over.
    pub(super) fn may_have_ended(&self) -> bool {
        let ended = |attempt: &Attempt| attempt.may_have_ended;
        self.attempt.as_deref().is_some_and(ended)
    }

    /// True if it has failed, and was, or is about to be, sent again.
    pub(super) fn has_failed(&self) -> bool {
        let failed = |attempt: &Attempt| attempt.phase != Phase::First;
        self.attempt.as_deref().is_some_and(failed)
    }

    /// Why it cannot be run again though it is kept; `None`: it can. `cycles`: so many of the
    /// client's wait for their ReadyForQuery. `present`: the cycle that is being sent.
    pub(super) fn obstacle(&self, cycles: Option<usize>, present: Sent) -> Option<NotRetried> {
        let attempt = self.attempt.as_ref()?;
        let alone = attempt.before == 0 && cycles == Some(usize::from(!attempt.recording));
        if !alone {
            Some(NotRetried::Pipelined)
        } else if let Some(why) = attempt.recording.then(|| present.unfit()).flatten() {
            Some(why)
        } else if attempt.unsynced > 0
            || attempt.recording && present.effects.intersects(Effects::UNDONE_WHOLE)
        {
            Some(NotRetried::CycleNotComplete)
        } else if attempt.row {
            Some(NotRetried::RowsSent)
        } else {
            None
        }
    }

    /// Why the present cycle is not kept.
    pub(super) fn refusal(&self) -> Option<NotRetried> {
        self.refusal
    }

    /// Holds an error back: the cycle will be run again at its ReadyForQuery. True if the client has
    /// not asked for that yet (it may be waiting for the error before it does): then we do.
    pub(super) fn hold(
        &mut self,
        code: &'static str,
        cure: Cure,
        error: Vec<u8>,
        original: &[u8],
    ) -> bool {
        let Some(attempt) = &mut self.attempt else {
            return false;
        };
        attempt.code = code;
        attempt.cure = cure;
        attempt.error = error;
        if attempt.writes {
            attempt.original = original.to_vec();
        }
        attempt.waits = true;
        attempt.phase = Phase::Held;
        attempt.partial = std::mem::take(&mut attempt.recording);
        attempt.partial
    }

    /// The error of the first run, as it came, if it is a write that is run again which fails with
    /// this SQLSTATE: what it makes exists already.
    pub(super) fn left_behind(&mut self, sqlstate: &[u8]) -> Option<Vec<u8>> {
        let attempt = self.attempt.as_mut()?;
        let found = attempt.writes
            && matches!(attempt.phase, Phase::Again(_))
            && (EXISTS.contains(&sqlstate) || attempt.makes && sqlstate == UNIQUE);
        found.then(|| std::mem::take(&mut attempt.original))
    }

    /// An error that another engine would not spare the client: an answer like any other.
    pub(super) fn hear_error(&mut self, body: &[u8]) {
        if let Some(attempt) = &mut self.attempt
            && attempt.before == 0
            && attempt.phase == Phase::First
        {
            attempt.row = false;
            attempt.heard.add(body);
        }
    }

    /// What was kept is run again.
    fn begins_again(&mut self) {
        self.cures = true;
    }

    /// An error came.
    pub(super) fn cures_not(&mut self) {
        self.cures = false;
    }

    /// The cycle that was run again has ended; true if none of it failed.
    #[inline]
    fn take_cure(&mut self) -> bool {
        std::mem::take(&mut self.cures)
    }

    /// An error went to the client that is not answered by running its cycle again.
    pub(super) fn drop_failed(&mut self) {
        if self.attempt.as_ref().is_some_and(|it| it.before == 0) {
            self.attempt = None;
        }
    }

    /// The error of the first run, if that is all that the client can be told: nothing of a second run went
    /// to it, and if it writes, none was begun.
    pub(super) fn take_held_error(&mut self) -> Option<Vec<u8>> {
        let told = |attempt: &Attempt| match attempt.phase {
            Phase::First => false,
            Phase::Held => true,
            Phase::Again(_) | Phase::Differs | Phase::Undoing => {
                !(attempt.writes || attempt.answered)
            }
        };
        let attempt = self.attempt.take_if(|attempt| told(attempt))?;
        Some(attempt.error)
    }

    /// Nothing is kept from here on: the session is relayed.
    pub(super) fn stop(&mut self) {
        self.attempt = None;
    }

    /// What becomes of an answer to the client's cycle.
    pub(super) fn answer(
        &mut self,
        header: Header,
        frame: Option<&[u8]>,
        answering: Answering,
    ) -> Verdict {
        let Some(attempt) = &mut self.attempt else {
            return Verdict::Forward;
        };
        if attempt.before > 0 {
            return Verdict::Forward;
        }
        if attempt.phase != Phase::First && header.tag == tag::COMMAND_COMPLETE {
            attempt.completed_again(frame);
        }
        match attempt.phase {
            Phase::Differs => {
                attempt.done |= attempt.writes && header.tag == tag::COMMAND_COMPLETE;
                Verdict::Swallow
            }
            Phase::Held | Phase::Undoing => Verdict::Swallow,
            Phase::First => {
                if let Some(why) = attempt.hear(header, frame, answering) {
                    self.refuse(why);
                }
                Verdict::Forward
            }
            Phase::Again(_) if attempt.is_level() => {
                attempt.answered = true;
                Verdict::Forward
            }
            Phase::Again(seen) => {
                attempt.compare(seen, &comparable(header, frame.unwrap_or_default()));
                Verdict::SwallowCompared
            }
        }
    }

    /// A ParameterStatus; it may come at any moment, also within a cycle of our own.
    pub(super) fn parameter(&mut self, frame: Option<&[u8]>) -> Verdict {
        let (Some(attempt), Some(frame)) = (&mut self.attempt, frame) else {
            return Verdict::Forward;
        };
        if attempt.phase == Phase::First {
            if !attempt.told.note(frame) {
                self.refuse(NotRetried::TooLarge);
            }
            Verdict::Forward
        } else if attempt.is_level() {
            attempt.told.note(frame);
            attempt.untold.forget(frame);
            Verdict::Forward
        } else if attempt.untold.note(frame) {
            Verdict::Swallow
        } else {
            Verdict::Forward
        }
    }

    /// A NoticeResponse to what the client sent: no part of an answer, since it may be another one in each
    /// run (`QueryID: …`). What the client has of the first run is not sent twice.
    pub(super) fn notice(&mut self, frame: Option<&[u8]>) -> Verdict {
        let Some(attempt) = self.attempt.as_mut().filter(|it| it.before == 0) else {
            return Verdict::Forward;
        };
        match attempt.phase {
            Phase::First => {
                attempt.noticed.note(frame);
                Verdict::Forward
            }
            Phase::Held | Phase::Differs | Phase::Undoing => Verdict::Swallow,
            Phase::Again(_) if attempt.noticed.take(frame) => Verdict::Swallow,
            Phase::Again(_) => Verdict::Forward,
        }
    }

    /// A cycle is complete or comes behind others; an error is held back in a phase that has one.
    /// What holds its successors back is answered yet.
    pub(super) fn check(&self, ledger: &Ledger) -> Result<(), String> {
        let Some(attempt) = &self.attempt else {
            return Ok(());
        };
        let failed = attempt.phase != Phase::First;
        let awaited = attempt.before + usize::from(attempt.waits && !attempt.recording);
        let rules = [
            (
                !failed || attempt.before == 0,
                "what is run again is what is being answered",
            ),
            (
                !failed || attempt.waits,
                "what is run again holds its successors back",
            ),
            (
                !failed || !attempt.recording,
                "what is run again is not added to",
            ),
            (
                !failed || !attempt.error.is_empty(),
                "what is run again has its first error",
            ),
            (
                failed || ledger.cycles().is_none_or(|cycles| awaited <= cycles),
                "what is waited for is in flight",
            ),
            (
                !attempt.partial || failed,
                "only what has failed can be in part",
            ),
        ];
        super::check::all("what may be run again", rules, &attempt.phase)
    }
}
