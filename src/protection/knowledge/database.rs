//! What is known of one database: the snapshot that its sessions read, and the calls by which they
//! tell what they have seen.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::{ArcSwap, Guard};
use tokio::sync::{Notify, watch};

use super::assemble::Ingredients;
use super::borrowing::Borrowing;
use super::common::{CatalogReader, Common};
use super::lessons::{Believed, Lessons, ToldLesson, UserLessons};
use crate::catalog::{Failure, ReadError, RoleSetting, RouteSettings, project_key};
use crate::facts::{Stamp, What};
use crate::keys::Origin;
use crate::observe::metrics::Counter;
use crate::protection::{Decision, SessionNames, Snapshot};

/// What is known of one database. A background task keeps it up to date (`refresh.rs`).
pub struct DatabaseKnowledge {
    name: String,
    pub(super) common: Arc<Common>,
    snapshot: ArcSwap<Snapshot>,
    role_settings: ArcSwap<Vec<RoleSetting>>,
    generation: AtomicU64,
    ready: watch::Sender<bool>,
    pub(super) signals: Arc<Signals>,
    borrowing: Mutex<Borrowing>,
    lessons: Arc<Lessons>,
    pub(super) counts: DatabaseCounts,
    read_at: Mutex<Option<Instant>>,
    due: Mutex<Option<Due>>,
    failure: Mutex<Option<ReadError>>,
    /// What leads to MaxCompute by ways that nobody sees has been met.
    keeps_all: AtomicBool,
}

/// A reading has been due and has not succeeded.
#[derive(Clone, Copy)]
struct Due {
    since: tokio::time::Instant,
    /// When it was wanted last.
    until: tokio::time::Instant,
}

/// Counters of one database, for metrics.
#[derive(Debug, Default)]
pub struct DatabaseCounts {
    /// Readings of the database's catalogs that succeeded.
    pub readings: Counter,
    /// Readings of its catalogs that failed.
    pub reading_failures: Counter,
    /// Snapshots that were swapped in.
    pub snapshots: Counter,
    /// Failures of HQE's that taught the user who met them something new. (The key cache counts what
    /// every database goes by.)
    pub lessons: Counter,
    /// Lessons that a key record or the second run contradicted.
    pub lessons_contradicted: Counter,
}

/// How sessions wake the background task. This is a type of its own so that the task, while it
/// waits, holds only this and does not keep the database's knowledge alive.
#[derive(Default)]
pub(super) struct Signals {
    pub(super) wake: Notify,
    pub(super) catalog_changed: AtomicBool,
}

impl DatabaseKnowledge {
    /// What is known of database `name` when `first` is all that there is.
    pub(super) fn new(name: &str, common: Arc<Common>, first: &Ingredients) -> Self {
        let waits = matches!(common.rules.load().reader, CatalogReader::Account(_));
        Self {
            name: name.to_owned(),
            snapshot: ArcSwap::from_pointee(first.snapshot(name, 1)),
            role_settings: ArcSwap::default(),
            generation: AtomicU64::new(1),
            keeps_all: AtomicBool::new(false),
            ready: watch::Sender::new(!waits),
            signals: Arc::default(),
            borrowing: Mutex::default(),
            lessons: common.lessons_of(name),
            counts: DatabaseCounts::default(),
            read_at: Mutex::default(),
            due: Mutex::default(),
            failure: Mutex::default(),
            common,
        }
    }

    /// Its name, without `@warehouse`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The present snapshot, for a look at once. Whoever keeps it for longer calls
    /// [`DatabaseKnowledge::load_full`].
    pub fn snapshot(&self) -> Guard<Arc<Snapshot>> {
        self.snapshot.load()
    }

    /// The present snapshot, to be kept.
    pub fn load_full(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// The generation of the present snapshot. By this one load a session finds out whether the
    /// snapshot that it knows is out of date.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The search_path that a fresh session of `user` has, as SHOW prints it.
    pub fn search_path(&self, user: &str) -> String {
        let own = self.brought(user, "search_path");
        own.unwrap_or_else(|| self.snapshot().search_path().to_owned())
    }

    /// The value of a setting that every fresh session of `user` has for the user's sake, if it is one of
    /// those that are read and has one.
    pub fn brought(&self, user: &str, setting: &str) -> Option<String> {
        let brought = self.role_settings.load();
        let own = brought
            .iter()
            .find(|own| own.role == user && own.name == setting);
        own.map(|own| own.value.clone())
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

    /// Waits for the reading of the catalogs that is under way (the first one, or one after DDL) to
    /// end, well or not. It returns at once if there is none to wait for.
    pub async fn ready(&self) {
        // It fails only when the sender is gone, and that is a field of this.
        let _ = self.ready.subscribe().wait_for(|ready| *ready).await;
    }

    /// Notes that DDL was seen passing. The catalogs are read again at once (several DDL statements
    /// within 100 ms count as one), and once more a second later, since Hologres' front ends lag
    /// behind one another. Where sessions are borrowed for readings, the next new session does it.
    /// Until then, any name may be one that leads to MaxCompute.
    pub fn catalog_changed(&self) {
        self.tell_change();
        self.catalog_changed_elsewhere();
    }

    /// The same, seen by another replica.
    pub(super) fn catalog_changed_elsewhere(&self) {
        self.note_change(|snapshot, generation| {
            (!snapshot.is_blind()).then(|| snapshot.with_blindness(true, generation))
        });
    }

    /// The same, of DDL that this session has committed: from now on, and until the catalogs say it,
    /// all sessions know where what it has made leads. Only if its text does not name all that, any
    /// name may be one that leads to MaxCompute.
    pub fn catalog_changed_by(&self, session: &SessionNames) {
        self.tell_change();
        self.note_change(|snapshot, generation| Some(snapshot.after(session, generation)));
    }

    fn tell_change(&self) {
        let what = What::CatalogChanged {
            database: self.name.clone(),
        };
        self.common.bus.tell(what, Stamp::of(SystemTime::now()));
    }

    fn note_change(&self, then: impl FnOnce(&Snapshot, u64) -> Option<Snapshot>) {
        let mut borrowing = self.borrowing();
        borrowing.note_change();
        let next = then(&self.snapshot(), self.generation() + 1);
        if let Some(next) = next {
            self.store(next);
        }
        drop(borrowing);
        self.signals.catalog_changed.store(true, Ordering::Release);
        self.signals.wake.notify_one();
    }

    /// A statement has failed of which it was not known that it reads MaxCompute data: from now on sessions keep
    /// whatever only reads, so that it can be run again. True if that is new.
    pub fn keep_all(&self) -> bool {
        !self.keeps_all.swap(true, Ordering::Relaxed)
    }

    /// True if they do so.
    #[inline]
    pub fn keeps_all(&self) -> bool {
        self.keeps_all.load(Ordering::Relaxed)
    }

    /// What `user` has heard here, for a session of that user's.
    pub fn lessons_of(&self, user: &str) -> Arc<UserLessons> {
        self.lessons.of(user)
    }

    /// Notes that a user met HQE's error about data of this project in a statement with this
    /// decision. `false`: it is no lesson, because the catalogs say that the statement cannot have read
    /// such data, or a key record says that the project is not encrypted.
    pub fn hear(&self, own: &UserLessons, project: &str, decision: Option<&Decision>) -> bool {
        let project = project_key(project);
        let snapshot = self.snapshot();
        let suspects = decision.map_or(&[][..], |decision| &decision.suspects);
        let unknown = |suspect| snapshot.leads_to(suspect, &project).is_none();
        let relation = match snapshot.has_project(&project) {
            Some(true) => None,
            // Nobody has read the catalogs, or they do not have the relation yet.
            read if read.is_none() || suspects.iter().any(unknown) => match suspects {
                [suspect] => Some(suspect),
                _ => None,
            },
            _ => {
                self.counts.lessons_contradicted.inc();
                return false;
            }
        };
        let record = self.common.keys.peek(&project);
        if record.is_some_and(|record| record.origin != Origin::Learned && !record.is_encrypted()) {
            self.counts.lessons_contradicted.inc();
            return false;
        }
        // What no relation explains a function may have read that hides it.
        let opaque = decision.filter(|_| suspects.is_empty());
        let functions = opaque.map_or(&[][..], |decision| &decision.opaque);
        if own.hear(&project, relation, functions, self.lesson_ttl()) {
            self.counts.lessons.inc();
            // It may be the second user's.
            self.signals.wake.notify_one();
        }
        true
    }

    /// Notes that the second run of the statement, with the setting, did not meet the error of which
    /// the user has told: every session of the database goes by it from the next snapshot on, which
    /// comes within milliseconds; and if another user's second run has said the same of the project,
    /// every database does.
    pub fn confirm(&self, own: &UserLessons, project: &str) {
        let project = project_key(project);
        if !own.confirm(&project) {
            return;
        }
        let witnesses = &self.common.witnesses;
        if witnesses.agree(own, &project, self.lesson_ttl()) {
            self.common.keys.learn(&project);
        }
        self.signals.wake.notify_one();
    }

    /// Notes that the error came on the other engine, too: what this user has told of the project is
    /// no lesson.
    pub fn take_back(&self, own: &UserLessons, project: &str) {
        let project = project_key(project);
        self.common.witnesses.take_back(own, &project);
        if own.take_back(&project) {
            self.counts.lessons_contradicted.inc();
            self.signals.wake.notify_one();
        }
    }

    /// What every session of the database goes by for what its users have heard, and when that may
    /// change by itself.
    pub(super) fn believed(&self) -> (Vec<Believed>, Option<tokio::time::Instant>) {
        self.lessons.believed()
    }

    /// A lesson is believed for as long as a key record.
    fn lesson_ttl(&self) -> Duration {
        self.common.rules.load().keys.ttl
    }

    /// What the users of this database have heard, in the order of their names, for people.
    pub fn told_lessons(&self) -> Vec<ToldLesson> {
        self.lessons.told()
    }

    /// Takes back what every user has told of a project. False if nobody has.
    pub fn forget_lesson(&self, project: &str) -> bool {
        let project = project_key(project);
        let mut found = false;
        for own in self.lessons.all() {
            self.common.witnesses.take_back(&own, &project);
            found |= own.take_back(&project);
        }
        if found {
            self.signals.wake.notify_one();
        }
        found
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

    /// How long a reading of its catalogs has been due and has not succeeded; zero: none is due.
    /// Where sessions read them, up to the last one that wanted it: while nobody comes, nothing is
    /// missed. `None`: nobody is to read them.
    pub fn reading_overdue(&self) -> Option<Duration> {
        let due = *self.due.lock().unwrap_or_else(PoisonError::into_inner);
        match self.common.rules.load().reader {
            CatalogReader::Off | CatalogReader::Retired => None,
            CatalogReader::Account(_) => {
                Some(due.map(|due| due.since.elapsed()).unwrap_or_default())
            }
            CatalogReader::Sessions { .. } => {
                Some(due.map(|due| due.until - due.since).unwrap_or_default())
            }
        }
    }

    /// What the last reading of its catalogs failed with, if it did.
    pub fn reading_failure(&self) -> Option<ReadError> {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.clone()
    }

    /// True if the server has no such database, or no longer.
    pub(super) fn is_gone(&self) -> bool {
        let failure = self.reading_failure();
        failure.is_some_and(|error| error.failure == Failure::NoDatabase)
    }

    /// The state of the readings for which sessions are borrowed.
    pub(super) fn borrowing(&self) -> MutexGuard<'_, Borrowing> {
        self.borrowing
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a reading of the catalogs has failed.
    pub(super) fn note_failure(&self, error: ReadError) {
        if error.failure == Failure::NoDatabase {
            // Nothing is missed.
            *self.due.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    /// Notes that a reading of the catalogs has succeeded.
    pub(super) fn note_reading(&self) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = None;
        *self.read_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        *self.due.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Notes that a reading of the catalogs is wanted, and has not succeeded yet.
    pub(super) fn note_due(&self) {
        let now = tokio::time::Instant::now();
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        due.get_or_insert(Due {
            since: now,
            until: now,
        })
        .until = now;
    }

    /// Swaps in the snapshot that `ingredients` make. Only the background task calls this.
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
        let unread = snapshot.is_blind() || borrowing.is_stale();
        let generation = self.generation() + 1;
        self.store(if unread {
            snapshot.still_after(&self.snapshot(), generation)
        } else {
            snapshot.with_blindness(false, generation)
        });
        drop(borrowing);
        self.counts.snapshots.inc();
    }

    /// Swaps a snapshot in; whoever does holds [`DatabaseKnowledge::borrowing`].
    fn store(&self, snapshot: Snapshot) {
        let generation = snapshot.generation();
        self.snapshot.store(Arc::new(snapshot));
        self.generation.store(generation, Ordering::Release);
    }

    /// Forgets what DDL had brought, now that the catalogs are known, unless DDL has passed whose
    /// effect may not be known yet.
    pub(super) fn see_again(&self) {
        let borrowing = self.borrowing();
        let snapshot = self.snapshot();
        if !(snapshot.is_settled() || borrowing.is_stale()) {
            self.store(snapshot.with_blindness(false, self.generation() + 1));
        }
    }

    /// Lets those who wait for [`DatabaseKnowledge::ready`] go on, now that what was read is taken
    /// in, unless a session is reading.
    pub(super) fn settle(&self) {
        let borrowing = self.borrowing();
        if !borrowing.is_under_way() {
            self.set_ready(true);
        }
    }

    /// Sets whether [`DatabaseKnowledge::ready`] returns at once.
    pub(super) fn set_ready(&self, ready: bool) {
        self.ready.send_replace(ready);
    }
}

impl Drop for DatabaseKnowledge {
    fn drop(&mut self) {
        // The task wakes, finds nothing to keep up to date, and ends.
        self.signals.wake.notify_one();
    }
}
