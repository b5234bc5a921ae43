//! The table of the histograms: name, text, labels, and where the durations come from. All are in seconds.

use super::metrics::{Durations, Engine, Kind, MAX_BOUNDS, Protocol, Scale, Shard};
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
        help: "Osprey's own work on a cycle, in both directions, system calls included; waiting for neither side.",
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
                let times = sum(sources, |shard| {
                    shard.statement_time.of(protocol).of(engine)
                });
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

fn sum<S: Scale>(sources: &Sources, of: impl Fn(&Shard) -> &Durations<S>) -> Buckets {
    let mut sum = Buckets {
        bounds: S::BOUNDS,
        counts: [0; MAX_BOUNDS + 1],
        total: 0,
    };
    for times in sources.shards.iter().map(of) {
        for (sum, count) in sum.counts.iter_mut().zip(times.counts()) {
            *sum += count;
        }
        sum.total += times.total();
    }
    sum
}
