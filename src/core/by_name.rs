//! What a statement does by the names that it uses: prepared statements and cursors of SQL's own, and
//! the cursors that its COMMIT runs. A decision is of a text alone; here it is joined with those of
//! what the text runs.

use std::sync::Arc;

use crate::protection::{Decision, Effects, NameUse, Reason};

use super::Core;
use super::context::{Deciding, Readings};
use super::interface::World;
use super::ledger::{Expect, Sent};

/// What a cursor's rows may do while they are read.
const READING: Effects = Effects::READS_FOREIGN.union(Effects::CALLS_UNKNOWN);

/// Adds what a statement does that runs by its name to what the text does that names it.
fn add(all: &mut Decision, used: &Decision) {
    all.effects |= used.effects;
    if all.protected.is_none() {
        all.protected.clone_from(&used.protected);
    }
    all.suspect(used);
    all.changes.extend(used.changes.iter().cloned());
}

/// What these prepare as statements of this name, in order.
fn prepare<'m>(
    name: &'m [u8],
    made: &'m [NameUse],
    deciding: &Deciding<'_, impl World>,
) -> impl DoubleEndedIterator<Item = Arc<Decision>> {
    made.iter().filter_map(move |made| match made {
        NameUse::Prepare {
            name: made,
            text,
            backslash,
        } if made.as_bytes() == name => {
            Some(deciding.decide_read(text, true, &Readings::in_utf8(*backslash)))
        }
        _ => None,
    })
}

/// What is assumed of a query that nobody has seen being prepared.
fn unknown_query() -> Decision {
    Decision {
        effects: Effects::WRITES.union(Effects::CALLS_UNKNOWN),
        ..Decision::default()
    }
}

impl Core {
    /// A statement's own decision together with those of what it runs later than its own statement,
    /// or by an SQL-level name.
    pub(super) fn effective(
        &mut self,
        decision: Arc<Decision>,
        world: &impl World,
    ) -> Arc<Decision> {
        let decision = self.with_named(decision, world);
        if decision.protected.is_none()
            && decision.effects.intersects(Effects::ENDS)
            && let Some(protected) = self.read_at_commit()
        {
            return Arc::new(Decision {
                protected: Some(protected),
                ..(*decision).clone()
            });
        }
        decision
    }

    /// A decision together with those of the prepared statements and cursors that the text names.
    fn with_named(&mut self, decision: Arc<Decision>, world: &impl World) -> Arc<Decision> {
        let mut all: Option<Decision> = None;
        for at in 0..decision.names.len() {
            let used = match &decision.names[at] {
                NameUse::Execute(name) => self
                    .prepared(name.as_bytes(), &decision, at, world)
                    .unwrap_or_else(unknown_query),
                NameUse::Fetch(name) => self.fetched(name),
                _ => continue,
            };
            add(all.get_or_insert_with(|| (*decision).clone()), &used);
        }
        all.map_or(decision, Arc::new)
    }

    /// What a prepared statement does; `None`: nothing is known of one of this name. `text`: what the
    /// text does that executes it, which makes or uses so many names in front of that. What it changes
    /// may hold by then, or not yet.
    pub(super) fn prepared(
        &mut self,
        name: &[u8],
        text: &Decision,
        names_before: usize,
        world: &impl World,
    ) -> Option<Decision> {
        let (names, mut deciding) = self.naming(world);
        deciding.around = &text.changes;
        if let Some(decision) = prepare(name, &text.names[..names_before], &deciding).next_back() {
            return Some((*decision).clone());
        }
        let mut found = names
            .decision(name, &deciding)
            .map(|known| (*known).clone());
        if deciding.ledger.has_names() {
            let in_flight = deciding.ledger.iter().filter_map(Expect::runs);
            // Any of a text's may be the one that it fails behind.
            for made in in_flight.flat_map(|sent| prepare(name, &sent.decision.names, &deciding)) {
                add(found.get_or_insert_default(), &made);
            }
        }
        found
    }

    /// What `FETCH … name` may read.
    fn fetched(&self, name: &str) -> Decision {
        let declares = |sent: &&Sent| {
            let is_it = |made: &NameUse| matches!(made, NameUse::Declare(made) if made == name);
            sent.decision.names.iter().any(is_it)
        };
        let mut found = Vec::new();
        if self.ledger.has_names() {
            let in_flight = self.ledger.iter().filter_map(Expect::runs);
            found.extend(in_flight.filter(declares).cloned());
        }
        found.extend(self.names.portal(name.as_bytes()));
        let mut all = Decision::default();
        for sent in &found {
            add(&mut all, &sent.decision);
        }
        // Beside declaring the cursor, its text may have done more.
        all.effects = all.effects.intersection(READING);
        all.changes.clear();
        all
    }

    /// Why the end of the present transaction reads encrypted data, if it does: COMMIT runs cursors
    /// WITH HOLD to their end.
    fn read_at_commit(&self) -> Option<Arc<Reason>> {
        let declares = |decision: &Decision| {
            let mut names = decision.names.iter();
            names.any(|name| matches!(name, NameUse::Declare(_)))
        };
        let in_flight = || {
            let mut sent = self.ledger.iter().filter_map(Expect::runs);
            sent.find(|sent| declares(&sent.decision) && sent.decision.protected.is_some())
                .and_then(|sent| sent.decision.protected.clone())
        };
        let names = self.ledger.has_names();
        self.names
            .declared()
            .or_else(|| names.then(in_flight).flatten())
    }

    /// True unless a cursor was planned, or may have been, where the route was not set.
    pub(super) fn cursor_is_steered(&self, name: &str) -> bool {
        let declares = |sent: &Sent| {
            let makes = |made: &NameUse| matches!(made, NameUse::Declare(made) if made == name);
            sent.decision.names.iter().any(makes)
        };
        let portal = self.names.portal(name.as_bytes());
        let in_flight = self.ledger.iter().filter_map(Expect::sent);
        in_flight
            .filter(|sent| declares(sent))
            .chain(portal.as_ref())
            .all(|sent| sent.steered)
    }
}
