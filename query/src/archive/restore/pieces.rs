//! Batches of records cut into pieces that are rebuilt at once: each of one origin, and of a bounded weight.

use std::ops::Range;

use arrow::array::{Array, AsArray, Int32Array, Int64Array, RecordBatch, StringViewArray, UInt32Array};
use arrow::datatypes::{Int32Type, Int64Type, UInt32Type};
use stillwell_schema::original::{RestoreError, templated};
use stillwell_schema::{TopicPartition, paths};

use crate::archive::ArchiveError;
use crate::archive::places::{Origin, Places};
use crate::engine;

/// What is rebuilt at once, bytes: with the readings that it takes, a small part of what all statements may use, as
/// each of their streams keeps as much.
pub(super) const WEIGHT_MAX: usize = 8 << 20;

/// What a reading takes in memory, bytes, and about what it adds to its record beside the template's text.
const READING_BYTES: usize = 128;

/// Records in the order of their offsets, at least one.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) batch: RecordBatch,
    /// Of those that have a template; none where no one has.
    pub(super) origin: Option<Origin>,
    /// Bytes that it keeps in memory: an even share of those of its batch.
    pub(super) held: usize,
    /// Bytes that rebuilding its values takes beside these, about: long names and texts are not known yet.
    pub(super) takes: usize,
}

impl Piece {
    /// Bytes of all that it is rebuilt with.
    pub(super) fn weight(&self) -> usize {
        self.held + self.takes
    }

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
        return Ok(vec![Piece { batch, origin: None, held: 0, takes: 0 }]);
    }
    let (rows, share) = (Rows::of(&batch), engine::size(&batch).div_ceil(batch.num_rows()));
    let piece = |run: Range<usize>, origin, takes| {
        let held = share * run.len();
        Piece { batch: batch.slice(run.start, run.len()), origin, held, takes }
    };
    let mut pieces = Vec::new();
    let (mut from, mut takes, mut origin) = (0, 0, None::<Origin>);
    for row in 0..batch.num_rows() {
        let adds = rows.takes(row);
        let elsewhere = origin.as_ref().is_some_and(|origin| !rows.lies_in(row, origin));
        let weight = share * (row + 1 - from) + takes + adds;
        if row > from && (elsewhere || weight > WEIGHT_MAX) {
            pieces.push(piece(from..row, origin.take(), takes));
            (from, takes) = (row, 0);
        }
        if origin.is_none() && rows.template.is_valid(row) {
            origin = Some(rows.origin(row, places)?);
        }
        takes += adds;
    }
    pieces.push(piece(from..batch.num_rows(), origin, takes));
    Ok(pieces)
}

struct Rows<'a> {
    topic: &'a StringViewArray,
    partition: &'a Int32Array,
    offset: &'a Int64Array,
    readings: &'a UInt32Array,
    template: &'a StringViewArray,
}

impl<'a> Rows<'a> {
    fn of(batch: &'a RecordBatch) -> Self {
        Self {
            topic: batch["topic"].as_string_view(),
            partition: batch["partition"].as_primitive::<Int32Type>(),
            offset: batch["offset"].as_primitive::<Int64Type>(),
            readings: batch["readings"].as_primitive::<UInt32Type>(),
            template: batch["template"].as_string_view(),
        }
    }

    /// Its readings, and the bytes that come of them.
    fn takes(&self, row: usize) -> usize {
        if self.template.is_null(row) {
            return 0;
        }
        self.readings.value(row) as usize * (2 * READING_BYTES + self.template.value(row).len())
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, BinaryViewArray};
    use stillwell_schema::{Offset, OffsetRange};

    use super::*;
    use crate::archive::commits::{Commit, File, LaneCommits, Snapshot};

    /// One lane of two commits: offsets 0 to 3 and 4 to 7.
    fn places() -> Places {
        let mut lane = LaneCommits::default();
        for seq in 0..2 {
            let first = Offset(4 * i64::try_from(seq).unwrap());
            lane.push(Commit {
                lane: TopicPartition::new("t", 0),
                seqs: seq..seq + 1,
                range: OffsetRange { first, next: Offset(first.0 + 4) },
                readings: Some(File { path: format!("{seq}").into(), bytes: 1, rows: 1 }),
                records: None,
                undecodable: 0,
                time_us: None,
                machines: None,
                written_us: 0,
            });
        }
        Places::of(&Snapshot { lanes: vec![Arc::new(lane)] })
    }

    fn batch(first: i64, readings: &[u32], templates: &[Option<&str>]) -> RecordBatch {
        let rows = readings.len();
        let offsets = first..first + i64::try_from(rows).unwrap();
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("topic", Arc::new(StringViewArray::from(vec!["t"; rows]))),
            ("partition", Arc::new(Int32Array::from(vec![0; rows]))),
            ("offset", Arc::new(Int64Array::from_iter_values(offsets))),
            ("readings", Arc::new(UInt32Array::from(readings.to_vec()))),
            ("template", Arc::new(StringViewArray::from(templates.to_vec()))),
            ("value", Arc::new(BinaryViewArray::from(vec![None::<&[u8]>; rows]))),
        ];
        RecordBatch::try_from_iter(columns).unwrap()
    }

    #[test]
    fn a_piece_has_one_origin_and_a_bounded_weight() {
        let some = Some("$vs");
        let templates = [some, some, some, some, some, None, some, some];
        let cut_up = cut(batch(0, &[1, 1, 300_000, 1, 1, 0, 1, 1], &templates), &places()).unwrap();
        let found: Vec<(usize, Option<String>)> = cut_up
            .iter()
            .map(|piece| {
                let files = piece.origin.as_ref().and_then(|origin| origin.readings(0..=7).next());
                (piece.batch.num_rows(), files.map(|file| file.path.to_string()))
            })
            .collect();
        let [first, second] = ["0", "1"].map(|path| Some(path.to_owned()));
        assert_eq!(found, [(2, first.clone()), (1, first.clone()), (1, first), (4, second)]);
        assert!(cut_up[1].continues(&cut_up[0]) && !cut_up[0].continues(&cut_up[1]));
        assert!(!cut_up[3].continues(&cut_up[2]));
        assert_eq!(cut_up[3].templated().collect::<Vec<_>>(), [4, 6, 7]);
    }

    #[test]
    fn what_has_no_template_stays_as_it_is() {
        let pieces = cut(batch(0, &[0; 8], &[None; 8]), &places()).unwrap();
        assert_eq!(pieces.len(), 1);
        assert!(pieces[0].origin.is_none());
    }

    #[test]
    fn a_template_that_no_commit_stands_for_is_refused() {
        let error = cut(batch(7, &[1, 1], &[Some("$vs"); 2]), &places()).unwrap_err();
        assert!(error.to_string().contains("offset 8"), "{error}");
    }
}
