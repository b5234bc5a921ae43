//! Where the values of the metrics come from: the workers' counters, and what the other parts of the
//! process say when they are asked.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use super::metrics::{ConsoleCounts, Counter, Shard};
use super::reloads::Reloads;

/// What is measured at the moment of a scrape beside the workers' counters.
#[derive(Debug, Clone, Default)]
pub struct Measured {
    /// Key lookups begun, since the start.
    pub key_lookups: u64,
    /// Of these, the ones that failed.
    pub key_lookup_failures: u64,
    /// Questions that the key cache answered, since the start.
    pub key_cache_hits: u64,
    /// Questions that the key cache could not answer, since the start.
    pub key_cache_misses: u64,
    /// Records in the key cache.
    pub key_records: u64,
    /// Answers older than they should be, because lookups fail, since the start.
    pub key_stale_answers: u64,
    /// Records pushed out by the cache's bound, since the start.
    pub key_evictions: u64,
    /// Projects learned to be encrypted from a failure, since the start.
    pub lessons_learned: u64,
    /// Of such lessons, the ones that a lookup contradicted.
    pub lessons_contradicted: u64,
    /// The databases that clients opened.
    pub databases: Vec<MeasuredDatabase>,
    /// What is open now.
    pub open: OpenConnections,
    /// When certificates expire.
    pub certificates: Vec<Certificate>,
    /// What is known of the projects that are encrypted, or may be.
    pub projects: Vec<MeasuredProject>,
    /// The limits on what may be open, and how near they are.
    pub limits: Vec<MeasuredLimit>,
    /// Whether PAUSE holds sessions back.
    pub paused: bool,
    /// How many sessions are held.
    pub held_sessions: u64,
    /// Processes that this one has taken over from and that serve their last sessions.
    pub predecessors: u64,
    /// How many sessions these have.
    pub predecessor_sessions: u64,
    /// What replicas tell each other; `None`: they do not.
    pub replicas: Option<MeasuredReplicas>,
}

/// What is measured of what replicas tell each other.
#[derive(Debug, Clone, Default)]
pub struct MeasuredReplicas {
    /// Whether their Redis answers.
    pub connected: bool,
    /// The replicas that are there.
    pub seen: u64,
    /// Questions to it, by what became of them, since the start.
    pub operations: Vec<(&'static str, u64)>,
    /// Facts of others that were taken in, since the start.
    pub received: u64,
    /// Facts that were passed on, since the start.
    pub sent: u64,
    /// Records that were not believed, by why, since the start.
    pub refused: Vec<(&'static str, u64)>,
    /// Lookups of projects, by how they went, since the start.
    pub lookups: Vec<(&'static str, u64)>,
}

impl Measured {
    /// Adds what was measured of another upstream.
    pub fn add(&mut self, other: Self) {
        self.key_lookups += other.key_lookups;
        self.key_lookup_failures += other.key_lookup_failures;
        self.key_cache_hits += other.key_cache_hits;
        self.key_cache_misses += other.key_cache_misses;
        self.key_records += other.key_records;
        self.key_stale_answers += other.key_stale_answers;
        self.key_evictions += other.key_evictions;
        self.lessons_learned += other.lessons_learned;
        self.lessons_contradicted += other.lessons_contradicted;
        self.databases.extend(other.databases);
        self.certificates.extend(other.certificates);
        self.projects.extend(other.projects);
    }
}

/// A certificate that Osprey shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// To whom.
    pub shown_to: ShownTo,
    /// Where: a listener's first address, or an upstream's name.
    pub name: String,
    /// When it, or another one of its chain, expires.
    pub expires: SystemTime,
}

/// The label `certificate`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShownTo {
    /// To the clients of a listener.
    Clients,
    /// To an upstream.
    Upstream,
}

impl ShownTo {
    /// The label's value.
    pub fn label(self) -> &'static str {
        match self {
            Self::Clients => "listener",
            Self::Upstream => "upstream_client",
        }
    }
}

/// How many connections are open now, by what they are doing.
#[derive(Debug, Clone, Copy, Default)]
pub struct OpenConnections {
    /// Sessions that are logged in.
    pub sessions: u64,
    /// Connections that have not said what they want.
    pub greetings: u64,
    /// Connections that are logging in.
    pub logins: u64,
    /// Connections that wait for their cancel request to be forwarded.
    pub cancels: u64,
}

/// What is known of one encrypted MaxCompute project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeasuredProject {
    /// The upstream for which it is known.
    pub upstream: String,
    /// Its name.
    pub project: String,
    /// The state of its KMS key as KMS names it, `Unknown`, or `DefaultKey` for MaxCompute's own.
    pub key_state: &'static str,
    /// How long ago that was looked up.
    pub age: Duration,
    /// When imported key material expires.
    pub material_expires: Option<SystemTime>,
}

/// A limit on what may be open at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeasuredLimit {
    /// The setting: `limits.max_sessions`, `upstream.NAME.max_sessions`, …
    pub setting: String,
    /// So many may be open.
    pub most: usize,
    /// So many of one client address.
    pub per_address: Option<usize>,
    /// So many are open.
    pub taken: usize,
}

/// What is measured of one database.
#[derive(Debug, Clone, Default)]
pub struct MeasuredDatabase {
    /// The name of the upstream that has it.
    pub upstream: String,
    /// Its name.
    pub name: String,
    /// How long ago its catalogs were read; `None`: not yet.
    pub snapshot_age: Option<Duration>,
    /// How long a reading of them has been due that has not succeeded; `None`: nobody is to read
    /// them.
    pub overdue: Option<Duration>,
    /// Relations that are protected.
    pub protected_relations: u64,
    /// Readings of its catalogs that succeeded, since the start.
    pub refreshes: u64,
    /// Readings that failed, since the start.
    pub refresh_failures: u64,
}

/// Everything that the metrics' values come from.
pub(super) struct Sources {
    /// What each worker has counted.
    pub(super) shards: Vec<Arc<Shard>>,
    /// Codes of advice that are shown from the start.
    pub(super) codes: Vec<&'static str>,
    /// Reasons for not running a statement again that are shown from the start.
    pub(super) refusals: Vec<&'static str>,
    /// What came of reading the configuration again.
    pub(super) reloads: Reloads,
    /// What the console has done.
    pub(super) console: ConsoleCounts,
    /// Whom to ask for the rest.
    measured: OnceLock<Box<dyn Fn() -> Measured + Send + Sync>>,
}

impl Sources {
    /// Counters for so many workers, at 0. `codes` and `refusals` are labels that are shown from
    /// the start.
    pub(super) fn new(
        workers: usize,
        codes: impl IntoIterator<Item = &'static str>,
        refusals: impl IntoIterator<Item = &'static str>,
    ) -> Self {
        Self {
            shards: (0..workers).map(|_| Arc::default()).collect(),
            codes: codes.into_iter().collect(),
            refusals: refusals.into_iter().collect(),
            reloads: Reloads::default(),
            console: ConsoleCounts::default(),
            measured: OnceLock::new(),
        }
    }

    /// Names whom to ask for [`Measured`]; the first one counts.
    pub(super) fn ask(&self, reader: impl Fn() -> Measured + Send + Sync + 'static) {
        // A second reader would be a mistake of the caller's, and harmless: the first one stays.
        let _ = self.measured.set(Box::new(reader));
    }

    /// What is measured now beside the counters.
    pub(super) fn measured(&self) -> Measured {
        self.measured.get().map(|read| read()).unwrap_or_default()
    }

    /// What each worker has counted.
    pub(super) fn shards(&self) -> impl Iterator<Item = &Shard> {
        self.shards.iter().map(AsRef::as_ref)
    }

    /// The sum of one counter over all workers.
    pub(super) fn sum(&self, counter: impl Fn(&Shard) -> &Counter) -> u64 {
        self.shards().map(|shard| counter(shard).get()).sum()
    }
}
