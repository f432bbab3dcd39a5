//! Sends letters again: one transaction holds records and their audit records, so that either all of it has
//! happened or nothing.
//!
//! The transactional id is the dead letter topic's, so of two redrives of one topic the older is fenced, and what a
//! killed one left open is aborted before the next looks at what was done.

use std::time::Duration;

use anyhow::{Context, anyhow};
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use stillwell_source::dead_letters::letter::Letter;
use stillwell_source::settings::{KafkaSettings, is_consumers};

use super::audit::Audit;
use crate::topics;

/// How long Kafka may take to open or commit a transaction.
const WITHIN: Duration = Duration::from_secs(30);
/// Readers of a topic wait for a transaction that is open: one whose sender was killed is aborted after this.
const TRANSACTION_MS: &str = "20000";
/// A commit that took too long may be asked for again, and must be before anything else is.
const COMMITS_MAX: u32 = 4;

/// A sender of the letters of one dead letter topic.
pub(super) struct Sender {
    producer: ThreadedProducer<DefaultProducerContext>,
    letters: String,
    audit: String,
}

/// What is done about one letter.
pub(super) struct Deed {
    pub(super) audit: Audit,
    /// The letter and its partition, where it is sent again; the key's where that is none.
    pub(super) letter: Option<(Letter, Option<i32>)>,
}

impl Sender {
    /// Takes the place of any other sender of these letters.
    ///
    /// # Errors
    /// Where Kafka is away or refuses.
    pub(super) fn connect(kafka: &KafkaSettings, letters: &str) -> anyhow::Result<Self> {
        let mut config = ClientConfig::new();
        for (key, value) in kafka.properties.iter().filter(|(key, _)| !is_consumers(key)) {
            config.set(key, value);
        }
        config
            .set("bootstrap.servers", &kafka.brokers)
            .set("transactional.id", format!("stillwell-redrive-{letters}"))
            .set("transaction.timeout.ms", TRANSACTION_MS)
            .set("message.max.bytes", "16777216");
        let producer: ThreadedProducer<DefaultProducerContext> =
            config.create().context("kafka settings are refused")?;
        producer.init_transactions(WITHIN).with_context(|| {
            format!("kafka at {} opens no transactions for redrives of {letters}", kafka.brokers)
        })?;
        Ok(Self { producer, letters: letters.to_owned(), audit: topics::audit(letters) })
    }

    /// Does all of it or nothing.
    ///
    /// # Errors
    /// Where nothing of it counts, or where only the next redrive will know.
    pub(super) fn send(&self, deeds: &[Deed]) -> anyhow::Result<()> {
        self.producer.begin_transaction().map_err(|error| self.explain(error))?;
        if let Err(error) = self.queue(deeds).and_then(|()| self.commit()) {
            // Where that fails too, the transaction ends by its timeout, or with the next redrive.
            let _ = self.producer.abort_transaction(WITHIN);
            return Err(self.explain(error));
        }
        Ok(())
    }

    fn queue(&self, deeds: &[Deed]) -> KafkaResult<()> {
        for Deed { audit, letter } in deeds {
            if let Some((letter, partition)) = letter {
                let mut record = BaseRecord::<[u8], [u8]>::to(&letter.origin.0.topic);
                record.key = letter.key.as_deref();
                record.payload = letter.value.as_deref();
                record.partition = *partition;
                // A reading may have its time from here.
                record.timestamp = (letter.timestamp_ms >= 0).then_some(letter.timestamp_ms);
                self.put(record.headers(letter.redriven(audit.attempt)))?;
            }
            let key = format!("{}-{}", audit.letter.partition, audit.letter.offset);
            // Plain fields always serialise.
            let payload = serde_json::to_vec(audit).unwrap_or_default();
            self.put(BaseRecord::to(&self.audit).key(key.as_bytes()).payload(payload.as_slice()))?;
        }
        Ok(())
    }

    fn put(&self, record: BaseRecord<'_, [u8], [u8]>) -> KafkaResult<()> {
        self.producer.send(record).map_err(|(error, _)| error)
    }

    fn commit(&self) -> KafkaResult<()> {
        let mut commits = 1;
        loop {
            match self.producer.commit_transaction(WITHIN) {
                Err(KafkaError::Transaction(error)) if error.is_retriable() && commits < COMMITS_MAX => {
                    commits += 1;
                }
                done => return done,
            }
        }
    }

    fn explain(&self, error: KafkaError) -> anyhow::Error {
        use RDKafkaErrorCode as Code;
        let fenced = [Code::Fenced, Code::ProducerFenced, Code::InvalidProducerEpoch];
        let fatal = self.producer.client().fatal_error().map(|(code, _)| code);
        let letters = &self.letters;
        if [error.rdkafka_error_code(), fatal].into_iter().flatten().any(|code| fenced.contains(&code)) {
            return anyhow!("another redrive of {letters} has taken over; wait for it, or run this again");
        }
        anyhow!(
            "the last transaction was given up: {error}; run the same command again, which sends nothing twice"
        )
    }
}
