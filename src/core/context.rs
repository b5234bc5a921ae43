//! How names resolve and texts are read in this session: what it has changed and made for itself, as
//! of everything that was answered, and what the statements in flight may yet change.
//!
//! | answer | what becomes of it |
//! |---|---|
//! | CommandComplete (of a Query: its ReadyForQuery) | the statement's changes hold, until its transaction is undone |
//! | ReadyForQuery, idle, no error in its cycle | what was changed lasts |
//! | ReadyForQuery, idle, behind an error | what its cycle had changed is undone |
//! | ReadyForQuery, failed | ROLLBACK, or ROLLBACK TO, will say what holds again |
//! | ParameterStatus | how texts are read from here on; at a ReadyForQuery this is so whatever the statements have said |
//!
//! A statement that is sent while others are in flight may be run in any of the states that these
//! lead to: it is decided in each of them, and read in each way that they lead to. (PostgreSQL reports a
//! parameter before the CommandComplete of what has changed it until version 13, and before the
//! ReadyForQuery since 14.) How a prepared statement is read its Parse has settled.

use std::sync::Arc;

use crate::protection::{
    Backslash, Decision, Effects, Encoding, Lexing, SessionChange, SessionNames,
};
use crate::sql::{Change, ComputingResource, may_be_read_otherwise};
use crate::wire::backend::{Status, parameter_status};

use super::interface::World;
use super::ledger::{Expect, Ledger};
use super::remembered::{Generation, Remembered};

/// In so many states, at most, is one statement decided; behind more of them, names may lead
/// anywhere.
const MAX_STATES: usize = 4;

/// So many of the messages in flight are followed; behind more of them, names may lead anywhere. The
/// client waits before there are so many, where that is sure to come to an end.
pub(super) const MAX_FOLLOWED: usize = 256;

/// How names resolve and texts are read in one session.
#[derive(Debug)]
pub(super) struct Context {
    names: SessionNames,
    /// How the server reads texts, as far as it has said so.
    reported: Lexing,
    /// It says the same as what the session has set.
    agrees: bool,
    /// A statement of the client's present cycle has failed.
    failed: bool,
    /// DDL of the session's own was committed, and the catalogs have not been read since.
    outruns_catalogs: bool,
    remembered: Remembered,
}

impl Context {
    pub(super) fn new(names: SessionNames) -> Self {
        let reported = names.lexings().first().copied().unwrap_or_default();
        Self {
            reported,
            agrees: names.lexing_is(reported),
            names,
            failed: false,
            outruns_catalogs: false,
            remembered: Remembered::default(),
        }
    }

    /// What was decided of this text, if it was sent not long ago and nothing has changed since by
    /// which it is decided.
    pub(super) fn decided(&self, text: &[u8], generation: Generation) -> Option<Arc<Decision>> {
        self.remembered.decided(text, generation, self.reported)
    }

    /// The same of the text that this begins with, and that a zero ends.
    #[inline]
    pub(super) fn decided_up_to_zero(
        &self,
        begins: &[u8],
        generation: Generation,
    ) -> Option<Arc<Decision>> {
        self.remembered
            .decided_up_to_zero(begins, generation, self.reported)
    }

    /// Remembers what was decided of a text.
    pub(super) fn remember(
        &mut self,
        text: &[u8],
        generation: Generation,
        decision: &Arc<Decision>,
    ) {
        let lexing = self.reported;
        self.remembered.remember(text, generation, lexing, decision);
    }

    /// What was decided of texts in ASCII that began as this one, if it is so of this one, too.
    #[inline]
    pub(super) fn begins_as_before(
        &self,
        text: &[u8],
        generation: Generation,
    ) -> Option<Arc<Decision>> {
        let (beginning, rest, decision) = self.remembered.begins_as_before(text, generation)?;
        beginning.goes_on(rest).then(|| Arc::clone(decision))
    }

    /// Remembers a text that was decided without reading it.
    pub(super) fn glance(
        &mut self,
        text: &[u8],
        generation: Generation,
        decision: &Arc<Decision>,
        world: &impl World,
    ) {
        let (names, lexing) = (&self.names, self.reported);
        let look = |head: &[u8]| world.begins(head, names, lexing);
        self.remembered.glance(text, generation, decision, look);
    }

    /// Changes whenever a name may lead elsewhere, by what the session has done.
    pub(super) fn epoch(&self) -> u32 {
        self.names.epoch()
    }

    /// False if these changes leave names where they lead, whatever becomes of them.
    fn may_matter(&self, changes: &[SessionChange]) -> bool {
        let in_transaction = self.names.in_transaction();
        let mut changes = changes.iter();
        changes.any(|change| change.moves_names() || in_transaction && change.ends_transaction())
    }

    /// These changes hold.
    fn apply(&mut self, changes: &[SessionChange]) {
        self.names.apply(changes);
        self.agrees = self.names.lexing_is(self.reported);
    }

    /// True if there is one state in which a statement that is sent now will be run, and one way in which
    /// it will be read, when nothing is on its way; `status` is as of the last ReadyForQuery.
    #[inline]
    pub(super) fn is_certain(&self, status: Status) -> bool {
        self.agrees
            && !self.outruns_catalogs
            && (status != Status::Idle || !self.names.in_transaction())
    }

    /// What is kept beside the names says what they say.
    pub(super) fn check(&self) -> Result<(), String> {
        let agrees = self.names.lexing_is(self.reported);
        let rules = [(self.agrees == agrees, "whether both say the same")];
        super::check::all("how names resolve", rules, self)
    }

    /// True if a route of the client's own is in force, as of all that was answered.
    pub(super) fn has_route(&self) -> bool {
        self.names.has_route()
    }

    /// True if by the client's own route encrypted data is read, as of all that was answered.
    pub(super) fn route_reads_encrypted(&self) -> bool {
        self.names.route_reads_encrypted()
    }

    /// A statement has succeeded. `rolled_back`: the server has answered ROLLBACK to it.
    pub(super) fn succeeded(&mut self, decision: &Decision, rolled_back: bool) {
        if decision.changes.is_empty() {
            return;
        }
        begin_implicitly(&mut self.names, &decision.changes);
        let commits = |change: &SessionChange| *change == Change::Commit.into();
        if rolled_back && decision.changes.iter().any(commits) {
            // The COMMIT of a transaction that had failed.
            let rolled_back = |change: &SessionChange| {
                if commits(change) {
                    Change::Rollback.into()
                } else {
                    change.clone()
                }
            };
            let changes: Vec<_> = decision.changes.iter().map(rolled_back).collect();
            self.apply(&changes);
        } else {
            self.apply(&decision.changes);
        }
    }

    /// A Query has failed that may have had several statements: what was committed in front of the
    /// one that failed is not known.
    pub(super) fn query_failed(&mut self, decision: &Decision) {
        let commits = |change: &SessionChange| *change == Change::Commit.into();
        if decision.changes.iter().any(commits) {
            self.apply(&[Change::Commit.into(), Change::Anything.into()]);
        }
    }

    /// An ErrorResponse to the client's cycle came. Outside a transaction block, what the same cycle
    /// had changed is undone with it; its ReadyForQuery says whether that is so.
    pub(super) fn failed(&mut self) {
        self.failed = true;
    }

    /// How the server reads texts, as far as it has said so.
    pub(super) fn lexing(&self) -> Lexing {
        self.reported
    }

    /// A ParameterStatus came, with this body.
    pub(super) fn reported(&mut self, body: &[u8]) {
        if let Some((parameter, value)) = parameter_status(body) {
            self.reported.report(parameter, value);
            self.agrees = self.names.lexing_is(self.reported);
        }
    }

    /// The encoding in which the server writes what it says of a statement with this decision; `None`:
    /// that statement, or one before it of which the server has not told yet, may have changed it.
    pub(super) fn written_in(&self, decision: Option<&Decision>) -> Option<Encoding> {
        let keeps = |change: &SessionChange| {
            !matches!(
                change,
                SessionChange::Stated(
                    Change::Encoding { .. }
                        | Change::Anything
                        | Change::DiscardAll
                        | Change::Rollback
                        | Change::RollbackTo(_)
                )
            )
        };
        let settled = self.names.lexing_is(self.reported)
            && decision.is_none_or(|decision| decision.changes.iter().all(keeps));
        settled.then_some(self.reported.encoding)
    }

    /// The value that the client has given the setting of this name, for the session, if it has.
    pub(super) fn clients_route(&self, setting: &str) -> Option<&str> {
        self.names.route_value(setting)
    }

    /// Where a statement with this decision ran, as of all that was answered before it. A text that
    /// says so itself may have failed in front of it or behind.
    pub(super) fn computing_resource(
        &self,
        decision: Option<&Decision>,
    ) -> Option<ComputingResource> {
        let says = |change: &SessionChange| {
            matches!(
                change,
                SessionChange::Stated(Change::ComputingResource { .. } | Change::DiscardAll)
            )
        };
        let said = decision.is_some_and(|decision| decision.changes.iter().any(says));
        self.names.computing_resource().filter(|_| !said)
    }

    /// A ReadyForQuery of the client's came.
    #[inline]
    pub(super) fn answered(&mut self, status: Status) {
        let is_as_it_was = self.names.in_transaction() == (status != Status::Idle);
        if !is_as_it_was || self.failed || !self.agrees {
            self.answered_otherwise(status);
        }
    }

    /// The same where something has failed, has begun or has ended, or was reported.
    #[inline(never)]
    fn answered_otherwise(&mut self, status: Status) {
        let failed = std::mem::take(&mut self.failed);
        let in_transaction = self.names.in_transaction();
        match status {
            Status::Idle if in_transaction && failed => self.end(&Change::Rollback),
            Status::Idle if in_transaction => self.end(&Change::Commit),
            Status::Transaction if !in_transaction => self.apply(&[Change::Begin.into()]),
            _ => {}
        }
        if !self.agrees {
            self.names.lexing_was_reported(self.reported);
            self.agrees = self.names.lexing_is(self.reported);
        }
    }

    /// The transaction was rolled back, by something of ours.
    pub(super) fn rolled_back(&mut self) {
        self.failed = false;
        if self.names.in_transaction() {
            self.end(&Change::Rollback);
        }
    }

    fn end(&mut self, end: &Change) {
        self.apply(&[end.clone().into()]);
    }

    /// DDL of the session's own was committed; the catalogs are to be read again. The names as they
    /// are by it.
    pub(super) fn catalog_changed(&mut self) -> &SessionNames {
        self.outruns_catalogs = true;
        &self.names
    }

    /// A statement is about to be looked at: what had to be remembered of committed DDL is
    /// forgotten once the catalogs tell of it.
    pub(super) fn catch_up(&mut self, world: &impl World) {
        if self.outruns_catalogs && !self.names.in_transaction() && world.knows_the_catalogs() {
            self.outruns_catalogs = false;
            self.names.catalogs_were_read();
        }
    }
}

/// What a statement is decided by that is sent now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deciding<'a, W> {
    pub(super) world: &'a W,
    /// The transaction status, as of the last ReadyForQuery, was not idle.
    pub(super) in_block: bool,
    pub(super) context: &'a Context,
    pub(super) ledger: &'a Ledger,
    /// What the text changes that runs the statement by its name, in front of that or behind.
    pub(super) around: &'a [SessionChange],
}

impl<W: World> Deciding<'_, W> {
    /// Changes whenever a statement may be decided differently, by what is known or by what the
    /// session has done.
    pub(super) fn generation(&self) -> Generation {
        (self.world.generation(), self.context.epoch())
    }

    /// True unless what is in flight, or the text around the statement, may change how names resolve.
    pub(super) fn is_settled(&self) -> bool {
        let in_transaction = self.context.names.in_transaction();
        !self.ledger.moves_names(in_transaction)
            && !self.may_be_undone()
            && !self.context.may_matter(self.around)
    }

    /// True while a cycle that has changed something outside a transaction block is not answered in
    /// full: if it fails, that is undone.
    fn may_be_undone(&self) -> bool {
        !self.in_block && self.context.names.in_transaction()
    }

    /// True if a route of the client's own is in force where a statement is sent now, behind all
    /// that is in flight.
    pub(super) fn has_route(&self) -> bool {
        if !self.ledger.has_changes() {
            return self.context.has_route();
        }
        let mut ahead = self.ahead();
        for step in self.steps() {
            ahead.step(step);
        }
        ahead.names.has_route()
    }

    /// True if there is one state in which a statement that is sent now will be run, and one way in
    /// which it will be read.
    pub(super) fn is_certain(&self) -> bool {
        self.context.agrees && self.is_settled()
    }

    /// The ways in which the server may read `text` where it is sent now.
    pub(super) fn readings(&self, text: &[u8]) -> Readings {
        let names = &self.context.names;
        let reported = self.context.reported;
        let mut readings = Readings {
            first: reported,
            others: Vec::new(),
        };
        if self.is_certain() || !may_be_read_otherwise(text) {
            return readings;
        }
        readings.add_all(names.lexings());
        if self.may_be_undone() {
            readings.add_all(self.undone().lexings());
        }
        let mut ahead = self.ahead();
        for step in self.steps() {
            if ahead.step(step) {
                readings.add_all(ahead.names.lexings());
            }
        }
        readings.keep_only_what_matters(text);
        readings
    }

    /// What `text` does where it is sent now, behind all that is in flight. `whole` is false where
    /// only its head is in hand.
    pub(super) fn decide(&self, text: &[u8], whole: bool) -> Arc<Decision> {
        if self.is_certain() {
            let Context {
                names, reported, ..
            } = self.context;
            return self.world.decide(text, whole, names, *reported);
        }
        self.decide_read(text, whole, &self.readings(text))
    }

    /// What `text` does if it is run now, and was read in one of these ways.
    pub(super) fn decide_read(
        &self,
        text: &[u8],
        whole: bool,
        readings: &Readings,
    ) -> Arc<Decision> {
        let decided = self.decide_as(text, whole, readings.first);
        let others = readings.others.iter();
        others.fold(decided, |decided, lexing| {
            either(&decided, &self.decide_as(text, whole, *lexing))
        })
    }

    /// The names, if the cycle that is being answered fails.
    fn undone(&self) -> SessionNames {
        let mut undone = self.context.names.clone();
        undone.apply(&[Change::Rollback.into()]);
        undone
    }

    /// What is in flight, in its order, as far as it is followed.
    fn steps(&self) -> impl Iterator<Item = Step<'_>> {
        let entries = self.ledger.iter().take(MAX_FOLLOWED).map(Step::Answered);
        let is_all = self.ledger.len() <= MAX_FOLLOWED;
        entries.chain((!is_all).then_some(Step::Lost))
    }

    fn ahead(&self) -> Ahead {
        Ahead {
            names: self.context.names.clone(),
            in_block: self.in_block,
        }
    }

    fn decide_as(&self, text: &[u8], whole: bool, lexing: Lexing) -> Arc<Decision> {
        let mut decided = self.world.decide(text, whole, &self.context.names, lexing);
        if self.is_settled() {
            return decided;
        }
        let worse = |there: &Decision, decided: &Decision| {
            let reads = |decision: &Decision| decision.effects.intersects(Effects::READS_FOREIGN);
            there.protected.is_some() || reads(there) || !reads(decided)
        };
        if self.may_be_undone() && decided.protected.is_none() {
            let there = self.world.decide(text, whole, &self.undone(), lexing);
            if worse(&there, &decided) {
                decided = there;
            }
        }
        let mut ahead = self.ahead();
        let mut states = 0;
        for step in self.steps().chain(self.around.iter().map(Step::Changed)) {
            if decided.protected.is_some() || states > MAX_STATES {
                break;
            }
            if !ahead.step(step) {
                continue;
            }
            states += 1;
            if states > MAX_STATES {
                ahead.names.apply(&[Change::Anything.into()]);
            }
            let there = self.world.decide(text, whole, &ahead.names, lexing);
            if worse(&there, &decided) {
                decided = there;
            }
        }
        decided
    }
}

/// The ways in which the server may read a text: nearly always one.
#[derive(Debug, Clone, Default)]
pub(super) struct Readings {
    first: Lexing,
    others: Vec<Lexing>,
}

impl Readings {
    /// Of a text in the server's encoding.
    pub(super) fn in_utf8(backslash: Backslash) -> Self {
        Self {
            first: Lexing {
                backslash,
                encoding: Encoding::default(),
            },
            others: Vec::new(),
        }
    }

    /// True if both read a text in one way, and it is the same.
    pub(super) fn are(&self, others: &Self) -> bool {
        self.first == others.first && self.others.is_empty() && others.others.is_empty()
    }

    fn add_all(&mut self, lexings: Vec<Lexing>) {
        for lexing in lexings {
            if lexing != self.first && !self.others.contains(&lexing) {
                self.others.push(lexing);
            }
        }
    }

    /// Those that read this text as it stands are one.
    fn keep_only_what_matters(&mut self, text: &[u8]) {
        let mut plain = !self.first.matters(text);
        let is_new = |lexing: &Lexing| lexing.matters(text) || !std::mem::replace(&mut plain, true);
        self.others.retain(is_new);
    }
}

/// What a text does that is read in one of two ways.
fn either(one: &Decision, other: &Decision) -> Arc<Decision> {
    let mut both = one.clone();
    both.effects |= other.effects;
    both.hint = both.hint.or(other.hint);
    if both.protected.is_none() {
        both.protected.clone_from(&other.protected);
        both.only_stores = other.only_stores;
    }
    for name in &other.names {
        if !both.names.contains(name) {
            both.names.push(name.clone());
        }
    }
    both.suspect(other);
    if both.changes != other.changes {
        both.changes.push(Change::Anything.into());
    }
    Arc::new(both)
}

/// What leads from one state of a session to the next.
#[derive(Clone, Copy)]
enum Step<'a> {
    /// The message that this entry waits for succeeds.
    Answered(&'a Expect),
    /// A change of the text that is being decided holds.
    Changed(&'a SessionChange),
    /// More succeeds than is followed.
    Lost,
}

/// A session's names, as they will be once what is in flight has succeeded.
struct Ahead {
    names: SessionNames,
    /// In a transaction block that a BEGIN has begun.
    in_block: bool,
}

impl Ahead {
    /// True if names may lead elsewhere then.
    fn step(&mut self, step: Step<'_>) -> bool {
        match step {
            Step::Answered(entry) => self.follow(entry),
            Step::Changed(change) => self.change(std::slice::from_ref(change)),
            Step::Lost => self.change(&[Change::Anything.into()]),
        }
    }

    /// The message that this entry waits for succeeds. True if names may lead elsewhere then.
    fn follow(&mut self, entry: &Expect) -> bool {
        let before = self.names.epoch();
        if let Some(sent) = entry.runs() {
            self.change(&sent.decision.changes);
        }
        if entry.ends_cycle() && !self.in_block && self.names.in_transaction() {
            self.names.apply(&[Change::Commit.into()]);
        }
        self.names.epoch() != before
    }

    /// These changes hold. True if names may lead elsewhere then.
    fn change(&mut self, changes: &[SessionChange]) -> bool {
        if changes.is_empty() {
            return false;
        }
        let before = self.names.epoch();
        begin_implicitly(&mut self.names, changes);
        self.names.apply(changes);
        for change in changes {
            match change {
                SessionChange::Stated(Change::Begin) => self.in_block = true,
                SessionChange::Stated(Change::Commit | Change::Rollback) => {
                    self.in_block = false;
                }
                _ => {}
            }
        }
        self.names.epoch() != before
    }
}

/// What changes something outside a transaction block begins a transaction of its own, which ends
/// with the cycle; a BEGIN within the same cycle goes on with it.
fn begin_implicitly(names: &mut SessionNames, changes: &[SessionChange]) {
    if !changes.is_empty() && !names.in_transaction() {
        names.apply(&[Change::Begin.into()]);
    }
}
