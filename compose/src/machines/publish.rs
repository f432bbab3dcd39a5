//! Publishes changes to the registry's topic: one transaction, so that readers see all of it or nothing.
//!
//! The transactional id is the topic's: of two imports the older is fenced, and what a killed one left open is aborted
//! before the next reads what is there.

use std::time::Duration;

use anyhow::{Context, bail};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use stillwell_schema::machines::Change;
use stillwell_source::settings::KafkaSettings;

use crate::topics;

/// How long Kafka may take to open or commit a transaction.
const WITHIN: Duration = Duration::from_secs(30);
/// Of a killed import, after which its readers need not wait any more.
const TRANSACTION_MS: &str = "60000";
/// A commit that took too long may be asked for again, and must be before anything else is.
const COMMITS_MAX: u32 = 4;
/// Between two tries to hand a record over while many are on their way.
const FULL_WAIT: Duration = Duration::from_millis(5);

/// The one that may publish to a topic.
pub(super) struct Publisher {
    producer: ThreadedProducer<DefaultProducerContext>,
    topic: String,
}

impl Publisher {
    /// Takes the place of any other.
    ///
    /// # Errors
    /// Where Kafka is away or refuses.
    pub(super) fn connect(kafka: &KafkaSettings, topic: &str) -> anyhow::Result<Self> {
        let mut config = topics::client_config(kafka);
        config
            .set("transactional.id", format!("stillwell-machines-{topic}"))
            .set("transaction.timeout.ms", TRANSACTION_MS);
        let producer: ThreadedProducer<DefaultProducerContext> =
            config.create().context("kafka settings are refused")?;
        producer
            .init_transactions(WITHIN)
            .with_context(|| format!("kafka at {} opens no transactions for {topic}", kafka.brokers))?;
        Ok(Self { producer, topic: topic.to_owned() })
    }

    /// Publishes all of it or nothing, and waits until that is so.
    ///
    /// # Errors
    /// Where nothing of it counts, or where only the next import will know.
    pub(super) fn publish(&self, changes: &[Change]) -> anyhow::Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.transaction(changes) {
            // Where that fails too, the transaction ends by its timeout, or with the next import.
            let _ = self.producer.abort_transaction(WITHIN);
            bail!("the import was given up: {error}; run it again, which publishes nothing twice");
        }
        Ok(())
    }

    fn transaction(&self, changes: &[Change]) -> KafkaResult<()> {
        self.producer.begin_transaction()?;
        changes.iter().try_for_each(|change| self.put(change))?;
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

    fn put(&self, change: &Change) -> KafkaResult<()> {
        let (key, value) = (change.key().to_string(), change.value());
        let mut record = BaseRecord::<[u8], [u8]>::to(&self.topic).key(key.as_bytes());
        record.payload = value.as_deref();
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    std::thread::sleep(FULL_WAIT);
                }
                Err((error, _)) => return Err(error),
            }
        }
    }
}
