//! Records to Kafka: keyed by machine, idempotent, with back-pressure and every delivery accounted for.
//!
//! A record's Kafka timestamp is when it is sent, not when its readings were taken: brokers count retention
//! from it, and refuse times that lie far ahead.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, bail};
use rdkafka::ClientConfig;
use rdkafka::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};
use tokio_util::sync::CancellationToken;

use super::target::TargetArgs;
use super::wire::Outgoing;

/// What may wait for the broker: enough for a second at full speed.
const QUEUE_KIB: &str = "65536";
const QUEUE_RECORDS: &str = "200000";
const QUEUE_FULL_WAIT: Duration = Duration::from_millis(2);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// A broker that makes topics by itself shows a new one within seconds.
const TOPIC_LOOKS: u32 = 10;
const TOPIC_LOOK_EVERY: Duration = Duration::from_millis(300);
/// What is still on its way at the end gets this long.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(60);
const FLUSH_STEP: Duration = Duration::from_millis(200);
/// Who was told to stop waits no longer for a broker than this.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// A producer of one topic. Its calls block, so it lives on a thread of its own.
pub struct LoadProducer {
    kafka: ThreadedProducer<Deliveries>,
    topic: String,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    delivered: AtomicU64,
    failed: AtomicU64,
    first_failure: OnceLock<String>,
}

struct Deliveries(Arc<Counts>);

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(_) => {
                self.0.delivered.fetch_add(1, Ordering::Relaxed);
            }
            Err((error, _)) => {
                self.0.failed.fetch_add(1, Ordering::Relaxed);
                let _ = self.0.first_failure.set(error.to_string());
            }
        }
    }
}

/// How deliveries ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delivered {
    /// Records that the broker confirmed.
    pub delivered: u64,
    /// Records that it did not.
    pub failed: u64,
}

impl LoadProducer {
    /// Connects and checks that the topic is there.
    ///
    /// # Errors
    /// If no broker answers in 15 s, or the topic does not exist.
    pub fn connect(target: &TargetArgs) -> anyhow::Result<Self> {
        let brokers = target.brokers()?;
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &brokers)
            .set("client.id", "stillwell-load")
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("linger.ms", "20")
            .set("batch.size", "1000000")
            .set("compression.type", "lz4")
            .set("queue.buffering.max.kbytes", QUEUE_KIB)
            .set("queue.buffering.max.messages", QUEUE_RECORDS);
        for (key, value) in &target.properties {
            config.set(key, value);
        }
        let counts = Arc::new(Counts::default());
        let kafka: ThreadedProducer<Deliveries> = config
            .create_with_context(Deliveries(Arc::clone(&counts)))
            .context("cannot make a Kafka producer")?;
        for attempt in 1.. {
            let metadata = kafka
                .client()
                .fetch_metadata(Some(&target.topic), CONNECT_TIMEOUT)
                .with_context(|| format!("no Kafka answers at {brokers}"))?;
            if metadata.topics().iter().any(|topic| !topic.partitions().is_empty()) {
                break;
            }
            if attempt == TOPIC_LOOKS {
                bail!("topic {:?} does not exist at {brokers}; create it first", target.topic);
            }
            std::thread::sleep(TOPIC_LOOK_EVERY);
        }
        Ok(Self { kafka, topic: target.topic.clone(), counts })
    }

    /// Hands a record to the producer's queue, waiting while it is full. False if told to stop and the queue
    /// stays full for some seconds more.
    ///
    /// # Errors
    /// If the record is refused or the producer is broken for good.
    pub fn send(&self, record: &Outgoing, stop: &CancellationToken) -> anyhow::Result<bool> {
        let mut waited = Duration::ZERO;
        let mut message = BaseRecord::to(&self.topic).key(&*record.machine).payload(&record.value);
        loop {
            match self.kafka.send(message) {
                Ok(()) => return Ok(true),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    if stop.is_cancelled() {
                        waited += QUEUE_FULL_WAIT;
                    }
                    if waited > STOP_TIMEOUT {
                        return Ok(false);
                    }
                    self.check()?;
                    message = back;
                    std::thread::sleep(QUEUE_FULL_WAIT);
                }
                Err((error, _)) => {
                    self.check()?;
                    let bytes = record.value.len();
                    return Err(error).with_context(|| format!("a record of {bytes} bytes was refused"));
                }
            }
        }
    }

    /// Waits until everything sent is delivered: one minute at most, some seconds when told to stop.
    ///
    /// # Errors
    /// If a record was not delivered.
    pub fn finish(&self, stop: &CancellationToken) -> anyhow::Result<Delivered> {
        let mut waited = Duration::ZERO;
        let most = || if stop.is_cancelled() { STOP_TIMEOUT } else { FLUSH_TIMEOUT };
        while self.kafka.flush(FLUSH_STEP).is_err() && waited < most() {
            self.check()?;
            waited += FLUSH_STEP;
        }
        let waiting = self.kafka.in_flight_count();
        let counts = self.counts();
        if counts.failed > 0 || waiting > 0 {
            let reason = self.counts.first_failure.get().map_or("the broker does not answer", String::as_str);
            bail!("{} records were not delivered, {waiting} still wait: {reason}", counts.failed);
        }
        Ok(counts)
    }

    /// Deliveries so far.
    #[must_use]
    pub fn counts(&self) -> Delivered {
        Delivered {
            delivered: self.counts.delivered.load(Ordering::Relaxed),
            failed: self.counts.failed.load(Ordering::Relaxed),
        }
    }

    fn check(&self) -> anyhow::Result<()> {
        match self.kafka.client().fatal_error() {
            Some((code, message)) => bail!("the producer is broken for good: {code}: {message}"),
            None => Ok(()),
        }
    }
}
