//! The load into Kafka, as fast as the broker takes it.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::shape::{Shape, ShapeArgs};

/// The event time of the first reading, ms since the epoch.
const T0_MS: u64 = 1_795_000_000_000;

/// How much, and where to.
#[derive(Args, Clone, Debug)]
pub(crate) struct FillArgs {
    /// Kafka brokers
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) kafka: String,
    /// Topic, which must exist
    #[arg(long, default_value = "readings")]
    pub(crate) topic: String,
    #[command(flatten)]
    pub(crate) shape: ShapeArgs,
}

/// What was put in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Filled {
    pub(crate) readings: u64,
    pub(crate) records: u64,
    pub(crate) bytes: u64,
    pub(crate) seconds: f64,
}

/// A client config for `brokers`.
pub(crate) fn client(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("client.id", "stillwell-bench");
    config
}

/// Fills `topic` and waits until every record is acknowledged.
pub(crate) fn fill(brokers: &str, topic: &str, args: &ShapeArgs) -> anyhow::Result<Filled> {
    let producer: BaseProducer = client(brokers)
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("linger.ms", "20")
        .set("batch.size", "1000000")
        .set("message.max.bytes", "1000000")
        .set("queue.buffering.max.kbytes", "262144")
        .set("queue.buffering.max.messages", "1000000")
        .create()?;
    let mut shape = Shape::new(args.per_record, T0_MS);
    let records = args.readings.div_ceil(args.per_record.max(1));
    let mut filled = Filled { readings: records * args.per_record, records, bytes: 0, seconds: 0.0 };
    let started = Instant::now();
    let mut value = Vec::new();
    for i in 0..records {
        let key = shape.key();
        shape.value(&mut value);
        filled.bytes += value.len() as u64;
        send(&producer, BaseRecord::to(topic).key(&key).payload(&value))?;
        if i % 1000 == 0 {
            producer.poll(Duration::ZERO);
        }
    }
    producer.flush(Duration::from_secs(120)).context("the broker did not take all")?;
    filled.seconds = started.elapsed().as_secs_f64();
    eprintln!("filled {topic}: {} readings in {records} records in {:.1} s", filled.readings, filled.seconds);
    Ok(filled)
}

fn send(producer: &BaseProducer, mut record: BaseRecord<'_, String, Vec<u8>>) -> anyhow::Result<()> {
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                record = back;
                producer.poll(Duration::from_millis(20));
            }
            Err((error, _)) => bail!("a record was refused: {error}"),
        }
    }
}

/// The end offset of each partition of `topic`.
pub(crate) fn ends(brokers: &str, topic: &str) -> anyhow::Result<Vec<i64>> {
    let producer: BaseProducer = client(brokers).create()?;
    let timeout = Duration::from_secs(15);
    let metadata = producer.client().fetch_metadata(Some(topic), timeout).context("no Kafka answers")?;
    let partitions = metadata.topics().first().map_or(0, |topic| topic.partitions().len());
    if partitions == 0 {
        bail!("topic {topic:?} does not exist");
    }
    (0..i32::try_from(partitions)?)
        .map(|p| Ok(producer.client().fetch_watermarks(topic, p, timeout)?.1))
        .collect()
}
