use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use serde_json::json;

use super::*;
use crate::settings::ClickHouseSettings;

/// An engine over the archive in `folder`, without ClickHouse.
pub(super) fn engine(folder: &std::path::Path, limits: Limits) -> Engine {
    let local = "127.0.0.1:0".parse().unwrap();
    let clickhouse = ClickHouseSettings {
        url: "http://127.0.0.1:9".into(),
        user: "default".into(),
        password: String::new(),
        database: "stillwell".into(),
    };
    let settings = QuerySettings {
        http: local,
        pg: local,
        archive: stillwell_schema::ArchiveUrl::Folder(folder.to_owned()),
        archive_options: Default::default(),
        topics: vec!["readings".into()],
        clickhouse,
        has_machines: true,
        machines_file: None,
        hosts: Vec::new(),
        limits,
        reconcile: Default::default(),
    };
    let store = crate::archive::open(&settings).unwrap();
    let catalogue = Arc::new(Catalogue::new(store, settings.topics.clone()));
    let machines = Arc::new(Machines::open(None, Arc::new(stillwell_schema::SystemClock)));
    Engine::new(&settings, &catalogue, &Views::new(&settings.clickhouse, &limits), &machines).unwrap()
}

/// An engine over an empty archive, without ClickHouse.
struct Fixture {
    engine: Engine,
    _folder: tempfile::TempDir,
}

impl Fixture {
    fn new(limits: Limits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { engine: engine(folder.path(), limits), _folder: folder }
    }

    async fn run(&self, request: Request) -> Result<Answer, QueryError> {
        self.engine.run(&request, Arc::new(Pin::default())).await
    }

    async fn sql(&self, sql: &str) -> Result<Answer, QueryError> {
        self.run(Request { sql: sql.to_owned(), ..Request::default() }).await
    }

    async fn bound(&self, sql: &str, params: Value) -> Result<Answer, QueryError> {
        let params = params.as_array().unwrap().clone();
        self.run(Request { sql: sql.to_owned(), params, ..Request::default() }).await
    }
}

fn int(answer: &Answer) -> i64 {
    answer.batches[0].column(0).as_primitive::<Int64Type>().value(0)
}

#[tokio::test]
async fn statements_that_read_are_answered() {
    let fixture = Fixture::new(Limits::default());
    for sql in [
        "SELECT 1",
        "select count(*) from readings",
        "WITH a AS (SELECT 1 AS x) SELECT x FROM a UNION ALL SELECT 2",
        "VALUES (1, 'a'), (2, 'b')",
        "EXPLAIN SELECT * FROM readings",
        "EXPLAIN ANALYZE SELECT * FROM readings",
        "SHOW TABLES",
        "DESCRIBE readings",
        "SELECT table_name FROM information_schema.tables",
        "select ';' -- one; statement",
        "SELECT machine FROM readings WHERE machine = 'drop table readings';",
    ] {
        fixture.sql(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
}

#[tokio::test]
async fn statements_that_could_change_something_are_refused() {
    let fixture = Fixture::new(Limits::default());
    for sql in [
        "CREATE TABLE t (a int)",
        "CREATE TABLE t AS SELECT 1",
        "CREATE VIEW v AS SELECT 1",
        "CREATE SCHEMA s",
        "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
        "CREATE FUNCTION f() RETURNS int RETURN 1",
        "DROP TABLE readings",
        "ALTER TABLE readings RENAME TO x",
        "TRUNCATE TABLE readings",
        "INSERT INTO readings VALUES (1)",
        "UPDATE readings SET value = 0",
        "DELETE FROM readings",
        "MERGE INTO readings USING records ON true WHEN MATCHED THEN DELETE",
        "COPY readings TO '/tmp/out.csv'",
        "COPY (SELECT 1) TO '/tmp/out.parquet'",
        "SET datafusion.execution.batch_size = 1",
        "RESET datafusion.execution.batch_size",
        "BEGIN",
        "COMMIT",
        "PREPARE p AS SELECT 1",
        "EXECUTE p",
        "DEALLOCATE p",
        "GRANT ALL ON readings TO PUBLIC",
        "SELECT 1 INTO t",
        "SELECT * FROM readings FOR UPDATE",
        "WITH a AS (INSERT INTO readings VALUES (1)) SELECT 1",
        "SELECT * FROM (SELECT 1 AS x INTO t) AS s",
        "SELECT 1 WHERE EXISTS (SELECT 1 INTO t)",
        "EXPLAIN DELETE FROM readings",
        "EXPLAIN ANALYZE INSERT INTO readings VALUES (1)",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO '/tmp/out.csv'",
    ] {
        let error = fixture.sql(sql).await.expect_err(sql);
        let refused = matches!(error, QueryError::ReadOnly { .. } | QueryError::Statement { .. });
        assert!(refused, "{sql}: {error:?}");
    }
    let error = fixture.sql("DROP TABLE readings").await.unwrap_err();
    assert!(matches!(&error, QueryError::ReadOnly { statement } if statement == "DROP TABLE"), "{error:?}");
    fixture.sql("SELECT count(*) FROM readings").await.expect("nothing was dropped");
}

#[tokio::test]
async fn files_cannot_be_reached_from_sql() {
    let fixture = Fixture::new(Limits::default());
    for sql in [
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_parquet('/etc/passwd')",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT * FROM \"file:///etc/passwd\"",
    ] {
        let error = fixture.sql(sql).await.expect_err(sql);
        assert!(matches!(error, QueryError::Statement { .. }), "{sql}: {error:?}");
    }
}

#[tokio::test]
async fn one_statement_is_taken_at_a_time() {
    let fixture = Fixture::new(Limits::default());
    for (sql, expected) in [
        ("SELECT 1; SELECT 2", "one statement at a time, 2 were given"),
        ("SELECT 1; DROP TABLE readings;", "one statement at a time, 2 were given"),
        ("", "the statement is empty"),
        ("  -- nothing\n", "the statement is empty"),
    ] {
        assert_eq!(fixture.sql(sql).await.unwrap_err().to_string(), expected, "{sql}");
    }
}

#[tokio::test]
async fn parameters_are_cast_to_the_type_of_their_place() {
    let fixture = Fixture::new(Limits::default());
    let count = "SELECT count(*) FROM (VALUES (1, 'a', 1.5), (2, 'b', 2.5)) AS t(i, s, f)";
    for (filter, params, expected) in [
        ("i = $1", json!([2]), 1),
        ("i = $1", json!([2.0]), 1),
        ("i = $1", json!(["2"]), 1),
        ("s = $1", json!(["a"]), 1),
        ("f > $1", json!([1]), 2),
        ("f >= $1 AND s <> $2", json!([1.5, "a"]), 1),
        ("i = $2 OR i = $1 OR i = $2", json!([1, 2]), 2),
        ("i = $1", json!([null]), 0),
    ] {
        let sql = format!("{count} WHERE {filter}");
        let answer = fixture.bound(&sql, params.clone()).await;
        let answer = answer.unwrap_or_else(|error| panic!("{filter} {params}: {error}"));
        assert_eq!(int(&answer), expected, "{filter} {params}");
    }
}

#[tokio::test]
async fn an_integer_is_a_time_in_microseconds() {
    let fixture = Fixture::new(Limits::default());
    let sql = "SELECT count(*) FROM (SELECT arrow_cast('2026-01-01T00:00:00.000001Z', \
               'Timestamp(Nanosecond, Some(\"UTC\"))') AS t) WHERE t = $1";
    for (param, expected) in
        [(json!(1_767_225_600_000_001_i64), 1), (json!("2026-01-01T00:00:00.000001Z"), 1), (json!(0), 0)]
    {
        assert_eq!(int(&fixture.bound(sql, json!([param])).await.unwrap()), expected, "{param}");
    }
    let error = fixture.bound(sql, json!([1.5])).await.unwrap_err().to_string();
    assert!(error.contains("integer of µs"), "{error}");
}

#[tokio::test]
async fn parameters_that_would_change_are_refused() {
    let fixture = Fixture::new(Limits::default());
    let sql = "SELECT i FROM (VALUES (1, 'a', true), (2, 'b', false)) AS t(i, s, b) WHERE i = $1";
    for param in [json!(2.5), json!("x"), json!(true), json!(1e300), json!([1]), json!({"a": 1})] {
        let error = fixture.bound(sql, json!([param])).await.expect_err(&param.to_string());
        assert!(error.to_string().starts_with("parameter $1"), "{param}: {error}");
    }
}

#[tokio::test]
async fn parameters_are_as_many_as_their_places() {
    let fixture = Fixture::new(Limits::default());
    for (sql, params, expected) in [
        ("SELECT 1", json!([1]), "the statement has 0 parameters, 1 were given"),
        ("SELECT $1::int", json!([]), "the statement has 1 parameters, 0 were given"),
        ("SELECT $1::int", json!([1, 2]), "the statement has 1 parameters, 2 were given"),
        ("SELECT $2::int", json!([1]), "the statement has 2 parameters, 1 were given"),
    ] {
        assert_eq!(fixture.bound(sql, params).await.unwrap_err().to_string(), expected, "{sql}");
    }
}

#[tokio::test]
async fn rows_beyond_the_cap_are_cut_off_and_said_to_be() {
    let limits = Limits { rows: 10, rows_max: 20, ..Limits::default() };
    let fixture = Fixture::new(limits);
    for (rows, asked, expected, truncated) in [
        (5, None, 5, false),
        (10, None, 10, false),
        (11, None, 10, true),
        (15, Some(15), 15, false),
        (20_000, Some(15), 15, true),
        (20_000, Some(usize::MAX), 20, true),
        (1, Some(0), 0, true),
        (0, Some(0), 0, false),
    ] {
        let sql = format!("SELECT * FROM generate_series(1, {rows})");
        let answer = fixture.run(Request { sql, max_rows: asked, ..Request::default() }).await.unwrap();
        assert_eq!((answer.rows, answer.truncated), (expected, truncated), "{rows} {asked:?}");
        assert_eq!(answer.batches.iter().map(RecordBatch::num_rows).sum::<usize>(), expected);
    }
}

#[tokio::test]
async fn an_answer_beyond_the_bytes_is_refused() {
    let fixture = Fixture::new(Limits { bytes: 1 << 16, ..Limits::default() });
    let error = fixture.sql("SELECT repeat('x', 1000) FROM generate_series(1, 1000)").await.unwrap_err();
    assert!(matches!(error, QueryError::TooLarge { limit: 65_536 }), "{error:?}");
}

#[tokio::test]
async fn a_statement_ends_at_its_time_and_leaves_its_slot() {
    let fixture = Fixture::new(Limits { statements: 1, ..Limits::default() });
    let endless = "SELECT sum(a.value * b.value) FROM generate_series(1, 1000000) AS a \
                   CROSS JOIN generate_series(1, 1000000) AS b";
    let timeout = Some(Duration::from_millis(200));
    let error =
        fixture.run(Request { sql: endless.into(), timeout, ..Request::default() }).await.unwrap_err();
    assert!(matches!(error, QueryError::Timeout(_)), "{error:?}");
    assert_eq!(int(&fixture.sql("SELECT 1::bigint").await.unwrap()), 1);
}

#[tokio::test]
async fn a_statement_without_a_slot_is_told_so() {
    let fixture = Fixture::new(Limits { statements: 1, ..Limits::default() });
    let _held = fixture.engine.begin(None, CancellationToken::new()).await.unwrap();
    let timeout = Some(Duration::from_millis(50));
    let error = fixture.run(Request { sql: "SELECT 1".into(), timeout, ..Request::default() }).await;
    assert!(matches!(error, Err(QueryError::Busy(_))), "{error:?}");
}

#[tokio::test]
async fn a_stream_ends_and_leaves_its_slot_though_nobody_reads() {
    let fixture = Fixture::new(Limits { statements: 1, ..Limits::default() });
    let engine = &fixture.engine;
    let cancelled = CancellationToken::new();
    let running = engine.begin(None, cancelled.clone()).await.unwrap();
    let sql = "SELECT * FROM generate_series(1, 1000000000)".to_owned();
    let request = Request { sql, ..Request::default() };
    let planned = engine.plan(&request, Arc::new(Pin::default()), &running).await.unwrap();
    let frame =
        SessionContext::new_with_state(planned.state).execute_logical_plan(planned.plan).await.unwrap();
    let mut stream = frame.execute_stream().await.unwrap();
    stream.next().await.unwrap().unwrap();
    running.leave();
    cancelled.cancel();
    let next = engine.begin(None, CancellationToken::new()).await;
    next.expect("the slot is free while the stream is still held");
    let error = loop {
        match stream.next().await {
            Some(Ok(_)) => {}
            Some(Err(error)) => break QueryError::from(error),
            None => panic!("the stream ended as if it were complete"),
        }
    };
    assert!(matches!(error, QueryError::Cancelled), "{error:?}");
}

#[tokio::test]
async fn mistakes_are_placed_and_classed() {
    let fixture = Fixture::new(Limits::default());
    for (sql, mistake, position) in [
        ("SELEC 1", "42601", Some((1, 1))),
        ("SELECT 1 +", "42601", None),
        ("SELECT nope FROM readings", "42703", Some((1, 8))),
        ("SELECT machine,\n       nope FROM readings", "42703", Some((2, 8))),
        ("SELECT * FROM nope", "42P01", Some((1, 15))),
        ("SELECT nope(1)", "42883", Some((1, 8))),
        ("SELECT machine FROM readings a, readings b", "42702", Some((1, 8))),
        ("SELECT 1 / 0", "22012", None),
        ("SELECT 'x'::bigint", "22P02", None),
    ] {
        let error = fixture.sql(sql).await.expect_err(sql);
        assert_eq!(error.sqlstate(), mistake, "{sql}: {error:?}");
        let found = error.position().map(|at| (at.line, at.column));
        assert!(position.is_none() || found == position, "{sql}: {found:?}, {error}");
    }
}

#[test]
fn a_position_counts_characters() {
    let check = |line, column, text: &str, expected| {
        assert_eq!(Position { line, column }.in_characters(text), expected, "{line}:{column} {text:?}");
    };
    check(1, 1, "select", Some(1));
    check(2, 3, "sélect\n  x", Some(10));
    check(1, 7, "select", Some(7));
    check(1, 8, "select", None);
    check(0, 0, "select", None);
}
