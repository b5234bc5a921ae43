//! The walk over what the server sends: find out what each answer belongs to, swallow what is
//! ours, look into errors, forward the rest untouched.

use std::sync::Arc;

use crate::protection::{Decision, Effects};
use crate::wire::backend::{ErrorFields, Status, command_tag, tag};
use crate::wire::{HEADER, Header};

use super::attempt::Verdict;
use super::ledger::{Expect, Own};
use super::steer::Sending;
use super::{Core, End, ErrorContext, Event, Outbox, Progress, World};

/// Messages longer than this are forwarded without a look.
const LOOK_LIMIT: usize = 64 << 10;

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
            Verdict::Swallow => Self::Drop,
        }
    }
}

impl Core {
    /// Walks over bytes from the server.
    pub fn on_backend(&mut self, input: &[u8], world: &impl World, out: &mut Outbox) -> Progress {
        out.to_client.begin();
        let mut at = 0;
        let mut wanted = 0;
        let mut plain = self.is_plain();
        while at < input.len() {
            let rest = &input[at..];
            if self.ended == Some(End::Broken) {
                out.to_client.drop(rest.len());
                return Progress::all(input);
            }
            if self.is_only_relayed() && self.backend_left == 0 {
                at += self.relay_head(rest, out);
                continue;
            }
            if self.backend_left > 0 {
                let step = self.backend_left.min(rest.len());
                if self.backend_drop {
                    out.to_client.drop(step);
                } else {
                    out.to_client.forward(step);
                }
                self.backend_left -= step;
                at += step;
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
            let row = matches!(header.tag, tag::DATA_ROW | tag::COPY_DATA);
            if row && plain {
                out.to_client.forward(step);
                self.backend_left = header.frame - step;
                self.backend_drop = false;
                at += step;
                continue;
            }
            let look = header.frame <= LOOK_LIMIT && (self.compares() || needs_body(header.tag));
            if look && rest.len() < header.frame {
                wanted = header.frame;
                break;
            }
            let frame = look.then_some(&rest[..step]);
            match self.message(header, frame, world, out) {
                Fate::Forward => {
                    self.backend_drop = false;
                    out.to_client.forward(step);
                }
                Fate::Drop => {
                    self.backend_drop = true;
                    out.to_client.drop(step);
                }
                Fate::Replace(own) => {
                    self.backend_drop = true;
                    out.to_client.drop(step);
                    out.to_client.own(own.into());
                }
            }
            self.backend_left = header.frame - step;
            at += step;
            plain = self.is_plain();
        }
        Progress {
            consumed: at,
            wanted,
            blocked: false,
        }
    }

    /// Passes on what there is of a message's header, which counts the frames even where nothing is
    /// looked at: a word of ours must come between two of them. Returns how many bytes that is.
    fn relay_head(&mut self, rest: &[u8], out: &mut Outbox) -> usize {
        let step = (HEADER - self.relayed_head.len()).min(rest.len());
        self.relayed_head.extend_from_slice(&rest[..step]);
        out.to_client.forward(step);
        self.backend_drop = false;
        if self.relayed_head.len() == HEADER {
            self.backend_left = match Header::read(&self.relayed_head) {
                Ok(Some(header)) => header.frame - HEADER,
                // What this is, the client may know. Nothing of ours can be put into it.
                _ => usize::MAX,
            };
            self.relayed_head.clear();
        }
        step
    }

    /// True if what the server sends is the client's, whatever it is.
    fn is_only_relayed(&self) -> bool {
        self.relay_only || self.ended == Some(End::Fatal)
    }

    /// True if rows are the client's and nobody counts them.
    fn is_plain(&self) -> bool {
        self.attempt.is_none() && !self.ledger.front().is_some_and(Expect::is_own)
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
            tag::NOTICE if own => return Fate::Forward,
            tag::PARAMETER_STATUS => return self.parameter(frame).into(),
            tag::NOTICE => return self.answer(header, frame, out).into(),
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
        match self.ledger.front_mut() {
            Some(Expect::OwnCycle(own)) => {
                let own = *own;
                if answer == tag::ERROR {
                    self.own_error = Some(own_error(body));
                } else if answer == tag::READY_FOR_QUERY {
                    self.ledger.pop();
                    self.own_ready(own, Status::read(body));
                    if own == Own::Sync {
                        self.run_again(world, out);
                    } else if self.is_undoing() {
                        return self.deliver_first(frame);
                    }
                }
            }
            Some(Expect::OwnInline(own, left)) => {
                if answer == tag::ERROR {
                    let (sqlstate, message) = own_error(body);
                    if *own == Own::Set {
                        self.route.disabled = true;
                    }
                    self.events.push_back(Event::SetFailed {
                        sqlstate,
                        message,
                        aborted_transaction: true,
                    });
                    self.route.pipeline_failed();
                    self.ledger.unsteer();
                    self.skip_to_sync();
                    // It has ended the client's pipeline: the client must know.
                    return Fate::Forward;
                }
                *left -= 1;
                if *left == 0 {
                    self.ledger.pop();
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
    fn own_ready(&mut self, own: Own, status: Status) {
        self.status = status;
        let Some((sqlstate, message)) = self.own_error.take() else {
            match own {
                Own::Set | Own::Restore => {
                    let last = !self.ledger.iter().any(Expect::is_own);
                    self.route.settled(status != Status::Idle, last);
                    self.prove_once();
                }
                Own::Proof => self.prove_once(),
                Own::Rollback | Own::Fail | Own::BeginAndFail | Own::Sync => {}
            }
            return;
        };
        if matches!(own, Own::Proof | Own::Fail | Own::BeginAndFail) {
            return;
        }
        self.route.failed();
        self.ledger.unsteer();
        match sqlstate.as_str() {
            // A cancel hit it, or a timeout. The statement that it was meant for is already in the
            // pipe.
            "57014" => self.events.push_back(Event::CancelAgain),
            // It ran in a transaction that had failed by then.
            "25P02" => {}
            _ => {
                self.route.disabled = true;
                self.events.push_back(Event::SetFailed {
                    sqlstate,
                    message,
                    aborted_transaction: status == Status::Failed,
                });
            }
        }
    }

    fn prove_once(&mut self) {
        if !std::mem::replace(&mut self.proven, true) {
            self.events.push_back(Event::Proven);
        }
    }

    /// An answer to the client's own message, other than an error and ReadyForQuery.
    fn answered(&mut self, answer: u8, body: &[u8], world: &impl World, out: &mut Outbox) {
        match (answer, self.ledger.front()) {
            (tag::PARSE_COMPLETE, Some(Expect::Parse))
            | (tag::BIND_COMPLETE, Some(Expect::Bind(_)))
            | (tag::CLOSE_COMPLETE, Some(Expect::Close))
            | (tag::ROW_DESCRIPTION | tag::NO_DATA, Some(Expect::Describe)) => {
                self.ledger.pop();
            }
            (tag::PARSE_COMPLETE, Some(Expect::ParseNamed))
            | (tag::CLOSE_COMPLETE, Some(Expect::CloseNamed)) => {
                self.ledger.pop();
                self.statements.resolve(true);
            }
            (tag::COMMAND_COMPLETE, Some(Expect::Execute(sent) | Expect::Query(sent))) => {
                let decision = Arc::clone(&sent.decision);
                self.completed(&decision, command_tag(body));
                if matches!(self.ledger.front(), Some(Expect::Execute(_))) {
                    self.retire(true, world);
                }
            }
            (tag::EMPTY_QUERY | tag::PORTAL_SUSPENDED, Some(Expect::Execute(_))) => {
                self.retire(true, world);
            }
            (tag::COPY_IN, Some(Expect::Execute(_) | Expect::Query(_))) => {
                self.copy_in = true;
                match self.ledger.enter_copy() {
                    Some(entered) => {
                        self.copy_sync = entered.sync_in_data;
                        self.copy_ended = entered.ended;
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

    /// A command of the client's ended well.
    fn completed(&mut self, decision: &Arc<Decision>, command: &[u8]) {
        if decision.effects.has(Effects::COPY_IN) || self.copy_in {
            self.copy_in = false;
            self.copy_sync = false;
        }
        if decision.effects.has(Effects::ENDS) {
            if command == b"COMMIT" {
                self.route.transaction_ended(true);
            } else if command.starts_with(b"ROLLBACK") {
                self.route.transaction_ended(false);
            }
        }
        if command == b"DISCARD ALL" {
            self.statements.forget_statements();
        }
        if self.status == Status::Idle {
            self.statements.path_changed(decision, command);
        }
    }

    /// Takes the front entry off, and applies what its statement does to names.
    fn retire(&mut self, succeeded: bool, world: &impl World) {
        let sent = match self.ledger.pop() {
            Some(Expect::Query(sent) | Expect::Execute(sent)) => sent,
            Some(Expect::ParseNamed | Expect::CloseNamed) => {
                self.statements.resolve(succeeded);
                return;
            }
            _ => return,
        };
        if !sent.decision.names.is_empty() {
            self.names_pending -= 1;
            self.statements.apply(&sent, world.generation(), succeeded);
        }
        if sent.decision.effects.has(Effects::COPY_IN) {
            self.copy_pending -= 1;
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
                    self.skipping = true;
                    return;
                }
            }
        }
    }

    fn retire_skipped(&mut self) {
        match self.ledger.pop() {
            Some(Expect::Query(sent) | Expect::Execute(sent)) => {
                self.names_pending -= u32::from(!sent.decision.names.is_empty());
                self.copy_pending -= u32::from(sent.decision.effects.has(Effects::COPY_IN));
            }
            Some(Expect::ParseNamed | Expect::CloseNamed) => self.statements.resolve(false),
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
        let not_retried = self.why_not_again();
        let fields = ErrorFields::new(body);
        let advised = world.advise(
            fields,
            &ErrorContext {
                decision: decision.as_deref(),
                client_owns_route: self.route.client_owns,
                route_was_set: self.front_is_steered(),
                not_retried,
            },
        );
        self.failed(out);
        let Some(advised) = advised else {
            // Not one that another engine would spare the client.
            self.hear_error(body);
            return Fate::Forward;
        };
        if advised.curable && not_retried.is_none() {
            self.hold(advised.code, advised.frame, out);
            return Fate::Drop;
        }
        self.drop_attempt();
        self.events.push_back(Event::ErrorRewritten {
            code: advised.code,
            not_retried,
        });
        Fate::Replace(advised.frame)
    }

    /// What an error does to the rest of the cycle.
    pub(super) fn failed(&mut self, out: &mut Outbox) {
        self.route.pipeline_failed();
        self.statements.path_doubtful();
        if self.copy_in {
            self.copy_in = false;
            if std::mem::take(&mut self.copy_sync) {
                self.give_up("a Sync within a COPY that failed", out);
                return;
            }
        }
        match self.ledger.front() {
            Some(Expect::Query(_)) => self.query_failed = true,
            Some(entry) if entry.is_extended() => self.skip_to_sync(),
            _ => {}
        }
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
            Some(Expect::Query(_) | Expect::Sync | Expect::FunctionCall)
        ) {
            self.give_up("a ReadyForQuery that nothing was sent for", out);
            return Fate::Forward;
        }
        self.status = Status::read(frame.get(HEADER..).unwrap_or_default());
        let failed = std::mem::take(&mut self.query_failed);
        self.retire(!failed, world);
        self.copy_in = false;
        self.tally.cycles += 1;
        self.route.cycle_ended(self.status == Status::Idle);
        if self.status != Status::Idle {
            self.statements.path_doubtful();
        }
        if self.status == Status::Idle {
            if self.ledger.is_empty() && !self.open {
                // Otherwise portals of a later cycle are among those that are known.
                self.statements.transaction_over();
                self.statements.path_settled(world);
            }
            if std::mem::take(&mut self.catalog_changed) {
                self.events.push_back(Event::CatalogChanged);
            }
        }
        let begins = |entry: &Expect| {
            matches!(entry, Expect::Query(sent) | Expect::Execute(sent)
                if sent.decision.effects.has(Effects::BEGINS))
        };
        self.may_begin = self.may_begin && self.ledger.iter().any(begins);
        self.unsynced &= self.open || !self.ledger.is_empty();
        if self.open && self.ledger.iter().all(Expect::is_extended) {
            // What the present cycle begins with is no longer a guess.
            self.cycle_sending = Sending::of(self.status);
        }
        self.ledger.rest();
        self.attempt_ready(header, frame, world, out)
    }
}

/// Messages that are looked into.
fn needs_body(kind: u8) -> bool {
    matches!(
        kind,
        tag::ERROR | tag::READY_FOR_QUERY | tag::COMMAND_COMPLETE
    )
}

fn own_error(body: &[u8]) -> (String, String) {
    let fields = ErrorFields::new(body);
    (
        String::from_utf8_lossy(fields.sqlstate()).into_owned(),
        String::from_utf8_lossy(fields.message()).into_owned(),
    )
}
