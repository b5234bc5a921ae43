//! What is read at the start alone: another value of it waits for the next one.

use std::net::SocketAddr;

use super::settings::Settings;

/// The keys that differ and that a running process cannot change: a whole section for `replicas`.
pub fn waits_for_restart(before: &Settings, after: &Settings) -> Vec<&'static str> {
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
        (
            "console.socket",
            before.console.socket != after.console.socket,
        ),
        (
            "console.socket_mode",
            before.console.socket_mode != after.console.socket_mode,
        ),
        (
            "takeover.socket",
            before.takeover.socket != after.takeover.socket,
        ),
        ("replicas", before.replicas != after.replicas),
        ("observe.log", old.log != new.log),
        ("observe.log_format", old.json_logs != new.json_logs),
        ("observe.traces", old.traces != new.traces),
        (
            "observe.trace_share",
            old.trace_percent != new.trace_percent,
        ),
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
