//! How what is found about projects gets into the cache, by whomever it was found: through the one
//! reducer of [`facts`](crate::facts).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Entry, KeyCache, SPREAD, meaning};
use crate::facts::known::Held;
use crate::facts::{Bus, Encryption, Fact, KeyRecord, KmsKey, Origin, Outcome, SKEW, Stamp, What};

impl KeyCache {
    /// From now on it tells this bus what it learns, and what it is told to forget. The first one
    /// counts.
    pub fn join(&self, bus: Arc<Bus>) {
        let _ = self.0.bus.set(bus);
    }

    /// Takes in what another replica has found about a project, and was found in time; anything else
    /// changes nothing.
    pub fn take(&self, fact: &Fact) -> Outcome {
        let project = match &fact.what {
            What::Key { project, .. }
            | What::Lesson { project }
            | What::Forget {
                project: Some(project),
            } => project,
            What::Forget { project: None } => {
                if self.all_forgotten() >= Some(fact.at) {
                    return Outcome::Old;
                }
                self.forget_all(fact.at);
                return Outcome::Changed;
            }
            _ => return Outcome::Old,
        };
        let is_lesson = matches!(fact.what, What::Lesson { .. });
        if is_lesson
            && self.peek(project).is_none()
            && !self.has_room_for_lesson(self.0.clock.monotonic())
        {
            return Outcome::Old;
        }
        let outcome = {
            let mut entry = self.0.entries.entry(project.clone()).or_default();
            let before = entry.known.as_ref().map(|known| Arc::clone(&known.record));
            let outcome = self.apply_of(project, &mut entry, &fact.what, fact.at, &fact.by);
            entry.settled = true;
            let after = entry.known.as_ref().map(|known| &known.record);
            match outcome {
                Outcome::Old => Outcome::Old,
                _ if meaning(before.as_ref()) == meaning(after) => Outcome::Renewed,
                _ => Outcome::Changed,
            }
        };
        match outcome {
            Outcome::Old => {}
            Outcome::Renewed => self.0.landings.send_modify(|landings| *landings += 1),
            Outcome::Changed => self.changed(),
        }
        self.bound();
        outcome
    }

    /// All that was found out, by whomever, in no order.
    pub fn facts(&self) -> Vec<(What, Stamp, Arc<str>)> {
        let mut facts: Vec<_> = self
            .0
            .entries
            .iter()
            .flat_map(|entry| entry.facts.facts(entry.key()))
            .collect();
        if let Some(at) = self.all_forgotten() {
            facts.push((What::Forget { project: None }, at, self.by()));
        }
        facts
    }

    /// Enters what this replica has found.
    pub(super) fn apply(
        &self,
        project: &str,
        entry: &mut Entry,
        what: &What,
        at: Stamp,
    ) -> Outcome {
        self.apply_of(project, entry, what, at, &self.by())
    }

    fn apply_of(
        &self,
        project: &str,
        entry: &mut Entry,
        what: &What,
        at: Stamp,
        by: &Arc<str>,
    ) -> Outcome {
        let outcome = entry.facts.apply(what, at, by);
        if matches!(what, What::Forget { .. }) && outcome != Outcome::Old {
            // Whoever asks now begins a lookup of its own; one that is under way may have looked
            // before.
            entry.flight = None;
            entry.failure = None;
            entry.retry_at = Duration::ZERO;
            entry.known = None;
            entry.settled = false;
        }
        let is_configured = entry
            .known
            .as_ref()
            .is_some_and(|known| known.record.origin == Origin::Configured);
        if !is_configured {
            let held = entry.facts.holds(self.all_forgotten());
            let record = held.map(|held| record(project, held));
            let known = entry.known.as_ref().map(|known| &*known.record);
            if known != record.as_ref() {
                entry.known = record.map(|record| {
                    let since = self.since(&record);
                    self.known(record, since)
                });
            }
        }
        outcome
    }

    /// True if a provider's word, found at `at`, would be the last one.
    pub(super) fn would_count(&self, entry: &Entry, what: &What, at: Stamp) -> bool {
        let mut then = entry.facts.clone();
        then.apply(what, at, &self.by());
        let word = then.last_word(self.all_forgotten());
        matches!(what, What::Key { encryption, .. } if word == Some((at, encryption.as_ref())))
    }

    /// Tells the bus, if there is one.
    pub(super) fn tell(&self, what: What, at: Stamp) {
        if let Some(bus) = self.0.bus.get() {
            bus.tell(what, at);
        }
    }

    /// The stamp of what is found now about the project of `entry`.
    pub(super) fn stamp(&self, entry: &Entry) -> Stamp {
        self.later(self.now(), entry)
    }

    /// The stamp of what is found at `at`, after all that is known of the project of `entry`.
    pub(super) fn later(&self, at: Stamp, entry: &Entry) -> Stamp {
        let known = entry.facts.newest().max(self.all_forgotten());
        known.map_or(at, |known| at.after(known))
    }

    /// The wall clock.
    pub(super) fn now(&self) -> Stamp {
        Stamp::of(self.0.clock.wall())
    }

    /// Until when what was found does not count.
    pub(super) fn all_forgotten(&self) -> Option<Stamp> {
        let at = Stamp(self.0.all_forgotten.load(Ordering::Acquire));
        (at > Stamp(0)).then_some(at)
    }

    fn by(&self) -> Arc<str> {
        let bus = self.0.bus.get();
        bus.map_or_else(|| "".into(), |bus| Arc::clone(bus.by()))
    }

    /// Since when a record is known, by this process's clock.
    fn since(&self, record: &KeyRecord) -> Duration {
        let (now, wall) = (self.0.clock.monotonic(), self.0.clock.wall());
        let settings = self.0.settings.load();
        match wall.duration_since(record.looked_up) {
            Ok(age) => now.saturating_sub(age),
            Err(ahead) if ahead.duration() <= SKEW => now,
            // The clock was put back since: how old it is cannot be told, so it is looked up.
            Err(_) => now.saturating_sub(settings.ttl.mul_f64(1.0 + SPREAD)),
        }
    }
}

fn record(project: &str, held: Held<'_>) -> KeyRecord {
    let unnamed = || Encryption::Kms(KmsKey::default());
    KeyRecord {
        project: project.to_owned(),
        encryption: held.encryption.cloned().unwrap_or_else(unnamed),
        origin: held.origin,
        looked_up: held.at.time(),
    }
}
