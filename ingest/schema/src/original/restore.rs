//! Records with the bytes that their templates and readings rebuild.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryBuilder, BooleanArray, DictionaryArray, PrimitiveArray, RecordBatch,
    StringArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType, UInt32Type};
use arrow::error::ArrowError;
use thiserror::Error;

use super::text::TemplateError;
use super::{Filled, Measured, Memo, Names, Template};

/// The columns of readings that records are rebuilt from.
pub const READING_COLUMNS: [&str; 10] =
    ["machine", "sensor", "kind", "unit", "time", "value", "text", "quality", "offset", "index"];

/// Why a record cannot be rebuilt.
#[derive(Debug, Error)]
pub enum RestoreError {
    /// Its template cannot be read.
    #[error("the template of the record at offset {offset} is damaged: {source}")]
    Template {
        /// The record.
        offset: i64,
        /// What is wrong.
        source: TemplateError,
    },
    /// A reading that is part of it is not there.
    #[error(
        "reading {index} of the record at offset {offset} is missing, so that its bytes cannot be rebuilt"
    )]
    Missing {
        /// The record.
        offset: i64,
        /// The reading's place in it.
        index: usize,
    },
    /// A reading that is part of it is there twice, or beyond its end.
    #[error("reading {index} of the record at offset {offset} is one too many")]
    Surplus {
        /// The record.
        offset: i64,
        /// The reading's place in it.
        index: u32,
    },
    /// A reading does not fit its template.
    #[error("reading {index} of the record at offset {offset} does not fit the record's template")]
    Misfit {
        /// The record.
        offset: i64,
        /// The reading's place in it.
        index: usize,
    },
    /// The columns are not as expected.
    #[error(transparent)]
    Arrow(#[from] ArrowError),
}

impl RestoreError {
    /// The record that cannot be rebuilt.
    #[must_use]
    pub fn offset(&self) -> Option<i64> {
        match self {
            Self::Template { offset, .. }
            | Self::Missing { offset, .. }
            | Self::Surplus { offset, .. }
            | Self::Misfit { offset, .. } => Some(*offset),
            Self::Arrow(_) => None,
        }
    }
}

/// Which records of a batch have a template in place of their value; none where no one has.
#[must_use]
pub fn templated(records: &RecordBatch) -> Option<BooleanArray> {
    let template = records.column_by_name("template").filter(|column| column.null_count() < column.len())?;
    arrow::compute::is_not_null(template).ok()
}

/// The batch without its column `template`, every value in its place. `readings` holds, in any order, all readings of
/// its records ([`READING_COLUMNS`]); others among them are passed over.
///
/// # Errors
/// [`RestoreError`] where what is there does not rebuild a record.
pub fn restore(records: &RecordBatch, readings: &[RecordBatch]) -> Result<RecordBatch, RestoreError> {
    Window::new(templated_counts(records)?, readings)?.restore(records)
}

/// Offset of each record of a batch that has a template, and how many readings it has.
///
/// # Errors
/// Where a column is not as expected.
pub fn templated_counts(records: &RecordBatch) -> Result<Vec<(i64, u32)>, ArrowError> {
    let Some(flags) = templated(records) else { return Ok(Vec::new()) };
    let offsets = records["offset"].as_primitive::<Int64Type>().values();
    let counts = records["readings"].as_primitive::<UInt32Type>().values();
    let rows = offsets.iter().zip(counts).zip(flags.values());
    Ok(rows.filter(|(_, has)| *has).map(|((offset, count), _)| (*offset, *count)).collect())
}

/// Readings of a stretch of records, in the order of these, to rebuild any of them from.
#[derive(Default)]
pub struct Window {
    /// By offset.
    offsets: Vec<i64>,
    /// Readings of the records before each, and in all.
    starts: Vec<usize>,
    /// Batch and row of each reading, in the order of records and index.
    places: Vec<(u32, u32)>,
    sources: Vec<Source>,
}

impl Window {
    /// Of these records, offset and number of readings of each, in offset order. `readings` holds all readings of
    /// theirs; others among them are passed over.
    ///
    /// # Errors
    /// [`RestoreError`] where a reading is missing or one too many.
    pub fn new(records: Vec<(i64, u32)>, readings: &[RecordBatch]) -> Result<Self, RestoreError> {
        let sources: Result<Vec<Source>, ArrowError> = readings.iter().map(Source::of).collect();
        let mut starts = vec![0];
        let mut end = 0usize;
        for (_, count) in &records {
            end = end.saturating_add(*count as usize);
            starts.push(end);
        }
        let offsets = records.into_iter().map(|(offset, _)| offset).collect();
        let mut window = Self { offsets, starts, places: Vec::new(), sources: sources? };
        let there: usize = readings.iter().map(RecordBatch::num_rows).sum();
        // Nothing is made room for that cannot be there.
        window.places = if end > there { Err(window.first_missing()) } else { window.places() }?;
        Ok(window)
    }

    /// The place of a record, if it is one of these.
    fn record(&self, offset: i64) -> Option<usize> {
        // Mostly no offset is missing between two.
        let near = usize::try_from(offset.checked_sub(*self.offsets.first()?)?).ok()?;
        match self.offsets.get(near) {
            Some(found) if *found == offset => Some(near),
            _ => self.offsets.binary_search(&offset).ok(),
        }
    }

    /// Of records that have fewer readings than they should, the first.
    fn first_missing(&self) -> RestoreError {
        let mut found: Vec<Vec<u32>> = vec![Vec::new(); self.offsets.len()];
        for source in &self.sources {
            for (&offset, &index) in source.offset.values().iter().zip(source.index.values()) {
                if let Some(record) = self.record(offset) {
                    found[record].push(index);
                }
            }
        }
        let short = |record: &usize| found[*record].len() < self.starts[record + 1] - self.starts[*record];
        let record = (0..found.len()).find(short).unwrap_or(0);
        found[record].sort_unstable();
        let index = (0u32..).zip(&found[record]).take_while(|(wanted, found)| wanted == *found).count();
        RestoreError::Missing { offset: self.offsets.get(record).copied().unwrap_or(-1), index }
    }

    fn places(&self) -> Result<Vec<(u32, u32)>, RestoreError> {
        const NOWHERE: (u32, u32) = (u32::MAX, u32::MAX);
        let mut places = vec![NOWHERE; self.starts.last().copied().unwrap_or(0)];
        for (number, source) in (0u32..).zip(&self.sources) {
            let (offsets, indexes) = (source.offset.values(), source.index.values());
            for (at, (&offset, &index)) in (0u32..).zip(offsets.iter().zip(indexes)) {
                let Some(record) = self.record(offset) else { continue };
                let place = self.starts[record] + index as usize;
                if place >= self.starts[record + 1] || places[place] != NOWHERE {
                    return Err(RestoreError::Surplus { offset, index });
                }
                places[place] = (number, at);
            }
        }
        match places.iter().position(|place| *place == NOWHERE) {
            None => Ok(places),
            Some(missing) => {
                let record = self.starts.partition_point(|start| *start <= missing) - 1;
                let index = missing - self.starts[record];
                Err(RestoreError::Missing { offset: self.offsets[record], index })
            }
        }
    }

    /// The batch without its column `template`, every value in its place. Its records that have a template are of this
    /// window.
    ///
    /// # Errors
    /// [`RestoreError`] where what is there does not rebuild a record.
    pub fn restore(&self, records: &RecordBatch) -> Result<RecordBatch, RestoreError> {
        let schema = records.schema();
        let Some((template, _)) = schema.column_with_name("template") else { return Ok(records.clone()) };
        let mut whole = records.clone();
        if templated(records).is_some() {
            let value = schema.index_of("value")?;
            let mut columns = records.columns().to_vec();
            columns[value] = cast(&self.values(records)?, records.column(value).data_type())?;
            whole = RecordBatch::try_new(records.schema(), columns)?;
        }
        let keep: Vec<usize> = (0..whole.num_columns()).filter(|column| *column != template).collect();
        Ok(whole.project(&keep)?)
    }

    fn values(&self, records: &RecordBatch) -> Result<ArrayRef, RestoreError> {
        let templates = cast(&records["template"], &DataType::Utf8)?;
        let templates = templates.as_string::<i32>();
        let offsets = records["offset"].as_primitive::<Int64Type>().values();
        let kept = cast(&records["value"], &DataType::Binary)?;
        let kept = kept.as_binary::<i32>();
        let mut rebuilder =
            Rebuilder { sources: &self.sources, templates: HashMap::new(), memo: Memo::default() };
        let mut values = BinaryBuilder::new();
        let mut bytes = Vec::new();
        for row in 0..records.num_rows() {
            if templates.is_null(row) {
                values.append_option(kept.is_valid(row).then(|| kept.value(row)));
                continue;
            }
            let offset = offsets[row];
            let record = self.record(offset).ok_or(RestoreError::Missing { offset, index: 0 })?;
            let places = &self.places[self.starts[record]..self.starts[record + 1]];
            bytes.clear();
            rebuilder.record(templates.value(row), offset, places, &mut bytes)?;
            values.append_value(&bytes);
        }
        Ok(Arc::new(values.finish()))
    }
}

/// Readings as they were read.
struct Source {
    names: [DictionaryArray<Int32Type>; 4],
    /// A number for each row that rows of the same names next to it share.
    runs: Vec<u32>,
    time: PrimitiveArray<TimestampMicrosecondType>,
    value: PrimitiveArray<Float64Type>,
    text: StringArray,
    quality: PrimitiveArray<UInt32Type>,
    offset: PrimitiveArray<Int64Type>,
    index: PrimitiveArray<UInt32Type>,
}

impl Source {
    fn of(batch: &RecordBatch) -> Result<Self, ArrowError> {
        let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
        let name = |name: &str| -> Result<DictionaryArray<Int32Type>, ArrowError> {
            Ok(cast(&batch[name], &dictionary)?.as_dictionary::<Int32Type>().clone())
        };
        let names = [name("machine")?, name("sensor")?, name("kind")?, name("unit")?];
        let mut run = 0;
        let runs = (0..batch.num_rows()).map(|row| {
            run += u32::from(row > 0 && names.iter().any(|names| names.key(row) != names.key(row - 1)));
            run
        });
        Ok(Self {
            runs: runs.collect(),
            time: batch["time"].as_primitive().clone(),
            value: batch["value"].as_primitive().clone(),
            text: cast(&batch["text"], &DataType::Utf8)?.as_string::<i32>().clone(),
            quality: batch["quality"].as_primitive().clone(),
            offset: batch["offset"].as_primitive().clone(),
            index: batch["index"].as_primitive().clone(),
            names,
        })
    }

    fn names(&self, row: usize) -> Names<'_> {
        let [machine, sensor, kind, unit] = self.names.each_ref().map(|names| {
            let texts = names.values().as_string::<i32>();
            names.key(row).filter(|key| texts.is_valid(*key)).map(|key| texts.value(key))
        });
        let (machine, sensor) = (machine.unwrap_or_default(), sensor.unwrap_or_default());
        Names { machine, sensor, kind, unit }
    }

    fn measured(&self, row: usize) -> Measured<'_> {
        Measured {
            time_us: self.time.value(row),
            value: self.value.is_valid(row).then(|| self.value.value(row)),
            text: self.text.is_valid(row).then(|| self.text.value(row)),
            quality: self.quality.value(row),
        }
    }
}

/// Writes records by templates that it knows.
struct Rebuilder<'a> {
    sources: &'a [Source],
    templates: HashMap<String, Known>,
    memo: Memo,
}

/// A template, filled with the names of runs, by source and run.
struct Known {
    template: Template,
    filled: HashMap<(u32, u32), Option<Filled>>,
}

impl Rebuilder<'_> {
    fn record(
        &mut self,
        template: &str,
        offset: i64,
        places: &[(u32, u32)],
        bytes: &mut Vec<u8>,
    ) -> Result<(), RestoreError> {
        if !self.templates.contains_key(template) {
            let parsed = template.parse().map_err(|source| RestoreError::Template { offset, source })?;
            self.templates.insert(template.to_owned(), Known { template: parsed, filled: HashMap::new() });
        }
        let Some(Known { template, filled }) = self.templates.get_mut(template) else { return Ok(()) };
        if template.between.is_none() && places.len() != 1 {
            return Err(RestoreError::Missing { offset, index: places.len() });
        }
        bytes.extend_from_slice(&template.head);
        for (index, &(number, row)) in places.iter().enumerate() {
            if index > 0 {
                bytes.extend_from_slice(template.between.as_deref().unwrap_or_default());
            }
            let (source, row) = (&self.sources[number as usize], row as usize);
            let filled = filled.entry((number, source.runs[row]));
            let filled = filled.or_insert_with(|| template.fill(&source.names(row)));
            let measured = source.measured(row);
            if !filled.as_ref().is_some_and(|filled| filled.write(&measured, &mut self.memo, bytes)) {
                return Err(RestoreError::Misfit { offset, index });
            }
        }
        bytes.extend_from_slice(&template.tail);
        Ok(())
    }
}
