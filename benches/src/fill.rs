//! The load into Kafka, as fast as the broker takes it.

use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use clap::Args;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication, TopicResult};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::shape::{MACHINES, SENSORS, Shape, ShapeArgs};

/// The event time of the first reading, ms since the epoch: 2026-01-01.
const T0_MS: u64 = 1_767_225_600_000;
/// Between two moments of a machine.
const MOMENT_MS: u64 = 1000;
/// Moments that commission a machine: its model is trained on 400 rows and in force 30 later.
const COMMISSIONING_MOMENTS: u64 = 460;
const COMMISSIONING_PER_RECORD: u64 = 1000;
const ADMIN_WITHIN: Duration = Duration::from_secs(30);

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
    let shape = Shape::new(args.per_record, T0_MS, MOMENT_MS);
    fill_with(shape, brokers, topic, args.per_record, args.readings)
}

/// Fills `topic` with what commissions every machine of the load, up to `until_ms`, or up to where [`fill`]
/// begins.
pub(crate) fn fill_commissioning(
    brokers: &str,
    topic: &str,
    until_ms: Option<u64>,
) -> anyhow::Result<Filled> {
    let from_ms = until_ms.unwrap_or(T0_MS) - COMMISSIONING_MOMENTS * MOMENT_MS;
    let shape = Shape::new(COMMISSIONING_PER_RECORD, from_ms, MOMENT_MS);
    let readings = COMMISSIONING_MOMENTS * MACHINES * SENSORS;
    fill_with(shape, brokers, topic, COMMISSIONING_PER_RECORD, readings)
}

fn fill_with(
    mut shape: Shape,
    brokers: &str,
    topic: &str,
    per_record: u64,
    readings: u64,
) -> anyhow::Result<Filled> {
    let producer: BaseProducer = client(brokers)
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("linger.ms", "20")
        .set("batch.size", "1000000")
        .set("message.max.bytes", "1000000")
        .set("queue.buffering.max.kbytes", "262144")
        .set("queue.buffering.max.messages", "1000000")
        .create()?;
    let records = readings.div_ceil(per_record.max(1));
    let mut filled = Filled { readings: records * per_record, records, bytes: 0, seconds: 0.0 };
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

/// Makes a topic.
pub(crate) fn create(brokers: &str, topic: &str, partitions: i32) -> anyhow::Result<()> {
    let (admin, options) = admin(brokers)?;
    let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    done(futures::executor::block_on(admin.create_topics([&new], &options))?)
}

/// Deletes a topic with all its records.
pub(crate) fn delete(brokers: &str, topic: &str) -> anyhow::Result<()> {
    let (admin, options) = admin(brokers)?;
    done(futures::executor::block_on(admin.delete_topics(&[topic], &options))?)
}

fn done(results: Vec<TopicResult>) -> anyhow::Result<()> {
    for result in results {
        result.map_err(|(topic, error)| anyhow!("topic {topic}: {error}"))?;
    }
    Ok(())
}

fn admin(brokers: &str) -> anyhow::Result<(AdminClient<DefaultClientContext>, AdminOptions)> {
    Ok((client(brokers).create()?, AdminOptions::new().operation_timeout(Some(ADMIN_WITHIN))))
}

/// Deletes what `topic` holds below `ends`, so that whoever reads it from its beginning reads the load alone.
pub(crate) fn forget(brokers: &str, topic: &str, ends: &[i64]) -> anyhow::Result<()> {
    let mut list = TopicPartitionList::new();
    for (partition, &end) in (0..).zip(ends) {
        list.add_partition_offset(topic, partition, Offset::Offset(end))?;
    }
    let (admin, options) = admin(brokers)?;
    let deleted = futures::executor::block_on(admin.delete_records(&list, &options));
    for partition in deleted.context("cannot delete the commissioning records")?.elements() {
        partition.error().with_context(|| format!("partition {}", partition.partition()))?;
    }
    Ok(())
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
