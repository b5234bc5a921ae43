//! All metrics in one place, as Prometheus reads them (text exposition format 0.0.4).

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use prometheus::core::{Collector, Desc};
use prometheus::proto::{self, MetricFamily, MetricType};
use prometheus::{Registry, TextEncoder};

use super::families::{CONNECT, FAMILIES, Family, OWN};
use super::metrics::{Counter, Durations, MAX_BOUNDS, Scale, Shard};
use super::reloads::Reloads;

/// What the background tasks know at the moment of a scrape.
#[derive(Debug, Clone, Default)]
pub struct Knowledge {
    /// Key lookups begun, since the start.
    pub key_lookups: u64,
    /// Of these, the ones that failed.
    pub key_lookup_failures: u64,
    /// Questions that the key cache answered, since the start.
    pub key_cache_hits: u64,
    /// Questions that the key cache could not answer, since the start.
    pub key_cache_misses: u64,
    /// Records in the key cache.
    pub key_records: u64,
    /// Answers older than they should be, because lookups fail, since the start.
    pub key_stale_answers: u64,
    /// Records pushed out by the cache's bound, since the start.
    pub key_evictions: u64,
    /// Projects learned to be encrypted from a failure, since the start.
    pub lessons_learned: u64,
    /// Of such lessons, the ones that a lookup contradicted.
    pub lessons_contradicted: u64,
    /// The databases that clients opened.
    pub databases: Vec<Database>,
    /// What is open now.
    pub progress: Progress,
    /// When certificates expire.
    pub certificates: Vec<Certificate>,
}

impl Knowledge {
    /// Adds what another upstream knows.
    pub fn add(&mut self, other: Self) {
        self.key_lookups += other.key_lookups;
        self.key_lookup_failures += other.key_lookup_failures;
        self.key_cache_hits += other.key_cache_hits;
        self.key_cache_misses += other.key_cache_misses;
        self.key_records += other.key_records;
        self.key_stale_answers += other.key_stale_answers;
        self.key_evictions += other.key_evictions;
        self.lessons_learned += other.lessons_learned;
        self.lessons_contradicted += other.lessons_contradicted;
        self.databases.extend(other.databases);
        self.certificates.extend(other.certificates);
    }
}

/// A certificate that Osprey shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// To whom.
    pub shown_to: ShownTo,
    /// Where: a listener's first address, or an upstream's name.
    pub name: String,
    /// When it, or another one of its chain, expires.
    pub expires: SystemTime,
}

/// The label `certificate`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShownTo {
    /// To the clients of a listener.
    Clients,
    /// To an upstream.
    Upstream,
}

impl ShownTo {
    /// The label's value.
    pub fn label(self) -> &'static str {
        match self {
            Self::Clients => "listener",
            Self::Upstream => "upstream_client",
        }
    }
}

/// Connections that are open now, by what they are at.
#[derive(Debug, Clone, Copy, Default)]
pub struct Progress {
    /// They are logged in.
    pub sessions: u64,
    /// They have not said what they want.
    pub greetings: u64,
    /// They are logging in.
    pub logins: u64,
    /// They wait for a cancel request to be forwarded.
    pub cancels: u64,
}

/// What is known of one database.
#[derive(Debug, Clone, Default)]
pub struct Database {
    /// The name of the upstream that has it.
    pub upstream: String,
    /// Its name.
    pub name: String,
    /// How long ago its catalogs were read; `None`: not yet.
    pub snapshot_age: Option<Duration>,
    /// How long a reading of them has been due that has not succeeded; `None`: nobody is to read
    /// them.
    pub overdue: Option<Duration>,
    /// Relations that are protected.
    pub protected_relations: u64,
    /// Readings of its catalogs that succeeded, since the start.
    pub refreshes: u64,
    /// Readings that failed, since the start.
    pub refresh_failures: u64,
}

/// The metrics of this process.
pub struct Metrics {
    sources: Arc<Sources>,
    registry: Registry,
    started: Instant,
}

/// Where the values are.
pub(super) struct Sources {
    pub(super) shards: Vec<Shard>,
    pub(super) codes: Vec<&'static str>,
    pub(super) refusals: Vec<&'static str>,
    pub(super) reloads: Reloads,
    knowledge: OnceLock<Box<dyn Fn() -> Knowledge + Send + Sync>>,
}

impl Metrics {
    /// For `workers` workers. `codes` are the OSP codes that [`Shard::errors_rewritten`] may count
    /// and `refusals` the reasons of [`Shard::retries_refused`]: they are shown from the start,
    /// as 0, so that the first increase is seen as one.
    pub fn new(
        workers: usize,
        codes: impl IntoIterator<Item = &'static str>,
        refusals: impl IntoIterator<Item = &'static str>,
    ) -> Self {
        let shards = (0..workers).map(|_| Shard::default()).collect();
        let sources = Arc::new(Sources {
            shards,
            codes: codes.into_iter().collect(),
            refusals: refusals.into_iter().collect(),
            reloads: Reloads::default(),
            knowledge: OnceLock::new(),
        });
        let registry = Registry::new();
        Exporter::new(Arc::clone(&sources))
            .and_then(|exporter| registry.register(Box::new(exporter)))
            .expect("the families' names and labels are well formed and differ, as a test shows");
        #[cfg(target_os = "linux")]
        registry
            .register(Box::new(
                prometheus::process_collector::ProcessCollector::for_self(),
            ))
            .expect("the process's families start with process_, ours with osprey_");
        Self {
            sources,
            registry,
            started: Instant::now(),
        }
    }

    /// The counters of worker `worker`, counted from 0.
    pub fn shard(&self, worker: usize) -> &Shard {
        &self.sources.shards[worker]
    }

    /// All shards.
    pub fn shards(&self) -> &[Shard] {
        &self.sources.shards
    }

    /// The readings of the configuration.
    pub fn reloads(&self) -> &Reloads {
        &self.sources.reloads
    }

    /// Names whom to ask for [`Knowledge`] at each scrape; the first one counts. It must not wait.
    pub fn ask_knowledge(&self, reader: impl Fn() -> Knowledge + Send + Sync + 'static) {
        // A second reader would be a mistake of the caller's, and harmless: the first one stays.
        let _ = self.sources.knowledge.set(Box::new(reader));
    }

    /// Sessions that are open now.
    pub fn active_sessions(&self) -> u64 {
        self.sources.known().progress.sessions
    }

    /// Since when this process runs.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// The text that `/metrics` answers.
    ///
    /// # Errors
    /// If a family is empty, which the registry has filtered out.
    pub fn render(&self) -> Result<String, prometheus::Error> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

impl Sources {
    fn known(&self) -> Knowledge {
        self.knowledge.get().map(|read| read()).unwrap_or_default()
    }

    pub(super) fn sum(&self, counter: impl Fn(&Shard) -> &Counter) -> u64 {
        self.shards.iter().map(|shard| counter(shard).get()).sum()
    }
}

/// Sums the shards for the registry.
struct Exporter {
    sources: Arc<Sources>,
    descriptions: Vec<Desc>,
}

impl Exporter {
    fn new(sources: Arc<Sources>) -> Result<Self, prometheus::Error> {
        let describe = |name: &str, help: &str, labels: &[&str]| {
            let labels = labels.iter().map(|&label| label.into()).collect();
            Desc::new(name.into(), help.into(), labels, HashMap::new())
        };
        let mut descriptions = FAMILIES
            .iter()
            .map(|family| describe(family.name, family.help, family.labels))
            .collect::<Result<Vec<_>, _>>()?;
        for (name, help) in [CONNECT, OWN] {
            descriptions.push(describe(name, help, &[])?);
        }
        Ok(Self {
            sources,
            descriptions,
        })
    }
}

impl Collector for Exporter {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let knowledge = self.sources.known();
        let mut families: Vec<_> = FAMILIES
            .iter()
            .map(|family| {
                let metrics = (family.read)(&self.sources, &knowledge)
                    .into_iter()
                    .map(|(values, value)| metric(family, &values, value))
                    .collect();
                proto_family(family.name, family.help, family.kind, metrics)
            })
            .collect();
        let shards = self.sources.shards.iter();
        let connects = histogram(shards.clone().map(|shard| &shard.upstream_connect_time));
        let own = histogram(shards.map(|shard| &shard.own_time));
        for ((name, help), metric) in [(CONNECT, connects), (OWN, own)] {
            families.push(proto_family(
                name,
                help,
                MetricType::HISTOGRAM,
                vec![metric],
            ));
        }
        families
    }
}

fn proto_family(
    name: &str,
    help: &str,
    kind: MetricType,
    metrics: Vec<proto::Metric>,
) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.into());
    family.set_help(help.into());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}

fn metric(family: &Family, values: &[String], value: f64) -> proto::Metric {
    let pairs = family.labels.iter().zip(values).map(|(label, value)| {
        let mut pair = proto::LabelPair::default();
        pair.set_name((*label).into());
        pair.set_value(value.clone());
        pair
    });
    let mut metric = proto::Metric::from_label(pairs.collect());
    if family.kind == MetricType::COUNTER {
        let mut counter = proto::Counter::default();
        counter.set_value(value);
        metric.set_counter(counter);
    } else {
        let mut gauge = proto::Gauge::default();
        gauge.set_value(value);
        metric.set_gauge(gauge);
    }
    metric
}

fn histogram<'s, S: Scale>(shards: impl Iterator<Item = &'s Durations<S>>) -> proto::Metric {
    let (mut counts, mut nanoseconds) = ([0; MAX_BOUNDS + 1], 0);
    for shard in shards {
        for (sum, count) in counts.iter_mut().zip(shard.counts()) {
            *sum += count;
        }
        nanoseconds += shard.total();
    }
    let mut below = 0;
    let buckets = S::BOUNDS.iter().zip(counts).map(|(&bound, count)| {
        below += count;
        let mut bucket = proto::Bucket::default();
        bucket.set_upper_bound(seconds(bound));
        bucket.set_cumulative_count(below);
        bucket
    });
    let mut histogram = proto::Histogram::default();
    histogram.set_bucket(buckets.collect());
    histogram.set_sample_count(counts.iter().sum());
    histogram.set_sample_sum(seconds(nanoseconds));
    let mut metric = proto::Metric::default();
    metric.set_histogram(histogram);
    metric
}

fn seconds(nanoseconds: u64) -> f64 {
    Duration::from_nanos(nanoseconds).as_secs_f64()
}

#[cfg(test)]
mod tests;
