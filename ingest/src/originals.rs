//! Records read back whole: where a file holds a template in place of a value, the readings beside it rebuild it
//! (see [`stillwell_schema::original`]).

use std::ops::Range;

use arrow::array::{AsArray, BooleanArray, RecordBatch, new_null_array};
use arrow::compute::kernels::cmp::{gt_eq, lt};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, UInt32Type};
use arrow::error::ArrowError;
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowPredicateFn, ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowFilter,
};
use stillwell_schema::columns;
use stillwell_schema::original::{READING_COLUMNS, restore, templated};

use crate::reader::each_batch;

/// Readings held at once, some 60 bytes each: the fewer times a file is read, the longer the stretch.
const WINDOW_READINGS: usize = 1 << 22;

/// Readings whose records are rebuilt at once, some 100 bytes each.
const SLICE_READINGS: usize = 1 << 17;

/// Rows of readings decoded at once.
const ROWS: usize = 1 << 15;

/// Rebuilds records from the files of readings of the same commit or cover.
pub(crate) struct Restorer {
    files: Vec<Bytes>,
    /// The offsets whose readings are in memory.
    loaded: Range<i64>,
    readings: Vec<RecordBatch>,
}

impl Restorer {
    /// From these Parquet files.
    pub(crate) fn new(files: Vec<Bytes>) -> Self {
        Self { files, loaded: 0..0, readings: Vec::new() }
    }

    /// Shows the rows of a batch of stored records whole, some at a time, as [`columns::RECORDS`]. The batch is in
    /// offset order.
    pub(crate) fn each(
        &mut self,
        stored: &RecordBatch,
        show: &mut dyn FnMut(&RecordBatch),
    ) -> Result<(), ArrowError> {
        if templated(stored).is_none() {
            show(&restore(stored, &[]).map_err(external)?);
            return Ok(());
        }
        let counts = stored["readings"].as_primitive::<UInt32Type>().values();
        let mut from = 0;
        while from < stored.num_rows() {
            let mut readings = 0;
            let fits = |count: &&u32| {
                readings += **count as usize;
                readings <= SLICE_READINGS
            };
            let rows = counts[from..].iter().take_while(fits).count().max(1);
            let slice = stored.slice(from, rows);
            self.load(&slice)?;
            show(&restore(&slice, &self.readings).map_err(external)?);
            from += rows;
        }
        Ok(())
    }

    /// Makes sure that the readings of these records are in memory, and those of as many after them as may be.
    fn load(&mut self, records: &RecordBatch) -> Result<(), ArrowError> {
        let offsets = records["offset"].as_primitive::<Int64Type>().values();
        let (Some(first), Some(last)) = (offsets.first(), offsets.last()) else { return Ok(()) };
        if self.loaded.contains(first) && self.loaded.contains(last) {
            return Ok(());
        }
        let counts = records["readings"].as_primitive::<UInt32Type>().values();
        let readings: usize = counts.iter().map(|count| *count as usize).sum();
        let slices = WINDOW_READINGS / readings.clamp(SLICE_READINGS / 2, WINDOW_READINGS);
        let span = last.saturating_sub(*first).saturating_add(1);
        let next = first.saturating_add(span.saturating_mul(i64::try_from(slices).unwrap_or(1)));
        self.readings.clear();
        self.loaded = 0..0;
        for file in &self.files {
            stretch(file, *first..next, &mut self.readings)?;
        }
        self.loaded = *first..next;
        Ok(())
    }
}

/// Shows a file's records whole, batch by batch. `readings` are the files of readings beside it.
pub(crate) fn each_record_batch(
    records: Bytes,
    readings: Vec<Bytes>,
    show: &mut dyn FnMut(&RecordBatch),
) -> Result<(), ArrowError> {
    let mut restorer = Restorer::new(readings);
    let mut restored = Ok(());
    each_batch(records, None, &mut |batch| {
        if restored.is_ok() {
            restored = restorer.each(batch, show);
        }
    })?;
    restored
}

/// The batch with a column `template`, which files of before do not have.
pub(crate) fn stored(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let schema = &columns::STORED_RECORDS;
    let column = |field: &std::sync::Arc<Field>| match batch.column_by_name(field.name()) {
        Some(column) => std::sync::Arc::clone(column),
        None => new_null_array(field.data_type(), batch.num_rows()),
    };
    RecordBatch::try_new(std::sync::Arc::clone(schema), schema.fields().iter().map(column).collect())
}

/// Appends a file's readings of a stretch of offsets. Names come as dictionaries.
fn stretch(file: &Bytes, offsets: Range<i64>, readings: &mut Vec<RecordBatch>) -> Result<(), ArrowError> {
    let fields =
        columns::READINGS.fields().iter().map(|field| match (field.name().as_str(), field.data_type()) {
            ("machine" | "sensor" | "kind" | "unit" | "topic", DataType::Utf8) => {
                let names = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
                Field::clone(field).with_data_type(names)
            }
            _ => Field::clone(field),
        });
    let schema = Schema::new(fields.collect::<Vec<_>>());
    let options = ArrowReaderOptions::new().with_schema(schema.into());
    let metadata = ArrowReaderMetadata::load(file, options)?;
    let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file.clone(), metadata);
    let columns = |names: &[&str]| ProjectionMask::columns(builder.parquet_schema(), names.iter().copied());
    let (all, offset) = (columns(&READING_COLUMNS), columns(&["offset"]));
    let inside =
        ArrowPredicateFn::new(offset, move |batch: RecordBatch| -> Result<BooleanArray, ArrowError> {
            let offset = batch["offset"].as_primitive::<Int64Type>();
            let [first, next] = [offsets.start, offsets.end].map(arrow::array::Int64Array::new_scalar);
            arrow::compute::and(&gt_eq(offset, &first)?, &lt(offset, &next)?)
        });
    let reader = builder
        .with_projection(all)
        .with_row_filter(RowFilter::new(vec![Box::new(inside)]))
        .with_batch_size(ROWS)
        .build()?;
    for batch in reader {
        readings.push(batch?);
    }
    Ok(())
}

fn external(error: stillwell_schema::original::RestoreError) -> ArrowError {
    ArrowError::ExternalError(Box::new(error))
}
