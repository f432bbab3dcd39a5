//! Where undecodable records go besides the archive.

use std::future::Future;

use stillwell_schema::TopicPartition;
use stillwell_source::chunk::RecordRef;
use stillwell_source::dead_letters::{DeadLetters, Refused, Waiting};
use stillwell_source::decode::DecodeError;

/// Why dead letters were refused for good, and how many.
pub type DeadLetterError = Refused;

/// Takes dead letters: a Kafka topic, or a test's memory.
pub trait DeadLetterSink: Send + Sync + 'static {
    /// Sends records that could not be decoded, and ends when each is durable or refused for good. While the
    /// sink is away it waits, and `waiting` hears why.
    ///
    /// # Errors
    /// Only what trying again cannot mend; the letters that it does not count were sent.
    fn send(
        &self,
        topic: &str,
        lane: &TopicPartition,
        failed: &[(RecordRef<'_>, &DecodeError)],
        waiting: Waiting<'_>,
    ) -> impl Future<Output = Result<(), DeadLetterError>> + Send;
}

impl DeadLetterSink for DeadLetters {
    async fn send(
        &self,
        topic: &str,
        lane: &TopicPartition,
        failed: &[(RecordRef<'_>, &DecodeError)],
        waiting: Waiting<'_>,
    ) -> Result<(), DeadLetterError> {
        Self::send(self, topic, lane, failed, waiting).await
    }
}
