//! The readings of a lane in the order of its log, out of files that are sorted by series: for those who fold the
//! past again.
//!
//! Reading order: [`extents`] says how far each lane goes, now or as of a moment, and from when on nothing of it was
//! erased; a [`Stretch`] walks a lane between two offsets, and gives its readings in batches of whole records. How
//! rows come from the order of the files into that of the log is in `rows`.
//!
//! Memory, for each stretch: the compressed readings of one commit or merge, and [`ROWS_MAX`] rows of them; a merge
//! that holds more is decoded once for each so many.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use bytes::Bytes;
use stillwell_schema::ledger::{Deed, Rule, View};
use stillwell_schema::pattern::matches;
use stillwell_schema::{Head, Offset, OffsetRange, TopicPartition};
use stillwell_source::columns::ReadingColumns;
use stillwell_source::series::SeriesTable;

use crate::evidence;
use crate::life::LifeError;
use crate::life::ledger::{read_view, read_view_seeing};
use crate::life::pieces::{Piece, Pieces};
use crate::life::rewrite::load;
use crate::manifest::{ManifestError, expect_entry, find_head};
use crate::reader::each_batch;
use crate::store::ArchiveStore;

mod rows;

use rows::Rows;

/// Rows that are put in order at once, some 100 bytes each.
const ROWS_MAX: u64 = 1 << 20;
/// Offsets are counted in so many steps, to find out how many rows a part of them has.
const STEPS: usize = 4096;

/// How far a lane goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The lane.
    pub lane: TopicPartition,
    /// From its first entry to its last one.
    pub range: OffsetRange,
    /// Source time, µs UTC, before which readings were erased; none where none were.
    pub erased_until_us: Option<i64>,
}

/// Which readings are meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Patterns of machines (see [`stillwell_schema::pattern`]); all where there is none.
    pub machines: Vec<String>,
    /// From this source time on, µs UTC.
    pub from_us: Option<i64>,
}

impl Filter {
    fn has_machine(&self, machine: &str) -> bool {
        self.machines.is_empty() || self.machines.iter().any(|pattern| matches(pattern, machine))
    }

    /// Whether what a rule erased may be meant; it is taken so where that is not plain.
    fn may_have(&self, rule: &Rule) -> bool {
        let Some(erased) = rule.machines.as_deref() else { return false };
        let is_meant =
            |wanted: &String| matches(erased, wanted) || matches(wanted, erased) || both_open(erased, wanted);
        self.machines.is_empty() || self.machines.iter().any(is_meant)
    }
}

fn both_open(a: &str, b: &str) -> bool {
    a.contains('*') && b.contains('*')
}

/// How far each lane of an archive goes: now, or as of a moment (µs UTC), where the last entry that was written by
/// then ends. Lanes that held nothing then are left out.
///
/// # Errors
/// [`LifeError`] where a chain cannot be read.
pub fn extents(
    store: &dyn ArchiveStore,
    as_of_us: Option<i64>,
    filter: &Filter,
) -> Result<Vec<Extent>, LifeError> {
    let mut all = Vec::new();
    for lane in evidence::lanes(store, None)? {
        let Some(range) = range(store, &lane, as_of_us)? else { continue };
        let erased_until_us = erased_until(store, &lane, filter)?;
        all.push(Extent { lane, range, erased_until_us });
    }
    Ok(all)
}

fn range(
    store: &dyn ArchiveStore,
    lane: &TopicPartition,
    as_of_us: Option<i64>,
) -> Result<Option<OffsetRange>, LifeError> {
    let head = find_head(store, lane)?;
    let entries = match as_of_us {
        None => head.seq,
        Some(as_of_us) => entries_by(store, lane, head.seq, as_of_us)?,
    };
    let Some(last) = entries.checked_sub(1) else { return Ok(None) };
    let first = expect_entry(store, lane, 0)?.entry.range.first;
    let next = expect_entry(store, lane, last)?.entry.range.next;
    Ok(Some(OffsetRange { first, next }))
}

/// How many of the first `entries` entries were written by a moment. They are dated in order, unless a writer's
/// clock was set back; then it is one of the moments at which they go on past it.
fn entries_by(
    store: &dyn ArchiveStore,
    lane: &TopicPartition,
    entries: u64,
    as_of_us: i64,
) -> Result<u64, ManifestError> {
    let (mut low, mut high) = (0, entries);
    while low < high {
        let middle = low + (high - low) / 2;
        if expect_entry(store, lane, middle)?.entry.written_us <= as_of_us {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

/// The latest time before which any rule has erased what is meant.
fn erased_until(
    store: &dyn ArchiveStore,
    lane: &TopicPartition,
    filter: &Filter,
) -> Result<Option<i64>, ManifestError> {
    let mut until = None;
    read_view_seeing(store, lane, &mut |_, act| {
        if let Deed::Erase(erase) = &act.act.deed
            && erase.readings > 0
        {
            let rules = erase.rules.iter().filter(|rule| filter.may_have(rule));
            until = rules.map(|rule| rule.until_us).max().max(until);
        }
        Ok::<_, ManifestError>(())
    })?;
    Ok(until)
}

/// Readings of whole records, in the order of the log.
#[derive(Debug, Default)]
pub struct Batch {
    /// The readings, over the series table that was handed in.
    pub columns: ReadingColumns,
    /// Offset and Kafka timestamp, ms, of each record that they came in; `columns.record` counts these.
    pub records: Vec<(i64, i64)>,
    /// Everything that is meant below this offset has been shown.
    pub next: i64,
}

/// A walk along a lane. It holds on to the view that it began with: files that are superseded meanwhile stay for a
/// day.
pub struct Stretch {
    store: Arc<dyn ArchiveStore>,
    lane: TopicPartition,
    range: OffsetRange,
    filter: Filter,
    view: View,
    /// The end of the pieces that were taken.
    head: Head,
    /// The files of the piece at hand,
    files: Vec<Bytes>,
    /// the parts of it that are still to be read,
    parts: VecDeque<OffsetRange>,
    /// and what is left of the one that was.
    rows: Rows,
}

impl Stretch {
    /// The readings that are meant of the records in `range`.
    ///
    /// # Errors
    /// [`LifeError`] where the lane's ledger cannot be read.
    pub fn open(
        store: Arc<dyn ArchiveStore>,
        lane: TopicPartition,
        range: OffsetRange,
        filter: Filter,
    ) -> Result<Self, LifeError> {
        let view = read_view(&*store, &lane)?;
        Ok(Self {
            store,
            lane,
            range,
            filter,
            view,
            head: Head::genesis(),
            files: Vec::new(),
            parts: VecDeque::new(),
            rows: Rows::default(),
        })
    }

    /// The next readings, never none at all; nothing after the last. New series are added to `table`, which is the
    /// same at each call.
    ///
    /// # Errors
    /// [`LifeError`] where a file is missing, or is not as it was committed.
    pub fn next(&mut self, table: &mut SeriesTable) -> Result<Option<Batch>, LifeError> {
        loop {
            if let Some(batch) = self.rows.batch() {
                return Ok(Some(batch));
            }
            if let Some(part) = self.parts.pop_front() {
                self.read(part, table)?;
            } else if !self.turn()? {
                return Ok(None);
            }
        }
    }

    /// Turns to the next piece of the lane that may hold what is meant; false after the last.
    fn turn(&mut self) -> Result<bool, LifeError> {
        loop {
            if self.head.next.is_some_and(|next| next >= self.range.next) {
                return Ok(false);
            }
            let head = self.head.clone();
            let piece = Pieces::after(&*self.store, &self.lane, &self.view, head).next().transpose()?;
            let Some(piece) = piece else { return Ok(false) };
            self.head = piece.span.head();
            let part = OffsetRange {
                first: piece.span.range.first.max(self.range.first),
                next: piece.span.range.next.min(self.range.next),
            };
            let is_old = self.filter.from_us.zip(piece.time_us).is_some_and(|(from, (_, max))| max < from);
            if part.first < part.next && !is_old && !piece.readings.is_empty() {
                self.take(&piece, part)?;
                return Ok(true);
            }
        }
    }

    /// Loads a piece's files, and says in which parts they are read.
    fn take(&mut self, piece: &Piece, part: OffsetRange) -> Result<(), LifeError> {
        let files: Result<Vec<Bytes>, LifeError> =
            piece.readings.iter().map(|file| load(&*self.store, file)).collect();
        self.files = files?;
        let rows: u64 = piece.readings.iter().map(|file| file.rows).sum();
        self.parts = if rows <= ROWS_MAX { VecDeque::from([part]) } else { self.cut(part)? };
        Ok(())
    }

    /// Parts of some offsets that hold no more rows each than are put in order at once, as far as steps of offsets
    /// can tell.
    fn cut(&self, whole: OffsetRange) -> Result<VecDeque<OffsetRange>, LifeError> {
        let step = whole.len().div_ceil(STEPS as u64).max(1);
        let mut counts = vec![0u64; STEPS];
        for file in &self.files {
            let read = each_batch(file.clone(), Some(&["offset"]), &mut |batch| {
                let offsets = batch["offset"].as_primitive::<Int64Type>().values();
                for offset in offsets.iter().filter(|offset| whole.contains(Offset(**offset))) {
                    let at = (offset - whole.first.0).unsigned_abs() / step;
                    counts[usize::try_from(at).unwrap_or(STEPS).min(STEPS - 1)] += 1;
                }
            });
            read.map_err(LifeError::arrow(&self.lane))?;
        }
        let mut parts = VecDeque::new();
        let (mut first, mut rows) = (whole.first, 0);
        let starts = (0..).map(|at: u64| Offset(whole.first.0.saturating_add_unsigned(at * step)));
        for (start, count) in starts.zip(counts) {
            if rows > 0 && rows + count > ROWS_MAX && start < whole.next {
                parts.push_back(OffsetRange { first, next: start });
                (first, rows) = (start, 0);
            }
            rows += count;
        }
        parts.push_back(OffsetRange { first, next: whole.next });
        Ok(parts)
    }

    fn read(&mut self, part: OffsetRange, table: &mut SeriesTable) -> Result<(), LifeError> {
        self.rows = Rows::default();
        for file in &self.files {
            let (rows, filter) = (&mut self.rows, &self.filter);
            let read = each_batch(file.clone(), Some(&rows::COLUMNS), &mut |batch| {
                rows.take(batch, part, filter, table);
            });
            read.map_err(LifeError::arrow(&self.lane))?;
        }
        self.rows.sort(part.next.0);
        Ok(())
    }
}
