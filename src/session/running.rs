//! A session after login: the two lanes around the core, in one future.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use tokio::time::Sleep;

use crate::core::{Core, End, Event, Outbox, Policy};
use crate::observe::metrics::{CloseReason, Direction as Way, Injection, Protocol, Shard};
use crate::wire::startup::cancel_request;

use super::pump::{Direction, Lane, Mind, Turn};
use super::stream::Stream;
use super::world::SessionWorld;
use super::{Context, Drain, linger, shutdown_notice};

/// Rounds over both lanes before other sessions have their turn.
const ROUNDS: usize = 4;
/// How long a statement whose client is lost goes on before it is cancelled: a client that has
/// only closed its sending half still gets the answer to a short one.
const ORPHAN_GRACE: Duration = Duration::from_secs(2);

/// One session after login.
pub(super) struct Running {
    client: Stream,
    server: Stream,
    front: Lane,
    back: Lane,
    core: Core,
    out: Outbox,
    world: SessionWorld,
    /// Process id and key, as the server sent them.
    key: Box<[u8]>,
    id: u64,
    registered: Option<Waker>,
    server_shut: bool,
    notice_sent: bool,
    orphaned: Option<Pin<Box<Sleep>>>,
    /// Spent on the present cycle.
    spent: Duration,
}

impl Running {
    #[allow(clippy::too_many_arguments)]
    pub(super) fn new(
        client: Stream,
        server: Stream,
        from_client: &[u8],
        from_server: &[u8],
        key: Vec<u8>,
        policy: Policy,
        world: SessionWorld,
        id: u64,
    ) -> Self {
        Self {
            client,
            server,
            front: Lane::with(from_client),
            back: Lane::with(from_server),
            core: Core::new(policy),
            out: Outbox::default(),
            world,
            key: key.into(),
            id,
            registered: None,
            server_shut: false,
            notice_sent: false,
            orphaned: None,
            spent: Duration::ZERO,
        }
    }

    /// Pumps until the session has ended.
    pub(super) async fn run(&mut self, context: &Arc<Context>) -> CloseReason {
        std::future::poll_fn(|cx| {
            let begun = Instant::now();
            let poll = self.poll(cx, context);
            self.spent += begun.elapsed();
            self.count(context.shard());
            poll
        })
        .await
    }

    fn poll(
        &mut self,
        cx: &mut std::task::Context<'_>,
        context: &Arc<Context>,
    ) -> Poll<CloseReason> {
        if !self
            .registered
            .as_ref()
            .is_some_and(|waker| waker.will_wake(cx.waker()))
        {
            context.shared.sessions.wake_with(self.id, cx.waker());
            self.registered = Some(cx.waker().clone());
        }
        for _ in 0..ROUNDS {
            let mut mind = Mind {
                core: &mut self.core,
                world: &self.world,
                out: &mut self.out,
            };
            let front = self.front.poll(
                cx,
                Direction::Frontend,
                &mut self.client,
                &mut self.server,
                &mut mind,
            );
            let back = self.back.poll(
                cx,
                Direction::Backend,
                &mut self.server,
                &mut self.client,
                &mut mind,
            );
            self.after_turn(context);
            if let Some(reason) = self.ended(cx, context) {
                return Poll::Ready(reason);
            }
            let moved = (front, back) != (Turn::Waits, Turn::Waits);
            let more =
                self.front.has_work(&self.out.to_server) || self.back.has_work(&self.out.to_client);
            if !(moved && more) {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// True once nothing more has to be done; also begins what leads there.
    fn ended(
        &mut self,
        cx: &mut std::task::Context<'_>,
        context: &Arc<Context>,
    ) -> Option<CloseReason> {
        if self.core.ended() == Some(End::Broken) {
            // The client has been told, if it could be; what it is told goes out in this turn.
            return (self.back.broken || self.out.to_client.is_empty())
                .then_some(CloseReason::ProtocolError);
        }
        if self.notice_sent {
            return (self.back.broken || self.out.to_client.is_empty())
                .then_some(CloseReason::Drained);
        }
        if self.back.is_finished(&self.out.to_client) {
            return Some(if self.front.ended || self.back.broken {
                CloseReason::Client
            } else {
                CloseReason::Upstream
            });
        }
        if !self.server_shut && self.front.is_finished(&self.out.to_server) && self.front.ended {
            if self.server.poll_shutdown(cx).is_ready() {
                self.server_shut = true;
                if !self.core.is_busy() && self.back.is_drained(&self.out.to_client) {
                    // Nothing is owed to anyone: not every gateway closes because its peer did.
                    return Some(CloseReason::Client);
                }
            }
            let lost = self.core.ended().is_none() && self.core.is_busy();
            if lost && self.world.cancel_orphans && self.orphaned.is_none() {
                self.orphaned = Some(Box::pin(tokio::time::sleep(ORPHAN_GRACE)));
            }
        }
        if let Some(timer) = &mut self.orphaned
            && timer.as_mut().poll(cx).is_ready()
        {
            self.orphaned = None;
            tracing::info!(
                session = self.id,
                "the client is gone: cancelling the statement it left behind"
            );
            self.cancel(context);
        }
        match context.shared.sessions.drain() {
            Drain::No => {}
            Drain::WhenQuiet => {
                let idle = self.core.is_quiet()
                    && self.front.is_drained(&self.out.to_server)
                    && self.back.is_drained(&self.out.to_client);
                if idle {
                    self.say_goodbye(cx);
                }
            }
            Drain::Now => self.say_goodbye(cx),
        }
        None
    }

    fn say_goodbye(&mut self, cx: &mut std::task::Context<'_>) {
        if !self.core.backend_mid_message() {
            self.out.to_client.own(shutdown_notice());
        }
        self.notice_sent = true;
        cx.waker().wake_by_ref();
    }

    fn after_turn(&mut self, context: &Arc<Context>) {
        while let Some(event) = self.core.take_event() {
            self.handle(event, context);
        }
    }

    fn handle(&mut self, event: Event, context: &Arc<Context>) {
        let shard = context.shard();
        let session = self.id;
        match event {
            Event::Proven => self.world.proven(),
            Event::SetFailed {
                sqlstate,
                message,
                aborted_transaction,
            } => {
                shard.injection_failures.inc();
                tracing::warn!(
                    session,
                    user = self.world.user(),
                    sqlstate,
                    message,
                    aborted_transaction,
                    "Hologres refused to switch the engine; this session stops trying"
                );
            }
            Event::CancelAgain => {
                tracing::debug!(
                    session,
                    "a cancel hit Osprey's own statement: sent once more"
                );
                self.cancel(context);
            }
            Event::CatalogChanged => self.world.catalog_changed(),
            Event::ClientOwnsRoute => {
                shard.client_route_sessions.inc();
                tracing::info!(
                    session,
                    "the client sets the engine itself and is left alone"
                );
            }
            Event::ErrorRewritten { code, not_retried } => {
                shard.errors_rewritten.inc(code);
                if let Some(why) = not_retried {
                    shard.retries_refused.inc(why.label());
                }
                tracing::info!(
                    session,
                    code,
                    not_retried = not_retried.map(super::super::advice::NotRetried::label),
                    "an error about encrypted data was rewritten"
                );
            }
            Event::Retried { code } => {
                shard.retries.inc();
                tracing::info!(session, code, "HQE failed; the statement is run again");
            }
            Event::RelayOnly(reason) => {
                shard.relay_only_sessions.inc();
                tracing::warn!(session, reason, "from here on this session is only relayed");
            }
        }
    }

    /// Cancels what the server is doing for this session.
    fn cancel(&self, context: &Arc<Context>) {
        if self.key.is_empty() {
            return;
        }
        let packet = cancel_request(&self.key);
        let target = context.shared.target.load_full();
        let session = self.id;
        tokio::spawn(async move {
            if let Err(error) = target.cancel(&packet).await {
                tracing::warn!(session, %error, "a cancel request could not be sent");
            }
        });
    }

    /// Moves what was counted to the worker's shard.
    fn count(&mut self, shard: &Shard) {
        let to_server = std::mem::take(&mut self.front.bytes);
        let to_client = std::mem::take(&mut self.back.bytes);
        if to_server > 0 {
            shard.bytes.of(Way::ToServer).add(to_server);
        }
        if to_client > 0 {
            shard.bytes.of(Way::ToClient).add(to_client);
        }
        let tally = self.core.tally();
        let move_to = |counter: &crate::observe::metrics::Counter, count: u64| {
            if count > 0 {
                counter.add(count);
            }
        };
        move_to(shard.statements.of(Protocol::Simple), tally.queries);
        move_to(shard.statements.of(Protocol::Extended), tally.executes);
        move_to(&shard.cycles, tally.cycles);
        if tally.cycles > 0 {
            let spent = std::mem::take(&mut self.spent);
            shard.own_time.observe_many(spent, tally.cycles);
        }
        if tally.protected == 0 && tally.restores == 0 && tally.proofs == 0 {
            return;
        }
        move_to(&shard.protected_statements, tally.protected);
        move_to(&shard.unsteered_statements, tally.not_steered);
        move_to(shard.injections.of(Injection::OwnQuery), tally.set_query);
        move_to(shard.injections.of(Injection::OwnCycle), tally.set_cycle);
        move_to(shard.injections.of(Injection::Inline), tally.set_inline);
        move_to(shard.injections.of(Injection::Restore), tally.restores);
        move_to(shard.injections.of(Injection::Proof), tally.proofs);
    }

    /// Closes both connections, the client's so that it hears what was said last.
    pub(super) async fn end(self) {
        let Self {
            client, mut server, ..
        } = self;
        let _ = server.shut_down().await;
        drop(server);
        linger(client).await;
    }
}

#[cfg(test)]
mod tests {
    use super::Running;

    #[test]
    fn an_idle_session_is_small() {
        let size = size_of::<Running>();
        assert!(size <= 1536, "a session's state has grown to {size} bytes");
    }
}
