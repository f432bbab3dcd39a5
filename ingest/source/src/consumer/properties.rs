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
    // What librdkafka may hold ahead of us, over all partitions: enough for full speed, and part of the
    // memory promise. A partition that found this queue full asks again after the backoff, which is a second
    // unless it is set and would then be the limit of the speed.
    ("queued.max.messages.kbytes", "16384"),
    ("fetch.queue.backoff.ms", "20"),
    ("fetch.max.bytes", "16777216"),
    ("max.partition.fetch.bytes", "2097152"),
];

/// The properties of a member of `group`, the user's over the defaults.
pub(crate) fn config(kafka: &KafkaSettings, group: &str) -> Result<ClientConfig, ConsumerError> {
    let mut config = ClientConfig::new();
    for (key, value) in DEFAULTS {
        config.set(canonical(key), *value);
    }
    for (key, value) in &kafka.properties {
        if is_fixed(canonical(key), value) {
            return Err(ConsumerError::FixedProperty(key.clone()));
        }
        config.set(canonical(key), value);
    }
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
