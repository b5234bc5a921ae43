//! The table of metric families: name, text, labels, and where the values come from. Names end in
//! `_total` for counters and carry base units, as Prometheus' naming guide asks.

// Prometheus' values are f64: counts are exact up to 2^53.
#![allow(clippy::cast_precision_loss)]

use std::collections::BTreeMap;
use std::time::SystemTime;

use prometheus::proto::MetricType::{self, COUNTER, GAUGE};

use super::logs;
use super::metrics::{CloseReason, Counter, Kind, Kinds, Labels, Limit, Reload, Shard};
use super::sources::{
    Certificate, Measured, MeasuredDatabase, MeasuredLimit, MeasuredProject, MeasuredReplicas,
    Sources,
};

/// The samples of a family: for each, the values of the labels, and the sample's value.
pub(super) type Samples = Vec<(Vec<String>, f64)>;

/// One family of counters or gauges.
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) kind: MetricType,
    pub(super) labels: &'static [&'static str],
    pub(super) read: fn(&Sources, &Measured) -> Samples,
}

const fn counter(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
    read: fn(&Sources, &Measured) -> Samples,
) -> Family {
    Family {
        name,
        help,
        kind: COUNTER,
        labels,
        read,
    }
}

const fn gauge(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
    read: fn(&Sources, &Measured) -> Samples,
) -> Family {
    Family {
        name,
        help,
        kind: GAUGE,
        labels,
        read,
    }
}

/// Every family but the [histograms](super::histograms).
pub(super) const FAMILIES: &[Family] = &[
    gauge(
        "osprey_build_info",
        &["version"],
        "1, with the version that runs.",
        |_, _| vec![(vec![env!("CARGO_PKG_VERSION").into()], 1.0)],
    ),
    counter(
        "osprey_log_lines_lost_total",
        &[],
        "Log lines that standard error did not take, or not fast enough.",
        |_, _| one(logs::lost()),
    ),
    counter(
        "osprey_config_reloads_total",
        &["outcome"],
        "Readings of the configuration while Osprey runs.",
        |sources, _| {
            let outcomes = Reload::ALL.iter();
            let sample = |&outcome: &Reload| {
                let count = sources.reloads.of(outcome) as f64;
                (vec![outcome.label().into()], count)
            };
            outcomes.map(sample).collect()
        },
    ),
    gauge(
        "osprey_config_last_reload_successful",
        &[],
        "1 if the configuration that was read last is in force, else 0.",
        |sources, _| one(u64::from(sources.reloads.last().0)),
    ),
    gauge(
        "osprey_config_last_reload_success_timestamp_seconds",
        &[],
        "When the configuration that is in force was read.",
        |sources, _| vec![(Vec::new(), since_epoch(sources.reloads.last().1))],
    ),
    gauge(
        "osprey_tls_certificate_expiry_timestamp_seconds",
        &["certificate", "name"],
        "When a certificate that Osprey shows expires, or another one of its chain.",
        |_, measured| {
            let all = measured.certificates.iter();
            let sample = |one: &Certificate| {
                let labels = vec![one.shown_to.label().into(), one.name.clone()];
                (labels, since_epoch(one.expires))
            };
            all.map(sample).collect()
        },
    ),
    counter(
        "osprey_console_logins_total",
        &["outcome"],
        "Connections to the console; \"limited\": too many of them.",
        |sources, _| {
            let counts = &sources.console.logins;
            each(|kind| counts.of(kind).get())
        },
    ),
    counter(
        "osprey_console_commands_total",
        &["outcome"],
        "Statements on the console: those that show something, those that change something, and those that failed.",
        |sources, _| {
            let counts = &sources.console.commands;
            each(|kind| counts.of(kind).get())
        },
    ),
    // Sessions.
    gauge(
        "osprey_sessions",
        &[],
        "Sessions that are logged in now.",
        |_, measured| one(measured.open.sessions),
    ),
    counter(
        "osprey_sessions_opened_total",
        &[],
        "Sessions begun, whether or not their login succeeded.",
        |sources, _| summed(sources, |shard| &shard.sessions_opened),
    ),
    counter(
        "osprey_sessions_closed_total",
        &["reason"],
        "Sessions ended.",
        |sources, _| kinds(sources, |shard| &shard.sessions_closed),
    ),
    counter(
        "osprey_sessions_refused_total",
        &["limit"],
        "Connections refused, by the setting that refused them; \"draining\": Osprey was shutting down.",
        |sources, _| labels(sources, Limit::NAMES, |shard| &shard.sessions_refused),
    ),
    gauge(
        "osprey_worker_sessions",
        &["worker"],
        "Sessions that a worker serves now, logins included; new ones go to the worker with the fewest.",
        |sources, _| {
            by_worker(sources, |shard| {
                let closed = CloseReason::ALL.iter();
                let closed: u64 = closed
                    .map(|&reason| shard.sessions_closed.of(reason).get())
                    .sum();
                shard.sessions_opened.get().saturating_sub(closed)
            })
        },
    ),
    counter(
        "osprey_worker_cycles_total",
        &["worker"],
        "Cycles of statements that a worker's sessions have ended.",
        |sources, _| by_worker(sources, |shard| shard.cycles.get()),
    ),
    gauge(
        "osprey_paused",
        &[],
        "1 while PAUSE holds the sessions of a database back, or those of all.",
        |_, measured| one(u64::from(measured.paused)),
    ),
    gauge(
        "osprey_held_sessions",
        &[],
        "Sessions that are held: they begin no transaction.",
        |_, measured| one(measured.held_sessions),
    ),
    gauge(
        "osprey_predecessors",
        &[],
        "Processes that this one has taken over from and that serve their last sessions.",
        |_, measured| one(measured.predecessors),
    ),
    gauge(
        "osprey_predecessor_sessions",
        &[],
        "Sessions that these have.",
        |_, measured| one(measured.predecessor_sessions),
    ),
    gauge(
        "osprey_greetings",
        &[],
        "Connections that have not said yet what they want.",
        |_, measured| one(measured.open.greetings),
    ),
    gauge(
        "osprey_logins",
        &[],
        "Logins in progress.",
        |_, measured| one(measured.open.logins),
    ),
    gauge(
        "osprey_cancels",
        &[],
        "Cancel requests on their way to Hologres.",
        |_, measured| one(measured.open.cancels),
    ),
    counter(
        "osprey_proxy_headers_total",
        &["outcome"],
        "Connections on listeners that take PROXY headers.",
        |sources, _| kinds(sources, |shard| &shard.proxy_headers),
    ),
    counter(
        "osprey_login_failures_total",
        &[],
        "Logins that Hologres refused.",
        |sources, _| summed(sources, |shard| &shard.login_failures),
    ),
    counter(
        "osprey_upstream_connect_failures_total",
        &[],
        "Connects to Hologres that failed.",
        |sources, _| summed(sources, |shard| &shard.upstream_connect_failures),
    ),
    counter(
        "osprey_cancel_requests_total",
        &["outcome"],
        "Cancel requests of clients.",
        |sources, _| kinds(sources, |shard| &shard.cancel_requests),
    ),
    counter(
        "osprey_bytes_total",
        &["direction"],
        "Bytes forwarded.",
        |sources, _| kinds(sources, |shard| &shard.bytes),
    ),
    // Statements.
    counter(
        "osprey_statements_total",
        &["protocol"],
        "Query and Execute messages that clients sent.",
        |sources, _| kinds(sources, |shard| &shard.statements),
    ),
    counter(
        "osprey_protected_statements_total",
        &[],
        "Statements that touch encrypted MaxCompute data.",
        |sources, _| summed(sources, |shard| &shard.protected_statements),
    ),
    counter(
        "osprey_statement_timeouts_total",
        &[],
        "Statements that Osprey cancelled for limits.statement_timeout.",
        |sources, _| summed(sources, |shard| &shard.statement_timeouts),
    ),
    counter(
        "osprey_cycles_total",
        &[],
        "Clients' cycles ended by ReadyForQuery.",
        |sources, _| summed(sources, |shard| &shard.cycles),
    ),
    counter(
        "osprey_injections_total",
        &["kind"],
        "SETs of Osprey's own, by how they were sent.",
        |sources, _| kinds(sources, |shard| &shard.injections),
    ),
    counter(
        "osprey_injection_failures_total",
        &[],
        "SETs of Osprey's own that Hologres refused.",
        |sources, _| summed(sources, |shard| &shard.injection_failures),
    ),
    counter(
        "osprey_protected_statements_by_total",
        &["known_by"],
        "Statements that touch encrypted data, by how that was known.",
        |sources, _| kinds(sources, |shard| &shard.known_by),
    ),
    counter(
        "osprey_unsteered_statements_total",
        &[],
        "Statements that touch encrypted data, in front of which no SET could be sent.",
        |sources, _| summed(sources, |shard| &shard.unsteered_statements),
    ),
    counter(
        "osprey_relay_only_sessions_total",
        &[],
        "Sessions that were only relayed from some point on, as the order of messages was ambiguous.",
        |sources, _| summed(sources, |shard| &shard.relay_only_sessions),
    ),
    counter(
        "osprey_client_route_sessions_total",
        &[],
        "Sessions whose client set the engine itself.",
        |sources, _| summed(sources, |shard| &shard.client_route_sessions),
    ),
    counter(
        "osprey_errors_rewritten_total",
        &["code"],
        "Errors of Hologres' rewritten into advice, by code (docs/errors.md).",
        |sources, _| labels(sources, &sources.codes, |shard| &shard.errors_rewritten),
    ),
    counter(
        "osprey_would_steer_statements_total",
        &[],
        "Statements that would have run on the engine for encrypted data, were sessions not only observed.",
        |sources, _| summed(sources, |shard| &shard.would_steer),
    ),
    counter(
        "osprey_would_rewrite_errors_total",
        &["code"],
        "Errors of Hologres' that would have been rewritten, or spared the client, by code.",
        |sources, _| labels(sources, &sources.codes, |shard| &shard.would_rewrite),
    ),
    counter(
        "osprey_retries_total",
        &[],
        "Statements run again after they failed.",
        |sources, _| summed(sources, |shard| &shard.retries),
    ),
    counter(
        "osprey_retried_writes_total",
        &[],
        "Statements among `osprey_retries_total` that write.",
        |sources, _| summed(sources, |shard| &shard.retried_writes),
    ),
    counter(
        "osprey_retries_refused_total",
        &["reason"],
        "Statements that failed on encrypted data and could not be run again.",
        |sources, _| labels(sources, &sources.refusals, |shard| &shard.retries_refused),
    ),
    // Knowledge.
    counter(
        "osprey_key_lookups_total",
        &[],
        "Lookups of a project's encryption.",
        |_, k| one(k.key_lookups),
    ),
    counter(
        "osprey_key_lookup_failures_total",
        &[],
        "Lookups that failed.",
        |_, k| one(k.key_lookup_failures),
    ),
    counter(
        "osprey_key_cache_requests_total",
        &["outcome"],
        "Questions put to the key cache.",
        |_, k| outcomes(("hit", k.key_cache_hits), ("miss", k.key_cache_misses)),
    ),
    gauge(
        "osprey_key_cache_records",
        &[],
        "Records in the key cache.",
        |_, measured| one(measured.key_records),
    ),
    counter(
        "osprey_key_cache_stale_answers_total",
        &[],
        "Answers older than they should be, because lookups fail.",
        |_, k| one(k.key_stale_answers),
    ),
    counter(
        "osprey_key_cache_evictions_total",
        &[],
        "Records pushed out by keys.capacity.",
        |_, k| one(k.key_evictions),
    ),
    // Replicas.
    gauge(
        "osprey_replicas_connected",
        &[],
        "1 if the Redis through which replicas share what they know answers, else 0; only with [replicas].",
        |_, k| {
            replicas(k, |replicas| {
                vec![(vec![], f64::from(u8::from(replicas.connected)))]
            })
        },
    ),
    gauge(
        "osprey_replicas_seen",
        &[],
        "Replicas that were there within the last 15 seconds, this one among them; only with [replicas].",
        |_, k| replicas(k, |replicas| one(replicas.seen)),
    ),
    counter(
        "osprey_replica_operations_total",
        &["outcome"],
        "Questions to the replicas' Redis.",
        |_, k| replicas(k, |replicas| by_label(&replicas.operations)),
    ),
    counter(
        "osprey_replica_facts_total",
        &["direction"],
        "Facts that other replicas found and this one took in (received), and that it passed on (sent).",
        |_, k| {
            replicas(k, |replicas| {
                outcomes(("received", replicas.received), ("sent", replicas.sent))
            })
        },
    ),
    counter(
        "osprey_replica_records_refused_total",
        &["reason"],
        "Records of the replicas' Redis that were not believed.",
        |_, k| replicas(k, |replicas| by_label(&replicas.refused)),
    ),
    counter(
        "osprey_replica_lookups_total",
        &["outcome"],
        "Lookups of projects that this replica has not in its own cache.",
        |_, k| replicas(k, |replicas| by_label(&replicas.lookups)),
    ),
    gauge(
        "osprey_encrypted_projects",
        &["upstream", "key_state"],
        "Encrypted MaxCompute projects that are known, by the state of their KMS key.",
        |_, k| {
            let mut counts = BTreeMap::new();
            for project in &k.projects {
                *counts
                    .entry((&project.upstream, project.key_state))
                    .or_insert(0) += 1;
            }
            let sample = |((upstream, state), count): ((&String, &str), i32)| {
                (vec![upstream.clone(), state.into()], f64::from(count))
            };
            counts.into_iter().map(sample).collect()
        },
    ),
    gauge(
        "osprey_project_key_age_seconds",
        &["upstream", "project", "key_state"],
        "How long ago the key of an encrypted project was looked up; of the 100 projects that were last.",
        |_, k| projects(k, |project| Some(project.age.as_secs_f64()), true),
    ),
    gauge(
        "osprey_project_key_material_expiry_timestamp_seconds",
        &["upstream", "project"],
        "When the imported material of a project's KMS key expires; of the 100 projects where it does first.",
        |_, k| {
            projects(
                k,
                |project| project.material_expires.map(since_epoch),
                false,
            )
        },
    ),
    gauge(
        "osprey_limit_places",
        &["limit"],
        "What may be open at a time, by the setting that says so.",
        |_, k| limits(k, |limit| limit.most),
    ),
    gauge(
        "osprey_limit_places_taken",
        &["limit"],
        "What is open of it; of a limit for each user or database, by whoever has the most.",
        |_, k| limits(k, |limit| limit.taken),
    ),
    counter(
        "osprey_lessons_total",
        &["outcome"],
        "Projects on whose data HQE failed: believed, or contradicted by a lookup.",
        |_, k| {
            outcomes(
                ("learned", k.lessons_learned),
                ("contradicted", k.lessons_contradicted),
            )
        },
    ),
    gauge(
        "osprey_catalog_protected_relations",
        &["upstream", "database"],
        "Relations known to lead to encrypted data.",
        |_, measured| databases(measured, |db| Some(db.protected_relations as f64)),
    ),
    gauge(
        "osprey_catalog_snapshot_age_seconds",
        &["upstream", "database"],
        "How long ago the database's catalogs were read.",
        |_, measured| databases(measured, |db| Some(db.snapshot_age?.as_secs_f64())),
    ),
    gauge(
        "osprey_catalog_reading_overdue_seconds",
        &["upstream", "database"],
        "How long a reading of the database's catalogs has been due and has not succeeded; 0: none is due.",
        |_, measured| databases(measured, |db| Some(db.overdue?.as_secs_f64())),
    ),
    counter(
        "osprey_catalog_refreshes_total",
        &["upstream", "database"],
        "Readings of a database's catalogs that succeeded.",
        |_, measured| databases(measured, |db| Some(db.refreshes as f64)),
    ),
    counter(
        "osprey_catalog_refresh_failures_total",
        &["upstream", "database"],
        "Readings of a database's catalogs that failed.",
        |_, measured| databases(measured, |db| Some(db.refresh_failures as f64)),
    ),
];

/// In seconds, as Prometheus has times.
fn since_epoch(time: SystemTime) -> f64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_secs_f64()
}

fn one(value: u64) -> Samples {
    vec![(Vec::new(), value as f64)]
}

fn summed(sources: &Sources, counter: impl Fn(&Shard) -> &Counter) -> Samples {
    one(sources.sum(counter))
}

fn by_worker(sources: &Sources, count: impl Fn(&Shard) -> u64) -> Samples {
    let sample = |(worker, shard): (usize, &Shard)| (vec![worker.to_string()], count(shard) as f64);
    sources.shards().enumerate().map(sample).collect()
}

fn kinds<K: Kind, const N: usize>(
    sources: &Sources,
    of: impl Fn(&Shard) -> &Kinds<K, N>,
) -> Samples {
    each(|kind| sources.sum(|s| of(s).of(kind)))
}

fn each<K: Kind>(count: impl Fn(K) -> u64) -> Samples {
    let sample = |&kind: &K| (vec![kind.label().into()], count(kind) as f64);
    K::ALL.iter().map(sample).collect()
}

fn labels(sources: &Sources, known: &[&'static str], of: impl Fn(&Shard) -> &Labels) -> Samples {
    let mut sums: BTreeMap<&str, u64> = known.iter().map(|&label| (label, 0)).collect();
    for shard in &sources.shards {
        of(shard).sum_into(&mut sums);
    }
    sums.into_iter()
        .map(|(label, sum)| (vec![label.into()], sum as f64))
        .collect()
}

fn replicas(measured: &Measured, samples: impl FnOnce(&MeasuredReplicas) -> Samples) -> Samples {
    measured.replicas.as_ref().map(samples).unwrap_or_default()
}

fn by_label(counts: &[(&'static str, u64)]) -> Samples {
    let sample = |(label, count): &(&str, u64)| (vec![(*label).to_owned()], *count as f64);
    counts.iter().map(sample).collect()
}

fn outcomes(one: (&str, u64), other: (&str, u64)) -> Samples {
    [one, other]
        .map(|(outcome, count)| (vec![outcome.into()], count as f64))
        .into()
}

fn databases(measured: &Measured, value: impl Fn(&MeasuredDatabase) -> Option<f64>) -> Samples {
    let sample = |database: &MeasuredDatabase| {
        let labels = vec![database.upstream.clone(), database.name.clone()];
        Some((labels, value(database)?))
    };
    let all = measured.databases.iter().filter_map(sample);
    all.take(MAX_SERIES).collect()
}

/// Databases, and projects, that have a series of their own.
const MAX_SERIES: usize = 100;

/// A value of each project that has one: the smallest first, up to a bound.
fn projects(
    measured: &Measured,
    value: impl Fn(&MeasuredProject) -> Option<f64>,
    with_state: bool,
) -> Samples {
    let sample = |project: &MeasuredProject| {
        let mut labels = vec![project.upstream.clone(), project.project.clone()];
        labels.extend(with_state.then(|| project.key_state.to_owned()));
        Some((labels, value(project)?))
    };
    let mut samples: Samples = measured.projects.iter().filter_map(sample).collect();
    samples.sort_by(|(one, a), (other, b)| a.total_cmp(b).then_with(|| one.cmp(other)));
    samples.truncate(MAX_SERIES);
    samples
}

fn limits(measured: &Measured, value: impl Fn(&MeasuredLimit) -> usize) -> Samples {
    let sample = |limit: &MeasuredLimit| (vec![limit.setting.clone()], value(limit) as f64);
    measured.limits.iter().map(sample).collect()
}
