//! The life of the data after its commit: small files are merged into large sorted ones, what retention no longer
//! keeps is erased under a signed tombstone, what is held stays.
//!
//! Reading order: [`ledger`] reads and adds the acts of a lane's second chain; [`pieces`] walks a lane as its view
//! stands; `rewrite` puts new files in the place of those of a run of pieces, and proves them before an act names
//! them; [`lookup`] finds records in a piece; [`compact`] and [`retain`] say which runs; [`hold`] keeps what is under legal hold.
//!
//! **Architecture invariant:** the creation of an act is the only point at which readers see another file, and no
//! act is created whose files were not read back from the store and proven: every entry's Merkle root from the new
//! records and leaves, every reading by its hash.

use arrow::error::ArrowError;
use parquet::errors::ParquetError;
use stillwell_schema::TopicPartition;
use stillwell_schema::ledger::ActError;
use thiserror::Error;

use crate::evidence::EvidenceError;
use crate::manifest::ManifestError;
use crate::store::StoreError;

pub mod compact;
pub mod hold;
pub mod ledger;
pub mod lookup;
pub mod pieces;
pub mod retain;
pub(crate) mod rewrite;

/// Why an act was not made. Nothing is changed by one that was not.
#[derive(Debug, Error)]
pub enum LifeError {
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A chain cannot be read.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The key at hand is not the archive's.
    #[error(transparent)]
    Evidence(#[from] EvidenceError),
    /// The act cannot be built.
    #[error(transparent)]
    Act(#[from] ActError),
    /// A file that is to be replaced is not as it was committed.
    #[error(
        "{path} {reason}; its lane is left as it is: run `stillwell verify` and restore the file from a backup"
    )]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// What was written does not prove what it replaces.
    #[error(
        "the new files of {lane} were dropped, as they do not prove entry {seq}: {reason}; run `stillwell verify`"
    )]
    Unproven {
        /// Of which lane.
        lane: TopicPartition,
        /// The entry.
        seq: u64,
        /// What is wrong.
        reason: String,
    },
    /// Parquet refuses.
    #[error("rewriting {lane}: {source}")]
    Parquet {
        /// Of which lane.
        lane: TopicPartition,
        /// What it says.
        source: ParquetError,
    },
    /// A hold of this name stands and is about something else.
    #[error(
        "{lane} has another hold {id}, of machines {machines} (`stillwell hold list` shows all of it); add this one \
         under another name, or release that one first: `stillwell hold release {id}`"
    )]
    HoldTaken {
        /// In which lane.
        lane: TopicPartition,
        /// Its name.
        id: String,
        /// Which machines it holds.
        machines: String,
    },
    /// Another process added an act first.
    #[error("the ledger of {0} was continued by another process meanwhile; run it again")]
    Raced(TopicPartition),
}

impl LifeError {
    fn parquet(lane: &TopicPartition) -> impl Fn(ParquetError) -> Self {
        move |source| Self::Parquet { lane: lane.clone(), source }
    }

    pub(crate) fn arrow(lane: &TopicPartition) -> impl Fn(ArrowError) -> Self {
        move |source| Self::Parquet { lane: lane.clone(), source: source.into() }
    }
}
