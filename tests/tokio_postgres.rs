//! tokio-postgres reads and writes encrypted data in each way that it has.
//!
//! `tests/clients/test_tokio_postgres.py` starts the servers and runs this with
//! `OSPREY_TEST_CONNINFO`, against an Osprey (`OSPREY_TEST_VIA=osprey`), where all of it must work,
//! and against the stand-in itself (`direct`), where each read must fail with HQE's error. `session`
//! does what else it can, against either with the right setting; `logs_in` tries the logins in
//! `OSPREY_TEST_LOGINS`, one a line, trusting the authority in `OSPREY_TEST_CA`.

use std::future::Future;
use std::time::Duration;

use futures::{SinkExt, StreamExt, TryStreamExt, future};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error, NoTls, SimpleQueryMessage};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Statements that read encrypted data, and their rows.
const READS: [(&str, usize); 4] = [
    ("SELECT id, name FROM salaries", 1000),
    ("SELECT id, name FROM salary_names", 1000),
    ("SELECT id, name FROM sales.first_names", 5),
    (
        "SELECT s.id, p.team FROM people p JOIN salaries s USING (id)",
        100,
    ),
];

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"))
}

async fn connect() -> Client {
    let (client, connection) = tokio_postgres::connect(&variable("OSPREY_TEST_CONNINFO"), NoTls)
        .await
        .expect("the server accepts the connection");
    tokio::spawn(connection);
    client
}

/// On a session of its own: through Osprey the way must give `rows` rows, direct HQE's error.
async fn check<F, R>(what: &str, rows: usize, way: F)
where
    F: FnOnce(Client) -> R,
    R: Future<Output = Result<usize, Error>>,
{
    let result = way(connect().await).await;
    if variable("OSPREY_TEST_VIA") == "osprey" {
        assert_eq!(result.expect(what), rows, "{what}");
    } else {
        let error = result.expect_err(what);
        let message = error.as_db_error().expect(what).message();
        assert!(
            message.contains("PanguParameterInvalidException"),
            "{message}"
        );
    }
}

async fn simple(client: Client, statement: &str) -> Result<usize, Error> {
    let messages = client.simple_query(statement).await?;
    Ok(messages
        .iter()
        .filter(|message| matches!(message, SimpleQueryMessage::Row(_)))
        .count())
}

async fn prepared(client: Client, statement: &str) -> Result<usize, Error> {
    let statement = client.prepare(statement).await?;
    client.query(&statement, &[]).await?;
    Ok(client.query(&statement, &[]).await?.len())
}

async fn portal(mut client: Client, statement: &str) -> Result<usize, Error> {
    let transaction = client.transaction().await?;
    let portal = transaction.bind(statement, &[]).await?;
    let mut rows = 0;
    loop {
        let part = transaction.query_portal(&portal, 30).await?.len();
        rows += part;
        if part < 30 {
            break;
        }
    }
    transaction.commit().await?;
    Ok(rows)
}

/// Several statements on their way at once: tokio-postgres sends them without waiting.
async fn pipelined(client: Client, statement: &str) -> Result<usize, Error> {
    let plain = "SELECT id FROM people WHERE id = 1";
    let (first, rows, last) = future::join3(
        client.query(plain, &[]),
        client.query(statement, &[]),
        client.query(plain, &[]),
    )
    .await;
    assert_eq!(first?.len(), 1);
    let rows = rows?.len();
    assert_eq!(last?.len(), 1);
    Ok(rows)
}

async fn copied_out(client: Client, statement: &str) -> Result<usize, Error> {
    let stream = client
        .copy_out(&format!("COPY ({statement}) TO STDOUT"))
        .await?;
    let data: Vec<_> = stream.boxed().try_collect().await?;
    Ok(data.concat().split(|&byte| byte == b'\n').count() - 1)
}

async fn written(client: Client) -> Result<usize, Error> {
    let changed = client
        .execute(
            "INSERT INTO copied SELECT id, name, amount FROM salaries",
            &[],
        )
        .await?;
    Ok(usize::try_from(changed).expect("as many rows as there are"))
}

#[tokio::test]
#[ignore = "needs servers: tests/clients/test_tokio_postgres.py starts them and runs this"]
async fn reads_and_writes() {
    for (statement, rows) in READS {
        check("simple query", rows, |client| simple(client, statement)).await;
        check("prepared", rows, |client| prepared(client, statement)).await;
        check("portal", rows, |client| portal(client, statement)).await;
        check("pipelined", rows, |client| pipelined(client, statement)).await;
        check("copied out", rows, |client| copied_out(client, statement)).await;
    }
    check("written", 1000, written).await;
}

const COUNT: &str = "SELECT count(*) FROM salaries";

async fn count(client: &Client, statement: &str) -> i64 {
    let row = client.query_one(statement, &[]).await;
    row.expect(statement).get(0)
}

#[tokio::test]
#[ignore = "needs servers: tests/clients/test_tokio_postgres.py starts them and runs this"]
async fn session() {
    let mut client = connect().await;
    let transaction = client.transaction().await.unwrap();
    let failing = "SELECT 1 / (id - $1) FROM salaries";
    let error = transaction.query(failing, &[&1]).await.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::DIVISION_BY_ZERO));
    let error = transaction.query(COUNT, &[]).await.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::IN_FAILED_SQL_TRANSACTION));
    transaction.rollback().await.unwrap();
    assert_eq!(count(&client, COUNT).await, 1000);

    client.batch_execute("TRUNCATE copied").await.unwrap();
    let copy = "COPY copied (id) FROM STDIN";
    let mut sink = Box::pin(client.copy_in(copy).await.unwrap());
    sink.send("1\n2\n".as_bytes()).await.unwrap();
    assert_eq!(sink.as_mut().finish().await.unwrap(), 2);
    let joined = "SELECT count(*) FROM copied JOIN salaries USING (id)";
    assert_eq!(count(&client, joined).await, 2);

    let token = client.cancel_token();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(300)).await;
        token.cancel_query(NoTls).await.unwrap();
    });
    let slow = "SELECT pg_sleep(30), count(*) FROM salaries";
    let error = client.query(slow, &[]).await.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::QUERY_CANCELED));
    assert_eq!(count(&client, COUNT).await, 1000);
}

#[tokio::test]
#[ignore = "needs servers: tests/clients/test_tokio_postgres.py starts them and runs this"]
async fn logs_in() {
    let mut roots = rustls::RootCertStore::empty();
    let authority = CertificateDer::from_pem_file(variable("OSPREY_TEST_CA")).unwrap();
    roots.add(authority).unwrap();
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let config = rustls::ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tls = MakeRustlsConnect::new(config);
    for login in variable("OSPREY_TEST_LOGINS").lines() {
        let connected = tokio_postgres::connect(login, tls.clone()).await;
        let (client, connection) = connected.expect(login);
        tokio::spawn(connection);
        assert_eq!(count(&client, "SELECT count(*) FROM people").await, 100);
    }
}
