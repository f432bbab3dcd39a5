//! A lane's readings folded into the windows of its series.
//!
//! A chunk is folded in three steps, so that no CPU work waits for I/O: [`LaneFold::gather`] groups its
//! readings by series and says which stored windows it touches that are not in memory; the caller brings
//! those ([`LaneFold::insert`]); [`LaneFold::apply`] folds, series by series, in parallel.
//!
//! A series holds the windows from `known_from` on, or knows that they were never written: that is what lets
//! a new window start without asking. Older windows are in memory only where late data touched them.

use stillwell_schema::quality;
use stillwell_source::chunk::RecordChunk;
use stillwell_source::columns::ReadingColumns;
use stillwell_source::series::{NameCode, SeriesTable};

use crate::window::{WIDTHS_US, Window, start_of};

mod groups;
mod series;

pub use groups::Groups;
pub use series::{Latest, SeriesState};

/// Series are shared out to threads in runs of at least so many.
const SERIES_PER_TASK_MIN: usize = 128;

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
    /// Series that changed since they were last written.
    dirty: Vec<u32>,
    /// Readings folded in, in the lane's whole life.
    pub readings: u64,
    /// Those that came when their 10 s window had ended.
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

    /// How many series changed since they were last written.
    #[must_use]
    pub fn dirty(&self) -> usize {
        self.dirty.len()
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
            if state.knows_from(min) {
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
        let offsets: Vec<i64> = chunk.records().map(|record| record.offset.0).collect();
        let readings = Readings { columns, offsets: &offsets, table };
        let late = apply(&mut self.series, 0, groups, 0..groups.len(), &readings);
        for (number, _) in groups.iter() {
            self.mark(number);
        }
        self.late += late;
        self.readings += columns.len() as u64;
    }

    /// Folds a score into the windows of a series that hold `time_us`; `offset` is that of the record which
    /// completed the scored row.
    pub fn score(&mut self, series: u32, time_us: i64, offset: i64, score: f32) {
        if self.series[series as usize].score(time_us, offset, score) {
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
        }
    }

    /// The series that changed, which are then no longer listed; the caller writes them.
    pub fn take_dirty(&mut self) -> Vec<u32> {
        let dirty = std::mem::take(&mut self.dirty);
        for &number in &dirty {
            self.series[number as usize].is_listed = false;
        }
        dirty
    }

    /// Marks what was written as clean, complete up to `version`, and lets windows go that only late data
    /// can touch.
    pub fn written(&mut self, series: &[u32], version: i64) {
        for &number in series {
            self.series[number as usize].written(version);
        }
    }
}

/// A chunk's readings.
pub(crate) struct Readings<'a> {
    pub(crate) columns: &'a ReadingColumns,
    /// Offset of each record of the chunk.
    pub(crate) offsets: &'a [i64],
    pub(crate) table: &'a SeriesTable,
}

impl Readings<'_> {
    pub(crate) fn offset(&self, row: usize) -> i64 {
        self.offsets[self.columns.record[row] as usize]
    }

    pub(crate) fn is_bad(&self, row: usize) -> bool {
        quality::is_bad(self.columns.quality[row])
    }
}

/// Folds the groups of `range`, halving it over the threads of the pool; `states` starts at series number
/// `base`. Gives the number of late readings.
fn apply(
    states: &mut [SeriesState],
    base: usize,
    groups: &Groups,
    range: std::ops::Range<usize>,
    readings: &Readings<'_>,
) -> u64 {
    if range.len() <= SERIES_PER_TASK_MIN {
        return range
            .map(|group| {
                let (number, rows) = groups.get(group);
                states[number as usize - base].apply(rows, readings)
            })
            .sum();
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
