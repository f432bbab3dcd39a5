//! Reads the archive's files back.

use arrow::array::{Array, AsArray, BinaryArray, ListArray, StringArray};
use arrow::datatypes::{Int32Type, Int64Type, TimestampMillisecondType, UInt32Type};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use stillwell_schema::merkle::{self, LeafRecord};
use stillwell_schema::{Offset, TopicPartition};
use stillwell_source::chunk::RecordChunk;

/// Rows decoded at once.
const ROWS: usize = 8192;

/// Shows a file's rows batch by batch.
pub(crate) fn each_batch(
    bytes: Bytes,
    columns: Option<&[&str]>,
    each: &mut dyn FnMut(&RecordBatch),
) -> Result<(), ArrowError> {
    // A damaged file can make the decoders panic; it is then as unreadable as one that they refuse.
    let read = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let builder = ParquetRecordBatchReaderBuilder::try_new(bytes)?;
        let mask = match columns {
            Some(columns) => ProjectionMask::columns(builder.parquet_schema(), columns.iter().copied()),
            None => ProjectionMask::all(),
        };
        for batch in builder.with_projection(mask).with_batch_size(ROWS).build()? {
            each(&batch?);
        }
        Ok(())
    }));
    read.unwrap_or_else(|_| Err(ArrowError::ParquetError("its pages are damaged".into())))
}

/// The columns of [`stillwell_schema::columns::RECORDS`] that evidence rests on.
pub(crate) struct RecordColumns<'a> {
    topic: &'a StringArray,
    partition: &'a [i32],
    pub(crate) offset: &'a [i64],
    kafka_time: &'a [i64],
    key: &'a BinaryArray,
    value: &'a BinaryArray,
    headers: &'a ListArray,
    header_names: &'a StringArray,
    header_values: &'a BinaryArray,
    pub(crate) readings: &'a [u32],
    pub(crate) failed: &'a StringArray,
}

impl<'a> RecordColumns<'a> {
    pub(crate) fn of(batch: &'a RecordBatch) -> Self {
        let headers = batch["headers"].as_list::<i32>();
        let cells = headers.values().as_struct();
        Self {
            topic: batch["topic"].as_string(),
            partition: batch["partition"].as_primitive::<Int32Type>().values(),
            offset: batch["offset"].as_primitive::<Int64Type>().values(),
            kafka_time: batch["kafka_time"].as_primitive::<TimestampMillisecondType>().values(),
            key: batch["key"].as_binary(),
            value: batch["value"].as_binary(),
            headers,
            header_names: cells.column(0).as_string(),
            header_values: cells.column(1).as_binary(),
            readings: batch["readings"].as_primitive::<UInt32Type>().values(),
            failed: batch["error_class"].as_string(),
        }
    }

    /// The record's leaf in its entry's Merkle tree.
    pub(crate) fn leaf(&self, row: usize) -> merkle::Hash {
        merkle::leaf(LeafRecord {
            topic: self.topic.value(row),
            partition: self.partition[row],
            offset: self.offset[row],
            timestamp_ms: self.kafka_time[row],
            key: bytes_at(self.key, row),
            value: bytes_at(self.value, row),
            headers: self.headers(row),
        })
    }

    /// The record as a chunk of its own.
    pub(crate) fn chunk(&self, row: usize) -> RecordChunk {
        let (lane, offset) =
            (TopicPartition::new(self.topic.value(row), self.partition[row]), Offset(self.offset[row]));
        let mut chunk = RecordChunk::new(lane, offset);
        let (key, value) = (bytes_at(self.key, row), bytes_at(self.value, row));
        chunk.push(offset, self.kafka_time[row], key, value, self.headers(row));
        chunk
    }

    fn headers(&self, row: usize) -> impl Iterator<Item = (&'a str, Option<&'a [u8]>)> + use<'a> {
        let (names, values) = (self.header_names, self.header_values);
        let [start, end] = [row, row + 1].map(|at| self.headers.value_offsets()[at] as usize);
        (start..end).map(move |at| (names.value(at), bytes_at(values, at)))
    }
}

fn bytes_at(column: &BinaryArray, row: usize) -> Option<&[u8]> {
    column.is_valid(row).then(|| column.value(row))
}
