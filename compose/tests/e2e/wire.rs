//! What a user asks with: HTTP, psql, the page, the command line; and what is refused.

use std::process::{Command, Output, Stdio};

use crate::producer::{Producer, reading};
use crate::stack::Stack;

#[test]
fn every_door_answers_and_none_writes() {
    let stack = Stack::start(&[]);
    let producer = Producer::new(stack.endpoint("kafka"));
    for n in 0..100 {
        producer.send("press-07", reading("press-07", "oil", n).as_bytes());
    }
    producer.flush();
    stack.wait_number("select count(*) from readings", "archived", |n| n == 100);
    stack.wait_number("select cast(sum(count) as bigint) from readings_1m", "in views", |n| n == 100);

    let both = "select r.machine, count(*) from readings r join latest l on r.machine = l.machine group by 1";
    assert_eq!(stack.rows(both)[0][1], 100, "archive and views in one statement");

    aggregates_mean_the_same_in_clickhouse(&stack);

    let answer =
        text(psql(&stack, &["-Atc", "select machine, count(*), sum(\"index\") from readings group by 1"]));
    assert_eq!(answer.trim(), "press-07|100|0");
    let answer = text(psql(&stack, &["-Atc", "select sum(count) from readings_1h"]));
    assert_eq!(answer.trim(), "100");
    let tables = text(psql(&stack, &["-c", "\\d"]));
    for table in ["readings", "records", "dead_letters", "readings_10s", "anomalies", "latest"] {
        assert!(tables.contains(table), "\\d shows no {table}:\n{tables}");
    }

    for write in [
        "insert into latest values (1)",
        "create table t (a int)",
        "drop view readings_1m",
        "delete from readings",
        "update readings set value = 1",
        "copy readings to '/tmp/x'",
        "create external table t stored as parquet location '/etc/passwd'",
    ] {
        let refused = stack.try_rows(write).unwrap_err();
        assert!(refused.starts_with("403"), "{write}: {refused}");
        assert!(
            !psql(&stack, &["-v", "ON_ERROR_STOP=1", "-c", write]).status.success(),
            "psql accepts: {write}"
        );
    }
    let error = stack.try_rows("select machine,\n nonsense from readings").unwrap_err();
    assert!(error.starts_with("400") && error.contains("nonsense"), "{error}");
    assert!(error.contains(r#""position":{"column":2,"line":2}"#), "{error}");

    let out = stack.run(&["sql", "select count(*) as n from readings"]);
    assert!(out.status.success() && text(out).contains("100"));
    assert!(stack.run(&["status"]).status.success());

    let (status, page) = stack.http("GET", "/", "").unwrap();
    assert_eq!(status, 200);
    for link in
        page.split([' ', '\n', '>']).filter_map(|word| word.split_once("src=").or(word.split_once("href=")))
    {
        assert!(!link.1.contains("//"), "the page takes nothing from elsewhere: {link:?}");
    }
    let (status, health) = stack.http("GET", "/health", "").unwrap();
    let health: serde_json::Value = serde_json::from_str(&health).unwrap();
    assert_eq!((status, &health["status"]), (200, &"ok".into()), "{health}");
    for part in ["ingest/readings/0", "aggregate/readings/0", "kafka", "clickhouse", "query"] {
        assert_eq!(health["parts"][part]["state"], "ok", "{part}: {health}");
    }
    let (_, metrics) = stack.http("GET", "/metrics", "").unwrap();
    for name in ["stillwell_received_records_total", "stillwell_lag_records", "stillwell_watermark_offset"] {
        assert!(metrics.contains(name), "/metrics has no {name}");
    }
}

/// A limit, however high, leaves the aggregates above it to the engine.
fn aggregates_mean_the_same_in_clickhouse(stack: &Stack) {
    stack.wait_views();
    let minute = "floor(extract(epoch from time)/60)*60";
    for (columns, rest) in [
        ("count(*), sum(count), avg(count), min(min), max(max), max(score), min(time), max(time)", ""),
        ("count(*), sum(count), avg(count), min(min), max(machine)", "where machine = 'none'"),
        (
            "count(distinct sensor), sum(bad) * 1.0 / nullif(sum(count), 0)",
            "where sensor in ('oil', 'water')",
        ),
        ("machine, kind, sum(count) as n, avg(avg), sum(sum * 2.5)", "group by machine, kind order by n"),
        ("machine", "where machine = 'none' group by machine"),
        (format!("{minute} as t, sum(count), max(p95), count(score)").as_str(), "group by 1 order by 1"),
        ("date_bin(interval '7 seconds', time) as t, sum(count)", "group by 1 order by 1"),
        (
            "date_bin(interval '1 minute', time, '2026-01-01T00:00:30Z'::timestamptz) as t, sum(count)",
            "group by 1 order by 1",
        ),
        ("date_trunc('week', time) as t, min(time)", "group by 1 order by 1"),
        ("sum(count) filter (where min >= 50), sum(case when max < 20 then 1 else 0 end)", ""),
        ("machine, sum(count) as n", "group by machine having sum(count) > 1000000"),
    ] {
        let of = |view: &str| format!("select {columns} from {view} {rest}");
        let (pushed, here) =
            (of("readings_10s"), of("(select * from readings_10s limit 1000000) as readings_10s"));
        assert!(are_near(&stack.rows(&pushed), &stack.rows(&here)), "{pushed}");
        // Of distinct values, ClickHouse makes groups, which are counted here.
        let plan = format!("{:?}", stack.rows(&format!("explain {pushed}")));
        assert!(plan.contains("GROUP BY") || !plan.contains("AggregateExec"), "{pushed}: {plan}");
    }
}

/// Whether rows are the same but for rounding: each side sums in an order of its own.
fn are_near(some: &[Vec<serde_json::Value>], others: &[Vec<serde_json::Value>]) -> bool {
    let is_near = |(a, b): (&serde_json::Value, &serde_json::Value)| match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => (a - b).abs() <= 1e-12 * a.abs().max(b.abs()),
        _ => a == b,
    };
    let is_row_near = |(a, b): (&Vec<_>, &Vec<_>)| a.len() == b.len() && a.iter().zip(b).all(is_near);
    some.len() == others.len() && some.iter().zip(others).all(is_row_near)
}

fn psql(stack: &Stack, args: &[&str]) -> Output {
    let address = stack.endpoint("pg").rsplit('/').nth(if stack.endpoint("pg").matches('/').count() > 2 {
        1
    } else {
        0
    });
    let address = address.unwrap().rsplit('@').next().unwrap();
    let (host, port) = address.split_once(':').unwrap();
    Command::new("psql")
        .args(["-X", "-h", host, "-p", port, "-U", "stillwell", "-d", "stillwell"])
        .args(args)
        .env("PGCONNECT_TIMEOUT", "20")
        .stdin(Stdio::null())
        .output()
        .expect("psql is needed for this test: apt-get install postgresql-client")
}

fn text(out: Output) -> String {
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}
