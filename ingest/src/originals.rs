//! Records read back whole: where a file holds a template in place of a value, the readings beside it rebuild it
//! (see [`stillwell_schema::original`]).
//!
//! Readings lie by series and records by offset, so a file of readings is read once for each window of records. How
//! many readings a record has stands in the file of records, so that windows are cut by what they will hold.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, RecordBatch, new_null_array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, UInt32Type};
use arrow::error::ArrowError;
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowPredicateFn, ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder, RowFilter,
};
use stillwell_schema::columns;
use stillwell_schema::original::{READING_COLUMNS, RestoreError, Window, templated, templated_counts};

use crate::reader::{batch_rows, each_batch};

/// Readings of a window, some 60 bytes each, and of a record that has more.
const WINDOW_READINGS: usize = 1 << 21;

/// Readings whose records are rebuilt at once.
const SLICE_READINGS: usize = 1 << 17;

/// Rows of readings decoded at once.
const ROWS: usize = 1 << 15;

/// The columns that tell which records have a template, and of how many readings.
const PLAN_COLUMNS: [&str; 3] = ["offset", "readings", "template"];

/// Rebuilds the records of a commit or cover, in offset order, from the files of readings beside them.
pub(crate) struct Restorer {
    files: Vec<Bytes>,
    scout: Scout,
    /// The offset that the window reaches to.
    window_last: i64,
    window: Window,
}

impl Restorer {
    /// For the records of these files, by these files of readings.
    pub(crate) fn new(records: &[Bytes], readings: Vec<Bytes>) -> Self {
        let scout =
            Scout { files: records.iter().cloned().collect(), reader: None, counts: Vec::new().into_iter() };
        Self { files: readings, scout, window_last: i64::MIN, window: Window::default() }
    }

    /// Shows the rows of a batch of stored records whole, some at a time, as [`columns::RECORDS`]. Batches come in
    /// offset order; rows may be left out.
    pub(crate) fn each(
        &mut self,
        stored: &RecordBatch,
        show: &mut dyn FnMut(&RecordBatch),
    ) -> Result<(), ArrowError> {
        if stored.num_rows() == 0 || templated(stored).is_none() {
            show(&self.window.restore(stored).map_err(external)?);
            return Ok(());
        }
        let offsets = stored["offset"].as_primitive::<Int64Type>().values();
        let counts = stored["readings"].as_primitive::<UInt32Type>().values();
        let mut from = 0;
        while from < stored.num_rows() {
            self.load(offsets[from])?;
            let mut readings = 0;
            let fits = |row: &usize| {
                readings += counts[*row] as usize;
                readings <= SLICE_READINGS && offsets[*row] <= self.window_last
            };
            let rows = (from..stored.num_rows()).take_while(fits).count().max(1);
            show(&self.window.restore(&stored.slice(from, rows)).map_err(external)?);
            from += rows;
        }
        Ok(())
    }

    /// Makes sure that the readings of the record at `offset` are in memory.
    fn load(&mut self, offset: i64) -> Result<(), ArrowError> {
        if offset <= self.window_last {
            return Ok(());
        }
        // Two windows must not be in memory at once.
        self.window = Window::default();
        let mut records = Vec::new();
        while offset > self.window_last {
            records = self.scout.next_window()?;
            self.window_last = records.last().map_or(i64::MAX, |(last, _)| *last);
        }
        let mut readings = Vec::new();
        for file in self.files.iter().filter(|_| !records.is_empty()) {
            let offsets = records.iter().map(|(offset, _)| *offset).collect();
            readings_of(file, offsets, &mut readings)?;
        }
        self.window = Window::new(records, &readings).map_err(external)?;
        Ok(())
    }
}

/// Goes ahead of the records and tells which have a template, and of how many readings.
struct Scout {
    files: VecDeque<Bytes>,
    reader: Option<ParquetRecordBatchReader>,
    counts: std::vec::IntoIter<(i64, u32)>,
}

impl Scout {
    /// The next records that have a template, as many as a window holds; none after the last.
    fn next_window(&mut self) -> Result<Vec<(i64, u32)>, ArrowError> {
        let (mut window, mut readings) = (Vec::new(), 0);
        loop {
            for (offset, count) in self.counts.by_ref() {
                window.push((offset, count));
                readings += count as usize;
                if readings >= WINDOW_READINGS {
                    return Ok(window);
                }
            }
            let Some(batch) = self.reader.as_mut().and_then(Iterator::next).transpose()? else {
                let Some(file) = self.files.pop_front() else { return Ok(window) };
                let builder = ParquetRecordBatchReaderBuilder::try_new(file)?;
                let mask = ProjectionMask::columns(builder.parquet_schema(), PLAN_COLUMNS);
                self.reader = Some(builder.with_projection(mask).with_batch_size(ROWS).build()?);
                continue;
            };
            self.counts = templated_counts(&batch)?.into_iter();
        }
    }
}

/// Shows a file's records whole, batch by batch. `readings` are the files of readings beside it.
pub(crate) fn each_record_batch(
    records: Bytes,
    readings: Vec<Bytes>,
    show: &mut dyn FnMut(&RecordBatch),
) -> Result<(), ArrowError> {
    let mut restorer = Restorer::new(std::slice::from_ref(&records), readings);
    let mut restored = Ok(());
    each_batch(records, None, &mut |batch| {
        if restored.is_ok() {
            restored = restorer.each(batch, show);
        }
    })?;
    restored
}

/// The record that could not be rebuilt, where that is what went wrong.
pub(crate) fn offset_of(error: &ArrowError) -> Option<i64> {
    match error {
        ArrowError::ExternalError(error) => error.downcast_ref::<RestoreError>()?.offset(),
        _ => None,
    }
}

/// The batch with a column `template`, which files of before do not have.
pub(crate) fn stored(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let schema = &columns::STORED_RECORDS;
    let column = |field: &Arc<Field>| match batch.column_by_name(field.name()) {
        Some(column) => Arc::clone(column),
        None => new_null_array(field.data_type(), batch.num_rows()),
    };
    RecordBatch::try_new(Arc::clone(schema), schema.fields().iter().map(column).collect())
}

/// Appends a file's readings of these records, by offset, ascending. Names come as dictionaries.
fn readings_of(file: &Bytes, records: Vec<i64>, readings: &mut Vec<RecordBatch>) -> Result<(), ArrowError> {
    let named = |field: &Arc<Field>| match field.data_type() {
        DataType::Utf8 if field.name() != "text" => {
            let names = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
            Field::clone(field).with_data_type(names)
        }
        _ => Field::clone(field),
    };
    let schema = Schema::new(columns::READINGS.fields().iter().map(named).collect::<Vec<_>>());
    let options = ArrowReaderOptions::new().with_schema(schema.into());
    let metadata = ArrowReaderMetadata::load(file, options)?;
    let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file.clone(), metadata);
    let columns = |names: &[&str]| ProjectionMask::columns(builder.parquet_schema(), names.iter().copied());
    let (all, offset) = (columns(&READING_COLUMNS), columns(&["offset"]));
    let inside = move |batch: RecordBatch| -> Result<BooleanArray, ArrowError> {
        let mut at = 0;
        let is_of = |offset: &i64| {
            // Readings of a series mostly lie in the order of their records.
            if records.get(at).is_none_or(|known| known != offset) {
                at = records.partition_point(|known| known < offset);
            }
            let found = records.get(at) == Some(offset);
            at += usize::from(found);
            found
        };
        Ok(batch["offset"].as_primitive::<Int64Type>().values().iter().map(is_of).map(Some).collect())
    };
    let rows = batch_rows(builder.metadata(), &all, ROWS);
    let filter = RowFilter::new(vec![Box::new(ArrowPredicateFn::new(offset, inside))]);
    let reader = builder.with_projection(all).with_row_filter(filter).with_batch_size(rows).build()?;
    for batch in reader {
        readings.push(batch?);
    }
    Ok(())
}

fn external(error: RestoreError) -> ArrowError {
    ArrowError::ExternalError(Box::new(error))
}
