//! Writes sorted readings as Parquet with each column chunk in the encoding that makes it smallest.
//!
//! What packs best depends on the sensors: few distinct values go as a dictionary, smooth ones of few digits as
//! plain bytes for zstd, full mantissas as split streams. And a column that many series share row by row, such as
//! the Kafka time of records that hold all sensors of a machine, repeats from series to series: in pages long enough
//! zstd finds that. So the columns that carry the bytes are encoded in every way that can pay, and the smallest
//! stays.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::{concat, max, min};
use arrow::datatypes::TimestampMicrosecondType;
use parquet::arrow::arrow_writer::{ArrowColumnChunk, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::arrow::{ArrowSchemaConverter, add_encoded_arrow_schema_to_metadata};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::{ParquetError, Result};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::{ColumnPath, TypePtr};
use stillwell_schema::columns::READINGS;
use stillwell_schema::manifest::MACHINES_MAX;

use crate::writer::order_of_readings;

/// Rows of a row group: several series of a machine, some 50 MB in memory.
pub(super) const ROW_GROUP_ROWS: usize = 1 << 19;

/// Rows of a page by which readers prune.
const PAGE_ROWS: usize = 20_000;

/// Rows of a page of values: long enough for zstd, short enough to be decoded for a few rows.
const VALUE_PAGE_ROWS: usize = 1 << 17;

/// Bytes of a dictionary: far above what pays, so that the trial decides and not the limit.
const DICTIONARY_BYTES: usize = 4 << 20;

/// What was written.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) rows: u64,
    /// Smallest and largest source time, µs UTC.
    pub(super) time_us: Option<(i64, i64)>,
    /// None where there are more than [`MACHINES_MAX`].
    pub(super) machines: Option<BTreeSet<String>>,
}

impl Seen {
    pub(super) fn add(&mut self, batch: &RecordBatch) {
        let times = batch["time"].as_primitive::<TimestampMicrosecondType>();
        if let (Some(least), Some(most)) = (min(times), max(times)) {
            let (min, max) = self.time_us.unwrap_or((least, most));
            self.time_us = Some((min.min(least), max.max(most)));
        }
        if self.rows == 0 {
            self.machines = Some(BTreeSet::new());
        }
        self.rows += batch.num_rows() as u64;
        if let Some(machines) = &mut self.machines {
            let names = batch["machine"].as_string::<i32>();
            let mut last = None;
            for name in names.iter().flatten().filter(|name| last.replace(*name) != Some(*name)) {
                if !machines.contains(name) {
                    machines.insert(name.to_owned());
                }
            }
        }
        if self.machines.as_ref().is_some_and(|machines| machines.len() > MACHINES_MAX) {
            self.machines = None;
        }
    }
}

/// Ways to encode a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Dictionary,
    Plain,
    Split,
    Delta,
}

/// A way and its pages.
#[derive(Clone, Copy, Debug)]
struct Trial {
    way: Way,
    page_rows: usize,
}

/// The trials of a column, by name.
fn trials(name: &str) -> &'static [Trial] {
    const fn trial(way: Way, page_rows: usize) -> Trial {
        Trial { way, page_rows }
    }
    const VALUES: &[Trial] = &[
        trial(Way::Dictionary, VALUE_PAGE_ROWS),
        trial(Way::Plain, VALUE_PAGE_ROWS),
        trial(Way::Split, VALUE_PAGE_ROWS),
    ];
    // Nobody prunes by it, so its pages may be as long as the row group.
    const KAFKA_TIMES: &[Trial] = &[trial(Way::Delta, PAGE_ROWS), trial(Way::Split, ROW_GROUP_ROWS)];
    const PACKED: &[Trial] = &[trial(Way::Delta, PAGE_ROWS)];
    const NAMES: &[Trial] = &[trial(Way::Dictionary, PAGE_ROWS)];
    match name {
        "value" => VALUES,
        "kafka_time" => KAFKA_TIMES,
        "time" | "offset" | "index" => PACKED,
        _ => NAMES,
    }
}

/// Writes a file, a row group at a time.
pub(super) struct ChunkWriter {
    properties: WriterPropertiesBuilder,
    level: i32,
    file: Option<SerializedFileWriter<Vec<u8>>>,
    pending: Vec<RecordBatch>,
    pending_rows: usize,
    seen: Seen,
}

impl ChunkWriter {
    /// A file with this footer.
    pub(super) fn new(properties: WriterPropertiesBuilder, level: i32) -> Self {
        Self { properties, level, file: None, pending: Vec::new(), pending_rows: 0, seen: Seen::default() }
    }

    /// Takes the next rows.
    pub(super) fn push(&mut self, batch: &RecordBatch) -> Result<()> {
        self.seen.add(batch);
        let mut rest = batch.clone();
        while rest.num_rows() > 0 {
            let taken = rest.num_rows().min(ROW_GROUP_ROWS - self.pending_rows);
            self.pending.push(rest.slice(0, taken));
            self.pending_rows += taken;
            rest = rest.slice(taken, rest.num_rows() - taken);
            if self.pending_rows == ROW_GROUP_ROWS {
                self.row_group()?;
            }
        }
        Ok(())
    }

    /// The file's bytes, and what is inside.
    pub(super) fn finish(mut self) -> Result<(Vec<u8>, Seen)> {
        self.row_group()?;
        let bytes = self.file.map_or(Ok(Vec::new()), SerializedFileWriter::into_inner)?;
        Ok((bytes, self.seen))
    }

    fn row_group(&mut self) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let batches = std::mem::take(&mut self.pending);
        self.pending_rows = 0;
        let schema = ArrowSchemaConverter::new().convert(&READINGS)?.root_schema_ptr();
        let mut columns = Vec::with_capacity(READINGS.fields().len());
        for at in 0..READINGS.fields().len() {
            let parts: Vec<&dyn Array> = batches.iter().map(|batch| &**batch.column(at)).collect();
            columns.push(smallest(&schema, at, &concat(&parts)?, self.level)?);
        }
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                let order = Some(order_of_readings());
                let mut properties = self.properties.clone().set_sorting_columns(order).build();
                add_encoded_arrow_schema_to_metadata(&READINGS, &mut properties);
                self.file.insert(SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties))?)
            }
        };
        let mut group = file.next_row_group()?;
        for column in columns {
            column.append_to_row_group(&mut group)?;
        }
        group.close()?;
        Ok(())
    }
}

/// Encodes a column in each way that can pay and keeps the smallest.
fn smallest(schema: &TypePtr, at: usize, array: &ArrayRef, level: i32) -> Result<ArrowColumnChunk> {
    let mut best: Option<ArrowColumnChunk> = None;
    for trial in trials(READINGS.field(at).name()) {
        let chunk = encode(schema, at, array, level, *trial)?;
        if best.as_ref().is_none_or(|best| chunk.close().bytes_written < best.close().bytes_written) {
            best = Some(chunk);
        }
    }
    best.ok_or_else(|| ParquetError::General("a column without a way to write it".into()))
}

fn encode(
    schema: &TypePtr,
    at: usize,
    array: &ArrayRef,
    level: i32,
    trial: Trial,
) -> Result<ArrowColumnChunk> {
    let properties = Arc::new(column_properties(at, array, level, trial)?.build());
    let file = SerializedFileWriter::new(std::io::sink(), Arc::clone(schema), properties)?;
    let factory = ArrowRowGroupWriterFactory::new(&file, Arc::clone(&READINGS));
    let mut writer = factory.create_column_writers(0)?.swap_remove(at);
    for leaf in compute_leaves(READINGS.field(at), array)? {
        writer.write(&leaf)?;
    }
    writer.close()
}

fn column_properties(
    at: usize,
    array: &ArrayRef,
    level: i32,
    Trial { way, page_rows }: Trial,
) -> Result<WriterPropertiesBuilder> {
    let name = READINGS.field(at).name().as_str();
    let column = ColumnPath::from(name);
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(level)?))
        .set_data_page_row_count_limit(page_rows)
        .set_data_page_size_limit(page_rows * 16)
        .set_dictionary_page_size_limit(DICTIONARY_BYTES)
        .set_column_dictionary_enabled(column.clone(), way == Way::Dictionary);
    let encoding = match way {
        Way::Dictionary | Way::Plain => Encoding::PLAIN,
        Way::Split => Encoding::BYTE_STREAM_SPLIT,
        Way::Delta => Encoding::DELTA_BINARY_PACKED,
    };
    properties = properties.set_column_encoding(column.clone(), encoding);
    Ok(match name {
        "machine" | "sensor" => {
            let distinct: HashSet<&str> = array.as_string::<i32>().iter().flatten().collect();
            let filtered = properties.set_column_bloom_filter_enabled(column.clone(), true);
            filtered.set_column_bloom_filter_max_ndv(column, distinct.len().max(1) as u64)
        }
        // One value in every row: nobody prunes by them, as the view has done so already.
        "topic" | "partition" => properties.set_column_statistics_enabled(column, EnabledStatistics::None),
        _ => properties,
    })
}
