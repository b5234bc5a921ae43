//! What a scrape shows of what was counted.

use std::time::SystemTime;

use super::*;
use crate::observe::metrics::{CloseReason, Injection, Protocol};
use crate::observe::sources::{
    Certificate, MeasuredDatabase, MeasuredLimit, MeasuredProject, MeasuredReplicas,
    OpenConnections, ShownTo,
};

/// Metrics with every family filled.
pub(crate) fn filled() -> Metrics {
    let metrics = Metrics::new(2, ["OSP-1", "OSP-2"], ["writes", "rows_sent"]);
    for worker in 0..2 {
        let shard = metrics.shard(worker);
        shard.sessions_opened.add(3);
        shard.sessions_closed.of(CloseReason::Client).inc();
        shard.statements.of(Protocol::Simple).add(10);
        shard.injections.of(Injection::OwnQuery).inc();
        shard.errors_rewritten.inc("OSP-2");
        shard
            .upstream_connect_time
            .observe(Duration::from_millis(3));
    }
    metrics.ask_measured(|| Measured {
        key_lookups: 4,
        key_cache_hits: 40,
        databases: vec![
            MeasuredDatabase {
                upstream: "default".into(),
                name: "say \"dw\"\\\n".into(),
                snapshot_age: Some(Duration::from_millis(1500)),
                overdue: Some(Duration::ZERO),
                protected_relations: 7,
                ..MeasuredDatabase::default()
            },
            MeasuredDatabase {
                upstream: "default".into(),
                name: "new".into(),
                ..MeasuredDatabase::default()
            },
        ],
        open: OpenConnections {
            sessions: 4,
            ..OpenConnections::default()
        },
        certificates: vec![Certificate {
            shown_to: ShownTo::Clients,
            name: "127.0.0.1:6432".into(),
            expires: SystemTime::UNIX_EPOCH + Duration::from_secs(2_000_000_000),
        }],
        projects: vec![MeasuredProject {
            upstream: "default".into(),
            project: "sales".into(),
            key_state: "Enabled",
            age: Duration::from_mins(1),
            material_expires: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(2_000_000_000)),
        }],
        limits: vec![MeasuredLimit {
            setting: "limits.max_sessions".into(),
            most: 100,
            per_address: None,
            taken: 4,
        }],
        replicas: Some(MeasuredReplicas {
            connected: true,
            seen: 3,
            operations: vec![("answered", 5)],
            refused: vec![("forged", 1)],
            lookups: vec![("leased", 2)],
            ..MeasuredReplicas::default()
        }),
        ..Measured::default()
    });
    metrics
}

/// The value of one sample line.
fn value<'t>(text: &'t str, sample: &str) -> &'t str {
    text.lines()
        .find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '))
        .unwrap_or_else(|| panic!("no {sample} in:\n{text}"))
}

#[test]
fn shards_are_summed() {
    let text = filled().render().unwrap();
    assert_eq!(value(&text, "osprey_sessions_opened_total"), "6");
    assert_eq!(value(&text, "osprey_sessions"), "4");
    assert_eq!(
        value(&text, "osprey_sessions_closed_total{reason=\"client\"}"),
        "2"
    );
    assert_eq!(
        value(&text, "osprey_sessions_closed_total{reason=\"timeout\"}"),
        "0"
    );
    assert_eq!(
        value(&text, "osprey_statements_total{protocol=\"simple\"}"),
        "20"
    );
    assert_eq!(
        value(&text, "osprey_errors_rewritten_total{code=\"OSP-1\"}"),
        "0"
    );
    assert_eq!(
        value(&text, "osprey_errors_rewritten_total{code=\"OSP-2\"}"),
        "2"
    );
    assert_eq!(
        value(&text, "osprey_key_cache_requests_total{outcome=\"hit\"}"),
        "40"
    );
}

#[test]
fn a_certificates_end_is_told_in_seconds_since_the_epoch() {
    let text = filled().render().unwrap();
    let sample = "osprey_tls_certificate_expiry_timestamp_seconds\
                  {certificate=\"listener\",name=\"127.0.0.1:6432\"}";
    assert_eq!(value(&text, sample), "2000000000");
}

#[test]
fn the_histogram_is_cumulative_in_seconds() {
    let text = filled().render().unwrap();
    let name = "osprey_upstream_connect_seconds";
    let bucket = |le: &str| value(&text, &format!("{name}_bucket{{le=\"{le}\"}}"));
    assert_eq!(
        (bucket("0.0025"), bucket("0.005"), bucket("10")),
        ("0", "2", "2")
    );
    assert_eq!(bucket("+Inf"), "2");
    assert_eq!(value(&text, &format!("{name}_count")), "2");
    assert_eq!(value(&text, &format!("{name}_sum")), "0.006");
}

#[test]
fn knowledge_is_asked_at_each_scrape_and_escaped() {
    let text = filled().render().unwrap();
    let labels = "{upstream=\"default\",database=\"say \\\"dw\\\"\\\\\\n\"}";
    assert_eq!(
        value(
            &text,
            &format!("osprey_catalog_snapshot_age_seconds{labels}")
        ),
        "1.5"
    );
    assert_eq!(
        value(
            &text,
            "osprey_catalog_protected_relations{upstream=\"default\",database=\"new\"}"
        ),
        "0"
    );
    assert!(
        !text
            .contains("osprey_catalog_snapshot_age_seconds{upstream=\"default\",database=\"new\"}")
    );
}

/// The rules of the format and of `promtool check metrics`, as far as they can be checked on text.
#[test]
fn the_exposition_is_valid_and_well_named() {
    let text = filled().render().unwrap();
    assert!(text.ends_with('\n'));
    let (mut family, mut kind) = (String::new(), String::new());
    let mut seen = std::collections::BTreeSet::new();
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').unwrap();
            assert!(seen.insert(name.to_owned()), "{name} twice");
            assert!(!help.is_empty());
            family = name.to_owned();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, found) = rest.split_once(' ').unwrap();
            assert_eq!(name, family, "TYPE follows its HELP");
            assert!(["counter", "gauge", "histogram"].contains(&found), "{line}");
            kind = found.to_owned();
            if name.starts_with("osprey_") {
                assert_eq!(
                    name.ends_with("_total"),
                    kind == "counter",
                    "{name} is a {kind}"
                );
            }
        } else {
            let name = line.split(['{', ' ']).next().unwrap();
            let own = name
                .strip_prefix(&family)
                .unwrap_or_else(|| panic!("{line} in {family}"));
            let suffixes: &[&str] = if kind == "histogram" {
                &["_bucket", "_sum", "_count"]
            } else {
                &[""]
            };
            assert!(suffixes.contains(&own), "{line}");
            assert!(
                line.rsplit(' ').next().unwrap().parse::<f64>().is_ok(),
                "{line}"
            );
            assert!(
                !seen.contains(line) && seen.insert(line.to_owned()),
                "{line} twice"
            );
        }
    }
    for family in FAMILIES {
        assert!(seen.contains(family.name), "{} has no sample", family.name);
        let words = family.name.split('_');
        let unit = words
            .clone()
            .any(|word| ["ms", "millis", "kb", "minutes"].contains(&word));
        assert!(!unit, "{} has no base unit", family.name);
    }
    #[cfg(target_os = "linux")]
    assert!(seen.contains("process_resident_memory_bytes"));
}

/// Names of Osprey's metrics in a text, without the suffixes of a histogram's samples.
fn names_in(text: &str) -> std::collections::BTreeSet<String> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("osprey_") || word.starts_with("process_"))
        .map(|word| {
            let suffixes = ["_bucket", "_sum", "_count"];
            let bare = suffixes.iter().find_map(|suffix| word.strip_suffix(suffix));
            bare.unwrap_or(word).to_owned()
        })
        .collect()
}

#[test]
#[cfg(target_os = "linux")]
fn dashboard_alerts_and_readme_name_only_metrics_that_exist() {
    let text = filled().render().unwrap();
    let exists = |name: &String| text.contains(&format!("# TYPE {name} "));
    for (file, content) in [
        (
            "osprey.json",
            include_str!("../../../deploy/grafana/osprey.json"),
        ),
        ("README.md", include_str!("../../../README.md")),
        (
            "alerts.yml",
            include_str!("../../../deploy/prometheus/alerts.yml"),
        ),
    ] {
        let names = names_in(content);
        assert!(names.len() > 3, "{file} names {names:?}");
        let missing: Vec<_> = names.iter().filter(|name| !exists(name)).collect();
        assert!(
            missing.is_empty(),
            "{file} names {missing:?}, which nothing exports"
        );
    }
}

const PAGE: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md"));
const BEGIN: &str = "<!-- What follows is written by a test in src/observe/export/tests.rs. -->\n";

/// What the page says of each family, in the order of their names.
fn reference() -> String {
    let labelled = |labels: &[&str]| {
        labels
            .iter()
            .map(|label| format!("`{label}`"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let kind = |kind| match kind {
        MetricType::COUNTER => "counter",
        _ => "gauge",
    };
    let mut rows: Vec<_> = FAMILIES
        .iter()
        .map(|family| {
            (
                family.name,
                kind(family.kind),
                labelled(family.labels),
                family.help,
            )
        })
        .chain(
            HISTOGRAMS
                .iter()
                .map(|known| (known.name, "histogram", labelled(known.labels), known.help)),
        )
        .collect();
    rows.sort_unstable();
    let mut page = String::from("\n| metric | kind | labels | what it says |\n|---|---|---|---|\n");
    for (name, kind, labels, help) in rows {
        let help = help.replace('|', "\\|");
        page.push_str(&format!("| `{name}` | {kind} | {labels} | {help} |\n"));
    }
    page
}

fn head() -> &'static str {
    PAGE.split_once(BEGIN)
        .expect("docs/metrics.md has its mark")
        .0
}

#[test]
fn the_reference_says_what_is_exported() {
    assert!(
        PAGE == [head(), BEGIN, &reference()].concat(),
        "docs/metrics.md is out of date: cargo test --lib observe::export -- --ignored writes it anew"
    );
}

#[test]
#[ignore = "writes docs/metrics.md"]
fn write_the_reference() {
    let page = [head(), BEGIN, &reference()].concat();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
    std::fs::write(path, page).unwrap();
}

#[test]
fn each_worker_is_told_apart() {
    let metrics = filled();
    metrics.shard(1).sessions_opened.add(5);
    let text = metrics.render().unwrap();
    assert_eq!(value(&text, "osprey_worker_sessions{worker=\"0\"}"), "2");
    assert_eq!(value(&text, "osprey_worker_sessions{worker=\"1\"}"), "7");
}
