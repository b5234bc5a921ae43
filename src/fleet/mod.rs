//! What several replicas tell each other, through a Redis: the same [facts](crate::facts) that one
//! process's own parts tell each other, with a lease so that one lookup of a project is enough for all.
//!
//! Nothing waits for it. A lookup, which no session waits for, asks it within a deadline, a few times if
//! it is busy, and goes on alone if there is no answer; all else is one task's, which connects anew for
//! as long as it takes (`link`). What is read from it is bounded before it is kept (`guard`) and, where the operator has
//! given a key, believed only if it is vouched for (`seal`).

mod connect;
mod counts;
mod guard;
mod link;
mod member;
mod seal;
mod shared;
mod store;

use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::runtime::Handle;

use connect::Connector;
use link::Members;
use shared::Shared;

use crate::config::Replicas;
use crate::facts::{Bus, Stamp};
use crate::net::tls::TlsError;
use crate::observe::MeasuredReplicas;

pub use counts::{Counts, Lookup, NotBelieved, Operation};
pub use member::{Asked, Fresh, Lease, Member, Sink};

/// This replica's part in what replicas tell each other.
pub struct Fleet {
    shared: Arc<Shared>,
    members: Members,
}

impl Fleet {
    /// Begins to connect, on `runtime`; `by` is the name of this replica.
    ///
    /// # Errors
    ///
    /// The file with the authorities cannot be used.
    pub fn start(settings: &Replicas, by: Arc<str>, runtime: &Handle) -> Result<Self, TlsError> {
        let clock = || Stamp::of(SystemTime::now());
        Self::start_by(clock, settings, by, runtime)
    }

    /// The same by a clock of the caller's.
    ///
    /// # Errors
    ///
    /// See [`Fleet::start`].
    pub fn start_by(
        clock: fn() -> Stamp,
        settings: &Replicas,
        by: Arc<str>,
        runtime: &Handle,
    ) -> Result<Self, TlsError> {
        let connector = Connector::new(settings)?;
        let shared = Arc::new(Shared::new(settings.clone(), by, clock));
        let members = Members::default();
        runtime.spawn(link::run(
            Arc::clone(&shared),
            connector,
            Arc::clone(&members),
        ));
        Ok(Self { shared, members })
    }

    /// The name of this replica.
    pub fn by(&self) -> &Arc<str> {
        &self.shared.by
    }

    /// An upstream takes part from now on, for as long as what is returned lives.
    pub fn join(&self, bus: Arc<Bus>) -> Arc<Member> {
        let member = Arc::new(Member::new(Arc::clone(&self.shared), bus));
        let members = self.members.lock();
        let mut members = members.unwrap_or_else(PoisonError::into_inner);
        members.push(Arc::downgrade(&member));
        member
    }

    /// What is counted.
    pub fn counts(&self) -> &Counts {
        &self.shared.counts
    }

    /// What the metrics say of it, now.
    pub fn measure(&self) -> MeasuredReplicas {
        let counts = self.counts();
        MeasuredReplicas {
            connected: counts.is_connected(),
            seen: self.replicas().len() as u64,
            operations: counts.operations.labelled(),
            received: counts.received.get(),
            sent: counts.sent.get(),
            refused: counts.not_believed.labelled(),
            lookups: counts.lookups.labelled(),
        }
    }

    /// The replicas that are there, this one among them, and how long ago each was last; what was seen
    /// last, where the Redis is away.
    pub fn replicas(&self) -> Vec<(String, Duration)> {
        let seen = self.shared.seen.lock();
        seen.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A name for this replica that no other one has: its host's, and a number.
pub fn name() -> Arc<str> {
    use std::hash::{BuildHasher as _, RandomState};

    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host: String = host.trim().chars().take(64).collect();
    let number = RandomState::new().hash_one(std::process::id());
    format!("{host}-{number:016x}").into()
}
