//! What the integration tests share.

#[allow(dead_code)] // not every test binary needs a server
pub(crate) mod postgres;

use std::sync::Arc;
use std::time::{Duration, Instant};

use osprey::catalog::Service;
use osprey::config::Settings;
use osprey::net::{Endpoint, SocketOptions};
use osprey::protection::knowledge::Knowledge;
use tokio::runtime::Handle;

/// How sessions and the catalog account reach the upstream that `settings` name.
#[allow(dead_code)] // as below
pub(crate) fn endpoint(settings: &Settings) -> Arc<Endpoint> {
    Arc::new(Endpoint::new(settings.upstream(), SocketOptions::default()).unwrap())
}

/// The catalog account that `settings` name.
#[allow(dead_code)] // as below
pub(crate) fn service(settings: &Settings) -> Service {
    Service::new(&settings.upstream().catalog, endpoint(settings)).unwrap()
}

/// What is known of the upstream that `settings` name.
#[allow(dead_code)] // as below
pub(crate) fn knowledge(settings: &Settings) -> Arc<Knowledge> {
    let endpoint = endpoint(settings);
    Knowledge::new(
        settings.upstream(),
        &settings.keys,
        endpoint,
        Handle::current(),
        None,
    )
}

/// Other settings for what is known.
#[allow(dead_code)] // as below
pub(crate) fn apply(knowledge: &Knowledge, settings: &Settings) {
    knowledge.apply(settings.upstream(), &settings.keys, endpoint(settings));
}

/// Waits until `met` is, and says how long that took.
#[allow(dead_code)] // not every test binary that shares this module needs it
pub(crate) async fn until(what: &str, mut met: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !met() {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "{what}: not within 20 s"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    start.elapsed()
}
