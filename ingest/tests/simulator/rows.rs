//! The rows of the archive's Parquet files, read by the names of the columns.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType, TimestampMillisecondType,
    UInt32Type,
};
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use stillwell_schema::original::restore;

use crate::records::Reading;

/// A row of a `records` file.
#[derive(Debug)]
pub(crate) struct RecordRow {
    pub(crate) lane: (String, i32),
    pub(crate) offset: i64,
    pub(crate) timestamp_ms: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
    pub(crate) readings: u32,
    pub(crate) error_class: Option<String>,
}

/// A row of a `readings` file.
#[derive(Debug)]
pub(crate) struct ReadingRow {
    pub(crate) lane: (String, i32),
    pub(crate) offset: i64,
    pub(crate) kafka_ms: i64,
    pub(crate) reading: Reading,
}

/// The records of a file, those that have a template rebuilt from the file of readings beside it.
pub(crate) fn records_of(bytes: &[u8], readings: Option<&[u8]>) -> Result<Vec<RecordRow>, String> {
    let readings = readings.map(batches).transpose()?.unwrap_or_default();
    let mut rows = Vec::new();
    for batch in batches(bytes)? {
        let batch = restore(&batch, &readings).map_err(|error| error.to_string())?;
        let binary = |name: &str, row: usize| {
            let column = batch[name].as_binary::<i32>();
            column.is_valid(row).then(|| column.value(row).to_vec())
        };
        for row in 0..batch.num_rows() {
            let headers = batch["headers"].as_list::<i32>().value(row);
            let headers = headers.as_struct();
            let names = headers.column(0).as_string::<i32>();
            let values = headers.column(1).as_binary::<i32>();
            rows.push(RecordRow {
                lane: lane(&batch, row),
                offset: batch["offset"].as_primitive::<Int64Type>().value(row),
                timestamp_ms: batch["kafka_time"].as_primitive::<TimestampMillisecondType>().value(row),
                key: binary("key", row),
                value: binary("value", row),
                headers: names
                    .iter()
                    .zip(values)
                    .map(|(name, value)| (name.unwrap_or_default().to_owned(), value.map(<[u8]>::to_vec)))
                    .collect(),
                readings: batch["readings"].as_primitive::<UInt32Type>().value(row),
                error_class: text(&batch, "error_class", row),
            });
        }
    }
    Ok(rows)
}

pub(crate) fn rows_of(bytes: &[u8]) -> Result<Vec<ReadingRow>, String> {
    let mut rows = Vec::new();
    for batch in batches(bytes)? {
        for row in 0..batch.num_rows() {
            let values = batch["value"].as_primitive::<Float64Type>();
            let reading = Reading {
                machine: text(&batch, "machine", row).unwrap_or_default(),
                sensor: text(&batch, "sensor", row).unwrap_or_default(),
                kind: text(&batch, "kind", row),
                unit: text(&batch, "unit", row),
                time_us: batch["time"].as_primitive::<TimestampMicrosecondType>().value(row),
                value: values.is_valid(row).then(|| values.value(row)),
                text: text(&batch, "text", row),
                quality: batch["quality"].as_primitive::<UInt32Type>().value(row),
                index: batch["index"].as_primitive::<UInt32Type>().value(row),
            };
            rows.push(ReadingRow {
                lane: lane(&batch, row),
                offset: batch["offset"].as_primitive::<Int64Type>().value(row),
                kafka_ms: batch["kafka_time"].as_primitive::<TimestampMillisecondType>().value(row),
                reading,
            });
        }
    }
    Ok(rows)
}

fn batches(bytes: &[u8]) -> Result<Vec<RecordBatch>, String> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::copy_from_slice(bytes))
        .and_then(ParquetRecordBatchReaderBuilder::build);
    let batches = reader.map_err(|error| error.to_string())?.collect::<Result<_, _>>();
    batches.map_err(|error| error.to_string())
}

fn lane(batch: &RecordBatch, row: usize) -> (String, i32) {
    let partition = batch["partition"].as_primitive::<Int32Type>().value(row);
    (text(batch, "topic", row).unwrap_or_default(), partition)
}

fn text(batch: &RecordBatch, name: &str, row: usize) -> Option<String> {
    let column = &batch[name];
    assert_eq!(column.data_type(), &DataType::Utf8, "{name}");
    column.is_valid(row).then(|| column.as_string::<i32>().value(row).to_owned())
}
