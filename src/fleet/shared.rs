//! What all upstreams of one process share of the Redis.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use redis::RedisError;
use redis::aio::MultiplexedConnection;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::counts::{Counts, NotBelieved};
use super::seal::Seal;
use super::store::{Store, is_refusal};
use crate::config::Replicas;
use crate::facts::Stamp;

/// How often it is said that records are not believed.
const COMPLAINT: Duration = Duration::from_mins(1);

/// What all upstreams of one process share of the Redis.
pub(super) struct Shared {
    pub(super) settings: Replicas,
    /// The name of this replica.
    pub(super) by: Arc<str>,
    pub(super) seal: Seal,
    pub(super) counts: Counts,
    /// What lookups ask by; none while the Redis is away.
    pub(super) connection: ArcSwapOption<MultiplexedConnection>,
    /// A lookup has had no answer in time: nobody waits for the next one until it is known to answer.
    pub(super) doubted: AtomicBool,
    /// There is a doubt.
    pub(super) doubt: Notify,
    /// What the Redis has is to be compared with what is known here.
    pub(super) again: Notify,
    /// The replicas that are there, and how long ago each was last.
    pub(super) seen: Mutex<Vec<(String, Duration)>>,
    complained: Mutex<Option<Instant>>,
    clock: fn() -> Stamp,
}

impl Shared {
    pub(super) fn new(settings: Replicas, by: Arc<str>, clock: fn() -> Stamp) -> Self {
        Self {
            seal: Seal::new(&settings.key_prefix, settings.hmac_key.clone()),
            settings,
            by,
            counts: Counts::default(),
            connection: ArcSwapOption::empty(),
            doubted: AtomicBool::new(false),
            doubt: Notify::new(),
            again: Notify::new(),
            seen: Mutex::default(),
            complained: Mutex::default(),
            clock,
        }
    }

    /// The wall clock.
    pub(super) fn now(&self) -> Stamp {
        (self.clock)()
    }

    /// What a lookup asks; `None`: the Redis is away, or may be.
    pub(super) fn store(&self) -> Option<Store<'_>> {
        if self.doubted.load(Ordering::Acquire) {
            return None;
        }
        let connection = self.connection.load_full()?;
        Some(Store {
            connection: MultiplexedConnection::clone(&connection),
            counts: &self.counts,
            deadline: self.settings.deadline,
        })
    }

    /// What came of a lookup's question: if there was no answer, it is to be found out whether there
    /// still are any.
    pub(super) fn note(&self, error: &RedisError) {
        if !is_refusal(error) {
            self.doubted.store(true, Ordering::Release);
            self.doubt.notify_one();
        }
    }

    /// Counts a record that is not believed, and says so once in a while.
    pub(super) fn refuse(&self, why: NotBelieved) {
        use crate::observe::metrics::Kind as _;

        self.counts.not_believed.of(why).inc();
        // Facts grow old where they are kept.
        if why == NotBelieved::Old {
            return;
        }
        let complained = self.complained.lock();
        let mut complained = complained.unwrap_or_else(PoisonError::into_inner);
        if complained.is_none_or(|last| last.elapsed() >= COMPLAINT) {
            *complained = Some(Instant::now());
            tracing::warn!(
                why = why.label(),
                "a record of the replicas' Redis is not believed, and left alone; \
                 osprey_replica_records_refused_total counts them"
            );
        }
    }
}
