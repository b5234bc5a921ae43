//! Whether this process should be sent clients.

use std::sync::atomic::{AtomicU8, Ordering};

use super::systemd;

/// What the process is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// Not yet accepting connections.
    Starting,
    /// Accepting connections.
    Ready,
    /// Finishing what is open, accepting nothing new.
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
pub struct Health(AtomicU8);

impl Health {
    /// Notes that every listener accepts connections.
    pub fn ready(&self) {
        self.0.store(State::Ready as u8, Ordering::Release);
        systemd::notify("READY=1");
    }

    /// Notes that no listener accepts connections any longer.
    pub fn draining(&self) {
        self.0.store(State::Draining as u8, Ordering::Release);
        systemd::notify("STOPPING=1");
    }

    /// The present state.
    pub fn state(&self) -> State {
        match self.0.load(Ordering::Acquire) {
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
        health.draining();
        assert_eq!(health.state(), State::Draining);
    }
}
