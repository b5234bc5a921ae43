//! The in-process Hologres, driven by a real client in both protocols.

#![allow(clippy::unwrap_used)] // a failed expectation is a failed test

mod common;

use osprey::config::Settings;
use osprey::simulator::demo::{DATABASE, Stage, Story};
use osprey::simulator::{Engine, Options, PANGU_ERROR, Protocol, Simulator};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, Error, NoTls, SimpleQueryMessage};

const ORC: &str = "hg_experimental_enable_access_odps_orc_via_holo";

async fn simulator() -> Simulator {
    Simulator::start(Options::default()).await.unwrap()
}

async fn connect(simulator: &Simulator) -> Client {
    connect_as(simulator, Config::new().user("analyst").dbname("shop"))
        .await
        .unwrap()
}

async fn connect_as(simulator: &Simulator, config: &mut Config) -> Result<Client, Error> {
    let config = config.host("127.0.0.1").port(simulator.address().port());
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// The rows of a simple query, columns joined by `|`.
async fn simple(client: &Client, sql: &str) -> Result<Vec<String>, Error> {
    let messages = client.simple_query(sql).await?;
    Ok(messages
        .into_iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                let values = (0..row.len()).map(|at| row.get(at).unwrap_or("NULL"));
                Some(values.collect::<Vec<_>>().join("|"))
            }
            _ => None,
        })
        .collect())
}

async fn show(client: &Client, name: &str) -> String {
    simple(client, &format!("SHOW {name}"))
        .await
        .unwrap()
        .remove(0)
}

fn assert_pangu(error: &Error) {
    let error = error.as_db_error().expect("an answer of the server");
    assert_eq!(error.message(), PANGU_ERROR);
    assert_eq!(error.code(), &SqlState::INTERNAL_ERROR);
    assert_eq!(error.severity(), "ERROR");
}

#[tokio::test]
async fn the_error_is_the_vendors_to_the_letter() {
    let page = "status { code: SERVER_INTERNAL_ERROR message: \"hos_exception: IO error: Failed to execute pangu open normal file pangu://xxx:xxx/product/odps/xxx/data/xxxx/xxx/xxx, errorcode: 9, errorcode_description: invalid argument, err_msg: PanguParameterInvalidException";
    assert_eq!(PANGU_ERROR, page);
}

#[tokio::test]
async fn hqe_fails_on_encrypted_data_and_sqe_reads_it_in_both_protocols() {
    let simulator = simulator().await;
    let client = connect(&simulator).await;
    let sql = "SELECT * FROM sales_encrypted";
    assert_pangu(&simple(&client, sql).await.unwrap_err());
    assert_pangu(&client.query(sql, &[]).await.unwrap_err());
    let failed = simulator.scans(Engine::Hqe, "public.sales_encrypted");
    assert_eq!((failed.begun, failed.failed), (2, 2));

    client
        .batch_execute(&format!("SET {ORC} = false"))
        .await
        .unwrap();
    assert_eq!(simple(&client, sql).await.unwrap().len(), 8);
    let rows = client.query(sql, &[]).await.unwrap();
    assert_eq!(rows.len(), 8);
    assert_eq!(rows[0].get::<_, i64>("order_id"), 1001);
    assert_eq!(rows[0].get::<_, i32>("customer_id"), 1);
    assert!((rows[0].get::<_, f64>("amount") - 1250.5).abs() < f64::EPSILON);
    let read = simulator.scans(Engine::Sqe, "public.sales_encrypted");
    assert_eq!((read.begun, read.failed), (2, 0));
}

#[tokio::test]
async fn the_common_table_route_reads_it_too() {
    let simulator = simulator().await;
    let client = connect(&simulator).await;
    let route = "SET hg_experimental_external_catalog_routing = 'odps:common_table,dlf:hqe'";
    client.batch_execute(route).await.unwrap();
    assert_eq!(
        simple(&client, "SELECT * FROM revenue")
            .await
            .unwrap()
            .len(),
        4
    );
    assert_eq!(
        simulator
            .scans(Engine::CommonTable, "public.sales_encrypted")
            .begun,
        1
    );
}

#[tokio::test]
async fn plain_tables_stay_on_hqe_and_are_counted() {
    let simulator = simulator().await;
    let client = connect(&simulator).await;
    let plain = simple(&client, "SELECT count(*) FROM public.sales_plain")
        .await
        .unwrap();
    assert_eq!(plain, ["8"]);
    let row = client
        .query_one("SELECT count(*) FROM customers", &[])
        .await
        .unwrap();
    assert_eq!(row.get::<_, i64>(0), 5);
    let counters = "SELECT engine, relation, scans FROM osprey_simulator.scans ORDER BY relation";
    let expected = ["HQE|public.customers|1", "HQE|public.sales_plain|1"];
    assert_eq!(simple(&client, counters).await.unwrap(), expected);
}

#[tokio::test]
async fn a_view_leads_to_the_encrypted_table() {
    let simulator = simulator().await;
    let client = connect(&simulator).await;
    let sql = "SELECT region, revenue FROM revenue ORDER BY revenue DESC LIMIT 2";
    assert_pangu(&client.query(sql, &[]).await.unwrap_err());
    client
        .batch_execute(&format!("SET {ORC} TO off"))
        .await
        .unwrap();
    assert_eq!(
        simple(&client, sql).await.unwrap(),
        ["east|5185.5", "north|2040.5"]
    );
}

#[tokio::test]
async fn rows_before_the_error_are_delivered() {
    let simulator = simulator().await;
    let client = connect(&simulator).await;
    client
        .batch_execute("SET osprey_simulator.fail_after_rows = 3")
        .await
        .unwrap();
    let fits = "SELECT order_id FROM sales_encrypted LIMIT 3";
    assert_eq!(
        simple(&client, fits).await.unwrap(),
        ["1001", "1002", "1003"]
    );

    let all = "SELECT order_id FROM sales_encrypted";
    let (rows, error) = rows_until_error(client.simple_query_raw(all).await.unwrap()).await;
    assert_eq!(rows, 3);
    assert_pangu(&error);
    let parameters: [&str; 0] = [];
    let (rows, error) = rows_until_error(client.query_raw(all, parameters).await.unwrap()).await;
    assert_eq!(rows, 3);
    assert_pangu(&error);
}

/// How many rows came before the error, RowDescription not counted.
async fn rows_until_error<T: IsRow>(
    stream: impl futures::Stream<Item = Result<T, Error>>,
) -> (usize, Error) {
    use futures::StreamExt;
    let mut stream = std::pin::pin!(stream);
    let mut rows = 0;
    while let Some(item) = stream.next().await {
        match item {
            Ok(message) => rows += usize::from(message.is_row()),
            Err(error) => return (rows, error),
        }
    }
    panic!("it ended without an error");
}

trait IsRow {
    fn is_row(&self) -> bool;
}

impl IsRow for SimpleQueryMessage {
    fn is_row(&self) -> bool {
        matches!(self, Self::Row(_))
    }
}

impl IsRow for tokio_postgres::Row {
    fn is_row(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn transactions_undo_the_setting() {
    let simulator = simulator().await;
    let client = connect(&simulator).await;
    for (sql, after) in [
        (format!("BEGIN; SET {ORC} = off; ROLLBACK"), "on"),
        (format!("BEGIN; SET LOCAL {ORC} = off; COMMIT"), "on"),
        (
            format!("BEGIN; SAVEPOINT a; SET {ORC} = off; ROLLBACK TO a; COMMIT"),
            "on",
        ),
        (format!("BEGIN; SET {ORC} = off; COMMIT"), "off"),
        (format!("RESET {ORC}"), "on"),
        (
            "SET hg_enable_access_odps_orc_via_holo = off".to_owned(),
            "off",
        ),
        ("DISCARD ALL".to_owned(), "on"),
    ] {
        client.batch_execute(&sql).await.unwrap();
        assert_eq!(show(&client, ORC).await, after, "{sql}");
    }
}

#[tokio::test]
async fn a_failing_batch_undoes_its_set() {
    let simulator = simulator().await;
    let client = connect(&simulator).await;
    let sql = format!("SET {ORC} = off; SELECT * FROM nowhere");
    let error = client.batch_execute(&sql).await.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::UNDEFINED_TABLE));
    assert_eq!(show(&client, ORC).await, "on");
}

#[tokio::test]
async fn a_failed_transaction_refuses_all_but_its_end() {
    let simulator = simulator().await;
    let mut client = connect(&simulator).await;
    let transaction = client.transaction().await.unwrap();
    let set = format!("SET {ORC} = off");
    transaction.batch_execute(&set).await.unwrap();
    assert_eq!(
        transaction
            .query("SELECT * FROM sales_encrypted", &[])
            .await
            .unwrap()
            .len(),
        8
    );
    let error = transaction
        .query("SELECT nothing FROM customers", &[])
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::UNDEFINED_COLUMN));
    for _ in 0..2 {
        let error = transaction.query("SELECT 1", &[]).await.unwrap_err();
        assert_eq!(error.code(), Some(&SqlState::IN_FAILED_SQL_TRANSACTION));
    }
    let error = transaction.batch_execute("SELECT 1").await.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::IN_FAILED_SQL_TRANSACTION));
    transaction.commit().await.unwrap(); // answered by ROLLBACK
    assert_eq!(show(&client, ORC).await, "on");
    assert_eq!(simple(&client, "SELECT 1 + 1").await.unwrap(), ["2"]);
}

#[tokio::test]
async fn settings_of_the_database_and_of_the_startup_packet_count() {
    let simulator = simulator().await;
    let client = connect(&simulator).await;
    let sql = format!("ALTER DATABASE shop SET {ORC} = false");
    client.batch_execute(&sql).await.unwrap();
    assert_eq!(show(&client, ORC).await, "on");
    assert_eq!(show(&connect(&simulator).await, ORC).await, "off");

    let options = format!("-c {ORC}=on -c application_name=report");
    let mut config = Config::new();
    let config = config.user("analyst").dbname("shop").options(options);
    let client = connect_as(&simulator, config).await.unwrap();
    assert_eq!(show(&client, ORC).await, "on");
    assert_eq!(show(&client, "application_name").await, "report");

    let mut config = Config::new();
    let config = config.user("analyst").options(format!("-c {ORC}=perhaps"));
    let error = connect_as(&simulator, config).await.unwrap_err();
    let error = error.as_db_error().expect("an answer of the server");
    assert_eq!((error.severity(), error.code().code()), ("FATAL", "22023"));
}

#[tokio::test]
async fn parameters_take_the_type_of_what_they_are_compared_with() {
    let simulator = simulator().await;
    let client = connect(&simulator).await;
    let sql = "SELECT product FROM sales_plain WHERE region = $1 AND order_id > $2 \
               ORDER BY product LIMIT $3";
    let rows = client
        .query(sql, &[&"north", &1001_i64, &1_i64])
        .await
        .unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].get::<_, &str>(0), "oats");
    let sql = "SELECT name FROM customers WHERE id = $1::int AND active = $2";
    assert_eq!(client.query(sql, &[&4_i32, &true]).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_portal_can_be_fetched_in_parts() {
    let simulator = simulator().await;
    let mut client = connect(&simulator).await;
    let transaction = client.transaction().await.unwrap();
    let portal = transaction
        .bind("SELECT id FROM customers ORDER BY 1", &[])
        .await
        .unwrap();
    let mut sizes = Vec::new();
    for _ in 0..3 {
        sizes.push(transaction.query_portal(&portal, 2).await.unwrap().len());
    }
    assert_eq!(sizes, [2, 2, 1]);
}

#[tokio::test]
async fn groups_orders_and_expressions() {
    let simulator = simulator().await;
    let client = connect(&simulator).await;
    for (sql, expected) in [
        (
            "SELECT region, count(*), max(amount) FROM sales_plain GROUP BY region ORDER BY 1",
            vec![
                "east|2|3310",
                "north|3|1250.5",
                "south|1|920.75",
                "west|2|640.25",
            ],
        ),
        (
            "SELECT sum(id), avg(id), min(name) FROM customers",
            vec!["15|3|Aurora Foods"],
        ),
        ("SELECT count(*) FROM customers WHERE id > 99", vec!["0"]),
        ("SELECT sum(id) FROM customers WHERE id > 99", vec!["NULL"]),
        (
            "SELECT name FROM customers WHERE NOT active OR id = '2' ORDER BY id DESC",
            vec!["Cedar Textiles", "Baltic Freight"],
        ),
        (
            "SELECT 1, 'it''s', true, NULL, 2.5 * 2",
            vec!["1|it's|t|NULL|5"],
        ),
        (
            "SELECT current_user, current_database()",
            vec!["analyst|shop"],
        ),
        ("SELECT current_setting('server_version')", vec!["11.3"]),
        (
            "SELECT id FROM customers ORDER BY id OFFSET 3",
            vec!["4", "5"],
        ),
    ] {
        assert_eq!(simple(&client, sql).await.unwrap(), expected, "{sql}");
    }
    let version = simple(&client, "SELECT hg_version()").await.unwrap();
    assert!(version[0].starts_with("Hologres 2.2.47 "), "{version:?}");
}

#[tokio::test]
async fn errors_have_postgresqls_codes() {
    let simulator = simulator().await;
    let client = connect(&simulator).await;
    for (sql, code) in [
        ("selec 1", "42601"),
        ("CREATE TABLE a (b int)", "0A000"),
        ("SELECT a FROM t", "42P01"),
        ("SELECT c.a FROM customers d", "42P01"),
        ("SELECT id FROM customers a, customers b", "42702"),
        ("SELECT 1 FROM customers WHERE id = 'one'", "22P02"),
        ("SELECT 1 FROM customers WHERE id = name", "42883"),
        ("SELECT 'nope'::regclass", "42P01"),
        ("SELECT 'a", "42601"),
        ("SELECT nope FROM customers", "42703"),
        ("SELECT nope()", "42883"),
        ("SELECT region, count(*) FROM customers", "42803"),
        ("SHOW nope", "42704"),
        ("SET hg_enable_access_odps_orc_via_holo = perhaps", "22023"),
        ("SELECT 1 / 0", "22012"),
        ("BEGIN; DISCARD ALL", "25001"),
    ] {
        let error = client.batch_execute(sql).await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), code, "{sql}");
        client.batch_execute("ROLLBACK").await.unwrap();
    }
    let error = client.prepare("SELECT 1; SELECT 2").await.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::SYNTAX_ERROR));
}

#[tokio::test]
async fn what_is_too_much_is_refused_and_harms_nobody() {
    let simulator = simulator().await;
    let client = connect(&simulator).await;
    let sum = |terms: usize| format!("SELECT {}", vec!["1"; terms].join("+"));
    let nested = format!("SELECT {}1{}", "(".repeat(500), ")".repeat(500));
    let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n";
    for (sql, code) in [
        (sum(20_000), "54001"),
        (sum(30_000), "0A000"),
        (nested, "54001"),
        (endless.to_owned(), "0A000"),
    ] {
        let error = client.simple_query(&sql).await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), code, "{sql:.40}");
    }
    assert_eq!(simple(&client, &sum(200)).await.unwrap(), ["200"]);
}

#[tokio::test]
async fn explain_shows_the_engine() {
    let simulator = simulator().await;
    let client = connect(&simulator).await;
    let sql = "EXPLAIN SELECT * FROM revenue";
    let plan = simple(&client, sql).await.unwrap().join("\n");
    assert!(plan.contains("Engine: HQE"), "{plan}");
    client
        .batch_execute(&format!("SET {ORC} = false"))
        .await
        .unwrap();
    let plan = simple(&client, sql).await.unwrap().join("\n");
    assert!(plan.contains("Engine: SQE"), "{plan}");
    assert_eq!(
        simulator.scans(Engine::Sqe, "public.sales_encrypted").begun,
        0
    );
}

#[tokio::test]
async fn the_log_tells_what_has_been_run_and_how() {
    let simulator = simulator().await;
    let client = connect(&simulator).await;
    client
        .batch_execute("SET application_name = 'a'; SELECT 1")
        .await
        .unwrap();
    client.query("SELECT 2", &[]).await.unwrap();
    let received = simulator.received();
    let log: Vec<_> = received
        .iter()
        .map(|one| (one.protocol, one.sql.as_str()))
        .collect();
    let expected = [
        (Protocol::Simple, "SET application_name = 'a'; SELECT 1"),
        (Protocol::Extended, "SELECT 2"),
    ];
    assert_eq!(log, expected);
}

#[tokio::test]
async fn a_password_is_asked_for_if_there_is_one() {
    let options = Options {
        password: Some("secret".into()),
        ..Options::default()
    };
    let simulator = Simulator::start(options).await.unwrap();
    let mut config = Config::new();
    let config = config.user("analyst").password("wrong");
    let error = connect_as(&simulator, config).await.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::INVALID_PASSWORD));
    let client = connect_as(&simulator, config.password("secret"))
        .await
        .unwrap();
    assert_eq!(
        simple(&client, "SELECT current_database()").await.unwrap(),
        ["analyst"]
    );
}

#[tokio::test]
async fn a_cancel_request_does_no_harm() {
    let simulator = simulator().await;
    let client = connect(&simulator).await;
    client.cancel_token().cancel_query(NoTls).await.unwrap();
    assert_eq!(simple(&client, "SELECT 1").await.unwrap(), ["1"]);
}

#[tokio::test]
async fn an_empty_query_is_answered() {
    let simulator = simulator().await;
    let client = connect(&simulator).await;
    client.batch_execute(" ; -- nothing").await.unwrap();
    assert_eq!(client.execute("", &[]).await.unwrap(), 0);
}

/// A server of metrics that says what Osprey would say once it has read the catalogs.
async fn metrics() -> std::net::SocketAddr {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            assert!(stream.read(&mut request).await.unwrap() > 0);
            let answer = "HTTP/1.0 200 OK\r\n\r\n\
                          osprey_catalog_protected_relations{database=\"shop\"} 2\n\
                          osprey_injections_total{kind=\"query\"} 7\n";
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    address
}

#[tokio::test]
async fn the_story_without_osprey_says_what_did_not_happen() {
    let simulator = simulator().await;
    let stage = Stage {
        simulator: &simulator,
        osprey: simulator.address(), // nothing in between
        metrics: Some(metrics().await),
    };
    let mut out = Vec::new();
    let missing = Story::new(stage, &mut out, false).tell().await.unwrap();
    assert_eq!(
        missing,
        [
            "step 2: the statement failed through Osprey",
            "step 2: SQE has not read the encrypted table",
            "step 2: the view failed through Osprey",
            "step 4: no SET of Osprey's arrived at Hologres",
            "step 4: osprey_injections_total has not moved",
        ]
    );
    let out = String::from_utf8(out).unwrap();
    assert!(
        out.contains("3310"),
        "the plain table is read all the same: {out}"
    );
    assert!(!out.contains('\x1b'), "no colour was asked for");
    let longest = out.lines().map(|line| line.chars().count()).max();
    assert!(longest < Some(100), "{longest:?}");
}

#[tokio::test]
async fn a_story_that_breaks_off_says_why() {
    let simulator = simulator().await;
    let nobody = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
    let stage = Stage {
        simulator: &simulator,
        osprey: nobody,
        metrics: Some(nobody),
    };
    let missing = Story::new(stage, Vec::new(), false).tell().await.unwrap();
    assert_eq!(missing.len(), 1);
    assert!(
        missing[0].starts_with("the story broke off: "),
        "{missing:?}"
    );
    assert!(missing[0].contains("onnection refused"), "{missing:?}");
}

#[tokio::test]
async fn the_catalog_reader_is_answered() {
    let simulator = simulator().await;
    let mut settings = Settings::for_upstream("127.0.0.1", simulator.address().port());
    settings.upstream_mut().catalog.user = Some("reader".into());
    let service = common::service(&settings);
    let contents = service.read(DATABASE).await.unwrap();
    let relations = contents
        .relations
        .iter()
        .map(|relation| (&*relation.name, relation.project.as_deref()));
    let expected = [
        ("sales_encrypted", Some("finance_encrypted")),
        ("sales_plain", Some("finance_plain")),
        ("revenue", None),
    ];
    let mut relations: Vec<_> = relations.collect();
    relations.sort_unstable_by_key(|relation| relation.1.is_none());
    assert_eq!(relations, expected);
    assert_eq!(contents.relations[2].reads, [0]);
    assert!(contents.version.is_some() && contents.route.orc_via_holo == Some(true));
}
