//! Where a SET of ours may go, and putting it there.
//!
//! - In front of a simple Query: a Query of its own.
//! - In front of a client's cycle that has not begun: the same, if that takes nothing from the client
//!   ([`Cycle::is_bare`](super::cycle::Cycle::is_bare)), since the server is done with one message sooner
//!   than with seven. Else an extended cycle of our own. It leaves the unnamed statement, the unnamed portal
//!   and suspended portals alone, as a simple Query would not. Either commits by itself, so it outlives a
//!   failing statement.
//! - Within a pipeline that has begun: never a Sync (a server that is skipping would wake and run
//!   what must be skipped), so a Sync-less statement of our own, undone if the pipeline fails.

use std::sync::Arc;

use crate::protection::{Decision, Effects, RouteHint};
use crate::wire::compose;

use super::Core;
use super::cycle::{Anchor, Sending};
use super::interface::{Event, Outbox, World};
use super::ledger::{Expect, Own, Sent};
use super::route::State;

/// Where something of ours goes.
#[derive(Debug, Clone, Copy)]
enum Place {
    Query,
    Cycle(Anchor),
    Inline,
}

impl Place {
    /// Where the next thing of ours goes, behind the one that was put here.
    fn behind(self) -> Self {
        match self {
            Self::Cycle(anchor) => Self::Cycle(Anchor {
                ledger: anchor.ledger + 1,
                ..anchor
            }),
            Self::Query | Self::Inline => self,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    Encrypted,
    Native,
    Either,
}

/// What makes a place in front of the whole cycle the wrong one.
pub(super) const CHANGES_ROUTE: Effects = Effects::SETS_ROUTE
    .union(Effects::RESETS_ROUTE)
    .union(Effects::RESETS_ALL)
    .union(Effects::ROUTE_DOUBT)
    .union(Effects::ENDS);

/// True if a statement reads MaxCompute, or may do so by a name that it uses.
fn may_read(decision: &Decision) -> bool {
    decision.protected.is_some()
        || decision.effects.intersects(Effects::READS_FOREIGN)
        || !decision.names.is_empty()
}

impl Core {
    /// True if the route is ours to change: no change of ours was refused, and the client's own is not
    /// in force where a statement is sent now.
    pub(super) fn route_is_ours(&self, world: &impl World) -> bool {
        !self.route.is_refused() && !self.client_has_route(world)
    }

    /// True if a route of the client's own is in force where a statement is sent now.
    fn client_has_route(&self, world: &impl World) -> bool {
        self.route.may_be_the_clients() && !self.policy.enforce && self.deciding(world).has_route()
    }

    /// True if a route of the client's own is, or may be, in force for the statement that is being
    /// answered, or a comment in it has asked for the engine that it ran on.
    pub(super) fn client_had_route(&self) -> bool {
        let sent = self.ledger.front().and_then(Expect::sent);
        let sets = |sent: &Sent| sent.decision.effects.intersects(Effects::SETS_ROUTE);
        let asks = |sent: &Sent| {
            let hint = sent.decision.hint;
            matches!(hint, Some(RouteHint::Hqe | RouteHint::Off)) && !sent.steered
        };
        sent.is_some_and(asks)
            || !self.policy.enforce && (self.context.has_route() || sent.is_some_and(sets))
    }

    /// True if it is not certain yet whether the client's own is in force for what reads MaxCompute: a
    /// SET of it is in flight, may be refused, and will be answered without another word of the
    /// client's.
    pub(super) fn client_may_set_route(&self, decision: &Decision) -> bool {
        let sets = |entry: &Expect| {
            let sent = entry.runs();
            sent.is_some_and(|sent| sent.decision.effects.intersects(Effects::SETS_ROUTE))
        };
        self.route.may_be_the_clients()
            && !(self.policy.enforce || self.policy.observe)
            && self.ledger.has_changes()
            && may_read(decision)
            && !(self.copy.is_on() || self.ledger.has_copies())
            && self
                .ledger
                .iter()
                .skip_while(|entry| !sets(entry))
                .any(Expect::ends_cycle)
    }

    fn need(&self, decision: &Decision, world: &impl World) -> Need {
        let foreign =
            self.policy.per_statement && decision.effects.intersects(Effects::READS_FOREIGN);
        if decision.protected.is_none() && decision.hint.is_none() && !foreign {
            // Most statements: whose the route is need not be found out.
            return Need::Either;
        }
        if self.relay_only || !self.route_is_ours(world) {
            return Need::Either;
        }
        let own_business = Effects::SETS_ROUTE.union(Effects::RESETS_ROUTE);
        if decision.effects.intersects(own_business) && !self.policy.enforce {
            return Need::Either;
        }
        let encrypted = match decision.hint {
            Some(RouteHint::Off) => return Need::Either,
            Some(RouteHint::Hqe) => return Need::Native,
            Some(RouteHint::Sqe) => true,
            None => decision.protected.is_some(),
        };
        if !encrypted {
            return if foreign { Need::Native } else { Need::Either };
        }
        if world.reads_encrypted_already() {
            Need::Either
        } else {
            Need::Encrypted
        }
    }

    /// True if the statement needs our SET.
    pub(super) fn needs_set(&self, decision: &Decision, world: &impl World) -> bool {
        !self.policy.observe
            && self.route.state() != State::Set
            && self.need(decision, world) == Need::Encrypted
    }

    /// Says of a statement that is about to run that it would be steered, if sessions were not only
    /// observed.
    pub(super) fn would_steer(&mut self, decision: &Decision, world: &impl World) {
        if self.need(decision, world) == Need::Encrypted {
            let reason = decision.protected.clone();
            self.events.push_back(Event::WouldSteer(reason));
        }
    }

    /// Where something of ours could be put now. `simple`: in front of a simple Query.
    fn place(&self, simple: bool, offset: usize, proven: bool) -> Option<Place> {
        if self.cycle.is_skipping() || self.copy.is_on() || self.ledger.has_copies() {
            return None;
        }
        let sending = self.cycle.sending(&self.ledger);
        match sending {
            Sending::Idle => {}
            Sending::Transaction | Sending::Uncertain if proven => {}
            _ => return None,
        }
        let here = Anchor {
            offset,
            ledger: self.ledger.len(),
        };
        let open = self.cycle.is_open();
        if !open && simple {
            return Some(Place::Query);
        }
        if !open && !self.cycle.is_unsynced() {
            return Some(Place::Cycle(here));
        }
        match self.cycle.anchor() {
            Some(anchor) if !self.cycle.effects().intersects(CHANGES_ROUTE) => {
                Some(Place::Cycle(anchor))
            }
            // In a failed transaction ours may be what the pipeline stops at, instead of the client's own message
            // and with the same error: but a Query would be skipped then, which is answered else. And what has not
            // begun had better wait until that is certain.
            _ => (proven && (open && !simple || sending != Sending::Uncertain))
                .then_some(Place::Inline),
        }
    }

    /// True if a SET of ours could be put now.
    pub(super) fn has_place(&self, simple: bool, offset: usize, world: &impl World) -> bool {
        let proven = self.route.is_proven() || world.is_proven();
        self.place(simple, offset, proven).is_some()
    }

    /// Puts our SET (or what undoes it) in front of a statement that needs it. `at` is the offset
    /// of its message within the input; `parse`: the message is a Parse, which only prepares.
    pub(super) fn steer(
        &mut self,
        decision: &Decision,
        simple: bool,
        parse: bool,
        at: usize,
        world: &impl World,
        out: &mut Outbox,
    ) {
        let (own, target) = match self.need(decision, world) {
            Need::Encrypted => (Own::Set, State::Set),
            Need::Native if !parse => (Own::Restore, State::Default),
            _ => return,
        };
        if own == Own::Set {
            self.cycle.protect();
        }
        let stale = own == Own::Set && self.needs_replan(world);
        if self.route.state() == target && !stale {
            return;
        }
        let proven = self.route.is_proven() || world.is_proven();
        let overtakes = |place: &Place| {
            own == Own::Restore && matches!(place, Place::Cycle(_)) && self.cycle.is_protected()
        };
        let place = self.place(simple, at, proven);
        // What was sent before in this cycle needs the route as it is.
        match place.filter(|place| !overtakes(place)) {
            Some(place) => {
                let replans = stale && self.may_replan(place, decision, at, world);
                if replans {
                    self.inject(Own::Replan, target, place, out);
                }
                if replans || self.route.state() != target {
                    let place = if replans { place.behind() } else { place };
                    self.inject(own, target, place, out);
                }
            }
            None if own == Own::Set && !self.cycle.is_skipping() => {
                self.tally.rare().not_steered += 1;
            }
            None => {}
        }
    }

    /// In front of a BEGIN, while it is not known whether this user may set the route: finds out.
    /// A SET that fails later, inside the transaction, would abort it.
    pub(super) fn prove(
        &mut self,
        decision: &Decision,
        simple: bool,
        at: usize,
        world: &impl World,
        out: &mut Outbox,
    ) {
        if decision.effects.intersects(Effects::BEGINS)
            && self.route.needs_proof()
            && !self.client_has_route(world)
            && !self.relay_only
            && world.has_protected()
            && !world.is_proven()
            && !world.reads_encrypted_already()
            && let Some(mut place @ (Place::Query | Place::Cycle(_))) =
                self.place(simple, at, false)
        {
            self.route.proof_sent();
            if world.replans().is_none() {
                // Within a transaction it would be too late to find that out.
                self.inject(Own::Replan, State::Default, place, out);
                place = place.behind();
            }
            self.inject(Own::Proof, State::Default, place, out);
        }
    }

    /// The server is asked to plan anew what it has planned.
    pub(super) fn replanned(&mut self) {
        self.route.replanned();
        self.names.replanned();
    }

    /// True if the server has planned what may need the route now, and can be asked to do so anew.
    pub(super) fn needs_replan(&self, world: &impl World) -> bool {
        self.route.has_stale_plans() && world.replans() != Some(false)
    }

    /// True if the server can be asked here to plan anew what it has planned: if it chooses the engine as
    /// it plans, a SET comes too late for that. Where a refusal would cost the client its transaction,
    /// only if there will be none. DISCARD takes a snapshot, which a SET does not: within a transaction only
    /// directly in front of the read, whose message is `at`, and not of something before that
    /// (`LOCK TABLE …; SELECT …`, `SET TRANSACTION …`), for which it would come too early.
    fn may_replan(&self, place: Place, decision: &Decision, at: usize, world: &impl World) -> bool {
        let in_front = match place {
            Place::Query => !decision.effects.intersects(Effects::MULTIPLE),
            Place::Cycle(anchor) => anchor.offset == at,
            Place::Inline => true,
        };
        let alone = matches!(place, Place::Query | Place::Cycle(_))
            && self.cycle.sending(&self.ledger) == Sending::Idle;
        alone || in_front && world.replans() == Some(true)
    }

    /// In front of the Bind of a statement that reads encrypted data and was planned where the route was
    /// not set: if the server refuses DISCARD PLANS, the statement is parsed again.
    pub(super) fn parse_again_in_front(
        &mut self,
        statement: &[u8],
        decision: &Decision,
        at: usize,
        world: &impl World,
        out: &mut Outbox,
    ) {
        if world.replans() != Some(false) || self.need(decision, world) != Need::Encrypted {
            return;
        }
        let proven = self.route.is_proven() || world.is_proven();
        let Some(Place::Cycle(anchor)) = self.place(false, at, proven) else {
            return;
        };
        let (names, deciding) = self.naming(world);
        let Some(mut messages) = names.parse_again(statement, &deciding) else {
            return;
        };
        compose::sync(&mut messages);
        out.to_server.insert_at(anchor.offset, messages.into());
        self.ledger.insert_steering(anchor.ledger, Own::Parse);
        self.cycle.shift();
    }

    fn inject(&mut self, own: Own, target: State, place: Place, out: &mut Outbox) {
        let commands = Arc::clone(&self.policy.commands);
        let clients = (own == Own::Restore && self.policy.enforce && !self.ledger.has_changes())
            .then(|| self.context.clients_route(commands.name()))
            .flatten();
        let put_back = commands.put_back(clients);
        let forms = match own {
            Own::Restore => put_back.as_ref().unwrap_or(&commands.restore),
            Own::Proof => &commands.proof,
            Own::Replan => &commands.replan,
            _ => &commands.set,
        };
        match (own, &place) {
            (Own::Set, Place::Query) => self.tally.rare().set_query += 1,
            (Own::Set, Place::Cycle(_)) if self.cycle.is_bare() => {
                self.tally.rare().set_query += 1;
            }
            (Own::Set, Place::Cycle(_)) => self.tally.rare().set_cycle += 1,
            (Own::Set, Place::Inline) => self.tally.rare().set_inline += 1,
            (Own::Restore, _) => self.tally.rare().restores += 1,
            (Own::Proof, _) => self.tally.rare().proofs += 1,
            (Own::Replan, _) => self.replanned(),
            _ => {}
        }
        let sending = self.cycle.sending(&self.ledger);
        match place {
            Place::Query => {
                out.to_server.own(forms.query.clone());
                self.ledger.push(Expect::OwnCycle(own));
            }
            Place::Cycle(anchor) => {
                let form = if self.cycle.is_bare() {
                    &forms.query
                } else {
                    &forms.cycle
                };
                out.to_server.insert_at(anchor.offset, form.clone());
                self.ledger.insert_steering(anchor.ledger, own);
                if own.is_steering() {
                    self.names.steer_bound(own == Own::Set);
                }
                self.cycle.shift();
            }
            Place::Inline => {
                out.to_server.own(forms.inline.clone());
                self.ledger.push(Expect::OwnInline(own, 6));
            }
        }
        match (own, place) {
            (Own::Proof | Own::Replan, _) => {}
            (_, Place::Inline) => self.route.changed_inline(target),
            // It may be skipped together with the Query that it is for.
            (_, Place::Query) if self.cycle.is_unsynced() => self.route.unknown(),
            _ => self.route.changed(target, sending != Sending::Idle),
        }
    }
}
