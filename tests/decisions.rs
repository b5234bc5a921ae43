//! Every statement of `corpus/decisions.txt` is decided as its label says, and in those of
//! `corpus/relations.txt` exactly the relations are found that PostgreSQL found. The formats are
//! described at the head of each file.

use std::sync::Arc;

use osprey::config::TablePattern;
use osprey::protection::{
    Decision, Effects, NameContext, NameUse, Reason, RouteHint, Snapshot, Source,
};

const CORPUS: &str = include_str!("corpus/decisions.txt");

const RELATIONS: &str = include_str!("corpus/relations.txt");

const EFFECTS: [(&str, Effects); 13] = [
    ("SETS_ROUTE", Effects::SETS_ROUTE),
    ("RESETS_ROUTE", Effects::RESETS_ROUTE),
    ("RESETS_ALL", Effects::RESETS_ALL),
    ("ROUTE_DOUBT", Effects::ROUTE_DOUBT),
    ("BEGINS", Effects::BEGINS),
    ("ENDS", Effects::ENDS),
    ("WRITES", Effects::WRITES),
    ("CALLS_UNKNOWN", Effects::CALLS_UNKNOWN),
    ("CHANGES_CATALOG", Effects::CHANGES_CATALOG),
    ("CHANGES_NAMES", Effects::CHANGES_NAMES),
    ("READS_FOREIGN", Effects::READS_FOREIGN),
    ("COPY_IN", Effects::COPY_IN),
    ("MULTIPLE", Effects::MULTIPLE),
];

fn reason(relation: &str, source: Source) -> Arc<Reason> {
    Arc::new(Reason {
        relation: relation.to_owned(),
        via: Vec::new(),
        project: None,
        key: None,
        source,
    })
}

fn snapshot(padding: usize) -> Snapshot {
    let mut builder = Snapshot::builder("shop")
        .homonym("public", "orders")
        .foreign("ext", "open_data")
        .foreign("ext", "open_prices");
    for (schema, name) in [
        ("ext", "orders"),
        ("ext", "secret"),
        ("ext", "Mixed Case"),
        ("ext", "a\"b"),
        ("ext", "订单"),
        ("views", "v_orders"),
        ("public", "events"),
    ] {
        let reason = reason(&format!("{schema}.{name}"), Source::Key);
        builder = builder.protect(schema, name, reason);
    }
    let reason_of_function = reason("fn.read_secret()", Source::Key);
    builder = builder
        .protect_function("fn", "read_secret", reason_of_function)
        .foreign_function("fn", "read_open");
    // Enough other names for the matcher to be of the kind used for many.
    for number in 0..padding {
        let name = format!("padding_{number:05}_table");
        builder = builder.protect("padding", &name, reason("padding", Source::Key));
    }
    for (database, schema, table) in [
        ("shop", "vault", "*_enc"),
        ("lake", "*", "k_*"),
        ("other", "*", "never_here"),
    ] {
        let pattern = TablePattern {
            database: database.into(),
            schema: schema.into(),
            table: table.into(),
        };
        builder = builder.pattern(&pattern, reason("pattern", Source::Pattern));
    }
    builder.build(7)
}

fn describe(decision: &Decision) -> (String, String) {
    let protected = decision
        .protected
        .as_ref()
        .map_or("-".into(), |reason| reason.relation.clone());
    let mut facts: Vec<String> = EFFECTS
        .iter()
        .filter(|(_, effect)| decision.effects.has(*effect))
        .map(|(name, _)| (*name).to_owned())
        .collect();
    for name in &decision.names {
        let all = |name: &Option<String>| name.clone().unwrap_or_else(|| "ALL".into());
        facts.push(match name {
            NameUse::Prepare(name) => format!("prepare:{name}"),
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

fn check(snapshot: &Snapshot) {
    let mut names = NameContext::default();
    let mut prefix = false;
    let mut checked = 0;
    let mut wrong = Vec::new();
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
    assert!(checked >= 250, "only {checked} statements");
}

#[test]
fn the_corpus_is_decided_as_labelled() {
    check(&snapshot(0));
}

#[test]
fn the_corpus_is_decided_alike_among_many_names() {
    check(&snapshot(2_000));
}

#[test]
fn relations_are_found_as_postgresql_finds_them() {
    let relations = [
        ("ext", "Mixed Case"),
        ("ext", "orders"),
        ("ext", "secret"),
        ("other", "secret"),
        ("public", "events"),
        ("public", "orders"),
        ("public", "plain"),
        ("public", "u"),
    ];
    // A decision names one relation; so each is protected in a snapshot of its own.
    let snapshots = relations.map(|(schema, name)| {
        let reason = reason(&format!("{schema}.{name}"), Source::Key);
        let builder = Snapshot::builder("shop").protect(schema, name, reason);
        relations
            .iter()
            .filter(|other| other.1 == name && other.0 != schema)
            .fold(builder, |builder, other| builder.homonym(other.0, other.1))
            .build(1)
    });
    let path = ["$user", "ext", "public"].map(String::from).to_vec();
    let names = NameContext {
        user: "app".into(),
        search_path: Some(path),
    };
    let mut checked = 0;
    for line in RELATIONS.lines().filter(|line| !line.starts_with('#')) {
        let (expected, sql) = line.split_once(" | ").expect("two parts");
        let sql = sql.replace('⏎', "\n");
        let mut found: Vec<String> = snapshots
            .iter()
            .filter_map(|snapshot| snapshot.decide(sql.as_bytes(), &names).protected.clone())
            .map(|reason| reason.relation.clone())
            .collect();
        found.sort_unstable();
        let found = if found.is_empty() {
            "-".into()
        } else {
            found.join(", ")
        };
        assert_eq!(found, expected, "{sql}");
        checked += 1;
    }
    assert_eq!(checked, 500);
}

#[test]
fn a_database_pattern_of_stars_protects_whatever_names_a_relation() {
    let pattern = TablePattern {
        database: "*".into(),
        schema: "*".into(),
        table: "*".into(),
    };
    let snapshot = Snapshot::builder("shop")
        .pattern(&pattern, reason("all", Source::Pattern))
        .build(1);
    let names = NameContext {
        user: "app".into(),
        search_path: Some(vec!["$user".into(), "public".into()]),
    };
    for (sql, protected) in [
        ("select * from t", true),
        ("select * from a.t", true),
        ("insert into t select * from u", true),
        ("insert into t values (1)", false),
        ("select 1", false),
        ("show search_path", false),
        ("begin", false),
        ("set x = 1", false),
        ("select * from pg_class", false),
        ("select * from pg_catalog.pg_class", false),
        ("select * from information_schema.tables", false),
        ("with t as (select 1) select * from t", false),
        ("copy t to stdout", true),
    ] {
        for names in [&names, &NameContext::default()] {
            let decision = snapshot.decide(sql.as_bytes(), names);
            assert_eq!(decision.protected.is_some(), protected, "{sql}");
        }
    }
}

#[test]
fn a_snapshot_tells_what_it_holds() {
    let snapshot = snapshot(0);
    assert_eq!(snapshot.generation(), 7);
    assert_eq!(snapshot.database(), "shop");
    assert_eq!(snapshot.protected_count(), 7);
    assert_eq!(snapshot.foreign_count(), 2);
    assert_eq!(snapshot.protected().count(), 7);
    let empty = Snapshot::empty("shop");
    assert_eq!((empty.generation(), empty.protected_count()), (0, 0));
    let decision = empty.decide(b"select * from ext.secret", &NameContext::default());
    assert!(decision.protected.is_none());
}
