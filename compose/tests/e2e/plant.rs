//! The simulated plant: its faults become anomalies and alerts, each once, also across a kill.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use serde_json::Value;

use crate::stack::{SOON, Stack};

#[test]
fn faults_become_anomalies_and_alerts_each_once() {
    let mut stack = Stack::start(&[]);
    let log = stack.data().join("faults.jsonl");
    let plant =
        ["generate", "--quiet", "--machines", "6", "--sensors", "6", "--rate", "0", "--count", "180000"];
    let faults = ["--faults-every", "2m", "--faults-after", "30m", "--fault-log", log.to_str().unwrap()];
    let out = stack.run(&[&plant[..], &faults[..]].concat());
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let archived = stack.wait_number("select count(*) from readings", "archived", |n| n >= 170_000);
    stack.kill();
    stack.restart();
    stack.wait_number("select cast(sum(count) as bigint) from readings_1d", "in views", |n| n >= archived);

    let faulty: BTreeSet<String> = std::fs::read_to_string(&log)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["machine"].as_str().unwrap().to_owned())
        .collect();
    assert!(!faulty.is_empty(), "the plant logged no fault");
    stack.wait_number("select count(*) from machines_scored where model <> ''", "models", |n| n == 6);
    let anomalies = stack.rows("select id, machine, score, threshold, model from anomalies");
    assert!(!anomalies.is_empty(), "{faulty:?} had faults, and nothing was seen");
    for row in &anomalies {
        assert!(row[2].as_f64() >= row[3].as_f64(), "{row:?}");
        assert_eq!(row[4].as_str().unwrap().len(), 64, "{row:?}");
    }
    let seen: BTreeSet<String> = anomalies.iter().map(|row| row[1].as_str().unwrap().to_owned()).collect();
    assert!(seen.intersection(&faulty).count() > 0, "faults on {faulty:?}, anomalies on {seen:?}");

    let ids: Vec<&str> = anomalies.iter().map(|row| row[0].as_str().unwrap()).collect();
    let alerts = alerts(&stack, ids.len());
    assert_eq!(
        alerts.iter().map(String::as_str).collect::<BTreeSet<_>>(),
        ids.iter().copied().collect(),
        "alerts and anomalies name the same events"
    );
    assert_eq!(alerts.len(), ids.len(), "each alert once");
}

/// The ids of all alerts in the topic, to its end.
fn alerts(stack: &Stack, at_least: usize) -> Vec<String> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", stack.endpoint("kafka"))
        .set("group.id", "alert-reader")
        .set("auto.offset.reset", "earliest")
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", "true")
        .create()
        .unwrap();
    consumer.subscribe(&["stillwell.alerts"]).unwrap();
    let mut ids = Vec::new();
    let mut quiet = 0;
    let until = Instant::now() + SOON;
    // To the end of every partition, and then some polls more for what a doubled alert would look like.
    while ids.len() < at_least || quiet < 20 {
        assert!(Instant::now() < until, "{} alerts of {at_least}", ids.len());
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                let alert: Value = serde_json::from_slice(message.payload().unwrap()).unwrap();
                ids.push(alert["id"].as_str().unwrap().to_owned());
                quiet = 0;
            }
            Some(Err(rdkafka::error::KafkaError::PartitionEOF(_))) | None => quiet += 1,
            Some(Err(error)) => panic!("{error}"),
        }
    }
    ids
}
