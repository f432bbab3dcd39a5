//! The archive in a bucket of a real S3-compatible server: kill -9 under load and a server that stands still.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::producer::{Ends, Producer, reading};
use crate::stack::{SOON, Stack, signal};
use crate::versitygw::{ACCESS_KEY, BUCKET, SECRET_KEY, Versitygw};

const KILLS: u64 = 3;
const MACHINES: u64 = 16;

#[test]
fn kills_and_a_server_that_stands_still_lose_and_double_nothing() {
    let Some(server) = Versitygw::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("stillwell.toml");
    fs::write(&config, settings(server.port)).unwrap();
    let mut stack = Stack::start(&["--config", config.to_str().unwrap()]);
    assert_eq!(stack.endpoint("archive"), format!("s3://{BUCKET}/line-1"));
    let producer = Producer::new(stack.endpoint("kafka"));
    let (stop, produced) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let _ends = Ends(&stop);
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
            std::thread::sleep(Duration::from_millis(370 * kill));
            stack.kill();
            stack.restart();
        }
        let before = stack.number("select count(*) from readings");
        stack.wait_number("select count(*) from readings", "the archive moves on", |n| n > before);
        signal(server.pid(), "STOP");
        let part = waits_for_the_store(&stack);
        let metrics = stack.http("GET", "/metrics", "").unwrap().1;
        let lane = part.rsplit_once('/').unwrap().1;
        let line = format!(
            r#"stillwell_lane_state{{stage="ingest",topic="readings",partition="{lane}",state="waiting"}} 1"#
        );
        assert!(metrics.contains(&line), "{line}");
        signal(server.pid(), "CONT");
        let due = produced.load(Ordering::Relaxed).cast_signed();
        stack.wait_number("select count(*) from readings", "it goes on by itself", |n| n >= due);
        stop.store(true, Ordering::Relaxed);
        load.join().unwrap();
    });
    let produced = produced.into_inner().cast_signed();
    stack.wait_number("select count(*) from readings", "all archived", |n| n >= produced);
    let sum = produced * (produced - 1) / 2;
    let archive = "select count(*), count(distinct value), cast(sum(value) as bigint) from readings";
    assert_eq!(stack.rows(archive), [[produced, produced, sum].map(Value::from)]);
    let records = "select count(*), count(distinct topic || partition || '-' || \"offset\") from records";
    assert_eq!(stack.rows(records), [[produced, produced].map(Value::from)]);
    assert!(!stack.data().join("archive").exists(), "nothing of the archive lies in the data folder");
    assert!(!stack.log().contains(SECRET_KEY));
    assert!(stack.stop().success(), "{}", stack.log());
}

fn settings(port: u16) -> String {
    format!(
        r#"
[ingest]
archive = "s3://{BUCKET}/line-1"
flush_interval_ms = 1000

[archive_store]
endpoint = "http://127.0.0.1:{port}"
region = "us-east-1"
allow_http = true
access_key_id = "{ACCESS_KEY}"
secret_access_key = "{SECRET_KEY}"
"#
    )
}

/// Waits until a lane says in `/health` that it waits for the store; gives the lane's part.
fn waits_for_the_store(stack: &Stack) -> String {
    let until = Instant::now() + SOON;
    loop {
        let (_, health) = stack.http("GET", "/health", "").unwrap();
        let health: Value = serde_json::from_str(&health).unwrap();
        for (part, status) in health["parts"].as_object().into_iter().flatten() {
            let detail = status["detail"].as_str().unwrap_or_default();
            if part.starts_with("ingest/readings/") && status["state"] == "waiting" {
                assert!(detail.contains("by itself"), "{detail}");
                return part.clone();
            }
        }
        assert!(Instant::now() < until, "health does not say that the store is away: {health}");
        std::thread::sleep(Duration::from_millis(200));
    }
}
