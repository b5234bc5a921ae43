//! Phase *Running*: the two lanes around the core.
//!
//! | reads | the client and the server |
//! |---|---|
//! | writes | to each what the core says |
//! | waits for | what [`Running::poll_waits`] names |
//! | until | one side has ended and what it sent has been delivered; a frame is broken; a drain lets the session go. What a lost client left behind is cancelled after [`ORPHAN_GRACE`], where nothing else is lost by it ([`Core::may_be_cut_off`]), and given up after [`ORPHAN_PATIENCE`] |
//!
//! [`Running::turn`] is a plain function: what can be read and written now is read and written, and
//! it says what to wait for. [`Running::poll`] is what a future needs around it.

mod attention;
#[cfg(test)]
mod check;
mod report;
mod stopwatch;
mod time;
mod unusual;

use std::sync::Arc;
use std::task::{self, Poll, Waker};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::config::{LogStatements, Settings};
use crate::core::{Core, End, Outbox};
use crate::net::event_loop::spawn;
use crate::net::moment::Moment;
use crate::net::{Network, Stream, Transport};
use crate::observe::metrics::CloseReason;
use crate::traces::SessionTrace;

use super::cancel;
use super::closing::{killed_notice, shutdown_notice};
use super::context::Context;
use super::live::Ask;
use super::login::LoggedIn;
use super::pump::{Close, Judge, Lane, Sender, Turn};
use super::registry::{Drain, Entered, Origin};
use super::rest::Rest;
use super::world::SessionWorld;
use stopwatch::{OwnTime, Stopwatch};
use unusual::{Orphan, Unusual};

/// Rounds over both lanes before other sessions have their turn.
const ROUNDS: usize = 4;
/// How long a statement whose client is lost goes on before it is cancelled: a client that has
/// only closed its sending half still gets the answer to a short one. Then it is cancelled again
/// as often, while the server is busy for that client.
const ORPHAN_GRACE: Duration = Duration::from_secs(2);
/// How long the server may go on all the same before its connection is given up.
const ORPHAN_PATIENCE: Duration = Duration::from_secs(30);
/// The same where the client has reset its connection: nobody waits for anything.
const RESET_PATIENCE: Duration = Duration::from_secs(4);
/// How long a drain that is over waits for the end of a message that has begun.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// One session after login.
pub(super) struct Running<T> {
    pub(super) client: Stream<T>,
    pub(super) server: Stream<T>,
    front: Lane,
    pub(super) back: Lane,
    core: Core,
    pub(super) out: Outbox,
    world: SessionWorld,
    pub(super) origin: Origin,
    pub(super) entered: Entered,
    /// `None`: there is nothing to do but to move bytes, as of the last turn.
    unusual: Option<Box<Unusual>>,
    own_time: OwnTime,
    stopwatch: Stopwatch,
    /// Who is woken for it.
    registered: Waker,
    /// Where sessions are only observed: it was said that this one would have been steered.
    would_steer: bool,
    /// Of which statements a line is logged.
    log_statements: LogStatements,
    /// Its spans, where they are sent somewhere.
    trace: Option<Box<SessionTrace>>,
    /// What has passed, for the line in the log at its end.
    pub(super) figures: Figures,
}

/// What has passed in a session, beside the bytes that it tells of itself.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Figures {
    pub(super) statements: u64,
    pub(super) protected: u64,
}

/// What comes after a turn. Its tag is a byte of its own, which is quickly asked.
#[repr(u8)]
enum Next {
    /// Nothing before what [`Running::poll_waits`] names has happened.
    Wait,
    /// The next turn, when other sessions have had theirs.
    Yield,
    /// The end.
    End(Ending),
}

/// How a session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ending {
    /// Why the session ends.
    pub(super) reason: CloseReason,
    /// How the client is told.
    pub(super) client: Close,
    /// How the server is told.
    pub(super) server: Close,
}

impl Ending {
    /// Both sides hear of it in good order.
    fn orderly(reason: CloseReason) -> Self {
        Self {
            reason,
            client: Close::Fin,
            server: Close::Fin,
        }
    }
}

impl<T: Transport> Running<T> {
    /// A session that runs, made of what its login has left. The client has been told its answers.
    pub(super) fn new(
        client: Stream<T>,
        logged_in: LoggedIn<T>,
        entered: Entered,
        core: Core,
        world: SessionWorld,
        trace: Option<Box<SessionTrace>>,
        settings: &Settings,
    ) -> Self {
        let LoggedIn {
            server,
            origin,
            from_client,
            from_server,
            ..
        } = logged_in;
        let rest = Rest::new(&settings.limits);
        Self {
            client,
            server,
            front: Lane::with(&from_client),
            back: Lane::with(&from_server),
            core,
            out: Outbox::default(),
            world,
            origin,
            entered,
            unusual: rest.map(|rest| Box::new(Unusual::with(rest))),
            own_time: OwnTime::default(),
            stopwatch: Stopwatch::default(),
            registered: Waker::noop().clone(),
            would_steer: false,
            log_statements: settings.observe.log_statements,
            trace,
            figures: Figures::default(),
        }
    }

    /// Moves bytes until the session is to end.
    pub(super) fn run<N: Network<Transport = T>>(
        &mut self,
        context: &Arc<Context<N>>,
    ) -> impl Future<Output = Ending> {
        std::future::poll_fn(|task| self.poll(task, context))
    }

    /// Turns, until there is something to wait for.
    #[inline]
    fn poll<N: Network<Transport = T>>(
        &mut self,
        task: &mut task::Context<'_>,
        context: &Arc<Context<N>>,
    ) -> Poll<Ending> {
        if !self.registered.will_wake(task.waker()) {
            self.is_polled_by(task);
        }
        loop {
            let begun = Moment::now();
            let next = self.turn(begun, context);
            if self.own_time.is_measured() {
                self.own_time.spend(Moment::now().since(begun));
            }
            self.report(begun, context.shard());
            #[cfg(test)]
            self.check();
            match next {
                Next::End(ending) => return Poll::Ready(ending),
                Next::Yield => {
                    task.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Next::Wait if self.poll_waits(task) => {}
                Next::Wait => return Poll::Pending,
            }
        }
    }

    /// Has this task woken from now on.
    #[cold]
    fn is_polled_by(&mut self, task: &task::Context<'_>) {
        self.entered.wake_with(task.waker());
        self.front.ask_anew();
        self.back.ask_anew();
        self.registered.clone_from(task.waker());
    }

    /// One turn of the session: both lanes, what the core has to say, and whether it is over.
    #[inline]
    fn turn<N: Network<Transport = T>>(&mut self, now: Moment, context: &Arc<Context<N>>) -> Next {
        for _ in 0..ROUNDS {
            let waits = !self.is_let_alone() && self.leaves_client();
            let mut judge = Judge {
                core: &mut self.core,
                world: &self.world,
                out: &mut self.out,
            };
            let front = if waits {
                Turn::Idle
            } else {
                self.front.turn(
                    Sender::Frontend,
                    &mut self.client,
                    &mut self.server,
                    &mut judge,
                )
            };
            let back = self.back.turn(
                Sender::Backend,
                &mut self.server,
                &mut self.client,
                &mut judge,
            );
            if self.core.has_events() {
                self.handle_events(context);
            }
            if (self.is_unusual() || !self.goes_on())
                && let Some(ending) = self.end(now, context)
            {
                return Next::End(ending);
            }
            if Turn::Busy == front || Turn::Busy == back {
                return Next::Yield;
            }
            let moved = (front, back) != (Turn::Idle, Turn::Idle);
            let goes_on = moved
                && (self.front.has_work(&self.out.to_server)
                    || self.back.has_work(&self.out.to_client))
                // What is under way may just have ended, so that now the session is held.
                || self.is_unusual() && self.holds() != self.is_holding();
            if !goes_on {
                return if self.is_unusual() && self.try_look_ahead(now) {
                    Next::Yield
                } else {
                    Next::Wait
                };
            }
        }
        Next::Yield
    }

    /// True once something has happened that a turn was waiting for.
    #[inline]
    fn poll_waits(&mut self, task: &mut task::Context<'_>) -> bool {
        let is_asleep = !self.is_unusual()
            && self.front.is_asleep(&mut self.client)
            && self.back.is_asleep(&mut self.server);
        !is_asleep && self.poll_each(task)
    }

    /// The same, asking for each of the things that it may wait for to wake the task.
    #[inline(never)]
    fn poll_each(&mut self, task: &mut task::Context<'_>) -> bool {
        let mut ready = false;
        if self.front.waits().readable && (!self.is_unusual() || self.hears_client()) {
            ready |= self.front.poll_source(&mut self.client, task);
        }
        if self.back.waits().readable {
            ready |= self.back.poll_source(&mut self.server, task);
        }
        if self.front.waits().writable || self.is_unusual() && self.wants_to_shut_server() {
            ready |= self.server.poll_writable(task).is_ready();
        }
        if self.back.waits().writable {
            ready |= self.client.poll_writable(task).is_ready();
        }
        if self.is_unusual() {
            ready |= self.polls_unusual(task);
        }
        ready
    }

    fn wants_to_shut_server(&self) -> bool {
        !self.is_server_shut()
            && !self.core.may_run_again()
            && self.front.ended() == Some(Close::Fin)
            && self.front.is_finished(&self.out.to_server)
    }

    /// How the session ends, once there is nothing more to do; also begins what leads there.
    #[cold]
    #[inline(never)]
    fn end<N: Network<Transport = T>>(
        &mut self,
        now: Moment,
        context: &Arc<Context<N>>,
    ) -> Option<Ending> {
        self.unusual();
        let ended = self.core.ended();
        if ended == Some(End::Broken) {
            return Some(Ending::orderly(CloseReason::ProtocolError));
        }
        if ended == Some(End::Fatal)
            && !self.core.backend_mid_message()
            && self.back.is_written(&self.out.to_client)
        {
            // After a FATAL the server sends nothing more, even if it leaves the connection open.
            return Some(Ending::orderly(CloseReason::Upstream));
        }
        // A client that was gone stays gone: in the core, a FATAL takes the place of the client's
        // Terminate.
        if ended == Some(End::Terminate) {
            self.unusual().left = true;
        }
        if self.is_holding() && self.has_left() {
            // What it may have sent before it went was not to begin.
            return Some(Ending::orderly(CloseReason::Client));
        }
        let client_is_gone =
            self.has_left() || self.front.ended().is_some() || self.back.is_broken();
        if self.back.ended().is_some()
            && let Some(error) = self.core.take_held_error()
        {
            // The server is gone before it could run it again.
            self.out.to_client.own(error.into());
        }
        if self.back.ended().is_some() && self.back.is_finished(&self.out.to_client) {
            let reason = if client_is_gone {
                CloseReason::Client
            } else {
                CloseReason::Upstream
            };
            return Some(Ending {
                reason,
                client: self.back.ended().unwrap_or(Close::Fin),
                server: self.client_close(),
            });
        }
        if client_is_gone && let Some(ending) = self.without_client(now, context) {
            return Some(ending);
        }
        match self.entered.live().asked() {
            None => {}
            Some(Ask::Cancel) => {
                self.entered.live().cancels();
                if self.core.is_busy() {
                    self.cancel(context);
                }
            }
            Some(Ask::Kill) => {
                let ending = self.killed(now, context);
                return ending.or_else(|| self.keep_time(now, context));
            }
        }
        let ending = match context.shared.sessions.drain() {
            Drain::No => None,
            Drain::WhenQuiet => {
                let idle = self.core.is_quiet()
                    && self.front.is_drained(&self.out.to_server)
                    && self.back.is_drained(&self.out.to_client);
                idle.then(|| self.say_goodbye(CloseReason::Drained))
            }
            Drain::Now => {
                let last = now.after(LAST_WORDS);
                let cut_at = *self.unusual().cut_at.get_or_insert(last);
                let may_speak = !self.core.backend_mid_message();
                (may_speak || now >= cut_at).then(|| self.say_goodbye(CloseReason::Drained))
            }
        };
        // The clocks go on whatever else is to end the session: `until` names their next moment.
        ending.or_else(|| self.keep_time(now, context))
    }

    /// As what the end of the client is passed on.
    fn client_close(&self) -> Close {
        if self.back.is_broken() {
            return Close::Reset;
        }
        self.front.ended().unwrap_or(Close::Fin)
    }

    /// The client sends no more: passes that on, and sees to what it left behind.
    fn without_client<N: Network<Transport = T>>(
        &mut self,
        now: Moment,
        context: &Arc<Context<N>>,
    ) -> Option<Ending> {
        let reset = self.client_close() == Close::Reset;
        let gone = Ending {
            reason: CloseReason::Client,
            client: Close::Fin,
            server: self.client_close(),
        };
        let sent = self.front.is_finished(&self.out.to_server)
            || self.core.ended().is_some() && self.front.is_drained(&self.out.to_server);
        if self.wants_to_shut_server() {
            // If the server is gone, the other lane has noticed its end.
            self.unusual().server_shut = !matches!(self.server.try_shut_down(),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock);
        }
        // A client that has only closed its sending half is owed the rest of a message.
        let owed = self.core.backend_mid_message() && !reset;
        let busy = self.core.is_busy() || owed;
        let heard = self.back.is_broken() || self.back.is_drained(&self.out.to_client);
        if sent && !busy && heard {
            // Nobody waits for anything any more. The server's close is not waited for: not every
            // gateway closes because its peer did.
            return Some(gone);
        }
        let may_cancel = self.world.cancel_orphans && self.may_be_cut_off(sent);
        if sent && reset && !may_cancel {
            // The server is left to find out by itself that its client is gone, as it is without a
            // proxy.
            return Some(gone);
        }
        if !(busy && self.world.cancel_orphans) {
            self.unusual().orphan = None;
            return None;
        }
        let orphan = self.unusual().orphan.get_or_insert(Orphan {
            since: now,
            cancel_at: now.after(ORPHAN_GRACE),
        });
        if now < orphan.cancel_at {
            return None;
        }
        let patience = if reset {
            RESET_PATIENCE
        } else {
            ORPHAN_PATIENCE
        };
        if now >= orphan.since.after(patience) {
            tracing::warn!(
                session = self.entered.id(),
                "the client is gone, and the server did not end its statement: its connection is \
                 given up"
            );
            return Some(Ending {
                server: Close::Reset,
                ..gone
            });
        }
        orphan.cancel_at = now.after(ORPHAN_GRACE);
        if self.core.is_busy() && may_cancel {
            tracing::info!(
                session = self.entered.id(),
                "the client is gone: cancelling the statement it left behind"
            );
            self.cancel(context);
        }
        None
    }

    /// See [`Core::may_be_cut_off`]. `sent`: the server has all that the client has said.
    fn may_be_cut_off(&self, sent: bool) -> bool {
        let says_goodbye = self.core.ended() == Some(End::Terminate);
        self.core.may_be_cut_off(sent, !says_goodbye)
    }

    /// An operator ends the session: what the server does for it is cancelled, if more is not run behind
    /// it then, and the client is told as soon as there is a place for it.
    fn killed<N: Network<Transport = T>>(
        &mut self,
        now: Moment,
        context: &Arc<Context<N>>,
    ) -> Option<Ending> {
        let sent = self.front.is_drained(&self.out.to_server);
        let may_cancel = self.may_be_cut_off(sent);
        let cut_at = self.unusual().cut_at.unwrap_or_else(|| {
            if self.core.is_busy() && may_cancel {
                self.cancel(context);
            }
            now.after(LAST_WORDS)
        });
        self.unusual().cut_at = Some(cut_at);
        let may_speak = !self.core.backend_mid_message();
        (may_speak || now >= cut_at).then(|| Ending {
            // Where it was not cancelled, the server hears at its next answer that nobody is there.
            server: if may_cancel { Close::Fin } else { Close::Reset },
            ..self.say_goodbye(CloseReason::Killed)
        })
    }

    fn say_goodbye(&mut self, reason: CloseReason) -> Ending {
        if !self.core.backend_mid_message() {
            let notice = match reason {
                CloseReason::Killed => killed_notice(),
                _ => shutdown_notice(),
            };
            self.out.to_client.own(notice);
        }
        Ending::orderly(reason)
    }

    /// Cancels what the server is doing for this session, unless that is under way already.
    fn cancel<N: Network<Transport = T>>(&mut self, context: &Arc<Context<N>>) {
        if self.unusual().cancelling.is_some() {
            return;
        }
        let shared = Arc::clone(&context.shared);
        let (key, origin) = (Box::from(self.entered.key()), self.origin.clone());
        let session = self.entered.id();
        let (over, cancelling) = oneshot::channel();
        spawn(async move {
            let key: Box<[u8]> = key;
            cancel::send(&key, &origin, session, &shared).await;
            drop(over);
        });
        self.unusual().cancelling = Some(cancelling);
    }
}

#[cfg(test)]
mod tests {
    use super::Running;
    use crate::net::Tcp;

    #[test]
    fn an_idle_session_is_small() {
        let size = size_of::<Running<Tcp>>();
        assert!(size <= 1856, "a session's state has grown to {size} bytes");
    }
}
