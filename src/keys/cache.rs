//! The cache in front of the providers. However many ask for a project, one lookup is in flight for
//! it. A record is believed for 24 hours. Who asks within the two hours after that gets it, too, while it
//! is looked up anew in the background; who asks later waits. While the provider fails, its last answer
//! is kept.
//!
//! No reference into the map is ever held across an await, nor while the map is asked for anything
//! else.

mod keeping;
mod kept;
mod sharing;

use std::hash::BuildHasher;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use dashmap::DashMap;
use foldhash::fast::RandomState;
use futures::FutureExt;
use tokio::runtime::Handle;
use tokio::sync::watch;

use keeping::Keeping;

use super::entry::{Answer, Entry, Flight, Known, meaning};
use super::{Clock, Encryption, KeyProvider, KeyRecord, KmsKey, LookupError, Origin};
use crate::catalog::project_key;
use crate::config::Keys;
use crate::facts::{Bus, Outcome, Stamp, What};
use crate::observe::metrics::Counter;

/// How long a lookup may take; a provider that has not answered by then has failed.
const LOOKUP_DEADLINE: Duration = Duration::from_mins(1);

/// The part of `keys.ttl` within which, once it is over, a record begins to be looked up anew.
const SPREAD: f64 = 0.02;
/// The part of `keys.ttl` for which a record serves beyond it, if it is asked for, while it is looked up
/// anew: so nobody waits for that.
const GRACE: f64 = 0.08;

/// What the cache counts, for `/metrics`.
#[derive(Debug, Default)]
pub struct KeyMetrics {
    /// Questions that were answered from the cache.
    pub hits: Counter,
    /// Questions that had to wait for a lookup, begun for them or for another.
    pub misses: Counter,
    /// Lookups that were started, those in the background included.
    pub lookups: Counter,
    /// Lookups that failed.
    pub failures: Counter,
    /// Answers that were older than they should be, because the provider fails.
    pub stale: Counter,
    /// Records that the bound pushed out.
    pub evictions: Counter,
    /// Lessons that were taken in: projects whose data HQE failed on.
    pub learned: Counter,
    /// Lessons that a provider's word contradicted.
    pub contradicted: Counter,
}

/// What came of [`KeyCache::learn`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LessonOutcome {
    /// It is believed from now on, until a provider says otherwise or it is as old as any record
    /// may get.
    Taken,
    /// It was known before.
    Known,
    /// A provider says that the project is not encrypted; the provider is believed.
    Contradicted,
    /// Lessons fill their part of the cache; none of them goes for a new one.
    NoRoom,
}

/// One entry of [`KeyCache::list`].
#[derive(Debug, Clone)]
pub struct Listed {
    /// The record.
    pub record: Arc<KeyRecord>,
    /// How long ago it was looked up.
    pub age: Duration,
    /// True if the record is past its time, because the provider fails.
    pub stale: bool,
    /// What the last lookup failed with.
    pub failure: Option<LookupError>,
}

/// The cache: from a project to its key record. Clones share one cache.
#[derive(Clone)]
pub struct KeyCache(Arc<Inner>);

struct Inner {
    provider: ArcSwap<Arc<dyn KeyProvider>>,
    entries: DashMap<String, Entry, RandomState>,
    settings: ArcSwap<Keys>,
    clock: Arc<dyn Clock>,
    runtime: Handle,
    metrics: KeyMetrics,
    changes: watch::Sender<u64>,
    /// Moves whenever the records are not what they were, if only newer: for the snapshot file.
    landings: watch::Sender<u64>,
    keeping: Keeping,
    flights: AtomicU64,
    /// What was found until this time does not count.
    all_forgotten: AtomicU64,
    /// Where it tells what it has found.
    bus: OnceLock<Arc<Bus>>,
}

impl KeyCache {
    /// An empty cache. Lookups run on `runtime`, so that one who asks and leaves takes nobody
    /// else's answer away.
    pub fn new(
        settings: Keys,
        provider: Arc<dyn KeyProvider>,
        clock: Arc<dyn Clock>,
        runtime: Handle,
    ) -> Self {
        Self(Arc::new(Inner {
            provider: ArcSwap::from_pointee(provider),
            entries: DashMap::with_hasher(RandomState::default()),
            settings: ArcSwap::from_pointee(settings),
            clock,
            runtime,
            metrics: KeyMetrics::default(),
            changes: watch::Sender::new(0),
            landings: watch::Sender::new(0),
            keeping: Keeping::default(),
            flights: AtomicU64::new(0),
            all_forgotten: AtomicU64::new(0),
            bus: OnceLock::new(),
        }))
    }

    /// What is known of `project` (any spelling, see [`project_key`]). Waits only for a project
    /// never asked for before, or whose record has expired.
    ///
    /// # Errors
    /// The provider failed, now or less than `negative_ttl` ago, and there is no older record.
    pub async fn get(&self, project: &str) -> Answer {
        let key = project_key(project);
        let landing = {
            let mut entry = self.0.entries.entry(key.clone()).or_default();
            let now = self.0.clock.monotonic();
            if let Some(answer) = entry.answer(now) {
                self.0.metrics.hits.inc();
                if entry.stale(now) {
                    self.0.metrics.stale.inc();
                }
                if entry.refresh_due(now) {
                    entry.flight = Some(self.start(&key));
                }
                return answer;
            }
            self.0.metrics.misses.inc();
            entry
                .flight
                .get_or_insert_with(|| self.start(&key))
                .landing
                .clone()
        };
        self.bound();
        let answer = landing.await;
        let now = self.0.clock.monotonic();
        if let Ok(Some(_)) = &answer
            && self
                .0
                .entries
                .get(&key)
                .is_some_and(|entry| entry.stale(now))
        {
            self.0.metrics.stale.inc();
        }
        answer
    }

    /// Learns that HQE failed on `project`'s data, so that it is encrypted, with a key that nobody
    /// has named.
    pub fn learn(&self, project: &str) -> LessonOutcome {
        let key = project_key(project);
        let now = self.0.clock.monotonic();
        let room = self.peek(&key).is_some() || self.has_room_for_lesson(now);
        let lesson = {
            let mut entry = self.0.entries.entry(key.clone()).or_default();
            match &entry.known {
                None if !room => LessonOutcome::NoRoom,
                Some(known) if known.record.origin != Origin::Learned => {
                    if known.record.is_encrypted() {
                        LessonOutcome::Known
                    } else {
                        LessonOutcome::Contradicted
                    }
                }
                before => {
                    let lesson = if before.is_some() {
                        LessonOutcome::Known
                    } else {
                        LessonOutcome::Taken
                    };
                    let at = self.stamp(&entry);
                    let what = What::Lesson {
                        project: key.clone(),
                    };
                    self.apply(&key, &mut entry, &what, at);
                    self.tell(what, at);
                    lesson
                }
            }
        };
        match lesson {
            LessonOutcome::Taken => {
                self.0.metrics.learned.inc();
                self.changed();
                self.bound();
            }
            LessonOutcome::Contradicted => self.0.metrics.contradicted.inc(),
            LessonOutcome::Known | LessonOutcome::NoRoom => {}
        }
        lesson
    }

    /// True while lessons take less than their part of the cache, a quarter: so they push out neither
    /// what a provider has said nor one another.
    fn has_room_for_lesson(&self, now: Duration) -> bool {
        let lives = |known: &Known| known.is_lesson() && now < known.expires_at;
        let entries = self.0.entries.iter();
        let lessons = entries.filter(|entry| entry.known.as_ref().is_some_and(lives));
        lessons.count() < (self.0.settings.load().capacity / 4).max(1)
    }

    /// Looks a project up in the background that has a record, unless that was done within `negative_ttl`:
    /// what it says of the key was just met, and may be mended by now.
    pub fn look_again(&self, project: &str) {
        let key = project_key(project);
        let Some(mut entry) = self.0.entries.get_mut(&key) else {
            return;
        };
        let now = self.0.clock.monotonic();
        let is_old = |known: &Known| now >= known.since + self.negative_ttl();
        if entry.flight.is_none()
            && now >= entry.retry_at
            && entry.known.as_ref().is_some_and(is_old)
        {
            entry.flight = Some(self.start(&key));
        }
    }

    /// What is known of `project` at this moment; nothing is looked up for it.
    pub fn peek(&self, project: &str) -> Option<Arc<KeyRecord>> {
        let entry = self.0.entries.get(&project_key(project))?;
        let known = entry.known.as_ref()?;
        Some(Arc::clone(&known.record))
    }

    /// Forgets one project; false: nothing was known of it.
    pub fn invalidate(&self, project: &str) -> bool {
        let key = project_key(project);
        let (was_known, what, at) = {
            let mut entry = self.0.entries.entry(key.clone()).or_default();
            let was_known = entry.known.is_some() || entry.failure.is_some() || entry.settled;
            let at = self.stamp(&entry);
            let what = What::Forget {
                project: Some(key.clone()),
            };
            self.apply(&key, &mut entry, &what, at);
            (was_known, what, at)
        };
        self.tell(what, at);
        if was_known {
            self.changed();
        }
        self.bound();
        was_known
    }

    /// Forgets everything.
    pub fn invalidate_all(&self) {
        let newest = self
            .0
            .entries
            .iter()
            .filter_map(|entry| entry.facts.newest());
        let newest = newest.max().max(self.all_forgotten());
        let at = newest.map_or(self.now(), |newest| self.now().after(newest));
        self.forget_all(at);
        self.tell(What::Forget { project: None }, at);
    }

    /// What was found until `at` does not count any more.
    fn forget_all(&self, at: Stamp) {
        self.0.all_forgotten.fetch_max(at.0, Ordering::AcqRel);
        // What was found later, by another replica, is taken in again when it is heard of.
        self.0.entries.clear();
        self.changed();
    }

    /// Takes other settings and another provider. All that was known is looked up again before it is
    /// used, and serves for want of an answer; what the configuration itself has said counts no more, nor
    /// what another cloud has.
    pub fn reconfigure(&self, settings: Keys, provider: Arc<dyn KeyProvider>) {
        let before = self.0.settings.load_full();
        let same_cloud = match (&before.cloud, &settings.cloud) {
            (Some(before), Some(now)) => before.is_same(now),
            (None, None) => true,
            _ => false,
        };
        self.0.settings.store(Arc::new(settings));
        self.0.provider.store(Arc::new(provider));
        let now = self.0.clock.monotonic();
        self.0.entries.retain(|_, entry| {
            // Who waits for it gets its answer, and nobody else does.
            entry.flight = None;
            entry.failure = None;
            entry.retry_at = Duration::ZERO;
            let Some(known) = &mut entry.known else {
                return false;
            };
            known.refresh_at = now;
            known.expires_at = now;
            match known.record.origin {
                Origin::Configured => false,
                Origin::Cloud => same_cloud,
                Origin::Learned => true,
            }
        });
        self.changed();
    }

    /// A number that changes whenever an answer given earlier would now be another one.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// The counters.
    pub fn metrics(&self) -> &KeyMetrics {
        &self.0.metrics
    }

    /// How long a failed lookup is remembered.
    pub fn negative_ttl(&self) -> Duration {
        self.0.settings.load().negative_ttl
    }

    /// How many projects have a record.
    pub fn records(&self) -> usize {
        self.0
            .entries
            .iter()
            .filter(|entry| entry.known.is_some())
            .count()
    }

    /// All records, for people; in no order.
    pub fn list(&self) -> Vec<Listed> {
        let now = self.0.clock.monotonic();
        let listed = self.0.entries.iter().filter_map(|entry| {
            let known = entry.known.as_ref()?;
            Some(Listed {
                record: Arc::clone(&known.record),
                age: now.saturating_sub(known.since),
                stale: entry.stale(now),
                failure: entry.failure.clone(),
            })
        });
        listed.collect()
    }

    /// The projects whose last lookup failed, with what it failed with; in no order.
    pub fn failures(&self) -> Vec<(String, LookupError)> {
        let failed = self.0.entries.iter().filter_map(|entry| {
            let failure = entry.failure.clone()?;
            Some((entry.key().clone(), failure))
        });
        failed.collect()
    }

    /// Starts a lookup, for an entry that has none in flight.
    fn start(&self, key: &str) -> Flight {
        self.0.metrics.lookups.inc();
        let id = self.0.flights.fetch_add(1, Ordering::Relaxed);
        let begun = self.now();
        let (cache, key) = (self.clone(), key.to_owned());
        let task = self.0.runtime.spawn(async move {
            let provider = Arc::clone(&cache.0.provider.load());
            let lookup = tokio::time::timeout(LOOKUP_DEADLINE, provider.lookup(&key));
            // A provider that panics has failed, like any other; without this the flight would
            // never land and nobody would look the project up again.
            let outcome = match AssertUnwindSafe(lookup).catch_unwind().await {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(_)) => Err(LookupError(format!(
                    "no answer within {} s",
                    LOOKUP_DEADLINE.as_secs()
                ))),
                Err(_) => Err(LookupError("the provider panicked".into())),
            };
            let in_part = outcome.is_ok() && provider.was_in_part(&key);
            cache.land(&key, id, outcome, in_part)
        });
        let landing = async move {
            task.await
                .unwrap_or_else(|_| Err(LookupError("Osprey is shutting down".into())))
        };
        Flight {
            id,
            begun,
            landing: landing.boxed().shared(),
        }
    }

    /// Enters what a lookup found; returns what those who waited for it are told. `in_part`: of the key it
    /// has found no more than which it is.
    fn land(
        &self,
        key: &str,
        id: u64,
        outcome: Result<Option<KeyRecord>, LookupError>,
        in_part: bool,
    ) -> Answer {
        if in_part || outcome.is_err() {
            self.0.metrics.failures.inc();
        }
        if let Err(error) = &outcome {
            tracing::warn!(project = key, %error, "key lookup failed");
        }
        let (answer, changed) = match self.0.entries.get_mut(key) {
            Some(mut entry) if entry.flight.as_ref().is_some_and(|flight| flight.id == id) => {
                let begun = entry.flight.take().map_or(Stamp(0), |flight| flight.begun);
                let before = entry.known.as_ref().map(|known| Arc::clone(&known.record));
                let outcome = outcome.map(|found| match &before {
                    Some(before) if in_part => found.map(|found| completed(found, before)),
                    _ => found,
                });
                self.enter(key, &mut entry, begun, outcome);
                if in_part {
                    entry.failure = Some(LookupError(
                        "KMS did not describe the key: what was known of it stays".into(),
                    ));
                    let soon = self.0.clock.monotonic() + self.negative_ttl();
                    if let Some(known) = &mut entry.known {
                        known.refresh_at = known.refresh_at.min(soon);
                    }
                }
                let settled = std::mem::replace(&mut entry.settled, true);
                let after = entry.known.as_ref().map(|known| &known.record);
                let changed = settled && meaning(before.as_ref()) != meaning(after);
                let answer = match (after, &entry.failure) {
                    (None, Some(error)) => Err(error.clone()),
                    (record, _) => Ok(record.cloned()),
                };
                (answer, changed)
            }
            // The entry was forgotten while its lookup was under way: those who wait for the lookup
            // get its answer, and nobody else does.
            _ => (outcome.map(|record| record.map(Arc::new)), false),
        };
        if changed {
            self.changed();
        } else {
            self.0.landings.send_modify(|landings| *landings += 1);
        }
        answer
    }

    fn enter(
        &self,
        key: &str,
        entry: &mut Entry,
        begun: Stamp,
        outcome: Result<Option<KeyRecord>, LookupError>,
    ) {
        let now = self.0.clock.monotonic();
        let settings = self.0.settings.load();
        let retry_at = now + settings.negative_ttl;
        let found = match outcome {
            Ok(found) => found,
            Err(error) => {
                entry.failure = Some(error);
                entry.retry_at = retry_at;
                return;
            }
        };
        let lesson = entry.known.as_ref().is_some_and(Known::is_lesson);
        if lesson && found.as_ref().is_some_and(|record| !record.is_encrypted()) {
            self.0.metrics.contradicted.inc();
        }
        entry.failure = None;
        entry.retry_at = Duration::ZERO;
        if let Some(record) = found
            .as_ref()
            .filter(|record| record.origin == Origin::Configured)
        {
            entry.known = Some(self.known(record.clone(), now));
            return;
        }
        // A configured record that is configured no more.
        entry
            .known
            .take_if(|known| known.record.origin == Origin::Configured);
        if found.is_none() {
            entry.retry_at = retry_at;
            entry.facts.end_lesson(self.now().less(settings.ttl));
        }
        let found_at = found
            .as_ref()
            .map_or(begun, |record| Stamp::of(record.looked_up));
        let what = What::Key {
            project: key.to_owned(),
            encryption: found.map(|record| record.encryption),
        };
        // What this lookup has found out is newer than all that was known when it began, whatever the
        // clocks say. What another replica has found before is as old as that replica says.
        let at = if found_at < begun || self.would_count(entry, &what, found_at) {
            found_at
        } else {
            self.later(found_at, entry)
        };
        if self.apply(key, entry, &what, at) == Outcome::Old {
            entry.retry_at = retry_at;
        } else if at >= begun
            && matches!(
                what,
                What::Key {
                    encryption: Some(_),
                    ..
                }
            )
        {
            // However the clock was put meanwhile, this is as old as the lookup.
            let known = entry.known.take();
            entry.known = known.map(|known| self.known(KeyRecord::clone(&known.record), now));
        }
    }

    fn known(&self, record: KeyRecord, now: Duration) -> Known {
        let settings = self.0.settings.load();
        // What was looked up together is not renewed together.
        let draw = self.0.entries.hasher().hash_one((&record.project, now)) >> 32;
        let fraction = f64::from(draw as u32) / f64::from(u32::MAX);
        let (refresh, time) = match record.origin {
            // A provider that could not say yesterday may be able to say now.
            Origin::Learned => (settings.negative_ttl, settings.ttl),
            Origin::Configured | Origin::Cloud => (
                settings.ttl.mul_f64(1.0 + SPREAD * fraction),
                settings.ttl.mul_f64(1.0 + GRACE),
            ),
        };
        let record = Arc::new(record);
        Known {
            record,
            since: now,
            refresh_at: now + refresh,
            expires_at: now + time,
        }
    }

    fn changed(&self) {
        self.0.changes.send_modify(|changes| *changes += 1);
        self.0.landings.send_modify(|landings| *landings += 1);
    }

    /// Keeps the bound, a sixteenth at a time, so that sorting is rare. Projects that nobody knows go
    /// first, then the records that would expire first: names that somebody makes up push out no
    /// record.
    fn bound(&self) {
        let capacity = self.0.settings.load().capacity;
        let excess = self.0.entries.len().saturating_sub(capacity);
        if excess == 0 {
            return;
        }
        let mut idle: Vec<(bool, Duration, String)> = self
            .0
            .entries
            .iter()
            .filter(|entry| entry.flight.is_none())
            .map(|entry| {
                (
                    entry.known.is_some(),
                    entry
                        .known
                        .as_ref()
                        .map_or(entry.retry_at, |k| k.expires_at),
                    entry.key().clone(),
                )
            })
            .collect();
        idle.sort_unstable();
        let nobody_knows = idle.iter().filter(|(known, ..)| !known).count();
        let mut goes = excess + capacity / 16;
        if nobody_knows >= excess {
            goes = goes.min(nobody_knows);
        }
        for (_, _, key) in idle.into_iter().take(goes) {
            if self
                .0
                .entries
                .remove_if(&key, |_, entry| entry.flight.is_none())
                .is_some()
            {
                self.0.metrics.evictions.inc();
            }
        }
    }
}

/// A record of a key that was not described, with what was known of the same key before.
fn completed(found: KeyRecord, before: &KeyRecord) -> KeyRecord {
    match (&found.encryption, &before.encryption) {
        (Encryption::Kms(key), Encryption::Kms(known)) if key.id == known.id => KeyRecord {
            encryption: Encryption::Kms(KmsKey {
                algorithm: key.algorithm.clone(),
                ..known.clone()
            }),
            ..found
        },
        _ => found,
    }
}

#[cfg(test)]
mod tests;
