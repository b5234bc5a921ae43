//! tokio-postgres reads and writes encrypted data in each way that it has.
//!
//! `tests/clients/test_tokio_postgres.py` starts the servers and runs this with
//! `OSPREY_TEST_CONNINFO`, against an Osprey (`OSPREY_TEST_VIA=osprey`), where all of it must work,
//! and against the stand-in itself (`direct`), where each read must fail with HQE's error.

use std::future::Future;

use futures::{StreamExt, TryStreamExt, future};
use tokio_postgres::{Client, Error, NoTls, SimpleQueryMessage};

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
