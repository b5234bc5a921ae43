//! One immutable reading of what is known of a database: names, reasons, a matcher over the names,
//! and the decisions already made.
//!
//! Most statements name no protected relation. For them a scan for all names at once, and the
//! first keyword, are the whole decision: no parsing, no allocation. Only a text that holds one of
//! the names (or a word that may hide one) is read in full, once. Either answer is remembered by the
//! exact text.

use std::sync::{Arc, LazyLock};

use super::memo::{Hasher, MAX_TEXT, Memo};
use super::quick::Quick;
use super::relations::{Relations, Standing};
use super::session::Own;
use super::{Change, Decision, Effects, Leads, NameContext, Reason, SessionNames};
use crate::catalog::{HologresVersion, RouteSettings, project_key};
use crate::config::TablePattern;
use crate::sql::{self, Analysis, Origin, Reading, RelationName};

/// Bytes of texts that were read in full, and are remembered.
const READ_BYTES: usize = 8 << 20;

/// The same of texts that need not be read. They are more, and deciding them anew costs little.
const QUICK_BYTES: usize = 4 << 20;

/// A shorter text that need not be read is scanned again in less time than it is looked up.
const MIN_QUICK_TEXT: usize = 128;

/// For decisions that do not depend on what names mean.
static ANY_NAMES: LazyLock<NameContext> = LazyLock::new(NameContext::default);

/// Of a session that has made nothing.
static NOTHING: LazyLock<Own> = LazyLock::new(Own::default);

/// What is known of one database at one time.
#[derive(Debug)]
pub struct Snapshot {
    generation: u64,
    relations: Arc<Relations>,
    protected: usize,
    foreign: usize,
    route: RouteSettings,
    version: Option<HologresVersion>,
    search_path: String,
    blind: bool,
    quick: Arc<Quick>,
    hasher: Hasher,
    read: Memo,
    need_not_be_read: Memo,
}

/// Collects what a [`Snapshot`] will hold.
#[derive(Debug)]
pub struct SnapshotBuilder {
    relations: Relations,
    route: RouteSettings,
    version: Option<HologresVersion>,
    search_path: String,
    blind: bool,
}

impl Snapshot {
    /// Nothing is known: generation 0, nothing protected.
    pub fn empty(database: &str) -> Self {
        Self::builder(database).build(0)
    }

    /// Begins a snapshot of `database`, named without `@warehouse`.
    pub fn builder(database: &str) -> SnapshotBuilder {
        SnapshotBuilder {
            relations: Relations::new(database),
            route: RouteSettings::default(),
            version: None,
            search_path: "\"$user\", public".to_owned(),
            blind: false,
        }
    }

    /// The same under another generation, in which any relation that is not known may, or may not,
    /// lead to MaxCompute. Cheap: names and matcher are shared.
    #[must_use]
    pub fn with_blindness(&self, blind: bool, generation: u64) -> Self {
        Self {
            generation,
            relations: Arc::clone(&self.relations),
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

    /// The database that this is about.
    pub fn database(&self) -> &str {
        self.relations.database()
    }

    /// Counts up with each snapshot of a database.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// How many relations are protected by name; those that patterns protect are not counted.
    pub fn protected_count(&self) -> usize {
        self.protected
    }

    /// How many relations lead to MaxCompute data that is not known to be encrypted.
    pub fn foreign_count(&self) -> usize {
        self.foreign
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
        self.relations
            .iter()
            .filter_map(|(schema, name, standing)| match standing {
                Standing::Protected(reason) => Some((schema, name, reason)),
                _ => None,
            })
    }

    /// The same for a session, with what it has changed and made. What a statement only stores is no
    /// reason here: the session knows where it leads once it is used.
    pub fn decide_in(&self, sql: &[u8], session: &SessionNames) -> Arc<Decision> {
        let decision = self.decide_with_own(sql, session);
        if !decision.only_stores {
            return decision;
        }
        Arc::new(Decision {
            protected: None,
            only_stores: false,
            ..(*decision).clone()
        })
    }

    fn decide_with_own(&self, sql: &[u8], session: &SessionNames) -> Arc<Decision> {
        let own = session.own();
        if own.is_empty() {
            return self.decide(sql, session.names());
        }
        if let Some(decision) = self.quick.transaction(sql) {
            return decision;
        }
        if own.adds_nothing()
            && let Some(decision) = self.quick(sql)
        {
            return decision;
        }
        Arc::new(self.read(sql::analyze(sql), session.names(), own, Some(session)))
    }

    /// What the statements of `sql` touch and do. `sql` is the text as the client sent it, in
    /// whatever encoding, without the terminating zero.
    pub fn decide(&self, sql: &[u8], names: &NameContext) -> Arc<Decision> {
        if let Some(decision) = self.quick.transaction(sql) {
            return decision;
        }
        if sql.len() > MAX_TEXT {
            let quick = self.quick(sql);
            return quick
                .unwrap_or_else(|| Arc::new(self.read(sql::analyze(sql), names, &NOTHING, None)));
        }
        let text = self.hasher.text(sql);
        if sql.len() >= MIN_QUICK_TEXT
            && let Some(decision) = self.need_not_be_read.get(text, sql, &ANY_NAMES)
        {
            return decision;
        }
        let key = self.hasher.with_names(text, names);
        if let Some(decision) = self.read.get(key, sql, names) {
            return decision;
        }
        if let Some(decision) = self.quick(sql) {
            if sql.len() >= MIN_QUICK_TEXT {
                let kept = Arc::clone(&decision);
                self.need_not_be_read.insert(text, sql, &ANY_NAMES, kept);
            }
            return decision;
        }
        let decision = Arc::new(self.read(sql::analyze(sql), names, &NOTHING, None));
        self.read.insert(key, sql, names, Arc::clone(&decision));
        decision
    }

    /// The same for a text of which only the head is in hand. What the rest does is not known: it
    /// is taken to do anything, and every identifier of the statement that is cut off counts as a
    /// relation.
    pub fn decide_prefix(&self, head: &[u8], names: &NameContext) -> Arc<Decision> {
        let quick = self.quick.decide_prefix(head);
        quick.unwrap_or_else(|| {
            Arc::new(self.read(sql::analyze_prefix(head), names, &NOTHING, None))
        })
    }

    /// The same for a session, with what it has changed and made.
    pub fn decide_prefix_in(&self, head: &[u8], session: &SessionNames) -> Arc<Decision> {
        let own = session.own();
        let quick = own.adds_nothing().then(|| self.quick.decide_prefix(head));
        quick.flatten().unwrap_or_else(|| {
            let reading = sql::analyze_prefix(head);
            Arc::new(self.read(reading, session.names(), own, Some(session)))
        })
    }

    /// Without parsing; while the catalogs are not known in full, any name may be one that matters.
    fn quick(&self, sql: &[u8]) -> Option<Arc<Decision>> {
        if self.blind {
            return None;
        }
        self.quick.decide(sql)
    }

    /// True if statements may read MaxCompute data of which it is not known whether HQE can.
    pub fn has_suspects(&self) -> bool {
        self.blind || self.foreign > 0
    }

    /// Why `sql` is protected, all of it: one reason for each protected relation that it names, in
    /// no order. For people; [`Snapshot::decide`] keeps the first.
    pub fn reasons(&self, sql: &[u8], names: &NameContext) -> Vec<Arc<Reason>> {
        let mut reasons: Vec<Arc<Reason>> = Vec::new();
        let reading = sql::analyze(sql);
        let mut tell = |reason| {
            if !reasons.contains(&reason) {
                reasons.push(reason);
            }
        };
        self.visit(&reading, names, &NOTHING, None, |analysis, standings, _| {
            if analysis.reads_anything {
                self.relations
                    .any_protected()
                    .into_iter()
                    .for_each(&mut tell);
            }
            self.stored(analysis, &NOTHING)
                .into_iter()
                .for_each(&mut tell);
            for (_, standing) in standings {
                if let Standing::Protected(reason) = standing {
                    tell(reason);
                }
            }
        });
        reasons
    }

    /// Goes through the statements of a text: with how each relation that one names stands, and with
    /// what it changes for those behind it.
    fn visit<'a, 'b>(
        &self,
        reading: &'b Reading<'a>,
        names: &NameContext,
        own: &Own,
        session: Option<&SessionNames>,
        mut visit: impl FnMut(&'b Analysis<'a>, Vec<(&'b RelationName<'a>, Standing)>, Vec<Change>),
    ) {
        let mut statements = reading.statements.iter();
        let Some(first) = statements.next() else {
            return;
        };
        let changes = self.changes(first, names, own);
        let several = statements.len() > 0;
        let mut session = several.then(|| {
            let somewhere = || SessionNames::somewhere(names.clone());
            session.cloned().unwrap_or_else(somewhere)
        });
        if let Some(session) = &mut session {
            session.change(&changes);
        }
        visit(first, self.standings(first, names, own), changes);
        for statement in statements {
            let Some(session) = &mut session else { return };
            let (names, own) = (session.names(), session.own());
            let standings = self.standings(statement, names, own);
            let changes = self.changes(statement, names, own);
            session.change(&changes);
            visit(statement, standings, changes);
        }
    }

    /// Why what a statement stores is protected.
    fn stored(&self, analysis: &Analysis<'_>, own: &Own) -> Option<Arc<Reason>> {
        let mut stored = analysis.stored.iter();
        stored.find_map(|name| match self.resolve_mention(name, own) {
            Standing::Protected(reason) => Some(reason),
            Standing::Foreign | Standing::Plain => None,
        })
    }

    /// What a statement changes for its session.
    fn changes(&self, analysis: &Analysis<'_>, names: &NameContext, own: &Own) -> Vec<Change> {
        let made = analysis.made.iter().map(|made| Change::Made {
            name: made.name.clone(),
            temporary: made.temporary,
            leads: self.leads(&made.origin, analysis, names, own),
        });
        analysis.changes.iter().cloned().chain(made).collect()
    }

    /// How each relation that a statement names stands.
    fn standings<'a, 'b>(
        &self,
        analysis: &'b Analysis<'a>,
        names: &NameContext,
        own: &Own,
    ) -> Vec<(&'b RelationName<'a>, Standing)> {
        let reads = analysis
            .reads
            .iter()
            .map(|relation| (relation, self.resolve(relation, names, own)));
        let mentions = analysis
            .mentions
            .iter()
            .map(|relation| (relation, self.resolve_mention(relation, own)));
        let calls = analysis.calls.iter().map(|function| {
            let standing = self.relations.resolve_call(function);
            (function, standing.or_graver(made(function, own)))
        });
        let writes = analysis.writes.iter().map(|relation| {
            let standing = self.relations.resolve_write(relation);
            (relation, standing.or_graver(made(relation, own)))
        });
        let mut standings: Vec<_> = reads.chain(mentions).collect();
        let runs_text = |function| self.relations.may_run_text(function);
        if analysis.runs_text || analysis.calls.iter().any(runs_text) {
            let in_strings = analysis.in_strings.iter();
            standings.extend(in_strings.map(|name| (name, self.resolve_mention(name, own))));
        }
        if self.blind {
            Self::suspect(&mut standings);
        }
        let own_calls = analysis
            .own_calls
            .iter()
            .map(|function| (function, self.relations.resolve_own_call(function, names)));
        standings.extend(writes);
        standings.extend(calls);
        standings.extend(own_calls);
        standings
    }

    /// How a relation stands for a session that has made relations of its own.
    fn resolve(&self, relation: &RelationName<'_>, names: &NameContext, own: &Own) -> Standing {
        if own.is_empty() {
            return self.relations.resolve(relation, names);
        }
        let temporary = own.temporary(&relation.name);
        let comes_first = |schema: &String| schema == "pg_temp";
        match (&relation.schema, temporary) {
            (None, Some(leads)) if !names.search_path.iter().flatten().any(comes_first) => {
                return standing(leads);
            }
            (Some(schema), Some(leads)) if **schema == *b"pg_temp" => return standing(leads),
            _ => {}
        }
        let known = if own.is_open(&relation.name) {
            let schema = relation.schema.clone().filter(|_| !own.any_schema());
            let anywhere = RelationName {
                database: relation.database.clone().filter(|_| schema.is_some()),
                schema,
                name: relation.name.clone(),
                only: relation.only,
            };
            self.relations.resolve(&anywhere, &ANY_NAMES)
        } else {
            self.relations.resolve(relation, names)
        };
        known.or_graver(made(relation, own))
    }

    fn resolve_mention(&self, relation: &RelationName<'_>, own: &Own) -> Standing {
        let known = self.relations.resolve_mention(relation);
        known.or_graver(self.resolve(relation, &ANY_NAMES, own))
    }

    /// Where what a statement makes leads.
    fn leads(
        &self,
        origin: &Origin<'_>,
        analysis: &Analysis<'_>,
        names: &NameContext,
        own: &Own,
    ) -> Leads {
        let standing = match origin {
            Origin::Rows => return Leads::Nowhere,
            Origin::Like(relation) => {
                let read = self.resolve(relation, names, own);
                read.or_graver(self.relations.resolve_write(relation))
            }
            Origin::Stored => {
                let stored = analysis.stored.iter();
                let stored = stored.map(|name| self.resolve_mention(name, own));
                let read = self.standings(analysis, names, own).into_iter();
                stored
                    .chain(read.map(|(_, standing)| standing))
                    .fold(Standing::Plain, Standing::or_graver)
            }
            Origin::Project(project) => {
                let project = project.as_deref().map(project_key);
                let mut protected = self.protected().map(|(_, _, reason)| reason);
                let known = protected.find(|reason| project.is_some() && reason.project == project);
                known.map_or(Standing::Foreign, |reason| {
                    Standing::Protected(Arc::clone(reason))
                })
            }
        };
        match standing {
            Standing::Plain => Leads::Nowhere,
            Standing::Foreign => Leads::ToMaxCompute,
            Standing::Protected(reason) => Leads::ToProtected(reason),
        }
    }

    /// What is not known may lead to MaxCompute.
    fn suspect(standings: &mut [(&RelationName<'_>, Standing)]) {
        for (relation, standing) in standings {
            if matches!(standing, Standing::Plain) && !is_system(relation) {
                *standing = Standing::Foreign;
            }
        }
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
        self.visit(
            &reading,
            names,
            own,
            session,
            |analysis, standings, changes| {
                self.add(&mut decision, analysis, standings);
                decision.changes.extend(changes);
                stored = stored.take().or_else(|| self.stored(analysis, own));
            },
        );
        if decision.protected.is_none() {
            decision.only_stores = stored.is_some();
            decision.protected = stored;
        }
        let several = reading.statements.len() > 1;
        for analysis in reading.statements {
            if !several {
                decision.search_path = analysis.search_path();
            }
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
            decision.effects = decision.effects.with(Effects::CALLS_UNKNOWN);
        }
        if analysis.reads_anything {
            decision.protected = self.relations.any_protected();
            if self.has_suspects() {
                decision.effects = decision.effects.with(Effects::READS_FOREIGN);
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
            decision.effects = decision.effects.with(Effects::READS_FOREIGN);
            let text = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
            let suspect = (relation.schema.as_deref().map(text), text(&relation.name));
            if !decision.suspects.contains(&suspect) {
                decision.suspects.push(suspect);
            }
        }
    }
}

/// Where what the session made of this name leads.
fn made(name: &RelationName<'_>, own: &Own) -> Standing {
    own.made(name.schema.as_deref(), &name.name)
        .map(standing)
        .fold(Standing::Plain, Standing::or_graver)
}

fn standing(leads: &Leads) -> Standing {
    match leads {
        Leads::Nowhere => Standing::Plain,
        Leads::ToMaxCompute => Standing::Foreign,
        Leads::ToProtected(reason) => Standing::Protected(Arc::clone(reason)),
    }
}

/// True for what never leads to MaxCompute.
fn is_system(relation: &RelationName<'_>) -> bool {
    match relation.schema.as_deref() {
        Some(schema) => matches!(schema, b"pg_catalog" | b"information_schema" | b"hologres"),
        None => relation.name.starts_with(b"pg_"),
    }
}

impl SnapshotBuilder {
    /// A relation whose read touches encrypted data, spelled as the catalog spells it.
    #[must_use]
    pub fn protect(mut self, schema: &str, name: &str, reason: Arc<Reason>) -> Self {
        self.relations
            .insert(schema, name, Standing::Protected(reason));
        self
    }

    /// A function whose call touches encrypted data.
    #[must_use]
    pub fn protect_function(mut self, schema: &str, name: &str, reason: Arc<Reason>) -> Self {
        self.relations
            .insert_function(schema, name, Standing::Protected(reason));
        self
    }

    /// A function that leads to MaxCompute data not known to be encrypted.
    #[must_use]
    pub fn foreign_function(mut self, schema: &str, name: &str) -> Self {
        self.relations
            .insert_function(schema, name, Standing::Foreign);
        self
    }

    /// A relation that reads encrypted data when it is written: by a rule on it, or as a materialized
    /// view that is refreshed.
    #[must_use]
    pub fn protect_write(mut self, schema: &str, name: &str, reason: Arc<Reason>) -> Self {
        self.relations
            .insert_written(schema, name, Standing::Protected(reason));
        self
    }

    /// The same with MaxCompute data not known to be encrypted.
    #[must_use]
    pub fn foreign_write(mut self, schema: &str, name: &str) -> Self {
        self.relations
            .insert_written(schema, name, Standing::Foreign);
        self
    }

    /// A relation given before leads where it does only through what inherits from it.
    #[must_use]
    pub fn inherited(mut self, schema: &str, name: &str) -> Self {
        self.relations.set_inherited(schema, name);
        self
    }

    /// A function runs no text, whatever its arguments are. Those that may are all others.
    #[must_use]
    pub fn runs_no_text(mut self, schema: &str, name: &str, only_reads: bool) -> Self {
        self.relations.insert_runs_no_text(schema, name, only_reads);
        self
    }

    /// A relation that leads to MaxCompute data not known to be encrypted.
    #[must_use]
    pub fn foreign(mut self, schema: &str, name: &str) -> Self {
        self.relations.insert(schema, name, Standing::Foreign);
        self
    }

    /// Another relation that bears the name of one given to [`Self::protect`] or
    /// [`Self::foreign`]. All such must be given: an unqualified name is resolved among them.
    #[must_use]
    pub fn homonym(mut self, schema: &str, name: &str) -> Self {
        self.relations.insert(schema, name, Standing::Plain);
        self
    }

    /// Relations that the operator says are encrypted. A pattern for another database counts for
    /// three-part names only (Hologres' external databases).
    #[must_use]
    pub fn pattern(mut self, pattern: &TablePattern, reason: Arc<Reason>) -> Self {
        self.relations.add_pattern(pattern, reason);
        self
    }

    /// The settings that choose the engine in a fresh session.
    #[must_use]
    pub fn route(mut self, route: RouteSettings) -> Self {
        self.route = route;
        self
    }

    /// The Hologres version.
    #[must_use]
    pub fn version(mut self, version: Option<HologresVersion>) -> Self {
        self.version = version;
        self
    }

    /// The `search_path` of a fresh session, as SHOW prints it.
    #[must_use]
    pub fn search_path(mut self, search_path: String) -> Self {
        self.search_path = search_path;
        self
    }

    /// The catalogs are not known, or not all of them: any relation may lead to MaxCompute.
    #[must_use]
    pub fn blind(mut self) -> Self {
        self.blind = true;
        self
    }

    /// Builds the matcher; about 50 ms for 10,000 names.
    pub fn build(self, generation: u64) -> Snapshot {
        let count = |wanted: fn(&Standing) -> bool| {
            self.relations
                .iter()
                .filter(|(_, _, standing)| wanted(standing))
                .count()
        };
        Snapshot {
            generation,
            protected: count(|standing| matches!(standing, Standing::Protected(_))),
            foreign: count(|standing| matches!(standing, Standing::Foreign)),
            quick: Arc::new(Quick::new(&self.relations)),
            relations: Arc::new(self.relations),
            route: self.route,
            version: self.version,
            search_path: self.search_path,
            blind: self.blind,
            hasher: Hasher::default(),
            read: Memo::new(READ_BYTES),
            need_not_be_read: Memo::new(QUICK_BYTES),
        }
    }
}

#[cfg(test)]
mod tests;
