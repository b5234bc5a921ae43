//! The second run: ROLLBACK of what failed, SET of the route, the kept cycles; and the way back, if
//! the second run answers differently than the first.

use crate::advice::NotRetried;
use crate::wire::backend::{ErrorFields, Status, tag};
use crate::wire::{HEADER, Header, compose, frontend};

use super::super::backend::Fate;
use super::super::ledger::{Expect, Own};
use super::super::route::State;
use super::super::{Core, Event, Outbox, World};
use super::{Attempt, Phase, Verdict};

/// A cancel that the client asked for (or a timeout) is what it is told of.
const QUERY_CANCELED: &[u8] = b"57014";

impl Core {
    /// An ErrorResponse to the client's cycle while something is run again: what becomes of it;
    /// `None`: it is looked at like any other.
    pub(in super::super) fn error_again(&mut self, body: &[u8], out: &mut Outbox) -> Option<Fate> {
        let attempt = self.attempt.as_mut()?;
        match attempt.phase {
            Phase::First => return None,
            Phase::Again(seen) if seen == attempt.heard => return None,
            Phase::Again(mut seen) => {
                if ErrorFields::new(body).sqlstate() == QUERY_CANCELED {
                    attempt.error.clear();
                    compose::frame(&mut attempt.error, tag::ERROR, |out| {
                        out.extend_from_slice(body);
                    });
                    attempt.code = "";
                }
                seen.add(body);
                attempt.compared(seen);
                self.failed(out);
                if !self.skips_to_the_clients_sync() {
                    self.partly_compared(out);
                    return Some(Fate::Drop);
                }
            }
            Phase::Held | Phase::Differs | Phase::Undoing => self.failed(out),
        }
        Some(if self.skips_to_the_clients_sync() {
            self.deliver_first(&[])
        } else {
            Fate::Drop
        })
    }

    /// After an error in a second run that differs: true if the server is where the client has it,
    /// before a Sync that is still to be sent.
    fn skips_to_the_clients_sync(&self) -> bool {
        let differs = |attempt: &Attempt| attempt.partial && attempt.phase == Phase::Differs;
        self.skipping && self.attempt.as_deref().is_some_and(differs)
    }

    /// An answer of the second run of a cycle whose end the client has not sent yet was compared.
    pub(super) fn partly_compared(&mut self, out: &mut Outbox) {
        let Some(attempt) = &self.attempt else {
            return;
        };
        if !attempt.partial {
            return;
        }
        match attempt.phase {
            Phase::Again(seen) if seen == attempt.heard => {
                // The rest of the cycle follows.
                self.come_true(out);
                self.refusal = Some(NotRetried::FailedAgain);
            }
            Phase::Differs => {
                // To the client, the server skips up to its Sync: make it so.
                out.to_server.own(self.policy.commands.stumble.clone());
                self.ledger.push(Expect::OwnStumble);
            }
            _ => {}
        }
    }

    /// All that the client has of the first run came again: from here on the second one is all there
    /// is.
    fn come_true(&mut self, out: &mut Outbox) {
        if let Some(attempt) = self.attempt.take() {
            let news = attempt.untold.beyond(&attempt.told);
            out.to_client.own(news.into());
        }
    }

    /// A ReadyForQuery of the client's, which [`Core::status`] already says.
    pub(in super::super) fn attempt_ready(
        &mut self,
        header: Header,
        frame: &[u8],
        world: &impl World,
        out: &mut Outbox,
    ) -> Fate {
        let last = !self.open && self.ledger.is_empty();
        let Some(attempt) = &mut self.attempt else {
            return Fate::Forward;
        };
        if attempt.before > 0 {
            attempt.before -= 1;
            return Fate::Forward;
        }
        if attempt.phase == Phase::Held {
            self.run_again(world, out);
            return Fate::Drop;
        }
        let again = attempt.phase != Phase::First;
        if again && last {
            return match attempt.phase {
                Phase::Again(seen) if seen == attempt.heard => {
                    self.come_true(out);
                    Fate::Forward
                }
                _ => self.undo(frame, out),
            };
        }
        if self.answer(header, Some(frame), out) == Verdict::Swallow {
            return Fate::Drop;
        }
        if let Some(attempt) = &mut self.attempt
            && last
        {
            attempt.waits = false;
            if self.status == Status::Idle {
                self.attempt = None;
            } else if self.status == Status::Failed {
                self.refuse_attempt(NotRetried::InTransaction);
            }
        }
        Fate::Forward
    }

    /// The ReadyForQuery behind the error that is held back has come.
    pub(in super::super) fn run_again(&mut self, world: &impl World, out: &mut Outbox) {
        let Some(mut attempt) = self.attempt.take() else {
            return;
        };
        self.events.push_back(Event::Retried { code: attempt.code });
        attempt.status = self.status;
        if self.status != Status::Idle {
            // What is run again opened this transaction, and it is failed.
            self.send_own(Own::Rollback, out);
        }
        self.send_own(Own::Set, out);
        self.route.changed(State::Set, false);
        self.tally.set_cycle += 1;
        self.status = Status::Idle;

        let counted = self.tally;
        let frames = std::mem::take(&mut attempt.frames);
        let mut sent = Vec::with_capacity(frames.len());
        let mut rest = frames.as_slice();
        let mut parsed = attempt.parsed;
        while let Ok(Some(header)) = Header::read(rest) {
            let (frame, behind) = rest.split_at(header.frame.min(rest.len()));
            rest = behind;
            if header.tag == frontend::tag::PARSE
                && parsed > 0
                && let Some(parse) = frontend::Parse::read(&frame[HEADER..])
            {
                // A prepared statement outlives the failure of its transaction.
                parsed -= 1;
                compose::close_statement(&mut sent, parse.name);
                self.ledger.push(Expect::OwnClose);
            }
            sent.extend_from_slice(frame);
            self.note_again(header, frame, world);
        }
        if attempt.partial {
            // Otherwise the server keeps to itself what is to be compared.
            compose::flush(&mut sent);
        }
        out.to_server.own(sent.into());
        // A statement counts once, however often it runs.
        self.tally = counted;
        attempt.phase = Phase::Again(super::Heard::default());
        self.attempt = Some(attempt);
        self.partly_compared(out);
    }

    pub(super) fn send_own(&mut self, own: Own, out: &mut Outbox) {
        let cycle = self.policy.commands.cycle(own).clone();
        out.to_server.own(cycle);
        self.ledger.push(Expect::OwnCycle(own));
    }

    /// The second run ended otherwise than what the client has of the first: it gets the error of
    /// the first, in the transaction status that belongs to it.
    fn undo(&mut self, ready: &[u8], out: &mut Outbox) -> Fate {
        let Some(attempt) = &mut self.attempt else {
            return Fate::Forward;
        };
        let way_back = match (attempt.status, self.status) {
            (Status::Idle, Status::Transaction | Status::Failed) => Own::Rollback,
            (Status::Failed, Status::Transaction) => Own::Fail,
            (Status::Failed, Status::Idle) => Own::BeginAndFail,
            _ => return self.deliver_first(ready),
        };
        attempt.phase = Phase::Undoing;
        self.send_own(way_back, out);
        Fate::Drop
    }

    /// True if the end of a cycle of our own completes what [`Core::undo`] began.
    pub(in super::super) fn is_undoing(&self) -> bool {
        self.attempt
            .as_ref()
            .is_some_and(|attempt| attempt.phase == Phase::Undoing)
    }

    /// The error of the first run, and the ReadyForQuery behind it.
    pub(in super::super) fn deliver_first(&mut self, ready: &[u8]) -> Fate {
        let Some(attempt) = self.attempt.take() else {
            return Fate::Forward;
        };
        let Attempt {
            mut error,
            code,
            told,
            untold,
            ..
        } = *attempt;
        if !code.is_empty() {
            self.events.push_back(Event::ErrorRewritten {
                code,
                not_retried: Some(NotRetried::AnsweredDifferently),
            });
        }
        error.extend(untold.beyond(&told));
        error.extend_from_slice(ready);
        Fate::Replace(error)
    }
}
