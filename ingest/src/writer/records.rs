//! Writes the records of a batch as Parquet with the schema [`columns::STORED_RECORDS`]: every record whole, also
//! those that could not be decoded; what its readings rebuild by its template.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, DictionaryArray, Int32Array, Int64Array, ListArray, StringArray, StringBuilder,
    StructArray, TimestampMillisecondArray, UInt32Array,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, SchemaRef};
use arrow::record_batch::RecordBatch;
use parquet::basic::Encoding;
use parquet::errors::Result;
use parquet::file::properties::{EnabledStatistics, WriterPropertiesBuilder};
use stillwell_schema::columns;
use stillwell_source::chunk::RecordChunk;
use stillwell_source::original::Originals;

use super::batch::{Batch, Part};
use super::file::{column, constant, with_dictionaries, writer};

/// Bytes of a page of values: zstd finds more to repeat in a large page, and records are read in stretches.
const VALUE_PAGE_BYTES: usize = 4 << 20;

/// The Parquet file of all records of `batch`, and the number of them.
pub(super) fn write(batch: &Batch, properties: WriterPropertiesBuilder) -> Result<(Vec<u8>, u64)> {
    let schema = with_dictionaries(&columns::STORED_RECORDS, &["topic", "template"]);
    let mut writer = writer(&columns::STORED_RECORDS, Arc::clone(&schema), encodings(properties))?;
    let mut rows = 0;
    for part in batch.parts.iter().filter(|part| !part.chunk.is_empty()) {
        writer.write(&record_batch(part, &batch.originals, &schema)?)?;
        rows += part.chunk.len() as u64;
    }
    Ok((writer.into_inner()?, rows))
}

/// How the columns of records are written.
pub(crate) fn encodings(mut properties: WriterPropertiesBuilder) -> WriterPropertiesBuilder {
    for packed in ["offset", "kafka_time"].map(column) {
        properties = properties
            .set_column_dictionary_enabled(packed.clone(), false)
            .set_column_encoding(packed, Encoding::DELTA_BINARY_PACKED);
    }
    // The smallest and largest value of a page of payloads tell nobody anything.
    properties
        .set_column_dictionary_enabled(column("value"), false)
        .set_column_statistics_enabled(column("value"), EnabledStatistics::None)
        .set_column_data_page_size_limit(column("value"), VALUE_PAGE_BYTES)
}

fn record_batch(part: &Part, originals: &Originals, schema: &SchemaRef) -> Result<RecordBatch> {
    let chunk = &part.chunk;
    let lane = chunk.lane();
    let mut keys = BinaryBuilder::new();
    let mut values = BinaryBuilder::with_capacity(chunk.len(), chunk.payload_bytes());
    for record in chunk.records() {
        keys.append_option(record.key);
        values.append_option(record.value);
    }
    let offsets: Int64Array = chunk.records().map(|r| Some(r.offset.0)).collect();
    let times: TimestampMillisecondArray = chunk.records().map(|r| Some(r.timestamp_ms)).collect();
    let (classes, errors) = failures(part);
    let arrays: Vec<ArrayRef> = vec![
        constant(&lane.topic, chunk.len())?,
        Arc::new(Int32Array::from(vec![lane.partition; chunk.len()])),
        Arc::new(offsets),
        Arc::new(times.with_timezone("UTC")),
        Arc::new(keys.finish()),
        Arc::new(values.finish()),
        headers(chunk)?,
        readings(part),
        classes,
        errors,
        templates(part, originals)?,
    ];
    Ok(RecordBatch::try_new(Arc::clone(schema), arrays)?)
}

fn headers(chunk: &RecordChunk) -> Result<ArrayRef> {
    let mut names = StringBuilder::new();
    let mut values = BinaryBuilder::new();
    let mut lengths = Vec::with_capacity(chunk.len());
    for record in chunk.records() {
        let mut length = 0;
        for (name, value) in record.headers() {
            names.append_value(name);
            values.append_option(value);
            length += 1;
        }
        lengths.push(length);
    }
    let arrays: Vec<ArrayRef> = vec![Arc::new(names.finish()), Arc::new(values.finish())];
    let fields = columns::header_fields();
    let cells = StructArray::try_new(fields.clone(), arrays, None)?;
    let item = Arc::new(Field::new_list_field(DataType::Struct(fields), false));
    Ok(Arc::new(ListArray::try_new(item, OffsetBuffer::from_lengths(lengths), Arc::new(cells), None)?))
}

/// How many readings each record gave.
fn readings(part: &Part) -> ArrayRef {
    let mut counts = vec![0u32; part.chunk.len()];
    for &record in &part.columns.record {
        counts[record as usize] += 1;
    }
    Arc::new(UInt32Array::from(counts))
}

/// The templates by their codes; one that no record of the part has stands for nothing.
fn templates(part: &Part, originals: &Originals) -> Result<ArrayRef> {
    let most = part.templates.iter().flatten().max().map_or(0, |code| code + 1);
    let texts = StringArray::from_iter_values((0..most).map(|code| originals.text(code)));
    let codes: UInt32Array = part.templates.iter().map(|code| code.map(u32::from)).collect();
    Ok(Arc::new(DictionaryArray::try_new(codes, Arc::new(texts))?))
}

/// The columns `error_class` and `error`.
fn failures(part: &Part) -> (ArrayRef, ArrayRef) {
    let mut classes = StringBuilder::new();
    let mut errors = StringBuilder::new();
    let mut failures = part.failures.iter().peekable();
    for i in 0..part.chunk.len() {
        match failures.next_if(|(record, _)| *record as usize == i) {
            Some((_, error)) => {
                classes.append_value(error.class);
                errors.append_value(format!("{} at byte {}", error.message, error.at));
            }
            None => {
                classes.append_null();
                errors.append_null();
            }
        }
    }
    (Arc::new(classes.finish()), Arc::new(errors.finish()))
}
