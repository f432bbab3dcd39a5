//! A producer that knows what the broker acknowledged.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

/// Produces to the topic `readings`, idempotently, through broker restarts.
pub(crate) struct Producer(BaseProducer);

impl Producer {
    /// Towards `brokers`.
    pub(crate) fn new(brokers: &str) -> Self {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("linger.ms", "5")
            .set("message.timeout.ms", "300000")
            .set("reconnect.backoff.max.ms", "500")
            .create()
            .unwrap();
        Self(producer)
    }

    /// Hands one record over; it is sent in the background.
    pub(crate) fn send(&self, key: &str, value: &[u8]) {
        self.send_raw(Some(key.as_bytes()), Some(value), &[]);
    }

    /// The same into a partition of choice.
    pub(crate) fn send_to(&self, partition: i32, key: &str, value: &[u8]) {
        self.hand_over(Some(partition), Some(key.as_bytes()), Some(value), &[]);
    }

    /// The same for a record that may lack key and value, and may have headers.
    pub(crate) fn send_raw(&self, key: Option<&[u8]>, value: Option<&[u8]>, headers: &[(&str, &[u8])]) {
        self.hand_over(None, key, value, headers);
    }

    fn hand_over(
        &self,
        partition: Option<i32>,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, &[u8])],
    ) {
        loop {
            let mut record = BaseRecord::<[u8], [u8]>::to("readings");
            record.partition = partition;
            record.key = key;
            record.payload = value;
            if !headers.is_empty() {
                let all = headers.iter().fold(OwnedHeaders::new(), |all, (key, value)| {
                    all.insert(Header { key, value: Some(*value) })
                });
                record = record.headers(all);
            }
            match self.0.send(record) {
                Ok(()) => return,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    self.0.poll(Duration::from_millis(10));
                }
                Err((error, _)) => panic!("{error}"),
            }
        }
    }

    /// Waits until all that was sent is acknowledged.
    pub(crate) fn flush(&self) {
        self.0.flush(Duration::from_secs(240)).unwrap();
    }
}

/// One reading, as a sensor gateway would send it: `n` is its value, and its time in seconds.
pub(crate) fn reading(machine: &str, sensor: &str, n: u64) -> String {
    format!(
        r#"{{"machine":"{machine}","sensor":"{sensor}","kind":"flow","unit":"l/s","time":{},"value":{n}}}"#,
        1_795_000_000_000 + n * 1000
    )
}

/// Ends a load also where a check fails.
pub(crate) struct Ends<'a>(pub(crate) &'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
