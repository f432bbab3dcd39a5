//! ClickHouse away under load: the archive goes on, the views catch up by themselves.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::producer::{Ends, Producer, reading};
use crate::stack::{Stack, signal};

/// How long ClickHouse stands still; longer than its clients' patience.
const OUTAGE: Duration = Duration::from_secs(60);

#[test]
fn the_archive_goes_on_while_clickhouse_is_away() {
    let stack = Stack::start(&[]);
    let producer = Producer::new(stack.endpoint("kafka"));
    let (stop, produced) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let _ends = Ends(&stop);
        let load = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for _ in 0..50 {
                    let n = produced.fetch_add(1, Ordering::Relaxed);
                    let machine = format!("press-{:02}", n % 8);
                    producer.send(&machine, reading(&machine, "oil", n).as_bytes());
                }
                // Pacing: some 5,000 readings a second.
                std::thread::sleep(Duration::from_millis(10));
            }
            producer.flush();
        });
        stack.wait_number("select cast(sum(count) as bigint) from readings_1d", "views", |n| n > 0);
        let engine = stack.process(" clickhouse-server ");
        signal(engine, "STOP");
        let until = Instant::now() + OUTAGE;
        let mut archived = stack.number("select count(*) from readings");
        while Instant::now() < until {
            // However far the load is now, all of it becomes durable while ClickHouse stands still.
            let due = produced.load(Ordering::Relaxed).cast_signed();
            let now = stack.wait_number("select count(*) from readings", "the archive goes on", |n| n >= due);
            assert!(now > archived, "the archive stands at {now} of {due}");
            archived = now;
        }
        assert_ne!(state_of(&stack, "query/views"), "ok", "health says that the views are away");
        assert_eq!(state_of(&stack, "ingest"), "ok", "health says that the archive goes on");
        signal(engine, "CONT");
        stack.wait_number("select cast(sum(count) as bigint) from readings_1d", "caught up", |n| {
            n >= archived
        });

        // The engine dies outright: it is started again, and nothing is missing or double.
        signal(stack.process(" clickhouse-server "), "KILL");
        let due = produced.load(Ordering::Relaxed).cast_signed();
        stack.wait_number("select count(*) from readings", "the archive goes on", |n| n > due);
        stop.store(true, Ordering::Relaxed);
        load.join().unwrap();
    });
    let all = produced.into_inner().cast_signed();
    stack.wait_number("select count(*) from readings", "all archived", |n| n >= all);
    stack.wait_number("select cast(sum(count) as bigint) from readings_1d", "caught up", |n| n >= all);
    let sum = all * (all - 1) / 2;
    assert_eq!(stack.number("select count(*) from readings"), all);
    for view in ["readings_10s", "readings_1m", "readings_1h", "readings_1d"] {
        let sql = format!("select cast(sum(count) as bigint), cast(sum(sum) as bigint) from {view}");
        assert_eq!(stack.rows(&sql), [[all, sum].map(Value::from)], "{view}");
    }
}

/// What `/health` says of a part; ok where it says nothing worse.
fn state_of(stack: &Stack, part: &str) -> String {
    let (_, health) = stack.http("GET", "/health", "").unwrap();
    let health: Value = serde_json::from_str(&health).unwrap();
    let state = health["parts"][part]["state"].as_str();
    state.unwrap_or("ok").to_owned()
}
