//! Writes the readings of a batch as Parquet with the schema [`columns::READINGS`].
//!
//! Names are dictionaries; times and places are delta-packed; values go as [`values`] chooses; machine and
//! sensor have bloom filters.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanBufferBuilder, DictionaryArray, Float64Array, Int32Array, Int64Array, StringArray,
    StringBuilder, TimestampMicrosecondArray, TimestampMillisecondArray, UInt32Array, new_null_array,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::RecordBatch;
use parquet::basic::Encoding;
use parquet::errors::Result;
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::{EnabledStatistics, WriterPropertiesBuilder};
use stillwell_schema::columns;
use stillwell_source::columns::ReadingColumns;
use stillwell_source::series::Series;

use super::batch::Batch;
use super::file::{column, constant, with_dictionaries, writer};
use super::sort::Row;
use super::values::{self, ValueEncoding};

/// Rows gathered into Arrow arrays at once: few MB, whatever the batch holds.
const GATHER_ROWS: usize = 1 << 15;

/// The columns fed as dictionaries, which saves building their text row by row.
const NAMES: [&str; 5] = ["machine", "sensor", "kind", "unit", "topic"];

/// The archive's order: machine, sensor, time, offset, index.
pub(crate) fn order() -> Vec<SortingColumn> {
    [0, 1, 4, 10, 11].map(|i| SortingColumn { column_idx: i, descending: false, nulls_first: false }).to_vec()
}

/// The Parquet file of `rows`, which are all readings of `batch` in the archive's order.
pub(super) fn write(batch: &Batch, rows: &[Row], properties: WriterPropertiesBuilder) -> Result<Vec<u8>> {
    let schema = with_dictionaries(&columns::READINGS, &NAMES);
    let properties = encodings(properties, batch);
    let mut writer = writer(&columns::READINGS, Arc::clone(&schema), properties)?;
    let names: ArrayRef = Arc::new(StringArray::from_iter_values(batch.table.names()));
    for rows in rows.chunks(GATHER_ROWS) {
        writer.write(&Gather { batch, rows, names: &names }.record_batch(&schema)?)?;
    }
    writer.into_inner()
}

fn encodings(properties: WriterPropertiesBuilder, batch: &Batch) -> WriterPropertiesBuilder {
    let mut properties = properties.set_sorting_columns(Some(order()));
    for packed in ["time", "offset", "index", "kafka_time"].map(column) {
        properties = properties
            .set_column_dictionary_enabled(packed.clone(), false)
            .set_column_encoding(packed, Encoding::DELTA_BINARY_PACKED);
    }
    for filtered in ["machine", "sensor"].map(column) {
        let distinct = batch.table.names().len().max(1) as u64;
        properties = properties
            .set_column_bloom_filter_enabled(filtered.clone(), true)
            .set_column_bloom_filter_max_ndv(filtered, distinct);
    }
    // One value in every row: nobody prunes by them, as the manifest has done so already.
    for constant in ["topic", "partition"].map(column) {
        properties = properties.set_column_statistics_enabled(constant, EnabledStatistics::None);
    }
    let dictionary = values::choose(&batch.parts) == ValueEncoding::Dictionary;
    properties
        .set_column_dictionary_enabled(column("value"), dictionary)
        .set_column_encoding(column("value"), Encoding::BYTE_STREAM_SPLIT)
}

/// A run of rows on its way into arrays.
struct Gather<'a> {
    batch: &'a Batch,
    rows: &'a [Row],
    names: &'a ArrayRef,
}

impl Gather<'_> {
    fn record_batch(&self, schema: &SchemaRef) -> Result<RecordBatch> {
        let table = &self.batch.table;
        let series: Vec<Series> = self.each(|c, i| table.series(c.series[i]));
        let name = |of: fn(&Series) -> u32| self.dictionary(series.iter().map(of).collect());
        let name_or_null =
            |of: fn(&Series) -> Option<u32>| self.dictionary(series.iter().map(of).collect::<UInt32Array>());
        let lane = &self.batch.lane;
        let (offsets, kafka_times) = self.places();
        let arrays: Vec<ArrayRef> = vec![
            name(|s| s.machine)?,
            name(|s| s.sensor)?,
            name_or_null(|s| s.kind)?,
            name_or_null(|s| s.unit)?,
            Arc::new(TimestampMicrosecondArray::from(self.each(|c, i| c.time_us[i])).with_timezone("UTC")),
            self.values(),
            self.texts(),
            Arc::new(UInt32Array::from(self.each(|c, i| c.quality[i]))),
            constant(&lane.topic, self.rows.len())?,
            Arc::new(Int32Array::from(vec![lane.partition; self.rows.len()])),
            Arc::new(Int64Array::from(offsets)),
            Arc::new(UInt32Array::from(self.each(|c, i| c.index[i]))),
            Arc::new(TimestampMillisecondArray::from(kafka_times).with_timezone("UTC")),
        ];
        Ok(RecordBatch::try_new(Arc::clone(schema), arrays)?)
    }

    fn each<T>(&self, get: impl Fn(&ReadingColumns, usize) -> T) -> Vec<T> {
        let parts = &self.batch.parts;
        self.rows.iter().map(|row| get(&parts[row.part as usize].columns, row.row as usize)).collect()
    }

    /// Offset and Kafka timestamp (ms) of each row's record.
    fn places(&self) -> (Vec<i64>, Vec<i64>) {
        let place = |row: &Row| {
            let part = &self.batch.parts[row.part as usize];
            let record = part.chunk.record(part.columns.record[row.row as usize] as usize);
            (record.offset.0, record.timestamp_ms)
        };
        self.rows.iter().map(place).unzip()
    }

    fn dictionary(&self, keys: UInt32Array) -> Result<ArrayRef> {
        Ok(Arc::new(DictionaryArray::try_new(keys, Arc::clone(self.names))?))
    }

    fn values(&self) -> ArrayRef {
        let mut present = BooleanBufferBuilder::new(self.rows.len());
        for row in self.rows {
            present.append(self.batch.parts[row.part as usize].columns.has_value[row.row as usize]);
        }
        let values = self.each(|c, i| c.value[i]);
        let nulls = NullBuffer::new(present.finish());
        Arc::new(Float64Array::new(values.into(), Some(nulls).filter(|nulls| nulls.null_count() > 0)))
    }

    fn texts(&self) -> ArrayRef {
        if self.batch.parts.iter().all(|part| part.columns.text.is_empty()) {
            return new_null_array(&DataType::Utf8, self.rows.len());
        }
        let mut texts = StringBuilder::new();
        for row in self.rows {
            texts.append_option(text(&self.batch.parts[row.part as usize].columns, row.row));
        }
        Arc::new(texts.finish())
    }
}

fn text(columns: &ReadingColumns, row: u32) -> Option<&str> {
    let at = columns.text.binary_search_by_key(&row, |cell| cell.row).ok()?;
    let cell = columns.text[at];
    Some(&columns.text_bytes[cell.start as usize..cell.end as usize])
}
