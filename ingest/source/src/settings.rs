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

/// Names that librdkafka has for one property, the one that it knows it by last.
const ALIASES: &[(&str, &str)] = &[
    ("acks", "request.required.acks"),
    ("bootstrap.servers", "metadata.broker.list"),
    ("compression.type", "compression.codec"),
    ("delivery.timeout.ms", "message.timeout.ms"),
    ("linger.ms", "queue.buffering.max.ms"),
    ("max.in.flight", "max.in.flight.requests.per.connection"),
    ("max.partition.fetch.bytes", "fetch.message.max.bytes"),
    ("retries", "message.send.max.retries"),
    ("sasl.mechanism", "sasl.mechanisms"),
    ("sasl.oauthbearer.client.credentials.client.id", "sasl.oauthbearer.client.id"),
    ("sasl.oauthbearer.client.credentials.client.secret", "sasl.oauthbearer.client.secret"),
];

/// A property's one name. Of two names in a client's properties either may win, so all are set by this one.
pub(crate) fn canonical(key: &str) -> &str {
    ALIASES.iter().find(|(alias, _)| *alias == key).map_or(key, |(_, name)| name)
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
