//! Sends what cannot be read to the dead letter topic, as it came: key, value and headers are the original's,
//! and further headers, in the names that Kafka Connect gives them, say where it came from and what is wrong.

use std::time::Duration;

use metrics::counter;
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use stillwell_schema::TopicPartition;

use crate::chunk::RecordRef;
use crate::decode::DecodeError;
use crate::settings::KafkaSettings;

/// Records on their way at once.
const IN_FLIGHT_MAX: usize = 1000;
/// Bounds of the wait between two tries.
const RETRY_MIN: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(10);

/// Consumers' properties, which a producer does not know.
const CONSUMERS_ONLY: &[&str] =
    &["group.", "session.", "heartbeat.", "fetch.", "queued.", "max.p", "isolation."];

/// A producer of dead letters.
pub struct DeadLetters {
    producer: FutureProducer,
}

impl DeadLetters {
    /// A producer that connects when it is needed.
    ///
    /// # Errors
    /// Where librdkafka refuses the settings.
    pub fn new(kafka: &KafkaSettings) -> Result<Self, KafkaError> {
        let mut config = ClientConfig::new();
        config
            .set("linger.ms", "5")
            .set("reconnect.backoff.max.ms", "1000")
            .set("message.timeout.ms", "30000");
        for (key, value) in &kafka.properties {
            if !CONSUMERS_ONLY.iter().any(|prefix| key.starts_with(prefix)) {
                config.set(key, value);
            }
        }
        config.set("bootstrap.servers", &kafka.brokers).set("acks", "all").set("enable.idempotence", "true");
        Ok(Self { producer: config.create()? })
    }

    /// Sends `failed` records of one lane to `topic` and waits until the broker has acknowledged all of
    /// them (acks=all, idempotent), retrying with backoff while the broker is away.
    ///
    /// # Errors
    /// Only for what retrying cannot mend (topic or message refused).
    pub async fn send(
        &self,
        topic: &str,
        lane: &TopicPartition,
        failed: &[(RecordRef<'_>, &DecodeError)],
    ) -> Result<(), KafkaError> {
        for some in failed.chunks(IN_FLIGHT_MAX) {
            let sends = some.iter().map(|(record, error)| self.send_one(topic, lane, record, error));
            futures::future::try_join_all(sends).await?;
            counter!("stillwell_dead_letters_total", "topic" => topic.to_owned())
                .increment(some.len() as u64);
        }
        Ok(())
    }

    async fn send_one(
        &self,
        topic: &str,
        lane: &TopicPartition,
        record: &RecordRef<'_>,
        error: &DecodeError,
    ) -> Result<(), KafkaError> {
        let mut wait = RETRY_MIN;
        loop {
            let letter = FutureRecord {
                topic,
                partition: None,
                payload: record.value,
                key: record.key,
                timestamp: (record.timestamp_ms >= 0).then_some(record.timestamp_ms),
                headers: Some(headers(lane, record, error)),
            };
            match self.producer.send::<[u8], [u8], _>(letter, wait).await {
                Ok(_) => return Ok(()),
                Err((refused, _)) if !is_transient(&refused) => return Err(refused),
                Err((away, _)) => {
                    tracing::warn!(%lane, topic, error = %away, "dead letters wait for kafka");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(RETRY_MAX);
                }
            }
        }
    }
}

fn headers(lane: &TopicPartition, record: &RecordRef<'_>, error: &DecodeError) -> OwnedHeaders {
    let (partition, offset) = (lane.partition.to_string(), record.offset.to_string());
    let message = error.to_string();
    let ours = [
        ("__connect.errors.topic", &*lane.topic),
        ("__connect.errors.partition", &partition),
        ("__connect.errors.offset", &offset),
        ("__connect.errors.connector.name", "stillwell"),
        ("__connect.errors.stage", "VALUE_CONVERTER"),
        ("__connect.errors.exception.class.name", error.class),
        ("__connect.errors.exception.message", &message),
    ];
    let theirs = record
        .headers()
        .fold(OwnedHeaders::new(), |headers, (key, value)| headers.insert(Header { key, value }));
    ours.into_iter().fold(theirs, |headers, (key, value)| headers.insert(Header { key, value: Some(value) }))
}

fn is_transient(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    let permanent = [
        Code::MessageSizeTooLarge,
        Code::InvalidMessage,
        Code::InvalidMessageSize,
        Code::InvalidTopic,
        Code::UnknownTopic,
        Code::TopicAuthorizationFailed,
        Code::ClusterAuthorizationFailed,
        Code::InvalidRecord,
    ];
    match error {
        KafkaError::MessageProduction(code) => !permanent.contains(code),
        _ => false,
    }
}
