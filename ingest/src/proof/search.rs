//! Finds a reading in the archive and proves it.

use arrow::array::{AsArray, StringArray};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType, UInt32Type};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use stillwell_schema::key_change::KeyChange;
use stillwell_schema::manifest::FileRef;
use stillwell_schema::merkle::{Hash, proof};
use stillwell_schema::{Entry, Offset, SignedEntry, paths};
use stillwell_source::chunk::RecordChunk;
use stillwell_source::decode::Decoder;
use thiserror::Error;

use super::{FORMAT, Proof, Record, readings};
use crate::evidence::{self, EvidenceError};
use crate::manifest::{Chain, ManifestError};
use crate::reader::{RecordColumns, each_batch};
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
    #[error("{path}: {reason}; `stillwell verify` tells what else is wrong")]
    File {
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// There is no such reading.
    #[error("the archive holds no such reading; `select * from readings where …` shows what it holds")]
    NotFound,
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

/// Proves the first reading that is `sought`, by partition and offset; also returns how many there are. Blocks.
///
/// # Errors
/// [`ProveError`].
pub fn prove(
    store: &dyn ArchiveStore,
    sought: &Sought,
    decoder: &mut dyn Decoder,
) -> Result<(Proof, usize), ProveError> {
    let mut first = None;
    let mut matches = 0;
    for lane in evidence::lanes(store, sought.topic.as_deref())? {
        if sought.place.is_some_and(|(partition, _)| partition != lane.partition) {
            continue;
        }
        for signed in Chain::new(store, lane) {
            let signed = signed?;
            let places = places(store, &signed.entry, sought)?;
            matches += places.len();
            if let (None, Some(place)) = (&first, places.first()) {
                first = Some((signed, *place));
            }
        }
    }
    let (signed, (offset, index)) = first.ok_or(ProveError::NotFound)?;
    Ok((proof_of(store, signed, Offset(offset), index, decoder)?, matches))
}

/// Offset and index of each reading of `entry` that is sought, sorted.
fn places(store: &dyn ArchiveStore, entry: &Entry, sought: &Sought) -> Result<Vec<(i64, u32)>, ProveError> {
    let Some(file) = &entry.readings else { return Ok(Vec::new()) };
    let times = entry.time_min_us.zip(entry.time_max_us);
    let in_time = times.is_some_and(|(min, max)| (min..=max).contains(&sought.time_us));
    let of_machine = entry.machines.as_ref().is_none_or(|all| all.contains(&sought.machine));
    let in_range = sought.place.is_none_or(|(_, offset)| entry.range.contains(offset));
    let mut places = Vec::new();
    if in_time && of_machine && in_range {
        let columns = ["machine", "sensor", "time", "offset", "index"];
        each_row_batch(store, file, Some(&columns), &mut |batch| matching(batch, sought, &mut places))?;
    }
    places.sort_unstable();
    Ok(places)
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
    signed: SignedEntry,
    offset: Offset,
    index: u32,
    decoder: &mut dyn Decoder,
) -> Result<Proof, ProveError> {
    let entry = &signed.entry;
    let (mut leaves, mut found): (Vec<Hash>, Option<(usize, RecordChunk)>) = (Vec::new(), None);
    if let Some(file) = &entry.records {
        each_row_batch(store, file, None, &mut |batch| {
            let columns = RecordColumns::of(batch);
            for row in 0..batch.num_rows() {
                if columns.offset[row] == offset.0 {
                    found = Some((leaves.len(), columns.chunk(row)));
                }
                leaves.push(columns.leaf(row));
            }
        })?;
    }
    let decode = |reason: String| ProveError::Decode { topic: entry.topic.clone(), offset, reason };
    let (leaf, chunk) = found.ok_or_else(|| decode("the record is not there".into()))?;
    let readings = readings(&chunk, decoder).map_err(&decode)?;
    let reading = readings.into_iter().find(|reading| reading.index == index);
    Ok(Proof {
        format: FORMAT,
        reading: reading.ok_or_else(|| decode("it has no reading of that index".into()))?,
        record: Record::of(&chunk),
        leaf: leaf as u64,
        leaves: leaves.len() as u64,
        path: proof::path(&leaves, leaf).iter().map(hex::encode).collect(),
        entry: String::from_utf8_lossy(&signed.bytes).into_owned(),
        key_changes: key_changes(store)?,
    })
}

fn key_changes(store: &dyn ArchiveStore) -> Result<Vec<String>, EvidenceError> {
    let mut changes = Vec::new();
    for seq in 0.. {
        let Some(change) = evidence::read::<KeyChange>(store, paths::KEY_CHANGES, seq)? else { break };
        changes.push(String::from_utf8_lossy(&change.bytes).into_owned());
    }
    Ok(changes)
}

fn each_row_batch(
    store: &dyn ArchiveStore,
    file: &FileRef,
    columns: Option<&[&str]>,
    each: &mut dyn FnMut(&RecordBatch),
) -> Result<(), ProveError> {
    let damaged = |reason: String| ProveError::File { path: file.path.clone(), reason };
    let bytes = store.get(&file.path)?.ok_or_else(|| damaged("it is missing".into()))?;
    each_batch(bytes.into(), columns, each).map_err(|error: ArrowError| damaged(error.to_string()))
}
