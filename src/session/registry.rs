//! The sessions that are open, and where the cancel keys lead that their servers gave them.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use dashmap::DashMap;
use tokio::sync::Notify;

use super::live::{Ask, Live, Phase, Seen};
use super::pauses::Pauses;
use crate::net::endpoint::Destination;
use crate::upstream::Upstream;

type Map<K, V> = DashMap<K, V, foldhash::fast::RandomState>;

/// The open sessions, logins included: for drain, for cancel requests, and for operators.
#[derive(Debug, Default)]
pub struct Registry {
    open: Map<u64, Entry>,
    /// By the body of BackendKeyData. Two servers may give the same key.
    keys: Map<Box<[u8]>, Vec<(u64, Origin)>>,
    next: AtomicU64,
    count: AtomicUsize,
    draining: AtomicU8,
    drain_begun: Notify,
    pauses: Mutex<Pauses>,
}

/// One open session.
#[derive(Debug)]
pub struct Entry {
    /// Where the client is.
    pub peer: SocketAddr,
    /// As whom it logs in.
    pub user: String,
    /// Into which database.
    pub database: String,
    /// The name of its upstream.
    pub upstream: String,
    live: Arc<Live>,
    waker: Option<Waker>,
}

/// What can be seen of one session from outside.
#[derive(Debug, Clone)]
pub(crate) struct SeenSession {
    /// Its number.
    pub(crate) id: u64,
    /// Where the client is.
    pub(crate) peer: SocketAddr,
    /// As whom it logs in.
    pub(crate) user: String,
    /// Into which database.
    pub(crate) database: String,
    /// The name of its upstream.
    pub(crate) upstream: String,
    /// What it is doing.
    pub(crate) seen: Seen,
}

/// The server of a session: its upstream, and the address that answered. A cancel must go to the
/// very same.
#[derive(Clone)]
pub(crate) struct Origin {
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) destination: Destination,
}

impl std::fmt::Debug for Origin {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "{} at {}",
            self.upstream.name(),
            self.destination.address
        )
    }
}

/// How far a shutdown has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Drain {
    /// None.
    No,
    /// Sessions end when they are between cycles and outside a transaction.
    WhenQuiet,
    /// Sessions end now.
    Now,
}

impl Registry {
    /// How many sessions are open, logins included.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// What can be seen of all sessions, logins included, in the order in which they came.
    pub(crate) fn sessions(&self) -> Vec<SeenSession> {
        let sessions = self.open.iter().map(|entry| SeenSession {
            id: *entry.key(),
            peer: entry.peer,
            user: entry.user.clone(),
            database: entry.database.clone(),
            upstream: entry.upstream.clone(),
            seen: entry.live.seen(),
        });
        let mut sessions: Vec<_> = sessions.collect();
        sessions.sort_unstable_by_key(|session| session.id);
        sessions
    }

    /// Asks something of a session; false: there is none of this number.
    pub(crate) fn ask(&self, id: u64, what: Ask) -> bool {
        let found = self.open.get(&id).map(|entry| {
            entry.live.ask(what);
            entry.waker.clone()
        });
        let is_there = found.is_some();
        if let Some(waker) = found.flatten() {
            waker.wake();
        }
        is_there
    }

    /// How many entries and keys there are.
    #[cfg(test)]
    pub(crate) fn sizes(&self) -> (usize, usize) {
        (self.open.len(), self.keys.len())
    }

    /// How far a shutdown has come.
    pub(crate) fn drain(&self) -> Drain {
        match self.draining.load(Ordering::Relaxed) {
            0 => Drain::No,
            1 => Drain::WhenQuiet,
            _ => Drain::Now,
        }
    }

    /// Resolves once a shutdown has begun.
    pub(crate) async fn drain_begins(&self) {
        let mut begun = pin!(self.drain_begun.notified());
        begun.as_mut().enable();
        if self.drain() == Drain::No {
            begun.await;
        }
    }

    /// Begins a shutdown, or takes it a step further, and wakes every session.
    pub(crate) fn set_drain(&self, drain: Drain) {
        self.draining.store(drain as u8, Ordering::Relaxed);
        self.drain_begun.notify_waiters();
        let told = self.open.iter().filter_map(|entry| {
            entry.live.set_draining();
            Some((*entry.key(), entry.waker.clone()?))
        });
        let mut wakers: Vec<_> = told.collect();
        // In the order in which they came, so that a simulated run can be replayed.
        wakers.sort_unstable_by_key(|(id, _)| *id);
        for (_, waker) in wakers {
            waker.wake();
        }
    }

    /// Holds the sessions of one database, or all: they begin no transaction until
    /// [`Registry::resume`], and logins wait. Those that are in a transaction or statement go on to
    /// its end. Returns a number that is another one after the next change.
    pub(crate) fn pause(&self, database: Option<&str>) -> u64 {
        let mut pauses = self.pauses();
        pauses.pause(database);
        self.tell_of_pauses(&pauses);
        pauses.changes()
    }

    /// Lets them go on; false: they were not paused (one database by itself, where all are).
    pub(crate) fn resume(&self, database: Option<&str>) -> bool {
        let mut pauses = self.pauses();
        let was_paused = pauses.resume(database);
        self.tell_of_pauses(&pauses);
        was_paused
    }

    /// True if one database is paused, or all (`None`).
    pub(crate) fn is_pause_in_force(&self, database: Option<&str>) -> bool {
        let pauses = self.pauses();
        database.map_or_else(|| pauses.are_all(), |name| pauses.cover(name))
    }

    /// Lets all go on if nothing has changed since [`Registry::pause`] returned this number.
    pub(crate) fn resume_after(&self, changes: u64) -> bool {
        let mut pauses = self.pauses();
        let goes_on = pauses.changes() == changes && pauses.resume(None);
        self.tell_of_pauses(&pauses);
        goes_on
    }

    /// True if sessions of this database are held.
    pub(crate) fn is_paused(&self, database: &str) -> bool {
        self.pauses().cover(database)
    }

    /// The databases that are paused by themselves, by name.
    pub(crate) fn paused_databases(&self) -> Vec<String> {
        self.pauses().named().map(str::to_owned).collect()
    }

    /// True if anything is paused.
    pub(crate) fn is_any_paused(&self) -> bool {
        self.pauses().is_any()
    }

    /// How many sessions are held, and how many that are to be held are in a transaction or statement.
    pub(crate) fn held(&self) -> (usize, usize) {
        let (mut held, mut busy) = (0, 0);
        for entry in self.open.iter().filter(|entry| entry.live.is_paused()) {
            let state = entry.live.seen().state;
            match state.phase {
                _ if state.held => held += 1,
                Phase::Running | Phase::Borrowed => busy += 1,
                Phase::Login | Phase::Draining => {}
            }
        }
        (held, busy)
    }

    fn pauses(&self) -> MutexGuard<'_, Pauses> {
        self.pauses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells every session whether it is paused, and wakes those for which that has changed.
    fn tell_of_pauses(&self, pauses: &Pauses) {
        let mut wakers = Vec::new();
        for entry in &self.open {
            let paused = pauses.cover(&entry.database);
            if entry.live.is_paused() != paused {
                entry.live.set_paused(paused);
                wakers.extend(entry.waker.clone());
            }
        }
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Enters a session, until the value that is returned is dropped.
    pub(crate) fn enter(
        self: &Arc<Self>,
        peer: SocketAddr,
        user: &str,
        database: &str,
        upstream: &str,
    ) -> Entered {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.count.fetch_add(1, Ordering::Relaxed);
        let live = Arc::<Live>::default();
        self.open.insert(
            id,
            Entry {
                peer,
                user: user.to_owned(),
                database: database.to_owned(),
                upstream: upstream.to_owned(),
                live: Arc::clone(&live),
                waker: None,
            },
        );
        // Whoever pauses, or shuts down, from here on finds it among the others.
        live.set_paused(self.pauses().cover(database));
        if self.drain() != Drain::No {
            live.set_draining();
        }
        Entered {
            registry: Arc::clone(self),
            live,
            id,
            key: None,
        }
    }

    /// Tells the sessions that have this cancel key that their client wants to cancel: where they are; empty: none
    /// here has it.
    pub(crate) fn cancelled(&self, key: &[u8]) -> Vec<Origin> {
        let found = self.keys.get(key);
        let found = found.iter().flat_map(|found| found.iter());
        let told = found.map(|(id, origin)| {
            if let Some(entry) = self.open.get(id) {
                entry.live.is_to_cancel();
            }
            origin.clone()
        });
        told.collect()
    }
}

/// A session's entry, taken out when this is dropped.
#[derive(Debug)]
pub(crate) struct Entered {
    registry: Arc<Registry>,
    live: Arc<Live>,
    id: u64,
    key: Option<Box<[u8]>>,
}

impl Entered {
    /// The session's number.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// How far a shutdown has come.
    #[cfg(test)]
    pub(super) fn drain(&self) -> Drain {
        self.registry.drain()
    }

    /// What the session tells of itself.
    pub(super) fn live(&self) -> &Arc<Live> {
        &self.live
    }

    /// Cancel requests with this key, the body of BackendKeyData, are this session's from now on.
    pub(crate) fn set_key(&mut self, key: &[u8], origin: Origin) {
        self.forget_key();
        self.live.set_backend_pid(key);
        let mut owners = self.registry.keys.entry(key.into()).or_default();
        owners.push((self.id, origin));
        self.key = Some(key.into());
    }

    /// The body of BackendKeyData; empty if the server has sent none.
    pub(crate) fn key(&self) -> &[u8] {
        self.key.as_deref().unwrap_or_default()
    }

    /// Has a shutdown wake this task from now on.
    pub(crate) fn wake_with(&self, waker: &Waker) {
        if let Some(mut entry) = self.registry.open.get_mut(&self.id) {
            entry.waker = Some(waker.clone());
        }
    }

    /// Forgets the session's cancel key: its server is gone, so a cancel request with that key is
    /// no longer this session's.
    pub(crate) fn forget_key(&mut self) {
        let Some(key) = self.key.take() else { return };
        if let dashmap::Entry::Occupied(mut owners) = self.registry.keys.entry(key) {
            owners.get_mut().retain(|(id, _)| *id != self.id);
            if owners.get().is_empty() {
                owners.remove();
            }
        }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.forget_key();
        self.registry.open.remove(&self.id);
        self.registry.count.fetch_sub(1, Ordering::Relaxed);
    }
}
