//! Running a statement again on the other engine, after HQE failed on it: which cycles are kept for
//! it, and when it may be done. The second run itself is in `again`.
//!
//! What may need it is copied as it passes, and what comes behind a read of MaxCompute waits until
//! that is answered. Outside a transaction the copy is one cycle; within one it begins where the
//! transaction began, since its failure takes all of it away. If HQE fails before a row of the
//! statement has left, the error is held back, the route is set, and the copy is sent. Of its
//! answers, those that the client already has are compared and not sent twice. What the client
//! sees is what it would have seen had the route been right from the start.

use std::hash::BuildHasher;

use crate::advice::NotRetried;
use crate::protection::{Decision, Effects, NameUse};
use crate::wire::Header;
use crate::wire::backend::{Status, tag};

use super::ledger::{Expect, Own};
use super::route::State;
use super::steer::Sending;
use super::{Core, Outbox, World};

mod again;
mod parameters;

use parameters::Parameters;

/// Bytes of answers, within one transaction, that are worth comparing with those of a second run.
const COMPARED: usize = 4 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It is on its way, and was not answered in full.
    First,
    /// HQE failed; all is swallowed up to ReadyForQuery.
    Held,
    /// It was sent again; this much of what the client has came again.
    Again(Heard),
    /// The second run answers differently than the first; all is swallowed up to its end.
    Differs,
    /// The session is brought back to where the error of the first run had left it.
    Undoing,
}

/// What was answered: how many frames, and a hash over them in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Heard {
    frames: usize,
    hash: u64,
}

impl Heard {
    fn add(&mut self, frame: &[u8]) {
        self.frames += 1;
        self.hash = foldhash::fast::FixedState::default().hash_one((self.hash, frame));
    }
}

/// What may be run again.
#[derive(Debug)]
pub(super) struct Attempt {
    /// The frames of its cycles, as the client sent them.
    frames: Vec<u8>,
    /// The present cycle has not been sent in full.
    recording: bool,
    /// It had not been sent in full when it failed: the rest follows the second run.
    partial: bool,
    /// What comes behind has to wait for the answer.
    waits: bool,
    /// It will, or may, go on after the present cycle: there is a transaction.
    goes_on: bool,
    /// ReadyForQuery of so many earlier cycles come first.
    before: usize,
    /// What the client has got of the first run.
    heard: Heard,
    heard_bytes: usize,
    /// ParseComplete among it: these statements outlive the transaction.
    parsed: usize,
    /// Rows of the statement that is being answered were sent.
    row: bool,
    /// ParameterStatus that the client has got since it began, and those kept from it since it
    /// failed.
    told: Parameters,
    untold: Parameters,
    /// Cursors declared within it.
    cursors: Vec<String>,
    /// The error of the first run, rewritten.
    error: Vec<u8>,
    code: &'static str,
    /// In which the error of the first run left the session.
    status: Status,
    phase: Phase,
}

impl Attempt {
    /// One more answer of the second run came.
    fn compared(&mut self, seen: Heard) {
        let same = seen == self.heard || seen.frames < self.heard.frames;
        self.phase = if same {
            Phase::Again(seen)
        } else {
            Phase::Differs
        };
    }
}

/// What becomes of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Forward,
    Swallow,
}

/// A statement that does any of this is never run twice.
const CHANGES: Effects = Effects::WRITES
    .with(Effects::COPY_IN)
    .with(Effects::ROUTE_DOUBT)
    .with(Effects::SETS_ROUTE)
    .with(Effects::RESETS_ROUTE)
    .with(Effects::RESETS_ALL);

impl Core {
    /// A cycle begins: is it one that might be run again?
    pub(super) fn begin_attempt(&mut self, world: &impl World) {
        if self.cycle_sending != Sending::Idle {
            match &mut self.attempt {
                Some(attempt) => attempt.recording = true,
                None if self.route.state == State::Set => {}
                None => {
                    self.refusal.get_or_insert(NotRetried::InTransaction);
                }
            }
            return;
        }
        self.attempt = None;
        self.refusal = None;
        if !self.may_attempt(world) {
            return;
        }
        let Some(before) = self.ledger.cycles() else {
            self.refusal = Some(NotRetried::Pipelined);
            return;
        };
        self.attempt = Some(Box::new(Attempt {
            frames: Vec::new(),
            recording: true,
            partial: false,
            waits: false,
            goes_on: false,
            before,
            heard: Heard::default(),
            heard_bytes: 0,
            parsed: 0,
            row: false,
            told: Parameters::default(),
            untold: Parameters::default(),
            cursors: Vec::new(),
            error: Vec::new(),
            code: "",
            status: Status::Idle,
            phase: Phase::First,
        }));
    }

    /// True if running something again is allowed and would help.
    pub(super) fn may_attempt(&self, world: &impl World) -> bool {
        self.policy.retry_buffer.is_some()
            && self.route.state != State::Set
            && !self.route.client_owns
            && !self.route.disabled
            && world.may_need_retry()
    }

    /// Keeps a copy of what is sent.
    pub(super) fn record(&mut self, bytes: &[u8]) {
        let limit = self.policy.retry_buffer.unwrap_or_default();
        let Some(attempt) = &mut self.attempt else {
            return;
        };
        if !attempt.recording {
            return;
        }
        if attempt.frames.len() + bytes.len() > limit {
            self.refuse_attempt(NotRetried::TooLarge);
        } else {
            attempt.frames.extend_from_slice(bytes);
        }
    }

    /// A statement is sent that makes or uses cursors: only those that the second run declares
    /// anew stand where they stood.
    pub(super) fn note_cursors(&mut self, decision: &Decision) {
        let Some(attempt) = &mut self.attempt else {
            return;
        };
        for name in &decision.names {
            match name {
                NameUse::Declare(name) => attempt.cursors.push(name.clone()),
                NameUse::Fetch(name) | NameUse::Close(Some(name))
                    if !attempt.cursors.contains(name) =>
                {
                    self.refuse_attempt(NotRetried::InTransaction);
                    return;
                }
                _ => {}
            }
        }
    }

    /// It will not be run again.
    pub(super) fn refuse_attempt(&mut self, why: NotRetried) {
        if self.attempt.take().is_some() {
            self.refusal = Some(why);
        }
    }

    /// The end of the cycle was sent: only one that reads MaxCompute, and only reads, is worth
    /// holding its successors back.
    pub(super) fn end_attempt(&mut self) {
        let goes_on = self.may_go_on();
        let steered = self.route.state == State::Set && self.ledger.is_steered();
        let Some(attempt) = &mut self.attempt else {
            return;
        };
        if !attempt.recording {
            return;
        }
        attempt.recording = false;
        attempt.goes_on = goes_on;
        if steered {
            self.refuse_attempt(NotRetried::RouteWasSet);
        } else if self.route.state == State::Set {
            self.refuse_attempt(NotRetried::RouteNotSet);
        } else if self.cycle_effects.has(CHANGES) {
            self.refuse_attempt(NotRetried::Writes);
        } else if self.cycle_effects.has(Effects::CALLS_UNKNOWN) {
            self.refuse_attempt(NotRetried::UnknownFunction);
        } else if self.cycle_effects.has(Effects::READS_FOREIGN) {
            attempt.waits = true;
        } else if !goes_on {
            self.attempt = None;
        }
    }

    /// True if a transaction may be open behind the present cycle.
    fn may_go_on(&self) -> bool {
        self.cycle_sending != Sending::Idle || self.cycle_effects.has(Effects::BEGINS)
    }

    /// True if the statement that is being answered is not the last of its cycle.
    fn more_in_cycle(&self) -> bool {
        match self.ledger.front() {
            Some(Expect::Query(sent)) => sent.decision.effects.has(Effects::MULTIPLE),
            Some(Expect::Execute(_)) => {
                let next = self.ledger.iter().nth(1);
                !matches!(next, Some(Expect::Sync))
            }
            _ => true,
        }
    }

    /// True while what comes behind a cycle has to wait for its answer.
    pub(super) fn holds_successors(&self) -> bool {
        self.attempt.as_ref().is_some_and(|attempt| attempt.waits)
    }

    /// Why an error of the present cycle is not answered by running it again; `None`: it can be.
    pub(super) fn why_not_again(&self) -> Option<NotRetried> {
        let steered = self.front_is_steered();
        match &self.attempt {
            Some(attempt) if attempt.phase != Phase::First => Some(NotRetried::FailedAgain),
            _ if steered => Some(NotRetried::RouteWasSet),
            // A message of which only a part was sent can be followed by nothing but its rest.
            Some(_) if self.frontend_left > 0 => Some(NotRetried::CycleNotComplete),
            Some(attempt)
                if attempt.before > 0
                    || self.ledger.cycles() != Some(usize::from(!attempt.recording)) =>
            {
                Some(NotRetried::Pipelined)
            }
            Some(attempt) if attempt.row => Some(NotRetried::RowsSent),
            Some(_) => None,
            None if self.policy.retry_buffer.is_none() => Some(NotRetried::SwitchedOff),
            None if self.route.client_owns => Some(NotRetried::ClientSetRoute),
            None if self.route.disabled => Some(NotRetried::RouteNotSet),
            // What was set for an earlier cycle may be undone by now.
            None if self.refusal == Some(NotRetried::RouteWasSet) => Some(NotRetried::RouteNotSet),
            None if self.refusal.is_some() => self.refusal,
            None => Some(NotRetried::Writes),
        }
    }

    /// True if the route was set, by all that was sent in front of it, for the statement that is
    /// being answered.
    pub(super) fn front_is_steered(&self) -> bool {
        let sent = self.ledger.front().and_then(Expect::sent);
        sent.is_some_and(|sent| sent.steered)
    }

    /// Holds an error back: the cycle will be run again at its ReadyForQuery. If the client has not
    /// asked for that yet (it may be waiting for the error before it does), we do.
    pub(super) fn hold(&mut self, code: &'static str, error: Vec<u8>, out: &mut Outbox) {
        let Some(attempt) = &mut self.attempt else {
            return;
        };
        attempt.code = code;
        attempt.error = error;
        attempt.waits = true;
        attempt.phase = Phase::Held;
        attempt.partial = std::mem::take(&mut attempt.recording);
        if attempt.partial {
            self.skipping = false;
            self.send_own(Own::Sync, out);
        }
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

    /// An error went to the client that is not answered by running its cycle again.
    pub(super) fn drop_attempt(&mut self) {
        if self
            .attempt
            .as_ref()
            .is_some_and(|attempt| attempt.before == 0)
        {
            self.attempt = None;
        }
    }

    /// What becomes of an answer to the client's cycle while it may be, or was, run again.
    pub(super) fn answer(
        &mut self,
        header: Header,
        frame: Option<&[u8]>,
        out: &mut Outbox,
    ) -> Verdict {
        if self.attempt.is_none() {
            return Verdict::Forward;
        }
        let more = self.may_go_on() || self.more_in_cycle();
        let Some(attempt) = &mut self.attempt else {
            return Verdict::Forward;
        };
        if attempt.before > 0 {
            return Verdict::Forward;
        }
        match attempt.phase {
            Phase::Held | Phase::Differs | Phase::Undoing => Verdict::Swallow,
            Phase::First => {
                match header.tag {
                    tag::DATA_ROW | tag::COPY_DATA => attempt.row = true,
                    tag::COMMAND_COMPLETE | tag::PORTAL_SUSPENDED => attempt.row = false,
                    tag::PARSE_COMPLETE => attempt.parsed += 1,
                    _ => {}
                }
                attempt.heard_bytes += header.frame;
                if attempt.row && !attempt.goes_on && !more {
                    self.refuse_attempt(NotRetried::RowsSent);
                } else if attempt.heard_bytes > COMPARED {
                    self.refuse_attempt(NotRetried::TooLarge);
                } else if let Some(frame) = frame {
                    attempt.heard.add(frame);
                } else {
                    self.refuse_attempt(NotRetried::TooLarge);
                }
                Verdict::Forward
            }
            Phase::Again(seen) if seen == attempt.heard => Verdict::Forward,
            Phase::Again(mut seen) => {
                seen.add(frame.unwrap_or_default());
                attempt.compared(seen);
                self.partly_compared(out);
                Verdict::Swallow
            }
        }
    }

    /// True if answers have to be seen whole: they are compared.
    pub(super) fn compares(&self) -> bool {
        self.attempt.is_some()
    }
}
