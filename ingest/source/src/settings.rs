//! How Kafka is reached and which topics are read. Plain data, made by the binary from its config.

use std::collections::BTreeMap;

use crate::mapping::Mapping;

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
    /// How its records are read, where they do not say themselves.
    pub format: FormatSettings,
    /// Where its undecodable records go.
    pub dead_letters: String,
}

impl TopicSettings {
    /// A topic of native JSON, with the defaults of all else.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            format: FormatSettings::of(Format::Json),
            dead_letters: format!("{name}.dlq"),
        }
    }
}

/// How records are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormatSettings {
    /// The wire format.
    pub format: Format,
    /// The unit of integer times.
    pub time_unit: TimeUnit,
    /// What of a record is a reading, where its shape is not the format's own.
    pub mapping: Option<Mapping>,
}

impl FormatSettings {
    /// A format with its defaults.
    #[must_use]
    pub fn of(format: Format) -> Self {
        Self { format, time_unit: format.time_unit(), mapping: None }
    }
}

/// A wire format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// JSON, [`crate::decode::json`].
    Json,
    /// InfluxDB line protocol.
    Line,
    /// An Arrow IPC stream.
    Arrow,
    /// Avro, framed for a schema registry or with schemas from files.
    Avro,
    /// Protobuf.
    Protobuf,
    /// Sparkplug B payloads.
    Sparkplug,
}

impl Format {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 6] =
        [Self::Json, Self::Line, Self::Arrow, Self::Avro, Self::Protobuf, Self::Sparkplug];

    /// Its name in the config.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Line => "line",
            Self::Arrow => "arrow",
            Self::Avro => "avro",
            Self::Protobuf => "protobuf",
            Self::Sparkplug => "sparkplug",
        }
    }

    /// The format of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }

    /// The unit of its integer times where nothing else is said: line protocol counts nanoseconds, all others
    /// milliseconds.
    #[must_use]
    pub fn time_unit(self) -> TimeUnit {
        if self == Self::Line { TimeUnit::Nanos } else { TimeUnit::Millis }
    }
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

impl TimeUnit {
    /// The unit of that name in the config: s, ms, us or ns.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "s" => Some(Self::Seconds),
            "ms" => Some(Self::Millis),
            "us" => Some(Self::Micros),
            "ns" => Some(Self::Nanos),
            _ => None,
        }
    }
}
