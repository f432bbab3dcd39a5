//! Batches of records cut into pieces that are rebuilt at once: each of one origin, and of a bounded weight.

use arrow::array::{
    Array, AsArray, BinaryViewArray, Int32Array, Int64Array, RecordBatch, StringViewArray, UInt32Array,
};
use arrow::datatypes::{Int32Type, Int64Type, UInt32Type};
use stillwell_schema::original::{RestoreError, templated};
use stillwell_schema::{TopicPartition, paths};

use super::places::{Origin, Places};
use crate::archive::ArchiveError;

/// What is rebuilt at once, bytes: with the readings that it takes, a fair part of what all statements may use.
pub(super) const WEIGHT_MAX: usize = 32 << 20;

/// What a row of records or readings takes beside its value, bytes.
const ROW_BYTES: usize = 128;

/// Records in the order of their offsets, at least one.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) batch: RecordBatch,
    /// Of those that have a template; none where no one has.
    pub(super) origin: Option<Origin>,
    /// Bytes of its values and of the readings that they take, about: long names and texts are not known yet.
    pub(super) weight: usize,
}

impl Piece {
    /// Whether it may be rebuilt together with `earlier`, as what comes after it.
    pub(super) fn continues(&self, earlier: &Self) -> bool {
        let same = self.origin.as_ref().is_some_and(|origin| earlier.origin.as_ref() == Some(origin));
        same && earlier.offsets().last() < self.offsets().first()
    }

    /// The offsets of its records that have a template.
    pub(super) fn templated(&self) -> impl Iterator<Item = i64> {
        let has_template = &self.batch["template"];
        let offsets = self.offsets().iter().enumerate();
        offsets.filter(move |(row, _)| has_template.is_valid(*row)).map(|(_, offset)| *offset)
    }

    fn offsets(&self) -> &[i64] {
        self.batch["offset"].as_primitive::<Int64Type>().values()
    }
}

/// Cuts a batch of the columns that [`super::stored`] says.
///
/// # Errors
/// [`ArchiveError::Original`] for a record with a template where no commit is.
pub(super) fn cut(batch: RecordBatch, places: &Places) -> Result<Vec<Piece>, ArchiveError> {
    if templated(&batch).is_none() {
        return Ok(vec![Piece { batch, origin: None, weight: 0 }]);
    }
    let rows = Rows::of(&batch);
    let mut pieces = Vec::new();
    let (mut from, mut weight, mut origin) = (0, 0, None::<Origin>);
    for row in 0..batch.num_rows() {
        let adds = rows.weight(row);
        let elsewhere = origin.as_ref().is_some_and(|origin| !rows.lies_in(row, origin));
        if row > from && (elsewhere || weight + adds > WEIGHT_MAX) {
            pieces.push(Piece { batch: batch.slice(from, row - from), origin: origin.take(), weight });
            (from, weight) = (row, 0);
        }
        if origin.is_none() && rows.template.is_valid(row) {
            origin = Some(rows.origin(row, places)?);
        }
        weight += adds;
    }
    pieces.push(Piece { batch: batch.slice(from, batch.num_rows() - from), origin, weight });
    Ok(pieces)
}

struct Rows<'a> {
    topic: &'a StringViewArray,
    partition: &'a Int32Array,
    offset: &'a Int64Array,
    readings: &'a UInt32Array,
    template: &'a StringViewArray,
    value: &'a BinaryViewArray,
}

impl<'a> Rows<'a> {
    fn of(batch: &'a RecordBatch) -> Self {
        Self {
            topic: batch["topic"].as_string_view(),
            partition: batch["partition"].as_primitive::<Int32Type>(),
            offset: batch["offset"].as_primitive::<Int64Type>(),
            readings: batch["readings"].as_primitive::<UInt32Type>(),
            template: batch["template"].as_string_view(),
            value: batch["value"].as_binary_view(),
        }
    }

    fn weight(&self, row: usize) -> usize {
        let whole = if self.value.is_valid(row) { self.value.value(row).len() } else { 0 };
        let rebuilt = if self.template.is_valid(row) {
            self.readings.value(row) as usize * (ROW_BYTES + self.template.value(row).len())
        } else {
            0
        };
        ROW_BYTES + whole + rebuilt
    }

    fn lies_in(&self, row: usize, origin: &Origin) -> bool {
        origin.holds(self.topic.value(row), self.partition.value(row), self.offset.value(row))
    }

    fn origin(&self, row: usize, places: &Places) -> Result<Origin, ArchiveError> {
        let (topic, partition, offset) =
            (self.topic.value(row), self.partition.value(row), self.offset.value(row));
        places.origin(topic, partition, offset).cloned().ok_or_else(|| {
            let path = paths::manifest_folder(&TopicPartition::new(topic, partition));
            ArchiveError::Original { path, source: RestoreError::Missing { offset, index: 0 }.into() }
        })
    }
}
