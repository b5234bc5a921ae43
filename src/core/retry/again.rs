//! What the core does about what may be run again: which cycles are kept, why an error is not
//! answered by a second run, the second run (ROLLBACK of what failed, SET of the route, the kept
//! cycles), and the way back, if that answers differently than the first.

use crate::advice::NotRetried;
use crate::protection::{Decision, Effects};
use crate::wire::backend::{ErrorFields, Status, tag};
use crate::wire::{HEADER, Header, compose, frontend};

use super::super::Core;
use super::super::backend::Fate;
use super::super::commands::Commands;
use super::super::cycle::Sending;
use super::super::interface::{Cure, Event, Outbox, World};
use super::super::ledger::{Expect, Own, QUERY_CANCELED};
use super::super::route::State;
use super::{Answering, Attempt, CHANGES, Heard, Phase, Sent, Verdict};

/// What a client is told of a write that has taken effect in its second run, whose answer does not go on
/// with what the client has of the first.
const DONE: [(u8, &str); 6] = [
    (b'S', "ERROR"),
    (b'V', "ERROR"),
    (b'C', "XX000"),
    (
        b'M',
        "This statement has taken effect, and only its answer is lost. Do not run it again before you \
         have looked at what it has written.",
    ),
    (
        b'D',
        "Hologres failed on encrypted data, Osprey ran the statement again on the engine that can read \
         it, and the answer was another one than the client had the beginning of.",
    ),
    (b'R', "osprey"),
];

impl Core {
    /// A cycle begins at this offset within the present call: is it one that might be run again?
    /// `alone`: it is known in full, and is not worth it.
    pub(in super::super) fn begin_attempt(&mut self, alone: bool, at: usize, world: &impl World) {
        if self.cycle.began_in() == Sending::Idle && !alone && self.may_attempt(world) {
            let cycles = self.ledger.cycles();
            self.retry.begin(cycles, at, world.keeps_all());
        } else {
            self.keep_nothing(at);
        }
    }

    /// A cycle begins at this offset within the present call of which nothing is kept, unless that goes
    /// on with a transaction that is.
    pub(in super::super) fn keep_nothing(&mut self, at: usize) {
        if self.cycle.began_in() == Sending::Idle {
            self.retry.begin_without();
        } else {
            self.retry.go_on(self.route.state() == State::Set, at);
        }
    }

    /// True if running something again is allowed and would help. In statement scope the route that is set
    /// now may be put back in front of what is sent.
    pub(in super::super) fn may_attempt(&self, world: &impl World) -> bool {
        self.policy.retry_buffer.is_some()
            && (self.route.state() != State::Set || self.policy.per_statement)
            && self.route_is_ours(world)
            && world.may_need_retry()
    }

    /// The end of the cycle was sent; `sent` is the present call's input up to there.
    pub(in super::super) fn end_attempt(&mut self, sent: &[u8]) {
        if self.retry.is_on() {
            let cycle = self.sent_so_far();
            self.retry.end(cycle, sent, self.retry_limit());
        }
    }

    /// What the present cycle is.
    fn sent_so_far(&self) -> Sent {
        let set = self.route.state() == State::Set;
        let goes_on = self.may_go_on();
        Sent {
            effects: self.cycle.effects(),
            is_undone: self.policy.retry_writes && !goes_on && self.cycle.runs_one(),
            may_be_skipped: self.cycle.is_unsynced(),
            goes_on,
            // In statement scope it may be put back by what comes behind.
            set: set && !(goes_on && self.policy.per_statement),
            steered: set && self.ledger.is_steered(),
        }
    }

    /// True if a transaction may be open behind the present cycle.
    fn may_go_on(&self) -> bool {
        self.cycle.began_in() != Sending::Idle || self.cycle.effects().intersects(Effects::BEGINS)
    }

    /// True if the statement that is being answered is not the last of its cycle.
    fn more_in_cycle(&self) -> bool {
        match self.ledger.front() {
            Some(Expect::Query(sent)) => sent.decision.effects.intersects(Effects::MULTIPLE),
            Some(Expect::Execute(_)) => {
                let next = self.ledger.iter().nth(1);
                !matches!(next, Some(Expect::Sync))
            }
            _ => true,
        }
    }

    /// Why an error of the present cycle is not answered by running it again; `None`: it can be.
    pub(in super::super) fn why_not_again(&self) -> Option<NotRetried> {
        if self.retry.has_failed() {
            return Some(NotRetried::FailedAgain);
        }
        if self.front_is_steered() {
            return Some(NotRetried::RouteWasSet);
        }
        if !self.retry.is_on() && self.front_undoes_route() {
            return Some(NotRetried::RouteUndone);
        }
        if self.retry.is_on() {
            // A message of which only a part was sent can be followed by nothing but its rest.
            let cut = self.from_client.is_mid_message();
            return if cut {
                Some(NotRetried::CycleNotComplete)
            } else {
                let cycles = self.ledger.cycles();
                self.retry.obstacle(cycles, self.sent_so_far())
            };
        }
        Some(if self.policy.retry_buffer.is_none() {
            NotRetried::SwitchedOff
        } else if self.client_had_route() {
            NotRetried::ClientSetRoute
        } else if self.route.is_refused() || self.route.is_missed() {
            NotRetried::RouteNotSet
        } else {
            match self.retry.refusal() {
                // What was set for an earlier cycle is undone by now.
                Some(NotRetried::RouteWasSet) => NotRetried::RouteNotSet,
                Some(refusal) => refusal,
                None => self.why_not_kept(),
            }
        })
    }

    /// Why the statement that is being answered was not worth keeping.
    fn why_not_kept(&self) -> NotRetried {
        let sent = self.ledger.front().and_then(Expect::sent);
        let effects = sent.map_or(CHANGES, |sent| sent.decision.effects);
        if effects.intersects(CHANGES.union(Effects::UNDONE_WHOLE)) {
            NotRetried::Writes
        } else if effects.intersects(Effects::CALLS_UNKNOWN) {
            NotRetried::UnknownFunction
        } else {
            NotRetried::NotKnown
        }
    }

    /// True if the route was set, by all that was sent in front of it, for the statement that is
    /// being answered.
    pub(in super::super) fn front_is_steered(&self) -> bool {
        let sent = self.ledger.front().and_then(Expect::sent);
        sent.is_some_and(|sent| sent.steered) && !self.front_undoes_route()
    }

    /// True if the text that is being answered reads encrypted data, and may do so behind something that
    /// undoes the setting of the route (`ROLLBACK; SELECT …`, `RESET ALL; SELECT …`).
    fn front_undoes_route(&self) -> bool {
        let resets = Effects::RESETS_ROUTE.union(Effects::RESETS_ALL);
        // What is set outside a transaction outlives it.
        let undoes_route = match self.cycle.began_in() {
            Sending::Idle => resets,
            _ => resets.union(Effects::ENDS),
        };
        let undoes = |decision: &Decision| {
            decision.protected.is_some()
                && decision.effects.intersects(Effects::MULTIPLE)
                && decision.effects.intersects(undoes_route)
        };
        let sent = self.ledger.front().and_then(Expect::sent);
        sent.is_some_and(|sent| undoes(&sent.decision))
    }

    /// What becomes of an answer to the client's cycle while it may be, or was, run again.
    pub(in super::super) fn answer(
        &mut self,
        header: Header,
        frame: Option<&[u8]>,
        out: &mut Outbox,
    ) -> Verdict {
        if !self.retry.is_on() {
            return Verdict::Forward;
        }
        let sent = self.ledger.front().and_then(Expect::runs);
        let answering = Answering {
            more: self.may_go_on() || self.more_in_cycle(),
            copies_header: sent
                .is_some_and(|sent| sent.decision.effects.intersects(Effects::COPY_HEADER)),
        };
        let verdict = self.retry.answer(header, frame, answering);
        if verdict == Verdict::SwallowCompared {
            self.partly_compared(out);
        }
        verdict
    }

    /// Holds an error back; see [`super::Retry::hold`].
    pub(in super::super) fn hold(
        &mut self,
        code: &'static str,
        cure: Cure,
        error: Vec<u8>,
        original: &[u8],
        out: &mut Outbox,
    ) {
        if self.retry.hold(code, cure, error, original) {
            self.cycle.wake();
            self.send_own(Own::Sync, out);
        }
    }

    /// An ErrorResponse to the client's cycle while something is run again: what becomes of it;
    /// `None`: it is looked at like any other.
    pub(in super::super) fn error_again(&mut self, body: &[u8], out: &mut Outbox) -> Option<Fate> {
        let attempt = self.retry.attempt.as_mut()?;
        attempt.leaves = false;
        match attempt.phase {
            Phase::First => return None,
            Phase::Again(_) if attempt.is_level() => return None,
            Phase::Again(seen) => {
                if ErrorFields::new(body).sqlstate() == QUERY_CANCELED {
                    attempt.error.clear();
                    compose::frame(&mut attempt.error, tag::ERROR, |out| {
                        out.extend_from_slice(body);
                    });
                    attempt.code = "";
                }
                attempt.compare(seen, body);
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
        self.cycle.is_skipping() && self.retry.attempt.as_deref().is_some_and(differs)
    }

    /// An answer of the second run of a cycle whose end the client has not sent yet was compared.
    pub(super) fn partly_compared(&mut self, out: &mut Outbox) {
        let Some(attempt) = &self.retry.attempt else {
            return;
        };
        if !attempt.partial {
            return;
        }
        match attempt.phase {
            Phase::Again(_) if attempt.is_level() => {
                // The rest of the cycle follows.
                self.come_true(out);
                self.retry.refusal = Some(NotRetried::FailedAgain);
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
        if let Some(attempt) = self.retry.attempt.take() {
            let news = attempt.untold.beyond(&attempt.told);
            out.to_client.own(news.into());
        }
    }

    /// A cycle ended that was run again, or it is none of those.
    #[inline]
    pub(in super::super) fn note_cure(&mut self) {
        if self.retry.take_cure() {
            self.tell_cure();
        }
    }

    #[cold]
    #[inline(never)]
    fn tell_cure(&mut self) {
        self.events.push_back(Event::Cured);
    }

    /// A ReadyForQuery of the client's, which the cycle's status already says.
    pub(in super::super) fn attempt_ready(
        &mut self,
        header: Header,
        frame: &[u8],
        world: &impl World,
        out: &mut Outbox,
    ) -> Fate {
        let last = !self.cycle.is_open() && self.ledger.is_empty();
        let Some(attempt) = &mut self.retry.attempt else {
            self.note_cure();
            return Fate::Forward;
        };
        attempt.unsynced = attempt.unsynced.saturating_sub(1);
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
            if attempt.is_level() {
                self.come_true(out);
                self.note_cure();
                return Fate::Forward;
            }
            return self.undo(frame, out);
        }
        if self.answer(header, Some(frame), out) != Verdict::Forward {
            return Fate::Drop;
        }
        if let Some(attempt) = &mut self.retry.attempt
            && last
        {
            attempt.waits = false;
            match self.cycle.status() {
                Status::Idle => self.retry.attempt = None,
                Status::Failed => self.retry.refuse(NotRetried::InTransaction),
                Status::Transaction => {}
            }
        }
        Fate::Forward
    }

    /// The ReadyForQuery behind the error that is held back has come.
    pub(in super::super) fn run_again(&mut self, world: &impl World, out: &mut Outbox) {
        let Some(mut attempt) = self.retry.attempt.take() else {
            return;
        };
        self.events.push_back(Event::Retried {
            code: attempt.code,
            cure: attempt.cure.clone(),
            writes: attempt.writes,
        });
        self.retry.begins_again();
        attempt.status = self.cycle.status();
        if attempt.status != Status::Idle {
            // What is run again opened this transaction, and it is failed.
            self.send_own(Own::Rollback, out);
        }
        self.close_prepared(&attempt, out);
        match &attempt.cure {
            Cure::Route => {
                // What reads in a way that nobody sees may have been planned in such a way, too.
                let may_be_planned = self.route.has_native_plans() || world.keeps_all();
                if may_be_planned && world.replans() != Some(false) {
                    self.replanned();
                    self.send_own(Own::Replan, out);
                }
                self.send_own(Own::Set, out);
                self.route.changed(State::Set, false);
                self.tally.rare().set_cycle += 1;
            }
            Cure::Setting(sql) => {
                out.to_server.own(Commands::cure(sql));
                self.ledger.push(Expect::OwnCycle(Own::Cure));
            }
        }
        self.cycle.answered(Status::Idle);
        self.context.rolled_back();
        if world.replans() == Some(false) {
            self.parse_bound_again(&attempt.frames, world, out);
        }

        let counted = self.tally;
        let frames = std::mem::take(&mut attempt.frames);
        let mut sent = Vec::with_capacity(frames.len());
        let mut rest = frames.as_slice();
        let mut parsed = attempt.parsed;
        while let Ok(Some(header)) = Header::read(rest) {
            let (frame, behind) = rest.split_at(header.frame.min(rest.len()));
            rest = behind;
            if header.tag == frontend::tag::PARSE
                && let Some(parse) = frontend::Parse::read(&frame[HEADER..])
            {
                // A prepared statement outlives the failure of its transaction.
                if parsed > 0 {
                    parsed -= 1;
                    compose::close_statement(&mut sent, parse.name);
                    self.ledger.push(Expect::OwnClose);
                } else if !parse.name.is_empty() {
                    attempt.parsed_beyond.push(parse.name.into());
                }
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
        attempt.phase = Phase::Again(Heard::default());
        self.retry.attempt = Some(attempt);
        self.partly_compared(out);
    }

    /// Parses the statements again that these frames bind and that were planned where the route was not
    /// set: the server does not plan them anew when it is asked to.
    fn parse_bound_again(&mut self, frames: &[u8], world: &impl World, out: &mut Outbox) {
        let (names, deciding) = self.naming(world);
        let mut messages = Vec::new();
        let mut rest = frames;
        while let Ok(Some(header)) = Header::read(rest) {
            let (frame, behind) = rest.split_at(header.frame.min(rest.len()));
            rest = behind;
            if header.tag == frontend::tag::BIND
                && let Some(bind) = frontend::Bind::read(&frame[HEADER..])
                && let Some(again) = names.parse_again(bind.statement, &deciding)
            {
                messages.extend(again);
            }
        }
        if !messages.is_empty() {
            out.to_server.own(messages.into());
            self.send_own(Own::Parse, out);
        }
    }

    /// Closes what PREPARE has made in the first run, so that the second can make it again: the names
    /// are those of the protocol's own statements.
    fn close_prepared(&mut self, attempt: &Attempt, out: &mut Outbox) {
        let made = attempt.prepared.iter().take(attempt.prepared_heard);
        let mut close = Vec::new();
        made.for_each(|name| compose::close_statement(&mut close, name.as_bytes()));
        if !close.is_empty() {
            out.to_server.own(close.into());
            self.send_own(Own::Close, out);
        }
    }

    pub(super) fn send_own(&mut self, own: Own, out: &mut Outbox) {
        let cycle = self.policy.commands.cycle(own).clone();
        out.to_server.own(cycle);
        self.ledger.push(Expect::OwnCycle(own));
    }

    /// The second run ended otherwise than what the client has of the first: it gets the error of
    /// the first, in the transaction status that belongs to it.
    fn undo(&mut self, ready: &[u8], out: &mut Outbox) -> Fate {
        let Some(attempt) = &mut self.retry.attempt else {
            return Fate::Forward;
        };
        let status = self.cycle.status();
        attempt.done |= attempt.leaves && status == Status::Idle;
        let mut close = Vec::new();
        for name in &attempt.parsed_beyond {
            compose::close_statement(&mut close, name);
        }
        let way_back = match (attempt.status, status) {
            (Status::Idle, Status::Transaction | Status::Failed) => Own::Rollback,
            (Status::Failed, Status::Transaction) => Own::Fail,
            (Status::Failed, Status::Idle) => Own::BeginAndFail,
            _ if close.is_empty() => return self.deliver_first(ready),
            _ => Own::Close,
        };
        attempt.phase = Phase::Undoing;
        if !close.is_empty() {
            // They belong to the cycle of what follows.
            out.to_server.own(close.into());
        }
        self.send_own(way_back, out);
        Fate::Drop
    }

    /// True if the end of a cycle of our own completes what [`Core::undo`] began.
    pub(in super::super) fn is_undoing(&self) -> bool {
        let undoing = |attempt: &Attempt| attempt.phase == Phase::Undoing;
        self.retry.attempt.as_deref().is_some_and(undoing)
    }

    /// The error of the first run, and the ReadyForQuery behind it.
    pub(in super::super) fn deliver_first(&mut self, ready: &[u8]) -> Fate {
        let Some(attempt) = self.retry.attempt.take() else {
            return Fate::Forward;
        };
        let Attempt {
            mut error,
            code,
            told,
            untold,
            done,
            ..
        } = *attempt;
        if done {
            error.clear();
            compose::error(
                &mut error,
                DONE.map(|(field, text)| (field, text.as_bytes())),
            );
        }
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
