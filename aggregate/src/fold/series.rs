//! One series of a lane: its windows and its last reading.

use stillwell_source::series::NameCode;

use super::{Readings, Tally, starts};
use crate::window::{Fold, WIDTHS_US, Window, start_of};

/// Room for windows that a series keeps whatever happened to it: the current ones and a few late ones.
const WINDOWS_KEPT: usize = 4;

/// The last reading of a series.
#[derive(Clone, Debug, PartialEq)]
pub struct Latest {
    /// Its time, µs.
    pub time_us: i64,
    /// Its value, if it has one.
    pub value: Option<f64>,
    /// Its string state, if it has one.
    pub text: Option<String>,
    /// Its quality.
    pub quality: u32,
    /// The last score of a row that the series was part of.
    pub score: Option<f32>,
}

/// The times of early readings that are past all others: windows in between may be in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Early {
    /// The first, µs.
    pub from_us: i64,
    /// The last, µs.
    pub until_us: i64,
}

impl Early {
    fn holds(&self, width: usize, start_us: i64) -> bool {
        let start = |time_us| start_of(time_us, WIDTHS_US[width]);
        (start(self.from_us)..=start(self.until_us)).contains(&start_us)
    }
}

/// A series.
#[derive(Clone, Debug)]
pub struct SeriesState {
    /// Machine name.
    pub machine: NameCode,
    /// Sensor name.
    pub sensor: NameCode,
    /// Kind of its last reading.
    pub kind: Option<NameCode>,
    /// Unit of its last reading.
    pub unit: Option<NameCode>,
    /// Its last reading, an early one only where there are no others; none before the first.
    pub latest: Option<Latest>,
    /// Per width, sorted by start.
    windows: [Vec<Window>; 4],
    /// Per width: windows from here on are in memory, or were never in use, but for those within `early`.
    known_from: [i64; 4],
    /// Largest time seen but for early readings, µs; `i64::MIN` before the first.
    high_us: i64,
    /// Early readings past `high_us`.
    early: Option<Early>,
    /// Whether the lane lists it as changed.
    pub(super) is_listed: bool,
}

impl SeriesState {
    pub(super) fn new(machine: NameCode, sensor: NameCode) -> Self {
        Self {
            machine,
            sensor,
            kind: None,
            unit: None,
            latest: None,
            windows: Default::default(),
            known_from: [i64::MIN; 4],
            high_us: i64::MIN,
            early: None,
            is_listed: false,
        }
    }

    /// Takes over what is stored of it: windows up to that of its last reading may be, and early ones.
    pub fn restore(
        &mut self,
        kind: Option<NameCode>,
        unit: Option<NameCode>,
        latest: Latest,
        early: Option<Early>,
    ) {
        (self.kind, self.unit) = (kind, unit);
        // Early times are past all others: a last reading that is among them says that there are no others.
        if early.is_none_or(|early| latest.time_us < early.until_us) {
            self.high_us = latest.time_us;
            self.ask_up_to(latest.time_us);
        }
        self.early = early;
        self.latest = Some(latest);
    }

    /// Windows of a width, by start.
    #[must_use]
    pub fn windows(&self, width: usize) -> &[Window] {
        &self.windows[width]
    }

    /// Times of early readings that are past all others.
    #[must_use]
    pub fn early(&self) -> Option<Early> {
        self.early
    }

    /// Whether all windows of readings from `time_us` on are at hand.
    pub(super) fn knows_all_from(&self, time_us: i64) -> bool {
        self.early.is_none()
            && starts(time_us).iter().zip(&self.known_from).all(|(start, from)| start >= from)
    }

    /// The windows of a reading at `time_us` that must be brought first.
    pub(super) fn missing(&self, time_us: i64) -> impl Iterator<Item = (usize, i64)> {
        starts(time_us)
            .into_iter()
            .enumerate()
            .filter(|&(width, start)| self.may_be_stored(width, start) && self.find(width, start).is_err())
    }

    fn may_be_stored(&self, width: usize, start_us: i64) -> bool {
        start_us < self.known_from[width] || self.early.is_some_and(|early| early.holds(width, start_us))
    }

    /// From now on windows up to those of `time_us` count as stored, unless they are in memory.
    fn ask_up_to(&mut self, time_us: i64) {
        for (width, start) in starts(time_us).into_iter().enumerate() {
            self.known_from[width] = self.known_from[width].max(start + WIDTHS_US[width]);
        }
    }

    pub(super) fn insert(&mut self, width: usize, window: Window) {
        if let Err(at) = self.find(width, window.start_us) {
            self.windows[width].insert(at, window);
        }
    }

    fn find(&self, width: usize, start_us: i64) -> Result<usize, usize> {
        let windows = &self.windows[width];
        match windows.last() {
            Some(last) if last.start_us == start_us => Ok(windows.len() - 1),
            Some(last) if last.start_us > start_us => windows.binary_search_by_key(&start_us, |w| w.start_us),
            _ => Err(windows.len()),
        }
    }

    fn window(&mut self, width: usize, start_us: i64) -> &mut Window {
        let at = self.find(width, start_us).unwrap_or_else(|at| {
            self.windows[width].insert(at, Window { start_us, ..Window::default() });
            at
        });
        &mut self.windows[width][at]
    }

    /// Folds its rows of a chunk in, in order of arrival.
    pub(super) fn apply(&mut self, rows: &[u32], readings: &Readings<'_>) -> Tally {
        let times = &readings.columns.time_us;
        let mut tally = Tally::default();
        let mut delta = Fold::default();
        let mut rest = rows;
        while let Some(&first) = rest.first() {
            let start = start_of(times[first as usize], WIDTHS_US[0]);
            let len =
                rest.iter().take_while(|&&row| start_of(times[row as usize], WIDTHS_US[0]) == start).count();
            let (run, later) = rest.split_at(len);
            let starts = starts(start);
            // A window that was written ahead of its lane's position holds some of these readings already.
            let first_offset = readings.offset(run[0] as usize);
            let is_ahead =
                (0..WIDTHS_US.len()).any(|width| self.version(width, starts[width]) > first_offset);
            tally = tally
                + if is_ahead {
                    self.apply_each(starts, run, readings)
                } else {
                    self.apply_run(starts, run, readings, &mut delta)
                };
            rest = later;
        }
        if let Some(&last) = rows.last() {
            let series = readings.table.series(readings.columns.series[last as usize]);
            (self.kind, self.unit) = (series.kind, series.unit);
        }
        tally
    }

    fn version(&self, width: usize, start_us: i64) -> i64 {
        self.find(width, start_us).map_or(0, |at| self.windows[width][at].version)
    }

    /// Folds a run of one 10 s window, none of which is in its windows yet: once, and then into each.
    fn apply_run(
        &mut self,
        starts: [i64; 4],
        run: &[u32],
        readings: &Readings<'_>,
        delta: &mut Fold,
    ) -> Tally {
        let mut tally = Tally::default();
        let (mut late, mut counted) = ([0; 4], false);
        let mut histogram = std::mem::take(&mut delta.histogram);
        histogram.clear();
        *delta = Fold { histogram, ..Fold::default() };
        for &row in run {
            let row = row as usize;
            let is_late = self.lateness(starts);
            tally.late += u64::from(is_late[0]);
            if readings.counts(row) {
                readings.fold(row, delta);
                (0..4).for_each(|width| late[width] += u64::from(is_late[width]));
                counted = true;
            }
            self.see(row, readings);
        }
        if counted {
            for (width, late) in late.into_iter().enumerate() {
                delta.late = late;
                tally.bytes += self.change(width, starts[width], |fold| fold.merge(delta));
            }
        }
        tally
    }

    /// Folds a run of one 10 s window, reading by reading, into those windows that do not hold it yet.
    fn apply_each(&mut self, starts: [i64; 4], run: &[u32], readings: &Readings<'_>) -> Tally {
        let mut tally = Tally::default();
        for &row in run {
            let row = row as usize;
            let is_late = self.lateness(starts);
            let is_new: [bool; 4] =
                std::array::from_fn(|width| readings.offset(row) >= self.version(width, starts[width]));
            tally.late += u64::from(is_late[0] && is_new[0]);
            for width in (0..4).filter(|&width| is_new[width] && readings.counts(row)) {
                tally.bytes += self.change(width, starts[width], |fold| {
                    readings.fold(row, fold);
                    fold.late += u64::from(is_late[width]);
                });
            }
            self.see(row, readings);
        }
        tally
    }

    /// Which of these windows have ended.
    fn lateness(&self, starts: [i64; 4]) -> [bool; 4] {
        std::array::from_fn(|width| starts[width] + WIDTHS_US[width] <= self.high_us)
    }

    /// Changes a window; gives the memory by which what is to be written has grown.
    fn change(&mut self, width: usize, start_us: i64, change: impl FnOnce(&mut Fold)) -> usize {
        let window = self.window(width, start_us);
        let before = if window.dirty { window.memory_bytes() } else { 0 };
        change(&mut window.fold);
        window.dirty = true;
        window.memory_bytes().saturating_sub(before)
    }

    /// Takes note of a reading's time, and of the reading where it is the last; of equal times the one that
    /// came last is.
    fn see(&mut self, row: usize, readings: &Readings<'_>) {
        let time_us = readings.columns.time_us[row];
        let is_last = if readings.is_early(row) {
            self.see_early(time_us)
        } else {
            let is_last = time_us >= self.high_us;
            self.high_us = self.high_us.max(time_us);
            self.end_early();
            is_last
        };
        if is_last {
            let score = self.latest.take().and_then(|latest| latest.score);
            self.latest = Some(readings.latest(row, score));
        }
    }

    /// Takes note of an early reading; whether it is the last one.
    fn see_early(&mut self, time_us: i64) -> bool {
        if time_us > self.high_us {
            let early = self.early.get_or_insert(Early { from_us: time_us, until_us: time_us });
            early.from_us = early.from_us.min(time_us);
            early.until_us = early.until_us.max(time_us);
        }
        let is_first = |latest: &Latest| latest.time_us <= time_us;
        self.high_us == i64::MIN && self.latest.as_ref().is_none_or(is_first)
    }

    /// Early readings that the others have caught up with are early no more.
    fn end_early(&mut self) {
        if let Some(early) = self.early.take_if(|early| early.until_us <= self.high_us) {
            self.ask_up_to(early.until_us);
        }
    }

    /// Folds a score in; where that changed anything, the memory by which what is to be written has grown.
    pub(super) fn score(&mut self, time_us: i64, offset: i64, score: f32) -> Option<usize> {
        let mut grown = None;
        for (width, start) in starts(time_us).into_iter().enumerate() {
            let Ok(at) = self.find(width, start) else { continue };
            let window = &self.windows[width][at];
            if offset >= window.version && score > window.fold.score {
                let bytes = self.change(width, start, |fold| fold.score = score);
                grown = Some(grown.unwrap_or(0) + bytes);
            }
        }
        grown
    }

    /// Notes the last score; whether it is another.
    pub(super) fn score_latest(&mut self, score: f32) -> bool {
        let Some(latest) = &mut self.latest else { return false };
        let changed = latest.score != Some(score);
        latest.score = Some(score);
        changed
    }

    /// Its windows are on their way to the store, complete up to `version`.
    pub(super) fn sent(&mut self, version: i64) {
        for window in self.windows.iter_mut().flatten().filter(|window| window.dirty) {
            window.version = version;
            window.dirty = false;
        }
    }

    /// Lets stored windows go that only late data can touch: the current one of each width and the one before
    /// stay, by the time of early readings and by that of the others.
    pub(super) fn evict(&mut self) {
        let high = Some(self.high_us).filter(|&high| high > i64::MIN);
        let tops = [high, self.early.map(|early| early.until_us)];
        for (width, windows) in self.windows.iter_mut().enumerate() {
            let size = WIDTHS_US[width];
            let is_current = |start_us: i64| {
                let tops = tops.iter().flatten().map(|&top| start_of(top, size));
                tops.into_iter().any(|top| (top - size..=top).contains(&start_us))
            };
            windows.retain(|window| window.dirty || is_current(window.start_us));
            if windows.capacity() > 4 * WINDOWS_KEPT {
                windows.shrink_to(WINDOWS_KEPT);
            }
            if let Some(high) = high {
                self.known_from[width] = self.known_from[width].max(start_of(high, size) - size);
            }
        }
    }
}
