//! The labelled statements of `tests/corpus/decisions.txt`, whose head says what they are.

use std::collections::BTreeMap;

use osprey::protection::{Decision, Effects, NameContext, NameUse, RouteHint, Snapshot, Source};

const CORPUS: &str = include_str!("../corpus/decisions.txt");

/// Not among the labels: it is about the catalogs' functions.
const UNLABELLED: Effects = Effects::KEEPS_PLANS;

fn describe(decision: &Decision) -> (String, String) {
    let protected = match &decision.protected {
        None => "-".into(),
        Some(reason) if reason.source == Source::Pattern => "pattern".into(),
        Some(reason) => reason.relation.clone(),
    };
    let effects = decision.effects.difference(UNLABELLED);
    let names = effects.iter_names();
    let mut facts: Vec<String> = names.map(|(name, _)| name.to_owned()).collect();
    for name in &decision.names {
        let all = |name: &Option<String>| name.clone().unwrap_or_else(|| "ALL".into());
        facts.push(match name {
            NameUse::Prepare { name, .. } => format!("prepare:{name}"),
            NameUse::Execute(name) => format!("execute:{name}"),
            NameUse::Deallocate(name) => format!("deallocate:{}", all(name)),
            NameUse::Declare(name) => format!("declare:{name}"),
            NameUse::Fetch(name) => format!("fetch:{name}"),
            NameUse::Close(name) => format!("close:{}", all(name)),
        });
    }
    if let Some(hint) = decision.hint {
        facts.push(match hint {
            RouteHint::Sqe => "hint:sqe".into(),
            RouteHint::Hqe => "hint:hqe".into(),
            RouteHint::Off => "hint:off".into(),
        });
    }
    let facts = if facts.is_empty() {
        "-".into()
    } else {
        facts.join(" ")
    };
    (protected, facts)
}

fn sorted(facts: &str) -> Vec<&str> {
    let mut facts: Vec<&str> = facts.split_whitespace().collect();
    facts.sort_unstable();
    facts
}

/// Every statement is decided as its label says. Returns how many that are protected need not be, by
/// reason.
pub(crate) fn check(snapshot: &Snapshot) -> BTreeMap<&'static str, usize> {
    let mut names = NameContext::default();
    let mut prefix = false;
    let mut checked = 0;
    let mut wrong = Vec::new();
    let mut false_alarms = BTreeMap::new();
    for (number, line) in CORPUS.lines().enumerate() {
        let line = line.trim_end();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(path) = line.strip_prefix("@path ") {
            names = NameContext {
                user: "app".into(),
                search_path: (path != "?").then(|| {
                    path.split(',')
                        .map(|schema| schema.trim().to_owned())
                        .collect()
                }),
            };
            continue;
        }
        if let Some(value) = line.strip_prefix("@prefix ") {
            prefix = value == "on";
            continue;
        }
        let mut parts = line.splitn(3, " | ");
        let (Some(protected), Some(facts), Some(sql)) = (parts.next(), parts.next(), parts.next())
        else {
            panic!("line {}: three parts are needed: {line}", number + 1);
        };
        let (protected, false_alarm) = match protected.split_once(" ~ ") {
            Some((protected, reason)) => (protected, Some(reason)),
            None => (protected, None),
        };
        if let Some(reason) = false_alarm {
            *false_alarms.entry(reason).or_default() += 1;
        }
        let sql = sql.replace('⏎', "\n");
        checked += 1;
        // Twice: as read, and as remembered.
        for _ in 0..2 {
            let decision = if prefix {
                snapshot.decide_prefix(sql.as_bytes(), &names)
            } else {
                snapshot.decide(sql.as_bytes(), &names)
            };
            let (found, found_facts) = describe(&decision);
            if found != protected.trim() || sorted(&found_facts) != sorted(facts) {
                wrong.push(format!(
                    "line {}: {sql}\n  labelled {protected} | {facts}\n  decided  {found} | {found_facts}",
                    number + 1
                ));
                break;
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {checked}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(checked >= 400, "only {checked} statements");
    false_alarms
}
