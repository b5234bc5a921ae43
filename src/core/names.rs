//! Which decision a name carries: prepared statements (of the protocol and of SQL alike: one name
//! space in PostgreSQL) and portals (likewise with cursors).
//!
//! A name may be parsed anew, and a Parse may fail: what was sent and is not answered yet is kept
//! apart, and until it is, a name is protected if either says so. Not so in the cycle of the Parse itself: if
//! that fails, the server skips what is behind it.
//!
//! | message | prepared statements | portals |
//! |---|---|---|
//! | Parse | named: pending until ParseComplete; unnamed: replaced at once, unless it may be skipped: then the one before may be there still | |
//! | Bind | | replaced at once: if it fails, what is executed by that name fails, too |
//! | Close | named: pending until CloseComplete; unnamed: as for Parse | dropped at once |
//! | Query | the unnamed one is dropped, if the Query is certain to be read | the same |
//! | PREPARE, DEALLOCATE, DECLARE, CLOSE | as their CommandComplete says | the same |
//! | the end of a transaction | stay | the unnamed one is dropped; cursors WITH HOLD stay |

use std::collections::VecDeque;
use std::sync::Arc;

use crate::protection::{Decision, Effects, NameUse, Reason};
use crate::wire::frontend::Parse;
use crate::wire::{compose, split_cstr};

use super::context::{Deciding, Readings};
use super::interface::World;
use super::kept::{Kept, Weighed, significant, taken};
use super::ledger::{Expect, Ledger, Sent};
use super::remembered::Generation;

/// Texts kept per session, so that statements can be decided again under a newer snapshot.
const TEXT_BUDGET: usize = 256 << 10;

/// A prepared statement.
#[derive(Debug, Clone)]
pub(super) struct Statement {
    decision: Arc<Decision>,
    generation: Generation,
    /// `None`: the text is not kept, and the decision stays as it was at Parse.
    text: Option<Box<[u8]>>,
    /// False if the text is only the head of what was sent.
    whole: bool,
    /// How the server may have read the text.
    readings: Readings,
    /// The cycle of its Parse.
    cycle: u64,
    /// As its Parse has them; `None`: an SQL-level PREPARE made it.
    types: Option<Box<[u8]>>,
    /// It was planned where the route was not set, after so many askings to plan anew.
    planned_natively: Option<u32>,
    /// What its types and its first decision hold; its text has a budget of its own.
    weight: usize,
}

impl Weighed for Statement {
    fn weight(&self) -> usize {
        self.weight
    }
}

impl Statement {
    /// What the statement does where it is run now.
    fn decide(&mut self, deciding: &Deciding<'_, impl World>) -> Arc<Decision> {
        let Some(text) = &self.text else {
            return Arc::clone(&self.decision);
        };
        if !deciding.is_settled() {
            return deciding.decide_read(text, self.whole, &self.readings);
        }
        let generation = deciding.generation();
        if self.generation != generation {
            self.decision = deciding.decide_read(text, self.whole, &self.readings);
            self.generation = generation;
        }
        Arc::clone(&self.decision)
    }

    /// True if the server may keep a plan of it that was made where the route was not set. `fresh`: what was
    /// planned after fewer askings was planned anew since.
    fn is_stale(&self, fresh: u32) -> bool {
        self.planned_natively.is_some_and(|asked| asked >= fresh)
    }
}

/// A portal, or a cursor.
#[derive(Debug, Clone)]
struct Portal {
    sent: Sent,
    cycle: u64,
    /// DECLARE made it in the present transaction: if it is WITH HOLD, COMMIT runs it to its end.
    declared: bool,
}

impl Weighed for Portal {
    fn weight(&self) -> usize {
        self.sent.decision.weight()
    }
}

#[derive(Debug)]
enum Pending {
    Parse(Box<[u8]>, Statement),
    Close(Box<[u8]>),
}

impl Pending {
    /// The statement, if this is a Parse of that name.
    fn parsed(&self, name: &[u8]) -> Option<&Statement> {
        match self {
            Self::Parse(parsed, statement) if **parsed == *significant(name) => Some(statement),
            _ => None,
        }
    }
}

/// The statements of this name whose Parses are in flight, the first one first.
fn parsed<'p>(
    pending: &'p mut VecDeque<Pending>,
    name: &[u8],
) -> impl DoubleEndedIterator<Item = &'p mut Statement> {
    let name = significant(name);
    pending.iter_mut().filter_map(move |pending| match pending {
        Pending::Parse(parsed, statement) if **parsed == *name => Some(statement),
        _ => None,
    })
}

/// The prepared statement that was looked for last, and what was found: most clients run one again and
/// again.
#[derive(Debug)]
struct Last {
    name: Box<[u8]>,
    generation: Generation,
    decision: Arc<Decision>,
}

/// The one of the two that reads encrypted data, if one does; with what the other one may do.
fn either_of(one: Option<Arc<Decision>>, other: Arc<Decision>) -> Arc<Decision> {
    let Some(one) = one else {
        return other;
    };
    let (either, beside) = if one.protected.is_some() || other.protected.is_none() {
        (one, other)
    } else {
        (other, one)
    };
    if either.effects.contains(beside.effects) {
        return either;
    }
    Arc::new(Decision {
        effects: either.effects | beside.effects,
        ..Decision::clone(&either)
    })
}

/// True if it is worse to take the first for the second than the other way round.
fn graver(first: &Decision, second: &Decision) -> bool {
    let gravity = |decision: &Decision| {
        let writes = decision.effects.intersects(Effects::WRITES);
        (decision.protected.is_some(), writes)
    };
    gravity(first) > gravity(second)
}

/// The names of one session.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// Whatever takes one of them away, or another in its place, forgets `last`.
    named: Kept<Statement>,
    last: Option<Box<Last>>,
    unnamed: Option<Arc<Decision>>,
    /// The cycle of its Parse.
    unnamed_cycle: u64,
    /// What the unnamed statement was before a Parse or Close that the server may skip, for an error in
    /// front of it; until nothing is in flight.
    unnamed_before: Option<Arc<Decision>>,
    /// Something of that was answered by an error: it may be there for good.
    unnamed_stays: bool,
    pending: VecDeque<Pending>,
    /// What the pending statements take.
    pending_bytes: usize,
    portals: Kept<Portal>,
    unnamed_portal: Option<Portal>,
    /// Counts where cycles begin and end: what was parsed and bound in the present one.
    cycle: u64,
    text_bytes: usize,
    /// DDL was sent that may change what is protected; it shows once the transaction is over.
    catalog_changed: bool,
    /// How often the server was asked to plan anew what it has planned, and how often when it did so last.
    asked: u32,
    fresh: u32,
    /// A prepared statement has turned out to be protected whose plan was made where the route was not set.
    needs_plan: bool,
}

impl Names {
    /// A Parse was sent. True if the name has to be kept when it succeeds; without room for it, it is one
    /// of which nothing is known.
    pub(super) fn parse(
        &mut self,
        parse: Parse<'_>,
        decision: &Arc<Decision>,
        whole: bool,
        deciding: &Deciding<'_, impl World>,
    ) -> bool {
        let Parse { name, text, types } = parse;
        if name.is_empty() {
            self.drop_unnamed(deciding.ledger.is_unsynced());
            self.parse_unnamed(Arc::clone(decision));
            return false;
        }
        let readings = deciding.readings(text);
        let mut statement = self.statement(text, Arc::clone(decision), whole, readings, deciding);
        if whole {
            statement.weight += types.len();
            statement.types = Some(types.into());
        }
        if !self.named.has_room(&statement, self.pending_bytes) {
            self.forget_text(Some(statement));
            return false;
        }
        self.pending_bytes += taken(&statement);
        self.pending
            .push_back(Pending::Parse(significant(name).into(), statement));
        true
    }

    /// True if there may be an unnamed statement.
    pub(super) fn has_unnamed(&self) -> bool {
        self.unnamed.is_some() || self.unnamed_before.is_some()
    }

    /// The unnamed statement goes. `perhaps`: the server may skip what takes it away.
    fn drop_unnamed(&mut self, perhaps: bool) {
        let old = self.unnamed.take();
        if !perhaps {
            self.unnamed_before = None;
        } else if let Some(old) = old {
            let before = self.unnamed_before.take();
            self.unnamed_before = Some(either_of(before, old));
        }
    }

    /// An error came: what was sent behind it in its cycle is skipped.
    #[inline]
    pub(super) fn failed(&mut self) {
        self.unnamed_stays |= self.unnamed_before.is_some();
    }

    /// Nothing is in flight: which unnamed statement there is, is as certain as it will be.
    #[inline]
    pub(super) fn rest(&mut self) {
        if self.unnamed_before.is_some() {
            self.settle_unnamed();
        }
    }

    #[cold]
    fn settle_unnamed(&mut self) {
        let before = self.unnamed_before.take();
        if std::mem::take(&mut self.unnamed_stays)
            && let Some(before) = before
        {
            self.unnamed = Some(either_of(self.unnamed.take(), before));
        }
    }

    /// A Parse of the unnamed statement was sent.
    pub(super) fn parse_unnamed(&mut self, decision: Arc<Decision>) {
        self.unnamed = Some(decision);
        self.unnamed_cycle = self.cycle;
    }

    /// A prepared statement, whose text is kept if there is room for it.
    fn statement(
        &mut self,
        text: &[u8],
        decision: Arc<Decision>,
        whole: bool,
        readings: Readings,
        deciding: &Deciding<'_, impl World>,
    ) -> Statement {
        let keep_text = self.text_bytes + text.len() <= TEXT_BUDGET;
        self.text_bytes += if keep_text { text.len() } else { 0 };
        Statement {
            weight: decision.weight(),
            decision,
            generation: deciding.generation(),
            text: keep_text.then(|| text.into()),
            whole,
            readings,
            cycle: self.cycle,
            types: None,
            planned_natively: None,
        }
    }

    /// A prepared statement is planned, if it is not yet. `steered`: the route is set. True if it is known
    /// here what is planned: should it turn out to be protected, [`Names::take_needs_plan`] says so. What is
    /// without a name stays as it is up to its next Parse.
    pub(super) fn planned(&mut self, name: &[u8], steered: bool) -> bool {
        let pending = parsed(&mut self.pending, name).next_back();
        let Some(statement) = pending.or_else(|| self.named.get_mut(name)) else {
            return name.is_empty();
        };
        if !steered {
            statement.planned_natively = Some(self.asked);
        }
        true
    }

    /// The server was asked to plan anew what it has planned.
    pub(super) fn replanned(&mut self) {
        self.asked += 1;
        self.fresh = self.asked;
    }

    /// It did not.
    pub(super) fn plans_are_stale(&mut self) {
        self.fresh = 0;
    }

    /// The Close and the Parse by which a statement is planned anew that was planned where the route
    /// was not set; `None`: it was not, or what the server makes of its text now may be something else.
    pub(super) fn parse_again(
        &mut self,
        name: &[u8],
        deciding: &Deciding<'_, impl World>,
    ) -> Option<Vec<u8>> {
        let is_it = |pending: &Pending| match pending {
            Pending::Parse(pending, _) | Pending::Close(pending) => **pending == *significant(name),
        };
        if self.pending.iter().any(is_it) {
            return None;
        }
        let fresh = self.fresh;
        let statement = self.named.get_mut(name);
        let statement = statement.filter(|known| known.is_stale(fresh))?;
        let (text, types) = (statement.text.as_ref()?, statement.types.as_ref()?);
        if !deciding.readings(text).are(&statement.readings) {
            return None;
        }
        let mut out = Vec::new();
        compose::close_statement(&mut out, name);
        compose::parse(&mut out, name, text, types);
        statement.planned_natively = None;
        Some(out)
    }

    /// A Close of a statement was sent. `perhaps`: the server may skip it. True if it matters when it
    /// succeeds.
    pub(super) fn close(&mut self, name: &[u8], perhaps: bool) -> bool {
        if name.is_empty() {
            self.drop_unnamed(perhaps);
            return false;
        }
        let is_pending = |pending: &Pending| pending.parsed(name).is_some();
        let known = self.named.contains(name) || self.pending.iter().any(is_pending);
        if known {
            self.pending
                .push_back(Pending::Close(significant(name).into()));
        }
        known
    }

    /// The oldest pending Parse or Close was answered, or (`succeeded` false) skipped.
    pub(super) fn resolve(&mut self, succeeded: bool) {
        match self.pending.pop_front() {
            Some(Pending::Parse(name, statement)) => {
                self.pending_bytes -= taken(&statement);
                if succeeded {
                    self.keep(&name, statement);
                } else {
                    self.forget_text(Some(statement));
                }
            }
            Some(Pending::Close(name)) if succeeded => {
                let old = self.remove(&name);
                self.forget_text(old);
            }
            Some(Pending::Close(_)) | None => {}
        }
    }

    /// Keeps a statement that is there now, in place of the one before; there may be no room for it.
    fn keep(&mut self, name: &[u8], statement: Statement) {
        let old = self.remove(name);
        self.forget_text(old);
        if self.named.has_room(&statement, self.pending_bytes) {
            self.named.insert(name, statement);
        } else {
            self.forget_text(Some(statement));
        }
    }

    /// Forgets a statement.
    fn remove(&mut self, name: &[u8]) -> Option<Statement> {
        self.last = None;
        self.named.remove(name)
    }

    fn forget_text(&mut self, statement: Option<Statement>) {
        let freed = statement
            .and_then(|statement| statement.text)
            .map_or(0, |text| text.len());
        self.text_bytes -= freed;
    }

    /// The decision that a name carries now, under the present snapshot.
    pub(super) fn decision(
        &mut self,
        name: &[u8],
        deciding: &Deciding<'_, impl World>,
    ) -> Option<Arc<Decision>> {
        if name.is_empty() {
            return match (&self.unnamed, &self.unnamed_before) {
                (Some(unnamed), _) if self.unnamed_cycle == self.cycle => Some(Arc::clone(unnamed)),
                (unnamed, Some(before)) => Some(either_of(unnamed.clone(), Arc::clone(before))),
                (unnamed, None) => unnamed.clone(),
            };
        }
        let mut decide = |statement: &mut Statement| {
            let decision = statement.decide(deciding);
            self.needs_plan |= decision.protected.is_some() && statement.is_stale(self.fresh);
            decision
        };
        if let Some(last) = parsed(&mut self.pending, name).next_back()
            && last.cycle == self.cycle
        {
            return Some(decide(last));
        }
        let mut found = self.named.get_mut(name).map(&mut decide);
        // Of several the server may take any: the ones before may have failed, and the last one for that they did
        // not.
        for statement in parsed(&mut self.pending, name) {
            let decision = decide(statement);
            found = Some(match found {
                Some(older) => either_of(Some(decision), older),
                None => decision,
            });
        }
        found
    }

    /// True if a statement of this name may run the values of its parameters as a text.
    pub(super) fn may_run_values(&self, name: &[u8]) -> bool {
        let may = |decision: &Arc<Decision>| !decision.opaque.is_empty();
        if name.is_empty() {
            let mut unnamed = self.unnamed.iter().chain(&self.unnamed_before);
            return unnamed.any(may);
        }
        let pending = self.pending.iter();
        let pending = pending.filter_map(|pending| pending.parsed(name));
        let mut all = self.named.get(name).into_iter().chain(pending);
        all.any(|statement| may(&statement.decision))
    }

    /// The same of the name with which this begins, and that a zero ends, where no Parse is on its way and
    /// it is certain how names resolve.
    #[inline]
    pub(super) fn settled_decision(
        &mut self,
        begins: &[u8],
        deciding: &Deciding<'_, impl World>,
    ) -> Option<Arc<Decision>> {
        let generation = deciding.generation();
        if let Some(last) = &self.last
            && begins.get(last.name.len()) == Some(&0)
            && last.generation == generation
            && begins.starts_with(&last.name)
        {
            return Some(Arc::clone(&last.decision));
        }
        let (name, _) = split_cstr(begins)?;
        let decision = self.decision(name, deciding)?;
        // What is longer is cut off by the server.
        if !name.is_empty() && significant(name).len() == name.len() {
            self.last = Some(Box::new(Last {
                name: name.into(),
                generation,
                decision: Arc::clone(&decision),
            }));
        }
        Some(decision)
    }

    /// A Bind was sent.
    pub(super) fn bind(&mut self, name: &[u8], sent: Sent) {
        self.open(name, sent, false);
    }

    fn open(&mut self, name: &[u8], sent: Sent, declared: bool) {
        let portal = Portal {
            sent,
            cycle: self.cycle,
            declared,
        };
        if name.is_empty() {
            self.unnamed_portal = Some(portal);
        } else {
            self.portals.insert(name, portal);
        }
    }

    /// The statement of a portal, and whether the route was set when it was bound.
    pub(super) fn portal(&self, name: &[u8]) -> Option<Sent> {
        let portal = if name.is_empty() {
            self.unnamed_portal.as_ref()
        } else {
            self.portals.get(name)
        };
        portal.map(|portal| portal.sent.clone())
    }

    /// A cycle of the client's begins, or the message was sent that ends one.
    pub(super) fn cycle_turns(&mut self) {
        self.cycle += 1;
    }

    /// The route is set, or put back, in front of the present cycle.
    pub(super) fn steer_bound(&mut self, steered: bool) {
        let all = self.portals.values_mut().chain(&mut self.unnamed_portal);
        for portal in all.filter(|portal| portal.cycle == self.cycle) {
            portal.sent.steered = steered;
        }
    }

    /// A Close of a portal was sent.
    pub(super) fn close_portal(&mut self, name: &[u8]) {
        if name.is_empty() {
            self.unnamed_portal = None;
        } else {
            self.portals.remove(name);
        }
    }

    /// A simple Query was sent: it destroys the unnamed statement and the unnamed portal; unless it
    /// is not certain to be read, since the server may be skipping.
    pub(super) fn simple_query(&mut self, certain: bool) {
        if certain {
            self.unnamed = None;
            self.unnamed_before = None;
            self.unnamed_portal = None;
        }
    }

    /// DDL was sent that may change what is protected.
    pub(super) fn catalog_changes(&mut self) {
        self.catalog_changed = true;
    }

    /// True if [`Names::take_needs_plan`] will say so.
    pub(super) fn needs_plan(&self) -> bool {
        self.needs_plan
    }

    /// True if the server may keep the plan of a statement that was made where the route was not set, and that
    /// is protected by now.
    pub(super) fn take_needs_plan(&mut self) -> bool {
        std::mem::take(&mut self.needs_plan)
    }

    /// True if it shows by now: the transaction is over.
    pub(super) fn take_catalog_changed(&mut self) -> bool {
        std::mem::take(&mut self.catalog_changed)
    }

    /// As many Parses and Closes are pending as the ledger waits for, and no more texts are kept
    /// than there is room for.
    pub(super) fn check(&self, ledger: &Ledger) -> Result<(), String> {
        let awaited = ledger
            .iter()
            .filter(|entry| matches!(entry, Expect::ParseNamed | Expect::CloseNamed));
        let pending = self.pending.iter().filter_map(|pending| match pending {
            Pending::Parse(_, statement) => Some(statement),
            Pending::Close(_) => None,
        });
        let pending_bytes: usize = pending.clone().map(taken).sum();
        let kept = self.named.values().chain(pending);
        let texts = kept.filter_map(|statement| statement.text.as_ref());
        let bytes: usize = texts.map(|text| text.len()).sum();
        let rules = [
            (
                self.pending.len() == awaited.count(),
                "each pending name has its entry in the ledger",
            ),
            (
                self.text_bytes == bytes,
                "the bytes of the texts are counted",
            ),
            (bytes <= TEXT_BUDGET, "the texts have their budget"),
            (
                self.pending_bytes == pending_bytes,
                "the bytes of what is pending are counted",
            ),
            (
                self.last.as_ref().is_none_or(|last| {
                    let known = self.named.get(&last.name);
                    known.is_some_and(|known| {
                        last.generation != known.generation
                            || Arc::ptr_eq(&last.decision, &known.decision)
                    })
                }),
                "what was found last is there",
            ),
            (
                self.named.is_sound() && self.portals.is_sound(),
                "what names keep is counted, and has its budget",
            ),
        ];
        super::check::all("the names", rules, &rules.map(|(holds, _)| holds))
    }

    /// Why a cursor that the present transaction has declared is protected, if one is.
    pub(super) fn declared(&self) -> Option<Arc<Reason>> {
        let mut declared = self.portals.values().filter(|portal| portal.declared);
        declared.find_map(|portal| portal.sent.decision.protected.clone())
    }

    /// The transaction is over: portals do not outlive it, cursors WITH HOLD do, so only what the
    /// protocol made is dropped.
    #[expect(clippy::inline_always, reason = "a call costs as much as a part of it")]
    #[inline(always)]
    pub(super) fn transaction_over(&mut self) {
        self.unnamed_portal = None;
        if !self.portals.is_empty() {
            self.none_is_declared();
        }
    }

    /// The same of portals that have names.
    #[inline(never)]
    fn none_is_declared(&mut self) {
        if self.portals.len() > 64 {
            self.portals.clear();
        }
        for portal in self.portals.values_mut() {
            portal.declared = false;
        }
    }

    /// A statement that makes or drops names by SQL ended. After a failure names are only added:
    /// some of its commands may have succeeded.
    pub(super) fn apply(
        &mut self,
        sent: &Sent,
        deciding: &Deciding<'_, impl World>,
        succeeded: bool,
    ) {
        let decision = &sent.decision;
        // What a text has deallocated that has failed since: its next PREPARE may have succeeded.
        let mut may_be_free = Vec::new();
        for name in &decision.names {
            match name {
                NameUse::Prepare {
                    name,
                    text,
                    backslash,
                } => {
                    let known = (!succeeded)
                        .then(|| self.named.get(name.as_bytes()))
                        .flatten();
                    let mut free = may_be_free.iter().copied();
                    let is_free =
                        free.any(|free: Option<&str>| free.is_none_or(|free| free == name));
                    if known.is_some() && !is_free {
                        continue;
                    }
                    let readings = Readings::in_utf8(*backslash);
                    let decision = deciding.decide_read(text, true, &readings);
                    if known.is_some_and(|known| graver(&known.decision, &decision)) {
                        continue;
                    }
                    let statement = self.statement(text, decision, true, readings, deciding);
                    self.keep(name.as_bytes(), statement);
                }
                NameUse::Deallocate(name) if !succeeded => may_be_free.push(name.as_deref()),
                NameUse::Declare(name)
                    if decision.protected.is_some()
                        || decision.effects.intersects(Effects::READS_FOREIGN) =>
                {
                    self.open(name.as_bytes(), sent.clone(), true);
                }
                NameUse::Deallocate(Some(name)) if succeeded => {
                    let old = self.remove(name.as_bytes());
                    self.forget_text(old);
                }
                NameUse::Deallocate(None) if succeeded => self.forget_statements(),
                NameUse::Close(Some(name)) if succeeded => {
                    self.portals.remove(name.as_bytes());
                }
                NameUse::Close(None) if succeeded => self.portals.clear(),
                _ => {}
            }
        }
    }

    /// DEALLOCATE ALL or DISCARD ALL succeeded.
    pub(super) fn forget_statements(&mut self) {
        self.last = None;
        self.named.clear();
        self.text_bytes = self
            .pending
            .iter()
            .map(|pending| match pending {
                Pending::Parse(_, statement) => {
                    statement.text.as_ref().map_or(0, |text| text.len())
                }
                Pending::Close(_) => 0,
            })
            .sum();
    }
}
