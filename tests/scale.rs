//! What is read from the catalogs of a large database, 10,000 foreign tables of 20 projects and 500
//! views three deep, decides every labelled statement right.

#![allow(clippy::unwrap_used)] // a panic is the failure's report

mod common;
#[path = "common/corpus.rs"]
mod corpus;

use std::time::{Duration, Instant};

use common::postgres::{self, PASSWORD};
use osprey::config::{ConfiguredEncryption, ProjectRule, Secret, Settings, TablePattern};

/// The relations that the labels know, and functions over them.
const LABELLED: &str = r#"
    CREATE FOREIGN DATA WRAPPER odps_fdw;
    CREATE SERVER odps_server FOREIGN DATA WRAPPER odps_fdw;
    CREATE SCHEMA ext;
    CREATE SCHEMA views;
    CREATE SCHEMA fn;
    CREATE FOREIGN TABLE ext.orders (a int) SERVER odps_server OPTIONS (project_name 'project_0');
    CREATE FOREIGN TABLE ext.secret (a int) SERVER odps_server OPTIONS (project_name 'PROJECT_1#s');
    CREATE FOREIGN TABLE ext."Mixed Case" (a int) SERVER odps_server
        OPTIONS (project_name 'project_2');
    CREATE FOREIGN TABLE ext."a""b" (a int) SERVER odps_server OPTIONS (project_name 'project_3');
    CREATE FOREIGN TABLE ext."订单" (a int) SERVER odps_server OPTIONS (project_name 'project_4');
    CREATE FOREIGN TABLE events (a int) SERVER odps_server OPTIONS (project_name 'project_0');
    CREATE FOREIGN TABLE ext.open_data (a int) SERVER odps_server OPTIONS (project_name 'project_5');
    CREATE FOREIGN TABLE ext.open_prices (a int) SERVER odps_server
        OPTIONS (project_name 'project_6');
    CREATE TABLE orders (a int);
    CREATE VIEW views.v_orders AS SELECT * FROM ext.orders;
    CREATE FUNCTION fn.read_secret() RETURNS bigint
        BEGIN ATOMIC SELECT count(*) FROM ext.secret; END;
    CREATE FUNCTION fn.shout(t text) RETURNS text LANGUAGE sql AS 'SELECT upper(t)';
    CREATE FUNCTION fn.note(t text) RETURNS void LANGUAGE plpgsql
        AS $$ BEGIN INSERT INTO orders VALUES (length(t)); END $$;
    CREATE FUNCTION fn.read_open() RETURNS bigint BEGIN ATOMIC SELECT count(*) FROM ext.open_data; END;
"#;

/// To be run with `padding` as search path, and by itself: it commits.
const MANY: &str = "
    DO $$ BEGIN
      FOR i IN 0..9999 LOOP
        EXECUTE format('CREATE FOREIGN TABLE padding_%s_table (a int) SERVER odps_server
          OPTIONS (project_name ''project_%s'', table_name ''t'')', i, i % 20);
        IF i % 1000 = 0 THEN COMMIT; END IF;
      END LOOP;
      FOR i IN 0..499 LOOP
        EXECUTE format('CREATE VIEW low_%s_view AS SELECT * FROM padding_%s_table', i, i);
        EXECUTE format('CREATE VIEW middle_%s_view AS SELECT * FROM low_%s_view', i, i);
        EXECUTE format('CREATE VIEW high_%s_view AS SELECT * FROM middle_%s_view', i, i);
      END LOOP;
    END $$";

fn settings(port: u16) -> Settings {
    let mut settings = Settings::for_upstream("127.0.0.1", port);
    settings.upstream_mut().catalog.user = Some(postgres::SUPERUSER.into());
    settings.upstream_mut().catalog.password = Some(Secret(PASSWORD.into()));
    let encrypted = |number| ProjectRule {
        name: format!("project_{number}"),
        encryption: ConfiguredEncryption::Kms,
        key_id: None,
    };
    settings.upstream_mut().protect.projects = (0..5).map(encrypted).collect();
    let pattern = |(database, schema, table): (&str, &str, &str)| TablePattern {
        database: database.into(),
        schema: schema.into(),
        table: table.into(),
    };
    settings.upstream_mut().protect.tables = [
        ("shop", "vault", "*_enc"),
        ("lake", "*", "k_*"),
        ("other", "*", "never_here"),
    ]
    .map(pattern)
    .into();
    settings
}

#[tokio::test]
async fn a_large_database_is_known_in_seconds_and_decided_right() {
    let cluster = postgres::shared();
    let client = cluster.database("shop").await;
    client.batch_execute(LABELLED).await.unwrap();
    for statements in [
        "CREATE SCHEMA padding; SET search_path = padding",
        MANY,
        "RESET search_path",
    ] {
        client.batch_execute(statements).await.unwrap();
    }
    let settings = settings(cluster.port);

    let start = Instant::now();
    let service = common::service(&settings);
    let contents = service.read("shop").await.unwrap();
    let read = start.elapsed();
    assert_eq!(contents.relations.len(), 8 + 3 + 10_000 + 1_500);

    let start = Instant::now();
    let knowledge = common::knowledge(&settings);
    let database = knowledge.database("shop");
    database.ready().await;
    let known = start.elapsed();
    eprintln!("10,000 foreign tables and 1,500 views: read in {read:?}, known after {known:?}");
    assert!(read < Duration::from_secs(5), "{read:?}");
    assert!(known < Duration::from_secs(10), "{known:?}");

    let snapshot = database.load_full();
    assert_eq!(snapshot.protected_count(), 7 + 2_500 + 3 * 125);
    let false_alarms = corpus::check(&snapshot);
    eprintln!("false alarms by reason: {false_alarms:#?}");
    let names = osprey::protection::NameContext::default();
    let decision = snapshot.decide(b"SELECT * FROM padding.high_21_view", &names);
    let reason = decision.protected.clone().unwrap();
    let via = ["middle_21_view", "low_21_view", "padding_21_table"];
    assert_eq!(reason.via, via.map(|name| format!("padding.{name}")));
    assert_eq!(reason.project.as_deref(), Some("project_1"));
}
