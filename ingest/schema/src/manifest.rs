//! The manifest entry: the one object whose creation commits a range, signed and chained.
//!
//! An object is one line of JSON, `{"body":{…},"signature":"<hex>"}`, exactly as this module writes it:
//! fields in the order below, no spaces, integers only. The signature is Ed25519 over the body's bytes.
//! Each body names the SHA-256 of its predecessor's whole object ([`GENESIS`] for the first) and starts at
//! the offset where that one ended, so a chain has no overlap, no silent gap and one possible order.

use ed25519_dalek::{Signature, Signer, SigningKey, Verifier, VerifyingKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::ids::{Offset, TopicPartition};
use crate::range::{Gap, OffsetRange};

/// The version of this format.
pub const FORMAT: u32 = 1;

/// The `previous` of a lane's first entry.
pub const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

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
    /// Not the JSON of an entry.
    #[error("not a manifest entry: {0}")]
    Json(#[from] serde_json::Error),
    /// Parses, but its bytes are not those this format writes.
    #[error("entry bytes are not in canonical form")]
    NotCanonical,
    /// Written by an unknown format version.
    #[error("entry format {0} is unknown to this version; upgrade stillwell to read it")]
    Format(u32),
    /// The signature or key does not parse or does not match.
    #[error("entry signature does not match its body")]
    Signature,
    /// Its range is none, or its gaps are not in order inside it.
    #[error("entry {seq} is inconsistent: {reason}")]
    Range {
        /// The entry's seq.
        seq: u64,
        /// What is wrong.
        reason: String,
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

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    body: Entry,
    signature: String,
}

impl Entry {
    /// Signs this entry and fixes its bytes. `key` must be the pair of the entry's `key` field, which is
    /// overwritten with the public half.
    ///
    /// # Errors
    /// [`EntryError::Json`] if it cannot be serialised.
    pub fn sign(mut self, key: &SigningKey) -> Result<SignedEntry, EntryError> {
        self.key = hex::encode(key.verifying_key().to_bytes());
        let body = serde_json::to_vec(&self)?;
        let signature = hex::encode(key.sign(&body).to_bytes());
        let bytes = serde_json::to_vec(&Stored { body: self, signature })?;
        SignedEntry::parse(bytes)
    }
}

impl SignedEntry {
    /// Parses and checks an object: canonical bytes, known format, a range with its gaps in order inside it, and
    /// a signature that matches the key it names. Whether that key is trusted is the caller's question.
    ///
    /// # Errors
    /// [`EntryError`] says what is wrong.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, EntryError> {
        let stored: Stored = serde_json::from_slice(&bytes)?;
        if stored.body.format != FORMAT {
            return Err(EntryError::Format(stored.body.format));
        }
        if serde_json::to_vec(&stored)? != bytes {
            return Err(EntryError::NotCanonical);
        }
        check_range(&stored.body)?;
        verify(&stored)?;
        let sha256 = hex::encode(Sha256::digest(&bytes));
        Ok(Self { entry: stored.body, bytes, sha256 })
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

fn verify(stored: &Stored) -> Result<(), EntryError> {
    let key = fixed::<32>(&stored.body.key)?;
    let key = VerifyingKey::from_bytes(&key).map_err(|_| EntryError::Signature)?;
    let signature = Signature::from_bytes(&fixed::<64>(&stored.signature)?);
    let body = serde_json::to_vec(&stored.body)?;
    key.verify(&body, &signature).map_err(|_| EntryError::Signature)
}

fn fixed<const N: usize>(text: &str) -> Result<[u8; N], EntryError> {
    let mut out = [0; N];
    hex::decode_to_slice(text, &mut out).map_err(|_| EntryError::Signature)?;
    // One spelling only: upper-case digits would be another object that says the same.
    if hex::encode(out) == text { Ok(out) } else { Err(EntryError::NotCanonical) }
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
        let checks = [
            ("topic", entry.topic.clone(), lane.topic.to_string()),
            ("partition", entry.partition.to_string(), lane.partition.to_string()),
            ("seq", entry.seq.to_string(), self.seq.to_string()),
            ("previous", entry.previous.clone(), self.previous.clone()),
            ("range.first", entry.range.first.to_string(), expected_first.to_string()),
        ];
        for (field, found, expected) in checks {
            if found != expected {
                let (topic, partition, seq) = (entry.topic.clone(), entry.partition, entry.seq);
                return Err(EntryError::Chain { topic, partition, seq, field, found, expected });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
