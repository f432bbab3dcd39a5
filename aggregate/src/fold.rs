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
//! Windows are written at two levels: those of 10 s, which are watched live, at every flush; those of all widths
//! now and then, where they are many. A lane goes on from where all of them are complete, and those that are
//! ahead know it by their version.
//!
//! A series knows which windows were never in use: those past every time that it has seen. That is what lets
//! a new window start without asking. Times are of two kinds: an *early* reading, whose time is more than a
//! day past its record's Kafka timestamp, comes from a clock that is wrong. It is folded into its own windows
//! as any other; but what counts as late, as current and as the last reading is judged by the others.

use std::collections::HashMap;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};

use rustc_hash::FxBuildHasher;
use stillwell_source::columns::ReadingColumns;
use stillwell_source::series::{NameCode, SeriesCode, SeriesTable};

use crate::window::{WIDTHS_US, Window, start_of};

mod groups;
mod guard;
mod level;
mod open;
mod parallel;
mod readings;
mod scores;
mod series;
mod totals;

pub use groups::Groups;
use groups::REFUSED;
use guard::Guard;
pub use guard::{Refused, SeriesLimits};
pub use level::{Level, Widths};
use parallel::Tally;
pub use readings::Origin;
use readings::Readings;
pub use scores::Scored;
pub use series::{Early, Latest, SeriesState, Stored};
use totals::KnownMachines;

/// Memory of a series' last reading and of its newest windows on their way to the store.
const CHANGED_BYTES: usize = 256 + 4 * size_of::<Window>();

/// A stored window that a chunk touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Missing {
    /// Whether it is one of a total.
    pub is_total: bool,
    /// Index into [`WIDTHS_US`].
    pub width: usize,
    /// The window's start, µs.
    pub start_us: i64,
    /// Series number within the lane.
    pub series: u32,
}

/// The state of a lane.
#[derive(Debug, Default)]
pub struct LaneFold {
    widths: Widths,
    guard: Guard,
    series: Vec<SeriesState>,
    /// Series number by code of the lane's table: codes that differ in kind or unit alone share one.
    numbers: Vec<u32>,
    by_name: HashMap<(NameCode, NameCode), u32, FxBuildHasher>,
    /// Rows of a chunk by series, while it is grouped.
    counts: Vec<u32>,
    /// Series that changed since they were last sent, by level.
    dirty: [Vec<u32>; Level::COUNT],
    /// Memory of what changed in them since they were last sent at any level.
    dirty_bytes: usize,
    /// Memory of windows that wait for the coarser level.
    coarse_bytes: usize,
    /// Series of the snapshot that is on its way.
    flying: Vec<u32>,
    /// Scores whose windows are not in memory.
    unscored: Vec<Scored>,
    /// What the series of each machine and kind come to, if that is kept.
    totals: Option<Box<LaneFold>>,
    /// For totals: what was stored of each machine.
    known: KnownMachines,
    /// Readings below this offset are in the two counts that follow.
    pub counted_from: i64,
    /// Readings folded in, in the lane's whole life.
    pub readings: u64,
    /// Those that came when their 10 s window had ended.
    pub late: u64,
}

impl Missing {
    fn new(series: u32, width: usize, start_us: i64) -> Self {
        Self { is_total: false, width, start_us, series }
    }

    fn of_total(self) -> Self {
        Self { is_total: true, ..self }
    }

    /// Each once, those of one table together.
    pub(crate) fn in_order(mut all: Vec<Self>) -> Vec<Self> {
        all.sort_unstable();
        all.dedup();
        all
    }
}

impl LaneFold {
    /// One that keeps windows of these widths.
    #[must_use]
    pub fn new(widths: Widths) -> Self {
        Self { widths, ..Self::default() }
    }

    /// The widths of its windows.
    #[must_use]
    pub fn widths(&self) -> Widths {
        self.widths
    }

    /// Takes in no more series than that; `total` counts those of all lanes that share it.
    #[must_use]
    pub fn within(self, limits: SeriesLimits, total: Arc<AtomicUsize>) -> Self {
        Self { guard: Guard::new(limits, total), ..self }
    }

    /// The series of this name, known or new.
    pub fn series_of(&mut self, machine: NameCode, sensor: NameCode) -> u32 {
        let next = u32::try_from(self.series.len()).unwrap_or(REFUSED);
        let number = *self.by_name.entry((machine, sensor)).or_insert(next);
        if number == next {
            self.series.push(SeriesState::new(machine, sensor));
            self.guard.take(machine);
        }
        number
    }

    /// The series of this name, if it is known or there is room for it.
    fn admit(&mut self, machine: NameCode, sensor: NameCode) -> u32 {
        let is_known = self.by_name.contains_key(&(machine, sensor));
        if is_known || self.guard.allows(machine, sensor) { self.series_of(machine, sensor) } else { REFUSED }
    }

    /// Goes on with what the lane's owners before have refused of a machine, from offset `since` on.
    pub(crate) fn restore_refused(&mut self, machine: NameCode, refused: Refused, since: i64) {
        self.guard.restore(machine, refused, since);
    }

    /// What was refused of the machines of which more was since it was last asked for, and since which offset; `start`
    /// is where the lane began.
    pub fn take_refused(&mut self, start: i64) -> Vec<(NameCode, Refused, i64)> {
        self.guard.take_changed(start)
    }

    /// Series that were not taken in.
    #[must_use]
    pub fn refused_series(&self) -> usize {
        self.guard.refused_series()
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

    /// Memory of windows that wait for all widths to be sent.
    #[must_use]
    pub fn coarse_bytes(&self) -> usize {
        self.coarse_bytes + self.totals.as_ref().map_or(0, |totals| totals.dirty_bytes)
    }

    /// Whether a series of the table was not taken in.
    #[must_use]
    pub fn is_refused(&self, code: SeriesCode) -> bool {
        self.numbers.get(code as usize) == Some(&REFUSED)
    }

    /// The series of this name, where it was taken in.
    #[must_use]
    pub fn number_of(&self, machine: NameCode, sensor: NameCode) -> Option<u32> {
        self.by_name.get(&(machine, sensor)).copied()
    }

    /// Groups a chunk's readings by series, and says which stored windows are needed first, sorted.
    pub fn gather(&mut self, columns: &ReadingColumns, table: &SeriesTable) -> (Groups, Vec<Missing>) {
        for code in self.numbers.len()..table.len() {
            let series = table.all()[code];
            let number = self.admit(series.machine, series.sensor);
            self.numbers.push(number);
            if let Some(totals) = &mut self.totals {
                let is_in = number != REFUSED;
                let total = if is_in { totals.total_of(series.machine, series.kind) } else { REFUSED };
                totals.numbers.push(total);
            }
        }
        let (mut groups, mut missing) = self.group(columns);
        for &(code, readings) in groups.refused() {
            self.guard.count(table.series(code).machine, readings);
        }
        if let Some(totals) = &mut self.totals {
            let (of_totals, more) = totals.group(columns);
            groups.totals = Some(Box::new(of_totals));
            missing.extend(more.into_iter().map(Missing::of_total));
        }
        (groups, Missing::in_order(missing))
    }

    /// Groups a chunk's readings, and says which windows they touch that are not in memory.
    fn group(&mut self, columns: &ReadingColumns) -> (Groups, Vec<Missing>) {
        let groups = Groups::new(columns, &self.numbers, self.series.len(), &mut self.counts);
        let mut missing = Vec::new();
        for (number, rows) in groups.iter() {
            let state = &self.series[number as usize];
            let min = rows.iter().map(|&row| columns.time_us[row as usize]).min().unwrap_or(i64::MAX);
            if state.knows_all_from(min) {
                continue;
            }
            for &row in rows {
                missing.extend(
                    state
                        .missing(columns.time_us[row as usize], self.widths)
                        .map(|(width, start_us)| Missing::new(number, width, start_us)),
                );
            }
        }
        (groups, missing)
    }

    /// Puts a window in that [`LaneFold::gather`] asked for: as stored, or empty where none is.
    pub fn insert(&mut self, missing: Missing, window: Window) {
        let Missing { is_total, series, width, .. } = missing;
        match &mut self.totals {
            Some(totals) if is_total => totals.series[series as usize].insert(width, window),
            _ => self.series[series as usize].insert(width, window),
        }
    }

    /// The series or total of a window.
    #[must_use]
    pub fn of(&self, missing: Missing) -> &SeriesState {
        let totals = self.totals.as_deref().filter(|_| missing.is_total);
        &totals.unwrap_or(self).series[missing.series as usize]
    }

    /// Folds a gathered chunk in; `origins` are those of its records.
    pub fn apply(
        &mut self,
        origins: &[Origin],
        columns: &ReadingColumns,
        groups: &Groups,
        table: &SeriesTable,
    ) {
        let (widths, counted_from) = (self.widths, self.counted_from);
        let late = Mutex::default();
        let late_to = self.totals.is_some().then_some(&late);
        let readings = Readings { columns, origins, table, widths, counted_from, late: &[], late_to };
        let tally = parallel::apply(&mut self.series, groups, &readings);
        for (number, _) in groups.iter() {
            self.mark(number);
        }
        self.grow(tally);
        self.late += tally.late;
        self.readings += readings.counted();
        self.apply_to_totals(origins, columns, groups, table, late);
    }

    fn grow(&mut self, tally: Tally) {
        self.dirty_bytes += tally.bytes;
        self.coarse_bytes += tally.coarse_bytes;
    }

    fn mark(&mut self, number: u32) {
        let state = &mut self.series[number as usize];
        state.is_used = true;
        for level in Level::EACH {
            if !std::mem::replace(&mut state.is_listed[level as usize], true) {
                self.dirty[level as usize].push(number);
                self.dirty_bytes += CHANGED_BYTES / Level::COUNT;
            }
        }
    }

    /// The series that changed since they were last sent at this level, sorted, and with all that they hold in
    /// their windows; they are then no longer listed. The caller encodes them, and hands them back to
    /// [`LaneFold::sent`] before anything else is folded.
    pub fn take_dirty(&mut self, level: Level) -> Vec<u32> {
        let mut dirty = std::mem::take(&mut self.dirty[level as usize]);
        dirty.sort_unstable();
        let tally = parallel::settle(&mut self.series, &dirty, self.widths);
        self.grow(tally);
        for &number in &dirty {
            self.series[number as usize].is_listed[level as usize] = false;
        }
        if level == Level::All {
            self.coarse_bytes = 0;
            // What is new at all is new at the finer level, too.
            for number in std::mem::take(&mut self.dirty[Level::Fine as usize]) {
                self.series[number as usize].is_listed[Level::Fine as usize] = false;
            }
        }
        self.dirty_bytes = 0;
        dirty
    }

    /// Series that changed since they were last sent at this level.
    #[must_use]
    pub fn changed(&self, level: Level) -> usize {
        self.dirty[level as usize].len()
    }

    /// What these series hold is on its way to the store, complete up to `version`.
    pub fn sent(&mut self, series: Vec<u32>, level: Level, version: i64) {
        debug_assert!(self.flying.is_empty(), "one snapshot at a time");
        for &number in &series {
            self.series[number as usize].sent(level, version);
        }
        self.flying = series;
    }

    /// What was sent is stored: windows go that only late data can touch, unless they have changed since.
    pub fn landed(&mut self) {
        for number in std::mem::take(&mut self.flying) {
            self.series[number as usize].evict();
        }
        if let Some(totals) = &mut self.totals {
            totals.landed();
        }
    }

    /// Lets the windows go of series that did not change since this was last called; how many did. Nothing may be
    /// on its way to the store.
    pub fn evict_unused(&mut self) -> usize {
        debug_assert!(self.flying.is_empty(), "what is on its way is not stored");
        let totals = self.totals.as_mut().map_or(0, |totals| totals.evict_unused());
        totals + self.series.iter_mut().map(|state| usize::from(state.evict_unused())).sum::<usize>()
    }

    /// Bytes of memory held; looks at each series.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.series.iter().map(SeriesState::memory_bytes).sum::<usize>()
            + (self.series.capacity() - self.series.len()) * size_of::<SeriesState>()
            + (self.numbers.capacity() + self.counts.capacity()) * 4
            + self.by_name.capacity() * (size_of::<((NameCode, NameCode), u32)>() + 1)
            + self.totals.as_ref().map_or(0, |totals| totals.memory_bytes())
    }
}

/// Start of the window of each width that holds `time_us`.
pub(crate) fn starts(time_us: i64) -> [i64; 4] {
    WIDTHS_US.map(|width| start_of(time_us, width))
}

#[cfg(test)]
mod tests;
