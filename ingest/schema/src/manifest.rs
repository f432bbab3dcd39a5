//! The manifest entry: the one object whose creation commits a range, signed and chained (see [`crate::signed`]).
//!
//! Each entry starts at the offset where its predecessor ended, so a chain has no overlap, no silent gap and one
//! possible order.

use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::columns;
use crate::ids::{Offset, TopicPartition};
use crate::range::{Gap, OffsetRange};
use crate::signed::{self, Body, Signed, SignedError};

pub use crate::signed::GENESIS;

/// The version of this format.
pub const FORMAT: u32 = 1;

/// One data file of a commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRef {
    /// Path relative to the archive's root.
    pub path: String,
    /// Size in bytes.
    pub bytes: u64,
    /// Rows inside.
    pub rows: u64,
    /// SHA-256 of the file, hex.
    pub sha256: String,
}

/// What one commit made durable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// [`FORMAT`].
    pub format: u32,
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Number of this entry in its lane, from 0.
    pub seq: u64,
    /// SHA-256 of the previous entry's object, hex.
    pub previous: String,
    /// The offsets covered.
    pub range: OffsetRange,
    /// Offsets inside the range that carry no record, in order.
    pub gaps: Vec<Gap>,
    /// Decoded columns; none where no reading was decoded.
    pub readings: Option<FileRef>,
    /// Original bytes; none where the range is all gap.
    pub records: Option<FileRef>,
    /// Records that could not be decoded.
    pub undecodable: u64,
    /// RFC 6962 root over the original records, hex (see [`crate::merkle`]).
    pub merkle_root: String,
    /// Smallest source time, µs UTC; none without readings.
    pub time_min_us: Option<i64>,
    /// Largest source time, µs UTC.
    pub time_max_us: Option<i64>,
    /// The machines inside, sorted; none where there are more than [`MACHINES_MAX`].
    pub machines: Option<Vec<String>>,
    /// The schema of the files, [`crate::columns::SCHEMA_ID`].
    pub schema: String,
    /// Who wrote it: a name and a UUID made at process start.
    pub writer: String,
    /// When it was written, µs UTC, by the writer's clock.
    pub written_us: i64,
    /// The Ed25519 public key that signs it, hex.
    pub key: String,
}

/// An entry lists its machines up to this many, which keeps it below 1 MiB; beyond, readers open the file.
pub const MACHINES_MAX: usize = 10_000;

/// An entry as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedEntry {
    /// What was committed.
    pub entry: Entry,
    /// The object's exact bytes.
    pub bytes: Vec<u8>,
    /// SHA-256 of `bytes`, hex: the next entry's `previous`.
    pub sha256: String,
}

/// The end of a lane's chain: what the next entry must follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The seq of the next entry.
    pub seq: u64,
    /// The offset it must start at; none before a lane's first entry, which may start anywhere.
    pub next: Option<Offset>,
    /// What its `previous` must be.
    pub previous: String,
}

/// Why an object is not the entry it should be.
#[derive(Debug, Error)]
pub enum EntryError {
    /// It is no such object, or not as it was signed.
    #[error("not a manifest entry: {0}")]
    Signed(#[from] SignedError),
    /// Its range is none, or its gaps are not in order inside it.
    #[error("entry {seq} is inconsistent: {reason}")]
    Range {
        /// The entry's seq.
        seq: u64,
        /// What is wrong.
        reason: String,
    },
    /// Its files are of a later version.
    #[error(
        "entry {seq} has files of the schema {schema}, which this version does not know: upgrade stillwell"
    )]
    Schema {
        /// The entry's seq.
        seq: u64,
        /// What it names.
        schema: String,
    },
    /// It does not follow its predecessor.
    #[error(
        "entry {seq} of {topic}/{partition} does not follow its predecessor: {field} is {found}, expected {expected}"
    )]
    Chain {
        /// Topic.
        topic: String,
        /// Partition.
        partition: i32,
        /// The entry's seq.
        seq: u64,
        /// The field that differs.
        field: &'static str,
        /// What it says.
        found: String,
        /// What it had to say.
        expected: String,
    },
}

impl Body for Entry {
    const FORMAT: u32 = FORMAT;

    fn format(&self) -> u32 {
        self.format
    }

    fn key(&self) -> &str {
        &self.key
    }

    fn set_key(&mut self, key: String) {
        self.key = key;
    }
}

impl Entry {
    /// Signs this entry and fixes its bytes; its `key` becomes the public half of `key`.
    ///
    /// # Errors
    /// [`EntryError`] if it cannot be serialised or claims what no log can hold.
    pub fn sign(self, key: &SigningKey) -> Result<SignedEntry, EntryError> {
        SignedEntry::checked(Signed::sign(self, key)?)
    }
}

impl SignedEntry {
    /// Parses and checks an object: canonical, signed by the key it names, a range with its gaps in order inside
    /// it. Whether that key is trusted is the caller's question.
    ///
    /// # Errors
    /// [`EntryError`] says what is wrong.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, EntryError> {
        Self::checked(Signed::parse(bytes)?)
    }

    fn checked(signed: Signed<Entry>) -> Result<Self, EntryError> {
        check_range(&signed.body)?;
        let Entry { seq, schema, .. } = &signed.body;
        if !columns::is_known(schema) {
            return Err(EntryError::Schema { seq: *seq, schema: schema.clone() });
        }
        let Signed { body, bytes, sha256 } = signed;
        Ok(Self { entry: body, bytes, sha256 })
    }

    /// The head after this entry.
    #[must_use]
    pub fn head(&self) -> Head {
        Head { seq: self.entry.seq + 1, next: Some(self.entry.range.next), previous: self.sha256.clone() }
    }
}

/// Readers add lengths and skip by gaps, so an entry must not claim what no log can hold, whoever signed it.
fn check_range(entry: &Entry) -> Result<(), EntryError> {
    let inconsistent = |reason| EntryError::Range { seq: entry.seq, reason };
    let range = OffsetRange::new(entry.range.first, entry.range.next);
    let mut free = range.map_err(|error| inconsistent(error.to_string()))?;
    for Gap { first, next, .. } in &entry.gaps {
        if *first < free.first || *next <= *first || *next > free.next {
            return Err(inconsistent(format!(
                "gap [{first}, {next}) is not within [{}, {})",
                free.first, free.next
            )));
        }
        free.first = *next;
    }
    Ok(())
}

impl Head {
    /// The head of a lane without entries.
    #[must_use]
    pub fn genesis() -> Self {
        Self { seq: 0, next: None, previous: GENESIS.to_owned() }
    }

    /// Checks that `entry` is the next one of `lane` after this head.
    ///
    /// # Errors
    /// [`EntryError::Chain`] names the first field that does not fit.
    pub fn check(&self, lane: &TopicPartition, entry: &Entry) -> Result<(), EntryError> {
        let expected_first = self.next.unwrap_or(entry.range.first);
        let differs = signed::first_difference([
            ("topic", entry.topic.clone(), lane.topic.to_string()),
            ("partition", entry.partition.to_string(), lane.partition.to_string()),
            ("seq", entry.seq.to_string(), self.seq.to_string()),
            ("previous", entry.previous.clone(), self.previous.clone()),
            ("range.first", entry.range.first.to_string(), expected_first.to_string()),
        ]);
        differs.map_or(Ok(()), |(field, found, expected)| {
            let (topic, partition, seq) = (entry.topic.clone(), entry.partition, entry.seq);
            Err(EntryError::Chain { topic, partition, seq, field, found, expected })
        })
    }
}

#[cfg(test)]
mod tests;
