//! ClickHouse's tables: the statements for a cluster are ones that the engine reads, and windows are kept for as long
//! as the config says.

use std::process::Command;

use crate::stack::{Stack, http};

#[test]
fn statements_for_a_cluster_parse_and_windows_are_kept_for_a_time() {
    let mut stack = Stack::start(&[]);
    let ask = |stack: &Stack, sql: &str| {
        let (login, address) =
            stack.endpoint("clickhouse").trim_start_matches("http://").split_once('@').unwrap();
        let (user, password) = login.split_once(':').unwrap();
        http(address, "POST", &format!("/?user={user}&password={password}"), sql).unwrap()
    };

    let one = printed(&["migrations"]);
    let cluster = printed(&["migrations", "--cluster", "plant"]);
    assert!(cluster.len() > one.len(), "{} {}", cluster.len(), one.len());
    for statement in one.iter().chain(&cluster) {
        let (status, answer) = ask(&stack, &format!("EXPLAIN AST {statement}"));
        assert_eq!(status, 200, "{statement}: {answer}");
    }

    let ttl = |stack: &Stack, table: &str| {
        let of = format!("database = 'stillwell' AND name = '{table}'");
        ask(stack, &format!("SELECT engine_full FROM system.tables WHERE {of}")).1
    };
    assert!(
        ttl(&stack, "windows_10s").contains("TTL written + toIntervalDay(90)"),
        "{}",
        ttl(&stack, "windows_10s")
    );
    assert!(ttl(&stack, "windows_1m").contains("TTL written + toIntervalDay(730)"));
    assert!(!ttl(&stack, "windows_1d").contains("TTL"));

    let altered =
        |stack: &Stack| ask(stack, "SELECT count() FROM system.mutations WHERE database = 'stillwell'").1;
    let before = altered(&stack);
    stack.kill();
    stack.restart();
    assert_eq!(altered(&stack), before, "what is as it should be is left alone");
}

#[test]
fn who_migrates_next_waits_for_one_that_is_gone_and_finishes_what_it_left() {
    let mut stack = Stack::start(&[]);
    let url = stack.endpoint("clickhouse").to_owned();
    let ask = |sql: &str| {
        let (login, address) = url.trim_start_matches("http://").split_once('@').unwrap();
        let (user, password) = login.split_once(':').unwrap();
        let (status, answer) =
            http(address, "POST", &format!("/?user={user}&password={password}"), sql).unwrap();
        assert_eq!(status, 200, "{sql}: {answer}");
        answer
    };
    ask("DELETE FROM stillwell.migrations WHERE name = '0012_direct'");
    ask("CREATE TABLE stillwell.migrating (at DateTime64(6, 'UTC')) ENGINE = MergeTree ORDER BY at");
    stack.kill();
    stack.restart();
    assert_eq!(ask("SELECT count() FROM stillwell.migrations WHERE name = '0012_direct'").trim(), "1");
    let of = "database = 'stillwell' AND name LIKE 'migrating%'";
    assert_eq!(ask(&format!("SELECT count() FROM system.tables WHERE {of}")).trim(), "0");
}

/// The statements that a command prints.
fn printed(args: &[&str]) -> Vec<String> {
    let out = Command::new(env!("CARGO_BIN_EXE_stillwell")).args(args).output().unwrap();
    assert!(out.status.success(), "{out:?}");
    let text = String::from_utf8(out.stdout).unwrap();
    text.split(";\n\n").filter(|statement| !statement.is_empty()).map(str::to_owned).collect()
}
