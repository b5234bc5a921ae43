//! What is known of one upstream, taken from and told to other replicas.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::Knowledge;
use crate::facts::{Fact, Outcome, Stamp, What, WordOf};
use crate::fleet::Sink;

impl Sink for Knowledge {
    /// Takes in what another replica has found. It was found in time, and is about this upstream.
    fn take(&self, fact: &Fact) -> Outcome {
        match &fact.what {
            What::Key { .. } | What::Lesson { .. } | What::Forget { .. } => {
                self.common.keys.take(fact)
            }
            What::Heard { of, .. } | What::Confirmed { of } | What::TakenBack { of } => {
                self.take_word(of, fact)
            }
            What::CatalogChanged { database } => {
                // A database that no client has opened here is read when one does.
                let Some(known) = self.databases.get(database) else {
                    return Outcome::Old;
                };
                known.catalog_changed_elsewhere();
                Outcome::Changed
            }
        }
    }

    fn facts(&self) -> Vec<Fact> {
        let common = &self.common;
        let mut found = common.keys.facts();
        let lessons: Vec<_> = {
            let lessons = common.lessons.lock();
            let lessons = lessons.unwrap_or_else(std::sync::PoisonError::into_inner);
            lessons.values().map(Arc::clone).collect()
        };
        found.extend(lessons.iter().flat_map(|lessons| lessons.facts()));
        let facts = found.into_iter();
        facts
            .map(|(what, at, by)| common.bus.fact(what, at, by))
            .collect()
    }

    fn ttl(&self) -> Duration {
        self.common.rules.load().keys.ttl
    }
}

impl Knowledge {
    fn take_word(&self, of: &WordOf, fact: &Fact) -> Outcome {
        let ttl = self.common.rules.load().keys.ttl;
        let lessons = self.common.lessons_of(&of.database);
        let own = lessons.of(&of.user);
        let outcome = own.take(of, &fact.what, fact.at, &fact.by, ttl);
        if outcome == Outcome::Old {
            return outcome;
        }
        let witnesses = &self.common.witnesses;
        if let What::TakenBack { .. } = fact.what {
            witnesses.take_back(&own, &of.project);
        }
        let left = ttl.saturating_sub(fact.at.age(Stamp::of(SystemTime::now())));
        if own.is_confirmed(&of.project) && witnesses.testify(&of.user, &of.project, left) {
            // Every replica comes to this by itself, to the same fact.
            let project = of.project.clone();
            self.common.keys.take(&Fact {
                what: What::Lesson { project },
                ..fact.clone()
            });
        }
        if outcome == Outcome::Changed
            && let Some(database) = self.databases.get(&of.database)
        {
            database.signals.wake.notify_one();
        }
        outcome
    }
}
