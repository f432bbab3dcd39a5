//! The whole write side, from Kafka to the archive, by partitions and by readings a record.
//!
//! Each case has a topic of its own whose load waits in Kafka before the stage starts, and a process of its own. The
//! time runs from the first record that the stage has received to its last commit, as the script counts its own, so
//! start-up is not in it; the last commit waits for the flush interval. `between_commits` leaves out the first commit
//! and what is in it as well: what was then in memory already makes it a little too fast. CPU time and peak memory are
//! of the process's whole life.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use serde_json::{Value, json};

use crate::consume;
use crate::fill::{self, Filled};
use crate::http;
use crate::peers::{self, PeerArgs};
use crate::process::Cost;
use crate::result::{self, ResultArgs, rounded};
use crate::shape::ShapeArgs;
use crate::stack::{Stack, StackArgs, free_address};
use crate::stages::{INGEST, STUCK_AFTER, cost};
use crate::watch::{Archived, Manifest, reached};

const LOOK_EVERY: Duration = Duration::from_millis(20);

const EXAMPLES: &str = "\
Examples (after `cargo build --release -p stillwell -p stillwell-benches`):
  stillwell-bench write-side --peers                              1 to 64 partitions, 1,000 readings a record and one
  stillwell-bench write-side --partitions 8 --per-record 1        one case, without the script";

/// Which cases.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct WriteSideArgs {
    /// Partitions of the topic
    #[arg(long, value_delimiter = ',', default_values_t = [1_i32, 4, 16, 64])]
    partitions: Vec<i32>,
    /// Readings per record
    #[arg(long, value_delimiter = ',', default_values_t = [1000_u64, 1])]
    per_record: Vec<u64>,
    /// Readings of a load with many a record
    #[arg(long, default_value_t = 10_000_000)]
    readings: u64,
    /// Readings of a load with one a record
    #[arg(long, default_value_t = 2_000_000)]
    single_readings: u64,
    /// The write side's freshness, which the end of the load waits for
    #[arg(long, default_value_t = 1000)]
    flush_interval_ms: u64,
    #[command(flatten)]
    stack: StackArgs,
    #[command(flatten)]
    peers: PeerArgs,
    #[command(flatten)]
    result: ResultArgs,
}

/// Measures every case and keeps its result.
pub(crate) fn run(args: &WriteSideArgs) -> anyhow::Result<()> {
    let stack = Stack::open(&args.stack, "none")?;
    if stack.is_running_before() {
        bail!("every case makes a topic and a process of its own; leave --data away");
    }
    for &partitions in &args.partitions {
        for &per_record in &args.per_record {
            let result = case(args, &stack, partitions, per_record)?;
            result::keep("write-side", &args.result, result)?;
        }
    }
    Ok(())
}

fn case(args: &WriteSideArgs, stack: &Stack, partitions: i32, per_record: u64) -> anyhow::Result<Value> {
    let (brokers, topic) = (&stack.at.kafka, format!("{}-{partitions}-{per_record}", args.stack.topic));
    let readings = if per_record > 1 { args.readings } else { args.single_readings };
    fill::create(brokers, &topic, partitions)?;
    let filled = fill::fill(brokers, &topic, &ShapeArgs { readings, per_record })?;
    let ends = fill::ends(brokers, &topic)?;
    let passage = ingest(args, stack, &topic, &ends)?;
    let mut result = json!({
        "partitions": partitions,
        "per_record": per_record,
        "readings": filled.readings,
        "records": filled.records,
        "bytes_per_reading": rounded(filled.bytes as f64 / filled.readings as f64),
        "flush_interval_ms": args.flush_interval_ms,
        "stillwell": passage.describe(&filled)?,
        "librdkafka_alone": consume::run(brokers, &topic, &ends, &filled)?,
    });
    if args.peers.peers {
        result["script"] = script(args, stack, &topic, &filled, passage.rate(&filled))?;
    }
    fill::delete(brokers, &topic)?;
    fs::remove_dir_all(stack.archive().join(&topic)).context("cannot remove the case's archive")?;
    Ok(result)
}

/// How a load went through the stage. Times are seconds since its start.
struct Passage {
    received_s: f64,
    /// The first commits that were seen, and when.
    first: (f64, Archived),
    done: (f64, Archived),
    cost: Cost,
}

/// Runs the stage until all is durable.
fn ingest(args: &WriteSideArgs, stack: &Stack, topic: &str, ends: &[i64]) -> anyhow::Result<Passage> {
    let health = free_address()?;
    let config = format!(
        "[[topic]]\nname = {topic:?}\npartitions = {}\n[ingest]\nflush_interval_ms = {}\n\
         [telemetry]\nhttp = {health:?}\n",
        ends.len(),
        args.flush_interval_ms
    );
    let mut manifest = Manifest::new(stack.archive(), topic, ends.len());
    let started = Instant::now();
    let mut running = stack.stage_by(INGEST, &config)?;
    let (mut received_s, mut first) = (None, None);
    let (mut moved, mut commits) = (started, 0);
    loop {
        let is_done = reached(&manifest.poll()?, ends);
        let at_s = started.elapsed().as_secs_f64();
        let archived = manifest.archived;
        if received_s.is_none() && (archived.commits > 0 || has_received(&health)) {
            received_s = Some(at_s);
        }
        if archived.commits > commits {
            (moved, commits) = (Instant::now(), archived.commits);
            first.get_or_insert((at_s, archived));
        }
        if let (true, Some(received_s), Some(first)) = (is_done, received_s, first) {
            return Ok(Passage { received_s, first, done: (at_s, archived), cost: running.cost()? });
        }
        running.check()?;
        if moved.elapsed() > STUCK_AFTER {
            bail!("no commit for {} s after {commits}: {}", STUCK_AFTER.as_secs(), running.last_words());
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// Whether the stage says that records came in.
fn has_received(health: &str) -> bool {
    let is_some = |line: &str| line.starts_with("stillwell_received_records_total{") && !line.ends_with(" 0");
    http::get(health, "/metrics").is_ok_and(|text| text.lines().any(is_some))
}

impl Passage {
    /// Readings a second, from the first record received to the last commit.
    fn rate(&self, filled: &Filled) -> f64 {
        filled.readings as f64 / (self.done.0 - self.received_s)
    }

    fn describe(&self, filled: &Filled) -> anyhow::Result<Value> {
        let (done_s, archived) = self.done;
        if archived.readings != filled.readings {
            bail!("the archive holds {} of {} readings", archived.readings, filled.readings);
        }
        let mut result = cost(self.cost, filled);
        result["start_up_s"] = json!(rounded(self.received_s));
        result["seconds"] = json!(rounded(done_s - self.received_s));
        result["readings_per_s"] = json!(self.rate(filled).round());
        result["records_per_s"] = json!((filled.records as f64 / (done_s - self.received_s)).round());
        result["commits"] = json!(archived.commits);
        result["bytes_per_reading"] = archived.bytes_per_reading(filled.readings);
        let (after, seconds) = (archived.since(self.first.1), done_s - self.first.0);
        if after.commits > 0 {
            result["between_commits"] = json!({
                "readings_per_s": (after.readings as f64 / seconds).round(),
                "records_per_s": (after.records as f64 / seconds).round(),
            });
        }
        Ok(result)
    }
}

/// The script on the same topic, by the same clock as ours.
fn script(
    args: &WriteSideArgs,
    stack: &Stack,
    topic: &str,
    filled: &Filled,
    ours: f64,
) -> anyhow::Result<Value> {
    let mut result = peers::script(&args.peers, stack, topic, filled, ours)?;
    let seconds = result["own_seconds"].as_f64().context("the script says how long it took")?;
    let rate = |of: u64| (of as f64 / seconds).round();
    result["readings_per_s"] = json!(rate(filled.readings));
    result["records_per_s"] = json!(rate(filled.records));
    result["stillwell_is_faster_by"] = json!(rounded(ours / rate(filled.readings)));
    Ok(result)
}
