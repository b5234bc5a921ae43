//! Other settings for a running server.
//!
//! They are read on a thread of its own, for files may be far away or not answer, and put in force
//! once they are there.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

use crate::advice::Rules;
use crate::config::{Files, Settings, show_duration, waits_for_restart};
use crate::net::TcpNetwork;
use crate::net::tls::TlsError;
use crate::observe::Health;
use crate::observe::metrics::Reload;
use crate::session::Shared;
use crate::upstream::{TlsFiles, Upstreams};

/// How long reading a configuration, and the files that it names, may take.
const READING_TIMEOUT: Duration = Duration::from_secs(10);
/// Readings that may hang at a time; no more are begun.
const HANGING_READINGS: usize = 4;

/// Reads the configuration of a server again.
pub(super) struct Reloader {
    pub(super) shared: Arc<Shared<TcpNetwork>>,
    pub(super) sockets: Vec<SocketAddr>,
    pub(super) runtime: Handle,
    pub(super) health: Arc<Health>,
    pub(super) read: Arc<dyn Fn() -> Reread + Send + Sync>,
    /// The files of the last reading.
    pub(super) files: Mutex<Files>,
    /// Hears of each configuration that is put in force.
    pub(super) put_in_force: Notify,
    pub(super) readings: Readings,
    /// Held by whoever reads it: one at a time.
    pub(super) turn: tokio::sync::Mutex<()>,
}

/// What has been read of a configuration.
pub struct Reread {
    /// `None`: there are mistakes, which have been shown, and what was in force stays in force.
    pub settings: Option<Settings>,
    /// The files that were read or are named, as they were before.
    pub files: Files,
}

/// What has been read, or why it cannot be used.
type Read = Option<Result<(Settings, TlsFiles), TlsError>>;

impl Reloader {
    /// Reads it, puts it in force, and says what came of it.
    pub(super) async fn reload(self: Arc<Self>) -> Reload {
        let _turn = self.turn.lock().await;
        self.health.reloading();
        let outcome = Arc::clone(&self).try_reload().await;
        self.shared.metrics.reloads().count(outcome);
        self.health.reloaded(match outcome {
            Reload::Applied => Ok(()),
            Reload::Refused => Err("the new configuration has mistakes and is not in force"),
            Reload::TimedOut => Err("the new configuration could not be read and is not in force"),
        });
        outcome
    }

    async fn try_reload(self: Arc<Self>) -> Reload {
        let read = Arc::clone(&self.read);
        let before = self.files();
        let reading = self.readings.read(move || -> (Read, Files) {
            let Reread { settings, files } = read();
            // After a mistake, not all files that are named need be known; those of the reading before
            // are still of interest, as they are now: this attempt is all that their change asked for.
            let files = if settings.is_some() {
                files
            } else {
                files.or(before.now())
            };
            let read = settings.map(|settings| {
                let files = TlsFiles::read(&settings);
                files.map(|files| (settings, files))
            });
            (read, files)
        });
        let read = reading.await.map(|(read, files)| {
            *self.files.lock().unwrap_or_else(PoisonError::into_inner) = files;
            read
        });
        match read {
            Ok(Some(Ok((settings, files)))) => {
                // Snapshot files may be read, and much may be dropped: no work for a runtime.
                let this = Arc::clone(&self);
                let applying = move || this.apply(settings, files);
                if tokio::task::spawn_blocking(applying).await.is_err() {
                    tracing::error!(
                        "putting the configuration in force failed by a fault of Osprey's"
                    );
                    return Reload::Refused;
                }
                self.put_in_force.notify_one();
                tracing::info!("the configuration was read again and is in force");
                Reload::Applied
            }
            Ok(Some(Err(error))) => {
                tracing::error!(%error, "the new configuration is not in force");
                Reload::Refused
            }
            Ok(None) => {
                tracing::error!("the new configuration has mistakes and is not in force");
                Reload::Refused
            }
            Err(error) => {
                tracing::error!(%error, "the new configuration is not in force");
                Reload::TimedOut
            }
        }
    }

    /// The files of the last reading, as they were before it.
    pub(super) fn files(&self) -> Files {
        let files = self.files.lock();
        files.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn apply(&self, settings: Settings, files: TlsFiles) {
        for key in waits_for_restart(&self.shared.started, &settings) {
            tracing::warn!(key, "this change takes effect at the next start");
        }
        apply(&self.shared, &self.sockets, &self.runtime, settings, files);
    }
}

/// Puts other settings in force: sessions that begin from now on have them. Those that are open keep
/// what they began with, but for what is known of their upstream, if it is still the same.
pub(crate) fn apply<N>(
    shared: &Shared<N>,
    sockets: &[SocketAddr],
    runtime: &Handle,
    settings: Settings,
    files: TlsFiles,
) {
    let before = shared.upstreams.load();
    let fleet = before.fleet().cloned();
    let upstreams = Upstreams::new(&settings, files, sockets, Some(&before), runtime, fleet);
    put_rules_into_force(&settings);
    shared.upstreams.store(Arc::new(upstreams));
    shared.settings.store(Arc::new(settings));
}

/// Puts the operator's rules of advice into force. They were checked with the configuration; should the
/// file have changed since, what was in force stays, and the log says why.
pub(super) fn put_rules_into_force(settings: &Settings) {
    if let Err(problems) = Rules::put_into_force(settings.observe.rules.as_deref()) {
        for problem in &problems {
            tracing::error!("{problem}");
        }
    }
}

/// Why nothing was read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unread {
    /// A file does not answer.
    #[error(
        "reading it, or a file that it names, takes longer than {}; it is given up",
        show_duration(READING_TIMEOUT)
    )]
    TimedOut,
    /// Too many files did not answer.
    #[error("{HANGING_READINGS} readings that were given up still hang; no other one is begun")]
    Hanging,
    /// No thread, or a fault of Osprey's own.
    #[error("the thread that reads it could not start, or failed")]
    Failed,
}

/// The readings that are under way, those that were given up included.
#[derive(Default)]
pub(super) struct Readings(Arc<()>);

impl Readings {
    /// True if one that was given up has not ended yet.
    pub(super) fn hang(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    /// Calls `read` on a thread of its own. What comes after [`READING_TIMEOUT`] is thrown away.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Unread> {
        if Arc::strong_count(&self.0) > HANGING_READINGS {
            return Err(Unread::Hanging);
        }
        let under_way = Arc::clone(&self.0);
        let (sender, outcome) = oneshot::channel();
        let thread = std::thread::Builder::new().name("osprey-reload".into());
        let started = thread.spawn(move || {
            let outcome = read();
            drop(under_way);
            // Whoever asked may have given it up.
            let _ = sender.send(outcome);
        });
        if started.is_err() {
            return Err(Unread::Failed);
        }
        match timeout(READING_TIMEOUT, outcome).await {
            Ok(read) => read.map_err(|_| Unread::Failed),
            Err(_) => Err(Unread::TimedOut),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_reading_that_hangs_is_given_up_and_only_so_many_are_begun() {
        let readings = Readings::default();
        let mut stuck = Vec::new();
        for _ in 0..HANGING_READINGS {
            let (release, released) = mpsc::channel::<()>();
            stuck.push(release);
            let read = readings.read(move || released.recv().is_ok());
            assert_eq!(read.await, Err(Unread::TimedOut));
        }
        assert_eq!(readings.read(|| ()).await, Err(Unread::Hanging));
        drop(stuck);
        while readings.read(|| ()).await.is_err() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_reading_that_fails_is_no_end() {
        let readings = Readings::default();
        let failing = readings.read(|| panic!("a fault of Osprey's"));
        assert_eq!(failing.await, Err::<(), _>(Unread::Failed));
        assert_eq!(readings.read(|| 1).await, Ok(1));
    }
}
