//! The comparison itself: windows as the views show them against readings as the archive streams them.
//!
//! Memory is bounded by the windows given and by the machines: readings without a window are counted, not kept.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::ops::Range;

use serde::Deserialize;

use super::{Outcome, Verdict};
use crate::archive::Erased;

/// A window of an hour as the views show it.
#[derive(Clone, Debug, PartialEq, clickhouse::Row, Deserialize)]
pub(super) struct WindowRow {
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) machine: String,
    pub(super) sensor: String,
    pub(super) version: i64,
    pub(super) count: u64,
    pub(super) sum: f64,
    pub(super) min: f64,
    pub(super) max: f64,
}

/// How far both sides are in one lane, next offsets; none where that is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reach {
    /// The table that the view shows. Asked for before its windows are read.
    pub(super) shown: Option<i64>,
    /// The archive.
    pub(super) archived: Option<i64>,
}

impl Reach {
    /// The offset below which a window of `version` and the archive must hold the same; none where the archive has
    /// not come as far.
    fn cut(self, version: i64) -> Option<i64> {
        let archived = self.archived.filter(|&archived| archived >= version)?;
        Some(version.max(self.shown.unwrap_or(version).min(archived)))
    }
}

/// Reaches by topic and partition.
pub(super) type Lanes = BTreeMap<(String, i32), Reach>;

/// Machines, by topic, partition and name, of which the views' writer has refused series beyond its bounds, and the
/// offsets at which it did.
pub(super) type Refused = BTreeMap<(String, i32, String), Range<i64>>;

/// What has run out, by topic and partition.
pub(super) type ErasedLanes = BTreeMap<(String, i32), Erased>;

/// A reading of the archive that has a value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading<'a> {
    pub(super) topic: &'a str,
    pub(super) partition: i32,
    pub(super) machine: &'a str,
    pub(super) sensor: &'a str,
    pub(super) offset: i64,
    pub(super) value: f64,
}

/// What values amount to.
#[derive(Clone, Copy, Debug)]
struct Sums {
    count: u64,
    sum: f64,
    /// What the sum has lost to rounding (Neumaier 1974).
    rest: f64,
    /// Sum of the sizes.
    size: f64,
    min: f64,
    max: f64,
}

impl Default for Sums {
    fn default() -> Self {
        Self { count: 0, sum: 0.0, rest: 0.0, size: 0.0, min: f64::INFINITY, max: f64::NEG_INFINITY }
    }
}

impl Sums {
    fn add(&mut self, value: f64) {
        let sum = self.sum + value;
        self.rest +=
            if self.sum.abs() >= value.abs() { (self.sum - sum) + value } else { (value - sum) + self.sum };
        self.sum = sum;
        self.count += 1;
        self.size += value.abs();
        self.min = self.min.min(value);
        self.max = self.max.max(value);
    }

    fn sum(&self) -> f64 {
        self.sum + self.rest
    }
}

/// One window and the archive's readings for it.
#[derive(Debug)]
struct Series {
    window: WindowRow,
    cut: Option<i64>,
    archive: Sums,
}

impl Series {
    /// Readings that the archive lacks, where nothing else can be said against the window.
    fn lacking(&self) -> u64 {
        let (window, archive) = (&self.window, &self.archive);
        let is_within = archive.min >= window.min && archive.max <= window.max;
        if is_within { window.count.saturating_sub(archive.count) } else { 0 }
    }

    /// What differs; none where nothing does.
    fn difference(&self) -> Option<String> {
        let (window, archive) = (&self.window, &self.archive);
        if window.count != archive.count {
            return Some(format!("{} readings, the archive holds {}", window.count, archive.count));
        }
        if window.count == 0 {
            return None;
        }
        #[allow(clippy::cast_precision_loss, reason = "counts stay below 2^53")]
        let bound = archive.count as f64 * f64::EPSILON * archive.size;
        if bound.is_finite() && (window.sum - archive.sum()).abs() > bound {
            return Some(format!("a sum of {}, the archive's is {}", window.sum, archive.sum()));
        }
        let extremes =
            [("a least value", window.min, archive.min), ("a largest value", window.max, archive.max)];
        let differs = |(_, view, archive): &&(&str, f64, f64)| view != archive;
        let (what, view, archive) = extremes.iter().find(differs)?;
        Some(format!("{what} of {view}, the archive's is {archive}"))
    }
}

/// Where the readings of a run go.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// A window, by its number.
    Window(usize),
    /// There is no window. Readings below an offset should have one, but for those from `since` to before `until`,
    /// where series of the machine were refused.
    None { below: i64, since: i64, until: i64 },
}

/// The series of the last reading: the next one is mostly of the same.
#[derive(Debug)]
struct Run {
    topic: String,
    partition: i32,
    machine: String,
    sensor: String,
    place: Place,
}

/// What is found of a machine.
#[derive(Debug, Default)]
struct Machine {
    view_count: u64,
    view_sum: f64,
    archive_count: u64,
    archive_sum: f64,
    compared: bool,
    pending: bool,
    differing: u64,
    /// Readings that the archive lacks,
    lacking: u64,
    /// and those of them that retention has erased.
    erased: u64,
    first: String,
    /// Readings that have no window, and the sensor of the first.
    missing: Option<(String, Sums)>,
    /// Readings without a window, of series that were refused.
    refused: u64,
}

/// The books of an hour, or of some machines of it.
#[derive(Debug)]
pub(super) struct Books {
    lanes: Lanes,
    refused: Refused,
    erased: ErasedLanes,
    series: Vec<Series>,
    /// Windows by topic, partition, machine and sensor.
    by_name: HashMap<String, usize>,
    missing: BTreeMap<String, (String, Sums)>,
    unseen: BTreeMap<String, u64>,
    run: Option<Run>,
}

impl Books {
    /// Opens them on the windows that are shown.
    pub(super) fn new(windows: Vec<WindowRow>, lanes: Lanes, refused: Refused, erased: ErasedLanes) -> Self {
        let mut books = Self {
            lanes,
            refused,
            erased,
            series: Vec::with_capacity(windows.len()),
            by_name: HashMap::with_capacity(windows.len()),
            missing: BTreeMap::new(),
            unseen: BTreeMap::new(),
            run: None,
        };
        for window in windows {
            let name = name(&window.topic, window.partition, &window.machine, &window.sensor);
            books.by_name.insert(name, books.series.len());
            let cut = books.reach(&window.topic, window.partition).cut(window.version);
            books.series.push(Series { window, cut, archive: Sums::default() });
        }
        books
    }

    /// Enters a reading of the archive; false where the views hold nothing of its series, as that was refused.
    pub(super) fn add(&mut self, reading: Reading<'_>) -> bool {
        match self.place(&reading) {
            Place::Window(number) => {
                let series = &mut self.series[number];
                if series.cut.is_some_and(|cut| reading.offset < cut) {
                    series.archive.add(reading.value);
                }
            }
            Place::None { since, until, .. } if (since..until).contains(&reading.offset) => {
                *self.unseen.entry(reading.machine.to_owned()).or_default() += 1;
                return false;
            }
            Place::None { below, .. } if reading.offset < below => self.miss(&reading),
            Place::None { .. } => {}
        }
        true
    }

    /// A reading has no window and should.
    fn miss(&mut self, reading: &Reading<'_>) {
        if !self.missing.contains_key(reading.machine) {
            let first = (reading.sensor.to_owned(), Sums::default());
            self.missing.insert(reading.machine.to_owned(), first);
        }
        if let Some((_, sums)) = self.missing.get_mut(reading.machine) {
            sums.add(reading.value);
        }
    }

    fn place(&mut self, reading: &Reading<'_>) -> Place {
        let Reading { topic, partition, machine, sensor, .. } = *reading;
        let same = |run: &&Run| {
            run.sensor == sensor && run.machine == machine && run.partition == partition && run.topic == topic
        };
        if let Some(run) = self.run.as_ref().filter(same) {
            return run.place;
        }
        let place = match self.by_name.get(&name(topic, partition, machine, sensor)) {
            Some(&number) => Place::Window(number),
            None => {
                let below = self.reach(topic, partition).shown.unwrap_or(i64::MIN);
                let Range { start: since, end: until } = self.refused(topic, partition, machine);
                Place::None { below, since, until }
            }
        };
        let (topic, machine, sensor) = (topic.to_owned(), machine.to_owned(), sensor.to_owned());
        self.run = Some(Run { topic, partition, machine, sensor, place });
        place
    }

    /// The offsets at which series of a machine were refused; an empty range where none were.
    fn refused(&self, topic: &str, partition: i32, machine: &str) -> Range<i64> {
        if self.refused.is_empty() {
            return 0..0;
        }
        let machine = (topic.to_owned(), partition, machine.to_owned());
        self.refused.get(&machine).cloned().unwrap_or(0..0)
    }

    fn reach(&self, topic: &str, partition: i32) -> Reach {
        self.lanes.get(&(topic.to_owned(), partition)).copied().unwrap_or_default()
    }

    /// Closes them: what is found of each machine, in the order of their names. A machine of which nothing was to
    /// be compared is left out.
    pub(super) fn close(self, hour_us: i64, now_us: i64) -> Vec<Outcome> {
        let mut machines = BTreeMap::<String, Machine>::new();
        for series in self.series {
            let window = &series.window;
            let erased = self.erased.get(&(window.topic.clone(), window.partition));
            let until_us = erased.and_then(|erased| erased.until_us(&window.machine));
            let is_erased = until_us.is_some_and(|until_us| hour_us < until_us);
            machines.entry(window.machine.clone()).or_default().enter(&series, is_erased);
        }
        for (name, missing) in self.missing {
            machines.entry(name).or_default().missing = Some(missing);
        }
        for (name, readings) in self.unseen {
            machines.entry(name).or_default().refused = readings;
        }
        let outcome = |(name, machine): (String, Machine)| machine.outcome(name, hour_us, now_us);
        machines.into_iter().filter_map(outcome).collect()
    }
}

impl Machine {
    /// `is_erased`: readings of its lane, machine and hour have run out.
    fn enter(&mut self, series: &Series, is_erased: bool) {
        if series.cut.is_none() {
            self.pending = true;
            return;
        }
        self.compared |= series.window.count > 0 || series.archive.count > 0;
        self.view_count += series.window.count;
        self.archive_count += series.archive.count;
        if series.window.count > 0 {
            self.view_sum += series.window.sum;
        }
        self.archive_sum += series.archive.sum();
        let lacking = series.lacking();
        self.lacking += lacking;
        if lacking > 0 && is_erased {
            self.erased += lacking;
        } else if let Some(difference) = series.difference() {
            self.differ(|| format!("{}: {difference}", series.window.sensor));
        }
    }

    fn differ(&mut self, what: impl FnOnce() -> String) {
        if self.differing == 0 {
            self.first = what();
        }
        self.differing += 1;
    }

    fn outcome(mut self, machine: String, hour_us: i64, checked_us: i64) -> Option<Outcome> {
        if let Some((sensor, sums)) = self.missing.take() {
            self.archive_count += sums.count;
            self.archive_sum += sums.sum();
            self.differ(|| format!("{sensor}: no window; {} readings have none", sums.count));
        }
        let state = match (self.differing, self.pending) {
            (1.., _) => Verdict::Differs,
            (0, true) => Verdict::Pending,
            (0, false) if self.erased > 0 => Verdict::Erased,
            (0, false) if self.refused > 0 => Verdict::Refused,
            (0, false) if self.compared => Verdict::Equal,
            (0, false) => return None,
        };
        let mut detail = match state {
            Verdict::Refused => format!("{} readings of series that are beyond the bounds", self.refused),
            Verdict::Erased => format!("retention has erased {} readings from the archive", self.erased),
            _ => self.first,
        };
        if self.differing > 1 {
            let _ = write!(detail, "; {} more differ", self.differing - 1);
        }
        Some(Outcome {
            machine,
            hour_us,
            archive_count: self.archive_count,
            view_count: self.view_count,
            archive_sum: self.archive_sum,
            view_sum: self.view_sum,
            state,
            lacking: self.lacking,
            detail,
            checked_us,
        })
    }
}

/// A series of a lane in one word. Names may hold any text, so their lengths come first.
fn name(topic: &str, partition: i32, machine: &str, sensor: &str) -> String {
    format!("{partition} {} {} {topic}{machine}{sensor}", topic.len(), machine.len())
}

#[cfg(test)]
mod tests;
