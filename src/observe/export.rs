//! All metrics in one place, as Prometheus reads them (text exposition format 0.0.4).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus::core::{Collector, Desc};
use prometheus::proto::{self, MetricFamily, MetricType};
use prometheus::{Registry, TextEncoder};

use super::families::{FAMILIES, Family};
use super::histograms::{self, Buckets, HISTOGRAMS, Times};
use super::metrics::{ConsoleCounts, Shard};
use super::reloads::Reloads;
use super::sources::{Measured, Sources};

/// The metrics of this process.
pub struct Metrics {
    sources: Arc<Sources>,
    registry: Registry,
    started: Instant,
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
        let sources = Arc::new(Sources::new(workers, codes, refusals));
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
    pub fn shard(&self, worker: usize) -> &Arc<Shard> {
        &self.sources.shards[worker]
    }

    /// All shards.
    pub fn shards(&self) -> &[Arc<Shard>] {
        &self.sources.shards
    }

    /// The readings of the configuration.
    pub fn reloads(&self) -> &Reloads {
        &self.sources.reloads
    }

    /// Names whom to ask for [`Measured`] at each scrape; the first one counts. It must not wait.
    pub fn ask_measured(&self, reader: impl Fn() -> Measured + Send + Sync + 'static) {
        self.sources.ask(reader);
    }

    /// Sessions that are open now.
    pub fn active_sessions(&self) -> u64 {
        self.sources.measured().open.sessions
    }

    /// The present value of every counter and gauge: its name, its labels with their values, and the
    /// value. Histograms are not among them.
    pub fn samples(&self) -> Vec<(&'static str, String, f64)> {
        let measured = self.sources.measured();
        let family = |family: &Family| {
            let samples = (family.read)(&self.sources, &measured).into_iter();
            let sample = |(values, value): (Vec<String>, f64)| {
                let pairs = family.labels.iter().zip(values);
                let labels: Vec<_> = pairs
                    .map(|(label, value)| format!("{label}={value}"))
                    .collect();
                (family.name, labels.join(","), value)
            };
            samples.map(sample).collect::<Vec<_>>()
        };
        FAMILIES.iter().flat_map(family).collect()
    }

    /// What the console has done.
    pub fn console(&self) -> &ConsoleCounts {
        &self.sources.console
    }

    /// Since when this process runs.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// How long statements have taken, by engine.
    pub fn latency(&self) -> Vec<(&'static str, Times)> {
        histograms::latency(&self.sources)
    }

    /// The text that `/metrics` answers.
    ///
    /// # Errors
    /// If a family is empty, which the registry has filtered out.
    pub fn render(&self) -> Result<String, prometheus::Error> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
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
        for histogram in HISTOGRAMS {
            descriptions.push(describe(histogram.name, histogram.help, histogram.labels)?);
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
        let measured = self.sources.measured();
        let mut families: Vec<_> = FAMILIES
            .iter()
            .map(|family| {
                let metrics = (family.read)(&self.sources, &measured)
                    .into_iter()
                    .map(|(values, value)| metric(family, &values, value))
                    .collect();
                proto_family(family.name, family.help, family.kind, metrics)
            })
            .collect();
        for known in HISTOGRAMS {
            let series = (known.read)(&self.sources).into_iter();
            let metrics = series.map(|(values, times)| histogram(known.labels, &values, &times));
            families.push(proto_family(
                known.name,
                known.help,
                MetricType::HISTOGRAM,
                metrics.collect(),
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

fn labelled(labels: &[&str], values: &[String]) -> proto::Metric {
    let pairs = labels.iter().zip(values).map(|(label, value)| {
        let mut pair = proto::LabelPair::default();
        pair.set_name((*label).into());
        pair.set_value(value.clone());
        pair
    });
    proto::Metric::from_label(pairs.collect())
}

fn metric(family: &Family, values: &[String], value: f64) -> proto::Metric {
    let mut metric = labelled(family.labels, values);
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

fn histogram(labels: &[&str], values: &[String], times: &Buckets) -> proto::Metric {
    let mut below = 0;
    let buckets = times
        .bounds
        .iter()
        .zip(times.counts)
        .map(|(&bound, count)| {
            below += count;
            let mut bucket = proto::Bucket::default();
            bucket.set_upper_bound(seconds(bound));
            bucket.set_cumulative_count(below);
            bucket
        });
    let mut histogram = proto::Histogram::default();
    histogram.set_bucket(buckets.collect());
    histogram.set_sample_count(times.counts.iter().sum());
    histogram.set_sample_sum(seconds(times.total));
    let mut metric = labelled(labels, values);
    metric.set_histogram(histogram);
    metric
}

fn seconds(nanoseconds: u64) -> f64 {
    Duration::from_nanos(nanoseconds).as_secs_f64()
}

#[cfg(test)]
mod tests;
