//! The phases Login and Borrowed in their order, up to the first ReadyForQuery, which the client is sent
//! once its session has its places and something to decide by.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use crate::config::Settings;
use crate::core::{Core, Policy, Told};
use crate::net::time::timeout;
use crate::net::{Network, Stream};
use crate::observe::metrics::CloseReason;
use crate::observe::secrets;
use crate::protection::Encoding;
use crate::traces::SessionStart;

use super::admit::{Admitted, Seats, Taken};
use super::context::Context;
use super::live::Phase;
use super::login::Login;
use super::refusal::Refusal;
use super::refuse::refuse;
use super::running::Running;
use super::{borrowed, world};

/// Runs the phases Login and Borrowed. The answer is a session that may run, with its places, or
/// the reason why there is none, once the client has been told.
pub(super) async fn begin<N: Network>(
    admitted: Admitted<N::Transport>,
    context: &Arc<Context<N>>,
    settings: &Settings,
) -> Result<(Running<N::Transport>, Vec<Taken>), CloseReason> {
    let Admitted {
        mut login,
        peer,
        user,
        database,
        place,
    } = admitted;
    let shared = &context.shared;
    let upstream = Arc::clone(&login.upstream);
    let mut entered = shared
        .sessions
        .enter(peer, &user, &database, upstream.name());
    let live = Arc::clone(entered.live());
    let limit = settings.limits.login_timeout;
    let outcome = tokio::select! {
        biased;
        outcome = timeout(limit, async {
            live.may_begin().await;
            login.run(context, &mut entered).await
        }) => outcome.unwrap_or(Err(Refusal::TimedOut(limit))),
        // As for whoever comes only now: nothing is lost but the login.
        () = shared.sessions.drain_begins() => Err(Refusal::ShuttingDown),
        () = live.is_killed() => Err(Refusal::Killed),
    };
    let taken = outcome.and_then(|logged_in| {
        let seats = Seats::of(&upstream, (&user, &database), &shared.admission, settings);
        let seats: Result<Vec<_>, _> = seats.iter().map(|seat| seat.take(peer.ip())).collect();
        Ok((logged_in, seats?))
    });
    let secrets = login.secrets();
    let Login {
        mut client,
        startup,
        in_message,
        ..
    } = login;
    let who = Who {
        peer,
        user: &user,
        database: &database,
        secrets: &secrets,
        encoding: startup.encoding(),
    };
    let (mut logged_in, seats) = match taken {
        Ok(taken) => taken,
        // What would follow a part of a message would be taken for the rest of it.
        Err(refusal) if in_message => return Err(refusal.reason()),
        Err(refusal) => {
            return Err(login_failed(client, &refusal, &who, context).await);
        }
    };
    drop(place);
    let Some(view) = startup.view() else {
        return Err(CloseReason::ProtocolError);
    };
    tracing::info!(
        session = entered.id(),
        %peer,
        user,
        database,
        upstream = upstream.name(),
        tls = client.is_tls(),
        upstream_tls = logged_in.server.is_tls(),
        "session opened"
    );
    let mut world = world::SessionWorld::new(&entered, view, &upstream, settings);
    if let Some(reading) = world.borrow_session(view) {
        live.set_phase(Phase::Borrowed);
        let reading = borrowed::read(
            reading,
            &mut client,
            &mut logged_in,
            &entered,
            context,
            settings,
        );
        if let Err(refusal) = Box::pin(reading).await {
            let _ = timeout(limit, logged_in.server.shut_down()).await;
            return Err(login_failed(client, &refusal, &who, context).await);
        }
    }
    let names = world.ready(view).await.with_lexing(logged_in.lexing);
    let names = names.with_computing_resource(world::computing_resource(view));
    // Now the client may speak, and the core listens.
    let speaking = client.send(&logged_in.answers);
    if !matches!(timeout(limit, speaking).await, Ok(Ok(()))) {
        return Err(CloseReason::Client);
    }
    let age = live.seen().age;
    context.shard().login_time.observe(age);
    let now = SystemTime::now();
    let trace = shared.traces.session(&SessionStart {
        id: entered.id(),
        peer,
        user: &user,
        database: &database,
        upstream: upstream.name(),
        began: now.checked_sub(age).unwrap_or(now),
    });
    let policy = world::policy(view, settings, &world, &shared.routes);
    let policy = Policy {
        told: if trace.is_some() {
            Told::All
        } else {
            policy.told
        },
        ..policy
    };
    let core = Core::new(policy, names);
    let running = Running::new(client, logged_in, entered, core, world, trace, settings);
    Ok((running, seats))
}

/// Whose login it is, for the log.
struct Who<'s> {
    peer: SocketAddr,
    user: &'s str,
    database: &'s str,
    /// What may not be logged.
    secrets: &'s [String],
    /// In which the client is told.
    encoding: Encoding,
}

async fn login_failed<N: Network>(
    client: Stream<N::Transport>,
    refusal: &Refusal,
    who: &Who<'_>,
    context: &Context<N>,
) -> CloseReason {
    let shard = context.shard();
    let Who {
        peer,
        user,
        database,
        secrets,
        encoding,
    } = who;
    let text = refusal.to_string();
    let why = secrets::hide(&text, secrets);
    if let Some(limit) = refusal.limit() {
        shard.sessions_refused.inc(limit.name());
    }
    match refusal {
        Refusal::Gone | Refusal::Io(_) | Refusal::Handshake(_) | Refusal::NoStartup(_) => {
            tracing::debug!(%peer, user, database, refusal = %why, "no session");
        }
        Refusal::NoBinding => tracing::info!(%peer, user, database, refusal = %why, "no session"),
        Refusal::Refused(_) | Refusal::Own { .. } => {
            shard.login_failures.inc();
            tracing::warn!(%peer, user, database, refusal = %why, "no session");
        }
        Refusal::Full { .. }
        | Refusal::Network { .. }
        | Refusal::ShuttingDown
        | Refusal::Killed
        | Refusal::Protocol(_)
        | Refusal::TimedOut(_)
        | Refusal::Unreachable(_) => {
            tracing::warn!(%peer, user, database, refusal = %why, "no session");
        }
    }
    refuse(client, *encoding, refusal).await;
    refusal.reason()
}
