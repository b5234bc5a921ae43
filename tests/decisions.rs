//! Every statement of `corpus/decisions.txt` is decided as its label says, and in those of
//! `corpus/relations.txt` exactly the relations are found that PostgreSQL found. The formats are
//! described at the head of each file.

use std::sync::Arc;

use osprey::config::TablePattern;
use osprey::protection::{NameContext, Reason, Snapshot, Source};

#[path = "common/corpus.rs"]
mod corpus;

const RELATIONS: &str = include_str!("corpus/relations.txt");

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
        .foreign_function("fn", "read_open")
        .runs_no_text("fn", "shout", true)
        .runs_no_text("fn", "note", false);
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

#[test]
fn the_corpus_is_decided_as_labelled() {
    let false_alarms = corpus::check(&snapshot(0));
    let expected = [
        ("cut off", 1),
        ("letter case of a pattern", 1),
        ("named in a string that may be run", 1),
        ("not a statement", 6),
        ("only prepared", 4),
        ("only stored", 9),
        ("only planned", 5),
        ("search path not certain", 1),
    ];
    assert_eq!(false_alarms, expected.into());
}

#[test]
fn the_corpus_is_decided_alike_among_many_names() {
    corpus::check(&snapshot(2_000));
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
