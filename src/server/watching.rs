//! Looking at the files of the configuration, so that it is read again when one of them has changed
//! (`reload.watch`).
//!
//! They are looked at every so often, since the kernel tells of no change on another machine's disk, nor
//! of one in what a link's directory leads to, which is how Kubernetes renews what it mounts. Nobody waits
//! for a look: it runs on a thread of its own, and is given up if a file system does not answer.

use std::sync::Arc;

use tokio::time::timeout;

use super::reload::{Readings, Reloader, Unread};
use crate::config::Files;
use crate::observe::metrics::Reload;

/// Reads the configuration again when a file of it has changed, for as long as the process runs.
pub(super) async fn watch(reloader: Arc<Reloader>) {
    let looks = Readings::default();
    let mut watcher = Watcher::default();
    loop {
        let every = reloader.shared.settings.load().reload.watch;
        let Some(every) = every else {
            watcher = Watcher::default();
            reloader.put_in_force.notified().await;
            continue;
        };
        // Another configuration may want it otherwise.
        let other = reloader.put_in_force.notified();
        if timeout(every, other).await.is_ok() {
            continue;
        }
        let read = reloader.files();
        let known = read.clone();
        let now = match looks.read(move || known.now()).await {
            Ok(now) => now,
            Err(error) => {
                watcher.is_blind(&error);
                continue;
            }
        };
        if !watcher.wants_reading(&read, &now, reloader.readings.hang()) {
            continue;
        }
        let files = read.changed(&now);
        let files: Vec<_> = files
            .iter()
            .map(|file| file.display().to_string())
            .collect();
        let files = files.join(", ");
        tracing::info!(
            files,
            "files of the configuration have changed; it is read again"
        );
        let outcome = Arc::clone(&reloader).reload().await;
        watcher.has_read(now, outcome);
    }
}

/// What the looks so far have shown.
#[derive(Default)]
struct Watcher {
    /// The last look, if it was not what has been read.
    seen: Option<Files>,
    /// What has been seen, but could not be read within its time.
    given_up: Option<Files>,
    /// The last look came to nothing, which has been said.
    blind: bool,
}

impl Watcher {
    /// Whether the configuration, whose files were as in `read`, is to be read again, now that they are
    /// as in `now`. Not before two looks have shown the same, since a file may be half written, and one of
    /// several that belong together changed; and what could not be read in time not before that attempt has
    /// ended.
    fn wants_reading(&mut self, read: &Files, now: &Files, hangs: bool) -> bool {
        self.blind = false;
        // After an attempt that was given up even what was read before it is read again: it came to nothing.
        if now == read && self.given_up.is_none() {
            self.seen = None;
            return false;
        }
        let stays = self.seen.as_ref() == Some(now);
        self.seen = Some(now.clone());
        stays && !(hangs && self.given_up.as_ref() == Some(now))
    }

    /// Notes what came of that.
    fn has_read(&mut self, now: Files, outcome: Reload) {
        let in_time = outcome != Reload::TimedOut;
        self.given_up = (!in_time).then_some(now);
    }

    /// Says, once, that nothing could be seen.
    fn is_blind(&mut self, error: &Unread) {
        if !self.blind {
            tracing::warn!(
                %error,
                "the files of the configuration cannot be watched at present"
            );
        }
        self.blind = true;
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::config;

    /// The files of a configuration that is `path` alone.
    fn files(path: &Path) -> Files {
        config::read(Some(path.to_owned()), &config::Environment::default(), &[]).files
    }

    #[test]
    fn what_has_changed_is_read_once_two_looks_show_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("osprey.toml");
        let look = |text: &str| {
            fs::write(&path, text).unwrap();
            files(&path)
        };
        let mut watcher = Watcher::default();
        let read = look("one");
        assert!(!watcher.wants_reading(&read, &read.now(), false));
        let half = look("tw");
        assert!(!watcher.wants_reading(&read, &half, false));
        let whole = look("two");
        assert!(!watcher.wants_reading(&read, &whole, false));
        assert!(watcher.wants_reading(&read, &whole, false));
        // Whatever came of it: with mistakes it is not read again before it changes.
        watcher.has_read(whole.clone(), Reload::Refused);
        assert!(!watcher.wants_reading(&whole, &whole, false));
        // Changed, and back again before the second look.
        assert!(!watcher.wants_reading(&whole, &half, false));
        assert!(!watcher.wants_reading(&whole, &whole, false));
        assert!(!watcher.wants_reading(&whole, &half, false));
        assert!(watcher.wants_reading(&whole, &half, false));
    }

    #[test]
    fn what_cannot_be_read_in_time_is_tried_again_once_that_has_ended() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("osprey.toml");
        fs::write(&path, "one").unwrap();
        let read = files(&path);
        fs::write(&path, "two").unwrap();
        let (now, mut watcher) = (read.now(), Watcher::default());
        assert!(!watcher.wants_reading(&read, &now, false));
        assert!(watcher.wants_reading(&read, &now, false));
        watcher.has_read(now.clone(), Reload::TimedOut);
        for _ in 0..3 {
            assert!(!watcher.wants_reading(&read, &now, true));
        }
        assert!(watcher.wants_reading(&read, &now, false));
        watcher.has_read(now, Reload::TimedOut);
        // As it was before.
        assert!(!watcher.wants_reading(&read, &read, true));
        assert!(watcher.wants_reading(&read, &read, true));
        watcher.has_read(read.clone(), Reload::Applied);
        assert!(!watcher.wants_reading(&read, &read, false));
    }
}
