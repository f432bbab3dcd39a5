//! Several `stillwell aggregate` processes in one group, killed, frozen, thawed as zombies, added and sent away, with
//! ClickHouse killed and standing still and the broker crashing under them: the views equal the archive, window by
//! window, and each anomaly and each alert is there once.

mod compare;
mod load;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use stillwell_schema::{Clock, SystemClock};

use crate::members::{Blow, Members, seed};
use crate::plant;
use crate::producer::{Ends, Producer};
use crate::stack::Stack;
use load::{Load, PARTITIONS};

const BLOWS: [Blow; 14] = [
    Blow::Kill,
    Blow::Kill,
    Blow::Kill,
    Blow::Freeze,
    Blow::Freeze,
    Blow::Blink,
    Blow::Add,
    Blow::Add,
    Blow::SendAway,
    Blow::CrashBroker,
    Blow::CrashStore,
    Blow::CrashStore,
    Blow::SlowStore,
    Blow::SlowStore,
];

/// It moves while lanes go on.
const PROGRESS: &str = "select cast(sum(position) as bigint) from pipeline_positions";

/// Some 1,200 readings a second.
const TICK: Duration = Duration::from_millis(40);

#[test]
fn views_equal_the_archive_whatever_dies_under_them() {
    let seed = seed();
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let stack = Stack::start(&["--stages", "ingest,query", "--config", &config]);
    let mut aggregators = Members::new(&stack, "aggregate", vec![("STILLWELL_CONFIG", config)]);
    let (stop, produced) = (AtomicBool::new(false), AtomicU64::new(0));
    let rounds = std::thread::scope(|scope| {
        let _ends = Ends(&stop);
        let load = scope.spawn(|| produce(&stack, seed, &stop, &produced));
        let rounds = aggregators.endure(&BLOWS, seed, PROGRESS);
        stop.store(true, Ordering::Relaxed);
        load.join().unwrap();
        rounds
    });
    // One that begins now, with ClickHouse there.
    stack.wait_number(PROGRESS, "ClickHouse answers", |_| true);
    aggregators.add();
    let all = produced.into_inner().cast_signed();
    stack.wait_number("select count(*) from records", "all archived", |n| n >= all);
    stack.wait_views();
    eprintln!("{rounds} rounds: {}", aggregators.summary());
    assert_eq!(stack.number("select count(*) from records"), all, "each record is archived once");
    let lanes = stack.number("select count(*) from pipeline_positions");
    assert_eq!(lanes, i64::from(PARTITIONS), "all lanes have readings");
    compare::windows(&stack);
    compare::totals(&stack);
    compare::latest(&stack);
    each_anomaly_once(&stack);
}

/// Writes the settings that all processes share.
fn config(folder: &Path) -> String {
    let file = folder.join("stillwell.toml");
    let text = format!(
        r#"
[[topic]]
name = "readings"
partitions = {PARTITIONS}
time_unit = "us"

[ingest]
flush_interval_ms = 1000

[aggregate]
flush_interval_ms = 400

[scoring]
commissioning_rows = 150

[query]
timeout_ms = 110000
memory_bytes_max = 1073741824
"#
    );
    fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

/// Produces until it is told to stop, and counts the records.
fn produce(stack: &Stack, seed: u64, stop: &AtomicBool, produced: &AtomicU64) {
    let producer = Producer::new(stack.endpoint("kafka"));
    let mut load = Load::new(seed, SystemClock.now_us());
    while !stop.load(Ordering::Relaxed) {
        for record in load.tick(SystemClock.now_us()) {
            producer.send_to(record.partition, &record.machine, record.value.as_bytes());
            produced.fetch_add(1, Ordering::Relaxed);
        }
        // Pacing.
        std::thread::sleep(TICK);
    }
    producer.flush();
}

/// Anomalies have ids of their own, and the alerts are just these, each once.
fn each_anomaly_once(stack: &Stack) {
    let rows = stack.rows("select id from anomalies");
    let ids: BTreeSet<&str> = rows.iter().map(|row| row[0].as_str().unwrap()).collect();
    assert!(!ids.is_empty(), "faults become anomalies");
    assert_eq!(ids.len(), rows.len(), "each anomaly once");
    let alerts = plant::alerts(stack, ids.len());
    let told: BTreeSet<&str> = alerts.iter().map(String::as_str).collect();
    assert_eq!(told, ids, "alerts and anomalies name the same events");
    assert_eq!(alerts.len(), ids.len(), "each alert once");
    eprintln!("{} anomalies and alerts, each once", ids.len());
}
