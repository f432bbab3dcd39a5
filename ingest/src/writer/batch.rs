//! The open batch of a lane: the records of one coming commit, decoded as they arrive.

use stillwell_schema::merkle::{self, LeafRecord, Tree};
use stillwell_schema::range::RangeError;
use stillwell_schema::{Gap, Offset, OffsetRange, TopicPartition};
use stillwell_source::chunk::{RecordChunk, RecordRef};
use stillwell_source::columns::ReadingColumns;
use stillwell_source::decode::{DecodeError, Decoder, Stalled, TransientError, decode_chunk};
use stillwell_source::halt::Tally;
use stillwell_source::original::{Looks, Originals, Readings, TemplateCode};
use stillwell_source::series::SeriesTable;
use thiserror::Error;

/// What one commit will cover. It owns its series table, so that encoding it needs nothing that the next
/// batch is writing, and names live no longer than the batch that they came in.
#[derive(Debug)]
pub struct Batch {
    pub(super) lane: TopicPartition,
    pub(super) range: OffsetRange,
    pub(super) gaps: Vec<Gap>,
    pub(super) parts: Vec<Part>,
    pub(super) table: SeriesTable,
    pub(super) tree: Tree,
    pub(super) originals: Originals,
    payload_bytes: usize,
    memory_bytes: usize,
    tally: Tally,
}

/// One chunk with what was decoded from it.
#[derive(Debug)]
pub struct Part {
    /// The records.
    pub chunk: RecordChunk,
    /// Their readings.
    pub columns: ReadingColumns,
    /// The records that have none, by number in the chunk.
    pub failures: Vec<(u32, DecodeError)>,
    /// The template of each record whose value is not kept.
    pub templates: Vec<Option<TemplateCode>>,
}

/// Why a chunk was not appended, or not whole.
#[derive(Debug, Error)]
pub enum PushError {
    /// It does not start where the batch ends; the batch is as it was.
    #[error(transparent)]
    Range(#[from] RangeError),
    /// Something that decoding needs is away. The records before `rest` are in the batch, which may be committed
    /// meanwhile.
    #[error("{error}")]
    Stalled {
        /// What is away.
        error: TransientError,
        /// What is to be pushed again.
        rest: Box<RecordChunk>,
    },
}

impl Batch {
    /// An empty batch of `lane` that starts at `first`.
    #[must_use]
    pub fn new(lane: TopicPartition, first: Offset) -> Self {
        Self {
            lane,
            range: OffsetRange::empty(first),
            gaps: Vec::new(),
            parts: Vec::new(),
            table: SeriesTable::default(),
            tree: Tree::default(),
            originals: Originals::default(),
            payload_bytes: 0,
            memory_bytes: 0,
            tally: Tally::default(),
        }
    }

    /// The same, of a lane whose batch before had such records.
    #[must_use]
    pub fn with_looks(self, looks: Looks) -> Self {
        Self { originals: Originals::after(looks), ..self }
    }

    /// What its records look like, for the lane's next batch.
    #[must_use]
    pub fn looks(&self) -> Looks {
        self.originals.looks()
    }

    /// Appends a chunk: decodes its records and adds them to the Merkle tree. Every chunk of a batch comes
    /// with the same decoder, which has been told of the new table ([`Decoder::new_table`]) if it has served
    /// another batch: it may remember codes of the table.
    ///
    /// # Errors
    /// [`PushError`], which says what of the chunk is in the batch.
    pub fn push(&mut self, decoder: &mut dyn Decoder, mut chunk: RecordChunk) -> Result<(), PushError> {
        if chunk.range().first != self.range.next {
            self.range.append(chunk.range())?;
        }
        let (decoded, stalled) = match decode_chunk(decoder, &chunk, &mut self.table) {
            Ok(decoded) => (decoded, None),
            Err(stalled) => {
                let Stalled { decoded, at, error } = *stalled;
                let rest = Box::new(chunk.split_off(at));
                (decoded, Some(PushError::Stalled { error, rest }))
            }
        };
        if !chunk.range().is_empty() {
            let (columns, failures) = (decoded.columns, decoded.failures);
            self.append(Part { chunk, columns, failures, templates: Vec::new() })?;
        }
        stalled.map_or(Ok(()), Err)
    }

    fn append(&mut self, mut part: Part) -> Result<(), RangeError> {
        let Part { chunk, failures, .. } = &part;
        self.range.append(chunk.range())?;
        for &gap in chunk.gaps() {
            append_gap(&mut self.gaps, gap);
        }
        for record in chunk.records() {
            self.tree.push(leaf(&self.lane, &record));
        }
        self.payload_bytes += chunk.payload_bytes();
        self.tally.take(chunk, failures);
        part.find_templates(&mut self.originals, &self.table);
        self.memory_bytes += part.memory_bytes();
        self.parts.push(part);
        Ok(())
    }

    /// The lane.
    #[must_use]
    pub fn lane(&self) -> &TopicPartition {
        &self.lane
    }

    /// The offsets covered so far.
    #[must_use]
    pub fn range(&self) -> OffsetRange {
        self.range
    }

    /// Number of gaps.
    #[must_use]
    pub fn gaps(&self) -> usize {
        self.gaps.len()
    }

    /// Bytes of keys, values and headers.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        self.payload_bytes
    }

    /// Readings decoded so far.
    #[must_use]
    pub fn readings(&self) -> usize {
        self.parts.iter().map(|part| part.columns.len()).sum()
    }

    /// Bytes of keys, values and headers that are kept: all but the values that readings rebuild.
    #[must_use]
    pub fn kept_bytes(&self) -> usize {
        self.parts.iter().map(|part| part.chunk.payload_bytes()).sum()
    }

    /// Bytes of memory held by records, readings, errors and names.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.memory_bytes + self.table.memory_bytes() + self.originals.memory_bytes()
    }

    /// How much of it could be decoded.
    #[must_use]
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Number of records that could not be decoded.
    #[must_use]
    pub fn failures(&self) -> usize {
        self.tally.failures()
    }

    /// The records that could not be decoded, in order.
    #[must_use]
    pub fn undecodable(&self) -> Vec<(RecordRef<'_>, &DecodeError)> {
        let failed = self.parts.iter().flat_map(|part| part.failures.iter().map(move |f| (part, f)));
        failed.map(|(part, (i, error))| (part.chunk.record(*i as usize), error)).collect()
    }
}

impl Part {
    /// Lets go of the values that their readings rebuild.
    fn find_templates(&mut self, originals: &mut Originals, table: &SeriesTable) {
        let columns = &self.columns;
        let mut next = 0;
        let templates = (0u32..).zip(self.chunk.records()).map(|(i, record)| {
            let first = next;
            next += columns.record[first..].iter().take_while(|of| **of == i).count();
            originals.find(record.value?, Readings { columns, first, next, table })
        });
        self.templates = templates.collect();
        self.chunk.drop_values(|i| self.templates[i].is_none());
    }

    fn memory_bytes(&self) -> usize {
        let templates = self.templates.capacity() * size_of::<Option<TemplateCode>>();
        self.chunk.memory_bytes() + self.columns.memory_bytes() + failures_bytes(&self.failures) + templates
    }
}

/// The leaf of a record, as the Merkle root of its entry binds it.
pub(crate) fn leaf(lane: &TopicPartition, record: &RecordRef<'_>) -> merkle::Hash {
    merkle::leaf(LeafRecord {
        topic: &lane.topic,
        partition: lane.partition,
        offset: record.offset.0,
        timestamp_ms: record.timestamp_ms,
        key: record.key,
        value: record.value,
        headers: record.headers(),
    })
}

fn failures_bytes(failures: &[(u32, DecodeError)]) -> usize {
    let messages: usize = failures.iter().map(|(_, error)| error.message.capacity()).sum();
    messages + size_of_val(failures)
}

/// Gaps that touch and have one reason are one gap, wherever chunks were cut.
fn append_gap(gaps: &mut Vec<Gap>, gap: Gap) {
    match gaps.last_mut() {
        Some(last) if last.next == gap.first && last.reason == gap.reason => last.next = gap.next,
        _ => gaps.push(gap),
    }
}
