//! The sign of life that systemd asks for (`WatchdogSec=`): given only while every worker turns.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::interval;

use crate::net::time::sleep;
use crate::observe::systemd;

/// Watches the workers.
pub(super) struct Watchdog {
    /// Between two signs of life: half of what systemd waits for (`sd_watchdog_enabled(3)`).
    period: Duration,
    /// Moved by each worker.
    beats: Vec<Arc<AtomicU64>>,
}

impl Watchdog {
    /// `None`: nobody asks for it.
    pub(super) fn asked_for(workers: usize) -> Option<Self> {
        let period = systemd::watchdog_period()? / 2;
        let beats = (0..workers).map(|_| Arc::default()).collect();
        Some(Self { period, beats })
    }

    /// What a worker runs beside its sessions: it moves on as long as these leave it a turn.
    pub(super) fn beat(&self, worker: usize) -> impl Future<Output = ()> + Send + 'static {
        let (period, beats) = (self.period / 2, Arc::clone(&self.beats[worker]));
        async move {
            loop {
                beats.fetch_add(1, Ordering::Relaxed);
                sleep(period).await;
            }
        }
    }

    /// Gives signs of life, for ever, as long as all workers move on.
    pub(super) async fn watch(self) {
        let mut ticks = interval(self.period);
        let mut seen = vec![0; self.beats.len()];
        ticks.tick().await;
        loop {
            ticks.tick().await;
            if let Some(worker) = self.stuck(&mut seen) {
                tracing::error!(
                    worker,
                    "a worker stands still: systemd is given no sign of life"
                );
            } else {
                systemd::is_alive();
            }
        }
    }

    /// A worker that has not moved since the last call.
    fn stuck(&self, seen: &mut [u64]) -> Option<usize> {
        let mut stuck = None;
        for (worker, (beats, seen)) in self.beats.iter().zip(seen).enumerate() {
            let now = beats.load(Ordering::Relaxed);
            if *seen == now {
                stuck = Some(worker);
            }
            *seen = now;
        }
        stuck
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_stands_still_is_noticed_until_it_moves_on() {
        let watchdog = Watchdog {
            period: Duration::from_secs(2),
            beats: vec![Arc::default(), Arc::default()],
        };
        let mut seen = [0, 0];
        tokio::spawn(watchdog.beat(0));
        tokio::time::sleep(watchdog.period).await;
        assert_eq!(watchdog.stuck(&mut seen), Some(1));
        tokio::spawn(watchdog.beat(1));
        tokio::time::sleep(watchdog.period).await;
        assert_eq!(watchdog.stuck(&mut seen), None);
    }
}
