//! From the readings that show a fault to the alert that tells of it, as another client of Kafka reads it.
//!
//! Every machine of the load has a model. One after the other shows values that it never had, in a few records at once;
//! the clock runs from the moment when the last of them is handed to the producer until the alert of that machine is
//! read, with `isolation.level=read_committed`.

use std::fmt::Write;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value, json};
use stillwell_schema::{Clock, SystemClock};

use crate::fill;
use crate::latency::{commission, quantiles};
use crate::result::{self, ResultArgs};
use crate::shape::{MACHINES, SENSORS, kind, sensor_name};
use crate::stack::{Stack, StackArgs};

/// Rows that show the fault; the last but one is complete when the last comes.
const ROWS: i64 = 6;
/// An alert that is not there by then is counted as missed.
const PATIENCE: Duration = Duration::from_secs(10);
/// Where alerts go, if the stack's config does not say otherwise.
const TOPIC: &str = "stillwell.alerts";

/// How many faults.
#[derive(Args, Clone, Debug)]
pub(crate) struct AlertsArgs {
    /// Machines that show a fault, 200 at most
    #[arg(long, default_value_t = 100)]
    faults: u64,
    /// Between two faults
    #[arg(long, default_value_t = 300, value_name = "MS")]
    every_ms: u64,
    #[command(flatten)]
    stack: StackArgs,
    #[command(flatten)]
    result: ResultArgs,
}

/// Measures and keeps the result.
pub(crate) fn run(args: &AlertsArgs) -> anyhow::Result<()> {
    let stack = Stack::open(&args.stack, "ingest,aggregate,query")?;
    let topic = args.stack.topic.clone();
    let partitions = fill::ends(&stack.at.kafka, &topic)?.len();
    commission(&stack, &topic, partitions)?;
    let producer: BaseProducer =
        fill::client(&stack.at.kafka).set("acks", "all").set("linger.ms", "0").create()?;
    let alerts = reader(&stack.at.kafka)?;
    let (mut seen, mut missed) = (Vec::new(), 0);
    for number in 0..args.faults.min(MACHINES) {
        let machine = format!("machine-{number:03}");
        let shown = show_fault(&producer, &topic, &machine)?;
        match wait_for(&alerts, &machine, shown)? {
            Some(after) => seen.push(after),
            None => missed += 1,
        }
        std::thread::sleep(Duration::from_millis(args.every_ms));
    }
    let result = json!({ "faults": args.faults, "missed": missed, "alert_ms": quantiles(seen) });
    result::keep("alerts", &args.result, result)
}

/// Reads alerts from now on.
fn reader(brokers: &str) -> anyhow::Result<BaseConsumer> {
    let consumer: BaseConsumer = fill::client(brokers)
        .set("group.id", "stillwell-bench-alerts")
        .set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "latest")
        .set("fetch.wait.max.ms", "5")
        .create()?;
    let ends = fill::ends(brokers, TOPIC)?;
    let mut from = rdkafka::TopicPartitionList::new();
    for (partition, end) in (0..).zip(ends) {
        from.add_partition_offset(TOPIC, partition, rdkafka::Offset::Offset(end))?;
    }
    consumer.assign(&from)?;
    Ok(consumer)
}

/// Sends rows of a machine that are far off; when the last was handed over.
fn show_fault(producer: &BaseProducer, topic: &str, machine: &str) -> anyhow::Result<Instant> {
    let now_ms = SystemClock.now_us() / 1000;
    for row in 0..ROWS {
        let value = record(machine, now_ms + row * 1000);
        let record = BaseRecord::to(topic).key(machine).payload(&value);
        producer.send(record).map_err(|(error, _)| error)?;
    }
    let shown = Instant::now();
    // A flush would last a tenth of a second at least.
    while producer.in_flight_count() > 0 {
        anyhow::ensure!(shown.elapsed() < PATIENCE, "the broker does not take the readings");
        producer.poll(Duration::from_millis(1));
    }
    Ok(shown)
}

/// All sensors of a machine at one moment, far from what they usually show.
fn record(machine: &str, time_ms: i64) -> String {
    let mut out = String::from("[");
    for sensor in 0..SENSORS {
        let (name, kind) = (sensor_name(sensor), kind(sensor));
        let comma = if sensor > 0 { "," } else { "" };
        let _ = write!(
            out,
            r#"{comma}{{"machine":"{machine}","sensor":"{name}","kind":"{kind}","time":{time_ms},"value":{}}}"#,
            90 + sensor
        );
    }
    out.push(']');
    out
}

/// How long after `shown` the alert of a machine was read.
fn wait_for(alerts: &BaseConsumer, machine: &str, shown: Instant) -> anyhow::Result<Option<Duration>> {
    while shown.elapsed() < PATIENCE {
        let Some(message) = alerts.poll(Duration::from_millis(5)) else { continue };
        let at = shown.elapsed();
        let message = message?;
        let alert: Value = serde_json::from_slice(message.payload().context("an alert without a value")?)?;
        if alert["machine"] == machine {
            return Ok(Some(at));
        }
    }
    Ok(None)
}
