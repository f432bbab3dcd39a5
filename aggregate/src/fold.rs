//! A lane's readings folded into the windows of its series.
//!
//! A chunk is folded in three steps, so that no CPU work waits for I/O: [`LaneFold::gather`] groups its
//! readings by series and says which stored windows it touches that are not in memory; the caller brings
//! those ([`LaneFold::insert`]); [`LaneFold::apply`] folds, series by series, in parallel.
//!
//! What changed goes out as one snapshot at a time: [`LaneFold::take_dirty`] and [`LaneFold::sent`] hand it
//! over, [`LaneFold::landed`] says that it is stored.
//!
//! **Invariant:** a window that is not in memory is stored as it was last in memory, or was never in use. So
//! nothing leaves memory between `sent` and `landed`, nor while it holds changes that were not sent; and what
//! is brought is never older than what was folded.
//!
//! A series knows which windows were never in use: those past every time that it has seen. That is what lets
//! a new window start without asking. Times are of two kinds: an *early* reading, whose time is more than a
//! day past its record's Kafka timestamp, comes from a clock that is wrong. It is folded into its own windows
//! as any other; but what counts as late, as current and as the last reading is judged by the others.

use std::ops::Add;

use stillwell_schema::quality;
use stillwell_source::chunk::{RecordChunk, RecordRef};
use stillwell_source::columns::ReadingColumns;
use stillwell_source::series::{NameCode, SeriesTable};

use crate::window::{Fold, WIDTHS_US, Window, start_of};

mod groups;
mod series;

pub use groups::Groups;
pub use series::{Early, Latest, SeriesState};

/// Series are shared out to threads in runs of at least so many.
const SERIES_PER_TASK_MIN: usize = 128;

/// A reading whose time is further past its record's Kafka timestamp is early. A day leaves room for clocks
/// that tell local time.
const EARLY_US: i64 = 86_400_000_000;

/// Memory of a series' last reading on its way to the store.
const LATEST_BYTES: usize = 256;

/// A stored window that a chunk touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Missing {
    /// Index into [`WIDTHS_US`].
    pub width: usize,
    /// Series number within the lane.
    pub series: u32,
    /// The window's start, µs.
    pub start_us: i64,
}

/// The state of a lane.
#[derive(Debug, Default)]
pub struct LaneFold {
    series: Vec<SeriesState>,
    /// Series number by code of the lane's table: codes that differ in kind or unit alone share one.
    numbers: Vec<u32>,
    by_name: std::collections::HashMap<(NameCode, NameCode), u32, rustc_hash::FxBuildHasher>,
    /// Series that changed since they were last sent.
    dirty: Vec<u32>,
    /// Memory of what changed in them.
    dirty_bytes: usize,
    /// Series of the snapshot that is on its way.
    flying: Vec<u32>,
    /// Readings folded in, in the lane's whole life.
    pub readings: u64,
    /// Those that came when their 10 s window had ended. A reading that is replayed into a window that holds
    /// it already is not counted again.
    pub late: u64,
}

impl LaneFold {
    /// The series of this name, known or new.
    pub fn series_of(&mut self, machine: NameCode, sensor: NameCode) -> u32 {
        let next = u32::try_from(self.series.len()).unwrap_or(u32::MAX);
        let number = *self.by_name.entry((machine, sensor)).or_insert(next);
        if number == next {
            self.series.push(SeriesState::new(machine, sensor));
        }
        number
    }

    /// One series.
    #[must_use]
    pub fn series(&self, number: u32) -> &SeriesState {
        &self.series[number as usize]
    }

    /// One series, to be changed.
    pub fn series_mut(&mut self, number: u32) -> &mut SeriesState {
        &mut self.series[number as usize]
    }

    /// Number of series.
    #[must_use]
    pub fn len(&self) -> usize {
        self.series.len()
    }

    /// Whether there is no series yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// Memory of what changed since it was last sent.
    #[must_use]
    pub fn dirty_bytes(&self) -> usize {
        self.dirty_bytes
    }

    /// Groups a chunk's readings by series, and says which stored windows are needed first, sorted.
    pub fn gather(&mut self, columns: &ReadingColumns, table: &SeriesTable) -> (Groups, Vec<Missing>) {
        for code in self.numbers.len()..table.len() {
            let series = table.all()[code];
            let number = self.series_of(series.machine, series.sensor);
            self.numbers.push(number);
        }
        let groups = Groups::new(columns, &self.numbers, self.series.len());
        let mut missing = Vec::new();
        for (number, rows) in groups.iter() {
            let state = &self.series[number as usize];
            let min = rows.iter().map(|&row| columns.time_us[row as usize]).min().unwrap_or(i64::MAX);
            if state.knows_all_from(min) {
                continue;
            }
            for &row in rows {
                missing.extend(
                    state.missing(columns.time_us[row as usize]).map(|(width, start_us)| Missing {
                        width,
                        series: number,
                        start_us,
                    }),
                );
            }
        }
        missing.sort_unstable();
        missing.dedup();
        (groups, missing)
    }

    /// Puts a window in that [`LaneFold::gather`] asked for: as stored, or empty where none is.
    pub fn insert(&mut self, series: u32, width: usize, window: Window) {
        self.series[series as usize].insert(width, window);
    }

    /// Folds a gathered chunk in.
    pub fn apply(
        &mut self,
        chunk: &RecordChunk,
        columns: &ReadingColumns,
        groups: &Groups,
        table: &SeriesTable,
    ) {
        let origins: Vec<Origin> = chunk.records().map(|record| Origin::of(&record)).collect();
        let readings = Readings { columns, origins: &origins, table };
        let tally = apply(&mut self.series, 0, groups, 0..groups.len(), &readings);
        for (number, _) in groups.iter() {
            self.mark(number);
        }
        self.dirty_bytes += tally.bytes;
        self.late += tally.late;
        self.readings += columns.len() as u64;
    }

    /// Folds a score into the windows of a series that hold `time_us`; `offset` is that of the record which
    /// completed the scored row.
    pub fn score(&mut self, series: u32, time_us: i64, offset: i64, score: f32) {
        if let Some(bytes) = self.series[series as usize].score(time_us, offset, score) {
            self.dirty_bytes += bytes;
            self.mark(series);
        }
    }

    /// Takes note of the last score of a row that the series is part of.
    pub fn score_latest(&mut self, series: u32, score: f32) {
        if self.series[series as usize].score_latest(score) {
            self.mark(series);
        }
    }

    /// Stored windows of a series that hold `time_us` and are not in memory.
    pub fn missing(&self, series: u32, time_us: i64) -> impl Iterator<Item = Missing> + use<> {
        let missing: Vec<(usize, i64)> = self.series[series as usize].missing(time_us).collect();
        missing.into_iter().map(move |(width, start_us)| Missing { width, series, start_us })
    }

    fn mark(&mut self, number: u32) {
        let state = &mut self.series[number as usize];
        if !std::mem::replace(&mut state.is_listed, true) {
            self.dirty.push(number);
            self.dirty_bytes += LATEST_BYTES;
        }
    }

    /// The series that changed, which are then no longer listed; the caller encodes them, and hands them back
    /// to [`LaneFold::sent`] before anything else is folded.
    pub fn take_dirty(&mut self) -> Vec<u32> {
        let dirty = std::mem::take(&mut self.dirty);
        self.dirty_bytes = 0;
        for &number in &dirty {
            self.series[number as usize].is_listed = false;
        }
        dirty
    }

    /// What these series hold is on its way to the store, complete up to `version`.
    pub fn sent(&mut self, series: Vec<u32>, version: i64) {
        debug_assert!(self.flying.is_empty(), "one snapshot at a time");
        for &number in &series {
            self.series[number as usize].sent(version);
        }
        self.flying = series;
    }

    /// What was sent is stored: windows go that only late data can touch, unless they have changed since.
    pub fn landed(&mut self) {
        for number in std::mem::take(&mut self.flying) {
            self.series[number as usize].evict();
        }
    }
}

/// What a record says of its readings.
#[derive(Clone, Copy)]
pub(crate) struct Origin {
    pub(crate) offset: i64,
    /// Readings of a later time are early.
    early_after_us: i64,
}

impl Origin {
    pub(crate) fn of(record: &RecordRef<'_>) -> Self {
        // A broker that does not know says -1, a client that does not know 0: then nothing is early.
        let is_known = record.timestamp_ms > 0;
        let early_after_us = if is_known {
            record.timestamp_ms.saturating_mul(1000).saturating_add(EARLY_US)
        } else {
            i64::MAX
        };
        Self { offset: record.offset.0, early_after_us }
    }

    /// Whether a reading of this time is early.
    pub(crate) fn is_early(self, time_us: i64) -> bool {
        time_us > self.early_after_us
    }
}

/// A chunk's readings.
pub(crate) struct Readings<'a> {
    pub(crate) columns: &'a ReadingColumns,
    /// By record of the chunk.
    pub(crate) origins: &'a [Origin],
    pub(crate) table: &'a SeriesTable,
}

impl Readings<'_> {
    pub(crate) fn offset(&self, row: usize) -> i64 {
        self.origins[self.columns.record[row] as usize].offset
    }

    pub(crate) fn is_early(&self, row: usize) -> bool {
        self.origins[self.columns.record[row] as usize].is_early(self.columns.time_us[row])
    }

    fn is_bad(&self, row: usize) -> bool {
        quality::is_bad(self.columns.quality[row])
    }

    /// Whether a window holds anything of it: a string state of good quality leaves nothing.
    pub(crate) fn counts(&self, row: usize) -> bool {
        self.columns.has_value[row] || self.is_bad(row)
    }

    /// Folds a reading in.
    #[inline]
    pub(crate) fn fold(&self, row: usize, fold: &mut Fold) {
        if self.columns.has_value[row] {
            fold.add(self.columns.time_us[row], self.columns.value[row], self.is_bad(row));
        } else {
            fold.add_valueless(self.is_bad(row));
        }
    }

    /// A reading as its series' last.
    pub(crate) fn latest(&self, row: usize, score: Option<f32>) -> Latest {
        let columns = self.columns;
        let number = u32::try_from(row).unwrap_or(u32::MAX);
        let text = columns.text.binary_search_by_key(&number, |cell| cell.row).ok().map(|at| {
            let cell = columns.text[at];
            columns.text_bytes[cell.start as usize..cell.end as usize].to_owned()
        });
        let value = columns.has_value[row].then_some(columns.value[row]);
        Latest { time_us: columns.time_us[row], value, text, quality: columns.quality[row], score }
    }
}

/// What folding has come to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    /// Late readings.
    pub(crate) late: u64,
    /// Memory by which what is to be written has grown.
    pub(crate) bytes: usize,
}

impl Add for Tally {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { late: self.late + other.late, bytes: self.bytes + other.bytes }
    }
}

/// Folds the groups of `range`, halving it over the threads of the pool; `states` starts at series number
/// `base`.
fn apply(
    states: &mut [SeriesState],
    base: usize,
    groups: &Groups,
    range: std::ops::Range<usize>,
    readings: &Readings<'_>,
) -> Tally {
    if range.len() <= SERIES_PER_TASK_MIN {
        return range
            .map(|group| {
                let (number, rows) = groups.get(group);
                states[number as usize - base].apply(rows, readings)
            })
            .fold(Tally::default(), Tally::add);
    }
    let middle = range.start + range.len() / 2;
    let cut = groups.get(middle).0 as usize;
    let (left, right) = states.split_at_mut(cut - base);
    let (a, b) = rayon::join(
        || apply(left, base, groups, range.start..middle, readings),
        || apply(right, cut, groups, middle..range.end, readings),
    );
    a + b
}

/// Start of the window of each width that holds `time_us`.
pub(crate) fn starts(time_us: i64) -> [i64; 4] {
    WIDTHS_US.map(|width| start_of(time_us, width))
}

#[cfg(test)]
mod tests;
