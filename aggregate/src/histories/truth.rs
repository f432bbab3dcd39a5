//! What is true: the windows and last readings of a log by brute force, each from the readings themselves.

use std::collections::BTreeMap;

use super::log::{Log, Reading};
use crate::fold::starts;
use crate::histogram;
use crate::store::{HighRow, WindowRow};
use crate::window::{NO_SCORE, WIDTHS_US};

/// What windows are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kept {
    Series,
    /// All series of a machine and kind.
    Totals,
}

/// What it is of, width, machine, sensor or kind, and start of a window.
pub(super) type Place<'a> = (Kept, usize, &'a str, &'a str, i64);

/// One log, looked through once.
pub(super) struct Truth {
    /// Readings of each window, by their place in the log; those that leave nothing in it are left out.
    windows: BTreeMap<Place<'static>, Vec<usize>>,
    /// By reading and width, whether it came when its window had ended.
    late: Vec<[bool; 4]>,
}

impl Truth {
    pub(super) fn of(log: &Log) -> Self {
        let mut truth = Self { windows: BTreeMap::new(), late: Vec::new() };
        let mut highs: BTreeMap<(&str, &str), i64> = BTreeMap::new();
        for (at, reading) in log.readings.iter().enumerate() {
            let starts = starts(reading.time_us);
            let high = highs.entry((reading.machine, reading.sensor)).or_insert(i64::MIN);
            truth.late.push(std::array::from_fn(|width| starts[width] + WIDTHS_US[width] <= *high));
            if !reading.is_early() {
                *high = reading.time_us.max(*high);
            }
            for (width, start) in starts.into_iter().enumerate().filter(|_| reading.counts()) {
                let place = (Kept::Series, width, reading.machine, reading.sensor, start);
                truth.windows.entry(place).or_default().push(at);
                if reading.counts_in_total() {
                    let place = (Kept::Totals, width, reading.machine, reading.kind, start);
                    truth.windows.entry(place).or_default().push(at);
                }
            }
        }
        truth
    }

    /// The windows of a width that the log holds anything of below an offset, with the last offset there.
    pub(super) fn windows<'a>(
        &'a self,
        log: &'a Log,
        (kept, width): (Kept, usize),
        below: i64,
    ) -> impl Iterator<Item = (Place<'a>, i64)> {
        self.windows.iter().filter(move |(place, _)| (place.0, place.1) == (kept, width)).filter_map(
            move |(place, readings)| {
                let mut offsets = readings.iter().rev().map(|&at| log.readings[at].offset);
                Some((*place, offsets.find(|&offset| offset < below)?))
            },
        )
    }

    /// A window complete up to an offset; none, where nothing of it is below.
    pub(super) fn window(&self, log: &Log, place: Place<'_>, version: i64) -> Option<WindowRow> {
        let (kept, width, machine, sensor, start) = place;
        let of: Vec<usize> = self.windows.get(&place)?.clone();
        let of: Vec<usize> = of.into_iter().filter(|&at| log.readings[at].offset < version).collect();
        let readings: Vec<&Reading> = of.iter().map(|&at| &log.readings[at]).collect();
        let late = of.iter().filter(|&&at| self.late[at][width]).count() as u64;
        let kind = readings.first()?.kind;
        let mut row = empty(machine, sensor, start, version);
        row.bad = readings.iter().filter(|reading| reading.is_bad()).count() as u64;
        row.late = late;
        let values: Vec<(i64, f64)> =
            readings.iter().filter_map(|reading| Some((reading.time_us, reading.value?))).collect();
        if kept == Kept::Totals {
            total(&values, &mut row);
            return Some(row);
        }
        numbers(&values, kind == "counter", &mut row);
        let texts: Vec<(i64, &str)> =
            readings.iter().filter_map(|reading| Some((reading.time_us, reading.text?))).collect();
        states(&texts, &mut row);
        Some(row)
    }

    /// Readings below an offset, and late ones among them.
    pub(super) fn totals(&self, log: &Log, below: i64) -> (u64, u64) {
        let of = || log.readings.iter().zip(&self.late).filter(|(reading, _)| reading.offset < below);
        (of().count() as u64, of().filter(|(_, late)| late[0]).count() as u64)
    }
}

/// What values come to whatever their order.
fn total(values: &[(i64, f64)], row: &mut WindowRow) {
    let only = || values.iter().map(|(_, value)| *value);
    row.count = values.len() as u64;
    (row.sum, row.min, row.max) =
        (only().sum(), only().fold(f64::INFINITY, f64::min), only().fold(f64::NEG_INFINITY, f64::max));
}

/// The last reading of a series below an offset.
pub(super) fn latest<'a>(log: &'a Log, machine: &str, sensor: &str, below: i64) -> Option<&'a Reading> {
    let readings = || {
        let is = |reading: &&Reading| reading.machine == machine && reading.sensor == sensor;
        log.readings.iter().take_while(|reading| reading.offset < below).filter(is)
    };
    // Of equal times, `max_by_key` gives the one that came last.
    let sound = readings().filter(|reading| !reading.is_early()).max_by_key(|reading| reading.time_us);
    sound.or_else(|| readings().max_by_key(|reading| reading.time_us))
}

/// The largest time of each series below an offset, but for early readings.
pub(super) fn highs(log: &Log, below: i64) -> Vec<HighRow> {
    let mut highs: BTreeMap<(&str, &str), i64> = BTreeMap::new();
    for reading in log.readings.iter().filter(|reading| reading.offset < below && !reading.is_early()) {
        let high = highs.entry((reading.machine, reading.sensor)).or_insert(i64::MIN);
        *high = reading.time_us.max(*high);
    }
    let row = |((machine, sensor), high): ((&str, &str), i64)| HighRow {
        machine: machine.to_owned(),
        sensor: sensor.to_owned(),
        version: below,
        high,
    };
    highs.into_iter().map(row).collect()
}

/// Readings of a machine below an offset, and those more than 10 s behind its largest time.
pub(super) fn late_of_machine(log: &Log, machine: &str, below: i64) -> (u64, u64) {
    let (mut high, mut readings, mut late) = (i64::MIN, 0, 0);
    for reading in log.readings.iter().filter(|reading| reading.machine == machine && reading.offset < below)
    {
        readings += 1;
        late += u64::from(reading.time_us < high.saturating_sub(WIDTHS_US[0]));
        if !reading.is_early() {
            high = reading.time_us.max(high);
        }
    }
    (readings, late)
}

fn empty(machine: &str, sensor: &str, start: i64, version: i64) -> WindowRow {
    WindowRow {
        machine: machine.to_owned(),
        sensor: sensor.to_owned(),
        start,
        version,
        count: 0,
        sum: 0.0,
        m2: 0.0,
        min: f64::INFINITY,
        max: f64::NEG_INFINITY,
        first: 0.0,
        first_time: 0,
        last: 0.0,
        last_time: 0,
        area_last: 0.0,
        area_linear: 0.0,
        increase: 0.0,
        resets: 0,
        disordered: 0,
        bad: 0,
        late: 0,
        score: NO_SCORE,
        histogram: Vec::new(),
        state_count: 0,
        state_first: String::new(),
        state_first_time: 0,
        state_last: String::new(),
        state_last_time: 0,
        transitions: 0,
        state_disordered: 0,
        held: Vec::new(),
    }
}

/// Those that came after a later one.
fn disordered<T>(readings: &[(i64, T)]) -> u64 {
    let mut high = i64::MIN;
    let mut is_behind = |time: i64| {
        high = high.max(time);
        time < high
    };
    readings.iter().filter(|(time, _)| is_behind(*time)).count() as u64
}

#[allow(clippy::cast_precision_loss, reason = "spans and counts are small")]
fn numbers(values: &[(i64, f64)], is_counter: bool, row: &mut WindowRow) {
    let Some(&(first_time, first)) = values.iter().min_by_key(|(time, _)| *time) else { return };
    let Some(&(last_time, last)) = values.iter().max_by_key(|(time, _)| *time) else { return };
    (row.first, row.first_time, row.last, row.last_time) = (first, first_time, last, last_time);
    let only = || values.iter().map(|(_, value)| *value);
    row.count = values.len() as u64;
    row.sum = only().sum();
    let mean = row.sum / row.count as f64;
    row.m2 = only().map(|value| (value - mean).powi(2)).sum();
    row.min = only().fold(f64::INFINITY, f64::min);
    row.max = only().fold(f64::NEG_INFINITY, f64::max);
    let mut buckets = BTreeMap::new();
    only().for_each(|value| *buckets.entry(histogram::key(value)).or_insert(0) += 1);
    row.histogram = buckets.into_iter().collect();
    row.disordered = disordered(values);
    for pair in values.windows(2).filter(|_| row.disordered == 0) {
        let ((from, before), (until, after)) = (pair[0], pair[1]);
        let span = (until - from) as f64;
        row.area_last += before * span;
        row.area_linear += (before + after) / 2.0 * span;
        if is_counter {
            row.increase += if after < before { after } else { after - before };
            row.resets += u64::from(after < before);
        }
    }
}

fn states(texts: &[(i64, &str)], row: &mut WindowRow) {
    let Some(&(first_time, first)) = texts.iter().min_by_key(|(time, _)| *time) else { return };
    let Some(&(last_time, last)) = texts.iter().max_by_key(|(time, _)| *time) else { return };
    row.state_count = texts.len() as u64;
    (row.state_first, row.state_first_time) = (first.to_owned(), first_time);
    (row.state_last, row.state_last_time) = (last.to_owned(), last_time);
    row.state_disordered = disordered(texts);
    let mut held: BTreeMap<&str, i64> = BTreeMap::new();
    for pair in texts.windows(2).filter(|_| row.state_disordered == 0) {
        let ((from, before), (until, after)) = (pair[0], pair[1]);
        *held.entry(before).or_default() += until - from;
        row.transitions += u64::from(before != after);
    }
    let held = held.into_iter().filter(|(_, span)| *span > 0);
    row.held = held.map(|(state, span)| (state.to_owned(), span)).collect();
}
