//! One series of a lane: its windows and its last reading.

use std::ops::{Add, BitOr};

use stillwell_source::series::NameCode;

use super::open::Open;
use super::{Level, Readings, Tally, Widths, starts};
use crate::window::{Fold, WIDTHS_US, Window, start_of};

mod total;

pub(super) use total::Known;

/// How many windows before the current one stay in memory, by width: data that are a little late are common, and
/// often cross the end of a short window.
const FORMER_KEPT: [i64; 4] = [1, 1, 0, 0];

/// Windows of a width for which a series keeps room whatever happened to it.
const ROOM_KEPT: usize = 3;

/// The last reading of a series.
#[derive(Clone, Debug, PartialEq)]
pub struct Latest {
    /// Its time, µs.
    pub time_us: i64,
    /// Its value, if it has one.
    pub value: Option<f64>,
    /// Its string state, if it has one.
    pub text: Option<Box<str>>,
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

/// What is stored of a series beside its windows.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// Kind of its last reading.
    pub kind: Option<NameCode>,
    /// Unit of its last reading.
    pub unit: Option<NameCode>,
    /// Its last reading.
    pub latest: Latest,
    /// Times of early readings that are past all others.
    pub early: Option<Early>,
    /// Its largest time but for early readings where the lane goes on, or later where its windows of all widths are
    /// ahead, µs; none where it had none.
    pub high_us: Option<i64>,
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
    /// Readings of its current 10 s that are in no window yet.
    open: Open,
    /// Largest time seen but for early readings, µs; `i64::MIN` before the first.
    high_us: i64,
    /// Per width: windows from here on are in memory, or were never in use, but for those within `early`.
    known_from: [i64; 4],
    /// Early readings past `high_us`.
    early: Option<Early>,
    /// Per width, sorted by start.
    windows: [Vec<Window>; 4],
    /// Its last reading, an early one only where there are no others; none before the first.
    pub latest: Option<Latest>,
    /// Whether the lane lists it as changed, by level.
    pub(super) is_listed: [bool; Level::COUNT],
    /// Whether it changed since it was last looked at for eviction.
    pub(super) is_used: bool,
    /// Whether it is what many series come to together.
    is_total: bool,
}

impl SeriesState {
    pub(super) fn new(machine: NameCode, sensor: NameCode) -> Self {
        Self {
            machine,
            sensor,
            kind: None,
            unit: None,
            open: Open::default(),
            high_us: i64::MIN,
            known_from: [i64::MIN; 4],
            early: None,
            windows: Default::default(),
            latest: None,
            is_listed: [false; Level::COUNT],
            is_used: false,
            is_total: false,
        }
    }

    /// Takes over what is stored of it: windows up to that of its last reading may be, and early ones.
    pub fn restore(&mut self, stored: Stored) {
        let Stored { kind, unit, latest, early, high_us } = stored;
        (self.kind, self.unit) = (kind, unit);
        self.high_us = high_us.unwrap_or(i64::MIN);
        // Early times are past all others: a last reading that is among them says that there are no others.
        if early.is_none_or(|early| latest.time_us < early.until_us) {
            self.ask_up_to(latest.time_us);
        }
        self.early = early;
        self.latest = Some(latest);
    }

    /// Windows of a width, by start; what [`Self::settle`] has not put into them is missing.
    #[must_use]
    pub fn windows(&self, width: usize) -> &[Window] {
        &self.windows[width]
    }

    /// Times of early readings that are past all others.
    #[must_use]
    pub fn early(&self) -> Option<Early> {
        self.early
    }

    /// Its largest time but for early readings, µs.
    #[must_use]
    pub fn high_us(&self) -> Option<i64> {
        Some(self.high_us).filter(|&high| high > i64::MIN)
    }

    /// Whether all windows of readings from `time_us` on are at hand.
    pub(super) fn knows_all_from(&self, time_us: i64) -> bool {
        // Each bound is the start of a window of its width.
        self.early.is_none() && self.known_from.iter().all(|&from| time_us >= from)
    }

    /// The windows of a reading at `time_us` that must be brought first.
    pub(super) fn missing(&self, time_us: i64, widths: Widths) -> impl Iterator<Item = (usize, i64)> {
        let starts = starts(time_us);
        widths
            .iter()
            .map(move |width| (width, starts[width]))
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
            self.put(width, at, window);
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

    fn put(&mut self, width: usize, at: usize, window: Window) {
        let windows = &mut self.windows[width];
        if windows.len() == windows.capacity() {
            windows.reserve_exact(1 + windows.len() / 4);
        }
        windows.insert(at, window);
    }

    fn window(&mut self, width: usize, start_us: i64) -> &mut Window {
        let at = self.find(width, start_us).unwrap_or_else(|at| {
            self.put(width, at, Window { start_us, ..Window::default() });
            at
        });
        &mut self.windows[width][at]
    }

    /// Folds its rows of a chunk in, in order of arrival.
    pub(super) fn apply(&mut self, rows: &[u32], readings: &Readings<'_>) -> Tally {
        let mut tally = Tally::default();
        let mut last = None;
        for &row in rows {
            let row = row as usize;
            let time_us = readings.columns.time_us[row];
            let origin = readings.origin(row);
            let is_early = origin.is_early(time_us);
            if !is_early
                && (self.open.holds(time_us) || self.can_open(time_us, origin.offset, readings, &mut tally))
            {
                self.add(row, time_us, readings);
            } else {
                tally = tally + self.apply_one(row, origin.offset, readings);
            }
            if self.see(time_us, is_early, last.map(|last: usize| readings.columns.time_us[last])) {
                last = Some(row);
            }
        }
        if let Some(last) = last {
            let score = self.latest.take().and_then(|latest| latest.score);
            self.latest = Some(readings.latest(last, score));
            let series = readings.table.series(readings.columns.series[last]);
            (self.kind, self.unit) = (series.kind, series.unit);
        }
        tally
    }

    /// Turns to the 10 s of a reading, where it is the newest and its windows hold nothing from its offset on.
    fn can_open(&mut self, time_us: i64, offset: i64, readings: &Readings<'_>, tally: &mut Tally) -> bool {
        let starts = starts(time_us);
        let is_current = starts[0] + WIDTHS_US[0] > self.high_us;
        if !is_current || self.version(starts, readings.widths) > offset {
            return false;
        }
        *tally = *tally + self.settle(readings.widths);
        self.open.begin(starts[0]);
        true
    }

    /// The offset up to which one of these windows is complete already.
    fn version(&self, starts: [i64; 4], widths: Widths) -> i64 {
        widths.iter().map(|width| self.version_of(width, starts[width])).max().unwrap_or(0)
    }

    fn version_of(&self, width: usize, start_us: i64) -> i64 {
        self.find(width, start_us).map_or(0, |at| self.windows[width][at].version)
    }

    /// Folds a reading of the current 10 s in.
    #[inline]
    fn add(&mut self, row: usize, time_us: i64, readings: &Readings<'_>) {
        if readings.columns.has_value[row] {
            self.open.add(time_us, readings.columns.value[row], readings.is_bad(row));
        } else if readings.is_bad(row) {
            self.open.with(|fold| fold.add_valueless(true));
        }
        if let Some(state) = readings.state(row) {
            self.open.with(|fold| fold.add_state(time_us, state));
        }
    }

    /// Folds one reading into those windows that do not hold it yet.
    fn apply_one(&mut self, row: usize, offset: i64, readings: &Readings<'_>) -> Tally {
        let starts = starts(readings.columns.time_us[row]);
        let is_late = |width: usize, high_us: i64| starts[width] + WIDTHS_US[width] <= high_us;
        let high_us = self.high_us;
        let is_counted = offset >= readings.counted_from && is_late(0, high_us);
        let mut tally =
            Tally { late: u64::from(is_counted), ..Tally::default() } + self.settle(readings.widths);
        // It may be newer: what comes for these 10 s from now on may be late.
        self.open.close();
        if !readings.counts(row) {
            return tally;
        }
        let late = (0..WIDTHS_US.len()).map(|width| u8::from(is_late(width, high_us)) << width);
        readings.note_late(row, late.fold(0, u8::bitor));
        for width in readings.widths.iter() {
            if offset >= self.version_of(width, starts[width]) {
                tally = tally
                    + self.change(width, starts[width], |fold| {
                        readings.fold(row, fold);
                        fold.late += u32::from(is_late(width, high_us));
                    });
            }
        }
        tally
    }

    /// Puts what its windows do not hold yet into them; gives the memory by which what is to be written has grown.
    pub(super) fn settle(&mut self, widths: Widths) -> Tally {
        if self.open.is_empty() {
            return Tally::default();
        }
        let mut open = std::mem::take(&mut self.open);
        let starts = starts(open.start_us());
        let delta = open.settled();
        let merge = if self.is_total { Fold::merge_total } else { Fold::merge };
        let grown = widths.iter().map(|width| self.change(width, starts[width], |fold| merge(fold, delta)));
        let grown = grown.fold(Tally::default(), Tally::add);
        open.clear();
        self.open = open;
        grown
    }

    /// Changes a window; gives the memory by which what is to be written has grown.
    fn change(&mut self, width: usize, start_us: i64, change: impl FnOnce(&mut Fold)) -> Tally {
        let window = self.window(width, start_us);
        let before = if window.dirty { window.memory_bytes() } else { 0 };
        change(&mut window.fold);
        window.dirty = true;
        let bytes = window.memory_bytes().saturating_sub(before);
        Tally { late: 0, bytes, coarse_bytes: if width < Level::Fine.widths() { 0 } else { bytes } }
    }

    /// Takes note of a reading's time; whether it is the last one, of equal times the one that came last.
    /// `last_us` is the time of the last one of this chunk so far.
    fn see(&mut self, time_us: i64, is_early: bool, last_us: Option<i64>) -> bool {
        if is_early {
            return self.see_early(time_us, last_us);
        }
        let is_last = time_us >= self.high_us;
        self.high_us = self.high_us.max(time_us);
        if self.early.is_some() {
            self.end_early();
        }
        is_last
    }

    /// Takes note of an early reading; whether it is the last one.
    fn see_early(&mut self, time_us: i64, last_us: Option<i64>) -> bool {
        if time_us > self.high_us {
            let early = self.early.get_or_insert(Early { from_us: time_us, until_us: time_us });
            early.from_us = early.from_us.min(time_us);
            early.until_us = early.until_us.max(time_us);
        }
        let last_us = last_us.or(self.latest.as_ref().map(|latest| latest.time_us));
        self.high_us == i64::MIN && last_us.is_none_or(|last_us| last_us <= time_us)
    }

    /// Early readings that the others have caught up with are early no more.
    fn end_early(&mut self) {
        if let Some(early) = self.early.take_if(|early| early.until_us <= self.high_us) {
            self.ask_up_to(early.until_us);
        }
    }

    /// Folds a score in; where that changed anything, the memory by which what is to be written has grown.
    pub(super) fn score(&mut self, time_us: i64, offset: i64, score: f32, widths: Widths) -> Option<Tally> {
        let starts = starts(time_us);
        if self.open.holds(time_us) && !self.open.is_empty() && offset >= self.version(starts, widths) {
            return self.open.score(score).then_some(Tally::default());
        }
        let mut grown: Option<Tally> = None;
        for width in widths.iter() {
            let Ok(at) = self.find(width, starts[width]) else { continue };
            let window = &self.windows[width][at];
            if offset >= window.version && score > window.fold.score {
                let more = self.change(width, starts[width], |fold| fold.score = score);
                grown = Some(grown.unwrap_or_default() + more);
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

    /// Its windows of a level are on their way to the store, complete up to `version`.
    pub(super) fn sent(&mut self, level: Level, version: i64) {
        let windows = self.windows[..level.widths()].iter_mut().flatten();
        for window in windows.filter(|window| window.dirty) {
            window.version = version;
            window.dirty = false;
        }
    }

    /// Lets stored windows go that only late data can touch: the current one of each width and a few before stay,
    /// by the time of early readings and by that of the others.
    pub(super) fn evict(&mut self) {
        let high = self.high_us();
        let tops = [high, self.early.map(|early| early.until_us)];
        for (width, windows) in self.windows.iter_mut().enumerate() {
            let (size, former) = (WIDTHS_US[width], FORMER_KEPT[width] * WIDTHS_US[width]);
            let is_current = |start_us: i64| {
                let tops = tops.iter().flatten().map(|&top| start_of(top, size));
                tops.into_iter().any(|top| (top - former..=top).contains(&start_us))
            };
            windows.retain(|window| window.dirty || is_current(window.start_us));
            if windows.capacity() > ROOM_KEPT && windows.len() < windows.capacity() {
                windows.shrink_to(ROOM_KEPT);
            }
            if let Some(high) = high {
                self.known_from[width] = self.known_from[width].max(start_of(high, size) - former);
            }
        }
    }

    /// Lets all windows go of a series that has not changed since it was last asked, if all of them are stored;
    /// whether it did.
    pub(super) fn evict_unused(&mut self) -> bool {
        if std::mem::replace(&mut self.is_used, false) || !self.open.is_empty() {
            return false;
        }
        let windows = || self.windows.iter().flatten();
        if windows().next().is_none() || windows().any(|window| window.dirty) {
            return false;
        }
        self.open = Open::default();
        self.windows = Default::default();
        let highest = [self.high_us(), self.early.map(|early| early.until_us)].into_iter().flatten().max();
        if let Some(highest) = highest {
            self.ask_up_to(highest);
        }
        true
    }

    /// Bytes of memory held.
    pub(super) fn memory_bytes(&self) -> usize {
        let windows = self.windows.iter().flatten().map(Window::memory_bytes).sum::<usize>();
        size_of::<Self>() + windows + self.open.heap_bytes()
    }
}
