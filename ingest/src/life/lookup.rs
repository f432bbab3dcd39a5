//! Finds records in a piece of a lane, whichever files hold it now.

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use bytes::Bytes;
use stillwell_schema::merkle::Hash;
use stillwell_schema::{Offset, OffsetRange};
use stillwell_source::chunk::RecordChunk;
use thiserror::Error;

use super::pieces::Piece;
use crate::originals::each_record_batch;
use crate::reader::{RecordColumns, each_batch};
use crate::store::{ArchiveStore, StoreError};

/// Why a piece's records cannot be read.
#[derive(Debug, Error)]
pub enum LookupError {
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file is missing or damaged.
    #[error("{path}: {reason}; `stillwell verify` tells what else is wrong")]
    File {
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
}

/// The leaves of a stretch of offsets, erased records among them.
#[derive(Debug, Default)]
pub(crate) struct Leaves {
    /// By offset, ascending.
    pub(crate) leaves: Vec<(i64, Hash)>,
    /// The record that was asked for.
    pub(crate) record: Option<RecordChunk>,
}

/// Reads the leaves of the records of `piece` in `range`, and the record at `wanted`, if it is there.
pub(crate) fn leaves(
    store: &dyn ArchiveStore,
    piece: &Piece,
    range: OffsetRange,
    wanted: Option<Offset>,
) -> Result<Leaves, LookupError> {
    let mut found = Leaves::default();
    records(store, piece, &mut |batch| {
        let columns = RecordColumns::of(batch);
        for row in (0..batch.num_rows()).filter(|row| range.contains(Offset(columns.offset[*row]))) {
            found.leaves.push((columns.offset[row], columns.leaf(row)));
            if wanted == Some(Offset(columns.offset[row])) {
                found.record = Some(columns.chunk(row));
            }
        }
    })?;
    for file in &piece.leaves {
        rows(store, &file.file.path, None, &mut |batch| {
            let offsets = batch["offset"].as_primitive::<Int64Type>().values();
            let hashes = batch["leaf"].as_fixed_size_binary().iter();
            for (offset, hash) in
                offsets.iter().zip(hashes).filter(|(offset, _)| range.contains(Offset(**offset)))
            {
                found.leaves.push((*offset, hash.and_then(|hash| hash.try_into().ok()).unwrap_or_default()));
            }
        })?;
    }
    found.leaves.sort_unstable_by_key(|(offset, _)| *offset);
    Ok(found)
}

/// Shows the records of a piece, whole, batch by batch, in offset order.
pub(crate) fn records(
    store: &dyn ArchiveStore,
    piece: &Piece,
    each: &mut dyn FnMut(&arrow::record_batch::RecordBatch),
) -> Result<(), LookupError> {
    let readings: Result<Vec<_>, _> = piece.readings.iter().map(|file| get(store, &file.path)).collect();
    let readings = readings?;
    for file in &piece.records {
        let read = each_record_batch(get(store, &file.path)?, readings.clone(), each);
        read.map_err(|error| LookupError::damaged(&file.path, error.to_string()))?;
    }
    Ok(())
}

/// Shows the rows of a file batch by batch.
pub(crate) fn rows(
    store: &dyn ArchiveStore,
    path: &str,
    columns: Option<&[&str]>,
    each: &mut dyn FnMut(&arrow::record_batch::RecordBatch),
) -> Result<(), LookupError> {
    let read = each_batch(get(store, path)?, columns, each);
    read.map_err(|error| LookupError::damaged(path, error.to_string()))
}

fn get(store: &dyn ArchiveStore, path: &str) -> Result<Bytes, LookupError> {
    Ok(store.get(path)?.ok_or_else(|| LookupError::damaged(path, "it is missing"))?.into())
}

impl LookupError {
    fn damaged(path: &str, reason: impl Into<String>) -> Self {
        Self::File { path: path.to_owned(), reason: reason.into() }
    }
}
