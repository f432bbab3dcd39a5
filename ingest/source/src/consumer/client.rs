//! The Kafka client and its rebalances.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientConfig, ClientContext, TopicPartitionList};

use super::{ConsumerError, ConsumerSettings};

/// What the protocol stands on.
pub(super) const PROTOCOL: &[(&str, &str)] = &[
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("auto.offset.reset", "error"),
    ("check.crcs", "true"),
    ("isolation.level", "read_committed"),
    ("partition.assignment.strategy", "cooperative-sticky"),
    ("enable.partition.eof", "false"),
    ("group.protocol", "classic"),
];

/// Defaults that a user may change.
const DEFAULTS: &[(&str, &str)] = &[
    // A killed member's partitions go to the others after this.
    ("session.timeout.ms", "6000"),
    ("heartbeat.interval.ms", "1500"),
    ("topic.metadata.refresh.interval.ms", "30000"),
    ("reconnect.backoff.max.ms", "1000"),
    ("fetch.wait.max.ms", "50"),
    // What librdkafka may hold ahead of us: enough for full speed, and part of the memory promise.
    ("queued.max.messages.kbytes", "32768"),
    ("fetch.max.bytes", "16777216"),
    ("max.partition.fetch.bytes", "2097152"),
];

pub(super) type Client = BaseConsumer<Context>;

/// A rebalance that waits for the polling thread.
#[derive(Debug)]
pub(super) enum Rebalance {
    Assign(Vec<(String, i32)>),
    Revoke(Vec<(String, i32)>),
}

/// Takes note of rebalances; the polling thread answers them.
#[derive(Default)]
pub(super) struct Context {
    pending: Mutex<VecDeque<Rebalance>>,
    /// Set when the lanes are gone: revocations are then answered on the spot.
    closing: AtomicBool,
}

impl ClientContext for Context {
    fn error(&self, error: KafkaError, reason: &str) {
        // Errors of a connection are shown by the loop, once a change; librdkafka repeats each.
        tracing::debug!(%error, reason, "kafka client");
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(?level, facility, message, "librdkafka");
    }
}

impl ConsumerContext for Context {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        code: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        if self.closing.load(Ordering::Acquire) {
            // Nothing runs any more; what librdkafka wants is only the acknowledgement.
            let _ = consumer.unassign();
            return;
        }
        let named = partitions.elements().iter().map(|e| (e.topic().to_owned(), e.partition())).collect();
        let rebalance = match code {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => Rebalance::Assign(named),
            _ => Rebalance::Revoke(named),
        };
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).push_back(rebalance);
    }
}

impl Context {
    pub(super) fn next_rebalance(&self) -> Option<Rebalance> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }
}

/// Makes the group's consumer.
pub(super) fn connect(settings: &ConsumerSettings) -> Result<Client, ConsumerError> {
    Ok(config(settings)?.create_with_context(Context::default())?)
}

/// All properties, the user's over the defaults.
pub(super) fn config(settings: &ConsumerSettings) -> Result<ClientConfig, ConsumerError> {
    let mut config = ClientConfig::new();
    for (key, value) in DEFAULTS {
        config.set(*key, *value);
    }
    for (key, value) in &settings.kafka.properties {
        let fixed = PROTOCOL.iter().find(|(fixed, _)| fixed == key);
        if fixed.is_some_and(|(_, needed)| needed != value) || key == "group.id" {
            return Err(ConsumerError::FixedProperty(key.clone()));
        }
        config.set(key, value);
    }
    for (key, value) in PROTOCOL {
        config.set(*key, *value);
    }
    config.set("bootstrap.servers", &settings.kafka.brokers).set("group.id", &settings.group);
    Ok(config)
}
