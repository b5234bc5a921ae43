//! The table of the histograms: name, text, labels, and where the durations come from. All are in seconds.

use std::time::Duration;

use super::metrics::{Durations, Engine, Kind, MAX_BOUNDS, Protocol, Scale, Shard, Statements};
use super::sources::Sources;

/// The values of the labels, and what was measured with them.
pub(super) type Series = Vec<(Vec<String>, Buckets)>;

/// One histogram.
pub(super) struct Histogram {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) labels: &'static [&'static str],
    pub(super) read: fn(&Sources) -> Series,
}

/// What was measured by all workers together.
pub(super) struct Buckets {
    /// The upper bounds, in nanoseconds.
    pub(super) bounds: &'static [u64],
    /// Not cumulative; one more than there are bounds.
    pub(super) counts: [u64; MAX_BOUNDS + 1],
    /// The sum, in nanoseconds.
    pub(super) total: u64,
}

/// Every histogram.
pub(super) const HISTOGRAMS: &[Histogram] = &[
    Histogram {
        name: "osprey_upstream_connect_seconds",
        help: "How long connects to Hologres took, with name resolution and TLS.",
        labels: &[],
        read: |sources| one(sources, |shard| &shard.upstream_connect_time),
    },
    Histogram {
        name: "osprey_login_seconds",
        help: "How long logins took that succeeded, from the connection to the first ReadyForQuery.",
        labels: &[],
        read: |sources| one(sources, |shard| &shard.login_time),
    },
    Histogram {
        name: "osprey_own_seconds",
        help: "Osprey's own work on a cycle, in both directions, system calls included; waiting for neither side. One cycle in eight is measured, and those before it count as it does; what is left counts at the session's end.",
        labels: &[],
        read: |sources| one(sources, |shard| &shard.own_time),
    },
    Histogram {
        name: "osprey_statement_seconds",
        help: "Cycles that run statements, from their first message to their ReadyForQuery, by what reads MaxCompute's data.",
        labels: &["protocol", "engine"],
        read: |sources| {
            let both = Protocol::ALL
                .iter()
                .flat_map(|&protocol| Engine::ALL.iter().map(move |&engine| (protocol, engine)));
            let series = both.map(|(protocol, engine)| {
                let labels = vec![protocol.label().into(), engine.label().into()];
                let times = sum(sources, |shard| times_of(shard, protocol, engine));
                (labels, times)
            });
            series.collect()
        },
    },
    Histogram {
        name: "osprey_first_answer_seconds",
        help: "The same up to the first bytes of an answer.",
        labels: &["engine"],
        read: |sources| {
            let series = Engine::ALL.iter().map(|&engine| {
                let times = sum(sources, |shard| shard.first_answer_time.of(engine));
                (vec![engine.label().into()], times)
            });
            series.collect()
        },
    },
    Histogram {
        name: "osprey_heal_seconds",
        help: "What statements lost by a first run that failed on encrypted data, where the second gave their answer.",
        labels: &[],
        read: |sources| one(sources, |shard| &shard.heal_time),
    },
];

fn one<S: Scale>(sources: &Sources, of: impl Fn(&Shard) -> &Durations<S>) -> Series {
    vec![(Vec::new(), sum(sources, of))]
}

/// What one histogram of each worker holds.
fn sum<S: Scale>(sources: &Sources, of: impl Fn(&Shard) -> &Durations<S>) -> Buckets {
    sum_of(sources.shards().map(of))
}

fn sum_of<'s, S: Scale>(all: impl Iterator<Item = &'s Durations<S>>) -> Buckets {
    let mut sum = Buckets {
        bounds: S::BOUNDS,
        counts: [0; MAX_BOUNDS + 1],
        total: 0,
    };
    for times in all {
        for (sum, count) in sum.counts.iter_mut().zip(times.counts()) {
            *sum += count;
        }
        sum.total += times.total();
    }
    sum
}

/// How long statements have taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// How many there were.
    pub count: u64,
    /// `None`, here and below: there were none.
    pub mean: Option<Duration>,
    /// The bound below which half of them are.
    pub half: Option<Duration>,
    /// The same of 99 of 100.
    pub most: Option<Duration>,
}

impl Buckets {
    fn times(&self) -> Times {
        let count: u64 = self.counts.iter().sum();
        let bound = |hundredths: u64| {
            let wanted = (count * hundredths).div_ceil(100).max(1);
            let mut below = 0;
            let mut bounds = self.bounds.iter().zip(self.counts);
            let found = bounds.find(|(_, more)| {
                below += more;
                below >= wanted
            });
            let bound = found.map(|(bound, _)| bound).or(self.bounds.last());
            bound
                .filter(|_| count > 0)
                .map(|&bound| Duration::from_nanos(bound))
        };
        Times {
            count,
            mean: self.total.checked_div(count).map(Duration::from_nanos),
            half: bound(50),
            most: bound(99),
        }
    }
}

fn times_of(shard: &Shard, protocol: Protocol, engine: Engine) -> &Durations<Statements> {
    shard.statement_time.of(protocol).of(engine)
}

/// How long statements have taken, by engine.
pub(super) fn latency(sources: &Sources) -> Vec<(&'static str, Times)> {
    let by_engine = Engine::ALL.iter().map(|&engine| {
        let of_protocols = |shard| {
            Protocol::ALL
                .iter()
                .map(move |&protocol| times_of(shard, protocol, engine))
        };
        let all = sources.shards().flat_map(of_protocols);
        (engine.label(), sum_of(all).times())
    });
    by_engine.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_and_most_are_the_bounds_above_them() {
        let mut times = Buckets {
            bounds: &[1_000, 2_000, 4_000],
            counts: [0; MAX_BOUNDS + 1],
            total: 0,
        };
        assert_eq!((times.times().count, times.times().half), (0, None));
        times.counts[..4].copy_from_slice(&[50, 48, 1, 1]);
        times.total = 100_000;
        let found = times.times();
        let microseconds = |time: Option<Duration>| time.map(|time| time.as_micros());
        assert_eq!(microseconds(found.mean), Some(1));
        assert_eq!(microseconds(found.half), Some(1));
        assert_eq!(microseconds(found.most), Some(4));
    }
}
