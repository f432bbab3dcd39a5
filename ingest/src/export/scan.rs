//! Finds the readings that are asked for, file by file, and reads no file that cannot hold one.

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::error::ArrowError;
use bytes::Bytes;
use parquet::errors::ParquetError;
use stillwell_schema::key_change::KeyWatch;
use stillwell_schema::ledger::View;
use stillwell_schema::manifest::FileRef;
use stillwell_schema::{TopicPartition, paths};

use super::rows::Columns;
use super::{ExportError, Site};
use crate::life::pieces::Piece;
use crate::life::rewrite::Offsets;
use crate::manifest::expect_entry;
use crate::originals::each_record_batch;
use crate::reader::each_batch;
use crate::verify::{Problem, ProblemKind, files};

/// The readings of a piece that are asked for.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// How many.
    pub(super) readings: u64,
    /// Their records.
    pub(super) offsets: Offsets,
}

/// Whether a piece may hold readings that are asked for, by what its entry or act states.
pub(super) fn may_hold(
    site: &Site<'_>,
    lane: &TopicPartition,
    view: &View,
    piece: &Piece,
) -> Result<bool, ExportError> {
    if !site.query.may_be_in(piece.time_us, None) {
        return Ok(false);
    }
    if let Some(standing) = view.covering(piece.span.first_seq) {
        let mut files = standing.cover.readings.iter();
        return Ok(files.any(|file| {
            site.query.may_be_in(Some((file.time_min_us, file.time_max_us)), file.machines.as_deref())
        }));
    }
    let seq = piece.span.first_seq;
    let entry = expect_entry(site.store, lane, seq)?.entry;
    site.trust.check(&mut KeyWatch::default(), &paths::entry(lane, seq), &entry.key)?;
    Ok(site.query.concerns(&entry))
}

/// Shows the readings of a piece that are asked for, batch by batch.
pub(super) fn readings(
    site: &Site<'_>,
    piece: &Piece,
    each: &mut dyn FnMut(RecordBatch) -> Result<(), ExportError>,
) -> Result<Found, ExportError> {
    let mut found = Found::default();
    for file in &piece.readings {
        each_rows(site, file, &mut |batch| {
            let columns = Columns::of(batch);
            let keep: Vec<bool> =
                columns.rows().map(|row| site.query.wants(row.machine, row.time_us)).collect();
            for row in columns.rows().zip(&keep).filter_map(|(row, keep)| keep.then_some(row)) {
                found.readings += 1;
                found.offsets.insert(row.offset);
            }
            if !keep.contains(&true) {
                return Ok(());
            }
            each(filter_record_batch(batch, &BooleanArray::from(keep)).map_err(ParquetError::from)?)
        })?;
    }
    Ok(found)
}

/// Shows the rows of a file of the archive, once its bytes are those that were committed.
pub(super) fn each_rows(
    site: &Site<'_>,
    file: &FileRef,
    each: &mut dyn FnMut(&RecordBatch) -> Result<(), ExportError>,
) -> Result<(), ExportError> {
    let bytes = load(site, file)?;
    shown(file, each, |show| each_batch(bytes, None, show))
}

/// Shows the records of a piece, once its bytes are those that were committed, each with its original bytes.
pub(super) fn each_record(
    site: &Site<'_>,
    piece: &Piece,
    each: &mut dyn FnMut(&RecordBatch) -> Result<(), ExportError>,
) -> Result<(), ExportError> {
    let readings: Result<Vec<_>, _> = piece.readings.iter().map(|file| load(site, file)).collect();
    let readings = readings?;
    for file in &piece.records {
        let bytes = load(site, file)?;
        shown(file, each, |show| each_record_batch(bytes, readings.clone(), show))?;
    }
    Ok(())
}

/// A file's bytes, if they are those that were committed.
fn load(site: &Site<'_>, file: &FileRef) -> Result<Bytes, ExportError> {
    let mut problems = Vec::new();
    let bytes = files::read(site.store, file, &mut problems)?.unwrap_or_default();
    if let Some(problem) = problems.pop() {
        return Err(ExportError::Damaged(Box::new(problem)));
    }
    (site.tick)(file.bytes);
    Ok(bytes)
}

/// Shows what `read` shows of a file until `each` fails.
fn shown(
    file: &FileRef,
    each: &mut dyn FnMut(&RecordBatch) -> Result<(), ExportError>,
    read: impl FnOnce(&mut dyn FnMut(&RecordBatch)) -> Result<(), ArrowError>,
) -> Result<(), ExportError> {
    let mut done = Ok(());
    let read = read(&mut |batch| {
        if done.is_ok() {
            done = each(batch);
        }
    });
    read.map_err(|error| {
        let problem = Problem::new(ProblemKind::Unreadable, &file.path, error.to_string());
        ExportError::Damaged(Box::new(problem))
    })?;
    done
}
