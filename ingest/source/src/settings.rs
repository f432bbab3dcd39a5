//! How Kafka is reached and which topics are read. Plain data, made by the binary from its config.

use std::collections::BTreeMap;

use crate::decode::avro::AvroSettings;
use crate::decode::sparkplug::SparkplugSettings;
use crate::mapping::Mapping;
use crate::registry::Schemas;

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

/// Properties of consumers, by how they begin: a producer does not know them, and who joins no group must not
/// have a member's.
const CONSUMERS_ONLY: &[&str] = &[
    "auto.offset.",
    "check.crcs",
    "enable.auto.",
    "enable.partition.eof",
    "fetch.",
    "group.",
    "heartbeat.",
    "isolation.",
    "max.partition.",
    "max.poll.",
    "partition.assignment.",
    "queued.",
    "session.",
];

/// Whether a librdkafka property is a consumer's, so that producers, administration and whoever reads outside of
/// a group leave it out.
#[must_use]
pub fn is_consumers(property: &str) -> bool {
    CONSUMERS_ONLY.iter().any(|beginning| property.starts_with(beginning))
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
    /// The share of a batch that may go there; beyond it the lane stands still, as then the records are hardly
    /// what is wrong.
    pub dead_letter_share_max: Share,
}

/// A share of a whole, from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share {
    millionths: u64,
}

impl Share {
    /// All of it.
    pub const WHOLE: Self = Self { millionths: 1_000_000 };
    /// Half of it.
    pub const HALF: Self = Self { millionths: 500_000 };

    /// A share, to a millionth; none where it is not from 0 to 1.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is from 0 to a million")]
    pub fn new(share: f64) -> Option<Self> {
        (0.0..=1.0).contains(&share).then(|| Self { millionths: (share * 1e6).round() as u64 })
    }

    /// Whether `part` of `whole` is more than this share.
    #[must_use]
    pub fn is_exceeded_by(self, part: usize, whole: usize) -> bool {
        part as u128 * 1_000_000 > u128::from(self.millionths) * whole as u128
    }
}

impl TopicSettings {
    /// A topic of native JSON, with the defaults of all else.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            format: FormatSettings::of(Format::Json),
            dead_letters: format!("{name}.dlq"),
            dead_letter_share_max: Share::HALF,
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
    /// The schema registry of framed records.
    pub schemas: Option<Schemas>,
    /// Schemas of Avro from files.
    pub avro: AvroSettings,
    /// How messages of Sparkplug B are named.
    pub sparkplug: SparkplugSettings,
}

impl FormatSettings {
    /// A format with its defaults.
    #[must_use]
    pub fn of(format: Format) -> Self {
        Self {
            format,
            time_unit: format.time_unit(),
            mapping: None,
            schemas: None,
            avro: AvroSettings::default(),
            sparkplug: SparkplugSettings::default(),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_exceeded_by_more_than_it_alone() {
        let half = Share::new(0.5).unwrap();
        assert_eq!(half, Share::HALF);
        assert!(!half.is_exceeded_by(50, 100) && half.is_exceeded_by(51, 100));
        assert!(!Share::WHOLE.is_exceeded_by(usize::MAX, usize::MAX));
        assert!(Share::new(0.0).unwrap().is_exceeded_by(1, usize::MAX));
        assert_eq!([1.1, -0.1, f64::NAN].map(Share::new), [None; 3]);
    }

    #[test]
    fn what_a_producer_does_not_know_is_told_by_its_beginning() {
        for name in ["group.instance.id", "max.partition.fetch.bytes", "fetch.wait.max.ms", "isolation.level"]
        {
            assert!(is_consumers(name), "{name}");
        }
        for name in ["security.protocol", "max.in.flight", "message.max.bytes", "client.id", "linger.ms"] {
            assert!(!is_consumers(name), "{name}");
        }
    }
}
