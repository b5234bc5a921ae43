//! Knowledge of a database kept up to date against a real PostgreSQL.

#![allow(clippy::unwrap_used)] // a panic is the failure's report

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::postgres::{self, Cluster, PASSWORD};
use common::until;
use osprey::catalog::{Contents, Failure, ReadError, Relation, Sort};
use osprey::config::{ConfiguredEncryption, ProjectRule, Secret, Settings, TablePattern};
use osprey::protection::knowledge::{DatabaseKnowledge, Knowledge};
use osprey::protection::{Decision, Lexing, NameContext, Reason, SessionNames, Source};
use tokio::runtime::Handle;

const FOREIGN: &str = "
    CREATE FOREIGN DATA WRAPPER odps_fdw;
    CREATE SERVER odps_server FOREIGN DATA WRAPPER odps_fdw;
    CREATE FOREIGN TABLE orders (id int) SERVER odps_server OPTIONS (project_name 'sales');
    CREATE FOREIGN TABLE staff (id int) SERVER odps_server OPTIONS (project_name 'hr');
    CREATE VIEW report AS SELECT * FROM orders;
";

fn settings(cluster: &Cluster) -> Settings {
    let mut settings = Settings::for_upstream("127.0.0.1", cluster.port);
    settings.upstream_mut().catalog.user = Some(postgres::SUPERUSER.into());
    settings.upstream_mut().catalog.password = Some(Secret(PASSWORD.into()));
    settings.upstream_mut().protect.projects = vec![encrypted("sales")];
    settings
}

fn encrypted(project: &str) -> ProjectRule {
    ProjectRule {
        name: project.into(),
        encryption: ConfiguredEncryption::Kms,
        key_id: None,
    }
}

fn knowledge(settings: &Settings) -> Arc<Knowledge> {
    common::knowledge(settings)
}

fn reason(database: &DatabaseKnowledge, relation: &str) -> Option<Arc<Reason>> {
    let names = NameContext {
        user: "u".into(),
        search_path: Some(vec!["public".into()]),
    };
    let sql = format!("SELECT * FROM {relation}");
    database
        .snapshot()
        .decide(sql.as_bytes(), &names)
        .protected
        .clone()
}

#[tokio::test]
async fn the_first_reading_is_waited_for_and_ddl_seen_passing_is_followed() {
    let cluster = postgres::shared();
    let client = cluster.database("followed").await;
    client.batch_execute(FOREIGN).await.unwrap();
    let knowledge = knowledge(&settings(&cluster));
    let database = knowledge.database("followed@warehouse");
    database.ready().await;
    assert_eq!(database.name(), "followed");
    assert!(Arc::ptr_eq(&database, &knowledge.database("followed")));
    assert_eq!(reason(&database, "orders").unwrap().source, Source::Key);
    assert_eq!(reason(&database, "report").unwrap().via, ["public.orders"]);
    assert_eq!(reason(&database, "staff"), None);

    client
        .batch_execute("CREATE ROLE analyst; ALTER ROLE analyst SET search_path = reports")
        .await
        .unwrap();
    let before = database.generation();
    client
        .batch_execute("CREATE VIEW fresh AS SELECT * FROM report")
        .await
        .unwrap();
    for _ in 0..50 {
        database.catalog_changed();
    }
    until("the new view", || reason(&database, "fresh").is_some()).await;
    assert!(database.generation() > before);
    let readings = database.counts().readings.get();
    assert!(
        (2..=3).contains(&readings),
        "fifty changes at once are one reading, and a second one a second later: {readings}"
    );

    // Front ends lag behind one another: only a reading a second later is sure to have seen it all.
    until("the reading a second later", || {
        !database.snapshot().is_blind()
    })
    .await;
    let settled = database.counts().snapshots.get();
    database.catalog_changed();
    assert!(
        database.snapshot().is_blind(),
        "any name may be one that nobody has read yet"
    );
    let readings = database.counts().readings.get();
    until("it is read", || !database.snapshot().is_blind()).await;
    assert!(database.counts().readings.get() > readings);
    assert_eq!(
        database.counts().snapshots.get(),
        settled,
        "what reads the same makes no new snapshot"
    );
}

#[tokio::test]
async fn without_a_catalog_the_patterns_are_in_place_at_once() {
    let mut settings = Settings::for_upstream("127.0.0.1", 1);
    settings.upstream_mut().protect.tables = vec![TablePattern {
        database: "*".into(),
        schema: "*".into(),
        table: "secret_*".into(),
    }];
    let knowledge = knowledge(&settings);
    let database = knowledge.database("db");
    assert_eq!(
        reason(&database, "secret_x").unwrap().source,
        Source::Pattern
    );
    database.ready().await;
    assert_eq!(database.counts().reading_failures.get(), 0);
}

#[tokio::test]
async fn a_failing_reading_makes_ready_and_keeps_what_was_known() {
    let cluster = postgres::shared();
    let client = cluster.database("renamed").await;
    client.batch_execute(FOREIGN).await.unwrap();
    drop(client);
    let knowledge = knowledge(&settings(&cluster));
    let database = knowledge.database("renamed");
    database.ready().await;
    assert!(reason(&database, "orders").is_some());

    let client = cluster.connect("postgres").await;
    client
        .batch_execute("ALTER DATABASE renamed RENAME TO elsewhere")
        .await
        .unwrap();
    database.catalog_changed();
    until("a failure", || database.counts().reading_failures.get() > 0).await;
    assert!(reason(&database, "orders").is_some());
    client
        .batch_execute("ALTER DATABASE elsewhere RENAME TO renamed")
        .await
        .unwrap();
    until("it is tried again by itself", || {
        database.counts().readings.get() > 1
    })
    .await;

    let absent = knowledge.database("no_such_database");
    absent.ready().await;
    assert_eq!(absent.counts().readings.get(), 0);
    let measure = knowledge.measure("default");
    assert_eq!(measure.databases.len(), 2);
    // Of a database that is not there nothing is missed.
    for read in measure.databases {
        assert_eq!(read.overdue, Some(Duration::ZERO), "{}", read.name);
    }
    assert_eq!(measure.key_records, 1);
    // Nobody uses it: it is forgotten.
    drop(absent);
    until("it to be forgotten", || {
        knowledge.measure("default").databases.len() == 1
    })
    .await;
}

#[tokio::test]
async fn other_rules_apply_to_what_is_open() {
    let cluster = postgres::shared();
    let client = cluster.database("reloaded").await;
    client.batch_execute(FOREIGN).await.unwrap();
    let mut settings = settings(&cluster);
    let knowledge = knowledge(&settings);
    let database = knowledge.database("reloaded");
    database.ready().await;
    assert!(reason(&database, "orders").is_some());
    settings.upstream_mut().protect.projects = vec![encrypted("h*")];
    common::apply(&knowledge, &settings);
    until("the new rules", || reason(&database, "staff").is_some()).await;
    assert_eq!(reason(&database, "orders"), None);
    settings.upstream_mut().catalog.user = None;
    settings.upstream_mut().catalog.borrow = false;
    common::apply(&knowledge, &settings);
    until("the catalog is left", || {
        reason(&database, "staff").is_none()
    })
    .await;
}

/// The decision about reading a relation, as the session's core has it when the error comes.
fn decision(database: &DatabaseKnowledge, relation: &str) -> Arc<Decision> {
    let names = NameContext {
        user: "u".into(),
        search_path: Some(vec!["public".into()]),
    };
    let sql = format!("SELECT * FROM {relation}");
    database.snapshot().decide(sql.as_bytes(), &names)
}

#[tokio::test]
async fn a_lesson_goes_from_its_user_to_the_database_to_all_databases() {
    let cluster = postgres::shared();
    let client = cluster.database("taught").await;
    client.batch_execute(FOREIGN).await.unwrap();
    client
        .batch_execute(
            "CREATE FOREIGN TABLE more (id int) SERVER odps_server OPTIONS (project_name 'hr')",
        )
        .await
        .unwrap();
    let client = cluster.database("taught_too").await;
    client.batch_execute(FOREIGN).await.unwrap();
    let knowledge = knowledge(&settings(&cluster));
    let (here, there) = (
        knowledge.database("taught"),
        knowledge.database("taught_too"),
    );
    here.ready().await;
    there.ready().await;
    let staff = decision(&here, "staff");

    // One user's word is for that user.
    let (ann, bob) = (here.lessons_of("ann"), there.lessons_of("bob"));
    assert!(here.hear(&ann, "HR", Some(&staff)));
    assert!(ann.reason(&staff, &here.snapshot()).is_some());
    assert!(
        here.lessons_of("bob")
            .reason(&staff, &here.snapshot())
            .is_none()
    );
    // A second run without the error teaches the database, and the whole project.
    here.confirm(&ann, "hr");
    until("the lesson", || reason(&here, "staff").is_some()).await;
    let taught = reason(&here, "staff").unwrap();
    assert_eq!(taught.source, Source::Learned);
    assert_eq!(taught.project.as_deref(), Some("hr"));
    assert!(reason(&here, "more").is_some());
    assert_eq!(knowledge.keys().peek("hr"), None);
    assert_eq!(reason(&there, "staff"), None);
    // Another user's teaches all.
    assert!(there.hear(&bob, "hr", Some(&decision(&there, "staff"))));
    there.confirm(&bob, "hr");
    assert!(knowledge.keys().peek("hr").is_some());
    until("it is known elsewhere", || {
        reason(&there, "staff").is_some()
    })
    .await;
    assert_eq!(knowledge.measure("default").lessons_learned, 3);
}

#[tokio::test]
async fn what_the_catalogs_do_not_bear_out_is_no_lesson() {
    let cluster = postgres::shared();
    let client = cluster.database("lied_to").await;
    client.batch_execute(FOREIGN).await.unwrap();
    client
        .batch_execute("CREATE TABLE local (id int)")
        .await
        .unwrap();
    let knowledge = knowledge(&settings(&cluster));
    let database = knowledge.database("lied_to");
    database.ready().await;
    let liar = database.lessons_of("mallory");
    let local = decision(&database, "local");
    // No relation of this database is of that project.
    assert!(!database.hear(&liar, "elsewhere", Some(&local)));
    assert!(!database.hear(&liar, "elsewhere", Some(&decision(&database, "staff"))));
    assert!(!database.hear(&liar, "elsewhere", None));
    // One is; but who reads a local table learns nothing about that table.
    assert!(database.hear(&liar, "hr", Some(&local)));
    database.confirm(&liar, "hr");
    until("the project", || reason(&database, "staff").is_some()).await;
    assert_eq!(reason(&database, "local"), None);
    assert!(liar.reason(&local, &database.snapshot()).is_none());
    // The second run failed alike: the word goes, and what was made of it.
    database.take_back(&liar, "hr");
    until("it is gone", || reason(&database, "staff").is_none()).await;
    assert!(knowledge.measure("default").lessons_contradicted > 3);
}

#[tokio::test]
async fn a_lesson_that_the_operator_contradicts_is_dropped() {
    let cluster = postgres::shared();
    let client = cluster.database("contradicted").await;
    client.batch_execute(FOREIGN).await.unwrap();
    let mut settings = settings(&cluster);
    let mut open = encrypted("hr");
    open.encryption = ConfiguredEncryption::None;
    settings.upstream_mut().protect.projects.push(open);
    let knowledge = knowledge(&settings);
    let database = knowledge.database("contradicted");
    database.ready().await;
    let ann = database.lessons_of("ann");
    assert!(!database.hear(&ann, "hr", Some(&decision(&database, "staff"))));
    assert_eq!(knowledge.measure("default").lessons_contradicted, 1);
    assert_eq!(reason(&database, "staff"), None);
}

#[tokio::test]
async fn a_lesson_does_not_wait_for_a_slow_server() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut settings = Settings::for_upstream("127.0.0.1", silent.local_addr().unwrap().port());
    settings.upstream_mut().catalog.user = Some("anyone".into());
    let database = knowledge(&settings).database("slow");
    tokio::time::sleep(Duration::from_millis(50)).await;
    let ann = database.lessons_of("ann");
    assert!(database.hear(&ann, "sales", Some(&decision(&database, "orders"))));
    database.confirm(&ann, "sales");
    let took = until("the lesson", || reason(&database, "orders").is_some()).await;
    assert!(took < settings.upstream().connect_timeout / 2, "{took:?}");
    assert_eq!(
        database.counts().reading_failures.get(),
        0,
        "the reading still goes on"
    );
}

fn borrowing() -> (Arc<Knowledge>, Arc<DatabaseKnowledge>) {
    let mut settings = Settings::for_upstream("127.0.0.1", 1);
    settings.upstream_mut().protect.projects = vec![encrypted("sales")];
    let knowledge = knowledge(&settings);
    let database = knowledge.database("lent");
    (knowledge, database)
}

fn contents() -> Contents {
    let orders = Relation {
        schema: "public".into(),
        name: "orders".into(),
        sort: Sort::Relation,
        inherited: false,
        policed: false,
        project: Some("sales".into()),
        reads: Vec::new(),
    };
    Contents {
        relations: vec![orders],
        ..Contents::default()
    }
}

fn refused() -> ReadError {
    ReadError {
        failure: Failure::Permission,
        reason: "no".into(),
    }
}

#[tokio::test(start_paused = true)]
async fn one_session_reads_for_all_and_the_others_wait_for_it() {
    let (_knowledge, database) = borrowing();
    database.ready().await; // Nobody reads: there is nothing to wait for.
    let borrowed = database.borrow_session().unwrap();
    assert_eq!(borrowed.servers(), ["odps_server"]);
    assert!(database.borrow_session().is_none(), "one is at it");
    let waiting = tokio::time::timeout(Duration::from_secs(1), database.ready());
    assert!(waiting.await.is_err());
    borrowed.finish(Ok(contents()));
    assert!(
        database.borrow_session().is_none(),
        "it is not taken in yet"
    );
    database.ready().await;
    assert!(reason(&database, "orders").is_some());
    assert!(database.borrow_session().is_none(), "it is known");
    tokio::time::sleep(Duration::from_mins(5)).await;
    let refreshing = database.borrow_session().unwrap();
    database.ready().await; // What is known is good enough meanwhile.
    refreshing.finish(Ok(Contents::default()));
    until("the second reading", || {
        reason(&database, "orders").is_none()
    })
    .await;
    assert_eq!(database.counts().readings.get(), 2);
}

#[tokio::test(start_paused = true)]
async fn after_ddl_the_next_session_reads_and_another_one_a_second_later() {
    let (_knowledge, database) = borrowing();
    database.borrow_session().unwrap().finish(Ok(contents()));
    database.ready().await;
    assert!(!database.snapshot().is_blind());
    database.catalog_changed();
    assert!(database.snapshot().is_blind());
    database.borrow_session().unwrap().finish(Ok(contents()));
    database.ready().await;
    assert!(database.snapshot().is_blind(), "it may have come too early");
    assert!(
        database.borrow_session().is_none(),
        "nor is every session asked"
    );
    tokio::time::sleep(Duration::from_secs(1)).await;
    database.borrow_session().unwrap().finish(Ok(contents()));
    database.ready().await;
    assert!(!database.snapshot().is_blind());
    assert!(database.borrow_session().is_none());
}

#[tokio::test(start_paused = true)]
async fn what_one_session_has_made_all_sessions_know_until_the_catalogs_say_it() {
    let (_knowledge, database) = borrowing();
    database.borrow_session().unwrap().finish(Ok(contents()));
    database.ready().await;
    let mut maker = SessionNames::new(NameContext::new("app", "public"));
    let another = maker.clone();
    let decide = |text: &str, session: &SessionNames| {
        let snapshot = database.snapshot();
        snapshot.decide_in(text.as_bytes(), session, Lexing::default())
    };
    let read = [
        "CREATE TABLE t AS SELECT * FROM public.fresh",
        "INSERT INTO t SELECT 1; SELECT * FROM fresh",
        "PREPARE p AS SELECT * FROM fresh",
    ];
    let is_protected = |text: &str| decide(text, &another).protected.is_some();
    for text in [
        "CREATE VIEW public.fresh_tmp AS SELECT * FROM orders",
        "ALTER VIEW public.fresh_tmp RENAME TO fresh",
    ] {
        assert!(!read.into_iter().any(is_protected));
        let changes = decide(text, &maker).changes.clone();
        maker.apply(&changes);
        database.catalog_changed_by(&maker);
    }
    assert!(read.into_iter().all(is_protected));
    // Among what a session has made itself, too.
    let mut busy = another.clone();
    busy.apply(
        &decide("CREATE TEMP TABLE stage (a int)", &busy)
            .changes
            .clone(),
    );
    assert!(decide(read[0], &busy).protected.is_some());
    assert!(!is_protected("CREATE TABLE t AS SELECT * FROM elsewhere"));

    // The first reading may have come too early.
    for knows in [true, false] {
        database.borrow_session().unwrap().finish(Ok(contents()));
        database.ready().await;
        assert_eq!(is_protected(read[0]), knows);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_borrowed_reading_that_fails_is_tried_again_less_and_less_often() {
    let (_knowledge, database) = borrowing();
    for seconds in [1, 2, 4, 8] {
        database.borrow_session().unwrap().finish(Err(refused()));
        database.ready().await;
        // DDL does not make it more promising.
        database.catalog_changed();
        tokio::time::sleep(Duration::from_millis(seconds * 1_000 - 50)).await;
        assert!(database.borrow_session().is_none(), "within {seconds} s");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(database.reading_failure(), Some(refused()));
    drop(database.borrow_session().unwrap());
    database.ready().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let slow = ReadError {
        failure: Failure::Timeout,
        reason: "slow".into(),
    };
    let borrowed = database.borrow_session().unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    borrowed.finish(Err(slow));
    database.ready().await;
    tokio::time::sleep(Duration::from_secs(299)).await;
    assert!(
        database.borrow_session().is_none(),
        "nobody is to wait for that again"
    );
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(database.borrow_session().is_some());
}

/// No night without clients makes an alarm, and a week of failures does.
#[tokio::test(start_paused = true)]
async fn a_borrowed_reading_is_overdue_while_sessions_want_it() {
    let (_knowledge, database) = borrowing();
    let overdue = || database.reading_overdue().unwrap().as_secs() / 60;
    let night = Duration::from_hours(8);
    database.borrow_session().unwrap().finish(Ok(contents()));
    database.ready().await;
    tokio::time::sleep(night).await;
    assert_eq!(overdue(), 0, "nobody came");
    database.borrow_session().unwrap().finish(Err(refused()));
    database.ready().await;
    tokio::time::sleep(Duration::from_mins(90)).await;
    assert_eq!(overdue(), 0, "nobody came again");
    database.borrow_session().unwrap().finish(Err(refused()));
    database.ready().await;
    assert!(
        database.borrow_session().is_none(),
        "but who wants to know counts"
    );
    assert_eq!(overdue(), 90);
    tokio::time::sleep(night).await;
    assert_eq!(overdue(), 90);
    database.borrow_session().unwrap().finish(Ok(contents()));
    until("it is taken in", || overdue() == 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_day_later_each_key_is_looked_up_again_once_with_nobody_waiting() {
    const PROJECTS: usize = 20;
    let mut settings = Settings::for_upstream("127.0.0.1", 1);
    settings.upstream_mut().protect.projects =
        (0..PROJECTS).map(|n| encrypted(&format!("p{n}"))).collect();
    let knowledge = knowledge(&settings);
    let database = knowledge.database("lent");
    let relations = (0..PROJECTS).map(|n| Relation {
        name: format!("t{n}"),
        project: Some(format!("p{n}")),
        ..contents().relations.remove(0)
    });
    database.borrow_session().unwrap().finish(Ok(Contents {
        relations: relations.collect(),
        ..Contents::default()
    }));
    database.ready().await;
    let counted = || {
        let counted = knowledge.keys().metrics();
        (counted.lookups.get(), counted.misses.get())
    };
    let once = PROJECTS as u64;
    assert_eq!(counted(), (once, once));
    tokio::time::sleep(Duration::from_mins(24 * 60 - 2)).await;
    assert_eq!(counted(), (once, once), "its day is not over");
    tokio::time::sleep(Duration::from_hours(1)).await;
    assert_eq!(counted(), (2 * once, once));
    let listed = knowledge.keys().list();
    assert!(
        listed
            .iter()
            .all(|known| known.age < Duration::from_hours(1))
    );
    assert!(reason(&database, "t7").is_some());
}

#[tokio::test]
async fn nothing_is_borrowed_where_there_is_an_account_or_it_is_switched_off() {
    let mut settings = Settings::for_upstream("127.0.0.1", 1);
    settings.upstream_mut().catalog.borrow = false;
    let database = knowledge(&settings).database("off");
    assert!(database.borrow_session().is_none());
    settings.upstream_mut().catalog.borrow = true;
    settings.upstream_mut().catalog.user = Some("anyone".into());
    let database = knowledge(&settings).database("account");
    assert!(database.borrow_session().is_none());
}

#[tokio::test]
async fn made_up_databases_are_forgotten_and_their_tasks_end() {
    let knowledge = knowledge(&Settings::for_upstream("127.0.0.1", 1));
    let kept = knowledge.database("kept");
    for number in 0..2_500 {
        knowledge.database(&format!("made_up_{number}"));
    }
    assert!(knowledge.databases().len() <= 1_000);
    assert!(Arc::ptr_eq(&kept, &knowledge.database("kept")));
    let tasks = || Handle::current().metrics().num_alive_tasks();
    until("their tasks end", || tasks() <= 1_000).await;
}
