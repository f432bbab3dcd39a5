//! The PostgreSQL wire, by a real client.

mod common;

use std::time::Duration;

use common::{Server, server};
use stillwell_query::Limits;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_postgres::error::{ErrorPosition, SqlState};
use tokio_postgres::{Client, Config, Error, NoTls, SimpleQueryMessage};

/// Longer than any test waits; statements of this kind end only when something ends them.
const ENDLESS: &str = "SELECT sum(a.value * b.value) FROM generate_series(1, 1000000) AS a \
                       CROSS JOIN generate_series(1, 1000000) AS b";

/// Rows without end, which begin at once.
const ROWS: &str = "SELECT value FROM generate_series(1, 1000000000000)";

/// What a broken test waits for, at most.
const PATIENCE: Duration = Duration::from_secs(60);

async fn started(limits: Limits) -> (Server, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (server(folder.path(), limits).await, folder)
}

async fn connect(server: &Server) -> Result<Client, Error> {
    let config = config(server);
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

fn config(server: &Server) -> Config {
    let mut config = Config::new();
    config.host("127.0.0.1").port(server.bound.pg.port()).user("test").dbname("stillwell");
    config
}

fn cell(messages: &[SimpleQueryMessage]) -> String {
    let row = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    row.unwrap().to_owned()
}

fn code(error: &Error) -> &str {
    error.code().unwrap_or_else(|| panic!("{error:?}")).code()
}

#[tokio::test]
async fn statements_are_answered_and_changes_are_refused() {
    let (server, _folder) = started(Limits::default()).await;
    let client = connect(&server).await.unwrap();
    assert_eq!(cell(&client.simple_query("SELECT 40 + 2").await.unwrap()), "42");
    let row = client.query_one("SELECT $1::bigint + 1", &[&41_i64]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 42);
    for sql in [
        "CREATE TABLE t (a int)",
        "INSERT INTO readings VALUES (1)",
        "COPY (SELECT 1) TO '/tmp/out.csv'",
        "SET datafusion.execution.batch_size = 1",
        "SELECT 1 INTO t",
        "SELECT * FROM (SELECT 1 AS x INTO t) AS s",
        "WITH a AS (DELETE FROM readings) SELECT 1",
        "DECLARE c CURSOR FOR SELECT 1 INTO t",
    ] {
        let error = client.simple_query(sql).await.expect_err(sql);
        assert!(matches!(code(&error), "25006" | "42601"), "{sql}: {error:?}");
        let error = client.prepare(sql).await.expect_err(sql);
        assert!(matches!(code(&error), "25006" | "42601"), "{sql}: {error:?}");
    }
}

#[tokio::test]
async fn long_chains_are_refused_and_the_server_lives_on() {
    let (server, _folder) = started(Limits::default()).await;
    let client = connect(&server).await.unwrap();
    for sql in
        [format!("SELECT 1{}", "+1".repeat(100_000)), format!("SELECT 1{}", " UNION SELECT 1".repeat(9_000))]
    {
        assert!(client.simple_query(&sql).await.unwrap_err().to_string().len() > 1);
        client.prepare(&sql).await.expect_err("refused");
        assert_eq!(cell(&client.simple_query("SELECT 1").await.unwrap()), "1");
    }
}

#[tokio::test]
async fn what_sessions_do_as_a_matter_of_course_is_accepted() {
    let (server, _folder) = started(Limits::default()).await;
    let client = connect(&server).await.unwrap();
    for sql in [
        "BEGIN",
        "SAVEPOINT a",
        "ROLLBACK TO SAVEPOINT a",
        "RELEASE SAVEPOINT a",
        "COMMIT",
        "SET statement_timeout = '5s'",
        "RESET statement_timeout",
        "DISCARD ALL",
        "DEALLOCATE ALL",
        "DEALLOCATE nothing",
    ] {
        client.simple_query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        client.execute(sql, &[]).await.unwrap_or_else(|error| panic!("prepared {sql}: {error:?}"));
    }
}

#[tokio::test]
async fn a_failed_transaction_goes_on_from_its_savepoint() {
    let (server, _folder) = started(Limits::default()).await;
    let client = connect(&server).await.unwrap();
    client.batch_execute("BEGIN; SAVEPOINT a").await.unwrap();
    client.simple_query("SELECT nope").await.unwrap_err();
    client.simple_query("SELECT 1").await.expect_err("the transaction has failed");
    client.simple_query("ROLLBACK TO SAVEPOINT a").await.unwrap();
    assert_eq!(cell(&client.simple_query("SELECT 1").await.unwrap()), "1");
    client.simple_query("COMMIT").await.unwrap();
}

#[tokio::test]
async fn several_statements_cannot_be_prepared_as_one() {
    let (server, _folder) = started(Limits::default()).await;
    let client = connect(&server).await.unwrap();
    assert_eq!(code(&client.prepare("SELECT 1; SELECT 2").await.unwrap_err()), "42601");
    client.prepare("SELECT 1;").await.unwrap();
    // One message of the simple kind may hold several, also more than there are slots.
    let many = "SELECT 1; ".repeat(20);
    client.simple_query(&many).await.unwrap();
}

#[tokio::test]
async fn mistakes_are_placed_in_the_clients_own_text() {
    let (server, _folder) = started(Limits::default()).await;
    let client = connect(&server).await.unwrap();
    for (sql, sqlstate, at) in [
        ("SELECT nope FROM readings", SqlState::UNDEFINED_COLUMN, Some(8)),
        ("SELECT machine,\n  nope FROM readings", SqlState::UNDEFINED_COLUMN, Some(19)),
        ("SELECT * FROM nope", SqlState::UNDEFINED_TABLE, Some(15)),
        ("SELEC 1", SqlState::SYNTAX_ERROR, Some(1)),
        ("SELECT 1 / 0", SqlState::DIVISION_BY_ZERO, None),
    ] {
        let error = client.simple_query(sql).await.expect_err(sql);
        let error = error.as_db_error().unwrap();
        assert_eq!(*error.code(), sqlstate, "{sql}: {error:?}");
        let found = match error.position() {
            Some(ErrorPosition::Original(at)) => Some(*at),
            _ => None,
        };
        assert_eq!(found, at, "{sql}: {error:?}");
        assert!(!error.message().contains("(line"), "{sql}: {error:?}");
    }
}

#[tokio::test]
async fn a_cancel_request_ends_a_statement_that_runs() {
    let (server, _folder) = started(Limits { statements: 1, ..Limits::default() }).await;
    let client = connect(&server).await.unwrap();
    for sql in [ENDLESS, ROWS] {
        let token = client.cancel_token();
        let cancel = async {
            // A request that comes before the statement runs cancels nothing, so it is made again.
            loop {
                tokio::time::sleep(Duration::from_millis(100)).await;
                token.cancel_query(NoTls).await.unwrap();
            }
        };
        let error = tokio::select! {
            answered = tokio::time::timeout(PATIENCE, client.simple_query(sql)) => {
                answered.expect("the statement ends").expect_err(sql)
            }
            () = cancel => unreachable!(),
        };
        assert_eq!(*error.code().unwrap(), SqlState::QUERY_CANCELED, "{error:?}");
        assert_eq!(cell(&client.simple_query("SELECT 1").await.unwrap()), "1", "the slot is free again");
    }
}

#[tokio::test]
async fn a_statement_ends_at_its_timeout() {
    let (server, _folder) = started(Limits { statements: 1, ..Limits::default() }).await;
    let client = connect(&server).await.unwrap();
    client.simple_query("SET statement_timeout = '200ms'").await.unwrap();
    for sql in [ENDLESS, ROWS] {
        let error = tokio::time::timeout(PATIENCE, client.simple_query(sql)).await.unwrap().unwrap_err();
        assert_eq!(*error.code().unwrap(), SqlState::QUERY_CANCELED, "{error:?}");
        let error = tokio::time::timeout(PATIENCE, client.query(sql, &[])).await.unwrap().unwrap_err();
        assert_eq!(*error.code().unwrap(), SqlState::QUERY_CANCELED, "{error:?}");
    }
    assert_eq!(cell(&client.simple_query("SELECT 1").await.unwrap()), "1");
}

#[tokio::test]
async fn a_statement_ends_when_its_client_goes() {
    let (server, _folder) = started(Limits { statements: 1, ..Limits::default() }).await;
    let (leaver, connection) = config(&server).connect(NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    let statement = tokio::spawn(async move { leaver.simple_query(ENDLESS).await });
    let other = connect(&server).await.unwrap();
    other.simple_query("SET statement_timeout = '300ms'").await.unwrap();
    // The one slot is taken: others wait for it in vain.
    loop {
        let busy = other.simple_query("SELECT 1").await;
        if busy.is_err_and(|error| *error.code().unwrap() == SqlState::TOO_MANY_CONNECTIONS) {
            break;
        }
    }
    connection.abort();
    statement.abort();
    other.simple_query("SET statement_timeout = '25s'").await.unwrap();
    let answered = tokio::time::timeout(PATIENCE, other.simple_query("SELECT 1")).await.unwrap();
    assert_eq!(cell(&answered.unwrap()), "1");
}

#[tokio::test]
async fn one_connection_too_many_is_told_so() {
    let (server, _folder) = started(Limits { connections: 2, ..Limits::default() }).await;
    let _first = connect(&server).await.unwrap();
    let _second = connect(&server).await.unwrap();
    let error = connect(&server).await.expect_err("there is no room");
    assert_eq!(*error.code().unwrap(), SqlState::TOO_MANY_CONNECTIONS, "{error:?}");
}

/// One request, and its answer's status line, headers and body.
async fn http(server: &Server, request: &str) -> String {
    let mut socket = tokio::net::TcpStream::connect(server.bound.http).await.unwrap();
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn post(server: &Server, host: &str, sql: &str) -> String {
    let length = sql.len();
    http(
        server,
        &format!(
            "POST /v1/sql HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Type: text/plain\r\n\
             Content-Length: {length}\r\n\r\n{sql}"
        ),
    )
    .await
}

#[tokio::test]
async fn http_answers_to_its_own_names_alone() {
    let (server, _folder) = started(Limits::default()).await;
    for (host, status) in
        [("127.0.0.1:1", 200), ("localhost", 200), ("plant.example", 200), ("evil.example", 403)]
    {
        let answer = post(&server, host, "SELECT 1").await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{host}: {answer}");
    }
}

#[tokio::test]
async fn http_refuses_long_chains_and_lives_on() {
    let (server, _folder) = started(Limits::default()).await;
    let answer = post(&server, "localhost", &format!("SELECT 1{}", "+1".repeat(400_000))).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    let answer = post(&server, "localhost", "SELECT count(*) FROM readings").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn the_pipeline_tells_of_the_archive_while_the_views_are_away() {
    let folder = tempfile::tempdir().unwrap();
    let row = common::Row { machine: "m".into(), sensor: "s".into(), time_us: 5, value: None, quality: 0 };
    let mut lane = common::Lane::new(folder.path(), 3);
    lane.commit(&[row.clone(), row.clone()]);
    lane.commit(&[row]);
    let server = server(folder.path(), Limits::default()).await;
    let answer =
        http(&server, "GET /v1/pipeline HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let report: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(report["archived_readings"], 3, "{report}");
    assert_eq!(report["archive_written_us"], 1_001);
    assert_eq!(report["views_away"], true);
    let partition = &report["partitions"][0];
    assert_eq!(partition["partition"], 3);
    assert_eq!(partition["durable"], 103);
    assert_eq!(partition["durable_updated_us"], 1_001);
    assert_eq!(partition["archived_readings"], 3);
    assert_eq!(partition["readings"], serde_json::Value::Null);
}
