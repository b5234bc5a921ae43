//! Other settings for a running server.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::runtime::Handle;

use crate::config::Settings;
use crate::net::tls::TlsError;
use crate::session::Shared;
use crate::upstream::Upstreams;

/// Puts other settings in force: sessions that begin from now on have them. Those that are open keep
/// what they began with, but for what is known of their upstream, if it is still the same. What only
/// a restart can change is named by a warning.
///
/// # Errors
///
/// A TLS file cannot be used; nothing has changed then.
pub(crate) fn apply<N>(
    shared: &Shared<N>,
    sockets: &[SocketAddr],
    runtime: &Handle,
    settings: Settings,
) -> Result<(), TlsError> {
    let before = shared.upstreams.load();
    let upstreams = Upstreams::new(&settings, sockets, Some(&before), runtime)?;
    for key in waits_for_restart(&shared.settings.load(), &settings) {
        tracing::warn!(key, "this change takes effect at the next start");
    }
    shared.upstreams.store(Arc::new(upstreams));
    shared.settings.store(Arc::new(settings));
    Ok(())
}

/// The keys that differ and that a running process cannot change.
fn waits_for_restart(before: &Settings, after: &Settings) -> Vec<&'static str> {
    let addresses = |settings: &Settings| -> Vec<SocketAddr> {
        let listeners = settings.listeners.iter();
        listeners
            .flat_map(|listener| listener.addresses.iter().copied())
            .collect()
    };
    let (old, new) = (&before.observe, &after.observe);
    [
        ("listen.addresses", addresses(before) != addresses(after)),
        (
            "limits.workers",
            before.limits.workers != after.limits.workers,
        ),
        ("observe.metrics", old.metrics != new.metrics),
        ("observe.log", old.log != new.log),
        ("observe.log_format", old.json_logs != new.json_logs),
    ]
    .into_iter()
    .filter_map(|(key, changed)| changed.then_some(key))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Language;

    #[test]
    fn only_what_a_restart_changes_is_said_to_wait_for_one() {
        let before = Settings::for_upstream("holo", 80);
        let mut after = before.clone();
        after.observe.language = Language::Chinese;
        after.observe.redact_paths = true;
        after.limits.max_logins.total = 7;
        after.upstream_mut().addresses[0].port = 81;
        assert!(waits_for_restart(&before, &after).is_empty());
        after.observe.log = "debug".into();
        after.limits.workers += 1;
        assert_eq!(
            waits_for_restart(&before, &after),
            ["limits.workers", "observe.log"]
        );
    }
}
