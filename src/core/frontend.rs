//! The walk over what the client sends: look, steer, note what will be answered, forward.

use std::sync::Arc;

use crate::protection::{Decision, Effects, NameUse, Source};
use crate::sql::{trace_parent, without_literals};
use crate::wire::frontend::{Target, query_text, tag};
use crate::wire::{HEADER, Header};

use super::Core;
use super::context::MAX_FOLLOWED;
use super::cycle::Sending;
use super::interface::{End, Event, Outbox, Progress, StatementSent, Told, World};
use super::ledger::{Expect, Sent};
use super::look::Look;
use super::passing::Found;
use super::route::State;
use super::steer::CHANGES_ROUTE;
use crate::advice::NotRetried;

/// Messages in flight before the client is made to wait: the ledger is bounded, too.
const MAX_IN_FLIGHT: usize = 1 << 16;

/// True if a statement may read encrypted data, now or by what is learned later.
fn may_need_route(decision: &Decision) -> bool {
    let may = Effects::READS_FOREIGN.union(Effects::CALLS_UNKNOWN);
    decision.protected.is_some() || decision.effects.intersects(may)
}

/// True if it may do so now. What it reads is else known to be open, and is looked at again whenever it runs.
fn may_need_route_now(decision: &Decision) -> bool {
    decision.protected.is_some()
        || decision.hint.is_some()
        || decision.effects.intersects(Effects::CALLS_UNKNOWN)
}

/// True if the server may keep a plan of what the statement runs.
fn keeps_plans(decision: &Decision) -> bool {
    let executes = |name: &NameUse| matches!(name, NameUse::Execute(_));
    decision.effects.intersects(Effects::KEEPS_PLANS) || decision.names.iter().any(executes)
}

/// What leaves the setting as nobody knows it.
const DOUBTS_ROUTE: Effects = Effects::RESETS_ROUTE
    .union(Effects::RESETS_ALL)
    .union(Effects::ROUTE_DOUBT);

impl Core {
    /// Walks over bytes from the client.
    pub fn on_frontend(&mut self, input: &[u8], world: &impl World, out: &mut Outbox) -> Progress {
        out.to_server.begin();
        let (at, decided) = match self.pass(input, world) {
            Found::Whole(bytes) => {
                out.to_server.forward(bytes);
                if bytes == input.len() {
                    return Progress::all(input);
                }
                (bytes, None)
            }
            Found::Query(decision) => (0, Some(decision)),
            Found::Other => (0, None),
        };
        self.walk_frontend(input, at, decided, world, out)
    }

    /// Goes on from `at`, message by message. `decided`: what the text of a Query does that stands there, if
    /// that has been found out.
    #[inline(never)]
    fn walk_frontend(
        &mut self,
        input: &[u8],
        mut at: usize,
        mut decided: Option<Arc<Decision>>,
        world: &impl World,
        out: &mut Outbox,
    ) -> Progress {
        self.has_just_passed = false;
        let mut wanted = 0;
        let mut blocked = false;
        while at < input.len() && self.ended.is_none() {
            let rest = &input[at..];
            if self.relay_only {
                let step = self.from_client.relay(rest);
                out.to_server.forward(step);
                at += step;
                continue;
            }
            if let Some((step, _)) = self.from_client.rest(rest.len()) {
                out.to_server.forward(step);
                at += step;
                continue;
            }
            if self.retry.holds_successors() || self.is_full() {
                blocked = true;
                break;
            }
            let header = match Header::read(rest) {
                Ok(Some(header)) => header,
                Ok(None) => break,
                Err(bad) => {
                    self.broken(&format!("invalid frame from the client: {bad}"), out);
                    break;
                }
            };
            wanted = self.wanted(header, rest);
            if wanted > rest.len() {
                break;
            }
            wanted = 0;
            let step = header.frame.min(rest.len());
            if !self.frame(header, &rest[..step], at, decided.take(), world, out) {
                blocked = true;
                break;
            }
            if self.relay_only {
                // The frame gave the session up: it is still forwarded, with all that follows.
                continue;
            }
            self.from_client.begin(header.frame - step, false);
            out.to_server.forward(step);
            at += step;
            if matches!(header.tag, tag::QUERY | tag::SYNC | tag::FUNCTION_CALL) {
                self.cycle_sent(header.tag, &input[..at]);
            }
        }
        self.cycle.call_ends();
        self.retry.call_ends(&input[..at], self.retry_limit());
        if self.ended.is_some() {
            // Nobody is there any more who would take it: it is let go, not kept.
            out.to_server.drop(input.len() - at);
            return Progress::all(input);
        }
        Progress {
            consumed: at,
            wanted,
            blocked,
        }
    }

    /// Looks at one message, of which at least the interesting part is in `frame`, puts in front
    /// of it what belongs there, and notes what will be answered. `decided`: what the text of a Query
    /// does, if that was found out before. False: it has to wait.
    fn frame(
        &mut self,
        header: Header,
        frame: &[u8],
        at: usize,
        decided: Option<Arc<Decision>>,
        world: &impl World,
        out: &mut Outbox,
    ) -> bool {
        let look = self.look(header, frame, decided, world);
        if self.names.take_needs_plan() {
            self.route.plans_are_stale();
        }
        if self.waits_for_copy(&look, world) || self.waits_for_certainty(&look, world, at) {
            return false;
        }
        if self.copy.takes_data() {
            match look {
                Look::Sync => {
                    self.copy.eats_sync();
                    return true;
                }
                Look::CopyData | Look::CopyEnd | Look::Other | Look::Terminate => {}
                _ => {
                    self.give_up("a message other than data within COPY", out);
                    return true;
                }
            }
        }
        let simple = matches!(look, Look::Query(..));
        let extended = matches!(
            look,
            Look::Parse(..)
                | Look::Bind(..)
                | Look::Execute(..)
                | Look::Describe(_)
                | Look::Close(_)
                | Look::Malformed(_)
        );
        if (simple || extended || matches!(look, Look::Sync | Look::FunctionCall))
            && !self.cycle.is_open()
        {
            self.cycle_begins(&look, at, world);
        }
        if self.policy.told != Told::None && !self.cycle.is_skipping() {
            self.tell(&look, frame);
        }
        match &look {
            Look::Query(decision, _) if self.policy.observe => self.would_steer(decision, world),
            Look::Execute(_, portal) if self.policy.observe => {
                self.would_steer(&portal.decision, world);
            }
            _ if self.policy.observe => {}
            Look::Query(decision, is_begun) => {
                // Where it is not begun, the unnamed statement and portal stay.
                let simple = *is_begun || self.cycle.is_unsynced();
                self.prove(decision, simple, at, world, out);
                self.steer(decision, simple, false, at, world, out);
            }
            Look::Parse(_, _, decision) => {
                self.prove(decision, false, at, world, out);
                self.steer(decision, false, true, at, world, out);
            }
            Look::Bind(bind, decision) => {
                self.steer(decision, false, false, at, world, out);
                self.parse_again_in_front(bind.statement, decision, at, world, out);
            }
            Look::Execute(_, portal) => {
                self.steer(&portal.decision, false, false, at, world, out);
            }
            _ => {}
        }
        if extended {
            self.cycle.extend();
        }
        self.note(look, world);
        true
    }

    /// Tells of a statement that is sent, or prepared, as far as the policy asks.
    fn tell(&mut self, look: &Look<'_>, frame: &[u8]) {
        let seen = &frame[HEADER..frame.len().min(HEADER + self.policy.inspect)];
        let (text, is_prepared, decision) = match look {
            Look::Query(decision, _) => (query_text(seen), false, decision),
            Look::Parse(parse, _, decision) => (parse.text, true, decision),
            _ => return,
        };
        if self.policy.told == Told::Protected && decision.protected.is_none() {
            return;
        }
        let lexing = self.context.lexing();
        self.events
            .push_back(Event::Statement(Box::new(StatementSent {
                text: without_literals(text, lexing),
                trace_parent: trace_parent(text, lexing),
                is_prepared,
                protected: decision.protected.clone(),
            })));
    }

    /// Nothing is injected while a COPY is on its way, so a statement that needs it waits for the
    /// COPY's answer, once the client has said that its data are complete, and has ended the cycle:
    /// before a Sync the server keeps the answer to itself.
    fn waits_for_copy(&self, look: &Look<'_>, world: &impl World) -> bool {
        let answer_comes =
            self.copy.is_complete() && !self.cycle.is_open() && !self.cycle.is_skipping();
        if !answer_comes || !(self.ledger.has_copies() || self.copy.is_on()) {
            return false;
        }
        look.decision()
            .is_some_and(|decision| self.needs_set(decision, world))
    }

    /// What needs a SET waits while none can be put in front of it, if what is in flight will be
    /// answered without another word of the client's: then it is certain in which transaction it
    /// will be read, and whether this user may set the route. So does a cycle that begins with what
    /// may have to be run again, until it is certain in which transaction it begins.
    fn waits_for_certainty(&self, look: &Look<'_>, world: &impl World, at: usize) -> bool {
        let Some(decision) = look.decision() else {
            return false;
        };
        if self.ledger.is_empty() || self.cycle.is_skipping() {
            return false;
        }
        let answers_come = !self.cycle.is_open() && !self.copy.is_on() && !self.ledger.has_copies();
        if self.client_may_set_route(decision) {
            return true;
        }
        if self.needs_set(decision, world) {
            let simple = matches!(look, Look::Query(..));
            return !self.has_place(simple, at, world) && (answers_come || self.ledger.has_proof());
        }
        answers_come
            && (!self.retry.is_on() || self.retry.may_have_ended())
            && decision.effects.intersects(Effects::READS_FOREIGN)
            && self.cycle.now(&self.ledger) == Sending::Uncertain
            && self.may_attempt(world)
    }

    /// A cycle begins with the message at `at`.
    fn cycle_begins(&mut self, look: &Look<'_>, at: usize, world: &impl World) {
        // The unnamed statement goes as soon as the server begins to parse another, even if that fails.
        let parses = matches!(look, Look::Parse(parse, true, _) if parse.name.is_empty() && parse.is_begun());
        let needs_unnamed = !parses && self.names.has_unnamed();
        self.cycle.begin(at, needs_unnamed, &self.ledger);
        self.names.cycle_turns();
        self.context.catch_up(world);
        // All of a simple cycle is known by now.
        let worth = Effects::READS_FOREIGN
            .union(Effects::BEGINS)
            .union(Effects::CALLS_UNKNOWN);
        let is_worth =
            |decision: &Decision| decision.effects.intersects(worth) || world.keeps_all();
        let alone = matches!(look, Look::Query(decision, _) if !is_worth(decision));
        self.begin_attempt(alone, at, world);
    }

    /// The message that ends a cycle was sent; `sent` is the present call's input up to its end.
    fn cycle_sent(&mut self, kind: u8, sent: &[u8]) {
        self.names.cycle_turns();
        if self.cycle.is_skipping() || self.copy.takes_data() {
            return;
        }
        self.cycle.end(kind == tag::SYNC);
        if self.cycle.is_unsynced() {
            self.retry.end_unsynced(self.ledger.cycles_sent());
        }
        self.route.pipeline_sent();
        if kind == tag::FUNCTION_CALL {
            self.retry.refuse(NotRetried::Writes);
        }
        self.end_attempt(sent);
    }

    /// True if the client has to wait before more is sent: for the ledger is bounded; and what is decided
    /// behind changes in flight follows all of them, so that there are few. The answers to a cycle that
    /// has ended come by themselves; those to the present one may wait for more.
    fn is_full(&self) -> bool {
        let in_flight = self.ledger.len();
        in_flight > MAX_IN_FLIGHT
            || in_flight > MAX_FOLLOWED
                && self.ledger.has_changes()
                && self.ledger.cycles().is_some_and(|cycles| cycles > 0)
                && !(self.ledger.has_copies() || self.copy.is_on())
    }

    /// Notes what the server will answer to a message, and what the message does to the session.
    /// Nothing is noted of what the server skips.
    fn note(&mut self, look: Look<'_>, world: &impl World) {
        if self.cycle.is_skipping() {
            if let Look::Sync = look {
                self.cycle.wake();
                self.ledger.push(Expect::Sync);
            } else if let Look::Terminate = look {
                self.ended = Some(End::Terminate);
            }
            return;
        }
        match look {
            Look::Query(decision, is_begun) => {
                self.tally.queries += 1;
                let certain = is_begun && !self.cycle.is_unsynced();
                self.names.simple_query(certain);
                let steered = self.steers(&decision);
                self.runs(&decision);
                self.ledger.push(Expect::Query(Sent { decision, steered }));
            }
            Look::Parse(parse, whole, decision) => {
                self.retry.note_new(parse.name);
                let (names, deciding) = self.naming(world);
                let named = names.parse(parse, &decision, whole, &deciding);
                self.ledger.push(if named {
                    Expect::ParseNamed
                } else {
                    Expect::Parse
                });
            }
            Look::Bind(bind, decision) => {
                self.retry.note_bind(bind.portal, bind.statement);
                self.cycle.add(decision.effects);
                let sent = self.sent(decision);
                if may_need_route(&sent.decision) {
                    let is_known = self.names.planned(bind.statement, sent.steered);
                    self.route
                        .planned(!is_known || may_need_route_now(&sent.decision));
                }
                self.names.bind(bind.portal, sent.clone());
                self.ledger.push(Expect::Bind(sent));
            }
            Look::Execute(name, portal) => {
                self.retry.note_execute(name);
                self.tally.executes += 1;
                let steered = portal.steered && self.steers(&portal.decision);
                let decision = portal.decision;
                self.runs(&decision);
                self.ledger
                    .push(Expect::Execute(Sent { decision, steered }));
            }
            Look::Describe(target) => {
                if let Some(Target::Statement(name)) = target {
                    self.retry.note_use(name);
                }
                self.ledger.push(Expect::Describe);
            }
            Look::Malformed(tag::DESCRIBE) => self.ledger.push(Expect::Describe),
            Look::Close(target) => {
                let named = match target {
                    Some(Target::Statement(name)) => {
                        self.retry.note_new(name);
                        let perhaps = self.ledger.is_unsynced();
                        self.names.close(name, perhaps)
                    }
                    Some(Target::Portal(name)) => {
                        self.names.close_portal(name);
                        false
                    }
                    None => false,
                };
                self.ledger.push(if named {
                    Expect::CloseNamed
                } else {
                    Expect::Close
                });
            }
            Look::Malformed(tag::BIND) => self.ledger.push(Expect::Bind(self.unseen())),
            Look::Malformed(tag::EXECUTE) => self.ledger.push(Expect::Execute(self.unseen())),
            Look::Malformed(_) => self.ledger.push(Expect::Parse),
            Look::Sync => self.ledger.push(Expect::Sync),
            Look::FunctionCall => self.ledger.push(Expect::FunctionCall),
            Look::CopyData if !self.copy.takes_data() && self.ledger.has_copies() => {
                self.ledger.push_copy_data();
            }
            Look::CopyEnd => {
                if !self.copy.end() && self.ledger.has_copies() {
                    self.ledger.push(Expect::CopyEnd);
                }
            }
            Look::Terminate => self.ended = Some(End::Terminate),
            Look::CopyData | Look::Other => {}
        }
    }

    /// True if the route is set where a statement that is sent now will run.
    fn steers(&self, decision: &Decision) -> bool {
        // Within one text the route may be undone in front of the read.
        let undone = decision.effects.intersects(Effects::MULTIPLE)
            && decision.effects.intersects(CHANGES_ROUTE);
        let planned = decision.names.iter().all(|name| match name {
            NameUse::Fetch(name) => self.cursor_is_steered(name),
            _ => true,
        });
        self.route.state() == State::Set && !undone && planned
    }

    /// What stands for a statement that was never seen.
    pub(super) fn unseen(&self) -> Sent {
        self.sent(Arc::clone(&self.unknown))
    }

    /// A statement that does this, sent where the route is as it is now.
    pub(super) fn sent(&self, decision: Arc<Decision>) -> Sent {
        let steered = self.route.state() == State::Set;
        Sent { decision, steered }
    }

    /// A statement is sent that will run: what it does to the session.
    fn runs(&mut self, decision: &Arc<Decision>) {
        let effects = decision.effects;
        self.cycle.run(effects);
        self.count_reads(decision, 1);
        if !decision.names.is_empty() {
            self.retry.note_names(decision);
        }
        if may_need_route(decision) && keeps_plans(decision) {
            self.route.planned(true);
        }
        if effects.intersects(Effects::COPY_IN) {
            self.copy.sent();
        }
        if effects.is_empty() {
            return;
        }
        if effects.intersects(Effects::SETS_ROUTE) {
            self.route.client_sets();
        }
        if effects.intersects(DOUBTS_ROUTE) {
            self.route.doubt();
        }
        if effects.intersects(Effects::ENDS) {
            self.route.transaction_ends();
        }
        if effects.intersects(Effects::CHANGES_CATALOG) {
            self.names.catalog_changes();
        }
    }

    /// Counts a statement that runs so many times, if it reads MaxCompute data.
    #[inline]
    pub(super) fn count_reads(&mut self, decision: &Decision, runs: u32) {
        if let Some(reason) = &decision.protected {
            let by = |source| if reason.source == source { runs } else { 0 };
            let rare = self.tally.rare();
            rare.protected += runs;
            rare.by_pattern += by(Source::Pattern);
            rare.by_lesson += by(Source::Learned);
        } else if decision.effects.intersects(Effects::READS_FOREIGN) {
            self.tally.rare().foreign += runs;
        }
    }

    /// Bytes that may be kept for a second run.
    pub(super) fn retry_limit(&self) -> usize {
        self.policy.retry_buffer.unwrap_or_default()
    }

    /// Notes the messages of a cycle that is sent again, all of them whole.
    pub(super) fn note_again(&mut self, header: Header, frame: &[u8], world: &impl World) {
        let look = self.look(header, frame, None, world);
        self.note(look, world);
    }
}
