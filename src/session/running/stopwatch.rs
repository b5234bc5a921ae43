//! How long a session's statements take: what the server, the network and Osprey take together, as the
//! client sees it.

use std::time::Duration;

use tokio::time::Instant;

use crate::core::Tally;
use crate::observe::metrics::{Engine, Kind as _, Protocol, Shard};
use crate::traces::Ended;

/// The cycle that is under way, or several that are pipelined: these count as the gravest of them.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Stopwatch {
    /// `None`: there is none.
    since: Option<Instant>,
    /// It has been answered, if only in part.
    answered: bool,
    extended: bool,
    engine: Option<Engine>,
    /// How long its first run took, which failed.
    failed_after: Option<Duration>,
    /// The second run has not.
    cured: bool,
}

impl Stopwatch {
    /// A turn at `now` has sent and received what was counted, and `to_client` bytes for the client;
    /// `busy`: the server is still at work; `steered`: so is the session.
    pub(super) fn note(
        &mut self,
        now: Instant,
        tally: &Tally,
        to_client: u64,
        busy: bool,
        steered: bool,
        shard: &Shard,
    ) -> Option<Ended> {
        let sent = tally.queries + tally.executes;
        // Otherwise the bytes may be those of a statement in front of it.
        let is_its_own = sent == 0 || self.since.is_none();
        if sent > 0 {
            self.since.get_or_insert(now);
            self.extended |= tally.executes > 0;
            let foreign = tally.protected + tally.foreign > 0;
            let engine = Engine::of(steered && foreign, foreign);
            self.engine = self.engine.max(Some(engine));
        }
        let since = self.since?;
        let is_first = to_client > 0 && is_its_own && !self.answered;
        if !is_first && tally.cycles == 0 {
            return None;
        }
        let took = now.saturating_duration_since(since);
        let engine = self.engine.unwrap_or(Engine::Local);
        if is_first {
            self.answered = true;
            shard.first_answer_time.of(engine).observe(took);
        }
        if tally.cycles == 0 {
            return None;
        }
        let protocol = if self.extended {
            Protocol::Extended
        } else {
            Protocol::Simple
        };
        let times = shard.statement_time.of(protocol).of(engine);
        let cycles = u32::try_from(tally.cycles).unwrap_or(u32::MAX);
        times.observe_many(took.saturating_mul(cycles), tally.cycles);
        let ended = Ended {
            took,
            engine: engine.label(),
            protocol: protocol.label(),
            failed_after: self.failed_after.filter(|_| self.cured),
        };
        *self = Self {
            since: busy.then_some(now),
            extended: self.extended && busy,
            engine: self.engine.filter(|_| busy),
            ..Self::default()
        };
        Some(ended)
    }

    /// The first run has failed; the second follows, on the other engine or on the same.
    pub(super) fn runs_again(&mut self, now: Instant, changes_engine: bool) {
        if changes_engine {
            self.engine = Some(Engine::Sqe);
        }
        self.failed_after = self.since.map(|since| now.saturating_duration_since(since));
    }

    /// What the first run of a statement took that the second one has cured.
    pub(super) fn cured(&mut self) -> Option<Duration> {
        self.cured = self.failed_after.is_some();
        self.failed_after
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::metrics::{Kind, Scale, Statements};

    fn sent(queries: u64, executes: u64) -> Tally {
        Tally {
            queries,
            executes,
            ..Tally::default()
        }
    }

    fn ended(cycles: u64) -> Tally {
        Tally {
            cycles,
            ..Tally::default()
        }
    }

    /// How often each protocol and engine was counted, as `extended sqe 2`.
    fn counted(shard: &Shard) -> Vec<String> {
        let mut all = Vec::new();
        for &protocol in Protocol::ALL {
            for &engine in Engine::ALL {
                let times = shard.statement_time.of(protocol).of(engine);
                let count: u64 = times.counts().iter().sum();
                if count > 0 {
                    all.push(format!("{} {} {count}", protocol.label(), engine.label()));
                }
            }
        }
        all
    }

    #[test]
    fn a_cycle_takes_from_its_first_message_to_its_end() {
        let (shard, mut watch) = (Shard::default(), Stopwatch::default());
        let begin = Instant::now();
        let at = |milliseconds| begin + Duration::from_millis(milliseconds);
        watch.note(at(0), &sent(1, 0), 0, true, false, &shard);
        watch.note(at(30), &Tally::default(), 100, true, false, &shard);
        watch.note(at(70), &ended(1), 100, false, false, &shard);
        // A Sync alone is no statement.
        watch.note(at(90), &ended(1), 6, false, false, &shard);
        assert_eq!(counted(&shard), ["simple local 1"]);
        let times = shard.statement_time.of(Protocol::Simple).of(Engine::Local);
        assert_eq!(times.total(), 70_000_000);
        assert_eq!(
            shard.first_answer_time.of(Engine::Local).total(),
            30_000_000
        );
        assert_eq!(Statements::BOUNDS.len(), 15);
    }

    #[test]
    fn a_statement_that_is_run_again_with_a_setting_stays_its_engines() {
        let (shard, mut watch) = (Shard::default(), Stopwatch::default());
        let begin = Instant::now();
        let foreign = Tally {
            foreign: 1,
            ..sent(1, 0)
        };
        watch.note(begin, &foreign, 0, true, false, &shard);
        watch.runs_again(begin, false);
        watch.note(begin, &ended(1), 50, false, false, &shard);
        assert_eq!(counted(&shard), ["simple hqe 1"]);
    }

    #[test]
    fn a_statement_that_is_run_again_is_the_other_engines() {
        let (shard, mut watch) = (Shard::default(), Stopwatch::default());
        let begin = Instant::now();
        let at = |milliseconds| begin + Duration::from_millis(milliseconds);
        let foreign = Tally {
            foreign: 1,
            ..sent(0, 1)
        };
        watch.note(at(0), &foreign, 0, true, false, &shard);
        watch.runs_again(at(40), true);
        watch.note(at(40), &Tally::default(), 0, true, false, &shard);
        assert_eq!(watch.cured(), Some(Duration::from_millis(40)));
        watch.note(at(100), &ended(1), 50, true, false, &shard);
        // What is pipelined behind it begins there, and counts as the gravest of the pipeline.
        watch.note(at(120), &ended(1), 50, false, false, &shard);
        assert_eq!(counted(&shard), ["extended sqe 2"]);
        let times = shard.statement_time.of(Protocol::Extended).of(Engine::Sqe);
        assert_eq!(times.total(), 120_000_000);
    }
}
