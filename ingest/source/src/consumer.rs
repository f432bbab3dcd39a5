//! Polls Kafka and hands each partition's records to its lane.

use std::time::Duration;

use stillwell_schema::Clock;
use tokio_util::sync::CancellationToken;

use crate::budget::Budget;
use crate::lane::Stage;
use crate::settings::{KafkaSettings, TopicSettings};

/// How a stage consumes.
#[derive(Clone, Debug)]
pub struct ConsumerSettings {
    /// Where Kafka is.
    pub kafka: KafkaSettings,
    /// What is read.
    pub topics: Vec<TopicSettings>,
    /// The stage's own consumer group.
    pub group: String,
    /// `ingest` or `aggregate`: the `stage` label of this consumer's metrics.
    pub stage: &'static str,
    /// A chunk is handed on when it holds this many bytes,
    pub chunk_bytes: usize,
    /// or when its first record is this old.
    pub chunk_age: Duration,
}

/// Why consuming ended.
#[derive(Debug, thiserror::Error)]
pub enum ConsumerError {
    /// librdkafka refused the settings or cannot go on.
    #[error("kafka consumer: {0}")]
    Kafka(#[from] rdkafka::error::KafkaError),
}

/// Runs `stage` over all partitions that the group gives us, until `stop` is cancelled and every lane has
/// flushed.
///
/// # Errors
/// [`ConsumerError`] where Kafka refuses for good; a broker that is away is waited for.
pub async fn run<S: Stage>(
    _settings: ConsumerSettings,
    _stage: std::sync::Arc<S>,
    _budget: Budget,
    _clock: std::sync::Arc<dyn Clock>,
    _stop: CancellationToken,
) -> Result<(), ConsumerError> {
    Ok(())
}
