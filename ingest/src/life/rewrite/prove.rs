//! Proves files read back from the store: each entry's root, each reading.

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use bytes::Bytes;
use stillwell_schema::ledger::Cover;
use stillwell_schema::manifest::FileRef;
use stillwell_schema::merkle::{Hash, Tree};
use stillwell_schema::{Head, SignedEntry};

use super::chunks::Seen;
use super::digest::Digest;
use super::merge::Rows;
use super::{LifeError, Rewrite, load};
use crate::manifest::{Chain, ManifestError, read_entry};
use crate::originals::each_record_batch;
use crate::reader::RecordColumns;

/// Rows of readings decoded at once.
const READINGS_ROWS: usize = 1 << 15;

/// Recomputes the root of every entry from the new records and all leaves.
pub(super) fn records(rewrite: &Rewrite<'_>, cover: &Cover) -> Result<(), LifeError> {
    let mut leaves: Vec<Leaves> = Vec::new();
    for file in &cover.leaves {
        leaves.extend(Leaves::open(rewrite, &file.file)?);
    }
    let mut roots = Roots::new(rewrite, cover)?;
    let mut erased = || -> Result<Option<(i64, Hash)>, LifeError> {
        let least = leaves.iter_mut().min_by_key(|leaves| leaves.next.map_or(i64::MAX, |next| next.0));
        least.map_or(Ok(None), Leaves::take)
    };
    let mut waiting = erased()?;
    let readings = cover.readings.iter().map(|file| load(rewrite.store, &file.file));
    let readings: Vec<Bytes> = readings.collect::<Result<_, _>>()?;
    let mut pushed = Ok(());
    let mut push = |batch: &RecordBatch| -> Result<(), LifeError> {
        let columns = RecordColumns::of(batch);
        for row in 0..batch.num_rows() {
            while let Some((offset, leaf)) = waiting.filter(|(offset, _)| *offset < columns.offset[row]) {
                roots.push(offset, leaf)?;
                waiting = erased()?;
            }
            roots.push(columns.offset[row], columns.leaf(row))?;
        }
        Ok(())
    };
    for file in &cover.records {
        let bytes = load(rewrite.store, &file.file)?;
        (rewrite.tick)(file.file.bytes);
        let read = each_record_batch(bytes, readings.clone(), &mut |batch| {
            if pushed.is_ok() {
                pushed = push(batch);
            }
        });
        read.map_err(LifeError::arrow(rewrite.lane))?;
    }
    pushed?;
    while let Some((offset, leaf)) = waiting {
        roots.push(offset, leaf)?;
        waiting = erased()?;
    }
    roots.finish()
}

/// Holds the new readings against the digest of the old, and what is said of them against what is there.
pub(super) fn readings(rewrite: &Rewrite<'_>, cover: &Cover, expected: Digest) -> Result<(), LifeError> {
    let unproven = |reason: &str| LifeError::Unproven {
        lane: rewrite.lane.clone(),
        seq: cover.span.first_seq,
        reason: reason.to_owned(),
    };
    let mut digest = Digest::default();
    for file in &cover.readings {
        let (mut seen, mut last) = (Seen::default(), None::<Rows>);
        for batch in rewrite.open(&file.file, READINGS_ROWS)? {
            let batch = batch.map_err(LifeError::arrow(rewrite.lane))?;
            digest.add(&batch);
            seen.add(&batch);
            let rows = Rows::new(batch);
            let ends = last.as_ref().map(|last| last.compare(last.all.num_rows() - 1, &rows, 0));
            let inside = (1..rows.all.num_rows()).all(|row| rows.compare(row - 1, &rows, row).is_lt());
            if ends.is_some_and(|ends| !ends.is_lt()) || !inside {
                return Err(unproven("its readings are not in order"));
            }
            last = Some(rows);
        }
        let machines = seen.machines.map(|machines| machines.into_iter().collect());
        let times = Some((file.time_min_us, file.time_max_us));
        if (seen.rows, seen.time_us, &machines) != (file.file.rows, times, &file.machines) {
            return Err(unproven("its readings are not those that are stated"));
        }
    }
    if digest == expected { Ok(()) } else { Err(unproven("its readings are others than were read")) }
}

/// The trees of the entries of a cover, one after the other.
struct Roots<'a> {
    lane: &'a stillwell_schema::TopicPartition,
    cover: &'a Cover,
    chain: Chain<'a>,
    entry: SignedEntry,
    tree: Tree,
    leaves: u64,
}

impl<'a> Roots<'a> {
    fn new(rewrite: &'a Rewrite<'_>, cover: &'a Cover) -> Result<Self, LifeError> {
        let (lane, seq) = (rewrite.lane, cover.span.first_seq);
        let missing = || ManifestError::Missing { path: stillwell_schema::paths::entry(lane, seq) };
        let entry = read_entry(rewrite.store, lane, seq)?.ok_or_else(missing)?;
        let chain = Chain::after(rewrite.store, lane.clone(), Head::clone(&entry.head()));
        let roots = Self { lane, cover, chain, entry, tree: Tree::default(), leaves: 0 };
        roots.check_span()?;
        Ok(roots)
    }

    fn unproven(&self, reason: impl Into<String>) -> LifeError {
        let (lane, seq) = (self.lane.clone(), self.entry.entry.seq);
        LifeError::Unproven { lane, seq, reason: reason.into() }
    }

    fn check_span(&self) -> Result<(), LifeError> {
        if self.cover.span.fits(&self.entry) {
            return Ok(());
        }
        Err(self.unproven("it is not the entry that was to be covered"))
    }

    fn push(&mut self, offset: i64, leaf: Hash) -> Result<(), LifeError> {
        while self.entry.entry.range.next.0 <= offset {
            if !self.advance()? {
                return Err(self.unproven(format!("offset {offset} is of no entry")));
            }
        }
        self.tree.push(leaf);
        self.leaves += 1;
        Ok(())
    }

    /// Ends an entry's tree and goes on to the next; false after the last.
    fn advance(&mut self) -> Result<bool, LifeError> {
        let entry = &self.entry.entry;
        let (root, records) =
            (hex::encode(self.tree.root()), entry.records.as_ref().map_or(0, |file| file.rows));
        if root != entry.merkle_root || self.leaves != records {
            return Err(self.unproven(format!(
                "its {records} records have the root {}, the {} in its place have {root}",
                entry.merkle_root, self.leaves
            )));
        }
        if entry.seq + 1 == self.cover.span.next_seq {
            return Ok(false);
        }
        let missing =
            || ManifestError::Missing { path: stillwell_schema::paths::entry(self.lane, entry.seq + 1) };
        self.entry = self.chain.next().transpose()?.ok_or_else(missing)?;
        (self.tree, self.leaves) = (Tree::default(), 0);
        self.check_span()?;
        Ok(true)
    }

    fn finish(mut self) -> Result<(), LifeError> {
        while self.advance()? {}
        Ok(())
    }
}

/// A leaves file, row by row.
struct Leaves {
    reader: parquet::arrow::arrow_reader::ParquetRecordBatchReader,
    batch: arrow::array::RecordBatch,
    row: usize,
    next: Option<(i64, Hash)>,
    lane: stillwell_schema::TopicPartition,
}

impl Leaves {
    fn open(rewrite: &Rewrite<'_>, file: &FileRef) -> Result<Option<Self>, LifeError> {
        let reader = rewrite.open(file, READINGS_ROWS)?;
        let batch =
            arrow::array::RecordBatch::new_empty(std::sync::Arc::clone(&stillwell_schema::columns::LEAVES));
        let mut leaves = Self { reader, batch, row: 0, next: None, lane: rewrite.lane.clone() };
        leaves.take()?;
        Ok(leaves.next.is_some().then_some(leaves))
    }

    /// The next leaf; the one after it is looked up.
    fn take(&mut self) -> Result<Option<(i64, Hash)>, LifeError> {
        let taken = self.next.take();
        while self.row == self.batch.num_rows() {
            let Some(batch) = self.reader.next().transpose().map_err(LifeError::arrow(&self.lane))? else {
                return Ok(taken);
            };
            (self.batch, self.row) = (batch, 0);
        }
        let mut hash = Hash::default();
        hash.copy_from_slice(self.batch["leaf"].as_fixed_size_binary().value(self.row));
        self.next = Some((self.batch["offset"].as_primitive::<Int64Type>().value(self.row), hash));
        self.row += 1;
        Ok(taken)
    }
}
