//! ClickHouse away under load: the archive goes on, the views catch up by themselves.

use std::fs;
use std::time::Duration;

use crate::producer::{Producer, reading};
use crate::stack::{Stack, signal};

#[test]
fn the_archive_goes_on_while_clickhouse_stands_still() {
    let stack = Stack::start(&[]);
    let producer = Producer::new(stack.endpoint("kafka"));
    let mut n = 0;
    let mut send = |count: u64| {
        for _ in 0..count {
            let machine = format!("press-{:02}", n % 8);
            producer.send(&machine, reading(&machine, "oil", n).as_bytes());
            n += 1;
        }
        producer.flush();
        n.cast_signed()
    };
    let first = send(5_000);
    stack.wait_number("select cast(sum(count) as bigint) from readings_1d", "views", |n| n == first);

    let engine = child_with(&stack, "clickhouse-server");
    signal(engine, "STOP");
    let second = send(50_000);
    stack.wait_number("select count(*) from readings", "the archive goes on", |n| n == second);
    let error = stack.try_rows("select count(*) from readings_1d where time > now()");
    assert!(error.is_err() || error.is_ok_and(|rows| rows.len() == 1));
    signal(engine, "CONT");
    stack.wait_number("select cast(sum(count) as bigint) from readings_1d", "caught up", |n| n == second);

    // The engine dies outright: it is started again, and nothing is missing or double.
    signal(child_with(&stack, "clickhouse-server"), "KILL");
    let third = send(20_000);
    stack.wait_number("select count(*) from readings", "the archive goes on", |n| n == third);
    stack.wait_number("select cast(sum(count) as bigint) from readings_1d", "caught up", |n| n == third);
    let sum = third * (third - 1) / 2;
    for view in ["readings_10s", "readings_1m", "readings_1h", "readings_1d"] {
        let sql = format!("select cast(sum(count) as bigint), cast(sum(sum) as bigint) from {view}");
        assert_eq!(stack.rows(&sql), [[third, sum].map(serde_json::Value::from)], "{view}");
    }
}

/// The process of this stack whose command line holds `word`.
fn child_with(stack: &Stack, word: &str) -> u32 {
    let data = stack.data().display().to_string();
    for _ in 0..600 {
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line);
            if line.contains(word) && line.contains(&data) {
                return pid;
            }
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("no process {word} of {data}")
}
