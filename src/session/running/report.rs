//! What a running session tells others: what its core says happened, and what was counted.

use std::sync::Arc;
use std::time::SystemTime;

use super::Running;
use super::stopwatch::{Cycles, Passed};
use crate::advice::NotRetried;
use crate::config::LogStatements;
use crate::core::{Cure, Event, StatementSent, Steering, Tally};
use crate::net::moment::Moment;
use crate::net::{Network, Transport};
use crate::observe::metrics::{
    CloseReason, Counter, Direction, Injection, Kind as _, KnownBy, Protocol, Shard,
};
use crate::observe::{Rewritten, observed, secrets};
use crate::session::context::Context;
use crate::session::live::{Phase, State};
use crate::session::world::STATEMENT_TIMEOUT;
use crate::traces::Sent;

impl<T: Transport> Running<T> {
    /// Does what the core asks for.
    #[cold]
    #[inline(never)]
    pub(super) fn handle_events<N: Network<Transport = T>>(&mut self, context: &Arc<Context<N>>) {
        while let Some(event) = self.core.take_event() {
            self.handle(event, context);
        }
    }

    /// Does, counts and logs what one event of the core's asks for.
    fn handle<N: Network<Transport = T>>(&mut self, event: Event, context: &Arc<Context<N>>) {
        let shard = context.shard();
        let session = self.entered.id();
        match event {
            Event::Proven => self.world.proven(),
            Event::Replanned(done) => self.world.replanned(done),
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
            Event::SetTimedOut => {
                shard.injection_failures.inc();
                tracing::warn!(
                    session,
                    user = self.world.user(),
                    "Hologres ran out of time as it switched the engine (statement_timeout, or the like): the \
                     statement ran without it, and the next one is tried again"
                );
            }
            Event::CancelAgain => {
                tracing::debug!(
                    session,
                    "a cancel hit Osprey's own statement: sent once more"
                );
                self.cancel(context);
            }
            Event::ClientOwnsRoute => {
                shard.client_route_sessions.inc();
                tracing::info!(
                    session,
                    "the client sets the engine itself and is left alone"
                );
            }
            Event::ErrorRewritten { code, .. } | Event::WouldRewrite { code }
                if code == STATEMENT_TIMEOUT =>
            {
                shard.statement_timeouts.inc();
                tracing::info!(
                    session,
                    user = self.world.user(),
                    database = self.world.database(),
                    "a statement was cancelled for limits.statement_timeout"
                );
            }
            Event::ErrorRewritten { code, not_retried } => {
                shard.errors_rewritten.inc(code);
                if let Some(trace) = &mut self.trace {
                    trace.met(code);
                }
                if let Some(why) = not_retried {
                    shard.retries_refused.inc(why.label());
                    if why == NotRetried::NotKnown && self.world.keep_all() {
                        tracing::warn!(
                            session,
                            database = self.world.database(),
                            "a statement reads MaxCompute data in a way that Osprey does not see; from now on \
                             such statements of this database are run again"
                        );
                    }
                }
                let about = self.world.take_about();
                context.shared.rewritten.add(Rewritten {
                    at: SystemTime::now(),
                    code,
                    user: self.world.user().to_owned(),
                    database: self.world.database().to_owned(),
                    relation: about.relation.clone(),
                    project: about.project.clone(),
                    not_retried: not_retried.map(NotRetried::label),
                });
                let whole = about.whole.as_ref();
                tracing::info!(
                    session,
                    user = self.world.user(),
                    database = self.world.database(),
                    relation = about.relation,
                    project = about.project,
                    code,
                    not_retried = not_retried.map(NotRetried::label),
                    error_id = whole.map(|(id, _)| id.as_str()),
                    hologres_said = whole.map(|(_, said)| secrets::hide(said, &[])).as_deref(),
                    "an error about encrypted data was rewritten"
                );
            }
            Event::Retried { code, cure, writes } => {
                shard.retries.inc();
                let changes_engine = cure == Cure::Route;
                self.stopwatch.runs_again(Moment::now(), changes_engine);
                if let Some(trace) = &mut self.trace {
                    trace.met(code);
                }
                if writes {
                    shard.retried_writes.inc();
                }
                if self.entered.live().is_cancelled() {
                    // Between the first run and this one, when there was nothing for it to hit.
                    self.cancel(context);
                }
                let about = self.world.take_about();
                tracing::info!(
                    session,
                    user = self.world.user(),
                    database = self.world.database(),
                    relation = about.relation,
                    project = about.project,
                    code,
                    writes,
                    set = match &cure {
                        Cure::Route => None,
                        Cure::Setting(sql) => Some(&**sql),
                    },
                    "{}",
                    if changes_engine {
                        "HQE failed; the statement is run again"
                    } else {
                        "the statement failed for want of a setting; it is run again with it"
                    }
                );
            }
            Event::Statement(statement) => self.tell(*statement),
            Event::WouldSteer(reason) => {
                shard.would_steer.inc();
                let again = std::mem::replace(&mut self.would_steer, true);
                let relation = reason.as_deref().map(|reason| reason.relation.as_str());
                let project = reason
                    .as_deref()
                    .and_then(|reason| reason.project.as_deref());
                let (user, database) = (self.world.user(), self.world.database());
                let application = self.world.application();
                if again {
                    tracing::debug!(
                        session,
                        user,
                        application,
                        database,
                        relation,
                        project,
                        "{}",
                        observed::WOULD_STEER
                    );
                } else {
                    tracing::info!(
                        session,
                        user,
                        application,
                        database,
                        relation,
                        project,
                        "{}",
                        observed::WOULD_SWITCH
                    );
                }
            }
            Event::WouldRewrite { code } => {
                shard.would_rewrite.inc(code);
                tracing::info!(
                    session,
                    code,
                    user = self.world.user(),
                    application = self.world.application(),
                    database = self.world.database(),
                    "{}",
                    observed::WOULD_REWRITE
                );
            }
            Event::Cured => {
                self.world.cured();
                if let Some(took) = self.stopwatch.cured() {
                    shard.heal_time.observe(took);
                }
            }
            Event::RelayOnly(reason) => {
                shard.relay_only_sessions.inc();
                tracing::warn!(session, reason, "from here on this session is only relayed");
            }
        }
    }

    /// Logs a statement that was sent, and notes it for its span, as far as the configuration asks.
    fn tell(&mut self, statement: StatementSent) {
        let protected = statement.protected.as_deref();
        let is_logged = match self.log_statements {
            LogStatements::None => false,
            LogStatements::Protected => protected.is_some(),
            LogStatements::All => true,
        };
        let relation = protected.map(|reason| reason.relation.as_str());
        let text = secrets::hide(&statement.text, &[]);
        if is_logged {
            tracing::info!(
                session = self.entered.id(),
                user = self.world.user(),
                application = self.world.application(),
                database = self.world.database(),
                relation,
                project = protected.and_then(|reason| reason.project.as_deref()),
                prepared = statement.is_prepared,
                traceparent = statement.trace_parent,
                statement = %text,
                "a statement was sent"
            );
        }
        if let Some(trace) = &mut self.trace {
            let word = |c: char| !c.is_ascii_alphabetic();
            let operation = statement.text.split(word).next().unwrap_or_default();
            trace.sent(Sent {
                operation: operation.to_ascii_uppercase(),
                text: is_logged.then(|| text.into_owned()),
                relation: relation.map(str::to_owned),
                trace_parent: statement.trace_parent,
            });
        }
    }

    /// The session's span ends here, before the server's answers are drained, and nothing more is counted.
    pub(in crate::session) fn close(&mut self, reason: CloseReason, shard: &Shard) {
        if let Some(Cycles { count, each }) = self.own_time.rest() {
            shard.own_time.observe_each(each, count);
        }
        if let Some(mut trace) = self.trace.take() {
            trace.close(reason.label());
        }
    }

    /// Moves what was counted in the turn at `now` to the worker's shard, and tells whoever looks on what
    /// the session is doing.
    #[inline]
    pub(super) fn report(&mut self, now: Moment, shard: &Shard) {
        let (to_server, to_client) = (self.front.bytes, self.back.bytes);
        if to_server > 0 {
            self.front.bytes = 0;
            shard.bytes.of(Direction::ToServer).add(to_server);
            self.entered.live().add_to_server(to_server);
        }
        if to_client > 0 {
            self.back.bytes = 0;
            shard.bytes.of(Direction::ToClient).add(to_client);
            self.entered.live().add_to_client(to_client);
        }
        let foreign = self.core.tally().rare.is_some() && self.count_rare(shard);
        let Tally {
            queries,
            executes,
            cycles,
            ..
        } = std::mem::take(self.core.tally());
        if queries > 0 {
            shard.statements.of(Protocol::Simple).add(queries);
        }
        if executes > 0 {
            shard.statements.of(Protocol::Extended).add(executes);
        }
        self.figures.statements += queries + executes;
        let (busy, steering) = (self.core.is_busy(), self.core.steering());
        let passed = Passed {
            queries,
            executes,
            foreign,
            steered: steering == Steering::Steered,
            to_client,
            cycles,
            busy,
        };
        let ended = self.stopwatch.note(now, passed, shard);
        if let (Some(trace), Some(ended)) = (&mut self.trace, ended) {
            trace.ended(&ended);
        }
        if cycles > 0 {
            shard.cycles.add(cycles);
            if let Some(unusual) = &mut self.unusual {
                unusual.restart();
            }
            self.world.time_is_its_own();
            if let Some(Cycles { count, each }) = self.own_time.ended(cycles) {
                shard.own_time.observe_each(each, count);
            }
        }
        let state = State {
            phase: Phase::Running,
            transaction: self.core.transaction(),
            steering,
            busy,
            held: self.is_holding(),
        };
        self.entered.live().set(state, now, cycles > 0);
    }

    /// Moves what most turns have nothing of; true if a statement was sent that may read MaxCompute data.
    #[cold]
    #[inline(never)]
    fn count_rare(&mut self, shard: &Shard) -> bool {
        let rare = self.core.tally().rare.take().unwrap_or_default();
        self.figures.protected += u64::from(rare.protected);
        if rare.protected > 0 {
            tracing::debug!(
                session = self.entered.id(),
                protected = rare.protected,
                sets_sent = rare.set_query + rare.set_cycle + rare.set_inline,
                without_place = rare.not_steered,
                "protected statements were steered"
            );
        }
        move_to(&shard.protected_statements, rare.protected.into());
        let by_key = rare.protected - rare.by_pattern - rare.by_lesson;
        move_to(shard.known_by.of(KnownBy::Pattern), rare.by_pattern.into());
        move_to(shard.known_by.of(KnownBy::Key), by_key.into());
        move_to(shard.known_by.of(KnownBy::Lesson), rare.by_lesson.into());
        move_to(&shard.unsteered_statements, rare.not_steered.into());
        move_to(
            shard.injections.of(Injection::OwnQuery),
            rare.set_query.into(),
        );
        move_to(
            shard.injections.of(Injection::OwnCycle),
            rare.set_cycle.into(),
        );
        move_to(
            shard.injections.of(Injection::Inline),
            rare.set_inline.into(),
        );
        move_to(
            shard.injections.of(Injection::Restore),
            rare.restores.into(),
        );
        move_to(shard.injections.of(Injection::Proof), rare.proofs.into());
        rare.protected + rare.foreign > 0
    }
}

fn move_to(counter: &Counter, count: u64) {
    if count > 0 {
        counter.add(count);
    }
}
