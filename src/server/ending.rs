//! How the server ends: load balancers notice, sessions finish, what was learned is written down.

use std::time::Duration;

use tokio::time::timeout;

use crate::net::TcpNetwork;
use crate::session::{Drain, Shared};

/// How often a drain looks whether the last session has ended.
const DRAIN_TICK: Duration = Duration::from_millis(20);
/// How long sessions get to hear that they are ended, once the drain's time is over.
const LAST_WORDS: Duration = Duration::from_secs(4);
/// How long the end may wait for the disk.
const LAST_WRITES: Duration = Duration::from_secs(3);

/// Accepts clients a while longer (`limits.pre_drain_delay`), though `/readyz` says that none are to
/// come: whoever balances them may not have asked yet. Until `hurry` at the latest.
pub(super) async fn wait_for_balancers(
    shared: &Shared<TcpNetwork>,
    hurry: impl Future<Output = ()>,
) {
    let delay = shared.settings.load().limits.pre_drain_delay;
    if delay.is_zero() {
        return;
    }
    tracing::info!(?delay, "not ready any more; still accepting");
    // Over at the one or the other.
    let _ = timeout(delay, hurry).await;
}

/// Lets sessions finish what they are at, for as long as `limits.drain_timeout` or until `hurry`.
pub(crate) async fn drain<N>(shared: &Shared<N>, hurry: impl Future<Output = ()>) {
    let limit = shared.settings.load().limits.drain_timeout;
    let open = shared.sessions.count();
    tracing::info!(sessions = open, ?limit, "draining");
    shared.sessions.set_drain(Drain::WhenQuiet);
    let (why, gone) = tokio::select! {
        gone = wait_for_sessions(shared, limit) => ("limits.drain_timeout is over", gone),
        () = hurry => ("there is a hurry", false),
    };
    if gone {
        return;
    }
    tracing::warn!(
        sessions = shared.sessions.count(),
        why,
        "ending the sessions that are left"
    );
    shared.sessions.set_drain(Drain::Now);
    wait_for_sessions(shared, LAST_WORDS).await;
}

/// Writes down what is known, for the next start.
pub(super) async fn save(shared: &Shared<TcpNetwork>) {
    let upstreams = shared.upstreams.load_full();
    let saving = upstreams
        .all()
        .iter()
        .map(|upstream| upstream.knowledge().save());
    let saved = timeout(LAST_WRITES, futures::future::join_all(saving)).await;
    if saved.is_err() {
        tracing::warn!("keys.snapshot could not be written in time: what was learned last is lost");
    }
}

/// True once no session is left; false when `limit` is over.
async fn wait_for_sessions<N>(shared: &Shared<N>, limit: Duration) -> bool {
    let gone = async {
        while shared.sessions.count() > 0 {
            tokio::time::sleep(DRAIN_TICK).await;
        }
    };
    timeout(limit, gone).await.is_ok()
}
