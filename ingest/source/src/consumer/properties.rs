//! The librdkafka properties of a consumer: the protocol's, ours, and the user's between them.

use rdkafka::ClientConfig;

use super::ConsumerError;
use crate::settings::{KafkaSettings, canonical};

/// What the protocol stands on.
pub(super) const PROTOCOL: &[(&str, &str)] = &[
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("auto.offset.reset", "error"),
    ("check.crcs", "true"),
    ("isolation.level", "read_committed"),
    ("partition.assignment.strategy", "cooperative-sticky"),
    ("enable.partition.eof", "false"),
    ("group.protocol", "classic"),
];

/// Defaults that a user may change.
const DEFAULTS: &[(&str, &str)] = &[
    // A killed member's partitions go to the others after this.
    ("session.timeout.ms", "6000"),
    ("heartbeat.interval.ms", "1500"),
    ("topic.metadata.refresh.interval.ms", "30000"),
    ("reconnect.backoff.max.ms", "1000"),
    ("fetch.wait.max.ms", "50"),
    // A partition that found the queue full asks again after the backoff, which is a second unless it is set and
    // would then be the limit of the speed.
    ("fetch.queue.backoff.ms", "20"),
];

/// The budget of a client that belongs to no stage.
const BYTES_MAX: usize = 256 << 20;

/// What a message in librdkafka's queue takes beside its value, which alone the queue's bound counts.
const MESSAGE_BYTES: usize = 320;

/// Bytes of memory that each byte of a response is reckoned as: readings as JSON unpack to about four times their size.
/// Smaller responses would bound the memory more tightly and cost a round trip each.
const UNPACKED: usize = 4;

/// librdkafka's default of `message.max.bytes`, and its least.
const RECORD_BYTES: usize = 1_000_000;
const RECORD_BYTES_MIN: usize = 1_000;

/// librdkafka's default of `receive.message.max.bytes`, beyond which it takes no response and unpacks no batch.
const RECEIVE_BYTES: usize = 100_000_000;

/// How far librdkafka reads ahead. The queue is one for all partitions of a client; it is looked at before a fetch
/// alone, so that the responses of all brokers may come on top of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ahead {
    queue_bytes: usize,
    response_bytes: usize,
}

impl Ahead {
    /// What an eighth of a budget of `bytes_max` bytes allows: a quarter of it for the values in the queue, a quarter
    /// for what their messages take beside, half for responses. A queue of more than 16 MiB makes nothing faster.
    fn within(bytes_max: usize) -> Self {
        let queue_bytes = (bytes_max / 32).clamp(1 << 20, 16 << 20);
        Self { queue_bytes, response_bytes: 2 * queue_bytes / UNPACKED }
    }

    /// As librdkafka's properties.
    fn properties(self) -> [(&'static str, usize); 4] {
        [
            ("queued.max.messages.kbytes", self.queue_bytes / 1000),
            ("queued.min.messages", self.queue_bytes / MESSAGE_BYTES),
            ("fetch.max.bytes", self.response_bytes),
            ("max.partition.fetch.bytes", self.response_bytes / 4),
        ]
    }
}

/// Bytes that a client of these properties may hold ahead of us.
pub(super) fn ahead_bytes(config: &ClientConfig) -> usize {
    let number = |key| number(config, key).unwrap_or(0);
    let queue = number("queued.max.messages.kbytes").saturating_mul(1000);
    let messages = number("queued.min.messages").saturating_mul(MESSAGE_BYTES);
    queue.saturating_add(messages).saturating_add(number("fetch.max.bytes").saturating_mul(UNPACKED))
}

/// Lets records come that are larger than a response. A broker sends such a one alone (KIP-74), but librdkafka
/// refuses a `fetch.max.bytes` below `message.max.bytes`, which is otherwise what a producer may send.
fn take_large_records(config: &mut ClientConfig) {
    let message_max = canonical("message.max.bytes");
    let record = match config.get(message_max) {
        None => Some(RECORD_BYTES),
        Some(_) => number(config, message_max),
    };
    // What is no number is left for librdkafka to name.
    let (Some(record), Some(response)) = (record, number(config, "fetch.max.bytes")) else { return };
    if record <= response {
        return;
    }
    config.set(message_max, response.max(RECORD_BYTES_MIN).to_string());
    let receive_max = canonical("receive.message.max.bytes");
    if config.get(receive_max).is_none() {
        config.set(receive_max, RECEIVE_BYTES.max(record.saturating_add(response)).to_string());
    }
}

fn number(config: &ClientConfig, key: &str) -> Option<usize> {
    config.get(canonical(key))?.parse().ok()
}

/// The properties of a client of `group` that belongs to no stage, the user's over the defaults.
pub(crate) fn config(kafka: &KafkaSettings, group: &str) -> Result<ClientConfig, ConsumerError> {
    config_within(kafka, group, BYTES_MAX)
}

/// Those of a member of `group` within a budget of `bytes_max` bytes.
pub(super) fn config_within(
    kafka: &KafkaSettings,
    group: &str,
    bytes_max: usize,
) -> Result<ClientConfig, ConsumerError> {
    let mut config = ClientConfig::new();
    for (key, value) in DEFAULTS {
        config.set(canonical(key), *value);
    }
    for (key, value) in Ahead::within(bytes_max).properties() {
        config.set(canonical(key), value.to_string());
    }
    for (key, value) in &kafka.properties {
        if is_fixed(canonical(key), value) {
            return Err(ConsumerError::FixedProperty(key.clone()));
        }
        config.set(canonical(key), value);
    }
    take_large_records(&mut config);
    for (key, value) in PROTOCOL {
        config.set(canonical(key), *value);
    }
    config.set(canonical("bootstrap.servers"), &kafka.brokers).set("group.id", group);
    Ok(config)
}

fn is_fixed(key: &str, value: &str) -> bool {
    let fixed = PROTOCOL.iter().find(|(fixed, _)| canonical(fixed) == key);
    fixed.is_some_and(|(_, needed)| *needed != value) || key == "group.id"
}

/// Checks the user's properties without connecting, so that a wrong one is named before anything is started.
///
/// # Errors
/// [`ConsumerError::FixedProperty`] where the protocol fixes a property, [`ConsumerError::Kafka`] where
/// librdkafka does not know it or its value.
pub fn check_properties(kafka: &KafkaSettings) -> Result<(), ConsumerError> {
    config(kafka, "check")?.create_native_config()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kafka(key: &str, value: &str) -> KafkaSettings {
        KafkaSettings {
            brokers: "localhost:1".to_owned(),
            properties: [(key.to_owned(), value.to_owned())].into(),
        }
    }

    #[test]
    fn users_change_defaults_but_not_the_protocol() {
        let config_of = |key, value| config(&kafka(key, value), "group");
        assert_eq!(config_of("session.timeout.ms", "9000").unwrap().get("session.timeout.ms"), Some("9000"));
        assert!(config_of("auto.offset.reset", "error").is_ok());
        for (key, value) in [("auto.offset.reset", "latest"), ("group.id", "other")] {
            assert!(
                matches!(config_of(key, value), Err(ConsumerError::FixedProperty(found)) if found == key)
            );
        }
    }

    #[test]
    fn what_is_read_ahead_follows_the_budget_and_the_user() {
        let ahead = |mib: usize, key, value| {
            let config = config_within(&kafka(key, value), "group", mib << 20).unwrap();
            config.create_native_config().unwrap();
            ahead_bytes(&config)
        };
        for mib in [64, 128, 256] {
            let bytes = ahead(mib, "client.id", "hall-3");
            assert!(bytes <= mib << 17 && bytes > (mib << 17) * 99 / 100, "{mib} MiB: {bytes}");
        }
        assert!(ahead(1, "client.id", "hall-3") < 8 << 20);
        let (queue, messages, response) = (8_388_000, 26_214 * MESSAGE_BYTES, 4 << 20);
        assert_eq!(ahead(4096, "client.id", "hall-3"), 16_777_000 + 52_428 * MESSAGE_BYTES + (32 << 20));
        for (key, value, bytes) in [
            ("queued.max.messages.kbytes", "2000", 2_000_000 + messages + UNPACKED * response),
            ("queued.min.messages", "100000", queue + 100_000 * MESSAGE_BYTES + UNPACKED * response),
            ("fetch.max.bytes", "4000000", queue + messages + UNPACKED * 4_000_000),
            ("message.max.bytes", "10000000", queue + messages + UNPACKED * response),
        ] {
            assert_eq!(ahead(256, key, value), bytes, "{key}");
        }
    }

    #[test]
    fn records_larger_than_a_response_are_taken() {
        for (mib, largest, receive_max) in [
            (1, 1_000_000, Some("100000000")),
            (256, 1_000_000, None),
            (256, 10_000_000, Some("100000000")),
            (256, 500_000_000, Some("504194304")),
        ] {
            let kafka = kafka("message.max.bytes", &largest.to_string());
            let config = config_within(&kafka, "group", mib << 20).unwrap();
            config.create_native_config().unwrap();
            assert_eq!(config.get("receive.message.max.bytes"), receive_max, "{mib} MiB, {largest}");
        }
    }

    #[test]
    fn two_names_of_a_property_are_one() {
        let broker = config(&kafka("metadata.broker.list", "elsewhere:9"), "group").unwrap();
        assert_eq!(broker.get("metadata.broker.list"), Some("localhost:1"));
        assert_eq!(broker.get("bootstrap.servers"), None);
        for name in ["max.partition.fetch.bytes", "fetch.message.max.bytes"] {
            let fetch = config(&kafka(name, "1000"), "group").unwrap();
            assert_eq!(fetch.get("fetch.message.max.bytes"), Some("1000"), "{name}");
            assert_eq!(fetch.get("max.partition.fetch.bytes"), None, "{name}");
        }
    }

    #[test]
    fn a_wrong_property_is_named_before_anything_is_started() {
        check_properties(&kafka("client.id", "hall-3")).unwrap();
        let fixed = check_properties(&kafka("isolation.level", "read_uncommitted")).unwrap_err();
        assert!(fixed.to_string().contains("isolation.level"), "{fixed}");
        for (key, value) in [("no.such.property", "1"), ("fetch.wait.max.ms", "soon")] {
            let refused = check_properties(&kafka(key, value)).unwrap_err();
            assert!(matches!(&refused, ConsumerError::Kafka(_)), "{refused}");
            assert!(refused.to_string().contains(key), "{refused}");
        }
    }
}
