//! The proof that one reading is in the archive, to be checked by anyone who holds the public key.
//!
//! A proof is one JSON object and needs nothing else. It is checked from the inside out:
//!
//! 1. decoding `record` gives `reading`, as number `reading.index`;
//! 2. hashing `record` (see [`stillwell_schema::merkle`]) and going up `path` gives the Merkle root that `entry`
//!    states;
//! 3. `entry` is the manifest's object, byte for byte: its signature matches the key that it names;
//! 4. that key is the trusted one, or `key_changes` lead from one to the other.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use stillwell_schema::key_change::{KeyRing, KeyRingError, SignedKeyChange};
use stillwell_schema::manifest::EntryError;
use stillwell_schema::merkle::{self, proof};
use stillwell_schema::signed::SignedError;
use stillwell_schema::{Entry, Offset, SignedEntry, TopicPartition};
use stillwell_source::chunk::RecordChunk;
use stillwell_source::decode::{DecodeFault, Decoder, decode_chunk};
use stillwell_source::series::SeriesTable;
use thiserror::Error;

use crate::writer::leaf;

mod exact;
mod search;

pub(crate) use search::key_changes;
pub use search::{ProveError, Sought, prove};

/// The version of this format.
pub const FORMAT: u32 = 1;

/// An inclusion proof.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proof {
    /// [`FORMAT`].
    pub format: u32,
    /// What is proven.
    pub reading: Reading,
    /// The record that holds it, whole.
    pub record: Record,
    /// Number of the record among the entry's records.
    pub leaf: u64,
    /// How many records the entry has.
    pub leaves: u64,
    /// The siblings on the way to the root, lowest first, hex.
    pub path: Vec<String>,
    /// The entry's object, exactly.
    pub entry: String,
    /// The objects of all changes of the archive's key, exactly.
    pub key_changes: Vec<String>,
}

/// A reading as a proof states it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reading {
    /// Machine.
    pub machine: String,
    /// Sensor.
    pub sensor: String,
    /// Kind, where given.
    pub kind: Option<String>,
    /// Unit, where given.
    pub unit: Option<String>,
    /// Source timestamp, µs UTC.
    pub time_us: i64,
    /// Value; as text, since JSON numbers are read to the last bit by few.
    #[serde(with = "exact")]
    pub value: Option<f64>,
    /// String state.
    pub text: Option<String>,
    /// OPC UA StatusCode.
    pub quality: u32,
    /// Its place within the record.
    pub index: u32,
}

/// A record as a proof carries it; bytes are base64.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
    /// Kafka timestamp, ms UTC.
    pub timestamp_ms: i64,
    /// Key.
    pub key: Option<String>,
    /// Value.
    pub value: Option<String>,
    /// Headers in order.
    pub headers: Vec<(String, Option<String>)>,
}

/// Why a proof does not hold.
#[derive(Debug, Error)]
pub enum ProofError {
    /// Written by another version.
    #[error("proof format {0} is unknown to this version; upgrade stillwell to check it")]
    Format(u32),
    /// Bytes are not base64 or hex.
    #[error("{0} is not in the form that proofs have")]
    Form(&'static str),
    /// The record is not under the entry's root.
    #[error("the record is not under the Merkle root of the entry: one of them was altered")]
    NotIncluded,
    /// The entry is not as it was signed.
    #[error("the entry is not as it was signed: {0}")]
    Entry(#[from] EntryError),
    /// A change of key is not as it was signed.
    #[error("a change of key is not as it was signed: {0}")]
    KeyChange(#[from] SignedError),
    /// A change of key does not fit.
    #[error(transparent)]
    Ring(#[from] KeyRingError),
    /// The entry is of another lane, or its range does not hold the record.
    #[error("the entry does not cover the record: it is of {lane}, offsets {range}")]
    Elsewhere {
        /// The entry's lane.
        lane: String,
        /// Its offsets.
        range: String,
    },
    /// The key is not trusted.
    #[error("the entry is signed by {found}, and nothing in the proof leads there from the trusted key")]
    Untrusted {
        /// Who signed, hex.
        found: String,
    },
    /// The record does not decode to the reading.
    #[error("the record does not hold the reading that is claimed: {0}")]
    Claim(String),
}

impl Proof {
    /// Checks all of it; `key` is the trusted public key, hex, and `decoder` reads the record. Returns the entry.
    ///
    /// # Errors
    /// [`ProofError`] names the step that fails.
    pub fn check(&self, key: &str, decoder: &mut dyn Decoder) -> Result<Entry, ProofError> {
        if self.format != FORMAT {
            return Err(ProofError::Format(self.format));
        }
        let entry = SignedEntry::parse(self.entry.clone().into_bytes())?.entry;
        check_key(&key_ring(&self.key_changes, key)?, &entry.key, key)?;
        let chunk =
            included(&self.record, Place { leaf: self.leaf, leaves: self.leaves, path: &self.path }, &entry)?;
        let decoded = readings(&chunk, decoder).map_err(|fault| ProofError::Claim(fault.to_string()))?;
        match decoded.iter().find(|found| found.index == self.reading.index) {
            Some(found) if found.is(&self.reading) => Ok(entry),
            Some(found) => Err(ProofError::Claim(format!("it decodes to {found:?}"))),
            None => Err(ProofError::Claim("it has no reading of that index".into())),
        }
    }

    /// Whether `decoder` reads the record by records before it, so that it says little by itself.
    pub fn needs_history(&self, decoder: &mut dyn Decoder) -> bool {
        self.record.chunk().is_ok_and(|chunk| decoder.needs_history(&chunk.record(0)))
    }
}

/// The keys that changes of key connect; the trusted one alone where there is no change.
pub(crate) fn key_ring(key_changes: &[String], trusted: &str) -> Result<KeyRing, ProofError> {
    let mut ring: Option<KeyRing> = None;
    for change in key_changes {
        let change = SignedKeyChange::parse(change.clone().into_bytes())?;
        ring.get_or_insert_with(|| KeyRing::of(&*change.body.key)).add(&change)?;
    }
    Ok(ring.unwrap_or_else(|| KeyRing::of(trusted)))
}

/// The key that signed is the trusted one, or changes of key connect them.
pub(crate) fn check_key(ring: &KeyRing, found: &str, trusted: &str) -> Result<(), ProofError> {
    match (ring.position(found), ring.position(trusted)) {
        (Some(_), Some(_)) => Ok(()),
        _ => Err(ProofError::Untrusted { found: found.to_owned() }),
    }
}

/// Where a record stands in its entry's Merkle tree, as a proof says it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    /// Its number.
    pub(crate) leaf: u64,
    /// Of how many.
    pub(crate) leaves: u64,
    /// The siblings on the way to the root, lowest first, hex.
    pub(crate) path: &'a [String],
}

/// Checks that a record is under the root of `entry`; returns it as a chunk of its own.
pub(crate) fn included(record: &Record, place: Place<'_>, entry: &Entry) -> Result<RecordChunk, ProofError> {
    record.check_place(place.leaves, entry)?;
    let path: Option<Vec<merkle::Hash>> = place.path.iter().map(|hash| unhex(hash)).collect();
    let path = path.ok_or(ProofError::Form("path"))?;
    let chunk = record.chunk()?;
    let root = proof::root(leaf(chunk.lane(), &chunk.record(0)), place.leaf, place.leaves, &path)
        .ok_or(ProofError::NotIncluded)?;
    if hex::encode(root) == entry.merkle_root { Ok(chunk) } else { Err(ProofError::NotIncluded) }
}

impl Reading {
    /// Whether both are the same to the last bit.
    fn is(&self, other: &Self) -> bool {
        // Of the many that are no number, text tells one.
        let bits = |reading: &Self| {
            reading.value.map(|value| if value.is_nan() { f64::NAN } else { value }.to_bits())
        };
        let rest = |reading: &Self| Self { value: None, ..reading.clone() };
        bits(self) == bits(other) && rest(self) == rest(other)
    }
}

impl Record {
    /// The record of a chunk that holds one.
    pub(crate) fn of(chunk: &RecordChunk) -> Self {
        let (lane, record) = (chunk.lane(), chunk.record(0));
        let text = |bytes: Option<&[u8]>| bytes.map(|bytes| BASE64_STANDARD.encode(bytes));
        Self {
            topic: lane.topic.to_string(),
            partition: lane.partition,
            offset: record.offset.0,
            timestamp_ms: record.timestamp_ms,
            key: text(record.key),
            value: text(record.value),
            headers: record.headers().map(|(name, value)| (name.to_owned(), text(value))).collect(),
        }
    }

    /// Whether the entry covers it, as one of as many records.
    fn check_place(&self, leaves: u64, entry: &Entry) -> Result<(), ProofError> {
        let covers = entry.range.contains(Offset(self.offset));
        let records = entry.records.as_ref().map_or(0, |file| file.rows);
        let same = (&entry.topic, entry.partition) == (&self.topic, self.partition);
        if same && covers && records == leaves {
            return Ok(());
        }
        let lane = TopicPartition::new(&*entry.topic, entry.partition).to_string();
        let range = format!("{} to {}", entry.range.first, entry.range.next);
        Err(ProofError::Elsewhere { lane, range })
    }

    /// A chunk that holds this record alone.
    fn chunk(&self) -> Result<RecordChunk, ProofError> {
        let bytes = |text: &Option<String>| {
            let bytes = text.as_ref().map(|text| BASE64_STANDARD.decode(text)).transpose();
            bytes.map_err(|_| ProofError::Form("record"))
        };
        let headers: Result<Vec<_>, ProofError> =
            self.headers.iter().map(|(name, value)| Ok((name.as_str(), bytes(value)?))).collect();
        let (key, value, headers) = (bytes(&self.key)?, bytes(&self.value)?, headers?);
        let (lane, offset) = (TopicPartition::new(&*self.topic, self.partition), Offset(self.offset));
        let mut chunk = RecordChunk::new(lane, offset);
        let headers = headers.iter().map(|(name, value)| (*name, value.as_deref()));
        chunk.push(offset, self.timestamp_ms, key.as_deref(), value.as_deref(), headers);
        Ok(chunk)
    }
}

/// The readings of a chunk's one record.
///
/// # Errors
/// [`DecodeFault`] says whether the record is at fault or what lies outside.
pub(crate) fn readings(chunk: &RecordChunk, decoder: &mut dyn Decoder) -> Result<Vec<Reading>, DecodeFault> {
    let mut table = SeriesTable::default();
    let decoded = decode_chunk(decoder, chunk, &mut table).map_err(|stalled| stalled.error)?;
    if let Some((_, error)) = decoded.failures.into_iter().next() {
        return Err(error.into());
    }
    let columns = decoded.columns;
    let mut texts = columns.text.iter().peekable();
    let reading = |row: usize| {
        let series = table.series(columns.series[row]);
        let name = |code: u32| table.name(code).to_owned();
        let text = texts.next_if(|cell| cell.row as usize == row);
        Reading {
            machine: name(series.machine),
            sensor: name(series.sensor),
            kind: series.kind.map(name),
            unit: series.unit.map(name),
            time_us: columns.time_us[row],
            value: columns.has_value[row].then(|| columns.value[row]),
            text: text.map(|cell| columns.text_bytes[cell.start as usize..cell.end as usize].to_owned()),
            quality: columns.quality[row],
            index: columns.index[row],
        }
    };
    let readings: Vec<Reading> = (0..columns.len()).map(reading).collect();
    Ok(readings)
}

fn unhex(text: &str) -> Option<merkle::Hash> {
    let mut hash = merkle::Hash::default();
    hex::decode_to_slice(text, &mut hash).ok().map(|()| hash)
}
