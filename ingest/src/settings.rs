//! How the write side is set up. Plain data, made by the binary from its config.

use std::path::PathBuf;
use std::time::Duration;

use stillwell_schema::{ArchiveUrl, StoreOptions};
use stillwell_source::settings::{KafkaSettings, TopicSettings};

use crate::life::compact;

/// The write side's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngestSettings {
    /// Where Kafka is.
    pub kafka: KafkaSettings,
    /// What is archived.
    pub topics: Vec<TopicSettings>,
    /// The consumer group, `stillwell-ingest`.
    pub group: String,
    /// Where the archive lies; a folder is created where missing.
    pub archive: ArchiveUrl,
    /// What its object store needs to know.
    pub archive_options: StoreOptions,
    /// The Ed25519 key that signs entries, PKCS#8 PEM, created where missing.
    pub key_file: PathBuf,
    /// Freshness: a batch is committed when its first record is this old.
    pub flush_interval: Duration,
    /// A batch is committed when it holds this many bytes of keys, values and headers.
    pub file_bytes: usize,
    /// How often the end of every lane is signed.
    pub checkpoint_interval: Duration,
    /// Memory for all that is read and not committed yet, over all lanes: what librdkafka reads ahead, records and
    /// readings, what decoders know, and what encoding takes. What compaction holds comes beside it.
    pub memory_bytes: usize,
    /// How small files are merged; none where they are not.
    pub compaction: Option<compact::Settings>,
}
