//! One series of a lane: its windows and its last reading.

use stillwell_source::series::NameCode;

use super::{Readings, starts};
use crate::window::{Fold, WIDTHS_US, Window, start_of};

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
    /// Its last reading; none before the first.
    pub latest: Option<Latest>,
    /// Per width, sorted by start.
    windows: [Vec<Window>; 4],
    /// Per width: windows from here on are in memory, or were never written.
    known_from: [i64; 4],
    /// Largest time seen, µs.
    high_us: i64,
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
            is_listed: false,
        }
    }

    /// Takes over what is stored of it: windows up to that of its last reading may be, later ones are not.
    pub fn restore(&mut self, kind: Option<NameCode>, unit: Option<NameCode>, latest: Latest) {
        (self.kind, self.unit) = (kind, unit);
        self.high_us = latest.time_us;
        let starts = starts(latest.time_us);
        self.known_from = std::array::from_fn(|i| starts[i] + WIDTHS_US[i]);
        self.latest = Some(latest);
    }

    /// Windows of a width, by start.
    #[must_use]
    pub fn windows(&self, width: usize) -> &[Window] {
        &self.windows[width]
    }

    /// Whether all windows of readings from `time_us` on are at hand.
    pub(super) fn knows_from(&self, time_us: i64) -> bool {
        starts(time_us).iter().zip(&self.known_from).all(|(start, from)| start >= from)
    }

    /// The windows of a reading at `time_us` that must be brought first.
    pub(super) fn missing(&self, time_us: i64) -> impl Iterator<Item = (usize, i64)> {
        starts(time_us)
            .into_iter()
            .enumerate()
            .filter(|&(width, start)| start < self.known_from[width] && self.find(width, start).is_err())
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

    /// Folds its rows of a chunk in, in order of arrival; gives the number of late ones.
    pub(super) fn apply(&mut self, rows: &[u32], readings: &Readings<'_>) -> u64 {
        let times = &readings.columns.time_us;
        let mut late = 0;
        let mut delta = Fold::default();
        let mut rest = rows;
        while let Some(&first) = rest.first() {
            let start = start_of(times[first as usize], WIDTHS_US[0]);
            let len =
                rest.iter().take_while(|&&row| start_of(times[row as usize], WIDTHS_US[0]) == start).count();
            let (run, later) = rest.split_at(len);
            late += self.apply_run(start, run, readings, &mut delta);
            rest = later;
        }
        if let Some(&last) = rows.last() {
            let series = readings.table.series(readings.columns.series[last as usize]);
            (self.kind, self.unit) = (series.kind, series.unit);
        }
        late
    }

    /// Folds a run of one 10 s window.
    fn apply_run(&mut self, start_us: i64, run: &[u32], readings: &Readings<'_>, delta: &mut Fold) -> u64 {
        let columns = readings.columns;
        let starts = starts(start_us);
        // A window that was written ahead of its lane's position holds some of these readings already.
        let first_offset = readings.offset(run[0] as usize);
        let is_ahead = (0..WIDTHS_US.len()).any(|width| {
            self.find(width, starts[width]).is_ok_and(|at| self.windows[width][at].version > first_offset)
        });
        let (mut late, mut late_readings) = ([0; 4], 0);
        let mut folded = false;
        let mut histogram = std::mem::take(&mut delta.histogram);
        histogram.clear();
        *delta = Fold { histogram, ..Fold::default() };
        for &row in run {
            let row = row as usize;
            let (time_us, value) = (columns.time_us[row], columns.value[row]);
            let is_late: [bool; 4] = std::array::from_fn(|w| starts[w] + WIDTHS_US[w] <= self.high_us);
            late_readings += u64::from(is_late[0]);
            if columns.has_value[row] {
                let is_bad = readings.is_bad(row);
                if is_ahead {
                    self.add_each(starts, readings.offset(row), time_us, value, is_bad, is_late);
                } else {
                    delta.add(time_us, value, is_bad);
                    (0..4).for_each(|w| late[w] += u64::from(is_late[w]));
                    folded = true;
                }
            }
            self.high_us = self.high_us.max(time_us);
            self.see(row, readings);
        }
        if folded {
            for (width, late) in late.into_iter().enumerate() {
                delta.late = late;
                let window = self.window(width, starts[width]);
                window.fold.merge(delta);
                window.dirty = true;
            }
        }
        late_readings
    }

    /// Folds one reading into those of its windows that do not hold it yet.
    fn add_each(
        &mut self,
        starts: [i64; 4],
        offset: i64,
        time_us: i64,
        value: f64,
        is_bad: bool,
        is_late: [bool; 4],
    ) {
        for (width, start) in starts.into_iter().enumerate() {
            let window = self.window(width, start);
            if offset >= window.version {
                window.fold.add(time_us, value, is_bad);
                window.fold.late += u64::from(is_late[width]);
                window.dirty = true;
            }
        }
    }

    /// Takes note of the last reading; of equal times the one that came last.
    fn see(&mut self, row: usize, readings: &Readings<'_>) {
        let columns = readings.columns;
        let time_us = columns.time_us[row];
        if self.latest.as_ref().is_some_and(|latest| latest.time_us > time_us) {
            return;
        }
        let number = u32::try_from(row).unwrap_or(u32::MAX);
        let text = columns.text.binary_search_by_key(&number, |cell| cell.row).ok().map(|at| {
            let cell = columns.text[at];
            columns.text_bytes[cell.start as usize..cell.end as usize].to_owned()
        });
        let score = self.latest.take().and_then(|latest| latest.score);
        let value = columns.has_value[row].then_some(columns.value[row]);
        self.latest = Some(Latest { time_us, value, text, quality: columns.quality[row], score });
    }

    /// Folds a score in; whether anything changed.
    pub(super) fn score(&mut self, time_us: i64, offset: i64, score: f32) -> bool {
        let mut changed = false;
        for (width, start) in starts(time_us).into_iter().enumerate() {
            if let Ok(at) = self.find(width, start) {
                let window = &mut self.windows[width][at];
                if offset >= window.version && score > window.fold.score {
                    window.fold.score = score;
                    window.dirty = true;
                    changed = true;
                }
            }
        }
        changed
    }

    /// Notes the last score; whether it is another.
    pub(super) fn score_latest(&mut self, score: f32) -> bool {
        let Some(latest) = &mut self.latest else { return false };
        let changed = latest.score != Some(score);
        latest.score = Some(score);
        changed
    }

    /// Its windows are stored, complete up to `version`. Those that only late data can touch go: the current
    /// one of each width and the one before stay.
    pub(super) fn written(&mut self, version: i64) {
        for (width, windows) in self.windows.iter_mut().enumerate() {
            let keep_from = start_of(self.high_us, WIDTHS_US[width]).saturating_sub(WIDTHS_US[width]);
            for window in windows.iter_mut().filter(|window| window.dirty) {
                window.version = version;
                window.dirty = false;
            }
            windows.retain(|window| window.start_us >= keep_from);
            self.known_from[width] = self.known_from[width].max(keep_from);
        }
    }
}
