//! What is known of one database: the snapshot that sessions read, and the hooks by which they
//! say what they saw.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Guard};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};

use super::super::Snapshot;
use super::assemble::{Ingredients, Lesson};
use super::loan::Borrowing;
use super::{Common, Reading, refresh};
use crate::catalog::{ReadError, RoleSetting, RouteSettings};
use crate::observe::metrics::Counter;

/// Lessons that wait to be taken in; more are dropped, for the same failures will teach them again.
const MAX_WAITING_LESSONS: usize = 1_000;

/// One database's snapshot, kept up to date by a background task.
pub struct DatabaseKnowledge {
    name: String,
    pub(super) common: Arc<Common>,
    snapshot: ArcSwap<Snapshot>,
    role_settings: ArcSwap<Vec<RoleSetting>>,
    generation: AtomicU64,
    ready: watch::Sender<bool>,
    pub(super) signals: Arc<Signals>,
    pub(super) borrowing: Mutex<Borrowing>,
    lessons: Mutex<Vec<(Lesson, Option<String>)>>,
    pub(super) counts: DatabaseCounts,
    read_at: Mutex<Option<Instant>>,
    failure: Mutex<Option<ReadError>>,
}

/// Counters of one database, for metrics.
#[derive(Debug, Default)]
pub struct DatabaseCounts {
    /// Readings of its catalogs that succeeded.
    pub readings: Counter,
    /// Readings that failed.
    pub reading_failures: Counter,
    /// Snapshots swapped in.
    pub snapshots: Counter,
    /// Relations learned to be encrypted from a failure, where the project was not known; lessons
    /// about projects are counted by the key cache.
    pub lessons: Counter,
    /// Of these, the ones that a key record contradicted.
    pub lessons_contradicted: Counter,
}

/// How sessions wake the background task. It is a thing of its own so that the task, while it
/// waits, does not keep its database alive.
#[derive(Default)]
pub(super) struct Signals {
    pub(super) wake: Notify,
    pub(super) catalog_changed: AtomicBool,
}

impl DatabaseKnowledge {
    /// With what the configuration says in place, and the background task running.
    pub(super) fn start(name: &str, common: Arc<Common>, runtime: &Handle) -> Arc<Self> {
        let rules = common.rules.load_full();
        let ingredients = Ingredients {
            patterns: rules.patterns.clone(),
            ..Ingredients::default()
        };
        let database = Arc::new(Self {
            name: name.to_owned(),
            snapshot: ArcSwap::from_pointee(ingredients.snapshot(name, 1)),
            role_settings: ArcSwap::default(),
            generation: AtomicU64::new(1),
            ready: watch::Sender::new(!matches!(rules.reading, Reading::Account(_))),
            signals: Arc::default(),
            borrowing: Mutex::default(),
            lessons: Mutex::default(),
            counts: DatabaseCounts::default(),
            read_at: Mutex::default(),
            failure: Mutex::default(),
            common,
        });
        runtime.spawn(refresh::run(Arc::downgrade(&database), ingredients));
        database
    }

    /// Its name, without `@warehouse`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The present snapshot, to be looked at now. Keep [`DatabaseKnowledge::load_full`] instead.
    pub fn snapshot(&self) -> Guard<Arc<Snapshot>> {
        self.snapshot.load()
    }

    /// The present snapshot, to keep.
    pub fn load_full(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// The present snapshot's generation: one load tells a session that its own is out of date.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The search_path that a fresh session of `user` has, as SHOW prints it.
    pub fn search_path(&self, user: &str) -> String {
        let brought = self.role_settings.load();
        let own = brought
            .iter()
            .find(|own| own.role == user && own.name == "search_path");
        own.map_or_else(
            || self.snapshot().search_path().to_owned(),
            |own| own.value.clone(),
        )
    }

    /// The settings that choose the engine, in a fresh session of `user`.
    pub fn route(&self, user: &str) -> RouteSettings {
        let brought = self.role_settings.load();
        let route = self.snapshot().route().clone();
        brought
            .iter()
            .filter(|own| own.role == user)
            .fold(route, |route, own| route.with(&own.name, &own.value))
    }

    /// Resolves once the reading of the catalogs that is under way, the first one or one after DDL,
    /// has ended, well or not; at once if there is none to wait for.
    pub async fn ready(&self) {
        // It fails only when the sender is gone, and that is a field of this.
        let _ = self.ready.subscribe().wait_for(|ready| *ready).await;
    }

    /// DDL was seen passing: the catalogs are read again at once (several within 100 ms count as
    /// one), and once more a second later, since Hologres' front ends lag behind one another. Where
    /// readings are borrowed, the next new session does it. Until then, any name may be one that
    /// matters.
    pub fn catalog_changed(&self) {
        let mut borrowing = self.borrowing();
        borrowing.change();
        let snapshot = self.snapshot();
        if !snapshot.is_blind() {
            self.store(snapshot.with_blindness(true, self.generation() + 1));
        }
        drop((borrowing, snapshot));
        self.signals.catalog_changed.store(true, Ordering::Release);
        self.signals.wake.notify_one();
    }

    /// HQE failed on a statement that reads this relation: it is protected from the next snapshot
    /// on, which comes within milliseconds, for as long as a key record lives. `schema` is `None`
    /// if the statement did not say; `project` is the one in the error, if it named one. A key
    /// record that says "not encrypted" is believed rather than the lesson.
    pub fn learn_relation(&self, schema: Option<&str>, name: &str, project: Option<&str>) {
        let lesson = Lesson {
            schema: schema.map(ToOwned::to_owned),
            name: name.to_owned(),
        };
        let mut lessons = self.lessons.lock().unwrap_or_else(PoisonError::into_inner);
        if lessons.len() < MAX_WAITING_LESSONS {
            lessons.push((lesson, project.map(ToOwned::to_owned)));
        }
        drop(lessons);
        self.signals.wake.notify_one();
    }

    /// The counters.
    pub fn counts(&self) -> &DatabaseCounts {
        &self.counts
    }

    /// How long ago its catalogs were last read; `None`: never.
    pub fn reading_age(&self) -> Option<Duration> {
        let read_at = self.read_at.lock().unwrap_or_else(PoisonError::into_inner);
        read_at.map(|at| at.elapsed())
    }

    /// What the last reading of its catalogs failed with, if it did.
    pub fn reading_failure(&self) -> Option<ReadError> {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.clone()
    }

    pub(super) fn take_lessons(&self) -> Vec<(Lesson, Option<String>)> {
        std::mem::take(&mut *self.lessons.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn has_failed(&self, error: ReadError) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    pub(super) fn has_been_read(&self) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = None;
        *self.read_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Swaps in what `ingredients` make. Called by the background task alone.
    pub(super) async fn publish(&self, ingredients: &Arc<Ingredients>) {
        let brought = ingredients
            .contents
            .as_ref()
            .map(|contents| contents.role_settings.clone());
        // Ten thousand names take tens of milliseconds, which is no work for a thread that serves.
        let (name, made_of) = (self.name.clone(), Arc::clone(ingredients));
        let build = move || made_of.snapshot(&name, 0);
        // Under test in place: a simulated run does not depend on when a thread is done.
        let built = if cfg!(test) {
            Ok(build())
        } else {
            tokio::task::spawn_blocking(build).await
        };
        let Ok(snapshot) = built else {
            tracing::error!(database = self.name, "a snapshot could not be made");
            return;
        };
        self.role_settings
            .store(Arc::new(brought.unwrap_or_default()));
        let borrowing = self.borrowing();
        let blind = snapshot.is_blind() || borrowing.is_stale();
        self.store(snapshot.with_blindness(blind, self.generation() + 1));
        drop(borrowing);
        self.counts.snapshots.inc();
    }

    /// Swaps a snapshot in; whoever does holds [`DatabaseKnowledge::borrowing`].
    fn store(&self, snapshot: Snapshot) {
        let generation = snapshot.generation();
        self.snapshot.store(Arc::new(snapshot));
        self.generation.store(generation, Ordering::Release);
    }

    /// The catalogs are known: what DDL had blinded sees again, if what it made is known by now.
    pub(super) fn see_again(&self) {
        let borrowing = self.borrowing();
        let snapshot = self.snapshot();
        if snapshot.is_blind() && !borrowing.is_stale() {
            self.store(snapshot.with_blindness(false, self.generation() + 1));
        }
    }

    /// What has been read is taken in; does nothing while a session is reading.
    pub(super) fn is_ready(&self) {
        let borrowing = self.borrowing();
        if !borrowing.is_under_way() {
            self.ready.send_replace(true);
        }
    }

    pub(super) fn is_not_ready(&self) {
        self.ready.send_replace(false);
    }
}

impl Drop for DatabaseKnowledge {
    fn drop(&mut self) {
        // The task wakes, finds nothing to keep up to date, and ends.
        self.signals.wake.notify_one();
    }
}
