//! What came of reading the configuration again, for metrics.

use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use super::metrics::{Kinds, Reload};

/// The readings of the configuration while the process runs.
#[derive(Debug)]
pub struct Reloads {
    counts: Kinds<Reload, { Reload::COUNT }>,
    /// See [`Reloads::last`].
    last: Mutex<(bool, SystemTime)>,
}

impl Default for Reloads {
    /// The configuration of the start is in force.
    fn default() -> Self {
        Self {
            counts: Kinds::default(),
            last: Mutex::new((true, SystemTime::now())),
        }
    }
}

impl Reloads {
    /// Counts one.
    pub fn count(&self, outcome: Reload) {
        self.counts.of(outcome).inc();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = match outcome {
            Reload::Applied => (true, SystemTime::now()),
            Reload::Refused | Reload::TimedOut => (false, last.1),
        };
    }

    /// How many had this outcome.
    pub fn of(&self, outcome: Reload) -> u64 {
        self.counts.of(outcome).get()
    }

    /// Whether the last one was put in force, and since when the configuration is the one that is.
    pub fn last(&self) -> (bool, SystemTime) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_reload_shows_until_a_good_one() {
        let reloads = Reloads::default();
        let (successful, start) = reloads.last();
        assert!(successful);
        reloads.count(Reload::Refused);
        assert_eq!(reloads.last(), (false, start));
        reloads.count(Reload::Applied);
        assert!(reloads.last().0 && reloads.last().1 >= start);
        assert_eq!(
            (reloads.of(Reload::Refused), reloads.of(Reload::TimedOut)),
            (1, 0)
        );
    }
}
