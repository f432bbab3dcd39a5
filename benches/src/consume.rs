//! What Kafka itself gives: librdkafka takes a topic in, and nothing is done with its records.

use std::time::Instant;

use anyhow::Context;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::{Value, json};

use crate::fill::{self, Filled};
use crate::process;
use crate::result::rounded;
use crate::stages::STUCK_AFTER;

/// Reads every record of `topic` up to `ends`, and says how fast, from the first to the last.
pub(crate) fn run(brokers: &str, topic: &str, ends: &[i64], filled: &Filled) -> anyhow::Result<Value> {
    let before = process::own_cpu_s();
    let consumer: BaseConsumer = fill::client(brokers)
        .set("group.id", "stillwell-bench")
        .set("enable.auto.commit", "false")
        .set("queued.min.messages", "200000")
        .set("fetch.message.max.bytes", "8388608")
        .create()?;
    let mut list = TopicPartitionList::new();
    for (partition, _) in (0..).zip(ends) {
        list.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&list)?;
    let mut left: i64 = ends.iter().sum();
    let mut first = None;
    while left > 0 {
        let message = consumer.poll(STUCK_AFTER);
        message.with_context(|| format!("Kafka gives no more with {left} records left"))??;
        first.get_or_insert_with(Instant::now);
        left -= 1;
    }
    let seconds = first.map_or(f64::NAN, |first| first.elapsed().as_secs_f64());
    let cpu_s = process::own_cpu_s() - before;
    Ok(json!({
        "seconds": rounded(seconds),
        "readings_per_s": (filled.readings as f64 / seconds).round(),
        "records_per_s": (filled.records as f64 / seconds).round(),
        "cpu_s_per_million": rounded(cpu_s / (filled.readings as f64 / 1e6)),
    }))
}
