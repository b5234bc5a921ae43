//! Whether this process should be sent clients.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use sd_notify::NotifyState;

use super::systemd;

/// For `systemctl status`.
const ACCEPTING: &str = "accepting connections";

/// What the process is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// Not yet accepting connections.
    Starting,
    /// Accepting connections.
    Ready,
    /// Finishing what is open; nothing new is to come.
    Draining,
}

impl State {
    /// One word for probes and the status page.
    pub fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Draining => "draining",
        }
    }
}

/// The state as the server sets it and the probes read it; systemd is told, too. Starts as
/// [`State::Starting`].
#[derive(Debug, Default)]
pub struct Health {
    state: AtomicU8,
    /// The service manager watches another process.
    is_silent: AtomicBool,
}

impl Health {
    /// Notes that every listener accepts connections.
    pub fn ready(&self) {
        self.state.store(State::Ready as u8, Ordering::Release);
        systemd::notify(&[NotifyState::Ready, NotifyState::Status(ACCEPTING)]);
    }

    /// Notes that the configuration is being read again.
    pub fn reloading(&self) {
        if self.state() == State::Ready
            && let Ok(now) = NotifyState::monotonic_usec_now()
        {
            systemd::notify(&[NotifyState::Reloading, now]);
        }
    }

    /// Notes that it has been read; `outcome` is what is to be seen of it where it is not in force.
    pub fn reloaded(&self, outcome: Result<(), &str>) {
        if self.state() == State::Ready {
            let status = NotifyState::Status(outcome.err().unwrap_or(ACCEPTING));
            systemd::notify(&[NotifyState::Ready, status]);
        }
    }

    /// Notes that another process accepts connections in this one's place. With `main` it is also
    /// that one whom the service manager watches from now on; nothing more is heard of this one.
    pub fn handed_over(&self, main: Option<u32>) {
        self.state.store(State::Draining as u8, Ordering::Release);
        if let Some(pid) = main {
            systemd::notify(&[NotifyState::MainPid(pid)]);
            self.is_silent.store(true, Ordering::Release);
        } else {
            // It is no stop yet: for that there is a time limit (TimeoutStopSec=).
            let status = "another process has taken over: sessions go on to their end";
            systemd::notify(&[NotifyState::Status(status)]);
        }
    }

    /// Notes that no more clients are to be sent: the listeners are closed, or soon will be. It takes
    /// `longest` at most, for which the service manager is to wait, whatever its own limit is.
    pub fn draining(&self, longest: Duration) {
        self.state.store(State::Draining as u8, Ordering::Release);
        if self.is_silent.load(Ordering::Acquire) {
            return;
        }
        let status = NotifyState::Status("draining: sessions may finish what they are at");
        let longest = u32::try_from(longest.as_micros()).unwrap_or(u32::MAX);
        let limit = NotifyState::ExtendTimeoutUsec(longest);
        systemd::notify(&[NotifyState::Stopping, limit, status]);
    }

    /// The present state.
    pub fn state(&self) -> State {
        match self.state.load(Ordering::Acquire) {
            0 => State::Starting,
            1 => State::Ready,
            _ => State::Draining,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_follow_the_server() {
        let health = Health::default();
        assert_eq!(health.state(), State::Starting);
        health.ready();
        assert_eq!(health.state(), State::Ready);
        health.draining(Duration::ZERO);
        assert_eq!(health.state(), State::Draining);
    }
}
