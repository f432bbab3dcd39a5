//! kill -9 of the whole process under load: every reading once, everywhere.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::producer::{Producer, reading};
use crate::stack::Stack;

const KILLS: usize = 5;
const MACHINES: u64 = 16;

#[test]
fn five_kills_under_load_lose_and_double_nothing() {
    let mut stack = Stack::start(&[]);
    let producer = Producer::new(stack.endpoint("kafka"));
    let (stop, produced) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for _ in 0..50 {
                    let n = produced.fetch_add(1, Ordering::Relaxed);
                    let machine = format!("press-{:02}", n % MACHINES);
                    producer.send(&machine, reading(&machine, "bearing", n).as_bytes());
                }
                // Pacing: some 5,000 readings a second.
                std::thread::sleep(Duration::from_millis(10));
            }
            producer.flush();
        });
        for kill in 0..KILLS {
            let before = stack.number("select count(*) from readings");
            // Each kill comes at another moment between two commits, with data on its way.
            stack.wait_number("select count(*) from readings", "the archive moves on", |n| n > before);
            std::thread::sleep(Duration::from_millis(700 * kill as u64));
            stack.kill();
            stack.restart();
        }
        stop.store(true, Ordering::Relaxed);
        load.join().unwrap();
    });
    let produced = produced.into_inner().cast_signed();
    stack.wait_number("select count(*) from readings", "all archived", |n| n >= produced);
    stack
        .wait_number("select cast(sum(count) as bigint) from readings_1d", "all in views", |n| n >= produced);
    let archive = "select count(*), count(distinct value), cast(sum(value) as bigint) from readings";
    let sum = produced * (produced - 1) / 2;
    assert_eq!(stack.rows(archive), [[produced, produced, sum].map(serde_json::Value::from)]);
    for view in ["readings_10s", "readings_1m", "readings_1h", "readings_1d"] {
        let sql = format!("select cast(sum(count) as bigint), cast(sum(sum) as bigint) from {view}");
        assert_eq!(stack.rows(&sql), [[produced, sum].map(serde_json::Value::from)], "{view}");
    }
    let records = "select count(*), count(distinct topic || partition || '-' || \"offset\") from records";
    assert_eq!(stack.rows(records), [[produced, produced].map(serde_json::Value::from)]);
    assert!(stack.stop().success(), "{}", stack.log());
    assert!(!stack.data().join("endpoints.json").exists());
}
