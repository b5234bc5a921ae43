//! How long a session's statements take: what the server, the network and Osprey take together, as the
//! client sees it.

use std::time::Duration;

use crate::net::moment::Moment;
use crate::observe::metrics::{Engine, Kind as _, Protocol, Shard};
use crate::traces::Ended;

/// The cycle that is under way, or several that are pipelined: these count as the gravest of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stopwatch {
    /// `None`: there is none.
    since: Option<Moment>,
    /// It has been answered, if only in part.
    answered: bool,
    extended: bool,
    engine: Engine,
    /// The nanoseconds that its first run took, which failed.
    failed_after: Option<u64>,
    /// The second run has not.
    cured: bool,
}

impl Default for Stopwatch {
    fn default() -> Self {
        Self {
            since: None,
            answered: false,
            extended: false,
            engine: Engine::Local,
            failed_after: None,
            cured: false,
        }
    }
}

/// Of so many cycles of a session one is measured.
const MEASURED: u32 = 8;

/// What Osprey's own work on a session's cycles takes. Two readings of the clock for each turn would be a
/// good part of that.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct OwnTime {
    /// Nanoseconds, of the present cycle.
    spent: u64,
    /// Of the one that was measured last.
    last: u64,
    /// Cycles that have ended since it.
    since: u64,
    /// Turns in which cycles end until the next one that is measured.
    left: u32,
}

/// So many cycles, which are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cycles {
    pub(super) count: u64,
    /// The nanoseconds that each of them took.
    pub(super) each: u64,
}

impl OwnTime {
    /// True if the present cycle is measured.
    #[inline]
    pub(super) fn is_measured(&self) -> bool {
        self.left == 0
    }

    /// A turn of a cycle that is measured took so many nanoseconds.
    #[inline]
    pub(super) fn spend(&mut self, nanoseconds: u64) {
        self.spent += nanoseconds;
    }

    /// So many cycles have ended in one turn. One that was measured is counted, and those before it that
    /// were not are counted as it.
    #[inline]
    pub(super) fn ended(&mut self, cycles: u64) -> Option<Cycles> {
        self.since += cycles;
        if self.left > 0 {
            self.left -= 1;
            return None;
        }
        self.left = MEASURED - 1;
        let spent = std::mem::take(&mut self.spent);
        self.last = if cycles > 1 { spent / cycles } else { spent };
        self.rest()
    }

    /// What has not been counted yet, as the last one that was measured.
    pub(super) fn rest(&mut self) -> Option<Cycles> {
        let count = std::mem::take(&mut self.since);
        (count > 0).then_some(Cycles {
            count,
            each: self.last,
        })
    }
}

/// What has passed in a turn.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Passed {
    /// Query messages to the server.
    pub(super) queries: u64,
    /// Execute messages.
    pub(super) executes: u64,
    /// Some of these may read MaxCompute data.
    pub(super) foreign: bool,
    /// The session is steered to the engine for encrypted data.
    pub(super) steered: bool,
    /// Bytes for the client.
    pub(super) to_client: u64,
    /// Cycles that have ended.
    pub(super) cycles: u64,
    /// The server is, or may be, still at work.
    pub(super) busy: bool,
}

impl Stopwatch {
    /// This has passed in a turn at `now`. The answer is how the cycle went, if one has ended.
    #[inline]
    pub(super) fn note(&mut self, now: Moment, passed: Passed, shard: &Shard) -> Option<Ended> {
        let Passed {
            executes,
            foreign,
            to_client,
            cycles,
            ..
        } = passed;
        let mut is_its_own = true;
        if passed.queries + executes > 0 {
            // Otherwise the bytes may be those of a statement in front of it.
            is_its_own = self.since.is_none();
            self.since.get_or_insert(now);
            self.extended |= executes > 0;
            if foreign {
                self.engine = self.engine.max(Engine::of(passed.steered, foreign));
            }
        }
        let since = self.since?;
        let (took, engine) = (now.since(since), self.engine);
        if to_client > 0 && !self.answered && is_its_own {
            self.answered = true;
            shard.first_answer_time.of(engine).observe_each(took, 1);
        }
        if cycles == 0 {
            return None;
        }
        let protocol = if self.extended {
            Protocol::Extended
        } else {
            Protocol::Simple
        };
        let times = shard.statement_time.of(protocol).of(engine);
        times.observe_each(took, cycles);
        let failed_after = self.failed_after.filter(|_| self.cured);
        *self = Self::default();
        if passed.busy {
            self.since = Some(now);
            self.extended = protocol == Protocol::Extended;
            self.engine = engine;
        }
        Some(Ended {
            took: Duration::from_nanos(took),
            engine: engine.label(),
            protocol: protocol.label(),
            failed_after: failed_after.map(Duration::from_nanos),
        })
    }

    /// The first run has failed; the second follows, on the other engine or on the same.
    pub(super) fn runs_again(&mut self, now: Moment, changes_engine: bool) {
        if changes_engine {
            self.engine = Engine::Sqe;
        }
        self.failed_after = self.since.map(|since| now.since(since));
    }

    /// What the first run of a statement took that the second one has cured.
    pub(super) fn cured(&mut self) -> Option<Duration> {
        self.cured = self.failed_after.is_some();
        self.failed_after.map(Duration::from_nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::metrics::{Kind, Scale, Statements};

    fn sent(queries: u64, executes: u64) -> Passed {
        Passed {
            queries,
            executes,
            ..answered(0)
        }
    }

    fn answered(to_client: u64) -> Passed {
        Passed {
            to_client,
            busy: true,
            ..Passed::default()
        }
    }

    fn ended(to_client: u64, busy: bool) -> Passed {
        Passed {
            cycles: 1,
            busy,
            ..answered(to_client)
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
    fn one_cycle_in_several_is_measured_and_those_before_it_count_as_it() {
        let counted = |count, each| Some(Cycles { count, each });
        let mut own = OwnTime::default();
        let mut cycle = |nanoseconds| {
            if own.is_measured() {
                own.spend(nanoseconds);
            }
            own.ended(1)
        };
        assert_eq!(cycle(70), counted(1, 70));
        for _ in 1..MEASURED {
            assert_eq!(cycle(1_000), None);
        }
        assert_eq!(cycle(30), counted(MEASURED.into(), 30));
        assert_eq!(cycle(1_000), None);
        // None is lost at the end.
        assert_eq!(own.rest(), counted(1, 30));
        assert_eq!(own.rest(), None);
        // Several that end in one turn have it together.
        let mut own = OwnTime::default();
        own.spend(90);
        assert_eq!(own.ended(3), counted(3, 30));
    }

    #[test]
    fn a_cycle_takes_from_its_first_message_to_its_end() {
        let (shard, mut watch) = (Shard::default(), Stopwatch::default());
        let begin = Moment::now();
        let at = |milliseconds| begin.after(Duration::from_millis(milliseconds));
        watch.note(at(0), sent(1, 0), &shard);
        watch.note(at(30), answered(100), &shard);
        watch.note(at(70), ended(100, false), &shard);
        // A Sync alone is no statement.
        watch.note(at(90), ended(6, false), &shard);
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
        let begin = Moment::now();
        let foreign = Passed {
            foreign: true,
            ..sent(1, 0)
        };
        watch.note(begin, foreign, &shard);
        watch.runs_again(begin, false);
        watch.note(begin, ended(50, false), &shard);
        assert_eq!(counted(&shard), ["simple hqe 1"]);
    }

    #[test]
    fn a_statement_that_is_run_again_is_the_other_engines() {
        let (shard, mut watch) = (Shard::default(), Stopwatch::default());
        let begin = Moment::now();
        let at = |milliseconds| begin.after(Duration::from_millis(milliseconds));
        let foreign = Passed {
            foreign: true,
            ..sent(0, 1)
        };
        watch.note(at(0), foreign, &shard);
        watch.runs_again(at(40), true);
        watch.note(at(40), answered(0), &shard);
        assert_eq!(watch.cured(), Some(Duration::from_millis(40)));
        watch.note(at(100), ended(50, true), &shard);
        // What is pipelined behind it begins there, and counts as the gravest of the pipeline.
        watch.note(at(120), ended(50, false), &shard);
        assert_eq!(counted(&shard), ["extended sqe 2"]);
        let times = shard.statement_time.of(Protocol::Extended).of(Engine::Sqe);
        assert_eq!(times.total(), 120_000_000);
    }
}
