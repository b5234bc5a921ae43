//! The background task of one database: when its catalogs are read, what a failure changes, and
//! when a new snapshot is made.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::StreamExt;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::assemble::Ingredients;
use super::common::{CatalogReader, Common, Rules};
use super::database::{DatabaseKnowledge, Signals};
use super::pace::{FIRST_BACKOFF, FOLLOW_UP, REST_PER_WORK};
use crate::catalog::{Contents, Failure, ReadError};

/// How long to wait for more DDL before reading.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// How long a session may be held up by a reading that fails without being noticed.
const TOLERABLE_WAIT: Duration = Duration::from_secs(2);
/// Key lookups waited for at a time.
const LOOKUPS_AT_A_TIME: usize = 16;

/// Begins what is known of a database, with what the configuration says of it, and starts the
/// background task that keeps it up to date from now on.
pub(super) fn start(name: &str, common: Arc<Common>, runtime: &Handle) -> Arc<DatabaseKnowledge> {
    let rules = common.rules.load_full();
    let first = Ingredients {
        patterns: rules.patterns.clone(),
        rules: rules.projects.clone(),
        ..Ingredients::default()
    };
    let database = Arc::new(DatabaseKnowledge::new(name, common, &first));
    runtime.spawn(run(Arc::downgrade(&database), first));
    database
}

/// Keeps `database` up to date until nobody has it any more.
async fn run(database: Weak<DatabaseKnowledge>, first: Ingredients) {
    let Some(mut task) = database
        .upgrade()
        .map(|database| Task::new(&database, first))
    else {
        return;
    };
    let mut read = true;
    while let Some(database) = database.upgrade() {
        if read {
            task.read(&database).await;
        }
        task.take_in(&database).await;
        database.settle();
        drop(database);
        read = task.wait().await;
    }
}

struct Task {
    signals: Arc<Signals>,
    /// What the present snapshot is made of.
    published: Arc<Ingredients>,
    /// What the last successful reading yielded.
    contents: Option<Arc<Contents>>,
    /// Sessions read the catalogs.
    borrows: bool,
    key_changes: watch::Receiver<u64>,
    rule_changes: watch::Receiver<u64>,
    /// The next reading by the clock, the one that DDL asked for, and the one after that.
    scheduled: Option<Instant>,
    asked: Option<Instant>,
    follow_up: Option<Instant>,
    /// When to make a snapshot again though nothing was said to have changed: a lookup failed, a
    /// lesson ends, or keys may be due to be looked up again.
    again: Option<Instant>,
    backoff: Duration,
    last_end: Instant,
    last_took: Duration,
    /// Kinds of failures already logged since the last success.
    logged: HashSet<Failure>,
}

impl Task {
    fn new(database: &DatabaseKnowledge, first: Ingredients) -> Self {
        Self {
            signals: Arc::clone(&database.signals),
            published: Arc::new(first),
            contents: None,
            borrows: false,
            key_changes: database.common.keys.changes(),
            rule_changes: database.common.changes.subscribe(),
            scheduled: None,
            asked: None,
            follow_up: None,
            again: None,
            backoff: FIRST_BACKOFF,
            last_end: Instant::now(),
            last_took: Duration::ZERO,
            logged: HashSet::new(),
        }
    }

    /// Waits until there is something to do; true if the catalogs are to be read.
    async fn wait(&mut self) -> bool {
        loop {
            let reading = [self.scheduled, self.asked, self.follow_up]
                .into_iter()
                .flatten()
                .min();
            tokio::select! {
                biased;
                () = at(reading) => {
                    let now = Instant::now();
                    self.asked.take_if(|at| *at <= now);
                    self.follow_up.take_if(|at| *at <= now);
                    return true;
                }
                () = at(self.again) => {
                    self.again = None;
                    return false;
                }
                () = self.signals.wake.notified() => {
                    let changed = self.signals.catalog_changed.swap(false, Ordering::AcqRel);
                    if !changed || self.borrows {
                        return false;
                    }
                    let now = Instant::now();
                    let rested = self.last_end + self.last_took * REST_PER_WORK;
                    self.asked.get_or_insert((now + DEBOUNCE).max(rested));
                    self.follow_up = Some((now + FOLLOW_UP).max(rested));
                }
                // The senders live in what all databases share, and the database of this task keeps
                // that alive.
                Ok(()) = self.key_changes.changed() => return false,
                Ok(()) = self.rule_changes.changed() => return true,
            }
        }
    }

    async fn read(&mut self, database: &DatabaseKnowledge) {
        let rules = database.common.rules.load_full();
        self.borrows = matches!(rules.reader, CatalogReader::Sessions { .. });
        let service = match &rules.reader {
            CatalogReader::Account(service) => service,
            CatalogReader::Sessions { .. } => {
                database.borrowing().ask_anew();
                self.scheduled = None;
                return;
            }
            CatalogReader::Off => {
                self.contents = None;
                self.scheduled = None;
                return;
            }
            CatalogReader::Retired => {
                self.scheduled = None;
                return;
            }
        };
        database.note_due();
        let start = Instant::now();
        let mut reading = std::pin::pin!(service.read(database.name()));
        let outcome = loop {
            tokio::select! {
                biased;
                outcome = &mut reading => break outcome,
                // Lessons do not wait for a slow server.
                () = self.signals.wake.notified() => self.take_in(database).await,
                // A reading that began under other rules, perhaps without the TLS that is wanted
                // now, is given up; the caller's loop begins it anew.
                Ok(()) = self.rule_changes.changed() => {
                    self.scheduled = Some(Instant::now());
                    return;
                }
            }
        };
        if self.signals.catalog_changed.load(Ordering::Acquire) {
            // DDL passed meanwhile: what was read may be older. The wake was used up above.
            self.signals.wake.notify_one();
        }
        self.last_end = Instant::now();
        self.last_took = self.last_end - start;
        let wait = match outcome {
            Ok(contents) => {
                self.take_reading(database, contents);
                database.borrowing().note_seen(start);
                rules.refresh
            }
            Err(error) => self.take_failure(database, error, &rules),
        };
        self.scheduled = Some(self.last_end + wait);
    }

    /// Takes what a session has read, if one has.
    fn take_borrowed(&mut self, database: &DatabaseKnowledge, rules: &Rules) {
        let Some(outcome) = database.borrowing().take_outcome() else {
            return;
        };
        match outcome.contents {
            Ok(contents) => {
                self.take_reading(database, contents);
                let mut borrowing = database.borrowing();
                borrowing.succeeded(outcome.begun, outcome.ended, rules.refresh);
            }
            Err(error) => {
                // The session's client has waited for nothing. Other sessions are spared that for a
                // while.
                let too_slow = outcome.ended - outcome.begun > TOLERABLE_WAIT;
                let backoff = self.take_failure(database, error, rules);
                let wait = if too_slow { rules.refresh } else { backoff };
                database.borrowing().failed(outcome.ended + wait);
            }
        }
    }

    fn take_reading(&mut self, database: &DatabaseKnowledge, contents: Contents) {
        database.counts.readings.inc();
        database.note_reading();
        self.log_success(database, &contents);
        self.backoff = FIRST_BACKOFF;
        self.contents = Some(Arc::new(contents));
    }

    /// Returns how long to wait before the next reading.
    fn take_failure(
        &mut self,
        database: &DatabaseKnowledge,
        error: ReadError,
        rules: &Rules,
    ) -> Duration {
        database.counts.reading_failures.inc();
        self.log_failure(database, &error);
        database.note_failure(error);
        let wait = self.backoff.min(rules.refresh);
        self.backoff = (self.backoff * 2).min(rules.refresh);
        wait
    }

    /// Makes a snapshot of all that is known, and swaps it in if it differs from the present one.
    async fn take_in(&mut self, database: &DatabaseKnowledge) {
        // A change that comes from here on leads to another round.
        self.key_changes.mark_unchanged();
        let rules = database.common.rules.load_full();
        self.take_borrowed(database, &rules);
        let cache = &database.common.keys;
        let mut next = Ingredients {
            patterns: rules.patterns.clone(),
            rules: rules.projects.clone(),
            contents: self.contents.clone(),
            ..Ingredients::default()
        };
        let (believed, lesson_ends) = database.believed();
        next.believed = believed;

        let mut projects = next.projects();
        projects.extend(next.believed.iter().map(|lesson| lesson.project.clone()));
        let lookups = projects.into_iter().map(|project| async move {
            let answer = cache.get(&project).await;
            (project, answer)
        });
        let mut lookups = futures::stream::iter(lookups).buffer_unordered(LOOKUPS_AT_A_TIME);
        let mut unknown = false;
        while let Some((project, answer)) = lookups.next().await {
            match answer {
                Ok(Some(record)) => {
                    next.records.insert(project, record);
                }
                Ok(None) | Err(_) => unknown = true,
            }
        }
        drop(lookups);
        // A session may make a table of any of these.
        for known in cache.list() {
            if known.record.is_encrypted() {
                let records = next.records.entry(known.record.project.clone());
                records.or_insert(known.record);
            }
        }

        let now = Instant::now();
        let asks_again = unknown.then_some(now + cache.negative_ttl());
        // A session may read tomorrow or never; keys are kept fresh meanwhile.
        let keys_age = self.borrows.then_some(now + rules.refresh);
        self.again = [asks_again, lesson_ends, keys_age]
            .into_iter()
            .flatten()
            .min();

        if next != *self.published {
            let next = Arc::new(next);
            database.publish(&next).await;
            let snapshot = database.snapshot();
            tracing::debug!(
                database = database.name(),
                generation = snapshot.generation(),
                protected = snapshot.protected_count(),
                foreign = snapshot.foreign_count(),
                "new snapshot"
            );
            self.published = next;
        }
        if self.contents.is_some() {
            database.see_again();
        }
    }

    fn log_success(&mut self, database: &DatabaseKnowledge, contents: &Contents) {
        let first = self.contents.is_none();
        if first || !self.logged.is_empty() {
            tracing::info!(
                database = database.name(),
                relations = contents.relations.len(),
                by = if self.borrows {
                    "a session"
                } else {
                    "the catalog account"
                },
                version = contents.version.map(tracing::field::display),
                "read the catalogs"
            );
        }
        self.logged.clear();
    }

    fn log_failure(&mut self, database: &DatabaseKnowledge, error: &ReadError) {
        if self.logged.insert(error.failure) {
            tracing::warn!(
                database = database.name(),
                kind = error.failure.label(),
                reason = error.reason,
                to_do = error.failure.remedy(),
                "cannot read the catalogs; what was known before stays in use"
            );
        }
    }
}

/// Resolves at that time; never without one.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}
