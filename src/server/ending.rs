//! How the server ends: load balancers notice, sessions finish, what was learned is written down.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::timeout;

use crate::config::show_duration;
use crate::keys::KeyCache;
use crate::net::TcpNetwork;
use crate::observe::Health;
use crate::session::{Drain, Shared};

use super::takeover::giving::Successor;
use super::takeover::reporting::Reporting;

/// How often a drain looks whether the last session has ended.
const DRAIN_TICK: Duration = Duration::from_millis(20);
/// How long sessions get to hear that they are ended, once the drain's time is over.
const LAST_WORDS: Duration = Duration::from_secs(4);
/// What the end takes beside what it waits for.
const A_LITTLE: Duration = Duration::from_secs(3);
/// How long the end may wait for the disk.
const LAST_WRITES: Duration = Duration::from_secs(3);

/// How long the end takes at most.
pub(super) fn longest(shared: &Shared<TcpNetwork>) -> Duration {
    let limits = &shared.settings.load().limits;
    let drain = limits.pre_drain_delay.saturating_add(limits.drain_timeout);
    drain.saturating_add(LAST_WORDS + LAST_WRITES + A_LITTLE)
}

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

/// Takes in what another process tells of keys.
pub(super) fn take_in(shared: &Shared<TcpNetwork>, records: &str) {
    let upstreams = shared.upstreams.load_full();
    let mut all = upstreams.all().iter();
    if !all.any(|upstream| upstream.knowledge().keys().take_in(records)) {
        tracing::warn!("another process tells of keys of an upstream that this one does not have");
    }
}

/// What is left of a process whose listening sockets are another's now.
pub(super) struct HandedOver {
    since: SystemTime,
    reporting: Option<Reporting>,
}

impl HandedOver {
    /// Tells `successor` that it has the sockets, and what this process knows; from now on this one
    /// tells whoever listens at `path` of its last sessions.
    pub(super) fn to(
        successor: Successor,
        path: Option<PathBuf>,
        shared: &Arc<Shared<TcpNetwork>>,
    ) -> Self {
        let limit = shared.settings.load().takeover.drain_after;
        tracing::info!(
            pid = successor.pid,
            version = successor.version,
            sessions = shared.sessions.count(),
            drain_after = limit.map_or_else(|| "off".to_owned(), show_duration),
            "another process has taken over; sessions of this one go on"
        );
        if shared.sessions.resume(None) {
            // Nobody could say RESUME to this process any more.
            tracing::warn!(
                "what was paused goes on: the process that has taken over is not paused"
            );
        }
        let since = SystemTime::now();
        let records = told(shared, None);
        each_keys(shared, KeyCache::leave_file);
        successor.release(records);
        let counted = Arc::clone(&shared.sessions);
        let reporting = path.map(|path| Reporting::start(path, move || counted.count() as u64));
        // Without it, this process writes the file of key records again at its end.
        let reporting = reporting.and_then(Result::ok);
        Self { since, reporting }
    }

    /// Serves the sessions until they have ended, at the longest for `takeover.drain_after` or until
    /// `shutdown`; then it drains.
    pub(super) async fn end<F: Future<Output = ()>>(
        self,
        shared: &Arc<Shared<TcpNetwork>>,
        health: &Health,
        shutdown: impl Future<Output = ()>,
        hurry: impl Fn() -> F,
    ) {
        let time_is_over = async {
            match shared.settings.load().takeover.drain_after {
                Some(limit) => tokio::time::sleep(limit).await,
                None => std::future::pending().await,
            }
        };
        let is_over = tokio::select! {
            () = wait_for_the_last(shared) => false,
            () = time_is_over => true,
            () = shutdown => true,
        };
        health.draining(longest(shared));
        if is_over {
            drain(shared, hurry()).await;
        }
        let records = told(shared, Some(self.since));
        let reported = match self.reporting {
            Some(reporting) => {
                let end = move || reporting.end(records);
                let ended = timeout(LAST_WRITES, tokio::task::spawn_blocking(end)).await;
                matches!(ended, Ok(Ok(true)))
            }
            None => false,
        };
        if !reported {
            let upstreams = shared.upstreams.load_full();
            let saving = upstreams
                .all()
                .iter()
                .map(|upstream| upstream.knowledge().keys().take_file_back());
            let _ = timeout(LAST_WRITES, futures::future::join_all(saving)).await;
        }
    }
}

/// The key records of each upstream, or those looked up after a time.
fn told(shared: &Shared<TcpNetwork>, after: Option<SystemTime>) -> Vec<String> {
    let upstreams = shared.upstreams.load_full();
    let all = upstreams.all().iter();
    all.filter_map(|upstream| upstream.knowledge().keys().told(after))
        .collect()
}

fn each_keys(shared: &Shared<TcpNetwork>, what: impl Fn(&KeyCache)) {
    let upstreams = shared.upstreams.load_full();
    let all = upstreams.all().iter();
    all.for_each(|upstream| what(upstream.knowledge().keys()));
}

/// Resolves once there is no connection left, whatever it is doing.
async fn wait_for_the_last(shared: &Shared<TcpNetwork>) {
    let admission = &shared.admission;
    // In the order in which a connection comes by: whoever moves on meanwhile is met further on.
    let is_one_left = || {
        admission.greetings.taken() > 0
            || admission.cancels.taken() + admission.unknown_cancels.taken() > 0
            || admission.logins.taken() > 0
            || shared.sessions.count() > 0
    };
    while is_one_left() {
        tokio::time::sleep(DRAIN_TICK).await;
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
