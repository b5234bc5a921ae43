//! What a running session tells others: what its core says happened, and what was counted.

use std::sync::Arc;

use super::Running;
use crate::advice::NotRetried;
use crate::core::{Event, Tally};
use crate::net::{Network, Transport};
use crate::observe::metrics::{Counter, Direction, Injection, Protocol, Shard};
use crate::observe::secrets;
use crate::session::context::Context;

impl<T: Transport> Running<T> {
    /// Does, counts and logs what one event of the core's asks for.
    pub(super) fn handle<N: Network<Transport = T>>(
        &mut self,
        event: Event,
        context: &Arc<Context<N>>,
    ) {
        let shard = context.shard();
        let session = self.entered.id();
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
                    message = %secrets::hide(&message, &[]),
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
                    not_retried = not_retried.map(NotRetried::label),
                    "an error about encrypted data was rewritten"
                );
            }
            Event::Retried { code } => {
                shard.retries.inc();
                tracing::info!(session, code, "HQE failed; the statement is run again");
            }
            Event::Cured => self.world.cured(),
            Event::RelayOnly(reason) => {
                shard.relay_only_sessions.inc();
                tracing::warn!(session, reason, "from here on this session is only relayed");
            }
        }
    }

    /// Moves what was counted to the worker's shard.
    pub(super) fn count(&mut self, shard: &Shard) {
        let to_server = std::mem::take(&mut self.front.bytes);
        let to_client = std::mem::take(&mut self.back.bytes);
        if to_server > 0 {
            shard.bytes.of(Direction::ToServer).add(to_server);
        }
        if to_client > 0 {
            shard.bytes.of(Direction::ToClient).add(to_client);
        }
        let tally = self.core.tally();
        if tally == Tally::default() {
            return;
        }
        let move_to = |counter: &Counter, count: u64| {
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
        move_to(&shard.protected_statements, tally.protected);
        move_to(&shard.unsteered_statements, tally.not_steered);
        move_to(shard.injections.of(Injection::OwnQuery), tally.set_query);
        move_to(shard.injections.of(Injection::OwnCycle), tally.set_cycle);
        move_to(shard.injections.of(Injection::Inline), tally.set_inline);
        move_to(shard.injections.of(Injection::Restore), tally.restores);
        move_to(shard.injections.of(Injection::Proof), tally.proofs);
    }
}
