//! Where undecodable records go besides the archive.

use std::error::Error;
use std::future::Future;

use stillwell_schema::TopicPartition;
use stillwell_source::chunk::RecordRef;
use stillwell_source::dead_letters::DeadLetters;
use stillwell_source::decode::DecodeError;

/// Why dead letters were refused for good.
pub type DeadLetterError = Box<dyn Error + Send + Sync>;

/// Takes dead letters: a Kafka topic, or a test's memory.
pub trait DeadLetterSink: Send + Sync + 'static {
    /// Sends records that could not be decoded, and ends when all are durable; waits while the sink is away.
    ///
    /// # Errors
    /// Only what trying again cannot mend.
    fn send(
        &self,
        topic: &str,
        lane: &TopicPartition,
        failed: &[(RecordRef<'_>, &DecodeError)],
    ) -> impl Future<Output = Result<(), DeadLetterError>> + Send;
}

impl DeadLetterSink for DeadLetters {
    async fn send(
        &self,
        topic: &str,
        lane: &TopicPartition,
        failed: &[(RecordRef<'_>, &DecodeError)],
    ) -> Result<(), DeadLetterError> {
        Self::send(self, topic, lane, failed).await.map_err(Into::into)
    }
}
