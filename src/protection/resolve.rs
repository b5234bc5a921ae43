//! How the relations and functions that a statement names stand to encrypted data, for a session
//! that may have changed how names resolve, and made relations of its own.

use std::sync::Arc;

use super::names::NameContext;
use super::own::{Leads, Own};
use super::projects::Encrypted;
use super::reason::Reason;
use super::relations::{Relations, Standing};
use super::session::{SessionChange, SessionNames};
use crate::catalog::project_key;
use crate::sql::{
    Analysis, Change, Effects, Made, MadeFrom, Reading, RelationName, WrittenName, qualified,
};

/// Resolves names by what is known of a database.
#[derive(Clone, Copy)]
pub(super) struct Resolver<'r> {
    relations: &'r Relations,
    encrypted: &'r Encrypted,
    /// Any relation that is not known may lead to MaxCompute.
    blind: bool,
}

impl<'r> Resolver<'r> {
    /// By these relations, and what is known of projects; with `blind`, any relation that is not among
    /// them may lead to MaxCompute.
    pub(super) fn new(relations: &'r Relations, encrypted: &'r Encrypted, blind: bool) -> Self {
        Self {
            relations,
            encrypted,
            blind,
        }
    }

    /// Calls `visit` for each statement of a text: with how each relation that the statement names
    /// stands, with what it does by where it writes, and with what it changes for the statements
    /// behind it.
    pub(super) fn visit<'a, 'b>(
        self,
        reading: &'b Reading<'a>,
        names: &NameContext,
        own: &Own,
        session: Option<&SessionNames>,
        mut visit: impl FnMut(
            &'b Analysis<'a>,
            Vec<(&'b RelationName<'a>, Standing)>,
            Effects,
            Vec<SessionChange>,
        ),
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
        let standings = self.standings(first, names, own);
        visit(first, standings, self.writing(first, names, own), changes);
        for statement in statements {
            let Some(session) = &mut session else { return };
            let (names, own) = (session.names(), session.own());
            let standings = self.standings(statement, names, own);
            let writing = self.writing(statement, names, own);
            let changes = self.changes(statement, names, own);
            session.change(&changes);
            visit(statement, standings, writing, changes);
        }
    }

    /// Why what a statement stores for later is protected, if it is.
    pub(super) fn stored(self, analysis: &Analysis<'_>, own: &Own) -> Option<Arc<Reason>> {
        let mut stored = analysis.stored.iter().chain(&analysis.stored_reads);
        stored.find_map(|name| match self.resolve_mention(name, own) {
            Standing::Protected(reason) => Some(reason),
            Standing::Foreign | Standing::Plain => None,
        })
    }

    /// What a statement changes for its session.
    fn changes(
        self,
        analysis: &Analysis<'_>,
        names: &NameContext,
        own: &Own,
    ) -> Vec<SessionChange> {
        // By a rename, what is temporary stays so.
        let was_temporary = |made: &Made<'_>| match &made.origin {
            MadeFrom::Like(other) => made.first && own.temporary(&other.name).is_some(),
            _ => false,
        };
        let is_first = |made: &Made<'_>| {
            made.first
                && match &made.origin {
                    MadeFrom::Like(other) => own.first(names, &other.name).is_some(),
                    _ => true,
                }
        };
        let made = analysis.made.iter().flat_map(|made| {
            let leads = self.leads(made, analysis, names, own);
            let temporary = made.temporary || was_temporary(made);
            let above = if temporary || leads == Leads::Nowhere {
                Vec::new()
            } else {
                self.above(&made.name, &leads)
            };
            let made = SessionChange::Made {
                name: made.name.clone(),
                temporary,
                until_commit: made.until_commit,
                stored: matches!(made.origin, MadeFrom::Stored),
                first: is_first(made).then(|| Box::new(names.clone())),
                leads,
            };
            std::iter::once(made).chain(above)
        });
        let unknown = |function| self.relations.may_run_text(function);
        let is_own = |call: &RelationName<'_>| {
            let mut made = own.made(call.schema.as_deref(), &call.name, names);
            made.next().is_some()
        };
        // What a body does that the session has made itself is not looked at.
        let anything = analysis.calls_procedure && analysis.calls.iter().any(unknown)
            || analysis.calls.iter().any(is_own);
        let anything = anything.then_some(&Change::Anything);
        let called = analysis.calls.iter();
        let called = called.flat_map(|function| self.relations.sets(function));
        let called = called.flat_map(|(changes, _)| changes);
        let stated = analysis.changes.iter().chain(anything).chain(called);
        let stated = stated.cloned().map(SessionChange::Stated);
        stated.chain(made).collect()
    }

    /// What stands above a relation or function that is made anew leads where that does.
    fn above(self, name: &WrittenName, leads: &Leads) -> Vec<SessionChange> {
        let Some(above) = self.relations.above(name) else {
            return vec![Change::Relations.into()];
        };
        let leads_there = |name| SessionChange::Made {
            name,
            temporary: false,
            until_commit: false,
            stored: false,
            first: None,
            leads: leads.clone(),
        };
        above.into_iter().map(leads_there).collect()
    }

    /// How each relation that a statement names stands.
    fn standings<'a, 'b>(
        self,
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
            (function, standing.or_graver(leads_to(function, names, own)))
        });
        let writes = analysis.writes.iter().map(|relation| {
            let standing = self.relations.resolve_write(relation);
            (relation, standing.or_graver(leads_to(relation, names, own)))
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

    /// What a statement does by where it writes: what has been written to MaxCompute stays there, also
    /// if the statement fails.
    fn writing(self, analysis: &Analysis<'_>, names: &NameContext, own: &Own) -> Effects {
        let leaves = |target: &RelationName<'_>| match self.resolve(target, names, own) {
            Standing::Plain => self.blind && !is_system(target),
            Standing::Foreign | Standing::Protected(_) => true,
        };
        if analysis.writes.iter().any(leaves) {
            Effects::WRITES
        } else {
            Effects::default()
        }
    }

    /// How a relation stands for a session that has made relations of its own.
    fn resolve(self, relation: &RelationName<'_>, names: &NameContext, own: &Own) -> Standing {
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
        if relation.schema.is_none()
            && let Some(leads) = own.first(names, &relation.name)
        {
            return standing(leads);
        }
        let known = if own.is_replaced(relation.schema.as_deref(), &relation.name) {
            Standing::Plain
        } else if own.is_open(&relation.name) {
            let schema = relation.schema.clone().filter(|_| !own.any_schema());
            let anywhere = RelationName {
                database: relation.database.clone().filter(|_| schema.is_some()),
                schema,
                name: relation.name.clone(),
                only: relation.only,
            };
            self.relations.resolve(&anywhere, &NameContext::default())
        } else {
            self.relations.resolve(relation, names)
        };
        // A path may name the temporary schema where it is not the first.
        let known = match (&relation.schema, temporary) {
            (None, Some(leads)) => known.or_graver(standing(leads)),
            _ => known,
        };
        known.or_graver(leads_to(relation, names, own))
    }

    fn resolve_mention(self, relation: &RelationName<'_>, own: &Own) -> Standing {
        let known = self.relations.resolve_mention(relation);
        known.or_graver(self.resolve(relation, &NameContext::default(), own))
    }

    /// Where what a statement makes leads. What it is made from may have been made elsewhere since the
    /// catalogs were read, so that it may lead to MaxCompute all the same; of a temporary view, which
    /// no reading of the catalogs tells of, only what is known counts.
    fn leads(
        self,
        made: &Made<'_>,
        analysis: &Analysis<'_>,
        names: &NameContext,
        own: &Own,
    ) -> Leads {
        let standing = match &made.origin {
            MadeFrom::Rows => return Leads::Nowhere,
            MadeFrom::Like(relation) => {
                let read = self.resolve(relation, names, own);
                read.or_graver(self.relations.resolve_write(relation))
            }
            MadeFrom::Stored => {
                let reads = analysis.stored_reads.iter();
                let reads = reads.map(|name| self.resolve(name, names, own));
                let stored = analysis.stored.iter();
                let stored = stored.map(|name| self.resolve_mention(name, own));
                let read = self.standings(analysis, names, own).into_iter();
                stored
                    .chain(reads)
                    .chain(read.map(|(_, standing)| standing))
                    .fold(Standing::Plain, Standing::or_graver)
            }
            MadeFrom::Project(project) => {
                let project = project.as_deref().map(project_key);
                let by = project.as_deref().and_then(|name| self.encrypted.by(name));
                by.map_or(Standing::Foreign, |(source, key)| {
                    Standing::Protected(Arc::new(Reason {
                        relation: qualified(&made.name),
                        via: Vec::new(),
                        project,
                        key,
                        source,
                    }))
                })
            }
        };
        match standing {
            Standing::Plain if made.temporary => Leads::Nowhere,
            Standing::Plain | Standing::Foreign => Leads::ToMaxCompute,
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
}

/// Where what the session made of this name leads.
fn leads_to(name: &RelationName<'_>, names: &NameContext, own: &Own) -> Standing {
    own.made(name.schema.as_deref(), &name.name, names)
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
