//! What most turns of a session have nothing to do with. All of it stands behind one pointer, so that
//! one question tells whether any of it has to be asked for.

use std::pin::Pin;
use std::task::{self, Poll};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::net::moment::Moment;
use crate::net::time::{Sleep, sleep_until};
use crate::session::read_ahead::Grant;
use crate::session::rest::Rest;

/// How long nothing may be read of a client before it is read ahead: its end may lie behind what
/// it has sent, and then no socket tells of it.
pub(super) const HELD_PATIENCE: Duration = Duration::from_secs(2);

/// What is the case with a session that is not as usual.
#[derive(Debug, Default)]
pub(super) struct Unusual {
    /// It is paused and between transactions: nothing is read of the client.
    pub(super) holding: bool,
    /// The client has said goodbye, or has ended its connection though not all of it was read.
    pub(super) left: bool,
    /// The server has been told that the client sends no more.
    pub(super) server_shut: bool,
    pub(super) orphan: Option<Orphan>,
    /// Says that the cancel request is over that was sent last for this session.
    pub(super) cancelling: Option<oneshot::Receiver<()>>,
    pub(super) held_since: Option<Moment>,
    pub(super) grant: Option<Grant>,
    /// When a drain stops waiting for the end of a message.
    pub(super) cut_at: Option<Moment>,
    /// The clocks, if there are any.
    pub(super) rest: Option<Rest>,
    /// Wakes the session at the next moment of all these.
    timer: Option<Sleep>,
}

/// The server is busy for a client that is gone.
#[derive(Debug, Clone, Copy)]
pub(super) struct Orphan {
    pub(super) since: Moment,
    pub(super) cancel_at: Moment,
}

impl Unusual {
    /// Nothing but clocks, which are always asked.
    pub(super) fn with(rest: Rest) -> Self {
        Self {
            rest: Some(rest),
            ..Self::default()
        }
    }

    /// True if all is as usual again.
    pub(super) fn is_nothing(&self) -> bool {
        let Self {
            holding,
            left,
            server_shut,
            orphan,
            cancelling,
            held_since,
            grant,
            cut_at,
            rest,
            timer: _,
        } = self;
        !(*holding || *left || *server_shut)
            && orphan.is_none()
            && cancelling.is_none()
            && held_since.is_none()
            && grant.is_none()
            && cut_at.is_none()
            && rest.is_none()
    }

    /// A cycle has ended.
    pub(super) fn restart(&mut self) {
        if let Some(rest) = &mut self.rest {
            rest.restart();
        }
    }

    /// The next moment at which a turn has something to do though no socket says so.
    pub(super) fn until(&self) -> Option<Moment> {
        let held = self.held_since.filter(|_| self.grant.is_none());
        [
            self.orphan.map(|orphan| orphan.cancel_at),
            held.map(|since| since.after(HELD_PATIENCE)),
            self.cut_at,
            self.rest.as_ref().and_then(Rest::until),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Ready once the next moment has come.
    pub(super) fn poll_until(&mut self, task: &mut task::Context<'_>) -> Poll<()> {
        let Some(until) = self.until().map(Instant::from) else {
            self.timer = None;
            return Poll::Pending;
        };
        let timer = self.timer.get_or_insert_with(|| sleep_until(until));
        if until < timer.deadline() {
            *timer = sleep_until(until);
        }
        while Pin::new(&mut *timer).poll(task).is_ready() {
            if timer.deadline() >= until {
                return Poll::Ready(());
            }
            // The moment has moved on since: nothing was set anew each time it did.
            *timer = sleep_until(until);
        }
        Poll::Pending
    }
}
