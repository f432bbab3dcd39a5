//! Why there is no pack.

use std::io;
use std::path::PathBuf;

use parquet::errors::ParquetError;
use thiserror::Error;

use crate::evidence::EvidenceError;
use crate::manifest::ManifestError;
use crate::store::StoreError;
use crate::verify::Problem;

/// Why there is no pack.
#[derive(Debug, Error)]
pub enum ExportError {
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A chain is damaged.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The keys are damaged.
    #[error(transparent)]
    Evidence(#[from] EvidenceError),
    /// A file of the archive is missing, altered, or proves something else.
    #[error("{0}; nothing is exported of it: run `stillwell verify`")]
    Damaged(Box<Problem>),
    /// The archive is signed by another key than the trusted one.
    #[error(
        "{object} is signed by {found}, and no change of key leads there from the trusted one; name the archive's \
         public key with --public-key"
    )]
    Untrusted {
        /// What is signed.
        object: String,
        /// By which key, hex.
        found: String,
    },
    /// It is signed by a key that was no longer in use.
    #[error(
        "{object} is signed by {found}, which a later key had replaced; nothing is exported: run `stillwell verify`"
    )]
    Replaced {
        /// What is signed.
        object: String,
        /// By which key, hex.
        found: String,
    },
    /// There is no such reading.
    #[error(
        "the archive holds no reading of these machines and times{}; `select machine, min(time), max(time) from readings \
         group by machine` shows what it holds",
        erased(*tombstones)
    )]
    NotFound {
        /// How many tombstones of retention may have been of such readings.
        tombstones: u64,
    },
    /// The folder is in use.
    #[error("{} is not empty; name a folder that is not there yet", path.display())]
    NotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// The folder cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Parquet refuses.
    #[error("writing the pack: {0}; is its disk full?")]
    Parquet(#[from] ParquetError),
    /// JSON refuses.
    #[error("writing the pack: {0}")]
    Json(#[from] serde_json::Error),
}

/// What tombstones tell of readings that are not there.
fn erased(tombstones: u64) -> String {
    match tombstones {
        0 => String::new(),
        _ => format!(
            " any more: {tombstones} signed tombstones state what retention erased from where such readings were"
        ),
    }
}
