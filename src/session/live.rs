//! What a session tells of itself, for whoever looks on, and what it is asked from outside. It writes
//! here at most once a turn, and only what has changed; nobody waits for anybody.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use crate::core::Steering;
use crate::net::moment::Moment;
use crate::wire::backend::Status;

/// Every counter and state here has one writer, and its readers need no order between them.
const RELAXED: Ordering = Ordering::Relaxed;

/// How far a session has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It logs in.
    Login,
    /// It reads the catalogs, for Osprey.
    Borrowed,
    /// It serves its client.
    Running,
    /// It ends.
    Draining,
}

/// What somebody outside wants of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    /// To cancel what its server is doing.
    Cancel,
    /// To end.
    Kill,
}

/// What a session is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) phase: Phase,
    pub(crate) transaction: Status,
    pub(crate) steering: Steering,
    /// The server is, or may be, working for it.
    pub(crate) busy: bool,
    /// It is paused, and has come so far that nothing of its client's is read.
    pub(crate) held: bool,
}

/// The same at one moment, with how long it has been so.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    pub(crate) state: State,
    /// Since the session began.
    pub(crate) age: Duration,
    /// Since its present statement began or, if there is none, since the last one ended.
    pub(crate) since_change: Duration,
    /// The process that serves it; 0: not known yet.
    pub(crate) backend_pid: u32,
    pub(crate) bytes_to_server: u64,
    pub(crate) bytes_to_client: u64,
}

/// What one session tells, and what it is asked.
#[derive(Debug)]
pub(crate) struct Live {
    began: Moment,
    state: AtomicU32,
    /// When `busy` changed last, or another statement began: [`Moment::nanoseconds`].
    changed: AtomicU64,
    /// When its client asked last to cancel what it does.
    cancelled: AtomicU64,
    backend_pid: AtomicU32,
    bytes_to_server: AtomicU64,
    bytes_to_client: AtomicU64,
    /// All that somebody outside wants of it.
    wanted: AtomicU8,
    ending: Notify,
    resumed: Notify,
}

/// To cancel what its server is doing.
const CANCEL: u8 = 1;
/// To end.
const KILL: u8 = 2;
/// To begin no transaction.
const PAUSE: u8 = 4;
/// To end when a shutdown says so.
const DRAIN: u8 = 8;

impl State {
    const LOGIN: Self = Self {
        phase: Phase::Login,
        transaction: Status::Idle,
        steering: Steering::None,
        busy: false,
        held: false,
    };
    const BUSY: u32 = 1;
    const HELD: u32 = 2;

    #[inline]
    fn packed(self) -> u32 {
        let (phase, transaction) = (self.phase as u32, self.transaction as u32);
        let busy = if self.busy { Self::BUSY } else { 0 };
        let held = if self.held { Self::HELD } else { 0 };
        busy | held | phase << 8 | transaction << 16 | (self.steering as u32) << 24
    }

    fn unpacked(packed: u32) -> Self {
        let [flags, phase, transaction, steering] = packed.to_le_bytes();
        Self {
            phase: match phase {
                0 => Phase::Login,
                1 => Phase::Borrowed,
                2 => Phase::Running,
                _ => Phase::Draining,
            },
            transaction: match transaction {
                0 => Status::Idle,
                1 => Status::Transaction,
                _ => Status::Failed,
            },
            steering: match steering {
                0 => Steering::None,
                1 => Steering::Steered,
                2 => Steering::Unknown,
                _ => Steering::Client,
            },
            busy: u32::from(flags) & Self::BUSY != 0,
            held: u32::from(flags) & Self::HELD != 0,
        }
    }
}

impl Default for Live {
    fn default() -> Self {
        let began = Moment::now();
        Self {
            began,
            state: AtomicU32::new(State::LOGIN.packed()),
            changed: AtomicU64::new(began.nanoseconds()),
            cancelled: AtomicU64::new(0),
            backend_pid: AtomicU32::new(0),
            bytes_to_server: AtomicU64::new(0),
            bytes_to_client: AtomicU64::new(0),
            wanted: AtomicU8::new(0),
            ending: Notify::new(),
            resumed: Notify::new(),
        }
    }
}

impl Live {
    /// Says what the session is doing now; `another`: a statement has ended, so that one which goes on
    /// is another one.
    #[inline]
    pub(super) fn set(&self, state: State, now: Moment, another: bool) {
        let (before, after) = (self.state.load(RELAXED), state.packed());
        let changed = (before ^ after) & State::BUSY != 0 || another && state.busy;
        if changed {
            self.changed.store(now.nanoseconds(), RELAXED);
        }
        if before != after {
            self.state.store(after, RELAXED);
        }
    }

    /// Says that the session has come to another phase, in which it does nothing for its client yet,
    /// or no more.
    pub(super) fn set_phase(&self, phase: Phase) {
        let state = State {
            phase,
            ..State::LOGIN
        };
        self.set(state, Moment::now(), false);
    }

    /// Says which process serves the session: the key's first four bytes.
    pub(super) fn set_backend_pid(&self, key: &[u8]) {
        if let Some(pid) = key.first_chunk() {
            self.backend_pid.store(u32::from_be_bytes(*pid), RELAXED);
        }
    }

    /// Counts bytes that the client has sent; only the session itself does.
    #[inline]
    pub(super) fn add_to_server(&self, bytes: u64) {
        let sum = self.bytes_to_server.load(RELAXED) + bytes;
        self.bytes_to_server.store(sum, RELAXED);
    }

    /// The same in the other direction.
    #[inline]
    pub(super) fn add_to_client(&self, bytes: u64) {
        let sum = self.bytes_to_client.load(RELAXED) + bytes;
        self.bytes_to_client.store(sum, RELAXED);
    }

    /// Says that its client asks to cancel what it does.
    pub(super) fn is_to_cancel(&self) {
        self.cancelled.store(Moment::now().nanoseconds(), RELAXED);
    }

    /// True if its client has asked to cancel the statement that the session is at.
    pub(super) fn is_cancelled(&self) -> bool {
        let cancelled = self.cancelled.load(RELAXED);
        cancelled != 0 && cancelled >= self.changed.load(RELAXED)
    }

    /// What the session says at this moment.
    pub(super) fn seen(&self) -> Seen {
        let now = Moment::now();
        let changed = Moment::at(self.changed.load(RELAXED));
        Seen {
            state: State::unpacked(self.state.load(RELAXED)),
            age: Duration::from_nanos(now.since(self.began)),
            since_change: Duration::from_nanos(now.since(changed)),
            backend_pid: self.backend_pid.load(RELAXED),
            bytes_to_server: self.bytes_to_server.load(RELAXED),
            bytes_to_client: self.bytes_to_client.load(RELAXED),
        }
    }

    /// Asks something of the session, which finds it at its next turn. A session that has been asked
    /// to end is not asked less.
    pub(super) fn ask(&self, what: Ask) {
        match what {
            Ask::Cancel => self.want(CANCEL),
            Ask::Kill => {
                self.want(KILL);
                self.ending.notify_waiters();
            }
        }
    }

    fn want(&self, what: u8) {
        self.wanted.fetch_or(what, RELAXED);
    }

    fn wants(&self, what: u8) -> bool {
        self.wanted.load(RELAXED) & what != 0
    }

    /// True if nobody wants anything of the session: most of its turns ask no more.
    #[inline]
    pub(super) fn is_let_alone(&self) -> bool {
        self.wanted.load(RELAXED) == 0
    }

    /// What the session is asked.
    pub(super) fn asked(&self) -> Option<Ask> {
        if self.wants(KILL) {
            Some(Ask::Kill)
        } else {
            self.wants(CANCEL).then_some(Ask::Cancel)
        }
    }

    /// The session has done what it was asked: it cancels.
    pub(super) fn cancels(&self) {
        self.wanted.fetch_and(!CANCEL, RELAXED);
    }

    /// Says that a shutdown has begun.
    pub(super) fn set_draining(&self) {
        self.want(DRAIN);
    }

    /// Says whether the session is to begin no transaction.
    pub(super) fn set_paused(&self, paused: bool) {
        if paused {
            self.want(PAUSE);
        } else {
            self.wanted.fetch_and(!PAUSE, RELAXED);
            self.resumed.notify_waiters();
        }
    }

    /// True if the session is to begin no transaction.
    pub(super) fn is_paused(&self) -> bool {
        self.wants(PAUSE)
    }

    /// Resolves once the session may begin transactions.
    pub(super) async fn may_begin(&self) {
        loop {
            let mut resumed = std::pin::pin!(self.resumed.notified());
            resumed.as_mut().enable();
            if !self.is_paused() {
                return;
            }
            resumed.await;
        }
    }

    /// Resolves once the session is to end.
    pub(super) async fn is_killed(&self) {
        let mut killed = std::pin::pin!(self.ending.notified());
        killed.as_mut().enable();
        if self.asked() != Some(Ask::Kill) {
            killed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_is_told_as_it_is() {
        for phase in [
            Phase::Login,
            Phase::Borrowed,
            Phase::Running,
            Phase::Draining,
        ] {
            for transaction in [Status::Idle, Status::Transaction, Status::Failed] {
                for steering in [
                    Steering::None,
                    Steering::Steered,
                    Steering::Unknown,
                    Steering::Client,
                ] {
                    for (busy, held) in [(false, false), (true, false), (false, true)] {
                        let state = State {
                            phase,
                            transaction,
                            steering,
                            busy,
                            held,
                        };
                        assert_eq!(State::unpacked(state.packed()), state);
                    }
                }
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_statements_age_is_its_own() {
        let live = Live::default();
        let step = |seconds| tokio::time::advance(Duration::from_secs(seconds));
        let set = |busy, another| {
            let state = State {
                phase: Phase::Running,
                busy,
                ..State::LOGIN
            };
            live.set(state, Moment::now(), another);
            live.seen().since_change.as_secs()
        };
        step(5).await;
        assert_eq!(set(true, false), 0);
        step(3).await;
        assert_eq!(set(true, false), 3);
        assert_eq!(set(true, true), 0, "the next one of a pipeline");
        step(2).await;
        assert_eq!(set(false, true), 0);
        step(4).await;
        assert_eq!(set(false, false), 4);
        assert_eq!(live.seen().age.as_secs(), 14);
    }

    #[tokio::test]
    async fn who_is_to_end_is_not_asked_for_less() {
        let live = Live::default();
        live.ask(Ask::Cancel);
        assert_eq!(live.asked(), Some(Ask::Cancel));
        live.cancels();
        assert_eq!(live.asked(), None);
        live.ask(Ask::Kill);
        live.ask(Ask::Cancel);
        live.cancels();
        assert_eq!(live.asked(), Some(Ask::Kill));
        live.is_killed().await;
    }
}
