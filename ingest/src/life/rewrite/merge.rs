//! Merges sorted files of readings into one sorted stream, some rows of each at a time.

use std::cmp::Ordering;

use arrow::array::{AsArray, BooleanArray, RecordBatch, StringArray};
use arrow::buffer::ScalarBuffer;
use arrow::compute::{filter_record_batch, interleave_record_batch};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType, UInt32Type};
use arrow::error::Result;
use parquet::arrow::arrow_reader::ParquetRecordBatchReader;

use super::digest::Digest;
use super::offsets::Offsets;

/// Rows decoded at once over all sources, some 100 bytes each.
const ROWS_AHEAD: usize = 1 << 19;

/// Rows of a batch of the merged stream.
const ROWS_OUT: usize = 1 << 15;

/// Rows decoded at once of each of `sources` sources.
pub(crate) fn batch_rows(sources: usize) -> usize {
    (ROWS_AHEAD / sources.max(1)).clamp(256, 1 << 13)
}

/// The merged stream.
pub(crate) struct Merge<'a> {
    sources: Vec<Source<'a>>,
    /// Sources that have rows left, the one with the least next row last.
    order: Vec<usize>,
    /// Batches that rows of `out` lie in: first the sources' own, in their order, then those read up since.
    held: Vec<RecordBatch>,
    /// Rows to come out, as batch and row.
    out: Vec<(usize, usize)>,
    digest: Digest,
    erased: u64,
}

impl<'a> Merge<'a> {
    pub(crate) fn new(readers: Vec<ParquetRecordBatchReader>, erased: Option<&'a Offsets>) -> Self {
        let sources = readers.into_iter().map(|reader| Source { reader, erased, batch: None, slot: 0 });
        Self {
            sources: sources.collect(),
            order: Vec::new(),
            held: Vec::new(),
            out: Vec::new(),
            digest: Digest::default(),
            erased: 0,
        }
    }

    /// The next rows in order; none after the last.
    pub(crate) fn next(&mut self) -> Result<Option<RecordBatch>> {
        if self.held.is_empty() {
            for at in 0..self.sources.len() {
                self.read_up(at)?;
            }
        }
        // Batches that are read up stay until their rows are out, so they bound a step as rows do.
        let held_max = 2 * self.sources.len() + 16;
        while self.out.len() < ROWS_OUT && self.held.len() < held_max {
            let Some(first) = self.order.pop() else { break };
            let slot = self.sources[first].slot;
            let Some(rows) = &self.sources[first].batch else { continue };
            let bound = self.order.last().and_then(|next| self.sources[*next].batch.as_ref());
            let (from, to) = (rows.at, bound.map_or(rows.len(), |bound| rows.run_before(bound)));
            let is_spent = to == rows.len();
            self.out.extend((from..to).map(|row| (slot, row)));
            if is_spent {
                self.read_up(first)?;
            } else {
                self.sources[first].batch.iter_mut().for_each(|rows| rows.at = to);
                self.enqueue(first);
            }
        }
        if self.out.is_empty() {
            return Ok(None);
        }
        let batches: Vec<&RecordBatch> = self.held.iter().collect();
        let merged = interleave_record_batch(&batches, &self.out)?;
        self.out.clear();
        self.held.clear();
        for source in &mut self.sources {
            if let Some(rows) = &source.batch {
                source.slot = self.held.len();
                self.held.push(rows.all.clone());
            }
        }
        Ok(Some(merged))
    }

    /// What went in, and how many rows were left out as erased.
    pub(super) fn end(self) -> (Digest, u64) {
        (self.digest, self.erased)
    }

    fn read_up(&mut self, at: usize) -> Result<()> {
        let source = &mut self.sources[at];
        let read = source.read()?;
        self.erased += read;
        let Some(rows) = &source.batch else { return Ok(()) };
        self.digest.add(&rows.all);
        source.slot = self.held.len();
        self.held.push(rows.all.clone());
        self.enqueue(at);
        Ok(())
    }

    fn enqueue(&mut self, at: usize) {
        let Some(rows) = &self.sources[at].batch else { return };
        let greater = |other: &usize| {
            self.sources[*other]
                .batch
                .as_ref()
                .is_some_and(|other| other.compare(other.at, rows, rows.at).is_gt())
        };
        let place = self.order.partition_point(greater);
        self.order.insert(place, at);
    }
}

/// A sorted file.
struct Source<'a> {
    reader: ParquetRecordBatchReader,
    erased: Option<&'a Offsets>,
    batch: Option<Rows>,
    slot: usize,
}

impl Source<'_> {
    /// Reads the next batch that has rows left; returns how many rows were left out.
    fn read(&mut self) -> Result<u64> {
        let mut left_out = 0;
        self.batch = None;
        while let Some(batch) = self.reader.next().transpose()? {
            let rows = batch.num_rows();
            let batch = match self.erased {
                Some(erased) => {
                    let offsets = batch["offset"].as_primitive::<Int64Type>().values();
                    let keep: Vec<bool> = offsets.iter().map(|offset| !erased.contains(*offset)).collect();
                    filter_record_batch(&batch, &BooleanArray::from(keep))?
                }
                None => batch,
            };
            left_out += (rows - batch.num_rows()) as u64;
            if batch.num_rows() > 0 {
                self.batch = Some(Rows::new(batch));
                break;
            }
        }
        Ok(left_out)
    }
}

/// Rows of a source, as far as their order goes.
pub(super) struct Rows {
    pub(super) all: RecordBatch,
    at: usize,
    machines: StringArray,
    sensors: StringArray,
    times: ScalarBuffer<i64>,
    offsets: ScalarBuffer<i64>,
    indexes: ScalarBuffer<u32>,
}

impl Rows {
    pub(super) fn new(all: RecordBatch) -> Self {
        Self {
            at: 0,
            machines: all["machine"].as_string().clone(),
            sensors: all["sensor"].as_string().clone(),
            times: all["time"].as_primitive::<TimestampMicrosecondType>().values().clone(),
            offsets: all["offset"].as_primitive::<Int64Type>().values().clone(),
            indexes: all["index"].as_primitive::<UInt32Type>().values().clone(),
            all,
        }
    }

    fn len(&self) -> usize {
        self.all.num_rows()
    }

    /// The archive's order: machine, sensor, time, offset, index.
    pub(super) fn compare(&self, row: usize, other: &Self, at: usize) -> Ordering {
        let places = |rows: &Self, at: usize| (rows.times[at], rows.offsets[at], rows.indexes[at]);
        let names = self.machines.value(row).cmp(other.machines.value(at));
        let names = names.then_with(|| self.sensors.value(row).cmp(other.sensors.value(at)));
        names.then_with(|| places(self, row).cmp(&places(other, at)))
    }

    /// Where the rows end that come before the next of `bound`; the first always does.
    fn run_before(&self, bound: &Self) -> usize {
        let before = |row: usize| self.compare(row, bound, bound.at).is_lt();
        // Galloping: a run is often a whole series, and as often a few rows.
        let (mut known, mut stride) = (self.at, 1);
        while known + stride < self.len() && before(known + stride) {
            known += stride;
            stride *= 2;
        }
        let (mut low, mut high) = (known + 1, (known + stride).min(self.len()));
        while low < high {
            let middle = low + (high - low) / 2;
            if before(middle) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }
}
