//! Sends what cannot be read to the dead letter topic, as it came: key, value and headers are the original's,
//! and further headers, in the names that Kafka Connect gives them, say where it came from and what is wrong.
//!
//! [`letter`] reads them back: to be looked at, and to be sent again.
//!
//! A header whose name came encoded (see [`stillwell_schema::columns::RECORDS`]) goes out encoded. Each letter
//! goes by itself. What passes ([`verdict`]) is waited for without end, as long as the broker is
//! away; what does not is refused, counted and left behind, so that no letter holds up another.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use metrics::counter;
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use stillwell_schema::{Offset, TopicPartition};
use thiserror::Error;

use crate::backoff::{Backoff, Retry};
use crate::chunk::RecordRef;
use crate::decode::DecodeError;
use crate::settings::{KafkaSettings, canonical, is_consumers};

pub mod letter;
mod outage;
mod verdict;

pub use outage::Waiting;
pub use rdkafka::error::KafkaError;

use outage::Outage;
use verdict::{Verdict, verdict};

/// Records on their way at once.
const IN_FLIGHT_MAX: usize = 1000;
/// The waits between two tries; each letter has its own, so that they do not come back in step.
const RETRY: Retry = Retry { first: Duration::from_millis(200), most: Duration::from_secs(10) };
/// Producers that may break down over one letter; the next breakdown is the letter's refusal.
const BREAKDOWNS_MAX: u32 = 3;
/// An error quotes what it could not read, and a header is no place for a whole record.
const MESSAGE_BYTES_MAX: usize = 1024;

/// Defaults that a user may change.
const DEFAULTS: &[(&str, &str)] = &[
    ("linger.ms", "5"),
    ("reconnect.backoff.max.ms", "1000"),
    ("message.timeout.ms", "30000"),
    // A record of the largest size that its own topic takes grows by our headers; whether it is then too
    // large is the broker's to say.
    ("message.max.bytes", "16777216"),
    // What librdkafka may hold of letters on their way, part of the memory promise.
    ("queue.buffering.max.kbytes", "65536"),
];

/// Some letters of a batch were refused for good.
#[derive(Debug, Error)]
#[error("{refused} of {letters} dead letters were refused, the first at offset {offset}: {error}")]
pub struct Refused {
    /// How many.
    pub refused: usize,
    /// Of how many.
    pub letters: usize,
    /// The first that was.
    pub offset: Offset,
    /// And why.
    pub error: KafkaError,
}

/// A producer of dead letters.
pub struct DeadLetters {
    config: ClientConfig,
    producer: Mutex<Current>,
}

/// The producer of now. Each that follows a broken one has the next number.
struct Current {
    producer: FutureProducer,
    number: u64,
}

/// Where letters come from and go to.
#[derive(Clone, Copy)]
struct Route<'a> {
    topic: &'a str,
    lane: &'a TopicPartition,
}

impl DeadLetters {
    /// A producer that connects when it is needed.
    ///
    /// # Errors
    /// Where librdkafka refuses the settings.
    pub fn new(kafka: &KafkaSettings) -> Result<Self, KafkaError> {
        let config = config(kafka);
        let producer = config.create()?;
        Ok(Self { config, producer: Mutex::new(Current { producer, number: 0 }) })
    }

    /// Sends `failed` records of one lane to `topic` and waits until the broker has acknowledged each (acks=all,
    /// idempotent) or refused it for good. While the broker is away it waits, with backoff, and `waiting` hears
    /// of it once per reason.
    ///
    /// # Errors
    /// [`Refused`] where trying again cannot mend it (topic or record refused); all others were sent.
    pub async fn send(
        &self,
        topic: &str,
        lane: &TopicPartition,
        failed: &[(RecordRef<'_>, &DecodeError)],
        waiting: Waiting<'_>,
    ) -> Result<(), Refused> {
        let (route, outage) = (Route { topic, lane }, Outage::new(waiting));
        let mut refusals = Vec::new();
        for some in failed.chunks(IN_FLIGHT_MAX) {
            let sends = some.iter().map(|(record, error)| self.send_one(route, record, error, &outage));
            let sent = futures::future::join_all(sends).await;
            let refused =
                sent.into_iter().zip(some).filter_map(|(sent, letter)| Some((letter.0.offset, sent.err()?)));
            let before = refusals.len();
            refusals.extend(refused);
            let accepted = some.len() - (refusals.len() - before);
            counter!("stillwell_dead_letters_total", "topic" => topic.to_owned()).increment(accepted as u64);
        }
        let refused = refusals.len();
        match refusals.into_iter().next() {
            Some((offset, error)) => Err(Refused { refused, letters: failed.len(), offset, error }),
            None => Ok(()),
        }
    }

    async fn send_one(
        &self,
        route: Route<'_>,
        record: &RecordRef<'_>,
        error: &DecodeError,
        outage: &Outage<'_>,
    ) -> Result<(), KafkaError> {
        let mut backoff = Backoff::new(RETRY, record.offset.0.cast_unsigned());
        let mut breakdowns = 0;
        loop {
            let (producer, number) = self.current();
            let letter = FutureRecord {
                topic: route.topic,
                partition: None,
                payload: record.value,
                key: record.key,
                timestamp: (record.timestamp_ms >= 0).then_some(record.timestamp_ms),
                headers: Some(headers(route.lane, record, error)),
            };
            let Err((failure, _)) = producer.send::<[u8], [u8], _>(letter, RETRY.first).await else {
                return Ok(());
            };
            match verdict(&failure, producer.client().fatal_error().is_some()) {
                Verdict::Refused => return Err(failure),
                Verdict::Broken if breakdowns == BREAKDOWNS_MAX => return Err(failure),
                Verdict::Broken => {
                    breakdowns += 1;
                    self.renew(number)?;
                }
                Verdict::Away => {}
            }
            outage.tell(&failure);
            backoff.wait().await;
        }
    }

    fn current(&self) -> (FutureProducer, u64) {
        let current = self.producer.lock().unwrap_or_else(PoisonError::into_inner);
        (current.producer.clone(), current.number)
    }

    /// Puts a new producer in the place of number `broken`, unless another letter has done so.
    fn renew(&self, broken: u64) -> Result<(), KafkaError> {
        let mut current = self.producer.lock().unwrap_or_else(PoisonError::into_inner);
        if current.number == broken {
            *current = Current { producer: self.config.create()?, number: broken + 1 };
        }
        Ok(())
    }
}

/// The user's properties over the defaults, and what the promise of [`DeadLetters::send`] needs over both.
fn config(kafka: &KafkaSettings) -> ClientConfig {
    let mut config = ClientConfig::new();
    for (key, value) in DEFAULTS {
        config.set(canonical(key), *value);
    }
    for (key, value) in &kafka.properties {
        if !is_consumers(key) {
            config.set(canonical(key), value);
        }
    }
    for (key, value) in
        [("bootstrap.servers", &*kafka.brokers), ("acks", "all"), ("enable.idempotence", "true")]
    {
        config.set(canonical(key), value);
    }
    config
}

fn headers(lane: &TopicPartition, record: &RecordRef<'_>, error: &DecodeError) -> OwnedHeaders {
    let (partition, offset) = (lane.partition.to_string(), record.offset.to_string());
    let message = error.to_string();
    let values = [
        &*lane.topic,
        &partition,
        &offset,
        "stillwell",
        "VALUE_CONVERTER",
        error.class,
        &message[..message.floor_char_boundary(MESSAGE_BYTES_MAX)],
    ];
    let theirs = record
        .headers()
        .fold(OwnedHeaders::new(), |headers, (key, value)| headers.insert(Header { key, value }));
    letter::HEADERS
        .into_iter()
        .zip(values)
        .fold(theirs, |headers, (key, value)| headers.insert(Header { key, value: Some(value) }))
}

#[cfg(test)]
mod tests;
