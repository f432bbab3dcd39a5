//! What can go wrong, and what it asks of the caller.

use stillwell_schema::TopicPartition;
use stillwell_source::consumer::ConsumerError;
use thiserror::Error;

/// Why the aggregator, or one lane of it, cannot go on.
#[derive(Debug, Error)]
pub enum AggregateError {
    /// ClickHouse does not answer or refuses.
    #[error("clickhouse: {}", first_line(.0))]
    ClickHouse(#[from] clickhouse::error::Error),
    /// A migration that was applied is not the one of this version.
    #[error(
        "migration {name} was applied with other contents; this database belongs to another version of stillwell"
    )]
    Migration {
        /// The migration's file.
        name: String,
    },
    /// What is stored is not what this version writes.
    #[error("{lane}: stored state of {machine} is not understood: {reason}")]
    Stored {
        /// The lane.
        lane: TopicPartition,
        /// The machine whose state it is.
        machine: String,
        /// What is wrong.
        reason: String,
    },
    /// The topic is not one of the settings'.
    #[error("topic {0} is not in the config")]
    UnknownTopic(String),
    /// Kafka.
    #[error("{0}")]
    Consumer(#[from] ConsumerError),
    /// The alerts' producer.
    #[error("alerts: {0}")]
    Alerts(#[from] rdkafka::error::KafkaError),
    /// The writer of the views has stopped.
    #[error("the writer of the views has stopped")]
    Stopped,
}

/// A server's error may carry a whole binary body: its first line says it.
fn first_line(error: &clickhouse::error::Error) -> String {
    const CHARACTERS_MAX: usize = 400;
    let text = error.to_string();
    text.lines().next().unwrap_or_default().chars().take(CHARACTERS_MAX).collect()
}
