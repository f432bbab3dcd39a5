//! Finds a reading in the archive and proves it.

use arrow::array::{AsArray, StringArray};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType, UInt32Type};
use arrow::record_batch::RecordBatch;
use stillwell_schema::key_change::KeyChange;
use stillwell_schema::merkle::{Hash, proof};
use stillwell_schema::{Offset, SignedEntry, TopicPartition, paths};
use stillwell_source::decode::Decoder;
use thiserror::Error;

use super::{FORMAT, Proof, Record, readings};
use crate::evidence::{self, EvidenceError};
use crate::life::ledger::read_view;
use crate::life::lookup::{self, Leaves, LookupError};
use crate::life::pieces::{Piece, Pieces};
use crate::manifest::{ManifestError, read_entry};
use crate::store::{ArchiveStore, StoreError};

/// Which reading is to be proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sought {
    /// Machine.
    pub machine: String,
    /// Sensor.
    pub sensor: String,
    /// Source timestamp, µs UTC.
    pub time_us: i64,
    /// Only in this topic.
    pub topic: Option<String>,
    /// Only from this partition and offset, where several readings are of one time.
    pub place: Option<(i32, Offset)>,
}

/// Why nothing is proven.
#[derive(Debug, Error)]
pub enum ProveError {
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A chain is damaged.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The keys are damaged.
    #[error(transparent)]
    Evidence(#[from] EvidenceError),
    /// A file is missing or damaged.
    #[error(transparent)]
    Lookup(#[from] LookupError),
    /// There is no such reading.
    #[error("the archive holds no such reading; `select * from readings where …` shows what it holds")]
    NotFound,
    /// Nobody says how the topic's records are read.
    #[error("the config has no [[topic]] {0}, so that its records cannot be decoded")]
    NoDecoder(String),
    /// The record is read by what came before it in its lane.
    #[error(
        "record {offset} of {topic} does not decode by itself ({reason}): its format is read by records before it, such \
         as births, which a proof of one record does not hold; `stillwell export` proves the record and leaves the \
         reading to whoever has the lane"
    )]
    NeedsHistory {
        /// Of which topic.
        topic: String,
        /// Which record.
        offset: Offset,
        /// What its decoder misses.
        reason: String,
    },
    /// The record is there, but today's decoder does not find the reading in it.
    #[error("record {offset} of {topic} does not decode to the reading: {reason}")]
    Decode {
        /// Of which topic.
        topic: String,
        /// Which record.
        offset: Offset,
        /// Why.
        reason: String,
    },
}

/// Proves the first reading that is `sought`, by partition and offset; also returns how many there are. `decoder_of`
/// gives the decoder of a topic. Blocks.
///
/// # Errors
/// [`ProveError`].
pub fn prove(
    store: &dyn ArchiveStore,
    sought: &Sought,
    decoder_of: &dyn Fn(&str) -> Option<Box<dyn Decoder>>,
) -> Result<(Proof, usize), ProveError> {
    let mut first = None;
    let mut matches = 0;
    for lane in evidence::lanes(store, sought.topic.as_deref())? {
        if sought.place.is_some_and(|(partition, _)| partition != lane.partition) {
            continue;
        }
        let view = read_view(store, &lane)?;
        for piece in Pieces::new(store, &lane, &view) {
            let piece = piece?;
            let places = places(store, &piece, sought)?;
            matches += places.len();
            if let (None, Some(place)) = (&first, places.first()) {
                first = Some((lane.clone(), piece, *place));
            }
        }
    }
    let (lane, piece, (offset, index)) = first.ok_or(ProveError::NotFound)?;
    let signed = entry_of(store, &lane, &piece, Offset(offset))?;
    let decoder = decoder_of(&lane.topic);
    let mut decoder = decoder.ok_or_else(|| ProveError::NoDecoder(lane.topic.to_string()))?;
    Ok((proof_of(store, &piece, &signed, (Offset(offset), index), &mut *decoder)?, matches))
}

/// Offset and index of each reading of `piece` that is sought, sorted.
fn places(store: &dyn ArchiveStore, piece: &Piece, sought: &Sought) -> Result<Vec<(i64, u32)>, ProveError> {
    let in_time = piece.time_us.is_some_and(|(min, max)| (min..=max).contains(&sought.time_us));
    let in_range = sought.place.is_none_or(|(_, offset)| piece.span.range.contains(offset));
    let mut places = Vec::new();
    if in_time && in_range {
        let columns = ["machine", "sensor", "time", "offset", "index"];
        for file in &piece.readings {
            lookup::rows(store, &file.path, Some(&columns), &mut |batch| {
                matching(batch, sought, &mut places);
            })?;
        }
    }
    places.sort_unstable();
    Ok(places)
}

/// The entry of a piece that covers `offset`.
fn entry_of(
    store: &dyn ArchiveStore,
    lane: &TopicPartition,
    piece: &Piece,
    offset: Offset,
) -> Result<SignedEntry, ProveError> {
    for seq in piece.span.first_seq..piece.span.next_seq {
        let signed = read_entry(store, lane, seq)?;
        let signed = signed.ok_or_else(|| ManifestError::Missing { path: paths::entry(lane, seq) })?;
        if signed.entry.range.contains(offset) {
            return Ok(signed);
        }
    }
    Err(ProveError::NotFound)
}

fn matching(batch: &RecordBatch, sought: &Sought, places: &mut Vec<(i64, u32)>) {
    let [machine, sensor]: [&StringArray; 2] = ["machine", "sensor"].map(|name| batch[name].as_string());
    let time = batch["time"].as_primitive::<TimestampMicrosecondType>().values();
    let offset = batch["offset"].as_primitive::<Int64Type>().values();
    let index = batch["index"].as_primitive::<UInt32Type>().values();
    for row in 0..batch.num_rows() {
        let named = machine.value(row) == sought.machine && sensor.value(row) == sought.sensor;
        let placed = sought.place.is_none_or(|(_, at)| at.0 == offset[row]);
        if time[row] == sought.time_us && named && placed {
            places.push((offset[row], index[row]));
        }
    }
}

fn proof_of(
    store: &dyn ArchiveStore,
    piece: &Piece,
    signed: &SignedEntry,
    (offset, index): (Offset, u32),
    decoder: &mut dyn Decoder,
) -> Result<Proof, ProveError> {
    let entry = &signed.entry;
    let Leaves { leaves, record } = lookup::leaves(store, piece, entry.range, Some(offset))?;
    let decode = |reason: String| ProveError::Decode { topic: entry.topic.clone(), offset, reason };
    let chunk = record.ok_or_else(|| decode("the record is not there".into()))?;
    let leaf = leaves.partition_point(|(at, _)| *at < offset.0);
    let hashes: Vec<Hash> = leaves.iter().map(|(_, hash)| *hash).collect();
    let readings = readings(&chunk, decoder).map_err(|fault| {
        let reason = fault.to_string();
        match decoder.needs_history(&chunk.record(0)) {
            true => ProveError::NeedsHistory { topic: entry.topic.clone(), offset, reason },
            false => decode(reason),
        }
    })?;
    let reading = readings.into_iter().find(|reading| reading.index == index);
    Ok(Proof {
        format: FORMAT,
        reading: reading.ok_or_else(|| decode("it has no reading of that index".into()))?,
        record: Record::of(&chunk),
        leaf: leaf as u64,
        leaves: hashes.len() as u64,
        path: proof::path(&hashes, leaf).iter().map(hex::encode).collect(),
        entry: String::from_utf8_lossy(&signed.bytes).into_owned(),
        key_changes: key_changes(store)?,
    })
}

pub(crate) fn key_changes(store: &dyn ArchiveStore) -> Result<Vec<String>, EvidenceError> {
    let mut changes = Vec::new();
    for seq in 0.. {
        let Some(change) = evidence::read::<KeyChange>(store, paths::KEY_CHANGES, seq)? else { break };
        changes.push(String::from_utf8_lossy(&change.bytes).into_owned());
    }
    Ok(changes)
}
