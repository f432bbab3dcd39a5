//! How Kafka is reached and which topics are read. Plain data, made by the binary from its config.

use std::collections::BTreeMap;

/// Kafka as the stages see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaSettings {
    /// `host:port[,host:port]`.
    pub brokers: String,
    /// Any librdkafka property (TLS, SASL, tuning); applied last, but may not override those that the
    /// protocol needs (see [`crate::consumer`]).
    pub properties: BTreeMap<String, String>,
}

/// One topic and how its records are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSettings {
    /// Name.
    pub name: String,
    /// The unit of integer `time` values.
    pub time_unit: TimeUnit,
    /// Where its undecodable records go.
    pub dead_letters: String,
}

/// Unit of an integer epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeUnit {
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Millis,
    /// Microseconds.
    Micros,
    /// Nanoseconds, cut down to microseconds.
    Nanos,
}
