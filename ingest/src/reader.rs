//! Reads the archive's files back.

use arrow::array::{Array, AsArray, BinaryArray, ListArray, StringArray};
use arrow::datatypes::{Int32Type, Int64Type, TimestampMillisecondType, UInt32Type};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, RowGroupMetaData};
use parquet::file::reader::ChunkReader;
use stillwell_schema::merkle::{self, LeafRecord};
use stillwell_schema::{Offset, TopicPartition};
use stillwell_source::chunk::RecordChunk;

/// Rows decoded at once, where they are small.
const ROWS: usize = 8192;

/// Bytes decoded at once: fewer rows where those of a row group are larger in the mean.
const BATCH_BYTES: u64 = 16 << 20;

/// How many rows of a file are decoded at once, `most` at most.
pub(crate) fn batch_rows(file: &ParquetMetaData, mask: &ProjectionMask, most: usize) -> usize {
    // A dictionary holds a value once, however many rows have it.
    let decoded = |column: &ColumnChunkMetaData| {
        let bytes = column.unencoded_byte_array_data_bytes().unwrap_or(0).max(column.uncompressed_size());
        u64::try_from(bytes).unwrap_or(0)
    };
    let rows = |group: &RowGroupMetaData| {
        let columns = group.columns().iter().enumerate().filter(|(at, _)| mask.leaf_included(*at));
        let bytes = columns.map(|(_, column)| decoded(column)).fold(0, u64::saturating_add);
        let rows = u64::try_from(group.num_rows()).unwrap_or(0);
        rows.saturating_mul(BATCH_BYTES) / bytes.max(1)
    };
    let least = file.row_groups().iter().map(rows).min().unwrap_or(u64::MAX);
    usize::try_from(least).unwrap_or(usize::MAX).clamp(1, most)
}

/// Shows a file's rows batch by batch.
pub(crate) fn each_batch(
    bytes: Bytes,
    columns: Option<&[&str]>,
    each: &mut dyn FnMut(&RecordBatch),
) -> Result<(), ArrowError> {
    each_batch_of(bytes, columns, each)
}

/// The same of any file that can be read from the middle.
pub(crate) fn each_batch_of<R: ChunkReader + 'static>(
    source: R,
    columns: Option<&[&str]>,
    each: &mut dyn FnMut(&RecordBatch),
) -> Result<(), ArrowError> {
    // A damaged file can make the decoders panic; it is then as unreadable as one that they refuse.
    let read = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let builder = ParquetRecordBatchReaderBuilder::try_new(source)?;
        let mask = match columns {
            Some(columns) => ProjectionMask::columns(builder.parquet_schema(), columns.iter().copied()),
            None => ProjectionMask::all(),
        };
        let rows = batch_rows(builder.metadata(), &mask, ROWS);
        for batch in builder.with_projection(mask).with_batch_size(rows).build()? {
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::Int64Array;
    use arrow::datatypes::{DataType, Field, Schema};
    use parquet::arrow::ArrowWriter;
    use parquet::file::properties::WriterProperties;

    use super::*;

    /// The rows of each batch of a file of `count` values of `bytes` bytes, all of them alike.
    fn batches(columns: Option<&[&str]>, count: usize, bytes: usize) -> Vec<usize> {
        let fields = [("offset", DataType::Int64), ("value", DataType::Binary)];
        let schema = Schema::new(fields.map(|(name, kind)| Field::new(name, kind, false)).to_vec());
        let value = vec![7u8; bytes];
        let offsets = Int64Array::from_iter_values(0..count as i64);
        let values = BinaryArray::from_iter_values(std::iter::repeat_n(&value, count));
        let batch =
            RecordBatch::try_new(Arc::new(schema), vec![Arc::new(offsets), Arc::new(values)]).unwrap();
        let properties = WriterProperties::builder().set_dictionary_enabled(false).build();
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        let mut rows = Vec::new();
        let file = writer.into_inner().unwrap();
        each_batch(file.into(), columns, &mut |batch| rows.push(batch.num_rows())).unwrap();
        rows
    }

    #[test]
    fn few_large_rows_are_decoded_at_once_and_many_small_ones() {
        assert_eq!(batches(None, 10_000, 10), [8_192, 1_808]);
        let large = batches(None, 100, 1 << 20);
        assert!(large.iter().all(|rows| (1..=16).contains(rows)), "{large:?}");
        assert_eq!(large.iter().sum::<usize>(), 100);
        assert_eq!(batches(None, 2, 20 << 20), [1, 1], "a row is decoded whole, however large");
        assert_eq!(batches(Some(&["offset"]), 100, 1 << 20), [100], "only what is read counts");
    }
}
