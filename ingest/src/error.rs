//! Why the write side, or one lane of it, cannot go on.

use stillwell_schema::manifest::EntryError;
use stillwell_schema::range::RangeError;
use stillwell_schema::{Offset, TopicPartition};
use stillwell_source::consumer::ConsumerError;
use stillwell_source::halt::Halted;
use thiserror::Error;

use crate::evidence::EvidenceError;
use crate::keys::KeyError;
use crate::keys::rotation::RotateError;
use crate::manifest::ManifestError;
use crate::store::{ProbeError, StoreError};

/// What stops the write side or a lane. Errors that pass by themselves are waited out and never seen here,
/// save at assignment, where the consumer asks again.
#[derive(Debug, Error)]
pub enum IngestError {
    /// The archive refuses.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The archive cannot be kept at its place, or that is not known yet.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// A lane's chain cannot be read.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The signing key cannot be had.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The archive's record of its keys is damaged.
    #[error(transparent)]
    Evidence(#[from] EvidenceError),
    /// A rotation of the key cannot be finished.
    #[error(transparent)]
    Rotate(#[from] RotateError),
    /// The signing key was rotated since this process started.
    #[error("the archive's key was rotated since this process started; restart it with the new key file")]
    KeyReplaced,
    /// The consumer cannot go on.
    #[error("{0}")]
    Consumer(#[from] ConsumerError),
    /// The dead letter producer cannot be made.
    #[error("dead letters: {0}; check the [kafka] properties")]
    DeadLetters(String),
    /// The system gives no randomness, without which no file's name is unique.
    #[error("the system's source of random numbers: {0}")]
    Random(String),
    /// A batch could not be encoded as Parquet.
    #[error("encoding {lane}: {source}")]
    Encode {
        /// Of which lane.
        lane: TopicPartition,
        /// What Parquet says.
        source: parquet::errors::ParquetError,
    },
    /// An entry could not be built.
    #[error("entry of {lane}: {source}")]
    Entry {
        /// Of which lane.
        lane: TopicPartition,
        /// Why.
        source: Box<EntryError>,
    },
    /// Chunks left offsets out without naming a gap.
    #[error("chunks of {lane} do not fit together: {source}")]
    Hole {
        /// In which lane.
        lane: TopicPartition,
        /// What was expected and what came.
        source: RangeError,
    },
    /// The lane was to start after the archive's end, which would leave a silent gap.
    #[error("{lane} starts at {start}, but the archive ends at {next}")]
    Ahead {
        /// Which lane.
        lane: TopicPartition,
        /// Where it starts.
        start: Offset,
        /// Where the archive ends.
        next: Offset,
    },
    /// Most of a batch cannot be decoded.
    #[error(transparent)]
    Halted(Box<Halted>),
    /// A lane of a topic that the settings do not name.
    #[error("topic {0} is not configured; add it to [[topics]]")]
    UnknownTopic(String),
}

impl IngestError {
    /// Whether it passes by itself, so that asking again with backoff is right.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Store(error)
            | Self::Probe(ProbeError::Store(error))
            | Self::Manifest(ManifestError::Store(error))
            | Self::Rotate(RotateError::Evidence(EvidenceError::Store(error)))
            | Self::Evidence(EvidenceError::Store(error)) => error.is_transient(),
            _ => false,
        }
    }
}
