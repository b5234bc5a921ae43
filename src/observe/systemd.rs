//! Telling systemd what the process is doing (`sd_notify(3)`), so that a unit of `Type=notify` is
//! started only once clients can connect, and so that `systemctl status` has a line about it.

use std::time::Duration;

use sd_notify::NotifyState;

/// Sends these states, if systemd started this process and asks for them.
pub(super) fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, ?states, "cannot notify systemd");
    }
}

/// `WatchdogSec=` of the unit: without a sign of life for that long, systemd kills this process.
/// `None`: it does not watch.
pub fn watchdog_period() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|period| !period.is_zero())
}

/// The sign of life.
pub fn is_alive() {
    notify(&[NotifyState::Watchdog]);
}
