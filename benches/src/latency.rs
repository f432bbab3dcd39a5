//! From produced to visible and to durable, at a given rate.
//!
//! The time when a record was due to be produced is kept with its offset. Another thread asks again and again how far a reader
//! sees: the SQL endpoint for the views, the manifest for the archive; what lies before the answer is visible
//! since then at the latest. So latencies hold the question's own time, and are never too small.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use rdkafka::ClientContext;
use rdkafka::message::Message;
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};
use serde_json::{Value, json};
use stillwell_schema::{Clock, SystemClock};

use crate::fill;
use crate::http;
use crate::result::{self, ResultArgs};
use crate::shape::{MACHINES, SENSORS, Shape};
use crate::stack::{Stack, StackArgs};
use crate::watch::{Manifest, Views, reached};

const ASK_EVERY: Duration = Duration::from_millis(20);
/// What is produced last has this long to become visible.
const TAIL: Duration = Duration::from_secs(60);

/// Training takes its time.
const COMMISSIONED_WITHIN: Duration = Duration::from_secs(600);

/// At which rate, and how long.
#[derive(Args, Clone, Debug)]
pub(crate) struct LatencyArgs {
    /// Readings per second
    #[arg(long, default_value_t = 20_000)]
    rate: u64,
    /// Readings per record
    #[arg(long, default_value_t = 50)]
    per_record: u64,
    /// How long to produce
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Not measured at the start, while caches are cold
    #[arg(long, default_value_t = 5, value_name = "SECONDS")]
    warm_up: u64,
    #[command(flatten)]
    stack: StackArgs,
    #[command(flatten)]
    result: ResultArgs,
}

/// Per partition, offsets and due times that wait to be seen.
type Waiting = Arc<Mutex<Vec<VecDeque<(i64, Instant)>>>>;

struct Offsets(Vec<Waiting>);

impl ClientContext for Offsets {}

impl ProducerContext for Offsets {
    /// When it was due, if it is measured.
    type DeliveryOpaque = Box<Option<Instant>>;

    fn delivery(&self, result: &DeliveryResult<'_>, due: Box<Option<Instant>>) {
        let (Ok(message), Some(due)) = (result, *due) else { return };
        let Ok(partition) = usize::try_from(message.partition()) else { return };
        for waiting in &self.0 {
            let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(lane) = waiting.get_mut(partition) {
                lane.push_back((message.offset(), due));
            }
        }
    }
}

/// Measures and keeps the result.
pub(crate) fn run(args: &LatencyArgs) -> anyhow::Result<()> {
    let stack = Stack::open(&args.stack, "ingest,aggregate,query")?;
    let topic = args.stack.topic.clone();
    let partitions = fill::ends(&stack.at.kafka, &topic)?.len();
    let http = stack.at.http.clone().context("the stack has no query side; start it with all stages")?;
    let waiting = || Arc::new(Mutex::new(vec![VecDeque::new(); partitions]));
    let (visible, durable) = (waiting(), waiting());
    let produced_all = Arc::new(AtomicBool::new(false));

    let asked = topic.clone();
    let views = watch(&visible, &produced_all, move || visible_positions(&http, &asked, partitions));
    let mut manifest = Manifest::new(stack.archive(), &topic, partitions);
    let archive = watch(&durable, &produced_all, move || manifest.poll());

    let produced = commission(&stack, &topic, partitions)
        .and_then(|()| produce(args, &stack.at.kafka, &topic, Offsets(vec![visible, durable])));
    produced_all.store(true, Ordering::Release);
    let produced = produced?;
    let views = views.join().map_err(|_| anyhow::anyhow!("the watch of the views died"))??;
    let archive = archive.join().map_err(|_| anyhow::anyhow!("the watch of the archive died"))??;
    let result = json!({
        "rate": args.rate,
        "per_record": args.per_record,
        "readings": produced,
        "visible_ms": quantiles(views),
        "durable_ms": quantiles(archive),
    });
    result::keep("latency", &args.result, result)
}

/// Asks for positions until all that was produced is seen; the latencies of all records.
fn watch(
    waiting: &Waiting,
    produced_all: &Arc<AtomicBool>,
    mut positions: impl FnMut() -> anyhow::Result<Vec<i64>> + Send + 'static,
) -> thread::JoinHandle<anyhow::Result<Vec<Duration>>> {
    let (waiting, produced_all) = (Arc::clone(waiting), Arc::clone(produced_all));
    thread::spawn(move || {
        let mut latencies = Vec::new();
        let mut ended: Option<Instant> = None;
        loop {
            let ending = produced_all.load(Ordering::Acquire);
            let positions = positions()?;
            let now = Instant::now();
            let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
            for (lane, position) in waiting.iter_mut().zip(positions) {
                while lane.front().is_some_and(|(offset, _)| *offset < position) {
                    latencies.extend(lane.pop_front().map(|(_, produced)| now - produced));
                }
            }
            if ending && waiting.iter().all(VecDeque::is_empty) {
                return Ok(latencies);
            }
            drop(waiting);
            if ending && ended.get_or_insert(now).elapsed() > TAIL {
                bail!("records were not seen within {} s", TAIL.as_secs());
            }
            thread::sleep(ASK_EVERY);
        }
    })
}

/// Puts a model in force for every machine, with readings of the time before now.
fn commission(stack: &Stack, topic: &str, partitions: usize) -> anyhow::Result<()> {
    let now_ms = SystemClock.now_us().unsigned_abs() / 1000;
    fill::fill_commissioning(&stack.at.kafka, topic, Some(now_ms))?;
    let ends = fill::ends(&stack.at.kafka, topic)?;
    let views = Views { clickhouse: stack.at.clickhouse.clone(), topic: topic.to_owned(), partitions };
    let until = Instant::now() + COMMISSIONED_WITHIN;
    while !reached(&views.poll()?, &ends) {
        if Instant::now() > until {
            bail!("machines were not commissioned within {} s", COMMISSIONED_WITHIN.as_secs());
        }
        thread::sleep(Duration::from_millis(200));
    }
    let scored = views.scored()?;
    if scored.machines == 0 {
        bail!("no machine has a model: this is no measure of views with scores");
    }
    Ok(())
}

/// Produces at the rate, each record when it is due, however late the one before was.
fn produce(args: &LatencyArgs, brokers: &str, topic: &str, offsets: Offsets) -> anyhow::Result<u64> {
    let producer: ThreadedProducer<Offsets> =
        fill::client(brokers).set("acks", "all").set("linger.ms", "5").create_with_context(offsets)?;
    // Event time goes as fast as the clock.
    let moment_ms = (1000 * MACHINES * SENSORS / args.rate.max(1)).max(1);
    let mut shape = Shape::new(args.per_record, SystemClock.now_us().unsigned_abs() / 1000, moment_ms);
    let records = args.rate * args.seconds / args.per_record.max(1);
    let between = Duration::from_secs_f64(args.per_record as f64 / args.rate as f64);
    let warm = Duration::from_secs(args.warm_up);
    let started = Instant::now();
    let mut value = Vec::new();
    for i in 0..records {
        let due = started + between.mul_f64(i as f64);
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let key = shape.key();
        shape.value(&mut value);
        let measured = (due - started >= warm).then_some(due);
        let record = BaseRecord::with_opaque_to(topic, Box::new(measured)).key(&key).payload(&value);
        producer.send(record).map_err(|(error, _)| error)?;
    }
    producer.flush(Duration::from_secs(60))?;
    Ok(records * args.per_record)
}

fn visible_positions(http: &str, topic: &str, partitions: usize) -> anyhow::Result<Vec<i64>> {
    let statement = format!("SELECT \"partition\", position FROM pipeline_positions WHERE topic = '{topic}'");
    let answer = http::post(http, "/v1/sql", "application/json", &json!({"sql": statement}).to_string())?;
    let answer: Value = serde_json::from_str(&answer)?;
    let mut positions = vec![0; partitions];
    for row in answer["rows"].as_array().context("the answer has rows")? {
        let at = row[0].as_u64().and_then(|p| positions.get_mut(usize::try_from(p).ok()?));
        if let (Some(at), Some(position)) = (at, row[1].as_i64()) {
            *at = position;
        }
    }
    Ok(positions)
}

fn quantiles(latencies: Vec<Duration>) -> Value {
    let records = latencies.len();
    let of = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0)];
    let mut quantiles = result::quantiles(latencies, &of);
    quantiles.insert("records".into(), json!(records));
    Value::Object(quantiles)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_the_sorted_latencies() {
        let result = quantiles((1..=101).rev().map(Duration::from_millis).collect());
        assert_eq!(
            (&result["p50"], &result["p99"], &result["max"]),
            (&json!(51.0), &json!(100.0), &json!(101.0))
        );
        assert_eq!(quantiles(Vec::new())["p50"], Value::Null);
    }
}
