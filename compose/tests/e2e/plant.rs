//! The simulated plant: its faults become anomalies and alerts, each once, also across a kill.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use chrono::DateTime;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use serde_json::Value;

use crate::stack::{SOON, Stack};

/// The plant of this test begins here and is the same at each run.
const FROM: &str = "2026-01-05T06:00:00Z";
const READINGS: i64 = 180_000;
/// An event may outlast its fault, or begin with the return to normal.
const AFTER: i64 = 120_000_000;

#[test]
fn faults_become_anomalies_and_alerts_each_once() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("stillwell.toml");
    // A quarter of an hour, in which the plant shows its steps of load.
    std::fs::write(&config, "[scoring]\ncommissioning_rows = 900\n").unwrap();
    let mut stack = Stack::start(&["--config", config.to_str().unwrap()]);
    let log = stack.data().join("faults.jsonl");
    let count = READINGS.to_string();
    let plant = ["generate", "--quiet", "--machines", "6", "--sensors", "6", "--rate", "0", "--from", FROM];
    let faults = ["--count", &count, "--faults-every", "3m", "--faults-after", "30m"];
    let trouble = ["--late", "0.01", "--out-of-order", "0.01", "--duplicate", "0.01"];
    let faults_to = ["--fault-log", log.to_str().unwrap()];
    let out = stack.run(&[&plant[..], &faults, &trouble, &faults_to].concat());
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    // In the middle of it: what is scored and what is published then differ.
    stack.kill();
    stack.restart();
    let distinct = "select count(*) from (select distinct machine, sensor, time from readings)";
    stack.wait_number(distinct, "archived", |n| n == READINGS);
    let behind = "select count(*) from pipeline_watermarks where visible is null or visible <> end_offset";
    stack.wait_number(behind, "partitions in which archive or views are behind", |n| n == 0);
    let all = stack.number("select count(*) from readings");
    assert!(all > READINGS, "some records came twice");
    stack.wait_views();
    assert_eq!(stack.number("select cast(sum(count) as bigint) from readings_1d"), all, "in views");

    stack.wait_number("select count(*) from machines_scored where model <> ''", "models", |n| n == 6);
    let anomalies = anomalies(&stack);
    let faults = faults_of(&log);
    let of_fault = |anomaly: &Anomaly| faults.iter().any(|fault| fault.is_seen_in(anomaly));
    let seen =
        faults.iter().filter(|fault| anomalies.iter().any(|anomaly| fault.is_seen_in(anomaly))).count();
    let false_alarms = anomalies.iter().filter(|anomaly| !of_fault(anomaly)).count();
    let told = format!("{seen} of {} faults seen, {false_alarms} false alarms", faults.len());
    eprintln!("{told}");
    assert!(faults.len() >= 10, "{told}");
    assert!(3 * seen >= 2 * faults.len() && 3 * false_alarms <= anomalies.len(), "{told}\n{anomalies:#?}");

    let ids: BTreeSet<&str> = anomalies.iter().map(|anomaly| anomaly.id.as_str()).collect();
    let alerts = alerts(&stack, ids.len());
    let told: BTreeSet<&str> = alerts.iter().map(String::as_str).collect();
    assert_eq!(told, ids, "alerts and anomalies name the same events");
    assert_eq!(alerts.len(), ids.len(), "each alert once");
}

#[derive(Debug)]
struct Anomaly {
    id: String,
    machine: String,
    /// µs; none where it goes on.
    span: (i64, Option<i64>),
}

/// All anomalies; each must say what it is by.
fn anomalies(stack: &Stack) -> Vec<Anomaly> {
    let sql = "select id, machine, cast(time as bigint), cast(until as bigint), score, threshold, model, cast(sensors as varchar) from anomalies";
    let rows = stack.rows(sql);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    rows.iter()
        .map(|row| {
            assert!(row[4].as_f64() >= row[5].as_f64(), "{row:?}");
            assert!(row[6].as_str().unwrap().len() == 64 && !text(&row[7]).is_empty(), "{row:?}");
            let span = (row[2].as_i64().unwrap(), row[3].as_i64());
            Anomaly { id: text(&row[0]), machine: text(&row[1]), span }
        })
        .collect()
}

struct Fault {
    machine: String,
    /// µs.
    start: i64,
    end: i64,
}

impl Fault {
    fn is_seen_in(&self, anomaly: &Anomaly) -> bool {
        let ended = anomaly.span.1.unwrap_or(i64::MAX);
        anomaly.machine == self.machine && anomaly.span.0 < self.end + AFTER && ended >= self.start
    }
}

fn faults_of(log: &Path) -> Vec<Fault> {
    let time =
        |value: &Value| DateTime::parse_from_rfc3339(value.as_str().unwrap()).unwrap().timestamp_micros();
    let fault = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        let machine = line["machine"].as_str().unwrap().to_owned();
        Fault { machine, start: time(&line["start"]), end: time(&line["end"]) }
    };
    std::fs::read_to_string(log).unwrap().lines().map(fault).collect()
}

/// The ids of all alerts in the topic, to its end.
pub(crate) fn alerts(stack: &Stack, at_least: usize) -> Vec<String> {
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
