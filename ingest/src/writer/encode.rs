//! Both files of a batch, and what its entry says of them.

use std::collections::{BTreeMap, BTreeSet};

use parquet::errors::Result;
use stillwell_schema::manifest::{self, EntryError};
use stillwell_schema::paths::FileKind;
use stillwell_schema::{Entry, Head, SignedEntry, columns};

use super::batch::Batch;
use super::file::{EncodedFile, properties};
use super::{readings, records, sort};

/// A batch as it will be stored. It holds no record or reading any more, only the files' bytes.
#[derive(Debug)]
pub struct Encoded {
    /// The files: none where the batch is all gap, no readings where none was decoded.
    pub files: Vec<EncodedFile>,
    /// Records by the class of their error.
    pub undecodable: BTreeMap<&'static str, u64>,
    /// The entry, but for what only its head and its writer know.
    draft: Entry,
}

/// Encodes `batch`. `unique` is a UUID made for it. CPU work: call it on a compute thread.
///
/// # Errors
/// Where Parquet refuses.
pub fn encode(batch: &Batch, unique: &str) -> Result<Encoded> {
    let root = batch.tree.root();
    let properties = properties(batch, &root)?;
    let (readings, records) = rayon::join(
        || -> Result<_> {
            let rows = sort::sorted_rows(&batch.parts, &batch.table);
            if rows.is_empty() {
                return Ok(None);
            }
            let bytes = readings::write(batch, &rows, properties.clone())?;
            Ok(Some(EncodedFile::new(batch, FileKind::Readings, unique, bytes, rows.len() as u64)))
        },
        || -> Result<_> {
            if batch.parts.iter().all(|part| part.chunk.is_empty()) {
                return Ok(None);
            }
            let (bytes, rows) = records::write(batch, properties.clone())?;
            Ok(Some(EncodedFile::new(batch, FileKind::Records, unique, bytes, rows)))
        },
    );
    let (readings, records) = (readings?, records?);
    let file_of = |file: &Option<EncodedFile>| file.as_ref().map(|file| file.file.clone());
    let mut undecodable = BTreeMap::new();
    for (_, error) in batch.parts.iter().flat_map(|part| &part.failures) {
        *undecodable.entry(error.class).or_default() += 1;
    }
    let times = batch.parts.iter().flat_map(|part| &part.columns.time_us);
    let draft = Entry {
        format: manifest::FORMAT,
        topic: batch.lane.topic.to_string(),
        partition: batch.lane.partition,
        seq: 0,
        previous: manifest::GENESIS.to_owned(),
        range: batch.range,
        gaps: batch.gaps.clone(),
        readings: file_of(&readings),
        records: file_of(&records),
        undecodable: undecodable.values().sum(),
        merkle_root: hex::encode(root),
        time_min_us: times.clone().min().copied(),
        time_max_us: times.max().copied(),
        machines: machines(batch),
        schema: columns::SCHEMA_ID.to_owned(),
        writer: String::new(),
        written_us: 0,
        key: String::new(),
    };
    Ok(Encoded { files: readings.into_iter().chain(records).collect(), undecodable, draft })
}

impl Encoded {
    /// The signed entry that makes this the commit after `head`.
    ///
    /// # Errors
    /// [`EntryError::Chain`] where it does not start at the head.
    pub fn entry(
        &self,
        head: &Head,
        writer: &str,
        written_us: i64,
        key: &ed25519_dalek::SigningKey,
    ) -> std::result::Result<SignedEntry, EntryError> {
        let entry = Entry {
            seq: head.seq,
            previous: head.previous.clone(),
            writer: writer.to_owned(),
            written_us,
            ..self.draft.clone()
        };
        let lane = stillwell_schema::TopicPartition::new(&*entry.topic, entry.partition);
        head.check(&lane, &entry)?;
        entry.sign(key)
    }

    /// Readings inside.
    #[must_use]
    pub fn readings(&self) -> u64 {
        self.draft.readings.as_ref().map_or(0, |file| file.rows)
    }
}

/// The machines of a batch, sorted, unless they are too many to list. A series without a reading left (its
/// record failed half way) may name one more: a reader that prunes by this list then opens one file in vain.
fn machines(batch: &Batch) -> Option<Vec<String>> {
    let codes: BTreeSet<&str> = batch.table.all().iter().map(|s| batch.table.name(s.machine)).collect();
    (codes.len() <= manifest::MACHINES_MAX).then(|| codes.into_iter().map(str::to_owned).collect())
}
