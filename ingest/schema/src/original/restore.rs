//! Records with the bytes that their templates and readings rebuild.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryBuilder, BooleanArray, PrimitiveArray, RecordBatch, StringArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimestampMicrosecondType, UInt32Type};
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
    let Some(at) = records.schema().column_with_name("template").map(|(at, _)| at) else {
        return Ok(records.clone());
    };
    let mut whole = records.clone();
    if templated(records).is_some() {
        let values = values(records, readings)?;
        let at = records.schema().index_of("value")?;
        let mut columns = records.columns().to_vec();
        columns[at] = cast(&values, records.column(at).data_type())?;
        whole = RecordBatch::try_new(records.schema(), columns)?;
    }
    let keep: Vec<usize> = (0..whole.num_columns()).filter(|column| *column != at).collect();
    Ok(whole.project(&keep)?)
}

fn values(records: &RecordBatch, readings: &[RecordBatch]) -> Result<ArrayRef, RestoreError> {
    let sources: Result<Vec<Source>, ArrowError> = readings.iter().map(Source::of).collect();
    let sources = sources?;
    let spans = Spans::of(records)?;
    let places = spans.places(&sources)?;
    let kept = cast(&records["value"], &DataType::Binary)?;
    let kept = kept.as_binary::<i32>();
    let mut rebuilder = Rebuilder { sources: &sources, templates: HashMap::new(), memo: Memo::default() };
    let mut values = BinaryBuilder::new();
    let mut bytes = Vec::new();
    for row in 0..records.num_rows() {
        if spans.templates.is_valid(row) {
            bytes.clear();
            let (from, to) = (spans.starts[row], spans.starts[row + 1]);
            rebuilder.record(
                spans.templates.value(row),
                spans.offsets[row],
                &places[from..to],
                &mut bytes,
            )?;
            values.append_value(&bytes);
        } else {
            values.append_option(kept.is_valid(row).then(|| kept.value(row)));
        }
    }
    Ok(Arc::new(values.finish()))
}

/// Where the readings of each templated record go.
struct Spans {
    offsets: Vec<i64>,
    templates: StringArray,
    /// Readings of templated records before each row, and in all.
    starts: Vec<usize>,
}

impl Spans {
    fn of(records: &RecordBatch) -> Result<Self, ArrowError> {
        let templates = cast(&records["template"], &DataType::Utf8)?.as_string::<i32>().clone();
        let offsets = records["offset"].as_primitive::<Int64Type>().values().to_vec();
        let counts = records["readings"].as_primitive::<UInt32Type>();
        let mut starts = vec![0];
        let mut end = 0;
        for (row, count) in counts.values().iter().enumerate() {
            end += if templates.is_valid(row) { *count as usize } else { 0 };
            starts.push(end);
        }
        Ok(Self { offsets, templates, starts })
    }

    /// The record at an offset, if it has a template.
    fn row(&self, offset: i64) -> Option<usize> {
        // Mostly no offset is missing between two.
        let near = usize::try_from(offset.checked_sub(*self.offsets.first()?)?).ok()?;
        let row = match self.offsets.get(near) {
            Some(found) if *found == offset => near,
            _ => self.offsets.binary_search(&offset).ok()?,
        };
        self.templates.is_valid(row).then_some(row)
    }

    /// The source and row of each reading, in the order of records and index.
    fn places(&self, sources: &[Source]) -> Result<Vec<(u32, u32)>, RestoreError> {
        const NOWHERE: (u32, u32) = (u32::MAX, u32::MAX);
        let mut places = vec![NOWHERE; self.starts.last().copied().unwrap_or(0)];
        for (number, source) in (0u32..).zip(sources) {
            let (offsets, indexes) = (source.offset.values(), source.index.values());
            for (at, (&offset, &index)) in (0u32..).zip(offsets.iter().zip(indexes)) {
                let Some(row) = self.row(offset) else { continue };
                let place = self.starts[row] + index as usize;
                if place >= self.starts[row + 1] || places[place] != NOWHERE {
                    return Err(RestoreError::Surplus { offset, index });
                }
                places[place] = (number, at);
            }
        }
        match places.iter().position(|place| *place == NOWHERE) {
            None => Ok(places),
            Some(missing) => {
                let row = self.starts.partition_point(|start| *start <= missing) - 1;
                Err(RestoreError::Missing { offset: self.offsets[row], index: missing - self.starts[row] })
            }
        }
    }
}

/// Readings as they were read.
struct Source {
    names: [StringArray; 4],
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
        let text = |name: &str| -> Result<StringArray, ArrowError> {
            Ok(cast(&batch[name], &DataType::Utf8)?.as_string::<i32>().clone())
        };
        let names = [text("machine")?, text("sensor")?, text("kind")?, text("unit")?];
        let mut run = 0;
        let runs = (0..batch.num_rows()).map(|row| {
            run += u32::from(row > 0 && names.iter().any(|names| cell(names, row) != cell(names, row - 1)));
            run
        });
        Ok(Self {
            runs: runs.collect(),
            time: batch["time"].as_primitive().clone(),
            value: batch["value"].as_primitive().clone(),
            text: text("text")?,
            quality: batch["quality"].as_primitive().clone(),
            offset: batch["offset"].as_primitive().clone(),
            index: batch["index"].as_primitive().clone(),
            names,
        })
    }

    fn names(&self, row: usize) -> Names<'_> {
        let [machine, sensor, kind, unit] = &self.names;
        Names {
            machine: machine.value(row),
            sensor: sensor.value(row),
            kind: cell(kind, row),
            unit: cell(unit, row),
        }
    }

    fn measured(&self, row: usize) -> Measured<'_> {
        Measured {
            time_us: self.time.value(row),
            value: self.value.is_valid(row).then(|| self.value.value(row)),
            text: cell(&self.text, row),
            quality: self.quality.value(row),
        }
    }
}

fn cell(texts: &StringArray, row: usize) -> Option<&str> {
    texts.is_valid(row).then(|| texts.value(row))
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
