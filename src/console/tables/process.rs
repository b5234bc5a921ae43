//! The process: what it has done, its limits, its configuration.

use super::super::table::{Table, column};
use super::super::value::Type::{Bool, Float, Int, Text};
use super::super::value::{Row, Value};
use super::super::world::View;
use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::{Settings, waits_for_restart};
use crate::keys::cloud::timestamp;
use crate::observe::{MeasuredLimit, Rewritten, Times, logs};

pub(super) static STATEMENTS: Table = Table {
    name: "statements",
    about: "Statements since the start, by what became of them; no text of any is kept",
    columns: &[
        column(
            "what",
            Text,
            "the metric, without `osprey_` and `_total`, and its labels",
        ),
        column("count", Int, "how many, since the start"),
    ],
    rows: statements,
};

pub(super) static ADVICE: Table = Table {
    name: "advice",
    about: "The errors that were rewritten last, the last one first; no text of any statement is kept",
    columns: &[
        column("at", Text, "when"),
        column("code", Text, "the code, as in docs/errors.md"),
        column("database", Text, "the database"),
        column("user", Text, "whose statement it was"),
        column("relation", Text, "the relation, if it is known which one"),
        column("project", Text, "the MaxCompute project, if it is known"),
        column(
            "not_retried",
            Text,
            "why the statement was not run again; NULL: that would not have helped",
        ),
    ],
    rows: advice,
};

pub(super) static LATENCY: Table = Table {
    name: "latency",
    about: "How long statements have taken since the start, by what reads MaxCompute's data",
    columns: &[
        column("engine", Text, "`local`, `hqe` or `sqe`"),
        column("statements", Int, "how many"),
        column("mean", Float, "seconds; NULL: there were none"),
        column(
            "half",
            Float,
            "half of them took no longer: a bound of the histogram, in seconds",
        ),
        column("most", Float, "the same of 99 of 100"),
    ],
    rows: latency,
};

pub(super) static LIMITS: Table = Table {
    name: "limits",
    about: "How many there may be of what, and how many there are",
    columns: &[
        column("setting", Text, "the setting's key"),
        column("limit_value", Int, "how many there may be"),
        column(
            "per_address",
            Int,
            "how many of one client address; NULL: as many as together",
        ),
        column(
            "taken",
            Int,
            "how many there are; of a limit for each user or database, how many whoever has the most has",
        ),
    ],
    rows: limits,
};

pub(super) static REPLICAS: Table = Table {
    name: "replicas",
    about: "The replicas that share what they know; none without [replicas]",
    columns: &[
        column("replica", Text, "its name: its host's, and a number"),
        column("this", Bool, "it is this one"),
        column(
            "last_seen",
            Float,
            "seconds since it was last there, as its clock says",
        ),
        column(
            "connected",
            Bool,
            "the Redis answers this replica; else this is what was seen last",
        ),
    ],
    rows: replicas,
};

pub(super) static STATS: Table = Table {
    name: "stats",
    about: "Every counter and gauge, as /metrics has them",
    columns: &[
        column("name", Text, "the metric"),
        column("labels", Text, "its labels with their values"),
        column("value", Float, "its value"),
    ],
    rows: stats,
};

pub(super) static CONFIG: Table = Table {
    name: "config",
    about: "The settings in force; passwords and verifiers are left out",
    columns: &[
        column("section", Text, "the section of the configuration file"),
        column("key", Text, "the setting"),
        column(
            "value",
            Text,
            "its value, as the file would have it; NULL: it has none",
        ),
        column(
            "next_start",
            Text,
            "the value that it has from the next start on, since it is read at a start alone; NULL: the \
             same",
        ),
    ],
    rows: config,
};

pub(super) static VERSION: Table = Table {
    name: "version",
    about: "The version that runs, and since when",
    columns: &[
        column("version", Text, "Osprey's version"),
        column("uptime", Float, "seconds since the start"),
        column("pid", Int, "the process"),
        column("log", Text, "the log filter in force"),
    ],
    rows: version,
};

/// The metrics that count statements.
const OF_STATEMENTS: &[&str] = &[
    "osprey_statements_total",
    "osprey_protected_statements_total",
    "osprey_unsteered_statements_total",
    "osprey_injections_total",
    "osprey_injection_failures_total",
    "osprey_retries_total",
    "osprey_retries_refused_total",
    "osprey_errors_rewritten_total",
    "osprey_would_steer_statements_total",
    "osprey_would_rewrite_errors_total",
];

fn statements(view: &View) -> Vec<Row> {
    let samples = view.shared.metrics.samples().into_iter();
    let of_statements = samples.filter(|(name, ..)| OF_STATEMENTS.contains(name));
    let row = |(name, labels, value): (&str, String, f64)| {
        let name = name
            .trim_start_matches("osprey_")
            .trim_end_matches("_total");
        let what = format!("{name} {labels}").trim_end().to_owned();
        #[allow(clippy::cast_possible_truncation)] // A counter, below 2^53.
        let count = value as i64;
        vec![Value::Text(what), Value::Int(count)]
    };
    of_statements.map(row).collect()
}

fn advice(view: &View) -> Vec<Row> {
    let row = |one: Rewritten| {
        vec![
            Value::Text(timestamp::format(one.at)),
            Value::Text(one.code.to_owned()),
            Value::Text(one.database),
            Value::Text(one.user),
            Value::text_or_null(one.relation),
            Value::text_or_null(one.project),
            Value::text_or_null(one.not_retried),
        ]
    };
    view.shared.rewritten.list().into_iter().map(row).collect()
}

fn latency(view: &View) -> Vec<Row> {
    let row = |(engine, times): (&str, Times)| {
        let seconds = |time: Option<Duration>| time.map_or(Value::Null, Value::seconds);
        vec![
            Value::Text(engine.to_owned()),
            Value::count(times.count),
            seconds(times.mean),
            seconds(times.half),
            seconds(times.most),
        ]
    };
    view.shared.metrics.latency().into_iter().map(row).collect()
}

fn replicas(view: &View) -> Vec<Row> {
    let upstreams = view.shared.upstreams.load();
    let Some(fleet) = upstreams.fleet() else {
        return Vec::new();
    };
    let mut replicas = fleet.replicas();
    replicas.sort();
    let is_connected = fleet.counts().is_connected();
    let row = |(name, age): (String, Duration)| {
        let is_this = *name == **fleet.by();
        vec![
            Value::Text(name),
            Value::Bool(is_this),
            Value::seconds(age),
            Value::Bool(is_connected),
        ]
    };
    replicas.into_iter().map(row).collect()
}

fn limits(view: &View) -> Vec<Row> {
    let settings = view.shared.settings.load();
    let upstreams = view.upstreams();
    let of_upstreams = upstreams
        .iter()
        .map(|upstream| (upstream.name(), upstream.settings().max_sessions));
    let admission = &view.shared.admission;
    let row = |limit: MeasuredLimit| {
        vec![
            Value::Text(limit.setting),
            Value::count(limit.most),
            limit.per_address.map_or(Value::Null, Value::count),
            Value::count(limit.taken),
        ]
    };
    let all = admission.limits(&settings.limits, of_upstreams);
    all.into_iter().map(row).collect()
}

fn stats(view: &View) -> Vec<Row> {
    let samples = view.shared.metrics.samples().into_iter();
    let row = |(name, labels, value): (&str, String, f64)| {
        let name = Value::Text(name.to_owned());
        vec![name, Value::Text(labels), Value::Float(value)]
    };
    samples.map(row).collect()
}

fn config(view: &View) -> Vec<Row> {
    let (started, latest) = (&view.shared.started, view.shared.settings.load());
    let waiting = waits_for_restart(started, &latest);
    let waits = |section: &str, key: &str| {
        // Each listener has its own addresses.
        let section = if section == "listener" {
            "listen"
        } else {
            section
        };
        waiting.contains(&section) || waiting.contains(&&*format!("{section}.{key}"))
    };
    let mut old = written(started);
    old.retain(|(section, key, _), _| waits(section, key));
    let mut rows = Vec::new();
    for (name, value) in written(&latest) {
        let (section, key, _) = &name;
        let (now, next) = if waits(section, key) {
            let before = old.remove(&name);
            let changed = before.as_ref() != Some(&value);
            (before, changed.then_some(value))
        } else {
            (Some(value), None)
        };
        rows.push((name, now, next));
    }
    let gone = old
        .into_iter()
        .map(|(name, value)| (name, Some(value), Some("none".to_owned())));
    rows.extend(gone);
    let text = |value: Option<String>| Value::text_or_null(value);
    rows.into_iter()
        .map(|((section, key, _), now, next)| {
            vec![
                Value::Text(section),
                Value::Text(key),
                text(now),
                text(next),
            ]
        })
        .collect()
}

/// The settings as a file has them: by section, key, and which of several sections of one name it is.
fn written(settings: &Settings) -> BTreeMap<(String, String, usize), String> {
    let mut sections: BTreeMap<String, usize> = BTreeMap::new();
    let (mut section, mut nth) = (String::new(), 0);
    let mut all = BTreeMap::new();
    for line in settings.to_string().lines() {
        if line.starts_with('[') {
            line.trim_matches(['[', ']']).clone_into(&mut section);
            let seen = sections.entry(section.clone()).or_default();
            (nth, *seen) = (*seen, *seen + 1);
        } else if let Some((key, value)) = line.split_once(" = ")
            && !line.starts_with('#')
        {
            let name = (section.clone(), key.to_owned(), nth);
            all.insert(name, value.to_owned());
        }
    }
    all
}

fn version(view: &View) -> Vec<Row> {
    vec![vec![
        Value::Text(env!("CARGO_PKG_VERSION").to_owned()),
        Value::seconds(view.shared.metrics.started().elapsed()),
        Value::count(std::process::id()),
        Value::text_or_null(logs::filter()),
    ]]
}
