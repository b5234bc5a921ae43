//! The walk over what the server sends: find out what each answer belongs to, swallow what is
//! ours, look into errors, forward the rest untouched.

use std::sync::Arc;

use crate::advice::NotRetried;
use crate::protection::Effects;
use crate::wire::backend::{ErrorFields, Status, command_tag, tag};
use crate::wire::{HEADER, Header, compose};

use super::Core;
use super::interface::{End, ErrorContext, Event, Outbox, Progress, World};
use super::ledger::{ABORTED, Expect, Own, OwnError, QUERY_CANCELED};
use super::retry::Verdict;

/// Messages longer than this are forwarded without a look.
const LOOK_LIMIT: usize = 64 << 10;

/// Nothing is run again, and what is answered is the client's.
const ANY: u8 = 1;
/// The same, and it is a Query.
const QUERY: u8 = 2;
/// The same, and it is a whole cycle that passes.
const WHOLE: u8 = 4;

/// In which of these cases a message is passed on and nobody counts it, by its type.
static PASSED_ON: [u8; 256] = {
    let mut cases = [0; 256];
    let every = ANY | QUERY | WHOLE;
    cases[tag::DATA_ROW as usize] = every;
    cases[tag::COPY_DATA as usize] = every;
    cases[tag::NOTIFICATION as usize] = every;
    // It is what a Describe waits for.
    cases[tag::ROW_DESCRIPTION as usize] = QUERY | WHOLE;
    cases[tag::COMMAND_COMPLETE as usize] = WHOLE;
    cases[tag::EMPTY_QUERY as usize] = WHOLE;
    cases[tag::PARSE_COMPLETE as usize] = WHOLE;
    cases[tag::BIND_COMPLETE as usize] = WHOLE;
    cases[tag::NO_DATA as usize] = WHOLE;
    cases[tag::PARAMETER_DESCRIPTION as usize] = WHOLE;
    cases[tag::PORTAL_SUSPENDED as usize] = WHOLE;
    cases
};

/// What is done with one message.
pub(super) enum Fate {
    Forward,
    Drop,
    Replace(Vec<u8>),
}

impl From<Verdict> for Fate {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Forward => Self::Forward,
            Verdict::Swallow | Verdict::SwallowCompared => Self::Drop,
        }
    }
}

impl Core {
    /// Walks over bytes from the server.
    pub fn on_backend(&mut self, input: &[u8], world: &impl World, out: &mut Outbox) -> Progress {
        out.to_client.begin();
        let mut at = 0;
        if self.ended.is_none() && !self.relay_only {
            if let Some((step, dropped)) = self.from_server.rest(input.len()) {
                out.to_client.pass(step, dropped);
                at = step;
            } else {
                at = self.pass_answers(input, world);
                out.to_client.forward(at);
            }
            if at == input.len() {
                return Progress::all(input);
            }
        }
        self.walk_backend(input, at, world, out)
    }

    /// Goes on from `at`, message by message.
    #[inline(never)]
    fn walk_backend(
        &mut self,
        input: &[u8],
        mut at: usize,
        world: &impl World,
        out: &mut Outbox,
    ) -> Progress {
        self.has_just_passed = false;
        let mut wanted = 0;
        let mut passed_on = self.passed_on();
        while at < input.len() {
            let rest = &input[at..];
            if self.ended == Some(End::Broken) {
                out.to_client.drop(rest.len());
                return Progress::all(input);
            }
            if let Some((step, dropped)) = self.from_server.rest(rest.len()) {
                out.to_client.pass(step, dropped);
                at += step;
                continue;
            }
            if self.is_only_relayed() {
                let step = self.from_server.relay(rest);
                out.to_client.forward(step);
                at += step;
                continue;
            }
            let run = self.run(rest, passed_on);
            if run > 0 {
                out.to_client.forward(run);
                at += run;
                continue;
            }
            let header = match Header::read(rest) {
                Ok(Some(header)) => header,
                Ok(None) => break,
                Err(bad) => {
                    self.broken(&format!("invalid frame from the server: {bad}"), out);
                    continue;
                }
            };
            let step = header.frame.min(rest.len());
            let look = header.frame <= LOOK_LIMIT && (self.retry.is_on() || needs_body(header.tag));
            if look && rest.len() < header.frame {
                wanted = header.frame;
                break;
            }
            let frame = look.then_some(&rest[..step]);
            let mut fate = self.message(header, frame, world, out);
            if self.ended == Some(End::Broken) {
                // The client has been told that this is the end.
                fate = Fate::Drop;
            }
            let dropped = !matches!(fate, Fate::Forward);
            out.to_client.pass(step, dropped);
            if let Fate::Replace(own) = fate {
                out.to_client.own(own.into());
            }
            self.from_server.begin(header.frame - step, dropped);
            at += step;
            passed_on = self.passed_on();
        }
        Progress {
            consumed: at,
            wanted,
            blocked: false,
        }
    }

    /// How many bytes `input` begins with of messages that are passed on and that nobody counts, with the
    /// ReadyForQuery behind them if it is that of a cycle that passes. A message begins there.
    #[inline]
    fn pass_answers(&mut self, input: &[u8], world: &impl World) -> usize {
        let passed_on = self.passed_on();
        let at = self.run(input, passed_on);
        match input.get(at..) {
            Some(&[tag::READY_FOR_QUERY, 0, 0, 0, 5, status, ..])
                if passed_on == WHOLE && self.passes_end(Status::of(status), world) =>
            {
                at + HEADER + 1
            }
            _ => at,
        }
    }

    /// True if what the server sends is the client's, whatever it is.
    fn is_only_relayed(&self) -> bool {
        self.relay_only || self.ended == Some(End::Fatal)
    }

    /// How many bytes `input` begins with of messages that are passed on and that nobody counts.
    #[inline]
    fn run(&mut self, input: &[u8], passed_on: u8) -> usize {
        let mut at = 0;
        while let Ok(Some(header)) = Header::read(&input[at..])
            && PASSED_ON[usize::from(header.tag)] & passed_on != 0
        {
            at += header.frame;
            if at >= input.len() {
                self.from_server.begin(at - input.len(), false);
                return input.len();
            }
        }
        at
    }

    /// In front of which answers say nothing of what is in flight, by the bits of [`PASSED_ON`].
    #[inline]
    fn passed_on(&self) -> u8 {
        let front = self.ledger.front();
        if self.retry.is_on() || front.is_some_and(Expect::is_own) {
            return 0;
        }
        match front {
            Some(Expect::Query(_)) => QUERY,
            Some(Expect::Whole(_)) => WHOLE,
            _ => ANY,
        }
    }

    fn message(
        &mut self,
        header: Header,
        frame: Option<&[u8]>,
        world: &impl World,
        out: &mut Outbox,
    ) -> Fate {
        let body = frame.map(|frame| &frame[HEADER..]).unwrap_or_default();
        let own = self.ledger.front().is_some_and(Expect::is_own);
        match header.tag {
            tag::NOTIFICATION => return Fate::Forward,
            // What the server notes of our statement (`QueryID: …`) is not the client's; a warning may be
            // about the server.
            tag::NOTICE if own && ErrorFields::new(body).is_mere_notice() => return Fate::Drop,
            tag::NOTICE if own => return Fate::Forward,
            tag::PARAMETER_STATUS => {
                self.context.reported(body);
                return self.retry.parameter(frame).into();
            }
            tag::NOTICE => return self.retry.notice(frame).into(),
            _ => {}
        }
        if header.tag == tag::ERROR && ErrorFields::new(body).is_fatal() {
            // Nothing follows it, not even ReadyForQuery.
            self.ended = Some(End::Fatal);
            return Fate::Forward;
        }
        if own {
            return self.own_answer(header.tag, frame.unwrap_or_default(), world, out);
        }
        if header.tag == tag::ERROR {
            return self.error(body, world, out);
        }
        if header.tag == tag::READY_FOR_QUERY {
            return self.ready(header, frame.unwrap_or_default(), world, out);
        }
        self.answered(header.tag, body, world, out);
        self.answer(header, frame, out).into()
    }

    /// An answer to something of ours.
    fn own_answer(
        &mut self,
        answer: u8,
        frame: &[u8],
        world: &impl World,
        out: &mut Outbox,
    ) -> Fate {
        let body = frame.get(HEADER..).unwrap_or_default();
        match self.ledger.front() {
            Some(&Expect::OwnCycle(own)) => {
                if answer == tag::ERROR {
                    self.ledger.fail_own(OwnError::new(body));
                } else if answer == tag::READY_FOR_QUERY {
                    let error = self.ledger.take_own_error();
                    self.ledger.pop();
                    self.own_ready(own, Status::read(body), error);
                    if own == Own::Sync {
                        self.run_again(world, out);
                    } else if self.is_undoing() {
                        return self.deliver_first(frame);
                    }
                }
            }
            Some(&Expect::OwnInline(own, _)) => {
                if answer == tag::ERROR {
                    // What a cancel has hit is what it was meant for: the client's pipeline.
                    self.own_failed(own, &OwnError::new(body), true);
                    self.route.pipeline_failed();
                    self.ledger.unsteer();
                    self.skip_to_sync();
                    // It has ended the client's pipeline: the client must know.
                    return Fate::Forward;
                }
                if self.ledger.inline_answered() && own.is_steering() {
                    self.route.inline_answered();
                }
            }
            Some(Expect::OwnStumble) => {
                self.skip_to_sync();
                return self.deliver_first(&[]);
            }
            _ => {
                self.ledger.pop();
            }
        }
        Fate::Drop
    }

    /// The ReadyForQuery of a cycle of our own.
    fn own_ready(&mut self, own: Own, status: Status, error: Option<OwnError>) {
        self.cycle.answered(status);
        let Some(error) = error else {
            match own {
                Own::Set | Own::Restore => {
                    let last = !self.ledger.iter().any(Expect::is_own);
                    self.route.settled(status != Status::Idle, last);
                    self.prove_once();
                }
                Own::Proof => self.prove_once(),
                Own::Replan => self.events.push_back(Event::Replanned(true)),
                Own::Parse
                | Own::Cure
                | Own::Rollback
                | Own::Close
                | Own::Fail
                | Own::BeginAndFail
                | Own::Sync => {}
            }
            return;
        };
        let aborts = status == Status::Failed;
        if error.is_cancel() && !aborts {
            match own {
                // The statement that it was meant for is already in the pipe.
                Own::Set | Own::Restore | Own::Replan if error.is_asked_for() => {
                    self.events.push_back(Event::CancelAgain);
                }
                Own::Set => self.events.push_back(Event::SetTimedOut),
                _ => {}
            }
        }
        if matches!(own, Own::Set | Own::Restore) {
            self.route.missed();
            self.ledger.unsteer();
        }
        self.own_failed(own, &error, aborts);
        // What fails by design puts the server where the client believes it to be.
        let by_design = matches!(own, Own::Fail | Own::BeginAndFail);
        if aborts && !by_design && !error.is_of_a_failed_transaction() {
            self.aborted_by = Some(error);
        }
    }

    /// What is known by now of something of ours that failed. `aborts`: it has taken the client's transaction,
    /// or its pipeline, along.
    fn own_failed(&mut self, own: Own, error: &OwnError, aborts: bool) {
        // Neither says anything of the statement itself.
        let by_chance = error.is_cancel() || error.is_of_a_failed_transaction();
        match own {
            Own::Replan => {
                self.not_replanned();
                if !by_chance {
                    self.events.push_back(Event::Replanned(false));
                }
            }
            Own::Set | Own::Restore if !by_chance => {
                self.route.refused();
                let text = |field: &[u8]| String::from_utf8_lossy(field).into_owned();
                self.events.push_back(Event::SetFailed {
                    sqlstate: text(error.fields().sqlstate()),
                    message: text(error.fields().message()),
                    aborted_transaction: aborts,
                });
            }
            _ => {}
        }
    }

    /// What was planned before stays so.
    fn not_replanned(&mut self) {
        self.route.plans_are_stale();
        self.names.plans_are_stale();
    }

    fn prove_once(&mut self) {
        if self.route.prove() {
            self.events.push_back(Event::Proven);
        }
    }

    /// An answer to the client's own message, other than an error and ReadyForQuery.
    fn answered(&mut self, answer: u8, body: &[u8], world: &impl World, out: &mut Outbox) {
        match (answer, self.ledger.front()) {
            (tag::COPY_IN | tag::COPY_BOTH, Some(Expect::Whole(_))) => {
                self.give_up("a COPY that nobody has asked for", out);
            }
            (_, Some(Expect::Whole(_))) => {}
            (tag::PARSE_COMPLETE, Some(Expect::Parse))
            | (tag::BIND_COMPLETE, Some(Expect::Bind(_)))
            | (tag::CLOSE_COMPLETE, Some(Expect::Close))
            | (tag::ROW_DESCRIPTION | tag::NO_DATA, Some(Expect::Describe)) => {
                self.ledger.pop();
            }
            (tag::PARSE_COMPLETE, Some(Expect::ParseNamed))
            | (tag::CLOSE_COMPLETE, Some(Expect::CloseNamed)) => {
                self.ledger.pop();
                self.names.resolve(true);
            }
            (tag::COMMAND_COMPLETE, Some(Expect::Execute(sent) | Expect::Query(sent))) => {
                let ends = sent.decision.effects.intersects(Effects::ENDS);
                self.completed(ends, body);
                if matches!(self.ledger.front(), Some(Expect::Execute(_))) {
                    self.retire(true, world);
                }
            }
            (tag::EMPTY_QUERY | tag::PORTAL_SUSPENDED, Some(Expect::Execute(_))) => {
                self.retire(true, world);
            }
            (tag::COPY_IN, Some(Expect::Execute(_) | Expect::Query(_))) => {
                match self.ledger.enter_copy() {
                    Some(entered) => {
                        self.copy.asked(&entered);
                        self.retry.not_before(entered.eaten);
                        if self.ledger.is_unsynced() {
                            self.cycle.reopen();
                        }
                    }
                    None => self.give_up("messages were sent within a COPY FROM STDIN", out),
                }
            }
            (tag::COPY_BOTH, _) => self.give_up("replication", out),
            (
                tag::PARSE_COMPLETE
                | tag::BIND_COMPLETE
                | tag::CLOSE_COMPLETE
                | tag::COMMAND_COMPLETE
                | tag::PORTAL_SUSPENDED
                | tag::COPY_IN,
                _,
            ) => self.give_up("an answer that nothing was sent for", out),
            _ => {}
        }
    }

    /// A command of the client's ended well, with this CommandComplete. `ends`: it may have ended the
    /// transaction.
    fn completed(&mut self, ends: bool, body: &[u8]) {
        self.copy.over();
        if ends {
            let command = command_tag(body);
            if command == b"COMMIT" {
                self.route.transaction_ended(true);
            } else if command.starts_with(b"ROLLBACK") {
                self.route.transaction_ended(false);
                self.ledger.roll_back();
            }
        }
        if body.first() == Some(&b'D') && command_tag(body) == b"DISCARD ALL" {
            self.names.forget_statements();
        }
    }

    /// Takes the front entry off, and applies what its statement does to names.
    fn retire(&mut self, succeeded: bool, world: &impl World) {
        let rolled_back = self.ledger.was_rolled_back();
        let sent = match self.ledger.pop() {
            Some(Expect::Query(sent) | Expect::Whole(sent) | Expect::Execute(sent)) => sent,
            Some(Expect::ParseNamed | Expect::CloseNamed) => {
                self.names.resolve(succeeded);
                return;
            }
            _ => return,
        };
        self.copy.over();
        if !sent.decision.names.is_empty() {
            let (names, deciding) = self.naming(world);
            names.apply(&sent, &deciding, succeeded);
        }
        if succeeded {
            self.context.succeeded(&sent.decision, rolled_back);
            if sent.decision.effects.intersects(Effects::SETS_ROUTE)
                && !self.policy.enforce
                && self.context.has_route()
                && self.route.tell()
            {
                self.events.push_back(Event::ClientOwnsRoute);
            }
        } else {
            self.context.query_failed(&sent.decision);
        }
    }

    /// The server skips what was sent up to the next Sync.
    fn skip_to_sync(&mut self) {
        loop {
            match self.ledger.front() {
                Some(Expect::Sync) => return,
                // What was sent behind a Query that is not skipped cannot be in front of it.
                Some(_) => self.retire_skipped(),
                None => {
                    self.cycle.skip();
                    return;
                }
            }
        }
    }

    fn retire_skipped(&mut self) {
        match self.ledger.pop() {
            Some(Expect::ParseNamed | Expect::CloseNamed) => self.names.resolve(false),
            Some(Expect::OwnInline(Own::Replan, _) | Expect::OwnCycle(Own::Replan)) => {
                self.not_replanned();
            }
            Some(Expect::OwnInline(..)) => self.route.inline_failed(),
            Some(Expect::OwnCycle(Own::Set | Own::Restore)) => {
                self.route.failed();
                self.ledger.unsteer();
            }
            _ => {}
        }
    }

    /// An ErrorResponse to the client's own message.
    fn error(&mut self, body: &[u8], world: &impl World, out: &mut Outbox) -> Fate {
        if let Some(fate) = self.error_again(body, out) {
            return fate;
        }
        let sent = self.ledger.front().and_then(Expect::sent);
        let decision = sent.map(|sent| Arc::clone(&sent.decision));
        let mut not_retried = self.why_not_again();
        let mut fields = ErrorFields::new(body);
        let first = self.retry.left_behind(fields.sqlstate());
        if let Some(first) = &first {
            not_retried = Some(NotRetried::LeftBehind);
            fields = ErrorFields::new(first);
        }
        // The client has sent nothing that the transaction could have failed by.
        let cause = (fields.sqlstate() == ABORTED)
            .then(|| self.aborted_by.take())
            .flatten();
        if let Some(cause) = &cause {
            fields = cause.fields();
        }
        let advised = world.advise(
            fields,
            &ErrorContext {
                decision: decision.as_deref(),
                client_owns_route: self.client_had_route(),
                client_reads_encrypted: self.context.route_reads_encrypted(),
                route_was_set: first.is_none() && self.front_is_steered(),
                encoding: self.context.written_in(decision.as_deref()),
                computing_resource: self.context.computing_resource(decision.as_deref()),
                not_retried,
            },
        );
        self.failed(out);
        let Some(advised) = advised else {
            // Not one that another engine would spare the client.
            self.retry
                .hear_error(cause.as_ref().map_or(body, OwnError::body));
            return cause.map_or(Fate::Forward, |cause| Fate::Replace(cause.frame()));
        };
        if self.policy.observe {
            let code = advised.code;
            self.events.push_back(Event::WouldRewrite { code });
            return Fate::Forward;
        }
        if let Some(cure) = advised.cure.filter(|_| not_retried.is_none()) {
            if world.is_cancelled() {
                // It has reached a server that was done already. What the client does not want any more is not
                // run a second time.
                self.retry.drop_failed();
                return Fate::Replace(cancelled());
            }
            self.hold(advised.code, cure, advised.frame, body, out);
            return Fate::Drop;
        }
        self.retry.drop_failed();
        self.events.push_back(Event::ErrorRewritten {
            code: advised.code,
            not_retried,
        });
        Fate::Replace(advised.frame)
    }

    /// What an error does to the rest of the cycle.
    pub(super) fn failed(&mut self, out: &mut Outbox) {
        self.route.pipeline_failed();
        self.context.failed();
        self.names.failed();
        self.retry.cures_not();
        if self.copy.over() {
            self.give_up("a Sync within a COPY that failed", out);
            return;
        }
        match self.ledger.front() {
            Some(Expect::Query(_) | Expect::Whole(_)) => self.ledger.fail_query(),
            Some(entry) if entry.is_extended() => self.skip_to_sync(),
            _ => {}
        }
    }

    /// A cycle of the client's was answered in full, with this status; its entry is gone.
    #[expect(clippy::inline_always, reason = "a call costs as much as a part of it")]
    #[inline(always)]
    pub(super) fn cycle_ended(&mut self, status: Status, world: &impl World) {
        self.route.cycle_ended(status == Status::Idle);
        self.context.answered(status);
        let quiet = self.ledger.is_empty() && !self.cycle.is_open();
        if quiet {
            self.names.rest();
        }
        if status != Status::Idle {
            return;
        }
        if quiet {
            // Otherwise portals of a later cycle are among those that are known.
            self.names.transaction_over();
        }
        if self.names.take_catalog_changed() {
            self.tell_catalog_changed(world);
        }
    }

    #[cold]
    #[inline(never)]
    fn tell_catalog_changed(&mut self, world: &impl World) {
        world.catalog_changed(self.context.catalog_changed());
    }

    /// ReadyForQuery of a client's cycle.
    fn ready(
        &mut self,
        header: Header,
        frame: &[u8],
        world: &impl World,
        out: &mut Outbox,
    ) -> Fate {
        if !matches!(
            self.ledger.front(),
            Some(Expect::Query(_) | Expect::Whole(_) | Expect::Sync | Expect::FunctionCall)
        ) {
            self.give_up("a ReadyForQuery that nothing was sent for", out);
            return Fate::Forward;
        }
        let status = Status::read(frame.get(HEADER..).unwrap_or_default());
        self.aborted_by = None;
        self.route.settle_missed();
        self.cycle.answered(status);
        self.retire(!self.ledger.query_failed(), world);
        self.cycle_ended(status, world);
        self.ledger.status_is_known();
        self.cycle.settle(&self.ledger);
        self.ledger.rest();
        let fate = self.attempt_ready(header, frame, world, out);
        // A run that is hidden from the client is no cycle of its own.
        self.tally.cycles += u64::from(!matches!(fate, Fate::Drop));
        fate
    }
}

/// What PostgreSQL answers to a statement that was cancelled.
fn cancelled() -> Vec<u8> {
    let fields: [(u8, &[u8]); 4] = [
        (b'S', b"ERROR"),
        (b'V', b"ERROR"),
        (b'C', QUERY_CANCELED),
        (b'M', b"canceling statement due to user request"),
    ];
    let mut frame = Vec::new();
    compose::error(&mut frame, fields);
    frame
}

/// Messages that are looked into.
fn needs_body(kind: u8) -> bool {
    matches!(
        kind,
        tag::ERROR
            | tag::NOTICE
            | tag::READY_FOR_QUERY
            | tag::COMMAND_COMPLETE
            | tag::PARAMETER_STATUS
    )
}
