//! Running a cycle again on the other engine, after HQE failed on it.
//!
//! A cycle that may need it is copied as it passes, and what comes behind it waits until it is
//! answered. If HQE fails before a row has left, the error is held back, the route is set, and the
//! copy is sent; of its answers, those that the client already has are not sent twice. What the
//! client sees is what it would have seen had the route been right from the start.

use std::hash::BuildHasher;

use crate::protection::Effects;
use crate::wire::backend::{Status, tag};
use crate::wire::{Header, compose, frontend};

use super::ledger::{Expect, Own};
use super::route::State;
use super::steer::Sending;
use super::{Core, Event, Outbox, World};
use crate::advice::NotRetried;

#[derive(Debug)]
enum Phase {
    /// The cycle is on its way, and was not answered in full.
    First,
    /// HQE failed: this is the error, rewritten; all is swallowed up to ReadyForQuery.
    Held,
    /// The cycle was sent again; this many of the frames that the client has came again.
    Again(usize),
    /// The second run answers differently than the first: the error is sent after all.
    Differs,
}

/// A cycle that may be run again.
#[derive(Debug)]
pub(super) struct Attempt {
    /// The cycle's frames, as the client sent them.
    frames: Vec<u8>,
    /// Query or Sync was sent.
    ended: bool,
    /// What the client has got of the first run: type and hash.
    delivered: Vec<(u8, u64)>,
    /// The error of the first run, rewritten.
    error: Vec<u8>,
    code: &'static str,
    phase: Phase,
}

/// What becomes of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Forward,
    Swallow,
}

/// A statement that does any of this is never run twice.
const NEVER_AGAIN: Effects = Effects::WRITES
    .with(Effects::CALLS_UNKNOWN)
    .with(Effects::COPY_IN)
    .with(Effects::ROUTE_DOUBT)
    .with(Effects::SETS_ROUTE)
    .with(Effects::RESETS_ROUTE)
    .with(Effects::RESETS_ALL);

fn hash(frame: &[u8]) -> u64 {
    foldhash::fast::FixedState::default().hash_one(frame)
}

/// Frames that may come at any moment: they are not part of a cycle's answer.
fn is_asynchronous(tag: u8) -> bool {
    matches!(tag, tag::NOTICE | tag::NOTIFICATION | tag::PARAMETER_STATUS)
}

impl Core {
    /// A cycle begins: is it one that might be run again?
    pub(super) fn begin_attempt(&mut self, world: &impl World) {
        self.refusal = None;
        if self.attempt.is_some()
            || self.policy.retry_buffer.is_none()
            || !self.ledger.is_empty()
            || self.cycle_sending != Sending::Idle
            || self.route.state == State::Set
            || self.route.client_owns
            || self.route.disabled
            || !world.may_need_retry()
        {
            return;
        }
        self.attempt = Some(Box::new(Attempt {
            frames: Vec::new(),
            ended: false,
            delivered: Vec::new(),
            error: Vec::new(),
            code: "",
            phase: Phase::First,
        }));
    }

    /// Keeps a copy of what is sent.
    pub(super) fn record(&mut self, bytes: &[u8]) {
        let limit = self.policy.retry_buffer.unwrap_or_default();
        let Some(attempt) = &mut self.attempt else {
            return;
        };
        if attempt.ended {
            return;
        }
        if attempt.frames.len() + bytes.len() > limit {
            self.refuse_attempt(NotRetried::TooLarge);
        } else {
            attempt.frames.extend_from_slice(bytes);
        }
    }

    /// The cycle will not be run again.
    pub(super) fn refuse_attempt(&mut self, why: NotRetried) {
        if self.attempt.take().is_some() {
            self.refusal = Some(why);
        }
    }

    /// The end of the cycle was sent: only one that reads MaxCompute, and only reads, is worth
    /// holding its successors back.
    pub(super) fn end_attempt(&mut self) {
        let Some(attempt) = &mut self.attempt else {
            return;
        };
        if attempt.ended {
            return;
        }
        attempt.ended = true;
        if self.route.state == State::Set {
            self.refuse_attempt(NotRetried::RouteWasSet);
        } else if !self.cycle_effects.has(Effects::READS_FOREIGN) {
            self.attempt = None;
        } else if self.cycle_effects.has(NEVER_AGAIN) {
            self.refuse_attempt(NotRetried::Writes);
        }
    }

    /// True while what comes behind a cycle has to wait for its answer.
    pub(super) fn holds_successors(&self) -> bool {
        self.attempt.as_ref().is_some_and(|attempt| attempt.ended)
    }

    /// Why an error of the present cycle is not answered by running it again; `None`: it can be.
    pub(super) fn why_not_again(&self) -> Option<NotRetried> {
        match &self.attempt {
            Some(attempt) => match attempt.phase {
                Phase::First if attempt.ended => None,
                Phase::First => Some(NotRetried::CycleNotComplete),
                _ => Some(NotRetried::FailedAgain),
            },
            None if self.policy.retry_buffer.is_none() => Some(NotRetried::SwitchedOff),
            None if self.route.client_owns => Some(NotRetried::ClientSetRoute),
            None if self.route.disabled => Some(NotRetried::RouteNotSet),
            None if self.refusal.is_some() => self.refusal,
            None if self.route.state == State::Set => Some(NotRetried::RouteWasSet),
            None if self.status != Status::Idle => Some(NotRetried::InTransaction),
            None => Some(NotRetried::Writes),
        }
    }

    /// Holds an error back: the cycle will be run again at its ReadyForQuery.
    pub(super) fn hold(&mut self, code: &'static str, error: Vec<u8>) {
        if let Some(attempt) = &mut self.attempt {
            attempt.code = code;
            attempt.error = error;
            attempt.phase = Phase::Held;
        }
    }

    /// What becomes of an answer to the client's cycle while it may be, or was, run again.
    pub(super) fn answer(&mut self, header: Header, frame: Option<&[u8]>) -> Verdict {
        let Some(attempt) = &mut self.attempt else {
            return Verdict::Forward;
        };
        if is_asynchronous(header.tag) {
            return Verdict::Forward;
        }
        match &mut attempt.phase {
            Phase::Held | Phase::Differs => Verdict::Swallow,
            Phase::First => {
                if header.tag == tag::DATA_ROW || header.tag == tag::COPY_DATA {
                    self.refuse_attempt(NotRetried::RowsSent);
                } else if let Some(frame) = frame {
                    attempt.delivered.push((header.tag, hash(frame)));
                } else {
                    self.refuse_attempt(NotRetried::TooLarge);
                }
                Verdict::Forward
            }
            Phase::Again(seen) => {
                let Some(&(tag, known)) = attempt.delivered.get(*seen) else {
                    return Verdict::Forward;
                };
                if header.tag == tag && frame.is_some_and(|frame| hash(frame) == known) {
                    *seen += 1;
                } else {
                    attempt.phase = Phase::Differs;
                }
                Verdict::Swallow
            }
        }
    }

    /// True if everything up to the cycle's ReadyForQuery is swallowed.
    pub(super) fn swallows(&self) -> bool {
        self.attempt
            .as_ref()
            .is_some_and(|attempt| matches!(attempt.phase, Phase::Held | Phase::Differs))
    }

    /// True if answers have to be seen whole: they are compared.
    pub(super) fn compares(&self) -> bool {
        self.attempt.is_some()
    }

    /// The cycle's ReadyForQuery. Returns true if it is not for the client: the cycle runs again.
    pub(super) fn attempt_ready(&mut self, world: &impl World, out: &mut Outbox) -> bool {
        let Some(attempt) = self.attempt.take() else {
            return false;
        };
        match attempt.phase {
            Phase::Held => {
                self.run_again(attempt, world, out);
                true
            }
            Phase::Differs => {
                self.events.push_back(Event::ErrorRewritten {
                    code: attempt.code,
                    not_retried: Some(NotRetried::DescribedDifferently),
                });
                out.to_client.own(attempt.error.into());
                false
            }
            Phase::First | Phase::Again(_) => false,
        }
    }

    fn run_again(&mut self, mut attempt: Box<Attempt>, world: &impl World, out: &mut Outbox) {
        self.events.push_back(Event::Retried { code: attempt.code });
        if self.status != Status::Idle {
            // The cycle itself opened this transaction, and it is failed.
            out.to_server
                .own(self.policy.commands.rollback.cycle.clone());
            self.ledger.push(Expect::OwnCycle(Own::Rollback));
        }
        out.to_server.own(self.policy.commands.set.cycle.clone());
        self.ledger.push(Expect::OwnCycle(Own::Set));
        self.route.changed(State::Set, false);
        self.tally.set_cycle += 1;
        self.status = Status::Idle;

        let counted = self.tally;
        let frames = std::mem::take(&mut attempt.frames);
        let mut again = Vec::with_capacity(frames.len());
        let mut rest = frames.as_slice();
        let delivered = attempt.delivered.iter();
        let mut parsed = delivered
            .filter(|(tag, _)| *tag == tag::PARSE_COMPLETE)
            .count();
        while let Ok(Some(header)) = Header::read(rest) {
            let (frame, behind) = rest.split_at(header.frame.min(rest.len()));
            rest = behind;
            if header.tag == frontend::tag::PARSE
                && parsed > 0
                && let Some(parse) = frontend::Parse::read(&frame[crate::wire::HEADER..])
            {
                // A prepared statement outlives the failure of its cycle.
                parsed -= 1;
                compose::close_statement(&mut again, parse.name);
                self.ledger.push(Expect::OwnClose);
            }
            again.extend_from_slice(frame);
            self.note_again(header, frame, world);
        }
        out.to_server.own(again.into());
        // A statement counts once, however often it runs.
        self.tally = counted;
        attempt.phase = Phase::Again(0);
        self.attempt = Some(attempt);
    }
}
