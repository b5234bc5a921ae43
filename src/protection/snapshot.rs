//! One immutable reading of what is known of a database: names, reasons, a matcher over the names,
//! and the decisions already made.
//!
//! Most statements name no protected relation. For them a scan for all names at once, and the
//! first keyword, are the whole decision: no parsing, no allocation. Only a text that holds one of
//! the names (or a word that may hide one) is read in full, once. Either answer is remembered by the
//! exact text.

mod build;

use std::borrow::Cow;
use std::sync::{Arc, LazyLock, Weak};

use super::decision::Decision;
use super::memo::{Hasher, MAX_TEXT, Memo, QUICK_BYTES, READ_BYTES};
use super::names::NameContext;
use super::own::Own;
use super::projects::{Encrypted, Projects};
use super::quick::Quick;
use super::reason::Reason;
use super::relations::{Relations, Standing};
use super::resolve::Resolver;
use super::session::SessionNames;
use crate::catalog::{HologresVersion, RouteSettings};
use crate::sql::{self, Analysis, Backslash, Effects, Lexing, Reading, RelationName, WrittenName};

pub use build::SnapshotBuilder;

/// A shorter text that need not be read is scanned again in less time than it is looked up.
const MIN_QUICK_TEXT: usize = 128;

/// For decisions that do not depend on what names mean.
static ANY_NAMES: LazyLock<NameContext> = LazyLock::new(NameContext::default);

/// Of a session that has made nothing.
static NOTHING: LazyLock<Own> = LazyLock::new(Own::default);

/// How far the beginning of a text leads in one snapshot.
#[derive(Debug, Clone)]
pub struct Beginning {
    /// The snapshot's, while anybody else has it.
    quick: Weak<Quick>,
    state: u16,
    /// No number that follows makes a difference.
    takes_numbers: bool,
}

impl Beginning {
    /// True if a text that begins so and goes on so is in ASCII and decided as if it ended there: by the
    /// first keyword alone.
    #[inline]
    pub fn goes_on(&self, rest: &[u8]) -> bool {
        let number = rest.strip_suffix(b";").unwrap_or(rest);
        if self.takes_numbers && sql::is_digits(number) {
            // As of a query for what has this id.
            return true;
        }
        let quick = self.quick.upgrade();
        quick.is_some_and(|quick| quick.goes_on(self.state, rest))
    }
}

/// What is known of one database at one time.
#[derive(Debug)]
pub struct Snapshot {
    generation: u64,
    relations: Arc<Relations>,
    /// `None`: nobody has read the catalogs.
    projects: Option<Arc<Projects>>,
    encrypted: Arc<Encrypted>,
    protected: usize,
    foreign: usize,
    route: RouteSettings,
    version: Option<HologresVersion>,
    search_path: String,
    blind: bool,
    /// What sessions have made and dropped since the catalogs were read.
    recent: Arc<Own>,
    quick: Arc<Quick>,
    hasher: Hasher,
    read: Memo,
    need_not_be_read: Memo,
}

impl Snapshot {
    /// The same snapshot under another generation, in which any relation that is not known may lead
    /// to MaxCompute (`blind`) or does not. This is cheap: the names and the matcher are shared.
    #[must_use]
    pub fn with_blindness(&self, blind: bool, generation: u64) -> Self {
        let recent = if blind {
            Arc::clone(&self.recent)
        } else {
            Arc::default()
        };
        self.with_recent(recent, blind, generation)
    }

    /// The same snapshot under another generation, after this session has committed what it has made
    /// and dropped; blind, if that is not all.
    #[must_use]
    pub(super) fn after(&self, session: &SessionNames, generation: u64) -> Self {
        let own = session.own();
        let recent = self.recent.with(own);
        let blind = self.blind || !own.names_all() || !recent.names_all();
        self.with_recent(Arc::new(recent), blind, generation)
    }

    /// The same snapshot under another generation, with what sessions have made and dropped since the
    /// catalogs were read for the one before it.
    #[must_use]
    pub(super) fn still_after(&self, before: &Self, generation: u64) -> Self {
        let blind = self.blind || before.blind;
        self.with_recent(Arc::clone(&before.recent), blind, generation)
    }

    /// True if all that is known of relations is what the catalogs say.
    pub(super) fn is_settled(&self) -> bool {
        !self.blind && self.recent.is_empty()
    }

    fn with_recent(&self, recent: Arc<Own>, blind: bool, generation: u64) -> Self {
        Self {
            recent,
            generation,
            relations: Arc::clone(&self.relations),
            projects: self.projects.clone(),
            encrypted: Arc::clone(&self.encrypted),
            quick: Arc::clone(&self.quick),
            route: self.route.clone(),
            search_path: self.search_path.clone(),
            blind,
            hasher: Hasher::default(),
            read: Memo::new(READ_BYTES),
            need_not_be_read: Memo::new(QUICK_BYTES),
            ..*self
        }
    }

    /// True if any relation that is not known may lead to MaxCompute.
    pub fn is_blind(&self) -> bool {
        self.blind
    }

    /// The name of the database, without `@warehouse`.
    pub fn database(&self) -> &str {
        self.relations.database()
    }

    /// The snapshot's number; it counts up with each snapshot of a database.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The relations that are protected by name, each with its schema and the reason, in no order.
    pub fn protected_relations(&self) -> impl Iterator<Item = (&str, &str, &Arc<Reason>)> {
        self.relations.protected()
    }

    /// How many relations are protected by name; those that patterns protect are not counted.
    pub fn protected_count(&self) -> usize {
        self.protected
    }

    /// How many relations lead to MaxCompute data that is not known to be encrypted.
    pub fn foreign_count(&self) -> usize {
        self.foreign
    }

    /// True if a relation of this database leads to data of this project (named as
    /// [`project_key`](crate::catalog::project_key) spells it) that is not known to be unencrypted.
    /// `None`: nobody has read the catalogs.
    pub fn has_project(&self, project: &str) -> Option<bool> {
        let projects = self.projects.as_ref()?;
        Some(projects.has(project))
    }

    /// True if a relation or function of this name leads to such data of this project. `None`: the
    /// catalogs have none of this name that leads to MaxCompute, or nobody has read them.
    pub fn leads_to(&self, name: &WrittenName, project: &str) -> Option<bool> {
        self.projects.as_ref()?.lead_to(name, project)
    }

    /// The settings that choose the engine in a fresh session of this database.
    pub fn route(&self) -> &RouteSettings {
        &self.route
    }

    /// The Hologres version, if it could be read.
    pub fn version(&self) -> Option<HologresVersion> {
        self.version
    }

    /// The `search_path` of a fresh session, as SHOW prints it.
    pub fn search_path(&self) -> &str {
        &self.search_path
    }

    /// The relations protected by name, in no order: schema, name, reason.
    pub fn protected(&self) -> impl Iterator<Item = (&str, &str, &Arc<Reason>)> {
        self.relations.protected()
    }

    /// What the statements of `sql` touch and do, for a session that has changed and made what
    /// `session` says and whose texts the server reads so. `sql` is the text as the client sent it,
    /// without the terminating zero. What a statement only stores is no reason here to call it
    /// protected: the session knows where it leads once it is used.
    pub fn decide_in(&self, sql: &[u8], session: &SessionNames, lexing: Lexing) -> Arc<Decision> {
        let decision = if lexing.is_default() {
            self.decide_with_own(sql, session, Backslash::Plain)
        } else {
            let (sql, backslash) = lexing.read(sql);
            self.decide_with_own(&sql, session, backslash)
        };
        if !decision.only_stores {
            return decision;
        }
        Arc::new(Decision {
            protected: None,
            only_stores: false,
            ..(*decision).clone()
        })
    }

    fn decide_with_own(
        &self,
        sql: &[u8],
        session: &SessionNames,
        backslash: Backslash,
    ) -> Arc<Decision> {
        let own = session.own();
        if own.is_empty() && backslash == Backslash::Plain {
            return self.decide(sql, session.names());
        }
        // What is remembered goes by the text alone. What need not be read is found without telling
        // strings from the rest.
        if let Some(decision) = self.quick.transaction(sql) {
            return decision;
        }
        if own.adds_nothing()
            && let Some(decision) = self.quick(sql)
        {
            return decision;
        }
        let reading = sql::analyze(sql, backslash);
        let session = self.since(session);
        Arc::new(self.read(reading, session.names(), session.own(), Some(&session)))
    }

    /// A session's names, with what all sessions have made since the catalogs were read.
    fn since<'s>(&self, session: &'s SessionNames) -> Cow<'s, SessionNames> {
        if self.recent.is_empty() {
            Cow::Borrowed(session)
        } else {
            Cow::Owned(session.clone().after(&self.recent))
        }
    }

    /// What the statements of `sql` touch and do. `sql` is the text in the server's encoding, read
    /// with `standard_conforming_strings` on, without the terminating zero.
    pub fn decide(&self, sql: &[u8], names: &NameContext) -> Arc<Decision> {
        if let Some(decision) = self.quick.transaction(sql) {
            return decision;
        }
        if sql.len() > MAX_TEXT {
            let quick = self.quick(sql);
            return quick.unwrap_or_else(|| Arc::new(self.read_plain(sql, names)));
        }
        let is_long = sql.len() >= MIN_QUICK_TEXT;
        // A short text is passed faster than it is found again.
        if !is_long && let Some(decision) = self.quick(sql) {
            return decision;
        }
        let text = self.hasher.text(sql);
        if is_long && let Some(decision) = self.need_not_be_read.get(text, sql, &ANY_NAMES) {
            return decision;
        }
        let key = self.hasher.with_names(text, names);
        if let Some(decision) = self.read.get(key, sql, names) {
            return decision;
        }
        if is_long && let Some(decision) = self.quick(sql) {
            let kept = Arc::clone(&decision);
            self.need_not_be_read.insert(text, sql, &ANY_NAMES, kept);
            return decision;
        }
        let decision = Arc::new(self.read_plain(sql, names));
        self.read.insert(key, sql, names, Arc::clone(&decision));
        decision
    }

    /// What a text touches and does of which only the head is in hand. What the rest does is not
    /// known: it is taken to do anything, and every identifier of the statement that is cut off
    /// counts as a relation.
    pub fn decide_prefix(&self, head: &[u8], names: &NameContext) -> Arc<Decision> {
        let quick = self.quick.decide_prefix(head);
        quick.unwrap_or_else(|| {
            let reading = sql::analyze_prefix(head, Backslash::Plain);
            Arc::new(self.read(reading, names, &NOTHING, None))
        })
    }

    /// The same as [`Snapshot::decide_prefix`], for a session that has changed and made what
    /// `session` says and whose texts the server reads so.
    pub fn decide_prefix_in(
        &self,
        head: &[u8],
        session: &SessionNames,
        lexing: Lexing,
    ) -> Arc<Decision> {
        let (head, backslash) = lexing.read(head);
        let own = session.own();
        let plain = own.adds_nothing() && self.recent.adds_nothing();
        let quick = plain.then(|| self.quick.decide_prefix(&head));
        quick.flatten().unwrap_or_else(|| {
            let reading = sql::analyze_prefix(&head, backslash);
            let session = self.since(session);
            Arc::new(self.read(reading, session.names(), session.own(), Some(&session)))
        })
    }

    /// Without parsing; while the catalogs are not known in full, any name may be one that matters.
    fn quick(&self, sql: &[u8]) -> Option<Arc<Decision>> {
        if self.blind || !self.recent.adds_nothing() {
            return None;
        }
        self.quick.decide(sql)
    }

    /// What is known of all texts in ASCII that begin so, of a session that has changed and made what
    /// `session` says and whose texts the server reads so; `None`: they have to be looked at from their
    /// beginning.
    pub fn begins(&self, head: &[u8], session: &SessionNames, lexing: Lexing) -> Option<Beginning> {
        let plain = lexing.is_default()
            && !self.blind
            && self.recent.adds_nothing()
            && session.own().adds_nothing();
        let state = plain.then(|| self.quick.begins(head)).flatten()?;
        Some(Beginning {
            quick: Arc::downgrade(&self.quick),
            state,
            takes_numbers: self.quick.takes_numbers(state),
        })
    }

    /// True if statements may read MaxCompute data of which it is not known whether HQE can.
    pub fn has_suspects(&self) -> bool {
        self.blind || self.foreign > 0 || !self.recent.adds_nothing()
    }

    /// Every reason why `sql` is protected: one for each protected relation that it names, in no
    /// order. This is for people; [`Snapshot::decide`] keeps the first.
    pub fn reasons(&self, sql: &[u8], names: &NameContext) -> Vec<Arc<Reason>> {
        let mut reasons: Vec<Arc<Reason>> = Vec::new();
        let reading = sql::analyze(sql, Backslash::Plain);
        let mut tell = |reason| {
            if !reasons.contains(&reason) {
                reasons.push(reason);
            }
        };
        let resolver = self.resolver();
        resolver.visit(
            &reading,
            names,
            &NOTHING,
            None,
            |analysis, standings, _, _| {
                if analysis.reads_anything {
                    self.relations
                        .any_protected()
                        .into_iter()
                        .for_each(&mut tell);
                }
                resolver
                    .stored(analysis, &NOTHING)
                    .into_iter()
                    .for_each(&mut tell);
                for (_, standing) in standings {
                    if let Standing::Protected(reason) = standing {
                        tell(reason);
                    }
                }
            },
        );
        reasons
    }

    fn resolver(&self) -> Resolver<'_> {
        Resolver::new(&self.relations, &self.encrypted, self.blind)
    }

    fn read_plain(&self, sql: &[u8], names: &NameContext) -> Decision {
        let reading = sql::analyze(sql, Backslash::Plain);
        if self.recent.is_empty() {
            return self.read(reading, names, &NOTHING, None);
        }
        let session = SessionNames::somewhere(names.clone()).after(&self.recent);
        self.read(reading, names, session.own(), Some(&session))
    }

    fn read(
        &self,
        reading: Reading<'_>,
        names: &NameContext,
        own: &Own,
        session: Option<&SessionNames>,
    ) -> Decision {
        let mut stored = None;
        let mut decision = Decision {
            effects: reading.effects,
            hint: reading.hint,
            ..Decision::default()
        };
        let resolver = self.resolver();
        resolver.visit(
            &reading,
            names,
            own,
            session,
            |analysis, standings, writing, changes| {
                self.add(&mut decision, analysis, standings);
                decision.effects |= writing;
                decision.changes.extend(changes);
                stored = stored.take().or_else(|| resolver.stored(analysis, own));
            },
        );
        if decision.protected.is_none() {
            decision.only_stores = stored.is_some();
            decision.protected = stored;
        }
        for analysis in reading.statements {
            decision.names.extend(analysis.names);
        }
        decision
    }

    /// Adds what one statement touches.
    fn add(
        &self,
        decision: &mut Decision,
        analysis: &Analysis<'_>,
        standings: Vec<(&RelationName<'_>, Standing)>,
    ) {
        let only_reads = |function| self.relations.only_reads(function);
        if !analysis.calls.iter().all(only_reads) {
            decision.effects |= Effects::CALLS_UNKNOWN;
        }
        if !analysis.calls.is_empty() {
            decision.effects |= Effects::KEEPS_PLANS;
        }
        let sets = |function| self.relations.sets(function);
        for (changes, route) in analysis.calls.iter().flat_map(sets) {
            if route {
                decision.effects |= Effects::ROUTE_DOUBT;
            }
            if !changes.is_empty() {
                decision.effects |= Effects::CHANGES_NAMES;
            }
        }
        if analysis.reads_anything {
            decision.protected = self.relations.any_protected();
            if self.has_suspects() {
                decision.effects |= Effects::READS_FOREIGN;
            }
        }
        let opaque = |function: &&RelationName<'_>| self.relations.may_run_text(function);
        for function in analysis
            .calls
            .iter()
            .filter(opaque)
            .map(RelationName::written)
        {
            if !decision.opaque.contains(&function) {
                decision.opaque.push(function);
            }
        }
        for (relation, standing) in standings {
            match standing {
                Standing::Protected(reason) => {
                    decision.protected.get_or_insert(reason);
                    continue;
                }
                Standing::Foreign => {}
                Standing::Plain => continue,
            }
            decision.effects |= Effects::READS_FOREIGN;
            let suspect = relation.written();
            if !decision.suspects.contains(&suspect) {
                decision.suspects.push(suspect);
            }
        }
    }
}

#[cfg(test)]
mod tests;
